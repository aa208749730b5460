/* Formatting: Python's "%" operator, str.format() and strftime. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/jinja_impl.h"

/* How one value is laid out: [[fill]align][sign][#][0][width][,][.precision][type]. */
struct spec {
    struct jstr fill;
    char align, sign, type; /* 0: not given */
    bool alt, comma;
    int64_t width, precision; /* -1: not given */
};

static bool number(const struct jstr *s, size_t *at, int64_t *out)
{
    *out = 0;
    while (*at < s->len && s->p[*at] >= '0' && s->p[*at] <= '9') {
        *out = *out * 10 + (s->p[(*at)++] - '0');
        if (*out > 1 << 20)
            return false;
    }
    return true;
}

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '^' || c == '=';
}

static bool parse_spec(struct jrun *r, const struct jstr *s, struct spec *o)
{
    size_t at = 0, first;
    uint32_t cp;

    *o = (struct spec){ .fill = { " ", 1 }, .width = -1, .precision = -1 };
    first = s->len ? jchar(s->p, s->len, &cp) : 0;
    if (first && first < s->len && is_align(s->p[first])) {
        o->fill = (struct jstr){ s->p, first };
        o->align = s->p[first];
        at = first + 1;
    } else if (s->len && is_align(s->p[0])) {
        o->align = s->p[at++];
    }
    if (at < s->len && (s->p[at] == '+' || s->p[at] == '-' || s->p[at] == ' '))
        o->sign = s->p[at++];
    if (at < s->len && s->p[at] == '#') {
        o->alt = true;
        at++;
    }
    if (at < s->len && s->p[at] == '0') {
        if (!o->align) {
            o->fill = (struct jstr){ "0", 1 };
            o->align = '=';
        }
        at++;
    }
    if (at < s->len && s->p[at] >= '0' && s->p[at] <= '9' && !number(s, &at, &o->width))
        return jrefuse(r, "a format of that width");
    if (at < s->len && s->p[at] == ',') {
        o->comma = true;
        at++;
    }
    if (o->comma && o->align == '=' && jis(&o->fill, "0"))
        return jrefuse(r, "a format that fills groups of digits with zeros");
    if (at < s->len && s->p[at] == '_')
        return jrefuse(r, "\"_\" in a format");
    if (at < s->len && s->p[at] == '.') {
        at++;
        if (at >= s->len || s->p[at] < '0' || s->p[at] > '9')
            return jfail(r, "format specifier missing precision");
        if (!number(s, &at, &o->precision) || o->precision > 300)
            return jrefuse(r, "a format of that precision");
    }
    if (at < s->len)
        o->type = s->p[at++];
    return at == s->len || jrefuse(r, "format \"%.*s\"", s->len > 60 ? 60 : (int)s->len, s->p);
}

static void put_padded(struct strbuf *out, const struct spec *o, char align, const char *sign,
                       const struct jstr *body)
{
    const int64_t n = jchars(body) + (int64_t)strlen(sign);
    const int64_t blanks = o->width > n ? o->width - n : 0;
    const int64_t before = align == '<' ? 0 : align == '^' ? blanks / 2 : blanks;

    if (align == '=')
        strbuf_puts(out, sign);
    for (int64_t i = 0; i < before; i++)
        strbuf_add(out, o->fill.p, o->fill.len);
    if (align != '=')
        strbuf_puts(out, sign);
    strbuf_add(out, body->p, body->len);
    for (int64_t i = before; i < blanks; i++)
        strbuf_add(out, o->fill.p, o->fill.len);
}

static void put_commas(struct strbuf *out, const char *digits)
{
    const size_t n = strspn(digits, "0123456789");

    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0)
            strbuf_putc(out, ',');
        strbuf_putc(out, digits[i]);
    }
    strbuf_puts(out, digits + n);
}

static void int_digits(uint64_t v, char type, char *out)
{
    if (type == 'b') {
        int n = 0;

        for (int i = 63; i >= 0; i--)
            if (n || v >> i & 1 || i == 0)
                out[n++] = v >> i & 1 ? '1' : '0';
        out[n] = '\0';
    } else {
        snprintf(out, 80,
                 type == 'x'   ? "%llx"
                 : type == 'X' ? "%llX"
                 : type == 'o' ? "%llo"
                               : "%llu",
                 (unsigned long long)v);
    }
}

static bool put_int(struct jrun *r, struct strbuf *out, const struct spec *o, int64_t v,
                    int64_t digits)
{
    struct strbuf body = STRBUF_INIT;
    struct jstr s;
    char text[80], sign[4] = "";

    (void)r;
    if (v < 0 || o->sign == '+' || o->sign == ' ')
        sign[0] = v < 0 ? '-' : o->sign;
    if (o->alt && o->type && strchr("xXob", o->type))
        snprintf(sign + strlen(sign), 3, "0%c", o->type);
    int_digits(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, o->type, text);
    for (int64_t n = (int64_t)strlen(text); n < digits; n++)
        strbuf_putc(&body, '0');
    if (o->comma)
        put_commas(&body, text);
    else
        strbuf_puts(&body, text);
    s = (struct jstr){ strbuf_str(&body), body.len };
    put_padded(out, o, o->align ? o->align : '>', sign, &s);
    out->failed |= body.failed;
    strbuf_release(&body);
    return true;
}

static void put_real(struct strbuf *out, const struct spec *o, double d)
{
    struct strbuf body = STRBUF_INIT;
    struct jstr s;
    char text[700], sign[2] = "", type = o->type;
    const double v = fabs(type == '%' ? d * 100 : d);
    const char *percent = type == '%' ? "%" : "";

    if (signbit(d) || o->sign == '+' || o->sign == ' ')
        sign[0] = signbit(d) ? '-' : o->sign;
    if (!type && o->precision < 0) {
        strbuf_release(&body);
        jput_float(&body, v);
        snprintf(text, sizeof text, "%s", strbuf_str(&body));
        strbuf_clear(&body);
    } else {
        const int p = o->precision < 0 ? 6 : (int)o->precision;

        type = type == '%' ? 'f' : type;
        if (type == 'e' || type == 'E')
            snprintf(text, sizeof text, type == 'e' ? "%.*e" : "%.*E", p, v);
        else if (type == 'f' || type == 'F')
            snprintf(text, sizeof text, "%.*f", p, v);
        else
            snprintf(text, sizeof text, type == 'G' ? "%.*G" : "%.*g", p ? p : 1, v);
        if (!type && isfinite(v) && !strpbrk(text, ".e"))
            strcat(text, ".0");
    }
    if (o->comma)
        put_commas(&body, text);
    else
        strbuf_puts(&body, text);
    strbuf_puts(&body, percent);
    s = (struct jstr){ strbuf_str(&body), body.len };
    put_padded(out, o, o->align ? o->align : '>', sign, &s);
    out->failed |= body.failed;
    strbuf_release(&body);
}

/* format(v, spec) */
static bool put_value(struct jrun *r, struct strbuf *out, const struct jval *v,
                      const struct jstr *text)
{
    struct spec o;
    struct jval s;
    struct jstr cut;

    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): callers pass a value */
    if (v->kind == J_UNDEFINED && text->len)
        return jfail(r, "unsupported format string passed to Undefined.__format__");
    if (!text->len)
        return jput_str(r, out, v);
    J_TRY(parse_spec(r, text, &o));
    if ((v->kind == J_INT || v->kind == J_BOOL) && (!o.type || strchr("dxXob", o.type))) {
        if (o.precision >= 0)
            return jfail(r, "precision not allowed in integer format specifier");
        return put_int(r, out, &o, jint_of(v), 0);
    }
    if ((jis_int(v) || v->kind == J_FLOAT) && o.type && strchr("eEfFgG%", o.type)) {
        put_real(out, &o, jis_int(v) ? (double)jint_of(v) : v->u.d);
        return true;
    }
    if (v->kind == J_FLOAT && !o.type) {
        if (o.precision >= 0)
            return jrefuse(r, "a precision without a type");
        put_real(out, &o, v->u.d);
        return true;
    }
    if (v->kind != J_STR || (o.type && o.type != 's') || o.sign || o.comma || o.alt ||
        o.align == '=')
        return jfail(r, "format \"%.*s\" does not fit a value of type '%s'",
                     text->len > 60 ? 60 : (int)text->len, text->p, jtype(v));
    J_TRY(jto_str(r, v, &s));
    cut = *s.u.s;
    if (o.precision >= 0)
        cut.len = joffset(&cut, o.precision);
    put_padded(out, &o, o.align ? o.align : '<', "", &cut);
    return true;
}

/* The value of a field like 0.name[key]; `next` counts the fields without a number. */
static bool find_field(struct jrun *r, const struct jstr *field, const struct jargs *a,
                       int64_t *next, struct jval *out)
{
    size_t at = 0;
    const struct jval *v = NULL;
    int64_t n = 0;
    struct jval name, x;

    while (at < field->len && field->p[at] != '.' && field->p[at] != '[')
        at++;
    if (at == 0) {
        n = (*next)++;
        v = n < a->n ? a->v + n : NULL;
    } else if (field->p[0] >= '0' && field->p[0] <= '9') {
        size_t k = 0;

        if (number(field, &k, &n) && k == at)
            v = n < a->n ? a->v + n : NULL;
    } else {
        v = a->kw ? jdict_get_str(a->kw, field->p, at) : NULL;
    }
    if (!v)
        return jfail(r, "no argument for \"{%.*s}\"", at > 60 ? 60 : (int)at, field->p);
    *out = *v;
    while (at < field->len) {
        const bool dot = field->p[at++] == '.';
        const size_t from = at;

        while (at < field->len &&
               (dot ? field->p[at] != '.' && field->p[at] != '[' : field->p[at] != ']'))
            at++;
        J_TRY(jstr_ref(r, field->p + from, at - from, &name));
        x = *out;
        if (dot) {
            J_TRY(jgetattr(r, &x, &name, out));
            continue;
        }
        at++;
        if (name.u.s->len && name.u.s->p[0] >= '0' && name.u.s->p[0] <= '9') {
            size_t k = 0;

            if (number(name.u.s, &k, &n) && k == name.u.s->len)
                name = jint(n);
        }
        J_TRY(jgetitem(r, &x, &name, out));
    }
    return true;
}

static bool put_field(struct jrun *r, struct strbuf *out, struct jstr field, const struct jargs *a,
                      int64_t *next)
{
    struct strbuf text = STRBUF_INIT;
    struct jstr spec = { "", 0 };
    const char *colon = memchr(field.p, ':', field.len);
    char conversion = '\0';
    struct jval v;
    bool ok;

    if (memchr(field.p, '{', field.len))
        return jrefuse(r, "a field within a format");
    if (colon) {
        spec = (struct jstr){ colon + 1, field.len - (size_t)(colon + 1 - field.p) };
        field.len = (size_t)(colon - field.p);
    }
    if (field.len > 1 && field.p[field.len - 2] == '!') {
        conversion = field.p[field.len - 1];
        field.len -= 2;
    }
    J_TRY(find_field(r, &field, a, next, &v));
    if (!conversion)
        return put_value(r, out, &v, &spec);
    if (conversion != 's' && conversion != 'r')
        return jrefuse(r, "conversion \"!%c\"", conversion);
    ok = conversion == 's' ? jput_str(r, &text, &v) : jput_repr(r, &text, &v);
    if (!ok) {
        strbuf_release(&text);
        return false;
    }
    return jstr_take(r, &text, &v) && put_value(r, out, &v, &spec);
}

static bool put_format(struct jrun *r, struct strbuf *out, const struct jstr *s,
                       const struct jargs *a)
{
    int64_t next = 0;

    for (size_t at = 0; at < s->len; at++) {
        const char c = s->p[at];
        const char *close;

        J_TRY(jsteps(r, 1));
        if ((c == '{' || c == '}') && at + 1 < s->len && s->p[at + 1] == c) {
            strbuf_putc(out, c);
            at++;
        } else if (c == '{') {
            close = memchr(s->p + at, '}', s->len - at);
            if (!close)
                return jfail(r, "expected '}' before end of string");
            J_TRY(put_field(r, out, (struct jstr){ s->p + at + 1, (size_t)(close - s->p) - at - 1 },
                            a, &next));
            at = (size_t)(close - s->p);
            if (out->len > JINJA_MAX_OUTPUT)
                return jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
        } else if (c == '}') {
            return jfail(r, "single '}' encountered in format string");
        } else {
            strbuf_putc(out, c);
        }
    }
    return true;
}

bool jformat_braces(struct jrun *r, const struct jval *self, const struct jargs *a,
                    struct jval *out)
{
    struct strbuf text = STRBUF_INIT;

    if (put_format(r, &text, self->u.s, a))
        return jstr_take(r, &text, out);
    strbuf_release(&text);
    return false;
}

/* One "%..." of the text at s[*at], behind the percent sign. */
struct percent {
    const struct jval *arg;
    int64_t used;
};

static bool next_argument(struct jrun *r, struct percent *p, const struct jval **out)
{
    const bool tuple = p->arg->kind == J_TUPLE;

    if (p->used >= (tuple ? p->arg->u.l->n : 1))
        return jfail(r, "not enough arguments for format string");
    *out = tuple ? p->arg->u.l->v + p->used : p->arg;
    p->used++;
    return true;
}

static bool percent_value(struct jrun *r, struct strbuf *out, struct spec *o, char type, bool left,
                          bool zero, const struct jval *v)
{
    struct strbuf text = STRBUF_INIT;
    struct jstr s;
    bool ok = true;

    o->align = left ? '<' : '>';
    if (strchr("diuxXo", type) || strchr("eEfFgG", type)) {
        if (v->kind == J_UNDEFINED)
            return jfail_undefined(r, v);
        if (!jis_int(v) && v->kind != J_FLOAT)
            return jfail(r, "%%%c format: a real number is required, not %s", type, jtype(v));
        if (zero && !left) {
            o->fill = (struct jstr){ "0", 1 };
            o->align = '=';
        }
        o->type = strchr("iu", type) ? 'd' : type;
        if (strchr("eEfFgG", type)) {
            put_real(out, o, jis_int(v) ? (double)jint_of(v) : v->u.d);
            return true;
        }
        if (v->kind == J_FLOAT && (strchr("xXo", type) || fabs(v->u.d) > 9e18))
            return jfail(r, "%%%c format: an integer is required, not float", type);
        return put_int(r, out, o, jis_int(v) ? jint_of(v) : (int64_t)v->u.d, o->precision);
    }
    if (type != 's' && type != 'r' && type != 'a')
        return jrefuse(r, "format \"%%%c\"", type);
    ok = type == 's' ? jput_str(r, &text, v) : jput_repr(r, &text, v);
    s = (struct jstr){ strbuf_str(&text), text.len };
    if (o->precision >= 0)
        s.len = joffset(&s, o->precision);
    if (ok)
        put_padded(out, o, o->align, "", &s);
    out->failed |= text.failed;
    strbuf_release(&text);
    return ok;
}

static bool percent_one(struct jrun *r, struct strbuf *out, const struct jstr *s, size_t *at,
                        struct percent *p)
{
    struct spec o = { .fill = { " ", 1 }, .width = -1, .precision = -1 };
    const struct jval *v = NULL;
    bool left = false, zero = false;

    if (*at < s->len && s->p[*at] == '(') {
        const char *close = memchr(s->p + *at, ')', s->len - *at);

        if (!close)
            return jfail(r, "incomplete format key");
        if (p->arg->kind != J_DICT)
            return jfail(r, "format requires a mapping");
        v = jdict_get_str(p->arg->u.m, s->p + *at + 1, (size_t)(close - s->p) - *at - 1);
        if (!v)
            return jfail(r, "the format names a key that is not there");
        *at = (size_t)(close - s->p) + 1;
    }
    for (; *at < s->len && s->p[*at] && strchr("#0- +", s->p[*at]); ++*at) {
        left |= s->p[*at] == '-';
        zero |= s->p[*at] == '0';
        o.alt |= s->p[*at] == '#';
        if (s->p[*at] == '+' || (s->p[*at] == ' ' && !o.sign))
            o.sign = s->p[*at];
    }
    if (!number(s, at, &o.width))
        return jrefuse(r, "a format of that width");
    if (*at < s->len && s->p[*at] == '.') {
        ++*at;
        if (!number(s, at, &o.precision) || o.precision > 300)
            return jrefuse(r, "a format of that precision");
    }
    if (*at >= s->len)
        return jfail(r, "incomplete format");
    if (s->p[*at] == '*')
        return jrefuse(r, "\"*\" in a format");
    if (s->p[*at] == '%') {
        strbuf_putc(out, '%');
    } else {
        if (!v)
            J_TRY(next_argument(r, p, &v));
        J_TRY(s->p[*at] ? percent_value(r, out, &o, s->p[*at], left, zero, v)
                        : jrefuse(r, "this format"));
    }
    ++*at;
    return true;
}

static bool put_percent(struct jrun *r, struct strbuf *out, const struct jstr *s,
                        const struct jval *arg)
{
    struct percent p = { arg, 0 };

    for (size_t at = 0; at < s->len;) {
        if (s->p[at] != '%') {
            strbuf_putc(out, s->p[at++]);
            continue;
        }
        at++;
        J_TRY(jsteps(r, 1) && percent_one(r, out, s, &at, &p));
        if (out->len > JINJA_MAX_OUTPUT)
            return jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
    }
    if (arg->kind == J_DICT || arg->kind == J_LIST || arg->kind == J_UNDEFINED)
        return true; /* mappings, as Python sees them, need not be used */
    if (p.used < (arg->kind == J_TUPLE ? arg->u.l->n : 1))
        return jfail(r, "not all arguments converted during string formatting");
    return true;
}

bool jformat_percent(struct jrun *r, const struct jstr *fmt, const struct jval *arg,
                     struct jval *out)
{
    struct strbuf text = STRBUF_INIT;

    if (put_percent(r, &text, fmt, arg))
        return jstr_take(r, &text, out);
    strbuf_release(&text);
    return false;
}

/* strftime ---------------------------------------------------------------------------------------
 */

static int day_of_year(const struct jinja_date *d)
{
    static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
    const bool leap = (d->year % 4 == 0 && d->year % 100 != 0) || d->year % 400 == 0;

    return before[(d->month + 11) % 12] + d->day + (leap && d->month > 2);
}

/* 0 = Sunday (Sakamoto's table). */
static int day_of_week(const struct jinja_date *d)
{
    static const int shift[] = { 0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4 };
    const int y = d->year - (d->month < 3);

    return (y + y / 4 - y / 100 + y / 400 + shift[(d->month + 11) % 12] + d->day) % 7;
}

static bool put_date(struct jrun *r, struct strbuf *out, char c, bool plain)
{
    static const char *const months[] = { "January",   "February", "March",    "April",
                                          "May",       "June",     "July",     "August",
                                          "September", "October",  "November", "December" };
    static const char *const days[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                        "Thursday", "Friday", "Saturday" };
    const struct jinja_date *d = r->now;
    const char *two = plain ? "%d" : "%02d";
    const char *month = months[(d->month + 11) % 12], *day = days[day_of_week(d)];

    if (c == 'Y')
        strbuf_printf(out, "%d", d->year);
    else if (c == 'y' || c == 'm' || c == 'd' || c == 'H' || c == 'M' || c == 'S' || c == 'I')
        strbuf_printf(out, two,
                      c == 'y'   ? d->year % 100
                      : c == 'm' ? d->month
                      : c == 'd' ? d->day
                      : c == 'H' ? d->hour
                      : c == 'M' ? d->minute
                      : c == 'S' ? d->second
                                 : (d->hour + 11) % 12 + 1);
    else if (c == 'e')
        strbuf_printf(out, plain ? "%d" : "%2d", d->day);
    else if (c == 'j')
        strbuf_printf(out, plain ? "%d" : "%03d", day_of_year(d));
    else if (c == 'B' || c == 'b' || c == 'h')
        strbuf_printf(out, "%.*s", c == 'B' ? 20 : 3, month);
    else if (c == 'A' || c == 'a')
        strbuf_printf(out, "%.*s", c == 'A' ? 20 : 3, day);
    else if (c == 'p')
        strbuf_puts(out, d->hour < 12 ? "AM" : "PM");
    else if (c == 'w')
        strbuf_printf(out, "%d", day_of_week(d));
    else if (c == 'u')
        strbuf_printf(out, "%d", day_of_week(d) ? day_of_week(d) : 7);
    else if (c == 'F')
        strbuf_printf(out, "%d-%02d-%02d", d->year, d->month, d->day);
    else if (c == 'D' || c == 'x')
        strbuf_printf(out, "%02d/%02d/%02d", d->month, d->day, d->year % 100);
    else if (c == 'T' || c == 'X')
        strbuf_printf(out, "%02d:%02d:%02d", d->hour, d->minute, d->second);
    else if (c == 'R')
        strbuf_printf(out, "%02d:%02d", d->hour, d->minute);
    else if (c == 'n' || c == 't')
        strbuf_putc(out, c == 'n' ? '\n' : '\t');
    else if (c == '%')
        strbuf_putc(out, '%');
    else if (c == 'f')
        strbuf_puts(out, "000000");
    else if (c == 'z' || c == 'Z')
        return true; /* a time without a zone has none */
    else
        return jrefuse(r, "date format \"%%%c\"", c);
    return true;
}

bool jstrftime(struct jrun *r, const struct jstr *fmt, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;

    if (!r->now)
        return jfail(r, "the template asks for today's date, and none is given");
    for (size_t at = 0; at < fmt->len; at++) {
        bool plain = false;

        if (fmt->p[at] != '%' || at + 1 == fmt->len) {
            strbuf_putc(&text, fmt->p[at]);
            continue;
        }
        at++;
        if (fmt->p[at] == '-' && at + 1 < fmt->len) {
            plain = true;
            at++;
        }
        if (!put_date(r, &text, fmt->p[at], plain)) {
            strbuf_release(&text);
            return false;
        }
    }
    return jstr_take(r, &text, out);
}
