/* DoRA, IA3 and LoRA at embeddings against PEFT: what it wrote, its gradients, its fifty steps, and
 * what it merges to. */
#include "train/golden_adapter.h"

#include "train/merge.h"
#include "train/session.h"

static json_t *expected;
static struct golden_record record[GOLDEN_RECORDS];

static const char *folder_of(const char *adapter)
{
    return path_of("%s/lora/%s", GRAFT_GOLDEN, adapter);
}

static int read_golden(void **state)
{
    (void)state;
    expected = read_json(path_of("%s/lora/expected.json", GRAFT_GOLDEN));
    read_records(record);
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    json_decref(expected);
    return 0;
}

static const char *base_of(const json_t *want)
{
    return GOLDEN(json_string_value(json_object_get(want, "base")));
}

static void what_peft_wrote_gives_its_losses_and_logits(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    assert_true(json_object_size(expected) >= 8);
    json_object_foreach(expected, name, want) check_eval(
        name, base_of(want), folder_of(name), "none", json_object_get(want, "nll"), 1e-5);
}

static void gradients_are_those_of_peft(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        struct trained t;

        open_trained(folder_of(name), base_of(want), record, WEIGHTS_FLOATS, &t);
        check_gradients(folder_of(name), &t, json_number_value(json_object_get(want, "loss")),
                        1e-5);
        close_trained(&t);
    }
}

/* ---- end to end by differences, over NF4 */

/* DoRA's gradient takes the norm for a constant: so the magnitudes follow it while A and B move. */
static void hold_factors(struct adapter *a, const float *before, float *after)
{
    struct graft_err err;

    for (int i = 0; i < a->site_count; i++) {
        struct adapter_site *s = &a->site[i];
        struct tensor *m = s->param[3];
        float square[128], *v;
        const int64_t n = m ? m->dim[0] : 0;

        if (!m)
            continue;
        assert_int_equal(slot_squares(s->slot, square, &err), GRAFT_OK);
        assert_int_equal(slot_changed_norms(s->slot, s->r, s->scale, s->param[0]->data,
                                            s->param[1]->data, square, after, &err),
                         GRAFT_OK);
        v = m->data;
        for (int64_t k = 0; before && k < n; k++)
            v[k] *= after[k] / before[k];
        after += n;
        before = before ? before + n : NULL;
    }
}

/* Four points: the loss curves too much for two. */
static double slope(struct trained *t, const struct tensor *p, float *v)
{
    static const double step[] = { 1, -1, 2, -2 }, weight[] = { 8, -8, -1, 1 };
    const float keep = *v, h = 1e-3f;
    const bool is_magnitude = p->ndim == 1;
    float start[1024], now[1024];
    double sum = 0;

    hold_factors(t->adapter, NULL, start);
    for (int i = 0; i < 4; i++) {
        *v = keep + (float)step[i] * h;
        if (!is_magnitude)
            hold_factors(t->adapter, start, now);
        sum += weight[i] * mean_loss(t);
        *v = keep;
        if (!is_magnitude) /* back again */
            hold_factors(t->adapter, now, start);
    }
    return sum / (12 * (double)h);
}

static void gradients_over_nf4_match_central_differences(void **state)
{
    const char *const names[] = { "dora", "dora-embed", "ia3-bias", "embed" };

    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct trained t;

        open_trained(folder_of(names[k]), base_of(json_object_get(expected, names[k])), record,
                     WEIGHTS_CODES, &t);
        check_slopes(names[k], &t, slope);
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
            assert_near(what, worst_of(t.loss, json_object_get(want, "loss"), 50), 5e-5);
            assert_near(what, worst_of(t.grad_norm, json_object_get(want, "grad_norm"), 50), 1e-3);
            check_eval(what, base_of(adapter), "out", "auto", json_object_get(want, "nll"), 5e-5);
        }
    }
}

/* ---- merging */

/* Where PEFT merges into a tied embedding it changes the head too: there the adapter's own losses
 * are what merging must keep. */
static void merged_checkpoints_give_the_losses_of_base_and_adapter(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        const json_t *merged = json_object_get(want, "merged");
        const struct merge_opts opts = {
            .base = base_of(want), .adapter = folder_of(name), .output = name, .dtype = QT_F32
        };
        struct merge_report report;
        struct graft_err err;

        if (merge_run(&opts, &report, &err))
            fail_msg("%s", err.msg);
        check_eval(name, name, NULL, "none", merged ? merged : json_object_get(want, "nll"), 2e-5);
    }
}

/* ---- starts taken out of the base */

#define START(kind)                                                                                \
    path_of("adapter={method: lora, r: 4, lora_alpha: 8, target_modules: [q_proj, v_proj, "        \
            "down_proj], init_lora_weights: %s}",                                                  \
            kind)

/* Over floats the base stays, and plain LoRA of twice the rank is saved; over NF4 the base is
 * changed and written. A code that the last bit of a decomposition decides otherwise shows in the
 * losses over NF4. */
static void starts_taken_out_of_the_base_train_as_in_peft(void **state)
{
    json_t *all = read_json(path_of("%s/lora/starts.json", GRAFT_GOLDEN)), *want;
    const char *name;

    (void)state;
    assert_int_equal(json_object_size(all), 4);
    json_object_foreach(all, name, want)
    {
        const bool nf4 = strstr(name, "nf4") != NULL;
        const double bound = nf4 ? 2e-3 : 1e-4;
        const char *kind = path_of("%.5s", name);
        const struct told t =
            RUN("out", START(kind),
                strcmp(kind, "loftq") ? "train.seed=1" : "adapter.loftq_config={loftq_iter: 3}",
                nf4 ? "quant=nf4" : "quant=none");

        assert_near(name, worst_of(t.loss, json_object_get(want, "loss"), 50), bound);
        assert_int_equal(file_exists("out/base.h5"), nf4);
        check_eval(name, nf4 ? "out/base.h5" : GOLDEN("llama"), "out", "auto",
                   json_object_get(want, "nll"), bound);
    }
    json_decref(all);
}

/* As many rounds as it takes are the exact decomposition; patterns and rslora keep the scale when
 * the rank is doubled. */
static void a_saved_start_means_the_same_as_while_it_trained(void **state)
{
    static const char *const set[] = {
        "adapter={method: lora, r: 4, lora_alpha: 3, use_rslora: true, init_lora_weights: olora, "
        "target_modules: all-linear, rank_pattern: {q_proj: 3, '.*1.*v_proj': 5}, "
        "alpha_pattern: {o_proj: 7}}",
        "adapter={method: lora, r: 4, init_lora_weights: pissa_niter_30, rank_pattern: {v_proj: "
        "2}, "
        "alpha_pattern: {q_proj: 3}, lora_dropout: 0.1}",
    };
    static const char *const quant[] = { "quant=none", "quant=nf4" };
    static const char floats[] = "base=" GRAFT_GOLDEN "/models/llama",
                      blocks[] = "base=" GRAFT_GOLDEN "/models/blocks.gguf";

    (void)state;
    for (int i = 0; i < 6; i++) {
        const char *const to = path_of("run%d", i);
        const char *base = i < 4 ? floats : blocks;
        const char *valid = "data.valid=" GRAFT_GOLDEN "/models/data.jsonl";
        const struct told t =
            RUN(to, base, set[i % 2], i < 4 ? quant[i / 2] : "quant=auto", valid, "train.steps=3");
        json_t *result = read_json(path_of("%s/result.json", to));
        struct evaluate_result r = golden_eval(
            i == 2 || i == 3 ? path_of("%s/base.h5", to) : base + strlen("base="), to, "auto");
        const double want = json_number_value(json_object_get(result, "valid_loss"));

        assert_int_equal(t.steps, 3);
        assert_near(to, fabs(r.sum.nll / (double)r.sum.tokens / want - 1), 1e-6);
        evaluate_result_release(&r);
        json_decref(result);
    }
}

static enum graft_status use(const char *base, const char *adapter, struct graft_err *err)
{
    struct quant_config quant;
    struct session s;
    enum graft_status st;

    assert_int_equal(quant_config_parse("auto", &quant, err), GRAFT_OK);
    st = session_open(base, &adapter, 1, &quant, &s, err);
    if (!st)
        session_release(&s);
    return st;
}

static void a_changed_base_and_its_adapter_are_never_parted(void **state)
{
    struct graft_err err;
    struct told told;
    struct merge_report report;
    const struct merge_opts opts = {
        .base = GOLDEN("llama"), .adapter = "a", .output = "merged", .dtype = QT_F32
    };
    const char *const onto_other[] = { "adapter={init_from: a}", "quant=nf4", NULL };
    const char *const over_itself[] = { "base=a/base.h5", "quant=auto", "train.steps=2", NULL };

    (void)state;
    RUN("a", START("pissa"), "quant=nf4", "train.steps=2");
    assert_int_equal(use("a/base.h5", "a", &err), GRAFT_OK);
    assert_int_equal(use(GOLDEN("llama"), "a", &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "adapter a goes with the base that pissa changed for it"));
    assert_non_null(strstr(err.msg, "a/base.h5"));
    assert_int_equal(merge_run(&opts, &report, &err), GRAFT_EARG);
    assert_false(file_exists("merged"));
    assert_int_equal(try_run("b", onto_other, &told, &err), GRAFT_EARG);
    /* neither is an adapter that goes on from it */
    RUN("b", "base=a/base.h5", "adapter={init_from: a}", "quant=auto", "train.steps=2");
    assert_int_equal(use("a/base.h5", "b", &err), GRAFT_OK);
    assert_int_equal(use(GOLDEN("llama"), "b", &err), GRAFT_EARG);
    /* and the run does not write over the base it reads */
    assert_int_equal(try_run("a", over_itself, &told, &err), GRAFT_EARG);
    assert_true(file_exists("a/base.h5"));
}

static void starts_that_cannot_be_taken_are_refused_with_the_reason(void **state)
{
    static const struct {
        const char *set, *quant, *reason;
    } slip[] = {
        { "init_lora_weights: loftq", "quant=none", "wants a base in floats and quant nf4 or fp4" },
        { "init_lora_weights: pissa, r: 33", "quant=none",
          "larger than the weight's smaller side" },
        { "init_lora_weights: pissa, lora_alpha: 0", "quant=none", "lora_alpha above 0" },
        { "init_lora_weights: pissa, target_modules: [embed_tokens]", "quant=none",
          "an embedding has no such start" },
        { "init_lora_weights: olora, target_modules: [q_proj, lm_head]", "quant=nf4",
          "the base's linears are quantised" },
        { "init_lora_weights: orthogonal, r: 3", "quant=none", "wants an even rank" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof slip / sizeof *slip; i++) {
        const char *const set[] = { path_of("adapter={method: lora, %s}", slip[i].set),
                                    slip[i].quant, NULL };
        struct graft_err err;
        struct told told;

        assert_int_equal(try_run("out", set, &told, &err), GRAFT_EARG);
        if (!strstr(err.msg, slip[i].reason))
            fail_msg("%s: %s", slip[i].set, err.msg);
        assert_false(file_exists("out"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_peft_wrote_gives_its_losses_and_logits),
        cmocka_unit_test(gradients_are_those_of_peft),
        cmocka_unit_test(gradients_over_nf4_match_central_differences),
#define RUNS(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        RUNS(fifty_steps_have_the_losses_of_pytorch),
        RUNS(merged_checkpoints_give_the_losses_of_base_and_adapter),
        RUNS(starts_taken_out_of_the_base_train_as_in_peft),
        RUNS(a_saved_start_means_the_same_as_while_it_trained),
        RUNS(a_changed_base_and_its_adapter_are_never_parted),
        RUNS(starts_that_cannot_be_taken_are_refused_with_the_reason),
    };

    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
