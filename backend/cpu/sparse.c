/* Products with a sparse matrix S (O, I) of few values: tokens stand side by side in vector lanes.
 *
 *     y (n, O) = acc + x S^T      dx (n, I) += dy S      dv[k] += sum_t dy[t][row k] x[t][column k]
 *
 * A tile of TOKENS rows of x lies transposed, so that one value of S multiplies TOKENS tokens with
 * one load; a token's sum runs over the values of a row in their order, whatever stands beside it.
 * Gradients of the values (Gale et al. 2020 call it sampled dense-dense product) take tiles of
 * SAMPLED tokens; each is the work of one thread, tile after tile. */
#include <omp.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/row.h"
#include "backend/cpu/tile.h"
#include "quant/simd.h"

enum {
    TOKENS = 32,
    FEW = 4, /* tokens below which they are not transposed */
    SAMPLED = 128,
    LANES = 16,
    STRIP = 128, /* rows of S or columns of x that lie in a buffer on the stack */
    ROWS_AT_ONCE = 64
};

/* Loads and stores need no alignment. */
typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

_Static_assert(TOKENS == 2 * LANES, "two vectors of sums stay in registers");

size_t sparse_scratch_cpu(int64_t in, int64_t out, int lanes)
{
    const int64_t side = in > out ? in : out;
    const int64_t tiles = (int64_t)lanes * side * TOKENS, sampled = (in + out) * SAMPLED;

    return (size_t)max64(tiles, sampled) * sizeof(float);
}

/* yt (end - o, TOKENS) = rows [o, end) of S times xt (I, TOKENS) */
SIMD_INLINE void product_body(const struct csr *s, const float *v, int64_t o, int64_t end,
                              const float *xt, float *yt)
{
    for (; o < end; o++, yt += TOKENS) {
        vec a = { 0 }, b = { 0 };

        for (int64_t k = s->row_offs[o]; k < s->row_offs[o + 1]; k++) {
            const float *x = xt + (int64_t)s->col_idx[k] * TOKENS;

            a += v[k] * *(const vec *)x;
            b += v[k] * *(const vec *)(x + LANES);
        }
        *(vec *)yt = a;
        *(vec *)(yt + LANES) = b;
    }
}

/* dxt (I, TOKENS) += S^T dyt, dyt (end - o, TOKENS) of the rows [o, end) of S */
SIMD_INLINE void spread_body(const struct csr *s, const float *v, int64_t o, int64_t end,
                             const float *dyt, float *dxt)
{
    for (; o < end; o++, dyt += TOKENS) {
        const vec a = *(const vec *)dyt, b = *(const vec *)(dyt + LANES);

        for (int64_t k = s->row_offs[o]; k < s->row_offs[o + 1]; k++) {
            float *dx = dxt + (int64_t)s->col_idx[k] * TOKENS;

            *(vec *)dx += v[k] * a;
            *(vec *)(dx + LANES) += v[k] * b;
        }
    }
}

/* y = rows [o, end) of S times x (I) of one token: the same sums as above */
SIMD_INLINE void one_body(const struct csr *s, const float *v, int64_t o, int64_t end,
                          const float *x, float *y)
{
    for (; o < end; o++) {
        float a = 0;

        for (int64_t k = s->row_offs[o]; k < s->row_offs[o + 1]; k++)
            a += v[k] * x[s->col_idx[k]];
        *y++ = a;
    }
}

/* dv += dyt xt^T at the places of rows [o, end); both hold `vecs` vectors of tokens a row */
SIMD_INLINE void sample_body(const struct csr *s, int64_t o, int64_t end, int vecs,
                             const float *dyt, const float *xt, float *dv)
{
    for (; o < end; o++) {
        const float *dy = dyt + o * SAMPLED;

        for (int64_t k = s->row_offs[o]; k < s->row_offs[o + 1]; k++) {
            const float *x = xt + (int64_t)s->col_idx[k] * SAMPLED;
            vec sum = { 0 };
            float lane[LANES];

            for (int i = 0; i < vecs; i++)
                sum += *(const vec *)(dy + i * LANES) * *(const vec *)(x + i * LANES);
            memcpy(lane, &sum, sizeof lane);
            for (int w = LANES / 2; w > 0; w /= 2)
                for (int i = 0; i < w; i++)
                    lane[i] += lane[i + w];
            dv[k] += lane[0];
        }
    }
}

SIMD_FUNCTION(static, product, product_body,
              (const struct csr *s, const float *v, int64_t o, int64_t end, const float *xt,
               float *yt),
              (s, v, o, end, xt, yt))
SIMD_FUNCTION(static, spread, spread_body,
              (const struct csr *s, const float *v, int64_t o, int64_t end, const float *dyt,
               float *dxt),
              (s, v, o, end, dyt, dxt))
SIMD_FUNCTION(static, one, one_body,
              (const struct csr *s, const float *v, int64_t o, int64_t end, const float *x,
               float *y),
              (s, v, o, end, x, y))
SIMD_FUNCTION(static, sample, sample_body,
              (const struct csr *s, int64_t o, int64_t end, int vecs, const float *dyt,
               const float *xt, float *dv),
              (s, o, end, vecs, dyt, xt, dv))

/* Columns [c, c + cols) of the m rows of x (., ld) from row t on, transposed: xt (cols, ldt),
 * tokens m to `pad` are 0. cols <= STRIP where x is bf16. */
static void transpose(struct act x, int64_t ld, int64_t t, int64_t m, int64_t c, int64_t cols,
                      int64_t pad, float *xt, int64_t ldt)
{
    float rows[TOKENS * STRIP];

    if (!x.is_bf16) {
        tile_transpose(m, cols, (const float *)x.data + t * ld + c, ld, pad, xt, ldt);
        return;
    }
    for (int64_t i = 0; i < pad; i += TOKENS) {
        const int64_t part = i < m ? min64(TOKENS, m - i) : 0;

        for (int64_t r = 0; r < part; r++)
            bf16_widen(cols, (const uint16_t *)x.data + (t + i + r) * ld + c, rows + r * STRIP);
        tile_transpose(part, cols, rows, STRIP, min64(TOKENS, pad - i), xt + i, ldt);
    }
}

/* Strips [from, to) of x's rows [t, t + m). */
static void transpose_strips(struct act x, int64_t C, int64_t t, int64_t m, int64_t pad, float *xt,
                             int64_t ldt, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        transpose(x, C, t, m, i * STRIP, min64(STRIP, C - i * STRIP), pad, xt + i * STRIP * ldt,
                  ldt);
}

static int64_t strips(int64_t C)
{
    return (C + STRIP - 1) / STRIP;
}

/* Elements [at, at + n) of y = those of acc + p. */
static void add_piece(struct act acc, struct act y, int64_t at, int64_t n, const float *p)
{
    float old[STRIP], sum[STRIP];
    const float *a = piece_get(acc, at, n, old);
    float *to = piece_room(y, at, sum);

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        to[i] = a[i] + p[i];
    piece_put(y, at, n, to);
}

static void one_token(const struct csr *s, const float *v, struct act x, struct act acc,
                      struct act y, int64_t t, int64_t o)
{
    const int64_t I = s->cols, rows = min64(STRIP, s->rows - o);
    const float *row = (const float *)x.data + t * I;
    float sum[STRIP];

    one(s, v, o, o + rows, row, sum);
    add_piece(acc, y, t * s->rows + o, rows, sum);
}

/* Rows of S are shared out: too few tokens to share them. */
static void few_tokens(int64_t n, const struct csr *s, const float *v, struct act x, struct act acc,
                       struct act y, float *wide)
{
    const struct act rows = x.is_bf16 ? (struct act){ wide, 0 } : x;

    if (x.is_bf16)
        bf16_widen(n * s->cols, x.data, wide);
#pragma omp parallel for schedule(static) if (n * s->row_offs[s->rows] > PARALLEL_MIN)
    for (int64_t i = 0; i < strips(s->rows); i++)
        for (int64_t t = 0; t < n; t++)
            one_token(s, v, rows, acc, y, t, i * STRIP);
}

static void tile_forward(const struct csr *s, const float *v, struct act x, struct act acc,
                         struct act y, int64_t t, int64_t m, float *xt)
{
    float yt[STRIP * TOKENS], rows[TOKENS * STRIP];

    transpose_strips(x, s->cols, t, m, TOKENS, xt, TOKENS, 0, strips(s->cols));
    for (int64_t o = 0; o < s->rows; o += STRIP) {
        const int64_t count = min64(STRIP, s->rows - o);

        product(s, v, o, o + count, xt, yt);
        tile_transpose(count, TOKENS, yt, TOKENS, count, rows, STRIP);
        for (int64_t i = 0; i < m; i++)
            add_piece(acc, y, (t + i) * s->rows + o, count, rows + i * STRIP);
    }
}

void sparse_xst_cpu(int64_t n, const struct csr *s, const float *v, struct act x, struct act acc,
                    struct act y, int lanes, void *scratch)
{
    const int64_t tiles = (n + TOKENS - 1) / TOKENS;
    const int threads = (int)min64(min64(lanes, omp_get_max_threads()), max64(1, tiles));

    if (n < FEW) {
        few_tokens(n, s, v, x, acc, y, scratch);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < tiles; i++)
        tile_forward(s, v, x, acc, y, i * TOKENS, min64(TOKENS, n - i * TOKENS),
                     (float *)scratch + omp_get_thread_num() * s->cols * TOKENS);
}

static void tile_backward(const struct csr *s, const float *v, const float *dy, float *dx,
                          int64_t t, int64_t m, float *dxt)
{
    float dyt[STRIP * TOKENS], rows[TOKENS * STRIP];
    const struct act grad = { (void *)(uintptr_t)dy, 0 };

    memset(dxt, 0, (size_t)(s->cols * TOKENS) * sizeof *dxt);
    for (int64_t o = 0; o < s->rows; o += STRIP) {
        const int64_t count = min64(STRIP, s->rows - o);

        transpose(grad, s->rows, t, m, o, count, TOKENS, dyt, TOKENS);
        spread(s, v, o, o + count, dyt, dxt);
    }
    for (int64_t c = 0; c < s->cols; c += STRIP) {
        const int64_t count = min64(STRIP, s->cols - c);

        tile_transpose(count, TOKENS, dxt + c * TOKENS, TOKENS, count, rows, STRIP);
        for (int64_t i = 0; i < m; i++) {
            float *to = dx + (t + i) * s->cols + c;

#pragma omp simd
            for (int64_t k = 0; k < count; k++)
                to[k] += rows[i * STRIP + k];
        }
    }
}

void sparse_xs_cpu(int64_t n, const struct csr *s, const float *v, const float *dy, float *dx,
                   int lanes, void *scratch)
{
    const int64_t tiles = (n + TOKENS - 1) / TOKENS;
    const int threads = (int)min64(min64(lanes, omp_get_max_threads()), max64(1, tiles));

#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < tiles; i++)
        tile_backward(s, v, dy, dx, i * TOKENS, min64(TOKENS, n - i * TOKENS),
                      (float *)scratch + omp_get_thread_num() * s->cols * TOKENS);
}

void sparse_sample_cpu(int64_t n, const struct csr *s, const float *dy, struct act x, float *dv,
                       void *scratch)
{
    const struct act grad = { (void *)(uintptr_t)dy, 0 };
    const int64_t out = strips(s->rows), all = out + strips(s->cols);
    float *dyt = scratch, *xt = dyt + s->rows * SAMPLED;

    for (int64_t t = 0; t < n; t += SAMPLED) {
        const int64_t m = min64(SAMPLED, n - t), vecs = (m + LANES - 1) / LANES;

#pragma omp parallel
        {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < all; i++)
                if (i < out)
                    transpose_strips(grad, s->rows, t, m, vecs * LANES, dyt, SAMPLED, i, i + 1);
                else
                    transpose_strips(x, s->cols, t, m, vecs * LANES, xt, SAMPLED, i - out,
                                     i - out + 1);
#pragma omp for schedule(dynamic)
            for (int64_t o = 0; o < s->rows; o += ROWS_AT_ONCE)
                sample(s, o, min64(s->rows, o + ROWS_AT_ONCE), (int)vecs, dyt, xt, dv);
        }
    }
}

SIMD_INLINE void square_body(int64_t n, const float *restrict x, float *restrict y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i] * x[i];
}

SIMD_FUNCTION(static, square, square_body, (int64_t n, const float *x, float *y), (n, x, y))

void add_square_cpu(int64_t n, const float *x, float *y)
{
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += PIECE)
        square(min64(PIECE, n - i), x + i, y + i);
}
