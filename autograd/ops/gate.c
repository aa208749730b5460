/* y = act(a) * b   Shazeer 2020
 *
 * a, b, y: (N, C)   da = dy * b * act'(a)   db = dy * act(a)   Saves nothing. */
#include "autograd/ops/op.h"

enum { A, B };

enum graft_status gate_infer(struct node *n, struct graft_err *err)
{
    GRAFT_TRY(expect_rows(n->in[A], "gate", err));
    GRAFT_TRY(expect_same_shape(n->in[A], n->in[B], "gate", err));
    infer_rows(n, n->in[A], tensor_width(n->in[A]));
    n->out->per_token |= n->in[B]->per_token;
    n->out->per_segment |= n->in[B]->per_segment;
    return GRAFT_OK;
}

void gate_forward(struct node *n)
{
    node_backend(n)->gate(tensor_rows(n->out) * tensor_width(n->out), n->args.act.kind,
                          tensor_act(n->in[A]), tensor_act(n->in[B]), tensor_act(n->out));
}

void gate_backward(struct node *n)
{
    node_backend(n)->gate_backward(tensor_rows(n->out) * tensor_width(n->out), n->args.act.kind,
                                   tensor_act(n->in[A]), tensor_act(n->in[B]), n->out->grad,
                                   n->in[A]->grad, n->in[B]->grad);
}

uint32_t gate_needs(const struct node *n)
{
    return 1u << A | (tensor_trains(n->in[A]) ? 1u << B : 0);
}

struct tensor *op_gate(struct graph *g, struct tensor *a, struct tensor *b, enum activation kind)
{
    const union op_args args = { .act = { kind } };

    return graph_node(g, OP_GATE, &args, 2, (struct tensor *[]){ a, b });
}
