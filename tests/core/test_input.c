/* Files that are read from front to back: plain, gzip, zstd; whole, damaged, cut short, blown up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/input.h"
#include "core/mem.h"
#include "tests/packing.h"

static int enter_folder(void **state)
{
    char dir[] = "/tmp/graft-test-XXXXXX";

    *state = mkdtemp(dir) ? strdup(dir) : NULL;
    return *state && chdir(*state) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    char cmd[64];

    snprintf(cmd, sizeof cmd, "rm -r '%s'", (char *)*state);
    free(*state);
    return chdir("/") == 0 ? system(cmd) : -1;
}

/* Letters that compress, but not to nothing. */
static void put_text(struct strbuf *out, size_t len)
{
    uint32_t x = 12345;

    for (size_t i = 0; i < len; i++) {
        x = x * 1664525 + 1013904223;
        strbuf_putc(out, "etaoin shrdlu\n"[(x >> 24) % 14]);
    }
}

/* File "f", with no care for what a power failure would leave. */
static void put_file(const char *bytes, size_t len)
{
    FILE *f = fopen("f", "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(len ? bytes : "", 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* All of file "f", read `step` bytes at a time. */
static enum graft_status read_all(size_t step, struct strbuf *out, struct graft_err *err)
{
    struct input *in = NULL;
    char *buf = malloc(step);
    size_t got = 1;
    enum graft_status st = input_open("f", &in, err);

    while (!st && got > 0) {
        st = input_read(in, buf, step, &got, err);
        assert_true(got <= step);
        if (!st)
            strbuf_add(out, buf, got);
    }
    input_close(in);
    free(buf);
    return st;
}

static void assert_reads(const struct strbuf *file, const struct strbuf *want)
{
    static const size_t step[] = { 1, 7, 4096, 1 << 20 };

    put_file(file->buf, file->len);
    for (size_t i = 0; i < sizeof step / sizeof *step; i++) {
        struct strbuf have = STRBUF_INIT;
        struct graft_err err = { GRAFT_OK, "" };

        if (read_all(step[i], &have, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(have.len, want->len);
        if (want->len)
            assert_memory_equal(have.buf, want->buf, want->len);
        strbuf_release(&have);
    }
}

static void assert_refused(const struct strbuf *file, const char *msg)
{
    struct strbuf have = STRBUF_INIT;
    struct graft_err err = { GRAFT_OK, "" };

    put_file(file->buf, file->len);
    assert_int_equal(read_all(4096, &have, &err), GRAFT_EFORMAT);
    if (!strstr(err.msg, msg))
        fail_msg("\"%s\", wanted \"%s\"", err.msg, msg);
    strbuf_release(&have);
}

static void plain_files_come_as_they_are(void **state)
{
    struct strbuf text = STRBUF_INIT;

    (void)state;
    assert_reads(&text, &text);
    strbuf_puts(&text, "(");
    assert_reads(&text, &text);
    strbuf_clear(&text);
    strbuf_add(&text, "\x1f\x8b", 2); /* the beginning of a gzip file's magic, and no more */
    assert_reads(&text, &text);
    strbuf_clear(&text);
    put_text(&text, 700000);
    assert_reads(&text, &text);
    strbuf_release(&text);
}

static void compressed_files_come_decompressed(void **state)
{
    static const size_t len[] = { 0, 1, 5000, 900000 };

    (void)state;
    for (size_t i = 0; i < sizeof len / sizeof *len; i++) {
        struct strbuf text = STRBUF_INIT, gzip = STRBUF_INIT, zstd = STRBUF_INIT;

        put_text(&text, len[i]);
        add_gzip(&gzip, text.buf, text.len);
        assert_reads(&gzip, &text);
        add_zstd(&zstd, text.buf, text.len, 0);
        assert_reads(&zstd, &text);
        strbuf_release(&text);
        strbuf_release(&gzip);
        strbuf_release(&zstd);
    }
}

static void several_streams_follow_each_other(void **state)
{
    static const char skippable[] = "\x52\x2a\x4d\x18\x03\0\0\0abc"; /* a frame without content */
    struct strbuf text = STRBUF_INIT, gzip = STRBUF_INIT, zstd = STRBUF_INIT;

    (void)state;
    for (int k = 0; k < 3; k++) {
        const size_t before = text.len;

        put_text(&text, 1000);
        add_gzip(&gzip, text.buf + before, 1000);
        add_gzip(&gzip, "", 0);
        add_zstd(&zstd, text.buf + before, 1000, 0);
        strbuf_add(&zstd, skippable, sizeof skippable - 1);
    }
    assert_reads(&gzip, &text);
    assert_reads(&zstd, &text);
    for (int k = 0; k < 600; k++) /* as tape archivers fill files up */
        strbuf_putc(&gzip, '\0');
    assert_reads(&gzip, &text);
    strbuf_puts(&gzip, "rubbish");
    assert_refused(&gzip, "f: damaged gzip data at byte ");
    strbuf_puts(&zstd, "rubbish");
    assert_refused(&zstd, "f: damaged zstd data at byte ");
    strbuf_release(&text);
    strbuf_release(&gzip);
    strbuf_release(&zstd);
}

static void streams_that_are_cut_short_are_refused_wherever_they_end(void **state)
{
    struct strbuf text = STRBUF_INIT, packed[2] = { STRBUF_INIT, STRBUF_INIT };

    (void)state;
    put_text(&text, 300);
    add_gzip(&packed[0], text.buf, text.len);
    add_zstd(&packed[1], text.buf, text.len, 0);
    for (int k = 0; k < 2; k++)
        for (size_t n = packed[k].len - 1; n >= 4; n--) {
            packed[k].len = n;
            assert_refused(&packed[k], k ? "f: cut short: the zstd stream does not end before the "
                                           "file's "
                                         : "f: cut short: the gzip stream does not end before the "
                                           "file's ");
        }
    strbuf_release(&text);
    strbuf_release(&packed[0]);
    strbuf_release(&packed[1]);
}

static void a_changed_byte_is_found(void **state)
{
    struct strbuf text = STRBUF_INIT, packed[2] = { STRBUF_INIT, STRBUF_INIT };
    int refused = 0, tried = 0;

    (void)state;
    put_text(&text, 300);
    add_gzip(&packed[0], text.buf, text.len);
    add_zstd(&packed[1], text.buf, text.len, 0);
    for (int k = 0; k < 2; k++)
        for (size_t n = 12; n < packed[k].len; n++, tried++) {
            struct strbuf have = STRBUF_INIT;

            packed[k].buf[n] ^= 0x55;
            put_file(packed[k].buf, packed[k].len);
            if (read_all(4096, &have, NULL))
                refused++;
            else /* a bit that says nothing */
                assert_memory_equal(have.buf, text.buf, text.len);
            packed[k].buf[n] ^= 0x55;
            strbuf_release(&have);
        }
    assert_true(refused > tried * 9 / 10);
    strbuf_release(&text);
    strbuf_release(&packed[0]);
    strbuf_release(&packed[1]);
}

static void a_window_too_large_is_refused(void **state)
{
    struct strbuf text = STRBUF_INIT, packed = STRBUF_INIT;

    (void)state;
    put_text(&text, 100);
    add_zstd(&packed, text.buf, text.len, 28);
    assert_refused(&packed, "f: needs a window of more than 128 MiB; compress it again without "
                            "--long or --ultra");
    strbuf_release(&text);
    strbuf_release(&packed);
}

/* Small frames that each become much more. */
static void what_blows_up_is_refused(void **state)
{
    const size_t one = 16 << 20;
    char *zeros = calloc(one, 1), *buf = malloc(one);
    struct strbuf frame = STRBUF_INIT, packed = STRBUF_INIT;
    struct graft_err err = { GRAFT_OK, "" };
    struct input *in = NULL;
    uint64_t total = 0;
    size_t got = 1;

    (void)state;
    add_zstd(&frame, zeros, one, 0);
    for (int k = 0; k < 80; k++)
        strbuf_add(&packed, frame.buf, frame.len);
    put_file(packed.buf, packed.len);
    assert_int_equal(input_open("f", &in, NULL), GRAFT_OK);
    while (got && !input_read(in, buf, one, &got, &err))
        total += got;
    assert_int_equal(err.code, GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "more than 500 times as many"));
    assert_true(total < (uint64_t)1100 << 20);
    input_close(in);
    free(zeros);
    free(buf);
    strbuf_release(&frame);
    strbuf_release(&packed);
}

static void what_is_no_file_is_told(void **state)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct input *in = NULL;
    char c;
    size_t got;

    (void)state;
    assert_int_equal(input_open("none", &in, &err), GRAFT_EIO);
    assert_string_equal(err.msg, "none: No such file or directory");
    assert_int_equal(input_open(".", &in, &err), GRAFT_OK);
    assert_int_equal(input_read(in, &c, 1, &got, &err), GRAFT_EIO);
    assert_string_equal(err.msg, ".: Is a directory");
    input_close(in);
}

static void no_failed_allocation_leaks_or_crashes(void **state)
{
    struct strbuf text = STRBUF_INIT, packed = STRBUF_INIT;
    enum graft_status st = GRAFT_ENOMEM;

    (void)state;
    put_text(&text, 5000);
    add_gzip(&packed, text.buf, text.len);
    put_file(packed.buf, packed.len);
    for (int64_t k = 1; st; k++) {
        struct input *in = NULL;
        size_t got;
        char c;

        mem_fail_at(k);
        st = input_open("f", &in, NULL);
        if (!st)
            st = input_read(in, &c, 1, &got, NULL);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
        assert_true(st || k > 3);
        input_close(in);
    }
    strbuf_release(&text);
    strbuf_release(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_files_come_as_they_are),
        cmocka_unit_test(compressed_files_come_decompressed),
        cmocka_unit_test(several_streams_follow_each_other),
        cmocka_unit_test(streams_that_are_cut_short_are_refused_wherever_they_end),
        cmocka_unit_test(a_changed_byte_is_found),
        cmocka_unit_test(a_window_too_large_is_refused),
        cmocka_unit_test(what_blows_up_is_refused),
        cmocka_unit_test(what_is_no_file_is_told),
        cmocka_unit_test(no_failed_allocation_leaks_or_crashes),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
