/* peft/config.h - what an adapter is: the `adapter:` section of a config, or adapter_config.json.
 *
 * Names and defaults are PEFT's, so that a file PEFT wrote can be pasted. Every key PEFT writes is
 * known: it works, or only its no-op value is accepted. Formats: PEFT 0.21, tuners/lora/config.py.
 */
#ifndef PEFT_CONFIG_H
#define PEFT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/schema.h"

enum target_kind {
    TARGETS_DEFAULT,   /* target_modules: by model_type, exclude_modules: none */
    TARGETS_LIST,      /* name[0 .. count): equal, or the end of a path after a dot */
    TARGETS_REGEX,     /* name[0]: must match the whole path */
    TARGETS_ALL_LINEAR /* every linear but the head */
};

struct target_set {
    enum target_kind kind;
    const char **name;
    int count;
};

/* A key of rank_pattern or alpha_pattern; the first that matches wins, so order counts. */
struct pattern_value {
    const char *regex;
    double value;
};

enum lora_init {
    LORA_INIT_TRUE,       /* A Kaiming-uniform, B zero; embedding: A zero, B normal */
    LORA_INIT_GAUSSIAN,   /* A normal / r, B zero */
    LORA_INIT_FALSE,      /* both random: not the identity */
    LORA_INIT_ORTHOGONAL, /* both random, B A nearly zero */
    /* the rest take their start from the base, which must be the smaller by it */
    LORA_INIT_PISSA, /* the largest singular triples; pissa_niter > 0: by that many rounds */
    LORA_INIT_OLORA, /* the first columns of a QR decomposition */
    LORA_INIT_LOFTQ  /* what quantisation lost, loftq_iter rounds */
};
/* Does the base give up what the adapter starts with? */
static inline bool lora_init_takes(enum lora_init init)
{
    return init >= LORA_INIT_PISSA;
}

const char *lora_init_name(enum lora_init kind); /* "pissa"; NULL: true or false */

/* prompt, ptuning, prefix. Sizes that are 0 follow from the base: building an adapter over it fills
 * them, as PEFT does. */
struct prompt_config {
    int64_t tokens; /* num_virtual_tokens */
    int64_t token_dim, num_layers, num_attention_heads, num_transformer_submodules;
    enum prompt_init { PROMPT_RANDOM, PROMPT_SAMPLE_VOCAB, PROMPT_TEXT } init;
    const char *text, *tokenizer; /* prompt_tuning_init_text, tokenizer_name_or_path; or NULL */
    bool lstm;                    /* ptuning: else an MLP */
    int64_t encoder_hidden_size, encoder_num_layers;
    double encoder_dropout;
    const char *placeholder; /* ptuning: NULL: the virtual tokens stand in front */
    bool projection, zero;   /* prefix_projection; init_weights: zero */
};

/* houlsby, pfeiffer, parallel: their defaults filled in. */
struct bottleneck_config {
    double reduction_factor;
    int64_t size;            /* bottleneck_size; 0: by reduction_factor */
    int non_linearity, init; /* of non_linearity_names, init_weights_names */
    double scaling, dropout;
};

/* What of RoSA trains when. */
enum rosa_schedule {
    ROSA_BOTH,    /* the low rank alone for `warmup` steps, then both: wl64; df: no warm-up */
    ROSA_SPARSE,  /* spa_only */
    ROSA_LOW_RANK /* lora_only */
};

/* Which biases of the base train beside the adapter. */
enum bias_copies {
    BIAS_COPIES_NONE,
    BIAS_COPIES_ALL,    /* every bias there is */
    BIAS_COPIES_TARGETS /* lora_only: those of the modules with an adapter */
};

/* Tokens whose rows of one module are trained. */
struct token_rows {
    const char *module; /* NULL: the input embedding (a list without a name) */
    int32_t *id;
    int count;
};

/* Strings and arrays live in the arena they were parsed into. */
struct adapter_config {
    const char *method; /* "lora" */
    int64_t r;
    double lora_alpha, lora_dropout;
    bool use_rslora, lora_bias;
    struct target_set target_modules, exclude_modules;
    struct pattern_value *rank_pattern, *alpha_pattern;
    int rank_pattern_count, alpha_pattern_count;
    int64_t *layers_to_transform; /* from 0 */
    int layers_to_transform_count;
    const char **layers_pattern;
    int layers_pattern_count;
    enum lora_init init;
    int pissa_niter, loftq_iter;
    bool doubled; /* for writing: with twice the rank, the start beside what became of it */
    double loraplus_lr_ratio;              /* B learns at that multiple of the rate */
    struct target_set feedforward_modules; /* IA3: those of the targets that scale their input */
    bool init_ia3_ones;
    struct prompt_config prompt;
    struct bottleneck_config bottleneck;
    /* rosa, spa */
    double d; /* share of a weight's values that train */
    struct pattern_value *density_pattern;
    int density_pattern_count;
    int64_t spa_num_grads; /* passes that the places are chosen from */
    bool mean_squared;     /* of their gradients' squares, else of the gradients */
    enum rosa_schedule schedule;
    int64_t warmup;
    const char *mask_load_path, *mask_save_path; /* absolute; NULL: none */
    bool terminate_after_mask_generation;
    double spa_lr_ratio;          /* the sparse values' multiple of the rate */
    const char **modules_to_save; /* ends of module paths */
    int modules_to_save_count;
    enum bias_copies bias;
    struct token_rows *tokens; /* trainable_token_indices */
    int tokens_count;
    bool ensure_weight_tying;
    int64_t last_layers; /* of method last_layers; `first_layer` is set when the model is known */
    int64_t first_layer;
    int64_t probe_steps;   /* of method lpft */
    double probe_lr;       /* NAN: optim.lr */
    bool untie_head;       /* of method full: a tied head becomes one of its own */
    const char *init_from; /* absolute path; NULL: a fresh adapter */
    bool save_bf16;        /* save_dtype: bf16, else f32 */
    const char *base_model_name_or_path, *revision; /* NULL: not known */
};

/* The `adapter:` map of a config (keys at "adapter.X" in `src`). With init_from, keys left out come
 * from that adapter and a key given must equal its value, except dropout, inference_mode, base
 * name, revision, task type and PEFT version. EARG, or what reading the other adapter's config
 * gives. */
enum graft_status adapter_config_parse(const json_t *map, const struct schema_source *src,
                                       struct adapter_config *out, struct arena *mem,
                                       struct graft_err *err);

/* adapter_config.json of the folder `dir`. EIO; EFORMAT, for what is not supported too, by name. */
enum graft_status adapter_config_read(const char *dir, struct adapter_config *out,
                                      struct arena *mem, struct graft_err *err);

/* Append adapter_config.json as PEFT writes it: indent 2, keys sorted (those of the patterns stay
 * in their order, which decides). `target` (count) replaces target_modules where they were resolved
 * from defaults or all-linear; NULL: as configured. */
enum graft_status adapter_config_write(const struct adapter_config *c, const char *const *target,
                                       int count, struct strbuf *out, struct graft_err *err);

/* The `adapter:` section of a resolved config: every key that works, Graft's own too. The caller
 * owns the result; NULL when there is no memory. */
json_t *adapter_config_json(const struct adapter_config *c);

/* Does the method train every weight, so that its files are a checkpoint? */
bool adapter_is_whole(const struct adapter_config *c);

/* The keys of `adapter:`, for --help-config. */
extern const struct key_table adapter_keys;

#endif
