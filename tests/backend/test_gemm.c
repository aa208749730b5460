/* The three products of a linear layer against plain sums in double, in every number format and
 * with every micro-kernel this machine has; and the promise that a row's bits depend on that row
 * alone. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "backend/cpu/gemm.h"
#include "core/mem.h"
#include "core/rng.h"
#include "quant/half.h"
#include "quant/simd.h"

enum product { XWT, XW, TN };

static const char *const product_names[] = { "xwt", "xw", "tn" };

/* Where a GGUF block holds its f16 scales: bytes from its start, -1 none. */
static const struct {
    enum qtype type;
    int scale[2];
} formats[] = {
    { QT_F32, { -1, -1 } },   { QT_F16, { -1, -1 } }, { QT_BF16, { -1, -1 } },
    { QT_NF4, { -1, -1 } },   { QT_FP4, { -1, -1 } }, { QT_Q4_0, { 0, -1 } },
    { QT_Q4_1, { 0, 2 } },    { QT_Q5_0, { 0, -1 } }, { QT_Q5_1, { 0, 2 } },
    { QT_Q8_0, { 0, -1 } },   { QT_Q4_K, { 0, 2 } },  { QT_Q5_K, { 0, 2 } },
    { QT_Q6_K, { 208, -1 } },
};
enum { FORMATS = sizeof formats / sizeof *formats };

static const struct {
    int64_t n, in, out; /* in: at least; rounded up to whole blocks */
} sizes[] = {
    { 1, 1, 1 },     { 3, 33, 31 },    { 14, 301, 65 }, { 64, 77, 300 },  { 65, 1100, 45 },
    { 131, 300, 1 }, { 200, 16, 513 }, { 97, 801, 16 }, { 29, 10, 2100 }, { 70, 10, 2100 },
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static float *uniform(int64_t n, uint32_t site)
{
    const struct rng_key key = { 3, RNG_TEST, 0, site };
    float *p = mem_array((size_t)n, sizeof *p);

    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = rng_uniform(key, (uint64_t)i) - 0.5f;
    return p;
}

static void random_blocks(int format, struct qmat *w, struct arena *mem)
{
    const struct qtype_info *t = &qtypes[w->type];
    const struct rng_key key = { 4, RNG_TEST, 0, (uint32_t)w->type };
    const int64_t blocks = qmat_elems(w) / t->block;
    uint8_t *b = arena_alloc(mem, (size_t)(blocks * t->block_bytes));

    assert_non_null(b);
    for (int64_t i = 0; i < blocks * t->block_bytes; i++)
        b[i] = (uint8_t)rng_u32(key, (uint64_t)i);
    for (int64_t i = 0; i < blocks; i++)
        for (int s = 0; s < 2; s++) {
            const uint16_t scale = f16_from_f32(0.001f * (float)(1 + (i + s) % 9));

            if (formats[format].scale[s] >= 0)
                memcpy(b + i * t->block_bytes + formats[format].scale[s], &scale, 2);
        }
    w->data = b;
}

/* A random matrix in one of the formats; memory from `mem`. */
static struct qmat weight(int format, int64_t rows, int64_t cols, struct arena *mem)
{
    struct qmat w = { .type = formats[format].type, .rows = rows, .cols = cols };
    float *f = uniform(rows * cols, 9);
    const struct qmat src = { .type = QT_F32, .rows = rows, .cols = cols, .data = f };
    const struct quant_spec spec = { w.type, 64, w.type == QT_NF4 };

    if (qtypes[w.type].is_float)
        assert_int_equal(qmat_to_float(&src, w.type, mem, &w, NULL), GRAFT_OK);
    else if (spec.type == QT_NF4 || spec.type == QT_FP4)
        assert_int_equal(qmat_quantize(&src, &spec, mem, &w, NULL), GRAFT_OK);
    else
        random_blocks(format, &w, mem);
    mem_free(f);
    return w;
}

static int64_t whole_blocks(int format, int64_t in)
{
    const int block = qtypes[formats[format].type].block;

    return (in + block - 1) / block * block;
}

static float as_bf16(float x)
{
    return bf16_to_f32(bf16_from_f32(x));
}

static uint16_t *to_bits(const float *x, int64_t n)
{
    uint16_t *b = mem_array((size_t)n, sizeof *b);

    assert_non_null(b);
    for (int64_t i = 0; i < n; i++)
        b[i] = bf16_from_f32(x[i]);
    return b;
}

/* C(i, j) = sum_k A(i, k) B(k, j) in double, element (i, k) of A at a[i * ai + k * ak] and so on;
 * mass: the sum of the magnitudes, which bounds the rounding error. */
static void naive(int64_t m, int64_t n, int64_t k, const float *a, int64_t ai, int64_t ak,
                  const float *b, int64_t bk, int64_t bj, double *c, double *mass)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0, t = 0;

            for (int64_t l = 0; l < k; l++) {
                const double v = (double)a[i * ai + l * ak] * (double)b[l * bk + j * bj];

                s += v;
                t += fabs(v);
            }
            c[i * n + j] = s;
            mass[i * n + j] = t;
        }
}

struct call {
    enum product what;
    enum gemm_type type;
    int64_t n, in, out;
    float alpha, beta;
    struct gemm_mat x, dy; /* (n, in), (n, out) */
    const struct qmat *w;
    float *c;
    int64_t ldc;
};

static void run(const struct call *c)
{
    void *scratch = mem_alloc(gemm_scratch(c->n, c->in, c->out));

    assert_non_null(scratch);
    if (c->what == XWT)
        gemm_xwt(c->type, c->n, c->alpha, c->x, c->w, c->beta, c->c, c->ldc, scratch);
    else if (c->what == XW)
        gemm_xw(c->type, c->n, c->alpha, c->dy, c->w, c->beta, c->c, c->ldc, scratch);
    else
        gemm_tn(c->type, c->n, c->out, c->in, c->alpha, c->dy, c->x, c->beta, c->c, c->ldc,
                scratch);
    mem_free(scratch);
}

static int64_t result_rows(const struct call *c)
{
    return c->what == TN ? c->out : c->n;
}

static int64_t result_cols(const struct call *c)
{
    return c->what == XWT ? c->out : c->in;
}

/* Run `c` into a wider matrix and compare with `want`; what lies between the rows must not move. */
static void check_call(struct call c, const double *want, const double *mass)
{
    enum { GAP = 3 };
    const int64_t rows = result_rows(&c), cols = result_cols(&c), ld = cols + GAP;
    float *before = uniform(rows * ld, 5), *got = uniform(rows * ld, 5);

    c.c = got;
    c.ldc = ld;
    run(&c);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < ld; j++) {
            const double old = (double)before[i * ld + j], have = (double)got[i * ld + j];
            const double sum = j < cols ? (double)c.alpha * want[i * cols + j] : 0;
            const double full = j < cols ? sum + (double)c.beta * old : old;
            const double slack = j < cols ? 1e-5 * mass[i * cols + j] + 1e-6 : 0;

            if (!(fabs(have - full) <= slack))
                fail_msg("%s %s %s n %d in %d out %d: (%d, %d) is %.9g, wanted %.9g",
                         gemm_kernel_name(), product_names[c.what],
                         c.w ? qtypes[c.w->type].name : "", (int)c.n, (int)c.in, (int)c.out, (int)i,
                         (int)j, have, full);
        }
    mem_free(before);
    mem_free(got);
}

/* All micro-kernels, with beta 0 and 1. */
static void check_kernels(struct call c, const double *want, const double *mass)
{
    for (int level = SIMD_PLAIN; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        c.alpha = 1;
        c.beta = 0;
        check_call(c, want, mass);
        c.alpha = -0.75f;
        c.beta = 1;
        check_call(c, want, mass);
    }
    simd_limit(SIMD_AVX512);
}

static void check_weight_products(int format, int64_t n, int64_t in, int64_t out)
{
    struct arena mem = ARENA_INIT;
    const struct qmat w = weight(format, out, in, &mem);
    float *x = uniform(n * in, 1), *dy = uniform(n * out, 2);
    float *plain = mem_array((size_t)(in * out), sizeof *plain);
    const int64_t wide = in > out ? in : out;
    double *want = mem_array((size_t)(n * wide), sizeof *want);
    double *mass = mem_array((size_t)(n * wide), sizeof *mass);
    struct call c = { .n = n, .in = in, .out = out, .x = { x, in, 0 }, .dy = { dy, out, 0 } };

    c.w = &w;
    qmat_decode_ref(&w, 0, in * out, plain);
    naive(n, out, in, x, in, 1, plain, 1, in, want, mass);
    c.what = XWT;
    check_kernels(c, want, mass);
    naive(n, in, out, dy, out, 1, plain, in, 1, want, mass);
    c.what = XW;
    check_kernels(c, want, mass);
    mem_free(x);
    mem_free(dy);
    mem_free(plain);
    mem_free(want);
    mem_free(mass);
    arena_release(&mem);
}

/* f32, nf4, q4_1, q6_k: one format of each way to decode. */
static const int picked[] = { 0, 3, 6, 12 };
enum { PICKED = sizeof picked / sizeof *picked };

static bool is_picked(int format)
{
    for (int i = 0; i < PICKED; i++)
        if (picked[i] == format)
            return true;
    return false;
}

static void products_with_a_weight_match_double_sums_in_every_format(void **state)
{
    (void)state;
    for (int f = 0; f < FORMATS;
         f++) /* one of each family meets all sizes, the others every third */
        for (int s = 0; s < SIZES; s += is_picked(f) ? 1 : 3)
            check_weight_products(f, sizes[s].n, whole_blocks(f, sizes[s].in), sizes[s].out);
}

static void weight_gradients_match_double_sums(void **state)
{
    (void)state;
    for (int s = 0; s < SIZES; s++) {
        /* the inner dimension is n: let every size have its turn */
        const int64_t n = sizes[s].in, in = sizes[s].n, out = sizes[s].out;
        float *x = uniform(n * in, 1), *dy = uniform(n * out, 2);
        double *want = mem_array((size_t)(in * out), sizeof *want);
        double *mass = mem_array((size_t)(in * out), sizeof *mass);
        struct call c = { .what = TN, .n = n, .in = in, .out = out, .x = { x, in, 0 } };

        c.dy = (struct gemm_mat){ dy, out, 0 };
        naive(out, in, n, dy, 1, out, x, in, 1, want, mass);
        check_kernels(c, want, mass);
        c.in = out;
        c.out = in;
        c.x = (struct gemm_mat){ dy, out, 0 };
        c.dy = (struct gemm_mat){ x, in, 0 };
        naive(in, out, n, x, 1, in, dy, out, 1, want, mass);
        check_kernels(c, want, mass);
        mem_free(x);
        mem_free(dy);
        mem_free(want);
        mem_free(mass);
    }
}

/* Activations as bf16 bits or f32, compute type f32 or bf16: operands rounded to bf16 first, then
 * the f32 product, must give the very bits. */
static void check_rounding(enum product what, int format, int64_t n, int64_t in, int64_t out)
{
    struct arena mem = ARENA_INIT;
    const struct qmat w = weight(format, out, in, &mem);
    float *x = uniform(n * in, 1), *dy = uniform(n * out, 2);
    float *plain = mem_array((size_t)(in * out), sizeof *plain);
    uint16_t *xb = to_bits(x, n * in), *dyb = to_bits(dy, n * out);
    const struct qmat rounded = { .type = QT_F32, .rows = out, .cols = in, .data = plain };
    struct call c = { .what = what, .n = n, .in = in, .out = out, .alpha = 1 };
    const size_t bytes = (size_t)(result_rows(&c) * result_cols(&c)) * sizeof(float);
    float *want = mem_alloc(bytes), *got = mem_alloc(bytes);

    qmat_decode(&w, 0, in * out, plain);
    for (int64_t i = 0; i < in * out; i++)
        plain[i] = as_bf16(plain[i]);
    for (int64_t i = 0; i < n * in; i++)
        x[i] = as_bf16(x[i]);
    for (int64_t i = 0; i < n * out; i++)
        dy[i] = as_bf16(dy[i]);
    c.x = (struct gemm_mat){ x, in, 0 };
    c.dy = (struct gemm_mat){ dy, out, 0 };
    c.w = &rounded;
    c.c = want;
    c.ldc = result_cols(&c);
    run(&c);
    c.type = GEMM_BF16;
    c.w = &w;
    c.c = got;
    run(&c);
    assert_memory_equal(got, want, bytes);
    c.x = (struct gemm_mat){ xb, in, 1 };
    c.dy = (struct gemm_mat){ dyb, out, 1 };
    run(&c);
    assert_memory_equal(got, want, bytes);
    c.type = GEMM_F32;
    c.w = &rounded;
    run(&c);
    assert_memory_equal(got, want, bytes);
    mem_free(x);
    mem_free(dy);
    mem_free(plain);
    mem_free(xb);
    mem_free(dyb);
    mem_free(want);
    mem_free(got);
    arena_release(&mem);
}

static void bf16_operands_are_rounded_once(void **state)
{
    (void)state;
    for (int what = XWT; what <= TN; what++)
        for (int format = 0; format < 4; format++) {
            check_rounding((enum product)what, format, 5, 77, 40);
            check_rounding((enum product)what, format, 90, 301, 65);
        }
}

/* Rows [first, first + count) alone must have the bits they have among all. */
static void check_rows(struct call c, const float *all, int64_t first, int64_t count)
{
    const int64_t cols = result_cols(&c);
    float *got = mem_array((size_t)(count * cols), sizeof *got);

    assert_non_null(got);
    c.n = count;
    c.x.data = (const float *)c.x.data + first * c.x.ld;
    c.dy.data = (const float *)c.dy.data + first * c.dy.ld;
    c.c = got;
    run(&c);
    if (memcmp(got, all + first * cols, (size_t)(count * cols) * sizeof *got) != 0)
        fail_msg("%s %s %s: rows %d to %d differ alone", gemm_kernel_name(), product_names[c.what],
                 qtypes[c.w->type].name, (int)first, (int)(first + count));
    mem_free(got);
}

static void check_neighbours(enum product what, int format, int64_t in, int64_t out)
{
    enum { N = 150 };
    static const int64_t counts[] = { 1, 2, 13, 15, 64, 65, 100, 149 };
    struct arena mem = ARENA_INIT;
    const struct qmat w = weight(format, out, in, &mem);
    float *x = uniform(N * in, 1), *dy = uniform(N * out, 2);
    struct call c = { .what = what, .n = N, .in = in, .out = out, .alpha = 0.5f };
    float *all;

    c.w = &w;
    c.x = (struct gemm_mat){ x, in, 0 };
    c.dy = (struct gemm_mat){ dy, out, 0 };
    c.ldc = result_cols(&c);
    all = mem_array((size_t)(N * c.ldc), sizeof *all);
    c.c = all;
    run(&c);
    for (int64_t i = 0; i < N; i += 7)
        check_rows(c, all, i, 1);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (int64_t first = 0; first + counts[i] <= N; first += 37)
            check_rows(c, all, first, counts[i]);
    mem_free(x);
    mem_free(dy);
    mem_free(all);
    arena_release(&mem);
}

static void a_row_has_the_same_bits_alone_and_in_any_batch(void **state)
{
    (void)state;
    for (int level = SIMD_PLAIN; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (int f = 0; f < PICKED; f++) {
            check_neighbours(XWT, picked[f], 768, 41);
            check_neighbours(XW, picked[f], 256, 401);
        }
        check_neighbours(XWT, 3, 333, 129);
        check_neighbours(XW, 3, 333, 129);
    }
    simd_limit(SIMD_AVX512);
}

static void check_threads(enum product what, int64_t n, int64_t in, int64_t out)
{
    struct arena mem = ARENA_INIT;
    const struct qmat w = weight(3, out, in, &mem);
    float *x = uniform(n * in, 1), *dy = uniform(n * out, 2);
    struct call c = { .what = what, .n = n, .in = in, .out = out, .alpha = 1, .w = &w };
    const size_t bytes = (size_t)(result_rows(&c) * result_cols(&c)) * sizeof(float);
    const int before = omp_get_max_threads();
    float *want = mem_alloc(bytes), *got = mem_alloc(bytes);

    c.x = (struct gemm_mat){ x, in, 0 };
    c.dy = (struct gemm_mat){ dy, out, 0 };
    c.ldc = result_cols(&c);
    for (int threads = 1; threads <= 5; threads++) {
        omp_set_num_threads(threads);
        c.c = threads == 1 ? want : got;
        run(&c);
        if (threads > 1)
            assert_memory_equal(got, want, bytes);
    }
    omp_set_num_threads(before);
    mem_free(x);
    mem_free(dy);
    mem_free(want);
    mem_free(got);
    arena_release(&mem);
}

static void results_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    for (int what = XWT; what <= TN; what++) {
        check_threads((enum product)what, 300, 1000, 130);
        check_threads((enum product)what, 900, 16, 130);
        check_threads((enum product)what, 900, 130, 16);
        check_threads((enum product)what, 4, 900, 900);
    }
}

static void empty_products_leave_or_clear_the_result(void **state)
{
    float w[6] = { 1, 2, 3, 4, 5, 6 }, x[6] = { 0 }, y[6] = { 7, 7, 7, 7, 7, 7 };
    const struct qmat m = { .type = QT_F32, .rows = 2, .cols = 3, .data = w };
    const struct gemm_mat mx = { x, 3, 0 }, mdy = { x, 2, 0 };
    void *scratch = mem_alloc(gemm_scratch(0, 3, 2));

    (void)state;
    gemm_xwt(GEMM_F32, 0, 1, mx, &m, 0, y, 2, scratch);
    gemm_xw(GEMM_F32, 0, 1, mdy, &m, 0, y, 3, scratch);
    gemm_tn(GEMM_F32, 0, 2, 3, 1, mdy, mx, 1, y, 3, scratch);
    for (int i = 0; i < 6; i++)
        assert_true(y[i] == 7);
    gemm_tn(GEMM_F32, 0, 2, 3, 1, mdy, mx, 0, y, 3, scratch);
    for (int i = 0; i < 6; i++)
        assert_true(y[i] == 0);
    mem_free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_with_a_weight_match_double_sums_in_every_format),
        cmocka_unit_test(weight_gradients_match_double_sums),
        cmocka_unit_test(bf16_operands_are_rounded_once),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_in_any_batch),
        cmocka_unit_test(results_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(empty_products_leave_or_clear_the_result),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
