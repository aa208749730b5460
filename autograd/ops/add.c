/* y = a + scale * b
 *
 * a, b, y: (N, C)   da = dy   db = scale * dy   Saves nothing. y may take over a's storage. */
#include "autograd/ops/op.h"

enum { A, B };

enum graft_status add_infer(struct node *n, struct graft_err *err)
{
    GRAFT_TRY(expect_rows(n->in[A], "add", err));
    GRAFT_TRY(expect_same_shape(n->in[A], n->in[B], "add", err));
    infer_rows(n, n->in[A], tensor_width(n->in[A]));
    n->out->per_token |= n->in[B]->per_token;
    n->out->per_segment |= n->in[B]->per_segment;
    return GRAFT_OK;
}

void add_forward(struct node *n)
{
    node_backend(n)->add(tensor_rows(n->out) * tensor_width(n->out), tensor_act(n->in[A]),
                         n->args.scale.scale, tensor_act(n->in[B]), tensor_act(n->out));
}

void add_backward(struct node *n)
{
    const struct backend *dev = node_backend(n);
    const int64_t count = tensor_rows(n->out) * tensor_width(n->out);
    const float *dy = n->out->grad;

    if (n->in[A]->grad && n->in[A]->grad != dy)
        dev->axpy(count, 1.0f, dy, n->in[A]->grad);
    if (n->in[B]->grad)
        dev->axpy(count, n->args.scale.scale, dy, n->in[B]->grad);
}

struct tensor *op_add(struct graph *g, struct tensor *a, struct tensor *b, float scale)
{
    const union op_args args = { .scale = { scale } };

    return graph_node(g, OP_ADD, &args, 2, (struct tensor *[]){ a, b });
}
