/* The public interface over the shared library: models, tokens, answers, measuring, training. */
#include "tests/api/api_testing.h"

static void a_model_says_what_it_is(void **state)
{
    struct graft_model *m = open_base("nf4");
    struct graft_model_info info;

    (void)state;
    graft_model_describe(m, &info);
    assert_string_equal(info.architecture, "llama");
    assert_string_equal(info.format, "nf4");
    assert_string_equal(info.compute, "f32");
    assert_int_equal(info.vocab, 324);
    assert_int_equal(info.context, 128);
    assert_int_equal(info.layers, 2);
    assert_int_equal(info.hidden, 32);
    assert_int_equal(info.parameters,
                     324 * 32 + 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 64));
    assert_true(info.has_tokenizer);
    graft_model_free(m);
    graft_model_free(NULL);
}

static void a_base_that_is_not_there_is_refused_by_name(void **state)
{
    struct graft_model_opts opts = GRAFT_MODEL_DEFAULTS;
    struct graft_model *m = (void *)&opts;

    (void)state;
    refused(graft_model_open(in_dir("none"), NULL, &m, &err), GRAFT_EIO, "none");
    opts.quant = "nf5";
    refused(graft_model_open(in_dir("base"), &opts, &m, &err), GRAFT_EARG, "nf5");
    opts.quant = NULL;
    opts.compute = "f64";
    refused(graft_model_open(in_dir("base"), &opts, &m, &err), GRAFT_EARG, "f64");
    assert_ptr_equal(m, &opts); /* untouched */
    assert_int_equal(graft_model_open(in_dir("none"), NULL, &m, NULL), GRAFT_EIO);
}

static void tokens_become_text_again(void **state)
{
    static const char text[] = "the cat \xc3\xa9\xe2\x82\xac sat";
    struct graft_model *m = open_base(NULL);
    int32_t *ids = NULL;
    int64_t count = 0, more = 0;
    char *back = NULL;
    size_t len = 0;

    (void)state;
    ok(graft_tokenize(m, NULL, text, strlen(text), false, &ids, &count, &err));
    ok(graft_detokenize(m, NULL, ids, count, false, &back, &len, &err));
    assert_string_equal(back, text);
    assert_int_equal(len, strlen(text));
    graft_free(ids);
    graft_free(back);
    ok(graft_tokenize(m, NULL, text, strlen(text), true, &ids, &more, &err));
    assert_int_equal(more, count + 1); /* <s> */
    graft_free(ids);
    ok(graft_detokenize(m, NULL, NULL, 0, false, &back, &len, &err));
    assert_string_equal(back, "");
    graft_free(back);
    graft_model_free(m);
}

static void adapters_are_found_by_name(void **state)
{
    struct graft_model *m = open_base(NULL);
    struct graft_adapter *one = load(m, "one"), *b = NULL;
    struct graft_adapter_info info;

    (void)state;
    ok(graft_adapter_load(m, "b", in_dir("two"), &b, &err));
    graft_adapter_describe(b, &info);
    assert_string_equal(info.name, "b");
    assert_string_equal(info.path, in_dir("two"));
    assert_string_equal(info.method, "lora");
    assert_int_equal(info.parameters, 2 * 4 * (32 + 32 + 32 + 16));
    assert_int_equal(info.slots, 4);
    assert_ptr_equal(graft_adapter_find(m, "one"), one);
    assert_ptr_equal(graft_adapter_find(m, "b"), b);
    assert_null(graft_adapter_find(m, "two"));
    refused(graft_adapter_load(m, "b", in_dir("one"), NULL, &err), GRAFT_EARG, "'b'");
    refused(graft_adapter_load(m, "a/b", in_dir("one"), NULL, &err), GRAFT_EARG, "a/b");
    graft_adapter_free(one);
    assert_null(graft_adapter_find(m, "one"));
    ok(graft_adapter_load(m, "one", in_dir("two"), NULL, &err)); /* the name is free again */
    graft_adapter_free(NULL);
    graft_model_free(m);
}

static void an_adapter_changes_the_answer_and_the_base_stays(void **state)
{
    struct graft_model *m = open_base(NULL);
    struct graft_answer *before = ask(m, NULL, 16), *after, *of_one, *of_two;
    struct graft_adapter *one = load(m, "one"), *two = load(m, "two");

    (void)state;
    of_one = ask(m, one, 16);
    of_two = ask(m, two, 16);
    after = ask(m, NULL, 16);
    assert_true(same(before, after));
    assert_false(same(before, of_one));
    assert_false(same(before, of_two));
    assert_false(same(of_one, of_two));
    graft_answer_free(before);
    graft_answer_free(after);
    graft_answer_free(of_one);
    graft_answer_free(of_two);
    graft_model_free(m);
}

static void a_batch_answers_as_each_prompt_alone(void **state)
{
    enum { N = 20 };
    struct graft_model *m = open_base("nf4");
    const struct graft_adapter *who[3] = { NULL, load(m, "one"), load(m, "two") };
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_request q[N] = { 0 };
    struct graft_answer *batch[N], *alone;
    int32_t *ids[N];

    (void)state;
    opts.max_new = 12;
    opts.temperature = 0.8;
    for (int i = 0; i < N; i++) {
        char text[64];

        snprintf(text, sizeof text, "the cat %d sat %d", i, i * i);
        ok(graft_tokenize(m, who[i % 3], text, strlen(text), true, &ids[i], &q[i].count, &err));
        q[i].ids = ids[i];
        q[i].adapter = who[i % 3];
        q[i].seed = (uint64_t)i;
    }
    ok(graft_generate_batch(m, q, N, &opts, batch, &err));
    for (int i = 0; i < N; i++) {
        ok(graft_generate_batch(m, &q[i], 1, &opts, &alone, &err));
        assert_true(same(batch[i], alone));
        graft_answer_free(batch[i]);
        graft_answer_free(alone);
        graft_free(ids[i]);
    }
    graft_model_free(m);
}

struct stream {
    char text[4096];
    size_t len;
    int pieces;
    volatile sig_atomic_t stop;
    int stop_at;
};

static void take(void *user, int64_t index, const char *text, size_t len)
{
    struct stream *s = user;

    assert_int_equal(index, 0);
    memcpy(s->text + s->len, text, len);
    s->len += len;
    s->stop = ++s->pieces == s->stop_at;
}

static void pieces_add_up_to_the_text(void **state)
{
    struct graft_model *m = open_base(NULL);
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_answer *a = NULL;
    struct stream s = { .len = 0 };

    (void)state;
    opts.max_new = 30;
    opts.piece = take;
    opts.user = &s;
    ok(graft_generate(m, load(m, "one"), "the cat", &opts, &a, &err));
    assert_int_equal(s.len, a->text_len);
    assert_memory_equal(s.text, a->text, s.len);
    assert_true(s.pieces > 1);
    graft_answer_free(a);
    graft_model_free(m);
}

static void the_flag_ends_an_answer_where_it_is(void **state)
{
    struct graft_model *m = open_base(NULL);
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_answer *whole = ask(m, NULL, 30), *a = NULL;
    struct stream s = { .stop_at = 3 };

    (void)state;
    opts.max_new = 30;
    opts.piece = take;
    opts.user = &s;
    opts.stop_flag = &s.stop;
    ok(graft_generate(m, NULL, "the cat sat", &opts, &a, &err));
    assert_int_equal(a->stop, GRAFT_STOP_ASKED);
    assert_true(a->count >= 3 && a->count < whole->count);
    assert_memory_equal(a->ids, whole->ids, (size_t)a->count * sizeof *a->ids);
    assert_true(!strncmp(a->text, whole->text, a->text_len));
    graft_answer_free(a);
    opts.piece = NULL;
    s.stop = 1; /* before the first token */
    ok(graft_generate(m, NULL, "the cat sat", &opts, &a, &err));
    assert_int_equal(a->stop, GRAFT_STOP_ASKED);
    assert_int_equal(a->count, 0);
    assert_string_equal(a->text, "");
    graft_answer_free(a);
    graft_answer_free(whole);
    graft_model_free(m);
}

static void a_stop_text_is_not_part_of_the_answer(void **state)
{
    struct graft_model *m = open_base(NULL);
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_answer *whole = ask(m, NULL, 30), *a = NULL;
    char stop[4] = { 0 };
    const char *const list[] = { stop };

    (void)state;
    assert_true(whole->text_len > 8);
    memcpy(stop, whole->text + 5, 3);
    opts.max_new = 30;
    opts.stop = list;
    opts.stops = 1;
    ok(graft_generate(m, NULL, "the cat sat", &opts, &a, &err));
    assert_int_equal(a->stop, GRAFT_STOP_TEXT);
    assert_int_equal(a->text_len, strstr(whole->text, stop) - whole->text);
    graft_answer_free(a);
    graft_answer_free(whole);
    graft_model_free(m);
}

static void wrong_options_are_refused_by_name(void **state)
{
    struct graft_model *m = open_base(NULL), *other = open_base(NULL);
    struct graft_adapter *foreign = load(other, "one");
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_merge_opts merge = GRAFT_MERGE_DEFAULTS;
    struct graft_answer *a = NULL;
    struct graft_request q = { .count = 0 };
    static const char *const empty[] = { "" };
    const int32_t outside = 324;

    (void)state;
    opts.max_new = -1;
    refused(graft_generate(m, NULL, "a", &opts, &a, &err), GRAFT_EARG, "max_new");
    opts.max_new = 1;
    opts.temperature = NAN;
    refused(graft_generate(m, NULL, "a", &opts, &a, &err), GRAFT_EARG, "temperature");
    opts.temperature = 0;
    opts.top_p = 1.5;
    refused(graft_generate(m, NULL, "a", &opts, &a, &err), GRAFT_EARG, "top_p");
    opts.top_p = 1;
    opts.stop = empty;
    opts.stops = 1;
    refused(graft_generate(m, NULL, "a", &opts, &a, &err), GRAFT_EARG, "stop text 1");
    refused(graft_generate(m, foreign, "a", NULL, &a, &err), GRAFT_EARG, "another model");
    refused(graft_generate_batch(m, &q, 1, NULL, &a, &err), GRAFT_EARG, "no tokens");
    q.count = 1;
    q.ids = &outside;
    refused(graft_generate_batch(m, &q, 1, NULL, &a, &err), GRAFT_EARG, "324");
    merge.onto = "it";
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("x"), &merge, &err), GRAFT_EARG,
            "\"it\"");
    assert_null(a);
    graft_model_free(m);
    graft_model_free(other);
}

static void sum_up(void *user, int64_t index, double nll, int64_t tokens)
{
    double *sum = user;

    assert_true(tokens > 0);
    sum[0] += nll;
    sum[1] += (double)tokens;
    sum[2] += (double)index;
}

static void a_file_is_measured_record_by_record(void **state)
{
    struct graft_model *m = open_base(NULL);
    struct graft_eval_opts opts = GRAFT_EVAL_DEFAULTS;
    struct graft_eval_result base, one;
    double sum[3] = { 0 };

    (void)state;
    opts.record = sum_up;
    opts.user = sum;
    ok(graft_eval(m, NULL, in_dir("records.jsonl"), &opts, &base, &err));
    assert_int_equal(base.records, 3);
    assert_int_equal(base.examples, 3);
    assert_int_equal(base.tokens, sum[1]);
    assert_int_equal(sum[2], 0 + 1 + 2);
    assert_true(fabs(base.nll - sum[0]) < 1e-9);
    assert_true(fabs(base.loss - base.nll / (double)base.tokens) < 1e-12);
    ok(graft_eval(m, load(m, "one"), in_dir("records.jsonl"), NULL, &one, &err));
    assert_int_equal(one.tokens, base.tokens);
    assert_true(one.loss != base.loss);
    refused(graft_eval(m, NULL, in_dir("train.yaml"), NULL, &one, &err), GRAFT_EFORMAT,
            "train.yaml:1");
    opts.format = "csv";
    refused(graft_eval(m, NULL, in_dir("records.jsonl"), &opts, &one, &err), GRAFT_EARG, "csv");
    graft_model_free(m);
}

struct progress {
    int starts, steps, evals;
    int64_t trainable;
    double first, last;
    volatile sig_atomic_t stop;
    int stop_at;
};

static void on_start(void *user, const struct graft_run_info *info)
{
    struct progress *p = user;

    p->starts++;
    p->trainable = info->trainable;
    assert_string_equal(info->method, "lora");
    assert_string_equal(info->format, "nf4");
    assert_int_equal(info->train_records, 3);
    assert_true(info->planned_bytes > 0);
}

static void on_step(void *user, const struct graft_step_info *s)
{
    struct progress *p = user;

    assert_int_equal(s->step, ++p->steps);
    if (s->step == 1)
        p->first = s->loss;
    p->last = s->loss;
    p->stop = p->steps == p->stop_at;
}

static void on_eval(void *user, int64_t step, double loss, bool best)
{
    struct progress *p = user;

    (void)best;
    assert_true(step > 0 && isfinite(loss));
    p->evals++;
}

static struct graft_train_opts watched(struct progress *p, const char *output)
{
    struct graft_train_opts opts = GRAFT_TRAIN_DEFAULTS;
    static const char *set[2];
    static char base[600], data[600];

    snprintf(base, sizeof base, "base=%s", in_dir("base"));
    snprintf(data, sizeof data, "data={train: %s, valid: %s}", in_dir("records.jsonl"),
             in_dir("records.jsonl"));
    set[0] = base;
    set[1] = data;
    opts.set = set;
    opts.set_count = 2;
    opts.output = output;
    opts.user = p;
    opts.start = on_start;
    opts.step = on_step;
    opts.eval = on_eval;
    opts.stop_flag = &p->stop;
    return opts;
}

static void a_trained_adapter_can_be_loaded_and_lowers_the_loss(void **state)
{
    struct progress p = { .starts = 0 };
    struct graft_train_opts opts = watched(&p, in_dir("run"));
    struct graft_train_result result;
    struct graft_model_opts how = GRAFT_MODEL_DEFAULTS;
    struct graft_eval_result before, after;
    struct graft_model_info info;
    struct graft_model *m = NULL;
    struct graft_adapter *a = NULL;

    (void)state;
    opts.plan_only = true;
    ok(graft_train(in_dir("train.yaml"), &opts, NULL, &err));
    assert_int_equal(p.starts, 1);
    assert_int_not_equal(access(in_dir("run"), F_OK), 0);
    opts.plan_only = false;
    ok(graft_train(in_dir("train.yaml"), &opts, &result, &err));
    assert_int_equal(p.starts, 2);
    assert_int_equal(p.steps, 4);
    assert_int_equal(p.evals, 2);
    assert_int_equal(result.steps, 4);
    assert_int_equal(result.trainable, p.trainable);
    assert_true(result.loss == p.last && isfinite(result.valid_loss));
    how.for_adapter = in_dir("run"); /* nf4, as it was trained */
    ok(graft_model_open(in_dir("base"), &how, &m, &err));
    graft_model_describe(m, &info);
    assert_string_equal(info.format, "nf4");
    ok(graft_adapter_load(m, "mine", in_dir("run"), &a, &err));
    ok(graft_eval(m, NULL, in_dir("records.jsonl"), NULL, &before, &err));
    ok(graft_eval(m, a, in_dir("records.jsonl"), NULL, &after, &err));
    assert_true(after.loss < before.loss);
    assert_true(fabs(after.loss - result.valid_loss) < 1e-6);
    graft_model_free(m);
    refused(graft_train(in_dir("train.yaml"), &opts, &result, &err), GRAFT_EARG, "run");
}

static void the_flag_ends_a_run_after_saving(void **state)
{
    struct progress p = { .stop_at = 2 };
    struct graft_train_opts opts = watched(&p, in_dir("stopped"));
    struct graft_train_result result = { .steps = -1 };
    struct graft_model *m = open_base("nf4");

    (void)state;
    refused(graft_train(in_dir("train.yaml"), &opts, &result, &err), GRAFT_ESTOPPED, "step 2");
    assert_int_equal(result.steps, 2);
    load(m, "stopped");
    graft_model_free(m);
    refused(graft_train(in_dir("records.jsonl"), &opts, &result, &err), GRAFT_EARG,
            "records.jsonl");
}

static void a_flag_that_is_set_while_things_load_writes_nothing(void **state)
{
    struct progress p = { .stop = 1 };
    struct graft_train_opts opts = watched(&p, in_dir("early"));
    struct graft_train_result result = { .steps = -1 };

    (void)state;
    refused(graft_train(in_dir("train.yaml"), &opts, &result, &err), GRAFT_ESTOPPED,
            "before the first step");
    assert_int_equal(result.steps, 0);
    assert_int_equal(p.starts, 0);
    assert_int_not_equal(access(in_dir("early"), F_OK), 0);
}

static void keep_note(void *user, const char *msg)
{
    snprintf(user, 512, "%s", msg);
}

static void a_note_tells_of_weights_the_adapter_was_not_trained_over(void **state)
{
    struct progress p = { .starts = 0 };
    struct graft_train_opts opts = watched(&p, in_dir("noted"));
    struct graft_model *m = open_base("none");
    char note[512] = "";

    (void)state;
    ok(graft_train(in_dir("train.yaml"), &opts, NULL, &err));
    graft_note_sink(keep_note, note);
    load(m, "noted");
    graft_note_sink(NULL, NULL);
    assert_non_null(strstr(note, "nf4"));
    graft_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_says_what_it_is),
        cmocka_unit_test(a_base_that_is_not_there_is_refused_by_name),
        cmocka_unit_test(tokens_become_text_again),
        cmocka_unit_test(adapters_are_found_by_name),
        cmocka_unit_test(an_adapter_changes_the_answer_and_the_base_stays),
        cmocka_unit_test(a_batch_answers_as_each_prompt_alone),
        cmocka_unit_test(pieces_add_up_to_the_text),
        cmocka_unit_test(the_flag_ends_an_answer_where_it_is),
        cmocka_unit_test(a_stop_text_is_not_part_of_the_answer),
        cmocka_unit_test(wrong_options_are_refused_by_name),
        cmocka_unit_test(a_file_is_measured_record_by_record),
        cmocka_unit_test(a_trained_adapter_can_be_loaded_and_lowers_the_loss),
        cmocka_unit_test(the_flag_ends_a_run_after_saving),
        cmocka_unit_test(a_flag_that_is_set_while_things_load_writes_nothing),
        cmocka_unit_test(a_note_tells_of_weights_the_adapter_was_not_trained_over),
    };

    return cmocka_run_group_tests_name("api", tests, make_files, remove_files);
}
