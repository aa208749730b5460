/* Products with a sparse matrix: against plain double sums at sizes around every piece of the
 * kernels, and what all kernels promise. */
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
#include "quant/half.h"
#include "quant/simd.h"

enum { MOST_N = 300, MOST_I = 200, MOST_O = 150, MOST_NNZ = MOST_I * MOST_O };

static const struct backend *dev;

static struct problem {
    int64_t n;
    struct csr s;
    int32_t row_offs[MOST_O + 1], col_idx[MOST_NNZ];
    float v[MOST_NNZ], x[MOST_N * MOST_I], dy[MOST_N * MOST_O], acc[MOST_N * MOST_O];
} p;

/* What the kernels made: y, dx, dv. */
static struct result {
    float y[MOST_N * MOST_O], dx[MOST_N * MOST_I], dv[MOST_NNZ];
} a, b;

static void fill(float *x, int64_t n, uint32_t site)
{
    const struct rng_key key = { 12, RNG_TEST, 0, site };

    for (int64_t i = 0; i < n; i++)
        x[i] = 2 * rng_uniform(key, (uint64_t)i) - 1;
}

/* Each place holds a value with probability `share`; rows 3, 13, ... hold none. */
static void make(int64_t n, int64_t in, int64_t out, float share)
{
    const struct rng_key key = { 12, RNG_TEST, 0, 50 };
    int32_t nnz = 0;

    p.n = n;
    p.s = (struct csr){ out, in, p.row_offs, p.col_idx };
    for (int64_t o = 0; o < out; o++) {
        p.row_offs[o] = nnz;
        for (int64_t i = 0; i < in && o % 10 != 3; i++)
            if (rng_uniform(key, (uint64_t)(o * in + i)) < share)
                p.col_idx[nnz++] = (int32_t)i;
    }
    p.row_offs[out] = nnz;
    fill(p.v, nnz, 1);
    fill(p.x, n * in, 2);
    fill(p.dy, n * out, 3);
    fill(p.acc, n * out, 4);
}

static void run(struct result *r)
{
    const int lanes = omp_get_max_threads();
    void *scratch = mem_alloc(dev->sparse_scratch(p.s.cols, p.s.rows, lanes));
    const struct act x = { p.x, 0 }, acc = { p.acc, 0 }, y = { r->y, 0 };

    assert_non_null(scratch);
    for (int64_t i = 0; i < p.n * p.s.cols; i++)
        r->dx[i] = 0.25f;
    for (int32_t k = 0; k < p.row_offs[p.s.rows]; k++)
        r->dv[k] = -0.25f;
    dev->sparse_xst(p.n, &p.s, p.v, x, acc, y, lanes, scratch);
    dev->sparse_xs(p.n, &p.s, p.v, p.dy, r->dx, lanes, scratch);
    dev->sparse_sample(p.n, &p.s, p.dy, x, r->dv, scratch);
    mem_free(scratch);
}

static void near(const char *what, float found, double want, double size)
{
    if (!(fabs((double)found - want) <= 4e-6 * size))
        fail_msg("%s is %.9g, wanted %.9g", what, (double)found, want);
}

static void check(const struct result *r)
{
    const int64_t I = p.s.cols, O = p.s.rows;
    double dx[MOST_I];

    for (int64_t t = 0; t < p.n; t++) {
        for (int64_t i = 0; i < I; i++)
            dx[i] = 0.25;
        for (int64_t o = 0; o < O; o++) {
            double y = (double)p.acc[t * O + o];

            for (int32_t k = p.row_offs[o]; k < p.row_offs[o + 1]; k++) {
                y += (double)p.v[k] * (double)p.x[t * I + p.col_idx[k]];
                dx[p.col_idx[k]] += (double)p.v[k] * (double)p.dy[t * O + o];
            }
            near("y", r->y[t * O + o], y, 8);
        }
        for (int64_t i = 0; i < I; i++)
            near("dx", r->dx[t * I + i], dx[i], 8);
    }
    for (int64_t o = 0; o < O; o++)
        for (int32_t k = p.row_offs[o]; k < p.row_offs[o + 1]; k++) {
            double dv = -0.25;

            for (int64_t t = 0; t < p.n; t++)
                dv += (double)p.dy[t * O + o] * (double)p.x[t * I + p.col_idx[k]];
            near("dv", r->dv[k], dv, 20);
        }
}

static void products_match_double_at_any_size(void **state)
{
    static const struct {
        int64_t n, in, out;
        float share;
    } size[] = {
        { 1, 7, 5, 0.4f },      { 3, 130, 129, 0.05f }, { 4, 7, 5, 0.4f },
        { 33, 128, 150, 0.1f }, { 128, 9, 64, 0.2f },   { 129, 200, 3, 0.3f },
        { 300, 65, 66, 0.06f }, { 31, 1, 1, 1 },        { 5, 200, 150, 1 },
        { 9, 40, 30, 0 },
    };
    const enum simd_level best = simd_level();

    (void)state;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        make(size[i].n, size[i].in, size[i].out, size[i].share);
        for (int level = SIMD_PLAIN; level <= (int)best; level++) {
            simd_limit((enum simd_level)level);
            run(&a);
            check(&a);
        }
        simd_limit(SIMD_AVX512);
    }
}

static void results_do_not_depend_on_the_thread_count(void **state)
{
    const int threads = omp_get_max_threads();

    (void)state;
    make(300, 200, 150, 0.1f);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    omp_set_num_threads(1);
    run(&a);
    omp_set_num_threads(3);
    run(&b);
    omp_set_num_threads(threads);
    assert_memory_equal(&a, &b, sizeof a);
}

/* A row alone, with two others, and in the middle of many. */
static void neighbours_do_not_change_a_row(void **state)
{
    enum { IN = 140, OUT = 131, AT = 70 };

    (void)state;
    make(100, IN, OUT, 0.2f);
    run(&a);
    for (int64_t n = 1; n <= 5; n++) {
        make(100, IN, OUT, 0.2f);
        memmove(p.x, p.x + (ptrdiff_t)AT * IN, (size_t)n * IN * sizeof *p.x);
        memmove(p.dy, p.dy + (ptrdiff_t)AT * OUT, (size_t)n * OUT * sizeof *p.dy);
        memmove(p.acc, p.acc + (ptrdiff_t)AT * OUT, (size_t)n * OUT * sizeof *p.acc);
        p.n = n;
        run(&b);
        assert_memory_equal(b.y, a.y + (ptrdiff_t)AT * OUT, (size_t)n * OUT * sizeof *a.y);
        assert_memory_equal(b.dx, a.dx + (ptrdiff_t)AT * IN, (size_t)n * IN * sizeof *a.dx);
    }
}

/* bf16 comes in exact and is rounded once, when all is added. */
static void bf16_is_widened_and_rounded_once(void **state)
{
    static uint16_t x[MOST_N * MOST_I], acc[MOST_N * MOST_O];
    static const int64_t rows[] = { 2, 150 };

    (void)state;
    for (int k = 0; k < 2; k++) {
        const int lanes = omp_get_max_threads();
        void *scratch;

        make(rows[k], 150, 140, 0.1f);
        for (int64_t i = 0; i < p.n * 150; i++)
            p.x[i] = bf16_to_f32(x[i] = bf16_from_f32(p.x[i]));
        for (int64_t i = 0; i < p.n * 140; i++)
            p.acc[i] = bf16_to_f32(acc[i] = bf16_from_f32(p.acc[i]));
        run(&a);
        scratch = mem_alloc(dev->sparse_scratch(150, 140, lanes));
        memset(b.dv, 0, sizeof b.dv);
        for (int32_t i = 0; i < p.row_offs[140]; i++)
            b.dv[i] = -0.25f;
        dev->sparse_xst(p.n, &p.s, p.v, (struct act){ x, 1 }, (struct act){ acc, 1 },
                        (struct act){ acc, 1 }, lanes, scratch);
        dev->sparse_sample(p.n, &p.s, p.dy, (struct act){ x, 1 }, b.dv, scratch);
        mem_free(scratch);
        for (int64_t i = 0; i < p.n * 140; i++)
            assert_int_equal(acc[i], bf16_from_f32(a.y[i]));
        assert_memory_equal(a.dv, b.dv, (size_t)p.row_offs[140] * sizeof *a.dv);
    }
}

static void squares_are_added(void **state)
{
    enum { N = 20001 };
    static float x[N], y[N];

    (void)state;
    fill(x, N, 1);
    for (int i = 0; i < N; i++)
        y[i] = 3;
    dev->add_square(N, x, y);
    for (int i = 0; i < N; i++)
        near("y", y[i], 3 + (double)x[i] * (double)x[i], 1);
}

static int find_device(void **state)
{
    (void)state;
    dev = backend_cpu();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_double_at_any_size),
        cmocka_unit_test(results_do_not_depend_on_the_thread_count),
        cmocka_unit_test(neighbours_do_not_change_a_row),
        cmocka_unit_test(bf16_is_widened_and_rounded_once),
        cmocka_unit_test(squares_are_added),
    };

    return cmocka_run_group_tests(tests, find_device, NULL);
}
