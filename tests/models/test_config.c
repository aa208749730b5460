/* config.json and the keys of GGUF: what is taken, and what is refused with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "models/arch.h"
#include "models/config.h"

static struct arena mem;
static struct graft_err err;
static char said[512]; /* the last note */

static void note(void *user, const char *msg)
{
    (void)user;
    snprintf(said, sizeof said, "%s", msg);
}

static int set_up(void **state)
{
    (void)state;
    graft_note_sink(note, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    graft_note_sink(NULL, NULL);
    arena_release(&mem);
    return 0;
}

#define LEAST                                                                                      \
    "{'model_type': 'llama', 'vocab_size': 61, 'hidden_size': 32, 'intermediate_size': 48, "       \
    "'num_hidden_layers': 3, 'num_attention_heads': 4"

/* LEAST with `keys` (' for "), which may stand for keys that are there. */
static json_t *config(const char *keys)
{
    struct strbuf s = STRBUF_INIT;
    json_t *least, *more;

    strbuf_puts(&s, LEAST "}");
    strbuf_printf(&s, "{%s}", keys);
    for (size_t i = 0; i < s.len; i++)
        if (s.buf[i] == '\'')
            s.buf[i] = '"';
    least = json_loadb(s.buf, sizeof LEAST, 0, NULL);
    more = json_loads(s.buf + sizeof LEAST, 0, NULL);
    assert_non_null(least);
    if (!more)
        fail_msg("%s", keys);
    json_object_update(least, more);
    json_decref(more);
    strbuf_release(&s);
    return least;
}

static enum graft_status read_config(const char *keys, struct model_config *out)
{
    json_t *json = config(keys);
    const enum graft_status st = model_config_from_json("config.json", json, &mem, out, &err);

    json_decref(json);
    return st;
}

static struct model_config takes(const char *keys)
{
    struct model_config c;

    said[0] = '\0';
    if (read_config(keys, &c))
        fail_msg("%s: %s", keys, err.msg);
    return c;
}

static void refuses(enum graft_status code, const char *keys, const char *message)
{
    struct model_config c;
    const enum graft_status st = read_config(keys, &c);

    if (st != code || strcmp(err.msg, message) != 0)
        fail_msg("%s: %d: %s", keys, st, st ? err.msg : "taken");
}

/* The architectures there are go where %s stands. */
static const char *with_names(const char *fmt)
{
    const char *at = strstr(fmt, "%s");

    return arena_printf(&mem, "%.*s%s%s", (int)(at - fmt), fmt, arch_names(), at + 2);
}

static struct rope rope_of(const char *keys)
{
    const struct model_config c = takes(keys);
    struct rope r;

    if (rope_make(&c, &mem, &r, &err))
        fail_msg("%s: %s", keys, err.msg);
    return r;
}

/* ---- sizes and switches */

static void the_least_config_has_the_defaults_of_transformers(void **state)
{
    const struct model_config c = takes("");

    (void)state;
    assert_string_equal(c.arch->class_name, "LlamaForCausalLM");
    assert_int_equal(c.kv_heads, 4);
    assert_int_equal(c.head_dim, 8);
    assert_int_equal(c.max_positions, 2048);
    assert_true(c.norm_eps == 1e-6 && c.rope.theta == 10000 && c.rope.type == ROPE_DEFAULT);
    assert_true(c.act == ACT_SILU && !c.tied && !c.qkv_bias && !c.o_bias && !c.mlp_bias);
    assert_true(c.bos == -1 && c.eos_count == 0 && c.dtype == QT_COUNT && !c.name);
    assert_int_equal(takes("'model_type': 'qwen3'").head_dim, 128);
    assert_int_equal(takes("'model_type': 'qwen2'").max_positions, 32768);
    assert_int_equal(takes("'model_type': 'mistral'").max_positions, 131072);
    assert_int_equal(takes("'model_type': 'mistral'").window[0], 4096);
    assert_int_equal(takes("'model_type': 'mistral', 'sliding_window': null").window[0], 0);
}

static void null_counts_as_absent(void **state)
{
    const struct model_config c =
        takes("'num_key_value_heads': null, 'head_dim': null, 'rope_scaling': null, "
              "'sliding_window': null, 'eos_token_id': null, 'quantization_config': null");

    (void)state;
    assert_true(c.kv_heads == 4 && c.head_dim == 8 && c.eos_count == 0);
}

static void sizes_are_checked(void **state)
{
    (void)state;
    refuses(GRAFT_EFORMAT, "'vocab_size': null",
            "config.json: \"vocab_size\" is missing, wanted a whole number from 1");
    refuses(GRAFT_EFORMAT, "'hidden_size': -3",
            "config.json: \"hidden_size\" is -3, wanted a whole number from 1");
    refuses(GRAFT_EFORMAT, "'num_hidden_layers': 2.5",
            "config.json: \"num_hidden_layers\" is 2.5, wanted a whole number from 1");
    refuses(GRAFT_EFORMAT, "'intermediate_size': '48'",
            "config.json: \"intermediate_size\" is \"48\", wanted a whole number from 1");
    refuses(GRAFT_EFORMAT, "'hidden_size': 99999999999",
            "config.json: \"hidden_size\" is 99999999999, wanted a whole number from 1");
    refuses(GRAFT_EFORMAT, "'num_hidden_layers': 5000",
            "config.json: \"num_hidden_layers\" is 5000, wanted at most 4096");
    refuses(GRAFT_EFORMAT, "'num_key_value_heads': 3",
            "config.json: \"num_key_value_heads\" is 3, wanted a divisor of num_attention_heads");
    refuses(GRAFT_EFORMAT, "'hidden_size': 30",
            "config.json: \"hidden_size\" is 30, wanted a multiple of num_attention_heads");
    refuses(GRAFT_EFORMAT, "'head_dim': 7",
            "config.json: \"head_dim\" is 7, wanted an even number");
    refuses(GRAFT_EFORMAT, "'rms_norm_eps': 'small'",
            "config.json: \"rms_norm_eps\" is \"small\", wanted a number");
    refuses(GRAFT_EFORMAT, "'tie_word_embeddings': 1",
            "config.json: \"tie_word_embeddings\" is 1, wanted true or false");
    refuses(GRAFT_EFORMAT, "'model_type': 3", "config.json: \"model_type\" is 3, wanted a string");
}

static void what_is_not_supported_is_named(void **state)
{
    (void)state;
    refuses(GRAFT_EFORMAT, "'model_type': 'mamba'",
            with_names("config.json: model_type \"mamba\" is not supported; known are %s"));
    refuses(GRAFT_EFORMAT, "'hidden_act': 'mish'",
            "config.json: hidden_act \"mish\" is not supported");
    refuses(GRAFT_EFORMAT, "'rope_scaling': {'rope_type': 'mrope'}",
            "config.json: rope_type \"mrope\" is not supported; known are default, linear, "
            "dynamic, yarn, longrope and llama3");
    refuses(GRAFT_EFORMAT, "'quantization_config': {'quant_method': 'gptq'}",
            "config.json: the checkpoint is quantised already (quantization_config); this version "
            "reads f32, f16 and bf16 checkpoints, GGUF files and .h5 containers");
}

static void biases_go_by_family(void **state)
{
    struct model_config c = takes("'attention_bias': true, 'mlp_bias': true");

    (void)state;
    assert_true(c.qkv_bias && c.o_bias && c.mlp_bias);
    c = takes("'model_type': 'qwen2'");
    assert_true(c.qkv_bias && !c.o_bias && !c.mlp_bias);
    c = takes("'model_type': 'mistral', 'attention_bias': true");
    assert_true(!c.qkv_bias && !c.o_bias);
    c = takes("'model_type': 'qwen3', 'attention_bias': true");
    assert_true(c.qkv_bias && c.o_bias && !c.mlp_bias);
}

static void windows_are(const char *keys, int64_t a, int64_t b, int64_t c)
{
    const struct model_config m = takes(keys);

    if (m.window[0] != a || m.window[1] != b || m.window[2] != c)
        fail_msg("%s: %d %d %d", keys, (int)m.window[0], (int)m.window[1], (int)m.window[2]);
}

static void windows_go_by_family_and_layer(void **state)
{
    (void)state;
    windows_are("'sliding_window': 7", 0, 0, 0);
    windows_are("'model_type': 'mistral', 'sliding_window': 7", 7, 7, 7);
    windows_are("'model_type': 'mistral', 'sliding_window': null", 0, 0, 0);
    windows_are("'model_type': 'qwen2', 'sliding_window': 7, 'max_window_layers': 1", 0, 0, 0);
    windows_are("'model_type': 'qwen2', 'sliding_window': 7, 'use_sliding_window': true, "
                "'max_window_layers': 1",
                0, 7, 7);
    windows_are("'model_type': 'qwen3', 'sliding_window': 7, 'use_sliding_window': true", 0, 0, 0);
    windows_are("'model_type': 'qwen3', 'sliding_window': 7, 'use_sliding_window': true, "
                "'layer_types': ['sliding_attention', 'full_attention', 'sliding_attention']",
                7, 0, 7);
    refuses(GRAFT_EFORMAT,
            "'model_type': 'qwen2', 'sliding_window': 7, 'use_sliding_window': true, "
            "'layer_types': ['full_attention']",
            "config.json: \"layer_types\" is missing, wanted one entry a layer");
    refuses(GRAFT_EFORMAT,
            "'model_type': 'qwen2', 'sliding_window': 7, 'use_sliding_window': true, "
            "'layer_types': ['full_attention', 'full', 'full_attention']",
            "config.json: \"layer_types\" is \"full\", wanted full_attention or "
            "sliding_attention");
}

static void end_tokens_are_a_number_or_a_list(void **state)
{
    struct model_config c = takes("'eos_token_id': 2, 'bos_token_id': 1");

    (void)state;
    assert_true(c.bos == 1 && c.eos_count == 1 && c.eos[0] == 2);
    c = takes("'eos_token_id': [5, 7, 9]");
    assert_true(c.eos_count == 3 && c.eos[2] == 9);
    refuses(GRAFT_EFORMAT, "'eos_token_id': 'end'",
            "config.json: \"eos_token_id\" is \"end\", wanted a token id or a list of them");
    refuses(GRAFT_EFORMAT, "'eos_token_id': [2, -1]",
            "config.json: \"eos_token_id\" is [2, -1], wanted a token id or a list of them");
    refuses(GRAFT_EFORMAT, "'eos_token_id': [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]",
            "config.json: \"eos_token_id\" is [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, "
            "15, 16], wanted at most 16 ids");
}

static void names_and_types_have_two_generations_of_keys(void **state)
{
    (void)state;
    assert_int_equal(takes("'dtype': 'bfloat16'").dtype, QT_BF16);
    assert_int_equal(takes("'torch_dtype': 'float16'").dtype, QT_F16);
    assert_int_equal(takes("'dtype': 'float32', 'torch_dtype': 'float16'").dtype, QT_F32);
    assert_string_equal(takes("'_name_or_path': 'org/model'").name, "org/model");
    assert_null(takes("'_name_or_path': ''").name);
}

/* ---- rotation */

#define NEAR(x, y) assert_true(fabs((double)(x) - (y)) < 1e-6 * fabs(y))

static void rotation_reads_both_generations_of_keys(void **state)
{
    const struct rope a = rope_of("'rope_theta': 500.0, 'rope_scaling': {'type': 'linear', "
                                  "'factor': 4.0}");
    const struct rope b = rope_of("'rope_parameters': {'rope_theta': 500.0, "
                                  "'rope_type': 'linear', 'factor': 4.0}");
    /* of both, the older counts, in transformers 5.23 too; an empty one is none */
    const struct rope c = rope_of("'rope_theta': 9.0, 'rope_scaling': {'type': 'linear', "
                                  "'factor': 3.0}, 'rope_parameters': {'rope_theta': 500.0, "
                                  "'rope_type': 'linear', 'factor': 4.0}");
    const struct rope d = rope_of("'rope_scaling': {}, 'rope_parameters': {'rope_theta': 500.0, "
                                  "'rope_type': 'linear', 'factor': 4.0}");

    (void)state;
    assert_int_equal(a.half, 4);
    for (int i = 0; i < 4; i++)
        NEAR(a.inv_freq[i], pow(500, -i / 4.0) / 4);
    assert_memory_equal(a.inv_freq, b.inv_freq, 16);
    for (int i = 0; i < 4; i++)
        NEAR(c.inv_freq[i], pow(9, -i / 4.0) / 3);
    assert_memory_equal(a.inv_freq, d.inv_freq, 16);
    assert_true(a.scale == 1 && a.dynamic_factor == 0);
}

static void long_ropes_take_the_other_list_beyond_the_original_length(void **state)
{
    const struct rope r = rope_of("'max_position_embeddings': 64, 'rope_parameters': {"
                                  "'rope_type': 'longrope', 'short_factor': [1, 2, 3, 4], "
                                  "'long_factor': [5, 6, 7, 8], "
                                  "'original_max_position_embeddings': 16}");

    (void)state;
    for (int i = 0; i < 4; i++) {
        NEAR(r.inv_freq[i], pow(10000, -i / 4.0) / (i + 1));
        NEAR(r.long_inv_freq[i], pow(10000, -i / 4.0) / (i + 5));
    }
    assert_int_equal(r.long_after, 16);
    NEAR(r.scale, sqrt(1 + log(4) / log(16)));
}

static void rotation_keys_are_checked(void **state)
{
    (void)state;
    refuses(GRAFT_EFORMAT, "'rope_scaling': 'linear'",
            "config.json: \"rope_scaling\" is \"linear\", wanted an object");
    refuses(GRAFT_EFORMAT, "'rope_scaling': {'type': 'linear'}",
            "config.json: \"rope_scaling.factor\" is missing, wanted a number");
    refuses(GRAFT_EFORMAT, "'rope_scaling': {'type': 'yarn', 'factor': -2}",
            "config.json: \"rope_scaling.factor\" is missing, wanted a number above 0");
    refuses(GRAFT_EFORMAT, "'rope_scaling': {'type': 'llama3', 'factor': 8}",
            "config.json: \"rope_scaling\" is missing, wanted low_freq_factor, high_freq_factor "
            "and original_max_position_embeddings for llama3");
    refuses(GRAFT_EFORMAT, "'rope_theta': 0.5",
            "config.json: \"rope_theta\" is missing, wanted a base above 1 and a "
            "partial_rotary_factor in (0, 1]");
    refuses(GRAFT_EFORMAT, "'rope_scaling': {'type': 'longrope', 'long_factor': [1, 'x']}",
            "config.json: \"long_factor\" is \"x\", wanted a list of numbers above 0");
    refuses(GRAFT_EFORMAT,
            "'rope_scaling': {'type': 'longrope', 'long_factor': [1], 'short_factor': [1, 2]}",
            "config.json: \"long_factor\" is missing, wanted as many entries as the other list");
}

static void a_part_of_a_head_is_not_turned_in_these_models(void **state)
{
    (void)state;
    assert_int_equal(rope_of("'partial_rotary_factor': 0.5").half, 4);
    assert_string_equal(
        said, "config.json: partial_rotary_factor 0.5 is passed over, as in transformers");
    refuses(GRAFT_EFORMAT,
            "'rope_scaling': {'type': 'linear', 'factor': 2}, "
            "'partial_rotary_factor': 0.5",
            "config.json: partial_rotary_factor 0.5 is not supported for this model_type");
}

static void lists_of_another_length_than_half_a_head_are_refused(void **state)
{
    const struct model_config c = takes("'rope_scaling': {'type': 'longrope', "
                                        "'long_factor': [1, 2], 'short_factor': [1, 2]}");
    struct rope r;

    (void)state;
    assert_int_equal(rope_make(&c, &mem, &r, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg,
                        "rope_scaling longrope: short_factor and long_factor need 4 entries each");
}

/* ---- GGUF */

/* A GGUF file with string, u32 and f32 keys and one tensor token_embd.weight (5, 8) of zeros. */
struct gguf_file {
    struct strbuf bytes;
    int64_t keys;
};

static void put(struct gguf_file *f, const void *v, size_t len)
{
    strbuf_add(&f->bytes, v, len);
}

static void put_u64(struct gguf_file *f, uint64_t v)
{
    put(f, &v, 8);
}

static void put_u32(struct gguf_file *f, uint32_t v)
{
    put(f, &v, 4);
}

static void put_str(struct gguf_file *f, const char *s)
{
    put_u64(f, strlen(s));
    put(f, s, strlen(s));
}

static void key_str(struct gguf_file *f, const char *key, const char *v)
{
    put_str(f, key);
    put_u32(f, GGUF_STRING);
    put_str(f, v);
    f->keys++;
}

static void key_u32(struct gguf_file *f, const char *key, uint32_t v)
{
    put_str(f, key);
    put_u32(f, GGUF_U32);
    put_u32(f, v);
    f->keys++;
}

static void key_f32(struct gguf_file *f, const char *key, float v)
{
    put_str(f, key);
    put_u32(f, GGUF_F32);
    put(f, &v, 4);
    f->keys++;
}

static void key_sizes(struct gguf_file *f, const char *except)
{
    static const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {
        { "llama.embedding_length", 8 }, { "llama.feed_forward_length", 12 },
        { "llama.block_count", 2 },      { "llama.attention.head_count", 2 },
        { "llama.context_length", 64 },
    };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!except || strcmp(sizes[i].key, except) != 0)
            key_u32(f, sizes[i].key, sizes[i].value);
}

static enum graft_status read_gguf(struct gguf_file *f, struct model_config *out)
{
    struct gguf_file all = { 0 };
    struct gguf g;
    enum graft_status st;

    put(&all, "GGUF\3\0\0\0", 8);
    put_u64(&all, 1);
    put_u64(&all, (uint64_t)f->keys);
    put(&all, f->bytes.buf, f->bytes.len);
    put_str(&all, "token_embd.weight");
    put_u32(&all, 2);
    put_u64(&all, 8);
    put_u64(&all, 5);
    put_u32(&all, 0);
    put_u64(&all, 0);
    while (all.bytes.len % 32)
        put(&all, "", 1);
    for (int i = 0; i < 40; i++)
        put_u32(&all, 0);
    if (gguf_parse("m.gguf", all.bytes.buf, all.bytes.len, &g, &err))
        fail_msg("%s", err.msg);
    st = model_config_from_gguf(&g, &mem, out, &err);
    if (!st && out->name)
        out->name = arena_strdup(&mem, out->name);
    gguf_release(&g);
    strbuf_release(&all.bytes);
    strbuf_release(&f->bytes);
    return st;
}

static void gguf_keys_make_the_same_config(void **state)
{
    struct gguf_file f = { 0 };
    struct model_config c;

    (void)state;
    key_str(&f, "general.architecture", "llama");
    key_str(&f, "general.name", "a title, no path");
    key_str(&f, "general.base_model.0.repo_url", "https://hub.example/org/tiny");
    key_sizes(&f, NULL);
    key_u32(&f, "llama.attention.head_count_kv", 1);
    key_f32(&f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    key_f32(&f, "llama.rope.freq_base", 500);
    key_str(&f, "llama.rope.scaling.type", "linear");
    key_f32(&f, "llama.rope.scaling.factor", 4);
    key_u32(&f, "tokenizer.ggml.bos_token_id", 1);
    key_u32(&f, "tokenizer.ggml.eos_token_id", 2);
    key_u32(&f, "tokenizer.ggml.eot_token_id", 4);
    if (read_gguf(&f, &c))
        fail_msg("%s", err.msg);
    assert_string_equal(c.model_type, "llama");
    assert_string_equal(c.name, "org/tiny");
    assert_true(c.vocab == 5 && c.hidden == 8 && c.ffn == 12 && c.layers == 2 && c.heads == 2 &&
                c.kv_heads == 1 && c.head_dim == 4 && c.max_positions == 64);
    assert_true(c.tied && !c.qkv_bias && c.bos == 1 && c.eos_count == 2 && c.eos[1] == 4);
    assert_true(c.rope.type == ROPE_LINEAR && c.rope.factor == 4 && c.rope.theta == 500);
    NEAR(c.norm_eps, 1e-5);
}

static void gguf_refuses(struct gguf_file f, enum graft_status code, const char *message)
{
    struct model_config c;
    const enum graft_status st = read_gguf(&f, &c);

    if (st != code || strcmp(err.msg, message) != 0)
        fail_msg("%d: %s", st, st ? err.msg : "taken");
}

static struct gguf_file gguf_with(const char *arch, const char *except)
{
    struct gguf_file f = { 0 };

    if (arch)
        key_str(&f, "general.architecture", arch);
    key_sizes(&f, except);
    return f;
}

static void gguf_keys_are_checked(void **state)
{
    struct gguf_file f;

    (void)state;
    gguf_refuses(gguf_with(NULL, NULL), GRAFT_EFORMAT, "m.gguf: general.architecture is missing");
    gguf_refuses(gguf_with("rwkv", NULL), GRAFT_EFORMAT,
                 with_names("m.gguf: architecture \"rwkv\" is not supported; known are %s"));
    gguf_refuses(gguf_with("llama", "llama.block_count"), GRAFT_EFORMAT,
                 "m.gguf: llama.block_count is 0, wanted a whole number from 1");
    f = gguf_with("llama", NULL);
    key_u32(&f, "llama.attention.head_count_kv", 3);
    gguf_refuses(f, GRAFT_EFORMAT,
                 "m.gguf: 2 heads, 3 key/value heads, head size 4 and 2 layers do not make a "
                 "model");
    f = gguf_with("llama", NULL);
    key_str(&f, "llama.rope.scaling.type", "longrope");
    gguf_refuses(f, GRAFT_EFORMAT, "m.gguf: rope.scaling.type \"longrope\" is not supported");
    f = gguf_with("llama", NULL);
    key_str(&f, "llama.rope.scaling.type", "yarn");
    gguf_refuses(f, GRAFT_EFORMAT, "m.gguf: rope scaling yarn needs a factor above 0");
    f = gguf_with("llama", NULL);
    key_f32(&f, "llama.rope.freq_base", 0);
    gguf_refuses(f, GRAFT_EFORMAT, "m.gguf: rope.freq_base is 0, wanted a base above 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_config_has_the_defaults_of_transformers),
        cmocka_unit_test(null_counts_as_absent),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(biases_go_by_family),
        cmocka_unit_test(windows_go_by_family_and_layer),
        cmocka_unit_test(end_tokens_are_a_number_or_a_list),
        cmocka_unit_test(names_and_types_have_two_generations_of_keys),
        cmocka_unit_test(rotation_reads_both_generations_of_keys),
        cmocka_unit_test(long_ropes_take_the_other_list_beyond_the_original_length),
        cmocka_unit_test(rotation_keys_are_checked),
        cmocka_unit_test(a_part_of_a_head_is_not_turned_in_these_models),
        cmocka_unit_test(lists_of_another_length_than_half_a_head_are_refused),
        cmocka_unit_test(gguf_keys_make_the_same_config),
        cmocka_unit_test(gguf_keys_are_checked),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
