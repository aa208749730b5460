/* io/safetensors.h - the safetensors format (huggingface/safetensors README and tensor.rs). */
#ifndef IO_SAFETENSORS_H
#define IO_SAFETENSORS_H

#include "io/store.h"

/* One .safetensors file. EIO, EFORMAT (all checks of the format, duplicate names refused too). */
enum graft_status safetensors_open(const char *path, struct store *out, struct graft_err *err);
/* The same over bytes in memory, which have to outlive the store; `name` stands in messages. */
enum graft_status safetensors_parse(const char *name, const void *bytes, size_t size,
                                    struct store *out, struct graft_err *err);
/* A Hugging Face folder: model.safetensors, or the shards of model.safetensors.index.json. A
 * missing shard, a tensor that is not where the index says or is in two shards: EIO / EFORMAT. A
 * folder that holds only pickles (.bin, .pt) is refused with the way to convert it. */
enum graft_status safetensors_open_folder(const char *dir, struct store *out,
                                          struct graft_err *err);

/* Writing: declare every tensor, then give the bytes in the order `safetensors_begin` fixed (dtype
 * descending, then name, as the reference writes), then commit. */
struct safetensors_entry {
    const char *name;
    enum qtype type; /* float or plain integer types */
    int ndim;
    int64_t dim[STORE_MAX_DIM];
};
/* Called for each tensor in file order: write its bytes with out_file_write. `e` is the caller's
 * own. */
typedef enum graft_status safetensors_fill(void *user, const struct safetensors_entry *e,
                                           struct out_file *f, struct graft_err *err);
/* `metadata` is a NULL-terminated list of key, value pairs. Atomic: nothing is left on failure. */
enum graft_status safetensors_write(const char *path, const struct safetensors_entry *entries,
                                    int64_t count, const char *const *metadata,
                                    safetensors_fill *fill, void *user, struct graft_err *err);

/* Append the metadata's value of `key`, nothing when there is none. EIO, EFORMAT. */
enum graft_status safetensors_metadata(const char *path, const char *key, struct strbuf *out,
                                       struct graft_err *err);
/* Put one pair more into the metadata of a file of safetensors_write that has some. The file is
 * written anew beside itself, piece by piece, and replaces itself. */
enum graft_status safetensors_annotate(const char *path, const char *key, const char *value,
                                       struct graft_err *err);

#endif
