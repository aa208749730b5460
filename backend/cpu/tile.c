#include "backend/cpu/tile.h"

#include <string.h>

#include "quant/simd.h"

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#if SIMD_X86
#include <immintrin.h>

SIMD_AVX512_TARGET static inline __m512 load_avx512(const float *p)
{
    return _mm512_loadu_ps(p);
}

SIMD_AVX512_TARGET static inline void store_avx512(float *p, __m512 v)
{
    _mm512_storeu_ps(p, v);
}

#define TILE(name)   name##_avx512
#define TARGET       SIMD_AVX512_TARGET
#define VEC          __m512
#define LANES        16
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define SPLAT(x)     _mm512_set1_ps(x)
#define ROWS         6
#define PANEL        4
#include "backend/cpu/tile_kernel.inc"

SIMD_AVX2_TARGET static inline __m256 load_avx2(const float *p)
{
    return _mm256_loadu_ps(p);
}

SIMD_AVX2_TARGET static inline void store_avx2(float *p, __m256 v)
{
    _mm256_storeu_ps(p, v);
}

#define TILE(name)   name##_avx2
#define TARGET       SIMD_AVX2_TARGET
#define VEC          __m256
#define LANES        8
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define SPLAT(x)     _mm256_set1_ps(x)
#define ROWS         6
#define PANEL        2
#include "backend/cpu/tile_kernel.inc"
#endif

/* Any machine: vectors of four floats, as the compiler lays them out. */
typedef float vec4 __attribute__((vector_size(16)));

static inline vec4 load_plain(const float *p)
{
    vec4 v;

    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store_plain(float *p, vec4 v)
{
    memcpy(p, &v, sizeof v);
}

#define TILE(name) name##_plain
#define TARGET
#define VEC          vec4
#define LANES        4
#define FMA(a, b, c) ((a) * (b) + (c))
#define SPLAT(x)     ((vec4){ x, x, x, x })
#define ROWS         3
#define PANEL        4
#include "backend/cpu/tile_kernel.inc"

void tile_product(const struct tile *t)
{
#if SIMD_X86
    switch (simd_level()) {
    case SIMD_AVX512:
        product_avx512(t);
        return;
    case SIMD_AVX2:
        product_avx2(t);
        return;
    case SIMD_PLAIN:
        break;
    }
#endif
    product_plain(t);
}

/* Four rows and four columns at once. */
static void transpose4(const float *x, int64_t ldx, float *y, int64_t ldy)
{
#if SIMD_X86
    __m128 r0 = _mm_loadu_ps(x), r1 = _mm_loadu_ps(x + ldx);
    __m128 r2 = _mm_loadu_ps(x + 2 * ldx), r3 = _mm_loadu_ps(x + 3 * ldx);

    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(y, r0);
    _mm_storeu_ps(y + ldy, r1);
    _mm_storeu_ps(y + 2 * ldy, r2);
    _mm_storeu_ps(y + 3 * ldy, r3);
#else
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            y[j * ldy + i] = x[i * ldx + j];
#endif
}

void tile_transpose(int64_t rows, int64_t cols, const float *x, int64_t ldx, int64_t pad, float *y,
                    int64_t ldy)
{
    const int64_t whole = rows / 4 * 4, wide = cols / 4 * 4;

    for (int64_t c = 0; c < wide; c += 4)
        for (int64_t r = 0; r < whole; r += 4)
            transpose4(x + r * ldx + c, ldx, y + c * ldy + r, ldy);
    for (int64_t c = 0; c < cols; c++) {
        for (int64_t r = c < wide ? whole : 0; r < rows; r++)
            y[c * ldy + r] = x[r * ldx + c];
        for (int64_t r = rows; r < pad; r++)
            y[c * ldy + r] = 0.0f;
    }
}
