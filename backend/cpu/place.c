/* Rows and columns of some tokens that stand in for others. */
#include "backend/cpu/kernels.h"
#include "backend/cpu/row.h"

void place_rows_cpu(int64_t n, int64_t C, const int32_t *place, const float *rows, float scale,
                    struct act y)
{
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        for (int64_t c = 0; place[t] >= 0 && c < C; c += PIECE) {
            _Alignas(64) float buf[PIECE];
            const int64_t m = min64(PIECE, C - c);
            const float *from = rows + place[t] * C + c;
            float *to = piece_room(y, t * C + c, buf);

            for (int64_t i = 0; i < m; i++)
                to[i] = scale * from[i];
            piece_put(y, t * C + c, m, to);
        }
    }
}

/* Threads share the columns, not the tokens: one token may stand in many places. */
void place_rows_backward_cpu(int64_t n, int64_t C, const int32_t *place, float scale, float *dy,
                             float *dx, float *drows)
{
    enum { COLUMNS = 64 };

#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t c0 = 0; c0 < C; c0 += COLUMNS) {
        const int64_t c1 = min64(C, c0 + COLUMNS);

        for (int64_t t = 0; t < n; t++) {
            float *g = dy + t * C;

            if (place[t] >= 0) {
                for (int64_t c = c0; drows && c < c1; c++)
                    drows[place[t] * C + c] += scale * g[c];
                for (int64_t c = c0; dx == dy && c < c1; c++)
                    g[c] = 0;
            } else if (dx && dx != dy) {
                for (int64_t c = c0; c < c1; c++)
                    dx[t * C + c] += g[c];
            }
        }
    }
}

void place_columns_cpu(int64_t n, int64_t V, int64_t P, const int32_t *id, struct act columns,
                       struct act y)
{
#pragma omp parallel for schedule(static) if (n * P > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        for (int64_t k = 0; k < P; k++) {
            float x;
            const float *from = piece_get(columns, t * P + k, 1, &x);
            float *to = piece_room(y, t * V + id[k], &x);

            *to = *from;
            piece_put(y, t * V + id[k], 1, to);
        }
    }
}

void place_columns_backward_cpu(int64_t n, int64_t V, int64_t P, const int32_t *id,
                                const int32_t *place, float *dy, float *dx, float *dcolumns)
{
#pragma omp parallel for schedule(static) if (n * (dx ? V : P) > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        float *g = dy + t * V;

        for (int64_t k = 0; dcolumns && k < P; k++)
            dcolumns[t * P + k] += g[id[k]];
        for (int64_t k = 0; dx == dy && k < P; k++)
            g[id[k]] = 0;
        for (int64_t v = 0; dx && dx != dy && v < V; v++)
            dx[t * V + v] += place[v] < 0 ? g[v] : 0.0f;
    }
}
