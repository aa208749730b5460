/* y = [a | b], row by row
 *
 * a: (N, Ca)   b: (N, Cb)   y: (N, Ca + Cb)   da, db: the columns of dy   Saves nothing. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { A, B };

enum graft_status concat_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *a = n->in[A], *b = n->in[B];

    GRAFT_TRY(expect_rows(a, "concat", err));
    GRAFT_TRY(expect_rows(b, "concat", err));
    if (a->ndim != 2 || b->ndim != 2 || a->dim[0] != b->dim[0])
        return graft_fail(err, GRAFT_ESHAPE, "concat: inputs have %" PRId64 " and %" PRId64 " rows",
                          tensor_rows(a), tensor_rows(b));
    infer_rows(n, a, a->dim[1] + b->dim[1]);
    n->out->per_token |= b->per_token;
    return GRAFT_OK;
}

void concat_forward(struct node *n)
{
    const struct backend *dev = node_backend(n);
    const int64_t N = tensor_rows(n->out), C = tensor_width(n->out);
    const int64_t Ca = tensor_width(n->in[A]), Cb = C - Ca;

    dev->copy_columns(N, Ca, tensor_act(n->in[A]), Ca, 0, tensor_act(n->out), C, 0);
    dev->copy_columns(N, Cb, tensor_act(n->in[B]), Cb, 0, tensor_act(n->out), C, Ca);
}

void concat_backward(struct node *n)
{
    const struct backend *dev = node_backend(n);
    const int64_t N = tensor_rows(n->out), C = tensor_width(n->out);
    const int64_t Ca = tensor_width(n->in[A]), Cb = C - Ca;

    dev->add_columns(N, Ca, n->out->grad, C, 0, n->in[A]->grad, Ca, 0);
    dev->add_columns(N, Cb, n->out->grad, C, Ca, n->in[B]->grad, Cb, 0);
}

struct tensor *op_concat(struct graph *g, struct tensor *a, struct tensor *b)
{
    return graph_node(g, OP_CONCAT, NULL, 2, (struct tensor *[]){ a, b });
}
