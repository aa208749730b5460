/* Any machine: tiles of up to 6 rows x 8 columns in 4-lane vectors, which the compiler maps to SSE,
 * NEON or whatever the target's baseline has: 12 sums, 2 of B and 1 of A fit 16 registers. */
#include "backend/cpu/gemm_kernel.h"

#include <string.h>

enum { MR = 6, NR = 8, VEC = 4 };

typedef float vec __attribute__((vector_size(16)));

#define EACH_ROW(F) F(0) F(1) F(2) F(3) F(4) F(5)

#define CLEAR(i) vec x##i = { 0 }, y##i = { 0 };
#define STEP(i)                                                                                    \
    if (rows > i) {                                                                                \
        const float s = a[(i)*rs];                                                                 \
        const vec v = { s, s, s, s };                                                              \
        x##i += v * bx;                                                                            \
        if (nv == 2)                                                                               \
            y##i += v * by;                                                                        \
    }
#define KEEP(i)                                                                                    \
    if (rows > i) {                                                                                \
        memcpy(sums[i], &x##i, sizeof x##i);                                                       \
        memcpy(sums[i] + VEC, &y##i, sizeof y##i);                                                 \
    }

SIMD_INLINE vec load(const float *p)
{
    vec v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* rows and nv (registers per row, 1 or 2) are constants in every copy of this function. */
SIMD_INLINE void tile_sized(const struct gemm_tile *t, const int rows, const int nv)
{
    const int64_t rs = t->rs;
    const float *a = t->a, *b = t->b;
    float sums[MR][NR];

    EACH_ROW(CLEAR)
    for (int64_t k = t->kc; k > 0; k--) {
        const vec bx = load(b), by = nv == 2 ? load(b + VEC) : bx;

        EACH_ROW(STEP)
        b += t->ldb;
        a += t->cs;
    }
    EACH_ROW(KEEP)
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < t->cols; j++) {
            float *c = t->c + i * t->ldc + j;

            *c = t->add ? *c + t->alpha * sums[i][j] : t->alpha * sums[i][j];
        }
}

#define CASE(i)                                                                                    \
    case i + 1:                                                                                    \
        if (t->cols > VEC)                                                                         \
            tile_sized(t, i + 1, 2);                                                               \
        else                                                                                       \
            tile_sized(t, i + 1, 1);                                                               \
        break;

static void tile(const struct gemm_tile *t)
{
    switch (t->rows) {
        EACH_ROW(CASE)
    }
}

static void transpose(const float *src, int64_t ld, int rows, int64_t kc, float *dst)
{
    gemm_transpose_rest(src, ld, rows, 0, NR, 0, kc, dst);
}

const struct gemm_kernel gemm_portable = { "portable", MR, NR, VEC, tile, transpose };
