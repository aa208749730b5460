/* data/virtual.h - virtual tokens in records: ids below 0, -1 - i for row i of what a method
 * trains.
 */
#ifndef DATA_VIRTUAL_H
#define DATA_VIRTUAL_H

#include <stdint.h>

#include "core/status.h"

enum { VIRTUAL_MAX = 1 << 16 }; /* the most there can be */

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

/* What stands in a record of `task`, an index of o->tasks, 0 without them; never NULL. */
struct dataset_opts;
const struct virtual_tokens *virtual_of_task(const struct dataset_opts *o, int task);

#endif
