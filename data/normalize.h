/* data/normalize.h - what a tokenizer does to text before anything else. */
#ifndef DATA_NORMALIZE_H
#define DATA_NORMALIZE_H

#include "core/json.h"
#include "data/pattern.h"
#include "data/traced.h"

struct norm_def;
struct normalizer {
    const struct norm_def *def;
    struct pattern pattern; /* Replace */
    char *text;             /* Prepend, Replace: what is put in */
    size_t len;
    bool left, right; /* Strip */
};
struct normalizer_chain {
    struct normalizer *item;
    int count;
};

/* One row per kind. */
struct norm_def {
    const char *type;
    /* (optional) reads the component's keys; NULL: it has none */
    enum graft_status (*parse)(struct normalizer *n, const json_t *o, struct graft_err *err);
    /* appends the normalised `in` to the empty `out` */
    enum graft_status (*apply)(const struct normalizer *n, struct matcher *m,
                               const struct traced *in, struct traced *out, struct graft_err *err);
};
extern const struct norm_def norm_defs[];
extern const size_t norm_def_count;

/* From the "normalizer" member (null: an empty chain). EFORMAT names a type not supported. */
enum graft_status normalizer_init(struct normalizer_chain *c, const json_t *o,
                                  struct graft_err *err);
void normalizer_release(struct normalizer_chain *c);
/* Normalise *text in place; *spare is scratch with the same `trace`. */
enum graft_status normalizer_apply(const struct normalizer_chain *c, struct matcher *m,
                                   struct traced *text, struct traced *spare,
                                   struct graft_err *err);

/* The four Unicode forms (UAX #15), with the character data of the reference. */
enum graft_status normalize_form(const struct traced *in, struct traced *out, bool compat,
                                 bool compose, struct graft_err *err);

#endif
