/* Tables of keys: defaults, refusals, hints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/schema.h"

static const char *const colours[] = { "red", "green", "blue", NULL };

struct inner {
    int64_t depth;
};
struct outer {
    bool on;
    int64_t count;
    double rate;
    const char *name;
    int colour;
    const json_t *any;
    const json_t *off;
    struct inner inner;
};

static const struct key_table top;
static const struct key_def inner_keys[] = {
    { .name = "depth",
      .type = KEY_INT,
      .offset = offsetof(struct inner, depth),
      .dflt = "3",
      .min = 1,
      .max = 9,
      .help = "how deep",
      .others = "max_depth, levels" },
};
static const struct key_table inner_table = { "inner", inner_keys, 1, &top, false };
#define AT(f) .offset = offsetof(struct outer, f)
static const struct key_def keys[] = {
    { .name = "on", .type = KEY_BOOL, AT(on), .dflt = "true", .help = "h" },
    { .name = "count", .type = KEY_INT, AT(count), .dflt = "7", KEY_AT_LEAST(0), .help = "h" },
    { .name = "rate", .type = KEY_FLOAT, AT(rate), .dflt = "0.5", .help = "h" },
    { .name = "name", .type = KEY_STR, AT(name), .dflt = "null", .nullable = true, .help = "h" },
    { .name = "colour",
      .type = KEY_ENUM,
      AT(colour),
      .dflt = "green",
      .choices = colours,
      .later = "blue",
      .help = "h" },
    { .name = "any", .type = KEY_JSON, AT(any), .dflt = "null", .form = "a thing", .help = "h" },
    { .name = "off",
      .type = KEY_JSON,
      AT(off),
      .dflt = "null",
      .nullable = true,
      .only = "null",
      .help = "h" },
    { .name = "inner", .type = KEY_MAP, AT(inner), .table = &inner_table, .help = "h" },
};
static const struct key_table top = { "", keys, sizeof keys / sizeof *keys, &top, false };

static void where(const struct schema_source *src, const char *path, struct strbuf *out)
{
    (void)src;
    strbuf_printf(out, "at(%s)", path);
}
static const struct schema_source source = { where, NULL };

static struct graft_err err;
static struct arena mem;

static enum graft_status fill(const char *text, struct outer *out)
{
    static json_t *map;

    json_decref(map);
    map = NULL;
    memset(&err, 0, sizeof err);
    assert_int_equal(json_read("t", text, strlen(text), &map, &err), GRAFT_OK);
    return schema_fill(&top, map, &source, out, &mem, &err);
}

static void refuses(const char *text, const char *message)
{
    struct outer o;

    assert_int_equal(fill(text, &o), GRAFT_EARG);
    assert_string_equal(err.msg, message);
}

static void keys_left_out_take_their_defaults(void **state)
{
    struct outer o;

    (void)state;
    memset(&o, 0xff, sizeof o);
    assert_int_equal(fill("{}", &o), GRAFT_OK);
    assert_true(o.on);
    assert_int_equal(o.count, 7);
    assert_true(o.rate == 0.5);
    assert_null(o.name);
    assert_int_equal(o.colour, 1);
    assert_null(o.any);
    assert_int_equal(o.inner.depth, 3);
}

static void keys_given_are_taken(void **state)
{
    struct outer o;

    (void)state;
    assert_int_equal(fill("{\"on\": false, \"count\": 0, \"rate\": 2, \"name\": \"x\", \"colour\": "
                          "\"red\", \"any\": [1], \"off\": [], \"inner\": {\"depth\": 9}}",
                          &o),
                     GRAFT_OK);
    assert_false(o.on);
    assert_int_equal(o.count, 0);
    assert_true(o.rate == 2);
    assert_string_equal(o.name, "x");
    assert_int_equal(o.colour, 0);
    assert_int_equal(json_array_size(o.any), 1);
    assert_null(o.off);
    assert_int_equal(o.inner.depth, 9);
}

static void wrong_types_say_what_was_found_and_what_is_wanted(void **state)
{
    (void)state;
    refuses("{\"on\": 1}", "at(on): on: found 1, want true or false");
    refuses("{\"count\": 1.5}", "at(count): count: found 1.5, want a whole number, 0 or more");
    refuses("{\"rate\": \"x\"}", "at(rate): rate: found \"x\", want a number");
    refuses("{\"rate\": null}", "at(rate): rate: found null, want a number");
    refuses("{\"name\": 3}", "at(name): name: found 3, want a text or null");
    refuses("{\"name\": \"a\\u0000b\"}",
            "at(name): name: found \"a\\u0000b\", want a text or null");
    refuses("{\"inner\": 4}", "at(inner): inner: found 4, want a map of keys");
}

static void ranges_and_choices_are_named(void **state)
{
    (void)state;
    refuses("{\"count\": -1}", "at(count): count: found -1, want a whole number, 0 or more");
    refuses("{\"inner\": {\"depth\": 10}}",
            "at(inner.depth): inner.depth: found 10, want a whole number from 1 to 9");
    refuses("{\"colour\": \"pink\"}", "at(colour): colour: found \"pink\", want red or green");
}

static void what_comes_later_is_refused_by_name(void **state)
{
    (void)state;
    refuses("{\"colour\": \"blue\"}",
            "at(colour): colour: \"blue\" is not supported in this version, red or green is");
    refuses("{\"off\": 3}", "at(off): off: 3 is not supported in this version, only null is");
}

static void unknown_keys_get_a_hint(void **state)
{
    (void)state;
    refuses("{\"colours\": 1}", "at(colours): unknown key \"colours\", did you mean \"colour\"?");
    refuses("{\"depth\": 1}", "at(depth): unknown key \"depth\": it stands at \"inner.depth\"");
    refuses("{\"levels\": 1}",
            "at(levels): unknown key \"levels\": it is called \"inner.depth\" here");
    refuses("{\"inner\": {\"rate\": 1}}",
            "at(inner.rate): unknown key \"inner.rate\": it stands at \"rate\"");
    refuses("{\"zzzzzzzzz\": 1}", "at(zzzzzzzzz): unknown key \"zzzzzzzzz\"; there are on, count, "
                                  "rate, name, colour, any, off, inner");
}

static void paths_find_their_rows(void **state)
{
    (void)state;
    assert_ptr_equal(schema_key(&top, "inner.depth"), &inner_keys[0]);
    assert_ptr_equal(schema_key(&top, "any.thing.below"), &keys[5]);
    assert_null(schema_key(&top, "count.x"));
    assert_null(schema_key(&top, "inner.rate"));
    assert_true(schema_names_key(&top, "levels"));
    assert_false(schema_names_key(&top, "level"));
}

static void help_says_all_about_a_key(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    schema_help(&inner_table, &s);
    assert_string_equal(strbuf_str(&s), "# how deep\n"
                                        "#   a whole number from 1 to 9\n"
                                        "#   elsewhere: max_depth, levels\n"
                                        "depth: 3\n");
    strbuf_release(&s);
}

static void every_failed_allocation_is_reported(void **state)
{
    struct outer o;

    (void)state;
    for (int64_t k = 1; k < 40; k++) {
        enum graft_status st;

        mem_fail_at(k);
        st = fill("{\"name\": \"x\"}", &o);
        mem_fail_at(0);
        if (!st)
            return;
        assert_int_equal(st, GRAFT_ENOMEM);
    }
    fail();
}

static int teardown(void **state)
{
    struct outer o;

    (void)state;
    fill("{}", &o);
    arena_release(&mem);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_left_out_take_their_defaults),
        cmocka_unit_test(keys_given_are_taken),
        cmocka_unit_test(wrong_types_say_what_was_found_and_what_is_wanted),
        cmocka_unit_test(ranges_and_choices_are_named),
        cmocka_unit_test(what_comes_later_is_refused_by_name),
        cmocka_unit_test(unknown_keys_get_a_hint),
        cmocka_unit_test(paths_find_their_rows),
        cmocka_unit_test(help_says_all_about_a_key),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
