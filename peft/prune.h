/* peft/prune.h - leaving out values of changes, and merging what is left: TIES and DARE, as in
 * PEFT's utils/merge_utils.py. */
#ifndef PEFT_PRUNE_H
#define PEFT_PRUNE_H

#include "core/rng.h"
#include "peft/combine.h"

/* Which values of one matrix stay. */
struct prune {
    double density; /* random: a value stays with this probability and is divided by it */
    bool random, small;
    struct rng_key key;
    float least;    /* small: larger ones stay, */
    int64_t equals; /* and the first so many of this size */
};
struct prune prune_nothing(void);
/* The k largest by magnitude of x (n). */
struct prune prune_small(const float *x, int64_t n, int64_t k);
/* The numbers depend on seed, name and index alone. */
struct prune prune_random(double density, uint64_t seed, const char *name, int index);

/* Values [first, first + n) of the matrix, in place; prune_small's in order from the first on. */
void prune_values(struct prune *p, int64_t first, int64_t n, float *x);

/* out (n) = sum of weight * x over the inputs, x (count, n); ties: of those alone whose sign is the
 * elected one, divided by their number. */
void prune_merge(const struct combine_input *in, int count, bool ties, bool sign_by_count,
                 int64_t n, const float *x, float *out);

#endif
