/* peft/adapter.h - one adapter over a model's slots: a method's vtable, its parameters, its files.
 *
 * A method is made of tested graph ops, so none writes a backward, and it never sees the number
 * format of the base. To add one: one file, one row in peft/registry.c, one config, one test, one
 * docs line. */
#ifndef PEFT_ADAPTER_H
#define PEFT_ADAPTER_H

#include "autograd/ops.h"
#include "core/json.h"
#include "peft/config.h"
#include "peft/slot.h"

enum { ADAPTER_MAX_PARAMS = 4 }; /* tensors a method keeps at one slot */

struct adapter;

/* One slot the adapter fills. */
struct adapter_site {
    const struct slot *slot;
    struct adapter *adapter;
    int64_t r;                                /* rank here (rank_pattern applied); 0: no rank */
    float scale;                              /* alpha / r, no unit */
    struct tensor *param[ADAPTER_MAX_PARAMS]; /* the method's order; NULL: not used here */
};

struct adapter_ops {
    const char *name;      /* key in configs: "lora" */
    const char *peft_type; /* in adapter_config.json: "LORA" */
    const char *paper;     /* printed by help: "arXiv:2106.09685" */
    unsigned sites;        /* SITE_LINEAR | ...: where it may sit */
    /* Make the parameters of one site (adapter_param), values zero. */
    enum graft_status (*build)(struct adapter_site *s, struct graft_err *err);
    /* Fill them with the method's start values; `seed` drives the stream RNG_INIT. */
    void (*init)(struct adapter_site *s, uint64_t seed);
    /* x (N, I): the slot's input, y (N, O): the base's output; returns the new output. */
    struct tensor *(*forward)(struct adapter_site *s, struct graph *g, struct tensor *x,
                              struct tensor *y);
    /* (optional) rows [first, first + n) of the changed weight, in place: w (n, I) f32, bias (O) or
     * NULL when the base has none. NULL: `graft merge` refuses by name. */
    void (*merge_rows)(const struct adapter_site *s, int64_t first, int64_t n, float *w);
    /* (optional) the change of the bias: bias (O), in place. NULL: no method change there. */
    bool (*merge_bias)(const struct adapter_site *s, float *bias);
};
extern const struct adapter_ops *const adapter_methods[];   /* NULL-terminated */
const struct adapter_ops *adapter_method(const char *name); /* NULL: none of that name */

struct adapter {
    const struct adapter_ops *ops;
    struct adapter_config config;
    struct adapter_site *site; /* in slot order */
    int site_count;
    int *site_of;          /* slot index -> index into site, -1: empty */
    struct tensor **param; /* every trainable tensor, in site order */
    int param_count;
    int64_t param_elems; /* trainable values in all */
    bool trainable;      /* gradients exist */
    struct arena mem;    /* everything above and the values and gradients */
};

/* Place a new adapter over `slots` (borrowed, must outlive it) as its config says. `config` is
 * copied shallowly: its strings must outlive the adapter. Values are zero: adapter_init or
 * adapter_load fills them. EARG: no slot matches, or a pattern is wrong (message lists what there
 * is); ENOMEM. */
enum graft_status adapter_new(const struct adapter_config *config, const struct slot_list *slots,
                              bool trainable, struct adapter **out, struct graft_err *err);
void adapter_free(struct adapter *a);

/* The method's start values. */
void adapter_init(struct adapter *a, uint64_t seed);

/* What the slot's output becomes with `a` (NULL: the base alone). */
struct tensor *adapter_apply(struct adapter *a, const struct slot *slot, struct graph *g,
                             struct tensor *x, struct tensor *y);
/* (optional result) NULL when the adapter leaves the slot alone. */
struct adapter_site *adapter_at(const struct adapter *a, const struct slot *slot);

/* For methods: a parameter of site `s`, f32, zero; named as PEFT saves it: "base_model.model." +
 * slot + suffix. NULL when there is no memory. */
struct tensor *adapter_param(struct adapter_site *s, const char *suffix, int ndim,
                             const int64_t *dim);

/* peft/targets.c: does the config place this slot, and which rank and alpha has it there? PEFT's
 * rules: check_target_module_exists, rank_pattern, alpha_pattern. EARG for a regular expression
 * that is wrong. */
struct target_matcher;
enum graft_status targets_compile(const struct adapter_config *c, const struct slot_list *slots,
                                  struct target_matcher **out, struct graft_err *err);
bool targets_match(struct target_matcher *m, const struct slot *s);
int64_t targets_rank(struct target_matcher *m, const struct slot *s);
double targets_alpha(struct target_matcher *m, const struct slot *s);
/* Notes for names of a target list that matched nothing (a slip of the pen, mostly). */
void targets_note_unused(const struct target_matcher *m);
void targets_free(struct target_matcher *m);

/* peft/files.c: adapter_model.safetensors in folder `dir` (adapter_config.json: peft/config.h). */
/* Fill every parameter. Strict: missing, unexpected and misshapen tensors are all listed (ESHAPE,
 * EFORMAT). */
enum graft_status adapter_load_values(struct adapter *a, const char *dir, struct graft_err *err);
/* Write adapter_model.safetensors (in config.save_bf16's type) and adapter_config.json into the
 * existing folder, each atomically. */
enum graft_status adapter_save(const struct adapter *a, const char *dir, struct graft_err *err);

#endif
