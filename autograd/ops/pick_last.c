/* y[s] = x[start[s + 1] - 1]: the row of each segment's last token
 *
 * x: (N, C)   y: (segments, C)   dx[last] += dy   Saves nothing. An empty segment gives the row
 * before it, or row 0. */
#include "autograd/ops/op.h"

enum graft_status pick_last_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[0];

    if (!x->per_token || x->ndim != 2)
        return graft_fail(err, GRAFT_ESHAPE, "pick_last: wants a row for each token");
    infer_rows(n, x, tensor_width(x));
    n->out->dim[0] = graph_max_segments(n->g);
    n->out->per_token = false;
    n->out->per_segment = true;
    return GRAFT_OK;
}

/* (segments) rows, in the working memory */
static const int64_t *last_rows(const struct node *n)
{
    const struct graph_input *in = node_input(n);
    int64_t *row = node_scratch(n);

    for (int64_t s = 0; s < in->segments; s++)
        row[s] = in->start[s + 1] > 0 ? in->start[s + 1] - 1 : 0;
    return row;
}

void pick_last_forward(struct node *n)
{
    node_backend(n)->gather_rows(node_input(n)->segments, tensor_width(n->out), last_rows(n),
                                 tensor_act(n->in[0]), tensor_act(n->out));
}

void pick_last_backward(struct node *n)
{
    node_backend(n)->scatter_add_rows(node_input(n)->segments, tensor_width(n->out), last_rows(n),
                                      1.0f, n->out->grad, n->in[0]->grad);
}

size_t pick_last_scratch(const struct node *n)
{
    return (size_t)graph_max_segments(n->g) * sizeof(int64_t);
}

struct tensor *op_pick_last(struct graph *g, struct tensor *x)
{
    return graph_node(g, OP_PICK_LAST, NULL, 1, &x);
}
