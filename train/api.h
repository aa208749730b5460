/* train/api.h - what the parts of the public interface share: what hides behind its opaque structs.
 */
#ifndef TRAIN_API_H
#define TRAIN_API_H

#include "train/generate.h"

struct graft_adapter {
    struct graft_model *model;
    int task; /* index into the session's tasks */
    struct graft_adapter *next;
};

struct graft_model {
    struct session session;
    struct generator *generator;
    struct graft_adapter *adapters;
    int compute, threads;
};

/* The threads of a model's calls: enter returns what leave puts back. 0: as OpenMP has it. */
int threads_enter(int threads);
void threads_leave(int before);

/* The index of the adapter (NULL: TASK_BASE); EARG when it belongs to another model. */
enum graft_status task_of(const struct graft_model *m, const struct graft_adapter *a, int *out,
                          struct graft_err *err);
/* The tokenizer of an adapter or, with NULL, the base; EARG when there is none. */
enum graft_status tokenizer_of(const struct graft_model *m, int task, const struct tokenizer **out,
                               struct graft_err *err);

#endif
