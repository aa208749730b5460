/* tests/data/data_testing.h - files, and a tokenizer whose tokens can be told by eye, for the tests
 * of records and batches. */
#ifndef TESTS_DATA_TESTING_H
#define TESTS_DATA_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/file.h"
#include "data/dataset.h"

static inline void put_file(const char *path, const char *text)
{
    assert_int_equal(file_write(path, text, strlen(text), NULL), GRAFT_OK);
}

/* Tests work in a folder of their own, so that messages hold short names. */
static inline int enter_folder(void **state)
{
    char dir[] = "/tmp/graft-test-XXXXXX";

    *state = mkdtemp(dir) ? strdup(dir) : NULL;
    return *state && chdir(*state) == 0 ? 0 : -1;
}

static inline int leave_folder(void **state)
{
    char cmd[64];

    snprintf(cmd, sizeof cmd, "rm -r '%s'", (char *)*state);
    free(*state);
    return chdir("/") == 0 ? system(cmd) : -1;
}

/* Byte-level BPE: ids 0 <eos>, 1 <bos>, 2 + i the i-th of the characters from '!' to '~', then
 * space, newline, and the one merge "ab". `bos`: the post-processor puts <bos> in front. */
enum { EOS = 0, BOS = 1, SPACE = 96, NEWLINE = 97, AB = 98, TOY_VOCAB = 99 };
#define CH(c) ((c) - '!' + 2)

static inline struct tokenizer *toy_tokenizer(bool bos)
{
    struct strbuf s = STRBUF_INIT;
    struct graft_err err = { GRAFT_OK, "" };
    struct tokenizer *t = NULL;

    strbuf_puts(&s, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (int i = 0; i < 2; i++)
        strbuf_printf(&s,
                      "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                      "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                      i ? "," : "", i, i ? "<bos>" : "<eos>");
    strbuf_puts(&s, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                    "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},");
    strbuf_puts(&s,
                bos ? "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                      "{\"SpecialToken\":{\"id\":\"<bos>\",\"type_id\":0}},"
                      "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":["
                      "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
                      "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{\"<bos>\":"
                      "{\"id\":\"<bos>\",\"ids\":[1],\"tokens\":[\"<bos>\"]}}},"
                    : "\"post_processor\":null,");
    strbuf_puts(&s, "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                    "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\","
                    "\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
                    "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,"
                    "\"vocab\":{\"<eos>\":0,\"<bos>\":1");
    for (char c = '!'; c <= '~'; c++)
        strbuf_printf(&s, ",\"%s%c\":%d", c == '"' || c == '\\' ? "\\" : "", c, CH(c));
    strbuf_printf(&s, ",\"\\u0120\":%d,\"\\u010a\":%d,\"ab\":%d},\"merges\":[\"a b\"]}}", SPACE,
                  NEWLINE, AB);
    if (tokenizer_from_json("toy", s.buf, s.len, &t, &err))
        fail_msg("%s", err.msg);
    strbuf_release(&s);
    return t;
}

/* Load `text` as d.jsonl; fails the test with the message when that is refused. */
static inline struct dataset load_text(const char *text, const struct dataset_opts *opts)
{
    static const char *const path = "d.jsonl";
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset d = { .count = 0 };

    put_file(path, text);
    if (dataset_load(&path, 1, opts, &d, &err))
        fail_msg("%s", err.msg);
    return d;
}

/* The ids of record i, or its labels; the array is the caller's (free). */
static inline int32_t *copy_of(const struct dataset *d, int64_t i, bool labels)
{
    const struct record *r = &d->record[i];
    int32_t *x = malloc((size_t)r->length * sizeof *x + 1);

    dataset_copy(d, r, labels ? NULL : x, labels ? x : NULL);
    return x;
}

static inline void assert_ids(const int32_t *have, int64_t n, const int32_t *want, size_t want_n)
{
    assert_int_equal(n, want_n);
    for (size_t i = 0; i < want_n; i++)
        if (have[i] != want[i])
            fail_msg("entry %zu is %d, wanted %d", i, (int)have[i], (int)want[i]);
}
#define IDS(...) (const int32_t[]){ __VA_ARGS__ }, sizeof((const int32_t[]){ __VA_ARGS__ }) / 4

#endif
