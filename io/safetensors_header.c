#include "io/safetensors_header.h"

#include <string.h>

const struct st_dtype st_dtypes[ST_DTYPE_COUNT] = {
    { "BOOL", 8, QT_BOOL },
    { "F4", 4, QT_COUNT },
    { "F6_E2M3", 6, QT_COUNT },
    { "F6_E3M2", 6, QT_COUNT },
    { "U8", 8, QT_U8 },
    { "I8", 8, QT_I8 },
    { "F8_E5M2", 8, QT_F8_E5M2 },
    { "F8_E4M3", 8, QT_F8_E4M3 },
    { "F8_E8M0", 8, QT_COUNT },
    { "F8_E4M3FNUZ", 8, QT_COUNT },
    { "F8_E5M2FNUZ", 8, QT_COUNT },
    { "I16", 16, QT_I16 },
    { "U16", 16, QT_U16 },
    { "F16", 16, QT_F16 },
    { "BF16", 16, QT_BF16 },
    { "I32", 32, QT_I32 },
    { "U32", 32, QT_U32 },
    { "F32", 32, QT_F32 },
    { "C64", 64, QT_COUNT },
    { "F64", 64, QT_F64 },
    { "I64", 64, QT_I64 },
    { "U64", 64, QT_U64 },
};

enum { MAX_DEPTH = 128 }; /* of values behind keys the format does not know */

struct scan {
    const char *file;
    const char *start, *p, *end;
    char *pool; /* decoded strings, end to end; a string is never longer than its JSON form */
    struct graft_err *err;
};

/* Byte offsets count from the start of the file: 8 bytes of length stand before the header. */
static enum graft_status bad(const struct scan *c, const char *wanted)
{
    const long long at = (long long)(c->p - c->start) + 8;

    if (c->p == c->end)
        return graft_fail(c->err, GRAFT_EFORMAT, "%s: the header ends at byte %lld, wanted %s",
                          c->file, at, wanted);
    return graft_fail(c->err, GRAFT_EFORMAT, "%s: header byte %lld: found \"%s\", wanted %s",
                      c->file, at,
                      SHOW_BYTES(c->p, c->end - c->p < 12 ? (size_t)(c->end - c->p) : 12), wanted);
}

static void skip_space(struct scan *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t' || *c->p == '\r'))
        c->p++;
}

/* Skip blanks, then take `ch` if it is next. */
static bool take(struct scan *c, char ch)
{
    skip_space(c);
    if (c->p == c->end || *c->p != ch)
        return false;
    c->p++;
    return true;
}

static bool take_word(struct scan *c, const char *word)
{
    const size_t n = strlen(word);

    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

static bool hex4(struct scan *c, uint32_t *out)
{
    uint32_t v = 0;

    if (c->end - c->p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        const char ch = c->p[i];
        uint32_t digit;

        if (ch >= '0' && ch <= '9')
            digit = (uint32_t)(ch - '0');
        else if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'f')
            digit = (uint32_t)((ch | 0x20) - 'a' + 10);
        else
            return false;
        v = v << 4 | digit;
    }
    c->p += 4;
    *out = v;
    return true;
}

/* Behind "\u". Surrogates must come in pairs. */
static enum graft_status read_unicode(struct scan *c, char **out)
{
    uint32_t cp, low;

    if (!hex4(c, &cp))
        return bad(c, "four hex digits");
    if (cp >= 0xdc00 && cp < 0xe000)
        return bad(c, "a high surrogate before a low one");
    if (cp >= 0xd800 && cp < 0xdc00) {
        if (!take_word(c, "\\u") || !hex4(c, &low) || low < 0xdc00 || low >= 0xe000)
            return bad(c, "a low surrogate");
        cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
    }
    if (cp < 0x80) {
        *(*out)++ = (char)cp;
    } else if (cp < 0x800) {
        *(*out)++ = (char)(0xc0 | cp >> 6);
        *(*out)++ = (char)(0x80 | (cp & 0x3f));
    } else if (cp < 0x10000) {
        *(*out)++ = (char)(0xe0 | cp >> 12);
        *(*out)++ = (char)(0x80 | (cp >> 6 & 0x3f));
        *(*out)++ = (char)(0x80 | (cp & 0x3f));
    } else {
        *(*out)++ = (char)(0xf0 | cp >> 18);
        *(*out)++ = (char)(0x80 | (cp >> 12 & 0x3f));
        *(*out)++ = (char)(0x80 | (cp >> 6 & 0x3f));
        *(*out)++ = (char)(0x80 | (cp & 0x3f));
    }
    return GRAFT_OK;
}

static enum graft_status read_escape(struct scan *c, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *hit;

    if (c->p < c->end && *c->p == 'u') {
        c->p++;
        return read_unicode(c, out);
    }
    hit = c->p < c->end && *c->p ? strchr(from, *c->p) : NULL;
    if (!hit)
        return bad(c, "an escape of JSON");
    *(*out)++ = to[hit - from];
    c->p++;
    return GRAFT_OK;
}

/* A string, decoded to the free end of the pool and NUL-terminated there; `keep` makes it stay. */
static enum graft_status read_string(struct scan *c, const char *wanted, bool keep,
                                     const char **text, size_t *len)
{
    char *out = c->pool;

    if (!take(c, '"'))
        return bad(c, wanted);
    for (;;) {
        if (c->p == c->end)
            return bad(c, "the end of a string");
        if (*c->p == '"')
            break;
        if ((unsigned char)*c->p < 0x20)
            return bad(c, "a string without control characters");
        if (*c->p == '\\') {
            c->p++;
            GRAFT_TRY(read_escape(c, &out));
        } else {
            *out++ = *c->p++;
        }
    }
    c->p++;
    *out = '\0';
    *text = c->pool;
    *len = (size_t)(out - c->pool);
    if (keep)
        c->pool = out + 1;
    return GRAFT_OK;
}

/* Decoded strings may hold U+0000: strcmp alone would take "F32\0x" for "F32". */
static bool same(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(text, word, len) == 0;
}

static bool is_digit(const struct scan *c)
{
    return c->p < c->end && *c->p >= '0' && *c->p <= '9';
}

static enum graft_status read_count(struct scan *c, const char *wanted, uint64_t *out)
{
    const char *first;
    uint64_t v = 0;

    skip_space(c);
    first = c->p;
    for (; is_digit(c); c->p++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*c->p - '0'), &v)) {
            c->p = first;
            return bad(c, "a number below 2^64");
        }
    if (c->p == first || (*first == '0' && c->p - first > 1) ||
        (c->p < c->end && (*c->p == '.' || (*c->p | 0x20) == 'e'))) {
        c->p = first;
        return bad(c, wanted);
    }
    *out = v;
    return GRAFT_OK;
}

static enum graft_status skip_number(struct scan *c)
{
    const char *first = c->p;

    if (c->p < c->end && *c->p == '-')
        c->p++;
    if (!is_digit(c))
        goto no;
    if (*c->p == '0')
        c->p++;
    else
        while (is_digit(c))
            c->p++;
    if (c->p < c->end && *c->p == '.') {
        c->p++;
        if (!is_digit(c))
            goto no;
        while (is_digit(c))
            c->p++;
    }
    if (c->p < c->end && (*c->p | 0x20) == 'e') {
        c->p++;
        if (c->p < c->end && (*c->p == '+' || *c->p == '-'))
            c->p++;
        if (!is_digit(c))
            goto no;
        while (is_digit(c))
            c->p++;
    }
    return GRAFT_OK;
no:
    c->p = first;
    return bad(c, "a JSON value");
}

/* Any value, of a field that the format does not know. */
static enum graft_status skip_value(struct scan *c, int depth)
{
    const char *text;
    size_t len;
    char close;

    skip_space(c);
    if (depth > MAX_DEPTH)
        return bad(c, "values nested less deeply");
    if (c->p < c->end && *c->p == '"')
        return read_string(c, "a string", false, &text, &len);
    if (take_word(c, "true") || take_word(c, "false") || take_word(c, "null"))
        return GRAFT_OK;
    if (c->p == c->end || (*c->p != '{' && *c->p != '['))
        return skip_number(c);
    close = *c->p++ == '{' ? '}' : ']';
    if (take(c, close))
        return GRAFT_OK;
    do {
        if (close == '}') {
            GRAFT_TRY(read_string(c, "a key", false, &text, &len));
            if (!take(c, ':'))
                return bad(c, "\":\"");
        }
        GRAFT_TRY(skip_value(c, depth + 1));
    } while (take(c, ','));
    return take(c, close) ? GRAFT_OK : bad(c, close == '}' ? "\",\" or \"}\"" : "\",\" or \"]\"");
}

static enum graft_status read_metadata(struct scan *c)
{
    const char *text;
    size_t len;

    skip_space(c);
    if (take_word(c, "null"))
        return GRAFT_OK;
    if (!take(c, '{'))
        return bad(c, "an object of strings as __metadata__");
    if (take(c, '}'))
        return GRAFT_OK;
    do {
        GRAFT_TRY(read_string(c, "a key of __metadata__", false, &text, &len));
        if (!take(c, ':'))
            return bad(c, "\":\"");
        GRAFT_TRY(read_string(c, "a string as value in __metadata__", false, &text, &len));
    } while (take(c, ','));
    return take(c, '}') ? GRAFT_OK : bad(c, "\",\" or \"}\"");
}

static enum graft_status read_dtype(struct scan *c, struct st_entry *e)
{
    const char *text;
    size_t len;

    GRAFT_TRY(read_string(c, "the name of a dtype", false, &text, &len));
    for (int i = 0; i < ST_DTYPE_COUNT; i++)
        if (same(text, len, st_dtypes[i].name)) {
            e->dtype = i;
            return GRAFT_OK;
        }
    return graft_fail(c->err, GRAFT_EFORMAT, "%s: tensor \"%s\": unknown dtype \"%s\"", c->file,
                      SHOW(e->name), SHOW_BYTES(text, len));
}

static enum graft_status read_shape(struct scan *c, struct st_entry *e)
{
    uint64_t v = 0;

    if (!take(c, '['))
        return bad(c, "a list of dimensions");
    if (take(c, ']'))
        return GRAFT_OK;
    do {
        GRAFT_TRY(read_count(c, "a dimension, a whole number from 0", &v));
        if (v > INT64_MAX)
            return graft_fail(c->err, GRAFT_EFORMAT,
                              "%s: tensor \"%s\": dimension %llu is too large", c->file,
                              SHOW(e->name), (unsigned long long)v);
        if (e->ndim == STORE_MAX_DIM)
            return graft_fail(
                c->err, GRAFT_EFORMAT,
                "%s: tensor \"%s\" has more than %d dimensions, which is not supported", c->file,
                SHOW(e->name), STORE_MAX_DIM);
        e->dim[e->ndim++] = (int64_t)v;
    } while (take(c, ','));
    return take(c, ']') ? GRAFT_OK : bad(c, "\",\" or \"]\"");
}

static enum graft_status read_offsets(struct scan *c, struct st_entry *e)
{
    static const char wanted[] = "data_offsets, two whole numbers from 0";

    if (!take(c, '['))
        return bad(c, wanted);
    GRAFT_TRY(read_count(c, wanted, &e->begin));
    if (!take(c, ','))
        return bad(c, wanted);
    GRAFT_TRY(read_count(c, wanted, &e->end));
    return take(c, ']') ? GRAFT_OK : bad(c, wanted);
}

static enum graft_status read_entry(struct scan *c, struct st_entry *e)
{
    static const char *const field[3] = { "dtype", "shape", "data_offsets" };
    static enum graft_status (*const read[3])(
        struct scan *, struct st_entry *) = { read_dtype, read_shape, read_offsets };
    unsigned seen = 0;

    if (!take(c, '{'))
        return bad(c, "the object of a tensor");
    if (!take(c, '}')) {
        do {
            const char *key;
            size_t len;
            int i = 0;

            GRAFT_TRY(read_string(c, "a key", false, &key, &len));
            while (i < 3 && !same(key, len, field[i]))
                i++;
            if (!take(c, ':'))
                return bad(c, "\":\"");
            if (i == 3) {
                GRAFT_TRY(skip_value(c, 0));
                continue;
            }
            if (seen >> i & 1)
                return graft_fail(c->err, GRAFT_EFORMAT, "%s: tensor \"%s\" has \"%s\" twice",
                                  c->file, SHOW(e->name), field[i]);
            seen |= 1u << i;
            GRAFT_TRY(read[i](c, e));
        } while (take(c, ','));
        if (!take(c, '}'))
            return bad(c, "\",\" or \"}\"");
    }
    for (int i = 0; i < 3; i++)
        if (!(seen >> i & 1))
            return graft_fail(c->err, GRAFT_EFORMAT, "%s: tensor \"%s\" has no \"%s\"", c->file,
                              SHOW(e->name), field[i]);
    return GRAFT_OK;
}

static enum graft_status add_entry(struct scan *c, struct st_header *h, const char *name)
{
    if (h->count == h->cap) {
        const int64_t cap = h->cap ? 2 * h->cap : 64;
        void *p =
            mem_resize(h->entry, (size_t)h->cap * sizeof *h->entry, (size_t)cap * sizeof *h->entry);

        if (!p)
            return graft_fail_nomem(c->err, c->file, (size_t)cap * sizeof *h->entry);
        h->entry = p;
        h->cap = cap;
    }
    h->entry[h->count].name = name;
    return read_entry(c, &h->entry[h->count++]);
}

static enum graft_status read_members(struct scan *c, struct st_header *out)
{
    bool metadata = false;

    do {
        const char *name;
        size_t len;

        GRAFT_TRY(read_string(c, "the name of a tensor", true, &name, &len));
        if (!take(c, ':'))
            return bad(c, "\":\"");
        if (strlen(name) != len)
            return graft_fail(c->err, GRAFT_EFORMAT,
                              "%s: the name of a tensor holds U+0000: \"%s\"", c->file,
                              SHOW_BYTES(name, len));
        if (!same(name, len, "__metadata__")) {
            GRAFT_TRY(add_entry(c, out, name));
            continue;
        }
        if (metadata)
            return graft_fail(c->err, GRAFT_EFORMAT, "%s: \"__metadata__\" is there twice",
                              c->file);
        metadata = true;
        GRAFT_TRY(read_metadata(c));
    } while (take(c, ','));
    return GRAFT_OK;
}

enum graft_status st_header_read(const char *file, const char *text, size_t len, struct arena *mem,
                                 struct st_header *out, struct graft_err *err)
{
    struct scan c = { file, text, text, text + len, arena_alloc(mem, len + 1), err };

    if (!c.pool)
        return graft_fail_nomem(err, file, len + 1);
    if (!take(&c, '{'))
        return bad(&c, "\"{\"");
    if (!take(&c, '}')) {
        GRAFT_TRY(read_members(&c, out));
        if (!take(&c, '}'))
            return bad(&c, "\",\" or \"}\"");
    }
    skip_space(&c);
    return c.p == c.end ? GRAFT_OK : bad(&c, "nothing behind the last \"}\"");
}
