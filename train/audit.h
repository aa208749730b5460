/* train/audit.h - is a merged model what base and adapter were? Both answer the same records, and
 * their logits are compared token by token. */
#ifndef TRAIN_AUDIT_H
#define TRAIN_AUDIT_H

#include "train/eval.h"
#include "train/merge.h"

struct audit_opts {
    const char *base, *adapter, *merged; /* paths */
    const struct dataset *data;          /* tokens of the records; targets are compared */
    struct quant_config quant[2];        /* what the base becomes, by side */
    enum merge_onto onto[2];
    int trained_on; /* index of the side it was trained on; -1: not known */
    int sides;      /* 1 or 2; the first is what was merged onto */
};

/* Fill `out` (but for data and missing). Memory: three sets of weights as they are used, at most
 * two at once beyond what is mapped, and logits of 64 tokens. ERUN: a loss is not finite. */
enum graft_status audit_run(const struct audit_opts *o, struct audit *out, struct graft_err *err);
/* As it stands in the merged model's metadata; the caller owns it. */
json_t *audit_json(const struct audit *a);

#endif
