/* Copies of A and B in the order in which the tiles read them, as f32, rounded where asked. */
#include "backend/cpu/gemm_product.h"

#include <string.h>

#include "quant/half.h"

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

SIMD_INLINE void widen_body(float *dst, const uint16_t *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = bf16_to_f32(src[i]);
}
SIMD_FUNCTION(static, widen, widen_body, (float *dst, const uint16_t *src, int64_t n),
              (dst, src, n))

/* To the nearest bf16, as bf16_from_f32 but without a branch. dst may be src. */
SIMD_INLINE void round_body(float *dst, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u, nan;

        memcpy(&u, src + i, 4);
        nan = (u & 0x7fffffff) > 0x7f800000;
        u = nan ? u | 0x400000 : u + 0x7fff + (u >> 16 & 1);
        u &= 0xffff0000;
        memcpy(dst + i, &u, 4);
    }
}
SIMD_FUNCTION(static, round_bf16, round_body, (float *dst, const float *src, int64_t n),
              (dst, src, n))

/* n values from element `at` of an activation matrix, as the product uses them. */
static void fetch(enum gemm_type type, const struct gemm_mat *x, int64_t at, int64_t n, float *dst)
{
    if (x->is_bf16)
        widen(dst, (const uint16_t *)x->data + at, n);
    else if (type == GEMM_BF16)
        round_bf16(dst, (const float *)x->data + at, n);
    else
        memcpy(dst, (const float *)x->data + at, (size_t)n * sizeof *dst);
}

static bool in_place(enum gemm_type type, const struct gemm_mat *x)
{
    return !x->is_bf16 && type == GEMM_F32;
}

/* (rows, kc) with a stride that spreads the rows over the cache's sets. */
static struct gemm_rows copy_rows(const struct gemm_product *p, int64_t i0, int64_t rows,
                                  int64_t k0, int64_t kc, float *buf)
{
    const int64_t rs = (kc + 15) / 16 * 16 + 16;

    for (int64_t i = 0; i < rows; i++)
        fetch(p->type, &p->a, (i0 + i) * p->a.ld + k0, kc, buf + i * rs);
    return (struct gemm_rows){ buf, rs, 1, rs, false };
}

/* memcpy for the dozen floats of a tile's column, without the call. */
static inline void copy_few(float *dst, const float *src, int64_t n)
{
    for (; n >= 8; n -= 8, dst += 8, src += 8)
        memcpy(dst, src, 8 * sizeof *dst);
    if (n >= 4) {
        memcpy(dst, src, 4 * sizeof *dst);
        n -= 4, dst += 4, src += 4;
    }
    for (; n > 0; n--)
        *dst++ = *src++; /* NOLINT(clang-analyzer-core.uninitialized.Assign): src has n values */
}

/* Rows far apart: the processor's own prefetchers do not follow. */
static inline void fetch_ahead(const float *p, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16)
        __builtin_prefetch(p + i);
}

/* From k-major A: tile by tile, so that a tile's values of one k stand side by side. */
static struct gemm_rows copy_columns(const struct gemm_product *p, int64_t i0, int64_t rows,
                                     int64_t k0, int64_t kc, float *buf)
{
    const int64_t tiles = (rows + p->kern->mr - 1) / p->kern->mr;
    const bool direct = in_place(p->type, &p->a);
    enum { AHEAD = 16 };
    float line[GEMM_NARROW];

    for (int64_t k = 0; k < kc; k++) {
        const int64_t at = (k0 + k) * p->a.ld + i0;
        const float *src = line;

        if (direct) {
            src = (const float *)p->a.data + at;
            fetch_ahead(src + AHEAD * p->a.ld, rows);
        } else {
            fetch(p->type, &p->a, at, rows, line);
        }
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t i = gemm_tile_start(rows, tiles, t);
            const int64_t tr = gemm_tile_start(rows, tiles, t + 1) - i;
            float *dst = buf + i * kc + k * tr;

            copy_few(dst, src + i, tr);
        }
    }
    return (struct gemm_rows){ buf, 1, 0, kc, true };
}

struct gemm_rows gemm_rows(const struct gemm_product *p, int64_t i0, int64_t rows, int64_t k0,
                           int64_t kc, float *buf)
{
    enum { SET_STRIDE = 1024, NARROW = 128 }; /* floats: 4 KiB apart share a set of the L1 cache */
    const float *a = p->a.data;
    const int64_t ld = p->a.ld;

    if (p->a_kmajor) {
        if (in_place(p->type, &p->a) && ld <= NARROW)
            return (struct gemm_rows){ a + k0 * ld + i0, 1, ld, 1, false };
        return copy_columns(p, i0, rows, k0, kc, buf);
    }
    if (in_place(p->type, &p->a) && (ld % SET_STRIDE || rows == 1))
        return (struct gemm_rows){ a + i0 * ld + k0, ld, 1, ld, false };
    return copy_rows(p, i0, rows, k0, kc, buf);
}

static bool plain_f32(const struct gemm_product *p)
{
    return p->w->type == QT_F32 && p->type == GEMM_F32;
}

/* One panel of W^T: rows of W side by side. */
static void pack_panel_wt(const struct gemm_product *p, int64_t k0, int64_t kc, int64_t j0,
                          int rows, float *dst, float *tmp)
{
    const struct qmat *w = p->w;

    if (plain_f32(p)) {
        p->kern->transpose((const float *)w->data + j0 * w->cols + k0, w->cols, rows, kc, dst);
        return;
    }
    for (int r = 0; r < rows; r++) {
        float *row = tmp + r * GEMM_TMP_STRIDE;

        qmat_decode(w, (j0 + r) * w->cols + k0, kc, row);
        if (p->type == GEMM_BF16)
            round_bf16(row, row, kc);
    }
    p->kern->transpose(tmp, GEMM_TMP_STRIDE, rows, kc, dst);
}

/* Columns [j0, j0 + cols) of row k of W or of B, in place or in `tmp`; cols <= GEMM_COLS. */
static const float *source_row(const struct gemm_product *p, int64_t k, int64_t j0, int64_t cols,
                               float *tmp)
{
    if (p->source == GEMM_B_MAT) {
        if (in_place(p->type, &p->b))
            return (const float *)p->b.data + k * p->b.ld + j0;
        fetch(p->type, &p->b, k * p->b.ld + j0, cols, tmp);
        return tmp;
    }
    if (plain_f32(p))
        return (const float *)p->w->data + k * p->w->cols + j0;
    qmat_decode(p->w, k * p->w->cols + j0, cols, tmp);
    if (p->type == GEMM_BF16)
        round_bf16(tmp, tmp, cols);
    return tmp;
}

static void pack_rows(const struct gemm_product *p, int64_t k0, int64_t kc, int64_t j0,
                      int64_t cols, float *dst, int64_t panel, float *tmp)
{
    const int64_t nr = p->kern->nr;

    for (int64_t k = 0; k < kc; k++) {
        const float *src = source_row(p, k0 + k, j0, cols, tmp);
        float *out = dst + k * nr;
        int64_t j = 0;

        for (; j + nr <= cols; j += nr, out += panel)
            memcpy(out, src + j, (size_t)nr * sizeof *out);
        if (j < cols) {
            memset(out, 0, (size_t)nr * sizeof *out);
            memcpy(out, src + j, (size_t)(cols - j) * sizeof *out);
        }
    }
}

void gemm_pack_b(const struct gemm_product *p, int64_t k0, int64_t kc, int64_t j0, int64_t cols,
                 float *dst, int64_t panel, float *tmp)
{
    const int64_t nr = p->kern->nr;

    if (p->source == GEMM_B_WT) {
        for (int64_t j = 0; j < cols; j += nr)
            pack_panel_wt(p, k0, kc, j0 + j, (int)min64(nr, cols - j), dst + j / nr * panel, tmp);
        return;
    }
    for (int64_t j = 0; j < cols; j += GEMM_COLS)
        pack_rows(p, k0, kc, j0 + j, min64(cols - j, GEMM_COLS), dst + j / nr * panel, panel, tmp);
}

const float *gemm_direct_b(const struct gemm_product *p, int64_t k0, int64_t j0, int64_t cols,
                           int64_t *ldb)
{
    if (cols % p->kern->vec)
        return NULL;
    if (p->source == GEMM_B_MAT && in_place(p->type, &p->b)) {
        *ldb = p->b.ld;
        return (const float *)p->b.data + k0 * p->b.ld + j0;
    }
    if (p->source == GEMM_B_W && plain_f32(p)) {
        *ldb = p->w->cols;
        return (const float *)p->w->data + k0 * p->w->cols + j0;
    }
    return NULL;
}
