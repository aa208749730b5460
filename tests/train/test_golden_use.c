/* Using what PEFT wrote: evaluation, merging, quantising and generating against PEFT. */
#include "train/golden_train.h"

#include "train/generate.h"
#include "train/merge.h"

static json_t *expected;

static int read_golden(void **state)
{
    (void)state;
    expected = read_json(GOLDEN("expected.json"));
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    json_decref(expected);
    return 0;
}

static const char *base_of(const char *adapter)
{
    return strncmp(adapter, "tied", 4) ? GOLDEN("llama") : GOLDEN("llama-tied");
}

static const char *folder_of(const char *adapter)
{
    return path_of("%s/models/adapters/%s", GRAFT_GOLDEN, adapter);
}

static void adapters_of_peft_give_its_losses(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(json_object_get(expected, "adapters"), name, want) check_eval(
        name, base_of(name), folder_of(name), "none", json_object_get(want, "nll"), 1e-5);
}

/* ---- merging */

static enum graft_status merge(const char *name, const char *out, struct graft_err *err)
{
    const struct merge_opts opts = {
        .base = base_of(name), .adapter = folder_of(name), .output = out, .dtype = QT_F32
    };
    struct merge_report report;

    return merge_run(&opts, &report, err);
}

static void merged_checkpoints_give_the_losses_of_base_and_adapter(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(json_object_get(expected, "adapters"), name, want)
    {
        struct graft_err err;

        if (!json_object_get(want, "merged"))
            continue;
        if (merge(name, name, &err))
            fail_msg("%s", err.msg);
        check_eval(name, name, NULL, "none", json_object_get(want, "merged"), 2e-5);
    }
}

static void merged_weights_are_those_of_peft(void **state)
{
    const char *const names[] = { "patterns", "rslora" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct store want =
            open_store(path_of("%s/models/adapters/%s/merged.safetensors", GRAFT_GOLDEN, names[i]));
        struct store got;
        struct graft_err err;

        if (merge(names[i], names[i], &err))
            fail_msg("%s", err.msg);
        got = open_store(path_of("%s/model.safetensors", names[i]));
        for (int64_t k = 0; k < want.count; k++) {
            int64_t n, m;
            const float *x = values_of(&want, want.tensor[k].name, &n);
            const float *y = values_of(&got, want.tensor[k].name, &m);

            assert_int_equal(n, m);
            assert_near(want.tensor[k].name, distance(y, x, n), 1e-7);
        }
        store_release(&got);
        store_release(&want);
    }
}

static void a_bias_without_a_bias_in_the_base_is_not_merged(void **state)
{
    struct graft_err err;

    (void)state;
    assert_int_equal(merge("bias", "out", &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "the base has none there"));
    assert_false(file_exists("out"));
}

/* ---- quantising */

static void a_quantised_container_gives_the_same_bits_as_the_checkpoint(void **state)
{
    const json_t *want = json_object_get(json_object_get(expected, "nf4"), "nll");
    struct quant_config quant;
    struct quantize_report report;
    struct evaluate_result a, b;
    struct graft_err err;

    (void)state;
    if (quant_config_parse("auto", &quant, &err) ||
        quantize_run(GOLDEN("llama"), &quant, "q.h5", false, &report, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(report.format, "nf4");
    check_eval("container", "q.h5", NULL, "auto", want, 1e-5);
    a = golden_eval("q.h5", NULL, "nf4");
    b = golden_eval(GOLDEN("llama"), NULL, "nf4");
    assert_memory_equal(a.per_record, b.per_record, GOLDEN_RECORDS * sizeof(double));
    evaluate_result_release(&a);
    evaluate_result_release(&b);
}

/* ---- generating */

struct asked {
    struct golden_record prompt[4];
    const json_t *want[4][2]; /* base, adapter */
};

static void read_prompts(struct asked *q)
{
    const json_t *all = json_object_get(expected, "generation");

    assert_int_equal(json_array_size(all), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *o = json_array_get(all, i), *ids = json_object_get(o, "prompt");

        q->prompt[i].n = (int64_t)json_array_size(ids);
        for (size_t t = 0; t < json_array_size(ids); t++)
            q->prompt[i].id[t] = (int32_t)json_integer_value(json_array_get(ids, t));
        q->want[i][0] = json_object_get(o, "base");
        q->want[i][1] = json_object_get(o, "lora");
    }
}

struct speaker {
    struct session session;
    struct generator *g;
};

static void open_speaker(const struct generate_opts *opts, struct speaker *s)
{
    const char *const adapter[] = {
        path_of("one=%s", folder_of("lora")),
        path_of("two=%s", folder_of("all")),
    };
    struct quant_config none = { .mode = QUANT_NONE };
    struct graft_err err = { GRAFT_OK, "" };

    if (session_open(GOLDEN("llama"), adapter, 2, &none, &s->session, &err) ||
        generator_new(&s->session.base, s->session.text, &s->session.tasks, opts, &s->g, &err))
        fail_msg("%s", err.msg);
}

static void close_speaker(struct speaker *s)
{
    generator_free(s->g);
    session_release(&s->session);
}

static void answer(struct speaker *s, const struct generate_request *req, int count,
                   struct generate_answer *a)
{
    struct graft_err err = { GRAFT_OK, "" };

    memset(a, 0, (size_t)count * sizeof *a);
    if (generator_run(s->g, req, count, a, NULL, NULL, &err))
        fail_msg("%s", err.msg);
}

static void assert_ids(const struct generate_answer *a, const json_t *want)
{
    assert_int_equal(a->id.count, json_array_size(want));
    for (size_t t = 0; t < json_array_size(want); t++)
        assert_int_equal(a->id.id[t], json_integer_value(json_array_get(want, t)));
}

/* Requests for the base and an adapter alternate. */
static void greedy_answers_are_those_of_peft_with_tasks_mixed(void **state)
{
    const struct generate_opts opts = { .max_new = 24, .top_p = 1, .act = DT_F32 };
    struct generate_request req[8];
    struct generate_answer a[8];
    struct asked q = { 0 };
    struct speaker s;

    (void)state;
    read_prompts(&q);
    open_speaker(&opts, &s);
    for (int i = 0; i < 8; i++)
        req[i] = (struct generate_request){ q.prompt[i / 2].id, q.prompt[i / 2].n,
                                            i % 2 ? 0 : TASK_BASE, 0 };
    answer(&s, req, 8, a);
    for (int i = 0; i < 8; i++) {
        assert_ids(&a[i], q.want[i / 2][i % 2]);
        generate_answer_release(&a[i]);
    }
    close_speaker(&s);
}

static void an_answer_is_the_same_alone_and_in_a_batch(void **state)
{
    const struct generate_opts opts = {
        .max_new = 24, .temperature = 1.0, .top_k = 30, .top_p = 0.95, .act = DT_F32
    };
    struct generate_request req[12];
    struct generate_answer a[12], one;
    struct asked q = { 0 };
    struct speaker s;

    (void)state;
    read_prompts(&q);
    open_speaker(&opts, &s);
    for (int i = 0; i < 12; i++)
        req[i] = (struct generate_request){ q.prompt[i % 4].id, q.prompt[i % 4].n,
                                            i % 3 == 2 ? TASK_BASE : i % 3, (uint64_t)i };
    answer(&s, req, 12, a);
    for (int i = 11; i >= 0; i--) {
        answer(&s, &req[i], 1, &one);
        assert_int_equal(one.id.count, a[i].id.count);
        assert_memory_equal(one.id.id, a[i].id.id, (size_t)one.id.count * sizeof *one.id.id);
        generate_answer_release(&one);
        generate_answer_release(&a[i]);
    }
    close_speaker(&s);
}

/* Token by token over the cache, and the whole text again for every token. */
static void the_cache_gives_the_tokens_of_full_passes(void **state)
{
    const struct generate_opts opts = { .max_new = 24, .top_p = 1, .act = DT_F32 };
    struct generate_answer a;
    struct asked q = { 0 };
    struct speaker s;

    (void)state;
    read_prompts(&q);
    open_speaker(&opts, &s);
    for (int i = 0; i < 4; i++) {
        const struct generate_request req = { q.prompt[i].id, q.prompt[i].n, 1, 0 };
        struct tiny_net n = tiny_net(s.session.base.model, s.session.tasks.task[1].adapter,
                                     NET_LOGITS, DT_F32, false);
        struct golden_record r = q.prompt[i];
        struct flat f;

        answer(&s, &req, 1, &a);
        for (int64_t t = 0; t < a.id.count; t++) {
            const float *logit;
            int32_t best = 0;

            flatten(&r, 1, &f);
            for (int64_t k = 0; k < f.n; k++)
                f.pos[k] = (int32_t)k;
            struct graph_input in = flat_input(&f);
            in.target = NULL;
            in.nll = NULL;
            graph_forward(n.g, &in);
            logit = n.out->data;
            for (int32_t v = 1; v < GOLDEN_VOCAB; v++)
                best = logit[v] > logit[best] ? v : best;
            assert_int_equal(a.id.id[t], best);
            r.id[r.n++] = best;
        }
        graph_free(n.g);
        generate_answer_release(&a);
    }
    close_speaker(&s);
}

/* Each record names its own task; the sums are those of each alone. */
static void evaluation_takes_tasks_record_by_record(void **state)
{
    static const char text[] = "{\"input_ids\": [5, 9, 7, 30, 8], \"task\": null}\n"
                               "{\"input_ids\": [5, 9, 7, 30, 8], \"task\": \"all\"}\n"
                               "{\"input_ids\": [5, 9, 7, 30, 8], \"task\": \"lora\"}\n"
                               "{\"input_ids\": [5, 9, 7, 30, 8], \"task\": \"all\"}\n";
    const char *const adapter[] = { folder_of("lora"), folder_of("all") };
    struct evaluate_opts opts = { .base = GOLDEN("llama"),
                                  .adapter = adapter,
                                  .adapters = 2,
                                  .data = "d.jsonl",
                                  .format = RECORD_TOKENS,
                                  .quant = { .mode = QUANT_NONE } };
    struct evaluate_result r;
    struct graft_err err;

    (void)state;
    assert_int_equal(file_write("d.jsonl", text, sizeof text - 1, NULL), GRAFT_OK);
    if (evaluate_run(&opts, &r, &err))
        fail_msg("%s", err.msg);
    assert_true(r.per_record[1] == r.per_record[3]);
    assert_true(r.per_record[0] != r.per_record[1] && r.per_record[0] != r.per_record[2] &&
                r.per_record[1] != r.per_record[2]);
    evaluate_result_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        cmocka_unit_test(adapters_of_peft_give_its_losses),
        IN_FOLDER(merged_checkpoints_give_the_losses_of_base_and_adapter),
        IN_FOLDER(merged_weights_are_those_of_peft),
        IN_FOLDER(a_bias_without_a_bias_in_the_base_is_not_merged),
        IN_FOLDER(a_quantised_container_gives_the_same_bits_as_the_checkpoint),
        cmocka_unit_test(greedy_answers_are_those_of_peft_with_tasks_mixed),
        cmocka_unit_test(an_answer_is_the_same_alone_and_in_a_batch),
        cmocka_unit_test(the_cache_gives_the_tokens_of_full_passes),
        IN_FOLDER(evaluation_takes_tasks_record_by_record),
    };

    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
