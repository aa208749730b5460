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

static struct tensor *linear(struct builder *b, const struct model_linear *l, struct tensor *x)
{
    struct tensor *w = graph_weight(b->g, &l->w, l->name);
    struct tensor *bias = l->bias ? graph_vector(b->g, l->bias, l->w.rows, l->name) : NULL;
    struct tensor *y = op_linear(b->g, x, w, bias, NULL, 1.0f);

    return adapter_apply(b->a, &b->m->slots.slot[l->slot], b->g, x, y);
}

static struct tensor *norm(struct builder *b, struct tensor *x, const float *w, int64_t n)
{
    return op_rmsnorm(b->g, x, graph_vector(b->g, w, n, "norm"), (float)b->c->norm_eps, false);
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
    struct tensor *v = linear(b, &l->linear[LIN_V], x);

    if (l->q_norm)
        q = norm(b, q, l->q_norm, b->c->head_dim);
    if (l->k_norm)
        k = norm(b, k, l->k_norm, b->c->head_dim);
    q = op_rope(b->g, q, b->angles, b->c->head_dim);
    k = op_rope(b->g, k, b->angles, b->c->head_dim);
    return linear(b, &l->linear[LIN_O], op_attention(b->g, q, k, v, &shape));
}

static struct tensor *feed_forward(struct builder *b, int64_t i, struct tensor *x)
{
    const struct model_layer *l = &b->m->layer[i];
    struct tensor *gate = linear(b, &l->linear[LIN_GATE], x);
    struct tensor *up = linear(b, &l->linear[LIN_UP], x);

    return linear(b, &l->linear[LIN_DOWN], op_gate(b->g, gate, up, b->c->act));
}

static struct tensor *head(struct builder *b, struct tensor *x, enum net_mode mode)
{
    const struct model_linear *l = &b->m->head;

    if (mode == NET_LOGITS)
        return linear(b, l, op_pick_last(b->g, x));
    if (adapter_at(b->a, &b->m->slots.slot[l->slot]))
        return op_cross_entropy(b->g, linear(b, l, x), 0.0f);
    return op_head_loss(b->g, x, graph_weight(b->g, &l->w, l->name), NULL, 0.0f);
}

struct tensor *model_record(const struct model *m, struct adapter *a, struct graph *g,
                            enum net_mode mode)
{
    struct builder b = { m, m->config, a, g, NULL };
    struct tensor *x =
        op_embedding(g, graph_weight(g, &m->embed, m->config->arch->embed), NULL, 1.0f);

    b.angles = op_rope_angles(g, &m->rope);
    for (int64_t i = 0; i < m->config->layers; i++) {
        const struct model_layer *l = &m->layer[i];

        graph_block(g, x);
        x = op_add(g, x, attention(&b, i, norm(&b, x, l->attn_norm, m->config->hidden)), 1.0f);
        x = op_add(g, x, feed_forward(&b, i, norm(&b, x, l->ffn_norm, m->config->hidden)), 1.0f);
    }
    graph_block(g, x);
    return head(&b, norm(&b, x, m->final_norm, m->config->hidden), mode);
}
