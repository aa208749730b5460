/* tests/io/io_testing.h - temporary files, bytes that are wrong on purpose, the real assets. */
#ifndef TESTS_IO_TESTING_H
#define TESTS_IO_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "io/store.h"

static char test_dir[256]; /* made by make_dir, removed with all in it by remove_dir */

static inline int make_dir(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(test_dir, sizeof test_dir, "%s/graft-io-XXXXXX", base && base[0] ? base : "/tmp");
    return mkdtemp(test_dir) ? 0 : -1;
}

static inline int count_files(const char *dir, const char *part)
{
    DIR *d = opendir(dir);
    int n = 0;

    for (const struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.' && strstr(e->d_name, part) != NULL;
    if (d)
        closedir(d);
    return n;
}

static inline int remove_dir(void **state)
{
    DIR *d = opendir(test_dir);
    char path[600];

    (void)state;
    for (const struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", test_dir, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlink(path);
    }
    if (d)
        closedir(d);
    return rmdir(test_dir);
}

/* "DIR/name"; four calls may be in use at once. */
static inline const char *in_dir(const char *name)
{
    static char path[4][600];
    static int next;
    char *p = path[next++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", test_dir, name);
    return p;
}

/* Plain stdio: hundreds of files, no need to reach the disk. */
static inline const char *put_file(const char *name, const void *bytes, size_t len)
{
    const char *path = in_dir(name);
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline struct strbuf get_file(const char *path)
{
    struct strbuf s = STRBUF_INIT;

    assert_int_equal(file_read(path, 1 << 30, &s, NULL), GRAFT_OK);
    return s;
}

static inline void put_u32(struct strbuf *s, uint32_t v)
{
    strbuf_add(s, &v, sizeof v);
}

static inline void put_u64(struct strbuf *s, uint64_t v)
{
    strbuf_add(s, &v, sizeof v);
}

/* Reads every byte a store shows: a view that leaves its file is found by the sanitizer. */
static inline unsigned touch_store(const struct store *s)
{
    unsigned sum = 0;

    for (int64_t i = 0; i < s->count; i++) {
        const struct stored_tensor *t = &s->tensor[i];
        const unsigned char *p = t->mat.data;

        assert_non_null(t->name);
        assert_true(t->ndim >= 0 && t->ndim <= STORE_MAX_DIM);
        for (size_t k = 0; k < t->bytes; k++)
            sum += p[k];
        assert_ptr_equal(store_find(s, t->name), t);
    }
    return sum;
}

/* A failed open says EFORMAT or EIO and names the file. */
static inline void check_refusal(enum graft_status st, const struct graft_err *err,
                                 const char *file)
{
    if (st != GRAFT_EFORMAT && st != GRAFT_EIO)
        fail_msg("status %d: %s", st, err->msg);
    assert_int_equal(err->code, st);
    if (!strstr(err->msg, file))
        fail_msg("the message does not name %s: %s", file, err->msg);
}

/* Opens bytes (an exact copy, so that reading behind them shows), looks at all of it, releases. */
typedef enum graft_status try_bytes(const char *name, const void *bytes, size_t len,
                                    struct graft_err *err);

static inline void try_copy(try_bytes *open, const void *bytes, size_t len, bool must_fail)
{
    void *copy = malloc(len ? len : 1);
    struct graft_err err = { 0 };
    enum graft_status st;

    assert_non_null(copy);
    if (len)
        memcpy(copy, bytes, len);
    st = open("hostile.bin", copy, len, &err);
    if (st || must_fail)
        check_refusal(st, &err, "hostile.bin");
    free(copy);
}

static inline void try_every_length(try_bytes *open, const struct strbuf *good)
{
    for (size_t len = 0; len < good->len; len++)
        try_copy(open, good->buf, len, true);
    try_copy(open, good->buf, good->len, false);
}

/* Every byte below `head`, each with all its other values. */
static inline void try_every_byte(try_bytes *open, const struct strbuf *good, size_t head)
{
    for (size_t i = 0; i < head; i++) {
        const char was = good->buf[i];

        for (int v = 1; v < 256; v++) {
            good->buf[i] = (char)(was ^ v);
            try_copy(open, good->buf, good->len, false);
        }
        good->buf[i] = was;
    }
}

/* The folder of the real files; NULL (after saying so) where it is absent. */
static inline const char *assets_dir(void)
{
    static char path[1024];
    const char *env = getenv("GRAFT_ASSETS");

    snprintf(path, sizeof path, "%s", env ? env : GRAFT_SOURCE_DIR "/../shared/assets");
    if (dir_exists(path))
        return path;
    print_message("skipped: %s is not there (GRAFT_ASSETS)\n", path);
    return NULL;
}

#endif
