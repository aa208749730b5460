/* y[t] = column id[t] of a, zeros where id < 0
 *
 * id: (N), of the pass   a: (R, V), trainable or constant f32   y: (N, R)
 * da[:, id] += dy   Saves nothing. LoRA at an embedding: PEFT keeps A with a column a token. */
#include "autograd/ops/op.h"

enum graft_status pick_columns_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *a = n->in[0];
    struct tensor *out = n->out;
    char found[96];

    if (a->ndim != 2 || a->from || a->w)
        return graft_fail(err, GRAFT_ESHAPE, "pick_columns: wants a matrix of f32, found %s",
                          shape_text(a, found));
    out->ndim = 2;
    out->dim[0] = graph_max_tokens(n->g);
    out->dim[1] = a->dim[0];
    out->dtype = graph_act(n->g);
    out->per_token = true;
    return GRAFT_OK;
}

void pick_columns_forward(struct node *n)
{
    const struct graph_input *in = node_input(n);
    const struct tensor *a = n->in[0];

    node_backend(n)->pick_columns(in->n, a->dim[0], a->dim[1], in->id, a->data, tensor_act(n->out));
}

void pick_columns_backward(struct node *n)
{
    const struct graph_input *in = node_input(n);
    const struct tensor *a = n->in[0];

    if (a->grad)
        node_backend(n)->pick_columns_backward(in->n, a->dim[0], a->dim[1], in->id, n->out->grad,
                                               a->grad);
}

struct tensor *op_pick_columns(struct graph *g, struct tensor *a)
{
    return graph_node(g, OP_PICK_COLUMNS, NULL, 1, &a);
}
