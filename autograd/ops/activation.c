/* y = act(x): SiLU x s(x), GELU x Phi(x), its tanh form, quick GELU x s(1.702 x), ReLU, tanh
 *
 * x, y: (N, C), s the logistic function   dx = dy * act'(x)   Saves nothing.
 * Hendrycks & Gimpel 2016; Elfwing et al. 2017 */
#include "autograd/ops/op.h"

enum graft_status activation_infer(struct node *n, struct graft_err *err)
{
    GRAFT_TRY(expect_rows(n->in[0], "activation", err));
    infer_rows(n, n->in[0], tensor_width(n->in[0]));
    return GRAFT_OK;
}

void activation_forward(struct node *n)
{
    node_backend(n)->activation(tensor_rows(n->out) * tensor_width(n->out), n->args.act.kind,
                                tensor_act(n->in[0]), tensor_act(n->out));
}

void activation_backward(struct node *n)
{
    node_backend(n)->activation_backward(tensor_rows(n->out) * tensor_width(n->out),
                                         n->args.act.kind, tensor_act(n->in[0]), n->out->grad,
                                         n->in[0]->grad);
}

uint32_t activation_needs(const struct node *n)
{
    (void)n;
    return 1u;
}

struct tensor *op_activation(struct graph *g, struct tensor *x, enum activation kind)
{
    const union op_args args = { .act = { kind } };

    return graph_node(g, OP_ACTIVATION, &args, 1, &x);
}
