/* GGUF's block formats to f32; q4_0 and q4_1 are in q4.c. The order of the roundings is that of
 * gguf's Python package. */
#include "quant/gguf_blocks.h"

#include <math.h>

#include "quant/half.h"
#include "quant/simd.h"

#define DECODER(name)                                                                              \
    SIMD_FUNCTION(, name##_decode, name##_body, (float *out, const void *in, int64_t n),           \
                  (out, in, n))

SIMD_INLINE uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* d, u32 of fifth bits (bit i = element i), 16 bytes as in q4.c      d (q - 16) */
SIMD_INLINE void q5_0_body(float *out, const void *in, int64_t n)
{
    const uint8_t *p = in;

    for (; n > 0; n -= 32, p += 22, out += 32) {
        const float d = half_at(p);
        const uint32_t fifth = load_u32(p + 2);

#pragma omp simd
        for (int j = 0; j < 16; j++) {
            const int low = (p[6 + j] & 15) | (int)(fifth >> j & 1) << 4;
            const int high = p[6 + j] >> 4 | (int)(fifth >> (16 + j) & 1) << 4;

            out[j] = d * (float)(low - 16);
            out[16 + j] = d * (float)(high - 16);
        }
    }
}
DECODER(q5_0)

/* d, m, u32 of fifth bits, 16 bytes      d q + m */
SIMD_INLINE void q5_1_body(float *out, const void *in, int64_t n)
{
    const uint8_t *p = in;

    for (; n > 0; n -= 32, p += 24, out += 32) {
        const float d = half_at(p), m = half_at(p + 2);
        const uint32_t fifth = load_u32(p + 4);

#pragma omp simd
        for (int j = 0; j < 16; j++) {
            const int low = (p[8 + j] & 15) | (int)(fifth >> j & 1) << 4;
            const int high = p[8 + j] >> 4 | (int)(fifth >> (16 + j) & 1) << 4;

            out[j] = d * (float)low + m;
            out[16 + j] = d * (float)high + m;
        }
    }
}
DECODER(q5_1)

/* d, 32 signed bytes      d q */
SIMD_INLINE void q8_0_body(float *out, const void *in, int64_t n)
{
    const uint8_t *p = in;

    for (; n > 0; n -= 32, p += 34, out += 32) {
        const float d = half_at(p);

#pragma omp simd
        for (int j = 0; j < 32; j++)
            out[j] = d * (float)(int8_t)p[2 + j];
    }
}
DECODER(q8_0)

/* Pair k of the eight 6-bit (scale, minimum) pairs in 12 bytes: bytes 0..3 and 4..7 hold pairs 0..3
 * in their low six bits; the others have their low four bits in bytes 8..11 (scale low, minimum
 * high) and their top two above the first ones. */
SIMD_INLINE void k_pair(const uint8_t *s, int k, float *scale, float *minimum)
{
    if (k < 4) {
        *scale = (float)(s[k] & 63);
        *minimum = (float)(s[4 + k] & 63);
    } else {
        *scale = (float)((s[4 + k] & 15) | s[k - 4] >> 6 << 4);
        *minimum = (float)(s[4 + k] >> 4 | s[k] >> 6 << 4);
    }
}

/* d, dmin, 12 bytes of pairs, 128 bytes: each 32 hold sub-block 2k in their low and 2k + 1 in their
 * high nibbles      (d scale) q - dmin minimum */
SIMD_INLINE void q4_k_body(float *out, const void *in, int64_t n)
{
    const uint8_t *p = in;

    for (; n > 0; n -= 256, p += 144) {
        const float d = half_at(p), dmin = half_at(p + 2);

        for (int k = 0; k < 8; k += 2, out += 64) {
            const uint8_t *q = p + 16 + 16 * k;
            float s0, s1, m0, m1;

            k_pair(p + 4, k, &s0, &m0);
            k_pair(p + 4, k + 1, &s1, &m1);
            s0 *= d;
            s1 *= d;
            m0 *= dmin;
            m1 *= dmin;
#pragma omp simd
            for (int j = 0; j < 32; j++) {
                out[j] = s0 * (float)(q[j] & 15) - m0;
                out[32 + j] = s1 * (float)(q[j] >> 4) - m1;
            }
        }
    }
}
DECODER(q4_k)

/* d, dmin, 12 bytes of pairs, 32 bytes of fifth bits (bit k of byte j = element j of sub-block k),
 * 128 bytes as in q4_k      the same, q of 5 bits */
SIMD_INLINE void q5_k_body(float *out, const void *in, int64_t n)
{
    const uint8_t *p = in;

    for (; n > 0; n -= 256, p += 176) {
        const float d = half_at(p), dmin = half_at(p + 2);
        const uint8_t *fifth = p + 16;

        for (int k = 0; k < 8; k += 2, out += 64) {
            const uint8_t *q = p + 48 + 16 * k;
            float s0, s1, m0, m1;

            k_pair(p + 4, k, &s0, &m0);
            k_pair(p + 4, k + 1, &s1, &m1);
            s0 *= d;
            s1 *= d;
            m0 *= dmin;
            m1 *= dmin;
#pragma omp simd
            for (int j = 0; j < 32; j++) {
                out[j] = s0 * (float)((q[j] & 15) | (fifth[j] >> k & 1) << 4) - m0;
                out[32 + j] = s1 * (float)(q[j] >> 4 | (fifth[j] >> (k + 1) & 1) << 4) - m1;
            }
        }
    }
}
DECODER(q5_k)

/* 128 bytes of low nibbles, 64 bytes of high pairs, 16 signed scales of 16 elements, d last. Halves
 * of 128: quarter 0 and 1 in the low nibbles of ql[l] and ql[32 + l], 2 and 3 in the high ones; the
 * pair of quarter k is bits 2k of qh[l]      (d scale) (q - 32) */
SIMD_INLINE void q6_k_body(float *out, const void *in, int64_t n)
{
    const uint8_t *p = in;

    for (; n > 0; n -= 256, p += 210) {
        const float d = half_at(p + 208);

        for (int half = 0; half < 2; half++, out += 128) {
            const uint8_t *ql = p + 64 * half, *qh = p + 128 + 32 * half;

            for (int part = 0; part < 8; part++) { /* 16 elements with one scale */
                const int quarter = part / 2, l = part % 2 * 16, shift = quarter / 2 * 4;
                const uint8_t *low = ql + quarter % 2 * 32 + l, *high = qh + l;
                const float s = d * (float)(int8_t)p[192 + 8 * half + part];

#pragma omp simd
                for (int j = 0; j < 16; j++)
                    out[16 * part + j] =
                        s *
                        (float)(((low[j] >> shift & 15) | (high[j] >> 2 * quarter & 3) << 4) - 32);
            }
        }
    }
}
DECODER(q6_k)

/* As gguf writes it: the quotients by the unrounded scale, halves away from zero. Values are
 * finite; where the scale is so small that its inverse is not, it rounds to 0 in f16 anyway. */
void q8_0_encode(void *out, const float *in, int64_t n)
{
    uint8_t *p = out;

    for (; n > 0; n -= 32, p += 34, in += 32) {
        float most = 0, d, inv;
        uint16_t h;

        for (int j = 0; j < 32; j++)
            most = fmaxf(most, fabsf(in[j]));
        d = most / 127.0f;
        inv = d > 0 ? 1.0f / d : 0.0f;
        h = f16_from_f32(d);
        p[0] = (uint8_t)h;
        p[1] = (uint8_t)(h >> 8);
        for (int j = 0; j < 32; j++) {
            const float q = roundf(in[j] * inv);

            p[2 + j] = (uint8_t)(q > -128 && q < 128 ? (int)q : 0); /* NaN: no integer */
        }
    }
}
