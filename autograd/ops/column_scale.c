/* y = c * (x - b) + b, a factor a column
 *
 * x, y: (N, C)   c: C values, of a leaf of any shape or of another op   b: (C) or absent
 * dx = c * dy   dc = sum_n dy * (x - b)   db = (1 - c) sum_n dy   Saves nothing. y may take over
 * x's storage: where c does not train. IA3's vectors (Liu et al. 2022, arXiv:2205.05638), DoRA's
 * magnitudes (Liu et al. 2024, arXiv:2402.09353), which leave a linear's bias as it is. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { X, C_, B };

enum graft_status column_scale_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X], *c = n->in[C_], *b = n->in[B];
    const int64_t C = tensor_width(x);
    char found[96];

    GRAFT_TRY(expect_rows(x, "column_scale", err));
    if (c->w || c->per_token || c->dtype != DT_F32 || tensor_rows(c) * tensor_width(c) != C)
        return graft_fail(err, GRAFT_ESHAPE,
                          "column_scale: wants %" PRId64 " factors in f32, found %s", C,
                          shape_text(c, found));
    if (b)
        GRAFT_TRY(expect_vector(b, C, "column_scale", err));
    infer_rows(n, x, C);
    return GRAFT_OK;
}

void column_scale_forward(struct node *n)
{
    const struct tensor *x = n->in[X], *b = n->in[B];

    node_backend(n)->column_scale(tensor_rows(x), tensor_width(x), tensor_act(x), n->in[C_]->data,
                                  b ? b->data : NULL, tensor_act(n->out));
}

void column_scale_backward(struct node *n)
{
    struct tensor *x = n->in[X], *c = n->in[C_], *b = n->in[B];

    node_backend(n)->column_scale_backward(tensor_rows(x), tensor_width(x), tensor_act(x), c->data,
                                           b ? b->data : NULL, n->out->grad, x->grad, c->grad,
                                           b ? b->grad : NULL, node_scratch(n));
}

uint32_t column_scale_needs(const struct node *n)
{
    return 1u << C_ | (tensor_trains(n->in[C_]) ? 1u << X : 0);
}

size_t column_scale_scratch(const struct node *n)
{
    if (!tensor_trains(n->in[C_]) && !tensor_trains(n->in[B]))
        return 0;
    return node_backend(n)->column_scale_scratch(tensor_max_rows(n, n->in[X]),
                                                 tensor_width(n->in[X]));
}

struct tensor *op_column_scale(struct graph *g, struct tensor *x, struct tensor *c,
                               struct tensor *b)
{
    return graph_node(g, OP_COLUMN_SCALE, NULL, 3, (struct tensor *[]){ x, c, b });
}
