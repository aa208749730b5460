/* y = x * keep / (1 - p), keep = uniform(seed, step, site; row * C + column) >= p
 *
 * x, y: (N, C)   dx = dy * keep / (1 - p)   Saves nothing: the mask is drawn again. Identity when
 * the pass does not train or p = 0.   Srivastava et al. 2014 */
#include "autograd/ops/op.h"

enum graft_status dropout_infer(struct node *n, struct graft_err *err)
{
    GRAFT_TRY(expect_rows(n->in[0], "dropout", err));
    if (!(n->args.dropout.p >= 0 && n->args.dropout.p < 1))
        return graft_fail(err, GRAFT_EARG, "dropout: the share must be in [0, 1), found %g",
                          (double)n->args.dropout.p);
    infer_rows(n, n->in[0], tensor_width(n->in[0]));
    return GRAFT_OK;
}

static bool active(const struct node *n)
{
    return node_input(n)->training && n->args.dropout.p > 0;
}

static struct rng_key key_of(const struct node *n)
{
    struct rng_key key = node_input(n)->rng;

    key.site = n->args.dropout.site;
    return key;
}

void dropout_forward(struct node *n)
{
    const int64_t C = tensor_width(n->out), N = tensor_rows(n->out);
    const struct act x = tensor_act(n->in[0]), y = tensor_act(n->out);

    if (active(n))
        node_backend(n)->dropout(N * C, n->args.dropout.p, key_of(n), x, y);
    else
        node_backend(n)->copy_columns(N, C, x, C, 0, y, C, 0);
}

void dropout_backward(struct node *n)
{
    const int64_t count = tensor_rows(n->out) * tensor_width(n->out);
    const float *dy = n->out->grad;
    float *dx = n->in[0]->grad;

    if (!dx)
        return;
    if (active(n))
        node_backend(n)->dropout_backward(count, n->args.dropout.p, key_of(n), dy, dx);
    else
        node_backend(n)->axpy(count, 1.0f, dy, dx);
}

struct tensor *op_dropout(struct graph *g, struct tensor *x, float p, uint32_t site)
{
    const union op_args args = { .dropout = { p, site } };

    return graph_node(g, OP_DROPOUT, &args, 1, &x);
}
