/* y = columns [first, first + count) of x
 *
 * x: (N, C)   y: (N, count)   dx: dy in those columns   Saves nothing. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum graft_status slice_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[0];
    const int64_t first = n->args.slice.first, count = n->args.slice.count;

    GRAFT_TRY(expect_rows(x, "slice", err));
    if (first < 0 || count < 1 || count > tensor_width(x) || first > tensor_width(x) - count)
        return graft_fail(err, GRAFT_ESHAPE,
                          "slice: %" PRId64 " columns from %" PRId64
                          " on do not lie in rows of %" PRId64,
                          count, first, tensor_width(x));
    infer_rows(n, x, count);
    return GRAFT_OK;
}

void slice_forward(struct node *n)
{
    const int64_t C = tensor_width(n->in[0]), count = n->args.slice.count;

    node_backend(n)->copy_columns(tensor_rows(n->out), count, tensor_act(n->in[0]), C,
                                  n->args.slice.first, tensor_act(n->out), count, 0);
}

void slice_backward(struct node *n)
{
    const int64_t C = tensor_width(n->in[0]), count = n->args.slice.count;

    node_backend(n)->add_columns(tensor_rows(n->out), count, n->out->grad, count, 0, n->in[0]->grad,
                                 C, n->args.slice.first);
}

struct tensor *op_slice(struct graph *g, struct tensor *x, int64_t first, int64_t count)
{
    const union op_args args = { .slice = { first, count } };

    return graph_node(g, OP_SLICE, &args, 1, &x);
}
