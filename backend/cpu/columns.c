/* A factor a column, and the norms of a changed weight's rows. */
#include <math.h>

#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row.h"
#include "backend/cpu/sum.h"
#include "quant/simd.h"

/* y = c * (x - b) + b */
SIMD_INLINE void shift_scale_body(int64_t n, const float *x, const float *c, const float *b,
                                  float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = c[i] * (x[i] - b[i]) + b[i];
}

SIMD_INLINE void column_mul_body(int64_t n, const float *x, const float *c, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = c[i] * x[i];
}

SIMD_INLINE void column_mul_add_body(int64_t n, const float *x, const float *c, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += c[i] * x[i];
}

/* sum += dy * (x - b) */
SIMD_INLINE void shift_dot_body(int64_t n, const float *dy, const float *x, const float *b,
                                float *sum)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] += dy[i] * (x[i] - b[i]);
}

SIMD_INLINE void column_add_body(int64_t n, const float *x, float *sum)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

SIMD_FUNCTION(static, shift_scale, shift_scale_body,
              (int64_t n, const float *x, const float *c, const float *b, float *y),
              (n, x, c, b, y))
SIMD_FUNCTION(static, column_mul, column_mul_body,
              (int64_t n, const float *x, const float *c, float *y), (n, x, c, y))
SIMD_FUNCTION(static, column_mul_add, column_mul_add_body,
              (int64_t n, const float *x, const float *c, float *y), (n, x, c, y))
SIMD_FUNCTION(static, shift_dot, shift_dot_body,
              (int64_t n, const float *dy, const float *x, const float *b, float *sum),
              (n, dy, x, b, sum))
SIMD_FUNCTION(static, column_add, column_add_body, (int64_t n, const float *x, float *sum),
              (n, x, sum))

void column_scale_cpu(int64_t n, int64_t C, struct act x, const float *c, const float *b,
                      struct act y)
{
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        for (int64_t k = 0; k < C; k += PIECE) {
            _Alignas(64) float bx[PIECE], by[PIECE];
            const int64_t m = min64(PIECE, C - k), at = t * C + k;
            const float *px = piece_get(x, at, m, bx);
            float *py = piece_room(y, at, by);

            if (b)
                shift_scale(m, px, c + k, b + k, py);
            else
                column_mul(m, px, c + k, py);
            piece_put(y, at, m, py);
        }
    }
}

size_t column_scale_scratch_cpu(int64_t n, int64_t C)
{
    return 2 * column_sum_scratch_cpu(n, C);
}

/* What one row adds to all three; where dx is dy, it is overwritten last. */
static void scale_row_backward(int64_t t, int64_t C, struct act x, const float *c, const float *b,
                               const float *dy, float *dx, float *pc, float *pb)
{
    for (int64_t k = 0; k < C; k += PIECE) {
        static const float none[PIECE];
        _Alignas(64) float bx[PIECE];
        const int64_t m = min64(PIECE, C - k), at = t * C + k;

        if (pc)
            shift_dot(m, dy + at, piece_get(x, at, m, bx), b ? b + k : none, pc + k);
        if (pb)
            column_add(m, dy + at, pb + k);
        if (dx == dy)
            column_mul(m, dy + at, c + k, dx + at);
        else if (dx)
            column_mul_add(m, dy + at, c + k, dx + at);
    }
}

void column_scale_backward_cpu(int64_t n, int64_t C, struct act x, const float *c, const float *b,
                               const float *dy, float *dx, float *dc, float *db, void *scratch)
{
    const int64_t rows = sum_part_rows(n), parts = (n + rows - 1) / rows;
    float *part = scratch;

    if (!dx && !dc && !db)
        return;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t i = 0; i < parts; i++) {
        float *pc = dc ? part + i * C : NULL, *pb = db ? part + (parts + i) * C : NULL;

        if (pc)
            memset(pc, 0, (size_t)C * sizeof *pc);
        if (pb)
            memset(pb, 0, (size_t)C * sizeof *pb);
        for (int64_t t = i * rows; t < min64(n, (i + 1) * rows); t++)
            scale_row_backward(t, C, x, c, b, dy, dx, pc, pb);
    }
    if (dc)
        sum_parts(parts, C, part, 1.0f, dc);
    for (int64_t k = 0; db && k < C; k++) {
        double s = 0;

        for (int64_t i = 0; i < parts; i++)
            s += (double)part[(parts + i) * C + k];
        db[k] += (float)(s * (1.0 - (double)c[k]));
    }
}

/* Both products of A are added up in one buffer, whose column i is A (w_i + s/2 A^T b_i); so
 * |w_i + s A^T b_i|^2 = |w_i|^2 + 2 s b_i . column i. */
size_t row_norms_scratch_cpu(int64_t R, int64_t in, int64_t out)
{
    const size_t whole = gemm_scratch(R, in, out), small = gemm_scratch(R, R, out);
    const size_t square = gemm_scratch(R, in, R);
    size_t most = whole > small ? whole : small;

    most = most > square ? most : square;
    return (most + 63) / 64 * 64 + ((size_t)(R * out) + (size_t)(R * R) + 16) * sizeof(float);
}

static void norms_from(int64_t R, int64_t O, float s, const float *g, const float *b,
                       const float *square, float *norm)
{
#pragma omp parallel for schedule(static) if (R * O > PARALLEL_MIN)
    for (int64_t i = 0; i < O; i++) {
        double dot = 0;

        for (int64_t r = 0; r < R; r++)
            dot += (double)b[i * R + r] * (double)g[r * O + i];
        /* rounding may take a row that all but vanishes below zero */
        norm[i] = (float)sqrt(fmax(0, (double)square[i] + 2 * (double)s * dot));
    }
}

void row_norms_cpu(int64_t R, float s, const float *a, const struct qmat *w, bool columns,
                   const float *b, const float *square, float *norm, void *scratch)
{
    const int64_t O = columns ? w->cols : w->rows, I = columns ? w->rows : w->cols;
    const struct gemm_mat am = { a, I, 0 };
    const struct qmat aw = { .type = QT_F32, .rows = R, .cols = I, .data = a };
    const struct qmat bw = { .type = QT_F32, .rows = O, .cols = R, .data = b };
    float *g = scratch, *aa = g + R * O;
    char *rest = (char *)(aa + R * R);

    rest += (64 - (size_t)((uintptr_t)rest % 64)) % 64;
    gemm_xwt(GEMM_F32, R, 1.0f, am, &aw, 0.0f, aa, R, rest);
    if (columns)
        gemm_xw(GEMM_F32, R, 1.0f, am, w, 0.0f, g, O, rest);
    else
        gemm_xwt(GEMM_F32, R, 1.0f, am, w, 0.0f, g, O, rest);
    gemm_xwt(GEMM_F32, R, 0.5f * s, (struct gemm_mat){ aa, R, 0 }, &bw, 1.0f, g, O, rest);
    norms_from(R, O, s, g, b, square, norm);
}
