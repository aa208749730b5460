/* JSONL compressed by gzip or zstd: the records of the plain file, and its refusals. */
#include "tests/data/data_testing.h"

#include "tests/packing.h"

static const struct dataset_opts PLAIN = { .mask_prompt = true, .eos = -1 };

enum kind { AS_IT_IS, AS_GZIP, AS_ZSTD, KINDS };
static const char *const file_name[KINDS] = { "d.jsonl", "d.jsonl.gz", "d.jsonl.zst" };

/* A file, with no care for what a power failure would leave. */
static void put_bytes(const char *path, const char *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(len ? bytes : "", 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void put_packed(const char *path, enum kind kind, const char *text, size_t len)
{
    struct strbuf s = STRBUF_INIT;

    if (kind == AS_GZIP)
        add_gzip(&s, text, len);
    else if (kind == AS_ZSTD)
        add_zstd(&s, text, len, 0);
    else
        strbuf_add(&s, text, len);
    put_bytes(path, s.buf, s.len);
    strbuf_release(&s);
}

/* The data set that `text` makes is the same however the file is compressed. */
static int64_t assert_same(const char *text, size_t len, const struct dataset_opts *o)
{
    struct dataset d[KINDS];

    for (int k = 0; k < KINDS; k++) {
        struct graft_err err = { GRAFT_OK, "" };

        put_packed(file_name[k], (enum kind)k, text, len);
        if (dataset_load(&file_name[k], 1, o, &d[k], &err))
            fail_msg("%s", err.msg);
        assert_int_equal(d[k].count, d[0].count);
        assert_int_equal(d[k].token_count, d[0].token_count);
        assert_memory_equal(d[k].record, d[0].record, (size_t)d[0].count * sizeof *d[0].record);
        assert_memory_equal(d[k].token, d[0].token, (size_t)d[0].token_count * sizeof *d[0].token);
    }
    const int64_t count = d[0].count;
    for (int k = 0; k < KINDS; k++)
        dataset_release(&d[k]);
    return count;
}

/* Each refusal, but for the file's name. */
static void assert_refused(const char *text, size_t len, const char *msg)
{
    for (int k = 0; k < KINDS; k++) {
        struct graft_err err = { GRAFT_OK, "" };
        struct dataset d = { .count = 0 };

        put_packed(file_name[k], (enum kind)k, text, len);
        assert_int_equal(dataset_load(&file_name[k], 1, &PLAIN, &d, &err), GRAFT_EFORMAT);
        assert_memory_equal(err.msg, file_name[k], strlen(file_name[k]));
        assert_string_equal(err.msg + strlen(file_name[k]), msg);
    }
}

static void a_compressed_file_is_the_plain_one(void **state)
{
    static const char *const text[] = {
        "{\"input_ids\": [1, 2]}",
        "{\"input_ids\": [1, 2]}\n\n \n",
        "\xef\xbb\xbf{\"input_ids\": [1, 2]}\r\n{\"input_ids\": [3, 4]}\r\n",
    };
    struct dataset_opts o = PLAIN;

    (void)state;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        assert_true(assert_same(text[i], strlen(text[i]), &PLAIN) > 0);
    o.first_line = 2;
    assert_int_equal(assert_same(text[2], strlen(text[2]), &o), 1);
}

/* Several buffers of lines, some of them longer than a buffer. */
static void lines_across_buffers_come_whole(void **state)
{
    struct strbuf s = STRBUF_INIT;
    struct dataset_opts o = PLAIN;

    (void)state;
    for (int i = 0; i < 30; i++) {
        const int64_t n = i == 5 ? 700000 : 9000 + 37 * i;

        strbuf_puts(&s, "{\"input_ids\": [7");
        for (int64_t k = 0; k < n; k++)
            strbuf_printf(&s, ",%d", (int)((k * 7919 + i) % 1000003));
        strbuf_puts(&s, "]}\n");
    }
    assert_int_equal(assert_same(s.buf, s.len, &o), 30);
    o.first_line = 7;
    o.limit = 3;
    assert_int_equal(assert_same(s.buf, s.len, &o), 3);
    strbuf_release(&s);
}

static void refusals_are_those_of_the_plain_file(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    assert_refused("", 0, ": no records");
    assert_refused(" \n\n", 3, ": no records");
    assert_refused("{\"input_ids\": [1, 2]}\n\n{\"input_ids\": [1, 2]}\n", 45,
                   ":2: empty line, wanted a JSON object");
    assert_refused("{\"input_ids\": [1, 2]}\n \n\n{\"input_ids\": [1, 2]}\n", 47,
                   ":2: empty line, wanted a JSON object");
    for (int i = 0; i < 5000; i++)
        strbuf_puts(&s, i == 4321 ? "{\"input_ids\": [1, 2]}!\n" : "{\"input_ids\": [1, 2]}\n");
    assert_refused(s.buf, s.len, ":4322: column 22: end of file expected near '!'");
    strbuf_release(&s);
}

static void assert_path_refused(const char *path, enum kind kind, const char *text, size_t len,
                                const char *msg)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset d = { .count = 0 };

    put_packed(path, kind, text, len);
    assert_int_equal(dataset_load(&path, 1, &PLAIN, &d, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg, msg);
}

static void other_contents_are_refused(void **state)
{
    struct strbuf once = STRBUF_INIT;
    const char *path = "cut.gz";
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset d = { .count = 0 };

    (void)state;
    assert_path_refused("a.csv.gz", AS_GZIP, "text,label\n", 11,
                        "a.csv.gz: what is compressed in it is CSV, wanted JSONL (one JSON object "
                        "a line)");
    assert_path_refused("a.zst", AS_ZSTD, "PAR1\0\0", 6,
                        "a.zst: what is compressed in it is a Parquet file, wanted JSONL (one JSON "
                        "object a line)");
    assert_path_refused("a.gz", AS_GZIP, "[{}]", 4,
                        "a.gz: what is compressed in it is a JSON array, wanted JSONL (one JSON "
                        "object a line)");
    add_gzip(&once, "{\"input_ids\": [1, 2]}\n", 22);
    assert_path_refused("a.gz", AS_ZSTD, once.buf, once.len,
                        "a.gz: what is compressed in it is compressed once more, wanted JSONL (one "
                        "JSON object a line)");
    put_bytes(path, once.buf, once.len - 3);
    assert_int_equal(dataset_load(&path, 1, &PLAIN, &d, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg, "cut.gz: cut short: the gzip stream does not end before the "
                                 "file's 39 bytes do");
    strbuf_release(&once);
}

static void a_line_without_an_end_is_refused(void **state)
{
    const size_t one = (size_t)16 << 20;
    char *zeros = calloc(one, 1);
    struct strbuf s = STRBUF_INIT;
    const char *path = "zeros.zst";
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset d = { .count = 0 };

    (void)state;
    for (int k = 0; k < 20; k++)
        add_zstd(&s, zeros, one, 0);
    put_bytes(path, s.buf, s.len);
    assert_int_equal(dataset_load(&path, 1, &PLAIN, &d, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg, "zeros.zst:1: the line is longer than 256 MiB");
    strbuf_release(&s);
    free(zeros);
}

static void no_failed_allocation_leaks_or_crashes(void **state)
{
    enum graft_status st = GRAFT_ENOMEM;

    (void)state;
    put_packed(file_name[AS_GZIP], AS_GZIP, "{\"input_ids\": [1, 2]}\n", 22);
    for (int64_t k = 1; st; k++) {
        struct dataset d = { .count = 0 };

        mem_fail_at(k);
        st = dataset_load(&file_name[AS_GZIP], 1, &PLAIN, &d, NULL);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
        assert_true(st || k > 8);
        dataset_release(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_compressed_file_is_the_plain_one),
        cmocka_unit_test(lines_across_buffers_come_whole),
        cmocka_unit_test(refusals_are_those_of_the_plain_file),
        cmocka_unit_test(other_contents_are_refused),
        cmocka_unit_test(a_line_without_an_end_is_refused),
        cmocka_unit_test(no_failed_allocation_leaks_or_crashes),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
