/* train/setup.h - what a run is made of, between setup.c (make it) and loop.c (run it). */
#ifndef TRAIN_SETUP_H
#define TRAIN_SETUP_H

#include "train/changed.h"
#include "train/data.h"
#include "train/run.h"

struct run {
    const struct run_config *config; /* `own` */
    struct run_config own;           /* as given, with the date the template is told */
    const struct run_hooks *hooks;
    struct base base;
    struct base_change change; /* whoever changed the base, this run or one before; see base_path */
    const char *base_path;     /* of the base that the adapter goes with */
    struct adapter *adapter;
    struct run_data data;
    struct net net;
    struct evaluator *evaluator; /* with a valid set */
    struct optim_param *param;
    bool *idle; /* adapter->idle as the optimiser knows it */
    struct optim *optim;
    struct schedule schedule;
    int64_t steps_per_epoch, steps;          /* of the first epoch where they differ; of all */
    int64_t epoch, epoch_first, epoch_steps; /* the epoch at hand, its first step, how many */
    int64_t max_tokens, max_segments;
    struct memory_plan memory;
    struct arena mem;
};

/* In place; `dry` allocates neither slab nor optimiser state. On failure everything is released.
 * ESTOPPED when hooks->stop is set meanwhile. */
enum graft_status run_setup(const struct run_config *config, const struct run_hooks *hooks,
                            bool dry, struct run *out, struct graft_err *err);
void run_release(struct run *r);
/* train/whole.c: the adapter of a method that trains every weight: all of the base's values, with
 * the change of adapter.init_from in them. EARG: the base is quantised (the check); the change is
 * none of weights. */
enum graft_status run_check_whole(const struct run *r, struct graft_err *err);
enum graft_status run_make_whole(struct run *r, bool dry, struct graft_err *err);
/* train/save.c: what the run has made so far, into the folder, which is made: an adapter, or the
 * checkpoint of a method that trains every weight. */
enum graft_status run_save(struct run *r, const char *dir, struct graft_err *err);

/* train/lpft.c: the first stage of method lpft, the head alone, as a run of its own in the folder
 * "probe" of the output; *second: the config of the stage that follows, which starts from it
 * (valid as long as `config`, its arena `mem`). */
enum graft_status lpft_probe(const struct run_config *config, bool force,
                             const struct run_hooks *hooks, struct run_config *second,
                             struct arena *mem, struct run_result *out, struct graft_err *err);
/* The second stage's config alone, for a plan: it starts from the base. */
struct run_config lpft_second(const struct run_config *config);
extern const char lpft_folder[]; /* "probe" */

/* What step i (from 0) takes: the passes [first, end) of an epoch, after which `progress` epochs
 * are done. */
struct run_place {
    int64_t epoch, first, end;
    double progress;
};
enum graft_status run_step(struct run *r, int64_t i, struct run_place *out, struct graft_err *err);

#endif
