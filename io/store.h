/* io/store.h - the tensors of one checkpoint, whichever container they are in.
 *
 * A store is a list of named matrices that point into mapped files: nothing is copied. Containers:
 * safetensors (one file or shards with an index), GGUF, Graft's own HDF5. What a name means is
 * the business of models/ and peft/. Every byte is checked before use; stores of hostile files are
 * refused with EFORMAT, file and tensor named. */
#ifndef IO_STORE_H
#define IO_STORE_H

#include "core/file.h"
#include "quant/quant.h"

enum { STORE_MAX_DIM = 8 };

struct stored_tensor {
    const char *name;
    int ndim;
    int64_t dim[STORE_MAX_DIM]; /* row-major, as PyTorch prints it */
    size_t bytes;               /* of mat.data */
    struct qmat mat;  /* rows = product of all dims but the last, cols = last (scalar: 1, 1) */
    const char *file; /* where it is, for messages */
};

struct store {
    struct stored_tensor *tensor; /* sorted by name, no name twice */
    int64_t count;
    const char *path;   /* as opened, for messages */
    const char *format; /* "safetensors", "gguf", "graft-h5" */
    struct arena mem;
    struct mapped_file *map;
    int map_count;
};

/* (optional result) NULL when there is no tensor of that name. */
const struct stored_tensor *store_find(const struct store *s, const char *name);
/* Unmap and free; `s` may be zeroed memory. */
void store_release(struct store *s);

#endif
