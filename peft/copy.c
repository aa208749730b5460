/* Copies of the base's own tensors, trained in their stead: beside any method (modules_to_save,
 * bias), and as methods of their own. A copy starts as what the base decodes to.
 *
 * modules_to_save, bias of LoRA: PEFT. LayerNorm tuning: Zhao et al. 2023, arXiv:2312.11420, PEFT's
 * LN_TUNING. BitFit: Ben Zaken et al. 2021, arXiv:2106.10199. */
#include <string.h>

#include "peft/change.h"
#include "peft/methods.h"

enum { COPY_WEIGHT, COPY_BIAS };
enum { ROWS_BYTES = 1 << 22 }; /* of a weight decoded by one thread at a time */

/* The parameters of a copy; a suffix that is NULL: not of this tensor. */
static enum graft_status build_copy(struct adapter_site *s, const char *weight, const char *bias,
                                    const char *older_bias, struct graft_err *err)
{
    const struct slot *slot = s->slot;
    const bool vector = slot->site == SITE_NORM;
    const struct param_spec w = { .suffix = weight,
                                  .ndim = vector ? 1 : 2,
                                  .dim = { slot->out, vector ? 0 : slot->in } },
                            b = {
                                .suffix = bias, .older = older_bias, .ndim = 1, .dim = { slot->out }
                            };

    if (weight)
        s->param[COPY_WEIGHT] = adapter_param(s, &w);
    if (bias && slot->has_bias)
        s->param[COPY_BIAS] = adapter_param(s, &b);
    if ((weight && !s->param[COPY_WEIGHT]) || (bias && slot->has_bias && !s->param[COPY_BIAS]))
        return graft_fail_nomem(err, slot->name, (size_t)(slot->in * slot->out) * 8);
    return GRAFT_OK;
}

static void decode_weight(const struct slot *slot, float *out)
{
    const int64_t most = ROWS_BYTES / 4 / slot->in, step = most < 1 ? 1 : most;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < slot->out; i += step)
        slot_decode_rows(slot, i, step < slot->out - i ? step : slot->out - i, out + i * slot->in);
}

static enum graft_status copy_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    const struct slot *slot = s->slot;

    (void)seed;
    (void)err;
    if (s->param[COPY_WEIGHT] && slot->site == SITE_NORM)
        slot_vector(slot, s->param[COPY_WEIGHT]->data);
    else if (s->param[COPY_WEIGHT])
        decode_weight(slot, s->param[COPY_WEIGHT]->data);
    if (s->param[COPY_BIAS])
        slot_bias(slot, s->param[COPY_BIAS]->data);
    return GRAFT_OK;
}

static struct tensor *copy_weight(struct adapter_site *s, struct graph *g)
{
    return graph_leaf(g, s->param[COPY_WEIGHT]);
}

static struct tensor *copy_bias(struct adapter_site *s, struct graph *g)
{
    return graph_leaf(g, s->param[COPY_BIAS]);
}

static void copy_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const int64_t width = s->slot->in;

    if (s->param[COPY_WEIGHT])
        memcpy(w, (const float *)s->param[COPY_WEIGHT]->data + first * width,
               (size_t)(n * width) * sizeof *w);
}

static bool copy_merge_bias(const struct adapter_site *s, float *bias)
{
    if (!s->param[COPY_BIAS])
        return false;
    memcpy(bias, s->param[COPY_BIAS]->data, (size_t)s->slot->out * sizeof *bias);
    return true;
}

#define BIAS_HOOKS                                                                                 \
    .init = copy_init, .bias = copy_bias, .merge_bias = copy_merge_bias, .merges = MERGE_REPLACES
#define COPY_HOOKS BIAS_HOOKS, .weight = copy_weight, .merge_rows = copy_merge_rows

enum { SITES_WEIGHT = SITE_LINEAR | SITE_EMBED | SITE_NORM };

static const struct slot *embed_slot(const struct slot_list *l)
{
    for (int i = 0; i < l->count; i++)
        if (l->slot[i].site == SITE_EMBED)
            return &l->slot[i];
    return NULL;
}

/* Weight and bias under the plain names of a checkpoint. */
static enum graft_status plain_build(struct adapter_site *s, struct graft_err *err)
{
    return build_copy(s, ".weight", ".bias", NULL, err);
}

/* ---- LayerNorm tuning */

static enum graft_status layernorm_build(struct adapter_site *s, struct graft_err *err)
{
    return build_copy(s, ".ln_tuning_layers.weight", ".ln_tuning_layers.bias", NULL, err);
}

const struct adapter_ops layernorm_ops = {
    .name = "layernorm",
    .peft_type = "LN_TUNING",
    .paper = "arXiv:2312.11420",
    .sites = SITES_WEIGHT,
    .build = layernorm_build,
    COPY_HOOKS,
};

/* ---- BitFit: every bias there is */

static enum graft_status bitfit_prepare(struct adapter *a, struct graft_err *err)
{
    for (int i = 0; i < a->slots->count; i++)
        if (a->slots->slot[i].has_bias)
            return GRAFT_OK;
    return graft_fail(err, GRAFT_EARG,
                      "adapter.method bitfit trains the biases of the base, and this %s has none; "
                      "layernorm trains its norms, lora with lora_bias adds biases of its own",
                      a->slots->model_type);
}

static bool bitfit_takes(const struct adapter_config *c, const struct slot *slot)
{
    (void)c;
    return slot->has_bias;
}

static enum graft_status bitfit_build(struct adapter_site *s, struct graft_err *err)
{
    return build_copy(s, NULL, ".bias", NULL, err);
}

const struct adapter_ops bitfit_ops = {
    .name = "bitfit",
    .peft_type = "BITFIT",
    .paper = "arXiv:2106.10199",
    .sites = SITE_LINEAR | SITE_NORM,
    .prepare = bitfit_prepare,
    .takes = bitfit_takes,
    .build = bitfit_build,
    BIAS_HOOKS,
};

/* ---- the head alone (linear probing); a tied one parts from the embedding */

static bool head_takes(const struct adapter_config *c, const struct slot *slot)
{
    (void)c;
    return slot->is_head;
}

const struct adapter_ops head_ops = {
    .name = "head",
    .peft_type = "HEAD",
    .paper = "arXiv:2202.10054",
    .sites = SITE_LINEAR,
    .takes = head_takes,
    .build = plain_build,
    COPY_HOOKS,
};

/* ---- the last layers, whole */

static enum graft_status last_layers_prepare(struct adapter *a, struct graft_err *err)
{
    if (a->config.last_layers > a->slots->layers)
        return graft_fail(err, GRAFT_EARG, "adapter.last_layers: found %lld, the base has %lld",
                          (long long)a->config.last_layers, (long long)a->slots->layers);
    a->config.first_layer = a->slots->layers - a->config.last_layers;
    return GRAFT_OK;
}

static bool last_layers_takes(const struct adapter_config *c, const struct slot *slot)
{
    return slot->layer >= c->first_layer;
}

const struct adapter_ops last_layers_ops = {
    .name = "last_layers",
    .peft_type = "LAST_LAYERS",
    .paper = "arXiv:1411.1792",
    .sites = SITE_LINEAR | SITE_NORM,
    .prepare = last_layers_prepare,
    .takes = last_layers_takes,
    .build = plain_build,
    COPY_HOOKS,
};

/* ---- everything */

static enum graft_status full_prepare(struct adapter *a, struct graft_err *err)
{
    for (int i = 0; i < a->slots->count; i++) {
        const struct slot *s = &a->slots->slot[i];

        if ((s->site & (SITE_LINEAR | SITE_EMBED)) && !slot_is_float(s))
            return graft_fail(err, GRAFT_EARG,
                              "adapter.method full trains every weight and needs a base of floats; "
                              "%s is quantised here: use the checkpoint it was made from, or an "
                              "adapter over this one",
                              s->name);
    }
    return GRAFT_OK;
}

static bool full_takes(const struct adapter_config *c, const struct slot *slot)
{
    (void)c;
    (void)slot;
    return true;
}

/* A tied head has no parameter of its own: both uses add to one gradient. */
static enum graft_status full_build(struct adapter_site *s, struct graft_err *err)
{
    const struct adapter *a = s->adapter;

    if (!s->slot->is_head || !a->slots->tied || a->config.untie_head)
        return plain_build(s, err);
    s->param[COPY_WEIGHT] = adapter_at(a, embed_slot(a->slots))->param[COPY_WEIGHT];
    return GRAFT_OK;
}

const struct adapter_ops full_ops = {
    .name = "full",
    .sites = SITES_WEIGHT,
    .prepare = full_prepare,
    .takes = full_takes,
    .build = full_build,
    COPY_HOOKS,
};

void adapter_start_from(struct adapter *whole, const struct adapter *change)
{
    for (int i = 0; i < whole->site_count; i++) {
        const struct adapter_site *to = &whole->site[i];
        const int64_t rows = to->slot->site == SITE_NORM ? 1 : to->slot->out;

        if (to->slot->is_head && whole->slots->tied && !whole->config.untie_head)
            continue; /* its values are the embedding's */
        merged_rows(change, to->slot, 0, rows, to->param[COPY_WEIGHT]->data);
        if (to->param[COPY_BIAS])
            merged_bias(change, to->slot, to->param[COPY_BIAS]->data);
    }
}

/* ---- beside a method: modules_to_save */

static const struct adapter_ops saved_ops = {
    .name = "modules_to_save",
    .sites = SITES_WEIGHT,
    .build = plain_build,
    COPY_HOOKS,
};

/* The tied head's part of ensure_weight_tying: the embedding's copy, saved under both names. */
static enum graft_status tied_build(struct adapter_site *s, struct graft_err *err)
{
    const struct adapter *a = s->adapter;

    s->param[COPY_WEIGHT] = adapter_at(a, embed_slot(a->slots))->param[COPY_WEIGHT];
    if (!adapter_share(s, s->param[COPY_WEIGHT], ".weight"))
        return graft_fail_nomem(err, s->slot->name, sizeof *s);
    return GRAFT_OK;
}

static enum graft_status tied_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    (void)s;
    (void)seed;
    (void)err;
    return GRAFT_OK;
}

static const struct adapter_ops tied_ops = {
    .name = "modules_to_save",
    .sites = SITE_LINEAR,
    .build = tied_build,
    .init = tied_init,
    .weight = copy_weight,
    .merge_rows = copy_merge_rows,
    .merges = MERGE_REPLACES,
};

/* Does something at the slot change the module already? */
static const struct adapter_site *changed(const struct adapter *a, const struct slot *slot)
{
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->weight || s->ops->bias || s->ops->input || s->ops->forward)
            return s;
    return NULL;
}

static bool is_module(const struct slot *slot)
{
    return (slot->site & SITES_WEIGHT) != 0;
}

/* The slot of a tied head or embedding whose other half modules_to_save takes too. */
static bool tied_with_saved(const struct adapter *a, const struct slot *slot)
{
    int which;

    if (!a->config.ensure_weight_tying || !a->slots->tied ||
        (slot->site != SITE_EMBED && !slot->is_head))
        return false;
    for (int i = 0; i < a->slots->count; i++) {
        const struct slot *s = &a->slots->slot[i];

        if ((s->site == SITE_EMBED || s->is_head) && targets_saves(&a->config, s, &which))
            return true;
    }
    return false;
}

/* Notes are for whoever trains, not for who only uses or counts. */
static bool starts(const struct adapter *a)
{
    return a->trainable && !a->counted_only;
}

static enum graft_status save_slot(struct adapter *a, const struct slot *slot, const char *name,
                                   struct graft_err *err)
{
    const struct adapter_site *s = changed(a, slot);
    const bool tied = tied_with_saved(a, slot);

    if (s)
        return graft_fail(err, GRAFT_EARG,
                          "adapter.modules_to_save: '%s' holds %s, which %s trains already", name,
                          slot->name, s->ops->name);
    if (starts(a) && a->slots->tied && !tied && (slot->site == SITE_EMBED || slot->is_head))
        graft_note("adapter.modules_to_save: %s is tied to the %s in this base; as in PEFT, only "
                   "its copy is trained and the two part%s",
                   slot->name, slot->is_head ? "embedding" : "head",
                   a->ops == adapter_method("lora") ? " (ensure_weight_tying keeps them one)" : "");
    return adapter_add_site(a, tied && slot->is_head ? &tied_ops : &saved_ops, slot, NULL, err);
}

static enum graft_status place_saved(struct adapter *a, struct graft_err *err)
{
    const struct adapter_config *c = &a->config;
    bool *used = arena_array(&a->mem, (size_t)c->modules_to_save_count, sizeof *used);

    if (!used)
        return graft_fail_nomem(err, "modules_to_save", (size_t)c->modules_to_save_count);
    for (int i = 0; i < a->slots->count; i++) {
        const struct slot *slot = &a->slots->slot[i];
        int which = 0;

        if (!is_module(slot))
            continue;
        for (int k = 0; k < c->modules_to_save_count; k++)
            used[k] = used[k] || targets_name_saves(c->modules_to_save[k], slot);
        if (!targets_saves(c, slot, &which) && !tied_with_saved(a, slot))
            continue;
        GRAFT_TRY(save_slot(a, slot, c->modules_to_save[which], err));
    }
    for (int i = 0; i < c->modules_to_save_count; i++)
        if (!used[i])
            return graft_fail(
                err, GRAFT_EARG,
                "adapter.modules_to_save: '%s' ends the name of no module of the base",
                c->modules_to_save[i]);
    return GRAFT_OK;
}

/* ---- beside LoRA: biases of the base */

static bool has_adapter(const struct adapter *a, const struct slot *slot)
{
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops == a->ops)
            return true;
    return false;
}

/* PEFT puts a module with an adapter under base_layer; before it did, the bias stood at the module.
 */
static enum graft_status bias_build(struct adapter_site *s, struct graft_err *err)
{
    if (has_adapter(s->adapter, s->slot))
        return build_copy(s, NULL, ".base_layer.bias", ".bias", err);
    return build_copy(s, NULL, ".bias", NULL, err);
}

static const struct adapter_ops bias_ops = {
    .name = "bias",
    .sites = SITE_LINEAR | SITE_NORM,
    .build = bias_build,
    BIAS_HOOKS,
};

static enum graft_status place_biases(struct adapter *a, struct graft_err *err)
{
    const bool all = a->config.bias == BIAS_COPIES_ALL;
    const int before = a->site_count;

    for (int i = 0; i < a->slots->count; i++) {
        const struct slot *slot = &a->slots->slot[i];
        int which;

        if (!slot->has_bias || targets_saves(&a->config, slot, &which))
            continue;
        if (all || has_adapter(a, slot))
            GRAFT_TRY(adapter_add_site(a, &bias_ops, slot, NULL, err));
    }
    if (a->site_count == before && starts(a))
        graft_note("adapter.bias: there is none to train, %s",
                   all ? "the base has no biases" : "no module with an adapter has one");
    return GRAFT_OK;
}

enum graft_status copies_place(struct adapter *a, struct graft_err *err)
{
    if (a->config.modules_to_save_count)
        GRAFT_TRY(place_saved(a, err));
    if (a->config.bias != BIAS_COPIES_NONE)
        GRAFT_TRY(place_biases(a, err));
    return GRAFT_OK;
}
