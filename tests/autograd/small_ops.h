/* tests/autograd/small_ops.h - a table of tiny ops for tests of the planner: each has one of the
 * properties that decide about lifetimes (saved values, reads of inputs or output in backward,
 * work in place, working memory, no gradient). */
#ifndef TESTS_AUTOGRAD_SMALL_OPS_H
#define TESTS_AUTOGRAD_SMALL_OPS_H

#include <math.h>

#include "autograd/plan.h"

static enum graft_status like_first(struct node *n, struct graft_err *err)
{
    const struct tensor *x = n->in[0];

    (void)err;
    n->out->ndim = x->ndim;
    for (int i = 0; i < x->ndim; i++)
        n->out->dim[i] = x->dim[i];
    n->out->per_token = x->per_token;
    return GRAFT_OK;
}

static uint32_t needs_nothing(const struct node *n)
{
    (void)n;
    return 0;
}

static uint32_t needs_out(const struct node *n)
{
    (void)n;
    return NEEDS_OUT;
}

/* out (N, C) = table (V, C) at id */
static enum graft_status embedding_infer(struct node *n, struct graft_err *err)
{
    (void)err;
    n->out->ndim = 2;
    n->out->dim[0] = graph_max_tokens(n->g);
    n->out->dim[1] = n->in[0]->dim[1];
    n->out->per_token = true;
    return GRAFT_OK;
}

static void embedding_forward(struct node *n)
{
    const int64_t C = n->out->dim[1];
    const int32_t *id = node_input(n)->id;

    for (int64_t i = 0; i < n->out->dim[0]; i++)
        for (int64_t c = 0; c < C; c++)
            ((float *)n->out->data)[i * C + c] = ((const float *)n->in[0]->data)[id[i] * C + c];
}

static void embedding_backward(struct node *n)
{
    const int64_t C = n->out->dim[1];
    const int32_t *id = node_input(n)->id;

    for (int64_t i = 0; i < n->out->dim[0] && n->in[0]->grad; i++)
        for (int64_t c = 0; c < C; c++)
            n->in[0]->grad[id[i] * C + c] += n->out->grad[i * C + c];
}

/* out (N, 3) = a function of the position: made once a pass, read by many blocks */
static enum graft_status angles_infer(struct node *n, struct graft_err *err)
{
    (void)err;
    n->out->ndim = 2;
    n->out->dim[0] = graph_max_tokens(n->g);
    n->out->dim[1] = 3;
    n->out->per_token = true;
    return GRAFT_OK;
}

static void angles_forward(struct node *n)
{
    for (int64_t i = 0; i < n->out->dim[0] * 3; i++)
        ((float *)n->out->data)[i] = cosf((float)node_input(n)->pos[i / 3] + (float)(i % 3));
}

/* y = a + scale * b: backward reads nothing, may work in place */
static void add_forward(struct node *n)
{
    const float *a = n->in[0]->data, *b = n->in[1]->data;
    float *y = n->out->data;

    for (int64_t i = 0; i < tensor_elems(n->out); i++)
        y[i] = a[i] + n->args.scale.scale * b[i];
}

static void add_backward(struct node *n)
{
    const float *g = n->out->grad;
    float *da = n->in[0]->grad, *db = n->in[1]->grad;

    for (int64_t i = 0; i < tensor_elems(n->out); i++) {
        if (db)
            db[i] += n->args.scale.scale * g[i];
        if (da && da != g)
            da[i] += g[i];
    }
}

/* y = a * b: backward reads what the other's gradient needs */
static void mul_forward(struct node *n)
{
    const float *a = n->in[0]->data, *b = n->in[1]->data;

    for (int64_t i = 0; i < tensor_elems(n->out); i++)
        ((float *)n->out->data)[i] = a[i] * b[i];
}

static void mul_backward(struct node *n)
{
    const float *a = n->in[0]->data, *b = n->in[1]->data, *g = n->out->grad;

    for (int64_t i = 0; i < tensor_elems(n->out); i++) {
        if (n->in[0]->grad)
            n->in[0]->grad[i] += g[i] * b[i];
        if (n->in[1]->grad)
            n->in[1]->grad[i] += g[i] * a[i];
    }
}

static uint32_t mul_needs(const struct node *n)
{
    return (n->in[0]->trains ? 2u : 0) | (n->in[1]->trains ? 1u : 0);
}

/* y = tanh(x): backward reads y; in place in both directions */
static void tanh_forward(struct node *n)
{
    for (int64_t i = 0; i < tensor_elems(n->out); i++)
        ((float *)n->out->data)[i] = tanhf(((const float *)n->in[0]->data)[i]);
}

static void tanh_backward(struct node *n)
{
    const float *y = n->out->data, *g = n->out->grad;
    float *dx = n->in[0]->grad;

    for (int64_t i = 0; i < tensor_elems(n->out) && dx; i++) {
        const float d = g[i] * (1 - y[i] * y[i]);

        dx[i] = dx == g ? d : dx[i] + d;
    }
}

/* y = x / (1 + mean_c x^2), mean saved; works through its scratch */
static enum graft_status norm_infer(struct node *n, struct graft_err *err)
{
    n->saved_bytes = (size_t)n->in[0]->dim[0] * sizeof(float);
    return like_first(n, err);
}

static size_t norm_scratch(const struct node *n)
{
    return (size_t)n->in[0]->dim[1] * sizeof(float);
}

static void norm_forward(struct node *n)
{
    const int64_t C = n->out->dim[1];
    float *square = node_scratch(n), *saved = n->saved;

    for (int64_t i = 0; i < n->out->dim[0]; i++) {
        const float *x = (const float *)n->in[0]->data + i * C;
        float sum = 0;

        for (int64_t c = 0; c < C; c++)
            square[c] = x[c] * x[c];
        for (int64_t c = 0; c < C; c++)
            sum += square[c];
        saved[i] = 1 + sum / (float)C;
        for (int64_t c = 0; c < C; c++)
            ((float *)n->out->data)[i * C + c] = x[c] / saved[i];
    }
}

/* dx = g / s - x * 2 sum_c(g x) / (C s^2) */
static void norm_backward(struct node *n)
{
    const int64_t C = n->out->dim[1];

    for (int64_t i = 0; i < n->out->dim[0] && n->in[0]->grad; i++) {
        const float *x = (const float *)n->in[0]->data + i * C, *g = n->out->grad + i * C;
        const float s = ((const float *)n->saved)[i];
        float gx = 0;

        for (int64_t c = 0; c < C; c++)
            gx += g[c] * x[c];
        for (int64_t c = 0; c < C; c++)
            n->in[0]->grad[i * C + c] += g[c] / s - x[c] * 2 * gx / ((float)C * s * s);
    }
}

static uint32_t norm_needs(const struct node *n)
{
    (void)n;
    return 1;
}

/* y (N, C) = acc + x W^T, inputs x, w (C, C), acc or NULL; in place over acc */
static void linear_forward(struct node *n)
{
    const int64_t C = n->out->dim[1];
    const float *w = n->in[1]->data, *acc = n->in[2] ? n->in[2]->data : NULL;

    for (int64_t i = 0; i < n->out->dim[0]; i++)
        for (int64_t o = 0; o < C; o++) {
            const float *x = (const float *)n->in[0]->data + i * C;
            float y = acc ? acc[i * C + o] : 0;

            for (int64_t c = 0; c < C; c++)
                y += x[c] * w[o * C + c];
            ((float *)n->out->data)[i * C + o] = y;
        }
}

static void linear_backward(struct node *n)
{
    const int64_t C = n->out->dim[1];
    const float *w = n->in[1]->data;
    float *dx = n->in[0]->grad, *dw = n->in[1]->grad, *da = n->in[2] ? n->in[2]->grad : NULL;

    for (int64_t i = 0; i < n->out->dim[0]; i++)
        for (int64_t o = 0; o < C; o++) {
            const float g = n->out->grad[i * C + o];

            for (int64_t c = 0; c < C; c++) {
                if (dx)
                    dx[i * C + c] += g * w[o * C + c];
                if (dw)
                    dw[o * C + c] += g * ((const float *)n->in[0]->data)[i * C + c];
            }
            if (da && da != n->out->grad)
                da[i * C + o] += g;
        }
}

static uint32_t linear_needs(const struct node *n)
{
    return n->in[1]->trains ? 1 : 0;
}

/* scalar = sum_i x_i * sin(i + 1): a projection under which no wrong factor cancels */
static enum graft_status loss_infer(struct node *n, struct graft_err *err)
{
    (void)err;
    n->out->ndim = 0;
    return GRAFT_OK;
}

static void loss_forward(struct node *n)
{
    float sum = 0;

    for (int64_t i = 0; i < tensor_elems(n->in[0]); i++)
        sum += ((const float *)n->in[0]->data)[i] * sinf((float)(i + 1));
    *(float *)n->out->data = sum;
}

static void loss_backward(struct node *n)
{
    for (int64_t i = 0; i < tensor_elems(n->in[0]) && n->in[0]->grad; i++)
        n->in[0]->grad[i] += n->out->grad[0] * sinf((float)(i + 1));
}

/* (segments, C): the last row of each segment; has no gradient */
static enum graft_status last_infer(struct node *n, struct graft_err *err)
{
    (void)err;
    n->out->ndim = 2;
    n->out->dim[0] = graph_max_segments(n->g);
    n->out->dim[1] = n->in[0]->dim[1];
    n->out->per_segment = true;
    return GRAFT_OK;
}

static void last_forward(struct node *n)
{
    const int64_t C = n->out->dim[1];

    for (int64_t s = 0; s < n->out->dim[0]; s++)
        for (int64_t c = 0; c < C; c++)
            ((float *)n->out->data)[s * C + c] =
                ((const float *)n->in[0]->data)[(node_input(n)->start[s + 1] - 1) * C + c];
}

static const struct op_def small_ops[OP_COUNT] = {
    [OP_EMBEDDING] = { "embedding", 1, 1, embedding_infer, embedding_forward, embedding_backward,
                       needs_nothing, NULL, -1 },
    [OP_ROPE_ANGLES] = { "angles", 0, 0, angles_infer, angles_forward, NULL, NULL, NULL, -1 },
    [OP_ADD] = { "add", 2, 2, like_first, add_forward, add_backward, needs_nothing, NULL, 0 },
    [OP_GATE] = { "mul", 2, 2, like_first, mul_forward, mul_backward, mul_needs, NULL, -1 },
    [OP_ACTIVATION] = { "tanh", 1, 1, like_first, tanh_forward, tanh_backward, needs_out, NULL, 0 },
    [OP_RMSNORM] = { "norm", 1, 1, norm_infer, norm_forward, norm_backward, norm_needs,
                     norm_scratch, -1 },
    [OP_LINEAR] = { "linear", 2, 3, like_first, linear_forward, linear_backward, linear_needs, NULL,
                    2 },
    [OP_HEAD_LOSS] = { "loss", 1, 1, loss_infer, loss_forward, loss_backward, needs_nothing, NULL,
                       -1 },
    [OP_PICK_LAST] = { "last", 1, 1, last_infer, last_forward, NULL, NULL, NULL, -1 },
};

static inline struct tensor *small1(struct graph *g, enum op op, struct tensor *x)
{
    return graph_node(g, op, NULL, 1, &x);
}

static inline struct tensor *small2(struct graph *g, enum op op, struct tensor *a, struct tensor *b,
                                    float scale)
{
    union op_args args = { .scale = { scale } };

    return graph_node(g, op, &args, 2, (struct tensor *[]){ a, b });
}

static inline struct tensor *small_linear(struct graph *g, struct tensor *x, struct tensor *w,
                                          struct tensor *acc)
{
    return graph_node(g, OP_LINEAR, NULL, 3, (struct tensor *[]){ x, w, acc });
}

#endif
