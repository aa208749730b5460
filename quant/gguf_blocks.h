/* quant/gguf_blocks.h - inside quant/: GGUF's block formats, and plain floats.
 *
 * A block is a run of elements along the input dimension with its scales inside; d, m and dmin are
 * f16, little-endian. Layouts in gguf_blocks.c. */
#ifndef QUANT_GGUF_BLOCKS_H
#define QUANT_GGUF_BLOCKS_H

#include <stdint.h>

#include "quant/half.h"

static inline float half_at(const uint8_t *p)
{
    return f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

void f32_decode(float *out, const void *in, int64_t n);
void f16_decode(float *out, const void *in, int64_t n);
void bf16_decode(float *out, const void *in, int64_t n);
void q4_0_decode(float *out, const void *in, int64_t n);
void q4_1_decode(float *out, const void *in, int64_t n);
void q5_0_decode(float *out, const void *in, int64_t n);
void q5_1_decode(float *out, const void *in, int64_t n);
void q8_0_decode(float *out, const void *in, int64_t n);
void q4_k_decode(float *out, const void *in, int64_t n);
void q5_k_decode(float *out, const void *in, int64_t n);
void q6_k_decode(float *out, const void *in, int64_t n);

void f32_encode(void *out, const float *in, int64_t n);
void f16_encode(void *out, const float *in, int64_t n);
void bf16_encode(void *out, const float *in, int64_t n);
void q8_0_encode(void *out, const float *in, int64_t n);

#endif
