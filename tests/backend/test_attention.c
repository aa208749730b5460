/* Attention against a plain double reference, and the independence of a query from its company. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <omp.h>

#include "backend/backend.h"
#include "core/mem.h"

static float *filled(int64_t n, uint32_t site)
{
    const struct rng_key key = { 13, RNG_TEST, 0, site };
    float *p = mem_array((size_t)n, sizeof *p);

    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = 3 * (2 * rng_uniform(key, (uint64_t)i) - 1);
    return p;
}

/* Score of query row i for key row j of head h, capped. */
static double score(const struct attention_shape *a, const float *q, const float *k, int64_t i,
                    int64_t j, int64_t h)
{
    const int64_t D = a->head_dim, kh = h / (a->heads / a->kv_heads);
    double s = 0;

    for (int64_t d = 0; d < D; d++)
        s += (double)q[(i * a->heads + h) * D + d] * (double)k[(j * a->kv_heads + kh) * D + d];
    s *= (double)a->scale;
    return a->softcap > 0 ? (double)a->softcap * tanh(s / (double)a->softcap) : s;
}

/* Row i of segment [first, ...): largest difference of out to the reference. */
static double row_off(const struct attention_shape *a, const float *q, const float *k,
                      const float *v, int64_t first, int64_t i, const float *out, const float *lse)
{
    const int64_t D = a->head_dim;
    double worst = 0;

    for (int64_t h = 0; h < a->heads; h++) {
        const int64_t kh = h / (a->heads / a->kv_heads);
        const int64_t low = a->window > 0 && i - a->window + 1 > first ? i - a->window + 1 : first;
        double sum = 0;

        for (int64_t j = low; j <= i; j++)
            sum += exp(score(a, q, k, i, j, h));
        worst = fmax(worst, fabs((double)lse[i * a->heads + h] - log(sum)));
        for (int64_t d = 0; d < D; d++) {
            double want = 0;

            for (int64_t j = low; j <= i; j++)
                want +=
                    exp(score(a, q, k, i, j, h)) / sum * (double)v[(j * a->kv_heads + kh) * D + d];
            worst = fmax(worst, fabs((double)out[(i * a->heads + h) * D + d] - want));
        }
    }
    return worst;
}

/* One call with its own scratch. */
static void run(struct attention_call c)
{
    c.lanes = omp_get_max_threads();
    c.scratch = mem_alloc(backend_cpu()->attention_scratch(&c.shape, c.start[c.segments],
                                                           c.segments, false, c.lanes));
    assert_non_null(c.scratch);
    backend_cpu()->attention(&c);
    mem_free(c.scratch);
}

static const struct attention_shape shapes[] = {
    { .heads = 1, .kv_heads = 1, .head_dim = 5, .scale = 0.3f },
    { .heads = 9, .kv_heads = 3, .head_dim = 64, .scale = 0.125f },
    { .heads = 4, .kv_heads = 2, .head_dim = 16, .scale = 0.25f, .window = 50 },
    { .heads = 4, .kv_heads = 1, .head_dim = 20, .scale = 0.25f, .window = 129, .softcap = 5 },
    { .heads = 16, .kv_heads = 1, .head_dim = 8, .scale = 0.3f, .softcap = 2 },
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void outputs_match_double(void **state)
{
    const int64_t start[] = { 0, 1, 66, 66, 300 }, N = 300;

    (void)state;
    for (int k = 0; k < SHAPES; k++) {
        const struct attention_shape *a = &shapes[k];
        const int64_t wide = N * a->heads * a->head_dim, narrow = N * a->kv_heads * a->head_dim;
        float *q = filled(wide, 1), *key = filled(narrow, 2), *v = filled(narrow, 3);
        float *out = filled(wide, 4), *lse = filled(N * a->heads, 5);

        run((struct attention_call){ .shape = *a,
                                     .segments = 4,
                                     .start = start,
                                     .q = { q, 0 },
                                     .k = { key, 0 },
                                     .v = { v, 0 },
                                     .out = { out, 0 },
                                     .lse = lse });
        for (int s = 0; s < 4; s++)
            for (int64_t i = start[s]; i < start[s + 1]; i += 1 + i % 7)
                assert_true(row_off(a, q, key, v, start[s], i, out, lse) < 1e-5);
        mem_free(q);
        mem_free(key);
        mem_free(v);
        mem_free(out);
        mem_free(lse);
    }
}

/* Each segment behind P keys: as if it had these at its beginning. */
static void outputs_behind_a_prefix_match_double(void **state)
{
    enum { P = 70, N = 230 };
    const int64_t start[] = { 0, 1, 66, 66, N };

    (void)state;
    for (int k = 0; k < SHAPES; k++) {
        const struct attention_shape *a = &shapes[k];
        const int64_t H = a->heads * a->head_dim, K = a->kv_heads * a->head_dim;
        float *q = filled((P + N) * H, 1), *key = filled((P + N) * K, 2);
        float *v = filled((P + N) * K, 3), *pk = filled(P * K, 4), *pv = filled(P * K, 5);
        float *out = filled((P + N) * H, 6), *lse = filled((P + N) * a->heads, 7);

        run((struct attention_call){ .shape = *a,
                                     .segments = 4,
                                     .start = start,
                                     .q = { q + P * H, 0 },
                                     .k = { key + P * K, 0 },
                                     .v = { v + P * K, 0 },
                                     .out = { out + P * H, 0 },
                                     .lse = lse + P * a->heads,
                                     .prefix = P,
                                     .prefix_k = { pk, 0 },
                                     .prefix_v = { pv, 0 } });
        for (int s = 0; s < 4; s++) { /* the rows before a segment are no longer wanted */
            memcpy(key + start[s] * K, pk, (size_t)(P * K) * sizeof *pk);
            memcpy(v + start[s] * K, pv, (size_t)(P * K) * sizeof *pv);
            for (int64_t i = P + start[s]; i < P + start[s + 1]; i += 1 + i % 7)
                assert_true(row_off(a, q, key, v, start[s], i, out, lse) < 1e-5);
        }
        mem_free(q);
        mem_free(key);
        mem_free(v);
        mem_free(pk);
        mem_free(pv);
        mem_free(out);
        mem_free(lse);
    }
}

/* The same tokens alone, behind others, and one by one over the cache. */
static void a_query_gets_the_same_bits_alone_in_a_batch_and_over_the_cache(void **state)
{
    enum { LEN = 200, BEFORE = 77, SLOTS = 2, CAPACITY = 211, PREFIX = 67 };

    (void)state;
    for (int k = 0; k < 2 * SHAPES; k++) { /* without and with a prefix */
        const struct attention_shape *a = &shapes[k % SHAPES];
        const int64_t H = a->heads * a->head_dim, K = a->kv_heads * a->head_dim;
        const int64_t start[] = { 0, BEFORE, BEFORE + LEN }, alone[] = { 0, LEN };
        float *q = filled((BEFORE + LEN) * H, 1), *key = filled((BEFORE + LEN) * K, 2);
        float *v = filled((BEFORE + LEN) * K, 3), *out = filled((BEFORE + LEN) * H, 4);
        float *one = filled(LEN * H, 5), *lse = filled((BEFORE + LEN) * a->heads, 6);
        float *ck = filled(SLOTS * CAPACITY * K, 7), *cv = filled(SLOTS * CAPACITY * K, 8);
        float *sq = q + BEFORE * H, *sk = key + BEFORE * K, *sv = v + BEFORE * K;
        float *pk = filled(PREFIX * K, 9), *pv = filled(PREFIX * K, 10);
        const struct attention_call with = { .shape = *a,
                                             .prefix = k < SHAPES ? 0 : PREFIX,
                                             .prefix_k = { pk, 0 },
                                             .prefix_v = { pv, 0 } };
        const size_t bytes = (size_t)(LEN * H) * sizeof(float);

        struct attention_call c = with;

        c.segments = 2;
        c.start = start;
        c.q.data = q;
        c.k.data = key;
        c.v.data = v;
        c.out.data = out;
        c.lse = lse;
        run(c);
        c.segments = 1;
        c.start = alone;
        c.q.data = sq;
        c.k.data = sk;
        c.v.data = sv;
        c.out.data = one;
        run(c);
        assert_memory_equal(out + BEFORE * H, one, bytes);
        memset(one, 0, bytes);
        for (int64_t t = 0, step; t < LEN; t += step) { /* pieces of 90, 1, 1, ... tokens */
            const int64_t piece[] = { 0, t ? 1 : 90 }, slot = 1, past = t;

            step = piece[1];
            backend_cpu()->kv_append(step, K, (struct act){ sk, 0 }, t, ck + (CAPACITY + t) * K);
            backend_cpu()->kv_append(step, K, (struct act){ sv, 0 }, t, cv + (CAPACITY + t) * K);
            c.start = piece;
            c.q.data = sq + t * H;
            c.k.data = sk + t * K;
            c.v.data = sv + t * K;
            c.out.data = one + t * H;
            c.cache_k = ck;
            c.cache_v = cv;
            c.capacity = CAPACITY;
            c.slot = &slot;
            c.past = &past;
            run(c);
        }
        assert_memory_equal(out + BEFORE * H, one, bytes);
        mem_free(q);
        mem_free(key);
        mem_free(v);
        mem_free(out);
        mem_free(one);
        mem_free(lse);
        mem_free(ck);
        mem_free(cv);
        mem_free(pk);
        mem_free(pv);
    }
}

static void a_nan_is_not_hidden(void **state)
{
    const int64_t start[] = { 0, 3 };
    float q[3] = { 1, NAN, 1 }, k[3] = { 1, 2, 3 }, v[3] = { 1, 2, 3 }, out[3], lse[3];

    (void)state;
    run((struct attention_call){ .shape = { .heads = 1, .kv_heads = 1, .head_dim = 1, .scale = 1 },
                                 .segments = 1,
                                 .start = start,
                                 .q = { q, 0 },
                                 .k = { k, 0 },
                                 .v = { v, 0 },
                                 .out = { out, 0 },
                                 .lse = lse });
    assert_true(isfinite(out[0]) && isnan(out[1]) && isfinite(out[2]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_match_double),
        cmocka_unit_test(outputs_behind_a_prefix_match_double),
        cmocka_unit_test(a_query_gets_the_same_bits_alone_in_a_batch_and_over_the_cache),
        cmocka_unit_test(a_nan_is_not_hidden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
