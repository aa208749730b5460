/* One direction of an LSTM, Hochreiter & Schmidhuber 1997 with forget gates; gates in the order of
 * PyTorch: i, f, g, o.
 *
 *     a = z[t] + W h' + b      i, f, o = sigmoid(a)   g = tanh(a)
 *     c = f c' + i g           h = o tanh(c)          h', c': of the step before, 0 at first
 *
 * Rows of W are shared out among the threads; each product is one chain, so the bits do not depend
 * on their number. */
#include <string.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"
#include "backend/cpu/sum.h"

enum { I, F, G, O, GATES };

/* Row of step k, and of the step before it; -1: none. */
static int64_t row_of(int64_t T, bool reverse, int64_t k)
{
    return reverse ? T - 1 - k : k;
}

static int64_t row_before(int64_t T, bool reverse, int64_t k)
{
    return k ? row_of(T, reverse, k - 1) : -1;
}

/* a (4H) = z + W h + b; h NULL: zeros */
static void gate_inputs(int64_t H, const float *z, const float *w, const float *b, const float *h,
                        float *a)
{
#pragma omp parallel for schedule(static) if (GATES * H * H > PARALLEL_MIN)
    for (int64_t r = 0; r < GATES * H; r++) {
        double sum = (double)z[r] + (double)b[r];

        if (h)
            sum_add_dot(H, w + r * H, h, &sum);
        a[r] = (float)sum;
    }
}

void lstm_cpu(int64_t T, int64_t H, bool reverse, const float *z, const float *w, const float *b,
              float *h, float *gates, float *cell)
{
    for (int64_t k = 0; k < T; k++) {
        const int64_t t = row_of(T, reverse, k), p = row_before(T, reverse, k);
        float *a = gates + t * GATES * H, *c = cell + t * H;

        gate_inputs(H, z + t * GATES * H, w, b, p < 0 ? NULL : h + p * H, a);
        for (int64_t j = 0; j < H; j++) {
            const float before = p < 0 ? 0.0f : cell[p * H + j];

            a[I * H + j] = sigmoid_f32(a[I * H + j]);
            a[F * H + j] = sigmoid_f32(a[F * H + j]);
            a[G * H + j] = tanh_f32(a[G * H + j]);
            a[O * H + j] = sigmoid_f32(a[O * H + j]);
            c[j] = a[F * H + j] * before + a[I * H + j] * a[G * H + j];
            h[t * H + j] = a[O * H + j] * tanh_f32(c[j]);
        }
    }
}

size_t lstm_scratch_cpu(int64_t T, int64_t H)
{
    return (size_t)((T * GATES + 2) * H) * sizeof(float);
}

/* Through the gates of one row: da (4H), and dc of the step before. dh: of this row's output. */
static void gate_gradients(int64_t H, const float *a, const float *c, const float *before,
                           const float *dh, float *dc, float *da)
{
    for (int64_t j = 0; j < H; j++) {
        const float i = a[I * H + j], f = a[F * H + j], g = a[G * H + j], o = a[O * H + j];
        const float t = tanh_f32(c[j]), d = dc[j] + dh[j] * o * (1.0f - t * t);

        da[I * H + j] = d * g * i * (1.0f - i);
        da[F * H + j] = d * (before ? before[j] : 0.0f) * f * (1.0f - f);
        da[G * H + j] = d * i * (1.0f - g * g);
        da[O * H + j] = dh[j] * t * o * (1.0f - o);
        dc[j] = d * f;
    }
}

/* dh (H) = W^T da: columns are shared out, the sum runs over the rows of W in order. */
static void output_gradient(int64_t H, const float *w, const float *da, float *dh)
{
    enum { COLUMNS = 64 };

#pragma omp parallel for schedule(static) if (GATES * H * H > PARALLEL_MIN)
    for (int64_t j0 = 0; j0 < H; j0 += COLUMNS) {
        const int64_t m = min64(COLUMNS, H - j0);

        memset(dh + j0, 0, (size_t)m * sizeof *dh);
        for (int64_t r = 0; r < GATES * H; r++) {
            const float *row = w + r * H + j0;

#pragma omp simd
            for (int64_t j = 0; j < m; j++)
                dh[j0 + j] += da[r] * row[j];
        }
    }
}

/* Gradients of W and b from those of all gates: rows are shared out. */
static void weight_gradients(int64_t T, int64_t H, bool reverse, const float *da, const float *h,
                             float *dw, float *db)
{
#pragma omp parallel for schedule(static) if (T * GATES * H * H > PARALLEL_MIN)
    for (int64_t r = 0; r < GATES * H; r++) {
        for (int64_t k = 0; k < T; k++) {
            const int64_t p = row_before(T, reverse, k);
            const float d = da[row_of(T, reverse, k) * GATES * H + r];

            if (db)
                db[r] += d;
#pragma omp simd
            for (int64_t j = 0; j < (dw && p >= 0 ? H : 0); j++)
                dw[r * H + j] += d * h[p * H + j];
        }
    }
}

void lstm_backward_cpu(int64_t T, int64_t H, bool reverse, const float *w, const float *h,
                       const float *gates, const float *cell, const float *dh, float *dz, float *dw,
                       float *db, void *scratch)
{
    float *da = scratch, *dc = da + T * GATES * H, *d = dc + H;

    memset(dc, 0, (size_t)(2 * H) * sizeof *dc);
    for (int64_t k = T - 1; k >= 0; k--) {
        const int64_t t = row_of(T, reverse, k), p = row_before(T, reverse, k);
        float *a = da + t * GATES * H;

        for (int64_t j = 0; j < H; j++)
            d[j] += dh[t * H + j];
        gate_gradients(H, gates + t * GATES * H, cell + t * H, p < 0 ? NULL : cell + p * H, d, dc,
                       a);
        if (p >= 0)
            output_gradient(H, w, a, d);
    }
    for (int64_t i = 0; dz && i < T * GATES * H; i++)
        dz[i] += da[i];
    if (dw || db)
        weight_gradients(T, H, reverse, da, h, dw, db);
}
