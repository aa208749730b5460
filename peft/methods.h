/* peft/methods.h - the rows of the registry, each defined in a file of its own. */
#ifndef PEFT_METHODS_H
#define PEFT_METHODS_H

#include "peft/adapter.h"

extern const struct adapter_ops lora_ops;

#endif
