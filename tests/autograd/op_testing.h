/* Gradient checks of ops through the public graph.
 *
 * A case builds its op over inputs that are either rows of tokens or leaves. The loss is a random
 * projection of the output, sum silu(c) * out, added up in double: under a plain sum softmax has
 * gradient 0 and wrong factors pass. The graph is recorded for more tokens and segments than the
 * pass has, its dead buffers are filled with NaN, and gradients begin with numbers in them. */
#ifndef TESTS_AUTOGRAD_OP_TESTING_H
#define TESTS_AUTOGRAD_OP_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/ops.h"
#include "autograd/plan.h"

enum { CASE_MAX_IN = 5, CASE_MAX_ELEMS = 1 << 15, CASE_MAX_TOKENS = 256 };

struct case_input {
    int64_t rows; /* 0: a row for each token; else a leaf of that many rows */
    int64_t cols; /* 0: a leaf that is a vector of `rows` */
    bool frozen;
};

struct op_case {
    const char *name;
    enum op op;
    struct case_input in[CASE_MAX_IN];
    /* t[i]: inputs as tensors of the graph */
    struct tensor *(*build)(struct graph *g, struct tensor *const *t, const struct op_case *c);
    int64_t segment[4];  /* lengths; the first 0 ends them; none: one of 7 */
    bool away_from_zero; /* inputs keep clear of a kink at 0 */
    float p;             /* for build */
    int k;
    struct attention_shape shape;
    double tolerance; /* 0: 2e-3 */
};

/* Everything of one run. */
struct rig {
    const struct op_case *c;
    struct graph *g;
    struct graph_input pass;
    int64_t n, start[5];
    int32_t id[CASE_MAX_TOKENS], target[CASE_MAX_TOKENS], pos[CASE_MAX_TOKENS];
    float nll[CASE_MAX_TOKENS];
    struct tensor in[CASE_MAX_IN], proj;
    struct tensor *out;
    int64_t elems[CASE_MAX_IN];
    float before[CASE_MAX_IN][CASE_MAX_ELEMS]; /* of the gradients */
    float table[256];
    double loss; /* of the last forward pass */
};

static inline void fill_uniform(float *x, int64_t n, uint32_t site, bool away_from_zero)
{
    const struct rng_key key = { 7, RNG_TEST, 0, site };

    for (int64_t i = 0; i < n; i++) {
        x[i] = 2 * rng_uniform(key, (uint64_t)i) - 1;
        if (away_from_zero)
            x[i] += x[i] < 0 ? -0.1f : 0.1f;
    }
}

/* Ops that look the tokens' ids up. */
static inline bool by_id(enum op op)
{
    return op == OP_EMBEDDING || op == OP_PICK_COLUMNS || op == OP_TOKEN_ROWS;
}

static inline void rig_pass(struct rig *r)
{
    const struct rng_key key = { 7, RNG_TEST, 0, 77 };
    int s = 0;

    r->start[0] = 0;
    do {
        const int64_t len = r->c->segment[0] ? r->c->segment[s] : 7;

        r->start[s + 1] = r->start[s] + len;
        s++;
    } while (s < 4 && r->c->segment[0] && r->c->segment[s]);
    r->n = r->start[s];
    assert_true(r->n <= CASE_MAX_TOKENS);
    for (int i = 0; i < s; i++)
        for (int64_t t = r->start[i]; t < r->start[i + 1]; t++)
            r->pos[t] = (int32_t)(t - r->start[i]);
    for (int64_t t = 0; t < r->n; t++) {
        /* rows of the inputs; where the op under test looks at ids, both kinds */
        r->id[t] = (int32_t)(by_id(r->c->op) && t % 2 ? t / 2 % 4 : -1 - t);
        r->target[t] = (int32_t)rng_below(key, (uint64_t)t, 6) - 1;
    }
    r->pass = (struct graph_input){ .n = r->n,
                                    .id = r->id,
                                    .target = r->target,
                                    .pos = r->pos,
                                    .segments = s,
                                    .start = r->start,
                                    .training = true,
                                    .rng = { 5, RNG_DROPOUT, 3, 0 },
                                    .nll = r->nll };
}

static inline void rig_input(struct rig *r, int i, int only)
{
    const struct case_input *ci = &r->c->in[i];
    struct tensor *t = &r->in[i];
    const int64_t rows = ci->rows ? ci->rows : r->n;
    const bool vector = ci->rows && !ci->cols, frozen = ci->frozen || (only >= 0 && only != i);

    r->elems[i] = rows * (vector ? 1 : ci->cols);
    assert_true(r->elems[i] <= CASE_MAX_ELEMS);
    *t = (struct tensor){ .ndim = vector ? 1 : 2, .dim = { rows, vector ? 0 : ci->cols } };
    t->data = mem_array((size_t)r->elems[i], sizeof(float));
    fill_uniform(t->data, r->elems[i], (uint32_t)i + 1, r->c->away_from_zero);
    if (frozen)
        return;
    t->grad = mem_array((size_t)r->elems[i], sizeof(float));
    fill_uniform(t->grad, r->elems[i], (uint32_t)i + 40, false);
    memcpy(r->before[i], t->grad, (size_t)r->elems[i] * sizeof(float));
}

/* Inputs that are there. */
static inline int case_inputs(const struct op_case *c)
{
    int n = 0;

    while (n < CASE_MAX_IN && (c->in[n].rows || c->in[n].cols))
        n++;
    return n;
}

static inline struct tensor *rig_project(struct rig *r, struct tensor *out)
{
    if (!out || out->ndim == 0)
        return out;
    r->proj = *out;
    r->proj.data = mem_array((size_t)tensor_elems(out), sizeof(float));
    r->proj.dtype = DT_F32;
    r->proj.grad = NULL;
    fill_uniform(r->proj.data, tensor_elems(out), 90, false);
    for (int64_t i = 0; i < tensor_elems(out); i++)
        ((float *)r->proj.data)[i] += 2;
    for (int64_t i = 0; i < tensor_elems(out); i += 2)
        ((float *)r->proj.data)[i] *= -2;
    return op_gate(r->g, graph_leaf(r->g, &r->proj), out, ACT_SILU);
}

/* only >= 0: all other inputs are frozen. */
static inline void rig_open(struct rig *r, const struct op_case *c, enum dtype act, int only)
{
    struct tensor *t[CASE_MAX_IN] = { 0 }, table = { .ndim = 2 };
    struct graft_err err = { 0 };
    struct plan_report report;

    memset(r, 0, sizeof *r);
    r->c = c;
    rig_pass(r);
    const struct graph_opts opts = {
        .max_tokens = r->n + 2, .max_segments = r->pass.segments + 1, .act = act, .backward = true
    };
    assert_int_equal(graph_new(&opts, &r->g, &err), GRAFT_OK);
    for (int i = 0; i < case_inputs(c); i++) {
        rig_input(r, i, only);
        t[i] = graph_leaf(r->g, &r->in[i]);
        if (c->in[i].rows)
            continue;
        table.dim[0] = 1;
        table.dim[1] = c->in[i].cols;
        table.data = r->table;
        t[i] = op_embedding(r->g, graph_leaf(r->g, &table), t[i], 1.0f);
    }
    r->out = rig_project(r, c->build(r->g, t, c));
    if (graph_error(r->g, &err))
        fail_msg("%s: %s", c->name, err.msg);
    assert_int_equal(graph_plan(r->g, &r->out, 1, 0, &report, &err), GRAFT_OK);
    assert_int_equal(graph_allocate(r->g, NULL, &err), GRAFT_OK);
    r->g->poison = true;
}

static inline void rig_close(struct rig *r)
{
    graph_free(r->g);
    for (int i = 0; i < CASE_MAX_IN; i++) {
        mem_free(r->in[i].data);
        mem_free(r->in[i].grad);
    }
    mem_free(r->proj.data);
}

static inline double rig_loss(struct rig *r)
{
    const struct tensor *out = r->out;

    graph_forward(r->g, &r->pass);
    r->loss = 0;
    if (out->ndim == 0) { /* a loss: its own sum, which is kept in double by token */
        for (int64_t t = 0; t < r->n; t++)
            r->loss += (double)r->nll[t];
        return r->loss;
    }
    for (int64_t i = 0; i < tensor_elems(out); i++) {
        float y = 0;

        if (out->dtype == DT_BF16) {
            const uint32_t u = (uint32_t)((const uint16_t *)out->data)[i] << 16;

            memcpy(&y, &u, 4);
        } else {
            y = ((const float *)out->data)[i];
        }
        r->loss += (double)y;
    }
    return r->loss;
}

/* What backward added to the gradient of element j of input i. */
static inline double rig_added(const struct rig *r, int i, int64_t j)
{
    return (double)r->in[i].grad[j] - (double)r->before[i][j];
}

/* Largest difference to central differences, as a share of the largest gradient. Forward passes
 * without a backward pass between them. */
static inline double rig_gradcheck(struct rig *r, int i)
{
    const float h = 1e-2f;
    const int64_t step = r->elems[i] > 200 ? r->elems[i] / 100 | 1 : 1; /* some, where many */
    float *x = r->in[i].data;
    double worst = 0, largest = 1e-30;

    for (int64_t j = 0; j < r->elems[i]; j += step) {
        const float keep = x[j];
        double up, down, want;

        x[j] = keep + h;
        up = rig_loss(r);
        x[j] = keep - h;
        down = rig_loss(r);
        x[j] = keep;
        want = (up - down) / ((double)(keep + h) - (double)(keep - h));
        worst = fmax(worst, fabs(rig_added(r, i, j) - want));
        largest = fmax(largest, fabs(want));
        if (!isfinite(rig_added(r, i, j)))
            return INFINITY;
    }
    return worst / largest;
}

#endif
