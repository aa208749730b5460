/* Tests: what stands behind `is`. */
#include <math.h>
#include <string.h>
#include <utf8proc.h>

#include "data/jinja_impl.h"

#define TEST(name_)                                                                                \
    static bool name_(struct jrun *r, const struct jval *in, const struct jargs *a, bool *out)

static bool alone(struct jrun *r, const struct jargs *a)
{
    struct jval v[JINJA_MAX_ARGS];

    return jbind(r, "a test that takes nothing", a, "", 0, v);
}

static bool with_one(struct jrun *r, const struct jargs *a, struct jval v[JINJA_MAX_ARGS])
{
    return jbind(r, "a test of two values", a, "other", 1, v);
}

TEST(is_defined)
{
    *out = in->kind != J_UNDEFINED;
    return alone(r, a);
}

TEST(is_undefined)
{
    *out = in->kind == J_UNDEFINED;
    return alone(r, a);
}

TEST(is_none)
{
    *out = in->kind == J_NONE;
    return alone(r, a);
}

TEST(is_boolean)
{
    *out = in->kind == J_BOOL;
    return alone(r, a);
}

TEST(is_true)
{
    *out = in->kind == J_BOOL && in->u.b;
    return alone(r, a);
}

TEST(is_false)
{
    *out = in->kind == J_BOOL && !in->u.b;
    return alone(r, a);
}

TEST(is_integer)
{
    *out = in->kind == J_INT;
    return alone(r, a);
}

TEST(is_float)
{
    *out = in->kind == J_FLOAT;
    return alone(r, a);
}

TEST(is_number)
{
    *out = jis_int(in) || in->kind == J_FLOAT;
    return alone(r, a);
}

TEST(is_string)
{
    *out = in->kind == J_STR;
    return alone(r, a);
}

TEST(is_mapping)
{
    *out = in->kind == J_DICT;
    return alone(r, a);
}

TEST(is_sequence)
{
    *out = in->kind == J_STR || in->kind == J_LIST || in->kind == J_TUPLE || in->kind == J_DICT ||
           in->kind == J_RANGE || in->kind == J_UNDEFINED;
    return alone(r, a);
}

TEST(is_iterable)
{
    *out = jhas_len(in) || in->kind == J_GEN;
    return alone(r, a);
}

TEST(is_callable)
{
    *out = in->kind == J_FUNC || in->kind == J_METHOD || in->kind == J_MACRO ||
           in->kind == J_LOOP || in->kind == J_JOINER || in->kind == J_UNDEFINED;
    return alone(r, a);
}

TEST(is_escaped)
{
    *out = in->kind == J_STR && in->safe;
    return alone(r, a);
}

TEST(is_in)
{
    struct jval v[JINJA_MAX_ARGS];

    return with_one(r, a, v) && jcontains(r, v, in, out);
}

/* `is` of Python: small values are the same object, lists and maps only themselves. */
TEST(is_sameas)
{
    struct jval v[JINJA_MAX_ARGS];

    J_TRY(with_one(r, a, v));
    if (in->kind == J_STR || in->kind == J_INT || in->kind == J_FLOAT || in->kind == J_TUPLE)
        return v[0].kind != in->kind
                   ? (*out = false, true)
                   : jrefuse(r, "test \"sameas\" between two of type '%s'", jtype(in));
    *out = in->kind == v[0].kind;
    if (in->kind == J_BOOL)
        *out = *out && in->u.b == v[0].u.b;
    else if (in->kind != J_NONE)
        *out = *out && in->u.l == v[0].u.l;
    return true;
}

static bool modulo(struct jrun *r, const struct jval *in, int64_t by, struct jval *out)
{
    const struct jval k = jint(by);

    return jbinary(r, T_MOD, in, &k, out);
}

static bool equals(const struct jval *v, int64_t n)
{
    return jis_int(v) ? jint_of(v) == n : v->kind == J_FLOAT && v->u.d == (double)n;
}

TEST(is_odd)
{
    struct jval m;

    J_TRY(alone(r, a) && modulo(r, in, 2, &m));
    *out = equals(&m, 1);
    return true;
}

TEST(is_even)
{
    struct jval m;

    J_TRY(alone(r, a) && modulo(r, in, 2, &m));
    *out = equals(&m, 0);
    return true;
}

TEST(is_divisibleby)
{
    struct jval v[JINJA_MAX_ARGS], m;

    J_TRY(jbind(r, "divisibleby", a, "num", 1, v) && jbinary(r, T_MOD, in, v, &m));
    *out = equals(&m, 0);
    return true;
}

static bool has_case(struct jrun *r, const struct jval *in, const struct jargs *a,
                     const char *method, bool *out)
{
    const struct jmethod_def *m = jstring_methods;
    const struct jargs none = { NULL, 0, NULL };
    struct jval s, v;

    J_TRY(alone(r, a) && jto_str(r, in, &s));
    while (strcmp(m->name, method))
        m++;
    J_TRY(m->call(r, &s, &none, &v));
    *out = v.u.b;
    return true;
}

TEST(is_lower)
{
    return has_case(r, in, a, "islower", out);
}

TEST(is_upper)
{
    return has_case(r, in, a, "isupper", out);
}

static bool compare(struct jrun *r, const struct jval *in, const struct jargs *a, int op, bool *out)
{
    struct jval v[JINJA_MAX_ARGS];

    return with_one(r, a, v) && jcompare(r, op, in, v, out);
}

TEST(is_eq)
{
    return compare(r, in, a, T_EQ, out);
}

TEST(is_ne)
{
    return compare(r, in, a, T_NE, out);
}

TEST(is_gt)
{
    return compare(r, in, a, T_GT, out);
}

TEST(is_ge)
{
    return compare(r, in, a, T_GE, out);
}

TEST(is_lt)
{
    return compare(r, in, a, T_LT, out);
}

TEST(is_le)
{
    return compare(r, in, a, T_LE, out);
}

TEST(is_filter)
{
    J_TRY(alone(r, a));
    *out = in->kind == J_STR && (jfilter_find(in->u.s) || jfilter_unsupported(in->u.s));
    return true;
}

TEST(is_test)
{
    J_TRY(alone(r, a));
    *out = in->kind == J_STR && jtest_find(in->u.s);
    return true;
}

static const struct jtest tests[] = {
    { "defined", is_defined },
    { "undefined", is_undefined },
    { "none", is_none },
    { "boolean", is_boolean },
    { "true", is_true },
    { "false", is_false },
    { "integer", is_integer },
    { "float", is_float },
    { "number", is_number },
    { "string", is_string },
    { "mapping", is_mapping },
    { "sequence", is_sequence },
    { "iterable", is_iterable },
    { "callable", is_callable },
    { "escaped", is_escaped },
    { "in", is_in },
    { "sameas", is_sameas },
    { "odd", is_odd },
    { "even", is_even },
    { "divisibleby", is_divisibleby },
    { "lower", is_lower },
    { "upper", is_upper },
    { "eq", is_eq },
    { "==", is_eq },
    { "equalto", is_eq },
    { "ne", is_ne },
    { "!=", is_ne },
    { "gt", is_gt },
    { ">", is_gt },
    { "greaterthan", is_gt },
    { "ge", is_ge },
    { ">=", is_ge },
    { "lt", is_lt },
    { "<", is_lt },
    { "lessthan", is_lt },
    { "le", is_le },
    { "<=", is_le },
    { "filter", is_filter },
    { "test", is_test },
};

const struct jtest *jtest_find(const struct jstr *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (jis(name, tests[i].name))
            return tests + i;
    return NULL;
}
