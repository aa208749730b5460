/* The table of the CPU back end. */
#include "backend/backend.h"

#include "backend/cpu/kernels.h"

static const struct backend cpu = {
    .name = "cpu",
    .product_scratch = gemm_scratch,
    .xwt = gemm_xwt,
    .xw = gemm_xw,
    .tn = gemm_tn,
    .bias_acc = bias_acc_cpu,
    .column_sum_scratch = column_sum_scratch_cpu,
    .column_sum = column_sum_cpu,
    .sparse_scratch = sparse_scratch_cpu,
    .sparse_xst = sparse_xst_cpu,
    .sparse_xs = sparse_xs_cpu,
    .sparse_sample = sparse_sample_cpu,
    .embed = embed_cpu,
    .embed_backward = embed_backward_cpu,
    .rmsnorm = rmsnorm_cpu,
    .norm_scratch = norm_scratch_cpu,
    .rmsnorm_backward = rmsnorm_backward_cpu,
    .layernorm = layernorm_cpu,
    .layernorm_backward = layernorm_backward_cpu,
    .rope_angles = rope_angles_cpu,
    .rope = rope_cpu,
    .rope_backward = rope_backward_cpu,
    .kv_append = kv_append_cpu,
    .attention_scratch = attention_scratch_cpu,
    .attention = attention_cpu,
    .attention_backward = attention_backward_cpu,
    .lstm = lstm_cpu,
    .lstm_scratch = lstm_scratch_cpu,
    .lstm_backward = lstm_backward_cpu,
    .activation = activation_cpu,
    .activation_backward = activation_backward_cpu,
    .gate = gate_cpu,
    .gate_backward = gate_backward_cpu,
    .add = add_cpu,
    .scale = scale_cpu,
    .axpy = axpy_cpu,
    .add_square = add_square_cpu,
    .dropout = dropout_cpu,
    .dropout_backward = dropout_backward_cpu,
    .column_scale = column_scale_cpu,
    .column_scale_scratch = column_scale_scratch_cpu,
    .column_scale_backward = column_scale_backward_cpu,
    .pick_columns = pick_columns_cpu,
    .pick_columns_backward = pick_columns_backward_cpu,
    .row_norms_scratch = row_norms_scratch_cpu,
    .row_norms = row_norms_cpu,
    .copy_columns = copy_columns_cpu,
    .add_columns = add_columns_cpu,
    .gather_rows = gather_rows_cpu,
    .scatter_add_rows = scatter_add_rows_cpu,
    .softmax_nll = softmax_nll_cpu,
    .softmax_nll_backward = softmax_nll_backward_cpu,
};

const struct backend *backend_cpu(void)
{
    return &cpu;
}
