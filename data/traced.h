/* data/traced.h - text whose every byte knows the offset it came from in the caller's text. */
#ifndef DATA_TRACED_H
#define DATA_TRACED_H

#include <stdbool.h>
#include <stddef.h>

#include "core/strbuf.h"

struct traced {
    struct strbuf text;
    size_t *at; /* text.len, when `trace` */
    size_t at_cap;
    bool trace, failed; /* set `trace` before the first byte; `failed` sticks */
};

void traced_release(struct traced *t);
void traced_clear(struct traced *t);
/* Bytes that all come from one offset. */
void traced_add(struct traced *t, const char *s, size_t len, size_t origin);
/* Bytes that come from origin, origin + 1, ... */
void traced_add_run(struct traced *t, const char *s, size_t len, size_t origin);
/* A part of another text, with its origins. */
void traced_copy(struct traced *t, const struct traced *from, size_t start, size_t len);
/* Where byte i came from; 0 when not traced. */
size_t traced_origin(const struct traced *t, size_t i);

#endif
