/* Plain gradient descent as torch.optim.SGD without momentum; decay is coupled there: it joins the
 * gradient.
 *
 *     p = p - lr * (g + decay * p) */
#include "optim/optim.h"

static void sgd_update(const struct optim_scalars *s, float *value, const float *grad,
                       float *const *moment, int64_t n)
{
    const float lr = (float)s->lr, decay = (float)s->opts->weight_decay;
    float *restrict p = value;
    const float *restrict g = grad;

    (void)moment;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        p[i] -= lr * (g[i] + decay * p[i]);
}

const struct optim_def sgd_def = { "sgd", "gradient descent without momentum", 0, sgd_update };
