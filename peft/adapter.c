#include "peft/adapter.h"

#include <math.h>
#include <string.h>

static enum graft_status refuse_empty(const struct slot_list *slots, struct graft_err *err)
{
    struct strbuf names = STRBUF_INIT;
    enum graft_status st;

    for (int i = 0, shown = 0; i < slots->count && shown < 8; i++) {
        const char *last = strrchr(slots->slot[i].name, '.');

        last = last ? last + 1 : slots->slot[i].name;
        if (slots->slot[i].site != SITE_LINEAR || strstr(strbuf_str(&names), last))
            continue;
        strbuf_printf(&names, "%s%s", shown++ ? ", " : "", last);
    }
    st = graft_fail(err, GRAFT_EARG,
                    "adapter.target_modules matches no module of the base; its linears end in: %s",
                    strbuf_str(&names));
    strbuf_release(&names);
    return st;
}

struct tensor *adapter_param(struct adapter_site *s, const char *suffix, int ndim,
                             const int64_t *dim)
{
    struct adapter *a = s->adapter;
    struct tensor *t = arena_alloc(&a->mem, sizeof *t);
    int64_t n = 1;

    if (!t)
        return NULL;
    for (int i = 0; i < ndim; i++)
        n *= t->dim[i] = dim[i];
    t->ndim = ndim;
    t->name = arena_printf(&a->mem, "base_model.model.%s.%s", s->slot->name, suffix);
    t->data = arena_array(&a->mem, (size_t)n, sizeof(float));
    if (a->trainable)
        t->grad = arena_array(&a->mem, (size_t)n, sizeof(float));
    if (!t->name || !t->data || (a->trainable && !t->grad))
        return NULL;
    t->trains = a->trainable;
    a->param_elems += n;
    return t;
}

static enum graft_status place(struct adapter *a, const struct slot_list *slots,
                               struct target_matcher *m, struct graft_err *err)
{
    const bool rs = a->config.use_rslora;

    for (int i = 0; i < slots->count; i++) {
        const struct slot *slot = &slots->slot[i];
        struct adapter_site *s = &a->site[a->site_count];

        a->site_of[i] = -1;
        if (!targets_match(m, slot))
            continue;
        if (!(a->ops->sites & slot->site))
            return graft_fail(
                err, GRAFT_EARG,
                "adapter.target_modules: %s at %s, an embedding, is not supported in this version",
                a->ops->name, slot->name);
        s->slot = slot;
        s->adapter = a;
        s->r = targets_rank(m, slot);
        s->scale = (float)(targets_alpha(m, slot) / (rs ? sqrt((double)s->r) : (double)s->r));
        a->site_of[i] = a->site_count++;
        GRAFT_TRY(a->ops->build(s, err));
    }
    if (!a->site_count)
        return refuse_empty(slots, err);
    targets_note_unused(m);
    return GRAFT_OK;
}

static enum graft_status list_params(struct adapter *a, struct graft_err *err)
{
    const size_t most = (size_t)a->site_count * ADAPTER_MAX_PARAMS;

    a->param = arena_array(&a->mem, most, sizeof *a->param);
    if (!a->param)
        return graft_fail_nomem(err, "list of parameters", most * sizeof *a->param);
    for (int i = 0; i < a->site_count; i++)
        for (int k = 0; k < ADAPTER_MAX_PARAMS; k++)
            if (a->site[i].param[k])
                a->param[a->param_count++] = a->site[i].param[k];
    return GRAFT_OK;
}

enum graft_status adapter_new(const struct adapter_config *config, const struct slot_list *slots,
                              bool trainable, struct adapter **out, struct graft_err *err)
{
    struct target_matcher *m = NULL;
    struct adapter *a = mem_alloc(sizeof *a);
    const size_t n = (size_t)slots->count;
    enum graft_status st;

    if (!a)
        return graft_fail_nomem(err, "adapter", sizeof *a);
    a->ops = adapter_method(config->method);
    a->config = *config;
    a->trainable = trainable;
    a->site = arena_array(&a->mem, n, sizeof *a->site);
    a->site_of = arena_array(&a->mem, n, sizeof *a->site_of);
    if (!a->site || !a->site_of)
        st = graft_fail_nomem(err, "adapter", n * sizeof *a->site);
    else if (!a->ops)
        st = graft_fail(err, GRAFT_EARG, "adapter.method '%s' is not supported in this version",
                        config->method);
    else
        st = targets_compile(config, slots, &m, err);
    if (!st)
        st = place(a, slots, m, err);
    if (!st)
        st = list_params(a, err);
    targets_free(m);
    if (st)
        adapter_free(a);
    else
        *out = a;
    return st;
}

void adapter_free(struct adapter *a)
{
    if (!a)
        return;
    arena_release(&a->mem);
    mem_free(a);
}

void adapter_init(struct adapter *a, uint64_t seed)
{
    for (int i = 0; i < a->site_count; i++)
        a->ops->init(&a->site[i], seed);
}

struct adapter_site *adapter_at(const struct adapter *a, const struct slot *slot)
{
    const int i = a ? a->site_of[slot->index] : -1;

    return i < 0 ? NULL : &a->site[i];
}

struct tensor *adapter_apply(struct adapter *a, const struct slot *slot, struct graph *g,
                             struct tensor *x, struct tensor *y)
{
    struct adapter_site *s = adapter_at(a, slot);

    return s ? a->ops->forward(s, g, x, y) : y;
}
