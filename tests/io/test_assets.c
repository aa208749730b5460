/* Real checkpoints of other programs. Skipped where the folder of assets is absent. */
#include "io_testing.h"

#include "io/gguf.h"
#include "io/safetensors.h"

static const char *assets;

static const char *asset(const char *name)
{
    static char path[1400];

    snprintf(path, sizeof path, "%s/%s", assets, name);
    return path;
}

static struct store open_asset(const char *name)
{
    struct graft_err err = { 0 };
    struct store s;

    if (safetensors_open(asset(name), &s, &err))
        fail_msg("%s", err.msg);
    touch_store(&s);
    return s;
}

static void stories260k_opens_as_a_folder(void **state)
{
    struct graft_err err = { 0 };
    const struct stored_tensor *t;
    struct store s;
    int64_t n = 0;

    (void)state;
    if (safetensors_open_folder(asset("models/stories260K/hf"), &s, &err))
        fail_msg("%s", err.msg);
    for (int64_t i = 0; i < s.count; i++)
        n += qmat_elems(&s.tensor[i].mat);
    assert_int_equal(n, 260032);
    t = store_find(&s, "model.embed_tokens.weight");
    assert_non_null(t);
    assert_int_equal(t->dim[0], 512);
    assert_int_equal(t->dim[1], 64);
    store_release(&s);
}

static void other_models_open(void **state)
{
    struct store s = open_asset("fixtures/gemma_hf_tiny/gemma_hf_checkpoint.safetensors");

    (void)state;
    assert_int_equal(s.tensor[0].mat.type, QT_F16);
    store_release(&s);
    s = open_asset("fixtures/minicpm3_tiny/model.safetensors");
    assert_true(s.count > 0);
    store_release(&s);
    s = open_asset("models/capp-gpt/model.safetensors");
    assert_non_null(store_find(&s, "transformer.wte.weight"));
    store_release(&s);
}

static void quantised_checkpoints_of_other_tools_open(void **state)
{
    struct store s = open_asset("quant/safetensors_reference/bnb_nf4.safetensors");
    const struct stored_tensor *t;

    (void)state;
    t = store_find(&s, "model.layers.0.weight.quant_state.bitsandbytes__nf4");
    assert_non_null(t);
    assert_int_equal(t->mat.type, QT_U8);
    assert_memory_equal(t->mat.data, "{\"shape\": [8, 8]", 16);
    store_release(&s);
    s = open_asset("quant/safetensors_reference/gptq.safetensors");
    assert_int_equal(store_find(&s, "model.layers.0.qweight")->mat.type, QT_I32);
    store_release(&s);
    s = open_asset("quant/safetensors_reference/awq.safetensors");
    assert_int_equal(s.count, 4);
    store_release(&s);
    s = open_asset("quant/safetensors_reference/fp8.safetensors");
    assert_int_equal(store_find(&s, "model.layers.0.weight")->mat.type, QT_F8_E4M3);
    store_release(&s);
}

static void pickles_are_refused_with_the_way_to_convert_them(void **state)
{
    static const char *const folder[] = { "fixtures/tiny_llama_olmo",
                                          "fixtures/tiny_llama_bumblebee" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct graft_err err = { 0 };
        struct store s;

        assert_int_equal(safetensors_open_folder(asset(folder[i]), &s, &err), GRAFT_EFORMAT);
        assert_non_null(strstr(err.msg, "pytorch_model.bin"));
        assert_non_null(strstr(err.msg, "save_pretrained"));
    }
}

static void a_gguf_llama_opens(void **state)
{
    struct graft_err err = { 0 };
    const struct gguf_string *word;
    const struct stored_tensor *t;
    const struct gguf_value *v;
    const char *arch;
    int64_t dim;
    struct gguf g;

    (void)state;
    if (gguf_open(asset("fixtures/llama-2-tiny-random.gguf"), &g, &err))
        fail_msg("%s", err.msg);
    touch_store(&g.store);
    assert_int_equal(gguf_str(&g, "general.architecture", "", &arch, NULL), GRAFT_OK);
    assert_string_equal(arch, "llama");
    assert_int_equal(gguf_int(&g, "llama.embedding_length", 0, &dim, NULL), GRAFT_OK);
    t = store_find(&g.store, "token_embd.weight");
    v = gguf_find(&g, "tokenizer.ggml.tokens");
    assert_non_null(t);
    assert_non_null(v);
    assert_int_equal(t->dim[1], dim);
    assert_int_equal(t->dim[0], v->count);
    assert_int_equal(gguf_strings(&g, v, &word, NULL), GRAFT_OK);
    assert_memory_equal(word[1].s, "<s>", 3);
    gguf_release(&g);
}

/* A tensor of each type in SmolLM2-135M-Instruct.Q4_1.gguf as the gguf package of PyPI decodes it:
 * sum of x[k] (1 + k mod 7) and of x[k]^2 in double. */
static const struct {
    const char *name;
    enum qtype type;
    int64_t rows, cols;
    double sum, squares;
} smol[] = {
    { "token_embd.weight", QT_Q8_0, 49152, 576, -61167.812916279, 520415.715447640 },
    { "blk.0.attn_norm.weight", QT_F32, 1, 576, 5.224832535, 0.918083541 },
    { "blk.0.ffn_down.weight", QT_Q4_1, 576, 1536, 1358.779335022, 33220.119950972 },
};

static void smollm2_decodes_as_the_reference_does(void **state)
{
    const char *path = getenv("GRAFT_SMOLLM2");
    struct graft_err err = { 0 };
    struct gguf g;

    (void)state;
    if (!path) {
        print_message("skipped: GRAFT_SMOLLM2 does not name the .gguf file\n");
        skip();
    }
    if (gguf_open(path, &g, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(g.store.count, 272);
    for (size_t i = 0; i < sizeof smol / sizeof *smol; i++) {
        const struct stored_tensor *t = store_find(&g.store, smol[i].name);
        const int64_t n = smol[i].rows * smol[i].cols;
        float *x = mem_array((size_t)n, sizeof *x);
        double sum = 0, squares = 0;

        assert_non_null(t);
        assert_int_equal(t->mat.type, smol[i].type);
        assert_int_equal(t->mat.rows, smol[i].rows);
        assert_int_equal(t->mat.cols, smol[i].cols);
        qmat_decode(&t->mat, 0, n, x);
        for (int64_t k = 0; k < n; k++) {
            sum += x[k] * (double)(1 + k % 7); /* places count, not only values */
            squares += (double)x[k] * x[k];
        }
        assert_true(sum - smol[i].sum < 1e-4 && smol[i].sum - sum < 1e-4);
        assert_true(squares - smol[i].squares < 1e-4 && smol[i].squares - squares < 1e-4);
        mem_free(x);
    }
    gguf_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories260k_opens_as_a_folder),
        cmocka_unit_test(other_models_open),
        cmocka_unit_test(quantised_checkpoints_of_other_tools_open),
        cmocka_unit_test(pickles_are_refused_with_the_way_to_convert_them),
        cmocka_unit_test(a_gguf_llama_opens),
    };
    const struct CMUnitTest smollm2[] = {
        cmocka_unit_test(smollm2_decodes_as_the_reference_does),
    };
    int failed = 0;

    assets = assets_dir();
    if (!assets && !getenv("GRAFT_SMOLLM2"))
        return 77;
    if (assets)
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + cmocka_run_group_tests(smollm2, NULL, NULL);
}
