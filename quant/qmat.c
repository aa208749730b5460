#include "quant/quant.h"

#include <omp.h>
#include <string.h>

#include "quant/lut4.h"

/* Elements a thread decodes at a time: a multiple of every block there is, and 64 KiB of f32, which
 * stay in its cache. */
enum { CHUNK = 16384, SCALES = 64, BLOCK_MIN = 32, BLOCK_MAX = 4096, BLOCK2 = 256 };

static int64_t ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

int64_t qmat_elems(const struct qmat *w)
{
    return w->rows * w->cols;
}

size_t qmat_data_bytes(const struct qmat *w)
{
    const struct qtype_info *t = &qtypes[w->type];
    const int64_t n = qmat_elems(w);

    return t->block_bytes ? (size_t)(n / t->block) * (size_t)t->block_bytes
                          : (size_t)ceil_div(n, 2);
}

size_t qmat_bytes(const struct qmat *w)
{
    int64_t nb;

    if (qtypes[w->type].block_bytes)
        return qmat_data_bytes(w);
    nb = ceil_div(qmat_elems(w), w->block);
    if (w->absmax)
        return qmat_data_bytes(w) + (size_t)nb * sizeof *w->absmax;
    return qmat_data_bytes(w) + (size_t)nb + (size_t)ceil_div(nb, w->block2) * sizeof *w->absmax2 +
           sizeof w->offset;
}

/* absmax of blocks [b, b + n) of a double-quantised matrix. */
static void restore_absmax(const struct qmat *w, int64_t b, int64_t n, float *out)
{
    while (n > 0) {
        const int64_t left = w->block2 - b % w->block2, run = n < left ? n : left;
        const float scale = w->absmax2[b / w->block2];

        for (int64_t j = 0; j < run; j++)
            out[j] = w->map8[w->absmax8[b + j]] * scale + w->offset;
        out += run;
        b += run;
        n -= run;
    }
}

static void decode_lut4(const struct qmat *w, int64_t first, int64_t n, float *out)
{
    if (w->absmax) {
        lut4_decode(out, w->data, first, n, w->block, w->absmax + first / w->block, w->lut);
        return;
    }
    while (n > 0) {
        const int64_t b = first / w->block, left = (b + SCALES) * w->block - first;
        const int64_t run = n < left ? n : left;
        float absmax[SCALES];

        restore_absmax(w, b, ceil_div(first + run, w->block) - b, absmax);
        lut4_decode(out, w->data, first, run, w->block, absmax, w->lut);
        out += run;
        first += run;
        n -= run;
    }
}

void qmat_decode(const struct qmat *w, int64_t first, int64_t n, float *out)
{
    const struct qtype_info *t = &qtypes[w->type];

    if (t->decode)
        t->decode(out, (const uint8_t *)w->data + first / t->block * t->block_bytes, n);
    else
        decode_lut4(w, first, n, out);
}

/* One f32 chunk for each thread. */
static float *chunk_buffers(struct graft_err *err)
{
    const size_t threads = (size_t)omp_get_max_threads();
    float *buffers = mem_array(threads, CHUNK * sizeof *buffers);

    if (!buffers)
        graft_fail_nomem(err, "decoding a matrix", threads * CHUNK * sizeof *buffers);
    return buffers;
}

static enum graft_status check_source(const struct qmat *src, struct graft_err *err)
{
    if (qtypes[src->type].decode || src->type == QT_NF4 || src->type == QT_FP4)
        return GRAFT_OK;
    return graft_fail(err, GRAFT_EARG, "a matrix of type %s holds no weights",
                      qtypes[src->type].name);
}

static enum graft_status check_spec(const struct quant_spec *spec, struct graft_err *err)
{
    if (spec->type != QT_NF4 && spec->type != QT_FP4)
        return graft_fail(err, GRAFT_EARG, "cannot quantise to %s; nf4 and fp4 are possible",
                          qtypes[spec->type].name);
    if (spec->block < BLOCK_MIN || spec->block > BLOCK_MAX || (spec->block & (spec->block - 1)))
        return graft_fail(err, GRAFT_EARG,
                          "quantisation block is %d; powers of two from %d to %d are possible",
                          spec->block, BLOCK_MIN, BLOCK_MAX);
    return GRAFT_OK;
}

static bool is_finite_bits(float x)
{
    uint32_t u;

    memcpy(&u, &x, 4);
    return (u & 0x7f800000) != 0x7f800000;
}

/* Index of the first value that is not finite, or n. */
static int64_t find_bad(const float *x, int64_t n)
{
    int64_t i = 0;

    while (i < n && is_finite_bits(x[i]))
        i++;
    return i;
}

/* Codes and f32 absmax of all of `src`; returns the index of the first value that is not finite, or
 * INT64_MAX. buffers: (threads, CHUNK) */
static int64_t quantize_all(const struct qmat *src, const struct quant_spec *spec, float *buffers,
                            uint8_t *codes, float *absmax)
{
    const int64_t n = qmat_elems(src);
    int64_t bad = INT64_MAX;

#pragma omp parallel for schedule(static) reduction(min : bad)
    for (int64_t first = 0; first < n; first += CHUNK) {
        const int64_t len = n - first < CHUNK ? n - first : CHUNK, b = first / spec->block;
        float *x = buffers + (int64_t)omp_get_thread_num() * CHUNK;

        qmat_decode(src, first, len, x);
        if (spec->type == QT_NF4)
            nf4_quantize(x, len, spec->block, codes + first / 2, absmax + b);
        else
            fp4_quantize(x, len, spec->block, codes + first / 2, absmax + b);
        /* a value that is not finite makes its block's absmax so */
        if (bad == INT64_MAX &&
            find_bad(absmax + b, ceil_div(len, spec->block)) < ceil_div(len, spec->block))
            bad = first + find_bad(x, len);
    }
    return bad;
}

/* Where the parts of a quantised matrix go before the matrix is handed over. */
struct parts {
    uint8_t *codes, *absmax8;
    float *absmax, *absmax2;
};

static enum graft_status alloc_parts(struct parts *p, int64_t n, int64_t nb, bool nested,
                                     struct arena *mem, struct graft_err *err)
{
    const size_t half = (size_t)ceil_div(n, 2), blocks = (size_t)nb;
    const size_t blocks2 = (size_t)ceil_div(nb, BLOCK2);

    p->codes = arena_alloc(mem, half);
    if (nested) {
        p->absmax = mem_array(blocks, sizeof *p->absmax); /* only until it is quantised */
        p->absmax8 = arena_alloc(mem, blocks);
        p->absmax2 = arena_array(mem, blocks2, sizeof *p->absmax2);
    } else {
        p->absmax = arena_array(mem, blocks, sizeof *p->absmax);
    }
    if (p->codes && p->absmax && (!nested || (p->absmax8 && p->absmax2)))
        return GRAFT_OK;
    return graft_fail_nomem(err, "a quantised matrix", half + blocks * sizeof *p->absmax);
}

enum graft_status qmat_quantize(const struct qmat *src, const struct quant_spec *spec,
                                struct arena *mem, struct qmat *out, struct graft_err *err)
{
    const int64_t n = qmat_elems(src);
    struct parts p = { NULL, NULL, NULL, NULL };
    struct qmat w = { .type = spec->type, .rows = src->rows, .cols = src->cols };
    float *buffers = NULL;
    enum graft_status st;
    int64_t bad, nb;

    GRAFT_TRY(check_source(src, err));
    GRAFT_TRY(check_spec(spec, err));
    nb = ceil_div(n, spec->block);
    st = alloc_parts(&p, n, nb, spec->nested, mem, err);
    if (st)
        goto out;
    buffers = chunk_buffers(err);
    if (!buffers) {
        st = GRAFT_ENOMEM;
        goto out;
    }
    bad = quantize_all(src, spec, buffers, p.codes, p.absmax);
    if (bad != INT64_MAX) {
        float value;

        qmat_decode_ref(src, bad, 1, &value);
        st = graft_fail(err, GRAFT_ERUN,
                        "element %lld (row %lld, column %lld) is %g; quantisation "
                        "needs finite values",
                        (long long)bad, (long long)(bad / src->cols), (long long)(bad % src->cols),
                        (double)value);
        goto out;
    }
    w.data = p.codes;
    w.block = spec->block;
    w.lut = spec->type == QT_NF4 ? nf4_lut : fp4_lut;
    if (spec->nested) {
        absmax_quantize(p.absmax, nb, p.absmax8, p.absmax2, &w.offset);
        w.block2 = BLOCK2;
        w.absmax8 = p.absmax8;
        w.absmax2 = p.absmax2;
        w.map8 = dynamic_map_signed();
    } else {
        w.absmax = p.absmax;
    }
    *out = w;
out:
    mem_free(buffers);
    if (spec->nested)
        mem_free(p.absmax);
    return st;
}

enum graft_status qmat_to_float(const struct qmat *src, enum qtype type, struct arena *mem,
                                struct qmat *out, struct graft_err *err)
{
    const struct qtype_info *t = &qtypes[type];
    const int64_t n = qmat_elems(src);
    uint8_t *data;
    float *buffers;

    GRAFT_TRY(check_source(src, err));
    if (!t->is_float)
        return graft_fail(err, GRAFT_EARG, "%s is not a float format; f32, f16 and bf16 are",
                          t->name);
    data = arena_array(mem, (size_t)n, (size_t)t->block_bytes);
    if (!data)
        return graft_fail_nomem(err, "a decoded matrix", (size_t)n * (size_t)t->block_bytes);
    buffers = chunk_buffers(err);
    if (!buffers)
        return GRAFT_ENOMEM;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < n; first += CHUNK) {
        const int64_t len = n - first < CHUNK ? n - first : CHUNK;
        float *x = buffers + (int64_t)omp_get_thread_num() * CHUNK;

        qmat_decode(src, first, len, x);
        t->encode(data + first * t->block_bytes, x, len);
    }
    mem_free(buffers);
    *out = (struct qmat){ .type = type, .rows = src->rows, .cols = src->cols, .data = data };
    return GRAFT_OK;
}
