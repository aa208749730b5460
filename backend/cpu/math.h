/* backend/cpu/math.h - functions of one float, without branches, so that loops over them become
 * vector code. The bits do not depend on the vector width. */
#ifndef BACKEND_CPU_MATH_H
#define BACKEND_CPU_MATH_H

#include <stdint.h>
#include <string.h>

#include "quant/simd.h"

/* exp(x), relative error below 1.5e-7. x = n ln 2 + r with |r| <= ln 2 / 2: the Taylor series of
 * exp(r) to r^7 is exact to 6e-9, and 2^n is put on in two steps, so that results below 2^-126 and
 * above 2^128 come out as subnormals, 0 and infinity. NaN stays NaN. */
SIMD_INLINE float exp_f32(float x)
{
    const float magic = 0x1.8p23f;                               /* + magic rounds to integer */
    const float ln2_hi = 0x1.62e4p-1f, ln2_lo = 0x1.7f7d1cp-20f; /* n * hi is exact */
    const uint32_t magic_bits = 0x4b400000u;
    float t, n, r, p, s1, s2;
    uint32_t bits, half, b1, b2;

    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    t = x * 0x1.715476p+0f + magic;
    n = t - magic;
    r = (x - n * ln2_hi) - n * ln2_lo;
    p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    memcpy(&bits, &t, 4);
    bits = bits - magic_bits + 1024; /* n + 1024, positive */
    half = bits >> 1;
    b1 = (half - 512 + 127) << 23;
    b2 = (bits - half - 512 + 127) << 23;
    memcpy(&s1, &b1, 4);
    memcpy(&s2, &b2, 4);
    return p * s1 * s2;
}

SIMD_INLINE float sigmoid_f32(float x)
{
    return 1.0f / (1.0f + exp_f32(-x));
}

/* tanh(x): odd series below 0.3, where 1 - 2 / (1 + exp(2x)) would lose digits. */
SIMD_INLINE float tanh_f32(float x)
{
    const float a = x < 0 ? -x : x, z = x * x;
    const float big = 1.0f - 2.0f / (1.0f + exp_f32(2.0f * a));
    float p = -1382.0f / 155925;

    p = p * z + 62.0f / 2835;
    p = p * z - 17.0f / 315;
    p = p * z + 2.0f / 15;
    p = p * z - 1.0f / 3;
    p = p * (z * x) + x;
    return a < 0.3f ? p : x < 0 ? -big : big;
}

#endif
