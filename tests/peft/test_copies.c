/* Copies of the base's own tensors over small slots: what trains for which config, under which
 * name, and what it starts as. */
#include "peft/peft_testing.h"

#include "peft/change.h"

enum { WIDTH = 8, VOCAB = 11, EMBED = 0, NORM0, Q0, K0, NORM1, Q1, K1, NORM, HEAD, SLOTS };
static const char *const names[SLOTS] = {
    "model.embed_tokens",
    "model.layers.0.input_layernorm",
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj",
    "model.layers.1.input_layernorm",
    "model.layers.1.self_attn.q_proj",
    "model.layers.1.self_attn.k_proj",
    "model.norm",
    "lm_head",
};
static struct slot slot[SLOTS];
static struct slot_list slots = {
    .slot = slot, .count = SLOTS, .layers = 2, .model_type = "llama"
};
static struct qmat weight[SLOTS];
static float values[SLOTS][VOCAB * WIDTH], bias[SLOTS][WIDTH];

/* q has a bias in each layer; the head is the embedding. */
static int make_slots(void **state)
{
    const struct rng_key key = { 3, RNG_TEST, 0, 0 };

    (void)state;
    for (int i = 0; i < SLOTS; i++) {
        const int from = i == HEAD ? EMBED : i;
        const bool norm = strstr(names[i], "norm") != NULL, wide = i == EMBED || i == HEAD;
        const bool has_bias = strstr(names[i], "q_proj") != NULL;
        const int64_t out = wide ? VOCAB : WIDTH;

        for (int64_t k = 0; k < VOCAB * WIDTH; k++)
            values[i][k] = rng_normal(key, (uint64_t)(1000 * from + k));
        for (int64_t k = 0; k < WIDTH; k++)
            bias[i][k] = rng_normal(key, (uint64_t)(90000 + 1000 * i + k));
        weight[i] = (struct qmat){ .type = QT_F32, .rows = out, .cols = WIDTH, .data = values[i] };
        slot[i] = (struct slot){ .name = names[i],
                                 .site = i == EMBED ? SITE_EMBED
                                         : norm     ? SITE_NORM
                                                    : SITE_LINEAR,
                                 .index = i,
                                 .layer = strstr(names[i], "layers.") ? names[i][13] - '0' : -1,
                                 .in = norm ? 1 : WIDTH,
                                 .out = out,
                                 .is_head = i == HEAD,
                                 .has_bias = has_bias,
                                 .w = norm ? NULL : &weight[i],
                                 .vector = norm ? values[i] : NULL,
                                 .bias = has_bias ? bias[i] : NULL };
    }
    slots.tied = true;
    return 0;
}

static struct adapter *place(const char *keys)
{
    struct adapter_config c = read_peft("", keys);
    struct adapter *a = NULL;

    if (adapter_new(&c, &slots, true, &a, &err) || adapter_init(a, 1, &err))
        fail_msg("%s: %s", keys, err.msg);
    return a;
}

/* `wanted`: what trains, in order, without "base_model.model.", a line each. */
static void trains(const char *keys, const char *wanted)
{
    struct adapter *a = place(keys);
    struct strbuf s = STRBUF_INIT;

    for (int i = 0; i < a->param_count; i++)
        strbuf_printf(&s, "%s\n", a->param[i]->name + strlen("base_model.model."));
    if (strcmp(strbuf_str(&s), wanted) != 0)
        fail_msg("%s trains\n%swanted\n%s", keys, strbuf_str(&s), wanted);
    strbuf_release(&s);
    adapter_free(a);
}

static void refuses(const char *keys, const char *message)
{
    const struct adapter_config c = read_peft("", keys);
    struct adapter *a = NULL;

    assert_int_equal(adapter_new(&c, &slots, true, &a, &err), GRAFT_EARG);
    assert_null(a);
    if (!strstr(err.msg, message))
        fail_msg("%s", err.msg);
}

#define LORA "'peft_type': 'LORA', 'target_modules': ['0.self_attn.k_proj']"
#define AB                                                                                         \
    "model.layers.0.self_attn.k_proj.lora_A.weight\n"                                              \
    "model.layers.0.self_attn.k_proj.lora_B.weight\n"

static void saved_modules_are_those_whose_path_ends_so(void **state)
{
    (void)state;
    trains(LORA ", 'modules_to_save': ['lm_head', 'model.norm']",
           AB "model.norm.weight\nlm_head.weight\n");
    /* with no look at dots, as in PEFT, and all that is in a module */
    trains(LORA ", 'modules_to_save': ['layernorm']",
           AB "model.layers.0.input_layernorm.weight\nmodel.layers.1.input_layernorm.weight\n");
    trains(LORA ", 'modules_to_save': ['1.self_attn']",
           AB "model.layers.1.self_attn.q_proj.weight\nmodel.layers.1.self_attn.q_proj.bias\n"
              "model.layers.1.self_attn.k_proj.weight\n");
    /* what is saved has no adapter */
    trains("'peft_type': 'LORA', 'target_modules': ['k_proj'], 'modules_to_save': "
           "['1.self_attn.k_proj']",
           AB "model.layers.1.self_attn.k_proj.weight\n");
    /* one of a tied pair parts from the other; or both stay one, under both names */
    trains(LORA ", 'modules_to_save': ['embed_tokens']", AB "model.embed_tokens.weight\n");
    trains(LORA ", 'modules_to_save': ['lm_head'], 'ensure_weight_tying': true",
           AB "model.embed_tokens.weight\n");
    refuses(LORA ", 'modules_to_save': ['nothing']", "'nothing' ends the name of no module");
}

static void biases_have_the_names_of_pefts_wrapper(void **state)
{
#define Q_AND(bias)                                                                                \
    "'peft_type': 'LORA', 'target_modules': ['1.self_attn.q_proj'], 'bias': '" bias "'"
#define Q_AB                                                                                       \
    "model.layers.1.self_attn.q_proj.lora_A.weight\n"                                              \
    "model.layers.1.self_attn.q_proj.lora_B.weight\n"
    (void)state;
    trains(Q_AND("none"), Q_AB);
    trains(Q_AND("lora_only"), Q_AB "model.layers.1.self_attn.q_proj.base_layer.bias\n");
    trains(Q_AND("all"), Q_AB "model.layers.0.self_attn.q_proj.bias\n"
                              "model.layers.1.self_attn.q_proj.base_layer.bias\n");
    trains(LORA ", 'bias': 'lora_only'", AB);
}

static void tokens_of_a_tied_pair_are_one_tensor(void **state)
{
#define ROWS_OF(module) module ".token_adapter.trainable_tokens_delta\n"
    (void)state;
    trains(LORA ", 'trainable_token_indices': [7, 2]", ROWS_OF("model.embed_tokens") AB);
    trains(LORA ", 'trainable_token_indices': {'embed_tokens': [7], 'lm_head': [2, 3]}",
           ROWS_OF("model.embed_tokens") ROWS_OF("lm_head") AB);
    slots.tied = false;
    trains(LORA ", 'trainable_token_indices': {'lm_head': [2]}", ROWS_OF("lm_head") AB);
    slots.tied = true;
    refuses(LORA ", 'trainable_token_indices': [11]",
            "token 11, but model.embed_tokens has rows 0 to 10");
    refuses(LORA ", 'trainable_token_indices': {'q_proj': [1]}",
            "'q_proj' names neither model.embed_tokens nor lm_head");
    refuses(LORA ", 'trainable_token_indices': [1], 'modules_to_save': ['embed_tokens']",
            "trained whole by modules_to_save already");
    refuses(
        "'peft_type': 'LORA', 'target_modules': ['embed_tokens'], 'trainable_token_indices': [1]",
        "model.embed_tokens is among target_modules, too");
}

static void methods_train_their_own_tensors(void **state)
{
    (void)state;
    trains("'peft_type': 'LN_TUNING'", "model.layers.0.input_layernorm.ln_tuning_layers.weight\n"
                                       "model.layers.1.input_layernorm.ln_tuning_layers.weight\n"
                                       "model.norm.ln_tuning_layers.weight\n");
    trains("'peft_type': 'LN_TUNING', 'target_modules': ['norm'], 'modules_to_save': ['lm_head']",
           "model.norm.ln_tuning_layers.weight\nlm_head.weight\n");
    trains("'peft_type': 'BITFIT'",
           "model.layers.0.self_attn.q_proj.bias\nmodel.layers.1.self_attn.q_proj.bias\n");
    trains("'peft_type': 'HEAD'", "lm_head.weight\n");
    trains("'peft_type': 'LAST_LAYERS', 'last_layers': 1",
           "model.layers.1.input_layernorm.weight\nmodel.layers.1.self_attn.q_proj.weight\n"
           "model.layers.1.self_attn.q_proj.bias\nmodel.layers.1.self_attn.k_proj.weight\n");
    refuses("'peft_type': 'LAST_LAYERS', 'last_layers': 3", "found 3, the base has 2");
}

static void every_parameter_is_there_once(void **state)
{
    struct adapter_config c = { .method = "full" };
    struct adapter *a = NULL;

    (void)state;
    assert_int_equal(adapter_new(&c, &slots, true, &a, &err), GRAFT_OK);
    assert_int_equal(a->param_count,
                     10); /* eight tensors and two biases: the head is the embedding */
    adapter_free(a);
    c.untie_head = true;
    assert_int_equal(adapter_new(&c, &slots, true, &a, &err), GRAFT_OK);
    assert_int_equal(a->param_count, 11);
    adapter_free(a);
    weight[Q0].type = QT_NF4;
    assert_int_equal(adapter_new(&c, &slots, true, &a, &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "needs a base of floats; model.layers.0.self_attn.q_proj"));
    weight[Q0].type = QT_F32;
}

static void a_copy_starts_as_the_base(void **state)
{
    struct adapter *a = place("'peft_type': 'LAST_LAYERS', 'modules_to_save': ['lm_head']");

    (void)state;
    for (int i = 0; i < a->param_count; i++) {
        const struct tensor *p = a->param[i];
        const bool is_bias = strstr(p->name, ".bias") != NULL;
        int k = 0;

        while (!strstr(p->name, names[k]))
            k++;
        assert_memory_equal(p->data, is_bias ? bias[k] : values[k],
                            (size_t)(p->dim[0] * (p->ndim > 1 ? p->dim[1] : 1)) * sizeof(float));
    }
    adapter_free(a);
    a = place(LORA ", 'trainable_token_indices': [7, 2]");
    assert_memory_equal(a->param[0]->data, values[EMBED] + 7 * WIDTH, WIDTH * sizeof(float));
    assert_memory_equal((const float *)a->param[0]->data + WIDTH, values[EMBED] + 2 * WIDTH,
                        WIDTH * sizeof(float));
    adapter_free(a);
}

/* What stands in for the base's bias is what LoRA's own adds to, wherever the two are listed. */
static void a_merge_adds_to_the_trained_bias(void **state)
{
    struct adapter *a = place("'peft_type': 'LORA', 'r': 2, 'lora_alpha': 6, 'target_modules': "
                              "['1.self_attn.q_proj'], 'bias': 'lora_only', 'lora_bias': true");
    float *added = a->param[2]->data, *trained = a->param[3]->data, got[WIDTH] = { 0 };

    (void)state;
    for (int i = 0; i < WIDTH; i++) {
        added[i] = (float)i;
        trained[i] = 100;
    }
    merged_bias(a, &slot[Q1], got);
    for (int i = 0; i < WIDTH; i++)
        assert_true(got[i] == 100 + 3 * (float)i);
    assert_int_equal(change_can_undo(a, &slot[Q1], &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "bias adapters put their own values in place of the base's"));
    adapter_free(a);
}

static void a_tie_holds_while_both_take_the_same(void **state)
{
    static const struct {
        const char *keys;
        bool keeps;
    } k[] = {
        { LORA, true },
        { LORA ", 'modules_to_save': ['lm_head']", false },
        { LORA ", 'modules_to_save': ['lm_head'], 'ensure_weight_tying': true", true },
        { LORA ", 'trainable_token_indices': [3]", true },
        { LORA ", 'trainable_token_indices': {'embed_tokens': [3], 'lm_head': [4]}", false },
        { "'peft_type': 'HEAD'", false },
        { "'peft_type': 'LN_TUNING'", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        struct adapter *a = place(k[i].keys);

        if (adapter_keeps_tie(a) != k[i].keeps)
            fail_msg("%s", k[i].keys);
        adapter_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_modules_are_those_whose_path_ends_so),
        cmocka_unit_test(biases_have_the_names_of_pefts_wrapper),
        cmocka_unit_test(tokens_of_a_tied_pair_are_one_tensor),
        cmocka_unit_test(methods_train_their_own_tensors),
        cmocka_unit_test(every_parameter_is_there_once),
        cmocka_unit_test(a_copy_starts_as_the_base),
        cmocka_unit_test(a_merge_adds_to_the_trained_bias),
        cmocka_unit_test(a_tie_holds_while_both_take_the_same),
    };

    return cmocka_run_group_tests(tests, make_slots, free_memory);
}
