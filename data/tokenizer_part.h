/* data/tokenizer_part.h - reading the components of a tokenizer.json with checked types. */
#ifndef DATA_TOKENIZER_PART_H
#define DATA_TOKENIZER_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json.h"
#include "core/status.h"

enum { PART_DEPTH = 8, PART_COUNT = 64 }; /* nested Sequences; components after flattening */

/* The member `key` of `o`; absent or null gives the default. EFORMAT on another type. `part` names
 * the component in messages. */
enum graft_status part_bool(const json_t *o, const char *part, const char *key, bool dflt,
                            bool *out, struct graft_err *err);
enum graft_status part_int(const json_t *o, const char *part, const char *key, int64_t dflt,
                           int64_t max, int64_t *out, struct graft_err *err);
/* *s is borrowed from `o`; NULL when absent. */
enum graft_status part_text(const json_t *o, const char *part, const char *key, const char **s,
                            size_t *len, struct graft_err *err);
/* A text that must be there and not be empty. */
enum graft_status part_need_text(const json_t *o, const char *part, const char *key, const char **s,
                                 size_t *len, struct graft_err *err);
/* The "type" of component `o`; EFORMAT when `o` is no object or has none. */
enum graft_status part_type(const json_t *o, const char *part, const char **type,
                            struct graft_err *err);
/* Call `each` for component `o`, or for each member of a Sequence (in its array `list`). Null:
 * none. */
typedef enum graft_status part_fn(void *user, const json_t *o, const char *type,
                                  struct graft_err *err);
enum graft_status part_walk(const json_t *o, const char *part, const char *list, part_fn *each,
                            void *user, struct graft_err *err);
/* A copy of len bytes with a NUL behind; NULL when there is no memory. */
char *part_copy(const char *s, size_t len);

#endif
