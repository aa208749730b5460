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
    bool *idle; /* adapter->idle as the optimiser knows it */
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

#endif
