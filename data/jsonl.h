/* data/jsonl.h - the lines of a JSONL file, mapped. Inside data/ only. */
#ifndef DATA_JSONL_H
#define DATA_JSONL_H

#include "core/file.h"

struct jsonl {
    const char *path; /* borrowed */
    struct mapped_file map;
    const char *pos, *end; /* what is left, blank lines at the end not counted */
    int64_t line;          /* of the line handed out last; from 1 */
};

/* EIO; EFORMAT when the file is of another kind (Parquet, CSV, a JSON array, UTF-16, compressed),
 * with the way to convert it, or holds no record. A UTF-8 byte order mark is skipped. */
enum graft_status jsonl_open(const char *path, struct jsonl *out, struct graft_err *err);
void jsonl_close(struct jsonl *j);
/* The next line without its end (LF or CR LF); false at the end. It may be blank. */
bool jsonl_next(struct jsonl *j, const char **line, size_t *len);
/* EFORMAT as "PATH:LINE: reason" when `line` is blank or no UTF-8. */
enum graft_status jsonl_check(const char *path, int64_t number, const char *line, size_t len,
                              struct graft_err *err);

#endif
