/* -log softmax(z)[target] by rows, and its gradient. Sums in double. */
#include <math.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"
#include "backend/cpu/sum.h"

/* Logits [first, first + m) of a row, with bias, before the cap. */
static const float *logits(struct act z, int64_t at, const float *b, int64_t m, float *buf)
{
    const float *p = piece_get(z, at, m, buf);

    if (!b)
        return p;
    for (int64_t i = 0; i < m; i++)
        buf[i] = p[i] + b[i];
    return buf;
}

/* The same after the cap, always in buf. */
static void capped(struct act z, int64_t at, const float *b, float softcap, int64_t m, float *buf)
{
    const float *p = logits(z, at, b, m, buf);

    if (p != buf)
        memcpy(buf, p, (size_t)m * sizeof *buf);
    if (softcap > 0)
        soft_cap(m, buf, softcap);
}

/* d = exp(z - lse), through the cap's slope 1 - (z / cap)^2 */
SIMD_INLINE void probability_body(int64_t n, const float *z, float lse, float inv_cap, float *d)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float u = z[i] * inv_cap;

        d[i] = exp_f32(z[i] - lse) * (1.0f - u * u);
    }
}

SIMD_FUNCTION(static, probability, probability_body,
              (int64_t n, const float *z, float lse, float inv_cap, float *d),
              (n, z, lse, inv_cap, d))

static double row_lse(struct act z, int64_t row, int64_t V, const float *b, float softcap)
{
    _Alignas(64) float buf[PIECE];
    float most = -INFINITY;
    double sum = 0;

    for (int64_t v = 0; v < V; v += PIECE) {
        const int64_t m = min64(PIECE, V - v);

        capped(z, row * V + v, b ? b + v : NULL, softcap, m, buf);
        max_over(m, buf, &most);
    }
    for (int64_t v = 0; v < V; v += PIECE) {
        const int64_t m = min64(PIECE, V - v);

        capped(z, row * V + v, b ? b + v : NULL, softcap, m, buf);
        exp_and_sum(m, buf, most, &sum);
    }
    return (double)most + log(sum);
}

/* softmax - onehot of elements [v, v + m), in `d` (m). */
static void gradient_piece(struct act z, int64_t at, const float *b, float softcap, int64_t m,
                           float lse, int64_t target, float *d)
{
    const float inv_cap = softcap > 0 ? 1.0f / softcap : 0.0f;

    capped(z, at, b, softcap, m, d);
    const float u = target >= 0 && target < m ? d[target] * inv_cap : 0.0f;
    probability(m, d, lse, inv_cap, d);
    if (target >= 0 && target < m)
        d[target] -= 1.0f - u * u;
}

void softmax_nll_cpu(int64_t n, int64_t V, struct act z, const float *b, float softcap,
                     const int32_t *target, float *nll, float *lse, float *d)
{
#pragma omp parallel for schedule(static) if (n * V > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        const bool real = target[t] >= 0 && target[t] < V;
        const double total = real ? row_lse(z, t, V, b, softcap) : 0.0;
        float at_target = 0.0f;

        if (real)
            capped(z, t * V + target[t], b ? b + target[t] : NULL, softcap, 1, &at_target);
        nll[t] = real ? (float)(total - (double)at_target) : 0.0f;
        if (lse)
            lse[t] = (float)total;
        for (int64_t v = 0; d && v < V; v += PIECE) {
            _Alignas(64) float buf[PIECE];
            const int64_t m = min64(PIECE, V - v);

            memset(buf, 0, sizeof buf);
            if (real)
                gradient_piece(z, t * V + v, b ? b + v : NULL, softcap, m, (float)total,
                               target[t] - v, buf);
            memcpy(d + t * V + v, buf, (size_t)m * sizeof *d);
        }
    }
}

void softmax_nll_backward_cpu(int64_t n, int64_t V, struct act z, float softcap,
                              const int32_t *target, const float *lse, float seed, float *dz)
{
    if (!dz)
        return;
#pragma omp parallel for schedule(static) if (n * V > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        const bool real = target[t] >= 0 && target[t] < V;

        for (int64_t v = 0; real && v < V; v += PIECE) {
            _Alignas(64) float buf[PIECE];
            const int64_t m = min64(PIECE, V - v), at = t * V + v;

            gradient_piece(z, at, NULL, softcap, m, lse[t], target[t] - v, buf);
#pragma omp simd
            for (int64_t i = 0; i < m; i++)
                dz[at + i] += seed * buf[i];
        }
    }
}
