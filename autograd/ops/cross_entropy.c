/* out = sum over tokens with a target of -log softmax(z)[target],  z = cap tanh(logits / cap)
 *
 * logits: (N, V)   target: (N), of the pass, -1 = none   out: scalar f32, summed in double
 * saved lse: (N)   dlogits = dout * (softmax(z) - onehot(target)) * (1 - (z / cap)^2)
 * Holds all logits: the losses of a model are head_loss and head_chunks. */
#include "autograd/ops/op.h"

#include <string.h>

enum graft_status cross_entropy_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *z = n->in[0];

    if (!z->per_token || z->ndim != 2)
        return graft_fail(err, GRAFT_ESHAPE, "cross_entropy: wants a row of logits for each token");
    n->out->ndim = 0;
    n->out->dtype = DT_F32;
    n->saved_bytes = (size_t)z->dim[0] * sizeof(float);
    return GRAFT_OK;
}

void cross_entropy_forward(struct node *n)
{
    const struct graph_input *in = node_input(n);
    const struct tensor *z = n->in[0];
    float *nll = node_scratch(n), *out = n->out->data;
    double sum = 0;

    *out = 0.0f;
    if (in->nll)
        memset(in->nll, 0, (size_t)in->n * sizeof *in->nll);
    if (!in->target)
        return;
    node_backend(n)->softmax_nll(in->n, z->dim[1], tensor_act(z), NULL, n->args.loss.softcap,
                                 in->target, nll, n->saved, NULL);
    for (int64_t t = 0; t < in->n; t++)
        sum += (double)nll[t];
    if (in->nll)
        memcpy(in->nll, nll, (size_t)in->n * sizeof *nll);
    *out = (float)sum;
}

void cross_entropy_backward(struct node *n)
{
    const struct graph_input *in = node_input(n);
    const struct tensor *z = n->in[0];

    if (in->target)
        node_backend(n)->softmax_nll_backward(in->n, z->dim[1], tensor_act(z), n->args.loss.softcap,
                                              in->target, n->saved, *n->out->grad, z->grad);
}

uint32_t cross_entropy_needs(const struct node *n)
{
    (void)n;
    return 1u;
}

size_t cross_entropy_scratch(const struct node *n)
{
    return (size_t)graph_max_tokens(n->g) * sizeof(float);
}

struct tensor *op_cross_entropy(struct graph *g, struct tensor *logits, float softcap)
{
    const union op_args args = { .loss = { softcap } };

    return graph_node(g, OP_CROSS_ENTROPY, &args, 1, &logits);
}
