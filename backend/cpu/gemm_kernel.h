/* backend/cpu/gemm_kernel.h - inside backend/cpu: what differs from one instruction set to the
 * next.
 *
 * A tile of C is rows x cols sums over one k-block, each a single chain of multiply-adds in
 * ascending k that starts at 0, whatever the tile's size and place: that is what makes a result
 * independent of its neighbours. Multiply-adds are fused in the AVX kernels and rounded twice in
 * the portable one, so bits are equal within one kernel, not between kernels. */
#ifndef BACKEND_CPU_GEMM_KERNEL_H
#define BACKEND_CPU_GEMM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/simd.h"

enum { GEMM_NR_MAX = 32 }; /* columns of the widest tile */

/* C(i, j) = [add] C(i, j) + alpha * sum_k A(i, k) B(k, j) */
struct gemm_tile {
    int64_t kc;
    const float *a; /* A(i, k) = a[i * rs + k * cs] */
    int64_t rs, cs;
    const float *b; /* B(k, j) = b[k * ldb + j]; readable to the next full vector of columns */
    int64_t ldb;
    float *c;
    int64_t ldc;
    int rows, cols; /* 1 .. mr, 1 .. nr */
    float alpha;
    bool add;
};

struct gemm_kernel {
    const char *name;
    int mr, nr; /* the largest tile; nr divides GEMM_NR_MAX */
    int vec;    /* columns per register: B is read in multiples of it */
    void (*tile)(const struct gemm_tile *t);
    /* dst[k * nr + r] = src[r * ld + k] for r < rows, 0 for the other r < nr; rows <= nr */
    void (*transpose)(const float *src, int64_t ld, int rows, int64_t kc, float *dst);
};

/* The one for this machine, within simd_limit(). */
const struct gemm_kernel *gemm_kernel(void);

extern const struct gemm_kernel gemm_portable;
#if SIMD_X86
extern const struct gemm_kernel gemm_avx2, gemm_avx512;
#endif

/* dst[k * nr + r] for r in [r0, nr) and k in [k0, kc), plainly: what the transposes end with. */
static inline void gemm_transpose_rest(const float *src, int64_t ld, int rows, int r0, int nr,
                                       int64_t k0, int64_t kc, float *dst)
{
    for (int64_t k = k0; k < kc; k++)
        for (int r = r0; r < nr; r++)
            dst[k * nr + r] = r < rows ? src[r * ld + k] : 0;
}

#endif
