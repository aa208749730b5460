/* c = m / |W + s B A|, row by row   DoRA's factor, Liu et al. 2024, arXiv:2402.09353, eq. 5
 *
 * m, c: (O)   W: (O, I), frozen in any number format   A: (R, I)   B: (O, R)   square: (O), the
 * constants |w_i|^2   saved: (O), the norms
 * |w_i + s A^T b_i|^2 = |w_i|^2 + 2 s b_i . (A w_i) + s^2 b_i^T (A A^T) b_i, so neither W nor B A
 * is formed: A W^T streams through the decoder of W's format. dm = dc / |.|; the norm counts as a
 * constant (section 4.3), so A and B get nothing. A row without a norm has factor 0 and passes no
 * gradient. `columns`: W (I, O), an embedding. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { M, W, A, B, SQUARE };

enum graft_status magnitude_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *m = n->in[M], *w = n->in[W], *a = n->in[A], *b = n->in[B];
    const bool columns = n->args.magnitude.columns;
    const int64_t O = tensor_width(m);
    char tw[96], ta[96], tb[96];

    GRAFT_TRY(expect_vector(m, O, "magnitude", err));
    GRAFT_TRY(expect_vector(n->in[SQUARE], O, "magnitude", err));
    if (w->ndim != 2 || w->from || a->ndim != 2 || b->ndim != 2 || w->dim[columns] != O ||
        w->dim[!columns] != a->dim[1] || b->dim[0] != O || b->dim[1] != a->dim[0])
        return graft_fail(err, GRAFT_ESHAPE,
                          "magnitude: %" PRId64 " of them do not fit a weight %s with A %s and B "
                          "%s",
                          O, shape_text(w, tw), shape_text(a, ta), shape_text(b, tb));
    n->out->ndim = 1;
    n->out->dim[0] = O;
    n->out->dtype = DT_F32;
    n->saved_bytes = (size_t)O * sizeof(float);
    return GRAFT_OK;
}

void magnitude_forward(struct node *n)
{
    const struct qmat w = tensor_qmat(n->in[W]);
    const float *m = n->in[M]->data;
    float *norm = n->saved, *c = n->out->data;

    node_backend(n)->row_norms(n->in[A]->dim[0], n->args.magnitude.scale, n->in[A]->data, &w,
                               n->args.magnitude.columns, n->in[B]->data, n->in[SQUARE]->data, norm,
                               node_scratch(n));
    for (int64_t i = 0; i < n->out->dim[0]; i++)
        c[i] = norm[i] > 0 ? m[i] / norm[i] : 0;
}

void magnitude_backward(struct node *n)
{
    const float *norm = n->saved, *dc = n->out->grad;
    float *dm = n->in[M]->grad;

    for (int64_t i = 0; dm && i < n->out->dim[0]; i++)
        if (norm[i] > 0)
            dm[i] += dc[i] / norm[i];
}

uint32_t magnitude_needs(const struct node *n)
{
    (void)n;
    return 0;
}

size_t magnitude_scratch(const struct node *n)
{
    return node_backend(n)->row_norms_scratch(n->in[A]->dim[0], n->in[A]->dim[1], n->out->dim[0]);
}

struct tensor *op_magnitude(struct graph *g, const struct magnitude *of)
{
    const union op_args args = { .magnitude = { of->scale, of->columns } };

    return graph_node(g, OP_MAGNITUDE, &args, 5,
                      (struct tensor *[]){ of->m, of->w, of->a, of->b, of->square });
}
