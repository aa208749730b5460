/* Every format, element by element, straight from its description: what the fast decoders are
 * compared with. */
#include <string.h>

#include "quant/gguf_blocks.h"
#include "quant/half.h"
#include "quant/lut4.h"
#include "quant/quant.h"

/* Nibble of element i of 32: the first 16 in the low halves of the bytes. */
static int nibble(const uint8_t *q, int i)
{
    return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

static int bit(const uint8_t *bits, int i)
{
    return bits[i / 8] >> i % 8 & 1;
}

static float lut4_at(const struct qmat *w, int64_t i)
{
    const int64_t b = i / w->block;
    float absmax;

    if (w->absmax)
        absmax = w->absmax[b];
    else
        absmax = w->map8[w->absmax8[b]] * w->absmax2[b / w->block2] + w->offset;
    return w->lut[lut4_code(w->data, i)] * absmax;
}

/* Element i of a q4_k (fifth bits NULL) or q5_k block with header p and nibbles q. */
static float k_at(const uint8_t *p, const uint8_t *q, const uint8_t *fifth, int i)
{
    const int k = i / 32, j = i % 32;
    const uint8_t *s = p + 4, byte = q[k / 2 * 32 + j];
    int v = k % 2 ? byte >> 4 : byte & 15, scale, minimum;

    if (fifth)
        v += 16 * (fifth[j] >> k & 1);
    if (k < 4) {
        scale = s[k] & 63;
        minimum = s[k + 4] & 63;
    } else {
        scale = (s[k + 4] & 15) + 16 * (s[k - 4] >> 6);
        minimum = (s[k + 4] >> 4) + 16 * (s[k] >> 6);
    }
    return half_at(p) * (float)scale * (float)v - half_at(p + 2) * (float)minimum;
}

static float q6_k_at(const uint8_t *p, int i)
{
    const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
    const uint8_t byte = p[64 * half + quarter % 2 * 32 + l];
    const int low = quarter < 2 ? byte & 15 : byte >> 4;
    const int high = p[128 + 32 * half + l] >> 2 * quarter & 3;
    const int scale = (int8_t)p[192 + i / 16];

    return half_at(p + 208) * (float)scale * (float)(low + 16 * high - 32);
}

/* Element i of the block at p. */
static float block_at(enum qtype type, const uint8_t *p, int i)
{
    switch (type) {
    case QT_Q4_0:
        return half_at(p) * (float)(nibble(p + 2, i) - 8);
    case QT_Q4_1:
        return half_at(p) * (float)nibble(p + 4, i) + half_at(p + 2);
    case QT_Q5_0:
        return half_at(p) * (float)(nibble(p + 6, i) + 16 * bit(p + 2, i) - 16);
    case QT_Q5_1:
        return half_at(p) * (float)(nibble(p + 8, i) + 16 * bit(p + 4, i)) + half_at(p + 2);
    case QT_Q8_0:
        return half_at(p) * (float)(int8_t)p[2 + i];
    case QT_Q4_K:
        return k_at(p, p + 16, NULL, i);
    case QT_Q5_K:
        return k_at(p, p + 48, p + 16, i);
    case QT_Q6_K:
        return q6_k_at(p, i);
    default:
        return 0.0f;
    }
}

static float element(const struct qmat *w, int64_t i)
{
    const struct qtype_info *t = &qtypes[w->type];
    const uint8_t *p = w->data;
    float x;

    switch (w->type) {
    case QT_F32:
        memcpy(&x, p + 4 * i, 4); /* a tensor in a file may start at an odd byte */
        return x;
    case QT_F16:
        return half_at(p + 2 * i);
    case QT_BF16:
        return bf16_to_f32((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
    case QT_NF4:
    case QT_FP4:
        return lut4_at(w, i);
    default:
        return block_at(w->type, p + i / t->block * t->block_bytes, (int)(i % t->block));
    }
}

void qmat_decode_ref(const struct qmat *w, int64_t first, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = element(w, first + i);
}
