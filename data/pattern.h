/* data/pattern.h - patterns of a tokenizer.json: literal text or a regular expression.
 *
 * Expressions are written for Oniguruma with Ruby's syntax; they are rewritten for PCRE2 with the
 * character classes spelled out. What would not mean the same is refused. */
#ifndef DATA_PATTERN_H
#define DATA_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/json.h"
#include "core/strbuf.h"

struct pattern {
    char *text; /* literal */
    size_t len;
    void *code; /* pcre2_code; NULL: literal */
    bool jit;
};

/* From {"String": "..."}, {"Regex": "..."} or a plain string. `part` names the component. EFORMAT
 * for an expression that is none or has syntax that is not supported. */
enum graft_status pattern_init(struct pattern *p, const json_t *o, const char *part,
                               struct graft_err *err);
enum graft_status pattern_regex(struct pattern *p, const char *text, size_t len, const char *part,
                                struct graft_err *err);
void pattern_release(struct pattern *p);

/* Rewrite an expression for PCRE2 (tests look at it too). */
enum graft_status pattern_translate(const char *text, size_t len, struct strbuf *out,
                                    struct graft_err *err);

/* What matching needs; one for each thread; zeroed memory is a fresh one. */
struct matcher {
    void *data, *context, *stack;
};
void matcher_release(struct matcher *m);

/* A walk over the matches in one text. */
struct pattern_walk {
    size_t from, last; /* where to search; the end of the last match, SIZE_MAX: none */
};
/* The next match of valid UTF-8 `s`: *found, [*start, *end). EFORMAT when the expression needs too
 * many steps. */
enum graft_status pattern_next(const struct pattern *p, struct matcher *m, const char *s,
                               size_t len, struct pattern_walk *w, bool *found, size_t *start,
                               size_t *end, struct graft_err *err);

#endif
