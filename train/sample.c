#include "train/sample.h"

#include <math.h>
#include <stdlib.h>

static int32_t largest(const float *logit, int64_t v)
{
    int64_t best = 0;

    for (int64_t i = 0; i < v; i++) {
        if (isnan(logit[i]))
            return -1;
        if (logit[i] > logit[best])
            best = i;
    }
    return (int32_t)best;
}

/* Descending by logit, equal ones by id. */
static int by_logit(const void *a, const void *b)
{
    const struct sample_item *x = a, *y = b;

    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

int32_t sample_token(const struct sampler *s, const float *logit, int64_t v, float u,
                     struct sample_item *work)
{
    int64_t n = v;
    double total = 0, kept = 0, aim, sum = 0;

    if (s->temperature <= 0 || largest(logit, v) < 0)
        return largest(logit, v);
    for (int64_t i = 0; i < v; i++)
        work[i] = (struct sample_item){ logit[i], (int32_t)i };
    qsort(work, (size_t)v, sizeof *work, by_logit);
    if (s->top_k > 0 && s->top_k < n)
        n = s->top_k;
    /* top_p is a share of what top_k left, as in transformers */
    for (int64_t i = 0; i < n; i++)
        total += exp(((double)work[i].logit - work[0].logit) / s->temperature);
    for (int64_t i = 0; i < n; i++) {
        kept += exp(((double)work[i].logit - work[0].logit) / s->temperature);
        if (kept >= s->top_p * total) {
            n = i + 1;
            break;
        }
    }
    aim = (double)u * kept;
    for (int64_t i = 0; i < n; i++) {
        sum += exp(((double)work[i].logit - work[0].logit) / s->temperature);
        if (aim < sum)
            return work[i].id;
    }
    return work[n - 1].id;
}
