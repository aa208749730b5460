/* models/arch.h - architectures: one row each over one graph builder. */
#ifndef MODELS_ARCH_H
#define MODELS_ARCH_H

#include <stdbool.h>
#include <stdint.h>

/* The linears of a block. */
enum linear_role { LIN_Q, LIN_K, LIN_V, LIN_O, LIN_GATE, LIN_UP, LIN_DOWN, LIN_COUNT };

/* Where the biases of a family are decided. */
enum bias_rule {
    BIAS_CONFIG, /* attention_bias (q, k, v, o) and mlp_bias of the config */
    BIAS_QKV,    /* always on q, k and v (Qwen2) */
    BIAS_NONE,
};

enum window_rule {
    WINDOW_NONE,
    WINDOW_ALL,      /* sliding_window, when not null, in every layer (Mistral) */
    WINDOW_SWITCHED, /* only with use_sliding_window: layer_types, or layers >= max_window_layers
                        (Qwen) */
};

struct arch {
    const char *model_type; /* config.json */
    const char *class_name; /* "LlamaForCausalLM" */
    const char *gguf;       /* general.architecture, read */
    const char *gguf_as;    /* the same, written; NULL: as read */
    /* module paths; layer names stand behind "model.layers.N." */
    const char *embed, *final_norm, *head;
    const char *layer_prefix;
    const char *linear[LIN_COUNT];
    const char *attn_norm, *ffn_norm;
    const char *q_norm, *k_norm; /* NULL: none */
    const char *default_act;
    enum bias_rule bias;
    enum window_rule window;
    bool gguf_permutes_qk; /* rows of q and k are stored for interleaved rotation */
    /* what transformers takes for keys that a config leaves out */
    int head_dim; /* 0: hidden / heads */
    int64_t max_positions, sliding_window;
};

extern const struct arch archs[]; /* ends with a row whose model_type is NULL */
const struct arch *arch_by_model_type(const char *model_type);
const struct arch *arch_by_gguf(const char *architecture);
/* "llama, mistral, ...", for messages; static storage */
const char *arch_names(void);

/* GGUF's names of the same tensors, the same for every architecture: "blk.N." + these + ".weight".
 */
extern const char *const gguf_linear_names[LIN_COUNT];

#endif
