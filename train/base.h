/* train/base.h - an opened base with its words, and graphs over it. */
#ifndef TRAIN_BASE_H
#define TRAIN_BASE_H

#include "models/model.h"
#include "train/config.h"
#include "train/text.h"

struct base {
    struct checkpoint ck;
    struct model *model;
    struct text text;
};

/* In place (the model points into the checkpoint): open `path`, convert its linears as `quant` says
 * (QUANT_AUTO with `quantise_floats`: double NF4 of a float base; without: as it is), read its
 * tokenizer. */
enum graft_status base_open(const char *path, const struct quant_config *quant,
                            bool quantise_floats, struct base *out, struct graft_err *err);
void base_release(struct base *b);

/* What the linears are now, as the config's `quant` would say it: {"type": "nf4", ...}, "none" for
 * floats, "auto" for blocks kept as they were. The caller owns it. */
json_t *base_quant_json(const struct base *b);

/* Why a loss is not a number may be the base itself: the first tensor with a value that is none, as
 * "NAME[index] is nan" appended to `out`; false when all of them are finite. Reads every weight. */
bool base_not_finite(const struct base *b, struct strbuf *out);

/* One recorded, planned and allocated graph over a base and at most one adapter. */
struct net {
    struct graph *g;
    struct tensor *out;
    struct plan_report plan;
    int64_t max_tokens, max_segments;
    /* of its adapter: the ids -1 .. -virtual_front go before a record, whose positions begin at
     * first_position */
    int64_t virtual_front, first_position;
};
struct net_opts {
    int64_t max_tokens, max_segments;
    enum dtype act;
    bool backward;
    enum net_mode mode;
    size_t budget;               /* of slab and scratch; 0: no limit */
    struct graph_memory *shared; /* lends slab and scratch; NULL: the graph's own */
    bool dry;                    /* plan only, allocate nothing */
};
enum graft_status net_make(const struct model *m, struct adapter *a, const struct net_opts *opts,
                           struct net *out, struct graft_err *err);
void net_release(struct net *n);
/* The head alone, over rows that a net with NET_HIDDEN gave: hidden (rows, C), borrowed. A pass's
 * ids name rows of it, out->out is (n, V). */
enum graft_status net_make_head(const struct model *m, struct adapter *a, float *hidden,
                                int64_t rows, struct net *out, struct graft_err *err);

/* Peak resident memory of this process so far, bytes (VmHWM). */
size_t peak_memory(void);
/* What this process holds now, bytes: in all, what it allocated, and what of the program's and its
 * libraries' files is in memory. */
size_t resident_memory(void);
size_t anonymous_memory(void);
size_t code_memory(void);
/* Memory that can be had now without swapping (MemAvailable, and the cgroup's limit), bytes. */
size_t available_memory(void);

#endif
