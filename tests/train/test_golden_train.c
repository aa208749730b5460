/* Training against PyTorch and PEFT: gradients, fifty steps, and what must not change a run. */
#include "train/golden_adapter.h"

#include <omp.h>

static json_t *expected;
static struct golden_record record[GOLDEN_RECORDS];

static int read_golden(void **state)
{
    (void)state;
    expected = read_json(GOLDEN("expected.json"));
    read_records(record);
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    json_decref(expected);
    return 0;
}

static const json_t *adapters(void)
{
    return json_object_get(expected, "adapters");
}

/* ---- gradients */

static const char *base_of(const char *adapter)
{
    return strncmp(adapter, "tied", 4) ? GOLDEN("llama") : GOLDEN("llama-tied");
}

static const char *folder_of(const char *adapter)
{
    return path_of("%s/models/adapters/%s", GRAFT_GOLDEN, adapter);
}

static void open_named(const char *adapter, struct trained *t)
{
    open_trained(folder_of(adapter), base_of(adapter), record, WEIGHTS_FLOATS, t);
}

static void gradients_of_every_adapter_are_those_of_peft(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    assert_true(json_object_size(adapters()) >= 9);
    json_object_foreach((json_t *)adapters(), name, want)
    {
        struct trained t;

        open_named(name, &t);
        check_gradients(folder_of(name), &t, json_number_value(json_object_get(want, "loss")),
                        1e-5);
        close_trained(&t);
    }
}

static double slope(struct trained *t, const struct tensor *p, float *v)
{
    const float keep = *v, h = 1e-2f;
    double up, down;

    (void)p;
    *v = keep + h;
    up = mean_loss(t);
    *v = keep - h;
    down = mean_loss(t);
    *v = keep;
    return (up - down) / (2 * (double)h);
}

static void gradients_of_the_whole_model_match_central_differences(void **state)
{
    const char *const names[] = { "bias", "head", "patterns" };

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct trained t;

        open_named(names[k], &t);
        check_slopes(names[k], &t, slope);
        close_trained(&t);
    }
}

static void gradients_add_up_over_passes_as_in_one(void **state)
{
    struct trained t;
    struct flat all;
    float *one;
    int64_t n;

    (void)state;
    open_named("lora", &t);
    backward(&t);
    n = elems_of(t.adapter->param[0]);
    one = mem_array((size_t)n, sizeof *one);
    memcpy(one, t.adapter->param[0]->grad, (size_t)n * sizeof *one);
    memset(t.adapter->param[0]->grad, 0, (size_t)n * sizeof *one);
    all = t.flat;
    for (int part = 0; part < 3; part++) {
        flatten(record + 4 * part, 4, &t.flat);
        const struct graph_input in = flat_input(&t.flat);
        graph_forward(t.net.g, &in);
        graph_backward(t.net.g, (float)(1.0 / (double)all.targets));
    }
    assert_near("sum", distance(t.adapter->param[0]->grad, one, n), 1e-5);
    mem_free(one);
    close_trained(&t);
}

/* ---- fifty steps */

static void check_fifty(const char *kind, const char *quant)
{
    const json_t *want = json_object_get(json_object_get(expected, "training"), kind);
    const struct told t =
        RUN("out", "adapter.init_from=" GRAFT_GOLDEN "/models/training/start", quant);

    assert_int_equal(t.steps, 50);
    assert_near(kind, worst_of(t.loss, json_object_get(want, "loss"), 50), 5e-5);
    assert_near(kind, worst_of(t.grad_norm, json_object_get(want, "grad_norm"), 50), 1e-3);
    assert_near(kind,
                stores_apart("out/adapter_model.safetensors",
                             path_of("%s/models/training/%s.safetensors", GRAFT_GOLDEN, kind)),
                1e-3);
    /* auto: over the weights the adapter was trained on */
    check_eval(kind, GOLDEN("llama"), "out", "auto", json_object_get(want, "nll"), 5e-5);
}

static void fifty_steps_of_adamw_have_the_losses_of_pytorch(void **state)
{
    (void)state;
    check_fifty("f32", "quant=none");
}

static void fifty_steps_over_nf4_have_the_losses_of_pytorch(void **state)
{
    (void)state;
    check_fifty("nf4", "quant=nf4");
}

static void metrics_have_a_line_a_step_that_says_what_happened(void **state)
{
    const struct told t =
        RUN("out", "train.steps=7", "optim.schedule=cosine", "optim.warmup=2", "optim.min_lr=1e-4",
            "train.eval_every=3", "data.valid=" GRAFT_GOLDEN "/models/data.jsonl");
    static const char *const keys[] = { "step",         "epoch",     "loss",
                                        "lr",           "grad_norm", "tokens",
                                        "input_tokens", "seconds",   "tokens_per_second" };
    FILE *f = fopen("out/metrics.jsonl", "r");
    int steps = 0, evals = 0;
    char line[1024];

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *o = json_loads(line, 0, NULL);

        assert_non_null(o);
        if (json_object_get(o, "valid_loss")) {
            assert_int_equal(json_integer_value(json_object_get(o, "step")), steps);
            evals++;
        } else {
            for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
                assert_true(json_is_number(json_object_get(o, keys[i])));
            assert_int_equal(json_integer_value(json_object_get(o, "step")), steps + 1);
            /* three steps an epoch: 12 records, 4 a step */
            assert_true(fabs(json_number_value(json_object_get(o, "epoch")) - (steps + 1) / 3.0) <
                        1e-12);
            assert_true(json_number_value(json_object_get(o, "loss")) == t.loss[steps]);
            assert_true(json_number_value(json_object_get(o, "lr")) == t.lr[steps]);
            steps++;
        }
        json_decref(o);
    }
    fclose(f);
    assert_int_equal(steps, 7);
    assert_int_equal(evals, 3); /* after steps 3, 6 and 7 */
    assert_true(t.lr[0] == 0 && fabs(t.lr[1] - 1.5e-3) < 1e-12 && fabs(t.lr[2] - 3e-3) < 1e-12);
    assert_true(fabs(t.lr[6] - (1e-4 + 2.9e-3 * (1 + cos(3.14159265358979 * 4 / 5)) / 2)) < 1e-12);
    assert_int_equal(t.input_tokens[0], record[0].n + record[1].n + record[2].n + record[3].n);
    assert_int_equal(t.tokens[0],
                     record[0].targets + record[1].targets + record[2].targets + record[3].targets);
}

/* ---- what must not change a run */

#define SHORT "train.steps=8", "adapter.lora_dropout=0.1", "adapter.target_modules=all-linear"

static void assert_same_losses(const struct told *a, const struct told *b)
{
    assert_int_equal(a->steps, b->steps);
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_memory_equal(a->grad_norm, b->grad_norm, sizeof a->grad_norm);
}

static void two_runs_are_bit_identical(void **state)
{
    const struct told a = RUN("a", SHORT, "data.shuffle=true", "quant=nf4");
    const struct told b = RUN("b", SHORT, "data.shuffle=true", "quant=nf4");
    const struct told c = RUN("c", SHORT, "data.shuffle=true", "quant=nf4", "train.seed=43");

    (void)state;
    assert_same_losses(&a, &b);
    assert_same_file("a/adapter_model.safetensors", "b/adapter_model.safetensors");
    assert_true(a.loss[0] != c.loss[0]);
}

static void one_thread_and_two_are_bit_identical(void **state)
{
    const int threads = omp_get_max_threads();
    struct told a, b;

    (void)state;
    omp_set_num_threads(1);
    a = RUN("a", SHORT);
    omp_set_num_threads(2);
    b = RUN("b", SHORT);
    omp_set_num_threads(threads);
    assert_same_losses(&a, &b);
    assert_same_file("a/adapter_model.safetensors", "b/adapter_model.safetensors");
}

static void gradient_accumulation_equals_a_large_batch(void **state)
{
    const char *from = "adapter.init_from=" GRAFT_GOLDEN "/models/adapters/all";
    const struct told a =
        RUN("a", "train.steps=8", from, "train.batch_size=4", "train.gradient_accumulation=1");
    const struct told b =
        RUN("b", "train.steps=8", from, "train.batch_size=1", "train.gradient_accumulation=4");

    (void)state;
    for (int i = 0; i < 8; i++)
        assert_near("loss", fabs(a.loss[i] / b.loss[i] - 1), 1e-5);
    assert_near("adapter",
                stores_apart("a/adapter_model.safetensors", "b/adapter_model.safetensors"), 1e-3);
}

/* All records in one step, so that loss and gradient do not depend on how rows are filled. */
static void packing_changes_neither_loss_nor_gradient(void **state)
{
    const char *from = "adapter.init_from=" GRAFT_GOLDEN "/models/adapters/all";
    const struct told a =
        RUN("a", "train.steps=1", from, "train.batch_size=12", "train.gradient_accumulation=1");
    const struct told b = RUN("b", "train.steps=1", from, "train.batch_size=12",
                              "train.gradient_accumulation=1", "data.packing=true");

    (void)state;
    assert_int_equal(a.tokens[0], b.tokens[0]);
    assert_int_equal(a.input_tokens[0], b.input_tokens[0]);
    assert_near("loss", fabs(a.loss[0] / b.loss[0] - 1), 1e-6);
    assert_near("gradient norm", fabs(a.grad_norm[0] / b.grad_norm[0] - 1), 1e-5);
}

#define DATA GRAFT_GOLDEN "/models/data.jsonl"

static void recomputing_blocks_changes_no_bit(void **state)
{
    const char *four = "data.train=[" DATA "," DATA "," DATA "," DATA "]";
    const struct told a = RUN("a", SHORT, four, "train.batch_size=48");
    const size_t slab = a.memory.activations, fixed = a.memory.total - slab - a.memory.scratch;
    struct told b = { 0 };

    (void)state;
    assert_int_equal(a.memory.recomputed, 0);
    /* what else the process holds is in the plan and moves: a budget is searched for */
    for (size_t i = 1; i < 200 && !b.memory.recomputed; i++) {
        const char *budget = path_of("train.memory=%zu", fixed + i * (slab / 4));
        const char *const set[] = { SHORT, four, "train.batch_size=48", budget, NULL };
        struct graft_err err;

        assert_true(!try_run("b", set, &b, &err) || err.code == GRAFT_EARG);
    }
    assert_int_equal(b.memory.recomputed, 1);
    assert_true(b.memory.activations < slab);
    assert_true(b.memory.total <= b.memory.budget);
    assert_same_losses(&a, &b);
    assert_same_file("a/adapter_model.safetensors", "b/adapter_model.safetensors");
}

static void a_step_allocates_nothing(void **state)
{
    static const char *const adapters[] = {
        "adapter={method: lora, lora_dropout: 0.1, modules_to_save: [lm_head]}",
        "adapter={method: dora}",
        "adapter={method: rosa, schedule: df, d: 0.1}",
        "adapter={method: ia3}",
        "adapter={method: prefix, num_virtual_tokens: 3}",
        "adapter={method: ptuning, num_virtual_tokens: 3}",
        "adapter={method: parallel}",
        "adapter={method: full}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        const struct told t = RUN("a", "train.steps=9", adapters[i], "train.log_every=1",
                                  "optim.max_grad_norm=1", "optim.schedule=cosine");

        assert_true(t.allocations[0] > 0);
        if (t.allocations[8] != t.allocations[0])
            fail_msg("%s: %d allocations in 8 steps", adapters[i],
                     (int)(t.allocations[8] - t.allocations[0]));
    }
}

/* A rank by mistake must not take the machine's memory before it is refused. */
static void an_adapter_beyond_memory_is_refused_before_it_is_made(void **state)
{
    const char *const set[] = { "train.memory=1GiB", "adapter.r=1000000", NULL };
    struct graft_err err;
    struct told told;

    (void)state;
    assert_int_equal(try_run("a", set, &told, &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "train.memory: 1024.0 MiB are not enough"));
    assert_true(peak_memory() < (size_t)2 << 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_every_adapter_are_those_of_peft),
        cmocka_unit_test(gradients_of_the_whole_model_match_central_differences),
        cmocka_unit_test(gradients_add_up_over_passes_as_in_one),
#define RUNS(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        RUNS(fifty_steps_of_adamw_have_the_losses_of_pytorch),
        RUNS(fifty_steps_over_nf4_have_the_losses_of_pytorch),
        RUNS(metrics_have_a_line_a_step_that_says_what_happened),
        RUNS(two_runs_are_bit_identical),
        RUNS(one_thread_and_two_are_bit_identical),
        RUNS(gradient_accumulation_equals_a_large_batch),
        RUNS(packing_changes_neither_loss_nor_gradient),
        RUNS(recomputing_blocks_changes_no_bit),
        RUNS(a_step_allocates_nothing),
        RUNS(an_adapter_beyond_memory_is_refused_before_it_is_made),
    };

    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
