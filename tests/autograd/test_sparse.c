/* What a sparse weight's op does besides its values' gradient: places that come later, and the
 * dense gradient from which they are chosen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "autograd/ops.h"

enum { N = 9, MOST_I = 1100, MOST_O = 1030 };

/* One graph: y = acc + x S^T + scale (x W^T) where W trains, over tokens whose rows are leaves. */
static struct rig {
    struct graph *g;
    struct graph_input pass;
    int64_t start[2];
    int32_t id[N], pos[N];
    float x[N * MOST_I], acc[N * MOST_O], proj[N * MOST_O], v[4], dv[4], table[MOST_I];
    float *w, *dw, *dense;
    struct tensor tx, tacc, tproj, tv, tw;
    struct sparse at;
    struct tensor *y, *out;
} r;

static void fill(float *x, int64_t n, uint32_t site)
{
    const struct rng_key key = { 13, RNG_TEST, 0, site };

    for (int64_t i = 0; i < n; i++)
        x[i] = 2 * rng_uniform(key, (uint64_t)i) - 1;
}

static struct tensor *rows(struct tensor *leaf, float *data, int64_t cols, uint32_t site)
{
    static struct tensor table;

    fill(data, N * cols, site);
    *leaf = (struct tensor){ .ndim = 2, .dim = { N, cols }, .data = data };
    table = (struct tensor){ .ndim = 2, .dim = { 1, cols }, .data = r.table };
    return op_embedding(r.g, graph_leaf(r.g, &table), graph_leaf(r.g, leaf), 1.0f);
}

static void open_rig(int64_t in, int64_t out)
{
    const struct graph_opts opts = { .max_tokens = N, .max_segments = 1, .backward = true };
    struct graft_err err = { GRAFT_OK, "" };
    struct plan_report plan;
    struct tensor *x, *y;

    memset(&r, 0, sizeof r);
    assert_int_equal(graph_new(&opts, &r.g, &err), GRAFT_OK);
    for (int i = 0; i < N; i++)
        r.id[i] = -1 - i;
    r.start[1] = N;
    r.pass = (struct graph_input){
        .n = N, .id = r.id, .pos = r.pos, .segments = 1, .start = r.start, .training = true
    };
    r.w = mem_array((size_t)(in * out), sizeof *r.w);
    r.dw = mem_array((size_t)(in * out), sizeof *r.dw);
    r.dense = mem_array((size_t)(in * out), sizeof *r.dense);
    r.at = (struct sparse){ .rows = out, .cols = in };
    fill(r.v, 4, 1);
    r.tv = (struct tensor){ .ndim = 1, .dim = { 4 }, .data = r.v, .grad = r.dv };
    r.tw = (struct tensor){ .ndim = 2, .dim = { out, in }, .data = r.w, .grad = r.dw };
    x = rows(&r.tx, r.x, in, 2);
    r.y = y = op_sparse(r.g, x, graph_leaf(r.g, &r.tv), rows(&r.tacc, r.acc, out, 3), &r.at);
    y = op_linear(r.g, x, graph_leaf(r.g, &r.tw), NULL, y, 1.0f);
    fill(r.proj, N * out, 4);
    r.tproj = (struct tensor){
        .ndim = 2, .dim = { N, out }, .data = r.proj, .per_token = true, .from = NULL
    };
    r.out = op_gate(r.g, graph_leaf(r.g, &r.tproj), y, ACT_SILU);
    if (graph_error(r.g, &err) ||
        graph_plan(r.g, (struct tensor *[]){ r.out, r.y }, 2, 0, &plan, &err) ||
        graph_allocate(r.g, NULL, &err))
        fail_msg("%s", err.msg);
}

static void run(void)
{
    graph_forward(r.g, &r.pass);
    graph_backward(r.g, 1.0f);
}

static void close_rig(void)
{
    graph_free(r.g);
    mem_free(r.w);
    mem_free(r.dw);
    mem_free(r.dense);
}

/* The weight W of the same linear trains: its gradient is the one that is to be gathered. Sizes of
 * one strip, of several with a rest, and of rows longer than a strip is high. */
static void the_dense_gradient_is_that_of_a_weight_that_trains(void **state)
{
    static const int64_t size[][2] = { { 5, 3 }, { 1100, 1030 }, { 37, 1000 } };

    (void)state;
    for (int i = 0; i < 3; i++) {
        const int64_t n = size[i][0] * size[i][1];

        open_rig(size[i][0], size[i][1]);
        r.at.dense = r.dense;
        run();
        assert_memory_equal(r.dense, r.dw, (size_t)n * sizeof *r.dw);
        run();
        for (int64_t k = 0; k < n; k++)
            assert_true(fabsf(r.dense[k] - r.dw[k]) <= 1e-6f * fabsf(r.dw[k]));
        close_rig();
    }
}

static void squares_are_of_each_pass(void **state)
{
    (void)state;
    open_rig(7, 5);
    r.at.dense = r.dense;
    r.at.squared = true;
    run();
    run();
    for (int k = 0; k < 35; k++) {
        const float g = r.dw[k] / 2;

        assert_true(fabsf(r.dense[k] - 2 * g * g) <= 1e-6f * g * g);
    }
    close_rig();
}

/* Chosen between two passes of one graph: zero before, S after, and no gradient of the values while
 * the dense one is gathered. */
static void places_may_come_after_the_graph(void **state)
{
    static const int32_t offs[] = { 0, 1, 1, 4 }, cols[] = { 4, 0, 2, 3 };
    float before[N * 3];

    (void)state;
    open_rig(5, 3);
    run();
    memcpy(before, r.y->data, sizeof before);
    assert_memory_equal(before, r.acc, sizeof before);
    for (int k = 0; k < 4; k++)
        assert_true(r.dv[k] == 0);
    r.at.row_offs = offs;
    r.at.col_idx = cols;
    r.at.dense = r.dense;
    run();
    for (int k = 0; k < 4; k++)
        assert_true(r.dv[k] == 0);
    r.at.dense = NULL;
    run();
    for (int t = 0; t < N; t++) {
        const float *x = r.x + t * 5, *y = (const float *)r.y->data + t * 3;

        assert_true(fabsf(y[0] - before[t * 3] - r.v[0] * x[4]) < 1e-6f);
        assert_true(y[1] == before[t * 3 + 1]);
        assert_true(fabsf(y[2] - before[t * 3 + 2] - r.v[1] * x[0] - r.v[2] * x[2] -
                          r.v[3] * x[3]) < 1e-6f);
    }
    assert_true(fabsf(r.dv[0] - r.dense[4]) < 1e-5f);
    assert_true(fabsf(r.dv[2] - r.dense[12]) < 1e-5f);
    close_rig();
}

static void a_matrix_of_another_width_is_refused(void **state)
{
    const struct graph_opts opts = { .max_tokens = N, .max_segments = 1 };
    const struct sparse at = { .rows = 3, .cols = 6 };
    struct graft_err err = { GRAFT_OK, "" };
    struct tensor *x, *acc;

    (void)state;
    memset(&r, 0, sizeof r);
    assert_int_equal(graph_new(&opts, &r.g, &err), GRAFT_OK);
    r.tv = (struct tensor){ .ndim = 1, .dim = { 4 }, .data = r.v, .name = "q.values" };
    x = rows(&r.tx, r.x, 5, 2);
    acc = rows(&r.tacc, r.acc, 3, 3);
    assert_null(op_sparse(r.g, x, graph_leaf(r.g, &r.tv), acc, &at));
    assert_int_equal(graph_error(r.g, &err), GRAFT_ESHAPE);
    assert_string_equal(err.msg,
                        "q.values: the sparse matrix takes rows of 6 values, found rows of 5");
    graph_free(r.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dense_gradient_is_that_of_a_weight_that_trains),
        cmocka_unit_test(squares_are_of_each_pass),
        cmocka_unit_test(places_may_come_after_the_graph),
        cmocka_unit_test(a_matrix_of_another_width_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
