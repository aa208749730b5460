/* The safetensors writer: byte for byte the reference's file, and nothing left when it fails. */
#include "io_testing.h"

#include <signal.h>
#include <sys/resource.h>

#include "io/safetensors.h"

static enum graft_status fill_from_store(void *user, const struct safetensors_entry *e,
                                         struct out_file *f, struct graft_err *err)
{
    const struct stored_tensor *t = store_find(user, e->name);

    (void)err;
    out_file_write(f, t->mat.data, t->bytes);
    return GRAFT_OK;
}

static const char *const pt[] = { "format", "pt", NULL };

static void the_file_is_the_references_to_the_byte(void **state)
{
    const char *golden = GRAFT_GOLDEN "/safetensors/every_type.safetensors";
    struct safetensors_entry entry[64] = { 0 };
    struct strbuf want = get_file(golden), got;
    struct store s;

    (void)state;
    assert_int_equal(safetensors_open(golden, &s, NULL), GRAFT_OK);
    assert_true(s.count == 20);
    for (int64_t i = 0; i < s.count; i++) {
        const struct stored_tensor *t = &s.tensor[(i * 7) % s.count]; /* any other order */

        entry[i].name = t->name;
        entry[i].type = t->mat.type;
        entry[i].ndim = t->ndim;
        memcpy(entry[i].dim, t->dim, sizeof t->dim);
    }
    assert_int_equal(
        safetensors_write(in_dir("out.safetensors"), entry, s.count, pt, fill_from_store, &s, NULL),
        GRAFT_OK);
    got = get_file(in_dir("out.safetensors"));
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.buf, want.buf, want.len);
    strbuf_release(&got);
    strbuf_release(&want);
    store_release(&s);
}

static void the_golden_file_reads_as_it_was_made(void **state)
{
    const struct stored_tensor *t;
    struct store s;

    (void)state;
    assert_int_equal(safetensors_open(GRAFT_GOLDEN "/safetensors/every_type.safetensors", &s, NULL),
                     GRAFT_OK);
    t = store_find(&s, "a.weight");
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->mat.rows, 6);
    assert_int_equal(t->mat.cols, 4);
    for (int i = 0; i < 24; i++)
        assert_true(((const float *)t->mat.data)[i] == (float)i);
    assert_true(*(const float *)store_find(&s, "scalar")->mat.data == 7);
    assert_int_equal(store_find(&s, "empty")->mat.rows, 0);
    assert_non_null(
        store_find(&s, "quote\" back\\ tab\t bell\a gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"));
    for (int64_t k = 0; k < 16; k++)
        assert_int_equal(((const uint32_t *)store_find(&s, "z10.uint32")->mat.data)[k], k);
    store_release(&s);
}

/* What a fill of the tests does wrong. */
struct lapse {
    int extra; /* bytes more than wanted */
    enum graft_status st;
};

static enum graft_status fill_wrong(void *user, const struct safetensors_entry *e,
                                    struct out_file *f, struct graft_err *err)
{
    const struct lapse *l = user;
    const char byte = 1;

    for (int64_t i = 0; i < e->dim[0] + l->extra; i++)
        out_file_write(f, &byte, 1);
    return l->st ? graft_fail(err, l->st, "the fill says no") : GRAFT_OK;
}

static const struct safetensors_entry bytes4 = { "four", QT_U8, 1, { 4 } };

static void a_fill_that_gives_other_bytes_is_an_error(void **state)
{
    struct lapse l = { 0, GRAFT_OK };
    struct graft_err err;

    (void)state;
    assert_int_equal(safetensors_write(in_dir("f"), &bytes4, 1, NULL, fill_wrong, &l, &err),
                     GRAFT_OK);
    put_file("f", "old", 3);
    for (l.extra = -1; l.extra <= 1; l.extra += 2) {
        assert_int_equal(safetensors_write(in_dir("f"), &bytes4, 1, NULL, fill_wrong, &l, &err),
                         GRAFT_EARG);
        assert_non_null(strstr(err.msg, "\"four\" takes 4 bytes"));
    }
    l = (struct lapse){ 0, GRAFT_ERUN };
    assert_int_equal(safetensors_write(in_dir("f"), &bytes4, 1, NULL, fill_wrong, &l, &err),
                     GRAFT_ERUN);
    assert_string_equal(err.msg, "the fill says no");
    assert_int_equal(count_files(test_dir, ".tmp"), 0);
    struct strbuf old = get_file(in_dir("f"));
    assert_string_equal(old.buf, "old");
    strbuf_release(&old);
}

static void entries_that_no_file_can_hold_are_refused(void **state)
{
    static const struct safetensors_entry bad[][2] = {
        { { "a", QT_NF4, 1, { 4 } }, { "b", QT_U8, 1, { 4 } } },
        { { "a", QT_Q4_0, 1, { 32 } }, { "b", QT_U8, 1, { 4 } } },
        { { "a", QT_U8, 1, { 4 } }, { "a", QT_I8, 1, { 4 } } },
        { { "a", QT_U8, 1, { -4 } }, { "b", QT_U8, 1, { 4 } } },
        { { "__metadata__", QT_U8, 1, { 4 } }, { "b", QT_U8, 1, { 4 } } },
        { { "\xff", QT_U8, 1, { 4 } }, { "b", QT_U8, 1, { 4 } } },
        { { "a", QT_U8, 2, { INT64_MAX, 4 } }, { "b", QT_U8, 1, { 4 } } },
        { { "a", QT_U8, 1, { INT64_MAX - 1 } }, { "b", QT_U8, 1, { INT64_MAX - 1 } } },
    };
    struct lapse l = { 0, GRAFT_OK };
    struct graft_err err;

    (void)state;
    for (size_t i = 0; i + 1 < sizeof bad / sizeof *bad; i++)
        assert_int_equal(safetensors_write(in_dir("g"), bad[i], 2, NULL, fill_wrong, &l, &err),
                         GRAFT_EARG);
    assert_false(file_exists(in_dir("g")));
}

static void a_full_disk_leaves_nothing(void **state)
{
    const struct rlimit small = { 1000, RLIM_INFINITY };
    const struct safetensors_entry big = { "big", QT_U8, 1, { 1 << 20 } };
    struct rlimit old;
    struct lapse l = { 0, GRAFT_OK };
    struct graft_err err;
    enum graft_status st;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    setrlimit(RLIMIT_FSIZE, &small);
    st = safetensors_write(in_dir("h"), &big, 1, NULL, fill_wrong, &l, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(st, GRAFT_EWRITE);
    assert_non_null(strstr(err.msg, "/h: cannot write"));
    assert_int_equal(count_files(test_dir, "h"), 0);
    assert_int_equal(safetensors_write("/nowhere/h", &big, 1, NULL, fill_wrong, &l, &err),
                     GRAFT_EWRITE);
}

static void no_tensors_and_no_metadata_are_a_file(void **state)
{
    struct store s;

    (void)state;
    assert_int_equal(safetensors_write(in_dir("e"), NULL, 0, NULL, fill_wrong, NULL, NULL),
                     GRAFT_OK);
    assert_int_equal(safetensors_open(in_dir("e"), &s, NULL), GRAFT_OK);
    assert_int_equal(s.count, 0);
    store_release(&s);
}

static void memory_that_runs_out_anywhere_is_an_error(void **state)
{
    struct lapse l = { 0, GRAFT_OK };
    enum graft_status st;
    int64_t k = 0;

    (void)state;
    do {
        struct graft_err err;

        mem_fail_at(++k);
        st = safetensors_write(in_dir("k"), &bytes4, 1, pt, fill_wrong, &l, &err);
        mem_fail_at(0);
        if (st) {
            assert_int_equal(st, GRAFT_ENOMEM);
            assert_int_equal(count_files(test_dir, "k"), 0);
        }
    } while (st);
    assert_true(k > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_is_the_references_to_the_byte),
        cmocka_unit_test(the_golden_file_reads_as_it_was_made),
        cmocka_unit_test(a_fill_that_gives_other_bytes_is_an_error),
        cmocka_unit_test(entries_that_no_file_can_hold_are_refused),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(no_tensors_and_no_metadata_are_a_file),
        cmocka_unit_test(memory_that_runs_out_anywhere_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
