/* data/pretokenize.h - cutting normalised text into the pieces that the model sees one by one. */
#ifndef DATA_PRETOKENIZE_H
#define DATA_PRETOKENIZE_H

#include "core/json.h"
#include "data/pattern.h"
#include "data/traced.h"

struct piece {
    size_t start, end; /* in the current text */
};

/* What one call needs; zeroed memory is a fresh one but for text.trace, which the caller sets. */
struct pretok_work {
    const struct traced *text; /* what the pieces are parts of */
    struct traced own[2];      /* rewritten text */
    struct piece *piece, *next;
    size_t count, cap, next_count, next_cap;
    struct matcher *matcher; /* borrowed */
    struct strbuf flags;     /* of the parts between and in matches */
};
void pretok_work_release(struct pretok_work *w);

enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_WITH_PREVIOUS,
    SPLIT_WITH_NEXT,
    SPLIT_CONTIGUOUS
};
enum prepend_scheme { PREPEND_ALWAYS, PREPEND_NEVER, PREPEND_FIRST };

struct pretok_def;
struct pretokenizer {
    const struct pretok_def *def;
    struct pattern pattern;
    bool has_pattern;
    enum split_behavior behavior;
    bool invert, individual, split;
    bool (*member)(uint32_t cp); /* splits at these characters instead of a pattern */
    enum prepend_scheme prepend;
    char mark[5]; /* Metaspace: what stands for a space */
    size_t mark_len;
};
struct pretok_chain {
    struct pretokenizer *item;
    int count;
    bool bytes;        /* the last one is ByteLevel: pieces stay raw bytes */
    bool needs_origin; /* a Metaspace that prepends to the first piece only */
};

/* One row per kind. */
struct pretok_def {
    const char *type;
    enum graft_status (*parse)(struct pretokenizer *p, const json_t *o, struct graft_err *err);
    enum graft_status (*apply)(const struct pretokenizer *p, struct pretok_work *w,
                               struct graft_err *err);
};
extern const struct pretok_def pretok_defs[];
extern const size_t pretok_def_count;

/* From the "pre_tokenizer" member (null: none). EFORMAT names a type not supported. */
enum graft_status pretok_init(struct pretok_chain *c, const json_t *o, struct graft_err *err);
void pretok_release(struct pretok_chain *c);
/* Cut [start, end) of `text`: leaves w->text and w->piece[0 .. count), none empty. */
enum graft_status pretok_apply(const struct pretok_chain *c, struct pretok_work *w,
                               const struct traced *text, size_t start, size_t end,
                               struct graft_err *err);

#endif
