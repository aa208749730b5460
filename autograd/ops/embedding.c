/* y = scale * table[id], or a virtual row where id < 0
 *
 * id: (N), of the pass   table: (V, C), frozen in any number format or trainable f32
 * virtual: (P, C) f32, row i for id -1 - i, never scaled   y: (N, C)
 * dtable[id] += scale * dy   dvirtual[i] += dy   Saves nothing. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { TABLE, VIRTUAL };

enum graft_status embedding_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *table = n->in[TABLE], *v = n->in[VIRTUAL];
    struct tensor *out = n->out;
    char found[96];

    if (table->ndim != 2 || table->from)
        return graft_fail(err, GRAFT_ESHAPE, "embedding: wants a table of rows, found %s",
                          shape_text(table, found));
    if (v && (v->ndim != 2 || v->dim[1] != table->dim[1] || v->w || v->dtype != DT_F32))
        return graft_fail(err, GRAFT_ESHAPE,
                          "embedding: virtual rows must hold %" PRId64 " f32 values, found %s",
                          table->dim[1], shape_text(v, found));
    out->ndim = 2;
    out->dim[0] = graph_max_tokens(n->g);
    out->dim[1] = table->dim[1];
    out->dtype = graph_act(n->g);
    out->per_token = true;
    return GRAFT_OK;
}

void embedding_forward(struct node *n)
{
    const struct graph_input *in = node_input(n);
    const struct tensor *v = n->in[VIRTUAL];
    const struct qmat table = tensor_qmat(n->in[TABLE]);

    node_backend(n)->embed(in->n, in->id, &table, v ? v->data : NULL, v ? tensor_rows(v) : 0,
                           n->args.scale.scale, tensor_act(n->out));
}

void embedding_backward(struct node *n)
{
    const struct graph_input *in = node_input(n);
    const struct tensor *table = n->in[TABLE], *v = n->in[VIRTUAL];

    node_backend(n)->embed_backward(in->n, tensor_width(table), in->id, table->dim[0],
                                    v ? tensor_rows(v) : 0, n->args.scale.scale, n->out->grad,
                                    table->grad, v ? v->grad : NULL);
}

struct tensor *op_embedding(struct graph *g, struct tensor *table, struct tensor *virtual_rows,
                            float scale)
{
    const union op_args args = { .scale = { scale } };

    return graph_node(g, OP_EMBEDDING, &args, 2, (struct tensor *[]){ table, virtual_rows });
}
