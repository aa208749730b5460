/* IA3, Liu et al. 2022, arXiv:2205.05638: a factor for each value a linear takes or gives; names,
 * shapes and targets as in PEFT.
 *
 * feed-forward: y' = W (l x) + bias      l: (1, I)
 * otherwise:    y' = l (W x + bias)      l: (O, 1)
 * Starts as ones. Merged: columns of W, or rows of W and the bias, times l. */
#include "peft/methods.h"

enum { IA3_L };

static enum graft_status ia3_build(struct adapter_site *s, struct graft_err *err)
{
    const int64_t in = s->slot->in, out = s->slot->out;
    const struct param_spec l = { .suffix = ".ia3_l",
                                  .ndim = 2,
                                  .dim = { s->feedforward ? 1 : out, s->feedforward ? in : 1 } };

    s->param[IA3_L] = adapter_param(s, &l);
    return s->param[IA3_L] ? GRAFT_OK : graft_fail_nomem(err, s->slot->name, (size_t)out * 8);
}

/* Ones; with init_ia3_weights false normal, as PEFT leaves them: not the identity. */
static enum graft_status ia3_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    const struct rng_key key = { seed, RNG_INIT, 0, 4 * (uint32_t)s->slot->index };
    const struct tensor *l = s->param[IA3_L];
    const bool ones = s->adapter->config.init_ia3_ones;
    float *v = l->data;

    (void)err;
    for (int64_t i = 0; i < l->dim[0] * l->dim[1]; i++)
        v[i] = ones ? 1.0f : rng_normal(key, (uint64_t)i);
    return GRAFT_OK;
}

static struct tensor *ia3_input(struct adapter_site *s, struct graph *g, struct tensor *x)
{
    return s->feedforward ? op_column_scale(g, x, graph_leaf(g, s->param[IA3_L]), NULL) : x;
}

static struct tensor *ia3_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                  struct tensor *y)
{
    (void)x;
    return s->feedforward ? y : op_column_scale(g, y, graph_leaf(g, s->param[IA3_L]), NULL);
}

static void ia3_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const float *l = s->param[IA3_L]->data;
    const int64_t in = s->slot->in;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < in; k++)
            w[i * in + k] *= s->feedforward ? l[k] : l[first + i];
}

static bool ia3_merge_bias(const struct adapter_site *s, float *bias)
{
    const float *l = s->param[IA3_L]->data;

    for (int64_t i = 0; !s->feedforward && i < s->slot->out; i++)
        bias[i] *= l[i];
    return !s->feedforward;
}

const struct adapter_ops ia3_ops = {
    .name = "ia3",
    .peft_type = "IA3",
    .paper = "arXiv:2205.05638",
    .sites = SITE_LINEAR,
    .build = ia3_build,
    .init = ia3_init,
    .input = ia3_input,
    .forward = ia3_forward,
    .merge_rows = ia3_merge_rows,
    .merge_bias = ia3_merge_bias,
    .merges = MERGE_SCALES,
};
