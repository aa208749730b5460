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

enum { ADAPTER_MAX_PARAMS = 24 }; /* tensors a method keeps at one site */

struct adapter;
struct target_matcher;

/* One slot the adapter fills, by one method. */
struct adapter_site {
    const struct adapter_ops *ops;
    const struct slot *slot;
    struct adapter *adapter;
    struct adapter_site *next; /* a further one at the same slot, around this one; NULL: none */
    int64_t r;                 /* rank here (rank_pattern applied); 0: no rank */
    float scale;               /* alpha / r, no unit */
    bool feedforward;          /* IA3: it scales the input */
    double density;            /* RoSA: d here (density_pattern applied) */
    struct tensor *param[ADAPTER_MAX_PARAMS]; /* the method's order; NULL: not used here */
    void *state;                              /* (optional) the method's own, in adapter->mem */
};

/* What a method's merge does to a value of the base: whether its change can be told without the
 * base, and taken back. */
enum merge_kind {
    MERGE_BY_BASE, /* depends on other values of the base too, and cannot be taken back */
    MERGE_ADDS,    /* w + d, d is what 0 becomes */
    MERGE_SCALES,  /* w * f, f is what 1 becomes */
    MERGE_REPLACES /* w is lost */
};

/* What a method does between the steps of a training run, which asks in this order. */
struct adapter_phases {
    /* Before the first of `steps` steps: read what is to be read, refuse what would fail later
     * (EARG). */
    enum graft_status (*start)(struct adapter *a, int64_t steps, struct graft_err *err);
    /* How many passes over a micro-batch it wants before step `step` (from 0), for the gradients of
     * the base's weights alone; mostly 0. */
    int64_t (*passes)(const struct adapter *a, int64_t step);
    /* Bytes of temporary files that gathering those gradients takes; 0: none will be. */
    size_t (*disk)(const struct adapter *a);
    /* The passes begin; `dir` for temporary files. EWRITE, ENOMEM. */
    enum graft_status (*gather)(struct adapter *a, const char *dir, struct graft_err *err);
    /* They are over: make use of them, or, when they did not come to their end, forget them. ERUN:
     * a gradient is no number. */
    enum graft_status (*gathered)(struct adapter *a, bool whole, struct graft_err *err);
    /* Step `step` comes: wake what trains from now on. False: the run ends here instead. */
    bool (*step)(struct adapter *a, int64_t step);
};

/* A method: where it sits, what it trains, and the graph ops it makes. Members marked optional may
 * be NULL; what that means stands beside them. The hooks of the graph are called in this order for
 * a linear: weight, bias, input, then forward on the base's output. */
struct adapter_ops {
    const char *name;      /* key in configs: "lora" */
    const char *peft_type; /* in adapter_config.json: "LORA" */
    const char *paper;     /* printed by help: "arXiv:2106.09685" */
    unsigned sites;        /* SITE_LINEAR | ...: where it may sit */
    const char *no_merge;  /* (optional) why it cannot be merged */
    /* (optional) Look at the model before any site is placed: settle what the config leaves open,
     * refuse a base that cannot serve. EARG, ENOMEM. */
    enum graft_status (*prepare)(struct adapter *a, struct graft_err *err);
    /* (optional) whether it sits at `slot`; NULL: where target_modules says */
    bool (*takes)(const struct adapter_config *c, const struct slot *slot);
    /* Make the parameters of one site (adapter_param). Values are for init: here they may not be
     * there yet (adapter_count). */
    enum graft_status (*build)(struct adapter_site *s, struct graft_err *err);
    /* Fill them with the method's start values; `seed` drives the stream RNG_INIT. ENOMEM, EARG. */
    enum graft_status (*init)(struct adapter_site *s, uint64_t seed, struct graft_err *err);

    /* (optional) The values stand and will not change, the adapter does not train: make what
     * follows from them. ENOMEM. */
    enum graft_status (*ready)(struct adapter_site *s, struct graft_err *err);

    /* (optional) what stands in for the base's weight (O, I) or norm weight (C) */
    struct tensor *(*weight)(struct adapter_site *s, struct graph *g);
    /* (optional) what stands in for the base's bias (O), also where the base has none */
    struct tensor *(*bias)(struct adapter_site *s, struct graph *g);
    /* (optional) x (N, I): the slot's input; returns what the base's linear gets instead */
    struct tensor *(*input)(struct adapter_site *s, struct graph *g, struct tensor *x);
    /* (optional) x (N, I): the slot's input (embedding: NULL; sublayer: its normed input), y (N,
     * O): the base's output; returns the new output */
    struct tensor *(*forward)(struct adapter_site *s, struct graph *g, struct tensor *x,
                              struct tensor *y);
    /* (optional, embedding) virtual rows (P, C) for the ids -1 .. -P */
    struct tensor *(*rows)(struct adapter_site *s, struct graph *g);
    /* (optional, keys and values) rows (P, K * D) that every query sees before its record's own */
    void (*keys_values)(struct adapter_site *s, struct graph *g, struct tensor **k,
                        struct tensor **v);

    /* (optional) The values came from files: refuse what cannot be (EFORMAT). */
    enum graft_status (*loaded)(struct adapter_site *s, struct graft_err *err);
    /* (optional) ends of names that other programs' files have and this needs not; NULL-terminated
     */
    const char *const *spare;
    /* (optional) NULL: all of it trains from the first step on */
    const struct adapter_phases *phases;
    /* (optional) Compute what stands in the files but does not train (an encoder's output); before
     * every save. ENOMEM only. */
    enum graft_status (*derive)(struct adapter_site *s, struct graft_err *err);
    /* (optional) rows [first, first + n) of the changed weight, in place: w (n, I) f32; a norm's
     * weight is one row. Neither this nor merge_bias: `graft merge` refuses by name, with no_merge
     * as the reason. */
    void (*merge_rows)(const struct adapter_site *s, int64_t first, int64_t n, float *w);
    /* (optional) the change of the bias: bias (O), in place; false: it leaves it alone. */
    bool (*merge_bias)(const struct adapter_site *s, float *bias);
    enum merge_kind merges; /* what those two do */
    /* (optional, where nothing merges) the values that the site takes part with, those that make it
     * idle when they are zero: add their squares, raise *largest. NULL: all of its own. */
    void (*size)(const struct adapter_site *s, double *squares, double *largest);
    /* (optional) the weight's change as scale * left right, left (O, r), right (r, I), r and scale
     * of the site; NULL: it is no product of that rank */
    void (*factors)(const struct adapter_site *s, float *left, float *right);
};
extern const struct adapter_ops *const adapter_methods[];   /* NULL-terminated */
const struct adapter_ops *adapter_method(const char *name); /* NULL: none of that name */

enum param_file {
    FILE_ADAPTER, /* adapter_model.safetensors */
    FILE_STATE,   /* graft_state.safetensors: what PEFT's format has no place for */
    FILE_NONE     /* in none: what stands in the files is derived from it */
};

/* What a parameter is, for adapter_param. */
struct param_spec {
    const char *name;   /* as saved; NULL: "base_model.model." + the slot's name + suffix */
    const char *suffix; /* ".lora_A.weight" */
    const char *older;  /* (optional) a suffix that files may have instead */
    int ndim;
    int64_t dim[GRAFT_MAX_DIM];
    enum param_file file;
    bool fixed;      /* saved, never trained: no gradient */
    bool index;      /* fixed too: int32, saved as I32 */
    bool idle;       /* it does not train yet: adapter_wake */
    double lr_ratio; /* the optimiser's rate is multiplied by it; 0: as 1 */
};

/* A tensor of the adapter's files. */
struct adapter_entry {
    struct tensor *tensor;
    const char *older; /* another name that files may have it under; NULL: none */
    enum param_file file;
    bool fixed, index, idle;
    bool shared; /* the values of an entry before it, under a second name */
    double lr_ratio;
};

struct adapter {
    const struct adapter_ops *ops;
    struct adapter_config config;
    const struct slot_list *slots;
    struct adapter_site *site; /* the method's in slot order, then copies beside them */
    int site_count;
    struct adapter_site **site_of; /* by slot index; NULL: empty */
    struct adapter_entry *entry;   /* every tensor, in site order */
    int entry_count, entry_cap;
    struct tensor **param; /* those of them that train */
    double *lr_ratio;      /* param_count; 1 mostly */
    bool *idle;            /* param_count: zero and without a gradient until it wakes */
    int param_count;
    int64_t param_elems;    /* trainable values in all */
    int64_t virtual_tokens; /* P: every record begins with the ids -1 .. -P; set by build */
    int64_t placed_tokens;  /* P: the ids -1 .. -P stand at config.prompt.placeholder's places */
    int64_t prefix_tokens;  /* keys and values before every record, whose positions start there */
    /* tokens of config.prompt.text, for adapter_init; borrowed, set by the caller */
    const int32_t *text_id;
    int64_t text_count;
    bool trainable;    /* gradients exist */
    bool counted_only; /* neither values nor gradients do */
    bool changes_base; /* init gives the base other values; set by build */
    void *state;       /* (optional) the method's own, in mem */
    struct arena mem;  /* everything above and the values and gradients */
};

/* Place a new adapter over `slots` (borrowed, must outlive it) as its config says. `config` is
 * copied shallowly: its strings must outlive the adapter. Values are zero: adapter_init or
 * adapter_load_values fills them. EARG: no slot matches, or a pattern is wrong (message lists what
 * there is); ENOMEM. */
enum graft_status adapter_new(const struct adapter_config *config, const struct slot_list *slots,
                              bool trainable, struct adapter **out, struct graft_err *err);
void adapter_free(struct adapter *a);
/* How many values it would train, before any of them takes memory; errors as adapter_new. */
enum graft_status adapter_count(const struct adapter_config *config, const struct slot_list *slots,
                                int64_t *trained, struct graft_err *err);

/* Bytes of the values that do not train. */
size_t adapter_fixed_bytes(const struct adapter *a);

/* The method's start values. */
enum graft_status adapter_init(struct adapter *a, uint64_t seed, struct graft_err *err);

/* What a model asks at its slots; `a` may be NULL: the base alone. The first three return NULL
 * where the base's own is to be used. */
struct tensor *adapter_weight(struct adapter *a, const struct slot *slot, struct graph *g);
struct tensor *adapter_bias(struct adapter *a, const struct slot *slot, struct graph *g);
struct tensor *adapter_rows(struct adapter *a, const struct slot *slot, struct graph *g);
struct tensor *adapter_input(struct adapter *a, const struct slot *slot, struct graph *g,
                             struct tensor *x);
struct tensor *adapter_apply(struct adapter *a, const struct slot *slot, struct graph *g,
                             struct tensor *x, struct tensor *y);
void adapter_keys_values(struct adapter *a, const struct slot *slot, struct graph *g,
                         struct tensor **k, struct tensor **v);
/* The first site at the slot; NULL when the adapter leaves it alone. */
struct adapter_site *adapter_at(const struct adapter *a, const struct slot *slot);

/* For methods: a parameter of site `s`, f32, zero. NULL when there is no memory. */
struct tensor *adapter_param(struct adapter_site *s, const struct param_spec *spec);
/* For methods: an idle parameter trains from the next step on. */
void adapter_wake(struct adapter *a, const struct tensor *param);
/* Save parameter `of` of another site under a name of this one too; false: no memory. */
bool adapter_share(struct adapter_site *s, const struct tensor *of, const char *suffix);
/* Fill the slot by `ops` (what its build says), after what sits there already. */
enum graft_status adapter_add_site(struct adapter *a, const struct adapter_ops *ops,
                                   const struct slot *slot, struct target_matcher *m,
                                   struct graft_err *err);
/* Can its change be written into the base's weights? EARG says why not. */
enum graft_status adapter_check_merge(const struct adapter *a, struct graft_err *err);
/* Over a tied base: head and embedding still are one after the adapter's change. */
bool adapter_keeps_tie(const struct adapter *a);

/* peft/copy.c, peft/tokens.c: what may stand beside any method, as the config says. Tokens come
 * before the method's own sites, whose change adds to theirs. */
enum graft_status tokens_place(struct adapter *a, struct graft_err *err);
enum graft_status copies_place(struct adapter *a, struct graft_err *err);
/* Add the change of another adapter over the same slots, which can be merged, to the values of one
 * that is whole. */
void adapter_start_from(struct adapter *whole, const struct adapter *change);

/* peft/targets.c: does the config place this slot, and which rank and alpha has it there? PEFT's
 * rules: check_target_module_exists, rank_pattern, alpha_pattern. EARG for a regular expression
 * that is wrong. */
/* Put PEFT's defaults for the architecture and the method where the config leaves the choice. EARG:
 * there are none. */
enum graft_status targets_resolve(struct adapter_config *c, const struct slot_list *slots,
                                  struct arena *mem, struct graft_err *err);
enum graft_status targets_compile(const struct adapter_config *c, struct target_matcher **out,
                                  struct graft_err *err);
bool targets_match(struct target_matcher *m, const struct slot *s);
/* (optional result) Of a matcher that took nothing: the key that left out what target_modules
 * matched. */
const char *targets_kept_out(const struct target_matcher *m);
bool targets_feedforward(struct target_matcher *m, const struct slot *s);
int64_t targets_rank(struct target_matcher *m, const struct slot *s);
double targets_alpha(struct target_matcher *m, const struct slot *s);
double targets_density(struct target_matcher *m, const struct slot *s);
/* Whether modules_to_save holds the module: PEFT copies what ends in such a name, with all that is
 * in it, but keeps adapters out of a whole name only. */
bool targets_saves(const struct adapter_config *c, const struct slot *s, int *which);
bool targets_name_saves(const char *name, const struct slot *s); /* this one of its names */
/* Notes for what matched nothing (a slip of the pen, mostly): names of a target list, patterns,
 * layers. */
void targets_note_unused(const struct target_matcher *m);
void targets_free(struct target_matcher *m);

/* peft/files.c: adapter_model.safetensors and, where the method has something for it,
 * graft_state.safetensors in folder `dir` (adapter_config.json: peft/config.h). */
/* Fill every tensor. Strict: missing, unexpected and misshapen tensors are all listed (ESHAPE,
 * EFORMAT). */
enum graft_status adapter_load_values(struct adapter *a, const char *dir, struct graft_err *err);
/* The tensors of the folder as they are, into `s` (safetensors_open). EFORMAT: a pickle, with the
 * way to convert it. */
struct store;
enum graft_status adapter_open(const char *dir, struct store *s, struct graft_err *err);
struct stored_tensor;
/* For methods with files of their own: the whole numbers of a stored tensor (I32, or I16, which is
 * widened) into those of entry `e`. Names and shapes are known to fit. */
void adapter_read_index(const struct stored_tensor *t, const struct adapter_entry *e);
/* Derive, then write adapter_model.safetensors (in config.save_bf16's type),
 * graft_state.safetensors (f32) and adapter_config.json into the existing folder, each atomically.
 */
enum graft_status adapter_save(struct adapter *a, const char *dir, struct graft_err *err);

#endif
