/* data/jinja.h - templates in the part of Jinja2 that chat templates use, rendered byte for byte as
 * transformers renders them: an immutable sandbox with trim_blocks, lstrip_blocks, loop controls
 * and `generation` blocks.
 *
 * A template reads nothing but its input and is bounded in steps, memory, output and depth. Once
 * made it is immutable: any number of threads may render it. */
#ifndef DATA_JINJA_H
#define DATA_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json.h"
#include "core/status.h"
#include "core/strbuf.h"

struct jinja;

/* A variable of the template; a NULL value is None. Borrowed during the call. */
struct jinja_var {
    const char *name;
    const json_t *value;
};
/* Bytes [begin, end) of the rendered text. Zeroed memory is an empty list. */
struct jinja_span {
    size_t begin, end;
};
struct jinja_spans {
    struct jinja_span *span;
    int64_t count, cap;
};
void jinja_spans_release(struct jinja_spans *s);
enum graft_status jinja_spans_add(struct jinja_spans *s, size_t begin, size_t end,
                                  struct graft_err *err);

/* What strftime_now tells: all 0 when the template may not ask. */
struct jinja_date {
    int year, month, day; /* from 1 */
    int hour, minute, second;
};

/* Limits of one rendering. */
enum {
    JINJA_MAX_TEMPLATE = 4 << 20,
    JINJA_MAX_STEPS = 20000000,
    JINJA_MAX_OUTPUT = 64 << 20,
    JINJA_MAX_MEMORY = 256 << 20,
    JINJA_MAX_DEPTH = 400,  /* calls and expressions within each other */
    JINJA_MAX_NESTING = 100 /* of brackets and blocks in the source */
};

/* EFORMAT for a template that Jinja2 refuses as well, and for what is Jinja2 but "not supported"
 * here; both begin "template line N: ". */
enum graft_status jinja_new(const char *text, size_t len, struct jinja **out,
                            struct graft_err *err);
void jinja_free(struct jinja *t);
bool jinja_has_generation(const struct jinja *t);          /* has `generation` blocks */
bool jinja_names(const struct jinja *t, const char *name); /* names a variable or function so */

/* Append the rendered text to `out`, and to `spans` (may be NULL) where the generation blocks lie
 * in what was appended. Fails as jinja_new; then `out` is as it was. */
enum graft_status jinja_render(const struct jinja *t, const struct jinja_var *var, int vars,
                               const struct jinja_date *now, struct strbuf *out,
                               struct jinja_spans *spans, struct graft_err *err);

#endif
