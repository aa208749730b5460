/* Oniguruma (Ruby syntax) to PCRE2. The two differ in what \s, \w, \d and \p{...} hold, in
 * "X{n,m}+" (repeated there, possessive here), in \h, in (?m) and in where an option in the middle
 * of an expression ends. Classes are spelled out; constructs that were not checked are refused by
 * name. */
#include <string.h>

#include "data/pattern.h"
#include "data/unicode.h"

enum { GROUP_DEPTH = 64 };

static const char space_members[] =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";
static const char not_space_members[] =
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}"
    "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-"
    "\\x{10FFFF}";

struct translation {
    const char *s;
    size_t len, i;
    struct strbuf *out;
    size_t group[GROUP_DEPTH]; /* where each open group began in out */
    int depth;
    size_t atom; /* where the last atom began in out; SIZE_MAX: nothing to repeat */
    struct graft_err *err;
};

static enum graft_status refuse(const struct translation *t, size_t from, size_t len)
{
    if (len > t->len - from)
        len = t->len - from;
    return graft_fail(t->err, GRAFT_EFORMAT, "\"%.*s\" in a regular expression is not supported",
                      (int)len, t->s + from);
}

static bool at(const struct translation *t, const char *text)
{
    const size_t n = strlen(text);

    return t->len - t->i >= n && memcmp(t->s + t->i, text, n) == 0;
}

/* \w of Oniguruma: the table, but for what Latin-1 and the joiners make different. */
static void put_word_members(struct strbuf *out)
{
    strbuf_puts(out, "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}");
    for (size_t i = 0; i < unicode_word_count; i++)
        if (unicode_word[i].first != 0x200c)
            strbuf_printf(out, "\\x{%X}-\\x{%X}", (unsigned)unicode_word[i].first,
                          (unsigned)unicode_word[i].last);
}

/* The members of \p{NAME} as text for a class. */
static bool put_property(struct strbuf *out, const char *name, size_t len)
{
    static const char *const plain[] = { "Lt", "Mn", "Mc", "Me", "Nl", "No", "Z",  "Zs", "Zl",
                                         "Zp", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm",
                                         "Sc", "Sk", "So", "C",  "Cc", "Cf", "Co" };

    for (size_t i = 0; i < unicode_class_extra_count; i++) {
        const char *have = unicode_class_extra[i].name;
        const bool whole = have[0] == '=';

        have += whole;
        if (strlen(have) != len || memcmp(have, name, len) != 0)
            continue;
        if (!whole)
            strbuf_printf(out, "\\p{%s}", have);
        strbuf_puts(out, unicode_class_extra[i].members);
        return true;
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strlen(plain[i]) == len && memcmp(plain[i], name, len) == 0) {
            strbuf_printf(out, "\\p{%s}", plain[i]);
            return true;
        }
    return false;
}

/* Write class members, negated or not, inside or outside of [...]. */
static enum graft_status put_class(struct translation *t, const char *members, bool negated,
                                   bool inside, size_t from)
{
    if (inside && negated)
        return refuse(t, from, t->i - from);
    if (!inside)
        strbuf_puts(t->out, negated ? "[^" : "[");
    strbuf_puts(t->out, members);
    if (!inside)
        strbuf_putc(t->out, ']');
    return GRAFT_OK;
}

/* \p{X}, \P{X}, \p{^X}; t->i is behind the letter. */
static enum graft_status property(struct translation *t, bool negated, bool inside, size_t from)
{
    struct strbuf members = STRBUF_INIT;
    const char *close;
    size_t begin;
    enum graft_status st;

    if (t->i >= t->len || t->s[t->i] != '{')
        return refuse(t, from, 3);
    begin = ++t->i;
    close = memchr(t->s + begin, '}', t->len - begin);
    if (!close)
        return refuse(t, from, 3);
    t->i = (size_t)(close - t->s) + 1;
    if (t->s[begin] == '^') {
        negated = !negated;
        begin++;
    }
    if (!put_property(&members, t->s + begin, (size_t)(close - t->s) - begin))
        st = refuse(t, from, t->i - from);
    else
        st = put_class(t, strbuf_str(&members), negated, inside, from);
    t->out->failed |= members.failed;
    strbuf_release(&members);
    return st;
}

/* \s and its kin; false when c is none of them. */
static bool shorthand(struct translation *t, char c, bool inside, size_t from,
                      enum graft_status *st)
{
    struct strbuf members = STRBUF_INIT;
    const char lower = (char)(c | 0x20);
    bool negated = c != lower;

    if (lower == 's' && negated && inside) {
        strbuf_puts(&members, not_space_members);
        negated = false;
    } else if (lower == 's') {
        strbuf_puts(&members, space_members);
    } else if (lower == 'd') {
        put_property(&members, "Nd", 2);
    } else if (lower == 'w') {
        put_word_members(&members);
    } else if (lower == 'h') {
        strbuf_puts(&members, "0-9A-Fa-f");
    } else {
        return false;
    }
    *st = put_class(t, strbuf_str(&members), negated, inside, from);
    t->out->failed |= members.failed;
    strbuf_release(&members);
    return true;
}

/* \xHH, \x{H..}, \uHHHH; t->i is behind the letter. */
static enum graft_status number(struct translation *t, char kind, size_t from)
{
    const bool braces = kind == 'x' && t->i < t->len && t->s[t->i] == '{';
    const int most = braces ? 6 : kind == 'x' ? 2 : 4;
    uint32_t cp = 0;
    int digits = 0;

    t->i += braces;
    for (; t->i < t->len && digits < most; t->i++, digits++) {
        const char c = t->s[t->i];

        if (c >= '0' && c <= '9')
            cp = cp * 16 + (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            cp = cp * 16 + (uint32_t)((c | 0x20) - 'a' + 10);
        else
            break;
    }
    if (digits == 0 || (kind == 'u' && digits != 4) || cp > 0x10ffff || (cp & ~0x7ffu) == 0xd800 ||
        (kind == 'x' && !braces && cp > 0x7f) ||
        (braces && (t->i >= t->len || t->s[t->i++] != '}')))
        return refuse(t, from, t->i - from + 1);
    strbuf_printf(t->out, "\\x{%X}", (unsigned)cp);
    return GRAFT_OK;
}

/* What stands behind a backslash; t->i is at it. */
static enum graft_status escape(struct translation *t, bool inside)
{
    const size_t from = t->i - 1;
    enum graft_status st = GRAFT_OK;
    char c;

    if (t->i >= t->len)
        return refuse(t, from, 1);
    c = t->s[t->i++];
    if (c == 'p' || c == 'P')
        return property(t, c == 'P', inside, from);
    if (c == 'x' || c == 'u')
        return number(t, c, from);
    if (shorthand(t, c, inside, from, &st))
        return st;
    if (c == 'v')
        strbuf_puts(t->out, "\\x{B}");
    else if (c != '\0' && (strchr("nrtfae", c) || (!inside && strchr("AzZ", c))))
        strbuf_printf(t->out, "\\%c", c);
    else if (c > ' ' && c < 0x7f && !(c >= '0' && c <= '9') &&
             !((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
        strbuf_printf(t->out, "\\%c", c);
    else if (c == ' ')
        strbuf_puts(t->out, "\\x{20}");
    else
        return refuse(t, from, 2);
    return GRAFT_OK;
}

/* [...]; t->i is behind the bracket. Sets within sets and && are Oniguruma's own. */
static enum graft_status bracket(struct translation *t)
{
    const size_t from = t->i - 1;
    bool first = true;

    strbuf_putc(t->out, '[');
    if (t->i < t->len && t->s[t->i] == '^') {
        strbuf_putc(t->out, '^');
        t->i++;
    }
    for (;; first = false) {
        char c;

        if (t->i >= t->len)
            return refuse(t, from, 20);
        if (t->s[t->i] == '[' || at(t, "&&") || (first && t->s[t->i] == ']'))
            return refuse(t, t->i, 2);
        c = t->s[t->i++];
        if (c == ']')
            break;
        if (c == '\\')
            GRAFT_TRY(escape(t, true));
        else
            strbuf_putc(t->out, c);
    }
    strbuf_putc(t->out, ']');
    return GRAFT_OK;
}

/* (?:  (?=  (?i:  and so on; t->i is behind the parenthesis. */
static enum graft_status group(struct translation *t)
{
    static const char *const kinds[] = { "?:", "?=", "?!", "?<=", "?<!", "?>" };
    const size_t from = t->i - 1;

    if (t->depth >= GROUP_DEPTH)
        return graft_fail(t->err, GRAFT_EFORMAT,
                          "groups nested deeper than %d in a regular expression", GROUP_DEPTH);
    t->group[t->depth++] = t->out->len;
    t->atom = SIZE_MAX;
    strbuf_putc(t->out, '(');
    if (t->i < t->len && t->s[t->i] == '*')
        return refuse(t, from, 2);
    if (t->i >= t->len || t->s[t->i] != '?')
        return GRAFT_OK;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        if (at(t, kinds[k])) {
            strbuf_puts(t->out, kinds[k]);
            t->i += strlen(kinds[k]);
            return GRAFT_OK;
        }
    strbuf_puts(t->out, "?");
    for (t->i++; t->i < t->len && strchr("im-", t->s[t->i]) && t->s[t->i]; t->i++)
        strbuf_putc(t->out, t->s[t->i] == 'm' ? 's' : t->s[t->i]);
    if (t->i < t->len && t->s[t->i] == ':') {
        t->i++;
        strbuf_putc(t->out, ':');
        return GRAFT_OK;
    }
    if (t->i < t->len && t->s[t->i] == ')' && from == 0) { /* for the whole expression */
        t->i++;
        t->depth--;
        strbuf_putc(t->out, ')');
        return GRAFT_OK;
    }
    return refuse(t, from, 6);
}

/* {n}, {n,}, {,m}, {n,m}; false when the brace is a plain character. */
static bool interval(struct translation *t)
{
    size_t i = t->i, digits = 0, commas = 0;

    for (; i < t->len && t->s[i] != '}'; i++) {
        if (t->s[i] == ',')
            commas++;
        else if (t->s[i] >= '0' && t->s[i] <= '9')
            digits++;
        else
            return false;
    }
    if (i >= t->len || digits == 0 || commas > 1)
        return false;
    strbuf_puts(t->out, t->s[t->i] == ',' ? "{0" : "{");
    strbuf_add(t->out, t->s + t->i, i + 1 - t->i);
    t->i = i + 1;
    return true;
}

/* Put "(?:" before the last atom with its interval and ")" behind it. */
static void wrap_atom(struct translation *t)
{
    struct strbuf tail = STRBUF_INIT;

    strbuf_add(&tail, t->out->buf + t->atom, t->out->len - t->atom);
    t->out->len = t->atom;
    strbuf_puts(t->out, "(?:");
    strbuf_add(t->out, strbuf_str(&tail), tail.len);
    strbuf_putc(t->out, ')');
    t->out->failed |= tail.failed;
    strbuf_release(&tail);
}

/* One of * + ? { at t->i - 1. */
static enum graft_status quantifier(struct translation *t, char c)
{
    const size_t from = t->i - 1;

    if (c == '{' && !interval(t)) {
        t->atom = t->out->len;
        strbuf_puts(t->out, "\\{");
        return GRAFT_OK;
    }
    if (t->atom == SIZE_MAX)
        return refuse(t, from, 4);
    if (c == '{' && t->i < t->len && t->s[t->i] == '+') {
        wrap_atom(t);
    } else if (c == '{' && t->i < t->len && t->s[t->i] == '?') {
        return refuse(t, from, t->i - from + 1);
    } else if (c != '{') {
        strbuf_putc(t->out, c);
        if (t->i < t->len && (t->s[t->i] == '+' || t->s[t->i] == '?'))
            strbuf_putc(t->out, t->s[t->i++]);
        if (t->i < t->len && strchr("*+?", t->s[t->i]) && t->s[t->i])
            return refuse(t, from, 3);
        t->atom = SIZE_MAX;
    }
    return GRAFT_OK;
}

static enum graft_status step(struct translation *t)
{
    const char c = t->s[t->i++];
    const size_t begin = t->out->len;

    switch (c) {
    case '*':
    case '+':
    case '?':
    case '{':
        return quantifier(t, c);
    case '(':
        return group(t);
    case ')':
        if (t->depth == 0)
            return refuse(t, t->i - 1, 1);
        strbuf_putc(t->out, c);
        t->atom = t->group[--t->depth];
        return GRAFT_OK;
    case '|':
    case '^':
    case '$':
        strbuf_putc(t->out, c);
        t->atom = SIZE_MAX;
        return GRAFT_OK;
    case '[':
        t->atom = begin;
        return bracket(t);
    case '\\':
        t->atom = begin;
        return escape(t, false);
    case '\0':
        strbuf_puts(t->out, "\\x{0}");
        break;
    default:
        strbuf_putc(t->out, c);
        while (t->i < t->len && ((unsigned char)t->s[t->i] & 0xc0) == 0x80)
            strbuf_putc(t->out, t->s[t->i++]);
    }
    t->atom = begin;
    return GRAFT_OK;
}

enum graft_status pattern_translate(const char *text, size_t len, struct strbuf *out,
                                    struct graft_err *err)
{
    struct translation t = { .s = text, .len = len, .out = out, .atom = SIZE_MAX, .err = err };

    while (t.i < len)
        GRAFT_TRY(step(&t));
    if (t.depth)
        return graft_fail(err, GRAFT_EFORMAT, "a regular expression with an open parenthesis");
    if (out->failed)
        return graft_fail_nomem(err, "a regular expression", len);
    return GRAFT_OK;
}
