/* Bottleneck adapters: Houlsby et al. 2019, arXiv:1902.00751 (series, after both sublayers);
 * Pfeiffer et al. 2021, arXiv:2005.00247 (series, after feed-forward alone); He et al. 2022,
 * arXiv:2110.04366 (parallel to feed-forward, scaled).
 *
 *     series    y' = y + s dropout(U act(D y + d) + u)      y: what the sublayer adds to the stream
 *     parallel  y' = y + s dropout(U act(D x + d) + u)      x: the sublayer's own, normed input
 * D: (B, C)   U: (C, B)   B = C / reduction_factor.   Keys, places and start values are those of
 * adapter-hub; tensors have its names less ".adapters.NAME". Not linear, so it does not merge. */
#include <math.h>
#include <string.h>

#include "peft/config_keys.h"
#include "peft/encoder.h"
#include "peft/methods.h"

enum { DOWN, DOWN_BIAS, UP, UP_BIAS, PARAMS };

static const char NO_MERGE[] =
    "it is a network of its own between two layers, no weight can hold it";

static enum activation activation_of(int non_linearity)
{
    static const enum activation kind[] = {
        ACT_RELU,      ACT_SILU,      ACT_SILU,       ACT_GELU,
        ACT_GELU_TANH, ACT_GELU_TANH, ACT_QUICK_GELU, ACT_TANH
    }; /* non_linearity_names */

    return kind[non_linearity];
}

static bool takes_both(const struct adapter_config *c, const struct slot *slot)
{
    (void)c;
    return slot->site == SITE_SUBLAYER;
}

static bool takes_ffn(const struct adapter_config *c, const struct slot *slot)
{
    return takes_both(c, slot) && slot->sublayer == SUBLAYER_FFN;
}

/* int(hidden // factor), and 1 at least, as adapter-hub has it. */
static int64_t width_of(const struct bottleneck_config *b, int64_t hidden)
{
    const double n = floor((double)hidden / b->reduction_factor);

    return b->size ? b->size : n < 1 ? 1 : (int64_t)n;
}

/* "base_model.model.model.layers.0.output_adapters" + tail; the slot is "model.layers.0.mlp". */
static enum graft_status build_param(struct adapter_site *s, int which, const char *tail,
                                     int64_t rows, int64_t cols, struct graft_err *err)
{
    const struct slot *slot = s->slot;
    const char *dot = strrchr(slot->name, '.');
    const int layer = dot ? (int)(dot - slot->name) : (int)strlen(slot->name);
    struct param_spec spec = { .ndim = cols ? 2 : 1, .dim = { rows, cols } };
    struct strbuf name = STRBUF_INIT;

    strbuf_printf(&name, "base_model.model.%.*s.%s_adapters.%s", layer, slot->name,
                  slot->sublayer == SUBLAYER_ATTENTION ? "attention" : "output", tail);
    spec.name = strbuf_str(&name);
    s->param[which] = name.failed ? NULL : adapter_param(s, &spec);
    strbuf_release(&name);
    return s->param[which]
               ? GRAFT_OK
               : graft_fail_nomem(err, slot->name, (size_t)(rows * (cols ? cols : 1)) * 8);
}

static enum graft_status bottleneck_build(struct adapter_site *s, struct graft_err *err)
{
    const int64_t C = s->slot->out, B = width_of(&s->adapter->config.bottleneck, C);

    GRAFT_TRY(build_param(s, DOWN, "adapter_down.0.weight", B, C, err));
    GRAFT_TRY(build_param(s, DOWN_BIAS, "adapter_down.0.bias", B, 0, err));
    GRAFT_TRY(build_param(s, UP, "adapter_up.weight", C, B, err));
    return build_param(s, UP_BIAS, "adapter_up.bias", C, 0, err);
}

/* bert: normal, 0.02. houlsby: normal, 0.01, none beyond two deviations. mam_adapter: D uniform in
 * +-1/sqrt(C), U zero, so that the model begins as the base. Biases begin at zero. */
static enum graft_status bottleneck_init(struct adapter_site *s, uint64_t seed,
                                         struct graft_err *err)
{
    struct tensor *down = s->param[DOWN], *up = s->param[UP];

    (void)err;
    switch (s->adapter->config.bottleneck.init) {
    case INIT_BERT:
        init_normal(s, down, seed, 0.02);
        init_normal(s, up, seed, 0.02);
        break;
    case INIT_HOULSBY:
        init_truncated(s, down, seed, 0.01);
        init_truncated(s, up, seed, 0.01);
        break;
    default:
        init_uniform(s, down, seed, 1.0 / sqrt((double)down->dim[1]));
    }
    return GRAFT_OK;
}

static struct tensor *adapt(struct adapter_site *s, struct graph *g, struct tensor *x,
                            struct tensor *y)
{
    const struct bottleneck_config *b = &s->adapter->config.bottleneck;
    struct tensor *w = graph_leaf(g, s->param[UP]), *bias = graph_leaf(g, s->param[UP_BIAS]);
    const float scale = (float)b->scaling;

    x = op_linear(g, x, graph_leaf(g, s->param[DOWN]), graph_leaf(g, s->param[DOWN_BIAS]), NULL,
                  1.0f);
    x = op_activation(g, x, activation_of(b->non_linearity));
    if (b->dropout <= 0)
        return op_linear(g, x, w, bias, y, scale);
    x = op_linear(g, x, w, bias, NULL, scale);
    return op_add(g, y, op_dropout(g, x, (float)b->dropout, (uint32_t)s->slot->index), 1.0f);
}

static struct tensor *series_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                     struct tensor *y)
{
    (void)x;
    return adapt(s, g, y, y);
}

/* What stands behind the bottleneck: without it nothing is added. */
static void bottleneck_size(const struct adapter_site *s, double *squares, double *largest)
{
    if (s->adapter->config.bottleneck.scaling == 0)
        return;
    add_size(s->param[UP]->data, param_elems(s->param[UP]), squares, largest);
    add_size(s->param[UP_BIAS]->data, param_elems(s->param[UP_BIAS]), squares, largest);
}

const struct adapter_ops houlsby_ops = {
    .name = "houlsby",
    .peft_type = "HOULSBY",
    .paper = "arXiv:1902.00751",
    .sites = SITE_SUBLAYER,
    .no_merge = NO_MERGE,
    .takes = takes_both,
    .build = bottleneck_build,
    .init = bottleneck_init,
    .forward = series_forward,
    .size = bottleneck_size,
};
const struct adapter_ops pfeiffer_ops = {
    .name = "pfeiffer",
    .peft_type = "PFEIFFER",
    .paper = "arXiv:2005.00247",
    .sites = SITE_SUBLAYER,
    .no_merge = NO_MERGE,
    .takes = takes_ffn,
    .build = bottleneck_build,
    .init = bottleneck_init,
    .forward = series_forward,
    .size = bottleneck_size,
};
const struct adapter_ops parallel_ops = {
    .name = "parallel",
    .peft_type = "PARALLEL",
    .paper = "arXiv:2110.04366",
    .sites = SITE_SUBLAYER,
    .no_merge = NO_MERGE,
    .takes = takes_ffn,
    .build = bottleneck_build,
    .init = bottleneck_init,
    .forward = adapt,
    .size = bottleneck_size,
};
