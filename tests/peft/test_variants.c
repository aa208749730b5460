/* DoRA, IA3 and LoRA's variants over small slots: start values, rates, dropout, defaults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "peft/adapter.h"

enum { IN = 24, OUT = 16, VOCAB = 19, ROWS = 5, EMBED = 0, Q, K, DOWN, HEAD, SLOTS };
static const char *const names[SLOTS] = { "model.embed_tokens", "model.layers.0.self_attn.q_proj",
                                          "model.layers.0.self_attn.k_proj",
                                          "model.layers.0.mlp.down_proj", "lm_head" };
static struct slot slot[SLOTS];
static struct slot_list slots = { .slot = slot, .count = SLOTS, .model_type = "llama" };
static struct qmat weight[SLOTS];
static float values[SLOTS][VOCAB * IN], bias[OUT];
static struct graft_err err;

static int make_slots(void **state)
{
    const struct rng_key key = { 3, RNG_TEST, 0, 0 };

    (void)state;
    for (int i = 0; i < SLOTS; i++) {
        const int64_t out = i == EMBED ? VOCAB : OUT;

        for (int64_t k = 0; k < out * IN; k++)
            values[i][k] = rng_normal(key, (uint64_t)(1000 * i + k));
        weight[i] = (struct qmat){ .type = QT_F32, .rows = out, .cols = IN, .data = values[i] };
        slot[i] = (struct slot){ .name = names[i],
                                 .site = i == EMBED ? SITE_EMBED : SITE_LINEAR,
                                 .index = i,
                                 .in = IN,
                                 .out = out,
                                 .is_head = i == HEAD,
                                 .has_bias = i == Q,
                                 .w = &weight[i],
                                 .bias = i == Q ? bias : NULL };
    }
    for (int k = 0; k < OUT; k++)
        bias[k] = rng_normal(key, (uint64_t)(9000 + k));
    return 0;
}

static const char *q_name = "q_proj", *q_and_embed[] = { "embed_tokens", "q_proj" };

static struct adapter *adapter_of(struct adapter_config c, uint64_t seed)
{
    struct adapter *a = NULL;

    if (adapter_new(&c, &slots, true, &a, &err) || adapter_init(a, seed, &err))
        fail_msg("%s", err.msg);
    return a;
}

static struct adapter_config low_rank(const char *method)
{
    return (struct adapter_config){ .method = method,
                                    .r = 4,
                                    .lora_alpha = 6,
                                    .loraplus_lr_ratio = 1,
                                    .target_modules = { TARGETS_LIST, &q_name, 1 } };
}

static void b_and_the_magnitude_learn_at_the_rate_of_loraplus(void **state)
{
    struct adapter_config c = low_rank("dora");
    struct adapter *a;
    int fast = 0;

    (void)state;
    c.loraplus_lr_ratio = 16;
    c.target_modules = (struct target_set){ TARGETS_LIST, q_and_embed, 2 };
    a = adapter_of(c, 1);
    assert_int_equal(a->param_count, 6);
    for (int i = 0; i < a->param_count; i++) {
        const char *name = a->param[i]->name;
        const bool b = strstr(name, "q_proj.lora_B") || strstr(name, "q_proj.lora_magnitude");

        assert_true(a->lr_ratio[i] == (b ? 16 : 1));
        fast += b;
    }
    assert_int_equal(fast, 2);
    adapter_free(a);
}

static void the_orthogonal_start_changes_next_to_nothing(void **state)
{
    struct adapter_config c = low_rank("lora");
    struct adapter *a;
    const float *pa, *pb;
    double change = 0, size_a = 0, size_b = 0;

    (void)state;
    c.init = LORA_INIT_ORTHOGONAL;
    a = adapter_of(c, 1);
    pa = a->param[0]->data;
    pb = a->param[1]->data;
    for (int i = 0; i < 4 * IN; i++)
        size_a += (double)pa[i] * pa[i];
    for (int i = 0; i < 4 * OUT; i++)
        size_b += (double)pb[i] * pb[i];
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            double d = 0;

            for (int r = 0; r < 4; r++)
                d += (double)pb[o * 4 + r] * pa[r * IN + i];
            change += d * d;
        }
    /* normal values of deviation 1/10, half as many as there are places */
    assert_true(fabs(sqrt(size_a / (2 * IN)) - 0.1) < 0.03);
    assert_true(fabs(sqrt(size_b / (2 * OUT)) - 0.1) < 0.03);
    assert_true(change < 1e-10 * size_a * size_b);
    adapter_free(a);
}

/* ---- a graph over one linear: rows in, the base's product, the adapter's say */

struct rig {
    struct graph *g;
    struct tensor table, virtual_rows, *out;
    float x[ROWS * IN], zeros[IN];
    int32_t id[ROWS];
    int64_t start[2];
    struct graph_input pass;
};

static void open_rig(struct rig *r, struct adapter *a, bool training)
{
    const struct graph_opts opts = { ROWS, 1, DT_F32, false };
    const struct rng_key key = { 4, RNG_TEST, 0, 0 };
    struct plan_report report;
    struct tensor *x, *y;

    memset(r, 0, sizeof *r);
    for (int i = 0; i < ROWS * IN; i++)
        r->x[i] = rng_normal(key, (uint64_t)i);
    for (int t = 0; t < ROWS; t++)
        r->id[t] = -1 - t;
    r->start[1] = ROWS;
    r->table = (struct tensor){ .ndim = 2, .dim = { 1, IN }, .data = r->zeros };
    r->virtual_rows = (struct tensor){ .ndim = 2, .dim = { ROWS, IN }, .data = r->x };
    assert_int_equal(graph_new(&opts, &r->g, &err), GRAFT_OK);
    x = op_embedding(r->g, graph_leaf(r->g, &r->table), graph_leaf(r->g, &r->virtual_rows), 1.0f);
    y = op_linear(r->g, x, slot_weight(&slot[Q], r->g), slot_bias_leaf(&slot[Q], r->g), NULL, 1.0f);
    r->out = adapter_apply(a, &slot[Q], r->g, x, y);
    if (graph_error(r->g, &err) || graph_plan(r->g, &r->out, 1, 0, &report, &err) ||
        graph_allocate(r->g, NULL, &err))
        fail_msg("%s", err.msg);
    r->pass = (struct graph_input){ .n = ROWS,
                                    .id = r->id,
                                    .segments = 1,
                                    .start = r->start,
                                    .training = training,
                                    .rng = { 8, RNG_DROPOUT, 2, 0 } };
    graph_forward(r->g, &r->pass);
}

/* B moved from zero and the magnitudes from the norms, so that everything shows. */
static struct adapter *moved_dora(double dropout)
{
    const struct rng_key key = { 5, RNG_TEST, 0, 0 };
    struct adapter_config c = low_rank("dora");
    struct adapter *a;

    c.lora_dropout = dropout;
    a = adapter_of(c, 1);
    for (int i = 0; i < 4 * OUT; i++)
        ((float *)a->param[1]->data)[i] = 0.4f * rng_normal(key, (uint64_t)i);
    for (int i = 0; i < OUT; i++)
        ((float *)a->param[2]->data)[i] *= 1 + 0.3f * rng_normal(key, (uint64_t)(500 + i));
    return a;
}

/* PEFT: base(x) + (c - 1) (W xd) + c s B A xd, in double; `drop`: x is dropped in both. */
static double want_dora(const struct rig *r, const struct adapter *a, int t, int o, bool drop)
{
    const float *pa = a->param[0]->data, *pb = a->param[1]->data, *m = a->param[2]->data;
    const struct rng_key key = { 8, RNG_DROPOUT, 2, Q };
    const double s = 6.0 / 4;
    double norm = 0, base = bias[o], wxd = 0, change = 0;

    for (int i = 0; i < IN; i++) {
        const double x = (double)r->x[t * IN + i], w = (double)values[Q][o * IN + i];
        const bool keep = rng_uniform(key, (uint64_t)(t * IN + i)) >= 0.25f;
        const double xd = drop ? (keep ? x / 0.75 : 0) : x;
        double ba = 0;

        for (int k = 0; k < 4; k++)
            ba += (double)pb[o * 4 + k] * (double)pa[k * IN + i];
        norm += (w + s * ba) * (w + s * ba);
        base += w * x;
        wxd += w * xd;
        change += s * ba * xd;
    }
    norm = (double)m[o] / sqrt(norm);
    return base + (norm - 1) * wxd + norm * change;
}

static void dora_drops_what_peft_drops(void **state)
{
    (void)state;
    for (int training = 0; training < 2; training++) {
        struct adapter *a = moved_dora(0.25);
        struct rig r;

        open_rig(&r, a, training);
        for (int i = 0; i < ROWS * OUT; i++)
            assert_true(fabs((double)((const float *)r.out->data)[i] -
                             want_dora(&r, a, i / OUT, i % OUT, training)) < 2e-4);
        graph_free(r.g);
        adapter_free(a);
    }
}

static void dora_starts_as_the_base(void **state)
{
    struct adapter *a = adapter_of(low_rank("dora"), 1);
    struct rig with, without;

    (void)state;
    open_rig(&with, a, true);
    open_rig(&without, NULL, true);
    for (int i = 0; i < ROWS * OUT; i++)
        assert_true(fabsf(((const float *)with.out->data)[i] -
                          ((const float *)without.out->data)[i]) < 1e-5f);
    graph_free(with.g);
    graph_free(without.g);
    adapter_free(a);
}

/* Pruned bases have such rows; PEFT divides zero by zero there. */
static void a_row_of_zeros_stays_zero(void **state)
{
    struct adapter *a;
    struct rig r;

    (void)state;
    memset(values[Q] + 3 * IN, 0, IN * sizeof(float));
    a = adapter_of(low_rank("dora"), 1);
    open_rig(&r, a, true);
    for (int t = 0; t < ROWS; t++)
        assert_true(((const float *)r.out->data)[t * OUT + 3] == bias[3]);
    graph_free(r.g);
    adapter_free(a);
    make_slots(NULL);
}

static void ia3_sits_where_peft_puts_it(void **state)
{
    const char *one = "k_proj", *last = "down_proj";
    struct adapter_config c = { .method = "ia3", .init_ia3_ones = true };
    struct adapter *a = adapter_of(c, 1);

    (void)state;
    assert_int_equal(a->site_count, 2); /* llama: k_proj, v_proj, down_proj */
    assert_string_equal(a->param[0]->name,
                        "base_model.model.model.layers.0.self_attn.k_proj.ia3_l");
    assert_true(a->param[0]->dim[0] == OUT && a->param[0]->dim[1] == 1);
    assert_true(a->param[1]->dim[0] == 1 && a->param[1]->dim[1] == IN);
    assert_true(((const float *)a->param[1]->data)[5] == 1);
    adapter_free(a);
    /* a default that is no part of the targets is written so that PEFT reads it */
    c.target_modules = (struct target_set){ TARGETS_LIST, &one, 1 };
    a = adapter_of(c, 1);
    assert_int_equal(a->config.feedforward_modules.kind, TARGETS_REGEX);
    assert_string_equal(a->config.feedforward_modules.name[0], ".*(down_proj)");
    assert_int_equal(a->param[0]->dim[1], 1);
    adapter_free(a);
    /* none at all is not the default */
    c.target_modules.name = &last;
    c.feedforward_modules.kind = TARGETS_LIST;
    c.init_ia3_ones = false;
    a = adapter_of(c, 1);
    assert_int_equal(a->param[0]->dim[0], OUT);
    assert_true(((const float *)a->param[0]->data)[5] != 1);
    adapter_free(a);
}

static void an_embedding_has_no_vector(void **state)
{
    struct adapter_config c = { .method = "ia3",
                                .target_modules = { TARGETS_LIST, q_and_embed, 2 } };
    struct adapter *a = NULL;

    (void)state;
    assert_int_equal(adapter_new(&c, &slots, true, &a, &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "ia3 at model.embed_tokens, an embedding"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b_and_the_magnitude_learn_at_the_rate_of_loraplus),
        cmocka_unit_test(the_orthogonal_start_changes_next_to_nothing),
        cmocka_unit_test(dora_drops_what_peft_drops),
        cmocka_unit_test(dora_starts_as_the_base),
        cmocka_unit_test(a_row_of_zeros_stays_zero),
        cmocka_unit_test(ia3_sits_where_peft_puts_it),
        cmocka_unit_test(an_embedding_has_no_vector),
    };

    return cmocka_run_group_tests(tests, make_slots, NULL);
}
