/* core/rng.h - counter-based random numbers: Philox4x32-10, Salmon et al. 2011, "Parallel random
 * numbers: as easy as 1, 2, 3". A number is a pure function of (seed, stream, step, site, index),
 * so results depend on no order of execution, and a recomputed dropout mask is the same mask. */
#ifndef CORE_RNG_H
#define CORE_RNG_H

#include <stdint.h>

enum rng_stream {
    RNG_INIT = 1,
    RNG_DROPOUT = 2,
    RNG_SHUFFLE = 3,
    RNG_SAMPLE = 4,
    RNG_GATHER = 5, /* dropout of passes that train nothing */
    RNG_PRUNE = 21,
    RNG_TEST = 99
};

struct rng_key {
    uint64_t seed;
    uint32_t stream; /* enum rng_stream */
    uint32_t step;
    uint32_t site; /* which slot, op or tensor */
};

/* Four words for block number `block`. */
void rng_block(struct rng_key key, uint64_t block, uint32_t out[4]);
uint32_t rng_u32(struct rng_key key, uint64_t index);
float rng_uniform(struct rng_key key, uint64_t index); /* [0, 1), 24 bits */
float rng_normal(struct rng_key key, uint64_t index);  /* Box-Muller, mean 0, deviation 1 */
/* Uniform in [0, n), n > 0; the bias of the 64-bit remainder is below n / 2^64. */
uint64_t rng_below(struct rng_key key, uint64_t index, uint64_t n);

#endif
