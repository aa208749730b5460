/* train/sample.h - the next token from logits. */
#ifndef TRAIN_SAMPLE_H
#define TRAIN_SAMPLE_H

#include <stdint.h>

#include "core/rng.h"

struct sampler {
    double temperature; /* 0: the largest logit, the first of equals */
    int64_t top_k;      /* 0: off */
    double top_p;       /* 1: off */
};

/* `work` holds v of these. */
struct sample_item {
    float logit;
    int32_t id;
};

/* -1 when a logit is not a number. `u` in [0, 1) drives the choice. */
int32_t sample_token(const struct sampler *s, const float *logit, int64_t v, float u,
                     struct sample_item *work);

#endif
