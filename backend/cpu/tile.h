/* backend/cpu/tile.h - small matrix products for attention, everything in L2, one thread.
 *
 *     c (m, n) (+)= a (m, k) b (k, n)
 *
 * a[i][p] = a[i * ars + p * acs], so a may be a transposed view; b and c are row-major with n a
 * multiple of TILE_N. Every element is one chain of multiply-adds over p = 0 .. k - 1, from 0 or
 * from what c held: it does not depend on m, n or where its row stands. */
#ifndef BACKEND_CPU_TILE_H
#define BACKEND_CPU_TILE_H

#include <stdbool.h>
#include <stdint.h>

enum { TILE_N = 16 };

struct tile {
    int64_t m, n, k;
    const float *a;
    int64_t ars, acs;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    bool add;
};

void tile_product(const struct tile *t);

/* y (cols, ldy) = x (rows, ldx) transposed; columns of y from `rows` to `pad` become 0 */
void tile_transpose(int64_t rows, int64_t cols, const float *x, int64_t ldx, int64_t pad, float *y,
                    int64_t ldy);

#endif
