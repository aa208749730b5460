/* The one graph builder. A block of the Llama family:
 *   x += o(attention(rope(q(n1 x)), rope(k(n1 x)), v(n1 x)))
 *   x += down(act(gate(n2 x)) * up(n2 x)) */
#include <math.h>

#include "models/model.h"

struct builder {
    const struct model *m;
    const struct model_config *c;
    struct adapter *a;
    struct graph *g;
    struct tensor *angles;
};

static const struct slot *slot_at(const struct builder *b, int i)
{
    return &b->m->slots.slot[i];
}

static struct tensor *linear(struct builder *b, const struct model_linear *l, struct tensor *x)
{
    const struct slot *s = slot_at(b, l->slot);
    struct tensor *w = adapter_weight(b->a, s, b->g), *bias = adapter_bias(b->a, s, b->g);

    if (!w)
        w = graph_weight(b->g, &l->w, l->name);
    if (!bias && l->bias)
        bias = graph_vector(b->g, l->bias, l->w.rows, l->name);
    x = adapter_input(b->a, s, b->g, x);
    return adapter_apply(b->a, s, b->g, x, op_linear(b->g, x, w, bias, NULL, 1.0f));
}

static struct tensor *norm(struct builder *b, const struct model_norm *n, struct tensor *x)
{
    struct tensor *w = adapter_weight(b->a, slot_at(b, n->slot), b->g);

    if (!w)
        w = graph_vector(b->g, n->w, n->n, n->name);
    return op_rmsnorm(b->g, x, w, (float)b->c->norm_eps, false);
}

static struct tensor *embedding(struct builder *b)
{
    const struct slot *s = slot_at(b, b->m->embed_slot);
    struct tensor *table = adapter_weight(b->a, s, b->g);

    if (!table)
        table = graph_weight(b->g, &b->m->embed, s->name);
    return adapter_apply(b->a, s, b->g, NULL,
                         op_embedding(b->g, table, adapter_rows(b->a, s, b->g), 1.0f));
}

static struct tensor *attention(struct builder *b, int64_t i, struct tensor *x)
{
    const struct model_layer *l = &b->m->layer[i];
    const struct attention_shape shape = {
        .heads = b->c->heads,
        .kv_heads = b->c->kv_heads,
        .head_dim = b->c->head_dim,
        .scale = (float)(1.0 / sqrt((double)b->c->head_dim)),
        .window = b->c->window[i],
        .layer = i,
    };
    struct tensor *q = linear(b, &l->linear[LIN_Q], x);
    struct tensor *k = linear(b, &l->linear[LIN_K], x);
    struct tensor *v = linear(b, &l->linear[LIN_V], x), *prefix_k, *prefix_v;

    if (l->q_norm.w)
        q = norm(b, &l->q_norm, q);
    if (l->k_norm.w)
        k = norm(b, &l->k_norm, k);
    q = op_rope(b->g, q, b->angles, b->c->head_dim);
    k = op_rope(b->g, k, b->angles, b->c->head_dim);
    adapter_keys_values(b->a, slot_at(b, l->kv_slot), b->g, &prefix_k, &prefix_v);
    return linear(b, &l->linear[LIN_O], op_attention(b->g, q, k, v, prefix_k, prefix_v, &shape));
}

static struct tensor *feed_forward(struct builder *b, int64_t i, struct tensor *x)
{
    const struct model_layer *l = &b->m->layer[i];
    struct tensor *gate = linear(b, &l->linear[LIN_GATE], x);
    struct tensor *up = linear(b, &l->linear[LIN_UP], x);

    return linear(b, &l->linear[LIN_DOWN], op_gate(b->g, gate, up, b->c->act));
}

/* The head over a chunk of rows, where an adapter changes it. */
static struct tensor *changed_head(struct graph *g, struct tensor *rows, void *user)
{
    struct builder b = *(const struct builder *)user;

    b.g = g;
    return linear(&b, &b.m->head, rows);
}

static struct tensor *head(struct builder *b, struct tensor *x, enum net_mode mode)
{
    const struct model_linear *l = &b->m->head;

    if (mode == NET_HIDDEN)
        return x;
    if (mode == NET_LOGITS) {
        x = op_pick_last(b->g, x);
        graph_set_act(b->g, DT_F32); /* read as f32; rounded to bf16, likely tokens would tie */
        return linear(b, l, x);
    }
    if (adapter_at(b->a, &b->m->slots.slot[l->slot]))
        return op_head_chunks(b->g, x, l->w.rows, changed_head, b, 0.0f);
    return op_head_loss(b->g, x, graph_weight(b->g, &l->w, l->name), NULL, 0.0f);
}

/* x plus what a sublayer makes of its normed input */
static struct tensor *sublayer(struct builder *b, int64_t i, enum sublayer which, struct tensor *x)
{
    const struct model_layer *l = &b->m->layer[i];
    const bool attn = which == SUBLAYER_ATTENTION;
    struct tensor *in = norm(b, attn ? &l->attn_norm : &l->ffn_norm, x);
    struct tensor *y = attn ? attention(b, i, in) : feed_forward(b, i, in);

    return op_add(b->g, x, adapter_apply(b->a, slot_at(b, l->sublayer_slot[which]), b->g, in, y),
                  1.0f);
}

struct tensor *model_record(const struct model *m, struct adapter *a, struct graph *g,
                            enum net_mode mode)
{
    struct builder b = { m, m->config, a, g, NULL };
    struct tensor *x = embedding(&b);

    b.angles = op_rope_angles(g, &m->rope);
    for (int64_t i = 0; i < m->config->layers; i++) {
        graph_block(g, x);
        x = sublayer(&b, i, SUBLAYER_ATTENTION, x);
        x = sublayer(&b, i, SUBLAYER_FFN, x);
    }
    graph_block(g, x);
    return head(&b, norm(&b, &m->final_norm, x), mode);
}

struct tensor *model_record_head(const struct model *m, struct adapter *a, struct graph *g,
                                 struct tensor *rows)
{
    struct builder b = { m, m->config, a, g, NULL };

    return linear(&b, &m->head, op_embedding(g, graph_leaf(g, rows), NULL, 1.0f));
}
