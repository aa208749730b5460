/* train/merge.h - an adapter into its base: a Hugging Face checkpoint or a GGUF model of the sum.
 * And a quantised base into a container. All work tensor by tensor, whatever the size. */
#ifndef TRAIN_MERGE_H
#define TRAIN_MERGE_H

#include "data/dataset.h"
#include "train/tasks.h"

enum merge_onto {
    ONTO_AUTO,      /* the weights the adapter was trained on; original when unknown */
    ONTO_ORIGINAL,  /* the checkpoint's own values */
    ONTO_QUANTIZED, /* what the quantised base decodes to */
};

/* Base and adapter, unmerged, against the merged model: train/audit.h. Means over target tokens,
 * natural logarithms. */
struct audit_side {
    enum merge_onto onto; /* which weights the adapter ran over */
    char weights[16];     /* their format: "nf4" */
    bool trained_on;      /* the adapter was trained over these */
    int64_t tokens, same; /* target tokens; those whose likeliest token is the same */
    double kl, kl_most;   /* KL(base and adapter || merged): mean, largest of a token */
    double logit_change;  /* the largest difference of two logits */
    double loss;          /* of base and adapter */
    double merged_loss;
};
struct audit {
    char data[128]; /* the file's name */
    int64_t records, tokens;
    struct audit_side side[2]; /* what was merged onto; the other */
    int sides;
    const char *missing; /* why there is no other; static; NULL */
};

struct merge_opts {
    const char *base, *adapter, *output;
    bool undo; /* `base` is a merged model, and the adapter is taken out of it again */
    enum merge_onto onto;
    bool gguf;        /* `output` is a GGUF model, made of a GGUF base; else a folder */
    enum qtype dtype; /* QT_F32, QT_BF16, QT_F16; QT_COUNT: the checkpoint's, bf16 when unknown.
                         Of a GGUF's changed tensors: QT_Q8_0 too; QT_COUNT: f16 */
    bool force;
    const char *audit;         /* JSONL whose records judge the result; NULL: no audit */
    enum record_format format; /* of them */
};

/* Does this output ask for a GGUF model? */
bool merge_is_gguf(const char *output);
/* "f32", ..., of the kind of output; EARG "PLACE: found ...". */
enum graft_status merge_dtype_parse(const char *place, const char *text, bool gguf, enum qtype *out,
                                    struct graft_err *err);

struct merge_report {
    const char *method;   /* "lora"; static */
    enum merge_onto onto; /* what it was */
    const char *onto_why; /* "the adapter was trained over nf4", ...; static */
    char format[16];      /* of the weights merged onto: "f32", "nf4" */
    enum qtype dtype;
    int64_t tensors, changed;
    size_t bytes;
    int shards;
    struct audit audit; /* sides 0: none was asked for */
    int64_t in_f16;     /* GGUF: tensors whose rows are no whole number of q8_0 blocks */
};

/* EARG: the method cannot be merged, or taken back (by name); ERUN: a merged value is not finite
 * (tensor named). */
enum graft_status merge_run(const struct merge_opts *opts, struct merge_report *out,
                            struct graft_err *err);

/* The same of what is open already, into an existing folder, file by file over what is there: the
 * checkpoint that training every weight ends in. `words`: where the tokenizer's files are. */
enum graft_status merge_write(const struct base *base, const char *words, struct adapter *a,
                              enum qtype dtype, const char *dir, struct graft_err *err);

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
