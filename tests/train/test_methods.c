/* What holds for every method that stands before or beside the base's weights, whatever it
 * computes: gradients against the whole model's own forward, start values, and what must not change
 * a run. */
#include "train/golden_train.h"

#include <omp.h>

#include "train/merge.h"

/* A method's config over the base that shows most, and the values it trains there. */
static const struct method_case {
    const char *name, *base, *config;
    int tensors;
} methods[] = {
    { "prompt", "mistral", "method: prompt, num_virtual_tokens: 3", 1 },
    { "vocab", "llama", "method: prompt, num_virtual_tokens: 3, prompt_tuning_init: SAMPLE_VOCAB",
      1 },
    { "ptuning", "qwen3", "method: ptuning, num_virtual_tokens: 3, encoder_hidden_size: 5", 7 },
    { "ptuning-lstm", "llama",
      "method: ptuning, num_virtual_tokens: 3, encoder_hidden_size: 5, "
      "encoder_reparameterization_type: LSTM, encoder_num_layers: 3, encoder_dropout: 0.2",
      29 },
    { "prefix", "mistral", "method: prefix, num_virtual_tokens: 4", 1 },
    { "prefix-mlp", "qwen3",
      "method: prefix, num_virtual_tokens: 3, prefix_projection: true, encoder_hidden_size: 5", 5 },
    { "houlsby", "llama", "method: houlsby, bottleneck_size: 5, init_weights: houlsby", 16 },
    { "pfeiffer", "qwen2", "method: pfeiffer, reduction_factor: 8, non_linearity: gelu", 8 },
    { "parallel", "qwen3", "method: parallel, init_weights: bert, non_linearity: tanh", 8 },
};
enum { METHODS = sizeof methods / sizeof *methods };

static struct golden_record record[GOLDEN_RECORDS];

static int read_golden(void **state)
{
    (void)state;
    read_records(record);
    return 0;
}

/* ---- gradients */

struct trained {
    struct opened base;
    struct adapter *adapter;
    struct tiny_net net;
    struct flat flat;
    struct arena mem;
};

static void where(const struct schema_source *src, const char *path, struct strbuf *out)
{
    (void)src;
    (void)path;
    strbuf_puts(out, "test");
}

/* "a: b, c: 5, d: true" to JSON: every word that is no number or constant is a text. */
static json_t *map_of(const char *config)
{
    json_t *map = json_object();
    char key[64], value[64];
    int n;

    while (sscanf(config, " %63[^:]: %63[^,]%n", key, value, &n) == 2) {
        json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);

        json_object_set_new(map, key, v ? v : json_string(value));
        config += n + (config[n] == ',');
    }
    return map;
}

static void flatten_behind(struct trained *t)
{
    const struct adapter *a = t->adapter;
    struct flat *f = &t->flat;

    f->segments = 4;
    for (int i = 0; i < 4; i++) {
        f->start[i] = f->n;
        for (int64_t k = -a->virtual_tokens; k < record[i].n; k++, f->n++) {
            const int64_t at = k + a->virtual_tokens;

            f->id[f->n] = k < 0 ? (int32_t)(-1 - at) : record[i].id[k];
            f->target[f->n] = k < 0 ? -1 : record[i].target[k];
            f->pos[f->n] = (int32_t)(a->prefix_tokens + at);
        }
        f->targets += record[i].targets;
    }
    f->start[4] = f->n;
}

static void open_trained(const struct method_case *m, enum dtype act, struct trained *t)
{
    const struct schema_source src = { where, NULL };
    json_t *map = map_of(m->config);
    struct graft_err err = { GRAFT_OK, "" };
    struct adapter_config c;

    memset(t, 0, sizeof *t);
    open_model(GOLDEN(m->base), WEIGHTS_FLOATS, &t->base);
    if (adapter_config_parse(map, &src, &c, &t->mem, &err) ||
        adapter_new(&c, &t->base.m->slots, true, &t->adapter, &err) ||
        adapter_init(t->adapter, 5, &err))
        fail_msg("%s: %s", m->name, err.msg);
    json_decref(map);
    t->net = tiny_net(t->base.m, t->adapter, NET_LOSS, act, true);
    flatten_behind(t);
}

static void close_trained(struct trained *t)
{
    graph_free(t->net.g);
    adapter_free(t->adapter);
    close_model(&t->base);
    arena_release(&t->mem);
}

static double mean_loss(struct trained *t, bool training)
{
    struct graph_input in = flat_input(&t->flat);
    double sum = 0;

    in.training = training;
    in.rng = (struct rng_key){ 3, RNG_DROPOUT, 1, 0 };
    graph_forward(t->net.g, &in);
    for (int64_t i = 0; i < t->flat.n; i++)
        sum += (double)t->flat.nll[i];
    return sum / (double)t->flat.targets;
}

static int64_t elems_of(const struct tensor *p)
{
    return p->dim[0] * (p->ndim > 1 ? p->dim[1] : 1);
}

static void backward(struct trained *t)
{
    struct graph_input in = flat_input(&t->flat);

    in.training = true;
    in.rng = (struct rng_key){ 3, RNG_DROPOUT, 1, 0 };
    graph_forward(t->net.g, &in);
    graph_backward(t->net.g, (float)(1.0 / (double)t->flat.targets));
}

/* Away from start values such as zero, whose gradients hide what they are factors of. */
static void disturb(struct adapter *a)
{
    for (int i = 0; i < a->param_count; i++) {
        const struct rng_key key = { 11, RNG_TEST, 0, (uint32_t)i };
        float *v = a->param[i]->data;

        for (int64_t e = 0; e < elems_of(a->param[i]); e++)
            v[e] += 0.3f * (2 * rng_uniform(key, (uint64_t)e) - 1);
    }
}

static double slope(struct trained *t, float *v)
{
    const float keep = *v, h = 1e-2f;
    double up, down;

    *v = keep + h;
    up = mean_loss(t, true);
    *v = keep - h;
    down = mean_loss(t, true);
    *v = keep;
    return (up - down) / (2 * (double)h);
}

/* The steepest entry and one in the middle of every tensor, dropout and all. */
static void gradients_match_central_differences(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        struct trained t;

        open_trained(&methods[k], DT_F32, &t);
        assert_int_equal(t.adapter->param_count, methods[k].tensors);
        disturb(t.adapter);
        backward(&t);
        for (int i = 0; i < t.adapter->param_count; i++) {
            const struct tensor *p = t.adapter->param[i];
            int64_t at[2] = { 0, elems_of(p) / 2 };

            for (int64_t e = 0; e < elems_of(p); e++)
                if (fabsf(p->grad[e]) > fabsf(p->grad[at[0]]))
                    at[0] = e;
            assert_true(fabsf(p->grad[at[0]]) > 0);
            for (int e = 0; e < 2; e++) {
                const double g = (double)p->grad[at[e]];

                assert_near(path_of("%s: %s", methods[k].name, p->name),
                            fabs(slope(&t, (float *)p->data + at[e]) - g) / (fabs(g) + 2e-2), 1e-2);
            }
        }
        close_trained(&t);
    }
}

static void bf16_compute_stays_near_f32(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        struct trained a, b;

        open_trained(&methods[k], DT_F32, &a);
        open_trained(&methods[k], DT_BF16, &b);
        assert_near(methods[k].name, fabs(mean_loss(&b, true) / mean_loss(&a, true) - 1), 0.02);
        close_trained(&b);
        close_trained(&a);
    }
}

static void dropout_is_for_training_alone(void **state)
{
    struct method_case m = { "dropout", "llama",
                             "method: houlsby, dropout: 0.5, init_weights: bert", 16 };
    struct trained t;

    (void)state;
    for (int k = 0; k < 2; k++) {
        open_trained(k ? &m : &methods[3], DT_F32, &t);
        disturb(t.adapter);
        assert_true(mean_loss(&t, true) != mean_loss(&t, false));
        close_trained(&t);
    }
}

/* ---- start values */

static double base_loss(const char *base)
{
    struct opened o;
    struct tiny_net n;
    double sum = 0;
    int64_t targets = 0;

    open_model(GOLDEN(base), WEIGHTS_FLOATS, &o);
    n = tiny_net(o.m, NULL, NET_LOSS, DT_F32, false);
    for (int i = 0; i < 4; i++) {
        sum += record_nll(&n, &record[i]);
        targets += record[i].targets;
    }
    graph_free(n.g);
    close_model(&o);
    return sum / (double)targets;
}

/* mam_adapter: the base itself. houlsby and bert: near it, and not it. */
static void bottlenecks_begin_near_the_base(void **state)
{
    static const struct method_case start[] = {
        { "exact", "qwen3", "method: parallel, reduction_factor: 4", 0 },
        { "houlsby", "qwen3", "method: houlsby, bottleneck_size: 8, init_weights: houlsby", 0 },
        { "bert", "qwen3", "method: pfeiffer, bottleneck_size: 8", 0 },
    };
    const double want = base_loss("qwen3");

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct trained t;
        double off;

        open_trained(&start[k], DT_F32, &t);
        off = fabs(mean_loss(&t, true) / want - 1);
        assert_near(start[k].name, off, k ? 1e-2 : 1e-6);
        assert_true(!k || off > 1e-9);
        close_trained(&t);
    }
}

/* zero: keys and values of zero still take a share of the attention. */
static void a_zero_prefix_is_zero(void **state)
{
    static const struct method_case start[] = {
        { "plain", "llama", "method: prefix, num_virtual_tokens: 3, init_weights: zero", 0 },
        { "mlp", "llama",
          "method: prefix, num_virtual_tokens: 3, prefix_projection: true, init_weights: zero", 0 },
    };
    double loss[2];

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct trained t;

        open_trained(&start[k], DT_F32, &t);
        loss[k] = mean_loss(&t, true);
        close_trained(&t);
    }
    assert_true(loss[0] == loss[1] && loss[0] != base_loss("llama"));
}

static void virtual_tokens_may_begin_as_rows_of_the_vocabulary(void **state)
{
    struct trained t;
    const float *row;
    float table[GOLDEN_VOCAB * 32];

    (void)state;
    open_trained(&methods[1], DT_F32, &t);
    slot_decode_rows(&t.base.m->slots.slot[t.base.m->embed_slot], 0, GOLDEN_VOCAB, table);
    row = t.adapter->param[0]->data;
    for (int i = 0; i < 3; i++) {
        bool found = false;

        for (int v = 0; v < GOLDEN_VOCAB; v++)
            found |= distance(row + 32 * i, table + 32 * v, 32) == 0;
        assert_true(found);
    }
    close_trained(&t);
}

/* ---- what must not change a run */

static struct told run(const struct method_case *m, const char *output, const char *const *more)
{
    const char *set[12] = { path_of("base=%s/models/%s", GRAFT_GOLDEN, m->base),
                            path_of("adapter={%s}", m->config), "train.steps=3" };
    int n = 3;

    while (*more)
        set[n++] = *more++;
    return golden_run(output, set);
}

#define METHOD_RUN(m, output, ...) run(m, output, (const char *const[]){ __VA_ARGS__, NULL })

static void assert_same_run(const struct method_case *m, const struct told *a, const struct told *b)
{
    for (int i = 0; i < 3; i++)
        if (a->loss[i] != b->loss[i])
            fail_msg("%s: the losses differ: %.9g and %.9g", m->name, a->loss[i], b->loss[i]);
    assert_same_file("a/adapter_model.safetensors", "b/adapter_model.safetensors");
}

static void one_thread_and_two_are_bit_identical(void **state)
{
    const int threads = omp_get_max_threads();

    (void)state;
    for (int k = 0; k < METHODS; k++) {
        struct told a, b;

        omp_set_num_threads(1);
        a = METHOD_RUN(&methods[k], "a", "quant=nf4");
        omp_set_num_threads(2);
        b = METHOD_RUN(&methods[k], "b", "quant=nf4");
        omp_set_num_threads(threads);
        assert_same_run(&methods[k], &a, &b);
    }
}

/* All records in one step; virtual tokens stand before each of them, however rows are filled. */
static void packing_changes_neither_loss_nor_gradient(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        const struct told a = METHOD_RUN(&methods[k], "a", "quant=none", "train.batch_size=12",
                                         "train.gradient_accumulation=1");
        const struct told b = METHOD_RUN(&methods[k], "b", "quant=none", "train.batch_size=12",
                                         "train.gradient_accumulation=1", "data.packing=true");

        assert_int_equal(a.tokens[0], b.tokens[0]);
        assert_int_equal(a.input_tokens[0], b.input_tokens[0]);
        assert_near(methods[k].name, fabs(a.loss[0] / b.loss[0] - 1), 1e-6);
        assert_near(methods[k].name, fabs(a.grad_norm[0] / b.grad_norm[0] - 1), 1e-5);
    }
}

#define DATA GRAFT_GOLDEN "/models/data.jsonl"

/* The same pass through the same graph, planned for as little memory as it can do with. */
static void recomputing_blocks_changes_no_bit(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        struct plan_report plan;
        struct graft_err err = { GRAFT_OK, "" };
        struct trained a, b;

        open_trained(&methods[k], DT_F32, &a);
        open_trained(&methods[k], DT_F32, &b);
        assert_int_equal(graph_plan(b.net.g, &b.net.out, 1, 0, &plan, &err), GRAFT_OK);
        assert_true(plan.slab_full_recompute < plan.slab);
        if (graph_plan(b.net.g, &b.net.out, 1, plan.slab_full_recompute, &plan, &err) ||
            graph_allocate(b.net.g, NULL, &err))
            fail_msg("%s", err.msg);
        assert_true(plan.recomputed > 0);
        backward(&a);
        backward(&b);
        for (int i = 0; i < a.adapter->param_count; i++)
            assert_memory_equal(a.adapter->param[i]->grad, b.adapter->param[i]->grad,
                                (size_t)elems_of(a.adapter->param[i]) * sizeof(float));
        close_trained(&b);
        close_trained(&a);
    }
}

/* The adapter that was saved gives the losses that training ended with, and the plan counted what
 * stands before records. */
static void evaluation_while_training_is_that_of_the_saved_adapter(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        const char *base = path_of("%s/models/%s", GRAFT_GOLDEN, methods[k].base);
        struct evaluate_result r;
        double valid = 0;
        FILE *f;
        char line[1024];

        METHOD_RUN(&methods[k], "a", "data.valid=" DATA, "train.eval_every=3", "quant=nf4");
        f = fopen("a/metrics.jsonl", "r");
        assert_non_null(f);
        while (fgets(line, sizeof line, f)) {
            json_t *o = json_loads(line, 0, NULL), *v = json_object_get(o, "valid_loss");

            valid = v ? json_number_value(v) : valid;
            json_decref(o);
        }
        fclose(f);
        r = golden_eval(base, "a", "auto");
        assert_near(methods[k].name, fabs(r.sum.nll / (double)r.sum.tokens / valid - 1), 1e-12);
        evaluate_result_release(&r);
    }
}

static void none_of_them_merges(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        const struct merge_opts opts = {
            .base = path_of("%s/models/%s", GRAFT_GOLDEN, methods[k].base),
            .adapter = "a",
            .output = "m",
            .dtype = QT_F32,
        };
        struct merge_report report;
        struct graft_err err = { GRAFT_OK, "" };

        METHOD_RUN(&methods[k], "a", "quant=none");
        assert_int_equal(merge_run(&opts, &report, &err), GRAFT_EARG);
        assert_non_null(strstr(err.msg, " adapter cannot be merged: it"));
        assert_false(file_exists("m"));
    }
}

/* Made, filled, saved: with every allocation failing once. */
static void no_failed_allocation_leaks_or_crashes(void **state)
{
    const struct schema_source src = { where, NULL };

    (void)state;
    for (int m = 3; m < METHODS; m += 3) { /* an LSTM, a series adapter */
        struct arena mem = ARENA_INIT;
        json_t *map = map_of(methods[m].config);
        struct graft_err err = { GRAFT_OK, "" };
        enum graft_status st = GRAFT_ENOMEM;
        struct adapter_config c;
        struct opened base;

        open_model(GOLDEN(methods[m].base), WEIGHTS_FLOATS, &base);
        assert_int_equal(adapter_config_parse(map, &src, &c, &mem, &err), GRAFT_OK);
        for (int64_t k = 1; st; k++) {
            struct adapter *a = NULL;

            assert_true(k < 5000);
            mem_fail_at(k);
            st = adapter_new(&c, &base.m->slots, true, &a, &err);
            if (!st)
                st = adapter_init(a, 5, &err);
            if (!st)
                st = adapter_save(a, ".", &err);
            mem_fail_at(0);
            adapter_free(a);
            if (st && st != GRAFT_ENOMEM)
                fail_msg("%s: allocation %d: %s", methods[m].name, (int)k, err.msg);
        }
        json_decref(map);
        close_model(&base);
        arena_release(&mem);
    }
}

/* ---- files */

static void a_bottleneck_has_the_names_of_adapter_hub(void **state)
{
    static const char *const places[] = { "attention_adapters", "output_adapters" };
    struct store s;
    json_t *c;

    (void)state;
    METHOD_RUN(&methods[6], "a", "quant=none");
    s = open_store("a/adapter_model.safetensors");
    assert_int_equal(s.count, 16);
    for (int l = 0; l < 2; l++)
        for (int p = 0; p < 2; p++) {
            const char *at = path_of("base_model.model.model.layers.%d.%s", l, places[p]);
            int64_t n;

            values_of(&s, path_of("%s.adapter_down.0.weight", at), &n);
            assert_int_equal(n, 5 * 32);
            values_of(&s, path_of("%s.adapter_down.0.bias", at), &n);
            assert_int_equal(n, 5);
            values_of(&s, path_of("%s.adapter_up.weight", at), &n);
            assert_int_equal(n, 5 * 32);
            values_of(&s, path_of("%s.adapter_up.bias", at), &n);
            assert_int_equal(n, 32);
        }
    store_release(&s);
    c = read_json("a/adapter_config.json");
    assert_string_equal(json_string_value(json_object_get(c, "peft_type")), "HOULSBY");
    assert_string_equal(json_string_value(json_object_get(c, "non_linearity")), "swish");
    json_decref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_match_central_differences),
        cmocka_unit_test(bf16_compute_stays_near_f32),
        cmocka_unit_test(dropout_is_for_training_alone),
        cmocka_unit_test(bottlenecks_begin_near_the_base),
        cmocka_unit_test(a_zero_prefix_is_zero),
        cmocka_unit_test(virtual_tokens_may_begin_as_rows_of_the_vocabulary),
        cmocka_unit_test(recomputing_blocks_changes_no_bit),
#define RUNS(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        RUNS(one_thread_and_two_are_bit_identical),
        RUNS(packing_changes_neither_loss_nor_gradient),
        RUNS(evaluation_while_training_is_that_of_the_saved_adapter),
        RUNS(none_of_them_merges),
        RUNS(no_failed_allocation_leaks_or_crashes),
        RUNS(a_bottleneck_has_the_names_of_adapter_hub),
    };

    return cmocka_run_group_tests(tests, read_golden, NULL);
}
