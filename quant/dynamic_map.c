/* Dynamic 8-bit maps, and absmax through them      Dettmers et al. 2021, 2023
 *
 * For e = 0..6 the interval [0.1, 1] is cut into k = 2^e (signed) or 2^(e+1) (unsigned) parts;
 * their midpoints times 10^(e-6), the negatives of these (signed), 0 and 1 make 256 values. */
#include <math.h>
#include <pthread.h>

#include "quant/quant.h"

enum { ZERO_SIGNED = 127, ZERO_UNSIGNED = 0, BLOCK = 256, EXPONENTS = 7 };

static float map_signed[256], map_unsigned[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Boundary i of n over [0.1, 1], counted from the nearer end, in float32: as torch.linspace does
 * it, whose last bits are part of the format. */
static float boundary(int i, int n)
{
    const float step = (1.0f - 0.1f) / (float)(n - 1);

    return i < n / 2 ? fmaf(step, (float)i, 0.1f) : fmaf(-step, (float)(n - 1 - i), 1.0f);
}

static void fill(float *map, int zero, bool negatives)
{
    static const float power[EXPONENTS] = { 1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f };
    int at = 1; /* distance from the zero: values come in ascending order */

    map[zero] = 0;
    for (int e = 0; e < EXPONENTS; e++) {
        const int k = negatives ? 1 << e : 2 << e;

        for (int i = 0; i < k; i++, at++) {
            const float mid = (boundary(i, k + 1) + boundary(i + 1, k + 1)) / 2.0f;

            map[zero + at] = mid * power[e];
            if (negatives)
                map[zero - at] = -map[zero + at];
        }
    }
    map[zero + at] = 1.0f;
}

static void fill_maps(void)
{
    fill(map_signed, ZERO_SIGNED, true);
    fill(map_unsigned, ZERO_UNSIGNED, false);
}

const float *dynamic_map_signed(void)
{
    pthread_once(&once, fill_maps);
    return map_signed;
}

const float *dynamic_map_unsigned(void)
{
    pthread_once(&once, fill_maps);
    return map_unsigned;
}

/* The entry nearest to v: seven halvings from the middle end at an even index, whose odd neighbours
 * are then compared through the midpoints. A value exactly between two entries takes the lower one,
 * as bitsandbytes' portable rule has it (a count of the midpoints below v); its CUDA search would
 * leave such a tie, about one absmax in a million, with the even one. NaN takes 0. */
static uint8_t nearest(const float *map, float v)
{
    int at = 127, low = 0, high = 255;

    for (int step = 64; step > 0; step /= 2) {
        if (v > map[at]) {
            low = at;
            at += step;
        } else {
            high = at;
            at -= step;
        }
    }
    if (v > map[at])
        return (uint8_t)(v > (map[at] + map[high]) * 0.5f ? high : at);
    return (uint8_t)(v <= (map[at] + map[low]) * 0.5f ? low : at);
}

/* The same, entry by entry. */
static uint8_t nearest_ref(const float *map, float v)
{
    int at = 0;

    for (; at < 255; at++) {
        const float mid = (map[at] + map[at + 1]) * 0.5f;

        if (!(v > mid))
            break;
    }
    return (uint8_t)at;
}

typedef uint8_t nearest_fn(const float *map, float v);

static void quantize_block(const float *absmax, int64_t n, float offset, uint8_t *absmax8,
                           float *absmax2, nearest_fn *nearest_of)
{
    const float *map = dynamic_map_signed();
    float most = 0, inv;

    for (int64_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(absmax[i] - offset));
    *absmax2 = most;
    inv = 1.0f / most;
    for (int64_t i = 0; i < n; i++)
        absmax8[i] = nearest_of(map, (absmax[i] - offset) * inv);
}

void absmax_quantize_at(const float *absmax, int64_t nb, float offset, uint8_t *absmax8,
                        float *absmax2)
{
#pragma omp parallel for schedule(static) if (nb > 16 * BLOCK)
    for (int64_t i = 0; i < nb; i += BLOCK)
        quantize_block(absmax + i, nb - i < BLOCK ? nb - i : BLOCK, offset, absmax8 + i,
                       absmax2 + i / BLOCK, nearest);
}

void absmax_quantize_at_ref(const float *absmax, int64_t nb, float offset, uint8_t *absmax8,
                            float *absmax2)
{
    for (int64_t i = 0; i < nb; i += BLOCK)
        quantize_block(absmax + i, nb - i < BLOCK ? nb - i : BLOCK, offset, absmax8 + i,
                       absmax2 + i / BLOCK, nearest_ref);
}

void absmax_quantize(const float *absmax, int64_t nb, uint8_t *absmax8, float *absmax2,
                     float *offset)
{
    double sum = 0;

    for (int64_t i = 0; i < nb; i++)
        sum += (double)absmax[i];
    *offset = nb ? (float)(sum / (double)nb) : 0.0f;
    absmax_quantize_at(absmax, nb, *offset, absmax8, absmax2);
}
