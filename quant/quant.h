/* quant/quant.h - number formats of weights, one row each, and a matrix in any of them.
 *
 * Three families: plain floats (f32, f16, bf16), 4-bit codes with an absmax per block of the
 * flattened matrix (nf4, fp4: bitsandbytes' layout), and GGUF blocks along the input dimension with
 * their scales inside. The remaining rows are types that files may hold and weights may not. */
#ifndef QUANT_QUANT_H
#define QUANT_QUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"
#include "core/status.h"

enum qtype {
    QT_F32,
    QT_F16,
    QT_BF16,
    QT_NF4,
    QT_FP4,
    QT_Q4_0,
    QT_Q4_1,
    QT_Q5_0,
    QT_Q5_1,
    QT_Q8_0,
    QT_Q4_K,
    QT_Q5_K,
    QT_Q6_K,
    /* no weights: sizes only */
    QT_F64,
    QT_I64,
    QT_I32,
    QT_I16,
    QT_I8,
    QT_U64,
    QT_U32,
    QT_U16,
    QT_U8,
    QT_BOOL,
    QT_F8_E4M3,
    QT_F8_E5M2,
    QT_COUNT
};

struct qtype_info {
    const char *name; /* "nf4", "q4_1": as in configs and messages */
    int block;        /* elements that share one block; 1 for plain types */
    int block_bytes;  /* bytes of such a block (nf4, fp4: 0, the packing is in struct qmat) */
    bool is_float;    /* counts as a float base: f32, f16, bf16 */
    /* n elements, a multiple of `block`; NULL: nf4 and fp4 (their absmax is outside), non-weights
     */
    void (*decode)(float *out, const void *in, int64_t n);
    /* (optional) round to nearest even; NULL: this format is only read */
    void (*encode)(void *out, const float *in, int64_t n);
};
extern const struct qtype_info qtypes[QT_COUNT];

/* Row by name; QT_COUNT when there is none. */
enum qtype qtype_by_name(const char *name);

/* A weight matrix W (rows = out features O, cols = in features I), row-major, in one number format.
 * A view: the bytes live in a mapped file or an arena. Vectors have rows = 1. */
struct qmat {
    enum qtype type;
    int64_t rows, cols;
    const void *data; /* floats, codes (two a byte, first element in the high nibble) or blocks */
    /* nf4 and fp4 only: element i of the flattened matrix is lut[code i] * absmax(i / block) */
    int block;           /* elements per absmax, a power of two, 32 .. 4096 */
    const float *lut;    /* 16 */
    const float *absmax; /* ceil(rows*cols / block); NULL when double-quantised */
    /* double quantisation: absmax(b) = map8[absmax8[b]] * absmax2[b / block2] + offset */
    int block2; /* 256 */
    const uint8_t *absmax8;
    const float *absmax2;
    const float *map8; /* 256 */
    float offset;
};

/* How to quantise: the config's `quant`. */
struct quant_spec {
    enum qtype type; /* QT_NF4 or QT_FP4 */
    int block;       /* 64 */
    bool nested;     /* double quantisation of absmax, block 256 */
};

int64_t qmat_elems(const struct qmat *w);
/* Bytes of codes, scales and all tables that belong to `w` alone (the luts are shared). */
size_t qmat_bytes(const struct qmat *w);
/* Bytes of `data` alone. */
size_t qmat_data_bytes(const struct qmat *w);

/* Elements [first, first + n) of the flattened matrix as f32. For GGUF formats `first` and n are
 * multiples of the format's block, nf4/fp4 take any range. Vectorised, one thread. */
void qmat_decode(const struct qmat *w, int64_t first, int64_t n, float *out);
/* The same, plainly written: the reference of the tests. */
void qmat_decode_ref(const struct qmat *w, int64_t first, int64_t n, float *out);

/* Quantise `src` (any format; decoded piece by piece) as `spec` says; memory from `mem`. Threaded.
 * ENOMEM, or ERUN when a value is not finite (message: element index; callers add the tensor). */
enum graft_status qmat_quantize(const struct qmat *src, const struct quant_spec *spec,
                                struct arena *mem, struct qmat *out, struct graft_err *err);
/* Decode to a float format (QT_F32, QT_BF16, QT_F16). Threaded. */
enum graft_status qmat_to_float(const struct qmat *src, enum qtype type, struct arena *mem,
                                struct qmat *out, struct graft_err *err);

/* Tables of bitsandbytes (formats: Dettmers et al. 2021, 2023). Static storage. */
extern const float nf4_lut[16], fp4_lut[16];
const float *dynamic_map_signed(void); /* 256, ascending */
const float *dynamic_map_unsigned(void);

/* The pieces, over raw pointers; each has a plain *_ref twin in the same file for the tests.
 * x: n   codes: (n + 1) / 2 bytes   absmax: ceil(n / block) */
void nf4_quantize(const float *x, int64_t n, int block, uint8_t *codes, float *absmax);
void fp4_quantize(const float *x, int64_t n, int block, uint8_t *codes, float *absmax);
/* absmax: nb   out: absmax8 nb, absmax2 ceil(nb / 256), offset = mean of absmax, in double */
void absmax_quantize(const float *absmax, int64_t nb, uint8_t *absmax8, float *absmax2,
                     float *offset);
/* The same with the offset given: what bitsandbytes' own files are compared by. */
void absmax_quantize_at(const float *absmax, int64_t nb, float offset, uint8_t *absmax8,
                        float *absmax2);
void nf4_quantize_ref(const float *x, int64_t n, int block, uint8_t *codes, float *absmax);
void fp4_quantize_ref(const float *x, int64_t n, int block, uint8_t *codes, float *absmax);
void absmax_quantize_at_ref(const float *absmax, int64_t nb, float offset, uint8_t *absmax8,
                            float *absmax2);

#endif
