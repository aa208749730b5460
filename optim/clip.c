/* Gradients as a whole: their norm, and clipping by it (Pascanu et al. 2013, arXiv:1211.5063).
 *
 *     norm = sqrt(sum over all parameters of g^2)     g *= min(1, max / (norm + 1e-6)) */
#include <math.h>
#include <string.h>

#include "optim/optim.h"

enum { LANES = 8 };

/* Eight sums side by side: fixed by position, so a compiler may use vectors and the result stays
 * the same. */
static double square_sum(const float *g, int64_t n)
{
    double lane[LANES] = { 0 }, sum = 0;
    int64_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] += (double)g[i + k] * g[i + k];
    for (; i < n; i++)
        lane[i % LANES] += (double)g[i] * g[i];
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

/* One parameter: threads take chunks, and the sums of a batch of them are added in their order. */
static double param_square_sum(const struct optim_param *p)
{
    enum { BATCH = 64 };
    const int64_t chunks = (p->count + OPTIM_CHUNK - 1) / OPTIM_CHUNK;
    double sum = 0;

    for (int64_t c = 0; c < chunks; c += BATCH) {
        const int64_t n = chunks - c < BATCH ? chunks - c : BATCH;
        double part[BATCH];

#pragma omp parallel for schedule(static) if (n > 1)
        for (int64_t i = 0; i < n; i++) {
            const int64_t first = (c + i) * OPTIM_CHUNK;
            const int64_t left = p->count - first;

            part[i] = square_sum(p->grad + first, left < OPTIM_CHUNK ? left : OPTIM_CHUNK);
        }
        for (int64_t i = 0; i < n; i++)
            sum += part[i];
    }
    return sum;
}

double grad_norm(const struct optim_param *param, int params)
{
    double sum = 0;

    for (int p = 0; p < params; p++)
        sum += param_square_sum(&param[p]);
    return sqrt(sum);
}

void grad_scale(const struct optim_param *param, int params, float factor)
{
    for (int p = 0; p < params; p++) {
        const int64_t n = param[p].count;
        float *g = param[p].grad;

#pragma omp parallel for simd schedule(static) if (n > OPTIM_CHUNK)
        for (int64_t i = 0; i < n; i++)
            g[i] *= factor;
    }
}

void grad_clear(const struct optim_param *param, int params)
{
    for (int p = 0; p < params; p++)
        memset(param[p].grad, 0, (size_t)param[p].count * sizeof(float));
}

double grad_clip(const struct optim_param *param, int params, double max_norm)
{
    const double norm = grad_norm(param, params);

    if (max_norm > 0 && isfinite(norm) && max_norm / (norm + 1e-6) < 1)
        grad_scale(param, params, (float)(max_norm / (norm + 1e-6)));
    return norm;
}

int grad_not_finite(const struct optim_param *param, int params)
{
    for (int p = 0; p < params; p++)
        for (int64_t i = 0; i < param[p].count; i++)
            if (!isfinite(param[p].grad[i]))
                return p;
    return -1;
}
