/* AVX2 and FMA: tiles of up to 6 rows x 16 columns, 12 of the 16 registers hold sums. */
#include "backend/cpu/gemm_kernel.h"

#if SIMD_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))

enum { MR = 6, NR = 16, VEC = 8, AHEAD = 8 };

/* F(row, pointer, stride factor): row i of A starts at pointer + factor * rs. */
#define EACH_ROW(F) F(0, a0, 0) F(1, a0, 1) F(2, a0, 2) F(3, a3, 0) F(4, a3, 1) F(5, a3, 2)

#define CLEAR(i, p, f) __m256 x##i = _mm256_setzero_ps(), y##i = _mm256_setzero_ps();
#define STEP(i, p, f)                                                                              \
    if (rows > i) {                                                                                \
        const __m256 v = _mm256_broadcast_ss(p + (f)*rs);                                          \
        x##i = _mm256_fmadd_ps(v, bx, x##i);                                                       \
        if (nv == 2)                                                                               \
            y##i = _mm256_fmadd_ps(v, by, y##i);                                                   \
    }
#define STORE(i, p, f)                                                                             \
    if (rows > i) {                                                                                \
        store_row(c + (i)*ldc, mx, x##i, alpha, t->add);                                           \
        if (nv == 2)                                                                               \
            store_row(c + (i)*ldc + VEC, my, y##i, alpha, t->add);                                 \
    }

/* All ones in the first n (0 .. 8) of eight lanes. */
TARGET SIMD_INLINE __m256i first_lanes(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

TARGET SIMD_INLINE void store_row(float *c, __m256i m, __m256 sum, __m256 alpha, bool add)
{
    if (add)
        sum = _mm256_fmadd_ps(alpha, sum, _mm256_maskload_ps(c, m));
    else
        sum = _mm256_mul_ps(alpha, sum);
    _mm256_maskstore_ps(c, m, sum);
}

/* rows and nv (registers per row, 1 or 2) are constants in every copy of this function. */
TARGET SIMD_INLINE void tile_sized(const struct gemm_tile *t, const int rows, const int nv)
{
    const int64_t rs = t->rs, cs = t->cs, ldb = t->ldb, ldc = t->ldc;
    const float *a0 = t->a, *a3 = a0 + 3 * rs, *b = t->b;
    float *c = t->c;

    EACH_ROW(CLEAR)
    for (int64_t k = t->kc; k > 0; k--) {
        const __m256 bx = _mm256_loadu_ps(b);
        const __m256 by = nv == 2 ? _mm256_loadu_ps(b + VEC) : bx;

        _mm_prefetch((const char *)(b + AHEAD * ldb), _MM_HINT_T0);
        EACH_ROW(STEP)
        b += ldb;
        a0 += cs, a3 += cs;
    }
    const __m256i mx = first_lanes(t->cols), my = first_lanes(t->cols - VEC);
    const __m256 alpha = _mm256_set1_ps(t->alpha); /* here: no register was free above */

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

/* 8 rows x 4 columns: rows r and r+4 side by side, then each 4 x 4 lane is transposed. */
TARGET SIMD_INLINE void transpose_8x4(const float *src, int64_t ld, float *dst)
{
    __m256 v[4];

#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        v[r] = _mm256_castps128_ps256(_mm_loadu_ps(src + r * ld));
        v[r] = _mm256_insertf128_ps(v[r], _mm_loadu_ps(src + (r + 4) * ld), 1);
    }
    const __m256d lo01 = _mm256_castps_pd(_mm256_unpacklo_ps(v[0], v[1]));
    const __m256d hi01 = _mm256_castps_pd(_mm256_unpackhi_ps(v[0], v[1]));
    const __m256d lo23 = _mm256_castps_pd(_mm256_unpacklo_ps(v[2], v[3]));
    const __m256d hi23 = _mm256_castps_pd(_mm256_unpackhi_ps(v[2], v[3]));

    _mm256_storeu_pd((double *)(void *)dst, _mm256_unpacklo_pd(lo01, lo23));
    _mm256_storeu_pd((double *)(void *)(dst + NR), _mm256_unpackhi_pd(lo01, lo23));
    _mm256_storeu_pd((double *)(void *)(dst + 2 * NR), _mm256_unpacklo_pd(hi01, hi23));
    _mm256_storeu_pd((double *)(void *)(dst + 3 * NR), _mm256_unpackhi_pd(hi01, hi23));
}

TARGET static void transpose(const float *src, int64_t ld, int rows, int64_t kc, float *dst)
{
    const int full = rows / VEC * VEC;
    const int64_t kfull = kc / 4 * 4;

    for (int r = 0; r < full;
         r += VEC) /* rows outside: as many streams as the prefetchers follow */
        for (int64_t k = 0; k < kfull; k += 4)
            transpose_8x4(src + r * ld + k, ld, dst + k * NR + r);
    gemm_transpose_rest(src, ld, rows, 0, NR, kfull, kc, dst);
    if (full < NR)
        gemm_transpose_rest(src, ld, rows, full, NR, 0, kfull, dst);
}

const struct gemm_kernel gemm_avx2 = { "avx2", MR, NR, VEC, tile, transpose };
#endif
