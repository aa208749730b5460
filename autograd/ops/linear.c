/* y = acc + scale * (x W^T + b)
 *
 * x: (N, I)   w: (O, I), frozen in any number format or trainable f32   b: (O)   acc, y: (N, O)
 * dx = scale * dy W   dw = scale * dy^T x   db = scale * sum_n dy   dacc = dy
 * Saves nothing. y may take over acc's storage: a slot adds the adapter's part to the base's. */
#include "autograd/ops/op.h"

#include <inttypes.h>

enum { X, W, B, ACC };

/* Rows whose f32 results are held before they are rounded to bf16. */
static int64_t chunk_rows(int64_t n, int64_t O)
{
    const int64_t rows = ((int64_t)32 << 20) / (4 * O), most = rows < 256 ? 256 : rows;

    return most < n ? most : n;
}

enum graft_status linear_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X], *w = n->in[W], *b = n->in[B], *acc = n->in[ACC];
    const char *name = w->name ? w->name : "linear";

    GRAFT_TRY(expect_rows(x, name, err));
    if (w->ndim != 2 || w->dim[1] != tensor_width(x) || w->dtype != DT_F32)
        return graft_fail(err, GRAFT_ESHAPE,
                          "%s: the weight takes rows of %" PRId64 " values, found rows of %" PRId64,
                          name, w->ndim == 2 ? w->dim[1] : -1, tensor_width(x));
    if (b)
        GRAFT_TRY(expect_vector(b, w->dim[0], name, err));
    infer_rows(n, x, w->dim[0]);
    if (acc)
        GRAFT_TRY(expect_same_shape(n->out, acc, name, err));
    return GRAFT_OK;
}

/* f32: the product adds to what y holds, so y begins as acc (or is acc: the same bits). */
static void forward_direct(const struct node *n, const struct qmat *w)
{
    const struct backend *dev = node_backend(n);
    const struct tensor *x = n->in[X], *b = n->in[B], *acc = n->in[ACC];
    const int64_t N = tensor_rows(x), O = tensor_width(n->out);
    const struct act y = tensor_act(n->out), none = { NULL, 0 };
    const float scale = n->args.linear.scale;

    if (acc && acc->data != y.data)
        dev->copy_columns(N, O, tensor_act(acc), O, 0, y, O, 0);
    dev->xwt(node_gemm(n), N, scale, tensor_mat(x), w, acc ? 1.0f : 0.0f, y.data, O,
             node_scratch(n));
    if (b)
        dev->bias_acc(N, O, y.data, scale, b->data, none, y);
}

/* Rows [t, t + m) of an activation. */
static struct act rows_from(const struct tensor *x, int64_t t)
{
    struct act rows = tensor_act(x);

    if (rows.data)
        rows.data = (char *)rows.data + (size_t)(t * tensor_width(x)) * (rows.is_bf16 ? 2 : 4);
    return rows;
}

/* bf16: chunks of f32 sums, rounded once when all is added. */
static void forward_rounded(const struct node *n, const struct qmat *w)
{
    const struct backend *dev = node_backend(n);
    const struct tensor *x = n->in[X], *b = n->in[B], *acc = n->in[ACC];
    const int64_t N = tensor_rows(x), I = tensor_width(x), O = tensor_width(n->out);
    const int64_t step = chunk_rows(N, O);
    const float scale = n->args.linear.scale;
    char *scratch = node_scratch(n);
    float *sums = (float *)(void *)(scratch + aligned(dev->product_scratch(step, I, O)));

    for (int64_t t = 0; t < N; t += step) {
        const int64_t m = step < N - t ? step : N - t;
        const struct act from = rows_from(x, t);
        const struct gemm_mat rows = { from.data, I, from.is_bf16 };

        dev->xwt(node_gemm(n), m, scale, rows, w, 0.0f, sums, O, scratch);
        dev->bias_acc(m, O, sums, scale, b ? b->data : NULL,
                      acc ? rows_from(acc, t) : (struct act){ NULL, 0 }, rows_from(n->out, t));
    }
}

void linear_forward(struct node *n)
{
    const struct qmat w = tensor_qmat(n->in[W]);

    if (n->out->dtype == DT_BF16)
        forward_rounded(n, &w);
    else
        forward_direct(n, &w);
}

void linear_backward(struct node *n)
{
    const struct backend *dev = node_backend(n);
    struct tensor *x = n->in[X], *wt = n->in[W], *b = n->in[B], *acc = n->in[ACC];
    const int64_t N = tensor_rows(x), I = tensor_width(x), O = tensor_width(n->out);
    const float scale = n->args.linear.scale;
    const struct gemm_mat dy = { n->out->grad, O, 0 };
    const struct qmat w = tensor_qmat(wt);
    void *scratch = node_scratch(n);

    if (x->grad)
        dev->xw(node_gemm(n), N, scale, dy, &w, 1.0f, x->grad, I, scratch);
    if (wt->grad)
        dev->tn(node_gemm(n), N, O, I, scale, dy, tensor_mat(x), 1.0f, wt->grad, I, scratch);
    if (b && b->grad)
        dev->column_sum(N, O, scale, n->out->grad, b->grad, scratch);
    if (acc && acc->grad && acc->grad != n->out->grad)
        dev->axpy(N * O, 1.0f, n->out->grad, acc->grad);
}

uint32_t linear_needs(const struct node *n)
{
    return (tensor_trains(n->in[X]) ? 1u << W : 0) | (tensor_trains(n->in[W]) ? 1u << X : 0);
}

size_t linear_scratch(const struct node *n)
{
    const struct backend *dev = node_backend(n);
    const int64_t N = tensor_max_rows(n, n->in[X]), I = tensor_width(n->in[X]);
    const int64_t O = tensor_width(n->out);
    const int64_t held = n->out->dtype == DT_BF16 ? chunk_rows(N, O) : 0;
    const size_t product = aligned(dev->product_scratch(N, I, O));
    const size_t forward =
        held ? aligned(dev->product_scratch(held, I, O)) + (size_t)(held * O) * sizeof(float) : 0;
    const size_t sum = tensor_trains(n->in[B]) ? dev->column_sum_scratch(N, O) : 0;
    const size_t most = product > forward ? product : forward;

    return most > sum ? most : sum;
}

struct tensor *op_linear(struct graph *g, struct tensor *x, struct tensor *w, struct tensor *b,
                         struct tensor *acc, float scale)
{
    const union op_args args = { .linear = { scale } };

    return graph_node(g, OP_LINEAR, &args, 4, (struct tensor *[]){ x, w, b, acc });
}
