/* JSON in and out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/rng.h"

static json_t *parse(const char *text, size_t len)
{
    struct graft_err err = { 0 };
    json_t *v = NULL;

    if (json_read("test.json", text, len, &v, &err))
        fail_msg("%s", err.msg);
    return v;
}

/* Parse `text`, write it on one line, compare with `want`. */
static void check_text(const char *text, const char *want)
{
    struct strbuf s = STRBUF_INIT;
    json_t *v = parse(text, strlen(text));

    json_write(&s, v);
    assert_false(s.failed);
    assert_string_equal(strbuf_str(&s), want);
    json_decref(v);
    strbuf_release(&s);
}

static void values_come_back_on_one_line_in_their_order(void **state)
{
    (void)state;
    check_text("{\"b\":[1,-2,true,false,null],\"a\":{\"x\":\"y\"},\"e\":{},\"f\":[]}",
               "{\"b\": [1, -2, true, false, null], \"a\": {\"x\": \"y\"}, \"e\": {}, \"f\": []}");
    check_text("[]", "[]");
    check_text(" 17 ", "17");
    check_text("\"s\"", "\"s\"");
    check_text("null", "null");
}

static void pretty_output_is_indented_and_sorted(void **state)
{
    static const char text[] = "{\"r\":16,\"bias\":\"none\",\"m\":{\"z\":[],\"a\":[1,{}]}}";
    struct strbuf s = STRBUF_INIT;
    json_t *v = parse(text, strlen(text));

    (void)state;
    json_write_pretty(&s, v);
    assert_string_equal(strbuf_str(&s), "{\n"
                                        "  \"bias\": \"none\",\n"
                                        "  \"m\": {\n"
                                        "    \"a\": [\n"
                                        "      1,\n"
                                        "      {}\n"
                                        "    ],\n"
                                        "    \"z\": []\n"
                                        "  },\n"
                                        "  \"r\": 16\n"
                                        "}");
    json_decref(v);
    strbuf_release(&s);
}

static void strings_may_hold_any_character(void **state)
{
    static const char text[] = "[\"a\\u0000b\\n\\t\\\"\\\\\\u001f\\u007f\xc3\xa9\xe2\x82\xac"
                               "\xf0\x9f\x98\x80/\"]";
    struct strbuf s = STRBUF_INIT;
    json_t *v = parse(text, sizeof text - 1);
    const char *raw = json_string_value(json_array_get(v, 0));

    (void)state;
    assert_int_equal(raw[1], 0);
    json_write(&s, v);
    assert_string_equal(strbuf_str(&s), "[\"a\\u0000b\\n\\t\\\"\\\\\\u001f\\u007f\\u00e9\\u20ac"
                                        "\\ud83d\\ude00/\"]");
    json_decref(v);
    v = parse(s.buf, s.len); /* and back */
    assert_int_equal(json_string_length(json_array_get(v, 0)), 19);
    assert_memory_equal(json_string_value(json_array_get(v, 0)),
                        "a\0b\n\t\"\\\x1f\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80/", 19);
    json_decref(v);
    strbuf_release(&s);
}

static void bytes_that_are_no_utf8_become_the_replacement_character(void **state)
{
    struct strbuf s = STRBUF_INIT;
    json_t *v = json_stringn_nocheck("a\xff\xe2\x82", 4);

    (void)state;
    json_write(&s, v);
    assert_string_equal(strbuf_str(&s), "\"a\\ufffd\\ufffd\\ufffd\"");
    json_decref(v);
    strbuf_release(&s);
}

static void reals_are_short_and_stay_reals(void **state)
{
    (void)state;
    check_text("[1.0, -0.0, 0.1, 1e22, 1E+2, 0.00001, 2.0e-4, 1e300]",
               "[1.0, -0.0, 0.1, 1e+22, 100.0, 1e-05, 0.0002, 1e+300]");
    check_text("[0.30000000000000004, 3.141592653589793, 123456789012345680.0, 5e-324]",
               "[0.30000000000000004, 3.141592653589793, 1.2345678901234568e+17, "
               "4.94065645841247e-324]");
}

static void integers_stay_exact_and_huge_ones_become_reals(void **state)
{
    (void)state;
    check_text("[9223372036854775807, -9223372036854775808, 9007199254740993]",
               "[9223372036854775807, -9223372036854775808, 9007199254740993]");
    check_text("{\"model_max_length\": 1000000000000000019884624838656, \"n\": 7, "
               "\"s\": \"99999999999999999999 \\\" 99999999999999999999\", "
               "\"r\": 0.12345678901234567890123, \"e\": 12345678901234567890e1}",
               "{\"model_max_length\": 1e+30, \"n\": 7, "
               "\"s\": \"99999999999999999999 \\\" 99999999999999999999\", "
               "\"r\": 0.12345678901234568, \"e\": 1.2345678901234568e+20}");
    check_text("[-9223372036854775809, 9223372036854775808, -9223372036854775808]",
               "[-9.223372036854776e+18, 9.223372036854776e+18, -9223372036854775808]");
}

static void every_double_comes_back_unchanged(void **state)
{
    const struct rng_key key = { .seed = 3, .stream = RNG_TEST };
    struct strbuf s = STRBUF_INIT;

    (void)state;
    for (uint64_t i = 0; i < 20000; i++) {
        const uint64_t bits = (uint64_t)rng_u32(key, 2 * i) << 32 | rng_u32(key, 2 * i + 1);
        json_t *v;
        double x, back;

        memcpy(&x, &bits, 8);
        if (!isfinite(x))
            continue;
        v = json_real(x);
        strbuf_clear(&s);
        json_write(&s, v);
        json_decref(v);
        v = parse(s.buf, s.len);
        assert_true(json_is_real(v));
        back = json_real_value(v);
        assert_memory_equal(&x, &back, 8);
        json_decref(v);
    }
    strbuf_release(&s);
}

static void numbers_that_are_not_finite_become_null(void **state)
{
    json_t *v = json_pack("[o,o,o,o]", json_number(NAN), json_number(INFINITY),
                          json_number(-INFINITY), json_number(0.5));
    struct strbuf s = STRBUF_INIT;

    (void)state;
    json_write(&s, v);
    assert_string_equal(strbuf_str(&s), "[null, null, null, 0.5]");
    json_decref(v);
    strbuf_release(&s);
}

static void errors_name_file_and_line(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "{\"a\": 1,\n\"b\": 2,\n\"a\": 3}", "test.json:3: duplicate object key" },
        { "{\"a\": 1,\n}", "test.json:2: " },
        { "", "test.json:1: " },
        { "[1, 2] x", "test.json:1: " },
        { "[1,\n\n  nan]", "test.json:3: " },
        { "[\"\xff\"]", "test.json:1: " },
        { "[\"\\ud800\"]", "test.json:1: " },
        { "[01]", "test.json:1: " },
        { "[1e999]", "test.json:1: " },
        { "[99999999999999999999,\n]", "test.json:2: " },
        { "[99999999999999999999, \"\\", "test.json:1: " },
        { "{\"a\\u0000\": 1}", "test.json:1: " },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct graft_err err = { 0 };
        json_t *v = NULL;

        assert_int_equal(json_read("test.json", cases[i].text, strlen(cases[i].text), &v, &err),
                         GRAFT_EFORMAT);
        assert_null(v);
        if (strncmp(err.msg, cases[i].want, strlen(cases[i].want)) != 0)
            fail_msg("case %d says \"%s\", wanted \"%s...\"", (int)i, err.msg, cases[i].want);
    }
}

static void nesting_without_end_is_refused(void **state)
{
    static char deep[200000];
    struct graft_err err = { 0 };
    json_t *v = NULL;

    (void)state;
    memset(deep, '[', sizeof deep);
    assert_int_equal(json_read("deep.json", deep, sizeof deep, &v, &err), GRAFT_EFORMAT);
    assert_memory_equal(err.msg, "deep.json:1: ", 13);
}

static void files_are_read_and_missing_ones_named(void **state)
{
    char path[] = "/tmp/graft-json-XXXXXX";
    const int fd = mkstemp(path);
    struct graft_err err = { 0 };
    json_t *v = NULL;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(json_read_file(path, &v, &err), GRAFT_EFORMAT); /* empty */
    assert_int_equal(file_write(path, "{\"a\": [1]}", 10, NULL), GRAFT_OK);
    assert_int_equal(json_read_file(path, &v, &err), GRAFT_OK);
    assert_int_equal(json_array_size(json_object_get(v, "a")), 1);
    json_decref(v);
    unlink(path);
    assert_int_equal(json_read_file(path, &v, &err), GRAFT_EIO);
    assert_non_null(strstr(err.msg, path));
}

static void output_without_memory_is_marked_failed(void **state)
{
    json_t *v = parse("{\"a\": [1, \"text\", 2.5]}", 23);
    bool failed = true;

    (void)state;
    for (int k = 1; failed; k++) {
        struct strbuf s = STRBUF_INIT;

        mem_fail_at(k);
        json_write_pretty(&s, v);
        mem_fail_at(0);
        failed = s.failed;
        strbuf_release(&s);
    }
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back_on_one_line_in_their_order),
        cmocka_unit_test(pretty_output_is_indented_and_sorted),
        cmocka_unit_test(strings_may_hold_any_character),
        cmocka_unit_test(bytes_that_are_no_utf8_become_the_replacement_character),
        cmocka_unit_test(reals_are_short_and_stay_reals),
        cmocka_unit_test(integers_stay_exact_and_huge_ones_become_reals),
        cmocka_unit_test(every_double_comes_back_unchanged),
        cmocka_unit_test(numbers_that_are_not_finite_become_null),
        cmocka_unit_test(errors_name_file_and_line),
        cmocka_unit_test(nesting_without_end_is_refused),
        cmocka_unit_test(files_are_read_and_missing_ones_named),
        cmocka_unit_test(output_without_memory_is_marked_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
