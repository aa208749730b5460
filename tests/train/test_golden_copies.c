/* modules_to_save, biases, trainable tokens, LayerNorm tuning against PEFT; BitFit, the head, the
 * last layers, every parameter and LP-FT against PyTorch: what was written, gradients, fifty steps,
 * and what it merges to. Numbers: golden/make_copies.py. */
#include "train/golden_adapter.h"

#include "train/merge.h"

static json_t *expected, *whole;
static struct golden_record record[GOLDEN_RECORDS];

static const char *folder_of(const char *adapter)
{
    return path_of("%s/copies/%s", GRAFT_GOLDEN, adapter);
}

static int read_golden(void **state)
{
    (void)state;
    expected = read_json(folder_of("expected.json"));
    whole = read_json(folder_of("whole.json"));
    read_records(record);
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    json_decref(expected);
    json_decref(whole);
    return 0;
}

static const char *base_of(const json_t *want)
{
    return GOLDEN(json_string_value(json_object_get(want, "base")));
}

static void what_was_written_gives_its_losses(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    assert_int_equal(json_object_size(expected), 15);
    json_object_foreach(expected, name, want) check_eval(
        name, base_of(want), folder_of(name), "none", json_object_get(want, "nll"), 1e-5);
}

static void gradients_are_those_of_pytorch(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        struct trained t;

        open_trained(folder_of(name), base_of(want), record, WEIGHTS_FLOATS, &t);
        check_gradients(folder_of(name), &t, json_number_value(json_object_get(want, "loss")),
                        2e-5);
        close_trained(&t);
    }
}

/* ---- end to end by differences, over NF4 */

static double slope(struct trained *t, const struct tensor *p, float *v)
{
    static const double step[] = { 1, -1, 2, -2 }, weight[] = { 8, -8, -1, 1 };
    const float keep = *v, h = 2e-3f;
    double sum = 0;

    (void)p;
    for (int i = 0; i < 4; i++) {
        *v = keep + (float)step[i] * h;
        sum += weight[i] * mean_loss(t);
    }
    *v = keep;
    return sum / (12 * (double)h);
}

/* DoRA's norm counts as a constant to the
 * gradient and is left out; test_golden_lora.c has it. */
static void gradients_over_nf4_match_central_differences(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        struct trained t;

        if (!strcmp(name, "bias-dora"))
            continue;
        open_trained(folder_of(name), base_of(want), record, WEIGHTS_CODES, &t);
        check_slopes(name, &t, slope);
        close_trained(&t);
    }
}

/* ---- fifty steps */

static void fifty_steps_have_the_losses_of_pytorch(void **state)
{
    const char *name, *kind;
    json_t *adapter, *want;

    (void)state;
    json_object_foreach(expected, name, adapter)
    {
        json_object_foreach(json_object_get(adapter, "training"), kind, want)
        {
            const char *const what = path_of("%s over %s", name, kind);
            const struct told t =
                RUN("out", path_of("base=%s", base_of(adapter)),
                    path_of("adapter={init_from: %s/start-%s}", folder_of(name), kind),
                    strcmp(kind, "nf4") ? "quant=none" : "quant=nf4");

            assert_int_equal(t.steps, 50);
            assert_near(what, worst_of(t.loss, json_object_get(want, "loss"), 50), 1e-4);
            assert_near(what, worst_of(t.grad_norm, json_object_get(want, "grad_norm"), 50), 2e-3);
            check_eval(what, base_of(adapter), "out", "auto", json_object_get(want, "nll"), 1e-4);
        }
    }
}

static const char *const kinds[] = { "save", "tokens-tied", "bias-all", "last" };
enum { KINDS = sizeof kinds / sizeof *kinds };

static void packing_and_accumulation_change_no_step(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        const char *const base = path_of("base=%s", base_of(json_object_get(expected, kinds[i])));
        const char *const from = path_of("adapter={init_from: %s}", folder_of(kinds[i]));
        const struct told one = RUN("one", base, from, "train.steps=2", "train.batch_size=12",
                                    "train.gradient_accumulation=1");
        const struct told many = RUN("many", base, from, "train.steps=2", "train.batch_size=3",
                                     "train.gradient_accumulation=4");
        const struct told packed = RUN("packed", base, from, "train.steps=2", "train.batch_size=12",
                                       "train.gradient_accumulation=1", "data.packing=true");

        for (int k = 0; k < 2; k++) {
            assert_near(kinds[i], fabs(one.loss[k] / many.loss[k] - 1), 2e-6);
            assert_near(kinds[i], fabs(one.grad_norm[k] / many.grad_norm[k] - 1), 2e-5);
            assert_near(kinds[i], fabs(one.loss[k] / packed.loss[k] - 1), 2e-6);
        }
    }
}

/* The graph of `t` anew, its slab of `bytes` at most; 0: as many as it likes. Returns what it
 * takes. */
static size_t plan_anew(struct trained *t, size_t bytes, int *recomputed)
{
    const struct graph_opts opts = { 512, 16, DT_F32, true };
    struct graft_err err = { GRAFT_OK, "" };
    struct plan_report plan;

    graph_free(t->net.g);
    assert_int_equal(graph_new(&opts, &t->net.g, &err), GRAFT_OK);
    t->net.out = model_record(t->base.m, t->adapter, t->net.g, NET_LOSS);
    if (graph_error(t->net.g, &err) || graph_plan(t->net.g, &t->net.out, 1, bytes, &plan, &err) ||
        graph_allocate(t->net.g, NULL, &err))
        fail_msg("%s", err.msg);
    *recomputed = plan.recomputed;
    return plan.slab;
}

static void clear_gradients(struct adapter *a)
{
    for (int i = 0; i < a->param_count; i++)
        memset(a->param[i]->grad, 0, (size_t)elems_of(a->param[i]) * sizeof(float));
}

static void recomputed_blocks_change_no_bit(void **state)
{
    (void)state;
    for (size_t k = 0; k + 1 < KINDS; k++) { /* the last layer alone has no block to save by it */
        struct trained t;
        float *before;
        int64_t n = 0;
        int recomputed;
        size_t bytes;

        open_trained(folder_of(kinds[k]), base_of(json_object_get(expected, kinds[k])), record,
                     WEIGHTS_CODES, &t);
        bytes = plan_anew(&t, 0, &recomputed);
        assert_int_equal(recomputed, 0);
        backward(&t);
        before = malloc((size_t)t.adapter->param_elems * sizeof *before);
        for (int i = 0; i < t.adapter->param_count; n += elems_of(t.adapter->param[i++]))
            memcpy(before + n, t.adapter->param[i]->grad,
                   (size_t)elems_of(t.adapter->param[i]) * sizeof *before);
        clear_gradients(t.adapter);
        plan_anew(&t, bytes - 1, &recomputed);
        assert_true(recomputed > 0);
        backward(&t);
        n = 0;
        for (int i = 0; i < t.adapter->param_count; n += elems_of(t.adapter->param[i++]))
            assert_memory_equal(before + n, t.adapter->param[i]->grad,
                                (size_t)elems_of(t.adapter->param[i]) * sizeof *before);
        free(before);
        close_trained(&t);
    }
}

/* ---- every parameter */

static void every_parameter_trains_into_a_checkpoint(void **state)
{
    static const char *const names[] = { "full llama", "full llama-tied" };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *want = json_object_get(whole, names[i]);
        const struct told t = RUN("out", path_of("base=%s", base_of(want)),
                                  "adapter={method: full}", "quant=auto", "optim.lr=1.0e-3");

        assert_near(names[i], worst_of(t.loss, json_object_get(want, "loss"), 50), 1e-4);
        assert_near(names[i], worst_of(t.grad_norm, json_object_get(want, "grad_norm"), 50), 5e-3);
        assert_false(file_exists("out/adapter_config.json"));
        check_eval(names[i], "out", NULL, "none", json_object_get(want, "nll"), 1e-4);
    }
}

static void probing_comes_before_every_parameter(void **state)
{
    static const char *const names[] = { "lpft llama", "lpft qwen2" };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *want = json_object_get(whole, names[i]);
        const struct told t = RUN("out", path_of("base=%s", base_of(want)),
                                  "adapter={method: lpft, probe_steps: 10, probe_lr: 4.0e-3}",
                                  "quant=auto", "optim.lr=1.0e-3", "train.steps=40");

        assert_near(names[i], worst_of(t.loss, json_object_get(want, "loss"), 40), 1e-4);
        assert_false(file_exists("out/adapter_config.json"));
        check_eval(names[i], "out", NULL, "none", json_object_get(want, "nll"), 1e-4);
        check_eval(names[i], base_of(want), "out/probe", "none",
                   json_object_get(json_object_get(want, "probe"), "nll"), 1e-4);
    }
}

/* An adapter's change is in what the training of every parameter starts from. */
static void every_parameter_starts_from_an_adapter(void **state)
{
    static const char *const names[] = { "save", "save-tied", "bias-only", "tokens-tied" };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *want = json_object_get(expected, names[i]);
        const struct told t =
            RUN("out", path_of("base=%s", base_of(want)),
                path_of("adapter={method: full, init_from: %s}", folder_of(names[i])), "optim.lr=0",
                "train.steps=1");

        assert_int_equal(t.steps, 1);
        check_eval(names[i], "out", NULL, "none", json_object_get(want, "nll"), 2e-5);
    }
}

static void a_quantised_base_is_no_start_for_every_parameter(void **state)
{
    static const char *const sets[][2] = {
        { "base=" GRAFT_GOLDEN "/models/llama", "quant=nf4" },
        { "base=" GRAFT_GOLDEN "/models/blocks.gguf", "quant=auto" },
    };

    (void)state;
    for (int i = 0; i < 4; i++) {
        const char *const set[] = { sets[i / 2][0], sets[i / 2][1],
                                    i % 2 ? "adapter={method: lpft}" : "adapter={method: full}",
                                    NULL };
        struct graft_err err;
        struct told told;

        assert_int_equal(try_run("out", set, &told, &err), GRAFT_EARG);
        assert_non_null(strstr(err.msg, "trains every weight"));
        assert_false(dir_exists("out"));
    }
}

/* ---- what becomes of the files */

/* `undo` of what stands in for the base's values is refused: test_change.c. */
static void merged_checkpoints_give_the_losses_of_base_and_adapter(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        const struct merge_opts opts = {
            .base = base_of(want), .adapter = folder_of(name), .output = name, .dtype = QT_F32
        };
        struct merge_report report;
        struct graft_err err;

        if (merge_run(&opts, &report, &err))
            fail_msg("%s", err.msg);
        check_eval(name, name, NULL, "none", json_object_get(want, "nll"), 2e-5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_gives_its_losses),
        cmocka_unit_test(gradients_are_those_of_pytorch),
        cmocka_unit_test(gradients_over_nf4_match_central_differences),
#define RUNS(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        RUNS(fifty_steps_have_the_losses_of_pytorch),
        RUNS(packing_and_accumulation_change_no_step),
        cmocka_unit_test(recomputed_blocks_change_no_bit),
        RUNS(every_parameter_trains_into_a_checkpoint),
        RUNS(probing_comes_before_every_parameter),
        RUNS(every_parameter_starts_from_an_adapter),
        RUNS(a_quantised_base_is_no_start_for_every_parameter),
        RUNS(merged_checkpoints_give_the_losses_of_base_and_adapter),
    };

    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
