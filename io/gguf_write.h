/* io/gguf_write.h - writing GGUF files, version 3: adapters for llama.cpp, and merged models. */
#ifndef IO_GGUF_WRITE_H
#define IO_GGUF_WRITE_H

#include "io/gguf.h"

/* The keys of a file being written, in order. Zeroed memory is an empty list; a failed allocation
 * is told by gguf_write. */
struct gguf_keys {
    struct strbuf bytes;
    uint64_t count;
};
void gguf_keys_release(struct gguf_keys *k);
void gguf_put_str(struct gguf_keys *k, const char *key, const char *value);
void gguf_put_u32(struct gguf_keys *k, const char *key, uint32_t value);
void gguf_put_f32(struct gguf_keys *k, const char *key, float value);
/* A key of another file with its value, byte for byte. */
void gguf_put_copy(struct gguf_keys *k, const struct gguf_value *v);
/* All keys of `g` in its file's order but those named (count). */
enum graft_status gguf_put_all(struct gguf_keys *k, const struct gguf *g, const char *const *but,
                               int count, struct graft_err *err);

/* The tensors of `g` in its file's order (as far as their data tells), for a copy of it; the caller
 * frees the list with mem_free. ENOMEM. */
enum graft_status gguf_tensors_in_order(const struct gguf *g, const struct stored_tensor ***out,
                                        struct graft_err *err);

struct gguf_entry {
    const char *name;
    enum qtype type; /* one that ggml has */
    int ndim;        /* at most 4 */
    int64_t dim[4];  /* row-major, as in struct stored_tensor */
};
/* Called for each tensor in order: write its bytes with out_file_write. */
typedef enum graft_status gguf_fill(void *user, const struct gguf_entry *e, struct out_file *f,
                                    struct graft_err *err);
/* `align`: 32, or what the keys' general.alignment says. Atomic: nothing is left on failure. EARG:
 * a type ggml lacks, a row that is no whole number of blocks, a name that comes twice or is too
 * long; EWRITE; what `fill` returns. */
enum graft_status gguf_write(const char *path, const struct gguf_keys *keys,
                             const struct gguf_entry *entry, int64_t count, int64_t align,
                             gguf_fill *fill, void *user, struct graft_err *err);

/* Put one string more among the keys of a file, in place of one of that name. The file is written
 * anew beside itself and replaces itself. EIO, EFORMAT, EARG, EWRITE. */
enum graft_status gguf_annotate(const char *path, const char *key, const char *value,
                                struct graft_err *err);

#endif
