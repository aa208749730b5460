/* Inverted dropout. The mask is a pure function of (key, element), so backward and recomputation
 * draw it again instead of keeping it. The generator is core/rng.h's Philox4x32-10, its blocks side
 * by side in vector lanes. */
#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"

enum { WORDS = 4, BLOCKS = PIECE / WORDS };

/* keep[j] = 1 / (1 - p) where word j of blocks first .. first + BLOCKS - 1 is at least `below`,
 * else 0 */
SIMD_INLINE void mask_body(uint64_t first, struct rng_key key, uint32_t below, float inv,
                           float *restrict keep)
{
    uint32_t c0[BLOCKS], c1[BLOCKS], c2[BLOCKS], c3[BLOCKS];
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);

#pragma omp simd
    for (int i = 0; i < BLOCKS; i++) {
        const uint64_t block = first + (uint64_t)i;

        c0[i] = (uint32_t)block;
        c1[i] = (uint32_t)(block >> 32) ^ key.stream << 24;
        c2[i] = key.step;
        c3[i] = key.site;
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int i = 0; i < BLOCKS; i++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];

            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < BLOCKS; i++) {
        keep[WORDS * i] = c0[i] >> 8 >= below ? inv : 0.0f;
        keep[WORDS * i + 1] = c1[i] >> 8 >= below ? inv : 0.0f;
        keep[WORDS * i + 2] = c2[i] >> 8 >= below ? inv : 0.0f;
        keep[WORDS * i + 3] = c3[i] >> 8 >= below ? inv : 0.0f;
    }
}

SIMD_FUNCTION(static, mask, mask_body,
              (uint64_t first, struct rng_key key, uint32_t below, float inv, float *keep),
              (first, key, below, inv, keep))

/* The least k with k 2^-24 >= p: rng_uniform >= p is the same as its 24 bits >= k. */
static uint32_t threshold(float p)
{
    const float k = p * 0x1p24f;

    return (uint32_t)k + (k > (float)(uint32_t)k);
}

void dropout_cpu(int64_t n, float p, struct rng_key key, struct act x, struct act y)
{
    const uint32_t below = threshold(p);

#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE) {
        _Alignas(64) float keep[PIECE], bx[PIECE], by[PIECE];
        const int64_t m = min64(PIECE, n - at);
        const float *px = piece_get(x, at, m, bx);
        float *py = piece_room(y, at, by);

        mask((uint64_t)at / WORDS, key, below, 1.0f / (1.0f - p), keep);
#pragma omp simd
        for (int64_t i = 0; i < m; i++)
            py[i] = px[i] * keep[i];
        piece_put(y, at, m, py);
    }
}

void dropout_backward_cpu(int64_t n, float p, struct rng_key key, const float *dy, float *dx)
{
    const uint32_t below = threshold(p);

    if (!dx)
        return;
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE) {
        _Alignas(64) float keep[PIECE];
        const int64_t m = min64(PIECE, n - at);

        mask((uint64_t)at / WORDS, key, below, 1.0f / (1.0f - p), keep);
#pragma omp simd
        for (int64_t i = 0; i < m; i++)
            dx[at + i] += dy[at + i] * keep[i];
    }
}
