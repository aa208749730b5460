/* backend/cpu/attention.h - what the forward and the backward half of attention share.
 *
 * The work is cut into query tiles and key tiles. A query tile is `bq` tokens of one segment times
 * the G = H / K heads that read the same keys: G * bq rows, row g * bq + t. Key tiles hold ATT_KEYS
 * keys and are counted from the first key of the sequence, so that the sum over keys of a query has
 * one order, wherever the query stands. A prefix has tiles of its own, which come first. */
#ifndef BACKEND_CPU_ATTENTION_H
#define BACKEND_CPU_ATTENTION_H

#include "backend/backend.h"

enum { ATT_KEYS = 64, ATT_ROWS = 96 };

/* One query tile and its place. */
struct att_query {
    int64_t s, kh, first, bq; /* segment, key head, first token in the segment, tokens */
    int64_t row, past;        /* of the segment: first row, tokens before it */
};

static inline int64_t att_group(const struct attention_shape *a)
{
    return a->heads / a->kv_heads;
}

/* Tokens of a query tile, at most. */
static inline int64_t att_tokens(const struct attention_shape *a)
{
    const int64_t n = ATT_ROWS / att_group(a);

    return n < 8 ? 8 : n;
}

static inline int64_t att_padded(int64_t D)
{
    return (D + 15) / 16 * 16;
}

/* A piece of a lane's memory: n floats, the next piece aligned to 64 bytes. */
static inline float *att_take(float **at, int64_t n)
{
    float *p = *at;

    *at += (n + 15) / 16 * 16;
    return p;
}

/* Keys [*lo, *hi) of the tile from k0 on that the query at sequence position p sees. */
static inline void att_visible(const struct attention_shape *a, int64_t p, int64_t k0, int64_t *lo,
                               int64_t *hi)
{
    const int64_t first = a->window > 0 ? p - a->window + 1 - k0 : 0, end = p + 1 - k0;

    *lo = first < 0 ? 0 : first > ATT_KEYS ? ATT_KEYS : first;
    *hi = end > ATT_KEYS ? ATT_KEYS : end < *lo ? *lo : end;
}

/* Keys [k0, k0 + count) of a query's sequence, or of the prefix before it: a tile holds keys of one
 * of the two. */
struct att_keys {
    bool prefix;
    int64_t k0, count;
};

/* Keys [*lo, *hi) of the tile that token t of the query tile sees. */
static inline void att_seen(const struct attention_call *c, const struct att_query *q, int64_t t,
                            const struct att_keys *k, int64_t *lo, int64_t *hi)
{
    att_visible(&c->shape, (k->prefix ? c->prefix : 0) + q->past + q->first + t, k->k0, lo, hi);
    if (*hi > k->count)
        *hi = k->count < *lo ? *lo : k->count;
}

/* Tile i of the prefix. */
static inline struct att_keys att_prefix_tile(const struct attention_call *c, int64_t i)
{
    const int64_t k0 = i * ATT_KEYS, left = c->prefix - k0;

    return (struct att_keys){ true, k0, left < ATT_KEYS ? left : ATT_KEYS };
}

/* Tiles [*from, *to) of the prefix that some query of the tile sees. */
static inline void att_prefix_tiles(const struct attention_call *c, const struct att_query *q,
                                    int64_t *from, int64_t *to)
{
    const int64_t w = c->shape.window;
    const int64_t low = w > 0 ? c->prefix + q->past + q->first - w + 1 : 0;

    *to = (c->prefix + ATT_KEYS - 1) / ATT_KEYS;
    *from = low >= c->prefix ? *to : (low < 0 ? 0 : low) / ATT_KEYS;
}

/* Key tiles [*from, *to) of the sequence that some query of the tile sees. */
static inline void att_key_tiles(const struct attention_shape *a, const struct att_query *q,
                                 int64_t *from, int64_t *to)
{
    const int64_t p = q->past + q->first, low = a->window > 0 ? p - a->window + 1 : 0;

    *from = (low < 0 ? 0 : low) / ATT_KEYS;
    *to = (p + q->bq - 1) / ATT_KEYS + 1;
}

/* tiles (segments + 1): running count of tiles of `step` tokens; returns their number. */
int64_t att_count_tiles(const struct attention_call *c, int64_t step, int64_t *tiles);
/* The segment that tile i of that count belongs to. */
int64_t att_find_tile(const int64_t *tiles, int64_t segments, int64_t i);

struct att_query att_query_at(const struct attention_call *c, int64_t s, int64_t kh, int64_t tile);
/* q (G * bq, Dp) = factor * rows of x (N, H*D), columns from D on 0 */
void att_load_rows(const struct attention_call *c, const struct att_query *q, struct act x,
                   float factor, float *rows);
/* rows (count, Dp) = rows row .. of x (N, K*D), head kh; columns from D on 0 */
void att_load_keys(const struct attention_shape *a, struct act x, int64_t row, int64_t kh,
                   int64_t count, float *rows);

/* The table of tiles stands before the lanes in the scratch. */
static inline size_t att_table_bytes(int64_t segments)
{
    return (size_t)((segments + 1) * 8 + 63) / 64 * 64;
}

/* Bytes behind the table for a backward pass of n tokens. */
size_t att_backward_bytes(const struct attention_shape *a, int64_t n, int lanes);

#endif
