/* Filters of texts and numbers, and the search for a filter by name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/jinja_impl.h"
#include "data/unicode.h"

#define FILTER(name_)                                                                              \
    static bool name_(struct jrun *r, const struct jval *in, const struct jargs *a,                \
                      struct jval *out)

static bool nothing_more(struct jrun *r, const char *what, const struct jargs *a)
{
    struct jval v[JINJA_MAX_ARGS];

    return jbind(r, what, a, "", 0, v);
}

/* A method of strings over str(in). */
static bool as_method(struct jrun *r, const struct jval *in, const char *name,
                      const struct jargs *a, struct jval *out)
{
    const struct jmethod_def *m = jstring_methods;
    struct jval text;

    J_TRY(jto_str(r, in, &text));
    while (strcmp(m->name, name))
        m++;
    J_TRY(m->call(r, &text, a, out));
    if (out->kind == J_STR)
        out->safe = text.safe;
    return true;
}

FILTER(filter_upper)
{
    return as_method(r, in, "upper", a, out);
}

FILTER(filter_lower)
{
    return as_method(r, in, "lower", a, out);
}

FILTER(filter_capitalize)
{
    return as_method(r, in, "capitalize", a, out);
}

FILTER(filter_trim)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jargs one = { v, 1, NULL };

    J_TRY(jbind(r, "trim", a, "chars", 0, v));
    if (v[0].kind == J_UNDEFINED)
        return jfail(r, "strip arg must be None or str");
    if (v[0].kind == J_MISSING)
        v[0] = jnone();
    return as_method(r, in, "strip", &one, out);
}

FILTER(filter_center)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jargs one = { v, 1, NULL };

    J_TRY(jbind(r, "center", a, "width", 0, v));
    if (v[0].kind == J_MISSING)
        v[0] = jint(80);
    return as_method(r, in, "center", &one, out);
}

/* Jinja2's title: a capital at the start and behind each of "-", white space, "(", "{", "[", "<".
 */
FILTER(filter_title)
{
    struct strbuf text = STRBUF_INIT;
    struct jval s, part;
    bool start = true;

    J_TRY(nothing_more(r, "title", a) && jto_str(r, in, &s));
    for (size_t at = 0; at < s.u.s->len;) {
        uint32_t cp;
        const struct jstr one = { s.u.s->p + at, jchar(s.u.s->p + at, s.u.s->len - at, &cp) };

        if (!jmap_case(r, &one, start ? CASE_UPPER : CASE_LOWER, &part)) {
            strbuf_release(&text);
            return false;
        }
        strbuf_add(&text, part.u.s->p, part.u.s->len);
        start = jspace(cp) || (cp < 0x80 && strchr("-({[<", (int)cp) && cp);
        at += one.len;
    }
    return jstr_take(r, &text, out);
}

FILTER(filter_string)
{
    J_TRY(nothing_more(r, "string", a));
    return jto_str(r, in, out);
}

FILTER(filter_safe)
{
    J_TRY(nothing_more(r, "safe", a) && jto_str(r, in, out));
    out->safe = true;
    return true;
}

FILTER(filter_escape)
{
    struct strbuf text = STRBUF_INIT;

    J_TRY(nothing_more(r, "escape", a));
    if (!jput_escaped(r, &text, in)) {
        strbuf_release(&text);
        return false;
    }
    J_TRY(jstr_take(r, &text, out));
    out->safe = true;
    return true;
}

FILTER(filter_forceescape)
{
    struct jval plain = *in;

    plain.safe = false;
    return filter_escape(r, &plain, a, out);
}

FILTER(filter_replace)
{
    struct jval v[JINJA_MAX_ARGS], s, old, with;
    int64_t count = -1;

    J_TRY(jbind(r, "replace", a, "old,new,count", 2, v) && jto_str(r, in, &s) &&
          jto_str(r, v, &old) && jto_str(r, v + 1, &with));
    if (v[2].kind != J_NONE)
        J_TRY(jarg_int(r, "replace", v + 2, -1, &count));
    return jreplace(r, s.u.s, old.u.s, with.u.s, count, out);
}

FILTER(filter_format)
{
    struct jval s, arg;

    if (a->n && a->kw)
        return jfail(r, "can't handle positional and keyword arguments at the same time");
    J_TRY(jto_str(r, in, &s));
    if (a->kw) {
        arg = (struct jval){ .kind = J_DICT, .u.m = (struct jdict *)(uintptr_t)a->kw };
    } else {
        J_TRY(jlist_new(r, J_TUPLE, &arg));
        for (int64_t i = 0; i < a->n; i++)
            J_TRY(jlist_push(r, arg.u.l, a->v + i));
    }
    return jformat_percent(r, s.u.s, &arg, out);
}

static bool indent_lines(struct jrun *r, const struct jlist *lines, const struct jstr *by,
                         bool first, bool blank, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;

    if (lines->n > 0 && by->len > (size_t)JINJA_MAX_OUTPUT / (size_t)lines->n)
        return jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
    if (first)
        strbuf_add(&text, by->p, by->len);
    for (int64_t i = 0; i < lines->n; i++) {
        const struct jstr *s = lines->v[i].u.s;

        if (i)
            strbuf_putc(&text, '\n');
        if (i && (blank || s->len))
            strbuf_add(&text, by->p, by->len);
        strbuf_add(&text, s->p, s->len);
    }
    return jstr_take(r, &text, out);
}

FILTER(filter_indent)
{
    struct strbuf whole = STRBUF_INIT;
    struct jval v[JINJA_MAX_ARGS], lines, text;
    struct jstr by = { "", 0 };
    int64_t width = 4;
    char *blank;

    J_TRY(jbind(r, "indent", a, "width,first,blank", 0, v));
    if (in->kind == J_UNDEFINED)
        return jfail_undefined(r, in);
    if (in->kind != J_STR)
        return jfail(r, "unsupported operand type(s) for +=: '%s' and 'str'", jtype(in));
    if (v[0].kind == J_STR) {
        by = *v[0].u.s;
    } else {
        J_TRY(jarg_int(r, "indent", v, 4, &width));
        if (width > 10000)
            return jrefuse(r, "an indent of more than 10000");
        by.len = width > 0 ? (size_t)width : 0;
        J_TRY(blank = jalloc(r, by.len + 1));
        memset(blank, ' ', by.len);
        by.p = blank;
    }
    strbuf_add(&whole, in->u.s->p, in->u.s->len);
    strbuf_putc(&whole, '\n');
    J_TRY(jstr_take(r, &whole, &text) && jsplit_lines(r, text.u.s, false, &lines));
    return indent_lines(r, lines.u.l, &by, jtruth(v + 1), jtruth(v + 2), out);
}

FILTER(filter_truncate)
{
    struct strbuf text = STRBUF_INIT;
    struct jval v[JINJA_MAX_ARGS];
    struct jstr end = { "...", 3 }, s;
    int64_t length, leeway, n;

    J_TRY(jbind(r, "truncate", a, "length,killwords,end,leeway", 0, v) &&
          jarg_int(r, "truncate", v, 255, &length));
    leeway = 5;
    if (v[3].kind != J_NONE)
        J_TRY(jarg_int(r, "truncate", v + 3, 5, &leeway));
    if (v[2].kind != J_MISSING) {
        const struct jstr *given;

        J_TRY(jarg_str(r, "truncate", v + 2, &given));
        end = *given;
    }
    J_TRY(jlen(r, in, &n));
    if (length < jchars(&end) || leeway < 0)
        return jfail(r, "expected length >= %lld, got %lld", (long long)jchars(&end),
                     (long long)length);
    if (n <= length || n - length <= leeway) {
        *out = *in;
        return true;
    }
    if (in->kind != J_STR)
        return jfail(r, "object of type '%s' cannot be truncated", jtype(in));
    s = *in->u.s;
    s.len = joffset(&s, length - jchars(&end));
    if (!jtruth(v + 1))
        for (size_t at = s.len; at-- > 0;)
            if (s.p[at] == ' ') {
                s.len = at;
                break;
            }
    strbuf_add(&text, s.p, s.len);
    strbuf_add(&text, end.p, end.len);
    return jstr_take(r, &text, out);
}

FILTER(filter_wordcount)
{
    struct jval s;
    int64_t n = 0;
    bool inside = false;
    uint32_t cp;

    J_TRY(nothing_more(r, "wordcount", a) && jto_str(r, in, &s));
    for (size_t at = 0; at < s.u.s->len;) {
        at += jchar(s.u.s->p + at, s.u.s->len - at, &cp);
        n += !inside && unicode_is_word(cp);
        inside = unicode_is_word(cp);
    }
    *out = jint(n);
    return true;
}

/* A number as Python's int(text, base) and float(text) read it; blanks around are fine. */
static bool read_int(struct jrun *r, struct jstr s, int64_t base, bool *ok, int64_t *out)
{
    bool minus = false, digit = false;

    *ok = false;
    *out = 0;
    s = jstrip(s, NULL, 3);
    if (s.len && (s.p[0] == '-' || s.p[0] == '+')) {
        minus = s.p[0] == '-';
        s.p++;
        s.len--;
    }
    if (s.len > 1 && s.p[0] == '0' && s.p[1] && strchr("xXoObB", s.p[1])) {
        const int b = (s.p[1] | 32) == 'x' ? 16 : (s.p[1] | 32) == 'o' ? 8 : 2;

        if (base == 0 || base == b) {
            base = b;
            s.p += 2;
            s.len -= 2;
        }
    }
    base = base ? base : 10;
    for (size_t i = 0; i < s.len; i++) {
        const char c = (char)(s.p[i] | 32);
        const int v = s.p[i] >= '0' && s.p[i] <= '9' ? s.p[i] - '0'
                      : c >= 'a' && c <= 'z'         ? c - 'a' + 10
                                                     : 99;

        if (s.p[i] == '_' && digit) {
            digit = false;
            continue;
        }
        if (v >= base)
            return true;
        digit = true;
        if (__builtin_mul_overflow(*out, base, out) ||
            __builtin_add_overflow(*out, minus ? -v : v, out))
            return jrefuse(r, "an integer beyond 64 bits");
    }
    *ok = digit;
    return true;
}

static bool read_float(struct jrun *r, struct jstr s, bool *ok, double *out)
{
    char *copy, *end;

    s = jstrip(s, NULL, 3);
    J_TRY(copy = jalloc(r, s.len + 1));
    memcpy(copy, s.p, s.len);
    *out = strtod(copy, &end);
    *ok = s.len && end == copy + s.len && !memchr(s.p, 'x', s.len) && !memchr(s.p, 'X', s.len) &&
          !memchr(s.p, '(', s.len);
    return true;
}

static bool to_int(struct jrun *r, double d, const struct jval *otherwise, struct jval *out)
{
    if (!isfinite(d)) {
        *out = *otherwise;
        return true;
    }
    if (fabs(d) >= 9.2e18)
        return jrefuse(r, "an integer beyond 64 bits");
    *out = jint((int64_t)d);
    return true;
}

FILTER(filter_int)
{
    struct jval v[JINJA_MAX_ARGS];
    int64_t base, i;
    double d;
    bool ok;

    J_TRY(jbind(r, "int", a, "default,base", 0, v) && jarg_int(r, "int", v + 1, 10, &base));
    if (v[0].kind == J_MISSING)
        v[0] = jint(0);
    if (in->kind == J_UNDEFINED)
        return jfail_undefined(r, in);
    if (in->kind == J_FLOAT) {
        if (isinf(in->u.d))
            return jfail(r, "cannot convert float infinity to integer");
        return to_int(r, in->u.d, v, out);
    }
    if (jis_int(in)) {
        *out = jint(jint_of(in));
        return true;
    }
    *out = v[0];
    if (in->kind != J_STR)
        return true;
    J_TRY(read_int(r, *in->u.s, base, &ok, &i));
    if (ok) {
        *out = jint(i);
        return true;
    }
    J_TRY(read_float(r, *in->u.s, &ok, &d));
    return !ok || to_int(r, d, v, out);
}

FILTER(filter_float)
{
    struct jval v[JINJA_MAX_ARGS];
    double d;
    bool ok;

    J_TRY(jbind(r, "float", a, "default", 0, v));
    if (in->kind == J_UNDEFINED)
        return jfail_undefined(r, in);
    *out = v[0].kind == J_MISSING ? jfloat(0) : v[0];
    if (in->kind == J_FLOAT)
        *out = *in;
    else if (jis_int(in))
        *out = jfloat((double)jint_of(in));
    if (in->kind != J_STR)
        return true;
    J_TRY(read_float(r, *in->u.s, &ok, &d));
    if (ok)
        *out = jfloat(d);
    return true;
}

FILTER(filter_abs)
{
    J_TRY(nothing_more(r, "abs", a));
    if (in->kind == J_UNDEFINED)
        return jfail(r, "bad operand type for abs(): 'Undefined'");
    if (in->kind == J_FLOAT) {
        *out = jfloat(fabs(in->u.d));
        return true;
    }
    if (!jis_int(in))
        return jfail(r, "bad operand type for abs(): '%s'", jtype(in));
    return jnegate(r, in, jint_of(in) < 0, out);
}

/* round(): the decimal of `digits` places nearest to the exact value, as printf finds it. */
static double round_common(double d, int64_t digits)
{
    char text[400];
    double scale;

    if (!isfinite(d) || digits > 300)
        return d;
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, d);
        return strtod(text, NULL);
    }
    if (digits < -308)
        return copysign(0, d);
    scale = pow(10, (double)-digits);
    return nearbyint(d / scale) * scale;
}

FILTER(filter_round)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jstr *method = NULL;
    int64_t digits;
    double d, scale;

    J_TRY(jbind(r, "round", a, "precision,method", 0, v) && jarg_int(r, "round", v, 0, &digits));
    if (v[1].kind != J_MISSING)
        J_TRY(jarg_str(r, "round", v + 1, &method));
    if (method && !jis(method, "common") && !jis(method, "ceil") && !jis(method, "floor"))
        return jfail(r, "method must be common, ceil or floor");
    if (in->kind == J_UNDEFINED)
        return jfail_undefined(r, in);
    if (!jis_int(in) && in->kind != J_FLOAT)
        return jfail(r, "type %s doesn't define __round__ method", jtype(in));
    if (!method || jis(method, "common")) {
        if (jis_int(in) && digits >= 0)
            *out = jint(jint_of(in));
        else if (jis_int(in))
            return jrefuse(r, "rounding an integer to tens");
        else
            *out = jfloat(round_common(in->u.d, digits));
        return true;
    }
    d = in->kind == J_FLOAT ? in->u.d : (double)jint_of(in);
    scale = pow(10, (double)digits);
    d *= scale;
    *out = jfloat((jis(method, "ceil") ? ceil(d) : floor(d)) / scale);
    return true;
}

FILTER(filter_default)
{
    struct jval v[JINJA_MAX_ARGS];

    J_TRY(jbind(r, "default", a, "default_value,boolean", 0, v));
    *out = *in;
    if (in->kind != J_UNDEFINED && !(jtruth(v + 1) && !jtruth(in)))
        return true;
    if (v[0].kind == J_MISSING)
        return jstr_ref(r, "", 0, out);
    *out = v[0];
    return true;
}

const struct jfilter jfilters_text[] = {
    { "upper", filter_upper },
    { "lower", filter_lower },
    { "capitalize", filter_capitalize },
    { "title", filter_title },
    { "trim", filter_trim },
    { "center", filter_center },
    { "string", filter_string },
    { "safe", filter_safe },
    { "escape", filter_escape },
    { "e", filter_escape },
    { "forceescape", filter_forceescape },
    { "replace", filter_replace },
    { "format", filter_format },
    { "indent", filter_indent },
    { "truncate", filter_truncate },
    { "wordcount", filter_wordcount },
    { "int", filter_int },
    { "float", filter_float },
    { "abs", filter_abs },
    { "round", filter_round },
    { "default", filter_default },
    { "d", filter_default },
    { "tojson", jfilter_tojson },
    { NULL, NULL },
};

const struct jfilter *jfilter_find(const struct jstr *name)
{
    for (const struct jfilter *f = jfilters_text; f->name; f++)
        if (jis(name, f->name))
            return f;
    for (const struct jfilter *f = jfilters_list; f->name; f++)
        if (jis(name, f->name))
            return f;
    return NULL;
}

bool jfilter_unsupported(const struct jstr *name)
{
    static const char *const names[] = {
        "filesizeformat", "pprint",   "random",  "striptags", "urlencode",
        "urlize",         "wordwrap", "xmlattr", NULL,
    };

    for (int i = 0; names[i]; i++)
        if (jis(name, names[i]))
            return true;
    return false;
}
