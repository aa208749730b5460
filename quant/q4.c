/* q4_0 and q4_1: 32 elements in 16 bytes, low nibbles are elements 0..15, high ones 16..31.
 *
 *   q4_0: d, 16 bytes      d (q - 8)      18 bytes
 *   q4_1: d, m, 16 bytes   d q + m        20 bytes
 *
 * With 16 lanes a block's 16 possible values are made at once, and its codes select among them: the
 * same bits, and half the arithmetic. Compilers do not find this. */
#include "quant/gguf_blocks.h"
#include "quant/simd.h"

#if SIMD_X86
#include <immintrin.h>
#endif

SIMD_INLINE void q4_0_plain(float *out, const uint8_t *p, int64_t n)
{
    for (; n > 0; n -= 32, p += 18, out += 32) {
        const float d = half_at(p);

#pragma omp simd
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)((p[2 + j] & 15) - 8);
            out[16 + j] = d * (float)((p[2 + j] >> 4) - 8);
        }
    }
}

SIMD_INLINE void q4_1_plain(float *out, const uint8_t *p, int64_t n)
{
    for (; n > 0; n -= 32, p += 20, out += 32) {
        const float d = half_at(p), m = half_at(p + 2);

#pragma omp simd
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)(p[4 + j] & 15) + m;
            out[16 + j] = d * (float)(p[4 + j] >> 4) + m;
        }
    }
}

#if SIMD_X86
SIMD_AVX2_TARGET static inline float half_x86(const uint8_t *p)
{
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(p[0] | p[1] << 8)));
}

/* The permutation looks at the low 4 bits of each index only. */
SIMD_AVX512_TARGET static inline void select_avx512(float *out, const uint8_t *q, __m512 values)
{
    const __m512i w = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)q));

    _mm512_storeu_ps(out, _mm512_permutexvar_ps(w, values));
    _mm512_storeu_ps(out + 16, _mm512_permutexvar_ps(_mm512_srli_epi32(w, 4), values));
}

SIMD_AVX512_TARGET static void q4_0_avx512(float *out, const uint8_t *p, int64_t n)
{
    const __m512 codes = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);

    for (; n > 0; n -= 32, p += 18, out += 32)
        select_avx512(out, p + 2, _mm512_mul_ps(_mm512_set1_ps(half_x86(p)), codes));
}

SIMD_AVX512_TARGET static void q4_1_avx512(float *out, const uint8_t *p, int64_t n)
{
    const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

    for (; n > 0; n -= 32, p += 20, out += 32) {
        const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(half_x86(p)), codes);

        select_avx512(out, p + 4, _mm512_add_ps(scaled, _mm512_set1_ps(half_x86(p + 2))));
    }
}

/* out = d (q + bias) + m for the 32 codes at q; with m = -0 the sum changes nothing. */
SIMD_AVX2_TARGET static inline void block_avx2(float *out, const uint8_t *q, float d, int bias,
                                               float m)
{
    for (int j = 0; j < 16; j += 8) {
        const __m256i w = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(q + j)));
        const __m256i b = _mm256_set1_epi32(bias);
        const __m256i low = _mm256_add_epi32(_mm256_and_si256(w, _mm256_set1_epi32(15)), b);
        const __m256i high = _mm256_add_epi32(_mm256_srli_epi32(w, 4), b);
        const __m256 d8 = _mm256_set1_ps(d), m8 = _mm256_set1_ps(m);

        _mm256_storeu_ps(out + j, _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(low), d8), m8));
        _mm256_storeu_ps(out + 16 + j,
                         _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(high), d8), m8));
    }
}

SIMD_AVX2_TARGET static void q4_0_avx2(float *out, const uint8_t *p, int64_t n)
{
    for (; n > 0; n -= 32, p += 18, out += 32)
        block_avx2(out, p + 2, half_x86(p), -8, -0.0f);
}

SIMD_AVX2_TARGET static void q4_1_avx2(float *out, const uint8_t *p, int64_t n)
{
    for (; n > 0; n -= 32, p += 20, out += 32)
        block_avx2(out, p + 4, half_x86(p), 0, half_x86(p + 2));
}
#endif

#if SIMD_X86
#define Q4_DECODER(name)                                                                           \
    void name##_decode(float *out, const void *in, int64_t n)                                      \
    {                                                                                              \
        switch (simd_level()) {                                                                    \
        case SIMD_AVX512:                                                                          \
            name##_avx512(out, in, n);                                                             \
            return;                                                                                \
        case SIMD_AVX2:                                                                            \
            name##_avx2(out, in, n);                                                               \
            return;                                                                                \
        case SIMD_PLAIN:                                                                           \
            break;                                                                                 \
        }                                                                                          \
        name##_plain(out, in, n);                                                                  \
    }
#else
#define Q4_DECODER(name)                                                                           \
    void name##_decode(float *out, const void *in, int64_t n)                                      \
    {                                                                                              \
        name##_plain(out, in, n);                                                                  \
    }
#endif
Q4_DECODER(q4_0)
Q4_DECODER(q4_1)
