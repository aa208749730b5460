/* Values to text as Python's str(), repr() and json.dumps() write them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "data/jinja_impl.h"

/* repr of a float: the fewest digits that read back the same, an exponent below 1e-4 and from
 * 1e16. */
void jput_float(struct strbuf *out, double d)
{
    char text[40], digits[24];
    int exp, n = 0;

    if (!isfinite(d)) {
        strbuf_puts(out, isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return;
    }
    for (int p = 0; p < 17; p++) {
        snprintf(text, sizeof text, "%.*e", p, d);
        if (strtod(text, NULL) == d)
            break;
    }
    if (signbit(d))
        strbuf_putc(out, '-');
    for (const char *c = text; *c && *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            digits[n++] = *c;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    digits[n] = '\0';
    exp = atoi(strchr(text, 'e') + 1);
    if (exp < -4 || exp >= 16) {
        strbuf_printf(out, "%c%s%.*se%c%02d", digits[0], n > 1 ? "." : "", n > 1 ? n - 1 : 0,
                      digits + 1, exp < 0 ? '-' : '+', abs(exp));
    } else if (exp < 0) {
        strbuf_printf(out, "0.%.*s%s", -exp - 1, "000", digits);
    } else {
        for (int i = 0; i < n || i <= exp; i++) {
            strbuf_putc(out, i < n ? digits[i] : '0');
            if (i == exp)
                strbuf_putc(out, '.');
        }
        if (n <= exp + 1)
            strbuf_putc(out, '0');
    }
}

static bool printable(uint32_t cp)
{
    const int c = utf8proc_category((int32_t)cp);

    return cp == ' ' ||
           (c != UTF8PROC_CATEGORY_CC && c != UTF8PROC_CATEGORY_CF && c != UTF8PROC_CATEGORY_CS &&
            c != UTF8PROC_CATEGORY_CO && c != UTF8PROC_CATEGORY_CN && c != UTF8PROC_CATEGORY_ZL &&
            c != UTF8PROC_CATEGORY_ZP && c != UTF8PROC_CATEGORY_ZS);
}

static void repr_string(struct strbuf *out, const struct jstr *s)
{
    const bool twice = memchr(s->p, '\'', s->len) && !memchr(s->p, '"', s->len);
    const char quote = twice ? '"' : '\'';

    strbuf_putc(out, quote);
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        const size_t n = jchar(s->p + at, s->len - at, &cp);

        if (cp == (unsigned char)quote || cp == '\\')
            strbuf_printf(out, "\\%c", (char)cp);
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            strbuf_puts(out, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        else if (printable(cp))
            strbuf_add(out, s->p + at, n);
        else
            strbuf_printf(out,
                          cp < 0x100     ? "\\x%02x"
                          : cp < 0x10000 ? "\\u%04x"
                                         : "\\U%08x",
                          (unsigned)cp);
        at += n;
    }
    strbuf_putc(out, quote);
}

static bool repr_list(struct jrun *r, struct strbuf *out, const struct jval *v)
{
    const struct jlist *l = v->u.l;
    const bool tuple = v->kind == J_TUPLE;

    strbuf_putc(out, tuple ? '(' : '[');
    for (int64_t i = 0; i < l->n; i++) {
        if (i)
            strbuf_puts(out, ", ");
        J_TRY(jput_repr(r, out, l->v + i));
    }
    strbuf_puts(out, tuple ? (l->n == 1 ? ",)" : ")") : "]");
    return true;
}

static bool repr_dict(struct jrun *r, struct strbuf *out, const struct jdict *m)
{
    strbuf_putc(out, '{');
    for (int64_t i = 0; i < m->n; i++) {
        if (i)
            strbuf_puts(out, ", ");
        J_TRY(jput_repr(r, out, &m->at[i].key));
        strbuf_puts(out, ": ");
        J_TRY(jput_repr(r, out, &m->at[i].value));
    }
    strbuf_putc(out, '}');
    return true;
}

static bool repr_other(struct jrun *r, struct strbuf *out, const struct jval *v)
{
    const struct jrange *g = v->u.range;
    bool there;

    switch (v->kind) {
    case J_VIEW:
        strbuf_printf(out, "%s(", v->u.l->name);
        J_TRY(repr_list(r, out, v));
        strbuf_putc(out, ')');
        return true;
    case J_RANGE:
        strbuf_printf(out, "range(%lld, %lld", (long long)g->start, (long long)g->stop);
        if (g->step != 1)
            strbuf_printf(out, ", %lld", (long long)g->step);
        strbuf_putc(out, ')');
        return true;
    case J_NAMESPACE:
        strbuf_puts(out, "<Namespace ");
        J_TRY(repr_dict(r, out, v->u.m));
        strbuf_putc(out, '>');
        return true;
    case J_LOOP:
        J_TRY(jloop_ahead(r, v->u.loop, INT64_MAX, &there));
        strbuf_printf(out, "<LoopContext %lld/%lld>", (long long)v->u.loop->index0 + 1,
                      (long long)v->u.loop->got.n);
        return true;
    case J_MACRO:
        strbuf_printf(out, "<Macro '%.*s'>", (int)v->u.macro->node->text->len,
                      v->u.macro->node->text->p);
        return true;
    default:
        return jrefuse(r, "printing a %s", jtype(v));
    }
}

bool jput_repr(struct jrun *r, struct strbuf *out, const struct jval *v)
{
    bool ok = true;

    J_TRY(jsteps(r, 1) && jdeeper(r));
    if (out->len > JINJA_MAX_OUTPUT) {
        ok = jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
    } else {
        switch (v->kind) {
        case J_MISSING:
        case J_UNDEFINED:
            strbuf_puts(out, "Undefined");
            break;
        case J_NONE:
            strbuf_puts(out, "None");
            break;
        case J_BOOL:
            strbuf_puts(out, v->u.b ? "True" : "False");
            break;
        case J_INT:
            strbuf_printf(out, "%lld", (long long)v->u.i);
            break;
        case J_FLOAT:
            jput_float(out, v->u.d);
            break;
        case J_STR:
            if (v->safe)
                strbuf_puts(out, "Markup(");
            repr_string(out, v->u.s);
            if (v->safe)
                strbuf_putc(out, ')');
            break;
        case J_LIST:
        case J_TUPLE:
            ok = repr_list(r, out, v);
            break;
        case J_DICT:
            ok = repr_dict(r, out, v->u.m);
            break;
        default:
            ok = repr_other(r, out, v);
        }
    }
    r->depth--;
    return ok;
}

bool jput_str(struct jrun *r, struct strbuf *out, const struct jval *v)
{
    if (v->kind == J_UNDEFINED)
        return true;
    if (v->kind != J_STR)
        return jput_repr(r, out, v);
    strbuf_add(out, v->u.s->p, v->u.s->len);
    return true;
}

bool jto_str(struct jrun *r, const struct jval *v, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;

    if (v->kind == J_STR) {
        *out = *v;
        return true;
    }
    if (jput_str(r, &text, v))
        return jstr_take(r, &text, out);
    strbuf_release(&text);
    return false;
}

bool jput_escaped(struct jrun *r, struct strbuf *out, const struct jval *v)
{
    struct jval s;

    J_TRY(jto_str(r, v, &s));
    if (v->kind == J_STR && v->safe) {
        strbuf_add(out, s.u.s->p, s.u.s->len);
        return true;
    }
    for (size_t i = 0; i < s.u.s->len; i++) {
        const char c = s.u.s->p[i];

        if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\'')
            strbuf_puts(out, c == '&'   ? "&amp;"
                             : c == '<' ? "&lt;"
                             : c == '>' ? "&gt;"
                             : c == '"' ? "&#34;"
                                        : "&#39;");
        else
            strbuf_putc(out, c);
    }
    return true;
}

/* json.dumps ----------------------------------------------------------------------------------- */

struct dump {
    bool ascii, sort;
    bool pretty;
    struct jstr indent, item, key; /* a level, between items, behind keys */
};

static void dump_string(struct strbuf *out, const struct jstr *s, bool ascii)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";

    strbuf_putc(out, '"');
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        const size_t n = jchar(s->p + at, s->len - at, &cp);
        const char *f = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;

        if (f)
            strbuf_printf(out, "\\%c", to[f - from]);
        else if (cp < 0x20 || (ascii && cp >= 0x7f && cp < 0x10000 && (cp != 0x7f)))
            strbuf_printf(out, "\\u%04x", (unsigned)cp);
        else if (ascii && cp >= 0x10000)
            strbuf_printf(out, "\\u%04x\\u%04x", 0xd7c0u + (unsigned)(cp >> 10),
                          0xdc00u + (unsigned)(cp & 0x3ff));
        else
            strbuf_add(out, s->p + at, n);
        at += n;
    }
    strbuf_putc(out, '"');
}

static void dump_float(struct strbuf *out, double d)
{
    if (isfinite(d))
        jput_float(out, d);
    else
        strbuf_puts(out, isnan(d) ? "NaN" : d < 0 ? "-Infinity" : "Infinity");
}

static void new_line(struct strbuf *out, const struct dump *o, int level)
{
    if (!o->pretty)
        return;
    strbuf_putc(out, '\n');
    for (int i = 0; i < level; i++)
        strbuf_add(out, o->indent.p, o->indent.len);
}

static bool dump(struct jrun *r, struct strbuf *out, const struct dump *o, const struct jval *v,
                 int level);

static bool dump_key(struct jrun *r, struct strbuf *out, const struct dump *o,
                     const struct jval *key)
{
    struct jval text;

    if (key->kind == J_STR) {
        dump_string(out, key->u.s, o->ascii);
        return true;
    }
    if (key->kind > J_FLOAT || key->kind < J_NONE)
        return jfail(r, "keys must be str, int, float, bool or None, not %s", jtype(key));
    strbuf_putc(out, '"');
    if (key->kind == J_NONE)
        strbuf_puts(out, "null");
    else if (key->kind == J_BOOL)
        strbuf_puts(out, key->u.b ? "true" : "false");
    else if (key->kind == J_FLOAT)
        dump_float(out, key->u.d);
    else if (jto_str(r, key, &text))
        strbuf_add(out, text.u.s->p, text.u.s->len);
    strbuf_putc(out, '"');
    return true;
}

/* The order of m's entries by key, as sorted(m.items()) has it; arena memory. */
static bool sorted_keys(struct jrun *r, const struct jdict *m, const struct jpair ***out)
{
    const struct jpair **at = jalloc(r, (size_t)(m->n + 1) * sizeof *at);

    J_TRY(at);
    for (int64_t i = 0; i < m->n; i++) {
        int64_t k = i;
        bool less = true;

        for (; k > 0; k--) {
            J_TRY(jless(r, &m->at[i].key, &at[k - 1]->key, "<", &less));
            if (!less)
                break;
            at[k] = at[k - 1];
        }
        at[k] = m->at + i;
    }
    *out = at;
    return true;
}

static bool dump_dict(struct jrun *r, struct strbuf *out, const struct dump *o,
                      const struct jdict *m, int level)
{
    const struct jpair **order = NULL;

    strbuf_putc(out, '{');
    if (o->sort)
        J_TRY(sorted_keys(r, m, &order));
    for (int64_t i = 0; i < m->n; i++) {
        const struct jpair *e = order ? order[i] : m->at + i;

        if (i)
            strbuf_add(out, o->item.p, o->item.len);
        new_line(out, o, level + 1);
        J_TRY(dump_key(r, out, o, &e->key));
        strbuf_add(out, o->key.p, o->key.len);
        J_TRY(dump(r, out, o, &e->value, level + 1));
    }
    if (m->n)
        new_line(out, o, level);
    strbuf_putc(out, '}');
    return true;
}

static bool dump_list(struct jrun *r, struct strbuf *out, const struct dump *o,
                      const struct jlist *l, int level)
{
    strbuf_putc(out, '[');
    for (int64_t i = 0; i < l->n; i++) {
        if (i)
            strbuf_add(out, o->item.p, o->item.len);
        new_line(out, o, level + 1);
        J_TRY(dump(r, out, o, l->v + i, level + 1));
    }
    if (l->n)
        new_line(out, o, level);
    strbuf_putc(out, ']');
    return true;
}

static bool dump(struct jrun *r, struct strbuf *out, const struct dump *o, const struct jval *v,
                 int level)
{
    bool ok = true;

    J_TRY(jsteps(r, 1) && jdeeper(r));
    if (out->len > JINJA_MAX_OUTPUT)
        ok = jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
    else if (v->kind == J_NONE)
        strbuf_puts(out, "null");
    else if (v->kind == J_BOOL)
        strbuf_puts(out, v->u.b ? "true" : "false");
    else if (v->kind == J_INT)
        strbuf_printf(out, "%lld", (long long)v->u.i);
    else if (v->kind == J_FLOAT)
        dump_float(out, v->u.d);
    else if (v->kind == J_STR)
        dump_string(out, v->u.s, o->ascii);
    else if (v->kind == J_DICT)
        ok = dump_dict(r, out, o, v->u.m, level);
    else if (v->kind == J_LIST || v->kind == J_TUPLE)
        ok = dump_list(r, out, o, v->u.l, level);
    else
        ok = jfail(r, "object of type %s is not JSON serializable", jtype(v));
    r->depth--;
    return ok;
}

static bool dump_options(struct jrun *r, const struct jval *v, struct dump *o)
{
    *o = (struct dump){ .item = { ", ", 2 }, .key = { ": ", 2 } };
    o->ascii = jtruth(v);
    o->sort = jtruth(v + 3);
    if (v[1].kind == J_STR) {
        o->indent = *v[1].u.s;
        o->pretty = true;
    } else if (jis_int(v + 1)) {
        const int64_t n = jint_of(v + 1);
        char *blank;

        if (n > 100)
            return jrefuse(r, "an indent of more than 100");
        o->indent.len = n > 0 ? (size_t)n : 0;
        J_TRY(blank = jalloc(r, o->indent.len + 1));
        memset(blank, ' ', o->indent.len);
        o->indent.p = blank;
        o->pretty = true;
    } else if (v[1].kind > J_NONE) {
        return jfail(r, "indent is a %s, not a number", jtype(v + 1));
    }
    if (o->pretty)
        o->item.len = 1;
    if (v[2].kind <= J_NONE)
        return v[2].kind != J_UNDEFINED || jfail_undefined(r, v + 2);
    if ((v[2].kind != J_LIST && v[2].kind != J_TUPLE) || v[2].u.l->n != 2 ||
        v[2].u.l->v[0].kind != J_STR || v[2].u.l->v[1].kind != J_STR)
        return jfail(r, "separators are not two strings");
    o->item = *v[2].u.l->v[0].u.s;
    o->key = *v[2].u.l->v[1].u.s;
    return true;
}

bool jfilter_tojson(struct jrun *r, const struct jval *in, const struct jargs *a, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;
    struct jval v[JINJA_MAX_ARGS];
    struct dump o;

    J_TRY(jbind(r, "tojson", a, "ensure_ascii,indent,separators,sort_keys", 0, v));
    J_TRY(dump_options(r, v, &o));
    if (dump(r, &text, &o, in, 0))
        return jstr_take(r, &text, out);
    strbuf_release(&text);
    return false;
}
