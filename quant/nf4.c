/* 4-bit codes by bitsandbytes' CUDA rule      Dettmers et al. 2023, appendix E (nf4)
 *
 * absmax[b] = max |x| over block b;  code i = the table entry nearest to x[i] * (1 / absmax), where
 * a value exactly between two entries takes the lower one. A block of zeros has 1/0 = inf and 0 *
 * inf = NaN, for which every comparison is false: code 0, and absmax 0. */
#include <math.h>
#include <string.h>

#include "quant/lut4.h"
#include "quant/quant.h"
#include "quant/simd.h"

const float nf4_lut[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/* sign, then three bits that count no order: 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4 */
const float fp4_lut[16] = {
    0.0f,
    0.0052083334885537624f,
    0.6666666865348816f,
    1.0f,
    0.3333333432674408f,
    0.5f,
    0.1666666716337204f,
    0.25f,
    0.0f,
    -0.0052083334885537624f,
    -0.6666666865348816f,
    -1.0f,
    -0.3333333432674408f,
    -0.5f,
    -0.1666666716337204f,
    -0.25f,
};

enum { NF4_ZERO = 7, FP4_ZERO = 0, PIECE = 32 /* every block size is a multiple */ };

/* Above threshold k the code is at least k + 1: the float32 midpoints of neighbouring entries,
 * -0.848, -0.611, ... 0.861. They are in hex because four of them lie so near the middle of two
 * floats that their 16 decimal digits, read straight into a float, give the other one. (CUDA's
 * kernel has those: a value that is midpoint 0, 8, 12 or 14 to the last bit may differ there. On a
 * CPU bitsandbytes computes the midpoints, as here.) */
static const float nf4_thresholds[15] = { -0x1.b239bp-1f,  -0x1.38a4ep-1f,  -0x1.d709p-2f,
                                          -0x1.5bd4ecp-2f, -0x1.e079d8p-3f, -0x1.1a7178p-3f,
                                          -0x1.74f0e2p-5f, 0x1.45f5fep-5f,  0x1.ec90c4p-4f,
                                          0x1.a0cfcp-3f,   0x1.2b05a8p-2f,  0x1.8ea7f2p-2f,
                                          0x1.00da08p-1f,  0x1.491b5ep-1f,  0x1.b913b4p-1f };
/* The same for |x|: the number of thresholds below it goes through fp4_by_rank. */
static const float fp4_thresholds[7] = { 0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f,
                                         0.4166667f,  0.583333f,  0.8333333f };
static const uint8_t fp4_by_rank[8] = { 0, 1, 6, 7, 4, 5, 2, 3 };

static unsigned nf4_code_of(float v)
{
    unsigned code = 0;

    while (code < 15 && v > nf4_thresholds[code])
        code++;
    return code;
}

static unsigned fp4_code_of(float v)
{
    unsigned rank = 0;

    while (rank < 7 && fabsf(v) > fp4_thresholds[rank])
        rank++;
    return fp4_by_rank[rank] | (v < 0 ? 8u : 0u);
}

typedef unsigned code_fn(float v);

static void quantize_ref(const float *x, int64_t n, int block, uint8_t *codes, float *absmax,
                         code_fn *code_of, unsigned zero)
{
    for (int64_t first = 0; first < n; first += block) {
        const int64_t end = n - first < block ? n : first + block;
        float most = 0, inv;

        for (int64_t i = first; i < end; i++)
            most = fmaxf(most, fabsf(x[i]));
        absmax[first / block] = most;
        inv = 1.0f / most;
        for (int64_t i = first; i < end; i++) {
            const unsigned code = code_of(x[i] * inv);

            if (i & 1)
                codes[i / 2] = (uint8_t)((codes[i / 2] & 0xf0) | code);
            else
                codes[i / 2] = (uint8_t)(code << 4 | zero);
        }
    }
}

void nf4_quantize_ref(const float *x, int64_t n, int block, uint8_t *codes, float *absmax)
{
    quantize_ref(x, n, block, codes, absmax, nf4_code_of, NF4_ZERO);
}

void fp4_quantize_ref(const float *x, int64_t n, int block, uint8_t *codes, float *absmax)
{
    quantize_ref(x, n, block, codes, absmax, fp4_code_of, FP4_ZERO);
}

/* max |x|, through the bits: without the sign they are ordered like the numbers, and a NaN or Inf
 * comes out on top, where fmax would hide it. */
SIMD_INLINE float block_absmax(const float *x, int64_t n)
{
    uint32_t most = 0;
    float m;

#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;

        memcpy(&u, x + i, 4);
        u &= 0x7fffffff;
        most = u > most ? u : most;
    }
    memcpy(&m, &most, 4);
    return m;
}

SIMD_INLINE void pack_piece(const int32_t *code, uint8_t *codes)
{
#pragma omp simd
    for (int j = 0; j < PIECE / 2; j++)
        codes[j] = (uint8_t)(code[2 * j] << 4 | code[2 * j + 1]);
}

SIMD_INLINE void nf4_piece(const float *x, float inv, uint8_t *codes)
{
    int32_t code[PIECE];

#pragma omp simd
    for (int j = 0; j < PIECE; j++) {
        const float v = x[j] * inv;
        int32_t c = 0;

        for (int k = 0; k < 15; k++)
            c += v > nf4_thresholds[k];
        code[j] = c;
    }
    pack_piece(code, codes);
}

SIMD_INLINE void fp4_piece(const float *x, float inv, uint8_t *codes)
{
    /* what each threshold passed changes in the code, so that the sum is fp4_by_rank */
    static const int32_t change[7] = { 1, 5, 1, -3, 1, -3, 1 };
    int32_t code[PIECE];

#pragma omp simd
    for (int j = 0; j < PIECE; j++) {
        const float v = x[j] * inv, a = fabsf(v);
        int32_t c = v < 0 ? 8 : 0;

        for (int k = 0; k < 7; k++)
            c += a > fp4_thresholds[k] ? change[k] : 0;
        code[j] = c;
    }
    pack_piece(code, codes);
}

typedef void piece_fn(const float *x, float inv, uint8_t *codes);

/* Whole pieces; what is left of the last block goes to the reference. */
SIMD_INLINE void quantize_body(const float *x, int64_t n, int block, uint8_t *codes, float *absmax,
                               piece_fn *piece, code_fn *code_of, unsigned zero)
{
    for (int64_t first = 0; first < n; first += block) {
        const int64_t size = n - first < block ? n - first : block;
        const float most = block_absmax(x + first, size), inv = 1.0f / most;
        int64_t i = 0;

        absmax[first / block] = most;
        for (; i + PIECE <= size; i += PIECE)
            piece(x + first + i, inv, codes + (first + i) / 2);
        for (; i < size; i += 2) {
            const unsigned a = code_of(x[first + i] * inv);
            const unsigned b = i + 1 < size ? code_of(x[first + i + 1] * inv) : zero;

            codes[(first + i) / 2] = (uint8_t)(a << 4 | b);
        }
    }
}

SIMD_INLINE void nf4_body(const float *x, int64_t n, int block, uint8_t *codes, float *absmax)
{
    quantize_body(x, n, block, codes, absmax, nf4_piece, nf4_code_of, NF4_ZERO);
}

SIMD_INLINE void fp4_body(const float *x, int64_t n, int block, uint8_t *codes, float *absmax)
{
    quantize_body(x, n, block, codes, absmax, fp4_piece, fp4_code_of, FP4_ZERO);
}

SIMD_FUNCTION(, nf4_quantize, nf4_body,
              (const float *x, int64_t n, int block, uint8_t *codes, float *absmax),
              (x, n, block, codes, absmax))
SIMD_FUNCTION(, fp4_quantize, fp4_body,
              (const float *x, int64_t n, int block, uint8_t *codes, float *absmax),
              (x, n, block, codes, absmax))
