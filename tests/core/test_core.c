/* core/: memory, strings, names, random numbers, files, hashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/strbuf.h"

static bool all_zero(const void *p, size_t n)
{
    const unsigned char *c = p;

    for (size_t i = 0; i < n; i++)
        if (c[i])
            return false;
    return true;
}

/* --- memory --- */

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    for (size_t n = 0; n < 300; n += 37) {
        unsigned char *p = mem_alloc(n);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % MEM_ALIGN, 0);
        assert_true(all_zero(p, n));
        mem_free(p);
    }
    mem_free(NULL);
}

static void sizes_that_overflow_are_refused(void **state)
{
    struct arena a = ARENA_INIT;

    (void)state;
    assert_null(mem_alloc(SIZE_MAX));
    assert_null(mem_array(SIZE_MAX / 2, 3));
    assert_null(arena_alloc(&a, SIZE_MAX - 5));
    assert_null(arena_array(&a, SIZE_MAX / 4, 8));
    assert_int_equal(a.used, 0);
    arena_release(&a);
}

static void resizing_keeps_contents_and_zeroes_the_rest(void **state)
{
    unsigned char *p = mem_alloc(10), *q;

    (void)state;
    memset(p, 7, 10);
    q = mem_resize(p, 10, 100);
    assert_non_null(q);
    for (int i = 0; i < 100; i++)
        assert_int_equal(q[i], i < 10 ? 7 : 0);
    p = mem_resize(q, 100, 3);
    assert_int_equal(p[2], 7);
    mem_fail_at(1);
    assert_null(mem_resize(p, 3, 1000));
    mem_fail_at(0);
    assert_int_equal(p[2], 7); /* untouched, still ours */
    mem_free(p);
}

static void the_kth_allocation_fails_and_only_that(void **state)
{
    (void)state;
    for (int k = 1; k <= 5; k++) {
        mem_fail_at(k);
        for (int i = 1; i <= 5; i++) {
            void *p = mem_alloc(8);

            assert_int_equal(p == NULL, i == k);
            mem_free(p);
        }
        assert_int_equal(mem_count(), 5);
    }
    mem_fail_at(0);
    assert_int_equal(mem_count(), 0);
}

static void arenas_hand_out_separate_aligned_zeroed_pieces(void **state)
{
    struct arena a = ARENA_INIT;
    unsigned char *piece[400];

    (void)state;
    for (int i = 0; i < 400; i++) { /* across several chunks, some larger than a chunk */
        const size_t n = i % 97 == 0 ? 200000 : (size_t)i;

        piece[i] = arena_alloc(&a, n);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % MEM_ALIGN, 0);
        assert_true(all_zero(piece[i], n));
        memset(piece[i], i & 0xff, n);
    }
    for (int i = 1; i < 400; i++)
        if (i % 97 != 0)
            assert_int_equal(piece[i][i - 1], i & 0xff);
    assert_string_equal(arena_strdup(&a, "model.layers.0"), "model.layers.0");
    assert_string_equal(arena_strndup(&a, "model.layers.0", 5), "model");
    assert_string_equal(arena_printf(&a, "%s.%d", "lora", 7), "lora.7");
    arena_release(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(arena_alloc(&a, 1)); /* empty and usable again */
    arena_release(&a);
}

static void large_pieces_do_not_end_the_chunk_of_small_ones(void **state)
{
    struct arena a = ARENA_INIT;
    const char *last = NULL, *p;

    (void)state;
    assert_non_null(arena_alloc(&a, 40000)); /* most of a chunk */
    for (int i = 0; i < 100; i++) {
        p = arena_alloc(&a, 64);
        assert_non_null(p);
        assert_true(!last || p == last + 64);
        last = p;
        assert_non_null(arena_alloc(&a, 70000 - 20 * i));
    }
    arena_release(&a);
}

static void an_arena_without_memory_says_so_and_stays_sound(void **state)
{
    struct arena a = ARENA_INIT;

    (void)state;
    assert_non_null(arena_alloc(&a, 100));
    mem_fail_at(1);
    assert_null(arena_alloc(&a, 1 << 20));
    mem_fail_at(1);
    assert_null(arena_printf(&a, "%*d", 100000, 1));
    mem_fail_at(0);
    assert_non_null(arena_alloc(&a, 1 << 20));
    arena_release(&a);
}

/* --- errors --- */

static void messages_carry_their_prefix_and_are_cut_at_the_limit(void **state)
{
    static char big[GRAFT_ERR_MAX * 2];
    struct graft_err err = { 0 };

    (void)state;
    assert_int_equal(graft_fail(&err, GRAFT_EIO, "cannot read %d bytes", 5), GRAFT_EIO);
    assert_string_equal(err.msg, "cannot read 5 bytes");
    assert_int_equal(graft_fail_in(&err, GRAFT_EFORMAT, "file \"%s\"", "a"), GRAFT_EFORMAT);
    assert_string_equal(err.msg, "file \"a\": cannot read 5 bytes");
    assert_int_equal(err.code, GRAFT_EFORMAT);
    assert_int_equal(graft_fail(NULL, GRAFT_ENOMEM, "x"), GRAFT_ENOMEM);
    memset(big, 'x', sizeof big - 1);
    graft_fail(&err, GRAFT_EARG, "%s", big);
    assert_int_equal(strlen(err.msg), GRAFT_ERR_MAX - 1);
    graft_fail_in(&err, GRAFT_EARG, "prefix");
    assert_int_equal(strlen(err.msg), GRAFT_ERR_MAX - 1);
    assert_memory_equal(err.msg, "prefix: xxx", 11);
}

/* --- strings --- */

static void strings_grow_hold_nuls_and_stay_terminated(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    assert_string_equal(strbuf_str(&s), "");
    for (int i = 0; i < 1000; i++)
        strbuf_printf(&s, "%d,", i);
    assert_int_equal(s.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(s.buf[s.len], 0);
    assert_memory_equal(s.buf + s.len - 4, "999,", 4);
    strbuf_clear(&s);
    strbuf_add(&s, "a\0b", 3);
    strbuf_putc(&s, 'c');
    assert_int_equal(s.len, 4);
    assert_memory_equal(s.buf, "a\0bc", 5);
    strbuf_release(&s);
    assert_null(s.buf);
}

static void a_string_without_memory_remembers_it(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    strbuf_puts(&s, "kept");
    mem_fail_at(1);
    for (int i = 0; i < 100; i++)
        strbuf_puts(&s, "0123456789");
    mem_fail_at(0);
    assert_true(s.failed);
    strbuf_puts(&s, "more");
    assert_true(s.failed);
    assert_memory_equal(s.buf, "kept", 4);
    strbuf_clear(&s);
    assert_false(s.failed);
    strbuf_release(&s);
}

static void utf8_reads_back_every_code_point(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    for (uint32_t cp = 0; cp <= 0x10ffff; cp += cp < 0x3000 ? 1 : 37) {
        const int want = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        const bool surrogate = cp >= 0xd800 && cp < 0xe000;
        uint32_t back = 0;

        strbuf_clear(&s);
        strbuf_put_utf8(&s, cp);
        assert_int_equal(s.len, want);
        assert_int_equal(utf8_next(s.buf, s.len, &back), surrogate ? 0 : want);
        if (!surrogate)
            assert_int_equal(back, cp);
        assert_int_equal(utf8_next(s.buf, s.len - 1, &back), 0); /* cut short */
    }
    strbuf_release(&s);
}

static void utf8_refuses_what_is_not_utf8(void **state)
{
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf", /* continuation alone, overlong */
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xf0\x8f\xbf\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf", /* surrogates */
        "\xf4\x90\x80\x80",
        "\xf8\x88\x80\x80\x80",
        "\xff", /* beyond U+10FFFF */
        "\xc3(",
        "\xe2\x82(", /* second or third byte missing */
    };
    uint32_t cp;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (utf8_next(bad[i], strlen(bad[i]), &cp) != 0)
            fail_msg("sequence %d was taken for U+%04X", (int)i, (unsigned)cp);
    assert_int_equal(utf8_next("", 0, &cp), 0);
}

static void the_nearest_name_is_found_and_a_far_one_is_not(void **state)
{
    static const char *const names[] = { "lr", "epochs", "batch_size", "max_length",
                                         "gradient_accumulation" };

    (void)state;
    assert_string_equal(nearest_name("epoch", names, 5), "epochs");
    assert_string_equal(nearest_name("batchsize", names, 5), "batch_size");
    assert_string_equal(nearest_name("Max_Lenght", names, 5), "max_length");
    assert_string_equal(nearest_name("gradient_acumulation", names, 5), "gradient_accumulation");
    assert_null(nearest_name("wibble_wobble", names, 5));
    assert_null(nearest_name("lr", names, 0));
}

static void sizes_and_times_read_like_people_write_them(void **state)
{
    char out[32];

    (void)state;
    assert_string_equal(format_bytes(out, 512), "512 B");
    assert_string_equal(format_bytes(out, 1536), "1.5 KiB");
    assert_string_equal(format_bytes(out, 98362432), "93.8 MiB");
    assert_string_equal(format_bytes(out, 3e9), "2.8 GiB");
    assert_string_equal(format_seconds(out, 1.25), "1.2 s");
    assert_string_equal(format_seconds(out, 59.2), "59 s");
    assert_string_equal(format_seconds(out, 200), "3 min 20 s");
    assert_string_equal(format_seconds(out, 7260), "2 h 1 min");
}

/* --- random numbers --- */

/* The known answers that come with Random123 for Philox4x32 in 10 rounds. The stream is folded into
 * the second counter word, so 0 leaves the counter as given. */
static void philox_gives_its_known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
          { 0xffffffff, 0xffffffff },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };

    (void)state;
    for (int i = 0; i < 3; i++) {
        const struct rng_key key = { .seed = (uint64_t)cases[i].key[1] << 32 | cases[i].key[0],
                                     .step = cases[i].counter[2],
                                     .site = cases[i].counter[3] };
        uint32_t out[4];

        rng_block(key, (uint64_t)cases[i].counter[1] << 32 | cases[i].counter[0], out);
        assert_memory_equal(out, cases[i].want, sizeof out);
    }
}

static void numbers_depend_on_every_part_of_the_key(void **state)
{
    const struct rng_key base = { 1, RNG_DROPOUT, 2, 3 };
    const struct rng_key others[] = { { 2, RNG_DROPOUT, 2, 3 },
                                      { 1, RNG_INIT, 2, 3 },
                                      { 1, RNG_DROPOUT, 3, 3 },
                                      { 1, RNG_DROPOUT, 2, 4 } };
    uint32_t block[4];

    (void)state;
    rng_block(base, 5, block);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(rng_u32(base, 20 + i), block[i]);
    for (int k = 0; k < 4; k++)
        assert_int_not_equal(rng_u32(others[k], 20), block[0]);
    assert_int_equal(rng_u32(base, 20), block[0]); /* no hidden state */
}

static void numbers_have_the_distribution_they_name(void **state)
{
    const struct rng_key key = { 7, RNG_TEST, 0, 0 };
    enum { N = 200000 };
    double sum = 0, normal = 0, square = 0, fourth = 0;
    int64_t counts[10] = { 0 };

    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        const double u = (double)rng_uniform(key, i), z = (double)rng_normal(key, i);

        assert_true(u >= 0 && u < 1 && isfinite(z));
        sum += u;
        normal += z;
        square += z * z;
        fourth += z * z * z * z;
        counts[rng_below(key, i, 10)]++;
    }
    assert_float_equal(sum / N, 0.5, 0.003);
    assert_float_equal(normal / N, 0.0, 0.01);
    assert_float_equal(square / N, 1.0, 0.015);
    assert_float_equal(fourth / N, 3.0, 0.1);
    for (int i = 0; i < 10; i++)
        assert_float_equal((double)counts[i] / N, 0.1, 0.003);
}

/* --- files --- */

static char dir[] = "/tmp/graft-core-XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    struct strbuf cmd = STRBUF_INIT;
    int rc;

    (void)state;
    strbuf_printf(&cmd, "rm -rf '%s'", dir);
    rc = system(strbuf_str(&cmd));
    strbuf_release(&cmd);
    return rc;
}

static const char *in_dir(const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int entries(void)
{
    DIR *d = opendir(dir);
    int n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void assert_holds(const char *path, const char *text)
{
    struct strbuf s = STRBUF_INIT;

    assert_int_equal(file_read(path, 1 << 20, &s, NULL), GRAFT_OK);
    assert_string_equal(strbuf_str(&s), text);
    strbuf_release(&s);
}

static void a_file_appears_only_when_it_is_committed(void **state)
{
    const char *path = in_dir("a.txt");
    struct out_file *f = NULL;
    const int before = entries();

    (void)state;
    assert_int_equal(file_write(path, "old", 3, NULL), GRAFT_OK);
    assert_int_equal(out_file_open(path, &f, NULL), GRAFT_OK);
    out_file_write(f, "new ", 4);
    assert_holds(path, "old");
    out_file_write(f, "text", 4);
    assert_int_equal(out_file_commit(f, NULL), GRAFT_OK);
    assert_holds(path, "new text");
    assert_int_equal(out_file_open(path, &f, NULL), GRAFT_OK);
    out_file_write(f, "thrown away", 11);
    out_file_abort(f);
    out_file_abort(NULL);
    assert_holds(path, "new text");
    assert_int_equal(entries(), before + 1); /* no temporary is left */
}

static bool exists_in_dir(const char *name)
{
    return file_exists(in_dir(name));
}

static void what_a_killed_program_left_is_removed(void **state)
{
    struct out_file *f = NULL, *other = NULL;
    char path[256], alive[300];

    (void)state;
    snprintf(path, sizeof path, "%s", in_dir("s.txt"));
    assert_int_equal(file_write(in_dir("s.txt.tmp-1"), "dead", 4, NULL), GRAFT_OK);
    assert_int_equal(file_write(in_dir("s.txt.tmp-1x"), "no number", 9, NULL), GRAFT_OK);
    assert_int_equal(file_write(in_dir("t.txt.tmp-1"), "another's", 9, NULL), GRAFT_OK);
    assert_int_equal(out_file_open(path, &f, NULL), GRAFT_OK);
    assert_false(exists_in_dir("s.txt.tmp-1"));
    assert_true(exists_in_dir("s.txt.tmp-1x"));
    assert_true(exists_in_dir("t.txt.tmp-1"));
    /* one that is being written has a lock */
    snprintf(alive, sizeof alive, "%s.tmp-%ld", path, (long)getpid());
    assert_true(file_exists(alive));
    assert_int_equal(rename(alive, in_dir("s.txt.tmp-2")), 0);
    assert_int_equal(out_file_open(path, &other, NULL), GRAFT_OK);
    assert_true(exists_in_dir("s.txt.tmp-2"));
    out_file_abort(other);
    out_file_abort(f);
    assert_int_equal(unlink(in_dir("s.txt.tmp-2")), 0);
    assert_int_equal(unlink(in_dir("s.txt.tmp-1x")), 0);
    assert_int_equal(unlink(in_dir("t.txt.tmp-1")), 0);
}

static void a_file_that_is_stopped_leaves_nothing(void **state)
{
    static volatile sig_atomic_t stop;
    const char *path = in_dir("stopped");
    const int before = entries();
    struct graft_err err;
    struct out_file *f = NULL;

    (void)state;
    assert_false(file_writing());
    file_stop_at(&stop);
    assert_int_equal(out_file_open(path, &f, NULL), GRAFT_OK);
    assert_true(file_writing());
    out_file_write(f, "half", 4);
    stop = 2;
    assert_int_equal(out_file_commit(f, &err), GRAFT_ESTOPPED);
    assert_non_null(strstr(err.msg, "stopped while"));
    assert_false(file_writing());
    assert_int_equal(entries(), before);
    file_stop_at(NULL);
}

static void large_and_small_writes_come_out_in_order(void **state)
{
    const char *path = in_dir("big");
    static unsigned char bytes[300000];
    struct mapped_file m = { NULL, 0 };
    struct out_file *f = NULL;
    size_t at = 0;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 251);
    assert_int_equal(out_file_open(path, &f, NULL), GRAFT_OK);
    for (size_t n = 0; at < sizeof bytes; n = n * 3 % 70001 + 1) {
        const size_t len = n < sizeof bytes - at ? n : sizeof bytes - at;

        out_file_write(f, bytes + at, len);
        at += len;
    }
    assert_int_equal(out_file_commit(f, NULL), GRAFT_OK);
    assert_int_equal(file_map(path, &m, NULL), GRAFT_OK);
    assert_int_equal(m.size, sizeof bytes);
    assert_memory_equal(m.data, bytes, sizeof bytes);
    file_unmap(&m);
    file_unmap(&m);
}

static void a_write_that_fails_leaves_the_old_file(void **state)
{
    const char *path = in_dir("full");
    static char bytes[200000];
    struct rlimit old, small;
    struct graft_err err = { 0 };
    const int before = entries();

    (void)state;
    assert_int_equal(file_write(path, "good", 4, NULL), GRAFT_OK);
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 100000; /* like a disk that fills up */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    assert_int_equal(file_write(path, bytes, sizeof bytes, &err), GRAFT_EWRITE);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    assert_non_null(strstr(err.msg, path));
    assert_holds(path, "good");
    assert_int_equal(entries(), before + 1);
}

static void files_that_cannot_be_had_are_named(void **state)
{
    struct mapped_file m = { NULL, 0 };
    struct out_file *f = NULL;
    struct strbuf s = STRBUF_INIT;
    struct graft_err err = { 0 };

    (void)state;
    assert_int_equal(file_map("/no/such/file", &m, &err), GRAFT_EIO);
    assert_string_equal(err.msg, "/no/such/file: No such file or directory");
    assert_int_equal(file_map(dir, &m, &err), GRAFT_EIO);
    assert_int_equal(out_file_open("/no/such/file", &f, &err), GRAFT_EWRITE);
    assert_int_equal(file_write(in_dir("b"), "12345", 5, &err), GRAFT_OK);
    assert_int_equal(file_read(in_dir("b"), 4, &s, &err), GRAFT_EFORMAT);
    assert_int_equal(file_read(in_dir("b"), 5, &s, &err), GRAFT_OK);
    assert_int_equal(s.len, 5);
    strbuf_release(&s);
    assert_int_equal(file_write(in_dir("empty"), "", 0, &err), GRAFT_OK);
    assert_int_equal(file_map(in_dir("empty"), &m, &err), GRAFT_OK);
    assert_true(m.data == NULL && m.size == 0);
}

static void a_file_without_memory_is_no_write_error(void **state)
{
    enum graft_status st = GRAFT_ENOMEM;

    (void)state;
    for (int k = 1; st; k++) {
        mem_fail_at(k);
        st = file_write(in_dir("memory"), "x", 1, NULL);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
    }
}

static void folders_are_made_with_their_parents(void **state)
{
    struct graft_err err = { 0 };
    char path[300];

    (void)state;
    snprintf(path, sizeof path, "%s/x/y//z/", dir);
    assert_int_equal(dir_make(path, &err), GRAFT_OK);
    assert_true(dir_exists(path));
    assert_int_equal(dir_make(path, &err), GRAFT_OK); /* there already */
    assert_int_equal(file_write(in_dir("plain"), "", 0, &err), GRAFT_OK);
    assert_int_equal(dir_make(in_dir("plain"), &err), GRAFT_EWRITE);
    snprintf(path, sizeof path, "%s/plain/sub", dir);
    assert_int_equal(dir_make(path, &err), GRAFT_EWRITE);
    assert_true(file_exists(in_dir("plain")));
    assert_false(file_exists(in_dir("nothing")));
    assert_false(dir_exists(in_dir("plain")));
}

static void a_scratch_file_has_no_name_and_keeps_what_is_forgotten(void **state)
{
    enum { N = 300000 };
    char folder[] = "/tmp/graft-test-XXXXXX";
    struct scratch_file f = { NULL, 0 };
    struct graft_err err = { GRAFT_OK, "" };
    int32_t *v;
    DIR *d;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(scratch_open(folder, N * sizeof *v, &f, &err), GRAFT_OK);
    assert_int_equal(f.size, N * sizeof *v);
    v = f.data;
    for (int i = 0; i < N; i++) {
        assert_int_equal(v[i], 0);
        v[i] = i;
    }
    file_forget(v, f.size);
    for (int i = 0; i < N; i++)
        assert_int_equal(v[i], i);
    d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        assert_true(e->d_name[0] == '.' && (!e->d_name[1] || !e->d_name[2]));
    closedir(d);
    scratch_close(&f);
    scratch_close(&f);
    assert_int_equal(rmdir(folder), 0);
}

/* No disk has it: said at once, and nothing stays. */
static void a_scratch_file_that_does_not_fit_is_refused(void **state)
{
    struct scratch_file f = { NULL, 0 };
    struct graft_err err = { GRAFT_OK, "" };

    (void)state;
    assert_int_equal(scratch_open("/tmp", (size_t)1 << 52, &f, &err), GRAFT_EWRITE);
    assert_memory_equal(err.msg, "/tmp: cannot take 4294967296.0 MiB for a temporary file: ", 57);
    assert_null(f.data);
    assert_int_equal(scratch_open("/nowhere", 1, &f, &err), GRAFT_EWRITE);
}

static void paths_join_without_doubled_slashes(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    path_join(&s, "a/", "b");
    assert_string_equal(s.buf, "a/b");
    strbuf_clear(&s);
    path_join(&s, "a", "b");
    assert_string_equal(s.buf, "a/b");
    strbuf_clear(&s);
    path_absolute(&s, "/x/y");
    assert_string_equal(s.buf, "/x/y");
    strbuf_clear(&s);
    path_absolute(&s, "./x");
    assert_true(s.buf[0] == '/' && strcmp(s.buf + s.len - 2, "/x") == 0);
    assert_string_equal(path_base("a/b/c.txt"), "c.txt");
    assert_string_equal(path_base("c.txt"), "c.txt");
    strbuf_release(&s);
}

/* The examples of FIPS 180-4, and every length around a block's end given in parts. */
static void sha256_gives_its_known_answers(void **state)
{
    static char million[1000000];
    char hex[65], parts[65];

    (void)state;
    sha256_hex("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(million, 'a', sizeof million);
    sha256_hex(million, sizeof million, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    for (size_t n = 50; n < 200; n++) {
        struct sha256 s;

        sha256_hex(million, n, hex);
        sha256_init(&s);
        sha256_add(&s, million, n / 3);
        sha256_add(&s, million, 0);
        sha256_add(&s, million, n - n / 3);
        sha256_finish(&s, parts);
        assert_string_equal(hex, parts);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(resizing_keeps_contents_and_zeroes_the_rest),
        cmocka_unit_test(the_kth_allocation_fails_and_only_that),
        cmocka_unit_test(arenas_hand_out_separate_aligned_zeroed_pieces),
        cmocka_unit_test(large_pieces_do_not_end_the_chunk_of_small_ones),
        cmocka_unit_test(an_arena_without_memory_says_so_and_stays_sound),
        cmocka_unit_test(messages_carry_their_prefix_and_are_cut_at_the_limit),
        cmocka_unit_test(strings_grow_hold_nuls_and_stay_terminated),
        cmocka_unit_test(a_string_without_memory_remembers_it),
        cmocka_unit_test(utf8_reads_back_every_code_point),
        cmocka_unit_test(utf8_refuses_what_is_not_utf8),
        cmocka_unit_test(the_nearest_name_is_found_and_a_far_one_is_not),
        cmocka_unit_test(sizes_and_times_read_like_people_write_them),
        cmocka_unit_test(philox_gives_its_known_answers),
        cmocka_unit_test(numbers_depend_on_every_part_of_the_key),
        cmocka_unit_test(numbers_have_the_distribution_they_name),
        cmocka_unit_test(a_file_appears_only_when_it_is_committed),
        cmocka_unit_test(what_a_killed_program_left_is_removed),
        cmocka_unit_test(a_file_that_is_stopped_leaves_nothing),
        cmocka_unit_test(large_and_small_writes_come_out_in_order),
        cmocka_unit_test(a_write_that_fails_leaves_the_old_file),
        cmocka_unit_test(files_that_cannot_be_had_are_named),
        cmocka_unit_test(a_file_without_memory_is_no_write_error),
        cmocka_unit_test(folders_are_made_with_their_parents),
        cmocka_unit_test(a_scratch_file_has_no_name_and_keeps_what_is_forgotten),
        cmocka_unit_test(a_scratch_file_that_does_not_fit_is_refused),
        cmocka_unit_test(paths_join_without_doubled_slashes),
        cmocka_unit_test(sha256_gives_its_known_answers),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
