/* The first d = 2 * half channels of each head turn in pairs (i, i + half), the rest pass through:
 *     y[i] = x[i] cos - x[i + half] sin     y[i + half] = x[i + half] cos + x[i] sin
 *
 * x, y: (N, H * D)   angles: (N, 2 * half), cos | sin   Su et al. 2021
 * dx is dy turned back. Saves nothing. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { X, ANGLES };

enum graft_status rope_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X], *angles = n->in[ANGLES];
    const int64_t D = n->args.rope.head_dim;

    GRAFT_TRY(expect_rows(x, "rope", err));
    if (D < 1 || D > 1024 || tensor_width(x) % D != 0)
        return graft_fail(err, GRAFT_ESHAPE,
                          "rope: rows of %" PRId64 " values are no whole heads of %" PRId64
                          " (at most 1024)",
                          tensor_width(x), D);
    if (angles->dtype != DT_F32 || angles->ndim != 2 || angles->dim[1] > D || angles->dim[1] % 2 ||
        angles->dim[0] != tensor_rows(x))
        return graft_fail(err, GRAFT_ESHAPE,
                          "rope: angles (%" PRId64 ", %" PRId64 ") do not fit %" PRId64
                          " rows of heads of %" PRId64,
                          angles->dim[0], tensor_width(angles), tensor_rows(x), D);
    n->args.rope.heads = tensor_width(x) / D;
    infer_rows(n, x, tensor_width(x));
    return GRAFT_OK;
}

void rope_forward(struct node *n)
{
    const struct tensor *x = n->in[X], *angles = n->in[ANGLES];

    node_backend(n)->rope(tensor_rows(x), n->args.rope.heads, n->args.rope.head_dim,
                          angles->dim[1] / 2, tensor_act(x), angles->data, tensor_act(n->out));
}

void rope_backward(struct node *n)
{
    const struct tensor *x = n->in[X], *angles = n->in[ANGLES];

    node_backend(n)->rope_backward(tensor_rows(x), n->args.rope.heads, n->args.rope.head_dim,
                                   angles->dim[1] / 2, n->out->grad, angles->data, x->grad);
}

uint32_t rope_needs(const struct node *n)
{
    (void)n;
    return 1u << ANGLES;
}

struct tensor *op_rope(struct graph *g, struct tensor *x, struct tensor *angles, int64_t head_dim)
{
    const union op_args args = { .rope = { .head_dim = head_dim } };

    return graph_node(g, OP_ROPE, &args, 2, (struct tensor *[]){ x, angles });
}
