/* backend/cpu/gemm.h - the three products of a linear layer, with a weight in any number format.
 *
 *     y  (n, O) (+)= alpha * x (n, I) W^T        gemm_xwt
 *     dx (n, I) (+)= alpha * dy (n, O) W         gemm_xw
 *     dw (O, I) (+)= alpha * dy^T (O, n) x       gemm_tn
 *
 * W (O, I) is a struct qmat: its blocks are decoded straight into the packed panel that the
 * micro-kernel reads, once per panel, never as a whole matrix. The sum over the inner dimension
 * runs in one fixed order that does not depend on n, on the thread count or on how rows are
 * grouped, so a row's result is the same alone and in any batch, bit for bit. `beta` is 0
 * (overwrite) or 1 (add).
 *
 * Compute type: GEMM_F32, or GEMM_BF16: both operands are rounded to bf16 once (nearest even) and
 * products are summed in f32.
 *
 * Memory: `scratch` is the caller's, gemm_scratch() bytes, aligned to 64; nothing is allocated. The
 * size holds for the thread count of its call (omp_get_max_threads()) and any below.
 * Threads: OpenMP, all of them; not to be called from inside a parallel region. */
#ifndef BACKEND_CPU_GEMM_H
#define BACKEND_CPU_GEMM_H

#include <stddef.h>
#include <stdint.h>

#include "quant/quant.h"

enum gemm_type { GEMM_F32, GEMM_BF16 };

/* An activation matrix: rows of `cols` values, f32 or bf16 bits; row stride `ld` in elements. */
struct gemm_mat {
    const void *data;
    int64_t ld;
    int is_bf16;
};

/* Bytes that suffice for any of the three with these sizes. */
size_t gemm_scratch(int64_t n, int64_t in, int64_t out);

void gemm_xwt(enum gemm_type type, int64_t n, float alpha, struct gemm_mat x, const struct qmat *w,
              float beta, float *y, int64_t ldy, void *scratch);
void gemm_xw(enum gemm_type type, int64_t n, float alpha, struct gemm_mat dy, const struct qmat *w,
             float beta, float *dx, int64_t lddx, void *scratch);
void gemm_tn(enum gemm_type type, int64_t n, int64_t out, int64_t in, float alpha,
             struct gemm_mat dy, struct gemm_mat x, float beta, float *dw, int64_t lddw,
             void *scratch);

/* The micro-kernel this machine runs: "avx512", "avx2", "portable". */
const char *gemm_kernel_name(void);

#endif
