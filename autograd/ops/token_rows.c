/* y[t] = scale * rows[k] where the token of row t is id[k] of a set, else x[t]: rows of an
 * embedding that stand in for the table's own
 *
 * x, y: (N, C)   rows: (P, C) f32   set: P ids of a vocabulary
 * dx[t] = dy[t] where it was kept   drows[k] = scale * sum over its tokens of dy[t]   Saves
 * nothing. y may take over x's storage. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { X, ROWS };

enum graft_status token_rows_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X], *rows = n->in[ROWS];
    char found[96];

    if (!x->per_token || x->ndim != 2)
        return graft_fail(err, GRAFT_ESHAPE, "token_rows: wants a row for each token");
    if (rows->ndim != 2 || rows->dim[0] != n->args.tokens.set->count ||
        rows->dim[1] != tensor_width(x) || rows->w || rows->dtype != DT_F32)
        return graft_fail(err, GRAFT_ESHAPE,
                          "token_rows: wants %" PRId64 " rows of %" PRId64 " f32 values, found %s",
                          n->args.tokens.set->count, tensor_width(x), shape_text(rows, found));
    infer_rows(n, x, tensor_width(x));
    return GRAFT_OK;
}

/* (N): which of the rows each token takes; -1: none */
static const int32_t *places(const struct node *n)
{
    const struct graph_input *in = node_input(n);
    const struct token_set *set = n->args.tokens.set;
    int32_t *place = node_scratch(n);

    for (int64_t t = 0; t < in->n; t++)
        place[t] = in->id[t] >= 0 && in->id[t] < set->vocab ? set->place[in->id[t]] : -1;
    return place;
}

void token_rows_forward(struct node *n)
{
    const struct backend *dev = node_backend(n);
    const struct tensor *x = n->in[X];
    const int64_t N = tensor_rows(x), C = tensor_width(x);
    const struct act y = tensor_act(n->out);

    if (x->data != y.data)
        dev->copy_columns(N, C, tensor_act(x), C, 0, y, C, 0);
    dev->place_rows(N, C, places(n), n->in[ROWS]->data, n->args.tokens.scale, y);
}

void token_rows_backward(struct node *n)
{
    node_backend(n)->place_rows_backward(tensor_rows(n->out), tensor_width(n->out), places(n),
                                         n->args.tokens.scale, n->out->grad, n->in[X]->grad,
                                         n->in[ROWS]->grad);
}

size_t token_rows_scratch(const struct node *n)
{
    return (size_t)graph_max_tokens(n->g) * sizeof(int32_t);
}

struct tensor *op_token_rows(struct graph *g, struct tensor *x, struct tensor *rows,
                             const struct token_set *set, float scale)
{
    const union op_args args = { .tokens = { set, scale } };

    return graph_node(g, OP_TOKEN_ROWS, &args, 2, (struct tensor *[]){ x, rows });
}
