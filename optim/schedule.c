/* Learning rates by step, as transformers' schedules with warm-up. */
#include <math.h>
#include <string.h>

#include "optim/optim.h"

static double constant_factor(double progress)
{
    (void)progress;
    return 1;
}

static double linear_factor(double progress)
{
    return 1 - progress;
}

static double cosine_factor(double progress)
{
    return (1 + cos(M_PI * progress)) / 2;
}

const struct schedule_def schedule_defs[] = {
    { "constant", "stays at lr after warm-up", constant_factor },
    { "linear", "falls in a straight line to min_lr", linear_factor },
    { "cosine", "falls along half a cosine to min_lr", cosine_factor },
    { NULL, NULL, NULL },
};

const struct schedule_def *schedule_by_name(const char *name)
{
    for (const struct schedule_def *d = schedule_defs; d->name; d++)
        if (strcmp(d->name, name) == 0)
            return d;
    return NULL;
}

double schedule_warmup_steps(const struct schedule *s)
{
    return s->warmup < 1 ? ceil((double)s->total * s->warmup) : s->warmup;
}

double schedule_rate(const struct schedule *s, int64_t i)
{
    const double warmup = schedule_warmup_steps(s), at = (double)i;
    double progress;

    if (at < warmup)
        return s->lr * at / warmup;
    progress = (at - warmup) / fmax(1, (double)s->total - warmup);
    return s->min_lr + (s->lr - s->min_lr) * s->def->factor(fmin(1, progress));
}
