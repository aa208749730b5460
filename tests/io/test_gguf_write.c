/* What is written is, byte for byte, what the gguf package writes, and reads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <string.h>

#include "io/gguf_write.h"

static char path[] = "/tmp/graft-gguf-XXXXXX";
static struct graft_err err;

static const struct gguf_entry entries[] = {
    { "f32", QT_F32, 2, { 3, 5 } },   { "f16", QT_F16, 2, { 2, 7 } },
    { "bf16", QT_BF16, 2, { 5, 3 } }, { "q8", QT_Q8_0, 2, { 3, 64 } },
    { "vector", QT_F32, 1, { 9 } },
};
enum { COUNT = sizeof entries / sizeof *entries };

static int make_name(void **state)
{
    const int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int drop_name(void **state)
{
    (void)state;
    return unlink(path);
}

static enum graft_status fill(void *user, const struct gguf_entry *e, struct out_file *f,
                              struct graft_err *e2)
{
    const int64_t n = e->dim[0] * (e->ndim == 2 ? e->dim[1] : 1);
    float x[256];
    char coded[1024];

    (void)user;
    (void)e2;
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(i % 23 - 11) / 8;
    qtypes[e->type].encode(coded, x, n);
    out_file_write(f, coded, (size_t)(n / qtypes[e->type].block * qtypes[e->type].block_bytes));
    return GRAFT_OK;
}

static void same_file(const char *a, const char *b)
{
    struct strbuf x = STRBUF_INIT, y = STRBUF_INIT;

    assert_int_equal(file_read(a, 1 << 20, &x, &err), GRAFT_OK);
    assert_int_equal(file_read(b, 1 << 20, &y, &err), GRAFT_OK);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.buf, y.buf, x.len);
    strbuf_release(&x);
    strbuf_release(&y);
}

/* Keys made here and copied ones: the golden file's own order. */
static void the_bytes_are_those_of_the_gguf_package(void **state)
{
    static const char *const made[] = { "general.architecture", "general.name", "llama.block_count",
                                        "adapter.lora.alpha" };
    struct gguf_keys k = { STRBUF_INIT, 0 };
    struct gguf g = { 0 };

    (void)state;
    assert_int_equal(gguf_open(GRAFT_GOLDEN "/written.gguf", &g, &err), GRAFT_OK);
    gguf_put_str(&k, made[0], "llama");
    gguf_put_str(&k, made[1], "a name \xc3\xa9");
    gguf_put_u32(&k, made[2], 7);
    gguf_put_f32(&k, made[3], 16.5f);
    assert_int_equal(gguf_put_all(&k, &g, made, 4, &err), GRAFT_OK);
    assert_int_equal(gguf_write(path, &k, entries, COUNT, 32, fill, NULL, &err), GRAFT_OK);
    same_file(path, GRAFT_GOLDEN "/written.gguf");
    gguf_keys_release(&k);
    gguf_release(&g);
}

static void what_is_written_reads_back(void **state)
{
    struct gguf_keys k = { STRBUF_INIT, 0 };
    struct gguf g = { 0 };
    const struct stored_tensor *t;
    const char *s = NULL;

    (void)state;
    gguf_put_str(&k, "empty", "");
    gguf_put_u32(&k, "general.alignment", 256);
    assert_int_equal(gguf_write(path, &k, entries, COUNT, 256, fill, NULL, &err), GRAFT_OK);
    gguf_keys_release(&k);
    assert_int_equal(gguf_open(path, &g, &err), GRAFT_OK);
    assert_int_equal(gguf_str(&g, "empty", NULL, &s, &err), GRAFT_OK);
    assert_string_equal(s, "");
    for (int i = 0; i < COUNT; i++) {
        float x[256];

        t = store_find(&g.store, entries[i].name);
        assert_non_null(t);
        assert_int_equal(t->mat.type, entries[i].type);
        assert_int_equal(t->dim[0], entries[i].dim[0]);
        qmat_decode(&t->mat, 0, qmat_elems(&t->mat), x);
        assert_true(x[0] > -1.4 && x[0] < -1.3);
    }
    gguf_release(&g);
    assert_int_equal(
        gguf_write(path, &(struct gguf_keys){ STRBUF_INIT, 0 }, NULL, 0, 32, fill, NULL, &err),
        GRAFT_OK); /* nothing at all */
}

static void refused(const struct gguf_entry *e, int64_t count, const char *part)
{
    struct gguf_keys k = { STRBUF_INIT, 0 };

    assert_int_equal(gguf_write(path, &k, e, count, 32, fill, NULL, &err), GRAFT_EARG);
    if (!strstr(err.msg, part))
        fail_msg("%s", err.msg);
}

static void what_the_format_cannot_hold_is_refused(void **state)
{
    const struct gguf_entry nf4 = { "w", QT_NF4, 2, { 2, 64 } },
                            odd = { "w", QT_Q8_0, 2, { 2, 33 } },
                            twice[] = { { "w", QT_F32, 1, { 2 } }, { "w", QT_F32, 1, { 2 } } };
    char name[80] = "";
    const struct gguf_entry longish = { name, QT_F32, 1, { 2 } };
    struct strbuf after = STRBUF_INIT;

    (void)state;
    memset(name, 'x', 70);
    assert_int_equal(file_write(path, "old", 3, &err), GRAFT_OK);
    refused(&nf4, 1, "GGUF has no type nf4");
    refused(&odd, 1, "no whole number of q8_0 blocks of 32");
    refused(twice, 2, "\"w\" is given twice");
    refused(&longish, 1, "too long");
    assert_int_equal(file_read(path, 100, &after, &err), GRAFT_OK);
    assert_string_equal(strbuf_str(&after), "old"); /* and stays as it was */
    strbuf_release(&after);
}

static void memory_that_fails_is_told(void **state)
{
    enum graft_status st = GRAFT_ENOMEM;

    (void)state;
    for (int64_t i = 1; st; i++) {
        struct gguf_keys k = { STRBUF_INIT, 0 };

        mem_fail_at(i);
        gguf_put_str(&k, "key", "value");
        st = gguf_write(path, &k, entries, COUNT, 32, fill, NULL, &err);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
        gguf_keys_release(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_the_gguf_package),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(what_the_format_cannot_hold_is_refused),
        cmocka_unit_test(memory_that_fails_is_told),
    };

    return cmocka_run_group_tests(tests, make_name, drop_name);
}
