/* Attention, backward. Scores are computed again, tile by tile, from the kept log-sum-exp:
 *
 *     p = exp(s - lse)   delta = sum_d do o   ds = p (do.v - delta) cap'(s)
 *     dv = p^T do        dq = ds (scale k)    dk = ds^T (scale q)
 *
 * Two ways to share the work, with the same bits: by key head, all three gradients at once; or,
 * where that is too few pieces for the threads, dq by query tile and then dk, dv by key tile, which
 * computes s and do.v twice. Gradients of a prefix, which all segments share, have a sweep of their
 * own, by its tiles, over the segments in order. */
#include <omp.h>

#include "backend/cpu/attention.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"
#include "backend/cpu/sum.h"
#include "backend/cpu/tile.h"

/* Working memory of one thread. */
struct lane {
    float *q, *dout, *dq;   /* (M, Dp): scaled queries, output gradients, this tile's part of dq */
    float *s, *ds;          /* (M, ATT_KEYS) */
    float *k, *kt, *v, *vt; /* (ATT_KEYS, Dp) and transposed; k is scaled */
    float *dk, *dv;         /* (ATT_KEYS, Dp) */
    const float *delta;     /* (N, H), shared by all */
};

static int64_t lane_floats(const struct attention_shape *a)
{
    const int64_t M = att_group(a) * att_tokens(a), Dp = att_padded(a->head_dim);

    return 3 * M * Dp + 2 * M * ATT_KEYS + 6 * ATT_KEYS * Dp;
}

static struct lane lane_at(const struct attention_shape *a, float *at, const float *delta)
{
    const int64_t M = att_group(a) * att_tokens(a), Dp = att_padded(a->head_dim);

    return (struct lane){
        .q = att_take(&at, M * Dp),
        .dout = att_take(&at, M * Dp),
        .dq = att_take(&at, M * Dp),
        .s = att_take(&at, M * ATT_KEYS),
        .ds = att_take(&at, M * ATT_KEYS),
        .k = att_take(&at, ATT_KEYS * Dp),
        .kt = att_take(&at, ATT_KEYS * Dp),
        .v = att_take(&at, ATT_KEYS * Dp),
        .vt = att_take(&at, ATT_KEYS * Dp),
        .dk = att_take(&at, ATT_KEYS * Dp),
        .dv = att_take(&at, ATT_KEYS * Dp),
        .delta = delta,
    };
}

static size_t delta_floats(const struct attention_shape *a, int64_t n)
{
    return (size_t)((n * a->heads + 15) / 16 * 16);
}

size_t att_backward_bytes(const struct attention_shape *a, int64_t n, int lanes)
{
    return (delta_floats(a, n) + (size_t)lanes * (size_t)lane_floats(a)) * sizeof(float);
}

/* delta (n, H) = sum over D of dout * out */
static void output_dots(const struct attention_call *c, int64_t n, float *delta)
{
    const int64_t H = c->shape.heads, D = c->shape.head_dim;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n * H; i++) {
        double sum = 0;

        for (int64_t d = 0; d < D; d += PIECE) {
            _Alignas(64) float buf[PIECE];
            const int64_t m = min64(PIECE, D - d);

            sum_add_dot(m, c->dout + i * D + d, piece_get(c->out, i * D + d, m, buf), &sum);
        }
        delta[i] = (float)sum;
    }
}

/* p = exp(s - lse) for keys [lo, hi), else 0; ds = p (dp - delta) (1 - (s / cap)^2), in place. */
SIMD_INLINE void row_body(int32_t lo, int32_t hi, float lse, float delta, float inv_cap, float *s,
                          float *ds)
{
#pragma omp simd
    for (int32_t j = 0; j < ATT_KEYS; j++) {
        const float u = s[j] * inv_cap, seen = j >= lo && j < hi ? 1.0f : 0.0f;
        const float e = exp_f32(s[j] - lse), p = seen > 0.0f ? e : 0.0f;

        s[j] = p;
        ds[j] = p * (ds[j] - delta) * (1.0f - u * u);
    }
}

SIMD_FUNCTION(static, score_row, row_body,
              (int32_t lo, int32_t hi, float lse, float delta, float inv_cap, float *s, float *ds),
              (lo, hi, lse, delta, inv_cap, s, ds))

static bool wants_scores(const struct attention_call *c)
{
    return c->dq || c->dk || c->dprefix_k;
}

static void load_queries(const struct attention_call *c, const struct att_query *q,
                         const struct lane *w)
{
    /* only read */
    const struct act dout = { (void *)(uintptr_t)c->dout, 0 };

    att_load_rows(c, q, c->q, c->shape.scale, w->q);
    att_load_rows(c, q, dout, 1.0f, w->dout);
}

/* The keys of the prefix, or those of the segment that begins at row `start`. */
static void load_keys(const struct attention_call *c, int64_t start, int64_t kh,
                      const struct att_keys *keys, const struct lane *w)
{
    const int64_t D = c->shape.head_dim, Dp = att_padded(D), count = keys->count;
    const int64_t row = keys->k0 + (keys->prefix ? 0 : start);

    att_load_keys(&c->shape, keys->prefix ? c->prefix_k : c->k, row, kh, count, w->k);
    tile_transpose(count, D, w->k, Dp, ATT_KEYS, w->kt, ATT_KEYS);
    for (int64_t i = 0; i < count * Dp; i++)
        w->k[i] *= c->shape.scale;
    if (!wants_scores(c))
        return;
    att_load_keys(&c->shape, keys->prefix ? c->prefix_v : c->v, row, kh, count, w->v);
    tile_transpose(count, D, w->v, Dp, ATT_KEYS, w->vt, ATT_KEYS);
}

/* s = weights, ds = gradients of scores, of the loaded query tile and the loaded key tile */
static void weights(const struct attention_call *c, const struct att_query *q,
                    const struct att_keys *keys, const struct lane *w)
{
    const struct attention_shape *a = &c->shape;
    const int64_t D = a->head_dim, Dp = att_padded(D), G = att_group(a);
    const float inv_cap = a->softcap > 0 ? 1.0f / a->softcap : 0.0f;
    struct tile t = { .m = G * q->bq,
                      .n = ATT_KEYS,
                      .k = D,
                      .a = w->q,
                      .ars = Dp,
                      .acs = 1,
                      .b = w->kt,
                      .ldb = ATT_KEYS,
                      .c = w->s,
                      .ldc = ATT_KEYS };

    tile_product(&t);
    if (a->softcap > 0)
        soft_cap(t.m * ATT_KEYS, w->s, a->softcap);
    t.a = w->dout;
    t.b = w->vt;
    t.c = w->ds;
    if (wants_scores(c))
        tile_product(&t);
    else
        memset(w->ds, 0, (size_t)(t.m * ATT_KEYS) * sizeof *w->ds);
    for (int64_t i = 0; i < t.m; i++) {
        const int64_t row = q->row + q->first + i % q->bq;
        const int64_t at = row * a->heads + q->kh * G + i / q->bq;
        int64_t lo, hi;

        att_seen(c, q, i % q->bq, keys, &lo, &hi);
        score_row((int32_t)lo, (int32_t)hi, c->lse[at], w->delta ? w->delta[at] : 0.0f, inv_cap,
                  w->s + i * ATT_KEYS, w->ds + i * ATT_KEYS);
    }
}

/* dq of the query tile += ds (scale k) */
static void add_dq(const struct attention_call *c, const struct att_query *q, int64_t count,
                   const struct lane *w)
{
    const int64_t H = c->shape.heads, D = c->shape.head_dim, Dp = att_padded(D);
    const int64_t G = att_group(&c->shape), M = G * q->bq;
    const struct tile t = { .m = M,
                            .n = Dp,
                            .k = count,
                            .a = w->ds,
                            .ars = ATT_KEYS,
                            .acs = 1,
                            .b = w->k,
                            .ldb = Dp,
                            .c = w->dq,
                            .ldc = Dp };

    tile_product(&t);
    for (int64_t i = 0; i < M; i++) {
        const int64_t row = q->row + q->first + i % q->bq;
        float *to = c->dq + (row * H + q->kh * G + i / q->bq) * D;

#pragma omp simd
        for (int64_t d = 0; d < D; d++)
            to[d] += w->dq[i * Dp + d];
    }
}

/* The lane's dk += ds^T (scale q), dv += p^T dout */
static void sum_keys(const struct attention_call *c, const struct att_query *q, bool dk, bool dv,
                     const struct lane *w)
{
    const int64_t Dp = att_padded(c->shape.head_dim), M = att_group(&c->shape) * q->bq;
    struct tile t = { .m = ATT_KEYS,
                      .n = Dp,
                      .k = M,
                      .a = w->ds,
                      .ars = 1,
                      .acs = ATT_KEYS,
                      .b = w->q,
                      .ldb = Dp,
                      .c = w->dk,
                      .ldc = Dp,
                      .add = true };

    if (dk)
        tile_product(&t);
    t.a = w->s;
    t.b = w->dout;
    t.c = w->dv;
    if (dv)
        tile_product(&t);
}

static void add_keys(const struct attention_shape *a, int64_t row, int64_t kh, int64_t count,
                     const float *part, float *to)
{
    const int64_t D = a->head_dim, Dp = att_padded(D);

    for (int64_t j = 0; to && j < count; j++) {
        float *d = to + ((row + j) * a->kv_heads + kh) * D;

        for (int64_t i = 0; i < D; i++)
            d[i] += part[j * Dp + i];
    }
}

/* dk and dv of one key tile, over all query tiles that see it; with `all` their dq too. */
static void key_tile(const struct attention_call *c, int64_t s, int64_t kh, int64_t tile, bool all,
                     const struct lane *w)
{
    const int64_t k0 = tile * ATT_KEYS, len = c->start[s + 1] - c->start[s];
    const int64_t count = min64(ATT_KEYS, len - k0), row = c->start[s] + k0;
    const int64_t step = att_tokens(&c->shape), Dp = att_padded(c->shape.head_dim);
    const struct att_keys keys = { false, k0, count };

    load_keys(c, c->start[s], kh, &keys, w);
    memset(w->dk, 0, (size_t)(ATT_KEYS * Dp) * sizeof *w->dk);
    memset(w->dv, 0, (size_t)(ATT_KEYS * Dp) * sizeof *w->dv);
    for (int64_t i = k0 / step; i * step < len; i++) {
        const struct att_query q = att_query_at(c, s, kh, i);
        int64_t from, to;

        att_key_tiles(&c->shape, &q, &from, &to);
        if (from > tile)
            break; /* the window has passed */
        if (to <= tile)
            continue;
        load_queries(c, &q, w);
        weights(c, &q, &keys, w);
        sum_keys(c, &q, c->dk, c->dv, w);
        if (all && c->dq)
            add_dq(c, &q, count, w);
    }
    add_keys(&c->shape, row, kh, count, w->dk, c->dk);
    add_keys(&c->shape, row, kh, count, w->dv, c->dv);
}

/* What one tile of the prefix adds to dq of one segment. */
static void prefix_dq(const struct attention_call *c, int64_t s, int64_t kh, int64_t tile,
                      const struct lane *w)
{
    const struct att_keys keys = att_prefix_tile(c, tile);
    const int64_t step = att_tokens(&c->shape), len = c->start[s + 1] - c->start[s];

    load_keys(c, 0, kh, &keys, w);
    for (int64_t i = 0; i * step < len; i++) {
        const struct att_query q = att_query_at(c, s, kh, i);
        int64_t from, to;

        att_prefix_tiles(c, &q, &from, &to);
        if (from > tile)
            break; /* the window has passed */
        load_queries(c, &q, w);
        weights(c, &q, &keys, w);
        add_dq(c, &q, keys.count, w);
    }
}

/* Gradients of one tile of the prefix, over all query tiles of all segments that see it. A
 * segment's part is summed by itself before it is added. */
static void prefix_tile(const struct attention_call *c, int64_t kh, int64_t tile,
                        const struct lane *w)
{
    const struct att_keys keys = att_prefix_tile(c, tile);
    const int64_t step = att_tokens(&c->shape), Dp = att_padded(c->shape.head_dim);

    load_keys(c, 0, kh, &keys, w);
    for (int64_t s = 0; s < c->segments; s++) {
        memset(w->dk, 0, (size_t)(ATT_KEYS * Dp) * sizeof *w->dk);
        memset(w->dv, 0, (size_t)(ATT_KEYS * Dp) * sizeof *w->dv);
        for (int64_t i = 0; i * step < c->start[s + 1] - c->start[s]; i++) {
            const struct att_query q = att_query_at(c, s, kh, i);
            int64_t from, to;

            att_prefix_tiles(c, &q, &from, &to);
            if (from > tile)
                break;
            load_queries(c, &q, w);
            weights(c, &q, &keys, w);
            sum_keys(c, &q, c->dprefix_k, c->dprefix_v, w);
        }
        add_keys(&c->shape, keys.k0, kh, keys.count, w->dk, c->dprefix_k);
        add_keys(&c->shape, keys.k0, kh, keys.count, w->dv, c->dprefix_v);
    }
}

/* dq of one query tile, over all key tiles that it sees. */
static void query_tile(const struct attention_call *c, int64_t s, int64_t kh, int64_t tile,
                       const struct lane *w)
{
    const struct att_query q = att_query_at(c, s, kh, tile);
    const int64_t len = c->start[s + 1] - c->start[s];
    int64_t from, to;

    load_queries(c, &q, w);
    att_prefix_tiles(c, &q, &from, &to);
    for (int64_t k = from; k < to; k++) {
        const struct att_keys keys = att_prefix_tile(c, k);

        load_keys(c, 0, kh, &keys, w);
        weights(c, &q, &keys, w);
        add_dq(c, &q, keys.count, w);
    }
    att_key_tiles(&c->shape, &q, &from, &to);
    for (int64_t k = from; k < to; k++) {
        const int64_t k0 = k * ATT_KEYS;
        const struct att_keys keys = { false, k0, min64(ATT_KEYS, len - k0) };

        load_keys(c, q.row, kh, &keys, w);
        weights(c, &q, &keys, w);
        add_dq(c, &q, keys.count, w);
    }
}

static int64_t prefix_tiles(const struct attention_call *c)
{
    return (c->prefix + ATT_KEYS - 1) / ATT_KEYS;
}

static void by_key_head(const struct attention_call *c, int64_t s, int64_t kh, const struct lane *w)
{
    for (int64_t k = 0; k < prefix_tiles(c) && c->dq; k++)
        prefix_dq(c, s, kh, k, w);
    for (int64_t k = 0; k * ATT_KEYS < c->start[s + 1] - c->start[s]; k++)
        key_tile(c, s, kh, k, true, w);
}

enum share { BY_HEAD, BY_QUERY, BY_KEY, BY_PREFIX };

static void piece_of_segment(const struct attention_call *c, enum share share, const int64_t *tiles,
                             int64_t piece, int64_t kh, const struct lane *w)
{
    const int64_t s = att_find_tile(tiles, c->segments, piece);

    if (share == BY_QUERY)
        query_tile(c, s, kh, piece - tiles[s], w);
    else
        key_tile(c, s, kh, piece - tiles[s], false, w);
}

/* One sweep over pieces of `step` tokens (BY_HEAD: whole segments; BY_PREFIX: tiles of the prefix).
 */
static void sweep(const struct attention_call *c, enum share share, const float *delta,
                  float *lanes)
{
    const int64_t K = c->shape.kv_heads, floats = lane_floats(&c->shape);
    const int64_t step = share == BY_QUERY ? att_tokens(&c->shape) : ATT_KEYS;
    int64_t *tiles = c->scratch;
    const int64_t pieces = share == BY_HEAD     ? c->segments
                           : share == BY_PREFIX ? prefix_tiles(c)
                                                : att_count_tiles(c, step, tiles);
    const int64_t count = pieces * K;
    const int threads = (int)min64(min64(c->lanes, omp_get_max_threads()), max64(1, count));

#pragma omp parallel num_threads(threads)
    {
        const struct lane w = lane_at(&c->shape, lanes + omp_get_thread_num() * floats, delta);

#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < count; i++) {
            const int64_t piece = share == BY_QUERY ? pieces - 1 - i / K : i / K;

            if (share == BY_HEAD)
                by_key_head(c, piece, i % K, &w);
            else if (share == BY_PREFIX)
                prefix_tile(c, i % K, piece, &w);
            else
                piece_of_segment(c, share, tiles, piece, i % K, &w);
        }
    }
}

void attention_backward_cpu(const struct attention_call *c)
{
    const int64_t n = c->start[c->segments], heads = c->segments * c->shape.kv_heads;
    const int threads = (int)min64(c->lanes, omp_get_max_threads());
    float *delta = (float *)(void *)((char *)c->scratch + att_table_bytes(c->segments));
    float *lanes = delta + delta_floats(&c->shape, n);

    if (!c->dq && !c->dk && !c->dv && !c->dprefix_k && !c->dprefix_v)
        return;
    if (wants_scores(c))
        output_dots(c, n, delta);
    else
        delta = NULL;
    if (c->dprefix_k || c->dprefix_v)
        sweep(c, BY_PREFIX, delta, lanes);
    if (!c->dq && !c->dk && !c->dv)
        return;
    if (threads == 1 || heads >= 3 * (int64_t)threads) {
        sweep(c, BY_HEAD, delta, lanes);
        return;
    }
    if (c->dq)
        sweep(c, BY_QUERY, delta, lanes);
    if (c->dk || c->dv)
        sweep(c, BY_KEY, delta, lanes);
}
