/* What Python does with strings: code points, white space, case, search. */
#include <string.h>
#include <utf8proc.h>

#include "data/jinja_impl.h"

size_t jchar(const char *p, size_t len, uint32_t *cp)
{
    const int n = utf8_next(p, len, cp);

    return n ? (size_t)n : (*cp = 0xfffd, 1); /* inputs are valid, so this does not happen */
}

bool jspace(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 32) || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

int64_t jchars(const struct jstr *s)
{
    int64_t n = 0;

    for (size_t i = 0; i < s->len; i++)
        n += ((unsigned char)s->p[i] & 0xc0) != 0x80;
    return n;
}

size_t joffset(const struct jstr *s, int64_t chars)
{
    size_t at = 0;
    uint32_t cp;

    while (chars-- > 0 && at < s->len)
        at += jchar(s->p + at, s->len - at, &cp);
    return at;
}

static bool strips(const struct jstr *set, uint32_t cp)
{
    uint32_t c;

    if (!set)
        return jspace(cp);
    for (size_t i = 0; i < set->len;) {
        i += jchar(set->p + i, set->len - i, &c);
        if (c == cp)
            return true;
    }
    return false;
}

struct jstr jstrip(struct jstr s, const struct jstr *set, int sides)
{
    uint32_t cp;

    while ((sides & 1) && s.len) {
        const size_t n = jchar(s.p, s.len, &cp);

        if (!strips(set, cp))
            break;
        s.p += n;
        s.len -= n;
    }
    while ((sides & 2) && s.len) {
        size_t at = s.len - 1;

        while (at && ((unsigned char)s.p[at] & 0xc0) == 0x80)
            at--;
        jchar(s.p + at, s.len - at, &cp);
        if (!strips(set, cp))
            break;
        s.len = at;
    }
    return s;
}

const char *jfind(const struct jstr *in, size_t from, const struct jstr *what)
{
    if (what->len == 0)
        return in->p + from;
    while (from + what->len <= in->len) {
        const char *p = memchr(in->p + from, what->p[0], in->len - from - what->len + 1);

        if (!p || memcmp(p, what->p, what->len) == 0)
            return p;
        from = (size_t)(p - in->p) + 1;
    }
    return NULL;
}

/* The characters at which str.splitlines cuts. */
static bool ends_line(uint32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 28 && cp <= 30) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool jsplit_lines(struct jrun *r, const struct jstr *s, bool keep, struct jval *out)
{
    size_t from = 0, at = 0;
    struct jval list, v;

    J_TRY(jlist_new(r, J_LIST, &list));
    while (at < s->len) {
        uint32_t cp;
        const size_t end = at;

        at += jchar(s->p + at, s->len - at, &cp);
        if (!ends_line(cp))
            continue;
        if (cp == '\r' && at < s->len && s->p[at] == '\n')
            at++;
        J_TRY(jstr_ref(r, s->p + from, (keep ? at : end) - from, &v) &&
              jlist_push(r, list.u.l, &v));
        from = at;
    }
    if (from < at)
        J_TRY(jstr_ref(r, s->p + from, at - from, &v) && jlist_push(r, list.u.l, &v));
    *out = list;
    return true;
}

/* Characters that become several in capitals (SpecialCasing of Unicode); the rest of them stand in
 * scripts of which a template changes no case. */
static void put_upper(struct strbuf *out, uint32_t cp, bool title)
{
    static const struct {
        uint32_t cp;
        const char *upper, *title;
    } special[] = {
        { 0xdf, "SS", "Ss" },
        { 0x149, "\xca\xbcN", "\xca\xbcN" },
        { 0x1f0, "J\xcc\x8c", "J\xcc\x8c" },
        { 0xfb00, "FF", "Ff" },
        { 0xfb01, "FI", "Fi" },
        { 0xfb02, "FL", "Fl" },
        { 0xfb03, "FFI", "Ffi" },
        { 0xfb04, "FFL", "Ffl" },
        { 0xfb05, "ST", "St" },
        { 0xfb06, "ST", "St" },
    };

    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (special[i].cp == cp) {
            strbuf_puts(out, title ? special[i].title : special[i].upper);
            return;
        }
    }
    strbuf_put_utf8(
        out, (uint32_t)(title ? utf8proc_totitle((int32_t)cp) : utf8proc_toupper((int32_t)cp)));
}

static bool is_cased(uint32_t cp)
{
    const int c = utf8proc_category((int32_t)cp);

    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

/* Capital sigma at byte `at` ends its word. */
static bool final_sigma(const struct jstr *s, size_t at)
{
    uint32_t before = 0, after = 0;
    size_t b = at;

    if (at + 2 < s->len)
        jchar(s->p + at + 2, s->len - at - 2, &after);
    if (at) {
        b--;
        while (b && ((unsigned char)s->p[b] & 0xc0) == 0x80)
            b--;
        jchar(s->p + b, s->len - b, &before);
    }
    return before && is_cased(before) && !(after && is_cased(after));
}

static void put_lower(struct strbuf *out, const struct jstr *s, size_t at, uint32_t cp)
{
    if (cp == 0x130)
        strbuf_puts(out, "i\xcc\x87");
    else if (cp == 0x3a3)
        strbuf_puts(out, final_sigma(s, at) ? "\xcf\x82" : "\xcf\x83");
    else
        strbuf_put_utf8(out, (uint32_t)utf8proc_tolower((int32_t)cp));
}

bool jmap_case(struct jrun *r, const struct jstr *s, int how, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;
    bool inside = false;

    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        const size_t from = at;
        bool up;

        at += jchar(s->p + at, s->len - at, &cp);
        switch (how) {
        case CASE_UPPER:
            up = true;
            break;
        case CASE_TITLE:
            up = !inside;
            inside = is_cased(cp);
            break;
        case CASE_CAPITAL:
            up = from == 0;
            break;
        case CASE_SWAP:
            up = utf8proc_category((int32_t)cp) == UTF8PROC_CATEGORY_LL;
            break;
        default:
            up = false;
        }
        if (up)
            put_upper(&text, cp, how == CASE_TITLE || how == CASE_CAPITAL);
        else
            put_lower(&text, s, from, cp);
    }
    return jstr_take(r, &text, out);
}

/* An empty `old` stands before each character and at the end, as in Python. */
bool jreplace(struct jrun *r, const struct jstr *s, const struct jstr *old, const struct jstr *new_,
              int64_t count, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;
    size_t from = 0;

    for (int64_t k = 0; count < 0 || k < count; k++) {
        const char *p = from <= s->len ? jfind(s, from, old) : NULL;
        uint32_t cp;

        if (!p || text.failed || text.len > JINJA_MAX_OUTPUT)
            break;
        if (old->len) {
            strbuf_add(&text, s->p + from, (size_t)(p - s->p) - from);
            strbuf_add(&text, new_->p, new_->len);
            from = (size_t)(p - s->p) + old->len;
            continue;
        }
        strbuf_add(&text, new_->p, new_->len);
        if (from == s->len) {
            from++;
            break;
        }
        const size_t n = jchar(s->p + from, s->len - from, &cp);

        strbuf_add(&text, s->p + from, n);
        from += n;
    }
    if (from < s->len)
        strbuf_add(&text, s->p + from, s->len - from);
    return jstr_take(r, &text, out);
}
