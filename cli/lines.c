#include "cli/lines.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum graft_status lines_read(const char *path, line_fn *take, void *user, struct graft_err *err)
{
    const bool std_in = !path || !strcmp(path, "-");
    FILE *f = std_in ? stdin : fopen(path, "rb");
    enum graft_status st = GRAFT_OK;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    if (!f)
        return graft_fail(err, GRAFT_EIO, "%s: %s", path, strerror(errno));
    for (int64_t i = 1; !st && (errno = 0, n = getline(&line, &cap, f)) >= 0; i++) {
        size_t len = (size_t)n;

        while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            len--;
        st = take(user, i, line, len, err);
    }
    if (!st && (ferror(f) || errno))
        st =
            graft_fail(err, GRAFT_EIO, "%s: %s", std_in ? "standard input" : path, strerror(errno));
    free(line); /* getline's own */
    if (!std_in)
        fclose(f);
    return st;
}
