/* io/build.h - what the readers share while they fill a store; nobody outside io/ includes it. */
#ifndef IO_BUILD_H
#define IO_BUILD_H

#include "io/store.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are used as they lie in memory");

/* A store that is being filled. Zeroed memory is an empty one. */
struct store_build {
    struct store s; /* maps, arena, path and format; its tensors come with build_finish */
    struct stored_tensor *item;
    int64_t count, cap;
    size_t copied; /* bytes that had to move because the file does not align them */
};

enum graft_status build_begin(struct store_build *b, const char *path, const char *format,
                              int map_count, struct graft_err *err);
/* Map `path` as the next of `map_count` files. */
enum graft_status build_map(struct store_build *b, const char *path, struct mapped_file *out,
                            struct graft_err *err);
/* A new zeroed tensor at the end; the pointer holds until the next call. */
enum graft_status build_add(struct store_build *b, struct stored_tensor **out,
                            struct graft_err *err);
/* Sort by name, refuse a name that is there twice, hand the store over. Releases `b` either way. */
enum graft_status build_finish(struct store_build *b, struct store *out, struct graft_err *err);
void build_release(struct store_build *b);

/* Set type, dims, rows, cols and bytes (nf4 and fp4: of the codes). False when the product of the
 * shape overflows, or when a row is not a whole number of the format's blocks. */
bool tensor_shape(struct stored_tensor *t, enum qtype type, int ndim, const int64_t *dim);
/* Bytes that the pointer to values of this type has to be aligned to. */
size_t type_align(enum qtype type);
/* `*data` itself, or a copy in the arena when it is not aligned: files may put a tensor anywhere,
 * whoever reads a store may rely on alignment. */
enum graft_status build_align(struct store_build *b, const char *name, const void **data,
                              size_t bytes, size_t align, struct graft_err *err);

/* A name from a file in a form that messages can hold: cut, without control characters. */
struct shown {
    char text[128];
};
const char *show_bytes(struct shown *out, const char *s, size_t len);
#define SHOW_BYTES(s, len) show_bytes(&(struct shown){ { 0 } }, (s), (len))
#define SHOW(s)            SHOW_BYTES((s), strlen(s))

/* "(2, 3)" for messages. */
const char *show_dims(struct shown *out, int ndim, const int64_t *dim);
#define SHOW_DIMS(ndim, dim) show_dims(&(struct shown){ { 0 } }, (ndim), (dim))

#endif
