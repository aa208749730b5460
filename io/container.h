/* io/container.h - Graft's quantised base in one HDF5 file (`graft quantize`).
 *
 * /tensors/NAME is a group with the datasets of one tensor (data as bytes; absmax or absmax8 +
 * absmax2 + map8; lut) and its attributes (type, shape, block, block2, offset); /files/NAME holds
 * small text files of the checkpoint (config.json, tokenizer.json, ...); /graft has the format's
 * version and the base's hash. Datasets are contiguous, those of 4096 bytes and more page-aligned,
 * so loading is one mmap and processes share it. Each dataset has a checksum (first 16 hex digits
 * of SHA-256), verified by container_verify; the structure before them has one that is verified
 * whenever the file is opened. The file's own tables are used, not the built-in ones.
 */
#ifndef IO_CONTAINER_H
#define IO_CONTAINER_H

#include "io/store.h"

struct container_file {
    const char *name;
    const char *data; /* NUL-terminated beyond len */
    size_t len;
};

struct container_sum {
    const char *name; /* "TENSOR/DATASET" or the file's name */
    const void *data;
    size_t len;
    char hex[17];
};

struct container {
    struct store store; /* names as in the Hugging Face checkpoint */
    struct container_file *file;
    int file_count;
    const char *base_hash; /* as given to container_write */
    struct container_sum *sum;
    int64_t sum_count;
};

/* Does the file say that it is one? (Not whether it is a good one.) */
bool container_is(const char *path);
/* EIO, EFORMAT. Checks structure and bounds, not the checksums. */
enum graft_status container_open(const char *path, struct container *out, struct graft_err *err);
void container_release(struct container *c);
const struct container_file *container_find_file(const struct container *c, const char *name);
/* Recompute every checksum; EFORMAT names the first dataset that differs. */
enum graft_status container_verify(const struct container *c, struct graft_err *err);

/* Tensor names without '/'. Atomic: temporary name, fsync, rename; the same input
 * gives the same bytes. Tensors in any format; base_hash may be NULL. EARG, EWRITE. */
enum graft_status container_write(const char *path, const struct stored_tensor *tensor,
                                  int64_t count, const struct container_file *file, int file_count,
                                  const char *base_hash, struct graft_err *err);

#endif
