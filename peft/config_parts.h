/* peft/config_parts.h - the parts an adapter's config is made of: what a group of methods reads out
 * of the raw keys, and how it writes them again. A method with keys of its own is one part more. */
#ifndef PEFT_CONFIG_PARTS_H
#define PEFT_CONFIG_PARTS_H

#include "peft/config.h"
#include "peft/config_keys.h"

/* One map being read. */
struct reading {
    const struct key_table *table; /* the keys that the method has */
    const struct schema_source *src;
    bool loaded; /* the values exist already: start values decide nothing */
    struct arena *mem;
    struct graft_err *err;
};

struct config_part {
    const char *users; /* "lora, dora": the methods that have it; NULL: all */
    /* Give meaning to the raw keys; EARG by config_bad and its like. */
    enum graft_status (*read)(const struct reading *r, const struct adapter_raw *raw,
                              struct adapter_config *c);
    /* Put the keys that work, as PEFT writes them. */
    void (*put)(json_t *o, const struct adapter_config *c);
    /* (optional) Graft's own keys, which adapter_config.json does not have. */
    void (*put_own)(json_t *o, const struct adapter_config *c);
};
extern const struct config_part lora_part, variant_part, ia3_part, layers_part, targets_part;
extern const struct config_part prompt_part, bottleneck_part, rosa_part;
extern const struct config_part saved_part, copies_part, last_layers_part, lpft_part;
extern const struct config_part *const config_parts[]; /* NULL-terminated; peft/config.c */

/* EARG "PLACE: adapter.KEY: ...". */
enum graft_status config_bad(const struct reading *r, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* EARG "found X, want ..." with what the key's row says. */
enum graft_status config_bad_form(const struct reading *r, const char *key, const json_t *v);
enum graft_status config_no_memory(const struct reading *r);

/* A JSON string that is not empty and holds no U+0000. */
bool config_is_text(const json_t *v);
/* A name or a list of names, copied. */
enum graft_status config_names(const struct reading *r, const char *key, const json_t *v,
                               const char ***out, int *count);
/* A list of names (kept sorted: it is a set), or one regular expression; what asks for nothing is
 * TARGETS_DEFAULT. */
enum graft_status config_targets(const struct reading *r, const char *key, const json_t *v,
                                 struct target_set *out);
/* A map of regular expressions to numbers (rank_pattern: whole ones from 1). */
enum graft_status config_pattern(const struct reading *r, const char *key, const json_t *map,
                                 struct pattern_value **out, int *count);

/* For writing. 8, not 8.0, where the number is whole. */
json_t *config_number(double x);
json_t *config_text(const char *s); /* null for NULL */
json_t *config_name_list(const char *const *name, int count);
/* Each value times `factor`. */
json_t *config_pattern_map(const struct pattern_value *p, int count, double factor);
json_t *config_target_set(const struct target_set *t);

#endif
