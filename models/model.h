/* models/model.h - the frozen base in memory: its weights, its slots, and the graph over them. */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "models/arch.h"
#include "models/checkpoint.h"
#include "peft/adapter.h"

/* What the linears become in memory. */
enum weight_mode {
    WEIGHTS_KEEP,   /* as they lie in the checkpoint: floats or blocks, mapped, not copied */
    WEIGHTS_CODES,  /* nf4 or fp4 as `spec` says; a container that holds just that is kept */
    WEIGHTS_FLOATS, /* floats stay, everything else is decoded to f32 */
};

struct weight_choice {
    enum weight_mode mode;
    struct quant_spec spec;
};

struct model_linear {
    const char *name;  /* module path */
    struct qmat w;     /* (O, I) */
    const float *bias; /* (O) or NULL */
    int slot;          /* index into slots */
    /* the floats that w was quantised from, rows as stored (slot_stored_row); data NULL: it was not
     */
    struct qmat source;
    int64_t source_head_dim;
};

struct model_norm {
    const char *name; /* module path */
    const float *w;   /* (n); NULL: there is none */
    int64_t n;
    int slot;
};

struct model_layer {
    struct model_linear linear[LIN_COUNT];
    struct model_norm attn_norm, ffn_norm; /* (C) */
    struct model_norm q_norm, k_norm;      /* (D), not everywhere */
    int kv_slot, sublayer_slot[2];         /* by enum sublayer */
};

struct model {
    const struct checkpoint *ck;       /* borrowed: mapped weights live there */
    const struct model_config *config; /* of ck */
    struct qmat embed;                 /* (V, C), in the checkpoint's type */
    int embed_slot;
    struct model_linear head; /* (V, C); a tied model's is the embedding */
    struct model_norm final_norm;
    struct model_layer *layer;
    struct rope rope;
    struct slot_list slots;
    struct weight_choice quant;
    int64_t params;      /* weights of the base, the tied head once */
    size_t weight_bytes; /* as they are used: mapped and in memory */
    struct arena mem;
};

/* Does the base's linears' format count as float (f32, f16, bf16)? Looks at the first one. */
bool checkpoint_is_float(const struct checkpoint *c);
/* "f32", "q4_1", "nf4", ...: the format of the checkpoint's linears. */
const char *checkpoint_format(const struct checkpoint *c);

/* `ck` is borrowed and must outlive the model. EFORMAT: tensors missing, misshapen or too many (all
 * listed); EARG: a number format that cannot be used; ENOMEM. */
enum graft_status model_load(const struct checkpoint *ck, const struct weight_choice *quant,
                             struct model **out, struct graft_err *err);
void model_free(struct model *m);

/* Every tensor of the model under its Hugging Face name, in Hugging Face's row order: what writers
 * of checkpoints walk. A tied head is not among them. */
struct model_tensor {
    const char *name;
    int ndim;
    struct qmat mat;         /* vectors: rows 1 */
    const struct slot *slot; /* whose weight or bias it is */
    bool is_bias;
};
enum graft_status model_tensors(const struct model *m, struct arena *mem, struct model_tensor **out,
                                int64_t *count, struct graft_err *err);

enum net_mode {
    NET_LOSS,   /* scalar: sum of -log p over tokens with a target */
    NET_LOGITS, /* (segments, V) f32: of each segment's last token; forward only */
    NET_HIDDEN, /* (N, C): what the head gets, of every token; forward only */
};
/* Record the forward graph; `a` may be NULL. NULL result: see graph_error. */
struct tensor *model_record(const struct model *m, struct adapter *a, struct graph *g,
                            enum net_mode mode);
/* The head alone over rows that NET_HIDDEN gave, `rows` (M, C), a leaf: logits (n, V) of the rows
 * that the pass's ids name. */
struct tensor *model_record_head(const struct model *m, struct adapter *a, struct graph *g,
                                 struct tensor *rows);

#endif
