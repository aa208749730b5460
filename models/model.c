#include "models/model.h"

#include <string.h>

/* Loading collects every complaint before it gives up: a user mends them all at once. */
struct loading {
    struct model *m;
    const struct checkpoint *ck;
    struct graft_err *err;
    enum graft_status st;    /* a failure that ends the load at once */
    struct strbuf complaint; /* missing and misshapen tensors, a line each */
    int complaints;
    const char **known; /* every name that was asked for */
    int64_t known_count, known_cap;
};

static void complain(struct loading *l, const char *what, const char *name)
{
    if (l->complaints++ < 12)
        strbuf_printf(&l->complaint, "\n  %s: %s", name, what);
}

static const struct stored_tensor *find(struct loading *l, const char *name, int64_t rows,
                                        int64_t cols, int ndim)
{
    const struct stored_tensor *t = checkpoint_find(l->ck, name);
    char what[128];

    if (l->known_count < l->known_cap)
        l->known[l->known_count++] = name;
    if (!t) {
        complain(l, "missing", name);
        return NULL;
    }
    if (t->ndim != ndim || t->mat.rows != rows || t->mat.cols != cols) {
        snprintf(what, sizeof what, "found (%lld, %lld), wanted (%lld, %lld)",
                 (long long)t->mat.rows, (long long)t->mat.cols, (long long)rows, (long long)cols);
        complain(l, what, name);
        return NULL;
    }
    if (!qtypes[t->mat.type].decode && t->mat.type != QT_NF4 && t->mat.type != QT_FP4) {
        snprintf(what, sizeof what, "has type %s, which holds no weights",
                 qtypes[t->mat.type].name);
        complain(l, what, name);
        return NULL;
    }
    return t;
}

static const char *name_of(struct loading *l, const char *prefix, int64_t layer, const char *module,
                           const char *tail)
{
    const char *s = layer < 0 ? arena_printf(&l->m->mem, "%s%s", module, tail)
                              : arena_printf(&l->m->mem, "%s.%lld.%s%s", prefix, (long long)layer,
                                             module, tail);

    if (!s && !l->st)
        l->st = graft_fail_nomem(l->err, module, 128);
    return s ? s : "";
}

static enum graft_status unpermute(struct qmat *w, int64_t head_dim, struct arena *mem,
                                   struct graft_err *err)
{
    const struct qtype_info *q = &qtypes[w->type];
    const size_t row = (size_t)(w->cols / q->block) * (size_t)q->block_bytes;
    char *copy = arena_array(mem, (size_t)w->rows, row);

    if (!copy)
        return graft_fail_nomem(err, "rows of q and k", (size_t)w->rows * row);
    for (int64_t i = 0; i < w->rows; i++)
        memcpy(copy + (size_t)i * row,
               (const char *)w->data + (size_t)slot_stored_row(i, head_dim) * row, row);
    w->data = copy;
    return GRAFT_OK;
}

static const float *load_vector(struct loading *l, const char *name, int64_t n)
{
    const struct stored_tensor *t = find(l, name, 1, n, 1);
    const int64_t head_dim = checkpoint_rows_permuted(l->ck, name);
    float *v, *ours;

    if (!t || l->st)
        return NULL;
    v = arena_array(&l->m->mem, (size_t)n, sizeof *v);
    ours = head_dim && n % head_dim == 0 ? arena_array(&l->m->mem, (size_t)n, sizeof *v) : v;
    if (!v || !ours) {
        l->st = graft_fail_nomem(l->err, name, (size_t)n * 4);
        return NULL;
    }
    qmat_decode(&t->mat, 0, n, v);
    for (int64_t i = 0; ours != v && i < n; i++)
        ours[i] = v[slot_stored_row(i, head_dim)];
    l->m->params += n;
    l->m->weight_bytes += (size_t)n * 4;
    return ours;
}

static bool same_codes(const struct qmat *w, const struct quant_spec *s)
{
    return w->type == s->type && w->block == s->block && (w->absmax8 != NULL) == s->nested;
}

/* Does the choice change this weight's format? */
static bool converts(const struct weight_choice *q, const struct qmat *w)
{
    return (q->mode == WEIGHTS_CODES && !same_codes(w, &q->spec)) ||
           (q->mode == WEIGHTS_FLOATS && !qtypes[w->type].is_float);
}

/* The stored weight in our row order and the chosen format. A copy that only served the conversion
 * goes at once, and so do the file's pages. */
static void convert(struct loading *l, const char *name, const struct stored_tensor *t,
                    struct model_linear *y)
{
    struct qmat *out = &y->w;
    const struct weight_choice *q = &l->m->quant;
    const int64_t head_dim = checkpoint_rows_permuted(l->ck, name);
    const bool change = converts(q, &t->mat);
    struct arena scratch = ARENA_INIT;
    struct qmat w = t->mat;
    enum graft_status st = GRAFT_OK;

    if (head_dim)
        st = unpermute(&w, head_dim, change ? &scratch : &l->m->mem, l->err);
    *out = w;
    if (!st && change)
        st = q->mode == WEIGHTS_CODES ? qmat_quantize(&w, &q->spec, &l->m->mem, out, l->err)
                                      : qmat_to_float(&w, QT_F32, &l->m->mem, out, l->err);
    arena_release(&scratch);
    if (st)
        l->st = graft_fail_in(l->err, st == GRAFT_ERUN ? GRAFT_EFORMAT : st, "%s: %s", l->ck->path,
                              name);
    else if (out->data != t->mat.data)
        file_forget(t->mat.data, t->bytes);
    if (!st && change && q->mode == WEIGHTS_CODES && qtypes[t->mat.type].is_float) {
        y->source = t->mat;
        y->source_head_dim = head_dim;
    }
}

static void load_norm(struct loading *l, struct model_norm *out, int64_t layer, const char *module,
                      int64_t n)
{
    const char *prefix = l->ck->config.arch->layer_prefix;

    out->name = name_of(l, prefix, layer, module, "");
    out->n = n;
    out->w = load_vector(l, name_of(l, prefix, layer, module, ".weight"), n);
}

static void load_linear(struct loading *l, struct model_linear *out, int64_t layer,
                        const char *module, int64_t rows, int64_t cols, bool bias)
{
    const char *prefix = l->ck->config.arch->layer_prefix;
    const char *name = name_of(l, prefix, layer, module, ".weight");
    const struct stored_tensor *t = find(l, name, rows, cols, 2);

    out->name = name_of(l, prefix, layer, module, "");
    if (bias)
        out->bias = load_vector(l, name_of(l, prefix, layer, module, ".bias"), rows);
    if (!t || l->st)
        return;
    convert(l, name, t, out);
    l->m->params += rows * cols;
    l->m->weight_bytes += qmat_bytes(&out->w);
}

static void load_layer(struct loading *l, int64_t i)
{
    const struct model_config *c = &l->ck->config;
    const struct arch *a = c->arch;
    struct model_layer *y = &l->m->layer[i];
    const int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct {
        int64_t rows, cols;
        bool bias;
    } shape[LIN_COUNT] = {
        [LIN_Q] = { q, c->hidden, c->qkv_bias },
        [LIN_K] = { kv, c->hidden, c->qkv_bias },
        [LIN_V] = { kv, c->hidden, c->qkv_bias },
        [LIN_O] = { c->hidden, q, c->o_bias },
        [LIN_GATE] = { c->ffn, c->hidden, c->mlp_bias },
        [LIN_UP] = { c->ffn, c->hidden, c->mlp_bias },
        [LIN_DOWN] = { c->hidden, c->ffn, c->mlp_bias },
    };

    for (int k = 0; k < LIN_COUNT && !l->st; k++)
        load_linear(l, &y->linear[k], i, a->linear[k], shape[k].rows, shape[k].cols, shape[k].bias);
    load_norm(l, &y->attn_norm, i, a->attn_norm, c->hidden);
    load_norm(l, &y->ffn_norm, i, a->ffn_norm, c->hidden);
    if (a->q_norm) {
        load_norm(l, &y->q_norm, i, a->q_norm, c->head_dim);
        load_norm(l, &y->k_norm, i, a->k_norm, c->head_dim);
    }
}

/* A tied model whose file holds a head all the same: it must be the embedding. */
static void load_head(struct loading *l, const struct stored_tensor *embed)
{
    const struct model_config *c = &l->ck->config;
    const char *name = name_of(l, NULL, -1, c->arch->head, ".weight");
    const struct stored_tensor *t;

    l->m->head.name = name_of(l, NULL, -1, c->arch->head, "");
    if (c->tied && !checkpoint_find(l->ck, name)) {
        l->m->head.w = l->m->embed;
        return;
    }
    t = find(l, name, c->vocab, c->hidden, 2);
    if (!t)
        return;
    l->m->head.w = t->mat;
    if (!c->tied) {
        l->m->params += c->vocab * c->hidden;
        l->m->weight_bytes += qmat_bytes(&t->mat);
    } else if (embed &&
               (t->bytes != embed->bytes || memcmp(t->mat.data, embed->mat.data, t->bytes) != 0)) {
        complain(l, "differs from the embedding, but the config ties them (tie_word_embeddings)",
                 name);
    }
}

static void load_all(struct loading *l)
{
    const struct model_config *c = &l->ck->config;
    const char *embed_name = name_of(l, NULL, -1, c->arch->embed, ".weight");
    const struct stored_tensor *embed = find(l, embed_name, c->vocab, c->hidden, 2);

    if (embed) {
        l->m->embed = embed->mat;
        l->m->params += c->vocab * c->hidden;
        l->m->weight_bytes += qmat_bytes(&embed->mat);
    }
    for (int64_t i = 0; i < c->layers && !l->st; i++)
        load_layer(l, i);
    load_norm(l, &l->m->final_norm, -1, c->arch->final_norm, c->hidden);
    load_head(l, embed);
}

/* Add a slot to the list, which has room; returns its place. */
static int add_slot(struct model *m, struct slot *list, const struct slot *s)
{
    list[m->slots.count] = *s;
    list[m->slots.count].index = m->slots.count;
    return m->slots.count++;
}

static void add_linear_slot(struct model *m, struct slot *list, struct model_linear *y, int layer,
                            bool head)
{
    y->slot = add_slot(m, list,
                       &(struct slot){ .name = y->name,
                                       .site = SITE_LINEAR,
                                       .layer = layer,
                                       .in = y->w.cols,
                                       .out = y->w.rows,
                                       .is_head = head,
                                       .has_bias = y->bias != NULL,
                                       .w = &y->w,
                                       .bias = y->bias,
                                       .own = y->source.data ? &y->w : NULL,
                                       .source = y->source.data ? &y->source : NULL,
                                       .source_head_dim = y->source_head_dim });
}

static void add_norm_slot(struct model *m, struct slot *list, struct model_norm *y, int layer)
{
    if (y->w)
        y->slot = add_slot(m, list,
                           &(struct slot){ .name = y->name,
                                           .site = SITE_NORM,
                                           .layer = layer,
                                           .in = y->n,
                                           .out = y->n,
                                           .vector = y->w });
}

/* "model.layers.0.self_attn" of "model.layers.0.self_attn.q_proj" */
static const char *parent_name(struct loading *l, const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *s = arena_strndup(&l->m->mem, name, dot ? (size_t)(dot - name) : strlen(name));

    if (!s && !l->st)
        l->st = graft_fail_nomem(l->err, name, strlen(name));
    return s ? s : "";
}

static void add_layer_slots(struct loading *l, struct slot *list, int i)
{
    struct model *m = l->m;
    struct model_layer *y = &m->layer[i];
    const struct model_config *c = m->config;
    struct slot s = { .name = parent_name(l, y->linear[LIN_Q].name),
                      .site = SITE_KV,
                      .layer = i,
                      .in = c->hidden,
                      .out = c->kv_heads * c->head_dim };

    add_norm_slot(m, list, &y->attn_norm, i);
    add_norm_slot(m, list, &y->ffn_norm, i);
    add_norm_slot(m, list, &y->q_norm, i);
    add_norm_slot(m, list, &y->k_norm, i);
    y->kv_slot = add_slot(m, list, &s);
    s.site = SITE_SUBLAYER;
    s.out = c->hidden;
    y->sublayer_slot[SUBLAYER_ATTENTION] = add_slot(m, list, &s);
    s.name = parent_name(l, y->linear[LIN_UP].name);
    s.sublayer = SUBLAYER_FFN;
    y->sublayer_slot[SUBLAYER_FFN] = add_slot(m, list, &s);
}

static void make_slots(struct loading *l)
{
    struct model *m = l->m;
    const struct model_config *c = m->config;
    const size_t most = (size_t)c->layers * (LIN_COUNT + 7) + 3;
    struct slot *list = arena_array(&m->mem, most, sizeof *list);

    if (!list) {
        l->st = graft_fail_nomem(l->err, "slots", most * sizeof *list);
        return;
    }
    m->slots = (struct slot_list){ .slot = list,
                                   .model_type = c->model_type,
                                   .layers = c->layers,
                                   .hidden = c->hidden,
                                   .heads = c->heads,
                                   .kv_heads = c->kv_heads,
                                   .head_dim = c->head_dim,
                                   .tied = c->tied };
    m->embed_slot = add_slot(m, list,
                             &(struct slot){ .name = c->arch->embed,
                                             .site = SITE_EMBED,
                                             .layer = -1,
                                             .in = m->embed.cols,
                                             .out = m->embed.rows,
                                             .w = &m->embed });
    for (int i = 0; i < (int)c->layers; i++)
        for (int k = 0; k < LIN_COUNT; k++)
            add_linear_slot(m, list, &m->layer[i].linear[k], i, false);
    add_linear_slot(m, list, &m->head, -1, true);
    for (int i = 0; i < (int)c->layers; i++)
        add_layer_slots(l, list, i);
    add_norm_slot(m, list, &m->final_norm, -1);
}

static enum graft_status finish(struct loading *l)
{
    if (!l->st && l->complaints)
        l->st = graft_fail(l->err, GRAFT_EFORMAT, "%s: not a whole %s model:%s%s", l->ck->path,
                           l->ck->config.model_type, strbuf_str(&l->complaint),
                           l->complaints > 12 ? "\n  ..." : "");
    if (!l->st)
        l->st = checkpoint_check_names(l->ck, l->known, l->known_count, l->err);
    if (!l->st)
        make_slots(l);
    if (!l->st)
        l->st = rope_make(&l->ck->config, &l->m->mem, &l->m->rope, l->err);
    return l->st;
}

enum graft_status model_load(const struct checkpoint *ck, const struct weight_choice *quant,
                             struct model **out, struct graft_err *err)
{
    struct loading l = { .m = mem_alloc(sizeof *l.m), .ck = ck, .err = err };
    enum graft_status st;

    if (!l.m)
        return graft_fail_nomem(err, "model", sizeof *l.m);
    l.m->ck = ck;
    l.m->config = &ck->config;
    l.m->quant = *quant;
    l.m->layer = arena_array(&l.m->mem, (size_t)ck->config.layers, sizeof *l.m->layer);
    l.known_cap = ck->config.layers * (2 * LIN_COUNT + 4) + 3;
    l.known = mem_array((size_t)l.known_cap, sizeof *l.known);
    if (!l.m->layer || !l.known)
        l.st = graft_fail_nomem(err, "model", (size_t)ck->config.layers * sizeof *l.m->layer);
    else
        load_all(&l);
    st = l.st ? l.st : finish(&l);
    mem_free(l.known);
    strbuf_release(&l.complaint);
    if (st)
        model_free(l.m);
    else
        *out = l.m;
    return st;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    arena_release(&m->mem);
    mem_free(m);
}

static const struct stored_tensor *first_linear(const struct checkpoint *c)
{
    char name[128];

    snprintf(name, sizeof name, "%s.0.%s.weight", c->config.arch->layer_prefix,
             c->config.arch->linear[LIN_Q]);
    return checkpoint_find(c, name);
}

bool checkpoint_is_float(const struct checkpoint *c)
{
    const struct stored_tensor *t = first_linear(c);

    return !t || qtypes[t->mat.type].is_float;
}

const char *checkpoint_format(const struct checkpoint *c)
{
    const struct stored_tensor *t = first_linear(c);

    return t ? qtypes[t->mat.type].name : "?";
}
