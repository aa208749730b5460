/* Token caches: what is written comes back mapped; what is damaged, cut, of something else or half
 * written never does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/strbuf.h"
#include "io/token_cache.h"

enum { ROW = 24 };
static const char KEY[] = "0123456789abcdef", META[] = "{\"x\": [1, 2]}";

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

static int32_t token_at(int64_t i)
{
    return (int32_t)((uint64_t)i * 2654435761u >> 7);
}

/* `records` rows of bytes i, in calls of different sizes, with `tokens` tokens between them. */
static enum graft_status make(int64_t records, int64_t tokens, struct graft_err *err)
{
    struct token_writer *w = NULL;
    unsigned char *row = calloc(300, ROW);
    int32_t *token = calloc(5000, sizeof *token);
    int64_t r = 0, t = 0;
    enum graft_status st = token_writer_new("c.h5", ROW, &w, err);

    for (int64_t k = 0; !st && (r < records || t < tokens); k++) {
        int64_t n = 1 + k * 37 % 300, m = 1 + k * 911 % 5000;

        n = n < records - r ? n : records - r;
        m = m < tokens - t ? m : tokens - t;
        for (int64_t i = 0; i < n; i++)
            memset(row + i * ROW, (int)((r + i) % 251), ROW);
        for (int64_t i = 0; i < m; i++)
            token[i] = token_at(t + i);
        st = token_writer_add(w, row, n, token, m, err);
        r += n;
        t += m;
    }
    if (!st)
        st = token_writer_commit(w, KEY, META, sizeof META - 1, err);
    else
        token_writer_abort(w);
    free(row);
    free(token);
    return st;
}

static void assert_comes_back(int64_t records, int64_t tokens)
{
    struct token_cache c = { .records = -1 };
    struct graft_err err = { GRAFT_OK, "" };

    if (make(records, tokens, &err))
        fail_msg("%s", err.msg);
    if (token_cache_open("c.h5", KEY, ROW, &c, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(c.records, records);
    assert_int_equal(c.tokens, tokens);
    assert_int_equal(c.meta_len, sizeof META - 1);
    assert_memory_equal(c.meta, META, c.meta_len);
    assert_int_equal((uintptr_t)c.token % 4096, 0);
    assert_int_equal((uintptr_t)c.record % 4096, 0);
    for (int64_t i = 0; i < tokens; i++)
        if (c.token[i] != token_at(i))
            fail_msg("token %d", (int)i);
    for (int64_t i = 0; i < records * ROW; i++)
        if (((const unsigned char *)c.record)[i] != i / ROW % 251)
            fail_msg("byte %d of the records", (int)i);
    token_cache_release(&c);
}

static void what_is_written_comes_back(void **state)
{
    (void)state;
    assert_comes_back(0, 0);
    assert_comes_back(1, 1);
    assert_comes_back(7, 1023);
    assert_comes_back(1000, 1 << 18); /* a block of tokens, no more */
    assert_comes_back(99999, 777777); /* several blocks of both */
}

/* Only c.h5 is there, no part of a file. */
static void assert_alone(void)
{
    assert_int_equal(system("test \"$(ls -A)\" = c.h5"), 0);
}

static void nothing_is_left_beside_it(void **state)
{
    struct token_writer *w = NULL;

    (void)state;
    assert_int_equal(make(10, 10, NULL), GRAFT_OK);
    assert_alone();
    assert_int_equal(token_writer_new("c.h5", ROW, &w, NULL), GRAFT_OK);
    token_writer_abort(w);
    assert_alone();
    token_writer_abort(NULL);
}

static void assert_refused(const char *key, size_t row_size, const char *msg)
{
    struct token_cache c = { .records = -7 };
    struct graft_err err = { GRAFT_OK, "" };

    assert_int_equal(token_cache_open("c.h5", key, row_size, &c, &err), GRAFT_EFORMAT);
    if (!strstr(err.msg, msg))
        fail_msg("\"%s\", wanted \"%s\"", err.msg, msg);
    assert_int_equal(c.records, -7);
}

static void something_else_is_refused(void **state)
{
    (void)state;
    assert_int_equal(make(10, 10, NULL), GRAFT_OK);
    assert_refused("0123456789abcdee", ROW, "c.h5: made from something else");
    assert_refused(KEY, ROW + 1, "c.h5: made from something else");
    assert_int_equal(file_write("c.h5", "", 0, NULL), GRAFT_OK);
    assert_refused(KEY, ROW, "c.h5: not a token cache of Graft");
    assert_int_equal(file_write("c.h5", "graft-h5", 8, NULL), GRAFT_OK);
    assert_refused(KEY, ROW, "c.h5: not a token cache of Graft");
}

static void flip(int64_t at)
{
    FILE *f = fopen("c.h5", "r+b");
    int c;

    fseek(f, (long)at, SEEK_SET);
    c = fgetc(f);
    fseek(f, (long)at, SEEK_SET);
    fputc(c ^ 4, f);
    fclose(f);
}

/* One bit anywhere but in the padding between datasets: found, or without any effect. */
static void a_changed_bit_is_found(void **state)
{
    struct token_cache c;
    struct stat s;
    int found = 0, tried = 0;

    (void)state;
    assert_int_equal(make(60000, 500000, NULL), GRAFT_OK);
    assert_int_equal(stat("c.h5", &s), 0);
    for (int64_t at = 0; at < s.st_size; at += at < 6000 ? 97 : 60013, tried++) {
        flip(at);
        if (token_cache_open("c.h5", KEY, ROW, &c, NULL)) {
            found++;
        } else {
            assert_int_equal(c.tokens, 500000);
            for (int64_t i = 0; i < c.tokens; i++)
                if (c.token[i] != token_at(i))
                    fail_msg("token %d is wrong and nobody said so", (int)i);
            token_cache_release(&c);
        }
        flip(at);
    }
    assert_true(found * 2 > tried);
    assert_int_equal(token_cache_open("c.h5", KEY, ROW, &c, NULL), GRAFT_OK);
    token_cache_release(&c);
    for (int64_t k = 0; k < 40; k++) { /* tokens begin behind 9 pages, records behind them */
        flip(9 * 4096 + k * 49999);
        assert_refused(KEY, ROW, "c.h5: damaged: a checksum is not what it should be");
        flip(9 * 4096 + k * 49999);
    }
}

static void a_file_cut_short_is_refused(void **state)
{
    struct stat s;

    (void)state;
    assert_int_equal(make(500, 5000, NULL), GRAFT_OK);
    assert_int_equal(stat("c.h5", &s), 0);
    for (int64_t n = s.st_size - 1; n > 0; n = n * 3 / 4) {
        assert_int_equal(truncate("c.h5", n), 0);
        assert_refused(KEY, ROW, n < 4096 ? "c.h5: not a token cache of Graft" : "it is cut short");
    }
}

/* Two writers at once: each has a file of its own, and the later rename stands. */
static void two_writers_do_not_meet(void **state)
{
    struct token_writer *w[2] = { NULL, NULL };
    const int32_t token[2] = { 11, 22 };
    const unsigned char row[ROW] = { 0 };
    struct token_cache old, c;

    (void)state;
    for (int k = 0; k < 2; k++)
        assert_int_equal(token_writer_new("c.h5", ROW, &w[k], NULL), GRAFT_OK);
    for (int k = 0; k < 2; k++)
        assert_int_equal(token_writer_add(w[k], row, 1, &token[k], 1, NULL), GRAFT_OK);
    assert_int_equal(token_writer_commit(w[0], KEY, "", 0, NULL), GRAFT_OK);
    assert_int_equal(token_cache_open("c.h5", KEY, ROW, &old, NULL), GRAFT_OK);
    assert_int_equal(token_writer_commit(w[1], KEY, "", 0, NULL), GRAFT_OK);
    assert_int_equal(token_cache_open("c.h5", KEY, ROW, &c, NULL), GRAFT_OK);
    assert_int_equal(old.token[0], 11); /* whoever has it keeps it */
    assert_int_equal(c.token[0], 22);
    token_cache_release(&old);
    token_cache_release(&c);
    assert_alone();
}

static void a_part_is_dead_when_old_and_not_locked(void **state)
{
    struct token_writer *w = NULL;
    struct timeval old[2] = { { 1000000, 0 }, { 1000000, 0 } };
    char name[256] = "";
    FILE *ls;

    (void)state;
    assert_int_equal(token_writer_new("c.h5", ROW, &w, NULL), GRAFT_OK);
    ls = popen("ls -d c.h5" TOKEN_WRITER_MARK "*", "r");
    assert_non_null(fgets(name, sizeof name, ls));
    pclose(ls);
    name[strcspn(name, "\n")] = '\0';
    assert_false(token_writer_is_dead(name)); /* new and locked */
    assert_int_equal(utimes(name, old), 0);
    assert_false(token_writer_is_dead(name)); /* old, but its writer lives */
    token_writer_abort(w);
    assert_int_equal(file_write(name, "x", 1, NULL), GRAFT_OK);
    assert_false(token_writer_is_dead(name)); /* nobody's, but new */
    assert_int_equal(utimes(name, old), 0);
    assert_true(token_writer_is_dead(name));
    assert_int_equal(unlink(name), 0);
}

static void where_nothing_can_be_written_it_is_told(void **state)
{
    struct token_writer *w = NULL;
    struct graft_err err = { GRAFT_OK, "" };

    (void)state;
    assert_int_equal(token_writer_new("none/c.h5", ROW, &w, &err), GRAFT_EWRITE);
    assert_string_equal(err.msg, "none/c.h5: cannot write: No such file or directory");
    assert_null(w);
}

static void no_failed_allocation_leaks_or_crashes(void **state)
{
    enum graft_status st = GRAFT_ENOMEM;

    (void)state;
    for (int64_t k = 1; st; k++) {
        struct token_cache c = { .records = 0 };

        mem_fail_at(k);
        st = make(3, 300000, NULL);
        if (!st)
            st = token_cache_open("c.h5", KEY, ROW, &c, NULL);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM || st == GRAFT_EWRITE);
        assert_true(st || k > 8);
        token_cache_release(&c);
    }
    assert_alone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(nothing_is_left_beside_it),
        cmocka_unit_test(something_else_is_refused),
        cmocka_unit_test(a_changed_bit_is_found),
        cmocka_unit_test(a_file_cut_short_is_refused),
        cmocka_unit_test(two_writers_do_not_meet),
        cmocka_unit_test(a_part_is_dead_when_old_and_not_locked),
        cmocka_unit_test(where_nothing_can_be_written_it_is_told),
        cmocka_unit_test(no_failed_allocation_leaks_or_crashes),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
