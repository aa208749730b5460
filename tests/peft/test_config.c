/* Adapter configs: PEFT's keys in, PEFT's file out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#include "core/file.h"
#include "peft/config.h"

static struct graft_err err;
static struct arena mem;
static char dir[64];
static char said[512]; /* the last note */

static void where(const struct schema_source *src, const char *path, struct strbuf *out)
{
    (void)src;
    (void)path;
    strbuf_puts(out, "c.yaml:7");
}
static const struct schema_source source = { where, NULL };

static void note(void *user, const char *msg)
{
    (void)user;
    snprintf(said, sizeof said, "%s", msg);
}

/* `text`: JSON with ' for ". */
static json_t *parse(const char *text)
{
    char *copy = strdup(text);
    json_t *v = NULL;

    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (json_read("test", copy, strlen(copy), &v, &err))
        fail_msg("%s", err.msg);
    free(copy);
    return v;
}

static enum graft_status read_map(const char *text, struct adapter_config *out)
{
    json_t *map = parse(text);
    enum graft_status st;

    memset(&err, 0, sizeof err);
    said[0] = '\0';
    st = adapter_config_parse(map, &source, out, &mem, &err);
    json_decref(map);
    return st;
}

static struct adapter_config takes(const char *text)
{
    struct adapter_config c;

    if (read_map(text, &c))
        fail_msg("%s", err.msg);
    return c;
}

static void refuses(const char *text, const char *message)
{
    struct adapter_config c;

    assert_int_equal(read_map(text, &c), GRAFT_EARG);
    assert_string_equal(err.msg, message);
}

static void write_file(const char *text)
{
    json_t *map = parse(text);
    struct strbuf s = STRBUF_INIT;

    json_write(&s, map);
    assert_int_equal(file_write("adapter_config.json", s.buf, s.len, &err), GRAFT_OK);
    strbuf_release(&s);
    json_decref(map);
}

static void the_defaults_are_pefts(void **state)
{
    struct adapter_config c = takes("{'peft_type': 'LORA'}");

    (void)state;
    assert_string_equal(c.method, "lora");
    assert_int_equal(c.r, 8);
    assert_true(c.lora_alpha == 8 && c.lora_dropout == 0);
    assert_false(c.use_rslora || c.lora_bias || c.save_bf16);
    assert_int_equal(c.target_modules.kind, TARGETS_DEFAULT);
    assert_int_equal(c.exclude_modules.kind, TARGETS_DEFAULT);
    assert_int_equal(c.init, LORA_INIT_TRUE);
    assert_int_equal(c.rank_pattern_count + c.alpha_pattern_count + c.layers_to_transform_count, 0);
    assert_null(c.init_from);
}

static void every_form_of_targets_is_told_apart(void **state)
{
    struct adapter_config c = takes("{'method': 'lora', 'target_modules': ['v', 'q']}");

    (void)state;
    assert_int_equal(c.target_modules.kind, TARGETS_LIST);
    assert_int_equal(c.target_modules.count, 2);
    assert_string_equal(c.target_modules.name[0], "q");
    c = takes("{'method': 'lora', 'target_modules': 'All-Linear', 'exclude_modules': '.*q'}");
    assert_int_equal(c.target_modules.kind, TARGETS_ALL_LINEAR);
    assert_int_equal(c.exclude_modules.kind, TARGETS_REGEX);
    c = takes("{'method': 'lora', 'target_modules': '.*(q|v)'}");
    assert_int_equal(c.target_modules.kind, TARGETS_REGEX);
    assert_string_equal(c.target_modules.name[0], ".*(q|v)");
    refuses("{'method': 'lora', 'target_modules': []}",
            "c.yaml:7: adapter.target_modules: found [], want a list of names, one regular "
            "expression, all-linear, or null");
    refuses("{'method': 'lora', 'target_modules': ['q', 3]}",
            "c.yaml:7: adapter.target_modules: found [\"q\", 3], want a list of names, one regular "
            "expression, all-linear, or null");
}

static void patterns_keep_their_order(void **state)
{
    struct adapter_config c = takes("{'method': 'lora', 'rank_pattern': {'z': 4, 'a': 2, 'm': 9}, "
                                    "'alpha_pattern': {'q': 2.5}}");

    (void)state;
    assert_int_equal(c.rank_pattern_count, 3);
    assert_string_equal(c.rank_pattern[0].regex, "z");
    assert_string_equal(c.rank_pattern[1].regex, "a");
    assert_true(c.rank_pattern[2].value == 9 && c.alpha_pattern[0].value == 2.5);
    refuses("{'method': 'lora', 'rank_pattern': {'z': 0}}",
            "c.yaml:7: adapter.rank_pattern: \"z\" has no rank from 1");
    refuses("{'method': 'lora', 'rank_pattern': [1]}",
            "c.yaml:7: adapter.rank_pattern: found [1], want a map of regular expressions to ranks "
            "from 1");
}

static void layers_are_one_or_several(void **state)
{
    struct adapter_config c = takes("{'method': 'lora', 'layers_to_transform': 3}");

    (void)state;
    assert_int_equal(c.layers_to_transform_count, 1);
    assert_int_equal(c.layers_to_transform[0], 3);
    c = takes("{'method': 'lora', 'layers_to_transform': [1, 2], 'layers_pattern': ['h', 'l']}");
    assert_int_equal(c.layers_to_transform_count, 2);
    assert_int_equal(c.layers_pattern_count, 2);
    refuses("{'method': 'lora', 'layers_to_transform': [-1]}",
            "c.yaml:7: adapter.layers_to_transform: found [-1], want a layer number from 0, a list "
            "of them, or null");
    refuses("{'method': 'lora', 'layers_pattern': 'h'}",
            "c.yaml:7: adapter.layers_pattern: needs layers_to_transform beside it");
    refuses("{'method': 'lora', 'layers_to_transform': 1, 'target_modules': '.*'}",
            "c.yaml:7: adapter.layers_to_transform: cannot stand beside a regular expression in "
            "target_modules, which may name the layers itself");
}

/* Messages that list what works: by how they begin. */
static void refuses_beginning(const char *text, const char *message)
{
    struct adapter_config c;

    assert_int_equal(read_map(text, &c), GRAFT_EARG);
    if (strncmp(err.msg, message, strlen(message)) != 0)
        fail_msg("%s", err.msg);
}

static void methods_are_named_by_either_key(void **state)
{
    (void)state;
    refuses_beginning("{}", "c.yaml:7: adapter.method: missing, want lora, dora");
    assert_string_equal(takes("{'method': 'dora'}").method, "dora");
    assert_string_equal(takes("{'peft_type': 'IA3'}").method, "ia3");
    assert_string_equal(takes("{'peft_type': 'LORA', 'use_dora': true}").method, "dora");
    assert_string_equal(takes("{'method': 'lora', 'use_dora': true}").method, "dora");
    refuses("{'method': 'dora', 'use_dora': false}",
            "c.yaml:7: adapter.use_dora: false, but method says \"dora\"");
    refuses("{'method': 'ia3', 'use_dora': true}",
            "c.yaml:7: adapter.use_dora: ia3 has no use for it, it belongs to lora");
    refuses(
        "{'method': 'loraa'}",
        "c.yaml:7: adapter.method: found \"loraa\", did you mean \"lora\"? There are lora, dora, "
        "rosa, spa, ia3, prompt, prefix, ptuning, houlsby, pfeiffer, parallel, bitfit, layernorm, "
        "head, last_layers, full or lpft");
    refuses_beginning(
        "{'peft_type': 'VERA'}",
        "c.yaml:7: adapter.peft_type: \"VERA\" is not supported in this version; want LORA");
    refuses_beginning("{'method': 'vera'}", "c.yaml:7: adapter.method: ");
    refuses("{'method': 'prompt', 'peft_type': 'P_TUNING', 'num_virtual_tokens': 2}",
            "c.yaml:7: adapter.method: \"prompt\", but peft_type says \"P_TUNING\"");
    takes("{'method': 'ptuning', 'peft_type': 'P_TUNING', 'num_virtual_tokens': 2}");
}

static void start_values_have_pefts_names(void **state)
{
    struct adapter_config c = takes("{'method': 'lora', 'init_lora_weights': 'pissa_niter_16'}");

    (void)state;
    assert_int_equal(c.init, LORA_INIT_PISSA);
    assert_int_equal(c.pissa_niter, 16);
    c = takes("{'method': 'lora', 'init_lora_weights': 'loftq', 'loftq_config': {'loftq_iter': 5, "
              "'loftq_bits': 4}}");
    assert_int_equal(c.init, LORA_INIT_LOFTQ);
    assert_int_equal(c.loftq_iter, 5);
    c = takes("{'method': 'dora', 'init_lora_weights': 'orthogonal', 'loraplus_lr_ratio': 16}");
    assert_int_equal(c.init, LORA_INIT_ORTHOGONAL);
    assert_true(c.loraplus_lr_ratio == 16);
    refuses("{'method': 'lora', 'init_lora_weights': 'pissa_niter_0'}",
            "c.yaml:7: adapter.init_lora_weights: found \"pissa_niter_0\", want true, false, "
            "gaussian, orthogonal, pissa, pissa_niter_N, olora or loftq");
    refuses(
        "{'method': 'lora', 'init_lora_weights': 'corda'}",
        "c.yaml:7: adapter.init_lora_weights: \"corda\" is not supported in this version, true, "
        "false, gaussian, orthogonal, pissa, pissa_niter_N, olora or loftq is");
    refuses("{'method': 'lora', 'init_lora_weights': 'loftq', 'loftq_config': {'loftq_bits': 8}}",
            "c.yaml:7: adapter.loftq_config: loftq_bits 8 is not supported in this version, 4 is");
    refuses("{'method': 'lora', 'loftq_config': {'loftq_bits': 4}}",
            "c.yaml:7: adapter.loftq_config: has a use with init_lora_weights loftq only");
    refuses("{'method': 'dora', 'init_lora_weights': 'pissa'}",
            "c.yaml:7: adapter.init_lora_weights: dora does not take its start out of the base");
    refuses("{'method': 'lora', 'lora_bias': true, 'init_lora_weights': 'gaussian'}",
            "c.yaml:7: adapter.lora_bias: true goes with init_lora_weights true or false only");
    refuses("{'method': 'dora', 'lora_bias': true}",
            "c.yaml:7: adapter.lora_bias: true does not go with dora");
}

static void feed_forward_modules_are_some_of_the_targets(void **state)
{
    struct adapter_config c =
        takes("{'method': 'ia3', 'target_modules': ['k', 'down'], 'feedforward_modules': 'down'}");

    (void)state;
    assert_int_equal(c.feedforward_modules.kind, TARGETS_REGEX);
    assert_true(c.init_ia3_ones);
    c = takes("{'method': 'ia3', 'feedforward_modules': []}"); /* none, where null is the default */
    assert_int_equal(c.feedforward_modules.kind, TARGETS_LIST);
    assert_int_equal(c.feedforward_modules.count, 0);
    refuses("{'method': 'ia3', 'target_modules': ['k'], 'feedforward_modules': ['down']}",
            "c.yaml:7: adapter.feedforward_modules: \"down\" is not among target_modules, which "
            "hold all that get a vector");
    refuses("{'method': 'ia3', 'r': 4}",
            "c.yaml:7: adapter.r: ia3 has no use for it, it belongs to lora, dora, rosa");
}

static void keys_without_effect_pass_only_at_their_no_op_value(void **state)
{
    (void)state;
    takes("{'method': 'lora', 'bias': 'none', 'fan_in_fan_out': false, 'modules_to_save': [], "
          "'eva_config': null, 'megatron_core': 'megatron.core', 'qalora_group_size': 16, "
          "'loftq_config': {}, 'use_qalora': false, 'num_virtual_tokens': null, "
          "'encoder_num_layers': 2, 'peft_version': '0.21.2', 'inference_mode': true, "
          "'task_type': 'CAUSAL_LM', 'auto_mapping': {'parent_library': 'x'}}");
    refuses("{'method': 'lora', 'use_qalora': true}",
            "c.yaml:7: adapter.use_qalora: true is not supported in this version, only false is");
    refuses("{'method': 'lora', 'num_virtual_tokens': 8}",
            "c.yaml:7: adapter.num_virtual_tokens: lora has no use for it, it belongs to prompt, "
            "ptuning, prefix");
    refuses("{'method': 'lora', 'dropout': 0.1}",
            "c.yaml:7: unknown key \"adapter.dropout\": it is called \"adapter.lora_dropout\" "
            "here");
    refuses("{'method': 'lora', 'lora_dropout': 1}",
            "c.yaml:7: adapter.lora_dropout: found 1, want a number below 1");
}

static void copies_have_the_forms_of_peft(void **state)
{
    struct adapter_config c = takes("{'method': 'lora', 'modules_to_save': ['lm_head', 'norm'], "
                                    "'bias': 'lora_only', 'trainable_token_indices': [7, 3]}");

    (void)state;
    assert_int_equal(c.modules_to_save_count, 2);
    assert_string_equal(c.modules_to_save[0], "lm_head");
    assert_int_equal(c.bias, BIAS_COPIES_TARGETS);
    assert_int_equal(c.tokens_count, 1);
    assert_null(c.tokens[0].module);
    assert_true(c.tokens[0].count == 2 && c.tokens[0].id[0] == 7);
    c = takes("{'method': 'lora', 'modules_to_save': 'lm_head', 'bias': 'all', "
              "'trainable_token_indices': {'embed_tokens': [1], 'lm_head': [0, 2]}}");
    assert_int_equal(c.modules_to_save_count, 1);
    assert_int_equal(c.bias, BIAS_COPIES_ALL);
    assert_string_equal(c.tokens[1].module, "lm_head");
    assert_int_equal(c.tokens[1].id[1], 2);
    refuses("{'method': 'lora', 'modules_to_save': [3]}",
            "c.yaml:7: adapter.modules_to_save: found [3], want a list of names or null");
    refuses("{'method': 'lora', 'bias': 'some'}",
            "c.yaml:7: adapter.bias: found \"some\", want none, all, lora_only or rosa_only");
    c = takes("{'method': 'rosa', 'bias': 'rosa_only'}");
    assert_int_equal(c.bias, BIAS_COPIES_TARGETS);
    refuses("{'method': 'dora', 'bias': 'rosa_only'}",
            "c.yaml:7: adapter.bias: rosa_only is for rosa; for dora it is lora_only");
    refuses("{'method': 'lora', 'trainable_token_indices': [1, -2]}",
            "c.yaml:7: adapter.trainable_token_indices: found [1, -2], want a list of token ids, a "
            "map of module names to such lists, or null");
    refuses("{'method': 'lora', 'trainable_token_indices': {'lm_head': 4}}",
            "c.yaml:7: adapter.trainable_token_indices: found {\"lm_head\": 4}, want a list of "
            "token ids, a map of module names to such lists, or null");
    refuses("{'method': 'lora', 'trainable_token_indices': [5, 1, 5]}",
            "c.yaml:7: adapter.trainable_token_indices: token 5 stands there twice");
}

static void methods_of_copies_have_few_keys(void **state)
{
    struct adapter_config c = takes("{'peft_type': 'LN_TUNING', 'modules_to_save': ['lm_head']}");

    (void)state;
    assert_string_equal(c.method, "layernorm");
    assert_int_equal(takes("{'method': 'last_layers'}").last_layers, 1);
    c = takes("{'method': 'lpft', 'probe_steps': 7}");
    assert_true(c.probe_steps == 7 && c.probe_lr != c.probe_lr);
    assert_true(takes("{'method': 'lpft', 'probe_lr': 0.5}").probe_lr == 0.5);
    refuses("{'method': 'lpft', 'probe_lr': -1}",
            "c.yaml:7: adapter.probe_lr: found -1, want a number, 0 or more, or null");
    refuses("{'method': 'head', 'last_layers': 2}",
            "c.yaml:7: adapter.last_layers: head has no use for it, it belongs to last_layers");
    refuses("{'method': 'bitfit', 'r': 4}",
            "c.yaml:7: adapter.r: bitfit has no use for it, it belongs to lora, dora, rosa");
    refuses_beginning(
        "{'method': 'full', 'modules_to_save': ['lm_head']}",
        "c.yaml:7: adapter.modules_to_save: full has no use for it, it belongs to lora, ");
    c = takes("{'method': 'full', 'init_from': 'nowhere'}"); /* read when the model is there */
    assert_non_null(strstr(c.init_from, "/nowhere"));
}

static void unknown_keys_that_ask_for_nothing_are_noted(void **state)
{
    (void)state;
    takes("{'method': 'lora', 'merge_weights': false}");
    assert_string_equal(said,
                        "c.yaml:7: unknown key \"adapter.merge_weights\" asks for nothing and "
                        "is left out");
    refuses("{'method': 'lora', 'lora_alhpa': 3}",
            "c.yaml:7: unknown key \"adapter.lora_alhpa\", did you mean \"adapter.lora_alpha\"?");
}

static void a_file_is_read_strictly(void **state)
{
    struct adapter_config c;

    (void)state;
    write_file("{'peft_type': 'LORA', 'r': 3, 'init_lora_weights': 'orthogonal', "
               "'base_model_name_or_path': 'x/y'}");
    assert_int_equal(adapter_config_read(".", &c, &mem, &err), GRAFT_OK);
    assert_int_equal(c.r, 3);
    assert_string_equal(c.base_model_name_or_path, "x/y");
    write_file("{'peft_type': 'LORA', 'r': 0}");
    assert_int_equal(adapter_config_read(".", &c, &mem, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg, "./adapter_config.json: r: found 0, want 1 or more");
    write_file("{'fine_tune_type': 'lora', 'lora_parameters': {'rank': 8}}");
    assert_int_equal(adapter_config_read(".", &c, &mem, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg,
                        "./adapter_config.json: an adapter of mlx-lm, not of PEFT's format");
    write_file("[1]");
    assert_int_equal(adapter_config_read(".", &c, &mem, &err), GRAFT_EFORMAT);
    assert_int_equal(adapter_config_read("none", &c, &mem, &err), GRAFT_EIO);
}

static void init_from_lends_what_is_left_out(void **state)
{
    struct adapter_config c;

    (void)state;
    write_file("{'peft_type': 'LORA', 'r': 3, 'lora_alpha': 20, 'lora_dropout': 0.5, "
               "'target_modules': ['v', 'q'], 'base_model_name_or_path': 'x', 'revision': 'r', "
               "'task_type': 'CAUSAL_LM', 'inference_mode': true, 'rank_pattern': {'v': 2}}");
    c = takes(
        "{'init_from': '.', 'lora_alpha': 20.0, 'target_modules': ['q', 'v'], 'lora_dropout': 0}");
    assert_string_equal(c.method, "lora");
    assert_int_equal(c.r, 3);
    assert_true(c.lora_alpha == 20 && c.lora_dropout == 0);
    assert_int_equal(c.rank_pattern_count, 1);
    assert_null(c.base_model_name_or_path);
    assert_int_equal(c.init_from[0], '/');
    assert_int_equal(read_map("{'init_from': '.', 'method': 'dora'}", &c), GRAFT_EARG);
    takes("{'init_from': '.', 'method': 'lora', 'target_modules': 'all-linear', "
          "'base_model_name_or_path': 'other'}");
    assert_int_equal(read_map("{'init_from': '.', 'r': 4}", &c), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "c.yaml:7: adapter.r: 4, but the adapter in /"));
    assert_non_null(strstr(err.msg, " has 3"));
    assert_int_equal(read_map("{'init_from': 'none'}", &c), GRAFT_EIO);
    assert_non_null(strstr(err.msg, "adapter.init_from: "));
}

static void the_file_written_has_pefts_form(void **state)
{
    static const char *const target[] = { "k", "q" };
    struct adapter_config c = takes("{'method': 'lora', 'r': 4, 'lora_alpha': 8, 'target_modules': "
                                    "'all-linear', 'rank_pattern': {'z': 4, 'a': 2}}");
    struct strbuf s = STRBUF_INIT, want = STRBUF_INIT;

    (void)state;
    c.base_model_name_or_path = "x/y";
    assert_int_equal(adapter_config_write(&c, target, 2, &s, &err), GRAFT_OK);
    assert_int_equal(file_read(GRAFT_GOLDEN "/adapter_config.json", 1 << 16, &want, &err),
                     GRAFT_OK);
    assert_string_equal(strbuf_str(&s), strbuf_str(&want));
    strbuf_release(&s);
    strbuf_release(&want);
}

/* Also back again: an adapter of PEFT's whose start came out of its base is told. */
static void what_is_written_reads_back(void **state)
{
    static const char *const text[] = {
        "{'method': 'lora', 'r': 4, 'lora_alpha': 2.5, 'use_rslora': true, "
        "'target_modules': ['q', 'v'], 'exclude_modules': '.*9.*', "
        "'rank_pattern': {'z': 4, 'a': 2}, 'layers_to_transform': [1, 0], "
        "'layers_pattern': 'h', 'lora_bias': true}",
        "{'method': 'dora', 'r': 4, 'rank_pattern': {'z': 4}}",
        "{'method': 'ia3', 'target_modules': 'all-linear', 'feedforward_modules': ['x', 'y']}",
        "{'method': 'lora', 'bias': 'all', 'modules_to_save': ['a', 'b'], "
        "'trainable_token_indices': {'y': [2, 1], 'x': [3]}, 'ensure_weight_tying': true}",
        "{'method': 'lora', 'bias': 'lora_only', 'trainable_token_indices': [2, 1]}",
        "{'method': 'layernorm', 'target_modules': ['n'], 'modules_to_save': ['a']}",
        "{'method': 'bitfit'}",
        "{'method': 'head', 'modules_to_save': ['norm']}",
        "{'method': 'last_layers', 'last_layers': 3}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        struct adapter_config c = takes(text[i]), back;
        struct strbuf s = STRBUF_INIT;
        json_t *a, *b;

        assert_int_equal(adapter_config_write(&c, NULL, 0, &s, &err), GRAFT_OK);
        assert_int_equal(file_write("adapter_config.json", s.buf, s.len, &err), GRAFT_OK);
        if (adapter_config_read(".", &back, &mem, &err))
            fail_msg("%s", err.msg);
        a = adapter_config_json(&c);
        b = adapter_config_json(&back);
        if (!json_equal(a, b) || strcmp(back.method, c.method) != 0)
            fail_msg("%s", text[i]);
        if (i == 0)
            assert_string_equal(back.rank_pattern[0].regex, "z");
        json_decref(a);
        json_decref(b);
        strbuf_release(&s);
    }
    write_file("{'peft_type': 'LORA', 'init_lora_weights': 'pissa'}");
    assert_int_equal(adapter_config_read(".", &(struct adapter_config){ 0 }, &mem, &err),
                     GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "fits only a base without that"));
}

static int setup(void **state)
{
    (void)state;
    graft_note_sink(note, NULL);
    snprintf(dir, sizeof dir, "/tmp/graft-adapter-XXXXXX");
    return mkdtemp(dir) && !chdir(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&mem);
    unlink("adapter_config.json");
    return chdir("/") || rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_pefts),
        cmocka_unit_test(every_form_of_targets_is_told_apart),
        cmocka_unit_test(patterns_keep_their_order),
        cmocka_unit_test(layers_are_one_or_several),
        cmocka_unit_test(methods_are_named_by_either_key),
        cmocka_unit_test(start_values_have_pefts_names),
        cmocka_unit_test(feed_forward_modules_are_some_of_the_targets),
        cmocka_unit_test(keys_without_effect_pass_only_at_their_no_op_value),
        cmocka_unit_test(copies_have_the_forms_of_peft),
        cmocka_unit_test(methods_of_copies_have_few_keys),
        cmocka_unit_test(unknown_keys_that_ask_for_nothing_are_noted),
        cmocka_unit_test(a_file_is_read_strictly),
        cmocka_unit_test(init_from_lends_what_is_left_out),
        cmocka_unit_test(the_file_written_has_pefts_form),
        cmocka_unit_test(what_is_written_reads_back),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
