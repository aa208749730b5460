#include "core/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/mem.h"

void strbuf_release(struct strbuf *s)
{
    mem_free(s->buf);
    *s = (struct strbuf)STRBUF_INIT;
}

void strbuf_clear(struct strbuf *s)
{
    s->len = 0;
    s->failed = false;
    if (s->buf)
        s->buf[0] = '\0';
}

static bool grow(struct strbuf *s, size_t extra)
{
    size_t cap = s->cap ? s->cap : 64;
    char *p;

    if (s->failed || extra > SIZE_MAX / 4 - s->len) {
        s->failed = true;
        return false;
    }
    if (s->len + extra + 1 <= s->cap)
        return true;
    while (cap < s->len + extra + 1)
        cap *= 2;
    p = mem_resize(s->buf, s->len, cap);
    if (!p) {
        s->failed = true;
        return false;
    }
    s->buf = p;
    s->cap = cap;
    return true;
}

void strbuf_add(struct strbuf *s, const void *bytes, size_t len)
{
    if (!grow(s, len))
        return;
    if (len)
        memcpy(s->buf + s->len, bytes, len);
    s->len += len;
    s->buf[s->len] = '\0';
}

char *strbuf_more(struct strbuf *s, size_t len)
{
    const size_t cap = s->len + len + 1;
    char *p;

    if (s->failed)
        return NULL;
    if (cap > s->cap) {
        p = len > SIZE_MAX / 4 - s->len ? NULL : mem_resize(s->buf, s->len, cap);
        if (!p) {
            s->failed = true;
            return NULL;
        }
        s->buf = p;
        s->cap = cap;
    }
    s->len += len;
    s->buf[s->len] = '\0';
    return s->buf + s->len - len;
}

void strbuf_puts(struct strbuf *s, const char *text)
{
    strbuf_add(s, text, strlen(text));
}

void strbuf_putc(struct strbuf *s, char c)
{
    strbuf_add(s, &c, 1);
}

void strbuf_printf(struct strbuf *s, const char *fmt, ...)
{
    va_list ap, ap2;
    int n;

    va_start(ap, fmt);
    va_copy(ap2, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0 && grow(s, (size_t)n)) {
        vsnprintf(s->buf + s->len, (size_t)n + 1, fmt, ap2);
        s->len += (size_t)n;
    }
    va_end(ap2);
    va_end(ap);
}

void strbuf_put_utf8(struct strbuf *s, uint32_t cp)
{
    char b[4];
    size_t n;

    if (cp < 0x80) {
        b[0] = (char)cp;
        n = 1;
    } else if (cp < 0x800) {
        b[0] = (char)(0xc0 | cp >> 6);
        b[1] = (char)(0x80 | (cp & 0x3f));
        n = 2;
    } else if (cp < 0x10000) {
        b[0] = (char)(0xe0 | cp >> 12);
        b[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        b[2] = (char)(0x80 | (cp & 0x3f));
        n = 3;
    } else {
        b[0] = (char)(0xf0 | cp >> 18);
        b[1] = (char)(0x80 | (cp >> 12 & 0x3f));
        b[2] = (char)(0x80 | (cp >> 6 & 0x3f));
        b[3] = (char)(0x80 | (cp & 0x3f));
        n = 4;
    }
    strbuf_add(s, b, n);
}

const char *strbuf_str(const struct strbuf *s)
{
    return s->buf ? s->buf : "";
}

int utf8_next(const char *s, size_t len, uint32_t *cp)
{
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    const unsigned char *u = (const unsigned char *)s;
    int n;
    uint32_t c;

    if (len == 0)
        return 0;
    if (u[0] < 0x80) {
        *cp = u[0];
        return 1;
    }
    if ((u[0] & 0xe0) == 0xc0) {
        n = 2;
        c = u[0] & 0x1f;
    } else if ((u[0] & 0xf0) == 0xe0) {
        n = 3;
        c = u[0] & 0x0f;
    } else if ((u[0] & 0xf8) == 0xf0) {
        n = 4;
        c = u[0] & 0x07;
    } else {
        return 0;
    }
    if ((size_t)n > len)
        return 0;
    for (int i = 1; i < n; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (u[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *cp = c;
    return n;
}

enum { NAME_MAX_LEN = 63 };

/* Levenshtein distance, case ignored; names longer than NAME_MAX_LEN are compared by their start.
 */
static int edit_distance(const char *a, const char *b)
{
    int row[NAME_MAX_LEN + 1];
    const int n = (int)strnlen(a, NAME_MAX_LEN), m = (int)strnlen(b, NAME_MAX_LEN);

    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diag = row[0];

        row[0] = i;
        for (int j = 1; j <= m; j++) {
            const int swap = diag + (strncasecmp(a + i - 1, b + j - 1, 1) != 0);
            int best = row[j] + 1;

            diag = row[j];
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = swap < best ? swap : best;
        }
    }
    return row[m];
}

const char *nearest_name(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    int best_d = (int)strlen(word) / 3 + 2; /* farther than this was not meant */

    for (size_t i = 0; i < count; i++) {
        const int d = edit_distance(word, names[i]);

        if (d < best_d) {
            best_d = d;
            best = names[i];
        }
    }
    return best;
}

char *format_bytes(char *out, double bytes)
{
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    int u = 0;

    while (bytes >= 1024 && u < 4) {
        bytes /= 1024;
        u++;
    }
    snprintf(out, 32, u == 0 ? "%.0f %s" : "%.1f %s", bytes, unit[u]);
    return out;
}

char *format_seconds(char *out, double seconds)
{
    const int64_t s = (int64_t)(seconds + 0.5);

    if (seconds < 10)
        snprintf(out, 32, "%.1f s", seconds);
    else if (s < 60)
        snprintf(out, 32, "%d s", (int)s);
    else if (s < 3600)
        snprintf(out, 32, "%d min %d s", (int)(s / 60), (int)(s % 60));
    else
        snprintf(out, 32, "%d h %d min", (int)(s / 3600 % 100000), (int)(s / 60 % 60));
    return out;
}
