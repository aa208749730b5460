/* backend/backend.h - the kernel table: what a device must be able to do, over raw pointers.
 *
 * `backend_cpu` is complete and the reference; another device copies its table and overrides the
 * rows it has, with the same names, argument order and index letters: n tokens or elements, C
 * width, I/O in/out features, V vocabulary, H heads, K key/value heads, D head size.
 *
 * Forward kernels overwrite, backward kernels add and skip gradients that are NULL. Gradients are
 * f32. Results depend neither on the thread count nor, row by row, on the other rows of the call.
 * `scratch` is the caller's, aligned to 64. */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cpu/gemm.h"
#include "core/rng.h"
#include "quant/quant.h"

enum activation { ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_QUICK_GELU, ACT_RELU, ACT_TANH };

struct attention_shape {
    int64_t heads, kv_heads, head_dim;
    float scale;    /* of q.k, 1/sqrt(D) */
    int64_t window; /* query i sees keys j > i - window; 0: all before it */
    float softcap;  /* cap tanh(score / cap); 0: off */
    int64_t layer;  /* its place in the kv cache */
};

/* Values of an activation: f32, or bf16 bits that kernels widen on reading and round to nearest
 * even on writing. Rows lie without gaps. */
struct act {
    void *data;
    int is_bf16;
};

/* The places of a sparse matrix (rows, cols): row o has values [row_offs[o], row_offs[o + 1]), at
 * the columns col_idx, ascending in a row. */
struct csr {
    int64_t rows, cols;
    const int32_t *row_offs; /* rows + 1 */
    const int32_t *col_idx;  /* row_offs[rows] */
};

/* One attention over a flat row of segments. With a cache, segment s owns sequence slot[s], whose
 * first past[s] keys and values are there already: its own k and v (N, K*D) must have been appended
 * (kv_append), and are then read from the cache. */
struct attention_call {
    struct attention_shape shape;
    int64_t segments;
    const int64_t *start; /* segments + 1 */
    struct act q, k, v;   /* (N, H*D), (N, K*D), (N, K*D) */
    struct act out;       /* (N, H*D) */
    float *lse;           /* (N, H): log of the sum of exp(score); written forward, read backward */
    const float *cache_k, *cache_v; /* (slots, capacity, K*D) of this layer, or NULL */
    int64_t capacity;
    const int64_t *slot, *past; /* segments */
    /* P keys and values (P, K*D) at positions 0 .. P - 1 of every segment, whose own keys follow
     * at P; 0: none */
    int64_t prefix;
    struct act prefix_k, prefix_v;
    /* backward; each gradient may be NULL */
    const float *dout; /* (N, H*D) */
    float *dq, *dk, *dv;
    float *dprefix_k, *dprefix_v; /* (P, K*D) */
    int lanes;                    /* threads that scratch was sized for */
    void *scratch;
};

struct backend {
    const char *name;

    /* The three products of a linear layer: see backend/cpu/gemm.h. */
    size_t (*product_scratch)(int64_t n, int64_t in, int64_t out);
    void (*xwt)(enum gemm_type type, int64_t n, float alpha, struct gemm_mat x,
                const struct qmat *w, float beta, float *y, int64_t ldy, void *scratch);
    void (*xw)(enum gemm_type type, int64_t n, float alpha, struct gemm_mat dy,
               const struct qmat *w, float beta, float *dx, int64_t lddx, void *scratch);
    void (*tn)(enum gemm_type type, int64_t n, int64_t out, int64_t in, float alpha,
               struct gemm_mat dy, struct gemm_mat x, float beta, float *dw, int64_t lddw,
               void *scratch);
    /* y (n, C) = p (n, C) + scale * b (C) + acc (n, C); b may be NULL, acc.data too; y may be acc
     * and, when f32, p */
    void (*bias_acc)(int64_t n, int64_t C, const float *p, float scale, const float *b,
                     struct act acc, struct act y);
    /* db (C) += scale * sum_n dy (n, C) */
    size_t (*column_sum_scratch)(int64_t n, int64_t C);
    void (*column_sum)(int64_t n, int64_t C, float scale, const float *dy, float *db,
                       void *scratch);

    /* S (O, I) with values v at the places s: y (n, O) = acc + x S^T, y may be acc; dx (n, I) += dy
     * S; dv[k] += sum_n dy[n][row k] x[n][column k]. Working memory for `lanes` threads; neither n
     * nor the threads decide about the order of a sum. */
    size_t (*sparse_scratch)(int64_t in, int64_t out, int lanes);
    void (*sparse_xst)(int64_t n, const struct csr *s, const float *v, struct act x, struct act acc,
                       struct act y, int lanes, void *scratch);
    void (*sparse_xs)(int64_t n, const struct csr *s, const float *v, const float *dy, float *dx,
                      int lanes, void *scratch);
    void (*sparse_sample)(int64_t n, const struct csr *s, const float *dy, struct act x, float *dv,
                          void *scratch);

    /* y (n, C) = scale * table[id]; id -1 - i: row i of virtual_rows (P, C), unscaled. An id
     * without a row gives zeros. */
    void (*embed)(int64_t n, const int32_t *id, const struct qmat *table, const float *virtual_rows,
                  int64_t P, float scale, struct act y);
    void (*embed_backward)(int64_t n, int64_t C, const int32_t *id, int64_t V, int64_t P,
                           float scale, const float *dy, float *dtable, float *dvirtual);

    /* Row t of y (n, C) = scale * row place[t] of rows; place -1: it stays. dx may be dy itself:
     * what was placed is cleared there. */
    void (*place_rows)(int64_t n, int64_t C, const int32_t *place, const float *rows, float scale,
                       struct act y);
    void (*place_rows_backward)(int64_t n, int64_t C, const int32_t *place, float scale, float *dy,
                                float *dx, float *drows);
    /* Columns id[k] of y (n, V) = columns k of columns (n, P); place (V): k by id, -1 without. */
    void (*place_columns)(int64_t n, int64_t V, int64_t P, const int32_t *id, struct act columns,
                          struct act y);
    void (*place_columns_backward)(int64_t n, int64_t V, int64_t P, const int32_t *id,
                                   const int32_t *place, float *dy, float *dx, float *dcolumns);

    /* Rows of C; r (n) keeps 1/rms. scratch only for dw. */
    void (*rmsnorm)(int64_t n, int64_t C, struct act x, const float *w, float eps, bool plus_one,
                    struct act y, float *r);
    size_t (*norm_scratch)(int64_t n, int64_t C);
    void (*rmsnorm_backward)(int64_t n, int64_t C, struct act x, const float *w, bool plus_one,
                             const float *r, const float *dy, float *dx, float *dw, void *scratch);
    /* stat (n, 2) keeps mean and 1/deviation; b may be NULL */
    void (*layernorm)(int64_t n, int64_t C, struct act x, const float *w, const float *b, float eps,
                      struct act y, float *stat);
    void (*layernorm_backward)(int64_t n, int64_t C, struct act x, const float *w,
                               const float *stat, const float *dy, float *dx, float *dw, float *db,
                               void *scratch);

    /* out (n, 2 * half) = cos | sin of pos * inv_freq, times scale */
    void (*rope_angles)(int64_t n, int64_t half, const int32_t *pos, const float *inv_freq,
                        float scale, float *out);
    void (*rope)(int64_t n, int64_t H, int64_t D, int64_t half, struct act x, const float *angles,
                 struct act y);
    void (*rope_backward)(int64_t n, int64_t H, int64_t D, int64_t half, const float *dy,
                          const float *angles, float *dx);

    /* cache (slots, capacity, C): rows [past, past + n) of one sequence = x (n, C) */
    void (*kv_append)(int64_t n, int64_t C, struct act x, int64_t first_row, float *rows);
    size_t (*attention_scratch)(const struct attention_shape *shape, int64_t n, int64_t segments,
                                bool backward, int lanes);
    void (*attention)(const struct attention_call *call);
    void (*attention_backward)(const struct attention_call *call);

    /* One direction of an LSTM over T rows: z (T, 4H), w (4H, H), b (4H), h (T, H); gates (T, 4H)
     * and cell (T, H) are kept for backward. reverse: from the last row to the first. */
    void (*lstm)(int64_t T, int64_t H, bool reverse, const float *z, const float *w, const float *b,
                 float *h, float *gates, float *cell);
    size_t (*lstm_scratch)(int64_t T, int64_t H);
    void (*lstm_backward)(int64_t T, int64_t H, bool reverse, const float *w, const float *h,
                          const float *gates, const float *cell, const float *dh, float *dz,
                          float *dw, float *db, void *scratch);

    /* Elementwise, n elements. */
    void (*activation)(int64_t n, enum activation kind, struct act x, struct act y);
    void (*activation_backward)(int64_t n, enum activation kind, struct act x, const float *dy,
                                float *dx);
    void (*gate)(int64_t n, enum activation kind, struct act a, struct act b, struct act y);
    /* b is read for da only */
    void (*gate_backward)(int64_t n, enum activation kind, struct act a, struct act b,
                          const float *dy, float *da, float *db);
    void (*add)(int64_t n, struct act a, float scale, struct act b, struct act y);
    void (*scale)(int64_t n, float scale, struct act x, struct act y);
    void (*axpy)(int64_t n, float scale, const float *x, float *y); /* y += scale * x */
    void (*add_square)(int64_t n, const float *x, float *y);        /* y += x * x */
    /* y = x / (1 - p) where rng_uniform(key, i) >= p, else 0 */
    void (*dropout)(int64_t n, float p, struct rng_key key, struct act x, struct act y);
    void (*dropout_backward)(int64_t n, float p, struct rng_key key, const float *dy, float *dx);

    /* y (n, C) = c (C) * (x - b) + b; b (C) may be NULL. Backward: dx += c * dy (dx may be dy
     * itself: dx = c * dy), dc += sum_n dy * (x - b), db += (1 - c) sum_n dy; each may be NULL, x
     * is read for dc only, scratch for dc and db. */
    void (*column_scale)(int64_t n, int64_t C, struct act x, const float *c, const float *b,
                         struct act y);
    size_t (*column_scale_scratch)(int64_t n, int64_t C);
    void (*column_scale_backward)(int64_t n, int64_t C, struct act x, const float *c,
                                  const float *b, const float *dy, float *dx, float *dc, float *db,
                                  void *scratch);
    /* y (n, R) = column id of a (R, V), zeros for an id that has none; da += dy likewise */
    void (*pick_columns)(int64_t n, int64_t R, int64_t V, const int32_t *id, const float *a,
                         struct act y);
    void (*pick_columns_backward)(int64_t n, int64_t R, int64_t V, const int32_t *id,
                                  const float *dy, float *da);
    /* norm (O) = |w_i + s A^T b_i| over the rows w_i of W (O, I), a (R, I), b (O, R), from square
     * (O) = |w_i|^2; neither B A nor W is formed. `columns`: over the columns of W (I, O). */
    size_t (*row_norms_scratch)(int64_t R, int64_t in, int64_t out);
    void (*row_norms)(int64_t R, float s, const float *a, const struct qmat *w, bool columns,
                      const float *b, const float *square, float *norm, void *scratch);

    /* Columns [yc, yc + C) of y (n, ldy) = columns [xc, xc + C) of x (n, ldx) */
    void (*copy_columns)(int64_t n, int64_t C, struct act x, int64_t ldx, int64_t xc, struct act y,
                         int64_t ldy, int64_t yc);
    void (*add_columns)(int64_t n, int64_t C, const float *x, int64_t ldx, int64_t xc, float *y,
                        int64_t ldy, int64_t yc);
    /* Row i of y (n, C) = row index[i] of x, same type */
    void (*gather_rows)(int64_t n, int64_t C, const int64_t *index, struct act x, struct act y);
    /* Row index[i] of y += scale * row i of x (n, C); index without repeats */
    void (*scatter_add_rows)(int64_t n, int64_t C, const int64_t *index, float scale,
                             const float *x, float *y);

    /* Rows of logits z (n, V), bias b (V) or NULL, capped where softcap > 0. nll (n) = lse -
     * z[target], lse (n) may be NULL. With d (n, V), which may be z itself: d = softmax - onehot,
     * through the cap. A target below 0 gives nll 0, lse 0 and a row d of zeros. */
    void (*softmax_nll)(int64_t n, int64_t V, struct act z, const float *b, float softcap,
                        const int32_t *target, float *nll, float *lse, float *d);
    /* dz (n, V) += seed * (softmax - onehot) through the cap, from the kept lse */
    void (*softmax_nll_backward)(int64_t n, int64_t V, struct act z, float softcap,
                                 const int32_t *target, const float *lse, float seed, float *dz);
};

const struct backend *backend_cpu(void);

#endif
