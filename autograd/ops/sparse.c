/* y = acc + x S^T, S (O, I) with the values v at the places of `sparse`, zero elsewhere
 *
 * x: (N, I)   v: (nnz), trainable or not   acc, y: (N, O)
 * dx = dy S   dv[k] = sum_n dy[n][row k] x[n][column k]   dacc = dy
 * Saves nothing. Places that are not chosen yet make S zero and dv too. While `dense` is set, what
 * the whole (O, I) gradient dy^T x would be goes there, each entry squared where asked, a strip of
 * rows at a time: neither S nor that gradient is ever held as a dense matrix.
 * Nikdan et al. 2024, arXiv:2401.04679 */
#include "autograd/ops/op.h"

#include <inttypes.h>
#include <omp.h>

#include "core/file.h"

enum { X, V, ACC };

/* Rows of the dense gradient formed at once: 4 MiB, or one. */
static int64_t strip_rows(const struct sparse *s)
{
    const int64_t rows = ((int64_t)4 << 20) / (4 * s->cols);

    return rows < 1 ? 1 : rows < s->rows ? rows : s->rows;
}

enum graft_status sparse_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X], *v = n->in[V];
    const struct sparse *s = n->args.sparse.at;
    const char *name = v->name ? v->name : "sparse";

    GRAFT_TRY(expect_rows(x, name, err));
    GRAFT_TRY(expect_vector(v, v->ndim == 1 ? v->dim[0] : 0, name, err));
    if (s->cols != tensor_width(x))
        return graft_fail(err, GRAFT_ESHAPE,
                          "%s: the sparse matrix takes rows of %" PRId64
                          " values, found rows of %" PRId64,
                          name, s->cols, tensor_width(x));
    infer_rows(n, x, s->rows);
    n->lanes = omp_get_max_threads();
    return expect_same_shape(n->out, n->in[ACC], name, err);
}

static struct csr places(const struct sparse *s)
{
    return (struct csr){ s->rows, s->cols, s->row_offs, s->col_idx };
}

void sparse_forward(struct node *n)
{
    const struct tensor *x = n->in[X], *acc = n->in[ACC];
    const struct csr s = places(n->args.sparse.at);
    const int64_t N = tensor_rows(x);

    if (s.row_offs)
        node_backend(n)->sparse_xst(N, &s, n->in[V]->data, tensor_act(x), tensor_act(acc),
                                    tensor_act(n->out), n->lanes, node_scratch(n));
    else if (acc->data != n->out->data)
        node_backend(n)->copy_columns(N, s.rows, tensor_act(acc), s.rows, 0, tensor_act(n->out),
                                      s.rows, 0);
}

static void add_dense(const struct node *n, const struct sparse *s)
{
    const struct backend *dev = node_backend(n);
    const int64_t N = tensor_rows(n->in[X]), step = strip_rows(s);
    float *strip = node_scratch(n);
    void *product = (char *)node_scratch(n) + aligned((size_t)(step * s->cols) * sizeof *strip);

    for (int64_t o = 0; o < s->rows; o += step) {
        const int64_t rows = step < s->rows - o ? step : s->rows - o, count = rows * s->cols;
        const struct gemm_mat dy = { n->out->grad + o, s->rows, 0 };
        float *sum = s->dense + o * s->cols;

        dev->tn(node_gemm(n), N, rows, s->cols, 1.0f, dy, tensor_mat(n->in[X]), 0.0f, strip,
                s->cols, product);
        if (s->squared)
            dev->add_square(count, strip, sum);
        else
            dev->axpy(count, 1.0f, strip, sum);
        if (s->mapped)
            file_forget(sum, (size_t)count * sizeof *sum);
    }
}

void sparse_backward(struct node *n)
{
    const struct backend *dev = node_backend(n);
    struct tensor *x = n->in[X], *v = n->in[V], *acc = n->in[ACC];
    const struct sparse *at = n->args.sparse.at;
    const struct csr s = places(at);
    const int64_t N = tensor_rows(x);

    if (s.row_offs && x->grad)
        dev->sparse_xs(N, &s, v->data, n->out->grad, x->grad, n->lanes, node_scratch(n));
    if (at->dense)
        add_dense(n, at);
    else if (s.row_offs && v->grad)
        dev->sparse_sample(N, &s, n->out->grad, tensor_act(x), v->grad, node_scratch(n));
    if (acc->grad && acc->grad != n->out->grad)
        dev->axpy(N * s.rows, 1.0f, n->out->grad, acc->grad);
}

uint32_t sparse_needs(const struct node *n)
{
    return tensor_trains(n->in[V]) ? 1u << X : 0;
}

size_t sparse_scratch(const struct node *n)
{
    const struct backend *dev = node_backend(n);
    const struct sparse *s = n->args.sparse.at;
    const int64_t rows = strip_rows(s);
    const size_t own = dev->sparse_scratch(s->cols, s->rows, n->lanes);
    const size_t dense = aligned((size_t)(rows * s->cols) * sizeof(float)) +
                         dev->product_scratch(tensor_max_rows(n, n->in[X]), s->cols, rows);

    return tensor_trains(n->in[V]) && dense > own ? dense : own;
}

struct tensor *op_sparse(struct graph *g, struct tensor *x, struct tensor *values,
                         struct tensor *acc, const struct sparse *at)
{
    const union op_args args = { .sparse = { at } };

    return graph_node(g, OP_SPARSE, &args, 3, (struct tensor *[]){ x, values, acc });
}
