/* y = (x - m) * r * w + b,  m = mean_c x,  r = 1 / sqrt(mean_c (x - m)^2 + eps)   Ba et al. 2016
 *
 * x, y: (N, C)   w, b: (C), b may be absent   saved m, r: (N, 2)
 * with h = (x - m) * r:  dx = r * (dy*w - mean_c(dy*w) - h * mean_c(dy*w*h))
 * dw = sum_n dy * h   db = sum_n dy */
#include "autograd/ops/op.h"

enum { X, W, B };

enum graft_status layernorm_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X];

    GRAFT_TRY(expect_rows(x, "layernorm", err));
    GRAFT_TRY(expect_vector(n->in[W], tensor_width(x), "layernorm", err));
    if (n->in[B])
        GRAFT_TRY(expect_vector(n->in[B], tensor_width(x), "layernorm", err));
    infer_rows(n, x, tensor_width(x));
    n->saved_bytes = (size_t)tensor_rows(x) * 2 * sizeof(float);
    return GRAFT_OK;
}

void layernorm_forward(struct node *n)
{
    const struct tensor *x = n->in[X], *b = n->in[B];

    node_backend(n)->layernorm(tensor_rows(x), tensor_width(x), tensor_act(x), n->in[W]->data,
                               b ? b->data : NULL, n->args.norm.eps, tensor_act(n->out), n->saved);
}

void layernorm_backward(struct node *n)
{
    const struct tensor *x = n->in[X], *w = n->in[W], *b = n->in[B];

    node_backend(n)->layernorm_backward(tensor_rows(x), tensor_width(x), tensor_act(x), w->data,
                                        n->saved, n->out->grad, x->grad, w->grad,
                                        b ? b->grad : NULL, node_scratch(n));
}

uint32_t layernorm_needs(const struct node *n)
{
    const bool dx = tensor_trains(n->in[X]);

    return (dx || tensor_trains(n->in[W]) ? 1u << X : 0) | (dx ? 1u << W : 0);
}

size_t layernorm_scratch(const struct node *n)
{
    const struct tensor *x = n->in[X];

    if (!tensor_trains(n->in[W]) && !tensor_trains(n->in[B]))
        return 0;
    return node_backend(n)->norm_scratch(tensor_max_rows(n, x), tensor_width(x));
}

struct tensor *op_layernorm(struct graph *g, struct tensor *x, struct tensor *w, struct tensor *b,
                            float eps)
{
    const union op_args args = { .norm = { .eps = eps } };

    return graph_node(g, OP_LAYERNORM, &args, 3, (struct tensor *[]){ x, w, b });
}
