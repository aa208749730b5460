/* train/setup.h - what a run is made of, between setup.c (make it) and loop.c (run it). */
#ifndef TRAIN_SETUP_H
#define TRAIN_SETUP_H

#include "train/run.h"

struct run {
    const struct run_config *config; /* `own` */
    struct run_config own;           /* as given, with the date the template is told */
    const struct run_hooks *hooks;
    struct base base;
    struct adapter *adapter;
    struct dataset train, valid;
    bool has_valid;
    struct loader *loader;
    struct net net;
    struct evaluator *evaluator; /* with a valid set */
    struct optim_param *param;
    struct optim *optim;
    struct schedule schedule;
    int64_t steps_per_epoch, steps;
    int64_t max_tokens, max_segments;
    struct memory_plan memory;
    struct arena mem;
};

/* In place; `dry` allocates neither slab nor optimiser state. On failure everything is released. */
enum graft_status run_setup(const struct run_config *config, const struct run_hooks *hooks,
                            bool dry, struct run *out, struct graft_err *err);
void run_release(struct run *r);
/* What the run has made so far, into the existing folder: an adapter, or the checkpoint of a method
 * that trains every weight. */
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

#endif
