/* train/merge_impl.h - what the two forms of a merged model share: train/merge.c, merge_gguf.c. */
#ifndef TRAIN_MERGE_IMPL_H
#define TRAIN_MERGE_IMPL_H

#include "train/merge.h"

struct merge {
    const struct merge_opts *opts;
    struct base base;
    struct text own; /* the words of the adapter's folder, when it has some */
    const struct text *text;
    struct task_list tasks;
    struct adapter *adapter;
    struct model_tensor *tensor;
    int64_t count;
    enum qtype dtype;
    bool untied; /* head or embedding changed: both are written, and tied no longer */
    struct merge_report report;
    struct dataset data; /* of the audit */
    float *rows;
    void *coded;
    int64_t room; /* values that rows and coded hold */
    struct arena mem;
};

/* The first site whose change the tensor takes; NULL: none. */
const struct adapter_site *merge_site(const struct merge *m, const struct model_tensor *t);
/* Rows [first, first + n) of the tensor, merged, as f32 in m->rows. ERUN: one is not finite. */
enum graft_status merge_rows(struct merge *m, const struct model_tensor *t, int64_t first,
                             int64_t n, struct graft_err *err);
/* n values of m->rows into m->coded. ERUN: one does not fit. */
enum graft_status merge_encode(struct merge *m, const char *name, enum qtype type, int64_t n,
                               struct graft_err *err);

/* train/merge_gguf.c: EARG when the output is there or the base is no GGUF; the file. */
enum graft_status merge_check_gguf(const struct merge_opts *o, struct graft_err *err);
enum graft_status merge_write_gguf(struct merge *m, struct graft_err *err);

/* train/merge_audit.c: the records of the audit as the adapter's own words read them, before
 * anything is written; later what the merge itself holds is given back, result and adapter are
 * compared. */
enum graft_status merge_load_records(struct merge *m, struct graft_err *err);
enum graft_status merge_audit(struct merge *m, const struct quant_config *chosen,
                              struct graft_err *err);
/* All but the records and the report. */
void merge_close(struct merge *m);

#endif
