/* peft/config_keys.h - the adapter's keys as they stand in a file, before they are given meaning.
 */
#ifndef PEFT_CONFIG_KEYS_H
#define PEFT_CONFIG_KEYS_H

#include "core/schema.h"

struct adapter_raw {
    const json_t *method, *peft_type; /* read beforehand */
    const char *init_from;
    int save_dtype; /* 0 f32, 1 bf16 */
    int64_t r;
    double lora_alpha, lora_dropout;
    bool use_rslora, lora_bias, use_dora;
    double loraplus_lr_ratio;
    const json_t *target_modules, *exclude_modules, *rank_pattern, *alpha_pattern;
    const json_t *layers_to_transform, *layers_pattern, *init_lora_weights, *loftq_config;
    const json_t *feedforward_modules;
    bool init_ia3_weights;
    const char *base_model_name_or_path, *revision, *task_type;
    const json_t *modules_to_save, *trainable_token_indices, *probe_lr;
    int bias; /* enum bias_copies */
    bool ensure_weight_tying;
    int64_t last_layers, probe_steps;
    bool inference_mode;
    const char *peft_version;
    int64_t num_virtual_tokens, token_dim, num_layers, num_attention_heads;
    int64_t num_transformer_submodules, encoder_hidden_size, encoder_num_layers;
    int prompt_tuning_init, encoder_reparameterization_type, init_weights, non_linearity;
    const char *prompt_tuning_init_text, *tokenizer_name_or_path, *placeholder;
    double encoder_dropout, reduction_factor, scaling, dropout;
    bool prefix_projection;
    int64_t bottleneck_size;
    double d;
    const json_t *density_pattern;
    int64_t spa_num_grads;
    int grad_acc_mode; /* 0 mean_squared, 1 mean */
    const char *mask_load_path, *mask_save_path, *schedule;
    bool terminate_after_mask_generation, spa_store_transpose;
    int impl, rosa_dtype; /* read and without effect */
    double spa_lr_ratio;
    const json_t *unused; /* keys that carry no meaning here, or only their no-op value */
};

/* adapter_config.json: adapter_keys without Graft's own. */
extern const struct key_table adapter_file_keys;

/* Methods that share keys. */
#define LOW_RANK   "lora, dora, rosa"
#define LAYERED    LOW_RANK ", spa"
#define TARGETED   LAYERED ", ia3, layernorm"
#define PROMPTS    "prompt, ptuning, prefix"
#define SPARSE     "rosa, spa"
#define BOTTLENECK "houlsby, pfeiffer, parallel"
/* Methods whose output is a checkpoint: they train everything and keep nothing beside it. */
#define WHOLE  "full, lpft"
#define SAVERS TARGETED ", " PROMPTS ", " BOTTLENECK ", bitfit, head, last_layers"

/* The choices of init_weights and of non_linearity. */
enum { INIT_ZERO, INIT_BERT, INIT_HOULSBY, INIT_MAM };
extern const char *const init_weights_names[], *const non_linearity_names[];
/* The peft_type of ptuning whose virtual tokens stand at a placeholder's places, which PEFT would
 * put in front. */
#define PLACED_P_TUNING "PLACED_P_TUNING"

/* What `adapter.method` may say. dora is LORA with use_dora and stands behind lora. */
struct adapter_kind {
    const char *name, *peft_type;
    bool works; /* in this version */
};
extern const struct adapter_kind adapter_kinds[]; /* ends with a NULL name */

/* A key of methods that are not here: taken at the value PEFT writes when nothing is asked. */
struct foreign_key {
    const char *name, *dflt, *methods;
};
extern const struct foreign_key foreign_keys[]; /* ends with a NULL name */

#endif
