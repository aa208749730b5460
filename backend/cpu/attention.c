/* Causal attention over segments, forward: tiles of queries against tiles of keys with a running
 * maximum and sum (Milakov & Gimelshein 2018; Dao et al. 2022), never a T x T matrix.
 *
 *     s = scale q.k, capped   m' = max(m, s)   l' = l e^(m - m') + sum e^(s - m')
 *     o' = o e^(m - m') + e^(s - m') v         out = o / l   lse = m + log l */
#include "backend/cpu/attention.h"

#include <math.h>
#include <omp.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"
#include "backend/cpu/sum.h"
#include "backend/cpu/tile.h"

int64_t att_count_tiles(const struct attention_call *c, int64_t step, int64_t *tiles)
{
    tiles[0] = 0;
    for (int64_t s = 0; s < c->segments; s++)
        tiles[s + 1] = tiles[s] + (c->start[s + 1] - c->start[s] + step - 1) / step;
    return tiles[c->segments];
}

int64_t att_find_tile(const int64_t *tiles, int64_t segments, int64_t i)
{
    int64_t lo = 0, hi = segments - 1;

    while (lo < hi) {
        const int64_t mid = (lo + hi) / 2;

        if (tiles[mid + 1] > i)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

struct att_query att_query_at(const struct attention_call *c, int64_t s, int64_t kh, int64_t tile)
{
    const int64_t step = att_tokens(&c->shape), len = c->start[s + 1] - c->start[s];
    const int64_t first = tile * step;

    return (struct att_query){
        .s = s,
        .kh = kh,
        .first = first,
        .bq = min64(step, len - first),
        .row = c->start[s],
        .past = c->cache_k ? c->past[s] : 0,
    };
}

void att_load_rows(const struct attention_call *c, const struct att_query *q, struct act x,
                   float factor, float *rows)
{
    const int64_t D = c->shape.head_dim, Dp = att_padded(D), G = att_group(&c->shape);

    for (int64_t g = 0; g < G; g++) {
        for (int64_t t = 0; t < q->bq; t++) {
            const int64_t row = q->row + q->first + t, head = q->kh * G + g;
            float *to = rows + (g * q->bq + t) * Dp;
            const float *from = piece_get(x, (row * c->shape.heads + head) * D, D, to);

#pragma omp simd
            for (int64_t d = 0; d < D; d++)
                to[d] = from[d] * factor;
            for (int64_t d = D; d < Dp; d++)
                to[d] = 0.0f;
        }
    }
}

void att_load_keys(const struct attention_shape *a, struct act x, int64_t row, int64_t kh,
                   int64_t count, float *rows)
{
    const int64_t D = a->head_dim, Dp = att_padded(D);

    for (int64_t j = 0; j < count; j++) {
        float *to = rows + j * Dp;
        const float *from = piece_get(x, ((row + j) * a->kv_heads + kh) * D, D, to);

        if (from != to)
            memcpy(to, from, (size_t)D * sizeof *to);
        for (int64_t d = D; d < Dp; d++)
            to[d] = 0.0f;
    }
}

/* Working memory of one thread. */
struct lane {
    float *q, *kt, *v, *s, *o; /* (M, Dp) (D, ATT_KEYS) (ATT_KEYS, Dp) (M, ATT_KEYS) (M, Dp) */
    float *m;                  /* M: largest score so far */
    double *l;                 /* M: sum of exp(score - m) */
};

static int64_t lane_floats(const struct attention_shape *a)
{
    const int64_t M = att_group(a) * att_tokens(a), Dp = att_padded(a->head_dim);

    return 2 * M * Dp + 2 * ATT_KEYS * Dp + M * ATT_KEYS + (M + 15) / 16 * 16 * 3;
}

static struct lane lane_at(const struct attention_shape *a, float *at)
{
    const int64_t M = att_group(a) * att_tokens(a), Dp = att_padded(a->head_dim);
    struct lane w;

    w.q = att_take(&at, M * Dp);
    w.o = att_take(&at, M * Dp);
    w.kt = att_take(&at, ATT_KEYS * Dp);
    w.v = att_take(&at, ATT_KEYS * Dp);
    w.s = att_take(&at, M * ATT_KEYS);
    w.m = att_take(&at, M);
    w.l = (double *)(void *)at;
    return w;
}

/* Where the keys and values begin: the prefix, the query's sequence in the cache, or the rows of
 * this pass. */
static struct act sequence(const struct attention_call *c, const struct att_query *q,
                           const struct att_keys *t, bool values, int64_t *row)
{
    const int64_t width = c->shape.kv_heads * c->shape.head_dim;
    const float *cache = values ? c->cache_v : c->cache_k;

    *row = 0;
    if (t->prefix)
        return values ? c->prefix_v : c->prefix_k;
    *row = q->row;
    if (!cache)
        return values ? c->v : c->k;
    *row = 0;
    /* only read */
    return (struct act){ (void *)(uintptr_t)(cache + c->slot[q->s] * c->capacity * width), 0 };
}

/* Scores of one row become weights, keys outside [lo, hi) get 0. m: largest score so far, l: sum so
 * far; *factor: what o and l were worth before. A tile's maximum and sum run in 16 lanes. */
SIMD_INLINE void softmax_body(int32_t lo, int32_t hi, float *s, float *m, double *l, float *factor)
{
    enum { LANES = 16 };
    const float before = *m;
    float lane[LANES], sum[LANES] = { 0 }, most = before;
    double total = 0;

    for (int i = 0; i < LANES; i++)
        lane[i] = before;
    for (int32_t j = 0; j < ATT_KEYS; j += LANES) {
#pragma omp simd
        for (int32_t i = 0; i < LANES; i++) {
            const float x = j + i >= lo && j + i < hi ? s[j + i] : -INFINITY;

            s[j + i] = x;
            lane[i] = x > lane[i] ? x : lane[i];
        }
    }
    for (int i = 0; i < LANES; i++)
        most = lane[i] > most ? lane[i] : most;
    *factor = 1.0f;
    if (most == -INFINITY) { /* nothing seen yet, or nothing but NaN, which shows as 0 / 0 */
        memset(s, 0, ATT_KEYS * sizeof *s);
        return;
    }
    for (int32_t j = 0; j < ATT_KEYS; j += LANES) {
#pragma omp simd
        for (int32_t i = 0; i < LANES; i++) {
            const float x = exp_f32(s[j + i] - most);

            s[j + i] = x;
            sum[i] += x;
        }
    }
    for (int i = 0; i < LANES; i++)
        total += (double)sum[i];
    *factor = before == most ? 1.0f : exp_f32(before - most);
    *l = *l * (double)*factor + total;
    *m = most;
}

SIMD_FUNCTION(static, softmax_row, softmax_body,
              (int32_t lo, int32_t hi, float *s, float *m, double *l, float *factor),
              (lo, hi, s, m, l, factor))

static void rescale(int64_t n, float factor, float *o)
{
#pragma omp simd
    for (int64_t d = 0; d < n; d++)
        o[d] *= factor;
}

/* One query tile against one key tile. */
static void forward_tile(const struct attention_call *c, const struct att_query *q,
                         const struct att_keys *keys, const struct lane *w)
{
    const struct attention_shape *a = &c->shape;
    const int64_t D = a->head_dim, Dp = att_padded(D), M = att_group(a) * q->bq;
    int64_t row;
    const struct act k = sequence(c, q, keys, false, &row), v = sequence(c, q, keys, true, &row);

    att_load_keys(a, k, row + keys->k0, q->kh, keys->count, w->v);
    tile_transpose(keys->count, D, w->v, Dp, ATT_KEYS, w->kt, ATT_KEYS);
    att_load_keys(a, v, row + keys->k0, q->kh, keys->count, w->v);
    const struct tile scores = { .m = M,
                                 .n = ATT_KEYS,
                                 .k = D,
                                 .a = w->q,
                                 .ars = Dp,
                                 .acs = 1,
                                 .b = w->kt,
                                 .ldb = ATT_KEYS,
                                 .c = w->s,
                                 .ldc = ATT_KEYS };
    tile_product(&scores);
    if (a->softcap > 0)
        soft_cap(M * ATT_KEYS, w->s, a->softcap);
    for (int64_t i = 0; i < M; i++) {
        int64_t lo, hi;
        float factor;

        att_seen(c, q, i % q->bq, keys, &lo, &hi);
        softmax_row((int32_t)lo, (int32_t)hi, w->s + i * ATT_KEYS, w->m + i, w->l + i, &factor);
        if (factor != 1.0f)
            rescale(Dp, factor, w->o + i * Dp);
    }
    const struct tile values = { .m = M,
                                 .n = Dp,
                                 .k = keys->count,
                                 .a = w->s,
                                 .ars = ATT_KEYS,
                                 .acs = 1,
                                 .b = w->v,
                                 .ldb = Dp,
                                 .c = w->o,
                                 .ldc = Dp,
                                 .add = true };
    tile_product(&values);
}

static void forward_query(const struct attention_call *c, const struct att_query *q,
                          const struct lane *w)
{
    const struct attention_shape *a = &c->shape;
    const int64_t D = a->head_dim, Dp = att_padded(D), G = att_group(a);
    int64_t from, to;

    att_load_rows(c, q, c->q, a->scale, w->q);
    memset(w->o, 0, (size_t)(G * q->bq * Dp) * sizeof *w->o);
    for (int64_t i = 0; i < G * q->bq; i++) {
        w->m[i] = -INFINITY;
        w->l[i] = 0;
    }
    att_prefix_tiles(c, q, &from, &to);
    for (int64_t k = from; k < to; k++) {
        const struct att_keys keys = att_prefix_tile(c, k);

        forward_tile(c, q, &keys, w);
    }
    att_key_tiles(a, q, &from, &to);
    for (int64_t k = from; k < to; k++) {
        const int64_t k0 = k * ATT_KEYS, there = q->past + q->first + q->bq - k0;
        const struct att_keys keys = { false, k0, min64(ATT_KEYS, there) };

        forward_tile(c, q, &keys, w);
    }
    for (int64_t i = 0; i < G * q->bq; i++) {
        const int64_t row = q->row + q->first + i % q->bq;
        const int64_t at = row * a->heads + q->kh * G + i / q->bq;
        float *out = piece_room(c->out, at * D, w->q + i * Dp);

#pragma omp simd
        for (int64_t d = 0; d < D; d++)
            out[d] = (float)((double)w->o[i * Dp + d] / w->l[i]);
        piece_put(c->out, at * D, D, out);
        c->lse[at] = (float)((double)w->m[i] + log(w->l[i]));
    }
}

size_t attention_scratch_cpu(const struct attention_shape *shape, int64_t n, int64_t segments,
                             bool backward, int lanes)
{
    const size_t forward = (size_t)lanes * (size_t)lane_floats(shape) * sizeof(float);
    const size_t back = backward ? att_backward_bytes(shape, n, lanes) : 0;

    return att_table_bytes(segments) + (forward > back ? forward : back);
}

void attention_cpu(const struct attention_call *c)
{
    const int64_t K = c->shape.kv_heads, floats = lane_floats(&c->shape);
    int64_t *tiles = c->scratch;
    float *lanes = (float *)(void *)((char *)c->scratch + att_table_bytes(c->segments));
    const int64_t count = att_count_tiles(c, att_tokens(&c->shape), tiles) * K;
    const int threads = (int)min64(min64(c->lanes, omp_get_max_threads()), max64(1, count));

#pragma omp parallel num_threads(threads)
    {
        const struct lane w = lane_at(&c->shape, lanes + omp_get_thread_num() * floats);

        /* from the end: the tiles that see most keys first */
#pragma omp for schedule(dynamic)
        for (int64_t i = count - 1; i >= 0; i--) {
            const int64_t s = att_find_tile(tiles, c->segments, i / K);
            const struct att_query q = att_query_at(c, s, i % K, i / K - tiles[s]);

            forward_query(c, &q, &w);
        }
    }
}
