/* DoRA, Liu et al. 2024, arXiv:2402.09353: LoRA with a magnitude for each output, as in PEFT.
 *
 * y' = c (W x + s B A x) + bias      c = m / |W + s B A|, by rows; the norm is a constant to the
 * gradient, but follows A and B. m: (O), starts as the norms, so that c is 1.
 * With dropout PEFT leaves the base's own product without it and corrects that:
 * y' = y - W xd + c (W xd + s B A xd)      xd = dropout(x), the same in both
 * At the embedding the norms are those of its columns, a magnitude for each channel; no dropout.
 * Merged: W' = c (W + s B A), bias' = bias. */
#include <math.h>
#include <string.h>

#include "peft/lora.h"

struct dora {
    float *square; /* (M): |w_i|^2 */
    float *factor; /* (M): c, of an adapter that does not train */
    int64_t count; /* M: out, at an embedding its width */
};

static enum graft_status dora_build(struct adapter_site *s, struct graft_err *err)
{
    struct arena *mem = &s->adapter->mem;
    const int64_t count = s->slot->site == SITE_EMBED ? s->slot->in : s->slot->out;
    const struct param_spec m = { .suffix = ".lora_magnitude_vector",
                                  .ndim = 1,
                                  .dim = { count },
                                  .lr_ratio = s->slot->site == SITE_EMBED
                                                  ? 0
                                                  : s->adapter->config.loraplus_lr_ratio };
    struct dora *d = arena_alloc(mem, sizeof *d);

    GRAFT_TRY(lora_build(s, err));
    s->param[LORA_MAGNITUDE] = adapter_param(s, &m);
    if (!d || !s->param[LORA_MAGNITUDE])
        return graft_fail_nomem(err, s->slot->name, (size_t)count * 16);
    if (s->adapter->counted_only)
        return GRAFT_OK;
    if (!s->slot->w)
        return graft_fail(err, GRAFT_EARG,
                          "%s: dora's change depends on the base, which is not here",
                          s->slot->name);
    s->state = d;
    d->count = count;
    d->square = arena_array(mem, (size_t)count, sizeof *d->square);
    d->factor = arena_array(mem, (size_t)count, sizeof *d->factor);
    if (!d->square || !d->factor)
        return graft_fail_nomem(err, s->slot->name, (size_t)count * 8);
    return slot_squares(s->slot, d->square, err);
}

/* The norms as they are now, in `norm` (M). */
static enum graft_status norms(const struct adapter_site *s, float *norm, struct graft_err *err)
{
    const struct dora *d = s->state;

    return slot_changed_norms(s->slot, s->r, s->scale, s->param[LORA_A]->data,
                              s->param[LORA_B]->data, d->square, norm, err);
}

static enum graft_status dora_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    GRAFT_TRY(lora_init(s, seed, err));
    return norms(s, s->param[LORA_MAGNITUDE]->data, err);
}

/* Values that do not train have one factor for good. */
static enum graft_status dora_ready(struct adapter_site *s, struct graft_err *err)
{
    const struct dora *d = s->state;
    const float *m = s->param[LORA_MAGNITUDE]->data;

    GRAFT_TRY(norms(s, d->factor, err));
    for (int64_t i = 0; i < d->count; i++)
        d->factor[i] = d->factor[i] > 0 ? m[i] / d->factor[i] : 0;
    return GRAFT_OK;
}

static struct tensor *factor(struct adapter_site *s, struct graph *g)
{
    const struct dora *d = s->state;
    const char *name = s->param[LORA_MAGNITUDE]->name;
    const struct magnitude of = { .m = graph_leaf(g, s->param[LORA_MAGNITUDE]),
                                  .w = slot_weight(s->slot, g),
                                  .a = graph_leaf(g, s->param[LORA_A]),
                                  .b = graph_leaf(g, s->param[LORA_B]),
                                  .square = graph_vector(g, d->square, d->count, name),
                                  .scale = s->scale,
                                  .columns = s->slot->site == SITE_EMBED };

    if (!s->adapter->trainable)
        return graph_vector(g, d->factor, d->count, name);
    return op_magnitude(g, &of);
}

static struct tensor *dora_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                   struct tensor *y)
{
    struct tensor *c = factor(s, g), *bias = adapter_bias(s->adapter, s->slot, g), *dropped, *w;

    if (!bias)
        bias = slot_bias_leaf(s->slot, g);
    if (!x || !s->adapter->trainable || !(s->adapter->config.lora_dropout > 0))
        return op_column_scale(g, lora_change(s, g, x, y), c, bias);
    dropped = lora_dropped(s, g, x);
    w = op_linear(g, dropped, slot_weight(s->slot, g), NULL, NULL, 1.0f);
    return op_add(g, op_add(g, y, w, -1.0f),
                  op_column_scale(g, lora_change(s, g, dropped, w), c, NULL), 1.0f);
}

static void scale_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const float *m = s->param[LORA_MAGNITUDE]->data;
    const int64_t in = s->slot->in;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double square = 0;
        float c;

        for (int64_t k = 0; k < in; k++)
            square += (double)w[i * in + k] * (double)w[i * in + k];
        c = square > 0 ? (float)((double)m[first + i] / sqrt(square)) : 0;
        for (int64_t k = 0; k < in; k++)
            w[i * in + k] *= c;
    }
}

static void dora_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const struct dora *d = s->state;
    const int64_t D = s->slot->in;

    lora_merge_rows(s, first, n, w);
    if (s->slot->site != SITE_EMBED) {
        scale_rows(s, first, n, w);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < D; k++)
            w[i * D + k] *= d->factor[k];
}

const struct adapter_ops dora_ops = {
    .name = "dora",
    .peft_type = "LORA",
    .paper = "arXiv:2402.09353",
    .sites = SITE_LINEAR | SITE_EMBED,
    .build = dora_build,
    .init = dora_init,
    .ready = dora_ready,
    .forward = dora_forward,
    .merge_rows = dora_merge_rows,
    .merges = MERGE_BY_BASE,
};
