/* quant/lut4.h - inside quant/: 4-bit codes through a table of 16, scaled block by block. */
#ifndef QUANT_LUT4_H
#define QUANT_LUT4_H

#include <stdint.h>

/* Code of element i: two a byte, the first element in the high nibble. */
static inline unsigned lut4_code(const uint8_t *codes, int64_t i)
{
    return i & 1 ? codes[i / 2] & 0x0f : codes[i / 2] >> 4;
}

/* out[i - first] = lut[code i] * absmax(i / block) for i in [first, first + n).
 * absmax[0] belongs to the block that holds `first`. */
void lut4_decode(float *out, const uint8_t *codes, int64_t first, int64_t n, int block,
                 const float *absmax, const float *lut);

#endif
