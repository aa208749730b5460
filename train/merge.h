/* train/merge.h - an adapter into its base: a Hugging Face checkpoint of the sum. And a quantised
 * base into a container. Both work tensor by tensor, whatever the size. */
#ifndef TRAIN_MERGE_H
#define TRAIN_MERGE_H

#include "train/tasks.h"

enum merge_onto {
    ONTO_AUTO,      /* the weights the adapter was trained on; original when unknown */
    ONTO_ORIGINAL,  /* the checkpoint's own values */
    ONTO_QUANTIZED, /* what the quantised base decodes to */
};

struct merge_opts {
    const char *base, *adapter, *output;
    enum merge_onto onto;
    enum qtype dtype; /* QT_F32, QT_BF16, QT_F16; QT_COUNT: the checkpoint's, bf16 when unknown */
    bool force;
};

struct merge_report {
    enum merge_onto onto; /* what it was */
    const char *onto_why; /* "the adapter was trained over nf4", ...; static */
    char format[16];      /* of the weights merged onto: "f32", "nf4" */
    enum qtype dtype;
    int64_t tensors, changed;
    size_t bytes;
    int shards;
};

/* EARG: the method cannot be merged (by name); ERUN: a merged value is not finite (tensor named).
 */
enum graft_status merge_run(const struct merge_opts *opts, struct merge_report *out,
                            struct graft_err *err);

struct quantize_report {
    int64_t tensors;
    size_t bytes; /* of the file */
    double bits;  /* per weight of the linears */
    char format[16];
};
/* A base as it is in memory, with the checkpoint's small files and, unless `name` is NULL, one
 * more. EARG, EWRITE. */
enum graft_status base_write(const struct base *b, const char *name, const char *text,
                             const char *output, struct quantize_report *out,
                             struct graft_err *err);
/* `quant` auto: double NF4 of a float base, blocks as they are. EARG when the output exists (no
 * force). */
enum graft_status quantize_run(const char *base, const struct quant_config *quant,
                               const char *output, bool force, struct quantize_report *out,
                               struct graft_err *err);

#endif
