/* backend/cpu/row.h - pieces of activations as f32, whatever they are stored as.
 *
 * Kernels walk their elements in pieces of PIECE: an f32 piece is used where it lies, a bf16 piece
 * goes through a buffer on the stack. */
#ifndef BACKEND_CPU_ROW_H
#define BACKEND_CPU_ROW_H

#include <string.h>

#include "backend/backend.h"

enum {
    PIECE = 1024,
    PARALLEL_MIN = 1 << 14 /* elements below which waking threads costs more than it brings */
};

void bf16_widen(int64_t n, const uint16_t *x, float *y);
void bf16_round(int64_t n, const float *x, uint16_t *y);

static inline int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Elements [at, at + n) of x, in `buf` (n) when they had to be widened. */
static inline const float *piece_get(struct act x, int64_t at, int64_t n, float *buf)
{
    if (!x.is_bf16)
        return (const float *)x.data + at;
    bf16_widen(n, (const uint16_t *)x.data + at, buf);
    return buf;
}

/* Where to write elements from `at` on; piece_put brings them home. */
static inline float *piece_room(struct act y, int64_t at, float *buf)
{
    return y.is_bf16 ? buf : (float *)y.data + at;
}

static inline void piece_put(struct act y, int64_t at, int64_t n, const float *p)
{
    if (y.is_bf16)
        bf16_round(n, p, (uint16_t *)y.data + at);
}

#endif
