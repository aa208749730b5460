/* train/run.h - one training run: from a resolved config to an adapter in the output folder. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include <signal.h>

#include "data/dataset.h"
#include "optim/optim.h"
#include "train/base.h"
#include "train/eval.h"

/* What memory the run needs, before any of it is used. Bytes. */
struct memory_plan {
    size_t weights, adapter, optimizer, activations, scratch, data;
    size_t program; /* tokenizer, tables, the program itself, what saving takes */
    size_t
        loading; /* peak before the run takes anything: more than all that, where a run is tiny */
    size_t
        budget; /* for all of it: train.memory, or what is held already and most of what is free */
    size_t total;
    size_t disk; /* of a temporary file, at some point of the run */
    int blocks,
        recomputed; /* gradient checkpointing: blocks of the model, and how many are recomputed */
};

/* Known once everything is set up; for the display and --dry-run. Borrowed from the run. */
struct run_info {
    const struct run_config *config;
    const char *architecture, *base_format, *format; /* "llama", "f32", "nf4" */
    int64_t base_params, trainable, sites;
    const struct dataset_stats *train, *valid; /* valid: NULL without */
    const struct loader *loader;               /* at its first epoch */
    int64_t steps_per_epoch, steps, max_tokens;
    struct memory_plan memory;
};

struct step_info {
    int64_t step, steps; /* from 1; of all */
    double epoch, loss, lr, grad_norm;
    int64_t tokens, input_tokens;
    double seconds, tokens_per_second;
};

/* The display's side; every member may be NULL. */
struct run_hooks {
    void *user;
    void (*start)(void *user, const struct run_info *info);
    void (*step)(void *user, const struct step_info *s);
    void (*eval)(void *user, int64_t step, double loss, int64_t tokens, bool best);
    const volatile sig_atomic_t *stop; /* a signal's number: finish the step, save, stop */
};

struct run_result {
    const char *status; /* "finished", "interrupted", "failed"; NULL: it never began */
    bool first_stage;   /* it ended in the first of two stages (method lpft) */
    int64_t steps;      /* done */
    double loss;        /* of the last step */
    double valid_loss;  /* NAN without */
    int64_t best_step;  /* 0: none */
    double best_loss;
    int64_t trainable;
    bool changed_base; /* OUTPUT/base.h5 is the base that the adapter goes with */
    size_t adapter_bytes, planned, peak;
    double seconds, tokens_per_second;
};

/* Train. `force` replaces an old run in the output folder. GRAFT_ESTOPPED after saving when a
 * signal came; ERUN when loss or gradient is not finite: the adapter of the last good step is in
 * OUTPUT/last_good. */
enum graft_status train_run(const struct run_config *config, bool force,
                            const struct run_hooks *hooks, struct run_result *out,
                            struct graft_err *err);
/* Set everything up but the big allocations, and report; writes nothing. */
enum graft_status train_plan(const struct run_config *config, const struct run_hooks *hooks,
                             struct graft_err *err);

#endif
