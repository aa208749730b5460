/* models/config.h - what a checkpoint says about its model, in one struct whatever the container.
 *
 * Sources: Hugging Face config.json (keys of transformers 4 and 5) and the keys of a GGUF file. */
#ifndef MODELS_CONFIG_H
#define MODELS_CONFIG_H

#include "autograd/ops.h"
#include "core/json.h"
#include "io/gguf.h"

enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_YARN, ROPE_LONGROPE, ROPE_LLAMA3 };

/* The keys of rope_parameters / rope_scaling; 0 where a key is absent, unless said. */
struct rope_config {
    enum rope_type type;
    double theta;
    double partial;              /* partial_rotary_factor, 1 when absent */
    double factor;               /* NAN: absent */
    double original_max;         /* original_max_position_embeddings; 0: absent */
    double attention_factor;     /* NAN: absent */
    double beta_fast, beta_slow; /* yarn: 32, 1 */
    double mscale, mscale_all_dim;
    bool truncate; /* yarn: true when absent */
    double low_freq_factor, high_freq_factor;
    const float *short_factor, *long_factor; /* longrope: half entries each */
    const float *divisor;                    /* GGUF's rope_freqs.weight: half entries, or NULL */
    int64_t factors;                         /* entries of the lists above */
};

enum { MAX_EOS = 16 };

struct arch;

struct model_config {
    const struct arch *arch;
    const char *model_type; /* "llama": Hugging Face's word, also for GGUF */
    int64_t vocab, hidden, ffn, layers, heads, kv_heads, head_dim, max_positions;
    double norm_eps;
    enum activation act;
    bool tied; /* the head is the embedding */
    bool qkv_bias, o_bias, mlp_bias;
    int64_t *window; /* layers: sliding window of each, 0 = full attention */
    struct rope_config rope;
    int32_t bos; /* -1: none */
    int32_t eos[MAX_EOS];
    int eos_count;
    enum qtype dtype; /* dtype / torch_dtype of the config; QT_COUNT: not said */
    const char *name; /* _name_or_path or general.base_model's; NULL */
};

/* `json` from config.json; strings and arrays go to `mem`. EFORMAT: a required key is missing, of
 * another type or out of range, or two keys contradict (messages name key and file), or
 * the architecture or a feature of it is not supported, by name. */
enum graft_status model_config_from_json(const char *file, const json_t *json, struct arena *mem,
                                         struct model_config *out, struct graft_err *err);
enum graft_status model_config_from_gguf(struct gguf *g, struct arena *mem,
                                         struct model_config *out, struct graft_err *err);
/* config.json as transformers reads it, for bases that have none; the caller owns it. NULL: no
 * memory. */
json_t *model_config_to_json(const struct model_config *c);

/* Frequencies of `c` for the graph; memory from `mem`. EFORMAT: a scaling key is missing. */
enum graft_status rope_make(const struct model_config *c, struct arena *mem, struct rope *out,
                            struct graft_err *err);

#endif
