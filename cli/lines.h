/* cli/lines.h - the lines of a file or of standard input, one at a time as they come; those of a
 * file compressed by gzip or zstd too. */
#ifndef CLI_LINES_H
#define CLI_LINES_H

#include <stdint.h>

#include "core/status.h"

/* Call `take` for each line (number from 1, without its end). `path` NULL or "-":
 * standard input. EIO, EFORMAT for a damaged stream, or what `take` returns. */
typedef enum graft_status line_fn(void *user, int64_t line, const char *text, size_t len,
                                  struct graft_err *err);
enum graft_status lines_read(const char *path, line_fn *take, void *user, struct graft_err *err);

#endif
