/* What ops compute: against PyTorch and transformers, and against each other. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/ops.h"
#include "golden/ops.h"

enum { TOKENS = 1200, VALUES = 1 << 16 };

/* The formula of tests/golden/make_ops.py. */
static void uniform(float *x, int64_t n, int64_t site, double size)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)((i * 7919 + site * 104729) % 2003 - 1001) / 1001 * size);
}

/* A graph over inputs that are rows of tokens (virtual rows of an embedding) or leaves. */
static struct fixture {
    struct graph *g;
    struct graph_input pass;
    int32_t id[TOKENS], pos[TOKENS], target[TOKENS];
    int64_t start[8], slot[8], past[8];
    float nll[TOKENS], data[9][VALUES], grad[9][VALUES], table[4096];
    struct tensor leaf[9];
    int leaves;
} fx;

static void open_graph(int64_t n, bool backward)
{
    const struct graph_opts opts = { .max_tokens = n, .max_segments = 4, .backward = backward };

    memset(&fx, 0, sizeof fx);
    assert_int_equal(graph_new(&opts, &fx.g, NULL), GRAFT_OK);
    for (int64_t t = 0; t < n; t++) {
        fx.id[t] = (int32_t)(-1 - t);
        fx.pos[t] = (int32_t)t;
    }
    fx.start[1] = n;
    fx.pass = (struct graph_input){
        .n = n, .id = fx.id, .pos = fx.pos, .segments = 1, .start = fx.start, .nll = fx.nll
    };
}

/* cols 0: a vector */
static struct tensor *leaf(int64_t rows, int64_t cols, int64_t site, double size)
{
    const int i = fx.leaves++;

    uniform(fx.data[i], rows * (cols ? cols : 1), site, size);
    fx.leaf[i] = (struct tensor){
        .ndim = cols ? 2 : 1, .dim = { rows, cols }, .data = fx.data[i], .grad = fx.grad[i]
    };
    return graph_leaf(fx.g, &fx.leaf[i]);
}

static struct tensor *rows(int64_t cols, int64_t site, double size)
{
    struct tensor table = { .ndim = 2, .dim = { 1, cols }, .data = fx.table };
    struct tensor *t = leaf(graph_max_tokens(fx.g), cols, site, size);

    return op_embedding(fx.g, graph_leaf(fx.g, &table), t, 1.0f);
}

/* out * proj, the projection of make_ops.py: relu(c) is c only where c is positive, so it comes in
 * two parts. */
static struct tensor *projected(struct tensor *out)
{
    static float plus[VALUES], minus[VALUES];
    struct tensor p = *out, m = *out;
    const int64_t n = out->dim[0] * out->dim[1];

    uniform(plus, n, 9, 1);
    for (int64_t i = 0; i < n; i++) {
        minus[i] = plus[i] < 0 ? -plus[i] : 0;
        plus[i] = plus[i] > 0 ? plus[i] : 0;
    }
    p.data = plus;
    m.data = minus;
    p.grad = m.grad = NULL;
    return op_add(fx.g, op_gate(fx.g, graph_leaf(fx.g, &p), out, ACT_RELU),
                  op_gate(fx.g, graph_leaf(fx.g, &m), out, ACT_RELU), -1.0f);
}

static void run(struct tensor *loss, struct tensor *also)
{
    struct tensor *output[] = { loss, also };
    struct plan_report report;
    struct graft_err err = { 0 };

    if (graph_error(fx.g, &err) || graph_plan(fx.g, output, also ? 2 : 1, 0, &report, &err) ||
        graph_allocate(fx.g, NULL, &err))
        fail_msg("%s", err.msg);
    graph_forward(fx.g, &fx.pass);
    graph_backward(fx.g, 1.0f);
}

static void expect_close(const char *what, const float *x, const float *want, int64_t n)
{
    double most = 0;

    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - (double)want[i]) <= 2e-6 * most))
            fail_msg("%s: value %d is %.9g, wanted %.9g", what, (int)i, (double)x[i],
                     (double)want[i]);
}

/* out, then the gradients of the leaves in order. */
static void expect_golden(const char *what, struct tensor *out, const float *golden)
{
    const float *at = golden + out->dim[0] * out->dim[1];

    run(projected(out), out);
    expect_close(what, out->data, golden, out->dim[0] * out->dim[1]);
    for (int i = 0; i < fx.leaves; i++) {
        const struct tensor *t = &fx.leaf[i];
        const int64_t n = t->dim[0] * (t->ndim == 2 ? t->dim[1] : 1);

        expect_close(what, t->grad, at, n);
        at += n;
    }
    graph_free(fx.g);
}

static void activations_equal_torch(void **state)
{
    static const float *const golden[] = { golden_silu, golden_gelu, golden_gelu_tanh,
                                           golden_quick_gelu };

    (void)state;
    for (enum activation kind = ACT_SILU; kind < ACT_RELU; kind++) {
        open_graph(3, true);
        expect_golden("activation", op_activation(fx.g, rows(5, 1, 4), kind), golden[kind]);
    }
}

static void tanh_equals_torch(void **state)
{
    (void)state;
    open_graph(3, true);
    expect_golden("tanh", op_activation(fx.g, rows(5, 1, 4), ACT_TANH), golden_tanh);
}

static void norms_equal_torch(void **state)
{
    struct tensor *x, *w, *b;

    (void)state;
    open_graph(3, true);
    x = rows(5, 1, 4);
    expect_golden("rmsnorm", op_rmsnorm(fx.g, x, leaf(5, 0, 2, 1), 1e-5f, false), golden_rmsnorm);
    open_graph(3, true);
    x = rows(5, 1, 4);
    expect_golden("rmsnorm, 1 + w", op_rmsnorm(fx.g, x, leaf(5, 0, 2, 1), 1e-6f, true),
                  golden_rmsnorm_plus_one);
    open_graph(3, true);
    x = rows(5, 1, 4);
    w = leaf(5, 0, 2, 1);
    b = leaf(5, 0, 3, 1);
    expect_golden("layernorm", op_layernorm(fx.g, x, w, b, 1e-5f), golden_layernorm);
}

static void cross_entropy_equals_torch(void **state)
{
    (void)state;
    for (int capped = 0; capped < 2; capped++) {
        const float *golden = capped ? golden_cross_entropy_capped : golden_cross_entropy;
        struct tensor *loss;

        open_graph(3, true);
        fx.target[0] = 4;
        fx.target[1] = -1;
        fx.target[2] = 1;
        fx.pass.target = fx.target;
        loss = op_cross_entropy(fx.g, rows(5, 1, 4), capped ? 2.0f : 0.0f);
        run(loss, NULL);
        expect_close("loss", loss->data, golden, 1);
        expect_close("dlogits", fx.grad[0], golden + 1, 15);
        assert_true(fx.nll[1] == 0);
        graph_free(fx.g);
    }
}

static void attention_equals_torch(void **state)
{
    const struct attention_shape shape = {
        .heads = 4, .kv_heads = 2, .head_dim = 6, .scale = 0.40824829f
    };
    struct tensor *q, *k, *v;

    (void)state;
    open_graph(7, true);
    fx.pass.segments = 2;
    fx.start[1] = 4;
    fx.start[2] = 7;
    q = rows(24, 4, 2);
    k = rows(12, 5, 2);
    v = rows(12, 6, 2);
    expect_golden("attention", op_attention(fx.g, q, k, v, NULL, NULL, &shape), golden_attention);
}

static void attention_behind_a_prefix_equals_torch(void **state)
{
    const struct attention_shape shape = {
        .heads = 4, .kv_heads = 2, .head_dim = 6, .scale = 0.40824829f
    };
    struct tensor *q, *k, *v, *pk, *pv;

    (void)state;
    open_graph(7, true);
    fx.pass.segments = 2;
    fx.start[1] = 4;
    fx.start[2] = 7;
    q = rows(24, 4, 2);
    k = rows(12, 5, 2);
    v = rows(12, 6, 2);
    pk = leaf(3, 12, 7, 2);
    pv = leaf(3, 12, 8, 2);
    expect_golden("attention behind a prefix", op_attention(fx.g, q, k, v, pk, pv, &shape),
                  golden_attention_prefix);
}

/* Both directions; leaves in the order of PyTorch's parameters. */
static void an_lstm_equals_torch(void **state)
{
    struct tensor *x, *part[2], *w[4];

    (void)state;
    open_graph(4, true);
    x = leaf(4, 5, 10, 1);
    for (int d = 0; d < 2; d++) {
        for (int i = 0; i < 4; i++)
            w[i] = leaf(12, i ? i == 1 ? 3 : 0 : 5, 11 + 4 * d + i, 1);
        part[d] = op_lstm(fx.g, op_linear(fx.g, x, w[0], w[2], NULL, 1), w[1], w[3], d == 1);
    }
    expect_golden("lstm", op_concat(fx.g, part[0], part[1]), golden_lstm);
}

static const float inv_freq[] = { 1.0f, 0.0464158878f, 0.00215443479f }; /* 10000^(-i/3) */

static void rope_equals_transformers(void **state)
{
    static const int32_t pos[] = { 0, 1, 2, 3, 17, 18, 63 };
    const struct rope r = { .half = 3, .inv_freq = inv_freq, .scale = 1 };

    (void)state;
    open_graph(7, true);
    memcpy(fx.pos, pos, sizeof pos);
    expect_golden("rope", op_rope(fx.g, rows(24, 4, 2), op_rope_angles(fx.g, &r), 6), golden_rope);
}

static void long_segments_get_other_frequencies(void **state)
{
    static const float longer[] = { 0.5f, 0.25f, 0.125f };
    const struct rope dynamic = { .half = 3,
                                  .inv_freq = inv_freq,
                                  .scale = 1,
                                  .dynamic_factor = 2,
                                  .base = 10000,
                                  .dynamic_after = 8 };
    const struct rope two = {
        .half = 3, .inv_freq = inv_freq, .long_inv_freq = longer, .long_after = 4, .scale = 1.5f
    };
    struct tensor *a;
    const float *out;

    (void)state;
    open_graph(12, false);
    a = op_rope_angles(fx.g, &dynamic);
    run(a, NULL);
    expect_close("dynamic", a->data, golden_rope_dynamic, 72);
    graph_free(fx.g);

    open_graph(12, false); /* segments of 3, 5, 2, 2 tokens, the last behind 3 others */
    fx.pass.segments = 4;
    memcpy(fx.start, (int64_t[]){ 0, 3, 8, 10, 12 }, 5 * sizeof *fx.start);
    memcpy(fx.pos, (int32_t[]){ 0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 3, 4 }, 12 * sizeof *fx.pos);
    a = op_rope_angles(fx.g, &two);
    run(a, NULL);
    out = a->data;
    for (int t = 0; t < 12; t++) {
        const float *f = (t >= 3 && t < 8) || t >= 10 ? longer : inv_freq;

        for (int i = 0; i < 3; i++) {
            assert_true(out[t * 6 + i] == cosf((float)fx.pos[t] * f[i]) * 1.5f);
            assert_true(out[t * 6 + 3 + i] == sinf((float)fx.pos[t] * f[i]) * 1.5f);
        }
    }
    graph_free(fx.g);
}

/* head_loss against linear + cross_entropy, in more rows than one chunk holds. */
static void the_fused_head_equals_logits_and_loss(void **state)
{
    enum { N = TOKENS, C = 8, V = 37 };
    static float dx[N * C], nll[N], loss[2];

    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        struct tensor *x, *w, *b, *out;

        open_graph(N, true);
        for (int t = 0; t < N; t++)
            fx.target[t] = t % 12 ? t % V : -1;
        fx.pass.target = fx.target;
        x = rows(C, 1, 2);
        w = leaf(V, C, 2, 1);
        b = leaf(V, 0, 3, 1);
        w->trains = b->trains = false;
        w->grad = b->grad = NULL;
        out = fused ? op_head_loss(fx.g, x, w, b, 3.0f)
                    : op_cross_entropy(fx.g, op_linear(fx.g, x, w, b, NULL, 1), 3.0f);
        run(out, NULL);
        loss[fused] = *(float *)out->data;
        if (fused) {
            expect_close("dx", fx.grad[0], dx, N * C);
            expect_close("nll", fx.nll, nll, N);
            expect_close("loss", &loss[1], &loss[0], 1);
        }
        memcpy(dx, fx.grad[0], sizeof dx);
        memcpy(nll, fx.nll, sizeof nll);
        graph_free(fx.g);
    }
}

/* t: w, b */
static struct tensor *head_linear(struct graph *g, struct tensor *rows, void *user)
{
    struct tensor *const *t = user;

    return op_linear(g, rows, graph_leaf(g, t[0]), graph_leaf(g, t[1]), NULL, 1);
}

/* head_chunks against linear + cross_entropy, in more rows than one chunk holds: what trains inside
 * the head too. */
static void a_head_in_chunks_equals_logits_and_loss(void **state)
{
    enum { N = TOKENS, C = 8, V = 37 };
    static float grad[3][N * C], nll[N], loss[2];

    (void)state;
    for (int chunks = 0; chunks < 2; chunks++) {
        struct tensor *x, *t[2], *out;

        open_graph(N, true);
        for (int i = 0; i < N; i++)
            fx.target[i] = i % 12 ? i % V : -1;
        fx.pass.target = fx.target;
        x = rows(C, 1, 2);
        t[0] = leaf(V, C, 2, 1);
        t[1] = leaf(V, 0, 3, 1);
        out = chunks ? op_head_chunks(fx.g, x, V, head_linear, t, 3.0f)
                     : op_cross_entropy(fx.g, op_linear(fx.g, x, t[0], t[1], NULL, 1), 3.0f);
        run(out, NULL);
        loss[chunks] = *(float *)out->data;
        if (chunks) {
            expect_close("dx", fx.grad[0], grad[0], N * C);
            expect_close("dw", fx.grad[1], grad[1], V * C);
            expect_close("db", fx.grad[2], grad[2], V);
            expect_close("nll", fx.nll, nll, N);
            expect_close("loss", &loss[1], &loss[0], 1);
        }
        for (int i = 0; i < 3; i++)
            memcpy(grad[i], fx.grad[i], sizeof grad[i]);
        memcpy(nll, fx.nll, sizeof nll);
        graph_free(fx.g);
    }
}

static void without_targets_the_loss_is_zero(void **state)
{
    struct tensor *x, *w, *loss;

    (void)state;
    open_graph(5, true);
    x = rows(8, 1, 2);
    w = leaf(7, 8, 2, 1);
    w->trains = false;
    w->grad = NULL;
    fx.nll[2] = 9;
    loss = op_head_loss(fx.g, x, w, NULL, 0);
    run(loss, NULL);
    assert_true(*(float *)loss->data == 0 && fx.nll[2] == 0 && fx.grad[0][3] == 0);
    graph_free(fx.g);
}

/* Prompt, then token by token through graphs with a cache: the same rows as in one pass. */
static void generation_over_the_cache_repeats_the_whole_pass(void **state)
{
    enum { LEN = 90, CAPACITY = 100, WIDTH = 8, H = 16 };
    const struct attention_shape shape = {
        .heads = 4, .kv_heads = 2, .head_dim = 4, .scale = 0.5f, .layer = 1
    };
    static float whole[LEN * H], k[2 * 3 * CAPACITY * WIDTH], v[2 * 3 * CAPACITY * WIDTH];
    struct kv_cache cache = { 2, 3, CAPACITY, WIDTH, k, v };
    struct tensor *out, *tq, *tk, *tv;

    (void)state;
    open_graph(LEN, false);
    tq = rows(H, 1, 2);
    tk = rows(WIDTH, 2, 2);
    tv = rows(WIDTH, 3, 2);
    out = op_attention(fx.g, tq, tk, tv, NULL, NULL, &shape);
    run(out, NULL);
    memcpy(whole, out->data, sizeof whole);
    fx.pass.cache = &cache;
    fx.pass.slot = fx.slot;
    fx.pass.past = fx.past;
    fx.slot[0] = 2;
    for (int64_t t = 0, n; t < LEN; t += n) {
        n = t ? 1 : 70;
        fx.past[0] = t;
        fx.pass.n = fx.start[1] = n;
        fx.pass.id = fx.id + t;
        graph_forward(fx.g, &fx.pass);
        assert_memory_equal(out->data, whole + t * H, (size_t)(n * H) * sizeof(float));
    }
    graph_free(fx.g);
}

static void dropout_rests_outside_of_training(void **state)
{
    struct tensor *y;

    (void)state;
    open_graph(5, true);
    y = op_dropout(fx.g, rows(3, 1, 2), 0.5f, 1);
    run(y, NULL);
    assert_memory_equal(y->data, fx.data[0], 15 * sizeof(float));
    for (int i = 0; i < 15; i++)
        assert_true(fx.grad[0][i] == 1.0f);
    graph_free(fx.g);
}

static void an_id_without_a_row_gives_zeros(void **state)
{
    const int32_t id[] = { 0, 2, 3, -1, -3, INT32_MAX, INT32_MIN };
    struct tensor *table, *more, *y;

    (void)state;
    open_graph(7, true);
    memcpy(fx.id, id, sizeof id);
    table = leaf(3, 2, 1, 1);
    more = leaf(2, 2, 2, 1);
    y = op_embedding(fx.g, table, more, 2.0f);
    run(y, NULL);
    for (int t = 0; t < 7; t++) {
        const bool known = t < 2 || t == 3;
        const float *row = t == 3 ? fx.data[1] : fx.data[0] + id[t] % 3 * 2;

        for (int c = 0; c < 2; c++)
            assert_true(((float *)y->data)[t * 2 + c] ==
                        (known ? row[c] * (t == 3 ? 1.0f : 2.0f) : 0.0f));
    }
    graph_free(fx.g);
}

static void expect_refused(struct tensor *out, enum graft_status status, const char *words)
{
    struct graft_err err = { 0 };

    assert_null(out);
    assert_int_equal(graph_error(fx.g, &err), status);
    if (!strstr(err.msg, words))
        fail_msg("the message \"%s\" lacks \"%s\"", err.msg, words);
    graph_free(fx.g);
    open_graph(4, true);
}

static void misfits_are_refused_with_their_sizes(void **state)
{
    const struct attention_shape odd = { .heads = 5, .kv_heads = 2, .head_dim = 2 };
    const struct attention_shape wide = { .heads = 4, .kv_heads = 2, .head_dim = 2 };
    const struct rope r = { .half = 3, .inv_freq = inv_freq, .scale = 1 }, none = { .half = 0 };
    const int32_t id[] = { 3, 1 }, place[] = { -1, 1, -1, 0, -1 };
    const struct token_set set = { id, place, 2, 5 };
    struct tensor *head[2];

    (void)state;
    open_graph(4, true);
#define REFUSED(call, status, words) expect_refused(call, GRAFT_##status, words)
    REFUSED(op_linear(fx.g, rows(5, 1, 1), leaf(3, 4, 1, 1), NULL, NULL, 1), ESHAPE,
            "rows of 4 values, found rows of 5");
    REFUSED(op_linear(fx.g, rows(5, 1, 1), leaf(3, 5, 1, 1), leaf(2, 0, 1, 1), NULL, 1), ESHAPE,
            "3 f32 values, found (2)");
    REFUSED(op_linear(fx.g, rows(5, 1, 1), leaf(3, 5, 1, 1), NULL, rows(2, 1, 1), 1), ESHAPE,
            "(4, 3) and (4, 2)");
    REFUSED(op_rmsnorm(fx.g, rows(5, 1, 1), leaf(3, 0, 1, 1), 0, false), ESHAPE, "3 entries");
    REFUSED(op_layernorm(fx.g, rows(5, 1, 1), leaf(3, 0, 1, 1), NULL, 0), ESHAPE, "found (3)");
    REFUSED(op_rope(fx.g, rows(7, 1, 1), op_rope_angles(fx.g, &r), 6), ESHAPE, "heads of 6");
    REFUSED(op_rope(fx.g, rows(8, 1, 1), op_rope_angles(fx.g, &r), 4), ESHAPE, "angles (4, 6)");
    REFUSED(op_rope_angles(fx.g, &none), EARG, "no frequencies");
    REFUSED(op_attention(fx.g, rows(10, 1, 1), rows(4, 1, 1), rows(4, 1, 1), NULL, NULL, &odd),
            ESHAPE, "5 heads");
    REFUSED(op_attention(fx.g, rows(8, 1, 1), rows(4, 1, 1), rows(6, 1, 1), NULL, NULL, &wide),
            ESHAPE, "8, 4, 6 values");
    REFUSED(op_attention(fx.g, rows(8, 1, 1), rows(4, 1, 1), rows(4, 1, 1), leaf(3, 5, 1, 1),
                         leaf(3, 5, 1, 1), &wide),
            ESHAPE, "the prefix hold 4 values, found (3, 5)");
    REFUSED(op_attention(fx.g, rows(8, 1, 1), rows(4, 1, 1), rows(4, 1, 1), leaf(3, 4, 1, 1),
                         leaf(2, 4, 1, 1), &wide),
            ESHAPE, "(3, 4) and (2, 4)");
    REFUSED(op_attention(fx.g, rows(8, 1, 1), rows(4, 1, 1), rows(4, 1, 1), leaf(3, 4, 1, 1), NULL,
                         &wide),
            EARG, "keys and values");
    REFUSED(op_lstm(fx.g, leaf(3, 8, 1, 1), leaf(8, 3, 1, 1), leaf(8, 0, 1, 1), false), ESHAPE,
            "(4H, H), found (8, 3)");
    REFUSED(op_lstm(fx.g, rows(8, 1, 1), leaf(8, 2, 1, 1), leaf(8, 0, 1, 1), false), ESHAPE,
            "rows of 8 values, found (4, 8)");
    REFUSED(op_gate(fx.g, rows(8, 1, 1), rows(4, 1, 1), ACT_SILU), ESHAPE, "(4, 8) and (4, 4)");
    REFUSED(op_add(fx.g, rows(8, 1, 1), rows(4, 1, 1), 1), ESHAPE, "(4, 8) and (4, 4)");
    REFUSED(op_slice(fx.g, rows(8, 1, 1), 6, 3), ESHAPE, "3 columns from 6");
    REFUSED(op_concat(fx.g, rows(8, 1, 1), leaf(3, 2, 1, 1)), ESHAPE, "4 and 3 rows");
    REFUSED(op_dropout(fx.g, rows(8, 1, 1), 1.0f, 1), EARG, "found 1");
    REFUSED(op_head_loss(fx.g, rows(8, 1, 1), leaf(3, 8, 1, 1), NULL, 0), EARG, "head_chunks");
    REFUSED(op_head_loss(fx.g, rows(8, 1, 1), leaf(3, 7, 1, 1), NULL, 0), ESHAPE, "7");
    REFUSED(op_pick_last(fx.g, leaf(4, 8, 1, 1)), ESHAPE, "each token");
    REFUSED(op_token_rows(fx.g, rows(8, 1, 1), leaf(2, 7, 1, 1), &set, 1), ESHAPE,
            "wants 2 rows of 8 f32 values, found (2, 7)");
    REFUSED(op_token_columns(fx.g, rows(5, 1, 1), rows(3, 1, 1), &set), ESHAPE,
            "2 columns of 5 are replaced, found 3 of 5");
    head[0] = leaf(3, 5, 1, 1);
    head[1] = leaf(3, 0, 1, 1);
    REFUSED(op_head_chunks(fx.g, rows(7, 1, 1), 3, head_linear, head, 0), ESHAPE,
            "found rows of 7");
    graph_free(fx.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_equal_torch),
        cmocka_unit_test(tanh_equals_torch),
        cmocka_unit_test(norms_equal_torch),
        cmocka_unit_test(cross_entropy_equals_torch),
        cmocka_unit_test(attention_equals_torch),
        cmocka_unit_test(attention_behind_a_prefix_equals_torch),
        cmocka_unit_test(an_lstm_equals_torch),
        cmocka_unit_test(rope_equals_transformers),
        cmocka_unit_test(long_segments_get_other_frequencies),
        cmocka_unit_test(the_fused_head_equals_logits_and_loss),
        cmocka_unit_test(a_head_in_chunks_equals_logits_and_loss),
        cmocka_unit_test(without_targets_the_loss_is_zero),
        cmocka_unit_test(generation_over_the_cache_repeats_the_whole_pass),
        cmocka_unit_test(dropout_rests_outside_of_training),
        cmocka_unit_test(an_id_without_a_row_gives_zeros),
        cmocka_unit_test(misfits_are_refused_with_their_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
