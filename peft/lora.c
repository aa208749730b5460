/* LoRA, Hu et al. 2021, arXiv:2106.09685; names, start values and scaling as in PEFT.
 *
 * y' = y + s (B A dropout(x) + b)      s = alpha / r, or alpha / sqrt(r) with rsLoRA
 * A: (R, I)   B: (O, R)   b: (O), only with lora_bias
 * Merged: W' = W + s B A, bias' = bias + s b. */
#include <math.h>
#include <string.h>

#include "peft/methods.h"

enum { LORA_A, LORA_B, LORA_BIAS };

static enum graft_status lora_build(struct adapter_site *s, struct graft_err *err)
{
    const struct adapter_config *c = &s->adapter->config;
    const struct param_spec a = { .suffix = ".lora_A.weight",
                                  .ndim = 2,
                                  .dim = { s->r, s->slot->in } },
                            b = { .suffix = ".lora_B.weight",
                                  .ndim = 2,
                                  .dim = { s->slot->out, s->r } },
                            bias = { .suffix = ".lora_B.bias", .ndim = 1, .dim = { s->slot->out } };

    s->param[LORA_A] = adapter_param(s, &a);
    s->param[LORA_B] = adapter_param(s, &b);
    if (c->lora_bias)
        s->param[LORA_BIAS] = adapter_param(s, &bias);
    if (!s->param[LORA_A] || !s->param[LORA_B] || (c->lora_bias && !s->param[LORA_BIAS]))
        return graft_fail_nomem(err, s->slot->name,
                                (size_t)(s->r * (s->slot->in + s->slot->out)) * 4);
    return GRAFT_OK;
}

static void fill_uniform(struct tensor *t, struct rng_key key, double bound)
{
    float *v = t->data;
    const int64_t n = t->dim[0] * (t->ndim > 1 ? t->dim[1] : 1);

    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(bound * (2.0 * rng_uniform(key, (uint64_t)i) - 1.0));
}

/* true: A uniform in +-1/sqrt(I) (Kaiming with a = sqrt 5), B zero. gaussian: A normal with
 * deviation 1/R, B zero. false: PyTorch's own start of both linears, so that the change is not
 * zero. */
static enum graft_status lora_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    const enum lora_init kind = s->adapter->config.init;
    struct rng_key key = { seed, RNG_INIT, 0, 4 * (uint32_t)s->slot->index };
    struct tensor *a = s->param[LORA_A];

    (void)err;
    if (kind == LORA_INIT_GAUSSIAN) {
        float *v = a->data;

        for (int64_t i = 0; i < s->r * s->slot->in; i++)
            v[i] = rng_normal(key, (uint64_t)i) / (float)s->r;
        return GRAFT_OK;
    }
    fill_uniform(a, key, 1.0 / sqrt((double)s->slot->in));
    if (kind != LORA_INIT_FALSE)
        return GRAFT_OK;
    key.site++;
    fill_uniform(s->param[LORA_B], key, 1.0 / sqrt((double)s->r));
    key.site++;
    if (s->param[LORA_BIAS])
        fill_uniform(s->param[LORA_BIAS], key, 1.0 / sqrt((double)s->r));
    return GRAFT_OK;
}

static struct tensor *lora_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                   struct tensor *y)
{
    const double p = s->adapter->config.lora_dropout;
    struct tensor *a = graph_leaf(g, s->param[LORA_A]), *b = graph_leaf(g, s->param[LORA_B]);
    struct tensor *bias = s->param[LORA_BIAS] ? graph_leaf(g, s->param[LORA_BIAS]) : NULL;

    if (p > 0)
        x = op_dropout(g, x, (float)p, (uint32_t)s->slot->index);
    return op_linear(g, op_linear(g, x, a, NULL, NULL, 1.0f), b, bias, y, s->scale);
}

static void lora_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const float *a = s->param[LORA_A]->data, *b = s->param[LORA_B]->data;
    const int64_t in = s->slot->in;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        for (int64_t r = 0; r < s->r; r++) {
            const float f = s->scale * b[(first + i) * s->r + r];

            for (int64_t k = 0; k < in; k++)
                w[i * in + k] += f * a[r * in + k];
        }
    }
}

static bool lora_merge_bias(const struct adapter_site *s, float *bias)
{
    const float *b;

    if (!s->param[LORA_BIAS])
        return false;
    b = s->param[LORA_BIAS]->data;
    for (int64_t i = 0; i < s->slot->out; i++)
        bias[i] += s->scale * b[i];
    return true;
}

static void lora_factors(const struct adapter_site *s, float *left, float *right)
{
    memcpy(left, s->param[LORA_B]->data, (size_t)(s->slot->out * s->r) * sizeof *left);
    memcpy(right, s->param[LORA_A]->data, (size_t)(s->r * s->slot->in) * sizeof *right);
}

void lora_fill(struct adapter_site *s, const float *left, const float *right, const float *bias)
{
    memcpy(s->param[LORA_B]->data, left, (size_t)(s->slot->out * s->r) * sizeof *left);
    memcpy(s->param[LORA_A]->data, right, (size_t)(s->r * s->slot->in) * sizeof *right);
    if (bias)
        memcpy(s->param[LORA_BIAS]->data, bias, (size_t)s->slot->out * sizeof *bias);
}

const struct adapter_ops lora_ops = {
    .name = "lora",
    .peft_type = "LORA",
    .paper = "arXiv:2106.09685",
    .sites = SITE_LINEAR,
    .build = lora_build,
    .init = lora_init,
    .forward = lora_forward,
    .merge_rows = lora_merge_rows,
    .merge_bias = lora_merge_bias,
    .merges = MERGE_ADDS,
    .factors = lora_factors,
};
