#include "core/rng.h"

#include <math.h>

void rng_block(struct rng_key key, uint64_t block, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32) ^ key.stream << 24;
    uint32_t c2 = key.step, c3 = key.site;
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);

    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;

        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t rng_u32(struct rng_key key, uint64_t index)
{
    uint32_t w[4];

    rng_block(key, index / 4, w);
    return w[index % 4];
}

float rng_uniform(struct rng_key key, uint64_t index)
{
    return (float)(rng_u32(key, index) >> 8) * 0x1p-24f;
}

float rng_normal(struct rng_key key, uint64_t index)
{
    uint32_t w[4];
    double radius, angle;

    rng_block(key, index / 2, w);
    radius = sqrt(-2.0 * log(((double)w[0] + 1.0) * 0x1p-32));
    angle = 6.283185307179586 * ((double)w[1] * 0x1p-32);
    return (float)(radius * (index % 2 ? sin(angle) : cos(angle)));
}

uint64_t rng_below(struct rng_key key, uint64_t index, uint64_t n)
{
    uint32_t w[4];

    rng_block(key, index, w);
    return ((uint64_t)w[0] << 32 | w[1]) % n;
}
