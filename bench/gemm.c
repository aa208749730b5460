/* bench/gemm - our products of a linear layer against OpenBLAS' sgemm on the same shapes.
 *
 * GFLOP/s are the best of several repetitions. OpenBLAS gets f32 weights always; the ratio says
 * what a caller gains or loses who decodes nothing. OpenBLAS picks its kernels when it is loaded:
 * OPENBLAS_CORETYPE=SkylakeX (or another) before the command overrides a wrong guess. */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/gemm.h"
#include "core/mem.h"
#include "core/rng.h"

/* Operations of one measurement, so short that a busy machine leaves some of them alone, and of all
 * of one contender. */
static const double BURST = 2e8, TOTAL = 6e10;

enum what { XWT, XW, TN };

static const struct shape {
    enum what what;
    int64_t n, in, out;
    const char *use;
} shapes[] = {
    { XWT, 2048, 576, 1536, "forward" }, { XWT, 2048, 1536, 576, "forward" },
    { XWT, 2048, 576, 192, "forward" },  { XWT, 2048, 2048, 5504, "forward" },
    { XW, 2048, 576, 1536, "backward" }, { XW, 2048, 1536, 576, "backward" },
    { XW, 2048, 576, 192, "backward" },  { XW, 2048, 2048, 5504, "backward" },
    { XWT, 2048, 576, 16, "lora A" },    { XWT, 2048, 16, 1536, "lora B" },
    { XW, 2048, 576, 16, "lora dx" },    { XW, 2048, 16, 1536, "lora dh" },
    { TN, 2048, 576, 16, "lora dA" },    { TN, 2048, 16, 1536, "lora dB" },
    { TN, 2048, 576, 576, "full dw" },   { TN, 2048, 2048, 2048, "full dw" },
    { XWT, 1, 576, 1536, "generate" },   { XWT, 1, 2048, 5504, "generate" },
    { XWT, 8, 2048, 5504, "generate" },  { XWT, 32, 2048, 5504, "generate" },
    { XWT, 64, 2048, 5504, "generate" }, { XWT, 128, 2048, 5504, "forward" },
};
enum { FORMATS = 3 };
static const char *const formats[FORMATS] = { "f32", "nf4", "q4_1" };
static const char *const names[] = { "y = x W^T", "dx = dy W", "dw = dy^T x" };

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

/* W in format `type`; q4_1 blocks: scale 0.01, minimum -0.08 as f16, then random codes. */
static void make_weight(enum qtype type, int64_t out, int64_t in, const float *f32,
                        struct arena *mem, struct qmat *w)
{
    static const uint8_t head[4] = { 0x1f, 0x21, 0x1f, 0xad };
    const struct quant_spec spec = { QT_NF4, 64, true };
    const struct qmat src = { .type = QT_F32, .rows = out, .cols = in, .data = f32 };

    *w = src;
    if (type == QT_NF4 && qmat_quantize(&src, &spec, mem, w, NULL) == GRAFT_OK)
        return;
    if (type == QT_Q4_1 && in % 32 == 0) {
        const int64_t bytes = out * in / 32 * 20;
        uint8_t *b = arena_alloc(mem, (size_t)bytes);

        for (int64_t i = 0; i < bytes; i++)
            b[i] = i % 20 < 4 ? head[i % 20] : (uint8_t)(i * 2654435761u >> 13);
        w->type = QT_Q4_1;
        w->data = b;
    }
}

struct job {
    const struct shape *s;
    struct qmat w;
    const float *f32, *x, *dy; /* x: (n, in), dy: (n, out) */
    float *c;
    void *scratch;
};

static void ours(const struct job *j)
{
    const struct shape *s = j->s;
    const struct gemm_mat x = { j->x, s->in, 0 }, dy = { j->dy, s->out, 0 };

    if (s->what == XWT)
        gemm_xwt(GEMM_F32, s->n, 1, x, &j->w, 0, j->c, s->out, j->scratch);
    else if (s->what == XW)
        gemm_xw(GEMM_F32, s->n, 1, dy, &j->w, 0, j->c, s->in, j->scratch);
    else
        gemm_tn(GEMM_F32, s->n, s->out, s->in, 1, dy, x, 0, j->c, s->in, j->scratch);
}

static void theirs(const struct job *j)
{
    const struct shape *s = j->s;
    const int n = (int)s->n, in = (int)s->in, out = (int)s->out;

    if (s->what == XWT)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, out, in, 1, j->x, in, j->f32, in, 0,
                    j->c, out);
    else if (s->what == XW)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, in, out, 1, j->dy, out, j->f32,
                    in, 0, j->c, in);
    else
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, n, 1, j->dy, out, j->x, in, 0,
                    j->c, in);
}

/* Seconds of one call, the mean of `loops`. */
static double seconds(void (*run)(const struct job *), const struct job *j, int loops)
{
    const double t0 = omp_get_wtime();

    for (int i = 0; i < loops; i++)
        run(j);
    return (omp_get_wtime() - t0) / loops;
}

static void keep_least(double *best, double t)
{
    *best = t < *best ? t : *best;
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* The contenders take turns, so that a disturbance meets all of them. */
static void bench_shape(const struct shape *s)
{
    const double flops = 2.0 * (double)s->n * (double)s->in * (double)s->out;
    const int loops = (int)clamp(BURST / flops, 1, 2000);
    const int repeats = (int)clamp(TOTAL / (flops * loops), 7, 300);
    const int count = s->what == TN ? 1 : FORMATS;
    float *f32 = filled(s->out * s->in, 1), *x = filled(s->n * s->in, 2);
    float *dy = filled(s->n * s->out, 3);
    float *c = filled(s->n * s->in + s->n * s->out + s->in * s->out, 4);
    void *scratch = mem_alloc(gemm_scratch(s->n, s->in, s->out));
    double blas = INFINITY, own[FORMATS] = { INFINITY, INFINITY, INFINITY };
    struct arena mem = ARENA_INIT;
    struct job j[FORMATS];

    for (int f = 0; f < count; f++) {
        j[f] = (struct job){ .s = s, .f32 = f32, .x = x, .dy = dy, .c = c, .scratch = scratch };
        make_weight(qtype_by_name(formats[f]), s->out, s->in, f32, &mem, &j[f].w);
    }
    for (int r = 0; r < repeats; r++) {
        keep_least(&blas, seconds(theirs, &j[0], loops));
        for (int f = 0; f < count; f++)
            keep_least(&own[f], seconds(ours, &j[f], loops));
    }
    printf("%-12s n %5lld in %5lld out %5lld %-9s %8.1f", names[s->what], (long long)s->n,
           (long long)s->in, (long long)s->out, s->use, flops / blas / 1e9);
    for (int f = 0; f < count; f++)
        printf("  %8.1f %5.2f", flops / own[f] / 1e9, blas / own[f]);
    printf("\n");
    fflush(stdout);
    arena_release(&mem);
    mem_free(f32);
    mem_free(x);
    mem_free(dy);
    mem_free(c);
    mem_free(scratch);
}

int main(int argc, char **argv)
{
    const size_t count = sizeof shapes / sizeof *shapes;

    printf("OpenBLAS core %s, %d threads; our kernel %s, %d threads\n", openblas_get_corename(),
           openblas_get_num_threads(), gemm_kernel_name(), omp_get_max_threads());
    printf("%-53s %8s", "GFLOP/s", "OpenBLAS");
    for (int f = 0; f < FORMATS; f++)
        printf("  %8s ratio", formats[f]);
    printf("\n");
    for (size_t i = 0; i < count; i++)
        if (argc < 2 || strstr(shapes[i].use, argv[1]))
            bench_shape(&shapes[i]);
    return 0;
}
