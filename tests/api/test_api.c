/* The public interface over the shared library. This file includes graft.h and nothing of the
 * inside; the model comes from the program beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <graft.h>
#include <malloc.h>
#include <math.h>
#include <unistd.h>

static char dir[256];

/* "DIR/name"; sixteen calls may be in use at once. */
static const char *in_dir(const char *name)
{
    static char path[16][512];
    static int next;
    char *p = path[next++ % 16];

    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static int run(const char *command, const char *arg)
{
    char line[1024];

    snprintf(line, sizeof line, "%s '%s'", command, arg);
    return system(line);
}

static int make_files(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(dir, sizeof dir, "%s/graft-api-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(dir) && run(GRAFT_TINY, dir) == 0 ? 0 : -1;
}

static int remove_files(void **state)
{
    (void)state;
    return run("rm -r", dir);
}

static struct graft_err err;

static void ok(enum graft_status st)
{
    if (st)
        fail_msg("%s: %s", graft_status_text(st), err.msg);
}

static void refused(enum graft_status st, enum graft_status want, const char *part)
{
    if (st != want || !strstr(err.msg, part))
        fail_msg("found %d \"%s\", wanted %d and \"%s\" in it", (int)st, st ? err.msg : "", want,
                 part);
}

static struct graft_model *open_base(const char *quant)
{
    struct graft_model_opts opts = GRAFT_MODEL_DEFAULTS;
    struct graft_model *m = NULL;

    opts.quant = quant;
    ok(graft_model_open(in_dir("base"), &opts, &m, &err));
    return m;
}

static struct graft_adapter *load(struct graft_model *m, const char *name)
{
    struct graft_adapter *a = NULL;

    ok(graft_adapter_load(m, NULL, in_dir(name), &a, &err));
    return a;
}

static struct graft_answer *ask(struct graft_model *m, const struct graft_adapter *a, int64_t n)
{
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_answer *answer = NULL;

    opts.max_new = n;
    ok(graft_generate(m, a, "the cat sat", &opts, &answer, &err));
    return answer;
}

static bool same(const struct graft_answer *a, const struct graft_answer *b)
{
    return a->count == b->count && a->stop == b->stop && !strcmp(a->text, b->text) &&
           !memcmp(a->ids, b->ids, (size_t)a->count * sizeof *a->ids);
}

/* Bytes the program has from the allocator now; 0 under a sanitizer's. */
static size_t heap(void)
{
    const struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

/* No more than the allocator's own rounding: an adapter's graph alone is larger. */
static void steady(size_t before)
{
    const size_t now = heap();

    if (now > before + 4096)
        fail_msg("the heap grew from %zu to %zu bytes", before, now);
}

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

static void ten_thousand_switches_change_nothing(void **state)
{
    struct graft_model *m = open_base("nf4");
    const struct graft_adapter *who[3] = { NULL, load(m, "one"), load(m, "two") };
    struct graft_answer *want[3], *a;
    size_t before = 0;

    (void)state;
    for (int i = 0; i < 3; i++)
        want[i] = ask(m, who[i], 2);
    for (int i = 0; i < 10000; i++) {
        if (i == 100) /* the allocator's own caches are full */
            before = heap();
        a = ask(m, who[i % 3], 2);
        assert_true(same(a, want[i % 3]));
        graft_answer_free(a);
    }
    steady(before);
    for (int i = 0; i < 3; i++)
        graft_answer_free(want[i]);
    graft_model_free(m);
}

static void an_adapter_that_goes_gives_its_memory_back(void **state)
{
    struct graft_model *m = open_base("nf4");
    struct graft_adapter *stays = load(m, "one"), *two;
    struct graft_answer *want = ask(m, stays, 8), *of_two = NULL, *a;
    size_t before = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        if (i == 100) /* the allocator's own caches are full */
            before = heap();
        two = load(m, "two");
        a = ask(m, two, 8);
        if (of_two)
            assert_true(same(a, of_two));
        graft_answer_free(of_two);
        of_two = a;
        graft_adapter_free(two);
    }
    steady(before);
    a = ask(m, stays, 8);
    assert_true(same(a, want));
    graft_answer_free(a);
    graft_answer_free(want);
    graft_answer_free(of_two);
    graft_model_free(m);
}

static void nothing_stays_of_an_adapter_that_does_not_fit(void **state)
{
    struct graft_model *m = open_base(NULL);
    struct graft_adapter *a = NULL;
    size_t before = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        if (i == 10)
            before = heap();
        refused(graft_adapter_load(m, NULL, in_dir("misfit"), &a, &err), GRAFT_ESHAPE, "misshapen");
        refused(graft_adapter_load(m, NULL, in_dir("none"), &a, &err), GRAFT_EIO, "none");
    }
    steady(before);
    assert_null(a);
    assert_null(graft_adapter_find(m, "misfit"));
    graft_model_free(m);
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

static void merged_it_answers_as_the_adapter_does(void **state)
{
    struct graft_model *m = open_base(NULL), *merged = NULL, *small = NULL;
    struct graft_answer *want = ask(m, load(m, "one"), 16), *found;
    struct graft_model_info info;

    (void)state;
    ok(graft_merge(in_dir("base"), in_dir("one"), in_dir("merged"), NULL, &err));
    ok(graft_model_open(in_dir("merged"), NULL, &merged, &err));
    found = ask(merged, NULL, 16);
    assert_true(same(want, found));
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("merged"), NULL, &err), GRAFT_EARG,
            "merged");
    ok(graft_quantize(in_dir("merged"), in_dir("merged.h5"), NULL, &err));
    ok(graft_model_open(in_dir("merged.h5"), NULL, &small, &err));
    graft_model_describe(small, &info);
    assert_string_equal(info.format, "nf4");
    assert_true(info.has_tokenizer);
    graft_answer_free(want);
    graft_answer_free(found);
    graft_model_free(m);
    graft_model_free(merged);
    graft_model_free(small);
}

static void combined_adapters_are_one(void **state)
{
    struct graft_combine_opts opts = GRAFT_COMBINE_DEFAULTS;
    const char *const both[] = { in_dir("one"), in_dir("two") };
    const double first[] = { 1, 0 };
    struct graft_model *m = open_base(NULL);
    struct graft_answer *want = ask(m, load(m, "one"), 16), *found;
    struct graft_adapter_info info;
    double lost = -1;

    (void)state;
    ok(graft_combine(both, first, 2, in_dir("both"), NULL, &lost, &err));
    assert_true(lost == 0);
    graft_adapter_describe(load(m, "both"), &info);
    assert_int_equal(info.slots, 4);
    assert_int_equal(info.parameters, 2 * 8 * (32 + 32 + 32 + 16)); /* ranks 4 + 4 */
    found = ask(m, graft_adapter_find(m, "both"), 16);
    assert_true(same(want, found));
    refused(graft_combine(both, NULL, 2, in_dir("both"), NULL, NULL, &err), GRAFT_EARG, "both");
    opts.how = "sum";
    refused(graft_combine(both, NULL, 2, in_dir("x"), &opts, NULL, &err), GRAFT_EARG, "\"sum\"");
    opts.how = "ties";
    refused(graft_combine(both, NULL, 2, in_dir("x"), &opts, NULL, &err), GRAFT_EARG, "density");
    opts.density = 0.5;
    opts.rank = 4;
    opts.force = true;
    ok(graft_combine(both, NULL, 2, in_dir("both"), &opts, &lost, &err));
    assert_true(lost > 0 && lost < 1);
    graft_answer_free(want);
    graft_answer_free(found);
    graft_model_free(m);
}

static void an_audit_finds_a_merge_faithful(void **state)
{
    struct graft_merge_opts opts = GRAFT_MERGE_DEFAULTS;
    struct graft_audit found = { .sides = -1 };
    struct graft_eval_result eval;
    struct graft_model *m = open_base(NULL);

    (void)state;
    opts.audit = in_dir("records.jsonl");
    opts.found = &found;
    ok(graft_merge(in_dir("base"), in_dir("one"), in_dir("audited"), &opts, &err));
    ok(graft_eval(m, load(m, "one"), in_dir("records.jsonl"), NULL, &eval, &err));
    assert_int_equal(found.records, 3);
    assert_int_equal(found.tokens, eval.tokens);
    assert_int_equal(found.sides, 2);
    assert_false(found.side[0].quantized);
    assert_true(found.side[1].quantized);
    assert_true(fabs(found.side[0].perplexity / found.merged_perplexity - 1) < 1e-5);
    /* the loss of a measured file is the logarithm of it; no libm here */
    assert_true(found.side[0].perplexity > 1 + eval.loss);
    assert_true(found.side[0].kl < 1e-9 && found.side[0].same_token == 1);
    assert_true(found.side[1].kl > 1e-5 && found.side[1].kl_max >= found.side[1].kl);
    opts.audit = in_dir("train.yaml");
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("x"), &opts, &err), GRAFT_EFORMAT,
            "train.yaml");
    graft_model_free(m);
}

static void what_was_merged_is_taken_out_again(void **state)
{
    struct graft_model *m = open_base(NULL), *back = NULL;
    struct graft_answer *want = ask(m, NULL, 16), *found;
    struct graft_verified v;

    (void)state;
    ok(graft_merge(in_dir("base"), in_dir("two"), in_dir("with_two"), NULL, &err));
    ok(graft_unmerge(in_dir("with_two"), in_dir("two"), in_dir("without"), NULL, &err));
    ok(graft_model_open(in_dir("without"), NULL, &back, &err));
    found = ask(back, NULL, 16);
    assert_memory_equal(want->ids, found->ids, 16 * sizeof *want->ids);
    graft_answer_free(want);
    graft_answer_free(found);
    ok(graft_verify(in_dir("two"), in_dir("base"), &v, &err));
    assert_int_equal(v.slots, 4);
    assert_int_equal(v.unchanged, 0);
    assert_int_equal(v.parameters, 2 * 4 * (32 + 32 + 32 + 16));
    assert_true(v.norm > 1 && v.norm < 1000);
    refused(graft_verify(in_dir("misfit"), in_dir("base"), &v, &err), GRAFT_ESHAPE, "misshapen");
    graft_model_free(back);
    graft_model_free(m);
}

static void an_adapter_goes_to_llama_cpp(void **state)
{
    struct graft_export_opts opts = GRAFT_EXPORT_DEFAULTS;
    struct graft_merge_opts merge = GRAFT_MERGE_DEFAULTS;
    const char *lost = "nothing yet";

    (void)state;
    ok(graft_export(in_dir("one"), in_dir("base"), in_dir("one.gguf"), NULL, &lost, &err));
    assert_null(lost);
    refused(graft_export(in_dir("one"), in_dir("base"), in_dir("one.gguf"), NULL, NULL, &err),
            GRAFT_EARG, "exists");
    opts.force = true;
    opts.dtype = "q8_0";
    ok(graft_export(in_dir("one"), in_dir("base"), in_dir("one.gguf"), &opts, NULL, &err));
    opts.dtype = "q4_0";
    refused(graft_export(in_dir("one"), in_dir("base"), in_dir("one.gguf"), &opts, NULL, &err),
            GRAFT_EARG, "\"q4_0\"");
    opts.dtype = NULL;
    opts.to = "peft";
    refused(graft_export(in_dir("one"), in_dir("base"), in_dir("x"), &opts, NULL, &err), GRAFT_EARG,
            "PEFT");
    merge.dtype = "q8_0";
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("x"), &merge, &err), GRAFT_EARG,
            "\"q8_0\"");
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("x.gguf"), &merge, &err), GRAFT_EARG,
            "GGUF base");
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
        cmocka_unit_test(ten_thousand_switches_change_nothing),
        cmocka_unit_test(an_adapter_that_goes_gives_its_memory_back),
        cmocka_unit_test(nothing_stays_of_an_adapter_that_does_not_fit),
        cmocka_unit_test(a_file_is_measured_record_by_record),
        cmocka_unit_test(a_trained_adapter_can_be_loaded_and_lowers_the_loss),
        cmocka_unit_test(the_flag_ends_a_run_after_saving),
        cmocka_unit_test(merged_it_answers_as_the_adapter_does),
        cmocka_unit_test(combined_adapters_are_one),
        cmocka_unit_test(an_audit_finds_a_merge_faithful),
        cmocka_unit_test(what_was_merged_is_taken_out_again),
        cmocka_unit_test(an_adapter_goes_to_llama_cpp),
        cmocka_unit_test(a_note_tells_of_weights_the_adapter_was_not_trained_over),
    };

    return cmocka_run_group_tests_name("api", tests, make_files, remove_files);
}
