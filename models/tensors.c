#include "models/model.h"

#include <string.h>

struct list {
    const struct model *m;
    struct arena *mem;
    struct model_tensor *t;
    int64_t n;
    bool failed;
};

static struct model_tensor *add(struct list *l, const char *module, const char *tail, int ndim)
{
    struct model_tensor *t = &l->t[l->n++];

    t->name = arena_printf(l->mem, "%s%s", module, tail);
    t->ndim = ndim;
    l->failed |= !t->name;
    return t;
}

/* A vector as the checkpoint stores it; biases of a GGUF's q and k only as loaded, in our order. */
static void add_vector(struct list *l, const char *module, const char *tail, const float *v,
                       int64_t n, int slot)
{
    struct model_tensor *t = add(l, module, tail, 1);
    const struct stored_tensor *s = t->name ? checkpoint_find(l->m->ck, t->name) : NULL;

    t->slot = &l->m->slots.slot[slot];
    t->is_bias = t->slot->site == SITE_LINEAR;
    if (s && !checkpoint_rows_permuted(l->m->ck, t->name))
        t->mat = s->mat;
    else
        t->mat = (struct qmat){ .type = QT_F32, .rows = 1, .cols = n, .data = v };
}

static void add_linear(struct list *l, const struct model_linear *y)
{
    struct model_tensor *t = add(l, y->name, ".weight", 2);

    t->mat = y->w;
    t->slot = &l->m->slots.slot[y->slot];
    if (y->bias)
        add_vector(l, y->name, ".bias", y->bias, y->w.rows, y->slot);
}

static void add_norm(struct list *l, const struct model_norm *y)
{
    if (y->w)
        add_vector(l, y->name, ".weight", y->w, y->n, y->slot);
}

enum graft_status model_tensors(const struct model *m, struct arena *mem, struct model_tensor **out,
                                int64_t *count, struct graft_err *err)
{
    const struct model_config *c = m->config;
    const int64_t most = c->layers * (2 * LIN_COUNT + 4) + 4;
    struct list l = { m, mem, arena_array(mem, (size_t)most, sizeof *l.t), 0, false };
    struct model_tensor *t;

    if (!l.t)
        return graft_fail_nomem(err, "list of tensors", (size_t)most * sizeof *l.t);
    t = add(&l, c->arch->embed, ".weight", 2);
    t->mat = m->embed;
    t->slot = &m->slots.slot[m->embed_slot];
    for (int64_t i = 0; i < c->layers; i++) {
        const struct model_layer *y = &m->layer[i];

        for (int k = 0; k < LIN_COUNT; k++)
            add_linear(&l, &y->linear[k]);
        add_norm(&l, &y->attn_norm);
        add_norm(&l, &y->ffn_norm);
        add_norm(&l, &y->q_norm);
        add_norm(&l, &y->k_norm);
    }
    add_norm(&l, &m->final_norm);
    if (!c->tied)
        add_linear(&l, &m->head);
    if (l.failed)
        return graft_fail_nomem(err, "tensor names", (size_t)most * 64);
    *out = l.t;
    *count = l.n;
    return GRAFT_OK;
}
