#include "backend/cpu/row.h"

#include "quant/half.h"
#include "quant/simd.h"

SIMD_INLINE void widen_body(int64_t n, const uint16_t *restrict x, float *restrict y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = bf16_to_f32(x[i]);
}

SIMD_INLINE void round_body(int64_t n, const float *restrict x, uint16_t *restrict y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;

        memcpy(&u, x + i, 4);
        const uint32_t quiet = u >> 16 | 0x40, near = (u + 0x7fff + (u >> 16 & 1)) >> 16;
        y[i] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? quiet : near);
    }
}

SIMD_FUNCTION(, bf16_widen, widen_body, (int64_t n, const uint16_t *x, float *y), (n, x, y))
SIMD_FUNCTION(, bf16_round, round_body, (int64_t n, const float *x, uint16_t *y), (n, x, y))
