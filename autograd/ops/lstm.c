/* One direction of an LSTM layer: h (T, H) from the input parts of its gates
 *
 * z: (T, 4H) = x W_in^T + b_in, made by a linear   w: (4H, H)   b: (4H)   out: (T, H)
 * T rows are one sequence, whatever the pass: an encoder of virtual tokens. f32.
 * Saved: gates (T, 4H), cells (T, H).   Formulas: backend/cpu/lstm.c */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { Z, W, B, GATES = 4 };

enum graft_status lstm_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *z = n->in[Z], *w = n->in[W];
    const int64_t H = w->ndim == 2 ? w->dim[1] : 0;
    char tz[96], tw[96];

    if (w->w || w->dtype != DT_F32 || H < 1 || w->dim[0] != GATES * H)
        return graft_fail(err, GRAFT_ESHAPE, "lstm: wants a weight (4H, H), found %s",
                          shape_text(w, tw));
    if (z->ndim != 2 || z->per_token || z->dtype != DT_F32 || z->dim[1] != GATES * H)
        return graft_fail(err, GRAFT_ESHAPE, "lstm: wants f32 rows of %" PRId64 " values, found %s",
                          GATES * H, shape_text(z, tz));
    GRAFT_TRY(expect_vector(n->in[B], GATES * H, "lstm", err));
    infer_rows(n, z, H);
    n->out->dtype = DT_F32;
    n->saved_bytes = (size_t)(tensor_rows(z) * (GATES + 1) * H) * sizeof(float);
    return GRAFT_OK;
}

static float *saved_cells(const struct node *n)
{
    return (float *)n->saved + tensor_rows(n->out) * GATES * tensor_width(n->out);
}

void lstm_forward(struct node *n)
{
    node_backend(n)->lstm(tensor_rows(n->out), tensor_width(n->out), n->args.lstm.reverse,
                          n->in[Z]->data, n->in[W]->data, n->in[B]->data, n->out->data, n->saved,
                          saved_cells(n));
}

void lstm_backward(struct node *n)
{
    node_backend(n)->lstm_backward(tensor_rows(n->out), tensor_width(n->out), n->args.lstm.reverse,
                                   n->in[W]->data, n->out->data, n->saved, saved_cells(n),
                                   n->out->grad, n->in[Z]->grad, n->in[W]->grad, n->in[B]->grad,
                                   node_scratch(n));
}

uint32_t lstm_needs(const struct node *n)
{
    (void)n;
    return 1u << W | (uint32_t)NEEDS_OUT;
}

size_t lstm_scratch(const struct node *n)
{
    return n->out->trains ? node_backend(n)->lstm_scratch(tensor_rows(n->out), tensor_width(n->out))
                          : 0;
}

struct tensor *op_lstm(struct graph *g, struct tensor *z, struct tensor *w, struct tensor *b,
                       bool reverse)
{
    const union op_args args = { .lstm = { reverse } };

    return graph_node(g, OP_LSTM, &args, 3, (struct tensor *[]){ z, w, b });
}
