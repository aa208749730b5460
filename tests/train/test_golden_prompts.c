/* Prompt tuning, P-tuning and prefix tuning against PEFT: losses, gradients of encoders too, twenty
 * steps, greedy tokens. Numbers: golden/make_prompts.py. */
#include "train/golden_train.h"

#include "train/generate.h"

#define PROMPT(name) path_of("%s/prompts/%s", GRAFT_GOLDEN, name)

static json_t *expected;
static struct golden_record record[GOLDEN_RECORDS];

static int read_golden(void **state)
{
    (void)state;
    expected = read_json(PROMPT("expected.json"));
    read_records(record);
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    json_decref(expected);
    return 0;
}

/* The base of a case; a variant of llama's config is put together in the test's folder. */
static const char *base_of(const json_t *want)
{
    const char *name = json_string_value(json_object_get(want, "base"));
    struct graft_err err;

    if (dir_exists(GOLDEN(name)))
        return GOLDEN(name);
    assert_int_equal(dir_make(name, &err), GRAFT_OK);
    copy_file(GOLDEN("llama/model.safetensors"), path_of("%s/model.safetensors", name));
    copy_file(path_of("%s/models/variants/%s.json", GRAFT_GOLDEN, name),
              path_of("%s/config.json", name));
    return path_of("%s", name);
}

static void losses_are_those_of_peft(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    assert_true(json_object_size(expected) >= 8);
    json_object_foreach(expected, name, want)
        check_eval(name, base_of(want), PROMPT(name), "none", json_object_get(want, "nll"), 1e-5);
}

/* All records behind what the adapter puts before them. */
static void flatten_behind(const struct adapter *a, struct flat *f)
{
    f->n = f->targets = 0;
    f->segments = GOLDEN_RECORDS;
    for (int i = 0; i < GOLDEN_RECORDS; i++) {
        f->start[i] = f->n;
        for (int64_t t = -a->virtual_tokens; t < record[i].n; t++, f->n++) {
            const int64_t at = t + a->virtual_tokens;

            f->id[f->n] = t < 0 ? (int32_t)(-1 - at) : record[i].id[t];
            f->target[f->n] = t < 0 ? -1 : record[i].target[t];
            f->pos[f->n] = (int32_t)(a->prefix_tokens + at);
        }
        f->targets += record[i].targets;
    }
    f->start[GOLDEN_RECORDS] = f->n;
}

static void check_gradients(const char *name, struct adapter *a, const json_t *want,
                            const struct model *m)
{
    struct store s = open_store(path_of("%s/prompts/%s/grads.safetensors", GRAFT_GOLDEN, name));
    const struct tiny_net net = tiny_net(m, a, NET_LOSS, DT_F32, true);
    struct flat f;
    double sum = 0;

    flatten_behind(a, &f);
    const struct graph_input in = flat_input(&f);
    graph_forward(net.g, &in);
    for (int64_t i = 0; i < f.n; i++)
        sum += (double)f.nll[i];
    assert_near(
        name, fabs(sum / (double)f.targets / json_number_value(json_object_get(want, "loss")) - 1),
        1e-6);
    graph_backward(net.g, (float)(1.0 / (double)f.targets));
    assert_int_equal(a->param_count, s.count);
    for (int i = 0; i < a->param_count; i++) {
        int64_t n;
        const float *g = values_of(&s, a->param[i]->name, &n);

        assert_near(path_of("%s: %s", name, a->param[i]->name), distance(a->param[i]->grad, g, n),
                    1e-5);
    }
    graph_free(net.g);
    store_release(&s);
}

static void gradients_are_those_of_peft_through_encoders_too(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        struct graft_err err = { GRAFT_OK, "" };
        struct arena mem = ARENA_INIT;
        struct adapter_config c;
        struct adapter *a = NULL;
        struct opened base;

        open_model(base_of(want), WEIGHTS_FLOATS, &base);
        if (adapter_config_read(PROMPT(name), &c, &mem, &err) ||
            adapter_new(&c, &base.m->slots, true, &a, &err) ||
            adapter_load_values(a, PROMPT(name), &err))
            fail_msg("%s", err.msg);
        check_gradients(name, a, want, base.m);
        adapter_free(a);
        close_model(&base);
        arena_release(&mem);
    }
}

/* Trained on, saved, opened again: by eval, and by another run that goes on from the encoder. */
static void twenty_steps_have_the_losses_of_pytorch(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        const char *base = base_of(want),
                   *adapter = path_of("adapter={init_from: %s}", PROMPT(name));
        const struct told t =
            RUN(name, path_of("base=%s", base), adapter, "train.steps=20", "optim.lr=1e-2");
        struct told more;

        assert_near(name, worst_of(t.loss, json_object_get(want, "steps"), 20), 5e-5);
        check_eval(name, base, name, "none", json_object_get(want, "after"), 1e-4);
        more = RUN("more", path_of("base=%s", base), path_of("adapter={init_from: %s}", name),
                   "train.steps=1", "optim.lr=0");
        assert_int_equal(more.steps, 1);
        assert_same_file(path_of("%s/adapter_model.safetensors", name),
                         "more/adapter_model.safetensors");
    }
}

/* ---- generating */

static void put_requests(const json_t *want, int task, struct generate_request *req, int32_t *ids)
{
    for (size_t i = 0; i < 3; i++) {
        const json_t *prompt =
            json_object_get(json_array_get(json_object_get(want, "generation"), i), "prompt");

        req[i] = (struct generate_request){ ids, (int64_t)json_array_size(prompt), task, 0 };
        for (size_t t = 0; t < json_array_size(prompt); t++)
            *ids++ = (int32_t)json_integer_value(json_array_get(prompt, t));
    }
}

static void check_answers(const char *name, const json_t *want, const struct generate_answer *a)
{
    for (size_t i = 0; i < 3; i++) {
        const json_t *ids =
            json_object_get(json_array_get(json_object_get(want, "generation"), i), "ids");

        for (size_t t = 0; t < json_array_size(ids); t++)
            if ((int64_t)t >= a[i].id.count ||
                a[i].id.id[t] != json_integer_value(json_array_get(ids, t)))
                fail_msg("%s: token %d of answer %d differs", name, (int)t, (int)i);
    }
}

static void generate(const char *base, const char *const *adapter, int adapters,
                     const struct generate_request *req, int count, struct generate_answer *a)
{
    const struct generate_opts opts = { .max_new = 16, .top_p = 1, .act = DT_F32 };
    struct quant_config none = { .mode = QUANT_NONE };
    struct graft_err err = { GRAFT_OK, "" };
    struct generator *g = NULL;
    struct session s;

    memset(a, 0, (size_t)count * sizeof *a);
    if (session_open(base, adapter, adapters, &none, &s, &err) ||
        generator_new(&s.base, s.text, &s.tasks, &opts, &g, &err) ||
        generator_run(g, req, count, a, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    generator_free(g);
    session_release(&s);
}

static void greedy_answers_are_those_of_peft(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        const char *const adapter[] = { PROMPT(name) };
        struct generate_request req[3];
        struct generate_answer a[3];
        int32_t ids[64];

        put_requests(want, 0, req, ids);
        generate(base_of(want), adapter, 1, req, 3, a);
        check_answers(name, want, a);
        for (int i = 0; i < 3; i++)
            generate_answer_release(&a[i]);
    }
}

/* Prompt tuning, P-tuning, LoRA and the base over one model, in one call: the same tokens. */
static void methods_are_mixed_over_one_base(void **state)
{
    const char *const adapter[] = { PROMPT("prompt"), PROMPT("ptuning-lstm"),
                                    path_of("lora=%s/models/adapters/lora", GRAFT_GOLDEN) };
    struct generate_request req[9];
    struct generate_answer a[9], lora[3];
    int32_t ids[3][64];

    (void)state;
    put_requests(json_object_get(expected, "prompt"), 0, req, ids[0]);
    put_requests(json_object_get(expected, "ptuning-lstm"), 1, req + 3, ids[1]);
    put_requests(json_object_get(expected, "prompt"), 2, req + 6, ids[2]);
    req[8].task = TASK_BASE;
    generate(GOLDEN("llama"), adapter, 3, req, 9, a);
    check_answers("prompt", json_object_get(expected, "prompt"), a);
    check_answers("ptuning-lstm", json_object_get(expected, "ptuning-lstm"), a + 3);
    for (int i = 0; i < 3; i++) {
        generate(GOLDEN("llama"), adapter, 3, &req[6 + i], 1, &lora[i]);
        assert_int_equal(lora[i].id.count, a[6 + i].id.count);
        assert_memory_equal(lora[i].id.id, a[6 + i].id.id,
                            (size_t)lora[i].id.count * sizeof *lora[i].id.id);
        generate_answer_release(&lora[i]);
    }
    for (int i = 0; i < 9; i++)
        generate_answer_release(&a[i]);
}

/* ---- files */

static enum graft_status load_training(const char *dir, const char *base, struct graft_err *err)
{
    struct arena mem = ARENA_INIT;
    struct adapter_config c;
    struct adapter *a = NULL;
    struct opened o;
    enum graft_status st;

    open_model(base, WEIGHTS_FLOATS, &o);
    st = adapter_config_read(dir, &c, &mem, err);
    if (!st)
        st = adapter_new(&c, &o.m->slots, true, &a, err);
    if (!st)
        st = adapter_load_values(a, dir, err);
    adapter_free(a);
    close_model(&o);
    arena_release(&mem);
    return st;
}

/* As PEFT leaves it. */
static void without_its_encoder_an_adapter_is_used_but_not_trained(void **state)
{
    const json_t *want = json_object_get(expected, "ptuning");
    struct graft_err err = { GRAFT_OK, "" };

    (void)state;
    assert_int_equal(dir_make("bare", &err), GRAFT_OK);
    copy_file(PROMPT("ptuning/adapter_config.json"), "bare/adapter_config.json");
    copy_file(PROMPT("ptuning/adapter_model.safetensors"), "bare/adapter_model.safetensors");
    check_eval("bare", base_of(want), "bare", "none", json_object_get(want, "nll"), 1e-5);
    assert_int_equal(load_training("bare", base_of(want), &err), GRAFT_EIO);
    assert_string_equal(err.msg,
                        "bare: there is no graft_state.safetensors in it, which holds what "
                        "training goes on from; PEFT's own files have only its result");
}

static void tensors_of_another_encoder_are_refused_by_name(void **state)
{
    struct graft_err err = { GRAFT_OK, "" };

    (void)state;
    assert_int_equal(dir_make("odd", &err), GRAFT_OK);
    copy_file(PROMPT("ptuning-lstm/adapter_config.json"), "odd/adapter_config.json");
    copy_file(PROMPT("ptuning-lstm/adapter_model.safetensors"), "odd/adapter_model.safetensors");
    copy_file(PROMPT("ptuning/graft_state.safetensors"), "odd/graft_state.safetensors");
    assert_int_equal(load_training("odd", GOLDEN("llama"), &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "missing: prompt_encoder.lstm_head.weight_ih_l0\n"));
    assert_non_null(strstr(err.msg, "\n  and "));
    /* and a prefix over a base with other keys */
    assert_int_equal(load_training(PROMPT("prefix"), GOLDEN("llama"), &err), GRAFT_EARG);
    assert_string_equal(err.msg, "adapter.token_dim: found 24, the base has 16");
}

/* What PEFT wrote comes out again, key for key; its version is the library's. */
static void the_config_written_is_that_of_peft(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    json_object_foreach(expected, name, want)
    {
        struct graft_err err = { GRAFT_OK, "" };
        struct strbuf s = STRBUF_INIT;
        struct arena mem = ARENA_INIT;
        json_t *peft = read_json(path_of("%s/adapter_config.json", PROMPT(name))), *ours = NULL;
        struct adapter_config c;

        if (adapter_config_read(PROMPT(name), &c, &mem, &err) ||
            adapter_config_write(&c, NULL, 0, &s, &err) ||
            json_read("ours", strbuf_str(&s), s.len, &ours, &err))
            fail_msg("%s", err.msg);
        json_object_set(peft, "peft_version", json_object_get(ours, "peft_version"));
        if (!json_equal(peft, ours))
            fail_msg("%s: %s", name, strbuf_str(&s));
        json_decref(peft);
        json_decref(ours);
        strbuf_release(&s);
        arena_release(&mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        IN_FOLDER(losses_are_those_of_peft),
        IN_FOLDER(gradients_are_those_of_peft_through_encoders_too),
        IN_FOLDER(twenty_steps_have_the_losses_of_pytorch),
        IN_FOLDER(greedy_answers_are_those_of_peft),
        IN_FOLDER(methods_are_mixed_over_one_base),
        IN_FOLDER(without_its_encoder_an_adapter_is_used_but_not_trained),
        IN_FOLDER(tensors_of_another_encoder_are_refused_by_name),
        IN_FOLDER(the_config_written_is_that_of_peft),
    };

    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
