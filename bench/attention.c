/* bench/attention - attention against our own matrix product in the same run.
 *
 * Flops are those of the masked half: forward 2 products, backward 5, of T * T / 2 * D each. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend.h"
#include "core/mem.h"

enum { REPEATS = 7, ARRAYS = 9 };

static const struct setting {
    int64_t segments, T, heads, kv_heads, head_dim;
} settings[] = {
    { 4, 512, 9, 3, 64 },    { 1, 2048, 9, 3, 64 },   { 1, 512, 9, 3, 64 },
    { 1, 2048, 32, 8, 128 }, { 1, 1024, 12, 12, 64 }, { 8, 256, 8, 4, 80 },
};

static float *filled(int64_t n, uint32_t site)
{
    const struct rng_key key = { 1, RNG_TEST, 0, site };
    float *p = mem_array((size_t)n, sizeof *p);

    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    for (int64_t i = 0; i < n; i++)
        p[i] = rng_uniform(key, (uint64_t)i) - 0.5f;
    return p;
}

/* GFLOP/s of the product y = x W^T, 2048 x 576 x 1536. */
static double product_rate(const struct backend *dev)
{
    const int64_t n = 2048, in = 576, out = 1536;
    float *x = filled(n * in, 1), *w = filled(out * in, 2), *y = filled(n * out, 3);
    void *scratch = mem_alloc(dev->product_scratch(n, in, out));
    const struct qmat m = { .type = QT_F32, .rows = out, .cols = in, .data = w };
    const struct gemm_mat rows = { x, in, 0 };
    double best = 1e9;

    for (int i = 0; i < REPEATS; i++) {
        const double t = omp_get_wtime();

        dev->xwt(GEMM_F32, n, 1.0f, rows, &m, 0.0f, y, out, scratch);
        best = fmin(best, omp_get_wtime() - t);
    }
    mem_free(x);
    mem_free(w);
    mem_free(y);
    mem_free(scratch);
    return 2.0 * (double)(n * in * out) / best * 1e-9;
}

static void measure(const struct backend *dev, const struct setting *s, double product)
{
    const int64_t N = s->segments * s->T, q = N * s->heads * s->head_dim;
    const int64_t k = N * s->kv_heads * s->head_dim;
    const int lanes = omp_get_max_threads();
    const struct attention_shape shape = { .heads = s->heads,
                                           .kv_heads = s->kv_heads,
                                           .head_dim = s->head_dim,
                                           .scale = 1.0f / sqrtf((float)s->head_dim) };
    float *a[ARRAYS] = {
        filled(q, 1), filled(k, 2), filled(k, 3), filled(q, 4), filled(N * s->heads, 5),
        filled(q, 6), filled(q, 7), filled(k, 8), filled(k, 9)
    };
    int64_t start[64] = { 0 };
    double forward = 1e9, backward = 1e9;
    const double flops = (double)(s->segments * s->T * s->T * s->heads * s->head_dim);
    struct attention_call c = { .shape = shape,
                                .segments = s->segments,
                                .start = start,
                                .q = { a[0], 0 },
                                .k = { a[1], 0 },
                                .v = { a[2], 0 },
                                .out = { a[3], 0 },
                                .lse = a[4],
                                .dout = a[5],
                                .dq = a[6],
                                .dk = a[7],
                                .dv = a[8],
                                .lanes = lanes };

    for (int64_t i = 0; i < s->segments; i++)
        start[i + 1] = (i + 1) * s->T;
    c.scratch = mem_alloc(dev->attention_scratch(&shape, N, s->segments, true, lanes));
    for (int i = 0; i < REPEATS; i++) {
        double t = omp_get_wtime();

        dev->attention(&c);
        forward = fmin(forward, omp_get_wtime() - t);
        t = omp_get_wtime();
        dev->attention_backward(&c);
        backward = fmin(backward, omp_get_wtime() - t);
    }
    const double f = 2 * flops / forward * 1e-9, b = 5 * flops / backward * 1e-9;
    printf("%3d x %4d tokens, %2d heads, %2d key heads of %3d   %6.1f (%.2f)   %6.1f (%.2f)\n",
           (int)s->segments, (int)s->T, (int)s->heads, (int)s->kv_heads, (int)s->head_dim, f,
           f / product, b, b / product);
    for (int i = 0; i < ARRAYS; i++)
        mem_free(a[i]);
    mem_free(c.scratch);
}

int main(void)
{
    const struct backend *dev = backend_cpu();
    const double product = product_rate(dev);

    printf("%d threads, %s; product y = x W^T: %.1f GFLOP/s\n", omp_get_max_threads(),
           gemm_kernel_name(), product);
    printf("GFLOP/s (share of the product)                       forward         backward\n");
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        measure(dev, &settings[i], product);
    return 0;
}
