#include "peft/adapter.h"

#include <math.h>
#include <string.h>

static enum graft_status refuse_kept_out(const struct adapter *a, const char *key,
                                         struct graft_err *err)
{
    const struct target_set *t = &a->config.target_modules;
    struct strbuf names = STRBUF_INIT;
    enum graft_status st;

    for (int i = 0; i < t->count; i++)
        strbuf_printf(&names, "%s%s", i ? ", " : "", t->name[i]);
    st = graft_fail(err, GRAFT_EARG,
                    "adapter.%s leaves out every module that target_modules matches (%s)", key,
                    t->count ? strbuf_str(&names) : "all-linear");
    strbuf_release(&names);
    return st;
}

static enum graft_status refuse_empty(const struct adapter *a, const struct target_matcher *m,
                                      struct graft_err *err)
{
    const struct slot_list *slots = a->slots;
    struct strbuf names = STRBUF_INIT;
    enum graft_status st;

    if (targets_kept_out(m))
        return refuse_kept_out(a, targets_kept_out(m), err);
    for (int i = 0, shown = 0; i < slots->count && shown < 8; i++) {
        const char *last = strrchr(slots->slot[i].name, '.');

        last = last ? last + 1 : slots->slot[i].name;
        if (slots->slot[i].site != SITE_LINEAR || strstr(strbuf_str(&names), last))
            continue;
        strbuf_printf(&names, "%s%s", shown++ ? ", " : "", last);
    }
    st = graft_fail(
        err, GRAFT_EARG,
        "adapter.target_modules matches no module of the base%s; its linears end in: %s",
        a->config.layers_to_transform_count ? " in the layers of layers_to_transform" : "",
        strbuf_str(&names));
    strbuf_release(&names);
    return st;
}

/* Room for one more entry. */
static struct adapter_entry *next_entry(struct adapter *a)
{
    const int cap = a->entry_cap ? 2 * a->entry_cap : 64;
    struct adapter_entry *grown;

    if (a->entry_count == a->entry_cap) {
        grown =
            mem_resize(a->entry, (size_t)a->entry_cap * sizeof *grown, (size_t)cap * sizeof *grown);
        if (!grown)
            return NULL;
        a->entry = grown;
        a->entry_cap = cap;
    }
    return &a->entry[a->entry_count];
}

/* "base_model.model.MODULE.SUFFIX", in the adapter's memory; PEFT's prompt methods wrap the model
 * one time less. */
static const char *entry_name(struct adapter *a, const struct slot *slot, const char *suffix)
{
    const bool prompt = schema_lists("prompt, prefix, ptuning", a->config.method);

    return arena_printf(&a->mem, "base_model.%s%s%s", prompt ? "" : "model.", slot->name, suffix);
}

struct tensor *adapter_param(struct adapter_site *s, const struct param_spec *spec)
{
    struct adapter *a = s->adapter;
    struct adapter_entry *e = next_entry(a);
    struct tensor *t = arena_alloc(&a->mem, sizeof *t);
    const bool fixed = spec->fixed || spec->index, trains = a->trainable && !fixed;
    int64_t n = 1;

    if (!t || !e)
        return NULL;
    for (int i = 0; i < spec->ndim; i++)
        n *= t->dim[i] = spec->dim[i];
    t->ndim = spec->ndim;
    t->name = spec->name ? arena_strdup(&a->mem, spec->name) : entry_name(a, s->slot, spec->suffix);
    if (!a->counted_only) {
        t->data = arena_array(&a->mem, (size_t)n, sizeof(float));
        if (trains)
            t->grad = arena_array(&a->mem, (size_t)n, sizeof(float));
        if (!t->data || (trains && !t->grad))
            return NULL;
    }
    if (!t->name)
        return NULL;
    t->trains = trains;
    *e = (struct adapter_entry){ .tensor = t,
                                 .file = spec->file,
                                 .fixed = fixed,
                                 .index = spec->index,
                                 .idle = spec->idle,
                                 .lr_ratio = spec->lr_ratio > 0 ? spec->lr_ratio : 1.0 };
    if (spec->older) {
        e->older = entry_name(a, s->slot, spec->older);
        if (!e->older)
            return NULL;
    }
    a->entry_count++;
    if (!fixed) {
        a->param_elems += n;
        a->param_count++;
    }
    return t;
}

void adapter_wake(struct adapter *a, const struct tensor *param)
{
    for (int i = 0; i < a->param_count; i++)
        if (a->param[i] == param)
            a->idle[i] = false;
}

bool adapter_share(struct adapter_site *s, const struct tensor *of, const char *suffix)
{
    struct adapter *a = s->adapter;
    struct adapter_entry *e = next_entry(a);
    struct tensor *t = arena_alloc(&a->mem, sizeof *t);

    if (!e || !t)
        return false;
    *t = *of;
    t->name = entry_name(a, s->slot, suffix);
    if (!t->name)
        return false;
    *e = (struct adapter_entry){ .tensor = t, .fixed = true, .shared = true, .lr_ratio = 1.0 };
    a->entry_count++;
    return true;
}

enum graft_status adapter_add_site(struct adapter *a, const struct adapter_ops *ops,
                                   const struct slot *slot, struct target_matcher *m,
                                   struct graft_err *err)
{
    struct adapter_site *s = &a->site[a->site_count++], **end = &a->site_of[slot->index];

    s->ops = ops;
    s->slot = slot;
    s->adapter = a;
    if (m)
        s->density = targets_density(m, slot);
    if (m && a->config.r) {
        s->r = targets_rank(m, slot);
        s->scale = (float)(targets_alpha(m, slot) /
                           (a->config.use_rslora ? sqrt((double)s->r) : (double)s->r));
    }
    s->feedforward = m && targets_feedforward(m, slot);
    while (*end)
        end = &(*end)->next;
    *end = s;
    return ops->build(s, err);
}

/* Whether the adapter's method sits at the slot; *st: it is asked for one it cannot have. */
static bool takes(struct adapter *a, const struct slot *slot, struct target_matcher *m,
                  enum graft_status *st, struct graft_err *err)
{
    if (a->ops->takes)
        return (a->ops->sites & slot->site) && a->ops->takes(&a->config, slot);
    if (!(slot->site & (SITE_LINEAR | SITE_EMBED | a->ops->sites)) || !targets_match(m, slot))
        return false;
    if (!(a->ops->sites & slot->site))
        *st = graft_fail(
            err, GRAFT_EARG,
            "adapter.target_modules: %s at %s, an embedding, is not supported in this version",
            a->ops->name, slot->name);
    return !*st;
}

/* PEFT refuses it, too: which of the two would the rows of the tokens be? */
static enum graft_status refuse_both(const struct slot *slot, struct graft_err *err)
{
    return graft_fail(err, GRAFT_EARG,
                      "adapter.trainable_token_indices: %s is among target_modules, too; leave it "
                      "out of one of them",
                      slot->name);
}

static enum graft_status place(struct adapter *a, struct target_matcher *m, struct graft_err *err)
{
    enum graft_status st = tokens_place(a, err);
    const int before = a->site_count;

    for (int i = 0; i < a->slots->count && !st; i++) {
        const struct slot *slot = &a->slots->slot[i];

        if (!takes(a, slot, m, &st, err))
            continue;
        st = adapter_at(a, slot) ? refuse_both(slot, err)
                                 : adapter_add_site(a, a->ops, slot, m, err);
    }
    if (st)
        return st;
    if (a->site_count == before)
        return m ? refuse_empty(a, m, err)
                 : graft_fail(err, GRAFT_EARG, "adapter.method %s: the base has no place for it",
                              a->ops->name);
    if (m && !a->counted_only)
        targets_note_unused(m);
    return copies_place(a, err);
}

static enum graft_status list_params(struct adapter *a, struct graft_err *err)
{
    int n = 0;

    a->param = arena_array(&a->mem, (size_t)a->param_count, sizeof *a->param);
    a->lr_ratio = arena_array(&a->mem, (size_t)a->param_count, sizeof *a->lr_ratio);
    a->idle = arena_array(&a->mem, (size_t)a->param_count, sizeof *a->idle);
    if (!a->param || !a->lr_ratio || !a->idle)
        return graft_fail_nomem(err, "list of parameters",
                                (size_t)a->param_count * sizeof *a->param);
    for (int i = 0; i < a->entry_count; i++) {
        if (a->entry[i].fixed)
            continue;
        a->param[n] = a->entry[i].tensor;
        a->idle[n] = a->entry[i].idle;
        a->lr_ratio[n++] = a->entry[i].lr_ratio;
    }
    return GRAFT_OK;
}

static enum graft_status make(const struct adapter_config *config, const struct slot_list *slots,
                              bool trainable, bool counted_only, struct adapter **out,
                              struct graft_err *err)
{
    struct target_matcher *m = NULL;
    struct adapter *a = mem_alloc(sizeof *a);
    const size_t n = (size_t)slots->count;
    enum graft_status st = GRAFT_OK;

    if (!a)
        return graft_fail_nomem(err, "adapter", sizeof *a);
    a->ops = adapter_method(config->method);
    a->config = *config;
    a->slots = slots;
    a->trainable = trainable;
    a->counted_only = counted_only;
    a->site = arena_array(&a->mem, 3 * n, sizeof *a->site); /* a slot may have three */
    a->site_of = arena_array(&a->mem, n, sizeof(struct adapter_site *));
    if (!a->site || !a->site_of)
        st = graft_fail_nomem(err, "adapter", n * sizeof *a->site);
    else if (!a->ops)
        st = graft_fail(err, GRAFT_EARG, "adapter.method '%s' is not supported in this version",
                        config->method);
    if (!st && a->ops->prepare)
        st = a->ops->prepare(a, err);
    if (!st && !a->ops->takes)
        st = targets_resolve(&a->config, slots, &a->mem, err);
    if (!st && !a->ops->takes)
        st = targets_compile(&a->config, &m, err);
    if (!st)
        st = place(a, m, err);
    if (!st)
        st = list_params(a, err);
    targets_free(m);
    if (st)
        adapter_free(a);
    else
        *out = a;
    return st;
}

enum graft_status adapter_new(const struct adapter_config *config, const struct slot_list *slots,
                              bool trainable, struct adapter **out, struct graft_err *err)
{
    return make(config, slots, trainable, false, out, err);
}

enum graft_status adapter_count(const struct adapter_config *config, const struct slot_list *slots,
                                int64_t *trained, struct graft_err *err)
{
    struct adapter *a = NULL;

    GRAFT_TRY(make(config, slots, true, true, &a, err));
    *trained = a->param_elems;
    adapter_free(a);
    return GRAFT_OK;
}

size_t adapter_fixed_bytes(const struct adapter *a)
{
    size_t bytes = 0;

    for (int i = 0; i < a->entry_count; i++) {
        const struct tensor *t = a->entry[i].tensor;
        size_t n = sizeof(float);

        for (int k = 0; k < t->ndim; k++)
            n *= (size_t)t->dim[k];
        bytes += a->entry[i].fixed && !a->entry[i].shared ? n : 0;
    }
    return bytes;
}

void adapter_free(struct adapter *a)
{
    if (!a)
        return;
    mem_free(a->entry);
    arena_release(&a->mem);
    mem_free(a);
}

/* Decompositions of weights up to this size gain nothing from threads, but many at once do. */
enum { SMALL_WEIGHT = 1 << 22 };

static bool side_by_side(const struct adapter *a)
{
    bool small = lora_init_takes(a->config.init);

    for (int i = 0; i < a->site_count; i++)
        small = small && a->site[i].slot->in * a->site[i].slot->out <= SMALL_WEIGHT;
    return small;
}

/* The first site's error is the one told, whichever came first. */
static enum graft_status init_side_by_side(struct adapter *a, uint64_t seed, struct graft_err *err)
{
    enum graft_status st = GRAFT_OK;
    int first = a->site_count;

#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < a->site_count; i++) {
        struct graft_err own = { GRAFT_OK, "" };
        const enum graft_status one = a->site[i].ops->init(&a->site[i], seed, &own);

#pragma omp critical(adapter_init_error)
        if (one && i < first) {
            first = i;
            st = graft_fail(err, one, "%s", own.msg);
        }
    }
    return st;
}

enum graft_status adapter_init(struct adapter *a, uint64_t seed, struct graft_err *err)
{
    if (side_by_side(a))
        return init_side_by_side(a, seed, err);
    for (int i = 0; i < a->site_count; i++)
        GRAFT_TRY(a->site[i].ops->init(&a->site[i], seed, err));
    return GRAFT_OK;
}

struct adapter_site *adapter_at(const struct adapter *a, const struct slot *slot)
{
    return a ? a->site_of[slot->index] : NULL;
}

/* Whether the site adds to a bias that is zero. */
static enum graft_status adds_to_bias(const struct adapter_site *s, bool *adds,
                                      struct graft_err *err)
{
    const size_t n = (size_t)s->slot->out;
    float *bias = mem_array(n, sizeof *bias);

    if (!bias)
        return graft_fail_nomem(err, s->slot->name, n * sizeof *bias);
    *adds = false;
    if (s->ops->merge_bias && s->ops->merge_bias(s, bias))
        for (size_t i = 0; i < n; i++)
            *adds = *adds || bias[i] != 0;
    mem_free(bias);
    return GRAFT_OK;
}

enum graft_status adapter_check_merge(const struct adapter *a, struct graft_err *err)
{
    const struct adapter_ops *ops = a->ops;

    if (!ops->merge_rows && !ops->merge_bias)
        return graft_fail(err, GRAFT_EARG,
                          "%s adapters are no change of weights and cannot be merged", ops->name);
    for (int i = 0; i < a->site_count; i++) {
        const struct adapter_site *s = &a->site[i];
        bool adds = false;

        if (a->config.lora_bias && s->ops == ops && !s->slot->has_bias)
            GRAFT_TRY(adds_to_bias(s, &adds, err));
        if (adds)
            return graft_fail(err, GRAFT_EARG,
                              "%s: the adapter has a bias (lora_bias) and the base has none there "
                              "to merge it into",
                              s->slot->name);
    }
    return GRAFT_OK;
}

bool adapter_keeps_tie(const struct adapter *a)
{
    const struct adapter_site *embed = NULL, *head = NULL;

    for (int i = 0; i < a->slots->count; i++) {
        const struct slot *s = &a->slots->slot[i];

        if (s->site == SITE_EMBED)
            embed = adapter_at(a, s);
        else if (s->is_head)
            head = adapter_at(a, s);
    }
    if (!embed || !head)
        return embed == head;
    return embed->param[0] == head->param[0] && !embed->next && !head->next;
}

struct tensor *adapter_weight(struct adapter *a, const struct slot *slot, struct graph *g)
{
    struct tensor *w = NULL;

    for (struct adapter_site *s = adapter_at(a, slot); s && !w; s = s->next)
        if (s->ops->weight)
            w = s->ops->weight(s, g);
    return w;
}

struct tensor *adapter_bias(struct adapter *a, const struct slot *slot, struct graph *g)
{
    struct tensor *b = NULL;

    for (struct adapter_site *s = adapter_at(a, slot); s && !b; s = s->next)
        if (s->ops->bias)
            b = s->ops->bias(s, g);
    return b;
}

struct tensor *adapter_rows(struct adapter *a, const struct slot *slot, struct graph *g)
{
    for (struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->rows)
            return s->ops->rows(s, g);
    return NULL;
}

struct tensor *adapter_input(struct adapter *a, const struct slot *slot, struct graph *g,
                             struct tensor *x)
{
    for (struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->input)
            x = s->ops->input(s, g, x);
    return x;
}

struct tensor *adapter_apply(struct adapter *a, const struct slot *slot, struct graph *g,
                             struct tensor *x, struct tensor *y)
{
    for (struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->forward)
            y = s->ops->forward(s, g, x, y);
    return y;
}

void adapter_keys_values(struct adapter *a, const struct slot *slot, struct graph *g,
                         struct tensor **k, struct tensor **v)
{
    *k = *v = NULL;
    for (struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->keys_values)
            s->ops->keys_values(s, g, k, v);
}
