#include <string.h>

#include "quant/gguf_blocks.h"
#include "quant/quant.h"

const struct qtype_info qtypes[QT_COUNT] = {
    [QT_F32] = { "f32", 1, 4, true, f32_decode, f32_encode },
    [QT_F16] = { "f16", 1, 2, true, f16_decode, f16_encode },
    [QT_BF16] = { "bf16", 1, 2, true, bf16_decode, bf16_encode },
    [QT_NF4] = { "nf4", 1, 0, false, NULL, NULL },
    [QT_FP4] = { "fp4", 1, 0, false, NULL, NULL },
    [QT_Q4_0] = { "q4_0", 32, 18, false, q4_0_decode, NULL },
    [QT_Q4_1] = { "q4_1", 32, 20, false, q4_1_decode, NULL },
    [QT_Q5_0] = { "q5_0", 32, 22, false, q5_0_decode, NULL },
    [QT_Q5_1] = { "q5_1", 32, 24, false, q5_1_decode, NULL },
    [QT_Q8_0] = { "q8_0", 32, 34, false, q8_0_decode, q8_0_encode },
    [QT_Q4_K] = { "q4_k", 256, 144, false, q4_k_decode, NULL },
    [QT_Q5_K] = { "q5_k", 256, 176, false, q5_k_decode, NULL },
    [QT_Q6_K] = { "q6_k", 256, 210, false, q6_k_decode, NULL },
    [QT_F64] = { "f64", 1, 8, false, NULL, NULL },
    [QT_I64] = { "i64", 1, 8, false, NULL, NULL },
    [QT_I32] = { "i32", 1, 4, false, NULL, NULL },
    [QT_I16] = { "i16", 1, 2, false, NULL, NULL },
    [QT_I8] = { "i8", 1, 1, false, NULL, NULL },
    [QT_U64] = { "u64", 1, 8, false, NULL, NULL },
    [QT_U32] = { "u32", 1, 4, false, NULL, NULL },
    [QT_U16] = { "u16", 1, 2, false, NULL, NULL },
    [QT_U8] = { "u8", 1, 1, false, NULL, NULL },
    [QT_BOOL] = { "bool", 1, 1, false, NULL, NULL },
    [QT_F8_E4M3] = { "f8_e4m3", 1, 1, false, NULL, NULL },
    [QT_F8_E5M2] = { "f8_e5m2", 1, 1, false, NULL, NULL },
};

enum qtype qtype_by_name(const char *name)
{
    int t = 0;

    while (t < QT_COUNT && strcmp(qtypes[t].name, name) != 0)
        t++;
    return (enum qtype)t;
}
