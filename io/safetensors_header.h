/* io/safetensors_header.h - the JSON header of a safetensors file as plain entries; nobody outside
 * io/ includes it.
 *
 * The header may have 100 MB, so it is read in one pass into flat entries instead of a tree: time
 * and memory stay in proportion to its length whatever it holds. */
#ifndef IO_SAFETENSORS_HEADER_H
#define IO_SAFETENSORS_HEADER_H

#include "io/build.h"

enum { ST_HEADER_MAX = 100 * 1000 * 1000 }; /* bytes, the format's own limit */

/* The format's types in its own ascending order, which the writer sorts by. */
struct st_dtype {
    const char *name;
    int bits;
    enum qtype type; /* QT_COUNT: legal in a file, not supported here */
};
enum { ST_DTYPE_COUNT = 22 };
extern const struct st_dtype st_dtypes[ST_DTYPE_COUNT];

struct st_entry {
    const char *name; /* in the arena */
    uint64_t begin, end;
    int dtype; /* row of st_dtypes */
    int ndim;
    int64_t dim[STORE_MAX_DIM];
};

struct st_header {
    struct st_entry *entry; /* mem_free by the caller, on failure too */
    int64_t count, cap;
};

/* `text`: the header, valid UTF-8. `file` stands in messages; names go into `mem`. EFORMAT with the
 * place in the file and what was wanted, ENOMEM. */
enum graft_status st_header_read(const char *file, const char *text, size_t len, struct arena *mem,
                                 struct st_header *out, struct graft_err *err);

/* All tensors of one file into `b`; `name` lives as long as the store (safetensors.c). */
enum graft_status st_file_read(struct store_build *b, const char *name, const void *bytes,
                               size_t size, struct graft_err *err);

#endif
