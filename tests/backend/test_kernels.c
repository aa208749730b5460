/* Kernels against plain double references, and what all of them promise: results depend neither
 * on the thread count nor on the other rows of a call. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <omp.h>

#include "backend/backend.h"
#include "backend/cpu/math.h"
#include "backend/cpu/tile.h"
#include "core/mem.h"
#include "quant/half.h"

static const struct backend *dev;

static float *filled(int64_t n, uint32_t site, float size)
{
    const struct rng_key key = { 11, RNG_TEST, 0, site };
    float *p = mem_array((size_t)n, sizeof *p);

    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = size * (2 * rng_uniform(key, (uint64_t)i) - 1);
    return p;
}

static float *zeros(int64_t n)
{
    float *p = mem_array((size_t)n, sizeof *p);

    assert_non_null(p);
    return p;
}

/* Largest difference, as a share of the largest value. */
static double off(const float *x, const double *want, int64_t n)
{
    double worst = 0, most = 1e-30;

    for (int64_t i = 0; i < n; i++) {
        if (!isfinite((double)x[i]))
            return INFINITY;
        worst = fmax(worst, fabs((double)x[i] - want[i]));
        most = fmax(most, fabs(want[i]));
    }
    return worst / most;
}

static void exp_is_exact_to_about_one_unit(void **state)
{
    double worst = 0;

    (void)state;
    for (double x = -87; x < 88; x += 0.00137) {
        const float f = (float)x;

        worst = fmax(worst, fabs((double)exp_f32(f) / exp((double)f) - 1));
    }
    assert_true(worst < 1.5e-7);
    assert_true(exp_f32(0.0f) == 1.0f && exp_f32(-0.0f) == 1.0f);
    assert_true(exp_f32(-INFINITY) == 0.0f && exp_f32(-200.0f) == 0.0f);
    assert_true(isinf(exp_f32(INFINITY)) && isinf(exp_f32(100.0f)));
    assert_true(isnan(exp_f32(NAN)));
    assert_true(fabsf(exp_f32(-95.0f) - expf(-95.0f)) < 3e-45f); /* a subnormal */
}

static void tanh_is_exact_to_a_few_units(void **state)
{
    double worst = 0;

    (void)state;
    for (double x = -12; x < 12; x += 0.00071) {
        const float f = (float)x;

        if (f != 0)
            worst = fmax(worst, fabs((double)tanh_f32(f) / tanh((double)f) - 1));
    }
    assert_true(worst < 5e-7);
    assert_true(tanh_f32(100.0f) == 1.0f && tanh_f32(-100.0f) == -1.0f && tanh_f32(0.0f) == 0.0f);
}

static double activation_in_double(enum activation kind, double x)
{
    switch (kind) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU:
        return 0.5 * x * erfc(-x * 0.70710678118654752440);
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_TANH:
        return tanh(x);
    }
    return NAN;
}

static void activations_match_double(void **state)
{
    enum { N = 3001 };
    static float x[N], y[N];

    (void)state;
    for (int i = 0; i < N; i++)
        x[i] = (float)(i - N / 2) * 0.004f;
    for (enum activation kind = ACT_SILU; kind <= ACT_TANH; kind++) {
        dev->activation(N, kind, (struct act){ x, 0 }, (struct act){ y, 0 });
        for (int i = 0; i < N; i++) {
            const double want = activation_in_double(kind, (double)x[i]);

            /* relative, but for the far left tails, where the argument's own rounding shows */
            assert_true(fabs((double)y[i] - want) <= 4e-7 * fabs(want) + 1e-7 * (x[i] < -2));
        }
    }
}

static void norms_match_double_at_any_width(void **state)
{
    static const int64_t widths[] = { 1, 7, 64, 1024, 1500, 5000 };

    (void)state;
    for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
        const int64_t n = 5, C = widths[k];
        float *x = filled(n * C, 1, 3), *w = filled(C, 2, 1), *b = filled(C, 3, 1);
        float *y = zeros(n * C), *z = zeros(n * C), stat[10], r[5];
        double *want = calloc((size_t)(2 * n * C), sizeof *want);

        for (int64_t i = 0; i < n * C; i++)
            x[i] += 100; /* a mean far off must not cost digits */
        for (int64_t t = 0; t < n; t++) {
            double sum = 0, square = 0, var = 0;

            for (int64_t c = 0; c < C; c++) {
                sum += (double)x[t * C + c];
                square += (double)x[t * C + c] * (double)x[t * C + c];
            }
            for (int64_t c = 0; c < C; c++)
                var += pow((double)x[t * C + c] - sum / (double)C, 2);
            for (int64_t c = 0; c < C; c++) {
                const double v = (double)x[t * C + c];

                want[t * C + c] = v / sqrt(square / (double)C + 1e-5) * (1 + (double)w[c]);
                want[(n + t) * C + c] =
                    (v - sum / (double)C) / sqrt(var / (double)C + 1e-5) * (double)w[c] +
                    (double)b[c];
            }
        }
        dev->rmsnorm(n, C, (struct act){ x, 0 }, w, 1e-5f, true, (struct act){ y, 0 }, r);
        dev->layernorm(n, C, (struct act){ x, 0 }, w, b, 1e-5f, (struct act){ z, 0 }, stat);
        assert_true(off(y, want, n * C) < 1e-6);
        assert_true(off(z, want + n * C, n * C) < 1e-5); /* the mean's rounding, 4e-6, remains */
        free(want);
        mem_free(x);
        mem_free(w);
        mem_free(b);
        mem_free(y);
        mem_free(z);
    }
}

static void losses_match_double_over_a_large_vocabulary(void **state)
{
    const int64_t n = 4, V = 5003;
    const int32_t target[] = { 0, -1, 5002, 1024 };
    float nll[4], lse[4], *z = filled(n * V, 1, 9), *b = filled(V, 2, 2), *d = zeros(n * V);

    (void)state;
    for (int capped = 0; capped < 2; capped++) {
        const double cap = capped ? 6 : 0;

        dev->softmax_nll(n, V, (struct act){ z, 0 }, b, (float)cap, target, nll, lse, d);
        for (int64_t t = 0; t < n; t++) {
            double sum = 0, at = 0, total = 0;

            for (int64_t v = 0; v < V; v++) {
                const double u = (double)z[t * V + v] + (double)b[v];

                sum += exp(capped ? cap * tanh(u / cap) : u);
                if (v == target[t])
                    at = capped ? cap * tanh(u / cap) : u;
            }
            total = log(sum);
            if (target[t] < 0) {
                assert_true(nll[t] == 0 && d[t * V + 9] == 0);
                continue;
            }
            assert_true(fabs((double)nll[t] - (total - at)) < 3e-6 * total);
            for (int64_t v = 0; v < V; v++) {
                const double u = (double)z[t * V + v] + (double)b[v];
                const double c = capped ? cap * tanh(u / cap) : u;
                const double slope = capped ? 1 - c * c / cap / cap : 1;
                const double want = (exp(c - total) - (v == target[t])) * slope;

                assert_true(fabs((double)d[t * V + v] - want) < 2e-6);
            }
        }
    }
    mem_free(z);
    mem_free(b);
    mem_free(d);
}

static void dropout_draws_the_numbers_of_the_generator(void **state)
{
    enum { N = 2500 };
    const struct rng_key key = { 0x123456789abcULL, RNG_DROPOUT, 17, 4 };
    const float p = 0.3f;
    float *x = filled(N, 1, 1), *y = zeros(N), *dx = zeros(N);
    int kept = 0;

    (void)state;
    dev->dropout(N, p, key, (struct act){ x, 0 }, (struct act){ y, 0 });
    dev->dropout_backward(N, p, key, x, dx);
    for (int i = 0; i < N; i++) {
        const bool keep = rng_uniform(key, (uint64_t)i) >= p;

        assert_true(y[i] == (keep ? x[i] * (1.0f / (1.0f - p)) : 0.0f));
        assert_true(dx[i] == y[i]);
        kept += keep;
    }
    assert_in_range(kept, N * 0.66, N * 0.74);
    mem_free(x);
    mem_free(y);
    mem_free(dx);
}

static void small_products_match_double_at_any_size(void **state)
{
    static const int64_t m[] = { 1, 2, 5, 6, 13 }, n[] = { 16, 32, 48, 64, 112 }, k[] = { 1, 64 };
    const enum simd_level best = simd_level();
    float *a = filled(64 * 64, 1, 1), *b = filled(64 * 112, 2, 1), *c = zeros(13 * 112);
    double want[13 * 112];

    (void)state;
    for (int level = SIMD_PLAIN; level <= (int)best; level++) {
        simd_limit((enum simd_level)level);
        for (int i = 0; i < 5 * 5 * 2 * 2; i++) {
            struct tile t = { .m = m[i % 5],
                              .n = n[i / 5 % 5],
                              .k = k[i / 25 % 2],
                              .a = a,
                              .ars = i < 50 ? 64 : 1,
                              .acs = i < 50 ? 1 : 64,
                              .b = b,
                              .ldb = n[i / 5 % 5],
                              .c = c,
                              .ldc = n[i / 5 % 5],
                              .add = i % 2 };

            for (int64_t j = 0; j < t.m * t.n; j++)
                want[j] = (double)(c[j] = t.add ? 0.5f : NAN);
            tile_product(&t);
            for (int64_t j = 0; j < t.m * t.n; j++) {
                double s = t.add ? 0.5 : 0;

                for (int64_t p = 0; p < t.k; p++)
                    s += (double)a[j / t.n * t.ars + p * t.acs] * (double)b[p * t.n + j % t.n];
                want[j] = s;
            }
            assert_true(off(c, want, t.m * t.n) < 2e-6);
        }
    }
    simd_limit(SIMD_AVX512);
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

/* One row of the changed weight, in double; `columns`: W is (I, O). */
static double row_norm_in_double(const float *w, const float *a, const float *b, int64_t i,
                                 int64_t R, int64_t I, int64_t O, double s, bool columns)
{
    double sum = 0;

    for (int64_t k = 0; k < I; k++) {
        double v = (double)(columns ? w[k * O + i] : w[i * I + k]);

        for (int64_t r = 0; r < R; r++)
            v += s * (double)b[i * R + r] * (double)a[r * I + k];
        sum += v * v;
    }
    return sqrt(sum);
}

static void row_norms_match_double_in_every_format(void **state)
{
    enum { R = 5, I = 96, O = 64 };
    float *a = filled(R * I, 1, 0.3f), *b = filled(O * R, 2, 0.5f), *w = filled(O * I, 3, 1);
    float *square = zeros(I), *norm = zeros(I), *plain = zeros(O * I);
    double want[I];
    struct arena mem = ARENA_INIT;
    void *scratch = mem_alloc(dev->row_norms_scratch(R, I, I));
    const struct quant_spec spec = { QT_NF4, 64, true };

    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        const bool columns = kind & 1;
        const int64_t rows = columns ? I : O, cols = columns ? O : I;
        struct qmat m = { .type = QT_F32, .rows = rows, .cols = cols, .data = w };
        struct graft_err err;

        if (kind >= 2)
            assert_int_equal(qmat_quantize(&m, &spec, &mem, &m, &err), GRAFT_OK);
        qmat_decode(&m, 0, rows * cols, plain);
        for (int64_t i = 0; i < O; i++) {
            square[i] = 0;
            want[i] = row_norm_in_double(plain, a, b, i, R, I, O, 1.7, columns);
            for (int64_t k = 0; k < I; k++)
                square[i] += powf(columns ? plain[k * O + i] : plain[i * I + k], 2);
        }
        dev->row_norms(R, 1.7f, a, &m, columns, b, square, norm, scratch);
        assert_true(off(norm, want, O) < 1e-6);
    }
    arena_release(&mem);
    mem_free(scratch);
    mem_free(a);
    mem_free(b);
    mem_free(w);
    mem_free(square);
    mem_free(norm);
    mem_free(plain);
}

/* Forward and backward of most kernels over one set of inputs, results one after another. */
enum { DN = 700, DC = 96, DALL = 32 * DN * DC };

static void run_lstm(float *out, float *grads, const float *in)
{
    enum { T = 9, H = 80 };
    const float *z = in, *w = in + 4 * T * H, *b = w + 4 * H * H, *dh = b + 4 * H;
    float *gates = out + T * H, *cell = gates + 4 * T * H;
    float *dw = grads + 4 * T * H, *db = dw + 4 * H * H;
    void *scratch = mem_alloc(dev->lstm_scratch(T, H));

    for (int reverse = 0; reverse < 2; reverse++) {
        dev->lstm(T, H, reverse, z, w, b, out, gates, cell);
        dev->lstm_backward(T, H, reverse, w, out, gates, cell, dh, grads, dw, db, scratch);
    }
    mem_free(scratch);
}

static void run_all(float *all, const float *in, int threads)
{
    const struct act x = { (void *)(uintptr_t)in, 0 },
                     x2 = { (void *)(uintptr_t)(in + DN * DC), 0 };
    const float *g = in + 2 * DN * DC, *w = in + 3 * DN * DC, *b = w + DC;
    const int64_t start[] = { 0, 300, 301, DN };
    int32_t target[DN];
    struct act y = { all, 0 };
    float *at = all, *more = all + 24 * DN * DC, *lse = more;
    const int lanes = threads;
    void *scratch, *norms;

    omp_set_num_threads(threads);
    memset(all, 0, DALL * sizeof *all);
    for (int i = 0; i < DN; i++)
        target[i] = i % 5 - 1;
#define NEXT (y.data = at += DN * DC, y)
    struct attention_call c = {
        .shape = { .heads = 6, .kv_heads = 3, .head_dim = 16, .scale = 0.25f },
        .segments = 3,
        .start = start,
        .q = x,
        .k = x2,
        .v = x,
        .dout = g,
        .lanes = lanes
    };
    scratch =
        mem_alloc(dev->attention_scratch(&c.shape, DN, 3, true, lanes) + dev->norm_scratch(DN, DC));
    norms = mem_alloc(dev->row_norms_scratch(40, DC, DC));
    c.scratch = scratch;
    dev->rmsnorm(DN, DC, x, w, 1e-5f, false, y, lse);
    dev->rmsnorm_backward(DN, DC, x, w, false, lse, g, NEXT.data, more + 2 * DN, scratch);
    dev->layernorm(DN, DC, x, w, b, 1e-5f, NEXT, lse);
    dev->layernorm_backward(DN, DC, x, w, lse, g, NEXT.data, more + 2 * DN + DC,
                            more + 2 * DN + 2 * DC, scratch);
    dev->gate(DN * DC, ACT_SILU, x, x2, NEXT);
    dev->column_sum(DN, DC, 2.0f, g, more + 2 * DN + 3 * DC, scratch);
    dev->softmax_nll(DN, DC, x, NULL, 0, target, more + DN, lse, NEXT.data);
    dev->column_scale(DN, DC, x, w, b, NEXT);
    dev->column_scale_backward(DN, DC, x, w, b, g, NEXT.data, more + 2 * DN + 4 * DC,
                               more + 2 * DN + 5 * DC, scratch);
    dev->row_norms(40, 0.3f, in,
                   &(struct qmat){ .type = QT_F32, .rows = DC, .cols = DC, .data = w }, false, g, w,
                   more + 2 * DN + 6 * DC, norms);
    c.out = NEXT;
    c.lse = more + 3 * DN;
    dev->attention(&c);
    c.dq = NEXT.data;
    c.dk = NEXT.data;
    c.dv = NEXT.data;
    c.shape.kv_heads = 6; /* k and v are as wide as q here */
    dev->attention(&c);
    dev->attention_backward(&c);
    c.prefix = 70; /* their gradients in one slot, one behind the other */
    c.prefix_k = x2;
    c.prefix_v = x;
    c.out = NEXT;
    dev->attention(&c);
    c.dq = NEXT.data;
    c.dk = NEXT.data;
    c.dv = NEXT.data;
    c.dprefix_k = NEXT.data;
    c.dprefix_v = c.dprefix_k + 70 * DC;
    dev->attention_backward(&c);
    run_lstm(at + DN * DC, at + 2 * DN * DC, in);
#undef NEXT
    mem_free(scratch);
    mem_free(norms);
}

static void results_do_not_depend_on_the_thread_count(void **state)
{
    const int threads = omp_get_max_threads();
    float *in = filled(4 * DN * DC, 5, 1), *one = zeros(DALL), *three = zeros(DALL);

    (void)state;
    run_all(one, in, 1);
    for (int i = 2; i <= 9; i += 7) { /* few threads share by head, many by tile */
        run_all(three, in, i);
        assert_memory_equal(one, three, DALL * sizeof *one);
    }
    omp_set_num_threads(threads);
    mem_free(in);
    mem_free(one);
    mem_free(three);
}

static void bf16_rounds_once_to_nearest_even(void **state)
{
    enum { N = 1300 };
    float *x = filled(N, 1, 1), *y = zeros(N);
    uint16_t half[N], out[N];

    (void)state;
    x[3] = NAN;
    x[4] = INFINITY;
    x[5] = -0.0f;
    dev->scale(N, 1.0f, (struct act){ x, 0 }, (struct act){ half, 1 });
    for (int i = 0; i < N; i++)
        assert_int_equal(half[i], bf16_from_f32(x[i]));
    dev->scale(N, 3.0f, (struct act){ half, 1 }, (struct act){ out, 1 });
    dev->scale(N, 3.0f, (struct act){ half, 1 }, (struct act){ y, 0 });
    for (int i = 0; i < N; i++)
        assert_int_equal(out[i], bf16_from_f32(y[i]));
    mem_free(x);
    mem_free(y);
}

static int set_up(void **state)
{
    (void)state;
    dev = backend_cpu();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_exact_to_about_one_unit),
        cmocka_unit_test(tanh_is_exact_to_a_few_units),
        cmocka_unit_test(activations_match_double),
        cmocka_unit_test(norms_match_double_at_any_width),
        cmocka_unit_test(losses_match_double_over_a_large_vocabulary),
        cmocka_unit_test(dropout_draws_the_numbers_of_the_generator),
        cmocka_unit_test(row_norms_match_double_in_every_format),
        cmocka_unit_test(small_products_match_double_at_any_size),
        cmocka_unit_test(results_do_not_depend_on_the_thread_count),
        cmocka_unit_test(bf16_rounds_once_to_nearest_even),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
