/* peft/change.h - what an adapter changes of the base's weights: W' - W, and back from W' to W. */
#ifndef PEFT_CHANGE_H
#define PEFT_CHANGE_H

#include "peft/adapter.h"

/* Why a method is no change of weights; NULL: it is one. */
const char *why_no_change(const struct adapter_ops *ops);
/* Does the adapter change the weight (or norm's weight), the bias, of this slot? */
bool changes_weight(const struct adapter *a, const struct slot *slot);
bool changes_bias(const struct adapter *a, const struct slot *slot);
/* Is the change the same whatever the base holds? Else the two below read the slot's weight. */
bool change_is_additive(const struct adapter *a, const struct slot *slot);

/* Rows [first, first + n) of the change of the weight: out and work (n, in). */
void change_rows(const struct adapter *a, const struct slot *slot, int64_t first, int64_t n,
                 float *out, float *work);
/* The change of the bias: out and work (out features). A bias that the base lacks counts as 0. */
void change_bias(const struct adapter *a, const struct slot *slot, float *out, float *work);

/* What a merge makes of rows [first, first + n) of the weight, of the bias, in place. */
void merged_rows(const struct adapter *a, const struct slot *slot, int64_t first, int64_t n,
                 float *w);
void merged_bias(const struct adapter *a, const struct slot *slot, float *bias);

/* Can a merge at this slot be taken back? EARG names the method and why not. */
enum graft_status change_can_undo(const struct adapter *a, const struct slot *slot,
                                  struct graft_err *err);
/* Take it back from rows of the merged weight, w and work (n, in); of the merged bias. */
void undo_rows(const struct adapter *a, const struct slot *slot, int64_t first, int64_t n, float *w,
               float *work);
void undo_bias(const struct adapter *a, const struct slot *slot, float *bias, float *work);

#endif
