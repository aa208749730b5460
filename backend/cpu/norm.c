/* RMSNorm and LayerNorm over rows of C. Statistics in double. */
#include <math.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"
#include "backend/cpu/sum.h"

/* y = (x - mean) * r * (w + one) + b */
SIMD_INLINE void apply_body(int64_t n, const float *x, float mean, float r, const float *w,
                            float one, const float *b, float *y)
{
    if (b) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * r * (w[i] + one) + b[i];
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * r * (w[i] + one);
    }
}

/* dx += r * (g * (w + one) - k0 - (x - mean) * k1) */
SIMD_INLINE void dx_body(int64_t n, const float *x, float mean, float r, const float *w, float one,
                         const float *g, float k0, float k1, float *dx)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] += r * (g[i] * (w[i] + one) - k0 - (x[i] - mean) * k1);
}

/* dw += g * (x - mean) * r */
SIMD_INLINE void dw_body(int64_t n, const float *x, float mean, float r, const float *g, float *dw)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dw[i] += g[i] * ((x[i] - mean) * r);
}

/* *g0 += sum g (w + one), *g1 += sum g (w + one) (x - mean) */
SIMD_INLINE void dots_body(int64_t n, const float *x, double mean, const float *w, float one,
                           const float *g, double *g0, double *g1)
{
    double s0 = 0, s1 = 0;

#pragma omp simd reduction(+ : s0, s1)
    for (int64_t i = 0; i < n; i++) {
        const double gw = (double)g[i] * (double)(w[i] + one);

        s0 += gw;
        s1 += gw * ((double)x[i] - mean);
    }
    *g0 += s0;
    *g1 += s1;
}

SIMD_FUNCTION(static, apply, apply_body,
              (int64_t n, const float *x, float mean, float r, const float *w, float one,
               const float *b, float *y),
              (n, x, mean, r, w, one, b, y))
SIMD_FUNCTION(static, norm_dx, dx_body,
              (int64_t n, const float *x, float mean, float r, const float *w, float one,
               const float *g, float k0, float k1, float *dx),
              (n, x, mean, r, w, one, g, k0, k1, dx))
SIMD_FUNCTION(static, norm_dw, dw_body,
              (int64_t n, const float *x, float mean, float r, const float *g, float *dw),
              (n, x, mean, r, g, dw))
SIMD_FUNCTION(static, norm_dots, dots_body,
              (int64_t n, const float *x, double mean, const float *w, float one, const float *g,
               double *g0, double *g1),
              (n, x, mean, w, one, g, g0, g1))

/* The shape of one call; rows are walked in pieces, so that bf16 needs no row-long buffer. */
struct norm {
    int64_t C;
    struct act x;
    const float *w, *b;
    float one;
};

static void norm_write(const struct norm *s, int64_t row, float mean, float r, struct act y)
{
    for (int64_t c = 0; c < s->C; c += PIECE) {
        _Alignas(64) float bx[PIECE], by[PIECE];
        const int64_t m = min64(PIECE, s->C - c), at = row * s->C + c;
        const float *x = piece_get(s->x, at, m, bx);
        float *py = piece_room(y, at, by);

        apply(m, x, mean, r, s->w + c, s->one, s->b ? s->b + c : NULL, py);
        piece_put(y, at, m, py);
    }
}

/* With centred: mean of the row; then the mean of (x - mean)^2. */
static void norm_statistics(const struct norm *s, int64_t row, bool centred, double *mean,
                            double *var)
{
    _Alignas(64) float bx[PIECE];
    double sum = 0, square = 0;

    for (int64_t c = 0; centred && c < s->C; c += PIECE) {
        const int64_t m = min64(PIECE, s->C - c);

        sum_add(m, piece_get(s->x, row * s->C + c, m, bx), &sum);
    }
    *mean = sum / (double)s->C;
    for (int64_t c = 0; c < s->C; c += PIECE) {
        const int64_t m = min64(PIECE, s->C - c);

        sum_add_square(m, piece_get(s->x, row * s->C + c, m, bx), *mean, &square);
    }
    *var = square / (double)s->C;
}

void rmsnorm_cpu(int64_t n, int64_t C, struct act x, const float *w, float eps, bool plus_one,
                 struct act y, float *r)
{
    const struct norm s = { C, x, w, NULL, plus_one ? 1.0f : 0.0f };

#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        double mean, var;

        norm_statistics(&s, t, false, &mean, &var);
        r[t] = (float)(1.0 / sqrt(var + (double)eps));
        norm_write(&s, t, 0.0f, r[t], y);
    }
}

void layernorm_cpu(int64_t n, int64_t C, struct act x, const float *w, const float *b, float eps,
                   struct act y, float *stat)
{
    const struct norm s = { C, x, w, b, 0.0f };

#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        double mean, var;

        norm_statistics(&s, t, true, &mean, &var);
        stat[2 * t] = (float)mean;
        stat[2 * t + 1] = (float)(1.0 / sqrt(var + (double)eps));
        norm_write(&s, t, stat[2 * t], stat[2 * t + 1], y);
    }
}

/* One row: dx += r (gw - m0 - xc m1 r^2), m0 = mean(gw) when centred, m1 = mean(gw xc);
 * dw += g xc r, db += g. */
static void norm_row_backward(const struct norm *s, int64_t row, bool centred, float mean, float r,
                              const float *g, float *dx, float *dw, float *db)
{
    _Alignas(64) float bx[PIECE];
    double g0 = 0, g1 = 0;

    for (int64_t c = 0; dx && c < s->C; c += PIECE) {
        const int64_t m = min64(PIECE, s->C - c);

        norm_dots(m, piece_get(s->x, row * s->C + c, m, bx), mean, s->w + c, s->one, g + c, &g0,
                  &g1);
    }
    const float k0 = centred ? (float)(g0 / (double)s->C) : 0.0f;
    const float k1 = (float)(g1 / (double)s->C) * r * r;
    for (int64_t c = 0; c < s->C; c += PIECE) {
        const int64_t m = min64(PIECE, s->C - c);
        const float *x = dx || dw ? piece_get(s->x, row * s->C + c, m, bx) : NULL;

        if (dx)
            norm_dx(m, x, mean, r, s->w + c, s->one, g + c, k0, k1, dx + c);
        if (dw)
            norm_dw(m, x, mean, r, g + c, dw + c);
        for (int64_t i = 0; db && i < m; i++)
            db[c + i] += g[c + i];
    }
}

size_t norm_scratch_cpu(int64_t n, int64_t C)
{
    return 2 * column_sum_scratch_cpu(n, C);
}

/* stat: (n, 2) mean and r when centred, else (n) r alone */
static void norm_backward(const struct norm *s, int64_t n, bool centred, const float *stat,
                          const float *dy, float *dx, float *dw, float *db, float *part)
{
    const int64_t C = s->C, rows = sum_part_rows(n), parts = (n + rows - 1) / rows;

    if (!dx && !dw && !db)
        return;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t i = 0; i < parts; i++) {
        float *pw = dw ? part + i * C : NULL, *pb = db ? part + (parts + i) * C : NULL;

        if (pw)
            memset(pw, 0, (size_t)C * sizeof *pw);
        if (pb)
            memset(pb, 0, (size_t)C * sizeof *pb);
        for (int64_t t = i * rows; t < min64(n, (i + 1) * rows); t++)
            norm_row_backward(s, t, centred, centred ? stat[2 * t] : 0.0f,
                              centred ? stat[2 * t + 1] : stat[t], dy + t * C,
                              dx ? dx + t * C : NULL, pw, pb);
    }
    if (dw)
        sum_parts(parts, C, part, 1.0f, dw);
    if (db)
        sum_parts(parts, C, part + parts * C, 1.0f, db);
}

void rmsnorm_backward_cpu(int64_t n, int64_t C, struct act x, const float *w, bool plus_one,
                          const float *r, const float *dy, float *dx, float *dw, void *scratch)
{
    const struct norm s = { C, x, w, NULL, plus_one ? 1.0f : 0.0f };

    norm_backward(&s, n, false, r, dy, dx, dw, NULL, scratch);
}

void layernorm_backward_cpu(int64_t n, int64_t C, struct act x, const float *w, const float *stat,
                            const float *dy, float *dx, float *dw, float *db, void *scratch)
{
    const struct norm s = { C, x, w, NULL, 0.0f };

    norm_backward(&s, n, true, stat, dy, dx, dw, db, scratch);
}
