/* y = scale * x
 *
 * x, y: (N, C)   dx = scale * dy   Saves nothing. */
#include "autograd/ops/op.h"

enum graft_status scale_infer(struct node *n, struct graft_err *err)
{
    GRAFT_TRY(expect_rows(n->in[0], "scale", err));
    infer_rows(n, n->in[0], tensor_width(n->in[0]));
    return GRAFT_OK;
}

void scale_forward(struct node *n)
{
    node_backend(n)->scale(tensor_rows(n->out) * tensor_width(n->out), n->args.scale.scale,
                           tensor_act(n->in[0]), tensor_act(n->out));
}

void scale_backward(struct node *n)
{
    if (n->in[0]->grad)
        node_backend(n)->axpy(tensor_rows(n->out) * tensor_width(n->out), n->args.scale.scale,
                              n->out->grad, n->in[0]->grad);
}

struct tensor *op_scale(struct graph *g, struct tensor *x, float scale)
{
    const union op_args args = { .scale = { scale } };

    return graph_node(g, OP_SCALE, &args, 1, &x);
}
