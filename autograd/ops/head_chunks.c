/* out = sum over tokens with a target of -log softmax(head(x))[target], for a head that an adapter
 * changes or that trains itself
 *
 * x: (N, C)   head: a graph of its own over a chunk of rows, which ends in cross_entropy
 * target: (N), of the pass, -1 = none   out: scalar f32, summed in double
 * dx = the head's gradient of its rows; what trains inside the head gets its own there
 * Logits and their gradient exist for one chunk of rows at a time, and only for rows that have a
 * target. Saves nothing: backward makes the logits of a chunk again. */
#include "autograd/ops/op.h"

#include <string.h>

#include "autograd/plan.h"

enum graft_status head_chunks_infer(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[0];

    if (!x->per_token || x->ndim != 2)
        return graft_fail(err, GRAFT_ESHAPE, "head_chunks: wants a row for each token");
    n->out->ndim = 0;
    n->out->dtype = DT_F32;
    n->out->trains |= n->args.chunks.loss->trains;
    return GRAFT_OK;
}

/* Working memory of a pass of at most N rows. */
struct work {
    int64_t *row;    /* N: rows that have a target */
    int32_t *target; /* N: theirs */
    float *nll;      /* chunk */
    void *x;         /* (chunk, C), gathered */
    float *dx;       /* (chunk, C) */
    struct graph_memory head;
};

static size_t layout(const struct node *n, char *at, struct work *w)
{
    const struct graph *head = n->args.chunks.head;
    const size_t N = (size_t)graph_max_tokens(n->g), rows = (size_t)graph_max_tokens(head);
    const size_t C = (size_t)tensor_width(n->in[0]);
    const size_t bytes[] = { N * sizeof *w->row,
                             N * sizeof *w->target,
                             rows * sizeof *w->nll,
                             rows * C * sizeof(float),
                             rows * C * sizeof *w->dx,
                             head->slab,
                             head->scratch };
    void *part[7];
    const size_t total = carve(at, bytes, 7, part);

    if (at)
        *w = (struct work){ part[0], part[1], part[2],
                            part[3], part[4], { part[5], part[6], head->slab, head->scratch } };
    return total;
}

/* Listed rows [first, first + m) through the head, forward; and backward where seed is not 0, which
 * leaves dx (m, C) in w->dx. */
static void run_chunk(const struct node *n, struct work *w, int64_t first, int64_t m, float seed)
{
    const struct graph_input *in = node_input(n);
    const struct backend *dev = node_backend(n);
    const struct tensor *x = n->in[0];
    struct graph *head = n->args.chunks.head;
    struct tensor *rows = n->args.chunks.rows;
    const int64_t start[2] = { 0, m }, C = tensor_width(x);
    struct graph_input pass = { .n = m,
                                .target = w->target + first,
                                .segments = 1,
                                .start = start,
                                .training = in->training,
                                .rng = in->rng,
                                .nll = w->nll };

    pass.rng.seed += (uint64_t)(first + 1) << 32; /* each chunk draws masks of its own */
    dev->gather_rows(m, C, w->row + first, tensor_act(x),
                     (struct act){ w->x, rows->dtype == DT_BF16 });
    rows->data = w->x;
    rows->dim[0] = m;
    rows->grad = seed != 0 && rows->trains ? w->dx : NULL;
    if (rows->grad)
        memset(w->dx, 0, (size_t)(m * C) * sizeof *w->dx);
    graph_lend(head, &w->head);
    head->poison = n->g->poison;
    graph_forward(head, &pass);
    if (seed != 0)
        graph_backward(head, seed);
    graph_lend(head, NULL);
}

void head_chunks_forward(struct node *n)
{
    const struct graph_input *in = node_input(n);
    const int64_t step = graph_max_tokens(n->args.chunks.head);
    float *out = n->out->data;
    struct work w;
    int64_t rows;
    double sum = 0;

    layout(n, node_scratch(n), &w);
    rows = target_rows(in, w.row, w.target);
    if (in->nll)
        memset(in->nll, 0, (size_t)in->n * sizeof *in->nll);
    for (int64_t first = 0; first < rows; first += step) {
        const int64_t m = step < rows - first ? step : rows - first;

        run_chunk(n, &w, first, m, 0);
        for (int64_t i = 0; i < m; i++) {
            sum += (double)w.nll[i];
            if (in->nll)
                in->nll[w.row[first + i]] = w.nll[i];
        }
    }
    *out = (float)sum;
}

void head_chunks_backward(struct node *n)
{
    const int64_t step = graph_max_tokens(n->args.chunks.head), C = tensor_width(n->in[0]);
    struct work w;
    int64_t rows;

    if (*n->out->grad == 0)
        return;
    layout(n, node_scratch(n), &w);
    rows = target_rows(node_input(n), w.row, w.target);
    for (int64_t first = 0; first < rows; first += step) {
        const int64_t m = step < rows - first ? step : rows - first;

        run_chunk(n, &w, first, m, *n->out->grad);
        if (n->in[0]->grad)
            node_backend(n)->scatter_add_rows(m, C, w.row + first, 1.0f, w.dx, n->in[0]->grad);
    }
}

uint32_t head_chunks_needs(const struct node *n)
{
    (void)n;
    return 1u;
}

size_t head_chunks_scratch(const struct node *n)
{
    return layout(n, NULL, NULL);
}

/* The head over chunks of rows, planned. NULL: the graph's error says why. */
static struct graph *plan_head(struct graph *g, struct tensor *x, int64_t V, record_head *record,
                               void *user, float softcap, union op_args *args)
{
    struct graph *head = graph_child(g, logit_rows(graph_max_tokens(g), V));
    struct tensor *rows;

    if (!head)
        return NULL;
    rows = graph_rows(head, tensor_width(x), x->dtype, x->trains);
    args->chunks.head = head;
    args->chunks.rows = rows;
    args->chunks.loss = op_cross_entropy(head, record(head, rows, user), softcap);
    return graph_plan(head, &args->chunks.loss, 1, 0, NULL, &g->err) ? NULL : head;
}

struct tensor *op_head_chunks(struct graph *g, struct tensor *x, int64_t V, record_head *record,
                              void *user, float softcap)
{
    union op_args args = { .chunks = { NULL, NULL, NULL } };

    if (!x || !plan_head(g, x, V, record, user, softcap, &args))
        return NULL;
    return graph_node(g, OP_HEAD_CHUNKS, &args, 1, &x);
}
