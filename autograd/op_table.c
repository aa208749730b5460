/* The ops: one row each; their functions are in autograd/ops/, a file an op. */
#include "autograd/ops/op.h"

const struct op_def op_defs[] = {
    [OP_EMBEDDING] = { "embedding", 1, 2, embedding_infer, embedding_forward, embedding_backward,
                       NULL, NULL, -1 },
    [OP_LINEAR] = { "linear", 2, 4, linear_infer, linear_forward, linear_backward, linear_needs,
                    linear_scratch, 3 },
    [OP_RMSNORM] = { "rmsnorm", 2, 2, rmsnorm_infer, rmsnorm_forward, rmsnorm_backward,
                     rmsnorm_needs, rmsnorm_scratch, -1 },
    [OP_LAYERNORM] = { "layernorm", 2, 3, layernorm_infer, layernorm_forward, layernorm_backward,
                       layernorm_needs, layernorm_scratch, -1 },
    [OP_ROPE_ANGLES] = { "rope_angles", 0, 0, rope_angles_infer, rope_angles_forward, NULL, NULL,
                         rope_angles_scratch, -1 },
    [OP_ROPE] = { "rope", 2, 2, rope_infer, rope_forward, rope_backward, rope_needs, NULL, -1 },
    [OP_ATTENTION] = { "attention", 3, 3, attention_infer, attention_forward, attention_backward,
                       attention_needs, attention_scratch, -1 },
    [OP_GATE] = { "gate", 2, 2, gate_infer, gate_forward, gate_backward, gate_needs, NULL, -1 },
    [OP_ACTIVATION] = { "activation", 1, 1, activation_infer, activation_forward,
                        activation_backward, activation_needs, NULL, -1 },
    [OP_ADD] = { "add", 2, 2, add_infer, add_forward, add_backward, NULL, NULL, 0 },
    [OP_SCALE] = { "scale", 1, 1, scale_infer, scale_forward, scale_backward, NULL, NULL, -1 },
    [OP_DROPOUT] = { "dropout", 1, 1, dropout_infer, dropout_forward, dropout_backward, NULL, NULL,
                     -1 },
    [OP_CONCAT] = { "concat", 2, 2, concat_infer, concat_forward, concat_backward, NULL, NULL, -1 },
    [OP_SLICE] = { "slice", 1, 1, slice_infer, slice_forward, slice_backward, NULL, NULL, -1 },
    [OP_PICK_LAST] = { "pick_last", 1, 1, pick_last_infer, pick_last_forward, pick_last_backward,
                       NULL, pick_last_scratch, -1 },
    [OP_HEAD_LOSS] = { "head_loss", 2, 3, head_loss_infer, head_loss_forward, head_loss_backward,
                       NULL, head_loss_scratch, -1 },
    [OP_CROSS_ENTROPY] = { "cross_entropy", 1, 1, cross_entropy_infer, cross_entropy_forward,
                           cross_entropy_backward, cross_entropy_needs, cross_entropy_scratch, -1 },
};
_Static_assert(sizeof op_defs / sizeof *op_defs == OP_COUNT, "an enum op has no table row");
