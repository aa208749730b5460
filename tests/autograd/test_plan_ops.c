/* The plan over the real ops: a small Llama with low-rank adapters gives the same loss and
 * gradients under any budget, with dead buffers filled with NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/plan.h"

enum { N = 23, C = 16, H = 4, K = 2, D = 4, F = 20, V = 19, R = 3, LAYERS = 3 };
enum { SLOTS = 7, WEIGHTS = SLOTS * LAYERS, VALUES = WEIGHTS * F * C, LOW = 2 * WEIGHTS * R * F };

struct llama {
    float base[VALUES], table[V * C], norm[C];
    float low[LOW], dlow[LOW];
    struct qmat w[WEIGHTS], head;
    struct tensor a[WEIGHTS], b[WEIGHTS];
    struct rope rope;
    int32_t id[N], target[N], pos[N];
    int64_t start[3];
    float nll[N];
    struct graph_input in;
    int first_trained; /* layers below have no adapter */
};

static const float freq[2] = { 1, 0.1f };

static const int64_t shapes[SLOTS][2] = { { C, C }, { K * D, C }, { K * D, C }, { C, C },
                                          { F, C }, { F, C },     { C, F } };

static float draw(uint32_t site, int64_t i)
{
    return rng_normal((struct rng_key){ .seed = 1, .stream = RNG_TEST, .site = site }, (uint64_t)i);
}

static void llama_weights(struct llama *m)
{
    for (int i = 0; i < WEIGHTS; i++) {
        const int64_t O = shapes[i % SLOTS][0], I = shapes[i % SLOTS][1];
        float *low = m->low + (size_t)i * 2 * R * F, *dlow = m->dlow + (size_t)i * 2 * R * F;

        m->w[i] = (struct qmat){
            .type = QT_F32, .rows = O, .cols = I, .data = m->base + (size_t)i * F * C
        };
        m->a[i] = (struct tensor){ .ndim = 2, .dim = { R, I }, .data = low, .grad = dlow };
        m->b[i] = (struct tensor){
            .ndim = 2, .dim = { O, R }, .data = low + R * F, .grad = dlow + R * F
        };
    }
    m->head = (struct qmat){ .type = QT_F32, .rows = V, .cols = C, .data = m->table };
    m->rope = (struct rope){ .half = 2, .inv_freq = freq, .scale = 1 };
}

static struct llama *llama_new(int first_trained)
{
    struct llama *m = mem_alloc(sizeof *m);

    assert_non_null(m);
    m->first_trained = first_trained;
    for (int i = 0; i < VALUES; i++)
        m->base[i] = 0.3f * draw(1, i);
    for (int i = 0; i < V * C; i++)
        m->table[i] = draw(2, i);
    for (int i = 0; i < C; i++)
        m->norm[i] = 1 + 0.1f * draw(3, i);
    for (int i = 0; i < LOW; i++)
        m->low[i] = 0.3f * draw(4, i);
    llama_weights(m);
    m->in = (struct graph_input){ .id = m->id,
                                  .target = m->target,
                                  .pos = m->pos,
                                  .segments = 2,
                                  .start = m->start,
                                  .training = true,
                                  .nll = m->nll,
                                  .rng = { .seed = 5, .stream = RNG_DROPOUT } };
    return m;
}

static void set_tokens(struct llama *m, int64_t n)
{
    m->in.n = n;
    m->start[1] = n / 3;
    m->start[2] = n;
    for (int64_t i = 0; i < n; i++) {
        m->id[i] = (int32_t)((i * 7 + n) % V);
        m->target[i] = i % 4 ? (int32_t)((i * 5) % V) : -1;
        m->pos[i] = (int32_t)(i < m->start[1] ? i : i - m->start[1]);
    }
}

/* y = acc + x W^T, and the adapter's part added in place */
static struct tensor *slot(struct graph *g, struct llama *m, int i, struct tensor *x,
                           struct tensor *acc)
{
    struct tensor *y = op_linear(g, x, graph_weight(g, &m->w[i], "w"), NULL, acc, 1);

    if (i / SLOTS < m->first_trained)
        return y;
    x = op_dropout(g, x, 0.2f, (uint32_t)i);
    x = op_linear(g, x, graph_leaf(g, &m->a[i]), NULL, NULL, 1);
    return op_linear(g, x, graph_leaf(g, &m->b[i]), NULL, y, 2);
}

static struct tensor *block(struct graph *g, struct llama *m, int layer, struct tensor *x,
                            struct tensor *angles)
{
    const struct attention_shape shape = {
        .heads = H, .kv_heads = K, .head_dim = D, .scale = 0.5f, .layer = layer
    };
    struct tensor *norm = graph_vector(g, m->norm, C, "norm");
    struct tensor *y = op_rmsnorm(g, x, norm, 1e-5f, false), *q, *k, *v;
    const int i = layer * SLOTS;

    q = op_rope(g, slot(g, m, i, y, NULL), angles, D);
    k = op_rope(g, slot(g, m, i + 1, y, NULL), angles, D);
    v = slot(g, m, i + 2, y, NULL);
    x = slot(g, m, i + 3, op_attention(g, q, k, v, NULL, NULL, &shape), x);
    y = op_rmsnorm(g, x, norm, 1e-5f, false);
    y = op_gate(g, slot(g, m, i + 4, y, NULL), slot(g, m, i + 5, y, NULL), ACT_SILU);
    return slot(g, m, i + 6, y, x);
}

static struct tensor *llama_graph(struct graph *g, struct llama *m)
{
    struct tensor *angles = op_rope_angles(g, &m->rope);
    struct tensor *x = op_embedding(g, graph_weight(g, &m->head, "table"), NULL, 1);

    for (int layer = 0; layer < LAYERS; layer++) {
        graph_block(g, x);
        x = block(g, m, layer, x, angles);
    }
    graph_block(g, x);
    x = op_rmsnorm(g, x, graph_vector(g, m->norm, C, "norm"), 1e-5f, false);
    return op_head_loss(g, x, graph_weight(g, &m->head, "head"), NULL, 0);
}

struct result {
    float loss, dlow[LOW], nll[N];
};

static void run_pass(struct graph *g, struct llama *m, int64_t n, struct result *r)
{
    memset(m->dlow, 0, sizeof m->dlow);
    memset(m->nll, 0, sizeof m->nll);
    set_tokens(m, n);
    mem_fail_at(0);
    graph_forward(g, &m->in);
    r->loss = *(float *)g->output[0]->data;
    graph_backward(g, 0.5f);
    assert_int_equal(mem_count(), 0);
    memcpy(r->dlow, m->dlow, sizeof r->dlow);
    memcpy(r->nll, m->nll, sizeof r->nll);
}

static void assert_same(const struct result *a, const struct result *b)
{
    const float *x = (const float *)a, *y = (const float *)b;

    for (size_t i = 0; i < sizeof *a / sizeof(float); i++)
        assert_true(x[i] == y[i]); /* NaN is not equal to itself */
}

static struct graph *new_graph(enum dtype act, struct llama *m, struct tensor **loss)
{
    const struct graph_opts opts = {
        .max_tokens = N, .max_segments = 2, .act = act, .backward = true
    };
    struct graph *g = NULL;
    struct graft_err err = { 0 };

    assert_int_equal(graph_new(&opts, &g, NULL), GRAFT_OK);
    g->poison = true;
    *loss = llama_graph(g, m);
    assert_int_equal(graph_error(g, &err), GRAFT_OK);
    return g;
}

static void check_budgets(enum dtype act, int first_trained)
{
    struct llama *m = llama_new(first_trained);
    struct result want, got;
    struct plan_report r;
    struct tensor *loss;
    struct graph *g = new_graph(act, m, &loss);
    size_t least, budget;

    /* what unshared buffers give */
    assert_int_equal(graph_plan(g, &loss, 1, 0, &r, NULL), GRAFT_OK);
    assert_int_equal(r.blocks, LAYERS - first_trained);
    g->slab = 0;
    for (int i = 0; i < g->bufs; i++) {
        g->buf[i].root = i;
        g->buf[i].off = g->slab;
        g->slab += g->buf[i].bytes;
    }
    assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
    run_pass(g, m, N - 2, &want);
    assert_true(want.loss > 0);
    for (int i = 0; i < WEIGHTS; i++) /* every adapter that is there has a gradient */
        for (int k = 0; k < 2; k++)
            assert_true((want.dlow[(i * 2 + k) * R * F] != 0) == (i / SLOTS >= first_trained));
    least = r.slab_full_recompute;
    assert_true(least < r.slab_no_recompute);
    for (budget = r.slab_no_recompute; budget >= least; budget = r.slab - 1) {
        if (graph_plan(g, &loss, 1, budget, &r, NULL))
            break;
        assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
        run_pass(g, m, N, &got); /* a longer pass in between leaves no trace */
        run_pass(g, m, N - 2, &got);
        assert_same(&want, &got);
    }
    assert_true(r.recomputed > 0);
    graph_free(g);
    mem_free(m);
}

static void any_budget_gives_the_same_gradients(void **state)
{
    (void)state;
    check_budgets(DT_F32, 0);
}

static void any_budget_gives_the_same_gradients_in_bf16(void **state)
{
    (void)state;
    check_budgets(DT_BF16, 0);
}

static void frozen_lower_layers_change_nothing_about_that(void **state)
{
    (void)state;
    check_budgets(DT_F32, 1);
    check_budgets(DT_BF16, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_budget_gives_the_same_gradients),
        cmocka_unit_test(any_budget_gives_the_same_gradients_in_bf16),
        cmocka_unit_test(frozen_lower_layers_change_nothing_about_that),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
