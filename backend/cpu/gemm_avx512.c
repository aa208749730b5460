/* AVX-512: tiles of up to 14 rows x 32 columns, 28 of the 32 registers hold sums. Per k: two loads
 * of B and 14 broadcasts of A feed 28 fused multiply-adds, so the two load ports are busy 16 of
 * every 28 slots and both multiply-add ports all the time. */
#include "backend/cpu/gemm_kernel.h"

#if SIMD_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f")))

enum { MR = 14, NR = 32, VEC = 16, AHEAD = 8 };

/* F(row, pointer, stride factor): row i of A starts at pointer + factor * rs, so that five pointers
 * and the scaled addressing modes reach 14 rows. */
#define EACH_ROW(F)                                                                                \
    F(0, a0, 0)                                                                                    \
    F(1, a0, 1)                                                                                    \
    F(2, a0, 2)                                                                                    \
    F(3, a3, 0)                                                                                    \
    F(4, a3, 1)                                                                                    \
    F(5, a3, 2)                                                                                    \
    F(6, a6, 0)                                                                                    \
    F(7, a6, 1) F(8, a6, 2) F(9, a9, 0) F(10, a9, 1) F(11, a9, 2) F(12, a12, 0) F(13, a12, 1)

#define CLEAR(i, p, f) __m512 x##i = _mm512_setzero_ps(), y##i = _mm512_setzero_ps();
#define FETCH(i, p, f)                                                                             \
    if (rows > i) {                                                                                \
        _mm_prefetch((const char *)(c + (i)*ldc), _MM_HINT_T0);                                    \
        if (nv == 2)                                                                               \
            _mm_prefetch((const char *)(c + (i)*ldc + VEC), _MM_HINT_T0);                          \
    }
#define STEP(i, p, f)                                                                              \
    if (rows > i) {                                                                                \
        const __m512 v = _mm512_set1_ps(p[(f)*rs]);                                                \
        x##i = _mm512_fmadd_ps(v, bx, x##i);                                                       \
        if (nv == 2)                                                                               \
            y##i = _mm512_fmadd_ps(v, by, y##i);                                                   \
    }
#define STORE(i, p, f)                                                                             \
    if (rows > i) {                                                                                \
        store_row(c + (i)*ldc, mx, x##i, alpha, t->add);                                           \
        if (nv == 2)                                                                               \
            store_row(c + (i)*ldc + VEC, my, y##i, alpha, t->add);                                 \
    }

TARGET SIMD_INLINE void store_row(float *c, __mmask16 m, __m512 sum, __m512 alpha, bool add)
{
    if (add)
        sum = _mm512_fmadd_ps(alpha, sum, _mm512_maskz_loadu_ps(m, c));
    else
        sum = _mm512_mul_ps(alpha, sum);
    _mm512_mask_storeu_ps(c, m, sum);
}

/* rows and nv (registers per row, 1 or 2) are constants in every copy of this function. */
TARGET SIMD_INLINE void tile_sized(const struct gemm_tile *t, const int rows, const int nv)
{
    const int64_t rs = t->rs, cs = t->cs, ldb = t->ldb, ldc = t->ldc;
    const float *a0 = t->a, *a3 = a0 + 3 * rs, *a6 = a3 + 3 * rs, *a9 = a6 + 3 * rs;
    const float *a12 = a9 + 3 * rs, *b = t->b;
    const __mmask16 mx = (__mmask16)(t->cols >= VEC ? 0xffff : (1u << t->cols) - 1);
    const __mmask16 my = (__mmask16)((1u << (t->cols - VEC * (nv - 1))) - 1);
    float *c = t->c;

    EACH_ROW(CLEAR)
    EACH_ROW(FETCH)
    for (int64_t k = t->kc; k > 0; k--) {
        const __m512 bx = _mm512_loadu_ps(b);
        const __m512 by = nv == 2 ? _mm512_loadu_ps(b + VEC) : bx;

        _mm_prefetch((const char *)(b + AHEAD * ldb), _MM_HINT_T0);
        if (nv == 2)
            _mm_prefetch((const char *)(b + AHEAD * ldb + VEC), _MM_HINT_T0);
        EACH_ROW(STEP)
        b += ldb;
        a0 += cs, a3 += cs, a6 += cs, a9 += cs, a12 += cs;
    }
    const __m512 alpha = _mm512_set1_ps(t->alpha); /* here: no register was free above */

    EACH_ROW(STORE)
}

#define CASE(i, p, f)                                                                              \
    case i + 1:                                                                                    \
        if (t->cols > VEC)                                                                         \
            tile_sized(t, i + 1, 2);                                                               \
        else                                                                                       \
            tile_sized(t, i + 1, 1);                                                               \
        break;

TARGET static void tile(const struct gemm_tile *t)
{
    switch (t->rows) {
        EACH_ROW(CASE)
    }
}

/* 16 rows x 4 columns: three steps put rows r, r+4, r+8, r+12 side by side, four transpose each
 * 4 x 4 lane; the lanes then already stand in row order. */
TARGET SIMD_INLINE void transpose_16x4(const float *src, int64_t ld, float *dst)
{
    __m512 v[4];

#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const float *p = src + r * ld;

        v[r] = _mm512_castps128_ps512(_mm_loadu_ps(p));
        v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(p + 4 * ld), 1);
        v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(p + 8 * ld), 2);
        v[r] = _mm512_insertf32x4(v[r], _mm_loadu_ps(p + 12 * ld), 3);
    }
    const __m512d lo01 = _mm512_castps_pd(_mm512_unpacklo_ps(v[0], v[1]));
    const __m512d hi01 = _mm512_castps_pd(_mm512_unpackhi_ps(v[0], v[1]));
    const __m512d lo23 = _mm512_castps_pd(_mm512_unpacklo_ps(v[2], v[3]));
    const __m512d hi23 = _mm512_castps_pd(_mm512_unpackhi_ps(v[2], v[3]));

    _mm512_storeu_pd((double *)(void *)dst, _mm512_unpacklo_pd(lo01, lo23));
    _mm512_storeu_pd((double *)(void *)(dst + NR), _mm512_unpackhi_pd(lo01, lo23));
    _mm512_storeu_pd((double *)(void *)(dst + 2 * NR), _mm512_unpacklo_pd(hi01, hi23));
    _mm512_storeu_pd((double *)(void *)(dst + 3 * NR), _mm512_unpackhi_pd(hi01, hi23));
}

TARGET static void transpose(const float *src, int64_t ld, int rows, int64_t kc, float *dst)
{
    const int full = rows / VEC * VEC;
    const int64_t kfull = kc / 4 * 4;

    for (int r = 0; r < full;
         r += VEC) /* rows outside: as many streams as the prefetchers follow */
        for (int64_t k = 0; k < kfull; k += 4)
            transpose_16x4(src + r * ld + k, ld, dst + k * NR + r);
    gemm_transpose_rest(src, ld, rows, 0, NR, kfull, kc, dst);
    if (full < NR)
        gemm_transpose_rest(src, ld, rows, full, NR, 0, kfull, dst);
}

const struct gemm_kernel gemm_avx512 = { "avx512", MR, NR, VEC, tile, transpose };
#endif
