#include "backend/cpu/sum.h"

#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"

SIMD_INLINE void add_body(int64_t n, const float *x, double *sum)
{
    double s = 0;

#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s += (double)x[i];
    *sum += s;
}

SIMD_INLINE void square_body(int64_t n, const float *x, double mean, double *sum)
{
    double s = 0;

#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s += ((double)x[i] - mean) * ((double)x[i] - mean);
    *sum += s;
}

SIMD_INLINE void dot_body(int64_t n, const float *x, const float *y, double *sum)
{
    double s = 0;

#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s += (double)x[i] * (double)y[i];
    *sum += s;
}

SIMD_INLINE void dot3_body(int64_t n, const float *x, const float *y, const float *z, double *sum)
{
    double s = 0;

#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s += (double)x[i] * (double)y[i] * (double)z[i];
    *sum += s;
}

/* By lanes, as a compiler must not reorder comparisons that a NaN may enter. */
SIMD_INLINE void max_body(int64_t n, const float *x, float *most)
{
    enum { LANES = 16 };
    float lane[LANES];
    const int64_t whole = n / LANES * LANES;

    for (int i = 0; i < LANES; i++)
        lane[i] = *most;
    for (int64_t i = 0; i < whole; i += LANES) {
#pragma omp simd
        for (int j = 0; j < LANES; j++)
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    }
    for (int64_t i = whole; i < n; i++)
        lane[i - whole] = x[i] > lane[i - whole] ? x[i] : lane[i - whole];
    for (int i = 0; i < LANES; i++)
        *most = lane[i] > *most ? lane[i] : *most;
}

SIMD_INLINE void exp_body(int64_t n, float *x, float shift, double *sum)
{
    double s = 0;

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] = exp_f32(x[i] - shift);
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s += (double)x[i];
    *sum += s;
}

SIMD_INLINE void cap_body(int64_t n, float *x, float cap)
{
    const float inv = 1.0f / cap;

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] = cap * tanh_f32(x[i] * inv);
}

SIMD_FUNCTION(, sum_add, add_body, (int64_t n, const float *x, double *sum), (n, x, sum))
SIMD_FUNCTION(, sum_add_square, square_body, (int64_t n, const float *x, double mean, double *sum),
              (n, x, mean, sum))
SIMD_FUNCTION(, sum_add_dot, dot_body, (int64_t n, const float *x, const float *y, double *sum),
              (n, x, y, sum))
SIMD_FUNCTION(, sum_add_dot3, dot3_body,
              (int64_t n, const float *x, const float *y, const float *z, double *sum),
              (n, x, y, z, sum))
SIMD_FUNCTION(, max_over, max_body, (int64_t n, const float *x, float *most), (n, x, most))
SIMD_FUNCTION(, exp_and_sum, exp_body, (int64_t n, float *x, float shift, double *sum),
              (n, x, shift, sum))
SIMD_FUNCTION(, soft_cap, cap_body, (int64_t n, float *x, float cap), (n, x, cap))

int64_t sum_part_rows(int64_t n)
{
    return max64(16, (n + SUM_PARTS - 1) / SUM_PARTS);
}

void sum_parts(int64_t parts, int64_t C, const float *p, float scale, float *y)
{
#pragma omp parallel for schedule(static) if (parts * C > PARALLEL_MIN)
    for (int64_t c = 0; c < C; c++) {
        double s = 0;

        for (int64_t i = 0; i < parts; i++)
            s += (double)p[i * C + c];
        y[c] += (float)((double)scale * s);
    }
}

size_t column_sum_scratch_cpu(int64_t n, int64_t C)
{
    return (size_t)min64(SUM_PARTS, (n + 15) / 16) * (size_t)C * sizeof(float);
}

void column_sum_cpu(int64_t n, int64_t C, float scale, const float *dy, float *db, void *scratch)
{
    const int64_t rows = sum_part_rows(n), parts = (n + rows - 1) / rows;
    float *p = scratch;

#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t i = 0; i < parts; i++) {
        float *sum = p + i * C;

        memset(sum, 0, (size_t)C * sizeof *sum);
        for (int64_t t = i * rows; t < min64(n, (i + 1) * rows); t++) {
#pragma omp simd
            for (int64_t c = 0; c < C; c++)
                sum[c] += dy[t * C + c];
        }
    }
    sum_parts(parts, C, p, scale, db);
}
