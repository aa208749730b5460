/* A run's config: what is taken, what is refused and with which words, and the way back to YAML. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <glob.h>
#include <unistd.h>

#include "core/file.h"
#include "train/config.h"

#define LEAST                                                                                      \
    "base: b\n"                                                                                    \
    "adapter: {method: lora}\n"                                                                    \
    "data: {train: t.jsonl}\n"

static struct graft_err err;
static char dir[64];

static enum graft_status load(const char *text, const char *const *set, int sets,
                              struct run_config *out)
{
    const struct config_input in = { .file = "c.yaml", .set = set, .set_count = sets };

    memset(&err, 0, sizeof err);
    memset(out, 0, sizeof *out);
    assert_int_equal(file_write("c.yaml", text, strlen(text), &err), GRAFT_OK);
    return config_load(&in, out, &err);
}

static struct run_config takes(const char *text)
{
    struct run_config c;

    if (load(text, NULL, 0, &c))
        fail_msg("%s", err.msg);
    return c;
}

static void refuses(const char *text, const char *message)
{
    struct run_config c;

    assert_int_equal(load(text, NULL, 0, &c), GRAFT_EARG);
    assert_string_equal(err.msg, message);
}

static void refuses_set(const char *set, const char *message)
{
    struct run_config c;

    assert_int_equal(load(LEAST, &set, 1, &c), GRAFT_EARG);
    assert_string_equal(err.msg, message);
}

static void the_least_config_has_the_documented_defaults(void **state)
{
    struct run_config c = takes(LEAST);

    (void)state;
    assert_int_equal(c.base[0], '/');
    assert_string_equal(path_base(c.base), "b");
    assert_int_equal(c.quant.mode, QUANT_AUTO);
    assert_int_equal(c.compute, COMPUTE_AUTO);
    assert_string_equal(c.device, "auto");
    assert_int_equal(c.adapter.r, 8);
    assert_true(c.adapter.lora_alpha == 8);
    assert_true(c.adapter.lora_dropout == 0);
    assert_int_equal(c.adapter.target_modules.kind, TARGETS_DEFAULT);
    assert_int_equal(c.data.train_count, 1);
    assert_true(c.data.mask_prompt && c.data.shuffle && !c.data.packing);
    assert_int_equal(c.data.max_length, 1024);
    assert_true(c.train.epochs == 1);
    assert_int_equal(c.train.steps, 0);
    assert_int_equal(c.train.save_every, 0);
    assert_true(c.optim.lr == 2e-4);
    assert_int_equal(c.optim.name, OPTIM_ADAMW);
    assert_int_equal(c.optim.schedule, SCHEDULE_COSINE);
    assert_true(c.optim.warmup == 0.03);
    assert_null(c.output);
    run_config_release(&c);
}

static void values_are_taken_from_the_file_and_overridden(void **state)
{
    const char *set[] = { "optim.lr=1e-4", "train={steps: 7}", "optim.eps=null",
                          "data.train=[a, {path: b, format: text}]", "optim.lr=3e-4" };
    struct run_config c;

    (void)state;
    assert_int_equal(
        load(LEAST "optim: {lr: 5, eps: 1}\ntrain: {epochs: 3, seed: 9}\n", set, 5, &c), GRAFT_OK);
    assert_true(c.optim.lr == 3e-4);
    assert_true(c.optim.eps == 1e-8);
    assert_int_equal(c.train.steps, 7);
    assert_true(c.train.epochs == 0);
    assert_int_equal(c.train.seed, 42);
    assert_int_equal(c.data.train_count, 2);
    assert_int_equal(c.data.train_format[0], RECORD_AUTO);
    assert_int_equal(c.data.train_format[1], RECORD_TEXT);
    run_config_release(&c);
}

static void json_is_yaml(void **state)
{
    struct run_config c = takes("{\"base\": \"b\\ud83d\\ude00\",\n\t\"adapter\": {\"peft_type\": "
                                "\"LORA\"}, \"data\": {\"train\": \"t\"}}");

    (void)state;
    assert_string_equal(path_base(c.base), "b\xf0\x9f\x98\x80");
    run_config_release(&c);
}

static void anchors_are_followed(void **state)
{
    struct run_config c = takes(LEAST "optim: {betas: &b [0.5, 0.6], lr: &l 1e-3, min_lr: *l}\n");

    (void)state;
    assert_true(c.optim.min_lr == 1e-3);
    run_config_release(&c);
}

static void scalars_follow_the_core_schema(void **state)
{
    struct run_config c =
        takes(LEAST "train: {seed: 0x10, batch_size: +3}\noptim: {lr: .5, eps: 2.E-3}\n");

    (void)state;
    assert_int_equal(c.train.seed, 16);
    assert_int_equal(c.train.batch_size, 3);
    assert_true(c.optim.lr == 0.5);
    assert_true(c.optim.eps == 2e-3);
    run_config_release(&c);
    refuses("base: b\nadapter: {method: lora}\ndata:\n  train: t\n  shuffle: yes\n",
            "c.yaml:5: data.shuffle: found \"yes\", want true or false");
    refuses(LEAST "optim: {lr: '1'}\n",
            "c.yaml:4: optim.lr: found \"1\", want a number, 0 or more");
    refuses(LEAST "optim: {lr: .inf}\n",
            "c.yaml:4: optim.lr: found \".inf\", want a number, 0 or more");
}

static void bad_yaml_names_its_line(void **state)
{
    (void)state;
    refuses("base: b\nbase: c\n", "c.yaml:2: the key \"base\" stands here a second time");
    refuses("optim:\n  lr: 1\n  lr: 2\n",
            "c.yaml:3: the key \"optim.lr\" stands here a second time");
    refuses(LEAST "---\nbase: b\n", "c.yaml:4: a second document begins, only one is read");
    refuses("base: *b\n", "c.yaml:1: the alias \"*b\" has no anchor before it");
    refuses("base: !!binary b\n",
            "c.yaml:1: the tag \"tag:yaml.org,2002:binary\" is not known, leave it out");
    refuses("x: &x {a: 1}\noptim:\n  <<: *x\n",
            "c.yaml:3: the merge key \"<<\" is not supported, write the keys out");
    refuses("base: b\n  optim: 3\n", "c.yaml:2: mapping values are not allowed in this context");
    refuses("[1, 2]\n", "c.yaml: not a map of keys");
    refuses("",
            "c.yaml: base: missing, want the path of a Hugging Face folder, a .gguf file or a "
            ".h5 container\n"
            "c.yaml: adapter: missing, want a map of keys with method\n"
            "c.yaml: data.train: missing, want a JSONL file, a list of files, or a list of maps "
            "{path, format, weight}");
}

static void every_slip_is_told_at_once(void **state)
{
    (void)state;
    refuses("bse: b\ntrain:\n  batch_size: x\n  stepps: 3\nadapter: {method: lora, r: 0}\n"
            "data: {train: t}\n",
            "c.yaml:1: unknown key \"bse\", did you mean \"base\"?\n"
            "c.yaml: base: missing, want the path of a Hugging Face folder, a .gguf file or a "
            ".h5 container\n"
            "c.yaml:4: unknown key \"train.stepps\", did you mean \"train.steps\"?\n"
            "c.yaml:3: train.batch_size: found \"x\", want a whole number from 1 to 1048576\n"
            "c.yaml:5: adapter.r: found 0, want 1 or more");
    /* beyond the table, too */
    refuses(
        LEAST "train: {epochs: abc, steps: 3}\noptim: {betas: [1]}\nquant: q4\n",
        "c.yaml:6: quant: found \"q4\", want auto, nf4, fp4, none or a map {type: nf4, block: 64, "
        "double: true}\n"
        "c.yaml:4: train.epochs: found \"abc\", want a number above 0, at most 1e9\n"
        "c.yaml:5: optim.betas: found [1], want a list of two numbers from 0 to below 1");
}

static void alias_bombs_and_depth_are_refused(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    strbuf_puts(&s, "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for (int i = 1; i < 9; i++) {
        strbuf_printf(&s, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            strbuf_printf(&s, "%s*a%d", k ? ", " : "", i - 1);
        strbuf_puts(&s, "]\n");
    }
    refuses(strbuf_str(&s), "c.yaml:5: more than 100000 values, aliases followed");
    strbuf_clear(&s);
    strbuf_puts(&s, "a: ");
    for (int i = 0; i < 70; i++)
        strbuf_putc(&s, '[');
    refuses(strbuf_str(&s), "c.yaml:1: nested deeper than 64");
    strbuf_release(&s);
}

static void other_tools_spellings_get_the_name_here(void **state)
{
    (void)state;
    refuses(LEAST "learning_rate: 1\n",
            "c.yaml:4: unknown key \"learning_rate\": it is called \"optim.lr\" here");
    refuses(LEAST "micro_batch_size: 1\n",
            "c.yaml:4: unknown key \"micro_batch_size\": it is called \"train.batch_size\" here");
    refuses(LEAST "sequence_len: 1\n",
            "c.yaml:4: unknown key \"sequence_len\": it is called \"data.max_length\" here");
    refuses(LEAST "num_epochs: 1\n",
            "c.yaml:4: unknown key \"num_epochs\": it is called \"train.epochs\" here");
    refuses(LEAST "iters: 1\n",
            "c.yaml:4: unknown key \"iters\": it is called \"train.steps\" here");
    refuses(LEAST "optim:\n  lrr: 1\n",
            "c.yaml:5: unknown key \"optim.lrr\", did you mean \"optim.lr\"?");
    refuses(
        "base: b\ndata: {train: t}\nadapter:\n  method: lora\n  num_train_epochs: 3\n",
        "c.yaml:5: unknown key \"adapter.num_train_epochs\": it is called \"train.epochs\" here");
    refuses(LEAST "lora_r: 8\n",
            "c.yaml:4: unknown key \"lora_r\": it is called \"adapter.r\" here");
}

static void values_out_of_range_are_refused(void **state)
{
    (void)state;
    refuses(LEAST "train: {batch_size: 0}\n",
            "c.yaml:4: train.batch_size: found 0, want a whole number from 1 to 1048576");
    refuses(LEAST "train: {epochs: 0}\n",
            "c.yaml:4: train.epochs: found 0, want a number above 0, at most 1e9");
    refuses(LEAST "train: {epochs: 1, steps: 3}\n",
            "c.yaml:4: train.steps: steps and epochs both say how long the run is, leave one out: "
            "-s train.steps=null or -s train.epochs=null");
    refuses(
        LEAST "train: {steps: 1e3}\n",
        "c.yaml:4: train.steps: found 1000.0, want a whole number from 0 to 1000000000000000, in "
        "digits alone");
    refuses(
        LEAST "train: {seed: 18446744073709551615}\n",
        "c.yaml:4: train.seed: found 1.8446744073709552e+19, want a whole number, 0 or more, at "
        "most 9223372036854775807");
    refuses(LEAST "train: {eval_every: 3}\n",
            "c.yaml:4: train.eval_every: needs data.valid beside it");
    refuses(LEAST "train: {memory: lots}\n",
            "c.yaml:4: train.memory: found \"lots\", want auto, bytes, or a size such as 6GiB");
    refuses(LEAST "optim: {betas: [0.9, 1]}\n",
            "c.yaml:4: optim.betas: found [0.9, 1], want a list of two numbers from 0 to below 1");
    refuses(LEAST "optim: {warmup: 1.5}\n",
            "c.yaml:4: optim.warmup: found 1.5, want a share below 1 or a whole number of steps");
    refuses(LEAST "optim: {lr: 1e-4, min_lr: 1e-3}\n",
            "c.yaml:4: optim.min_lr: 0.001 is above lr, which is 0.0001");
    refuses(LEAST "optim: {name: adam}\n",
            "c.yaml:4: optim.name: found \"adam\", want adamw or sgd");
    refuses(LEAST "quant: {type: nf4, block: 48}\n",
            "c.yaml:4: quant.block: found 48, want a power of two from 32 to 4096");
    refuses("base: b\nadapter: {method: lora}\ndata: {train: []}\n",
            "c.yaml:3: data.train: found [], want a JSONL file, a list of files, or a list of "
            "maps {path, format, weight}");
    refuses("base: b\nadapter: {method: lora}\n",
            "c.yaml: data.train: missing, want a JSONL file, a list of files, or a list of maps "
            "{path, format, weight}");
    refuses("base: b\ndata: {train: t}\n",
            "c.yaml: adapter: missing, want a map of keys with method");
}

static void what_is_not_supported_yet_is_refused_by_name(void **state)
{
    (void)state;
    refuses(LEAST "quant: int8\n",
            "c.yaml:4: quant: \"int8\" is not supported in this version, auto, nf4, fp4, none or a "
            "map {type: nf4, block: 64, double: true} is");
    refuses(LEAST "device: cuda:1\n",
            "c.yaml:4: device: \"cuda:1\" is not supported in this version, auto or cpu is");
    refuses(LEAST "train: {save_every: auto}\n",
            "c.yaml:4: train.save_every: \"auto\" is not supported in this version, only 0 is");
    refuses(LEAST "optim: {state: 8bit}\n",
            "c.yaml:4: optim.state: \"8bit\" is not supported in this version, f32 is");
    refuses(
        LEAST "optim:\n  paged: {budget: 256MiB}\n",
        "c.yaml:5: optim.paged: {\"budget\": \"256MiB\"} is not supported in this version, only "
        "\"off\" is");
}

static void weights_and_shares_without_sense_are_refused(void **state)
{
    static const char *const valid[] = { "0", "-3", "1.0", "1.5", "0.0", "true", "[v]" };

    (void)state;
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        char set[64], msg[256];

        snprintf(set, sizeof set, "data.valid=%s", valid[i]);
        snprintf(msg, sizeof msg,
                 "-s %s: data.valid: found %s, want a JSONL file, a share (0.05) or number (200) "
                 "of the records of data.train, or null",
                 set, i == 6 ? "[\"v\"]" : valid[i]);
        refuses_set(set, msg);
    }
    refuses_set("data.train=[{path: a, weight: 0}]",
                "-s data.train=[{path: a, weight: 0}]: data.train.0: found 0, want a weight above "
                "0, at most 1e6: times a record is drawn an epoch");
    refuses_set("data.train=[{path: a, weight: twice}]",
                "-s data.train=[{path: a, weight: twice}]: data.train.0: found \"twice\", want a "
                "weight above 0, at most 1e6: times a record is drawn an epoch");
    refuses_set("data.train=[{path: a, wieght: 2}]",
                "-s data.train=[{path: a, wieght: 2}]: data.train.0: unknown key \"wieght\", there "
                "are path, format and weight");
}

static void weights_and_shares_are_read_and_written(void **state)
{
    static const char sources[] =
        "base: b\nadapter: {method: lora}\n"
        "data:\n  train: [a, {path: b, weight: 0.5}, {path: c, weight: 3}]\n"
        "  valid: 0.05\ntrain: {eval_every: 2}\n";
    struct run_config c = takes(sources);
    struct strbuf yaml = STRBUF_INIT;

    (void)state;
    assert_true(c.data.train_weight[0] == 1 && c.data.train_weight[1] == 0.5 &&
                c.data.train_weight[2] == 3);
    assert_true(c.data.valid_share == 0.05 && c.data.valid_number == 0 && !c.data.valid);
    assert_int_equal(config_to_yaml(&c, &yaml, NULL), GRAFT_OK);
    assert_non_null(strstr(yaml.buf, "weight: 0.5"));
    assert_non_null(strstr(yaml.buf, "weight: 3"));
    assert_non_null(strstr(yaml.buf, "valid: 0.05"));
    strbuf_release(&yaml);
    run_config_release(&c);
    c = takes("base: b\nadapter: {method: lora}\ndata: {train: a, valid: 200}\n");
    assert_true(c.data.valid_number == 200 && c.data.valid_share == 0 && config_splits(&c.data));
    run_config_release(&c);
}

static void overrides_name_themselves(void **state)
{
    (void)state;
    refuses_set("optim.lr=abc",
                "-s optim.lr=abc: optim.lr: found \"abc\", want a number, 0 or more");
    refuses_set("optim.lr", "-s optim.lr: want KEY=VALUE");
    refuses_set("=3", "-s =3: want KEY=VALUE");
    refuses_set("optim..lr=3", "-s optim..lr=3: \"optim..lr\" is not a key");
    refuses_set("base.x=3", "-s base.x=3: \"base\" is no map, nothing can be set below it");
    refuses_set("optim=[", "-s optim=[: did not find expected node content");
    refuses_set("optim.ler=null",
                "-s optim.ler=null: c.yaml: unknown key \"optim.ler\", did you mean \"optim.lr\"?");
}

static void the_resolved_config_reads_back_the_same(void **state)
{
    static const char text[] =
        "base: 'a b: #c'\nbase_name: \"x\\ty \\u00e9\"\nquant: {type: fp4, block: 128, double: "
        "false}\n"
        "compute: bf16\nthreads: 3\nadapter:\n  method: lora\n  r: 5\n  lora_alpha: 2.5\n"
        "  rank_pattern: {z.*proj: 4, a_proj: 7}\n  layers_to_transform: 3\n  layers_pattern: "
        "layers\n"
        "  target_modules: [v_proj, 'off', '12']\n"
        "data: {train: [a, {path: b, format: alpaca, weight: 0.75}], valid: v, max_length: 77, "
        "packing: true}\n"
        "train: {steps: 5, eval_every: 2, memory: 1.5GiB}\n"
        "optim: {lr: 1.2345678901234567e-5, betas: [0.1, 0.2], warmup: 12, schedule: linear}\n"
        "output: o\n";
    struct run_config a = takes(text), b;
    struct strbuf first = STRBUF_INIT, second = STRBUF_INIT;

    (void)state;
    assert_int_equal(config_to_yaml(&a, &first, &err), GRAFT_OK);
    b = takes(strbuf_str(&first));
    assert_int_equal(config_to_yaml(&b, &second, &err), GRAFT_OK);
    assert_string_equal(strbuf_str(&first), strbuf_str(&second));
    assert_true(a.optim.lr == b.optim.lr && b.optim.lr == 1.2345678901234567e-5);
    assert_string_equal(b.adapter.rank_pattern[0].regex, "z.*proj");
    assert_int_equal(b.train.memory, 1610612736);
    assert_string_equal(path_base(b.base), "a b: #c");
    assert_string_equal(b.base_name, "x\ty \xc3\xa9");
    assert_int_equal(b.quant.spec.type, QT_FP4);
    assert_int_equal(b.quant.spec.block, 128);
    assert_false(b.quant.spec.nested);
    run_config_release(&a);
    run_config_release(&b);
    strbuf_release(&first);
    strbuf_release(&second);
}

/* Every key of a table has its row. */
static void walk(const struct key_table *t, const json_t *resolved, const char *help)
{
    for (size_t i = 0; i < t->count; i++) {
        char line[64];

        snprintf(line, sizeof line, "%s:", t->keys[i].name);
        if (!strstr(help, line))
            fail_msg("no row of help for %s.%s", t->section, t->keys[i].name);
        if (!t->keys[i].help || !*t->keys[i].help)
            fail_msg("%s.%s has no help", t->section, t->keys[i].name);
        if (t->keys[i].type == KEY_MAP)
            walk(t->keys[i].table, json_object_get(resolved, t->keys[i].name), help);
        else if (!json_object_get(resolved, t->keys[i].name))
            fail_msg("the resolved config lacks %s.%s", t->section, t->keys[i].name);
    }
}

static void every_key_has_help_and_stands_in_the_resolved_config(void **state)
{
    struct run_config c = takes(LEAST);
    json_t *resolved = config_to_json(&c);
    struct strbuf help = STRBUF_INIT;

    (void)state;
    config_help(&help);
    walk(&config_keys, resolved, strbuf_str(&help));
    json_decref(resolved);
    strbuf_release(&help);
    run_config_release(&c);
}

static void the_help_is_a_config_of_the_defaults(void **state)
{
    struct strbuf help = STRBUF_INIT, text = STRBUF_INIT, a = STRBUF_INIT, b = STRBUF_INIT;
    struct run_config defaults = takes(LEAST), c;
    const char *base, *train;

    (void)state;
    config_help(&help);
    base = strstr(strbuf_str(&help), "\nbase:\n");
    train = strstr(strbuf_str(&help), "\n  train:\n");
    assert_non_null(base);
    assert_non_null(train);
    strbuf_add(&text, help.buf, (size_t)(base - help.buf));
    strbuf_puts(&text, "\nbase: b\n");
    strbuf_add(&text, base + 7, (size_t)(train - base - 7));
    strbuf_puts(&text, "\n  train: t.jsonl\n");
    strbuf_puts(&text, train + 10);
    c = takes(strbuf_str(&text));
    assert_int_equal(config_to_yaml(&defaults, &a, &err), GRAFT_OK);
    assert_int_equal(config_to_yaml(&c, &b, &err), GRAFT_OK);
    assert_string_equal(strbuf_str(&a), strbuf_str(&b));
    run_config_release(&c);
    run_config_release(&defaults);
    strbuf_release(&help);
    strbuf_release(&text);
    strbuf_release(&a);
    strbuf_release(&b);
}

static void the_ready_configs_load(void **state)
{
    glob_t found;

    (void)state;
    assert_int_equal(glob(GRAFT_SOURCE_DIR "/configs/*.yaml", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 3);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const struct config_input in = { .file = found.gl_pathv[i], .need_output = true };
        struct run_config c;

        if (config_load(&in, &c, &err))
            fail_msg("%s", err.msg);
        run_config_release(&c);
    }
    globfree(&found);
}

static void quant_options_take_words_and_maps(void **state)
{
    struct quant_config q;

    (void)state;
    assert_int_equal(quant_config_parse("none", &q, &err), GRAFT_OK);
    assert_int_equal(q.mode, QUANT_NONE);
    assert_int_equal(quant_config_parse("{type: nf4, block: 32, double: false}", &q, &err),
                     GRAFT_OK);
    assert_int_equal(q.spec.block, 32);
    assert_int_equal(quant_config_parse("nf5", &q, &err), GRAFT_EARG);
    assert_string_equal(err.msg,
                        "--quant: quant: found \"nf5\", want auto, nf4, fp4, none or a map "
                        "{type: nf4, block: 64, double: true}");
    assert_int_equal(quant_config_parse("{type: nf4, blok: 3}", &q, &err), GRAFT_EARG);
    assert_string_equal(err.msg,
                        "--quant: unknown key \"quant.blok\", did you mean \"quant.block\"?");
}

static void a_missing_file_is_an_input_error(void **state)
{
    const struct config_input in = { .file = "none.yaml" };
    struct run_config c;

    (void)state;
    assert_int_equal(config_load(&in, &c, &err), GRAFT_EIO);
}

static void every_failed_allocation_is_reported(void **state)
{
    struct run_config c;

    (void)state;
    for (int64_t k = 1; k < 2000; k++) {
        enum graft_status st;
        const struct config_input in = { .file = "c.yaml" };

        memset(&c, 0, sizeof c);
        mem_fail_at(k);
        st = config_load(&in, &c, &err);
        mem_fail_at(0);
        if (!st) {
            run_config_release(&c);
            return;
        }
        assert_int_equal(st, GRAFT_ENOMEM);
    }
    fail();
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/graft-config-XXXXXX");
    return mkdtemp(dir) && !chdir(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    unlink("c.yaml");
    return chdir("/") || rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_config_has_the_documented_defaults),
        cmocka_unit_test(values_are_taken_from_the_file_and_overridden),
        cmocka_unit_test(json_is_yaml),
        cmocka_unit_test(anchors_are_followed),
        cmocka_unit_test(scalars_follow_the_core_schema),
        cmocka_unit_test(bad_yaml_names_its_line),
        cmocka_unit_test(every_slip_is_told_at_once),
        cmocka_unit_test(alias_bombs_and_depth_are_refused),
        cmocka_unit_test(other_tools_spellings_get_the_name_here),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(what_is_not_supported_yet_is_refused_by_name),
        cmocka_unit_test(weights_and_shares_without_sense_are_refused),
        cmocka_unit_test(weights_and_shares_are_read_and_written),
        cmocka_unit_test(overrides_name_themselves),
        cmocka_unit_test(the_resolved_config_reads_back_the_same),
        cmocka_unit_test(every_key_has_help_and_stands_in_the_resolved_config),
        cmocka_unit_test(the_help_is_a_config_of_the_defaults),
        cmocka_unit_test(the_ready_configs_load),
        cmocka_unit_test(quant_options_take_words_and_maps),
        cmocka_unit_test(a_missing_file_is_an_input_error),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
