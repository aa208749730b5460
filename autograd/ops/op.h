/* autograd/ops/op.h - what the files of ops share. */
#ifndef AUTOGRAD_OPS_OP_H
#define AUTOGRAD_OPS_OP_H

#include "autograd/ops.h"

/* The functions of each op, NAME_infer and so on; which of the optional ones it has, its row in
 * autograd/op_table.c says. */
#define OP_FUNCTIONS(name)                                                                         \
    enum graft_status name##_infer(struct node *n, struct graft_err *err);                         \
    void name##_forward(struct node *n);                                                           \
    void name##_backward(struct node *n);                                                          \
    uint32_t name##_needs(const struct node *n);                                                   \
    size_t name##_scratch(const struct node *n);

OP_FUNCTIONS(embedding)
OP_FUNCTIONS(linear)
OP_FUNCTIONS(sparse)
OP_FUNCTIONS(rmsnorm)
OP_FUNCTIONS(layernorm)
OP_FUNCTIONS(rope_angles)
OP_FUNCTIONS(rope)
OP_FUNCTIONS(attention)
OP_FUNCTIONS(lstm)
OP_FUNCTIONS(gate)
OP_FUNCTIONS(activation)
OP_FUNCTIONS(add)
OP_FUNCTIONS(scale)
OP_FUNCTIONS(dropout)
OP_FUNCTIONS(concat)
OP_FUNCTIONS(slice)
OP_FUNCTIONS(pick_last)
OP_FUNCTIONS(token_rows)
OP_FUNCTIONS(token_columns)
OP_FUNCTIONS(head_loss)
OP_FUNCTIONS(head_chunks)
OP_FUNCTIONS(cross_entropy)
OP_FUNCTIONS(column_scale)
OP_FUNCTIONS(magnitude)
OP_FUNCTIONS(pick_columns)

/* The device whose kernels run this node. */
static inline const struct backend *node_backend(const struct node *n)
{
    (void)n;
    return backend_cpu();
}

/* The last dimension, and the product of the others as they stand in this pass. */
static inline int64_t tensor_width(const struct tensor *t)
{
    return t->ndim > 0 ? t->dim[t->ndim - 1] : 1;
}

static inline int64_t tensor_rows(const struct tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i + 1 < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

/* The most rows a pass may have: what working memory is laid out for. */
static inline int64_t tensor_max_rows(const struct node *n, const struct tensor *t)
{
    if (t->per_token)
        return graph_max_tokens(n->g);
    return t->per_segment ? graph_max_segments(n->g) : tensor_rows(t);
}

static inline struct act tensor_act(const struct tensor *t)
{
    return (struct act){ t ? t->data : NULL, t && t->dtype == DT_BF16 };
}

static inline struct gemm_mat tensor_mat(const struct tensor *t)
{
    return (struct gemm_mat){ t->data, tensor_width(t), t->dtype == DT_BF16 };
}

/* A weight of any kind as a matrix: frozen ones are one, trainable ones are f32. */
static inline struct qmat tensor_qmat(const struct tensor *t)
{
    if (t->w)
        return *t->w;
    return (struct qmat){
        .type = QT_F32, .rows = tensor_rows(t), .cols = tensor_width(t), .data = t->data
    };
}

static inline enum gemm_type node_gemm(const struct node *n)
{
    return n->act == DT_BF16 ? GEMM_BF16 : GEMM_F32;
}

/* Gradients flow into `t`. */
static inline bool tensor_trains(const struct tensor *t)
{
    return t && t->trains;
}

/* out is (rows of x, width), in the graph's activation type. */
static inline void infer_rows(struct node *n, const struct tensor *x, int64_t width)
{
    struct tensor *out = n->out;

    out->ndim = x->ndim;
    for (int i = 0; i < x->ndim; i++)
        out->dim[i] = x->dim[i];
    out->dim[x->ndim - 1] = width;
    out->dtype = graph_act(n->g);
    out->per_token = x->per_token;
    out->per_segment = x->per_segment;
}

/* "(3, 5)" for messages; `buf` is returned. */
char *shape_text(const struct tensor *t, char buf[96]);
enum graft_status expect_vector(const struct tensor *t, int64_t n, const char *what,
                                struct graft_err *err);
enum graft_status expect_same_shape(const struct tensor *a, const struct tensor *b,
                                    const char *what, struct graft_err *err);
enum graft_status expect_rows(const struct tensor *x, const char *what, struct graft_err *err);

/* Rows of logits worked on at once, of at most n: they take 64 MiB at most, or are 64. */
static inline int64_t logit_rows(int64_t n, int64_t V)
{
    int64_t rows = ((int64_t)64 << 20) / (4 * V) / 64 * 64;

    rows = rows < 64 ? 64 : rows > 1024 ? 1024 : rows;
    return rows < n ? rows : n;
}

/* Fills the lists of rows that have a target (`target` may be NULL); returns their number. */
static inline int64_t target_rows(const struct graph_input *in, int64_t *row, int32_t *target)
{
    int64_t m = 0;

    for (int64_t t = 0; in->target && t < in->n; t++) {
        if (in->target[t] < 0)
            continue;
        row[m] = t;
        if (target)
            target[m] = in->target[t];
        m++;
    }
    return m;
}

/* scratch + bytes of what stands before, aligned to 64. */
static inline size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* What parts of these sizes take, one behind the other; where each begins, unless `at` is NULL. */
static inline size_t carve(char *at, const size_t *bytes, int count, void **part)
{
    size_t total = 0;

    for (int i = 0; i < count; i++) {
        part[i] = at ? at + total : NULL;
        total += aligned(bytes[i]);
    }
    return total;
}

#endif
