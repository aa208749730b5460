#include "core/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

enum { LOAD_FLAGS = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY };

static bool is_number_char(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* Whether the number of `len` characters at `s` is an integer that int64_t does not hold. */
static bool is_big_integer(const char *s, size_t len)
{
    const bool negative = s[0] == '-';
    const char *limit = negative ? "9223372036854775808" : "9223372036854775807";

    s += negative;
    len -= negative;
    for (size_t i = 0; i < len; i++)
        if (s[i] < '0' || s[i] > '9')
            return false;
    return len > 19 || (len == 19 && memcmp(s, limit, 19) > 0);
}

/* Copy `text`, writing integers beyond 64 bits as reals. Python has integers of any size, and every
 * tokenizer_config.json without a limit says "model_max_length": 1000000000000000019884624838656,
 * which the parser refuses as an integer. */
static void widen_integers(struct strbuf *out, const char *text, size_t len)
{
    size_t i = 0;

    while (i < len) {
        const size_t start = i;
        bool big = false;

        if (text[i] == '"') {
            for (i++; i < len && text[i] != '"'; i++)
                if (text[i] == '\\')
                    i++;
            i = i < len ? i + 1 : len;
        } else if (is_number_char(text[i])) {
            while (i < len && is_number_char(text[i]))
                i++;
            big = is_big_integer(text + start, i - start);
        } else {
            i++;
        }
        strbuf_add(out, text + start, i - start);
        if (big)
            strbuf_puts(out, ".0");
    }
}

/* Parse; NULL with *e set on failure. */
static json_t *parse(const char *text, size_t len, json_error_t *e)
{
    struct strbuf wide = STRBUF_INIT;
    json_t *v = json_loadb(len ? text : "", len, LOAD_FLAGS, e);

    if (!v && json_error_code(e) == json_error_numeric_overflow) {
        widen_integers(&wide, text, len);
        if (wide.failed)
            e->text[JSON_ERROR_TEXT_LENGTH - 1] = (char)json_error_out_of_memory;
        else
            v = json_loadb(wide.buf, wide.len, LOAD_FLAGS, e);
        strbuf_release(&wide);
    }
    return v;
}

enum graft_status json_read(const char *name, const char *text, size_t len, json_t **out,
                            struct graft_err *err)
{
    json_error_t e;
    json_t *v = parse(text, len, &e);

    if (!v && json_error_code(&e) == json_error_out_of_memory)
        return graft_fail_nomem(err, name, len);
    if (!v)
        return graft_fail(err, GRAFT_EFORMAT, "%s:%d: %s", name, e.line, e.text);
    *out = v;
    return GRAFT_OK;
}

enum graft_status json_read_line(const char *name, int64_t line, const char *text, size_t len,
                                 json_t **out, struct graft_err *err)
{
    json_error_t e;
    json_t *v = parse(text, len, &e);

    if (!v && json_error_code(&e) == json_error_out_of_memory)
        return graft_fail_nomem(err, name, len);
    if (!v)
        return graft_fail(err, GRAFT_EFORMAT, "%s:%lld: column %d: %s", name, (long long)line,
                          e.column, e.text);
    *out = v;
    return GRAFT_OK;
}

enum graft_status json_read_file(const char *path, json_t **out, struct graft_err *err)
{
    struct mapped_file m = { NULL, 0 };
    enum graft_status st;

    GRAFT_TRY(file_map(path, &m, err));
    if (m.size > JSON_FILE_LIMIT)
        st = graft_fail(err, GRAFT_EFORMAT, "%s: %zu bytes, a JSON file may have at most %d", path,
                        m.size, JSON_FILE_LIMIT);
    else
        st = json_read(path, m.data, m.size, out, err);
    file_unmap(&m);
    return st;
}

json_t *json_number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* The fewest of 15, 16 or 17 digits that read back as x: 17 always do. A point or an exponent
 * keeps a real a real. */
void json_write_number(struct strbuf *out, double x)
{
    char s[40];

    if (!isfinite(x)) {
        strbuf_puts(out, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtod(s, NULL) == x)
            break;
    }
    for (char *p = s; *p; p++) /* the locale of a program around us may write a comma */
        if (*p == ',')
            *p = '.';
    strbuf_puts(out, s);
    if (!strpbrk(s, ".e"))
        strbuf_puts(out, ".0");
}

static void put_escaped(struct strbuf *out, uint32_t cp)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    const char *p = cp && cp < 0x80 ? strchr(plain, (int)cp) : NULL;

    if (p) {
        strbuf_putc(out, '\\');
        strbuf_putc(out, letter[p - plain]);
    } else if (cp >= 0x20 && cp < 0x7f) {
        strbuf_putc(out, (char)cp);
    } else if (cp < 0x10000) {
        strbuf_printf(out, "\\u%04x", (unsigned)cp);
    } else {
        cp -= 0x10000;
        strbuf_printf(out, "\\u%04x\\u%04x", 0xd800 | (unsigned)(cp >> 10),
                      0xdc00 | (unsigned)(cp & 0x3ff));
    }
}

static void put_string(struct strbuf *out, const char *s, size_t len)
{
    strbuf_putc(out, '"');
    while (len) {
        uint32_t cp = 0;
        int n = utf8_next(s, len, &cp);

        if (n == 0) { /* not from a parser; say so rather than write what no reader takes */
            cp = 0xfffd;
            n = 1;
        }
        put_escaped(out, cp);
        s += n;
        len -= (size_t)n;
    }
    strbuf_putc(out, '"');
}

/* How containers are laid out: on one line, or indented with keys sorted. */
struct layout {
    bool pretty;
    int depth;
};

static void put_value(struct strbuf *out, const json_t *v, struct layout at);

static void put_break(struct strbuf *out, struct layout at, bool first)
{
    if (at.pretty) {
        strbuf_puts(out, first ? "\n" : ",\n");
        for (int i = 0; i < at.depth; i++)
            strbuf_puts(out, "  ");
    } else if (!first) {
        strbuf_puts(out, ", ");
    }
}

static void put_close(struct strbuf *out, struct layout at, bool empty, char c)
{
    if (at.pretty && !empty) {
        strbuf_putc(out, '\n');
        for (int i = 1; i < at.depth; i++)
            strbuf_puts(out, "  ");
    }
    strbuf_putc(out, c);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_object(struct strbuf *out, json_t *v, struct layout at)
{
    const size_t n = json_object_size(v);
    const char **keys = mem_array(n, sizeof *keys), *key;
    json_t *item;
    size_t i = 0;

    if (!keys) {
        out->failed = true;
        return;
    }
    json_object_foreach(v, key, item) keys[i++] = key;
    if (at.pretty)
        qsort(keys, n, sizeof *keys, by_bytes);
    strbuf_putc(out, '{');
    at.depth++;
    for (i = 0; i < n; i++) {
        put_break(out, at, i == 0);
        put_string(out, keys[i], strlen(keys[i]));
        strbuf_puts(out, ": ");
        put_value(out, json_object_get(v, keys[i]), at);
    }
    put_close(out, at, n == 0, '}');
    mem_free(keys);
}

static void put_array(struct strbuf *out, const json_t *v, struct layout at)
{
    const size_t n = json_array_size(v);

    strbuf_putc(out, '[');
    at.depth++;
    for (size_t i = 0; i < n; i++) {
        put_break(out, at, i == 0);
        put_value(out, json_array_get(v, i), at);
    }
    put_close(out, at, n == 0, ']');
}

static void put_value(struct strbuf *out, const json_t *v, struct layout at)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        put_object(out, (json_t *)v, at); /* jansson's iterators take no const */
        return;
    case JSON_ARRAY:
        put_array(out, v, at);
        return;
    case JSON_STRING:
        put_string(out, json_string_value(v), json_string_length(v));
        return;
    case JSON_INTEGER:
        strbuf_printf(out, "%lld", (long long)json_integer_value(v));
        return;
    case JSON_REAL:
        json_write_number(out, json_real_value(v));
        return;
    case JSON_TRUE:
        strbuf_puts(out, "true");
        return;
    case JSON_FALSE:
        strbuf_puts(out, "false");
        return;
    case JSON_NULL:
        strbuf_puts(out, "null");
        return;
    }
}

void json_write(struct strbuf *out, const json_t *v)
{
    put_value(out, v, (struct layout){ false, 0 });
}

void json_write_pretty(struct strbuf *out, const json_t *v)
{
    put_value(out, v, (struct layout){ true, 0 });
}
