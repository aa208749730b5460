/* quant/half.h - f16 and bf16 bits to f32 and back, round to nearest even; NaN stays NaN. */
#ifndef QUANT_HALF_H
#define QUANT_HALF_H

#include <stdint.h>
#include <string.h>

static inline float bf16_to_f32(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float f;

    memcpy(&f, &u, 4);
    return f;
}

static inline uint16_t bf16_from_f32(float f)
{
    uint32_t u;

    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40); /* quiet NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Without branches, so that loops over it become vector code. */
static inline float f16_to_f32(uint16_t h)
{
    const uint32_t mag = h & 0x7fff, sign = (uint32_t)(h & 0x8000) << 16;
    const float tiny = (float)(int32_t)mag * 0x1p-24f; /* the value of a subnormal */
    const uint32_t special = mag >= 0x7c00 ? 0x7f800000 : 0, quiet = mag > 0x7c00 ? 0x400000 : 0;
    uint32_t u;
    float f;

    memcpy(&u, &tiny, 4);
    u = mag < 0x400 ? u : (mag << 13) + (112u << 23);
    u |= special | quiet | sign;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t f16_from_f32(float f);

#endif
