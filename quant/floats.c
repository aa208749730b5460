/* f32, f16 and bf16 to f32 and back. */
#include <string.h>

#include "quant/gguf_blocks.h"
#include "quant/half.h"
#include "quant/simd.h"

#if SIMD_X86
#include <immintrin.h>
#endif

void f32_decode(float *out, const void *in, int64_t n)
{
    if (n > 0)
        memcpy(out, in, (size_t)n * sizeof *out);
}

void f32_encode(void *out, const float *in, int64_t n)
{
    if (n > 0)
        memcpy(out, in, (size_t)n * sizeof *in);
}

/* A tensor in a file may start at an odd byte. */
SIMD_INLINE uint16_t load_u16(const void *in, int64_t i)
{
    uint16_t h;

    memcpy(&h, (const uint8_t *)in + 2 * i, 2);
    return h;
}

SIMD_INLINE void bf16_decode_body(float *out, const void *in, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = bf16_to_f32(load_u16(in, i));
}

SIMD_INLINE void bf16_encode_body(uint16_t *out, const float *in, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = bf16_from_f32(in[i]);
}

SIMD_INLINE void f16_decode_body(float *out, const void *in, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = f16_to_f32(load_u16(in, i));
}

SIMD_FUNCTION(, bf16_decode, bf16_decode_body, (float *out, const void *in, int64_t n),
              (out, in, n))
SIMD_FUNCTION(, bf16_encode, bf16_encode_body, (void *out, const float *in, int64_t n),
              (out, in, n))
SIMD_FUNCTION(, f16_decode, f16_decode_body, (float *out, const void *in, int64_t n), (out, in, n))

static void f16_encode_plain(uint16_t *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = f16_from_f32(in[i]);
}

#if SIMD_X86
SIMD_AVX2_TARGET static void f16_encode_f16c(uint16_t *out, const float *in, int64_t n)
{
    int64_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(in + i),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    f16_encode_plain(out + i, in + i, n - i);
}
#endif

void f16_encode(void *out, const float *in, int64_t n)
{
#if SIMD_X86
    if (simd_level() >= SIMD_AVX2) {
        f16_encode_f16c(out, in, n);
        return;
    }
#endif
    f16_encode_plain(out, in, n);
}
