/* Kernels whose output i depends on inputs i alone. */
#include <math.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"

/* Activations of the form x * sigmoid(u(x)), u = x * (k1 + k3 x^2):
 * SiLU k1 = 1; quick GELU k1 = 1.702; GELU's tanh form, as 0.5 (1 + tanh t) = sigmoid(2t),
 * t = sqrt(2/pi) (x + 0.044715 x^3).   Hendrycks & Gimpel 2016; Elfwing et al. 2017 */
struct sigmoid_form {
    float k1, k3;
};

static struct sigmoid_form sigmoid_form(enum activation kind)
{
    switch (kind) {
    case ACT_GELU_TANH:
        return (struct sigmoid_form){ 0x1.988454p+0f, 0x1.988454p+0f * 0.044715f };
    case ACT_QUICK_GELU:
        return (struct sigmoid_form){ 1.702f, 0.0f };
    default:
        return (struct sigmoid_form){ 1.0f, 0.0f };
    }
}

/* value[i] = f(x[i]) */
SIMD_INLINE void sigmoid_value_body(int64_t n, float k1, float k3, const float *restrict x,
                                    float *restrict value)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        value[i] = x[i] * sigmoid_f32(x[i] * (k1 + k3 * (x[i] * x[i])));
}

/* slope[i] = f'(x[i]) = s + x u' s (1 - s), u' = k1 + 3 k3 x^2 */
SIMD_INLINE void sigmoid_slope_body(int64_t n, float k1, float k3, const float *restrict x,
                                    float *restrict slope)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float xx = x[i] * x[i], s = sigmoid_f32(x[i] * (k1 + k3 * xx));

        slope[i] = s + x[i] * (k1 + 3.0f * k3 * xx) * (s * (1.0f - s));
    }
}

SIMD_FUNCTION(static, sigmoid_value, sigmoid_value_body,
              (int64_t n, float k1, float k3, const float *x, float *value), (n, k1, k3, x, value))
SIMD_FUNCTION(static, sigmoid_slope, sigmoid_slope_body,
              (int64_t n, float k1, float k3, const float *x, float *slope), (n, k1, k3, x, slope))

static void activation_value(int64_t n, enum activation kind, const float *x, float *value)
{
    const struct sigmoid_form f = sigmoid_form(kind);

    if (kind == ACT_RELU) {
        for (int64_t i = 0; i < n; i++)
            value[i] = x[i] > 0 ? x[i] : x[i] != x[i] ? x[i] : 0.0f;
    } else if (kind == ACT_GELU) { /* x Phi(x); erfc keeps its digits in the left tail */
        for (int64_t i = 0; i < n; i++)
            value[i] = 0.5f * x[i] * erfcf(-0x1.6a09e6p-1f * x[i]);
    } else if (kind == ACT_TANH) {
        for (int64_t i = 0; i < n; i++)
            value[i] = tanh_f32(x[i]);
    } else {
        sigmoid_value(n, f.k1, f.k3, x, value);
    }
}

static void activation_slope(int64_t n, enum activation kind, const float *x, float *slope)
{
    const struct sigmoid_form f = sigmoid_form(kind);

    if (kind == ACT_RELU) {
        for (int64_t i = 0; i < n; i++)
            slope[i] = x[i] > 0 ? 1.0f : 0.0f;
    } else if (kind == ACT_GELU) { /* Phi(x) + x phi(x), phi(0) = 1 / sqrt(2 pi) */
        for (int64_t i = 0; i < n; i++)
            slope[i] = 0.5f * erfcf(-0x1.6a09e6p-1f * x[i]) +
                       x[i] * 0x1.988454p-2f * exp_f32(-0.5f * x[i] * x[i]);
    } else if (kind == ACT_TANH) {
        for (int64_t i = 0; i < n; i++) {
            const float t = tanh_f32(x[i]);

            slope[i] = 1.0f - t * t;
        }
    } else {
        sigmoid_slope(n, f.k1, f.k3, x, slope);
    }
}

SIMD_INLINE void mul_body(int64_t n, const float *a, const float *b, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

/* y += a * b * c */
SIMD_INLINE void mul3_add_body(int64_t n, const float *a, const float *b, const float *c, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += a[i] * b[i] * c[i];
}

SIMD_INLINE void mul_add_body(int64_t n, const float *a, const float *b, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += a[i] * b[i];
}

/* y = a + s * b; y may be a or b */
SIMD_INLINE void sum_body(int64_t n, const float *a, float s, const float *b, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + s * b[i];
}

SIMD_FUNCTION(static, mul, mul_body, (int64_t n, const float *a, const float *b, float *y),
              (n, a, b, y))
SIMD_FUNCTION(static, mul3_add, mul3_add_body,
              (int64_t n, const float *a, const float *b, const float *c, float *y),
              (n, a, b, c, y))
SIMD_FUNCTION(static, mul_add, mul_add_body, (int64_t n, const float *a, const float *b, float *y),
              (n, a, b, y))
SIMD_FUNCTION(static, sum, sum_body, (int64_t n, const float *a, float s, const float *b, float *y),
              (n, a, s, b, y))

void activation_cpu(int64_t n, enum activation kind, struct act x, struct act y)
{
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE) {
        _Alignas(64) float bx[PIECE], by[PIECE];
        const int64_t m = min64(PIECE, n - at);
        float *py = piece_room(y, at, by);

        activation_value(m, kind, piece_get(x, at, m, bx), py);
        piece_put(y, at, m, py);
    }
}

void activation_backward_cpu(int64_t n, enum activation kind, struct act x, const float *dy,
                             float *dx)
{
    if (!dx)
        return;
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE) {
        _Alignas(64) float bx[PIECE], slope[PIECE];
        const int64_t m = min64(PIECE, n - at);

        activation_slope(m, kind, piece_get(x, at, m, bx), slope);
        mul_add(m, dy + at, slope, dx + at);
    }
}

void gate_cpu(int64_t n, enum activation kind, struct act a, struct act b, struct act y)
{
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE) {
        _Alignas(64) float ba[PIECE], bb[PIECE], by[PIECE], value[PIECE];
        const int64_t m = min64(PIECE, n - at);
        float *py = piece_room(y, at, by);

        activation_value(m, kind, piece_get(a, at, m, ba), value);
        mul(m, value, piece_get(b, at, m, bb), py);
        piece_put(y, at, m, py);
    }
}

void gate_backward_cpu(int64_t n, enum activation kind, struct act a, struct act b, const float *dy,
                       float *da, float *db)
{
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE) {
        _Alignas(64) float ba[PIECE], bb[PIECE], f[PIECE];
        const int64_t m = min64(PIECE, n - at);
        const float *pa = piece_get(a, at, m, ba);

        if (da) {
            activation_slope(m, kind, pa, f);
            mul3_add(m, dy + at, piece_get(b, at, m, bb), f, da + at);
        }
        if (db) {
            activation_value(m, kind, pa, f);
            mul_add(m, dy + at, f, db + at);
        }
    }
}

void add_cpu(int64_t n, struct act a, float scale, struct act b, struct act y)
{
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE) {
        _Alignas(64) float ba[PIECE], bb[PIECE], by[PIECE];
        const int64_t m = min64(PIECE, n - at);
        float *py = piece_room(y, at, by);

        sum(m, piece_get(a, at, m, ba), scale, piece_get(b, at, m, bb), py);
        piece_put(y, at, m, py);
    }
}

void scale_cpu(int64_t n, float scale, struct act x, struct act y)
{
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE) {
        _Alignas(64) float bx[PIECE], by[PIECE];
        const int64_t m = min64(PIECE, n - at);
        const float *px = piece_get(x, at, m, bx);
        float *py = piece_room(y, at, by);

#pragma omp simd
        for (int64_t i = 0; i < m; i++)
            py[i] = scale * px[i];
        piece_put(y, at, m, py);
    }
}

void axpy_cpu(int64_t n, float scale, const float *x, float *y)
{
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t at = 0; at < n; at += PIECE)
        sum(min64(PIECE, n - at), y + at, scale, x + at, y + at);
}

/* By pieces of a row: b restarts with each. */
void bias_acc_cpu(int64_t n, int64_t C, const float *p, float scale, const float *b, struct act acc,
                  struct act y)
{
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        for (int64_t c = 0; c < C; c += PIECE) {
            _Alignas(64) float bacc[PIECE], by[PIECE];
            const int64_t m = min64(PIECE, C - c), at = t * C + c;
            const float *from = p + at;
            float *py = piece_room(y, at, by);

            if (b) {
                sum(m, from, scale, b + c, py);
                from = py;
            }
            if (acc.data) {
                sum(m, from, 1.0f, piece_get(acc, at, m, bacc), py);
                from = py;
            }
            if (from != py)
                memcpy(py, from, (size_t)m * sizeof *py);
            piece_put(y, at, m, py);
        }
    }
}
