/* backend/cpu/kernels.h - the kernels behind backend_cpu(); what each does: backend/backend.h. */
#ifndef BACKEND_CPU_KERNELS_H
#define BACKEND_CPU_KERNELS_H

#include "backend/backend.h"

void bias_acc_cpu(int64_t n, int64_t C, const float *p, float scale, const float *b, struct act acc,
                  struct act y);
size_t column_sum_scratch_cpu(int64_t n, int64_t C);
void column_sum_cpu(int64_t n, int64_t C, float scale, const float *dy, float *db, void *scratch);

size_t sparse_scratch_cpu(int64_t in, int64_t out, int lanes);
void sparse_xst_cpu(int64_t n, const struct csr *s, const float *v, struct act x, struct act acc,
                    struct act y, int lanes, void *scratch);
void sparse_xs_cpu(int64_t n, const struct csr *s, const float *v, const float *dy, float *dx,
                   int lanes, void *scratch);
void sparse_sample_cpu(int64_t n, const struct csr *s, const float *dy, struct act x, float *dv,
                       void *scratch);
void add_square_cpu(int64_t n, const float *x, float *y);

void embed_cpu(int64_t n, const int32_t *id, const struct qmat *table, const float *virtual_rows,
               int64_t P, float scale, struct act y);
void embed_backward_cpu(int64_t n, int64_t C, const int32_t *id, int64_t V, int64_t P, float scale,
                        const float *dy, float *dtable, float *dvirtual);

void place_rows_cpu(int64_t n, int64_t C, const int32_t *place, const float *rows, float scale,
                    struct act y);
void place_rows_backward_cpu(int64_t n, int64_t C, const int32_t *place, float scale, float *dy,
                             float *dx, float *drows);
void place_columns_cpu(int64_t n, int64_t V, int64_t P, const int32_t *id, struct act columns,
                       struct act y);
void place_columns_backward_cpu(int64_t n, int64_t V, int64_t P, const int32_t *id,
                                const int32_t *place, float *dy, float *dx, float *dcolumns);

size_t norm_scratch_cpu(int64_t n, int64_t C);
void rmsnorm_cpu(int64_t n, int64_t C, struct act x, const float *w, float eps, bool plus_one,
                 struct act y, float *r);
void rmsnorm_backward_cpu(int64_t n, int64_t C, struct act x, const float *w, bool plus_one,
                          const float *r, const float *dy, float *dx, float *dw, void *scratch);
void layernorm_cpu(int64_t n, int64_t C, struct act x, const float *w, const float *b, float eps,
                   struct act y, float *stat);
void layernorm_backward_cpu(int64_t n, int64_t C, struct act x, const float *w, const float *stat,
                            const float *dy, float *dx, float *dw, float *db, void *scratch);

void rope_angles_cpu(int64_t n, int64_t half, const int32_t *pos, const float *inv_freq,
                     float scale, float *out);
void rope_cpu(int64_t n, int64_t H, int64_t D, int64_t half, struct act x, const float *angles,
              struct act y);
void rope_backward_cpu(int64_t n, int64_t H, int64_t D, int64_t half, const float *dy,
                       const float *angles, float *dx);

void kv_append_cpu(int64_t n, int64_t C, struct act x, int64_t first_row, float *rows);
size_t attention_scratch_cpu(const struct attention_shape *shape, int64_t n, int64_t segments,
                             bool backward, int lanes);
void attention_cpu(const struct attention_call *call);
void attention_backward_cpu(const struct attention_call *call);

void lstm_cpu(int64_t T, int64_t H, bool reverse, const float *z, const float *w, const float *b,
              float *h, float *gates, float *cell);
size_t lstm_scratch_cpu(int64_t T, int64_t H);
void lstm_backward_cpu(int64_t T, int64_t H, bool reverse, const float *w, const float *h,
                       const float *gates, const float *cell, const float *dh, float *dz, float *dw,
                       float *db, void *scratch);

void activation_cpu(int64_t n, enum activation kind, struct act x, struct act y);
void activation_backward_cpu(int64_t n, enum activation kind, struct act x, const float *dy,
                             float *dx);
void gate_cpu(int64_t n, enum activation kind, struct act a, struct act b, struct act y);
void gate_backward_cpu(int64_t n, enum activation kind, struct act a, struct act b, const float *dy,
                       float *da, float *db);
void add_cpu(int64_t n, struct act a, float scale, struct act b, struct act y);
void scale_cpu(int64_t n, float scale, struct act x, struct act y);
void axpy_cpu(int64_t n, float scale, const float *x, float *y);
void dropout_cpu(int64_t n, float p, struct rng_key key, struct act x, struct act y);
void dropout_backward_cpu(int64_t n, float p, struct rng_key key, const float *dy, float *dx);

void column_scale_cpu(int64_t n, int64_t C, struct act x, const float *c, const float *b,
                      struct act y);
size_t column_scale_scratch_cpu(int64_t n, int64_t C);
void column_scale_backward_cpu(int64_t n, int64_t C, struct act x, const float *c, const float *b,
                               const float *dy, float *dx, float *dc, float *db, void *scratch);
void pick_columns_cpu(int64_t n, int64_t R, int64_t V, const int32_t *id, const float *a,
                      struct act y);
void pick_columns_backward_cpu(int64_t n, int64_t R, int64_t V, const int32_t *id, const float *dy,
                               float *da);
size_t row_norms_scratch_cpu(int64_t R, int64_t in, int64_t out);
void row_norms_cpu(int64_t R, float s, const float *a, const struct qmat *w, bool columns,
                   const float *b, const float *square, float *norm, void *scratch);

void copy_columns_cpu(int64_t n, int64_t C, struct act x, int64_t ldx, int64_t xc, struct act y,
                      int64_t ldy, int64_t yc);
void add_columns_cpu(int64_t n, int64_t C, const float *x, int64_t ldx, int64_t xc, float *y,
                     int64_t ldy, int64_t yc);
void gather_rows_cpu(int64_t n, int64_t C, const int64_t *index, struct act x, struct act y);
void scatter_add_rows_cpu(int64_t n, int64_t C, const int64_t *index, float scale, const float *x,
                          float *y);

void softmax_nll_cpu(int64_t n, int64_t V, struct act z, const float *b, float softcap,
                     const int32_t *target, float *nll, float *lse, float *d);
void softmax_nll_backward_cpu(int64_t n, int64_t V, struct act z, float softcap,
                              const int32_t *target, const float *lse, float seed, float *dz);

#endif
