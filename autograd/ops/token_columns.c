/* y[:, id[k]] = columns[:, k] for the tokens id of a set, else x: logits of rows of a head that
 * stand in for its own
 *
 * x, y: (N, V)   columns: (N, P)   set: P ids of the V
 * dx = dy where it was kept, else 0   dcolumns[:, k] = dy[:, id[k]]   Saves nothing.
 * y may take over x's storage. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { X, COLUMNS };

enum graft_status token_columns_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X], *c = n->in[COLUMNS];
    const struct token_set *set = n->args.tokens.set;

    GRAFT_TRY(expect_rows(x, "token_columns", err));
    if (x->ndim != 2 || tensor_width(x) != set->vocab || c->ndim != 2 || c->dim[0] != x->dim[0] ||
        c->dim[1] != set->count)
        return graft_fail(err, GRAFT_ESHAPE,
                          "token_columns: %" PRId64 " columns of %" PRId64
                          " are replaced, found %" PRId64 " of %" PRId64,
                          set->count, set->vocab, tensor_width(c), tensor_width(x));
    infer_rows(n, x, tensor_width(x));
    return GRAFT_OK;
}

void token_columns_forward(struct node *n)
{
    const struct backend *dev = node_backend(n);
    const struct token_set *set = n->args.tokens.set;
    const struct tensor *x = n->in[X];
    const int64_t N = tensor_rows(x), V = tensor_width(x);
    const struct act y = tensor_act(n->out);

    if (x->data != y.data)
        dev->copy_columns(N, V, tensor_act(x), V, 0, y, V, 0);
    dev->place_columns(N, V, set->count, set->id, tensor_act(n->in[COLUMNS]), y);
}

void token_columns_backward(struct node *n)
{
    const struct token_set *set = n->args.tokens.set;

    node_backend(n)->place_columns_backward(tensor_rows(n->out), tensor_width(n->out), set->count,
                                            set->id, set->place, n->out->grad, n->in[X]->grad,
                                            n->in[COLUMNS]->grad);
}

struct tensor *op_token_columns(struct graph *g, struct tensor *x, struct tensor *columns,
                                const struct token_set *set)
{
    const union op_args args = { .tokens = { set, 1.0f } };

    return graph_node(g, OP_TOKEN_COLUMNS, &args, 2, (struct tensor *[]){ x, columns });
}
