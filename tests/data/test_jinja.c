/* The template interpreter against what Jinja2 made of the same templates: golden/jinja.json, by
 * golden/make_jinja.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/jinja.h"

static struct graft_err err;

static enum graft_status render(const char *source, size_t len, const json_t *context,
                                struct strbuf *out, struct jinja_spans *spans)
{
    const struct jinja_date date = { .year = 2024, .month = 7, .day = 6 };
    struct jinja_var var[32];
    struct jinja *t = NULL;
    enum graft_status status;
    const char *key;
    json_t *value;
    int n = 0;

    json_object_foreach((json_t *)(uintptr_t)context, key, value)
    {
        var[n++] = (struct jinja_var){ key, value };
    }
    err.msg[0] = '\0';
    status = jinja_new(source, len, &t, &err);
    if (status)
        return status;
    status = jinja_render(t, var, n, &date, out, spans, &err);
    jinja_free(t);
    return status;
}

static json_t *golden(void)
{
    json_t *all = NULL;

    if (json_read_file(GRAFT_GOLDEN "/jinja.json", &all, &err))
        fail_msg("%s", err.msg);
    return all;
}

/* Refusals by name where Jinja2 renders; each is one construct that is told to be missing. */
static bool may_refuse(const char *msg)
{
    return strstr(msg, "is not supported") != NULL;
}

static int check(const json_t *c, const json_t *contexts, int *refused)
{
    const json_t *source = json_array_get(c, 0), *want = json_array_get(c, 2);
    const json_t *context =
        json_array_get(contexts, (size_t)json_integer_value(json_array_get(c, 1)));
    struct strbuf out = STRBUF_INIT;
    const enum graft_status status =
        render(json_string_value(source), json_string_length(source), context, &out, NULL);
    int wrong = 0;

    if (status == GRAFT_EFORMAT && may_refuse(err.msg)) {
        *refused += json_is_string(want);
        if (json_is_string(want))
            print_message("refused: %s: %s\n", json_string_value(source), err.msg);
    } else if (json_is_null(want) != (status != GRAFT_OK)) {
        print_message("%s: want %s, got %s\n", json_string_value(source),
                      json_is_null(want) ? "an error" : json_string_value(want),
                      status ? err.msg : strbuf_str(&out));
        wrong = 1;
    } else if (!status && (out.len != json_string_length(want) ||
                           memcmp(strbuf_str(&out), json_string_value(want), out.len))) {
        print_message("%s:\n want %s\n got  %s\n", json_string_value(source),
                      json_string_value(want), strbuf_str(&out));
        wrong = 1;
    } else if (status && strncmp(err.msg, "template line ", 14)) {
        print_message("%s: \"%s\" names no line\n", json_string_value(source), err.msg);
        wrong = 1;
    }
    strbuf_release(&out);
    return wrong;
}

static void templates_render_as_jinja2_renders_them(void **state)
{
    json_t *all = golden();
    int wrong = 0, refused = 0;

    (void)state;
    for (size_t i = 1; i < json_array_size(all); i++)
        wrong += check(json_array_get(all, i), json_array_get(all, 0), &refused);
    json_decref(all);
    assert_int_equal(wrong, 0);
    assert_true(refused <= 12);
}

static void expect_error(const char *source, enum graft_status want, const char *words)
{
    struct strbuf out = STRBUF_INIT;
    enum graft_status status;

    strbuf_puts(&out, "before");
    status = render(source, strlen(source), NULL, &out, NULL);
    if (status != want || !strstr(err.msg, words))
        fail_msg("%s: status %d, \"%s\", want \"%s\"", source, status, err.msg, words);
    assert_string_equal(out.buf, "before");
    strbuf_release(&out);
}

static void errors_name_line_and_construct(void **state)
{
    (void)state;
    expect_error("a\n{% include 'x' %}", GRAFT_EFORMAT, "template line 2: {% include %}");
    expect_error("{{ 1 }}\n\n{{ 'x'|pprint }}", GRAFT_EFORMAT,
                 "template line 3: filter \"pprint\"");
    expect_error("{{ '{:_}'.format(1234) }}", GRAFT_EFORMAT, "\"_\" in a format is not supported");
    expect_error("{{ '{:08,}'.format(1234) }}", GRAFT_EFORMAT, "with zeros is not supported");
    expect_error("{{ 'x'.encode() }}", GRAFT_EFORMAT, "'encode' of 'str'");
    expect_error("\n{{ nope.x }}", GRAFT_EFORMAT, "template line 2: 'nope' is undefined");
    expect_error("\n\n{{ raise_exception('Roles must alternate') }}", GRAFT_EFORMAT,
                 "template line 3: Roles must alternate");
    expect_error("{% if 1 %}\n{% endfor %}", GRAFT_EFORMAT,
                 "template line 2: unknown tag \"endfor\"");
    expect_error("{{ 9223372036854775807 + 1 }}", GRAFT_EFORMAT, "beyond 64 bits");
    expect_error("a\xff", GRAFT_EFORMAT, "not valid UTF-8");
}

static void a_template_is_bounded(void **state)
{
    static const char *const sources[] = {
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'abcdefghij' * 1000 }}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for a in range(99) %}{% set ns.s = ns.s + ns.s %}{% "
        "endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for a in range(99) %}{% set ns.l = ns.l + ns.l %}{% "
        "endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for a in range(9999) %}{% set ns.l = [ns.l] %}{% endfor "
        "%}{{ ns.l }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'x' * 999999999 }}",
        "{{ 'x'.ljust(999999999) }}",
        "{{ [0] * 999999999 }}",
    };
    struct strbuf deep = STRBUF_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct strbuf out = STRBUF_INIT;

        assert_int_not_equal(render(sources[i], strlen(sources[i]), NULL, &out, NULL), GRAFT_OK);
        assert_int_not_equal(err.code, GRAFT_ENOMEM);
        strbuf_release(&out);
    }
    strbuf_puts(&deep, "{{ ");
    for (int i = 0; i < 100000; i++)
        strbuf_puts(&deep, "(-[");
    expect_error(deep.buf, GRAFT_EFORMAT, "nesting deeper");
    strbuf_release(&deep);
}

static void generation_blocks_tell_their_bytes(void **state)
{
    static const char source[] = "\xc3\xa9{% for x in [1, 2] %}<{% generation %}a{{ x }}\xc3\xa9"
                                 "{% endgeneration %}>{% endfor %}";
    struct jinja_spans spans = { .count = 0 };
    struct strbuf out = STRBUF_INIT;

    (void)state;
    strbuf_puts(&out, "12");
    assert_int_equal(render(source, sizeof source - 1, NULL, &out, &spans), GRAFT_OK);
    assert_string_equal(out.buf, "12\xc3\xa9<a1\xc3\xa9><a2\xc3\xa9>");
    assert_int_equal(spans.count, 2);
    assert_int_equal(spans.span[0].begin, 3);
    assert_int_equal(spans.span[0].end, 7);
    assert_int_equal(spans.span[1].begin, 9);
    assert_int_equal(spans.span[1].end, 13);
    jinja_spans_release(&spans);
    strbuf_release(&out);
}

static void every_failed_allocation_is_told(void **state)
{
    static const char source[] =
        "{% macro f(x, y=2) %}{% generation %}{{ x|tojson }}{% endgeneration %}{{ y }}{% endmacro "
        "%}{% set ns = namespace(l=[]) %}{% for i in range(40) if i % 2 %}{% set ns.l = ns.l + [i "
        "~ 'x'] %}{{ f(ns.l, y='%s-{}'.format(i) % i) }}{% endfor %}{% set big %}{{ 'ab' * 9999 "
        "}}{% endset %}{{ big|upper|replace('A', 'c')|length }}{{ ns.l|sort|join(',') }}";
    bool done = false;

    (void)state;
    for (int64_t k = 1; !done; k++) {
        struct jinja_spans spans = { .count = 0 };
        struct strbuf out = STRBUF_INIT;
        enum graft_status status;

        mem_fail_at(k);
        status = render(source, sizeof source - 1, NULL, &out, &spans);
        done = mem_count() < k;
        mem_fail_at(0);
        if (status != (done ? GRAFT_OK : GRAFT_ENOMEM))
            fail_msg("allocation %lld: %s", (long long)k, err.msg);
        jinja_spans_release(&spans);
        strbuf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_render_as_jinja2_renders_them),
        cmocka_unit_test(errors_name_line_and_construct),
        cmocka_unit_test(a_template_is_bounded),
        cmocka_unit_test(generation_blocks_tell_their_bytes),
        cmocka_unit_test(every_failed_allocation_is_told),
    };

    return cmocka_run_group_tests_name("jinja", tests, NULL, NULL);
}
