/* The container: what goes in comes out, to the bit, and damage is refused. */
#include "io_testing.h"

#include <signal.h>
#include <sys/resource.h>

#include "io/container.h"

enum { ROWS = 8, COLS = 512, N = ROWS * COLS, BLOCK = 64, BLOCK2 = 32 };

/* Buffers that every test tensor points into: any bytes will do. */
static struct {
    uint8_t data[N * 8];
    float absmax[N / BLOCK], absmax2[N / BLOCK / BLOCK2], lut[16], map8[256];
    uint8_t absmax8[N / BLOCK];
} pool;

static void fill_pool(void)
{
    for (size_t i = 0; i < sizeof pool.data; i++)
        pool.data[i] = (uint8_t)(i * 31 + i / 256);
    for (int i = 0; i < N / BLOCK; i++) {
        pool.absmax[i] = (float)i + 0.5F;
        pool.absmax8[i] = (uint8_t)(3 * i);
    }
    for (int i = 0; i < N / BLOCK / BLOCK2; i++)
        pool.absmax2[i] = 100.0F + (float)i;
    for (int i = 0; i < 16; i++)
        pool.lut[i] = (float)i / 15;
    for (int i = 0; i < 256; i++)
        pool.map8[i] = (float)i / 255;
}

static struct stored_tensor make_tensor(const char *name, enum qtype type, int ndim)
{
    const struct qtype_info *q = &qtypes[type];
    struct stored_tensor t = { .name = name, .ndim = ndim };

    t.dim[0] = ndim == 1 ? N : ROWS;
    t.dim[1] = COLS;
    t.mat = (struct qmat){
        .type = type, .rows = ndim == 1 ? 1 : ROWS, .cols = ndim == 1 ? N : COLS, .data = pool.data
    };
    if (type == QT_NF4 || type == QT_FP4) {
        t.bytes = N / 2;
        t.mat.block = BLOCK;
        t.mat.lut = pool.lut;
        t.mat.absmax = pool.absmax;
    } else {
        t.bytes = (size_t)(N / q->block * q->block_bytes);
    }
    return t;
}

static void nest(struct stored_tensor *t)
{
    t->mat.absmax = NULL;
    t->mat.block2 = BLOCK2;
    t->mat.absmax8 = pool.absmax8;
    t->mat.absmax2 = pool.absmax2;
    t->mat.map8 = pool.map8;
    t->mat.offset = 0.1F;
}

static const struct container_file texts[] = {
    { "config.json", "{\"a\": 1}\n", 9 },
    { "tokenizer.json", "", 0 },
};

static void equal_tensors(const struct stored_tensor *a, const struct stored_tensor *b)
{
    const struct qmat *x = &a->mat, *y = &b->mat;

    assert_int_equal(a->ndim, b->ndim);
    assert_memory_equal(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(x->type, y->type);
    assert_int_equal(x->rows, y->rows);
    assert_int_equal(x->cols, y->cols);
    assert_memory_equal(x->data, y->data, a->bytes);
    assert_int_equal(x->block, y->block);
    assert_int_equal(x->block2, y->block2);
    assert_true(x->offset == y->offset);
    assert_int_equal(!x->absmax, !y->absmax);
    if (x->lut)
        assert_memory_equal(x->lut, y->lut, sizeof pool.lut);
    if (x->absmax)
        assert_memory_equal(x->absmax, y->absmax, sizeof pool.absmax);
    if (x->absmax8) {
        assert_memory_equal(x->absmax8, y->absmax8, sizeof pool.absmax8);
        assert_memory_equal(x->absmax2, y->absmax2, sizeof pool.absmax2);
        assert_memory_equal(x->map8, y->map8, sizeof pool.map8);
    }
}

static void every_format_comes_back_to_the_bit(void **state)
{
    struct stored_tensor t[QT_COUNT + 4];
    struct graft_err err = { 0 };
    struct container c;
    int n = 0;

    (void)state;
    for (int type = 0; type < QT_COUNT; type++, n++)
        t[n] = make_tensor(qtypes[type].name, (enum qtype)type, 1 + type % 2);
    t[n] = make_tensor("model.layers.0.nf4 nested", QT_NF4, 2);
    nest(&t[n++]);
    t[n] = make_tensor("gr\xc3\xbc\xc3\x9f", QT_FP4, 2);
    nest(&t[n++]);
    t[n++] = (struct stored_tensor){
        .name = "scalar",
        .bytes = 4,
        .mat = { .type = QT_F32, .rows = 1, .cols = 1, .data = pool.data }
    };
    t[n++] = (struct stored_tensor){
        .name = "none",
        .ndim = 2,
        .dim = { 0, 3 },
        .mat = { .type = QT_F32, .rows = 0, .cols = 3, .data = pool.data }
    };
    if (container_write(in_dir("all.h5"), t, n, texts, 2, "0123abcd", &err) ||
        container_open(in_dir("all.h5"), &c, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(c.store.count, n);
    assert_string_equal(c.store.format, "graft-h5");
    assert_string_equal(c.base_hash, "0123abcd");
    for (int i = 0; i < n; i++) {
        const struct stored_tensor *got = store_find(&c.store, t[i].name);

        assert_non_null(got);
        equal_tensors(&t[i], got);
        if (got->bytes >= 4096)
            assert_int_equal((uintptr_t)got->mat.data % 4096, 0);
    }
    assert_int_equal(c.file_count, 2);
    assert_string_equal(container_find_file(&c, "config.json")->data, texts[0].data);
    assert_int_equal(container_find_file(&c, "config.json")->len, 9);
    assert_int_equal(container_find_file(&c, "tokenizer.json")->len, 0);
    assert_null(container_find_file(&c, "other"));
    assert_int_equal(container_verify(&c, &err), GRAFT_OK);
    container_release(&c);
}

/* A small one for the tests that try every byte: nested nf4, a vector, a file. */
static enum graft_status write_small(const char *name, struct graft_err *err)
{
    struct stored_tensor t[2] = { make_tensor("w", QT_NF4, 2), make_tensor("b", QT_F32, 1) };

    nest(&t[0]);
    t[0].dim[0] = t[0].mat.rows = 1;
    t[0].bytes = COLS / 2;
    t[1].dim[0] = t[1].mat.cols = 3;
    t[1].bytes = 12;
    return container_write(in_dir(name), t, 2, texts, 1, NULL, err);
}

static void the_same_input_gives_the_same_bytes(void **state)
{
    struct strbuf a, b;

    (void)state;
    assert_int_equal(write_small("a.h5", NULL), GRAFT_OK);
    sleep(1); /* a time of day in the file would show */
    assert_int_equal(write_small("b.h5", NULL), GRAFT_OK);
    a = get_file(in_dir("a.h5"));
    b = get_file(in_dir("b.h5"));
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.buf, b.buf, a.len);
    strbuf_release(&a);
    strbuf_release(&b);
}

static enum graft_status try_container(const char *path, struct graft_err *err)
{
    struct container c;

    GRAFT_TRY(container_open(path, &c, err));
    touch_store(&c.store);
    for (int64_t i = 0; i < c.store.count; i++) {
        const struct qmat *w = &c.store.tensor[i].mat;
        float out[64];

        if (qmat_elems(w) >= 64 && w->type == QT_NF4)
            qmat_decode(w, 0, 64, out);
    }
    container_verify(&c, err);
    container_release(&c);
    return GRAFT_OK;
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    struct strbuf s;

    (void)state;
    assert_int_equal(write_small("cut.h5", NULL), GRAFT_OK);
    s = get_file(in_dir("cut.h5"));
    for (size_t len = 0; len < s.len; len += len < 300 || len + 300 > s.len ? 1 : 101) {
        struct graft_err err = { 0 };

        put_file("cut.h5", s.buf, len);
        check_refusal(try_container(in_dir("cut.h5"), &err), &err, "cut.h5");
    }
    strbuf_release(&s);
}

static void any_byte_may_be_wrong(void **state)
{
    struct strbuf s;
    uint64_t end;
    int refused = 0;

    (void)state;
    assert_int_equal(write_small("flip.h5", NULL), GRAFT_OK);
    s = get_file(in_dir("flip.h5"));
    memcpy(&end, s.buf + 16, sizeof end); /* of the structure; the user block holds 88 bytes */
    assert_true(end > 4096 && end < s.len);
    for (size_t i = 0; i < s.len; i += i < 88 || (i >= 4096 && i < end) ? 1 : 61) {
        struct graft_err err = { 0 };

        s.buf[i] ^= (char)(1 << i % 8 | 0x80 >> (i / 8) % 8);
        put_file("flip.h5", s.buf, s.len);
        if (try_container(in_dir("flip.h5"), &err)) {
            check_refusal(err.code, &err, "flip.h5");
            refused++;
        }
        if (i >= 4096 && i < end) /* found before libhdf5 sees it */
            assert_non_null(strstr(err.msg, "the checksum of its structure is"));
        s.buf[i] ^= (char)(1 << i % 8 | 0x80 >> (i / 8) % 8);
    }
    assert_true(refused > 1000);
    strbuf_release(&s);
}

static void a_wrong_byte_of_a_tensor_is_found_by_verify(void **state)
{
    struct stored_tensor t = make_tensor("model.w", QT_F32, 2);
    struct graft_err err = { 0 };
    struct container c;
    struct strbuf s;
    char *hit;

    (void)state;
    assert_int_equal(container_write(in_dir("v.h5"), &t, 1, NULL, 0, NULL, &err), GRAFT_OK);
    s = get_file(in_dir("v.h5"));
    hit = memmem(s.buf, s.len, pool.data, 4096);
    assert_non_null(hit);
    hit[4095] ^= 1;
    put_file("v.h5", s.buf, s.len);
    assert_int_equal(container_open(in_dir("v.h5"), &c, &err), GRAFT_OK);
    assert_int_equal(container_verify(&c, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "v.h5: \"model.w/data\" is damaged"));
    container_release(&c);
    strbuf_release(&s);
}

/* Good checksums around values that do not fit together. */
static void values_that_do_not_fit_are_refused(void **state)
{
    static const char *const wanted[] = { "\"data\" has 255 bytes, wanted 256",
                                          "block is 48",
                                          "block2 is 8192",
                                          "has the shape (-1, 512)",
                                          "is too large",
                                          "\"absmax8\" has 8 bytes, wanted 64" };

    (void)state;
    for (int i = 0; i < (int)(sizeof wanted / sizeof *wanted); i++) {
        struct stored_tensor t = make_tensor("w", QT_NF4, 2);
        struct graft_err err = { 0 };
        struct container c;

        nest(&t);
        t.dim[0] = t.mat.rows = 1;
        t.bytes = COLS / 2;
        if (i == 0)
            t.bytes--;
        else if (i == 1)
            t.mat.block = 48;
        else if (i == 2)
            t.mat.block2 = 8192;
        else if (i == 3)
            t.dim[0] = -1;
        else if (i == 4)
            t.dim[0] = INT64_MAX / 2;
        else
            t.dim[0] = 8, t.bytes *= 8;
        assert_int_equal(container_write(in_dir("fit.h5"), &t, 1, NULL, 0, NULL, &err), GRAFT_OK);
        check_refusal(container_open(in_dir("fit.h5"), &c, &err), &err, "fit.h5");
        if (!strstr(err.msg, wanted[i]))
            fail_msg("wanted \"%s\" in: %s", wanted[i], err.msg);
    }
}

static void names_that_hdf5_reads_as_paths_are_refused(void **state)
{
    static const char *const bad[] = { "a/b", "/a", ".", "..", "", ".hidden" };
    struct graft_err err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct stored_tensor t = make_tensor(bad[i], QT_F32, 2);
        struct container_file f = { bad[i], "x", 1 };

        assert_int_equal(container_write(in_dir("names.h5"), &t, 1, NULL, 0, NULL, &err),
                         GRAFT_EARG);
        assert_int_equal(container_write(in_dir("names.h5"), NULL, 0, &f, 1, NULL, &err),
                         GRAFT_EARG);
    }
    assert_int_equal(count_files(test_dir, "names.h5"), 0);
}

static void a_name_that_is_there_twice_is_refused(void **state)
{
    struct stored_tensor t[2] = { make_tensor("same", QT_F32, 2), make_tensor("same", QT_F32, 2) };
    struct graft_err err;

    (void)state;
    assert_int_equal(container_write(in_dir("twice.h5"), t, 2, NULL, 0, NULL, &err), GRAFT_EARG);
    assert_non_null(strstr(err.msg, "\"same\""));
    assert_int_equal(count_files(test_dir, "twice.h5"), 0);
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    static const rlim_t limit[] = { 0, 100, 3000, 5000, 8000, 30000, 33000, 41000 };
    struct stored_tensor t = make_tensor("w", QT_F32, 2);
    struct strbuf s;

    (void)state;
    put_file("full.h5", "old", 3);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++) {
        const struct rlimit small = { limit[i], RLIM_INFINITY };
        struct graft_err err = { 0 };
        struct rlimit old;
        enum graft_status st;

        getrlimit(RLIMIT_FSIZE, &old);
        setrlimit(RLIMIT_FSIZE, &small);
        st = container_write(in_dir("full.h5"), &t, 1, texts, 2, NULL, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        if (st != GRAFT_EWRITE)
            fail_msg("limit %d: status %d: %s", (int)limit[i], st, err.msg);
        assert_non_null(strstr(err.msg, "full.h5: cannot"));
        assert_int_equal(count_files(test_dir, "full.h5"), 1);
    }
    s = get_file(in_dir("full.h5"));
    assert_string_equal(s.buf, "old");
    strbuf_release(&s);
    assert_int_equal(container_write("/nowhere/full.h5", &t, 1, NULL, 0, NULL, NULL), GRAFT_EWRITE);
}

static void other_files_are_refused(void **state)
{
    struct graft_err err = { 0 };
    struct container c;

    (void)state;
    check_refusal(container_open(in_dir("none.h5"), &c, &err), &err, "none.h5");
    put_file("empty.h5", "", 0);
    check_refusal(container_open(in_dir("empty.h5"), &c, &err), &err, "empty.h5");
    put_file("text.h5", "no container", 12);
    check_refusal(container_open(in_dir("text.h5"), &c, &err), &err, "not a container of Graft");
}

static void memory_that_runs_out_anywhere_is_an_error(void **state)
{
    enum graft_status st;
    int64_t k = 0;

    (void)state;
    do {
        struct graft_err err;

        mem_fail_at(++k);
        st = write_small("memory.h5", &err);
        mem_fail_at(0);
        if (st) {
            assert_int_equal(st, GRAFT_ENOMEM);
            assert_int_equal(count_files(test_dir, "memory.h5"), 0);
        }
    } while (st);
    assert_true(k > 2);
    k = 0;
    do {
        struct container c = { 0 };
        struct graft_err err;

        mem_fail_at(++k);
        st = container_open(in_dir("memory.h5"), &c, &err);
        mem_fail_at(0);
        if (st)
            assert_int_equal(st, GRAFT_ENOMEM);
        container_release(&c);
    } while (st);
    assert_true(k > 5);
}

static int setup(void **state)
{
    fill_pool();
    return make_dir(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_comes_back_to_the_bit),
        cmocka_unit_test(the_same_input_gives_the_same_bytes),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(any_byte_may_be_wrong),
        cmocka_unit_test(a_wrong_byte_of_a_tensor_is_found_by_verify),
        cmocka_unit_test(values_that_do_not_fit_are_refused),
        cmocka_unit_test(names_that_hdf5_reads_as_paths_are_refused),
        cmocka_unit_test(a_name_that_is_there_twice_is_refused),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(memory_that_runs_out_anywhere_is_an_error),
    };

    return cmocka_run_group_tests(tests, setup, remove_dir);
}
