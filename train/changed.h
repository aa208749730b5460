/* train/changed.h - a base that gave up what an adapter starts with: written once as a container
 * beside the run, and known by a hash of its own, so that the adapter is never used over another.
 */
#ifndef TRAIN_CHANGED_H
#define TRAIN_CHANGED_H

#include "train/base.h"

/* Its name in the run's folder. */
#define CHANGED_BASE_FILE "base.h5"

/* Who changed a base, and what it was. */
struct base_change {
    const char *by;   /* "pissa": init_lora_weights; NULL: nobody */
    const char *from; /* path of the base before */
};

/* After init: give the base in memory the hash of what it is now. */
void changed_base_rehash(struct base *b);
/* Write it, with a file graft_base.json in it that tells of the change. */
enum graft_status changed_base_write(const struct base *b, const struct base_change *c,
                                     const char *path, struct graft_err *err);
/* What the container `ck` tells of a change; strings in `mem`. Nothing when it is none. */
enum graft_status changed_base_read(const struct checkpoint *ck, struct arena *mem,
                                    struct base_change *out, struct graft_err *err);

#endif
