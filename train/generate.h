/* train/generate.h - tokens after a prompt, with adapters chosen per request over one base. */
#ifndef TRAIN_GENERATE_H
#define TRAIN_GENERATE_H

#include <signal.h>

#include "train/session.h"

struct generate_opts {
    int64_t max_new;         /* tokens */
    double temperature;      /* 0: greedy */
    int64_t top_k;           /* 0: off */
    double top_p;            /* 1: off */
    const char *const *stop; /* texts that end the answer */
    int stops;
    enum dtype act;
    const volatile sig_atomic_t *asked; /* (optional) not 0: end every answer where it is */
};

enum stop_reason { STOP_LENGTH, STOP_EOS, STOP_TEXT, STOP_ASKED };
extern const char *const stop_names[]; /* "length", "eos", "text", "asked" */

struct generate_request {
    const int32_t *id; /* prompt */
    int64_t n;
    int task; /* index into the task list, or TASK_BASE */
    uint64_t seed;
};

struct generate_answer {
    struct id_list id;  /* new tokens, the end token too */
    struct strbuf text; /* without it; empty when there is no tokenizer */
    enum stop_reason stop;
};
void generate_answer_release(struct generate_answer *a);

struct generator;
/* All borrowed. `text` is the tokenizer of the base, and of tasks that have none of their own.
 * Tasks may be added later. EARG: a stop text is empty. */
enum graft_status generator_new(const struct base *b, const struct text *text,
                                const struct task_list *tasks, const struct generate_opts *opts,
                                struct generator **out, struct graft_err *err);
void generator_free(struct generator *g);

/* Other options from now on; `act` stays as it was made. EARG as above. */
enum graft_status generator_options(struct generator *g, const struct generate_opts *opts,
                                    struct graft_err *err);
/* Record and plan a task's graph now (TASK_BASE too), not at its first request: then a switch costs
 * nothing. */
enum graft_status generator_prepare(struct generator *g, int task, struct graft_err *err);
/* Give back what was recorded for a task, before its adapter goes. */
void generator_forget(struct generator *g, int task);

/* May these `n` tokens be a prompt of the task? EARG: none at all, more than the context with what
 * its adapter puts before them, an id that the embedding has no row for, or not as many
 * placeholders as the adapter wants. */
enum graft_status generator_check(const struct generator *g, int task, const int32_t *id, int64_t n,
                                  struct graft_err *err);

/* At most this many requests a call of generator_run. */
enum { GENERATE_BATCH = 16 };

/* Answer `count` requests (any mix of tasks; those of one task share passes). Each answer depends
 * on its own request alone. `piece` (may be NULL) streams whole characters of the answer of request
 * i as they come. EARG: an empty prompt, or one that does not fit the context (message: index). */
typedef void generate_piece(void *user, int i, const char *text, size_t len);
enum graft_status generator_run(struct generator *g, const struct generate_request *req, int count,
                                struct generate_answer *answer, generate_piece *piece, void *user,
                                struct graft_err *err);

#endif
