/* train/tasks.h - adapters by task name over one base: --adapter NAME=DIR ... --task NAME.
 *
 * Adapters come and go while the base stays; the index of one never changes while it is there. */
#ifndef TRAIN_TASKS_H
#define TRAIN_TASKS_H

#include "train/base.h"
#include "train/facts.h"
#include "train/virtual.h"

struct task {
    const char *name, *dir; /* NULL: an empty place, which the next tasks_add takes */
    struct adapter_config config;
    struct facts facts;
    struct adapter *adapter;    /* NULL until tasks_load */
    struct virtual_tokens virt; /* of its records; set by the session */
    const struct text *text;    /* borrowed: the words of its folder; NULL: those of the base */
    struct arena mem;
};
struct task_list {
    struct task *task; /* moves when one is added */
    int count, cap;    /* places, empty ones too */
};

enum { TASK_BASE = -1 }; /* the base alone */

/* Parse "[NAME=]DIR" arguments and read configs and facts. A text that names an existing folder is
 * a folder; NAME is [A-Za-z0-9_.-]+, by default the folder's own name. EARG: bad or double names.
 */
enum graft_status tasks_open(const char *const *arg, int count, struct task_list *out,
                             struct graft_err *err);
void tasks_release(struct task_list *t);
/* One more, its config and facts read: *out is its index. `name` NULL: the folder's own name. EARG:
 * a bad name or one that is there already; EIO: no folder. */
enum graft_status tasks_add(struct task_list *t, const char *name, const char *dir, int *out,
                            struct graft_err *err);
/* Free one and leave its place empty; graphs over its adapter must be gone. */
void tasks_remove(struct task_list *t, int index);

/* --quant for a list of adapters: `given` when it is not auto, else what all their facts agree on,
 * else auto (leave the base as it is). EARG when they disagree. */
enum graft_status tasks_quant(const struct task_list *t, const struct quant_config *given,
                              struct quant_config *out, struct graft_err *err);
/* Build and fill every adapter over the model; notes another base by hash. */
enum graft_status tasks_load(struct task_list *t, const struct model *m, struct graft_err *err);
enum graft_status task_load(struct task *k, const struct model *m, struct graft_err *err);
/* Index of a task; EARG names the ones there are. `name` NULL: the only one, the base when there is
 * none, EARG with several. */
enum graft_status tasks_find(const struct task_list *t, const char *name, int *out,
                             struct graft_err *err);
/* What the adapter of `task`, which may be TASK_BASE, puts before a record or in it. */
struct virtual_tokens tasks_virtual(const struct task_list *t, int task);
/* The tokenizer of the adapters: theirs when a folder has one, else the base's. */
const char *tasks_text_path(const struct task_list *t, const char *base);

#endif
