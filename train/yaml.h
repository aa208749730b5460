/* train/yaml.h - YAML through libyaml, turned into JSON with the line of every value.
 *
 * Scalars are resolved by YAML's core schema (true, null, 12, 2e-4; yes and off are texts), JSON is
 * read as the YAML it is. One document; duplicate keys, unknown tags and what grows without bound
 * through aliases are refused. */
#ifndef TRAIN_YAML_H
#define TRAIN_YAML_H

#include <jansson.h>

#include "core/schema.h"

enum {
    YAML_FILE_LIMIT = 4 << 20,
    YAML_DEPTH_MAX = 64,
    YAML_NODES_MAX = 100000, /* after aliases are followed */
};

/* Where the value at a dotted path stood. */
struct yaml_line {
    char *path;
    size_t line;       /* from 1 */
    const char *place; /* "-s KEY=VALUE"; NULL: the file's line */
};

/* A parsed text. Zeroed memory is an empty one. */
struct yaml_doc {
    char *name; /* of the file, for messages */
    json_t *root;
    struct yaml_line *line;
    size_t line_count;
};

/* Parse `len` bytes into an empty `out`. EARG "NAME:LINE: reason". An empty text gives null. */
enum graft_status yaml_parse(const char *name, const char *text, size_t len, struct yaml_doc *out,
                             struct graft_err *err);
void yaml_doc_release(struct yaml_doc *d);

/* Parse one value as YAML, for options; the caller owns *out. EARG "PLACE: reason". */
enum graft_status yaml_parse_value(const char *place, const char *text, json_t **out,
                                   struct graft_err *err);

/* Put `value` (the reference is taken over, also on error) at the dotted path, making maps on the
 * way; null removes what is there. `place` (borrowed) is where messages say it stood. */
enum graft_status yaml_set(struct yaml_doc *d, const char *path, json_t *value, const char *place,
                           struct graft_err *err);

/* Places of values in `d`: a path without a line of its own has its parent's. */
struct schema_source yaml_source(struct yaml_doc *d);

/* Append `v` as YAML in block style (train/yaml_write.c): keys in their order, lists on one line.
 */
void yaml_write(const json_t *v, struct strbuf *out);

#endif
