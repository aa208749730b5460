/* out[i] = lut[code i] * absmax[i / block]      Dettmers et al. 2023, section 3
 *
 * A block shares one scale, so its 16 products are made once and codes select among them: the same
 * bits as a product for each element. */
#include "quant/lut4.h"

#include "quant/simd.h"

#if SIMD_X86
#include <immintrin.h>
#endif

/* `n` elements from `first` on, all in one block; `scaled` (16) holds lut * absmax. */
SIMD_INLINE void run_plain(float *out, const uint8_t *codes, int64_t first, int64_t n,
                           const float *scaled)
{
    int64_t i = 0;

    if (n > 0 && first & 1)
        out[i++] = scaled[lut4_code(codes, first)];
    codes += (first + i) / 2;
    for (; i + 2 <= n; i += 2, codes++) {
        out[i] = scaled[*codes >> 4];
        out[i + 1] = scaled[*codes & 0x0f];
    }
    if (i < n)
        out[i] = scaled[*codes >> 4];
}

static void decode_plain(float *out, const uint8_t *codes, int64_t first, int64_t n, int block,
                         const float *absmax, const float *lut)
{
    while (n > 0) {
        const int64_t left = block - first % block, run = n < left ? n : left;
        float scaled[16];

        for (int c = 0; c < 16; c++)
            scaled[c] = lut[c] * *absmax;
        run_plain(out, codes, first, run, scaled);
        absmax++;
        out += run;
        first += run;
        n -= run;
    }
}

#if SIMD_X86
/* 8 bytes to 16 indices: in 64 bits a byte's high nibble comes to the low word, and the byte to the
 * high word, where the permutation looks at the low 4 bits only. */
SIMD_AVX512_TARGET static inline __m512i indices_avx512(const uint8_t *codes)
{
    const __m512i w = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)codes));

    return _mm512_or_si512(_mm512_srli_epi64(w, 4), _mm512_slli_epi64(w, 32));
}

SIMD_AVX512_TARGET static void decode_avx512(float *out, const uint8_t *codes, int64_t first,
                                             int64_t n, int block, const float *absmax,
                                             const float *lut)
{
    const __m512 table = _mm512_loadu_ps(lut);

    while (n > 0) {
        const int64_t left = block - (first & (block - 1)), run = n < left ? n : left;
        const __m512 scaled = _mm512_mul_ps(table, _mm512_set1_ps(*absmax));
        const uint8_t *q = codes + (first + 1) / 2;
        int64_t i = first & 1;

        for (; i + 16 <= run; i += 16, q += 8)
            _mm512_storeu_ps(out + i, _mm512_permutexvar_ps(indices_avx512(q), scaled));
        if (i < run || first & 1) {
            float each[16];

            _mm512_storeu_ps(each, scaled);
            run_plain(out, codes, first, first & 1, each);
            run_plain(out + i, codes, first + i, run - i, each);
        }
        absmax++;
        out += run;
        first += run;
        n -= run;
    }
}

SIMD_AVX2_TARGET static void decode_avx2(float *out, const uint8_t *codes, int64_t first, int64_t n,
                                         int block, const float *absmax, const float *lut)
{
    const __m256 low = _mm256_loadu_ps(lut), high = _mm256_loadu_ps(lut + 8);

    while (n > 0) {
        const int64_t left = block - (first & (block - 1)), run = n < left ? n : left;
        const __m256 s = _mm256_set1_ps(*absmax);
        const __m256 sl = _mm256_mul_ps(low, s), sh = _mm256_mul_ps(high, s);
        const uint8_t *q = codes + (first + 1) / 2;
        int64_t i = first & 1;

        for (; i + 8 <= run; i += 8, q += 4) {
            int32_t four;
            __m256i w;

            __builtin_memcpy(&four, q, 4);
            w = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
            w = _mm256_or_si256(_mm256_srli_epi64(w, 4), _mm256_slli_epi64(w, 32));
            /* bit 3 of the code chooses the half: moved to the sign, which the blend reads */
            _mm256_storeu_ps(out + i,
                             _mm256_blendv_ps(_mm256_permutevar8x32_ps(sl, w),
                                              _mm256_permutevar8x32_ps(sh, w),
                                              _mm256_castsi256_ps(_mm256_slli_epi32(w, 28))));
        }
        if (i < run || first & 1) {
            float each[16];

            _mm256_storeu_ps(each, sl);
            _mm256_storeu_ps(each + 8, sh);
            run_plain(out, codes, first, first & 1, each);
            run_plain(out + i, codes, first + i, run - i, each);
        }
        absmax++;
        out += run;
        first += run;
        n -= run;
    }
}
#endif

void lut4_decode(float *out, const uint8_t *codes, int64_t first, int64_t n, int block,
                 const float *absmax, const float *lut)
{
#if SIMD_X86
    switch (simd_level()) {
    case SIMD_AVX512:
        decode_avx512(out, codes, first, n, block, absmax, lut);
        return;
    case SIMD_AVX2:
        decode_avx2(out, codes, first, n, block, absmax, lut);
        return;
    case SIMD_PLAIN:
        break;
    }
#endif
    decode_plain(out, codes, first, n, block, absmax, lut);
}
