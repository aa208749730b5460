/* Real models and adapters: what they say, or why they are refused. Skipped where the folder of
 * assets is absent. */
#include "train/golden_train.h"

#include "train/generate.h"

static const char *assets;

static const char *asset(const char *name)
{
    return path_of("%s/%s", assets, name);
}

#define STORIES "models/stories260K/hf"

static void open_base(struct session *s)
{
    struct quant_config none = { .mode = QUANT_NONE };
    struct graft_err err = { GRAFT_OK, "" };

    if (session_open(asset(STORIES), NULL, 0, &none, s, &err))
        fail_msg("%s", err.msg);
}

static void stories260k_tells_its_story_to_the_byte(void **state)
{
    const struct generate_opts opts = { .max_new = 200, .top_p = 1, .act = DT_F32 };
    const int32_t bos = 1;
    const struct generate_request req = { &bos, 1, TASK_BASE, 0 };
    struct generate_answer a = { 0 };
    struct strbuf want = STRBUF_INIT;
    struct graft_err err = { GRAFT_OK, "" };
    struct generator *g = NULL;
    struct session s;

    (void)state;
    open_base(&s);
    if (generator_new(&s.base, s.text, &s.tasks, &opts, &g, &err) ||
        generator_run(g, &req, 1, &a, NULL, NULL, &err) ||
        file_read(asset("models/stories260K/expected_greedy_200_steps.txt"), 1 << 20, &want, &err))
        fail_msg("%s", err.msg);
    while (want.len && want.buf[want.len - 1] == '\n')
        want.buf[--want.len] = '\0';
    assert_int_equal(a.id.count, 200);
    assert_string_equal(strbuf_str(&a.text), strbuf_str(&want));
    strbuf_release(&want);
    generate_answer_release(&a);
    generator_free(g);
    session_release(&s);
}

/* The first 6187 tokens in windows of 512; the figure is transformers' in f32. */
static void stories260k_has_the_loss_of_transformers_on_its_stories(void **state)
{
    struct evaluate_opts opts = { .base = asset(STORIES),
                                  .data = "d.jsonl",
                                  .format = RECORD_TOKENS,
                                  .quant = { .mode = QUANT_NONE },
                                  .compute = COMPUTE_F32 };
    struct strbuf text = STRBUF_INIT, lines = STRBUF_INIT;
    struct id_list ids = { 0 };
    struct graft_err err = { GRAFT_OK, "" };
    struct evaluate_result r;
    struct session s;

    (void)state;
    open_base(&s);
    if (file_read(asset("datasets/lm/tinystories_944k.txt"), 1 << 20, &text, &err) ||
        tokenizer_encode(s.text->tokenizer, text.buf, 40000, false, &ids, &err))
        fail_msg("%s", err.msg);
    assert_true(ids.count > 6187);
    for (int64_t i = 0; i < 6187; i++)
        strbuf_printf(&lines, "%s%d%s", i % 512 ? ", " : "{\"input_ids\": [", ids.id[i],
                      i % 512 == 511 || i == 6186 ? "]}\n" : "");
    assert_int_equal(file_write("d.jsonl", lines.buf, lines.len, &err), GRAFT_OK);
    if (evaluate_run(&opts, &r, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(r.sum.tokens, 6174);
    assert_near("loss", fabs(r.sum.nll / 6174 - 1.4187467626861443), 1e-5);
    evaluate_result_release(&r);
    id_list_release(&ids);
    strbuf_release(&text);
    strbuf_release(&lines);
    session_release(&s);
}

/* Over NF4 and back through ten steps: the loss of a real model falls. */
static void stories260k_learns_over_nf4(void **state)
{
    const struct told t =
        RUN("out", path_of("base=%s", asset(STORIES)), "quant=nf4", "train.steps=20",
            "train.batch_size=12", "adapter.target_modules=all-linear");

    (void)state;
    assert_true(t.loss[19] < t.loss[0] - 0.3);
}

/* The reason, with its file where the message begins with one. */
static void adapter_is_refused(const char *dir, enum graft_status code, const char *reason)
{
    const char *const adapter = asset(path_of("adapters/%s", dir));
    struct quant_config none = { .mode = QUANT_NONE };
    struct session s;
    struct graft_err err;
    const enum graft_status st = session_open(asset(STORIES), &adapter, 1, &none, &s, &err);

    if (st != code || !strstr(err.msg, reason))
        fail_msg("%s: %d: %s", dir, st, st ? err.msg : "taken");
}

static void adapters_of_other_makes_are_refused_with_the_reason(void **state)
{
    (void)state;
    adapter_is_refused("lora_bloom560m_r8", GRAFT_EFORMAT, "\"enable_lora\"");
    adapter_is_refused("lora_gpt2_r16_trl_kto", GRAFT_EFORMAT, "fan_in_fan_out: true");
    adapter_is_refused("loralib_roberta_base_mnli", GRAFT_EIO, "adapter_config.json");
    adapter_is_refused("mlx_discollama_llama3", GRAFT_EFORMAT, "an adapter of mlx-lm");
    adapter_is_refused("mlx_lm_test_dpo", GRAFT_EFORMAT, "an adapter of mlx-lm");
    adapter_is_refused("tfew_t03b_ia3", GRAFT_EIO, "adapter_config.json");
    adapter_is_refused("peft_regression/adalora_mlp", GRAFT_EFORMAT,
                       "\"ADALORA\" is not supported");
    adapter_is_refused("peft_regression/adalora_opt-350m", GRAFT_EFORMAT,
                       "\"ADALORA\" is not supported");
    adapter_is_refused("peft_regression/ia3_conv2d", GRAFT_EFORMAT,
                       "matches no module of the base");
    adapter_is_refused("peft_regression/ia3_mlp", GRAFT_EFORMAT, "matches no module of the base");
    adapter_is_refused("peft_regression/lora_conv2d", GRAFT_EFORMAT,
                       "matches no module of the base");
    adapter_is_refused("peft_regression/lora_emb_conv1d", GRAFT_EFORMAT, "fan_in_fan_out: true");
    adapter_is_refused("peft_regression/lora_mlp", GRAFT_EFORMAT, "matches no module of the base");
    adapter_is_refused("peft_regression/lora_opt-350m", GRAFT_EFORMAT, "a pickled adapter");
    adapter_is_refused("peft_regression/lora_opt-125m_bnb_4bit", GRAFT_EFORMAT,
                       "a pickled adapter");
}

static void base_is_refused(const char *name, enum graft_status code, const char *reason)
{
    struct checkpoint ck;
    struct graft_err err;
    const enum graft_status st = checkpoint_open(asset(name), true, &ck, &err);

    if (st != code || !strstr(err.msg, reason))
        fail_msg("%s: %d: %s", name, st, st ? err.msg : "taken");
}

static void bases_that_cannot_be_read_are_refused_with_the_reason(void **state)
{
    (void)state;
    base_is_refused("fixtures/tiny_llama_bumblebee", GRAFT_EFORMAT, "only as a pickle");
    base_is_refused("fixtures/tiny_llama_olmo", GRAFT_EFORMAT, "only as a pickle");
    base_is_refused("fixtures/minicpm3_tiny", GRAFT_EFORMAT, "model_type \"minicpm3\"");
    base_is_refused("fixtures/gemma_hf_tiny", GRAFT_EIO, "config.json");
    base_is_refused("models/capp-gpt", GRAFT_EFORMAT, "model_type \"gpt2\"");
    base_is_refused("models/stories260K/stories260K.bin", GRAFT_EFORMAT, "not a base");
    base_is_refused(STORIES "/model.safetensors", GRAFT_EFORMAT, "name the folder it is in");
}

static void a_llama_of_llama_cpp_opens(void **state)
{
    struct opened o;

    (void)state;
    open_model(asset("fixtures/llama-2-tiny-random.gguf"), WEIGHTS_KEEP, &o);
    assert_string_equal(o.ck.config.model_type, "llama");
    assert_true(o.m->params > 0);
    close_model(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        cmocka_unit_test(stories260k_tells_its_story_to_the_byte),
        IN_FOLDER(stories260k_has_the_loss_of_transformers_on_its_stories),
        IN_FOLDER(stories260k_learns_over_nf4),
        cmocka_unit_test(adapters_of_other_makes_are_refused_with_the_reason),
        cmocka_unit_test(bases_that_cannot_be_read_are_refused_with_the_reason),
        cmocka_unit_test(a_llama_of_llama_cpp_opens),
    };

    assets = getenv("GRAFT_ASSETS");
    if (!assets)
        assets = GRAFT_SOURCE_DIR "/../shared/assets";
    if (access(asset(STORIES "/config.json"), R_OK) != 0) {
        printf("skipped: there is no %s\n", asset(STORIES));
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
