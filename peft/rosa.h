/* peft/rosa.h - what the files of RoSA share: the parameters of a site and the choice of places. */
#ifndef PEFT_ROSA_H
#define PEFT_ROSA_H

#include "core/file.h"
#include "peft/lora.h"

/* A and B stand where LoRA's do, so that they share what is made of them. */
enum rosa_param { ROSA_VALUES = LORA_FILE_B + 1, ROSA_ROW_OFFS, ROSA_COL_IDX };

/* adapter_site.state */
struct rosa_site {
    struct sparse sparse; /* what the graphs read: row_offs NULL until the values take part */
    int64_t nnz;          /* int(density * out * in), as in the fork; 0: no sparse part here */
};

/* adapter.state */
struct rosa {
    bool chosen;              /* the places are known */
    int64_t wakes;            /* the step from which the values train */
    struct scratch_file sums; /* while gradients are gathered: (out, in) f32 of each site in turn */
};

extern const struct adapter_phases rosa_phases;

/* The places of a site that came from a file. EFORMAT: no matrix of `nnz` places, nor an empty one
 * (message: tensor and place). *chosen: there are places. */
enum graft_status rosa_check(const struct adapter_site *s, bool *chosen, struct graft_err *err);
/* The values take part from now on. */
void rosa_wake(struct adapter_site *s);

#endif
