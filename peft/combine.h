/* peft/combine.h - several adapters' changes of one weight as one change of low rank.
 *
 * Everything is defined on the change of the weight, W' - W, never on factors: a weighted sum is
 * the sum of the changes. */
#ifndef PEFT_COMBINE_H
#define PEFT_COMBINE_H

#include "peft/change.h"

enum combine_how {
    COMBINE_LINEAR,          /* sum w D; all ranks together, or the rank asked for through an SVD */
    COMBINE_CAT,             /* the same, factors side by side */
    COMBINE_SVD,             /* the same through an SVD, the largest rank of the inputs */
    COMBINE_TIES,            /* Yadav et al. 2023, arXiv:2306.01708 */
    COMBINE_DARE_LINEAR,     /* Yu et al. 2023, arXiv:2311.03099 */
    COMBINE_DARE_TIES,       /* pruned as DARE, merged as TIES */
    COMBINE_MAGNITUDE_PRUNE, /* the largest values of each, summed */
    COMBINE_COUNT
};
extern const char *const combine_names[COMBINE_COUNT + 1]; /* NULL-terminated */

struct combine_opts {
    enum combine_how how;
    int64_t rank;       /* of the result; 0: what `how` says */
    double density;     /* share of values that pruning keeps, (0, 1] */
    bool sign_by_count; /* TIES: the sign that most have, not that of the sum */
    uint64_t seed;      /* of DARE's choice */
};
/* Does it prune values, so that the result has full rank before it is cut? */
bool combine_prunes(enum combine_how how);

struct combine_input {
    const struct adapter *adapter;
    const struct slot *slot; /* the adapter's own; NULL: it leaves this weight alone */
    double weight;
};

/* The rank that the result has here, from 1. EARG: a change that is no product of low rank is to be
 * kept whole (names the method). */
enum graft_status combine_rank(const struct combine_opts *o, const struct combine_input *in,
                               int count, int64_t *out, struct graft_err *err);

/* What of the change the rank could not hold: squares of Frobenius norms, summed over slots. */
struct combine_loss {
    double all, lost;
};
/* left (O, r) right (r, I) = the combined change, r = combine_rank. `bias` (O), or NULL where none
 * of the inputs changes it. Memory: two matrices of the weight's size where values are pruned, the
 * factors alone otherwise. ENOMEM, ERUN. */
enum graft_status combine_slot(const struct combine_opts *o, const struct combine_input *in,
                               int count, int64_t r, float *left, float *right, float *bias,
                               struct combine_loss *loss, struct graft_err *err);

#endif
