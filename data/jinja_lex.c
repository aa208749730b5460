/* A template's text to tokens. What Jinja2 does with regular expressions, with trim_blocks and
 * lstrip_blocks set: a newline behind a block or comment goes, and blanks before one at the start
 * of a line. */
#include <stdlib.h>
#include <string.h>

#include "data/jinja_impl.h"
#include "data/unicode.h"

struct lexer {
    struct jparser *p;
    const char *s;
    size_t len, at;
    int line;
    size_t counted;   /* line is that of this place */
    bool line_starts; /* the last thing matched ended with a newline */
};

static int line_at(struct lexer *x, size_t at)
{
    for (; x->counted < at; x->counted++)
        x->line += x->s[x->counted] == '\n';
    return x->line;
}

static struct jtoken *add(struct lexer *x, int type, size_t from, size_t len)
{
    struct jparser *p = x->p;
    struct jtoken *t;

    if (p->n == p->cap) {
        const int64_t cap = p->cap ? 2 * p->cap : 256;

        t = mem_resize(p->tok, (size_t)p->cap * sizeof *t, (size_t)cap * sizeof *t);
        if (!t) {
            p->status = graft_fail_nomem(p->err, "a template", (size_t)cap * sizeof *t);
            return NULL;
        }
        p->tok = t;
        p->cap = cap;
    }
    t = p->tok + p->n++;
    *t = (struct jtoken){ .type = (uint8_t)type,
                          .line = line_at(x, from),
                          .s = { x->s + from, len } };
    return t;
}

static bool here(const struct lexer *x, size_t at, const char *text)
{
    const size_t n = strlen(text);

    return x->len - at >= n && memcmp(x->s + at, text, n) == 0;
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    uint32_t cp;

    while (at < x->len) {
        const size_t n = jchar(x->s + at, x->len - at, &cp);

        if (!jspace(cp))
            break;
        at += n;
    }
    return at;
}

/* The end of a tag at `at`: 0 when there is none, else where the text goes on. */
static size_t tag_end(const struct lexer *x, size_t at, const char *close, bool trim)
{
    if (trim && x->s[at] == '+' && here(x, at + 1, close))
        return at + 3;
    if (x->s[at] == '-' && here(x, at + 1, close))
        return skip_space(x, at + 3);
    if (!here(x, at, close))
        return 0;
    return at + 2 + (trim && at + 2 < x->len && x->s[at + 2] == '\n');
}

/* "{%- raw %}" at `at`; 0 when it is another tag. */
static size_t raw_begin(const struct lexer *x, size_t at)
{
    at += 2;
    at += at < x->len && (x->s[at] == '-' || x->s[at] == '+');
    at = skip_space(x, at);
    if (!here(x, at, "raw"))
        return 0;
    at = skip_space(x, at + 3);
    if (at >= x->len || x->s[at] == '+')
        return 0;
    return tag_end(x, at, "%}", false);
}

/* Text [from, to) before a tag whose sign is `sign`. */
static bool add_data(struct lexer *x, size_t from, size_t to, char sign, bool variable)
{
    size_t end = to;

    if (sign == '-') {
        end = from + jstrip((struct jstr){ x->s + from, to - from }, NULL, 2).len;
    } else if (sign != '+' && !variable) {
        size_t line = to;

        while (line > from && x->s[line - 1] != '\n')
            line--;
        if ((line > from || x->line_starts) && line < to &&
            jstrip((struct jstr){ x->s + line, to - line }, NULL, 1).len == 0)
            end = line;
    }
    return end == from || add(x, T_DATA, from, end - from);
}

static bool lex_raw(struct lexer *x)
{
    const size_t from = x->at;

    for (size_t at = from; at + 1 < x->len; at++) {
        size_t k = at + 2;
        char sign = 0;

        if (!here(x, at, "{%"))
            continue;
        if (k < x->len && (x->s[k] == '-' || x->s[k] == '+'))
            sign = x->s[k++];
        k = skip_space(x, k);
        if (!here(x, k, "endraw"))
            continue;
        k = skip_space(x, k + 6);
        k = k < x->len ? tag_end(x, k, "%}", true) : 0;
        if (!k)
            continue;
        J_TRY(add_data(x, from, at, sign, false));
        x->line_starts = x->s[k - 1] == '\n';
        x->at = k;
        return true;
    }
    return jparse_fail(x->p, line_at(x, from), "missing end of raw directive");
}

static bool lex_comment(struct lexer *x)
{
    for (size_t at = x->at; at < x->len; at++) {
        const size_t end = tag_end(x, at, "#}", true);

        if (end) {
            x->line_starts = x->s[end - 1] == '\n';
            x->at = end;
            return true;
        }
    }
    return jparse_fail(x->p, line_at(x, x->at), "missing end of comment tag");
}

/* Code of an escape of `n` hexadecimal digits behind s[*at]. */
static bool hex_escape(struct lexer *x, size_t *at, size_t end, int n, struct strbuf *out)
{
    uint32_t cp = 0;

    for (int i = 0; i < n; i++) {
        const char *digits = "0123456789abcdef";
        const char c = *at < end ? x->s[*at] : '\0';
        const char *d = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;

        if (!d)
            return jparse_fail(x->p, line_at(x, *at), "truncated escape in a string");
        cp = cp << 4 | (uint32_t)(d - digits);
        ++*at;
    }
    if (cp > 0x10ffff)
        return jparse_fail(x->p, line_at(x, *at), "illegal Unicode character in a string");
    if (cp >= 0xd800 && cp < 0xe000)
        return jparse_refuse(x->p, line_at(x, *at), "half a surrogate pair in a string");
    strbuf_put_utf8(out, cp);
    return true;
}

/* Python's unicode-escape codec, over text of which all beyond ASCII was escaped before. */
static bool unescape(struct lexer *x, size_t at, size_t end, struct strbuf *out)
{
    while (at < end) {
        static const char from[] = "ntr\\'\"abfv", to[] = "\n\t\r\\'\"\a\b\f\v";
        const char c = x->s[at++];
        const char *f;
        uint32_t cp = 0;

        if (c != '\\') {
            strbuf_putc(out, c);
            continue;
        }
        f = strchr(from, x->s[at]);
        if (x->s[at] == '\n') {
            at++;
        } else if (f && *f) {
            strbuf_putc(out, to[f - from]);
            at++;
        } else if (x->s[at] >= '0' && x->s[at] <= '7') {
            for (int i = 0; i < 3 && at < end && x->s[at] >= '0' && x->s[at] <= '7'; i++)
                cp = cp * 8 + (uint32_t)(x->s[at++] - '0');
            strbuf_put_utf8(out, cp);
        } else if (x->s[at] == 'x' || x->s[at] == 'u' || x->s[at] == 'U') {
            const char kind = x->s[at++];

            J_TRY(hex_escape(x, &at, end, kind == 'x' ? 2 : kind == 'u' ? 4 : 8, out));
        } else if (x->s[at] == 'N' || (unsigned char)x->s[at] >= 0x80) {
            return jparse_refuse(x->p, line_at(x, at), "escape \"\\%.*s\" in a string",
                                 x->s[at] == 'N' ? 1 : 0, x->s + at);
        } else {
            strbuf_putc(out, c);
        }
    }
    return true;
}

static bool lex_string(struct lexer *x)
{
    const char quote = x->s[x->at];
    size_t end = x->at + 1;
    struct strbuf text = STRBUF_INIT;
    struct jtoken *t;
    char *copy;

    while (end < x->len && x->s[end] != quote)
        end += 1 + (x->s[end] == '\\');
    if (end >= x->len)
        return jparse_fail(x->p, line_at(x, x->at), "a string without its end");
    if (!unescape(x, x->at + 1, end, &text)) {
        strbuf_release(&text);
        return false;
    }
    copy = jparse_alloc(x->p, text.len + 1);
    if (copy && text.len)
        memcpy(copy, text.buf, text.len);
    t = copy ? add(x, T_STRING, x->at, 0) : NULL;
    if (t)
        t->s = (struct jstr){ copy, text.len };
    if (text.failed)
        x->p->status = graft_fail_nomem(x->p->err, "a string", text.cap);
    strbuf_release(&text);
    x->at = end + 1;
    return t && !x->p->status;
}

/* Digits with single underscores between them, from `at`; where they end. */
static size_t digits(const struct lexer *x, size_t at, int base)
{
    for (;;) {
        const size_t k = at + (at < x->len && x->s[at] == '_');
        const char c = k < x->len ? (char)(x->s[k] | 32) : '\0';
        const int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;

        if (v >= base || (k < x->len && x->s[k] < '0'))
            return at;
        at = k + 1;
    }
}

static bool lex_number(struct lexer *x)
{
    const size_t from = x->at;
    const bool after_dot = from && x->s[from - 1] == '.';
    size_t end = digits(x, from, 10), k = end;
    int base = 10;
    bool real = false;
    char text[512];
    size_t n = 0;
    struct jtoken *t;

    if (!after_dot) {
        if (k + 1 < x->len && x->s[k] == '.' && x->s[k + 1] >= '0' && x->s[k + 1] <= '9') {
            k = digits(x, k + 1, 10);
            real = true;
        }
        if (k + 1 < x->len && (x->s[k] | 32) == 'e') {
            size_t e = k + 1 + (x->s[k + 1] == '+' || x->s[k + 1] == '-');

            if (e < x->len && x->s[e] >= '0' && x->s[e] <= '9') {
                k = digits(x, e, 10);
                real = true;
            }
        }
    }
    if (!real && x->s[from] == '0') {
        const char c = from + 1 < x->len ? (char)(x->s[from + 1] | 32) : '\0';
        const int b = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 0;

        k = b ? digits(x, from + 2, b) : from + 2;
        base = b && k > from + 2 ? b : 10;
        end = base != 10 ? k : digits(x, from, 1); /* zeros only */
    } else if (real) {
        end = k;
    }
    for (k = from + (base == 10 ? 0 : 2); k < end; k++)
        if (x->s[k] != '_' && n < sizeof text - 1)
            text[n++] = x->s[k];
    text[n] = '\0';
    t = add(x, real ? T_FLOAT : T_INT, from, end - from);
    if (!t)
        return false;
    x->at = end;
    if (real) {
        t->d = strtod(text, NULL);
        return n < sizeof text - 1 ||
               jparse_refuse(x->p, t->line, "number of more than %d digits", (int)sizeof text);
    }
    for (k = 0; k < n; k++) {
        const int v = text[k] <= '9' ? text[k] - '0' : (text[k] | 32) - 'a' + 10;

        if (__builtin_mul_overflow(t->i, base, &t->i) || __builtin_add_overflow(t->i, v, &t->i))
            return jparse_refuse(x->p, t->line, "integer beyond 64 bits");
    }
    return true;
}

static bool lex_name(struct lexer *x)
{
    const size_t from = x->at;
    uint32_t cp;

    while (x->at < x->len) {
        const size_t n = jchar(x->s + x->at, x->len - x->at, &cp);

        if (!unicode_is_word(cp))
            break;
        x->at += n;
    }
    if (x->at == from) {
        jchar(x->s + from, x->len - from, &cp);
        return jparse_fail(x->p, line_at(x, from), "unexpected character U+%04X", (unsigned)cp);
    }
    return add(x, T_NAME, from, x->at - from);
}

struct operator_def {
    const char *text;
    int type;
};
static const struct operator_def operators[] = {
    { "//", T_FLOORDIV }, { "**", T_POW },      { "==", T_EQ },    { "!=", T_NE },
    { ">=", T_GE },       { "<=", T_LE },       { "+", T_ADD },    { "-", T_SUB },
    { "/", T_DIV },       { "*", T_MUL },       { "%", T_MOD },    { "~", T_TILDE },
    { "[", T_LBRACKET },  { "]", T_RBRACKET },  { "(", T_LPAREN }, { ")", T_RPAREN },
    { "{", T_LBRACE },    { "}", T_RBRACE },    { ">", T_GT },     { "<", T_LT },
    { "=", T_ASSIGN },    { ".", T_DOT },       { ":", T_COLON },  { "|", T_PIPE },
    { ",", T_COMMA },     { ";", T_SEMICOLON },
};

/* One operator; `open` holds the brackets that are open. False with *found unset: none is here. */
static bool lex_operator(struct lexer *x, struct strbuf *open, bool *found)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        const struct operator_def *o = operators + i;

        if (!here(x, x->at, o->text))
            continue;
        *found = true;
        if (o->type == T_LBRACE || o->type == T_LPAREN || o->type == T_LBRACKET) {
            strbuf_putc(open, o->type == T_LBRACE ? '}' : o->type == T_LPAREN ? ')' : ']');
            if (open->failed) {
                x->p->status = graft_fail_nomem(x->p->err, "a template", open->cap);
                return false;
            }
        } else if (o->type == T_RBRACE || o->type == T_RPAREN || o->type == T_RBRACKET) {
            if (!open->len || open->buf[open->len - 1] != *o->text)
                return jparse_fail(x->p, line_at(x, x->at), "unexpected '%s'%s%.1s%s", o->text,
                                   open->len ? ", expected '" : "",
                                   open->len ? open->buf + open->len - 1 : "",
                                   open->len ? "'" : "");
            open->buf[--open->len] = '\0';
        }
        J_TRY(add(x, o->type, x->at, strlen(o->text)));
        x->at += strlen(o->text);
        return true;
    }
    *found = false;
    return true;
}

/* What is inside {% %} or {{ }}, with its end. */
static bool lex_tag(struct lexer *x, bool variable)
{
    struct strbuf open = STRBUF_INIT;
    bool ok = true;

    while (ok) {
        size_t end;
        bool found = true;

        x->at = skip_space(x, x->at);
        if (x->at >= x->len)
            break; /* the parser tells what is missing */
        end = open.len ? 0 : tag_end(x, x->at, variable ? "}}" : "%}", !variable);
        if (end) {
            ok = add(x, variable ? T_VAR_END : T_BLOCK_END, x->at, 2);
            x->line_starts = x->s[end - 1] == '\n';
            x->at = end;
            break;
        }
        if (x->s[x->at] >= '0' && x->s[x->at] <= '9')
            ok = lex_number(x);
        else if (x->s[x->at] == '\'' || x->s[x->at] == '"')
            ok = lex_string(x);
        else
            ok = lex_operator(x, &open, &found) && (found || lex_name(x));
    }
    strbuf_release(&open);
    return ok;
}

static bool lex_next(struct lexer *x)
{
    const size_t from = x->at;
    size_t tag = from, raw;
    char kind, sign;

    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): a set of characters, no string */
    while (tag + 1 < x->len && !(x->s[tag] == '{' && memchr("%{#", x->s[tag + 1], 3)))
        tag++;
    if (tag + 1 >= x->len) {
        x->at = x->len;
        return add(x, T_DATA, from, x->len - from);
    }
    kind = x->s[tag + 1];
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result) */
    sign = tag + 2 < x->len && memchr("-+", x->s[tag + 2], 2) ? x->s[tag + 2] : '\0';
    raw = kind == '%' ? raw_begin(x, tag) : 0;
    J_TRY(add_data(x, from, tag, sign, kind == '{'));
    if (raw) {
        x->line_starts = x->s[raw - 1] == '\n';
        x->at = raw;
        return lex_raw(x);
    }
    x->at = tag + 2 + (sign != '\0');
    x->line_starts = false;
    if (kind == '#')
        return lex_comment(x);
    J_TRY(add(x, kind == '{' ? T_VAR_BEGIN : T_BLOCK_BEGIN, tag, 2));
    return lex_tag(x, kind == '{');
}

bool jlex(struct jparser *p, const char *text, size_t len)
{
    struct lexer x = { .p = p, .s = text, .len = len, .line = 1, .line_starts = true };

    while (x.at < len)
        J_TRY(lex_next(&x));
    return add(&x, T_EOF, len, 0);
}
