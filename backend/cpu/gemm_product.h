/* backend/cpu/gemm_product.h - inside backend/cpu: one product C (m, n) (+)= alpha A (m, k) B (k,
 * n) as all three of gemm.h become it, and the copies of A and B that the tiles read. */
#ifndef BACKEND_CPU_GEMM_PRODUCT_H
#define BACKEND_CPU_GEMM_PRODUCT_H

#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_kernel.h"

enum {
    GEMM_KC = 320, /* longest k-block: a tile's rows of A and half a panel of B fit 48 KiB */
    GEMM_KALIGN =
        64, /* k-blocks start at multiples of it, or of W's own blocks if those are longer */
    GEMM_COLS = 256,   /* columns of W decoded at a time where k runs over its rows */
    GEMM_MC = 64,      /* rows of A in one task where panels are shared */
    GEMM_NARROW = 256, /* rows up to which they need not be */
};

enum gemm_source {
    GEMM_B_WT,  /* B(k, j) = W(j, k) */
    GEMM_B_W,   /* B(k, j) = W(k, j) */
    GEMM_B_MAT, /* B(k, j) = b[k * ld + j] */
};

struct gemm_product {
    enum gemm_type type;
    int64_t m, n, k;
    struct gemm_mat a;
    bool a_kmajor; /* A(i, k) = a[k * ld + i], else a[i * ld + k] */
    enum gemm_source source;
    const struct qmat *w; /* GEMM_B_WT, GEMM_B_W */
    struct gemm_mat b;    /* GEMM_B_MAT */
    float *c;
    int64_t ldc;
    bool c_transposed; /* C(i, j) = c[j * ldc + i] */
    float alpha;
    bool add;
    const struct gemm_kernel *kern;
    int64_t kc; /* length of a k-block */
};

/* Rows [i0, i0 + rows) of A in one k-block, as they are or copied. */
struct gemm_rows {
    const float *p;
    int64_t rs, cs;
    int64_t tile_step; /* floats from one row to the next where tiles start */
    bool by_tile;      /* cs is the tile's number of rows */
};

/* Floats of the buffers that the functions below need. */
enum {
    GEMM_A_FLOATS = GEMM_NARROW * (GEMM_KC + 32),
    GEMM_TMP_STRIDE = GEMM_KC + 16, /* the rows start in different cache sets */
    GEMM_TMP_FLOATS = GEMM_NR_MAX * GEMM_TMP_STRIDE,
};

/* rows <= GEMM_NARROW, kc <= GEMM_KC; `buf` GEMM_A_FLOATS, used when A cannot be read in place:
 * bf16, to be rounded, or with a row stride that maps all rows of a tile to one cache set. */
struct gemm_rows gemm_rows(const struct gemm_product *p, int64_t i0, int64_t rows, int64_t k0,
                           int64_t kc, float *buf);

/* Tile t of `tiles` equal shares of `rows`: its first row. */
static inline int64_t gemm_tile_start(int64_t rows, int64_t tiles, int64_t t)
{
    return rows * t / tiles;
}

/* B's columns [j0, j0 + cols), k in [k0, k0 + kc), as panels of nr columns, `panel` floats apart:
 * dst[(j / nr) * panel + k * nr + j % nr], zero beyond `cols`. W's blocks are decoded here: k0 (and
 * for GEMM_B_W j0) starts a block, and what is not the end of a row ends one.
 * tmp: GEMM_TMP_FLOATS. */
void gemm_pack_b(const struct gemm_product *p, int64_t k0, int64_t kc, int64_t j0, int64_t cols,
                 float *dst, int64_t panel, float *tmp);

/* B(k0, j0) when the tiles can read `cols` columns from there in place, else NULL. */
const float *gemm_direct_b(const struct gemm_product *p, int64_t k0, int64_t j0, int64_t cols,
                           int64_t *ldb);

#endif
