/* data/pack.h - whole records into rows of limited length. Inside data/ only. */
#ifndef DATA_PACK_H
#define DATA_PACK_H

#include <stdint.h>

#include "core/status.h"

/* row[i] = the row of record i, rows counted from 0, *rows of them. No row holds more than `room`
 * tokens; every length must be in [1, room]. */

/* Best fit, longest first: few rows, O(n log room). Records of one length go in the order of
 * `rank`, a permutation of [0, n). */
enum graft_status pack_best_fit(const int64_t *length, int64_t n, int64_t room, const int64_t *rank,
                                int64_t *row, int64_t *rows, struct graft_err *err);
/* In order: a row ends where the next record does not fit. */
void pack_in_order(const int64_t *length, int64_t n, int64_t room, int64_t *row, int64_t *rows);

#endif
