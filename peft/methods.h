/* peft/methods.h - the rows of the registry, each defined in a file of its own. */
#ifndef PEFT_METHODS_H
#define PEFT_METHODS_H

#include "peft/adapter.h"

extern const struct adapter_ops lora_ops, dora_ops, ia3_ops, rosa_ops, spa_ops;
extern const struct adapter_ops prompt_ops, ptuning_ops, prefix_ops;
extern const struct adapter_ops houlsby_ops, pfeiffer_ops, parallel_ops;
extern const struct adapter_ops layernorm_ops, bitfit_ops, head_ops, last_layers_ops, full_ops;
/* Values for a site of LoRA: the change of the weight is scale * left right, left (O, r), right (r,
 * I); bias (O) with lora_bias. */
void lora_fill(struct adapter_site *s, const float *left, const float *right, const float *bias);

#endif
