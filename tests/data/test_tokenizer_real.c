/* Real tokenizers with llama.cpp's test texts and the ids that llama.cpp's own tests expect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer.h"

static const char *assets;
static struct graft_err err;

static void path_to(struct strbuf *out, const char *name)
{
    strbuf_clear(out);
    strbuf_printf(out, "%s/tokenizers/%s", assets, name);
}

static struct tokenizer *open_real(const char *name)
{
    struct strbuf path = STRBUF_INIT;
    struct tokenizer *t = NULL;

    path_to(&path, name);
    if (tokenizer_open(path.buf, &t, &err))
        fail_msg("%s", err.msg);
    strbuf_release(&path);
    return t;
}

static void read_real(const char *name, struct strbuf *out)
{
    struct strbuf path = STRBUF_INIT;

    path_to(&path, name);
    if (file_read(path.buf, 64 << 20, out, &err))
        fail_msg("%s", err.msg);
    strbuf_release(&path);
}

/* The ids of one line, compared; returns what follows the line. */
static char *check_line(char *line, const struct id_list *got, int which)
{
    char *end = strchr(line, '\n');
    int64_t n = 0;

    assert_non_null(end);
    *end = '\0';
    for (char *p = line, *next;; p = next, n++) {
        const long id = strtol(p, &next, 10);

        if (next == p)
            break;
        if (n >= got->count || got->id[n] != id)
            fail_msg("text %d: id %lld should be %ld", which, (long long)n, id);
    }
    assert_int_equal(n, got->count);
    return end + 1;
}

static void check_vectors(struct tokenizer *t, const char *name)
{
    static const char between[] = "\n__ggml_vocab_test__\n";
    struct strbuf in = STRBUF_INIT, out = STRBUF_INIT, file = STRBUF_INIT;
    char *text, *line;
    int count = 0;

    strbuf_printf(&file, "llama.cpp/ggml-vocab-%s.gguf.inp", name);
    read_real(file.buf, &in);
    strbuf_clear(&file);
    strbuf_printf(&file, "llama.cpp/ggml-vocab-%s.gguf.out", name);
    read_real(file.buf, &out);
    text = in.buf;
    line = out.buf;
    for (char *end; (end = strstr(text, between)); text = end + sizeof between - 1) {
        struct id_list ids = { 0 };

        assert_int_equal(tokenizer_encode(t, text, (size_t)(end - text), false, &ids, &err),
                         GRAFT_OK);
        line = check_line(line, &ids, count++);
        id_list_release(&ids);
    }
    assert_int_equal(count, 46);
    strbuf_release(&in);
    strbuf_release(&out);
    strbuf_release(&file);
    tokenizer_free(t);
}

static void real_tokenizers_give_the_expected_ids(void **state)
{
    (void)state;
    check_vectors(open_real("gpt2/tokenizer.json"), "gpt-2");
    check_vectors(open_real("llama2/tokenizer.json"), "llama-spm");
    check_vectors(open_real("tinyllama/tokenizer.json"), "llama-spm");
    check_vectors(open_real("llama2/tokenizer.json"), "phi-3");
}

/* vocab.json, merges.txt and added tokens as the tables that a GGUF file of the model holds. */
struct built {
    json_t *vocab, *config;
    struct strbuf merges;
    struct tokenizer_text *token, *merge;
    int32_t *type;
};

static json_t *real_json(const char *name)
{
    struct strbuf path = STRBUF_INIT;
    json_t *o = NULL;

    path_to(&path, name);
    if (json_read_file(path.buf, &o, &err))
        fail_msg("%s", err.msg);
    strbuf_release(&path);
    return o;
}

static int64_t build_tokens(struct built *b)
{
    json_t *added = json_object_get(b->config, "added_tokens_decoder"), *v;
    int64_t size = 0;
    const char *key;

    json_object_foreach(b->vocab, key, v) size =
        json_integer_value(v) >= size ? json_integer_value(v) + 1 : size;
    json_object_foreach(added, key, v) size = atoll(key) >= size ? atoll(key) + 1 : size;
    b->token = mem_array((size_t)size, sizeof *b->token);
    b->type = mem_array((size_t)size, sizeof *b->type);
    for (int64_t i = 0; i < size; i++)
        b->token[i] = (struct tokenizer_text){ "", 0 };
    json_object_foreach(b->vocab, key, v)
    {
        b->token[json_integer_value(v)] = (struct tokenizer_text){ key, strlen(key) };
        b->type[json_integer_value(v)] = 1;
    }
    json_object_foreach(added, key, v)
    {
        const char *s = json_string_value(json_object_get(v, "content"));

        b->token[atoll(key)] = (struct tokenizer_text){ s, strlen(s) };
        b->type[atoll(key)] = json_is_true(json_object_get(v, "special")) ? 3 : 4;
    }
    return size;
}

static int64_t build_merges(struct built *b)
{
    int64_t n = 0;
    size_t lines = 1;

    for (size_t i = 0; i < b->merges.len; i++)
        lines += b->merges.buf[i] == '\n';
    b->merge = mem_array(lines, sizeof *b->merge);
    for (char *p = b->merges.buf, *end; p < b->merges.buf + b->merges.len; p = end + 1) {
        end = strchr(p, '\n');
        if (!end)
            end = b->merges.buf + b->merges.len;
        if (end > p && strncmp(p, "#version", 8) != 0)
            b->merge[n++] = (struct tokenizer_text){ p, (uint64_t)(end - p) };
    }
    return n;
}

static void check_tables(const char *pre, const char *vocab, const char *merges, const char *config,
                         int32_t bos, const char *vectors)
{
    struct built b = { .vocab = real_json(vocab), .config = real_json(config) };
    struct tokenizer_tables t = { .model = "gpt2", .pre = pre, .bos = bos, .eos = -1, .eot = -1 };
    struct tokenizer *tok = NULL;

    read_real(merges, &b.merges);
    t.vocab_size = build_tokens(&b);
    t.merge_count = build_merges(&b);
    t.token = b.token;
    t.type = b.type;
    t.merge = b.merge;
    t.unk = t.pad = t.add_bos = t.add_eos = t.add_space_prefix = -1;
    if (tokenizer_from_tables(&t, &tok, &err))
        fail_msg("%s", err.msg);
    check_vectors(tok, vectors);
    json_decref(b.vocab);
    json_decref(b.config);
    strbuf_release(&b.merges);
    mem_free(b.token);
    mem_free(b.type);
    mem_free(b.merge);
}

static void tables_of_llama_3_and_qwen_give_the_expected_ids(void **state)
{
    (void)state;
    check_tables("llama-bpe", "llama3/encoder.json", "llama3/vocab.bpe",
                 "llama3/tokenizer_config.json", 128000, "llama-bpe");
    check_tables("qwen2", "qwen2/vocab.json", "qwen2/merges.txt", "qwen2/tokenizer_config.json", -1,
                 "qwen2");
}

/* Every real tokenizer gives a text back that it was given; SentencePiece adds and takes a space.
 */
static void real_tokenizers_decode_what_they_encoded(void **state)
{
    static const char *const names[] = {
        "gpt2/tokenizer.json",       "llama2/tokenizer.json",  "mistral/tokenizer.json",
        "opt/tokenizer.json",        "phi/tokenizer.json",     "pythia/tokenizer.json",
        "pythia/20B_tokenizer.json", "smollm2/tokenizer.json", "smollm2/tokenizer.oldmerges.json",
        "tinyllama/tokenizer.json"
    };
    const char *text =
        "Hello,  world! don't 12345 caf\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x99"
        "\x82\n\tdef f(x):\n        return x";

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct tokenizer *t = open_real(names[i]);
        struct id_list ids = { 0 };
        struct strbuf out = STRBUF_INIT;

        assert_int_equal(tokenizer_encode(t, text, strlen(text), true, &ids, &err), GRAFT_OK);
        assert_int_equal(tokenizer_decode(t, ids.id, ids.count, true, &out, &err), GRAFT_OK);
        assert_string_equal(out.buf, text);
        id_list_release(&ids);
        strbuf_release(&out);
        tokenizer_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_tokenizers_give_the_expected_ids),
        cmocka_unit_test(tables_of_llama_3_and_qwen_give_the_expected_ids),
        cmocka_unit_test(real_tokenizers_decode_what_they_encoded),
    };

    assets = getenv("GRAFT_ASSETS");
    if (!assets)
        assets = GRAFT_SOURCE_DIR "/../shared/assets";
    if (!dir_exists(assets)) {
        printf("skipped: no folder %s with real tokenizers\n", assets);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
