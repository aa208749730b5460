#include "quant/half.h"

uint16_t f16_from_f32(float f)
{
    uint32_t u, mag, sign;

    memcpy(&u, &f, 4);
    mag = u & 0x7fffffff;
    sign = u >> 16 & 0x8000;
    if (mag > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x1ff)); /* quiet NaN */
    if (mag >= 0x477ff000) /* halfway from 65504 to 65536, and up */
        return (uint16_t)(sign | 0x7c00);
    if (mag < 0x38800000) { /* below 2^-14: in steps of 2^-24, which the sum rounds to */
        float a;

        memcpy(&a, &mag, 4);
        a += 0.5f; /* ulp of [0.5, 1) is 2^-24 */
        memcpy(&mag, &a, 4);
        return (uint16_t)(sign | (mag - 0x3f000000));
    }
    mag += 0xfff + (mag >> 13 & 1);
    return (uint16_t)(sign | ((mag - (112u << 23)) >> 13));
}
