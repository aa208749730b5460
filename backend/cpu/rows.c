/* Moving rows and columns. */
#include "backend/cpu/kernels.h"
#include "backend/cpu/row.h"

static void copy_piece(struct act x, int64_t from, struct act y, int64_t to, int64_t n)
{
    if (x.is_bf16 == y.is_bf16) {
        const size_t size = x.is_bf16 ? 2 : 4;

        memcpy((char *)y.data + (size_t)to * size, (const char *)x.data + (size_t)from * size,
               (size_t)n * size);
        return;
    }
    for (int64_t i = 0; i < n; i += PIECE) {
        _Alignas(64) float bx[PIECE], by[PIECE];
        const int64_t m = min64(PIECE, n - i);
        const float *px = piece_get(x, from + i, m, bx);
        float *py = piece_room(y, to + i, by);

        memcpy(py, px, (size_t)m * sizeof *py);
        piece_put(y, to + i, m, py);
    }
}

void copy_columns_cpu(int64_t n, int64_t C, struct act x, int64_t ldx, int64_t xc, struct act y,
                      int64_t ldy, int64_t yc)
{
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++)
        copy_piece(x, t * ldx + xc, y, t * ldy + yc, C);
}

void add_columns_cpu(int64_t n, int64_t C, const float *x, int64_t ldx, int64_t xc, float *y,
                     int64_t ldy, int64_t yc)
{
    if (!y)
        return;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            y[t * ldy + yc + c] += x[t * ldx + xc + c];
    }
}

void gather_rows_cpu(int64_t n, int64_t C, const int64_t *index, struct act x, struct act y)
{
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++)
        copy_piece(x, index[t] * C, y, t * C, C);
}

void scatter_add_rows_cpu(int64_t n, int64_t C, const int64_t *index, float scale, const float *x,
                          float *y)
{
    if (!y)
        return;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        float *to = y + index[t] * C;

#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            to[c] += scale * x[t * C + c];
    }
}

void kv_append_cpu(int64_t n, int64_t C, struct act x, int64_t first_row, float *rows)
{
    const struct act to = { rows, 0 };

    copy_piece(x, first_row * C, to, 0, n * C);
}
