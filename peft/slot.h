/* peft/slot.h - the named places of a model where a method may sit.
 *
 * A slot hides the base weight's number format: a method sees names and sizes, and asks the slot's
 * services where its mathematics needs the weight itself (a merge, row norms, an SVD). */
#ifndef PEFT_SLOT_H
#define PEFT_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "quant/quant.h"

enum site { SITE_LINEAR = 1, SITE_EMBED = 2, SITE_KV = 4, SITE_SUBLAYER = 8 };

struct slot {
    const char *name; /* the checkpoint's module path: "model.layers.0.self_attn.q_proj" */
    enum site site;
    int index;       /* its place in the model's list of slots */
    int64_t in, out; /* features; linear: W is (out, in) */
    bool is_head;    /* the output embedding: "all-linear" leaves it out */
    bool has_bias;
    const struct qmat *w; /* for the services in slot.c only */
};

/* The slots of a model, in the order of its modules. */
struct slot_list {
    const struct slot *slot;
    int count;
    const char *model_type; /* decides a method's default targets, as in PEFT */
};

/* Rows [first, first + n) of the weight as f32: out (n, in). */
void slot_decode_rows(const struct slot *s, int64_t first, int64_t n, float *out);

#endif
