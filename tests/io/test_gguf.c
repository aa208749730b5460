/* The GGUF reader against good files, each check of the format, and damage everywhere. */
#include "io_testing.h"

#include "io/gguf.h"

static void put_str(struct strbuf *s, const char *text)
{
    put_u64(s, strlen(text));
    strbuf_puts(s, text);
}

static void put_head(struct strbuf *s, uint32_t version, uint64_t tensors, uint64_t keys)
{
    strbuf_puts(s, "GGUF");
    put_u32(s, version);
    put_u64(s, tensors);
    put_u64(s, keys);
}

static void put_key(struct strbuf *s, const char *key, enum gguf_type type, const void *value,
                    size_t len)
{
    put_str(s, key);
    put_u32(s, type);
    strbuf_add(s, value, len);
}

static void put_key_str(struct strbuf *s, const char *key, const char *value)
{
    put_str(s, key);
    put_u32(s, GGUF_STRING);
    put_str(s, value);
}

static void put_array(struct strbuf *s, const char *key, enum gguf_type item, uint64_t count)
{
    put_str(s, key);
    put_u32(s, GGUF_ARRAY);
    put_u32(s, item);
    put_u64(s, count);
}

static void put_tensor(struct strbuf *s, const char *name, uint32_t ndim, const uint64_t *ne,
                       uint32_t type, uint64_t offset)
{
    put_str(s, name);
    put_u32(s, ndim);
    for (uint32_t i = 0; i < ndim; i++)
        put_u64(s, ne[i]);
    put_u32(s, type);
    put_u64(s, offset);
}

/* Pads to `align`, then `len` bytes counting up. */
static void put_data(struct strbuf *s, size_t align, size_t len)
{
    while (s->len % align)
        strbuf_putc(s, 0);
    for (size_t i = 0; i < len; i++)
        strbuf_putc(s, (char)i);
    assert_false(s->failed);
}

enum { GGML_F32 = 0, GGML_Q4_0 = 2, GGML_Q2_K = 10 };

static const uint64_t ne_32_2[] = { 32, 2 }, ne_3[] = { 3 };

/* Every kind of value, a matrix of blocks and a vector. */
static struct strbuf make_good(void)
{
    struct strbuf s = STRBUF_INIT;
    const int8_t i8 = -3;
    const uint16_t u16 = 65535;
    const int64_t i64 = INT64_MIN;
    const uint64_t u64 = UINT64_MAX;
    const float f32 = 0.5F;
    const double f64 = 1e300;

    put_head(&s, 3, 2, 12);
    put_key_str(&s, "general.architecture", "llama");
    put_key(&s, "i8", GGUF_I8, &i8, 1);
    put_key(&s, "u16", GGUF_U16, &u16, 2);
    put_key(&s, "i64", GGUF_I64, &i64, 8);
    put_key(&s, "u64", GGUF_U64, &u64, 8);
    put_key(&s, "f32", GGUF_F32, &f32, 4);
    put_key(&s, "f64", GGUF_F64, &f64, 8);
    put_key(&s, "yes", GGUF_BOOL, "\1", 1);
    put_array(&s, "words", GGUF_STRING, 3);
    put_str(&s, "one");
    put_str(&s, "");
    put_str(&s, "three");
    put_array(&s, "numbers", GGUF_I16, 2);
    strbuf_add(&s, "\1\0\xff\xff", 4);
    put_array(&s, "nothing", GGUF_F64, 0);
    put_key(&s, "nul", GGUF_STRING, "\2\0\0\0\0\0\0\0a\0", 10);
    put_tensor(&s, "w", 2, ne_32_2, GGML_Q4_0, 32);
    put_tensor(&s, "b", 1, ne_3, GGML_F32, 0);
    put_data(&s, 32, 32 + 36);
    return s;
}

static void reads_keys_and_tensors(void **state)
{
    struct strbuf s = make_good();
    struct gguf g;
    struct graft_err err = { 0 };
    const struct stored_tensor *t;

    (void)state;
    if (gguf_parse("good.gguf", s.buf, s.len, &g, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(g.value_count, 12);
    assert_int_equal(g.store.count, 2);
    assert_string_equal(g.store.format, "gguf");
    t = store_find(&g.store, "w");
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->dim[0], 2); /* ne is reversed: row-major, the contiguous one last */
    assert_int_equal(t->dim[1], 32);
    assert_int_equal(t->mat.rows, 2);
    assert_int_equal(t->mat.cols, 32);
    assert_int_equal(t->mat.type, QT_Q4_0);
    assert_int_equal(t->bytes, 36);
    assert_int_equal(*(const uint8_t *)t->mat.data, 32);
    t = store_find(&g.store, "b");
    assert_int_equal(t->ndim, 1);
    assert_int_equal(t->mat.rows, 1);
    assert_int_equal(t->mat.cols, 3);
    assert_null(gguf_find(&g, "word"));
    assert_null(gguf_find(&g, "wordss"));
    assert_null(gguf_find(&g, ""));
    gguf_release(&g);
    strbuf_release(&s);
}

static void values_come_in_the_type_that_is_asked_for(void **state)
{
    struct strbuf s = make_good();
    struct graft_err err;
    struct gguf g;
    const char *text;
    int64_t n;
    double x;

    (void)state;
    assert_int_equal(gguf_parse("v.gguf", s.buf, s.len, &g, NULL), GRAFT_OK);
    assert_int_equal(gguf_int(&g, "i8", 0, &n, NULL), GRAFT_OK);
    assert_int_equal(n, -3);
    assert_int_equal(gguf_int(&g, "u16", 0, &n, NULL), GRAFT_OK);
    assert_int_equal(n, 65535);
    assert_int_equal(gguf_int(&g, "i64", 0, &n, NULL), GRAFT_OK);
    assert_true(n == INT64_MIN);
    assert_int_equal(gguf_int(&g, "yes", 0, &n, NULL), GRAFT_OK);
    assert_int_equal(n, 1);
    assert_int_equal(gguf_int(&g, "absent", 9, &n, NULL), GRAFT_OK);
    assert_int_equal(n, 9);
    assert_int_equal(gguf_int(&g, "u64", 0, &n, &err), GRAFT_EFORMAT);
    assert_int_equal(gguf_int(&g, "f32", 0, &n, &err), GRAFT_EFORMAT);
    assert_int_equal(gguf_int(&g, "numbers", 0, &n, &err), GRAFT_EFORMAT);
    assert_string_equal(
        err.msg, "v.gguf: key \"numbers\": found an array of i16, wanted an integer below 2^63");
    assert_int_equal(gguf_float(&g, "f32", 0, &x, NULL), GRAFT_OK);
    assert_true(x == 0.5);
    assert_int_equal(gguf_float(&g, "f64", 0, &x, NULL), GRAFT_OK);
    assert_true(x == 1e300);
    assert_int_equal(gguf_float(&g, "u64", 0, &x, NULL), GRAFT_OK);
    assert_true(x == 18446744073709551616.0);
    assert_int_equal(gguf_float(&g, "yes", 0, &x, &err), GRAFT_EFORMAT);
    assert_int_equal(gguf_float(&g, "absent", 0.25, &x, NULL), GRAFT_OK);
    assert_true(x == 0.25);
    assert_int_equal(gguf_str(&g, "general.architecture", "", &text, NULL), GRAFT_OK);
    assert_string_equal(text, "llama");
    assert_int_equal(gguf_str(&g, "absent", "dflt", &text, NULL), GRAFT_OK);
    assert_string_equal(text, "dflt");
    assert_int_equal(gguf_str(&g, "i8", "", &text, &err), GRAFT_EFORMAT);
    assert_int_equal(gguf_str(&g, "words", "", &text, &err), GRAFT_EFORMAT);
    assert_int_equal(gguf_str(&g, "nul", "", &text, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "U+0000"));
    gguf_release(&g);
    strbuf_release(&s);
}

static void arrays_give_their_items(void **state)
{
    struct strbuf s = make_good();
    const struct gguf_string *list;
    struct graft_err err;
    struct gguf g;

    (void)state;
    assert_int_equal(gguf_parse("v.gguf", s.buf, s.len, &g, NULL), GRAFT_OK);
    assert_int_equal(gguf_find(&g, "words")->count, 3);
    assert_int_equal(gguf_strings(&g, gguf_find(&g, "words"), &list, NULL), GRAFT_OK);
    assert_int_equal(list[0].len, 3);
    assert_memory_equal(list[0].s, "one", 3);
    assert_int_equal(list[1].len, 0);
    assert_memory_equal(list[2].s, "three", 5);
    assert_int_equal(gguf_strings(&g, gguf_find(&g, "nul"), &list, NULL), GRAFT_OK);
    assert_int_equal(list[0].len, 2);
    assert_int_equal(gguf_strings(&g, gguf_find(&g, "numbers"), &list, &err), GRAFT_EFORMAT);
    assert_true(gguf_number_at(gguf_find(&g, "numbers"), 0) == 1);
    assert_true(gguf_number_at(gguf_find(&g, "numbers"), 1) == -1);
    assert_true(gguf_number_at(gguf_find(&g, "u64"), 0) == 18446744073709551616.0);
    assert_int_equal(gguf_find(&g, "nothing")->count, 0);
    gguf_release(&g);
    strbuf_release(&s);
}

/* Parses `s` and releases it: the message has to hold `wanted`. */
static void refused(struct strbuf *s, const char *wanted)
{
    struct graft_err err = { 0 };
    struct gguf g = { 0 };

    assert_false(s->failed);
    check_refusal(gguf_parse("bad.gguf", strbuf_str(s), s->len, &g, &err), &err, "bad.gguf");
    if (!strstr(err.msg, wanted))
        fail_msg("wanted \"%s\" in: %s", wanted, err.msg);
    assert_null(g.store.tensor);
    strbuf_release(s);
}

static void other_kinds_of_file_are_refused_by_name(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    refused(&s, "a GGUF header does not fit");
    strbuf_puts(&s, "ggjt....................");
    refused(&s, "it begins with \"ggjt\"");
    put_head(&s, 1, 0, 0);
    refused(&s, "version 1");
    put_head(&s, 4, 0, 0);
    refused(&s, "version 4");
    put_head(&s, 3U << 24, 0, 0);
    refused(&s, "big-endian");
}

static void version_2_and_an_empty_model_are_read(void **state)
{
    struct strbuf s = STRBUF_INIT;
    struct gguf g;

    (void)state;
    put_head(&s, 2, 0, 0);
    assert_int_equal(gguf_parse("v2", s.buf, s.len, &g, NULL), GRAFT_OK);
    assert_int_equal(g.store.count, 0);
    assert_null(gguf_find(&g, "x"));
    assert_null(store_find(&g.store, "x"));
    gguf_release(&g);
    strbuf_release(&s);
}

static void counts_beyond_the_file_are_refused(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    put_head(&s, 3, UINT64_MAX, 0);
    refused(&s, "do not fit");
    put_head(&s, 3, 0, UINT64_MAX / 2);
    refused(&s, "do not fit");
    put_head(&s, 3, 0, 1);
    put_u64(&s, UINT64_MAX);
    put_data(&s, 32, 64);
    refused(&s, "a key at byte 32 would have 18446744073709551615 bytes");
    put_head(&s, 3, 0, 1);
    put_array(&s, "a", GGUF_F64, UINT64_MAX / 8 + 2);
    put_data(&s, 32, 64);
    refused(&s, "\"a\" would have");
    put_head(&s, 3, 0, 1);
    put_array(&s, "a", GGUF_STRING, 1U << 30);
    put_data(&s, 32, 64);
    refused(&s, "\"a\" would have");
    put_head(&s, 3, 0, 1);
    put_array(&s, "a", GGUF_STRING, 2);
    put_str(&s, "x");
    put_u64(&s, 1000);
    refused(&s, "would have 1000 bytes");
}

static void keys_that_cannot_be_are_refused(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    put_head(&s, 3, 0, 1);
    put_key(&s, "odd", (enum gguf_type)13, "12345678", 8);
    refused(&s, "\"odd\" has the unknown value type 13");
    put_head(&s, 3, 0, 1);
    put_array(&s, "deep", GGUF_ARRAY, 1);
    put_data(&s, 32, 64);
    refused(&s, "\"deep\" is an array of arrays");
    put_head(&s, 3, 0, 2);
    put_key(&s, "twin", GGUF_U8, "\0", 1);
    put_key(&s, "twin", GGUF_U8, "\0", 1);
    refused(&s, "\"twin\" is there twice");
    put_head(&s, 3, 0, 1);
    put_key(&s, "", GGUF_U32, "1234", 4);
    refused(&s, "is empty");
    put_head(&s, 3, 0, 1);
    put_key(&s, "split.count", GGUF_U16, "\3\0", 2);
    refused(&s, "one of 3 parts");
    put_head(&s, 3, 0, 1);
    put_key(&s, "general.alignment", GGUF_U32, "\0\0\0\0", 4);
    refused(&s, "general.alignment is 0");
    put_head(&s, 3, 0, 1);
    put_key(&s, "general.alignment", GGUF_U32, "\x30\0\0\0", 4);
    refused(&s, "general.alignment is 48");
    put_head(&s, 3, 0, 1);
    put_key_str(&s, "general.alignment", "32");
    refused(&s, "found string");
}

/* One tensor before `data` bytes. */
static void refused_tensor(uint32_t ndim, const uint64_t *ne, uint32_t type, uint64_t offset,
                           size_t data, const char *wanted)
{
    struct strbuf s = STRBUF_INIT;

    put_head(&s, 3, 1, 0);
    put_tensor(&s, "bad.w", ndim, ne, type, offset);
    put_data(&s, 32, data);
    refused(&s, wanted);
}

static void tensors_that_cannot_be_are_refused(void **state)
{
    const uint64_t huge[] = { INT64_MAX, 4 }, over[] = { 32, UINT64_C(1) << 63 };
    const uint64_t many[] = { 1, 1, 1, 1, 1 }, n31[] = { 31, 2 },
                   wrap[] = { UINT64_C(1) << 33, UINT64_C(1) << 31 };

    (void)state;
    refused_tensor(2, ne_32_2, GGML_Q2_K, 0, 64,
                   "\"bad.w\" has the type Q2_K, which is not supported");
    refused_tensor(2, ne_32_2, 20, 0, 64, "IQ4_NL");
    refused_tensor(2, ne_32_2, 39, 0, 64, "MXFP4");
    refused_tensor(2, ne_32_2, 40, 0, 64, "unknown type 40");
    refused_tensor(5, many, GGML_F32, 0, 64, "5 dimensions");
    refused_tensor(2, huge, GGML_F32, 0, 64, "too large");
    refused_tensor(2, over, GGML_F32, 0, 64, "dimension 9223372036854775808 is too large");
    refused_tensor(2, wrap, GGML_F32, 0, 64, "too large");
    refused_tensor(2, n31, GGML_Q4_0, 0, 64, "a row of q4_0 is not a multiple of 32");
    refused_tensor(1, ne_3, GGML_F32, 4, 64, "offset 4 is not a multiple of the alignment 32");
    refused_tensor(1, ne_3, GGML_F32, 64, 64, "do not fit");
    refused_tensor(1, ne_3, GGML_F32, 0, 11, "do not fit");
    refused_tensor(1, ne_3, GGML_F32, UINT64_MAX - 31, 64, "do not fit");
    refused_tensor(2, ne_32_2, GGML_Q4_0, UINT64_MAX - 31, 64, "too large");
}

static void two_tensors_may_not_share(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    put_head(&s, 3, 2, 0);
    put_tensor(&s, "a", 2, ne_32_2, GGML_Q4_0, 0);
    put_tensor(&s, "b", 2, ne_32_2, GGML_Q4_0, 32);
    put_data(&s, 32, 128);
    refused(&s, "\"a\" and \"b\" overlap");
    put_head(&s, 3, 2, 0);
    put_tensor(&s, "a", 1, ne_3, GGML_F32, 0);
    put_tensor(&s, "a", 1, ne_3, GGML_F32, 32);
    put_data(&s, 32, 128);
    refused(&s, "\"a\" is there twice");
}

static void a_small_alignment_of_the_file_does_not_reach_memory(void **state)
{
    struct strbuf s = STRBUF_INIT;
    struct gguf g;

    (void)state;
    put_head(&s, 3, 1, 1);
    put_key(&s, "general.alignment", GGUF_U32, "\1\0\0\0", 4);
    put_tensor(&s, "xy", 1, ne_3, GGML_F32, 1);
    put_data(&s, 1, 13);
    assert_int_equal(gguf_parse("a", s.buf, s.len, &g, NULL), GRAFT_OK);
    assert_int_equal((uintptr_t)g.store.tensor[0].mat.data % 4, 0);
    assert_memory_equal(g.store.tensor[0].mat.data, "\1\2\3\4\5\6\7\10\11\12\13\14", 12);
    gguf_release(&g);
    strbuf_release(&s);
}

static enum graft_status try_gguf(const char *name, const void *bytes, size_t len,
                                  struct graft_err *err)
{
    const struct gguf_string *list;
    struct gguf g;

    GRAFT_TRY(gguf_parse(name, bytes, len, &g, err));
    touch_store(&g.store);
    for (int64_t i = 0; i < g.value_count; i++) {
        const struct gguf_value *v = &g.value[i];
        unsigned sum = 0;

        if (v->item == GGUF_STRING) {
            assert_int_equal(gguf_strings(&g, v, &list, NULL), GRAFT_OK);
            for (uint64_t k = 0; k < v->count; k++)
                for (uint64_t c = 0; c < list[k].len; c++)
                    sum += (unsigned char)list[k].s[c];
        }
        for (uint64_t k = 0; k < v->count; k++)
            sum += gguf_number_at(v, k) > 0;
        assert_true(sum < UINT32_MAX);
    }
    gguf_release(&g);
    return GRAFT_OK;
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    struct strbuf s = make_good();

    (void)state;
    try_every_length(try_gguf, &s);
    strbuf_release(&s);
}

static void any_byte_of_the_header_may_be_wrong(void **state)
{
    struct strbuf s = make_good();

    (void)state;
    try_every_byte(try_gguf, &s, s.len - 68);
    strbuf_release(&s);
}

static void memory_that_runs_out_anywhere_is_an_error(void **state)
{
    struct strbuf s = make_good();
    const char *path = put_file("m.gguf", s.buf, s.len);
    enum graft_status st;
    int64_t k = 0;

    (void)state;
    do {
        struct gguf g = { 0 };
        struct graft_err err;

        mem_fail_at(++k);
        st = gguf_open(path, &g, &err);
        if (st)
            assert_int_equal(st, GRAFT_ENOMEM);
        gguf_release(&g);
    } while (st);
    mem_fail_at(0);
    assert_true(k > 3);
    strbuf_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_keys_and_tensors),
        cmocka_unit_test(values_come_in_the_type_that_is_asked_for),
        cmocka_unit_test(arrays_give_their_items),
        cmocka_unit_test(other_kinds_of_file_are_refused_by_name),
        cmocka_unit_test(version_2_and_an_empty_model_are_read),
        cmocka_unit_test(counts_beyond_the_file_are_refused),
        cmocka_unit_test(keys_that_cannot_be_are_refused),
        cmocka_unit_test(tensors_that_cannot_be_are_refused),
        cmocka_unit_test(two_tensors_may_not_share),
        cmocka_unit_test(a_small_alignment_of_the_file_does_not_reach_memory),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(any_byte_of_the_header_may_be_wrong),
        cmocka_unit_test(memory_that_runs_out_anywhere_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
