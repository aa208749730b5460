/* peft/file_slots.h - the slots that an adapter's own files tell of, for jobs that need no base. */
#ifndef PEFT_FILE_SLOTS_H
#define PEFT_FILE_SLOTS_H

#include "peft/config.h"
#include "peft/slot.h"

/* The linears and embeddings whose A and B stand in DIR/adapter_model.safetensors, with their
 * shapes, in the file's order; none for methods of other tensors. `config` becomes one that places
 * exactly these. Memory from `mem`. EIO, EFORMAT, ESHAPE. */
enum graft_status file_slots(const char *dir, struct adapter_config *config, struct arena *mem,
                             struct slot_list *out, struct graft_err *err);

#endif
