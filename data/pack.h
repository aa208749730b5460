/* data/pack.h - whole records into rows of limited length. Inside data/ only. */
#ifndef DATA_PACK_H
#define DATA_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* row[i] = the row of record i, rows counted from 0; the number of rows is returned. No row holds
 * more than `room` tokens; every length must be in [1, room]. */

/* Best fit, longest first: few rows, O(n log room). Records of one length go in the order of
 * `rank`, a permutation of [0, n). A packer has the memory for up to `most` records: 8 bytes each,
 * 12 a token of room. */
struct packer;
enum graft_status packer_new(int64_t most, int64_t room, struct packer **out,
                             struct graft_err *err);
void packer_free(struct packer *p);
size_t packer_bytes(const struct packer *p);
int64_t pack_best_fit(struct packer *p, const uint32_t *length, int64_t n, const uint32_t *rank,
                      uint32_t *row);
/* In order: a row ends where the next record does not fit. */
int64_t pack_in_order(const uint32_t *length, int64_t n, int64_t room, uint32_t *row);

#endif
