/* models/checkpoint.h - a base as it lies on disk: a Hugging Face folder, a GGUF file or an .h5
 * container, seen through one struct with Hugging Face's tensor names and row order. */
#ifndef MODELS_CHECKPOINT_H
#define MODELS_CHECKPOINT_H

#include "io/container.h"
#include "models/config.h"

enum checkpoint_kind { CHECKPOINT_FOLDER, CHECKPOINT_GGUF, CHECKPOINT_CONTAINER };

struct checkpoint {
    enum checkpoint_kind kind;
    const char *path;
    struct model_config config;
    struct store *store; /* of the folder or container; GGUF: see checkpoint_find */
    char hash[17];       /* fingerprint of the weights: 16 hex digits */
    /* the parts, by kind; the others are empty */
    struct store folder;
    struct gguf gguf;
    struct container container;
    struct arena mem;
};

/* EIO; EFORMAT, also for what is not supported, by name. Without `weights` a folder needs no more
 * than its config.json, and there are no tensors and no hash. */
enum graft_status checkpoint_open(const char *path, bool weights, struct checkpoint *out,
                                  struct graft_err *err);
void checkpoint_release(struct checkpoint *c);

/* The tensor of a Hugging Face name; NULL when absent. GGUF: name translated; rows of q and k come
 * in the file's order (see checkpoint_rows_permuted). */
const struct stored_tensor *checkpoint_find(const struct checkpoint *c, const char *name);
/* GGUF of some architectures: rows of this tensor lie (half, 2) per head, ours are (2, half).
 * Returns the head size, 0 when rows are in order. */
int64_t checkpoint_rows_permuted(const struct checkpoint *c, const char *name);

/* What a GGUF file of such a model says, for writers. The name of a tensor of Hugging Face's, into
 * `out`; false: there is none. */
bool gguf_name(const struct arch *a, const char *name, char out[128]);
/* The head size where the rows of this tensor lie (half, 2) per head (slot_stored_row), else 0. */
int64_t gguf_permutes(const struct model_config *c, const char *name);
/* general.architecture */
const char *gguf_architecture(const struct model_config *c);

/* Tensors the config does not explain: listed in an EFORMAT. `known` (count) are sorted names. */
enum graft_status checkpoint_check_names(const struct checkpoint *c, const char *const *known,
                                         int64_t count, struct graft_err *err);

/* config.json of the base, made from a GGUF's keys where there is none; the caller owns it. */
enum graft_status checkpoint_config_json(const struct checkpoint *c, json_t **out,
                                         struct graft_err *err);

#endif
