/* AdamW, Loshchilov and Hutter 2019, arXiv:1711.05101, in the order of torch.optim.AdamW:
 *
 *     p = p * (1 - lr * decay)
 *     m = m + (1 - b1) * (g - m)
 *     v = b2 * v + (1 - b2) * g^2
 *     p = p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *
 * Scalars in double, elements in f32. */
#include <math.h>

#include "optim/optim.h"

static void adamw_update(const struct optim_scalars *s, float *value, const float *grad,
                         float *const *moment, int64_t n)
{
    const struct optim_opts *o = s->opts;
    const float keep = (float)(1 - s->lr * o->weight_decay);
    const float b2 = (float)o->beta2, c1 = (float)(1 - o->beta1), c2 = (float)(1 - o->beta2);
    const float rate = (float)(s->lr / (1 - pow(o->beta1, (double)s->step)));
    const float root2 = (float)sqrt(1 - pow(o->beta2, (double)s->step));
    const float eps = (float)o->eps;
    float *restrict p = value, *restrict m = moment[0], *restrict v = moment[1];
    const float *restrict g = grad;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        m[i] += c1 * (g[i] - m[i]);
        v[i] = b2 * v[i] + c2 * g[i] * g[i];
        p[i] = keep * p[i] - rate * m[i] / (sqrtf(v[i]) / root2 + eps);
    }
}

const struct optim_def adamw_def = { "adamw", "Adam with decoupled weight decay", 2, adamw_update };
