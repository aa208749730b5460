/* LoRA, Hu et al. 2021, arXiv:2106.09685; names, start values and scaling as in PEFT.
 *
 * y' = y + s (B A dropout(x) + b)      s = alpha / r, or alpha / sqrt(r) with rsLoRA
 * A: (R, I)   B: (O, R)   b: (O), only with lora_bias
 * At the embedding, of id i: y' = y + s B A[:, i], without dropout.
 * Merged: W' = W + s B A, bias' = bias + s b. LoRA+ (Hayou et al. 2024, arXiv:2402.12354): B learns
 * at a multiple of the rate. */
#include "peft/lora.h"

#include <string.h>

static bool at_embedding(const struct adapter_site *s)
{
    return s->slot->site == SITE_EMBED;
}

/* A linear's B, its bias and DoRA's magnitude have the rate of B, as PEFT's optimiser for LoRA+
 * groups them; at the embedding it is A that starts at zero, and both keep the plain rate. */
static double ratio_of_b(const struct adapter_site *s)
{
    return at_embedding(s) ? 0 : s->adapter->config.loraplus_lr_ratio;
}

enum graft_status lora_build(struct adapter_site *s, struct graft_err *err)
{
    const struct adapter_config *c = &s->adapter->config;
    const bool embed = at_embedding(s);
    const int64_t in = embed ? s->slot->out : s->slot->in;
    const int64_t out = embed ? s->slot->in : s->slot->out;
    const bool taken = lora_init_takes(c->init), kept = taken && !slot_changeable(s->slot);
    const struct param_spec a = { .suffix = embed  ? ".lora_embedding_A"
                                            : kept ? ".lora_A.trained"
                                                   : ".lora_A.weight",
                                  .ndim = 2,
                                  .dim = { s->r, in },
                                  .file = kept ? FILE_NONE : FILE_ADAPTER },
                            b = { .suffix = embed  ? ".lora_embedding_B"
                                            : kept ? ".lora_B.trained"
                                                   : ".lora_B.weight",
                                  .ndim = 2,
                                  .dim = { out, s->r },
                                  .file = kept ? FILE_NONE : FILE_ADAPTER,
                                  .lr_ratio = ratio_of_b(s) },
                            bias = { .suffix = ".lora_B.bias",
                                     .ndim = 1,
                                     .dim = { out },
                                     .lr_ratio = ratio_of_b(s) };

    if (s->adapter->trainable && c->init == LORA_INIT_ORTHOGONAL && s->r % 2)
        return graft_fail(err, GRAFT_EARG,
                          "adapter.init_lora_weights: orthogonal wants an even rank, %s has %lld",
                          s->slot->name, (long long)s->r);
    if (embed && c->lora_bias)
        return graft_fail(err, GRAFT_EARG,
                          "adapter.lora_bias: true does not go with %s, an embedding, among "
                          "target_modules",
                          s->slot->name);
    if (taken)
        GRAFT_TRY(lora_taken_check(s, err));
    s->param[LORA_A] = adapter_param(s, &a);
    s->param[LORA_B] = adapter_param(s, &b);
    if (c->lora_bias)
        s->param[LORA_BIAS] = adapter_param(s, &bias);
    if (!s->param[LORA_A] || !s->param[LORA_B] || (c->lora_bias && !s->param[LORA_BIAS]))
        return graft_fail_nomem(err, s->slot->name, (size_t)(s->r * (in + out)) * 4);
    return kept ? lora_taken_build(s, err) : GRAFT_OK;
}

struct tensor *lora_dropped(struct adapter_site *s, struct graph *g, struct tensor *x)
{
    const double p = s->adapter->config.lora_dropout;

    return x && p > 0 ? op_dropout(g, x, (float)p, (uint32_t)s->slot->index) : x;
}

struct tensor *lora_change(struct adapter_site *s, struct graph *g, struct tensor *x,
                           struct tensor *acc)
{
    struct tensor *a = graph_leaf(g, s->param[LORA_A]), *b = graph_leaf(g, s->param[LORA_B]);
    struct tensor *bias = s->param[LORA_BIAS] ? graph_leaf(g, s->param[LORA_BIAS]) : NULL;
    struct tensor *low =
        at_embedding(s) ? op_pick_columns(g, a) : op_linear(g, x, a, NULL, NULL, 1.0f);

    return op_linear(g, low, b, bias, acc, s->scale);
}

static struct tensor *lora_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                   struct tensor *y)
{
    if (s->param[LORA_A0])
        y = lora_taken_forward(s, g, x, y);
    return lora_change(s, g, lora_dropped(s, g, x), y);
}

/* Row v of the embedding gets s sum_r A[r, v] B[:, r]. */
static void merge_embedding(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const float *a = s->param[LORA_A]->data, *b = s->param[LORA_B]->data;
    const int64_t V = s->slot->out, D = s->slot->in;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        for (int64_t d = 0; d < D; d++) {
            float sum = 0;

            for (int64_t r = 0; r < s->r; r++)
                sum += b[d * s->r + r] * a[r * V + first + i];
            w[i * D + d] += s->scale * sum;
        }
    }
}

void lora_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const float *a = s->param[LORA_A]->data, *b = s->param[LORA_B]->data;
    const int64_t in = s->slot->in;

    if (at_embedding(s)) {
        merge_embedding(s, first, n, w);
        return;
    }
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

/* out (n, m) = in (m, n) turned around */
static void turn(int64_t m, int64_t n, const float *in, float *out)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = 0; k < n; k++)
            out[k * m + i] = in[i * n + k];
}

static void lora_factors(const struct adapter_site *s, float *left, float *right)
{
    const float *a = s->param[LORA_A]->data, *b = s->param[LORA_B]->data;
    const int64_t in = s->slot->in, out = s->slot->out;

    if (at_embedding(s)) { /* the change is s A^T B^T */
        turn(s->r, out, a, left);
        turn(in, s->r, b, right);
        return;
    }
    memcpy(left, b, (size_t)(out * s->r) * sizeof *left);
    memcpy(right, a, (size_t)(s->r * in) * sizeof *right);
}

void lora_fill(struct adapter_site *s, const float *left, const float *right, const float *bias)
{
    const int64_t in = s->slot->in, out = s->slot->out;

    if (at_embedding(s)) {
        turn(out, s->r, left, s->param[LORA_A]->data);
        turn(s->r, in, right, s->param[LORA_B]->data);
        return;
    }
    memcpy(s->param[LORA_B]->data, left, (size_t)(out * s->r) * sizeof *left);
    memcpy(s->param[LORA_A]->data, right, (size_t)(s->r * in) * sizeof *right);
    if (bias)
        memcpy(s->param[LORA_BIAS]->data, bias, (size_t)out * sizeof *bias);
}

const struct adapter_ops lora_ops = {
    .name = "lora",
    .peft_type = "LORA",
    .paper = "arXiv:2106.09685",
    .sites = SITE_LINEAR | SITE_EMBED,
    .build = lora_build,
    .init = lora_init,
    .forward = lora_forward,
    .derive = lora_taken_derive,
    .merge_rows = lora_merge_rows,
    .merge_bias = lora_merge_bias,
    .merges = MERGE_ADDS,
    .factors = lora_factors,
};
