/* train/combine.h - several adapters as one: `graft combine`. The result is a LoRA adapter whose
 * change of each weight is the combined one. */
#ifndef TRAIN_COMBINE_H
#define TRAIN_COMBINE_H

#include "peft/combine.h"

struct combine_run_opts {
    const char *base;           /* NULL: the adapters' own files tell the shapes, which LoRA's do */
    const char *const *adapter; /* folders */
    const double *weight;       /* by adapter; NULL: 1 each */
    int adapters;
    struct combine_opts how;
    const char *output;
    bool force;
};

struct combine_report {
    int64_t modules, parameters;
    int64_t least_rank, most_rank;
    double lost; /* share of the change that the rank cannot hold: |D - D_r| / |D|, all modules */
    size_t bytes;
};

/* EARG: a method that changes no weights, or needs the base and has none, by name; a wrong option;
 * the output exists. */
enum graft_status combine_run(const struct combine_run_opts *opts, struct combine_report *out,
                              struct graft_err *err);

#endif
