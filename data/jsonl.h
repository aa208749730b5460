/* data/jsonl.h - the lines of a JSONL file: of a plain one mapped, of one compressed by gzip or
 * zstd through a buffer. Inside data/ only. */
#ifndef DATA_JSONL_H
#define DATA_JSONL_H

#include "core/file.h"
#include "core/input.h"

struct jsonl {
    const char *path;       /* borrowed */
    struct mapped_file map; /* plain */
    struct input *in;       /* compressed; NULL: plain */
    char *buf;              /* compressed: cap bytes */
    size_t cap;
    const char *pos, *end; /* bytes that are there and not handed out */
    const char *kept;      /* plain: what lies before may have left memory */
    bool ended;            /* nothing comes behind `end` */
    int64_t seen;          /* lines passed, blank ones that may be the file's last too */
    int64_t line;          /* of the line handed out last; from 1 */
};

/* EIO; EFORMAT when the file is of another kind (Parquet, CSV, a JSON array, UTF-16), with the way
 * to convert it, or holds no record. A UTF-8 byte order mark is skipped. */
enum graft_status jsonl_open(const char *path, struct jsonl *out, struct graft_err *err);
void jsonl_close(struct jsonl *j);

/* The next line without its end (LF or CR LF). It may be blank, but for those at the end of the
 * file, which are left out. JSONL_WAIT: call jsonl_more first, which invalidates the lines that
 * were handed out before. */
enum jsonl_next { JSONL_LINE, JSONL_WAIT, JSONL_END };
enum jsonl_next jsonl_next(struct jsonl *j, const char **line, size_t *len);
enum graft_status jsonl_more(struct jsonl *j, struct graft_err *err);
/* The lines handed out so far are no longer needed: their part of a mapped file may leave memory.
 */
void jsonl_forget(struct jsonl *j);

/* EFORMAT as "PATH:LINE: reason" when `line` is blank, no UTF-8 or longer than any record can be.
 */
enum graft_status jsonl_check(const char *path, int64_t number, const char *line, size_t len,
                              struct graft_err *err);

#endif
