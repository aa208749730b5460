/* Adapters of all methods that come and go over one base: mixed batches, switches, memory. */
#include "tests/api/api_testing.h"

static struct graft_train_opts trains(const char *method, const char *output)
{
    static char adapter[256];
    static const char *set[4];
    struct graft_train_opts opts = GRAFT_TRAIN_DEFAULTS;
    static char base[600], data[600];

    snprintf(base, sizeof base, "base=%s", in_dir("base"));
    snprintf(data, sizeof data, "data={train: %s}", in_dir("records.jsonl"));
    snprintf(adapter, sizeof adapter, "adapter=%s", method);
    set[0] = base;
    set[1] = data;
    set[2] = adapter;
    set[3] = "train={steps: 2, batch_size: 2}";
    opts.set = set;
    opts.set_count = 4;
    opts.output = output;
    opts.force = true;
    return opts;
}

/* A config for each method there may be; those that this version lacks are left out by its own
 * words. */
static const struct {
    const char *name, *config;
} methods[] = {
    { "lora", "{method: lora, r: 4, target_modules: all-linear}" },
    { "dora", "{method: dora, r: 4, target_modules: [q_proj, up_proj]}" },
    { "rosa", "{method: rosa, r: 2, d: 0.05, schedule: df, target_modules: all-linear}" },
    { "spa", "{method: spa, d: 0.05, target_modules: all-linear}" },
    { "ia3", "{method: ia3}" },
    { "prompt", "{method: prompt, num_virtual_tokens: 3}" },
    { "ptuning", "{method: ptuning, num_virtual_tokens: 3, encoder_hidden_size: 8}" },
    { "prefix", "{method: prefix, num_virtual_tokens: 3}" },
    { "houlsby", "{method: houlsby, reduction_factor: 4}" },
    { "pfeiffer", "{method: pfeiffer, reduction_factor: 4}" },
    { "parallel", "{method: parallel, reduction_factor: 4}" },
    { "layernorm", "{method: layernorm}" },
    { "head", "{method: head}" },
    { "last_layers", "{method: last_layers, modules_to_save: [model.norm]}" },
};
enum { METHODS = sizeof methods / sizeof *methods };

/* Does this version know the method? Other complaints, of keys it needs, do not count. */
static bool is_supported(const char *name)
{
    char config[64];
    struct graft_train_opts opts;

    snprintf(config, sizeof config, "{method: %s}", name);
    opts = trains(config, in_dir("none"));
    opts.plan_only = true;
    err.msg[0] = '\0';
    graft_train(in_dir("train.yaml"), &opts, NULL, &err);
    return !strstr(err.msg, "not supported in this version");
}

/* One adapter of every method, trained a little; returns how many there are. */
static int load_all(struct graft_model *m, const struct graft_adapter **out)
{
    int n = 0;

    for (int i = 0; i < METHODS; i++) {
        struct graft_train_opts opts;

        if (!is_supported(methods[i].name))
            continue;
        opts = trains(methods[i].config, in_dir(methods[i].name));
        ok(graft_train(in_dir("train.yaml"), &opts, NULL, &err));
        out[n++] = load(m, methods[i].name);
    }
    assert_true(n > 0);
    return n;
}

/* Prompts of all of them and of the base, mixed in one call, are answered as each alone. */
static void a_batch_mixes_all_methods(void **state)
{
    enum { MOST = 3 * (METHODS + 1) };
    struct graft_model *m = open_base("nf4");
    const struct graft_adapter *who[METHODS + 1] = { NULL };
    const int n = 1 + load_all(m, who + 1), count = 3 * n;
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_request q[MOST] = { 0 };
    struct graft_answer *batch[MOST], *alone;
    static char text[MOST][32];

    (void)state;
    opts.max_new = 8;
    for (int i = 0; i < count; i++) {
        snprintf(text[i], sizeof text[i], "the cat %d sat", i * i);
        q[i] = (struct graft_request){ .adapter = who[i * 5 % n], .text = text[i] };
    }
    ok(graft_generate_batch(m, q, count, &opts, batch, &err));
    for (int i = 0; i < count; i++) {
        ok(graft_generate_batch(m, &q[i], 1, &opts, &alone, &err));
        assert_true(same(batch[i], alone));
        graft_answer_free(batch[i]);
        graft_answer_free(alone);
    }
    graft_model_free(m);
}

static void ten_thousand_switches_change_nothing(void **state)
{
    struct graft_model *m = open_base("nf4");
    const struct graft_adapter *who[METHODS + 3] = { NULL, load(m, "one"), load(m, "two") };
    struct graft_answer *want[METHODS + 3], *a;
    const int n = 3 + load_all(m, who + 3);
    size_t before = 0;

    (void)state;
    for (int i = 0; i < n; i++)
        want[i] = ask(m, who[i], 2);
    for (int i = 0; i < 10000; i++) {
        if (i == 100) /* the allocator's own caches are full */
            before = heap();
        a = ask(m, who[i % n], 2);
        assert_true(same(a, want[i % n]));
        graft_answer_free(a);
    }
    steady(before);
    for (int i = 0; i < n; i++)
        graft_answer_free(want[i]);
    graft_model_free(m);
}

/* Load, ask and unload adapters of every method in turn, and give the memory back each time. A
 * thread library may change its mind about its own once or twice; what leaks does so in every
 * round. */
static void an_adapter_that_goes_gives_its_memory_back(void **state)
{
    enum { ROUND = 100, ROUNDS = 3 };
    struct graft_model *m = open_base("nf4");
    const struct graft_adapter *all[METHODS] = { NULL };
    struct graft_adapter *stays = load(m, "one"), *goes;
    struct graft_answer *want = ask(m, stays, 8), *first[METHODS + 1] = { NULL }, *a;
    const char *name[METHODS + 1] = { "two" };
    struct graft_adapter_info info;
    const int n = 1 + load_all(m, all);
    size_t before = 0;
    int rounds = 0;

    (void)state;
    for (int i = 1; i < n; i++) { /* they come again below */
        graft_adapter_describe(all[i - 1], &info);
        for (int k = 0; k < METHODS; k++)
            if (!strcmp(methods[k].name, info.name))
                name[i] = methods[k].name;
        graft_adapter_free(graft_adapter_find(m, name[i]));
    }
    for (int i = 0; i < ROUND * (ROUNDS + 1) && !rounds; i++) {
        if (i && i % ROUND == 0) {
            if (i > ROUND && !grew(before))
                rounds = i / ROUND;
            before = heap();
        }
        goes = load(m, name[i % n]);
        a = ask(m, goes, 8);
        if (first[i % n])
            assert_true(same(a, first[i % n]));
        graft_answer_free(first[i % n]);
        first[i % n] = a;
        graft_adapter_free(goes);
    }
    if (!rounds)
        steady(before);
    a = ask(m, stays, 8);
    assert_true(same(a, want));
    graft_answer_free(a);
    graft_answer_free(want);
    for (int i = 0; i < n; i++)
        graft_answer_free(first[i]);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_mixes_all_methods),
        cmocka_unit_test(ten_thousand_switches_change_nothing),
        cmocka_unit_test(an_adapter_that_goes_gives_its_memory_back),
        cmocka_unit_test(nothing_stays_of_an_adapter_that_does_not_fit),
    };

    return cmocka_run_group_tests_name("swap", tests, make_files, remove_files);
}
