/* Rotary positions: angles once a pass, then a turn of each head's first channels. */
#include <math.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/math.h"
#include "backend/cpu/row.h"

/* The angle is rounded to f32 before cos and sin, as the models were trained. */
void rope_angles_cpu(int64_t n, int64_t half, const int32_t *pos, const float *inv_freq,
                     float scale, float *out)
{
#pragma omp parallel for schedule(static) if (n * half > 1024)
    for (int64_t t = 0; t < n; t++) {
        float *c = out + t * 2 * half, *s = c + half;

        for (int64_t i = 0; i < half; i++) {
            const float angle = (float)pos[t] * inv_freq[i];

            c[i] = cosf(angle) * scale;
            s[i] = sinf(angle) * scale;
        }
    }
}

SIMD_INLINE void turn_body(int64_t half, const float *x, const float *c, const float *s, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];

        y[i] = a * c[i] - b * s[i];
        y[i + half] = b * c[i] + a * s[i];
    }
}

/* dx += the turn by the opposite angle */
SIMD_INLINE void turn_back_body(int64_t half, const float *g, const float *c, const float *s,
                                float *dx)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        const float a = g[i], b = g[i + half];

        dx[i] += a * c[i] + b * s[i];
        dx[i + half] += b * c[i] - a * s[i];
    }
}

SIMD_FUNCTION(static, turn, turn_body,
              (int64_t half, const float *x, const float *c, const float *s, float *y),
              (half, x, c, s, y))
SIMD_FUNCTION(static, turn_back, turn_back_body,
              (int64_t half, const float *g, const float *c, const float *s, float *dx),
              (half, g, c, s, dx))

/* bf16 rows go through the stack, as many whole heads at once as fit: D <= PIECE (op_rope sees to
 * it). */
void rope_cpu(int64_t n, int64_t H, int64_t D, int64_t half, struct act x, const float *angles,
              struct act y)
{
    const int64_t step = max64(1, PIECE / D);

#pragma omp parallel for schedule(static) if (n * H * D > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        const float *c = angles + t * 2 * half;

        for (int64_t h = 0; h < H; h += step) {
            _Alignas(64) float bx[PIECE], by[PIECE];
            const int64_t heads = min64(step, H - h), at = (t * H + h) * D;
            const float *px = piece_get(x, at, heads * D, bx);
            float *py = piece_room(y, at, by);

            for (int64_t k = 0; k < heads; k++) {
                turn(half, px + k * D, c, c + half, py + k * D);
                if (px != py)
                    memcpy(py + k * D + 2 * half, px + k * D + 2 * half,
                           (size_t)(D - 2 * half) * sizeof *py);
            }
            piece_put(y, at, heads * D, py);
        }
    }
}

void rope_backward_cpu(int64_t n, int64_t H, int64_t D, int64_t half, const float *dy,
                       const float *angles, float *dx)
{
    if (!dx)
        return;
#pragma omp parallel for schedule(static) if (n * H * D > PARALLEL_MIN)
    for (int64_t t = 0; t < n; t++) {
        const float *c = angles + t * 2 * half;

        for (int64_t h = 0; h < H; h++) {
            const float *g = dy + (t * H + h) * D;
            float *to = dx + (t * H + h) * D;

            turn_back(half, g, c, c + half, to);
            for (int64_t i = 2 * half; i < D; i++)
                to[i] += g[i];
        }
    }
}
