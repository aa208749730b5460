/* train/eval.h - the loss of records, each alone from position 0. */
#ifndef TRAIN_EVAL_H
#define TRAIN_EVAL_H

#include <signal.h>

#include "data/dataset.h"
#include "train/base.h"

struct eval_result {
    double nll;       /* sum over target tokens, nats */
    int64_t tokens;   /* target tokens */
    int64_t examples; /* records that have a target */
};

/* Working memory for a network's evaluations, made once. */
struct evaluator;
enum graft_status evaluator_new(const struct net *n, struct evaluator **out, struct graft_err *err);
void evaluator_free(struct evaluator *e);
/* From now on an evaluation ends with ESTOPPED, after a pass, once *stop is not 0. */
void evaluator_stop_at(struct evaluator *e, const volatile sig_atomic_t *stop);

/* Records of `d` through the forward graph of `n`, several to a pass: attention stays inside a
 * record and a row's sums do not depend on its neighbours, so each is as if alone. `use` (count, or
 * NULL for all) picks records. `per_record` (count, or NULL) receives each record's sum of NLL.
 * EARG when a record is longer than the network's tokens; ERUN when a loss is not finite; ESTOPPED,
 * see evaluator_stop_at. */
enum graft_status eval_records(struct net *n, struct evaluator *e, const struct dataset *d,
                               const bool *use, double *per_record, struct eval_result *out,
                               struct graft_err *err);

/* How many tokens a pass takes for good use of the machine, given the longest record and the number
 * of virtual tokens before each. */
int64_t eval_pass_tokens(const struct dataset *d, int64_t virtual_front);

#endif
