/* optim/optim.h - optimisers, schedules and clipping over lists of (value, grad, count).
 *
 * Nothing here knows of models or adapters. Arithmetic is PyTorch's; every update is elementwise
 * and every sum runs over fixed chunks in a fixed order, so results do not depend on the number of
 * threads.
 *
 * State belongs to flat positions: parameters end to end, in the order given. An optimiser's kernel
 * sees plain f32 pieces of value, gradient and moments, whatever form the moments are kept in and
 * wherever they lie, so a packed or paged form is a new way to fetch a piece, not a new kernel. */
#ifndef OPTIM_OPTIM_H
#define OPTIM_OPTIM_H

#include "core/mem.h"
#include "core/status.h"

enum {
    OPTIM_MOMENTS = 2,    /* most a kernel keeps */
    OPTIM_CHUNK = 1 << 14 /* elements that one thread works on at once */
};

/* One trainable tensor; both arrays are borrowed and f32. */
struct optim_param {
    float *value; /* count */
    float *grad;  /* count */
    int64_t count;
    double lr_ratio; /* multiplies the rate of a step; 1 mostly */
};

struct optim_opts {
    const struct optim_def *def;
    double beta1, beta2, eps, weight_decay;
};

/* What a kernel needs at one step, from opts, rate and step number. */
struct optim_scalars {
    double lr;
    int64_t step; /* from 1 */
    const struct optim_opts *opts;
};

struct optim_def {
    const char *name; /* in configs: "adamw" */
    const char *help; /* one line for --help-config */
    int moments;      /* f32 values of state per element */
    /* n elements: value (n) changes, grad (n) is read, moment[k] (n) change */
    void (*update)(const struct optim_scalars *s, float *value, const float *grad,
                   float *const *moment, int64_t n);
};
extern const struct optim_def adamw_def, sgd_def;
extern const struct optim_def *const optim_defs[];       /* NULL-terminated */
const struct optim_def *optim_by_name(const char *name); /* NULL: none of that name */

/* A run of elements of one parameter, and where its state lies in the flat order. */
struct optim_chunk {
    int param;
    int64_t first, count, flat;
};

struct optim {
    struct optim_opts opts;
    struct optim_param *param;
    int params;
    struct optim_chunk *chunk;
    int64_t chunks, elems;
    float *moment[OPTIM_MOMENTS]; /* elems each, flat order; zero before the first step */
    int64_t step;                 /* updates made */
    int64_t *began;               /* params: updates made before it took part */
    struct arena mem;             /* all of the above */
};

/* Bytes of state that optim_new will allocate for the moments. */
size_t optim_state_bytes(const struct optim_opts *opts, const struct optim_param *param,
                         int params);
/* The list is copied; the arrays behind it stay the caller's and must outlive the optimiser. ENOMEM
 * only. */
enum graft_status optim_new(const struct optim_opts *opts, const struct optim_param *param,
                            int params, struct optim **out, struct graft_err *err);
void optim_free(struct optim *o);
/* Parameter `param`, which had neither value nor gradient so far, takes part from the next update
 * on: its own count of updates begins there, as if it had been added to the optimiser only now. */
void optim_begin(struct optim *o, int param);
/* One update at rate `lr`. Allocates nothing. */
void optim_step(struct optim *o, double lr);

/* Gradients. The norm is over all parameters together, summed in double. */
double grad_norm(const struct optim_param *param, int params);
void grad_scale(const struct optim_param *param, int params, float factor);
void grad_clear(const struct optim_param *param, int params);
/* Multiply by min(1, max_norm / (norm + 1e-6)); 0 = off. Returns the norm before. Where that is not
 * finite nothing is scaled: the caller stops the run. */
double grad_clip(const struct optim_param *param, int params, double max_norm);
/* The first parameter with a NaN or Inf in its gradient; -1: none. */
int grad_not_finite(const struct optim_param *param, int params);

/* The rate of step i from 0, of `total` steps: with W = warm-up steps, lr * i / W below W, from
 * there min_lr + (lr - min_lr) * factor((i - W) / (total - W)). */
struct schedule_def {
    const char *name; /* in configs: "cosine" */
    const char *help;
    double (*factor)(double progress); /* progress 0 .. 1; factor 1 at 0 */
};
extern const struct schedule_def schedule_defs[];              /* the last has name NULL */
const struct schedule_def *schedule_by_name(const char *name); /* NULL: none of that name */

struct schedule {
    const struct schedule_def *def;
    double lr, min_lr;
    double warmup; /* below 1: that share of the steps, rounded up; from 1: steps */
    int64_t total;
};
double schedule_warmup_steps(const struct schedule *s);
double schedule_rate(const struct schedule *s, int64_t i);

#endif
