/* train/phase.h - what a method does between the steps of a run (peft/adapter.h, adapter_phases):
 * passes whose gradients are gathered and train nothing, and parts that begin to train later. */
#ifndef TRAIN_PHASE_H
#define TRAIN_PHASE_H

#include "train/setup.h"

/* Before anything is loaded: a file that the method would write is there already (EARG, unless
 * `force`), or cannot be written. */
enum graft_status phase_check(const struct run_config *c, bool force, struct graft_err *err);

/* Before step i (from 0). The passes go over the micro-batches that step i and those behind it take
 * next; these are trained on all the same. `dir`: for temporary files. *go_on is false when the run
 * ends here; after a wish to stop nothing has changed. */
enum graft_status phase_before_step(struct run *r, int64_t i, const char *dir, bool *go_on,
                                    struct graft_err *err);

#endif
