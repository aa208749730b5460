/* The planner and the replay, over small ops: dead buffers are filled with NaN, so that a lifetime
 * that ends too early shows in the numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/autograd/small_ops.h"

enum { N = 7, C = 3, V = 5, PARAMS = 6, SEGMENTS = 3, MAX_BLOCKS = 6 };

/* Parameters of one model and one input; the graph is made over them by a seed. */
struct world {
    float table[V * C], dtable[V * C];
    float w[PARAMS][C * C], dw[PARAMS][C * C];
    struct tensor t_table, t_w[PARAMS];
    int32_t id[N], pos[N];
    int64_t start[SEGMENTS + 1];
    struct graph_input in;
};

static struct rng_key key(uint64_t seed, uint32_t site)
{
    return (struct rng_key){ .seed = seed, .stream = RNG_TEST, .site = site };
}

static void world_init(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < V * C; i++)
        w->table[i] = rng_normal(key(seed, 1), (uint64_t)i);
    w->t_table = (struct tensor){ .ndim = 2, .dim = { V, C }, .data = w->table, .grad = w->dtable };
    for (int p = 0; p < PARAMS; p++) {
        for (int i = 0; i < C * C; i++)
            w->w[p][i] = 0.5f * rng_normal(key(seed, 2), (uint64_t)(p * C * C + i));
        w->t_w[p] = (struct tensor){
            .ndim = 2, .dim = { C, C }, .data = w->w[p], .grad = p % 2 ? w->dw[p] : NULL
        };
    }
    for (int i = 0; i < N; i++) {
        w->id[i] = (int32_t)rng_below(key(seed, 3), (uint64_t)i, V);
        w->pos[i] = i;
    }
    w->in = (struct graph_input){ .id = w->id, .pos = w->pos, .start = w->start };
}

/* n tokens in two segments (one when n is 1). */
static void set_tokens(struct world *w, int64_t n)
{
    w->in.n = n;
    w->in.segments = n > 1 ? 2 : 1;
    w->start[0] = 0;
    w->start[1] = n > 1 ? 1 : n;
    w->start[2] = n;
}

static struct graph *new_graph(bool backward)
{
    const struct graph_opts opts = { .max_tokens = N,
                                     .max_segments = SEGMENTS,
                                     .backward = backward };
    struct graph *g = NULL;

    assert_int_equal(graph_new(&opts, &g, NULL), GRAFT_OK);
    g->ops = small_ops;
    g->poison = true;
    return g;
}

/* One random node over the tensors made so far. */
static struct tensor *random_node(struct graph *g, struct world *w, struct tensor *const *pool,
                                  int count, struct rng_key k, uint64_t *at)
{
    struct tensor *a = pool[rng_below(k, (*at)++, (uint64_t)count)];
    struct tensor *b = pool[rng_below(k, (*at)++, (uint64_t)count)];
    struct tensor *p = graph_leaf(g, &w->t_w[rng_below(k, (*at)++, PARAMS)]);

    switch (rng_below(k, (*at)++, 7)) {
    case 0:
        return small2(g, OP_ADD, a, b, 0.5f);
    case 1:
        return small2(g, OP_GATE, a, b, 0);
    case 2:
        return small1(g, OP_ACTIVATION, a);
    case 3:
        return small1(g, OP_RMSNORM, a);
    case 4:
        return small_linear(g, a, p, b);
    default:
        return small_linear(g, small1(g, OP_RMSNORM, a), p, NULL);
    }
}

/* Blocks of random nodes around a residual stream; `leaky` blocks also read tensors inside earlier
 * ones. Returns the loss. */
static struct tensor *random_graph(struct graph *g, struct world *w, uint64_t seed, bool leaky)
{
    const struct rng_key k = key(seed, 4);
    struct tensor *pool[64], *angles = graph_node(g, OP_ROPE_ANGLES, NULL, 0, NULL);
    struct tensor *x = small1(g, OP_EMBEDDING, graph_leaf(g, &w->t_table));
    uint64_t at = 0;
    const int blocks = 1 + (int)rng_below(k, at++, MAX_BLOCKS);
    int count = 0;

    pool[count++] = angles;
    for (int b = 0; b < blocks; b++) {
        const int nodes = 1 + (int)rng_below(k, at++, 8);

        graph_block(g, x);
        if (!leaky)
            count = 1;
        pool[count++] = x;
        for (int i = 0; i < nodes && count < 63; i++, count++)
            pool[count] = random_node(g, w, pool, count, k, &at);
        x = small2(g, OP_ADD, x, small1(g, OP_ACTIVATION, pool[count - 1]), 1);
    }
    if (rng_below(k, at, 2)) { /* the loss stands behind all blocks, or in the last */
        graph_block(g, x);
        return small1(g, OP_HEAD_LOSS, small1(g, OP_RMSNORM, x));
    }
    x = small1(g, OP_HEAD_LOSS, small1(g, OP_RMSNORM, x));
    graph_block(g, x);
    return x;
}

/* Every buffer its own place: what the plan must not change the numbers of. */
static void unshare(struct graph *g)
{
    g->slab = 0;
    for (int i = 0; i < g->bufs; i++) {
        g->buf[i].root = i;
        g->buf[i].off = g->slab;
        g->slab += g->buf[i].bytes;
    }
}

struct result {
    float loss, dtable[V * C], dw[PARAMS][C * C];
};

static void run_pass(struct graph *g, struct world *w, struct result *r)
{
    memset(w->dtable, 0, sizeof w->dtable);
    memset(w->dw, 0, sizeof w->dw);
    graph_forward(g, &w->in);
    r->loss = *(float *)g->output[0]->data;
    graph_backward(g, 0.75f);
    memcpy(r->dtable, w->dtable, sizeof r->dtable);
    memcpy(r->dw, w->dw, sizeof r->dw);
}

/* Plan, allocate, run at n tokens. */
static struct plan_report pass(struct world *w, uint64_t seed, bool leaky, size_t budget,
                               bool shared, int64_t n, struct result *r)
{
    struct graph *g = new_graph(true);
    struct tensor *loss = random_graph(g, w, seed, leaky);
    struct plan_report report;

    assert_int_equal(graph_plan(g, &loss, 1, budget, &report, NULL), GRAFT_OK);
    if (!shared)
        unshare(g);
    assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
    set_tokens(w, n);
    run_pass(g, w, r);
    graph_free(g);
    return report;
}

static void assert_same(const struct result *a, const struct result *b)
{
    const float *x = (const float *)a, *y = (const float *)b;

    for (size_t i = 0; i < sizeof *a / sizeof(float); i++)
        assert_true(x[i] == y[i]); /* NaN is not equal to itself */
}

static void any_budget_gives_the_numbers_of_unshared_buffers(void **state)
{
    struct world w;
    struct result want, got;
    int recomputed = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        const int64_t n = 1 + (int64_t)rng_below(key(seed, 5), 0, N);
        struct plan_report r;
        size_t least;

        world_init(&w, seed);
        r = pass(&w, seed, seed % 2, 0, false, n, &want);
        assert_int_equal(r.recomputed, 0);
        assert_true(r.slab == r.slab_no_recompute);
        least = r.slab_full_recompute < r.slab ? r.slab_full_recompute : r.slab;
        for (size_t budget = r.slab; budget >= least && budget > 0; budget -= MEM_ALIGN) {
            const struct plan_report b = pass(&w, seed, seed % 2, budget, true, n, &got);

            assert_true(b.slab <= budget);
            recomputed += b.recomputed > 0;
            assert_same(&want, &got);
        }
    }
    assert_true(recomputed > 300); /* the graphs do make the planner recompute */
}

/* (loss(p + h d) - loss(p - h d)) / 2h against grad . d, for a random direction d */
static void gradients_match_central_differences(void **state)
{
    const float h = 2e-3f;
    struct world w, moved;
    struct result r, up, down;

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        double along = 0, differences;

        world_init(&w, seed);
        pass(&w, seed, true, 0, true, N, &r);
        for (int sign = -1; sign <= 1; sign += 2) {
            world_init(&moved, seed);
            for (int i = 0; i < V * C; i++)
                moved.table[i] += (float)sign * h * rng_normal(key(seed, 7), (uint64_t)i);
            for (int p = 1; p < PARAMS; p += 2)
                for (int i = 0; i < C * C; i++)
                    moved.w[p][i] +=
                        (float)sign * h * rng_normal(key(seed, 8 + (uint32_t)p), (uint64_t)i);
            pass(&moved, seed, true, 0, true, N, sign > 0 ? &up : &down);
        }
        for (int i = 0; i < V * C; i++)
            along += (double)r.dtable[i] * rng_normal(key(seed, 7), (uint64_t)i);
        for (int p = 1; p < PARAMS; p += 2)
            for (int i = 0; i < C * C; i++)
                along += (double)r.dw[p][i] * rng_normal(key(seed, 8 + (uint32_t)p), (uint64_t)i);
        differences = 0.75 * ((double)up.loss - (double)down.loss) / (2 * (double)h);
        assert_true(fabs(along - differences) < 5e-3 * (1 + fabs(along)));
    }
}

static void replays_of_any_length_equal_a_fresh_graph(void **state)
{
    struct world w;
    struct result want, got;

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct graph *g = new_graph(true);
        struct plan_report r;
        struct tensor *loss;
        size_t least;

        world_init(&w, seed);
        loss = random_graph(g, &w, seed, false);
        assert_int_equal(graph_plan(g, &loss, 1, 0, &r, NULL), GRAFT_OK);
        least = r.slab_full_recompute < r.slab ? r.slab_full_recompute : r.slab;
        assert_int_equal(graph_plan(g, &loss, 1, least, &r, NULL), GRAFT_OK);
        assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
        for (int i = 0; i < 6; i++) {
            const int64_t n = 1 + (int64_t)rng_below(key(seed, 6), (uint64_t)i, N);

            pass(&w, seed, false, 0, false, n, &want);
            set_tokens(&w, n);
            run_pass(g, &w, &got);
            assert_same(&want, &got);
        }
        graph_free(g);
    }
}

static void a_lifetime_one_step_short_shows_as_nan(void **state)
{
    struct world w;
    struct graph *g = new_graph(true);
    struct tensor *x, *y, *loss;
    struct result r;

    (void)state;
    world_init(&w, 1);
    x = small1(g, OP_EMBEDDING, graph_leaf(g, &w.t_table));
    y = small1(g, OP_RMSNORM, x);
    loss = small1(g, OP_HEAD_LOSS, small2(g, OP_GATE, x, y, 0));
    assert_int_equal(graph_plan(g, &loss, 1, 0, NULL, NULL), GRAFT_OK);
    assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
    set_tokens(&w, N);
    run_pass(g, &w, &r);
    assert_true(r.dtable[w.id[0] * C] == r.dtable[w.id[0] * C]);
    g->buf[x->plan->data[0]].death--;
    run_pass(g, &w, &r);
    assert_true(r.dtable[w.id[0] * C] != r.dtable[w.id[0] * C]);
    graph_free(g);
}

static void only_what_leads_to_a_parameter_has_backward_work(void **state)
{
    struct world w;
    struct graph *g = new_graph(true);
    struct tensor *x, *low, *high, *unused, *loss;
    struct plan_report r;

    (void)state;
    world_init(&w, 2);
    w.t_table.grad = NULL;
    x = small1(g, OP_EMBEDDING, graph_leaf(g, &w.t_table));
    graph_block(g, x);
    low = small_linear(g, x, graph_leaf(g, &w.t_w[0]), x); /* w[0] is frozen, w[1] trains */
    graph_block(g, low);
    high = small_linear(g, low, graph_leaf(g, &w.t_w[1]), low);
    graph_block(g, high);
    unused = small1(g, OP_ACTIVATION, high);
    loss = small1(g, OP_HEAD_LOSS, high);
    assert_false(x->trains || low->trains);
    assert_true(high->trains && loss->trains);
    assert_int_equal(graph_plan(g, &loss, 1, 0, &r, NULL), GRAFT_OK);
    assert_int_equal(r.nodes, 4);
    assert_int_equal(r.backward_nodes, 2);
    assert_int_equal(r.blocks, 1);
    assert_false(unused->from->plan->needed);
    assert_int_equal(low->plan->grad, NO_BUFFER);
    assert_int_not_equal(high->plan->grad, NO_BUFFER);
    graph_free(g);
}

static void a_graph_without_backward_trains_nothing(void **state)
{
    struct world w;
    struct graph *g = new_graph(false);
    struct tensor *x, *y, *out[2];
    struct plan_report r;

    (void)state;
    world_init(&w, 3);
    x = small1(g, OP_EMBEDDING, graph_leaf(g, &w.t_table));
    for (int i = 0; i < 10; i++) {
        graph_block(g, x);
        y = small_linear(g, x, graph_leaf(g, &w.t_w[i % PARAMS]), NULL);
        x = small2(g, OP_ADD, x, small1(g, OP_ACTIVATION, y), 1);
    }
    out[0] = small1(g, OP_HEAD_LOSS, x);
    out[1] = small1(g, OP_PICK_LAST, x);
    assert_false(out[0]->trains);
    assert_int_equal(graph_plan(g, out, 2, 0, &r, NULL), GRAFT_OK);
    assert_int_equal(r.backward_nodes, 0);
    /* x, y and what comes out: the depth does not matter */
    assert_true(r.slab <= 2 * 128 + 2 * 64);
    assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
    set_tokens(&w, 5);
    graph_forward(g, &w.in);
    graph_backward(g, 1);
    assert_int_equal(out[1]->dim[0], 2); /* segments */
    assert_int_equal(x->dim[0], 5);      /* tokens */
    for (int i = 0; i < 2 * C; i++)
        assert_true(((float *)out[1]->data)[i] == ((float *)out[1]->data)[i]);
    for (int i = 0; i < V * C; i++)
        assert_true(w.dtable[i] == 0);
    graph_free(g);
}

static void a_residual_stream_shares_one_gradient(void **state)
{
    struct world w;
    struct graph *g = new_graph(true);
    struct tensor *x, *y, *z, *loss;

    (void)state;
    world_init(&w, 4);
    x = small1(g, OP_EMBEDDING, graph_leaf(g, &w.t_table));
    y = small_linear(g, small1(g, OP_RMSNORM, x), graph_leaf(g, &w.t_w[1]), x);
    z = small1(g, OP_ACTIVATION, small2(g, OP_ADD, y, y, 1));
    loss = small1(g, OP_HEAD_LOSS, z);
    assert_int_equal(graph_plan(g, &loss, 1, 0, NULL, NULL), GRAFT_OK);
    assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
    set_tokens(&w, N);
    graph_forward(g, &w.in);
    /* x is the last input read by the linear, but norm's backward needs its data */
    assert_ptr_equal(x->grad, y->grad);
    assert_ptr_not_equal(x->data, y->data);
    /* tanh: in place in both directions; y + y: read twice, never */
    assert_ptr_equal(z->from->in[0]->data, z->data);
    assert_ptr_equal(z->from->in[0]->grad, z->grad);
    assert_ptr_not_equal(z->grad, y->grad);
    graph_free(g);
}

static void a_tensor_read_again_later_is_not_overwritten(void **state)
{
    struct world w;
    struct graph *g = new_graph(false);
    struct tensor *x, *y, *out;

    (void)state;
    world_init(&w, 5);
    x = small1(g, OP_EMBEDDING, graph_leaf(g, &w.t_table));
    y = small1(g, OP_ACTIVATION, x);
    out = small2(g, OP_ADD, y, x, 1);
    assert_int_equal(graph_plan(g, (struct tensor *[]){ out, y }, 2, 0, NULL, NULL), GRAFT_OK);
    assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
    set_tokens(&w, N);
    graph_forward(g, &w.in);
    assert_ptr_not_equal(x->data, y->data);
    assert_ptr_not_equal(y->data, out->data); /* y is an output */
    graph_free(g);
}

/* `blocks` blocks x + tanh(norm(x) W^T), and the loss over the last; w[1] trains, w[0] does not. */
static struct tensor *deep_graph(struct graph *g, struct world *w, int blocks, int weight)
{
    struct tensor *x = small1(g, OP_EMBEDDING, graph_leaf(g, &w->t_table));

    for (int b = 0; b < blocks; b++) {
        struct tensor *y;

        graph_block(g, x);
        y = small_linear(g, small1(g, OP_RMSNORM, x), graph_leaf(g, &w->t_w[weight]), NULL);
        x = small2(g, OP_ADD, x, small1(g, OP_ACTIVATION, y), 1);
    }
    graph_block(g, x);
    return small1(g, OP_HEAD_LOSS, x);
}

static void a_recomputed_block_keeps_its_input_alone(void **state)
{
    const size_t row = 128, saved = 64; /* an activation and norm's factors, in whole lines */
    struct world w;

    (void)state;
    world_init(&w, 12);
    for (int weight = 0; weight < 2; weight++) {
        struct plan_report r[2];

        for (int i = 0; i < 2; i++) {
            struct graph *g = new_graph(true);
            struct tensor *loss = deep_graph(g, &w, 10 + i, weight);

            assert_int_equal(graph_plan(g, &loss, 1, 0, &r[i], NULL), GRAFT_OK);
            assert_int_equal(r[i].blocks, 10 + i);
            graph_free(g);
        }
        assert_int_equal(r[1].slab_full_recompute - r[0].slab_full_recompute, row);
        /* kept whole: the input, norm's factors, tanh's output; norm's output for a trained w */
        assert_int_equal(r[1].slab_no_recompute - r[0].slab_no_recompute,
                         (size_t)(2 + weight) * row + saved);
    }
}

static void the_seed_is_safe_from_a_recomputation_before_it(void **state)
{
    struct world w;
    struct graph *g = new_graph(true);
    struct tensor *x, *loss;

    (void)state;
    world_init(&w, 14);
    x = small1(g, OP_EMBEDDING, graph_leaf(g, &w.t_table));
    graph_block(g, x);
    loss = small1(g, OP_HEAD_LOSS, small1(g, OP_RMSNORM, x));
    graph_block(g, loss);
    assert_int_equal(graph_plan(g, &loss, 1, 0, NULL, NULL), GRAFT_OK);
    schedule_layout(g, 1);
    assert_int_equal(g->step[g->forward_steps].kind, STEP_RECOMPUTE);
    assert_int_equal(g->buf[loss->plan->grad].birth, g->forward_steps);
    graph_free(g);
}

static void as_few_blocks_as_fit_are_recomputed_the_first_ones(void **state)
{
    struct graph *g = new_graph(true);
    size_t slab[11];
    struct plan_report r;
    struct tensor *loss;
    struct world w;

    (void)state;
    world_init(&w, 13);
    loss = deep_graph(g, &w, 10, 1);
    assert_int_equal(graph_plan(g, &loss, 1, 0, &r, NULL), GRAFT_OK);
    for (int k = 0; k <= 10; k++) {
        schedule_layout(g, k);
        slab[k] = pack_buffers(g);
    }
    assert_true(slab[9] < slab[0]);
    for (int k = 1; k <= 10; k++) {
        if (slab[k] >= slab[k - 1])
            continue;
        assert_int_equal(graph_plan(g, &loss, 1, slab[k - 1] - 1, &r, NULL), GRAFT_OK);
        assert_int_equal(r.recomputed, k);
        assert_int_equal(r.slab, slab[k]);
        for (int i = 0; i < g->nodes; i++)
            if (g->node[i]->plan->block >= k)
                assert_false(g->node[i]->plan->rerun);
    }
    graph_free(g);
}

static void a_budget_too_small_names_both_sizes(void **state)
{
    struct world w;
    struct graph *g = new_graph(true);
    struct graft_err err;
    struct plan_report r;
    struct tensor *loss;

    (void)state;
    world_init(&w, 6);
    loss = random_graph(g, &w, 6, false);
    assert_int_equal(graph_plan(g, &loss, 1, 64, &r, &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "MiB"));
    assert_non_null(strstr(err.msg, "budget"));
    assert_int_equal(graph_allocate(g, NULL, &err), GRAFT_EARG);
    /* the same graph may be planned again */
    assert_int_equal(graph_plan(g, &loss, 1, 0, &r, &err), GRAFT_OK);
    graph_free(g);
}

static void the_first_error_of_a_constructor_is_kept(void **state)
{
    struct world w;
    struct graph *g = new_graph(true);
    struct graft_err err;
    struct tensor *x;

    (void)state;
    world_init(&w, 7);
    x = small2(g, OP_ADD, graph_leaf(g, &w.t_table), NULL, 1);
    assert_null(x);
    assert_null(small1(g, OP_EMBEDDING, graph_leaf(g, &w.t_table)));
    assert_null(graph_node(g, OP_ADD, NULL, 3, (struct tensor *[]){ x, x, x }));
    graph_block(g, x);
    assert_int_equal(graph_plan(g, &x, 1, 0, NULL, &err), GRAFT_EARG);
    assert_string_equal(err.msg, "add: input 1 is missing");
    graph_free(g);
}

static void a_gradient_through_an_op_without_one_is_refused(void **state)
{
    struct world w;
    struct graph *g = new_graph(true);
    struct graft_err err;
    struct tensor *loss;

    (void)state;
    world_init(&w, 8);
    loss = small1(g, OP_PICK_LAST, small1(g, OP_EMBEDDING, graph_leaf(g, &w.t_table)));
    loss = small1(g, OP_HEAD_LOSS, loss);
    assert_int_equal(graph_plan(g, &loss, 1, 0, NULL, &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "last: has no gradient"));
    graph_free(g);
}

static void a_pass_allocates_nothing(void **state)
{
    struct world w;
    struct graph *g = new_graph(true);
    struct tensor *loss;
    struct result r;

    (void)state;
    world_init(&w, 9);
    loss = random_graph(g, &w, 9, false);
    assert_int_equal(graph_plan(g, &loss, 1, 0, NULL, NULL), GRAFT_OK);
    assert_int_equal(graph_allocate(g, NULL, NULL), GRAFT_OK);
    mem_fail_at(0);
    for (int64_t n = 1; n <= N; n++) {
        set_tokens(&w, n);
        run_pass(g, &w, &r);
    }
    assert_int_equal(mem_count(), 0);
    graph_free(g);
}

static void graphs_may_share_memory_that_grows(void **state)
{
    struct world w;
    struct graph *small = new_graph(false), *large = new_graph(true);
    struct graph_memory memory = { NULL, NULL, 0, 0 };
    struct tensor *a, *b;
    struct result first, second;
    float before;

    (void)state;
    world_init(&w, 10);
    a = random_graph(small, &w, 10, false);
    b = random_graph(large, &w, 10, false);
    assert_int_equal(graph_plan(small, &a, 1, 0, NULL, NULL), GRAFT_OK);
    assert_int_equal(graph_plan(large, &b, 1, 0, NULL, NULL), GRAFT_OK);
    assert_int_equal(graph_allocate(small, &memory, NULL), GRAFT_OK);
    set_tokens(&w, N);
    graph_forward(small, &w.in);
    before = *(float *)a->data;
    assert_int_equal(graph_allocate(large, &memory, NULL), GRAFT_OK);
    run_pass(large, &w, &first);
    graph_forward(small, &w.in);
    assert_true(*(float *)a->data == before && first.loss == before);
    run_pass(large, &w, &second);
    assert_same(&first, &second);
    graph_free(small);
    graph_free(large);
    graph_memory_release(&memory);
}

static void every_failed_allocation_is_reported(void **state)
{
    enum graft_status st = GRAFT_ENOMEM;
    struct world w;

    (void)state;
    world_init(&w, 11);
    for (int64_t k = 1; st != GRAFT_OK; k++) {
        const struct graph_opts opts = { .max_tokens = N, .max_segments = 2, .backward = true };
        struct graft_err err = { 0 };
        struct graph *g = NULL;
        struct tensor *loss;

        assert_true(k < 1000);
        mem_fail_at(k);
        st = graph_new(&opts, &g, &err);
        if (!st) {
            g->ops = small_ops;
            loss = random_graph(g, &w, 11, false);
            st = graph_plan(g, &loss, 1, 0, NULL, &err);
        }
        if (!st)
            st = graph_allocate(g, NULL, &err);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || (st == GRAFT_ENOMEM && err.msg[0]));
        graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_budget_gives_the_numbers_of_unshared_buffers),
        cmocka_unit_test(gradients_match_central_differences),
        cmocka_unit_test(replays_of_any_length_equal_a_fresh_graph),
        cmocka_unit_test(a_lifetime_one_step_short_shows_as_nan),
        cmocka_unit_test(only_what_leads_to_a_parameter_has_backward_work),
        cmocka_unit_test(a_graph_without_backward_trains_nothing),
        cmocka_unit_test(a_residual_stream_shares_one_gradient),
        cmocka_unit_test(a_tensor_read_again_later_is_not_overwritten),
        cmocka_unit_test(a_recomputed_block_keeps_its_input_alone),
        cmocka_unit_test(the_seed_is_safe_from_a_recomputation_before_it),
        cmocka_unit_test(as_few_blocks_as_fit_are_recomputed_the_first_ones),
        cmocka_unit_test(a_budget_too_small_names_both_sizes),
        cmocka_unit_test(the_first_error_of_a_constructor_is_kept),
        cmocka_unit_test(a_gradient_through_an_op_without_one_is_refused),
        cmocka_unit_test(a_pass_allocates_nothing),
        cmocka_unit_test(graphs_may_share_memory_that_grows),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
