/* y = x * r * w,  r = 1 / sqrt(mean_c x^2 + eps)   Zhang & Sennrich 2019
 *
 * x, y: (N, G * C), G groups a row (q/k norms: one for each head)   w: (C)   saved r: (N, G)
 * plus_one: 1 + w stands for w (Gemma)
 * dx = r * (dy*w - x * r^2 * mean_c(dy*w*x))   dw = sum over rows and groups of dy * x * r */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { X, W };

enum graft_status rmsnorm_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X], *w = n->in[W];

    GRAFT_TRY(expect_rows(x, "rmsnorm", err));
    GRAFT_TRY(expect_vector(w, w->dim[0], "rmsnorm", err));
    if (w->dim[0] < 1 || tensor_width(x) % w->dim[0] != 0)
        return graft_fail(err, GRAFT_ESHAPE,
                          "rmsnorm: weight has %" PRId64 " entries, input rows have %" PRId64,
                          w->dim[0], tensor_width(x));
    n->args.norm.group = w->dim[0];
    infer_rows(n, x, tensor_width(x));
    n->saved_bytes = (size_t)(tensor_rows(x) * (tensor_width(x) / w->dim[0])) * sizeof(float);
    return GRAFT_OK;
}

/* Rows of one group each. */
static int64_t group_rows(const struct node *n, int64_t rows)
{
    return rows * (tensor_width(n->in[X]) / n->args.norm.group);
}

void rmsnorm_forward(struct node *n)
{
    node_backend(n)->rmsnorm(group_rows(n, tensor_rows(n->in[X])), n->args.norm.group,
                             tensor_act(n->in[X]), n->in[W]->data, n->args.norm.eps,
                             n->args.norm.plus_one, tensor_act(n->out), n->saved);
}

void rmsnorm_backward(struct node *n)
{
    node_backend(n)->rmsnorm_backward(group_rows(n, tensor_rows(n->in[X])), n->args.norm.group,
                                      tensor_act(n->in[X]), n->in[W]->data, n->args.norm.plus_one,
                                      n->saved, n->out->grad, n->in[X]->grad, n->in[W]->grad,
                                      node_scratch(n));
}

uint32_t rmsnorm_needs(const struct node *n)
{
    return 1u << X | (tensor_trains(n->in[X]) ? 1u << W : 0);
}

size_t rmsnorm_scratch(const struct node *n)
{
    if (!tensor_trains(n->in[W]))
        return 0;
    return node_backend(n)->norm_scratch(group_rows(n, tensor_max_rows(n, n->in[X])),
                                         n->args.norm.group);
}

struct tensor *op_rmsnorm(struct graph *g, struct tensor *x, struct tensor *w, float eps,
                          bool plus_one)
{
    const union op_args args = { .norm = { .eps = eps, .plus_one = plus_one } };

    return graph_node(g, OP_RMSNORM, &args, 2, (struct tensor *[]){ x, w });
}
