/* data/virtual.h - virtual tokens in records: ids below 0, -1 - i for row i of what a method
 * trains.
 */
#ifndef DATA_VIRTUAL_H
#define DATA_VIRTUAL_H

#include "data/dataset.h"

/* What stands before a record or in it; all 0: nothing. */
struct virtual_tokens {
    int64_t front;  /* the ids -1 .. -front before its first token */
    int64_t before; /* positions before those that hold no token: the keys of a prefix */
    int64_t placed; /* the ids -1 .. -placed, the i-th where `placeholder` stands the i-th time */
    int32_t placeholder;
};

/* EARG: the placeholders among id (n) are not `placed`, with both numbers. */
enum graft_status virtual_check(const struct virtual_tokens *v, const int32_t *id, int64_t n,
                                struct graft_err *err);
/* Check and replace them. */
enum graft_status virtual_place(const struct virtual_tokens *v, int32_t *id, int64_t n,
                                struct graft_err *err);

/* The same in every record of `d` whose task is `task` (0 without tasks). A virtual token is no
 * target, and neither is a record's first token, also where virtual ones stand before it; a record
 * without a target is dropped. EFORMAT "FILE:LINE: reason", also where a record and what is put
 * before it take more than `max_positions` (0: no limit). */
enum graft_status dataset_add_virtual(struct dataset *d, int task, const struct virtual_tokens *v,
                                      int64_t max_positions, struct graft_err *err);

#endif
