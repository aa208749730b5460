/* The methods of strings. */
#include <string.h>
#include <utf8proc.h>

#include "data/jinja_impl.h"

#define METHOD(name_)                                                                              \
    static bool name_(struct jrun *r, const struct jval *self, const struct jargs *a,              \
                      struct jval *out)

static bool strip(struct jrun *r, const struct jval *self, const struct jargs *a, int sides,
                  struct jval *out)
{
    const struct jstr *set = NULL;
    struct jval v[JINJA_MAX_ARGS];
    struct jstr s;

    J_TRY(jbind(r, "strip()", a, "_", 0, v));
    if (v[0].kind != J_MISSING && v[0].kind != J_NONE)
        J_TRY(jarg_str(r, "strip()", v, &set));
    s = jstrip(*self->u.s, set, sides);
    return jsteps(r, (int64_t)((self->u.s->len - s.len) / 16)) && jstr_ref(r, s.p, s.len, out);
}

METHOD(str_strip)
{
    return strip(r, self, a, 3, out);
}

METHOD(str_lstrip)
{
    return strip(r, self, a, 1, out);
}

METHOD(str_rstrip)
{
    return strip(r, self, a, 2, out);
}

static bool change_case(struct jrun *r, const struct jval *self, const struct jargs *a, int how,
                        struct jval *out)
{
    struct jval v[JINJA_MAX_ARGS];

    return jbind(r, "a method that takes nothing", a, "", 0, v) &&
           jmap_case(r, self->u.s, how, out);
}

METHOD(str_upper)
{
    return change_case(r, self, a, CASE_UPPER, out);
}

METHOD(str_lower)
{
    return change_case(r, self, a, CASE_LOWER, out);
}

METHOD(str_title)
{
    return change_case(r, self, a, CASE_TITLE, out);
}

METHOD(str_capitalize)
{
    return change_case(r, self, a, CASE_CAPITAL, out);
}

METHOD(str_swapcase)
{
    return change_case(r, self, a, CASE_SWAP, out);
}

static bool push_piece(struct jrun *r, struct jlist *l, const char *p, size_t len)
{
    struct jval v;

    return jstr_ref(r, p, len, &v) && jlist_push(r, l, &v);
}

static size_t space_at(const struct jstr *s, size_t at, bool want)
{
    uint32_t cp;

    while (at < s->len) {
        const size_t n = jchar(s->p + at, s->len - at, &cp);

        if (jspace(cp) == want)
            break;
        at += n;
    }
    return at;
}

/* split() at runs of white space, at most `max` times (below 0: no limit). */
static bool split_blank(struct jrun *r, const struct jstr *s, int64_t max, struct jlist *out)
{
    size_t at = space_at(s, 0, false);

    while (at < s->len) {
        size_t end;

        if (max >= 0 && out->n >= max)
            return push_piece(r, out, s->p + at, s->len - at);
        end = space_at(s, at, true);
        J_TRY(push_piece(r, out, s->p + at, end - at));
        at = space_at(s, end, false);
    }
    return true;
}

static bool split_at(struct jrun *r, const struct jstr *s, const struct jstr *sep, int64_t max,
                     struct jlist *out)
{
    size_t from = 0;
    const char *p;

    while ((max < 0 || out->n < max) && (p = jfind(s, from, sep))) {
        J_TRY(push_piece(r, out, s->p + from, (size_t)(p - s->p) - from));
        from = (size_t)(p - s->p) + sep->len;
    }
    return push_piece(r, out, s->p + from, s->len - from);
}

/* The last `what` in the first `len` bytes; NULL when there is none. */
static const char *find_last(const struct jstr *s, size_t len, const struct jstr *what)
{
    for (size_t at = len >= what->len ? len - what->len + 1 : 0; at-- > 0;)
        if (memcmp(s->p + at, what->p, what->len) == 0 &&
            (at == s->len || ((unsigned char)s->p[at] & 0xc0) != 0x80))
            return s->p + at;
    return NULL;
}

static void reverse(struct jlist *l)
{
    for (int64_t i = 0, k = l->n - 1; i < k; i++, k--) {
        const struct jval v = l->v[i];

        l->v[i] = l->v[k];
        l->v[k] = v;
    }
}

static bool rsplit_at(struct jrun *r, const struct jstr *s, const struct jstr *sep, int64_t max,
                      struct jlist *out)
{
    size_t end = s->len;
    const char *p;

    while ((max < 0 || out->n < max) && (p = find_last(s, end, sep))) {
        const size_t from = (size_t)(p - s->p) + sep->len;

        J_TRY(push_piece(r, out, s->p + from, end - from));
        end = (size_t)(p - s->p);
    }
    J_TRY(push_piece(r, out, s->p, end));
    reverse(out);
    return true;
}

static bool rsplit_blank(struct jrun *r, struct jstr s, int64_t max, struct jlist *out)
{
    s = jstrip(s, NULL, 2);
    while (s.len) {
        size_t from = s.len;

        if (max >= 0 && out->n >= max) {
            J_TRY(push_piece(r, out, s.p, s.len));
            break;
        }
        while (from) {
            size_t at = from - 1;
            uint32_t cp;

            while (at && ((unsigned char)s.p[at] & 0xc0) == 0x80)
                at--;
            jchar(s.p + at, s.len - at, &cp);
            if (jspace(cp))
                break;
            from = at;
        }
        J_TRY(push_piece(r, out, s.p + from, s.len - from));
        s = jstrip((struct jstr){ s.p, from }, NULL, 2);
    }
    reverse(out);
    return true;
}

static bool split(struct jrun *r, const struct jval *self, const struct jargs *a, bool right,
                  struct jval *out)
{
    const struct jstr *sep = NULL;
    struct jval v[JINJA_MAX_ARGS];
    int64_t max;

    J_TRY(jbind(r, "split()", a, "sep,maxsplit", 0, v));
    J_TRY(jarg_int(r, "split()", v + 1, -1, &max) && jlist_new(r, J_LIST, out));
    if (v[0].kind != J_MISSING && v[0].kind != J_NONE)
        J_TRY(jarg_str(r, "split()", v, &sep));
    if (sep && sep->len == 0)
        return jfail(r, "empty separator");
    J_TRY(jsteps(r, (int64_t)(self->u.s->len / 16)));
    if (!sep)
        return right ? rsplit_blank(r, *self->u.s, max, out->u.l)
                     : split_blank(r, self->u.s, max, out->u.l);
    return right ? rsplit_at(r, self->u.s, sep, max, out->u.l)
                 : split_at(r, self->u.s, sep, max, out->u.l);
}

METHOD(str_split)
{
    return split(r, self, a, false, out);
}

METHOD(str_rsplit)
{
    return split(r, self, a, true, out);
}

METHOD(str_splitlines)
{
    struct jval v[JINJA_MAX_ARGS];

    return jbind(r, "splitlines()", a, "keepends", 0, v) &&
           jsplit_lines(r, self->u.s, jtruth(v), out);
}

static bool partition(struct jrun *r, const struct jval *self, const struct jargs *a, bool right,
                      struct jval *out)
{
    const struct jstr *sep, *s = self->u.s;
    struct jval v[JINJA_MAX_ARGS];
    const char *p;
    size_t at;

    J_TRY(jbind(r, "partition()", a, "_", 1, v) && jarg_str(r, "partition()", v, &sep));
    if (sep->len == 0)
        return jfail(r, "empty separator");
    p = right ? find_last(s, s->len, sep) : jfind(s, 0, sep);
    J_TRY(jlist_new(r, J_TUPLE, out));
    if (!p && right)
        return push_piece(r, out->u.l, "", 0) && push_piece(r, out->u.l, "", 0) &&
               push_piece(r, out->u.l, s->p, s->len);
    at = p ? (size_t)(p - s->p) : s->len;
    return push_piece(r, out->u.l, s->p, at) && push_piece(r, out->u.l, sep->p, p ? sep->len : 0) &&
           push_piece(r, out->u.l, s->p + at + (p ? sep->len : 0),
                      s->len - at - (p ? sep->len : 0));
}

METHOD(str_partition)
{
    return partition(r, self, a, false, out);
}

METHOD(str_rpartition)
{
    return partition(r, self, a, true, out);
}

/* self[start:end] for methods that take such bounds; *first is the byte where it begins. False with
 * *empty set: start lies behind the end, where nothing is found. */
static bool bounded(struct jrun *r, const struct jval *self, const struct jval *start,
                    const struct jval *end, struct jstr *out, size_t *first, bool *beyond)
{
    const int64_t n = start->kind == J_MISSING && end->kind == J_MISSING ? 0 : jchars(self->u.s);
    int64_t from = 0, to = n;

    *out = *self->u.s;
    *first = 0;
    *beyond = false;
    if (start->kind != J_MISSING && start->kind != J_NONE)
        J_TRY(jarg_int(r, "start", start, 0, &from));
    if (end->kind != J_MISSING && end->kind != J_NONE)
        J_TRY(jarg_int(r, "end", end, 0, &to));
    if (start->kind == J_MISSING && end->kind == J_MISSING)
        return true;
    from = from < 0 ? (from + n < 0 ? 0 : from + n) : from;
    to = to < 0 ? (to + n < 0 ? 0 : to + n) : to > n ? n : to;
    *beyond = from > n || from > to;
    if (*beyond) {
        out->len = 0;
        return true;
    }
    *first = joffset(self->u.s, from);
    out->p = self->u.s->p + *first;
    out->len = joffset(self->u.s, to) - *first;
    return true;
}

static bool affix(struct jrun *r, const struct jval *self, const struct jargs *a, bool end,
                  struct jval *out)
{
    const char *what = end ? "endswith()" : "startswith()";
    struct jval v[JINJA_MAX_ARGS];
    const struct jval *one = v;
    int64_t n = 1;
    struct jstr s;
    size_t first;
    bool beyond;

    J_TRY(jbind(r, what, a, "_,_,_", 1, v) && bounded(r, self, v + 1, v + 2, &s, &first, &beyond));
    if (v[0].kind == J_TUPLE) {
        one = v[0].u.l->v;
        n = v[0].u.l->n;
    } else if (v[0].kind != J_STR) {
        return jfail(r, "%s first arg must be str or a tuple of str, not %s", what, jtype(v));
    }
    *out = jbool(false);
    for (int64_t i = 0; i < n; i++) {
        const struct jstr *x;

        J_TRY(jarg_str(r, what, one + i, &x));
        if (!beyond && x->len <= s.len &&
            memcmp(s.p + (end ? s.len - x->len : 0), x->p, x->len) == 0) {
            *out = jbool(true);
            return true;
        }
    }
    return true;
}

METHOD(str_startswith)
{
    return affix(r, self, a, false, out);
}

METHOD(str_endswith)
{
    return affix(r, self, a, true, out);
}

static bool find_in(struct jrun *r, const struct jval *self, const struct jargs *a, bool right,
                    bool must, struct jval *out)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jstr *what;
    struct jstr s, before;
    const char *p;
    size_t first;
    bool beyond;

    J_TRY(jbind(r, "find()", a, "_,_,_", 1, v) && jarg_str(r, "find()", v, &what));
    J_TRY(bounded(r, self, v + 1, v + 2, &s, &first, &beyond));
    J_TRY(jsteps(r, (int64_t)(s.len / 16)));
    p = beyond ? NULL : right ? find_last(&s, s.len, what) : jfind(&s, 0, what);
    if (!p && must)
        return jfail(r, "substring not found");
    before = (struct jstr){ self->u.s->p, p ? (size_t)(p - self->u.s->p) : 0 };
    *out = jint(p ? jchars(&before) : -1);
    return true;
}

METHOD(str_find)
{
    return find_in(r, self, a, false, false, out);
}

METHOD(str_rfind)
{
    return find_in(r, self, a, true, false, out);
}

METHOD(str_index)
{
    return find_in(r, self, a, false, true, out);
}

METHOD(str_rindex)
{
    return find_in(r, self, a, true, true, out);
}

METHOD(str_count)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jstr *what;
    struct jstr s;
    int64_t n = 0;
    size_t first;
    bool beyond;

    J_TRY(jbind(r, "count()", a, "_,_,_", 1, v) && jarg_str(r, "count()", v, &what));
    J_TRY(bounded(r, self, v + 1, v + 2, &s, &first, &beyond));
    if (what->len == 0)
        n = beyond ? 0 : jchars(&s) + 1;
    for (size_t at = 0; what->len; n++) {
        const char *p = jfind(&s, at, what);

        if (!p)
            break;
        at = (size_t)(p - s.p) + what->len;
    }
    *out = jint(n);
    return jsteps(r, (int64_t)(s.len / 16));
}

METHOD(str_replace)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jstr *old, *with;
    int64_t count;

    J_TRY(jbind(r, "replace()", a, "_,_,_", 2, v) && jarg_str(r, "replace()", v, &old) &&
          jarg_str(r, "replace()", v + 1, &with) && jarg_int(r, "replace()", v + 2, -1, &count));
    return jreplace(r, self->u.s, old, with, count, out);
}

METHOD(str_join)
{
    struct strbuf text = STRBUF_INIT;
    struct jval v[JINJA_MAX_ARGS];
    struct jlist items;

    J_TRY(jbind(r, "join()", a, "_", 1, v) && jiterate(r, v, &items));
    for (int64_t i = 0; i < items.n; i++) {
        if (items.v[i].kind != J_STR || text.len > JINJA_MAX_OUTPUT) {
            strbuf_release(&text);
            return jfail(r, "sequence item %lld: expected str instance, %s found", (long long)i,
                         jtype(items.v + i));
        }
        if (i)
            strbuf_add(&text, self->u.s->p, self->u.s->len);
        strbuf_add(&text, items.v[i].u.s->p, items.v[i].u.s->len);
    }
    return jstr_take(r, &text, out);
}

METHOD(str_removeprefix)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jstr *x, *s = self->u.s;
    size_t cut;

    J_TRY(jbind(r, "removeprefix()", a, "_", 1, v) && jarg_str(r, "removeprefix()", v, &x));
    cut = x->len <= s->len && memcmp(s->p, x->p, x->len) == 0 ? x->len : 0;
    return jstr_ref(r, s->p + cut, s->len - cut, out);
}

METHOD(str_removesuffix)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jstr *x, *s = self->u.s;
    size_t cut;

    J_TRY(jbind(r, "removesuffix()", a, "_", 1, v) && jarg_str(r, "removesuffix()", v, &x));
    cut = x->len <= s->len && memcmp(s->p + s->len - x->len, x->p, x->len) == 0 ? x->len : 0;
    return jstr_ref(r, s->p, s->len - cut, out);
}

/* ljust, rjust, center, zfill: `left` of the blanks before the text. */
static bool pad(struct jrun *r, const struct jval *self, const struct jargs *a, int how,
                struct jval *out)
{
    struct strbuf text = STRBUF_INIT;
    struct jstr blank = { " ", 1 };
    struct jval v[JINJA_MAX_ARGS];
    const struct jstr *given, *s = self->u.s;
    int64_t width, n = jchars(s), left;

    J_TRY(jbind(r, "padding", a, "_,_", 1, v) && jarg_int(r, "padding", v, 0, &width));
    if (v[1].kind != J_MISSING) {
        J_TRY(jarg_str(r, "padding", v + 1, &given));
        if (jchars(given) != 1)
            return jfail(r, "the fill character must be exactly one character long");
        blank = *given;
    }
    if (width > JINJA_MAX_OUTPUT)
        return jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
    n = width > n ? width - n : 0;
    left = how == 'l' ? 0 : how == 'r' ? n : n / 2 + (n & width & 1);
    for (int64_t i = 0; i < left; i++)
        strbuf_add(&text, blank.p, blank.len);
    strbuf_add(&text, s->p, s->len);
    for (int64_t i = left; i < n; i++)
        strbuf_add(&text, blank.p, blank.len);
    return jstr_take(r, &text, out);
}

METHOD(str_ljust)
{
    return pad(r, self, a, 'l', out);
}

METHOD(str_rjust)
{
    return pad(r, self, a, 'r', out);
}

METHOD(str_center)
{
    return pad(r, self, a, 'c', out);
}

METHOD(str_zfill)
{
    struct strbuf text = STRBUF_INIT;
    struct jval v[JINJA_MAX_ARGS];
    const struct jstr *s = self->u.s;
    const size_t sign = s->len && (s->p[0] == '-' || s->p[0] == '+');
    int64_t width;

    J_TRY(jbind(r, "zfill()", a, "_", 1, v) && jarg_int(r, "zfill()", v, 0, &width));
    if (width > JINJA_MAX_OUTPUT)
        return jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
    strbuf_add(&text, s->p, sign);
    for (int64_t n = jchars(s); n < width; n++)
        strbuf_putc(&text, '0');
    strbuf_add(&text, s->p + sign, s->len - sign);
    return jstr_take(r, &text, out);
}

static bool is_digit(uint32_t cp)
{
    return utf8proc_category((int32_t)cp) == UTF8PROC_CATEGORY_ND || (cp >= 0xb2 && cp <= 0xb3) ||
           cp == 0xb9 || cp == 0x2070 || (cp >= 0x2074 && cp <= 0x2079) ||
           (cp >= 0x2080 && cp <= 0x2089);
}

static bool is_alpha(uint32_t cp)
{
    const int c = utf8proc_category((int32_t)cp);

    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_number(uint32_t cp)
{
    const int c = utf8proc_category((int32_t)cp);

    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

static bool is_decimal(uint32_t cp)
{
    return utf8proc_category((int32_t)cp) == UTF8PROC_CATEGORY_ND;
}

static bool is_alnum(uint32_t cp)
{
    return is_alpha(cp) || is_number(cp);
}

static bool all_of(struct jrun *r, const struct jval *self, const struct jargs *a,
                   bool (*is)(uint32_t cp), struct jval *out)
{
    const struct jstr *s = self->u.s;
    struct jval v[JINJA_MAX_ARGS];
    bool yes = s->len > 0;
    uint32_t cp;

    J_TRY(jbind(r, "a method that takes nothing", a, "", 0, v));
    for (size_t at = 0; yes && at < s->len;) {
        at += jchar(s->p + at, s->len - at, &cp);
        yes = is(cp);
    }
    *out = jbool(yes);
    return true;
}

METHOD(str_isdigit)
{
    return all_of(r, self, a, is_digit, out);
}

METHOD(str_isdecimal)
{
    return all_of(r, self, a, is_decimal, out);
}

METHOD(str_isnumeric)
{
    return all_of(r, self, a, is_number, out);
}

METHOD(str_isalpha)
{
    return all_of(r, self, a, is_alpha, out);
}

METHOD(str_isalnum)
{
    return all_of(r, self, a, is_alnum, out);
}

METHOD(str_isspace)
{
    return all_of(r, self, a, jspace, out);
}

/* All letters that have a case are of that one, and there is one. */
static bool cased(struct jrun *r, const struct jval *self, const struct jargs *a, bool upper,
                  struct jval *out)
{
    const struct jstr *s = self->u.s;
    struct jval v[JINJA_MAX_ARGS];
    bool some = false, wrong = false;
    uint32_t cp;

    J_TRY(jbind(r, "a method that takes nothing", a, "", 0, v));
    for (size_t at = 0; at < s->len;) {
        at += jchar(s->p + at, s->len - at, &cp);
        const int c = utf8proc_category((int32_t)cp);

        some |= c == (upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
        wrong |=
            c == (upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU) || c == UTF8PROC_CATEGORY_LT;
    }
    *out = jbool(some && !wrong);
    return true;
}

METHOD(str_isupper)
{
    return cased(r, self, a, true, out);
}

METHOD(str_islower)
{
    return cased(r, self, a, false, out);
}

const struct jmethod_def jstring_methods[] = {
    { "strip", str_strip },
    { "lstrip", str_lstrip },
    { "rstrip", str_rstrip },
    { "upper", str_upper },
    { "lower", str_lower },
    { "title", str_title },
    { "capitalize", str_capitalize },
    { "swapcase", str_swapcase },
    { "split", str_split },
    { "rsplit", str_rsplit },
    { "splitlines", str_splitlines },
    { "partition", str_partition },
    { "rpartition", str_rpartition },
    { "startswith", str_startswith },
    { "endswith", str_endswith },
    { "find", str_find },
    { "rfind", str_rfind },
    { "index", str_index },
    { "rindex", str_rindex },
    { "count", str_count },
    { "replace", str_replace },
    { "join", str_join },
    { "format", jformat_braces },
    { "removeprefix", str_removeprefix },
    { "removesuffix", str_removesuffix },
    { "ljust", str_ljust },
    { "rjust", str_rjust },
    { "center", str_center },
    { "zfill", str_zfill },
    { "isdigit", str_isdigit },
    { "isdecimal", str_isdecimal },
    { "isnumeric", str_isnumeric },
    { "isalpha", str_isalpha },
    { "isalnum", str_isalnum },
    { "isspace", str_isspace },
    { "isupper", str_isupper },
    { "islower", str_islower },
    { NULL, NULL },
};
