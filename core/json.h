/* core/json.h - jansson with Graft's rules: duplicate keys refused, errors name file and line,
 * everything outside ASCII escaped on output, numbers with the digits they need. */
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include <jansson.h>

#include "core/status.h"
#include "core/strbuf.h"

enum { JSON_FILE_LIMIT = 256 << 20 };

/* Parse a file or a byte range (`name` stands in messages). Strings may hold U+0000. The caller
 * owns *out (json_decref). EIO, or EFORMAT as "NAME:LINE: reason". */
enum graft_status json_read_file(const char *path, json_t **out, struct graft_err *err);
enum graft_status json_read(const char *name, const char *text, size_t len, json_t **out,
                            struct graft_err *err);
/* One line of a JSONL file: EFORMAT as "NAME:LINE: column C: reason". */
enum graft_status json_read_line(const char *name, int64_t line, const char *text, size_t len,
                                 json_t **out, struct graft_err *err);

/* Append `v` to `out`: one line, ASCII only, reals as the shortest text that reads back the same.
 */
void json_write(struct strbuf *out, const json_t *v);
/* The same over several lines, indented by 2, keys sorted (config files for people). */
void json_write_pretty(struct strbuf *out, const json_t *v);
/* A number, or null when it is not finite; the same, written. */
json_t *json_number(double x);
void json_write_number(struct strbuf *out, double x);

#endif
