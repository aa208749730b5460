/* out = sum over tokens with a target of -log softmax(z)[target],
 * z = cap tanh((x w^T + b) / cap), the head and the loss in one
 *
 * x: (N, C)   w: (V, C) frozen, any number format   b: (V) frozen   target: (N), of the pass, -1 =
 * none   out: scalar f32, summed in double
 * Logits exist for one chunk of rows at a time, and only for rows that have a target; their
 * gradient is made in the same pass, while they are at hand.
 * saved: (N, C), d out / d x of the rows that have a target, in order   dx = dout * saved */
#include "autograd/ops/op.h"

#include <inttypes.h>
#include <string.h>

enum { X, W, B };

static bool keeps_gradient(const struct node *n)
{
    return graph_wants_backward(n->g) && tensor_trains(n->in[X]);
}

enum graft_status head_loss_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[X], *w = n->in[W], *b = n->in[B];

    if (!x->per_token || x->ndim != 2 || w->ndim != 2 || w->dim[1] != tensor_width(x))
        return graft_fail(err, GRAFT_ESHAPE,
                          "head_loss: the head takes rows of %" PRId64 " values, found %" PRId64,
                          tensor_width(w), tensor_width(x));
    if (tensor_trains(w) || tensor_trains(b))
        return graft_fail(err, GRAFT_EARG, "head_loss: the head trains, which takes head_chunks");
    if (b)
        GRAFT_TRY(expect_vector(b, w->dim[0], "head_loss", err));
    n->out->ndim = 0;
    n->out->dtype = DT_F32;
    n->saved_bytes = keeps_gradient(n) ? (size_t)(x->dim[0] * x->dim[1]) * sizeof(float) : 0;
    return GRAFT_OK;
}

/* Working memory of a pass of at most N rows. */
struct work {
    int64_t *row;    /* N: rows that have a target */
    int32_t *target; /* N: theirs */
    float *nll;      /* chunk */
    void *x;         /* (chunk, C), gathered */
    float *logits;   /* (chunk, V) */
    void *product;
};

static size_t layout(const struct node *n, char *at, struct work *w)
{
    const int64_t N = graph_max_tokens(n->g), C = tensor_width(n->in[X]), V = n->in[W]->dim[0];
    const int64_t rows = logit_rows(N, V);
    const size_t bytes[] = {
        (size_t)N * sizeof *w->row,
        (size_t)N * sizeof *w->target,
        (size_t)rows * sizeof *w->nll,
        (size_t)(rows * C) * sizeof(float),
        (size_t)(rows * V) * sizeof *w->logits,
        node_backend(n)->product_scratch(rows, C, V),
    };
    void *part[6];
    const size_t total = carve(at, bytes, 6, part);

    if (at)
        *w = (struct work){ part[0], part[1], part[2], part[3], part[4], part[5] };
    return total;
}

/* Listed rows [first, first + m): their nll, and dx (m, C) unless it is NULL. */
static void chunk(const struct node *n, const struct work *w, int64_t first, int64_t m, float *dx)
{
    const struct backend *dev = node_backend(n);
    const struct tensor *x = n->in[X], *b = n->in[B];
    const struct qmat head = tensor_qmat(n->in[W]);
    const int64_t C = tensor_width(x), V = head.rows;
    const struct act rows = { w->x, x->dtype == DT_BF16 }, z = { w->logits, 0 };
    const struct gemm_mat from = { w->x, C, rows.is_bf16 }, dz = { w->logits, V, 0 };

    dev->gather_rows(m, C, w->row + first, tensor_act(x), rows);
    dev->xwt(node_gemm(n), m, 1.0f, from, &head, 0.0f, w->logits, V, w->product);
    dev->softmax_nll(m, V, z, b ? b->data : NULL, n->args.loss.softcap, w->target + first, w->nll,
                     NULL, dx ? w->logits : NULL);
    if (dx)
        dev->xw(node_gemm(n), m, 1.0f, dz, &head, 0.0f, dx, C, w->product);
}

void head_loss_forward(struct node *n)
{
    const struct graph_input *in = node_input(n);
    const int64_t C = tensor_width(n->in[X]),
                  step = logit_rows(graph_max_tokens(n->g), n->in[W]->dim[0]);
    float *out = n->out->data, *saved = keeps_gradient(n) ? n->saved : NULL;
    struct work w;
    int64_t rows;
    double sum = 0;

    layout(n, node_scratch(n), &w);
    rows = target_rows(in, w.row, w.target);
    if (in->nll)
        memset(in->nll, 0, (size_t)in->n * sizeof *in->nll);
    for (int64_t first = 0; first < rows; first += step) {
        const int64_t m = step < rows - first ? step : rows - first;

        chunk(n, &w, first, m, saved ? saved + first * C : NULL);
        for (int64_t i = 0; i < m; i++) {
            sum += (double)w.nll[i];
            if (in->nll)
                in->nll[w.row[first + i]] = w.nll[i];
        }
    }
    *out = (float)sum;
}

void head_loss_backward(struct node *n)
{
    int64_t *row = node_scratch(n);
    const int64_t rows = target_rows(node_input(n), row, NULL);

    node_backend(n)->scatter_add_rows(rows, tensor_width(n->in[X]), row, *n->out->grad, n->saved,
                                      n->in[X]->grad);
}

size_t head_loss_scratch(const struct node *n)
{
    return layout(n, NULL, NULL);
}

struct tensor *op_head_loss(struct graph *g, struct tensor *x, struct tensor *w, struct tensor *b,
                            float softcap)
{
    const union op_args args = { .loss = { softcap } };

    return graph_node(g, OP_HEAD_LOSS, &args, 3, (struct tensor *[]){ x, w, b });
}
