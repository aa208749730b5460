/* Rows of a table by token id. */
#include "backend/cpu/kernels.h"
#include "backend/cpu/row.h"

/* [first, first + m) of row `row` as f32. GGUF blocks are decoded whole: PIECE is a multiple of
 * each block, and so is the row. */
static void table_piece(const struct qmat *table, int64_t row, int64_t first, int64_t m, float *out)
{
    qmat_decode(table, row * table->cols + first, m, out);
}

void embed_cpu(int64_t n, const int32_t *id, const struct qmat *table, const float *virtual_rows,
               int64_t P, float scale, struct act y)
{
    const int64_t C = table->cols;

#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        for (int64_t c = 0; c < C; c += PIECE) {
            _Alignas(64) float row[PIECE];
            const int64_t m = min64(PIECE, C - c), v = -1 - (int64_t)id[t];
            float *py = piece_room(y, t * C + c, row);

            if (id[t] >= 0 && id[t] < table->rows) {
                table_piece(table, id[t], c, m, py);
                for (int64_t i = 0; scale != 1.0f && i < m; i++)
                    py[i] *= scale;
            } else if (virtual_rows && v >= 0 && v < P) {
                memcpy(py, virtual_rows + v * C + c, (size_t)m * sizeof *py);
            } else {
                memset(py, 0, (size_t)m * sizeof *py);
            }
            piece_put(y, t * C + c, m, py);
        }
    }
}

void pick_columns_cpu(int64_t n, int64_t R, int64_t V, const int32_t *id, const float *a,
                      struct act y)
{
#pragma omp parallel for schedule(static) if (n * R > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        const bool real = id[t] >= 0 && id[t] < V;

        for (int64_t r0 = 0; r0 < R; r0 += PIECE) {
            _Alignas(64) float row[PIECE];
            const int64_t m = min64(PIECE, R - r0);
            float *py = piece_room(y, t * R + r0, row);

            for (int64_t r = 0; r < m; r++)
                py[r] = real ? a[(r0 + r) * V + id[t]] : 0.0f;
            piece_put(y, t * R + r0, m, py);
        }
    }
}

/* Threads share the rows of a, not the tokens: one id may stand in many places. */
void pick_columns_backward_cpu(int64_t n, int64_t R, int64_t V, const int32_t *id, const float *dy,
                               float *da)
{
#pragma omp parallel for schedule(static) if (n * R > PARALLEL_MIN)
    for (int64_t r = 0; r < R; r++)
        for (int64_t t = 0; t < n; t++)
            if (id[t] >= 0 && id[t] < V)
                da[r * V + id[t]] += dy[t * R + r];
}

/* Threads share the columns, not the tokens: one id may stand in many places. */
void embed_backward_cpu(int64_t n, int64_t C, const int32_t *id, int64_t V, int64_t P, float scale,
                        const float *dy, float *dtable, float *dvirtual)
{
    enum { COLUMNS = 64 };

#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t c0 = 0; c0 < C; c0 += COLUMNS) {
        const int64_t c1 = min64(C, c0 + COLUMNS);

        for (int64_t t = 0; t < n; t++) {
            const int64_t v = -1 - (int64_t)id[t];
            const bool real = id[t] >= 0;
            const float k = real ? scale : 1.0f;
            float *to = NULL;

            if (real && id[t] < V && dtable)
                to = dtable + id[t] * C;
            else if (!real && v < P && dvirtual)
                to = dvirtual + v * C;
            for (int64_t c = c0; to && c < c1; c++)
                to[c] += k * dy[t * C + c];
        }
    }
}
