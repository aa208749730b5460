/* How fast weights are decoded and quantised, in Gelem/s, and as a share of what writing the f32
 * values alone would allow (memset of the same output, in the same run).
 * usage: quant [THREADS]      columns: plain, AVX2, AVX-512 as far as this machine has them */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "quant/quant.h"
#include "quant/simd.h"

/* 4 Mi elements: 16 MiB of f32, decoded in pieces of 16 Ki that stay in a core's cache, as the
 * matrix kernels do. */
enum { ROWS = 2048, COLS = 2048, PIECE = 16384, REPEATS = 7 };

static const char *const level_names[] = { "plain", "avx2", "avx512" };

static double best_seconds(void (*run)(void *), void *data)
{
    double best = INFINITY;

    for (int i = 0; i < REPEATS; i++) {
        const double start = omp_get_wtime();
        double t;

        run(data);
        t = omp_get_wtime() - start;
        best = t < best ? t : best;
    }
    return best;
}

static float piece[PIECE] __attribute__((aligned(64)));

static void decode_all(void *data)
{
    const struct qmat *w = data;
    const int64_t n = qmat_elems(w);

    for (int64_t i = 0; i < n; i += PIECE) {
        qmat_decode(w, i, PIECE, piece);
        __asm__ volatile("" : : "r"(piece) : "memory");
    }
}

static void write_all(void *data)
{
    const int64_t n = qmat_elems(data);

    for (int64_t i = 0; i < n; i += PIECE) {
        memset(piece, (int)i & 1, sizeof piece);
        __asm__ volatile("" : : "r"(piece) : "memory");
    }
}

/* A matrix in format `type`: quantised from `src`, or bytes whose f16 scales are small. */
static int make(const struct qmat *src, enum qtype type, bool nested, struct arena *mem,
                struct qmat *out)
{
    const struct qtype_info *t = &qtypes[type];
    const struct quant_spec spec = { type, 64, nested };
    const struct rng_key key = { .seed = 1, .stream = RNG_TEST };
    uint8_t *bytes;
    size_t size;

    if (type == QT_NF4 || type == QT_FP4)
        return qmat_quantize(src, &spec, mem, out, NULL) == GRAFT_OK;
    if (t->is_float)
        return qmat_to_float(src, type, mem, out, NULL) == GRAFT_OK;
    *out = (struct qmat){ .type = type, .rows = src->rows, .cols = src->cols };
    size = qmat_bytes(out);
    bytes = arena_alloc(mem, size);
    if (!bytes)
        return 0;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(rng_u32(key, i) & 0x3b); /* as f16: below 1 */
    out->data = bytes;
    return 1;
}

static void report(const char *name, struct qmat *w, double bound)
{
    const double n = (double)qmat_elems(w);
    const enum simd_level top = simd_level();
    double rate = 0;

    printf("decode   %-10s %6.3f bits ", name, 8.0 * (double)qmat_bytes(w) / n);
    for (int level = 0; level <= (int)top; level++) {
        simd_limit((enum simd_level)level);
        rate = n / best_seconds(decode_all, w) / 1e9;
        printf("  %s %6.2f", level_names[level], rate);
    }
    printf("  Gelem/s/core, %3.0f %% of writing\n", 100 * rate / bound);
}

struct job {
    const struct qmat *src;
    struct quant_spec spec;
};

static void quantize_all(void *data)
{
    const struct job *j = data;
    struct arena mem = ARENA_INIT;
    struct qmat w;

    qmat_quantize(j->src, &j->spec, &mem, &w, NULL);
    arena_release(&mem);
}

static void report_quantize(const char *name, struct job *j)
{
    const double n = (double)qmat_elems(j->src);
    const enum simd_level top = simd_level();

    printf("quantise %-10s              ", name);
    for (int level = 0; level <= (int)top; level++) {
        simd_limit((enum simd_level)level);
        printf("  %s %6.2f", level_names[level], n / best_seconds(quantize_all, j) / 1e9);
    }
    printf("  Gelem/s on %d threads\n", omp_get_max_threads());
}

int main(int argc, char **argv)
{
    const struct rng_key key = { .seed = 1, .stream = RNG_TEST };
    struct arena mem = ARENA_INIT;
    float *x = arena_array(&mem, (size_t)ROWS * COLS, sizeof *x);
    struct qmat src = { .type = QT_F32, .rows = ROWS, .cols = COLS, .data = x }, w;
    double bound;
    int ok = x != NULL;

    if (argc > 1)
        omp_set_num_threads(atoi(argv[1]) > 0 ? atoi(argv[1]) : 1);
    for (int64_t i = 0; ok && i < qmat_elems(&src); i++)
        x[i] = 0.02f * rng_normal(key, (uint64_t)i);
    bound = (double)qmat_elems(&src) / best_seconds(write_all, &src) / 1e9;
    printf("writing f32 into the cache                %6.2f Gelem/s/core\n", bound);
    for (int t = 0; t < QT_COUNT; t++)
        if (ok && (qtypes[t].decode || qtypes[t].block_bytes == 0) &&
            make(&src, (enum qtype)t, false, &mem, &w))
            report(qtypes[t].name, &w, bound);
    if (ok && make(&src, QT_NF4, true, &mem, &w))
        report("nf4 nested", &w, bound);
    if (ok) {
        report_quantize("nf4", &(struct job){ &src, { QT_NF4, 64, false } });
        report_quantize("nf4 nested", &(struct job){ &src, { QT_NF4, 64, true } });
        report_quantize("fp4", &(struct job){ &src, { QT_FP4, 64, false } });
    }
    arena_release(&mem);
    return ok ? 0 : 1;
}
