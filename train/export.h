/* train/export.h - an adapter in another program's format: `graft export`. */
#ifndef TRAIN_EXPORT_H
#define TRAIN_EXPORT_H

#include "train/tasks.h"

enum export_form {
    EXPORT_GGUF, /* llama.cpp's LoRA file */
    EXPORT_PEFT, /* a folder that PEFT opens, of a method PEFT lacks */
    EXPORT_HUB,  /* a folder of adapter-hub/adapters */
    EXPORT_FORMS
};
extern const char *const export_names[EXPORT_FORMS + 1]; /* NULL-terminated */

struct export_opts {
    const char *base, *adapter, *output;
    enum export_form form;
    enum qtype dtype; /* GGUF: QT_F32, QT_F16, QT_BF16, QT_Q8_0 */
    bool force;
};

struct export_report {
    int64_t tensors;
    size_t bytes;
    int64_t in_f16;   /* tensors whose rows are no whole number of q8_0 blocks */
    const char *lost; /* what the format could not hold, in words; NULL: nothing; static */
};

/* One adapter being written; what a row of the table below works on. */
struct exporting {
    const struct export_opts *opts;
    const struct base *base;
    const struct task *task; /* its adapter is loaded */
    struct export_report *report;
};

/* A method that PEFT or adapter-hub can hold in part or whole, or the reason why not. GGUF needs no
 * row: it takes every method whose changes are products (factors of its vtable). */
struct exporter {
    const char *method;
    enum export_form form;
    const char *lost; /* as in the report; without `write`: why it is refused */
    enum graft_status (*write)(const struct exporting *x, struct graft_err *err);
};
extern const struct exporter exporters[]; /* ends with a row whose method is NULL */

/* train/export_hub.c */
enum graft_status export_hub(const struct exporting *x, struct graft_err *err);
/* train/export_copies.c: copies of the base's tensors as PEFT keeps them beside an adapter. */
enum graft_status export_copies(const struct exporting *x, struct graft_err *err);
/* The values of `from` into the tensors of `to` that have one of their names. */
void export_same_tensors(const struct adapter *from, struct adapter *to);
/* Tensors and bytes of `a`, which was written into the output folder. */
void export_report(const struct exporting *x, const struct adapter *a);
/* train/export_gguf.c */
enum graft_status export_gguf(const struct exporting *x, struct graft_err *err);
/* train/export_rosa.c: a folder with a LoRA adapter. EARG: there is no low-rank part. */
enum graft_status export_rosa(const struct exporting *x, struct graft_err *err);

/* `to` and `dtype` (NULL: gguf, f32) into `out`; EARG "PLACE: found ...". */
enum graft_status export_parse(const char *to_place, const char *to, const char *dtype_place,
                               const char *dtype, struct export_opts *out, struct graft_err *err);

/* EARG: what the format cannot hold, by name, with what can be done instead; the output exists. */
enum graft_status export_run(const struct export_opts *opts, struct export_report *out,
                             struct graft_err *err);

#endif
