#include "models/arch.h"

#include <stdio.h>
#include <string.h>

/* Module names that the whole Llama family shares. */
#define LLAMA_NAMES                                                                                \
    .embed = "model.embed_tokens", .final_norm = "model.norm", .head = "lm_head",                  \
    .layer_prefix = "model.layers",                                                                \
    .linear = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",    \
                "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj" },                         \
    .attn_norm = "input_layernorm", .ffn_norm = "post_attention_layernorm", .default_act = "silu"

const struct arch archs[] = {
    /* Llama 1 to 3.2, SmolLM, TinyLlama */
    { .model_type = "llama",
      .class_name = "LlamaForCausalLM",
      .gguf = "llama",
      LLAMA_NAMES,
      .bias = BIAS_CONFIG,
      .window = WINDOW_NONE,
      .gguf_permutes_qk = true,
      .max_positions = 2048 },
    /* GGUF files of Mistral say "llama" */
    { .model_type = "mistral",
      .class_name = "MistralForCausalLM",
      .gguf = "mistral",
      .gguf_as = "llama",
      LLAMA_NAMES,
      .bias = BIAS_NONE,
      .window = WINDOW_ALL,
      .gguf_permutes_qk = true,
      .max_positions = 131072,
      .sliding_window = 4096 },
    { .model_type = "qwen2",
      .class_name = "Qwen2ForCausalLM",
      .gguf = "qwen2",
      LLAMA_NAMES,
      .bias = BIAS_QKV,
      .window = WINDOW_SWITCHED,
      .max_positions = 32768,
      .sliding_window = 4096 },
    { .model_type = "qwen3",
      .class_name = "Qwen3ForCausalLM",
      .gguf = "qwen3",
      LLAMA_NAMES,
      .q_norm = "self_attn.q_norm",
      .k_norm = "self_attn.k_norm",
      .bias = BIAS_CONFIG,
      .window = WINDOW_SWITCHED,
      .head_dim = 128,
      .max_positions = 32768,
      .sliding_window = 4096 },
    { .model_type = NULL },
};

const char *const gguf_linear_names[LIN_COUNT] = { "attn_q",   "attn_k", "attn_v",  "attn_output",
                                                   "ffn_gate", "ffn_up", "ffn_down" };

const struct arch *arch_by_model_type(const char *model_type)
{
    for (const struct arch *a = archs; a->model_type; a++)
        if (!strcmp(a->model_type, model_type))
            return a;
    return NULL;
}

const struct arch *arch_by_gguf(const char *architecture)
{
    for (const struct arch *a = archs; a->model_type; a++)
        if (!strcmp(a->gguf, architecture))
            return a;
    return NULL;
}

const char *arch_names(void)
{
    static char names[256];

    if (!names[0])
        for (const struct arch *a = archs; a->model_type; a++) {
            strncat(names, a == archs ? "" : ", ", sizeof names - strlen(names) - 1);
            strncat(names, a->model_type, sizeof names - strlen(names) - 1);
        }
    return names;
}
