/* LoRA over slots: PEFT's rules of targets, ranks and scales; start values; files; merging. */
#include "peft/peft_testing.h"

#include "io/safetensors.h"

/* Two blocks with two linears each, one more tower, the head. */
static const char *const names[] = {
    "model.embed_tokens",           "model.layers.0.self_attn.q_proj",
    "model.layers.0.mlp.up_proj",   "model.layers.1.self_attn.q_proj",
    "model.layers.1.mlp.up_proj",   "model.layers.11.mlp.up_proj",
    "model.vision.h.1.attn.q_proj", "lm_head",
};
enum { SLOTS = sizeof names / sizeof *names, IN = 24, OUT = 16 };
static struct slot slot[SLOTS];
static struct slot_list slots = { .slot = slot, .count = SLOTS, .model_type = "llama" };

static int make_slots(void **state)
{
    (void)state;
    for (int i = 0; i < SLOTS; i++)
        slot[i] = (struct slot){ .name = names[i],
                                 .site = i ? SITE_LINEAR : SITE_EMBED,
                                 .index = i,
                                 .in = IN,
                                 .out = OUT,
                                 .is_head = i == SLOTS - 1 };
    return 0;
}

/* Of LoRA. */
static struct adapter_config config(const char *keys)
{
    return read_peft("'peft_type': 'LORA', ", keys);
}

static struct adapter *place(const char *keys, bool trainable)
{
    const struct adapter_config c = config(keys);
    struct adapter *a = NULL;

    if (adapter_new(&c, &slots, trainable, &a, &err))
        fail_msg("%s: %s", keys, err.msg);
    return a;
}

/* ---- which modules */

/* `wanted`: a digit for each slot that is to be filled. */
static void targets(const char *keys, const char *wanted)
{
    struct adapter *a = place(keys, false);
    char got[SLOTS + 1] = "";

    for (int i = 0; i < a->site_count; i++)
        got[i] = (char)('0' + a->site[i].slot->index);
    if (strcmp(got, wanted) != 0)
        fail_msg("%s: placed at %s, wanted %s", keys, got, wanted);
    adapter_free(a);
}

static void refuses(const char *keys, const char *message)
{
    const struct adapter_config c = config(keys);
    struct adapter *a = NULL;

    assert_int_equal(adapter_new(&c, &slots, false, &a, &err), GRAFT_EARG);
    assert_null(a);
    if (strncmp(err.msg, message, strlen(message)) != 0)
        fail_msg("%s", err.msg);
}

static void a_list_names_paths_or_their_ends_after_a_dot(void **state)
{
    (void)state;
    targets("'target_modules': ['q_proj']", "136");
    targets("'target_modules': ['self_attn.q_proj']", "13");
    targets("'target_modules': ['model.layers.1.mlp.up_proj', 'h.1.attn.q_proj']", "46");
    targets("'target_modules': ['up_proj', 'lm_head']", "2457");
    /* not the end of a word, no regular expression */
    targets("'target_modules': ['_proj', 'proj', '.*up_proj', 'attn.q_proj']", "6");
    refuses("'target_modules': ['_proj']", "adapter.target_modules matches no module of the base");
}

static void a_string_is_a_regular_expression_for_the_whole_path(void **state)
{
    (void)state;
    targets("'target_modules': '.*q_proj'", "136");
    targets("'target_modules': '.*\\\\.1\\\\..*'", "346");
    targets("'target_modules': 'model.*up_proj|lm_head'", "2457");
    targets("'target_modules': 'lm_head'", "7");
    refuses("'target_modules': 'q_proj'", "adapter.target_modules matches no module of the base");
    refuses("'target_modules': '.*q_pro'", "adapter.target_modules matches no module of the base");
    refuses("'target_modules': '.*(q'", "adapter.target_modules: '.*(q' is not a regular");
}

static void all_linear_leaves_out_head_and_embedding(void **state)
{
    (void)state;
    targets("'target_modules': 'all-linear'", "123456");
    targets("'target_modules': 'ALL-Linear'", "123456");
}

static void without_targets_the_defaults_of_the_architecture_count(void **state)
{
    struct slot_list other = slots;
    const struct adapter_config c = config("'r': 4");
    struct adapter *a = NULL;

    (void)state;
    targets("'r': 4", "136"); /* q_proj, v_proj */
    other.model_type = "unheard";
    assert_int_equal(adapter_new(&c, &other, false, &a, &err), GRAFT_EARG);
    assert_string_equal(
        err.msg, "adapter.target_modules is needed: there are no default targets for unheard");
}

static void excluded_modules_win(void **state)
{
    (void)state;
    targets("'target_modules': 'all-linear', 'exclude_modules': ['up_proj']", "136");
    targets("'target_modules': ['q_proj'], 'exclude_modules': '.*layers.*'", "6");
    targets("'target_modules': '.*', 'exclude_modules': "
            "['model.embed_tokens', 'model.layers.0.self_attn.q_proj', 'lm_head']",
            "23456");
    targets("'target_modules': 'all-linear', 'exclude_modules': 'up_proj'", "123456");
}

static void layers_are_the_first_number_between_dots_or_that_of_a_pattern(void **state)
{
    (void)state;
    targets("'target_modules': ['q_proj', 'up_proj'], 'layers_to_transform': [1]", "346");
    targets("'target_modules': ['q_proj', 'up_proj'], 'layers_to_transform': 0", "12");
    targets("'target_modules': ['q_proj', 'up_proj'], 'layers_to_transform': [1, 11]", "3456");
    targets("'target_modules': ['q_proj', 'up_proj'], 'layers_to_transform': [1], "
            "'layers_pattern': 'layers'",
            "34");
    targets("'target_modules': ['q_proj', 'up_proj'], 'layers_to_transform': [1], "
            "'layers_pattern': ['h']",
            "6");
    targets("'target_modules': ['q_proj', 'up_proj'], 'layers_to_transform': [1], "
            "'layers_pattern': ['h', 'layers']",
            "346");
    /* a whole path is meant, whatever the layers */
    targets("'target_modules': ['model.layers.0.mlp.up_proj', 'q_proj'], "
            "'layers_to_transform': [1]",
            "236");
    /* no layer at all: left out */
    targets("'target_modules': ['up_proj', 'embed_tokens'], 'layers_to_transform': [0]", "2");
}

static void an_embedding_has_no_bias_and_no_vector(void **state)
{
    (void)state;
    targets("'target_modules': ['embed_tokens', 'q_proj']", "0136");
    refuses("'target_modules': ['embed_tokens'], 'lora_bias': true",
            "adapter.lora_bias: true does not go with model.embed_tokens, an embedding");
}

/* ---- ranks and scales */

static void site_is(const struct adapter *a, int index, int64_t r, double scale)
{
    const struct adapter_site *s = adapter_at(a, &slot[index]);

    assert_non_null(s);
    assert_int_equal(s->r, r);
    assert_int_equal(s->param[0]->dim[0], r);
    assert_int_equal(s->param[0]->dim[1], IN);
    assert_int_equal(s->param[1]->dim[0], OUT);
    assert_int_equal(s->param[1]->dim[1], r);
    assert_true(fabs(s->scale - scale) < 1e-6);
}

static void the_first_pattern_that_matches_gives_rank_and_alpha(void **state)
{
    struct adapter *a = place("'target_modules': 'all-linear', 'r': 2, 'lora_alpha': 8, "
                              "'rank_pattern': {'layers\\\\.0\\\\..*': 5, 'q_proj': 3, "
                              "'model.layers.0.self_attn.q_proj': 7}, "
                              "'alpha_pattern': {'q_proj': 21, 'layers.1.self_attn.q_proj': 1, "
                              "'up_pro': 99}",
                              false);

    (void)state;
    site_is(a, 1, 5, 21.0 / 5);
    site_is(a, 2, 5, 8.0 / 5);
    site_is(a, 3, 3, 21.0 / 3);
    site_is(a, 4, 2, 8.0 / 2);
    site_is(a, 6, 3, 21.0 / 3);
    adapter_free(a);
}

static void rslora_divides_by_the_root_of_the_rank(void **state)
{
    struct adapter *a = place("'target_modules': ['q_proj', 'up_proj'], 'r': 4, 'lora_alpha': 6, "
                              "'use_rslora': true, 'rank_pattern': {'up_proj': 9}",
                              false);

    (void)state;
    site_is(a, 1, 4, 6.0 / 2);
    site_is(a, 2, 9, 6.0 / 3);
    adapter_free(a);
}

static void defaults_are_those_of_peft(void **state)
{
    struct adapter *a = place("'target_modules': ['q_proj']", false);

    (void)state;
    site_is(a, 1, 8, 1.0);
    assert_true(a->config.lora_dropout == 0);
    assert_int_equal(a->param_count, 3 * 2);
    assert_int_equal(a->param_elems, 3 * 8 * (IN + OUT));
    adapter_free(a);
}

/* ---- start values */

struct moments {
    double mean, deviation, least, most;
};

static struct moments moments(const struct tensor *t)
{
    const int64_t n = t->dim[0] * (t->ndim > 1 ? t->dim[1] : 1);
    const float *v = t->data;
    struct moments m = { 0, 0, v[0], v[0] };

    for (int64_t i = 0; i < n; i++) {
        m.mean += v[i] / (double)n;
        m.deviation += (double)v[i] * v[i] / (double)n;
        m.least = fmin(m.least, v[i]);
        m.most = fmax(m.most, v[i]);
    }
    m.deviation = sqrt(m.deviation - m.mean * m.mean);
    return m;
}

/* Uniform in [-bound, bound]: deviation bound / sqrt 3. */
static void is_uniform(const struct tensor *t, double bound)
{
    const struct moments m = moments(t);

    assert_true(m.least >= -bound && m.most <= bound);
    assert_true(m.least < -0.98 * bound && m.most > 0.98 * bound);
    assert_true(fabs(m.mean) < 0.08 * bound);
    assert_true(fabs(m.deviation * sqrt(3) / bound - 1) < 0.04);
}

static void is_zero(const struct tensor *t)
{
    const struct moments m = moments(t);

    assert_true(m.least == 0 && m.most == 0);
}

static struct adapter *started(const char *keys, uint64_t seed)
{
    struct adapter *a = place(keys, false);

    assert_int_equal(adapter_init(a, seed, &err), GRAFT_OK);
    return a;
}

#define WIDE "'target_modules': ['q_proj'], 'r': 64"

static void the_usual_start_is_uniform_and_zero(void **state)
{
    struct adapter *a = started(WIDE, 1);

    (void)state;
    is_uniform(a->site[0].param[0], 1 / sqrt(IN));
    is_zero(a->site[0].param[1]);
    adapter_free(a);
}

static void the_gaussian_start_has_deviation_one_over_rank(void **state)
{
    struct adapter *a = started(WIDE ", 'init_lora_weights': 'gaussian'", 1);
    const struct moments m = moments(a->site[0].param[0]);

    (void)state;
    assert_true(fabs(m.mean) * 64 < 0.1);
    assert_true(fabs(m.deviation * 64 - 1) < 0.05);
    assert_true(m.most * 64 > 2.5);
    is_zero(a->site[0].param[1]);
    adapter_free(a);
}

static void the_false_start_is_that_of_two_linears(void **state)
{
    struct adapter *a = started(WIDE ", 'init_lora_weights': false, 'lora_bias': true", 1);

    (void)state;
    is_uniform(a->site[0].param[0], 1 / sqrt(IN));
    is_uniform(a->site[0].param[1], 1 / sqrt(64));
    assert_true(moments(a->site[0].param[2]).deviation > 0);
    adapter_free(a);
}

static void start_values_depend_on_seed_and_slot_alone(void **state)
{
    struct adapter *a = started(WIDE, 1), *b = started(WIDE, 1), *c = started(WIDE, 2);
    struct adapter *d = started("'target_modules': ['self_attn.q_proj', 'up_proj'], 'r': 64", 1);
    const size_t bytes = (size_t)64 * IN * 4;

    (void)state;
    assert_memory_equal(a->param[0]->data, b->param[0]->data, bytes);
    assert_memory_equal(a->param[0]->data, d->param[0]->data, bytes);
    assert_memory_equal(adapter_at(a, &slot[3])->param[0]->data,
                        adapter_at(d, &slot[3])->param[0]->data, bytes);
    assert_memory_not_equal(a->param[0]->data, c->param[0]->data, bytes);
    assert_memory_not_equal(a->site[0].param[0]->data, a->site[1].param[0]->data, bytes);
    adapter_free(a);
    adapter_free(b);
    adapter_free(c);
    adapter_free(d);
}

/* ---- files */

#define FILED                                                                                      \
    "'target_modules': ['q_proj', 'up_proj'], 'r': 2, 'lora_bias': true, "                         \
    "'rank_pattern': {'up_proj': 3}, 'init_lora_weights': false"

static void save(struct adapter *a, const char *dir)
{
    if (dir_make(dir, &err) || adapter_save(a, dir, &err))
        fail_msg("%s", err.msg);
}

static void what_is_saved_comes_back_bit_for_bit(void **state)
{
    struct adapter *a = started(FILED, 3), *b = place(FILED, false);
    struct adapter_config read;
    struct mapped_file x, y;

    (void)state;
    save(a, "a");
    assert_int_equal(adapter_load_values(b, "a", &err), GRAFT_OK);
    for (int i = 0; i < a->param_count; i++)
        assert_memory_equal(
            a->param[i]->data, b->param[i]->data,
            (size_t)(a->param[i]->dim[0] * (a->param[i]->ndim > 1 ? a->param[i]->dim[1] : 1)) * 4);
    save(b, "b");
    assert_int_equal(file_map("a/adapter_model.safetensors", &x, &err), GRAFT_OK);
    assert_int_equal(file_map("b/adapter_model.safetensors", &y, &err), GRAFT_OK);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    file_unmap(&x);
    file_unmap(&y);
    assert_int_equal(adapter_config_read("a", &read, &mem, &err), GRAFT_OK);
    assert_int_equal(read.r, 2);
    assert_int_equal(read.rank_pattern_count, 1);
    adapter_free(a);
    adapter_free(b);
}

static void tensors_have_the_names_shapes_and_order_of_peft(void **state)
{
    static const char *const wanted[] = {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
    };
    struct adapter *a = started(
        "'target_modules': ['model.layers.0.self_attn.q_proj'], 'r': 2, 'lora_bias': true", 1);
    struct store s;

    (void)state;
    save(a, "a");
    assert_int_equal(safetensors_open("a/adapter_model.safetensors", &s, &err), GRAFT_OK);
    assert_int_equal(s.count, 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(s.tensor[i].name, wanted[i]);
        assert_int_equal(s.tensor[i].mat.type, QT_F32);
    }
    assert_true(s.tensor[0].ndim == 2 && s.tensor[0].dim[0] == 2 && s.tensor[0].dim[1] == IN);
    assert_true(s.tensor[1].ndim == 1 && s.tensor[1].dim[0] == OUT);
    assert_true(s.tensor[2].ndim == 2 && s.tensor[2].dim[0] == OUT && s.tensor[2].dim[1] == 2);
    store_release(&s);
    adapter_free(a);
}

static void bf16_files_hold_the_values_rounded(void **state)
{
    struct adapter *a = started(WIDE, 1), *b = place(WIDE, false);
    const float *x, *y;

    (void)state;
    a->config.save_bf16 = true;
    save(a, "a");
    assert_int_equal(adapter_load_values(b, "a", &err), GRAFT_OK);
    x = a->param[0]->data;
    y = b->param[0]->data;
    for (int i = 0; i < 64 * IN; i++)
        assert_true(fabsf(x[i] - y[i]) <= fabsf(x[i]) / 256);
    assert_memory_not_equal(x, y, (size_t)64 * IN * 4);
    adapter_free(a);
    adapter_free(b);
}

static void load_fails(const char *keys, enum graft_status code, const char *message)
{
    struct adapter *a = place(keys, false);

    assert_int_equal(adapter_load_values(a, "a", &err), code);
    assert_string_equal(err.msg, message);
    adapter_free(a);
}

#define PLACE "base_model.model.model.layers.0."

static void loading_lists_everything_that_does_not_fit(void **state)
{
    struct adapter *a = started(
        "'target_modules': ['layers.0.self_attn.q_proj', 'layers.0.mlp.up_proj'], 'r': 2", 1);

    (void)state;
    save(a, "a");
    load_fails("'target_modules': ['layers.0.self_attn.q_proj'], 'r': 2", GRAFT_EFORMAT,
               "a/adapter_model.safetensors: the adapter does not fit the base and its own config:"
               "\n  unexpected: " PLACE "mlp.up_proj.lora_A.weight"
               "\n  unexpected: " PLACE "mlp.up_proj.lora_B.weight");
    load_fails("'target_modules': ['layers.0.self_attn.q_proj', 'layers.0.mlp.up_proj'], 'r': 2, "
               "'lora_bias': true",
               GRAFT_EFORMAT,
               "a/adapter_model.safetensors: the adapter does not fit the base and its own config:"
               "\n  missing: " PLACE "self_attn.q_proj.lora_B.bias"
               "\n  missing: " PLACE "mlp.up_proj.lora_B.bias");
    load_fails(
        "'target_modules': ['layers.0.self_attn.q_proj', 'layers.0.mlp.up_proj'], 'r': 2, "
        "'rank_pattern': {'up_proj': 3}",
        GRAFT_ESHAPE,
        "a/adapter_model.safetensors: the adapter does not fit the base and its own config:"
        "\n  misshapen: found (2, 24), the base wants (3, 24): " PLACE "mlp.up_proj.lora_A.weight"
        "\n  misshapen: found (16, 2), the base wants (16, 3): " PLACE "mlp.up_proj.lora_B.weight");
    adapter_free(a);
}

static void folders_without_values_are_told_apart(void **state)
{
    (void)state;
    load_fails(WIDE, GRAFT_EIO, "a: there is no adapter_model.safetensors in it");
    assert_int_equal(dir_make("a", &err), GRAFT_OK);
    assert_int_equal(file_write("a/adapter_model.bin", "PK", 2, &err), GRAFT_OK);
    load_fails(WIDE, GRAFT_EFORMAT,
               "a/adapter_model.bin: a pickled adapter can run code and is not read; convert it "
               "once with Python: PeftModel.from_pretrained(base, \"a\").save_pretrained(\"a\")");
}

static void a_value_that_is_no_number_is_refused(void **state)
{
    struct adapter *a = started(WIDE, 1);
    const char *message;

    (void)state;
    ((float *)a->param[0]->data)[5] = INFINITY;
    save(a, "a");
    message = "a/adapter_model.safetensors: base_model.model.model.layers.0.self_attn.q_proj."
              "lora_A.weight[5] is inf";
    load_fails(WIDE, GRAFT_EFORMAT, message);
    adapter_free(a);
}

/* ---- what it computes */

static void merging_adds_scaled_b_times_a_to_rows(void **state)
{
    struct adapter *a = started("'target_modules': ['q_proj'], 'r': 3, 'lora_alpha': 7, "
                                "'init_lora_weights': false, 'lora_bias': true",
                                5);
    const struct adapter_site *s = &a->site[0];
    const float *x = s->param[0]->data, *y = s->param[1]->data, *z = s->param[2]->data;
    float w[4 * IN], bias[OUT];

    (void)state;
    for (int i = 0; i < 4 * IN; i++)
        w[i] = (float)i / 7;
    for (int i = 0; i < OUT; i++)
        bias[i] = (float)i;
    a->ops->merge_rows(s, 5, 4, w);
    assert_true(a->ops->merge_bias(s, bias));
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < IN; k++) {
            double sum = 0;

            for (int r = 0; r < 3; r++)
                sum += (double)y[(5 + i) * 3 + r] * x[r * IN + k];
            assert_true(fabs(w[i * IN + k] - ((i * IN + k) / 7.0 + 7.0 / 3 * sum)) < 1e-5);
        }
    for (int i = 0; i < OUT; i++)
        assert_true(fabs(bias[i] - (i + 7.0 / 3 * z[i])) < 1e-5);
    adapter_free(a);
}

enum { ROWS = 64 };

/* y' of all ones through A = 1, B = 1 and no base: what dropout leaves of the input. */
static void run_dropout(struct adapter *a, bool training, float *out)
{
    const struct graph_opts opts = { ROWS, 1, DT_F32, false };
    const int64_t start[2] = { 0, ROWS };
    float table[4 * IN], zero[4 * OUT] = { 0 };
    int32_t id[ROWS] = { 0 };
    const struct qmat ones = { .type = QT_F32, .rows = 4, .cols = IN, .data = table };
    const struct qmat none = { .type = QT_F32, .rows = 4, .cols = OUT, .data = zero };
    const struct graph_input in = { .n = ROWS,
                                    .id = id,
                                    .pos = id,
                                    .segments = 1,
                                    .start = start,
                                    .training = training,
                                    .rng = { 9, RNG_DROPOUT, 0, 0 } };
    struct plan_report plan;
    struct tensor *y;
    struct graph *g;

    for (int i = 0; i < 4 * IN; i++)
        table[i] = 1;
    assert_int_equal(graph_new(&opts, &g, &err), GRAFT_OK);
    y = adapter_apply(a, &slot[1], g, op_embedding(g, graph_weight(g, &ones, "x"), NULL, 1.0f),
                      op_embedding(g, graph_weight(g, &none, "y"), NULL, 1.0f));
    if (graph_error(g, &err) || graph_plan(g, &y, 1, 0, &plan, &err) ||
        graph_allocate(g, NULL, &err))
        fail_msg("%s", err.msg);
    graph_forward(g, &in);
    memcpy(out, y->data, sizeof(float) * ROWS * OUT);
    graph_free(g);
}

/* Each of the 24 ones stays with probability 0.75, as 4/3: a row sums to k * 4/3. */
static void dropout_scales_what_it_keeps_and_rests_outside_of_training(void **state)
{
    struct adapter *a = place("'target_modules': ['model.layers.0.self_attn.q_proj'], 'r': 1, "
                              "'lora_alpha': 2, 'lora_dropout': 0.25",
                              false);
    float out[ROWS * OUT];
    double mean = 0;
    int full = 0;

    (void)state;
    for (int i = 0; i < IN; i++)
        ((float *)a->param[0]->data)[i] = 1;
    for (int i = 0; i < OUT; i++)
        ((float *)a->param[1]->data)[i] = 1;
    run_dropout(a, false, out);
    for (int i = 0; i < ROWS * OUT; i++)
        assert_true(out[i] == 2 * IN);
    run_dropout(a, true, out);
    for (int i = 0; i < ROWS; i++) {
        const double kept = out[i * OUT] / 2 * 0.75;

        assert_true(fabs(kept - round(kept)) < 1e-4 && kept <= IN + 1e-4);
        full += kept > IN - 0.5;
        mean += kept / IN / ROWS;
    }
    assert_true(full < 4);
    assert_true(fabs(mean - 0.75) < 0.04);
    adapter_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_names_paths_or_their_ends_after_a_dot),
        cmocka_unit_test(a_string_is_a_regular_expression_for_the_whole_path),
        cmocka_unit_test(all_linear_leaves_out_head_and_embedding),
        cmocka_unit_test(without_targets_the_defaults_of_the_architecture_count),
        cmocka_unit_test(excluded_modules_win),
        cmocka_unit_test(layers_are_the_first_number_between_dots_or_that_of_a_pattern),
        cmocka_unit_test(an_embedding_has_no_bias_and_no_vector),
        cmocka_unit_test(the_first_pattern_that_matches_gives_rank_and_alpha),
        cmocka_unit_test(rslora_divides_by_the_root_of_the_rank),
        cmocka_unit_test(defaults_are_those_of_peft),
        cmocka_unit_test(the_usual_start_is_uniform_and_zero),
        cmocka_unit_test(the_gaussian_start_has_deviation_one_over_rank),
        cmocka_unit_test(the_false_start_is_that_of_two_linears),
        cmocka_unit_test(start_values_depend_on_seed_and_slot_alone),
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        IN_FOLDER(what_is_saved_comes_back_bit_for_bit),
        IN_FOLDER(tensors_have_the_names_shapes_and_order_of_peft),
        IN_FOLDER(bf16_files_hold_the_values_rounded),
        IN_FOLDER(loading_lists_everything_that_does_not_fit),
        IN_FOLDER(folders_without_values_are_told_apart),
        IN_FOLDER(a_value_that_is_no_number_is_refused),
        cmocka_unit_test(merging_adds_scaled_b_times_a_to_rows),
        cmocka_unit_test(dropout_scales_what_it_keeps_and_rests_outside_of_training),
    };

    return cmocka_run_group_tests(tests, make_slots, free_memory);
}
