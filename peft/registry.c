#include <string.h>

#include "peft/adapter.h"
#include "peft/methods.h"

const struct adapter_ops *const adapter_methods[] = {
    &lora_ops,    &dora_ops,   &rosa_ops,        &spa_ops,      &ia3_ops,      &prompt_ops,
    &ptuning_ops, &prefix_ops, &houlsby_ops,     &pfeiffer_ops, &parallel_ops, &layernorm_ops,
    &bitfit_ops,  &head_ops,   &last_layers_ops, &full_ops,     NULL,
};

const struct adapter_ops *adapter_method(const char *name)
{
    for (int i = 0; adapter_methods[i]; i++)
        if (!strcmp(adapter_methods[i]->name, name))
            return adapter_methods[i];
    return NULL;
}
