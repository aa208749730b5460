/* core/strbuf.h - a growing byte string, always NUL-terminated; may hold NULs. */
#ifndef CORE_STRBUF_H
#define CORE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* STRBUF_INIT or zeroed memory is an empty string (buf is "" after the first add). `failed` sticks
 * when memory ran out: check once at the end. */
struct strbuf {
    char *buf;
    size_t len, cap;
    bool failed;
};
#define STRBUF_INIT                                                                                \
    {                                                                                              \
        NULL, 0, 0, false                                                                          \
    }

void strbuf_release(struct strbuf *s); /* frees; usable again as empty */
void strbuf_clear(struct strbuf *s);   /* empty, memory kept */
void strbuf_add(struct strbuf *s, const void *bytes, size_t len);
void strbuf_puts(struct strbuf *s, const char *text);
/* `len` more bytes, of any value, to be filled by the caller: where they begin, or NULL (and
 * `failed`) without memory. Takes just what is needed. */
char *strbuf_more(struct strbuf *s, size_t len);
void strbuf_putc(struct strbuf *s, char c);
void strbuf_printf(struct strbuf *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One code point as UTF-8. */
void strbuf_put_utf8(struct strbuf *s, uint32_t cp);
/* The contents as a C string, "" when nothing was added. */
const char *strbuf_str(const struct strbuf *s);

/* One code point from `s` (len bytes): returns the bytes it takes (1..4) and sets *cp; 0 when `s`
 * does not start with valid UTF-8 (overlong forms, surrogates and > U+10FFFF are not valid). */
int utf8_next(const char *s, size_t len, uint32_t *cp);

/* The name in `names` (count of them) nearest to `word` by edit distance; NULL when none is near
 * enough to be meant. */
const char *nearest_name(const char *word, const char *const *names, size_t count);

/* "1.5 GiB", "12 s", "3 min 20 s" into `out` (at least 32 bytes); returns `out`. */
char *format_bytes(char *out, double bytes);
char *format_seconds(char *out, double seconds);

#endif
