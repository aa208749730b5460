/* out = softmax(scale q k^T, capped, masked) v for each head, inside each segment of the flat row
 *
 * q, out: (N, H * D)   k, v: (N, K * D), H / K heads share a key head (Ainslie et al. 2023)
 * Query i of a segment sees keys j <= i, with a window j > i - window. Saved lse: (N, H).
 * With prefix_k and prefix_v (P, K * D), which no query's own keys precede, token i of a segment
 * stands at P + i, behind them; their gradients are summed over all segments.
 * Generation: k and v of the pass are appended to the cache, and keys 0 .. past + len are seen.
 * Formulas: backend/cpu/attention.c and attention_backward.c. */
#include "autograd/ops/op.h"

#include <inttypes.h>
#include <omp.h>

enum { Q, K, V, PREFIX_K, PREFIX_V };

static enum graft_status check_prefix(const struct node *n, struct graft_err *err)
{
    const struct tensor *k = n->in[PREFIX_K], *v = n->in[PREFIX_V];
    const int64_t width = tensor_width(n->in[K]);
    char found[96];

    if (!k && !v)
        return GRAFT_OK;
    if (!k || !v)
        return graft_fail(err, GRAFT_EARG, "attention: a prefix has keys and values");
    if (k->ndim != 2 || k->per_token || k->w || k->dim[1] != width)
        return graft_fail(err, GRAFT_ESHAPE,
                          "attention: rows of the prefix hold %" PRId64 " values, found %s", width,
                          shape_text(k, found));
    return expect_same_shape(k, v, "prefix of attention", err);
}

enum graft_status attention_infer(struct node *n, struct graft_err *err)
{
    const struct attention_shape *a = &n->args.attention;
    const struct tensor *q = n->in[Q], *k = n->in[K], *v = n->in[V];

    if (a->heads < 1 || a->kv_heads < 1 || a->head_dim < 1 || a->heads % a->kv_heads != 0)
        return graft_fail(err, GRAFT_ESHAPE,
                          "attention: %" PRId64 " heads cannot share %" PRId64 " key heads",
                          a->heads, a->kv_heads);
    if (!q->per_token || !k->per_token || !v->per_token ||
        tensor_width(q) != a->heads * a->head_dim || tensor_width(k) != a->kv_heads * a->head_dim ||
        tensor_width(v) != a->kv_heads * a->head_dim)
        return graft_fail(err, GRAFT_ESHAPE,
                          "attention: rows of q, k, v hold %" PRId64 ", %" PRId64 ", %" PRId64
                          " values, wanted %" PRId64 " and twice %" PRId64,
                          tensor_width(q), tensor_width(k), tensor_width(v), a->heads * a->head_dim,
                          a->kv_heads * a->head_dim);
    infer_rows(n, q, tensor_width(q));
    GRAFT_TRY(check_prefix(n, err));
    n->saved_bytes = (size_t)(tensor_rows(q) * a->heads) * sizeof(float);
    n->lanes = omp_get_max_threads();
    return GRAFT_OK;
}

/* What both directions hand to the kernel. */
static struct attention_call call_of(const struct node *n)
{
    const struct graph_input *in = node_input(n);

    return (struct attention_call){
        .shape = n->args.attention,
        .segments = in->segments,
        .start = in->start,
        .q = tensor_act(n->in[Q]),
        .k = tensor_act(n->in[K]),
        .v = tensor_act(n->in[V]),
        .out = tensor_act(n->out),
        .lse = n->saved,
        .prefix = n->in[PREFIX_K] ? tensor_rows(n->in[PREFIX_K]) : 0,
        .prefix_k = tensor_act(n->in[PREFIX_K]),
        .prefix_v = tensor_act(n->in[PREFIX_V]),
        .lanes = n->lanes,
        .scratch = node_scratch(n),
    };
}

/* The pass's keys and values go behind those that their sequences have. */
static void append(const struct node *n, struct attention_call *c)
{
    const struct graph_input *in = node_input(n);
    const struct kv_cache *cache = in->cache;
    const int64_t width = cache->width, layer = c->shape.layer * cache->slots;
    float *k = cache->k + layer * cache->capacity * width;
    float *v = cache->v + layer * cache->capacity * width;

    for (int64_t s = 0; s < in->segments; s++) {
        const int64_t len = in->start[s + 1] - in->start[s];
        const int64_t at = (in->slot[s] * cache->capacity + in->past[s]) * width;

        node_backend(n)->kv_append(len, width, c->k, in->start[s], k + at);
        node_backend(n)->kv_append(len, width, c->v, in->start[s], v + at);
    }
    c->cache_k = k;
    c->cache_v = v;
    c->capacity = cache->capacity;
    c->slot = in->slot;
    c->past = in->past;
}

void attention_forward(struct node *n)
{
    struct attention_call c = call_of(n);

    if (node_input(n)->cache)
        append(n, &c);
    node_backend(n)->attention(&c);
}

void attention_backward(struct node *n)
{
    struct attention_call c = call_of(n);

    c.dout = n->out->grad;
    c.dq = n->in[Q]->grad;
    c.dk = n->in[K]->grad;
    c.dv = n->in[V]->grad;
    c.dprefix_k = n->in[PREFIX_K] ? n->in[PREFIX_K]->grad : NULL;
    c.dprefix_v = n->in[PREFIX_V] ? n->in[PREFIX_V]->grad : NULL;
    node_backend(n)->attention_backward(&c);
}

/* dv alone is p^T dout: neither v nor out is read. */
uint32_t attention_needs(const struct node *n)
{
    const bool scores =
        tensor_trains(n->in[Q]) || tensor_trains(n->in[K]) || tensor_trains(n->in[PREFIX_K]);

    return 1u << Q | 1u << K | 1u << PREFIX_K |
           (scores ? 1u << V | 1u << PREFIX_V | (uint32_t)NEEDS_OUT : 0);
}

size_t attention_scratch(const struct node *n)
{
    return node_backend(n)->attention_scratch(&n->args.attention, graph_max_tokens(n->g),
                                              graph_max_segments(n->g), n->out->trains, n->lanes);
}

struct tensor *op_attention(struct graph *g, struct tensor *q, struct tensor *k, struct tensor *v,
                            struct tensor *prefix_k, struct tensor *prefix_v,
                            const struct attention_shape *shape)
{
    const union op_args args = { .attention = *shape };

    return graph_node(g, OP_ATTENTION, &args, 5,
                      (struct tensor *[]){ q, k, v, prefix_k, prefix_v });
}
