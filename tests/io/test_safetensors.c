/* The safetensors reader against good files, each check of the format, and damage everywhere. */
#include "io_testing.h"

#include "io/safetensors.h"

/* A file of `header` (length in front) and `data` bytes counting up. */
static struct strbuf make_file(const char *header, size_t data)
{
    struct strbuf s = STRBUF_INIT;

    put_u64(&s, strlen(header));
    strbuf_puts(&s, header);
    for (size_t i = 0; i < data; i++)
        strbuf_putc(&s, (char)i);
    assert_false(s.failed);
    return s;
}

/* Opens a file of that header: the message has to hold `wanted`. */
static void refused(const char *header, size_t data, const char *wanted)
{
    struct strbuf s = make_file(header, data);
    struct graft_err err = { 0 };
    struct store store = { 0 };

    check_refusal(safetensors_parse("bad.safetensors", s.buf, s.len, &store, &err), &err,
                  "bad.safetensors");
    if (!strstr(err.msg, wanted))
        fail_msg("wanted \"%s\" in: %s", wanted, err.msg);
    assert_null(store.tensor);
    strbuf_release(&s);
}

static void accepted(const char *header, size_t data, int64_t count)
{
    struct strbuf s = make_file(header, data);
    struct graft_err err = { 0 };
    struct store store;

    if (safetensors_parse("good.safetensors", s.buf, s.len, &store, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(store.count, count);
    touch_store(&store);
    store_release(&store);
    strbuf_release(&s);
}

#define T(name, dtype, shape, begin, end)                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"

static const char good_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"}," T("b.weight", "F32", "[2,3]", 0, 24) "," T(
        "a.weight", "BF16", "[4]", 24, 32) "," T("s", "U8", "[]", 32,
                                                 33) "," T("none", "I64", "[0,7]", 33, 33) "}  ";

static void reads_names_shapes_types_and_bytes(void **state)
{
    struct strbuf s = make_file(good_header, 33);
    struct store store;
    const struct stored_tensor *t;

    (void)state;
    assert_int_equal(safetensors_parse("x", s.buf, s.len, &store, NULL), GRAFT_OK);
    assert_int_equal(store.count, 4);
    assert_string_equal(store.format, "safetensors");
    assert_string_equal(store.tensor[0].name, "a.weight");
    t = store_find(&store, "b.weight");
    assert_non_null(t);
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->dim[0], 2);
    assert_int_equal(t->dim[1], 3);
    assert_int_equal(t->mat.rows, 2);
    assert_int_equal(t->mat.cols, 3);
    assert_int_equal(t->mat.type, QT_F32);
    assert_int_equal(t->bytes, 24);
    assert_int_equal(((const uint8_t *)t->mat.data)[5], 5);
    t = store_find(&store, "a.weight");
    assert_int_equal(t->mat.rows, 1);
    assert_int_equal(t->mat.cols, 4);
    assert_int_equal(((const uint8_t *)t->mat.data)[0], 24);
    t = store_find(&store, "s");
    assert_int_equal(t->ndim, 0);
    assert_int_equal(t->mat.rows, 1);
    assert_int_equal(t->mat.cols, 1);
    t = store_find(&store, "none");
    assert_int_equal(t->bytes, 0);
    assert_null(store_find(&store, "b.weigh"));
    assert_null(store_find(&store, ""));
    store_release(&store);
    strbuf_release(&s);
}

static void tensors_that_the_file_does_not_align_are_aligned_in_memory(void **state)
{
    /* The U8 in front makes every other offset odd, as files of early writers have it. */
    struct strbuf s = make_file("{" T("a", "U8", "[1]", 0, 1) "," T("b", "F32", "[2]", 1, 9) "," T(
                                    "c", "F64", "[1]", 9, 17) "}",
                                17);
    struct store store;
    const struct stored_tensor *t;

    (void)state;
    assert_int_equal(safetensors_parse("x", s.buf, s.len, &store, NULL), GRAFT_OK);
    t = store_find(&store, "b");
    assert_int_equal((uintptr_t)t->mat.data % 4, 0);
    assert_memory_equal(t->mat.data, "\1\2\3\4\5\6\7\10", 8);
    assert_int_equal((uintptr_t)store_find(&store, "c")->mat.data % 8, 0);
    store_release(&store);
    strbuf_release(&s);
}

static void legal_oddities_are_accepted(void **state)
{
    (void)state;
    accepted("{}", 0, 0);
    accepted(" \n{ } \t\r", 0, 0);
    accepted("{\"__metadata__\":{}}", 0, 0);
    accepted("{\"__metadata__\":null," T("a", "U8", "[1]", 0, 1) "}", 1, 1);
    accepted("{\"__metadata__\":{\"k\":\"a\\u0000\\ud83d\\ude00\"}}", 0, 0);
    accepted("{" T("gr\\u00fc\\u00df\\/", "U8", "[1]", 0, 1) "}", 1, 1);
    accepted("{\"a\":{\"data_offsets\":[0,2],\"extra\":[1,{\"x\":[-1.5e3,true,null,\"\\n\"]}],"
             "\"shape\":[2],\"dtype\":\"U8\"}}",
             2, 1);
    accepted("{" T("e1", "F32", "[0]", 0, 0) "," T("e2", "F32", "[3,0]", 0,
                                                   0) "," T("a", "U8", "[2]", 0, 2) "}",
             2, 3);
    accepted("{" T("e8", "U8", "[1,1,1,1,1,1,1,1]", 0, 1) "}", 1, 1);
}

static void the_length_of_the_header_is_checked(void **state)
{
    struct strbuf s = STRBUF_INIT;
    struct graft_err err;
    struct store store;

    (void)state;
    assert_int_equal(safetensors_parse("f", "", 0, &store, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "too few"));
    put_u64(&s, 100000001);
    assert_int_equal(safetensors_parse("f", s.buf, s.len, &store, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "at most 100000000"));
    strbuf_clear(&s);
    put_u64(&s, UINT64_MAX);
    assert_int_equal(safetensors_parse("f", s.buf, s.len, &store, &err), GRAFT_EFORMAT);
    strbuf_clear(&s);
    put_u64(&s, 3);
    strbuf_puts(&s, "{}");
    assert_int_equal(safetensors_parse("f", s.buf, s.len, &store, &err), GRAFT_EFORMAT);
    assert_non_null(strstr(err.msg, "does not fit"));
    strbuf_release(&s);
}

static void a_header_that_is_not_the_formats_json_is_refused(void **state)
{
    (void)state;
    refused("", 0, "wanted \"{\"");
    refused("[]", 0, "wanted \"{\"");
    refused("{", 0, "name of a tensor");
    refused("{\"a\"", 0, "\":\"");
    refused("{} x", 0, "nothing behind");
    refused("{\"a\":1}", 0, "object of a tensor");
    refused("{\"a\":{}}", 0, "no \"dtype\"");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0, "no \"data_offsets\"");
    refused("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0, "\"dtype\" twice");
    refused("{" T("a", "F33", "[1]", 0, 4) "}", 4, "unknown dtype \"F33\"");
    refused("{" T("a", "F32\\u0000", "[1]", 0, 4) "}", 4, "unknown dtype");
    refused("{" T("a", "U8", "[-1]", 0, 1) "}", 1, "dimension");
    refused("{" T("a", "U8", "[1.0]", 0, 1) "}", 1, "dimension");
    refused("{" T("a", "U8", "[1e0]", 0, 1) "}", 1, "dimension");
    refused("{" T("a", "U8", "[01]", 0, 1) "}", 1, "dimension");
    refused("{" T("a", "U8", "[18446744073709551616]", 0, 1) "}", 1, "below 2^64");
    refused("{" T("a", "U8", "[9223372036854775808]", 0, 1) "}", 1, "too large");
    refused("{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) "}", 1, "more than 8 dimensions");
    refused("{" T("a", "U8", "{}", 0, 1) "}", 1, "list of dimensions");
    refused("{" T("a", "U8", "[1]", -1, 1) "}", 1, "data_offsets");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, "data_offsets");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__");
    refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice");
    refused("{" T("a\\u0000b", "U8", "[1]", 0, 1) "}", 1, "U+0000");
    refused("{" T("a\\ud800", "U8", "[1]", 0, 1) "}", 1, "surrogate");
    refused("{" T("a\\udc00", "U8", "[1]", 0, 1) "}", 1, "surrogate");
    refused("{" T("a\\x", "U8", "[1]", 0, 1) "}", 1, "escape");
    refused("{" T("a\n", "U8", "[1]", 0, 1) "}", 1, "control");
    refused("{" T("a\xff", "U8", "[1]", 0, 1) "}", 1, "UTF-8");
    refused("{" T("a\xc0\x80", "U8", "[1]", 0, 1) "}", 1, "UTF-8");
}

static void deep_nesting_is_refused(void **state)
{
    struct strbuf h = STRBUF_INIT;

    (void)state;
    strbuf_puts(&h, "{\"a\":{\"x\":");
    for (int i = 0; i < 1000000; i++)
        strbuf_putc(&h, '[');
    refused(h.buf, 0, "nested less deeply");
    strbuf_release(&h);
}

static void duplicates_are_refused_by_name(void **state)
{
    (void)state;
    refused("{" T("same", "U8", "[1]", 0, 1) "," T("same", "U8", "[1]", 1, 2) "}", 2,
            "\"same\" is there twice");
    refused("{" T("z", "F32", "[0]", 0, 0) "," T("z", "F32", "[0]", 0, 0) "}", 0,
            "\"z\" is there twice");
    refused("{" T("a", "U8", "[1]", 0, 1) "," T("\\u0061", "U8", "[1]", 1, 2) "}", 2,
            "\"a\" is there twice");
}

static void overlap_holes_and_leftovers_are_refused(void **state)
{
    (void)state;
    refused("{" T("a", "U8", "[2]", 0, 2) "," T("b", "U8", "[2]", 1, 3) "}", 3, "\"b\"");
    refused("{" T("a", "U8", "[2]", 0, 2) "," T("b", "U8", "[2]", 0, 2) "}", 2, "\"b\"");
    refused("{" T("a", "U8", "[2]", 0, 2) "," T("b", "U8", "[1]", 3, 4) "}", 4,
            "wanted a start at 2");
    refused("{" T("a", "U8", "[2]", 1, 3) "}", 3, "wanted a start at 0");
    refused("{" T("a", "U8", "[2]", 2, 0) "}", 2, "\"a\"");
    refused("{" T("a", "U8", "[2]", 0, 2) "}", 3, "more than it should");
    refused("{" T("a", "U8", "[2]", 0, 2) "}", 1, "cut short");
    refused("{}", 1, "more than it should");
    refused("{" T("a", "U8", "[2]", 0, 18446744073709551615) "}", 2, "takes 2 bytes");
}

static void shape_and_span_have_to_agree(void **state)
{
    (void)state;
    refused("{" T("a", "F32", "[3]", 0, 8) "}", 8, "takes 12 bytes, its data_offsets span 8");
    refused("{" T("a", "F32", "[4294967296,4294967296]", 0, 8) "}", 8, "too large");
    refused("{" T("a", "F32", "[9223372036854775807]", 0, 8) "}", 8, "too large");
    refused("{" T("a", "U8", "[9223372036854775807,9223372036854775807,0]", 0, 0) "}", 0,
            "too large");
    refused("{" T("a", "F4", "[3]", 0, 1) "}", 1, "whole byte");
    refused("{" T("a", "F4", "[4]", 0, 2) "}", 2, "\"a\" has the dtype F4, which is not supported");
    refused("{" T("a", "F6_E2M3", "[4]", 0, 3) "}", 3, "F6_E2M3, which is not supported");
    refused("{" T("a", "C64", "[1]", 0, 8) "}", 8, "C64, which is not supported");
    refused("{" T("a", "F8_E8M0", "[1]", 0, 1) "}", 1, "F8_E8M0, which is not supported");
}

static enum graft_status try_safetensors(const char *name, const void *bytes, size_t len,
                                         struct graft_err *err)
{
    struct store store;

    GRAFT_TRY(safetensors_parse(name, bytes, len, &store, err));
    touch_store(&store);
    store_release(&store);
    return GRAFT_OK;
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    struct strbuf s = make_file(good_header, 33);

    (void)state;
    try_every_length(try_safetensors, &s);
    strbuf_release(&s);
}

static void any_byte_of_the_header_may_be_wrong(void **state)
{
    struct strbuf s = make_file(good_header, 33);

    (void)state;
    try_every_byte(try_safetensors, &s, s.len - 33);
    strbuf_release(&s);
}

static void a_large_header_takes_time_in_proportion(void **state)
{
    struct strbuf h = STRBUF_INIT;

    (void)state;
    strbuf_putc(&h, '{');
    for (int i = 0; i < 200000; i++)
        strbuf_printf(&h,
                      "%s\"model.layers.%d.weight\":{\"dtype\":\"U8\",\"shape\":[1],"
                      "\"data_offsets\":[%d,%d]}",
                      i ? "," : "", i, i, i + 1);
    strbuf_putc(&h, '}');
    accepted(h.buf, 200000, 200000);
    strbuf_release(&h);
}

static void memory_that_runs_out_anywhere_is_an_error(void **state)
{
    struct strbuf s =
        make_file("{" T("a", "U8", "[1]", 0, 1) "," T("b", "F32", "[1]", 1, 5) "}", 5);
    const char *path = put_file("m.safetensors", s.buf, s.len);
    enum graft_status st;
    int64_t k = 0;

    (void)state;
    do {
        struct store store = { 0 };
        struct graft_err err;

        mem_fail_at(++k);
        st = safetensors_open(path, &store, &err);
        if (st)
            assert_int_equal(st, GRAFT_ENOMEM);
        store_release(&store);
    } while (st);
    mem_fail_at(0);
    assert_true(k > 3);
    strbuf_release(&s);
}

static void a_missing_file_is_named(void **state)
{
    struct graft_err err = { 0 };
    struct store store;

    (void)state;
    assert_int_equal(safetensors_open(in_dir("none.safetensors"), &store, &err), GRAFT_EIO);
    assert_non_null(strstr(err.msg, "none.safetensors"));
    put_file("empty.safetensors", "", 0);
    assert_int_equal(safetensors_open(in_dir("empty.safetensors"), &store, &err), GRAFT_EFORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_names_shapes_types_and_bytes),
        cmocka_unit_test(tensors_that_the_file_does_not_align_are_aligned_in_memory),
        cmocka_unit_test(legal_oddities_are_accepted),
        cmocka_unit_test(the_length_of_the_header_is_checked),
        cmocka_unit_test(a_header_that_is_not_the_formats_json_is_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(duplicates_are_refused_by_name),
        cmocka_unit_test(overlap_holes_and_leftovers_are_refused),
        cmocka_unit_test(shape_and_span_have_to_agree),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(any_byte_of_the_header_may_be_wrong),
        cmocka_unit_test(a_large_header_takes_time_in_proportion),
        cmocka_unit_test(memory_that_runs_out_anywhere_is_an_error),
        cmocka_unit_test(a_missing_file_is_named),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
