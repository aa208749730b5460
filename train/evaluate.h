/* train/evaluate.h - `graft eval`: the loss of a file's records over a base and its adapters. */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "train/eval.h"
#include "train/session.h"

struct evaluate_opts {
    const char *base;
    const char *const *adapter; /* "[NAME=]DIR" */
    int adapters;
    const char *task; /* NULL: the only adapter */
    const char *data;
    const char
        *template_name; /* for conversations, instead of base's and adapters'; NULL: theirs */
    enum record_format format;
    struct quant_config quant;
    int compute; /* enum compute_type */
};

struct evaluate_result {
    struct eval_result sum;
    double *per_record; /* records: NLL over target tokens; NAN: dropped */
    int64_t *targets;   /* records */
    int64_t records, truncated, dropped;
    char format[16]; /* the base's linears as used: "nf4" */
    int compute;
    struct arena mem;
};
void evaluate_result_release(struct evaluate_result *r);

/* One forward pass after another over the records of `d` that `use` picks (NULL: all), with one
 * adapter or none (NULL). `per_record` as in eval_records. */
enum graft_status evaluate_records(const struct model *m, struct adapter *a,
                                   const struct dataset *d, const bool *use, int compute,
                                   double *per_record, struct eval_result *out,
                                   struct graft_err *err);

enum graft_status evaluate_run(const struct evaluate_opts *opts, struct evaluate_result *out,
                               struct graft_err *err);

#endif
