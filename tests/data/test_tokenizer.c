/* The tokenizer on three small ones that Hugging Face tokenizers has answered for
 * (tests/golden/make_tokenizer.py), on hostile files, and when memory runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer.h"

static struct graft_err err;

static struct tokenizer *golden(const char *name)
{
    struct strbuf path = STRBUF_INIT;
    struct tokenizer *t = NULL;

    strbuf_printf(&path, "%s/%s.json", GRAFT_GOLDEN, name);
    if (tokenizer_open(path.buf, &t, &err))
        fail_msg("%s", err.msg);
    strbuf_release(&path);
    return t;
}

static void check_ids(const json_t *want, const struct id_list *got, const char *text)
{
    if ((int64_t)json_array_size(want) != got->count)
        fail_msg("\"%s\": %lld ids instead of %zu", text, (long long)got->count,
                 json_array_size(want));
    for (int64_t i = 0; i < got->count; i++)
        if (json_integer_value(json_array_get(want, (size_t)i)) != got->id[i])
            fail_msg("\"%s\": id %lld is %d", text, (long long)i, got->id[i]);
}

static void check_text(const json_t *want, const struct strbuf *got)
{
    if (json_is_null(want))
        return;
    assert_int_equal(got->len, json_string_length(want));
    assert_memory_equal(strbuf_str(got), json_string_value(want), got->len);
}

static void decode_both_ways(const struct tokenizer *t, const struct id_list *ids, bool skip,
                             const json_t *want)
{
    struct token_stream s = { .t = t, .skip_special = skip };
    struct strbuf whole = STRBUF_INIT, part = STRBUF_INIT;

    assert_int_equal(tokenizer_decode(t, ids->id, ids->count, skip, &whole, &err), GRAFT_OK);
    check_text(want, &whole);
    for (int64_t i = 0; i < ids->count; i++) {
        const size_t had = part.len;
        uint32_t cp;

        assert_int_equal(token_stream_put(&s, ids->id[i], &part, &err), GRAFT_OK);
        for (size_t k = had; k < part.len;) { /* whole characters only */
            const int n = utf8_next(part.buf + k, part.len - k, &cp);

            assert_true(n > 0);
            k += (size_t)n;
        }
    }
    assert_int_equal(token_stream_flush(&s, &part, &err), GRAFT_OK);
    assert_int_equal(part.len, whole.len);
    assert_string_equal(strbuf_str(&part), strbuf_str(&whole));
    token_stream_release(&s);
    strbuf_release(&whole);
    strbuf_release(&part);
}

static void check_case(const struct tokenizer *t, const json_t *o)
{
    const json_t *text = json_object_get(o, "text");
    const char *s = json_string_value(text);
    const size_t len = json_string_length(text);
    struct id_list ids = { 0 }, plain = { 0 }, at = { 0 };

    assert_int_equal(tokenizer_encode(t, s, len, true, &ids, &err), GRAFT_OK);
    assert_int_equal(tokenizer_encode_offsets(t, s, len, false, &plain, &at, &err), GRAFT_OK);
    check_ids(json_object_get(o, "ids"), &ids, s);
    check_ids(json_object_get(o, "plain"), &plain, s);
    assert_int_equal(at.count, plain.count);
    for (int64_t i = 0; i < at.count; i++)
        assert_true(at.id[i] >= 0 && (size_t)at.id[i] < len);
    decode_both_ways(t, &ids, false, json_object_get(o, "decoded"));
    decode_both_ways(t, &plain, true, json_object_get(o, "skipped"));
    id_list_release(&ids);
    id_list_release(&plain);
    id_list_release(&at);
}

static void ids_and_texts_are_those_of_the_reference(void **state)
{
    static const char *const names[] = { "tokenizer_bytes", "tokenizer_pieces", "tokenizer_meta" };
    struct tokenizer *t[3] = { golden(names[0]), golden(names[1]), golden(names[2]) };
    struct strbuf all = STRBUF_INIT;
    int cases = 0;

    (void)state;
    assert_int_equal(file_read(GRAFT_GOLDEN "/tokenizer_cases.jsonl", 1 << 20, &all, &err),
                     GRAFT_OK);
    for (char *p = all.buf, *end; p < all.buf + all.len; p = end + 1, cases++) {
        json_t *o;
        const char *name;

        end = memchr(p, '\n', (size_t)(all.buf + all.len - p));
        assert_int_equal(json_read("cases", p, (size_t)(end - p), &o, &err), GRAFT_OK);
        name = json_string_value(json_object_get(o, "tokenizer"));
        for (int i = 0; i < 3; i++)
            if (strcmp(name, names[i]) == 0)
                check_case(t[i], o);
        json_decref(o);
    }
    assert_int_equal(cases, 87);
    strbuf_release(&all);
    for (int i = 0; i < 3; i++)
        tokenizer_free(t[i]);
}

static void offsets_say_where_each_token_begins(void **state)
{
    struct tokenizer *t = golden("tokenizer_bytes");
    const char *text = "the \xc3\xa9 e\xcc\x81t<s>cat"; /* é written in both ways */
    struct id_list ids = { 0 }, at = { 0 };
    /* <s>, the, " ", é (C3, A9), " ", é from e + U+0301, t, <s>, cat; é is one of the two bytes */
    const int32_t want[] = { -1, 0, 3, 4, 4, 6, 7, 7, 10, 11, 14 };

    (void)state;
    assert_int_equal(tokenizer_encode_offsets(t, text, strlen(text), true, &ids, &at, &err),
                     GRAFT_OK);
    assert_int_equal(at.count, ids.count);
    assert_int_equal(at.count, 11);
    for (int64_t i = 0; i < at.count; i++)
        if (i != 4) /* the second byte of the first é stands one further */
            assert_int_equal(at.id[i], want[i]);
    assert_int_equal(at.id[4], 5);
    id_list_release(&ids);
    id_list_release(&at);
    tokenizer_free(t);
}

static void invalid_utf8_becomes_the_replacement_character(void **state)
{
    struct tokenizer *t = golden("tokenizer_pieces");
    const char bad[] = "the\xff\xe4\xbd cat\xc3",
               good[] = "the\xef\xbf\xbd\xef\xbf\xbd cat\xef\xbf\xbd";
    struct id_list a = { 0 }, b = { 0 }, at = { 0 };

    (void)state;
    assert_int_equal(tokenizer_encode_offsets(t, bad, sizeof bad - 1, true, &a, &at, &err),
                     GRAFT_OK);
    assert_int_equal(tokenizer_encode(t, good, sizeof good - 1, true, &b, &err), GRAFT_OK);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.id, b.id, (size_t)a.count * sizeof *a.id);
    assert_int_equal(at.id[at.count - 1], (int)sizeof bad - 2);
    id_list_release(&a);
    id_list_release(&b);
    id_list_release(&at);
    tokenizer_free(t);
}

static void a_long_text_without_a_gap_takes_no_quadratic_time(void **state)
{
    struct tokenizer *t[2] = { golden("tokenizer_bytes"), golden("tokenizer_pieces") };
    const size_t len = 1 << 20;
    char *text = mem_alloc(len);

    (void)state;
    memset(text, 'a', len);
    for (int k = 0; k < 2; k++) {
        struct id_list ids = { 0 };

        assert_int_equal(tokenizer_encode(t[k], text, len, false, &ids, &err), GRAFT_OK);
        assert_true(ids.count > 1000);
        id_list_release(&ids);
        tokenizer_free(t[k]);
    }
    mem_free(text);
}

static void a_stream_holds_half_a_character_back(void **state)
{
    struct tokenizer *t = golden("tokenizer_pieces");
    struct token_stream s = { .t = t };
    struct strbuf out = STRBUF_INIT;
    const char *const names[] = { "\xe2\x96\x81", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "t" };
    const size_t printed[] = { 0, 0, 0, 0, 0, 5 };

    (void)state;
    for (int i = 0; i < 6; i++) {
        const int32_t id = tokenizer_id(t, names[i], strlen(names[i]));

        assert_true(id >= 0);
        assert_int_equal(token_stream_put(&s, id, &out, &err), GRAFT_OK);
        assert_int_equal(out.len, printed[i]);
    }
    assert_string_equal(out.buf, "\xf0\x9f\x99\x82t");
    assert_int_equal(token_stream_put(&s, tokenizer_id(t, "<0xE4>", 6), &out, &err), GRAFT_OK);
    assert_int_equal(token_stream_flush(&s, &out, &err), GRAFT_OK);
    assert_string_equal(out.buf, "\xf0\x9f\x99\x82t\xef\xbf\xbd");
    token_stream_release(&s);
    strbuf_release(&out);
    tokenizer_free(t);
}

static void the_vocabulary_can_be_asked(void **state)
{
    struct tokenizer *t = golden("tokenizer_pieces");
    struct strbuf json = STRBUF_INIT, out = STRBUF_INIT;
    const int32_t far = (int32_t)tokenizer_vocab_size(t);
    size_t len;

    (void)state;
    assert_int_equal(tokenizer_id(t, "<s>", 3), 1);
    assert_int_equal(tokenizer_id(t, "nothing", 7), -1);
    assert_memory_equal(tokenizer_token(t, 3, &len), "<0x00>", 6);
    assert_int_equal(len, 6);
    assert_string_equal(tokenizer_token(t, far, &len), "");
    assert_true(tokenizer_is_special(t, 2));
    assert_false(tokenizer_is_special(t, 3));
    assert_int_equal(tokenizer_decode(t, &far, 1, false, &out, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "is not in the vocabulary"));
    assert_int_equal(tokenizer_to_json(t, &json, &err), GRAFT_OK);
    assert_true(json.len > 1000);
    strbuf_release(&json);
    strbuf_release(&out);
    tokenizer_free(t);
}

#define MODEL(vocab, merges)                                                                       \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}}"
#define AB MODEL("\"a\":0,\"b\":1,\"ab\":2", "\"a b\"")

static void what_is_not_supported_is_refused_by_name(void **state)
{
    static const struct {
        const char *json;
        enum graft_status code;
        const char *part;
    } bad[] = {
        { "{}", GRAFT_EFORMAT, "model" },
        { "[1]", GRAFT_EFORMAT, "model" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", GRAFT_EFORMAT, "Unigram" },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", GRAFT_EFORMAT, "WordPiece" },
        { "{" MODEL("", ""), GRAFT_EFORMAT, "empty" },
        { "{" MODEL("\"a\":0,\"a\":1", ""), GRAFT_EFORMAT, "duplicate" },
        { "{" MODEL("\"a\":0,\"b\":0", ""), GRAFT_EFORMAT, "same id" },
        { "{" MODEL("\"a\":-1", ""), GRAFT_EFORMAT, "\"a\"" },
        { "{" MODEL("\"a\":2000000000", ""), GRAFT_EFORMAT, "ids up to" },
        { "{" MODEL("\"a\":99999999999", ""), GRAFT_EFORMAT, "\"a\"" },
        { "{" MODEL("\"a\":1.5", ""), GRAFT_EFORMAT, "\"a\"" },
        { "{" MODEL("\"a\":0", "\"a b\""), GRAFT_EFORMAT, "\"b\"" },
        { "{" MODEL("\"a\":0,\"b\":1", "\"a b\""), GRAFT_EFORMAT, "\"ab\"" },
        { "{" MODEL("\"a\":0", "\"a\""), GRAFT_EFORMAT, "merge 0" },
        { "{" MODEL("\"a\":0", "[\"a\"]"), GRAFT_EFORMAT, "merge 0" },
        { "{\"normalizer\":{\"type\":\"StripAccents\"}," AB, GRAFT_EFORMAT, "StripAccents" },
        { "{\"normalizer\":{\"type\":\"Prepend\"}," AB, GRAFT_EFORMAT, "Prepend" },
        { "{\"normalizer\":[]," AB, GRAFT_EFORMAT, "normalizer" },
        { "{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," AB, GRAFT_EFORMAT, "UnicodeScripts" },
        { "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},"
          "{\"type\":\"Digits\"}]}," AB,
          GRAFT_EFORMAT, "behind ByteLevel" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a(?R)\"},\"behavior\":"
          "\"Isolated\",\"invert\":false}," AB,
          GRAFT_EFORMAT, "(?R)" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-\"},\"behavior\":"
          "\"Isolated\",\"invert\":false}," AB,
          GRAFT_EFORMAT, "regular expression" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{Foo}\"},"
          "\"behavior\":"
          "\"Isolated\",\"invert\":false}," AB,
          GRAFT_EFORMAT, "{Foo}" },
        { "{\"decoder\":{\"type\":\"CTC\"}," AB, GRAFT_EFORMAT, "CTC" },
        { "{\"post_processor\":{\"type\":\"Other\"}," AB, GRAFT_EFORMAT, "Other" },
        { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
          "\"id\":\"x\"}}]}," AB,
          GRAFT_EFORMAT, "\"x\"" },
        { "{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",77],\"sep\":[\"b\",1]}"
          "," AB,
          GRAFT_EFORMAT, "vocabulary" },
        { "{\"added_tokens\":[{\"id\":0,\"content\":\"b\"}]," AB, GRAFT_EFORMAT, "also id 1" },
        { "{\"added_tokens\":[{\"id\":0,\"content\":\"new\"}]," AB, GRAFT_EFORMAT,
          "which is \"a\"" },
        { "{\"added_tokens\":[{\"id\":5,\"content\":\"x\"},{\"id\":5,\"content\":\"y\"}]," AB,
          GRAFT_EFORMAT, "which is \"x\"" },
        { "{\"added_tokens\":[{\"id\":-5,\"content\":\"x\"}]," AB, GRAFT_EFORMAT, "added token 0" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tokenizer *t = NULL;

        assert_int_equal(tokenizer_from_json("t.json", bad[i].json, strlen(bad[i].json), &t, &err),
                         bad[i].code);
        assert_null(t);
        if (!strstr(err.msg, bad[i].part) || strncmp(err.msg, "t.json", 6) != 0)
            fail_msg("%s: message \"%s\"", bad[i].json, err.msg);
    }
}

static void sequences_are_not_followed_forever(void **state)
{
    struct strbuf s = STRBUF_INIT;
    struct tokenizer *t = NULL;

    (void)state;
    strbuf_puts(&s, "{\"normalizer\":");
    for (int i = 0; i < 100; i++)
        strbuf_puts(&s, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 100; i++)
        strbuf_puts(&s, "]}");
    strbuf_puts(&s, "," AB);
    assert_int_equal(tokenizer_from_json("t.json", s.buf, s.len, &t, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "nested deeper"));
    strbuf_release(&s);
}

static void an_expression_that_explodes_is_an_error(void **state)
{
    const char *json = "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:(?:a|a)+"
                       ")+[bc]\"},\"behavior\":\"Isolated\",\"invert\":false}," AB;
    struct tokenizer *t = NULL;
    struct id_list ids = { 0 };
    char text[200];

    (void)state;
    memset(text, 'a', sizeof text);
    assert_int_equal(tokenizer_from_json("t.json", json, strlen(json), &t, &err), GRAFT_OK);
    assert_int_equal(tokenizer_encode(t, text, sizeof text, false, &ids, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "too many steps"));
    assert_int_equal(ids.count, 0);
    id_list_release(&ids);
    tokenizer_free(t);
}

#define TEXT(s)                                                                                    \
    {                                                                                              \
        s, sizeof(s) - 1                                                                           \
    }

static void scores_of_a_gguf_file_become_merges(void **state)
{
    static const struct tokenizer_text token[] = {
        TEXT("<unk>"),
        TEXT("<s>"),
        TEXT("</s>"),
        TEXT("<0x0A>"),
        TEXT("\xe2\x96\x81"),
        TEXT("a"),
        TEXT("b"),
        TEXT("ab"),
        TEXT("bb"),
        TEXT("\xe2\x96\x81"
             "ab"),
        TEXT("abb"),
        TEXT("\xe2\x96\x81"
             "a"),
    };
    static const float score[] = { 0, 0, 0, 0, -9, -8, -7, -2, -1, -3, -4, -5 };
    static const int32_t type[] = { 2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1 };
    const struct tokenizer_tables tables = { .model = "llama",
                                             .token = token,
                                             .vocab_size = 12,
                                             .score = score,
                                             .type = type,
                                             .bos = 1,
                                             .eos = 2,
                                             .eot = -1,
                                             .unk = 0,
                                             .pad = -1,
                                             .add_bos = -1,
                                             .add_eos = -1,
                                             .add_space_prefix = -1 };
    /* "bb" has the best score, so "abb" is a + bb, and ahead of " a"; "\n" is a byte, "c" unknown
     */
    static const int32_t want[] = { 1, 4, 10, 11, 3, 0, 2 };
    struct tokenizer *t = NULL, *again = NULL;
    struct strbuf json = STRBUF_INIT, out = STRBUF_INIT;
    struct id_list ids = { 0 };

    (void)state;
    if (tokenizer_from_tables(&tables, &t, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(tokenizer_to_json(t, &json, &err), GRAFT_OK);
    assert_int_equal(tokenizer_from_json("again", json.buf, json.len, &again, &err), GRAFT_OK);
    assert_int_equal(tokenizer_encode(again, "abb a\ncc</s>", 12, true, &ids, &err), GRAFT_OK);
    assert_int_equal(ids.count, 7);
    assert_memory_equal(ids.id, want, sizeof want);
    assert_int_equal(tokenizer_decode(t, ids.id, ids.count, true, &out, &err), GRAFT_OK);
    assert_string_equal(out.buf, "abb a\n");
    strbuf_release(&json);
    strbuf_release(&out);
    id_list_release(&ids);
    tokenizer_free(t);
    tokenizer_free(again);
}

static void unknown_tables_are_refused_by_name(void **state)
{
    static const struct tokenizer_text token[] = { TEXT("a"), TEXT("b"), TEXT("ab") };
    static const struct tokenizer_text merge[] = { TEXT("a b") };
    struct tokenizer_tables tables = { .model = "gpt2",
                                       .token = token,
                                       .vocab_size = 3,
                                       .merge = merge,
                                       .merge_count = 1,
                                       .bos = -1,
                                       .eos = -1,
                                       .eot = -1,
                                       .unk = -1,
                                       .pad = -1,
                                       .add_bos = -1,
                                       .add_eos = -1,
                                       .add_space_prefix = -1 };
    struct tokenizer *t = NULL;

    (void)state;
    assert_int_equal(tokenizer_from_tables(&tables, &t, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "tokenizer.ggml.pre is missing"));
    tables.pre = "made-up";
    assert_int_equal(tokenizer_from_tables(&tables, &t, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "\"made-up\""));
    tables.pre = "gpt-2";
    tables.add_bos = 1;
    assert_int_equal(tokenizer_from_tables(&tables, &t, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "bos_token_id"));
    tables.add_bos = -1;
    assert_int_equal(tokenizer_from_tables(&tables, &t, &err), GRAFT_OK);
    tokenizer_free(t);
    t = NULL;
    tables.model = "bert";
    assert_int_equal(tokenizer_from_tables(&tables, &t, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "\"bert\""));
    tables.model = "llama";
    assert_int_equal(tokenizer_from_tables(&tables, &t, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "scores"));
}

static void every_failed_allocation_is_survived(void **state)
{
    static const char *const json =
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":"
        "\"X y\",\"normalized\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{"
        "\"type\":\"NFKC\"},{\"type\":\"Lowercase\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":"
        "\"q+\"},\"content\":\"a\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{"
        "\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"},{\"type\":"
        "\"ByteLevel\",\"add_prefix_space\":true}]},\"decoder\":{\"type\":\"ByteLevel\"}," AB;
    const char *text =
        "ab qq <s> x Y \xef\xac\x81 e\xcc\x81 abababababababababababababababababababab"
        "ababababababababababababababababab\xff";
    bool done = false;

    (void)state;
    for (int64_t k = 1; !done; k++) {
        struct tokenizer *t = NULL;
        struct id_list ids = { 0 }, at = { 0 };
        struct strbuf out = STRBUF_INIT;
        enum graft_status st;

        assert_true(k < 2000);
        mem_fail_at(k);
        st = tokenizer_from_json("t", json, strlen(json), &t, &err);
        if (!st)
            st = tokenizer_encode_offsets(t, text, strlen(text), true, &ids, &at, &err);
        if (!st)
            st = tokenizer_decode(t, ids.id, ids.count, false, &out, &err);
        done = mem_count() < k;
        mem_fail_at(0);
        if (st != GRAFT_OK && st != GRAFT_ENOMEM)
            fail_msg("allocation %lld: %s", (long long)k, err.msg);
        assert_true(!done || st == GRAFT_OK);
        id_list_release(&ids);
        id_list_release(&at);
        strbuf_release(&out);
        tokenizer_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_and_texts_are_those_of_the_reference),
        cmocka_unit_test(offsets_say_where_each_token_begins),
        cmocka_unit_test(invalid_utf8_becomes_the_replacement_character),
        cmocka_unit_test(a_long_text_without_a_gap_takes_no_quadratic_time),
        cmocka_unit_test(a_stream_holds_half_a_character_back),
        cmocka_unit_test(the_vocabulary_can_be_asked),
        cmocka_unit_test(what_is_not_supported_is_refused_by_name),
        cmocka_unit_test(sequences_are_not_followed_forever),
        cmocka_unit_test(an_expression_that_explodes_is_an_error),
        cmocka_unit_test(scores_of_a_gguf_file_become_merges),
        cmocka_unit_test(unknown_tables_are_refused_by_name),
        cmocka_unit_test(every_failed_allocation_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
