#include "peft/prune.h"

#include <math.h>
#include <string.h>

#include "peft/largest.h"

struct prune prune_nothing(void)
{
    return (struct prune){ .density = 1 };
}

/* The k-th largest exactly, without sorting or copying: its bits are found 11, 10 and 10 at a time.
 */
struct prune prune_small(const float *x, int64_t n, int64_t k)
{
    enum { BINS = 1 << 11 };
    static const int bits[] = { 11, 10, 10 };
    struct prune p = { .density = 1, .small = true, .least = INFINITY };
    uint32_t found = 0;
    int shift = 31;

    if (k >= n)
        return prune_nothing();
    if (k <= 0)
        return p;
    for (int pass = 0; pass < 3; pass++) {
        int64_t count[BINS] = { 0 };
        const uint32_t mask = (1u << bits[pass]) - 1;

        for (int64_t i = 0; i < n; i++) /* those that agree so far */
            if ((uint64_t)magnitude(x[i]) >> shift == found)
                count[magnitude(x[i]) >> (shift - bits[pass]) & mask]++;
        shift -= bits[pass];
        found = found << bits[pass] | bin_of(count, mask + 1, &k);
    }
    memcpy(&p.least, &found, sizeof found);
    p.equals = k;
    return p;
}

struct prune prune_random(double density, uint64_t seed, const char *name, int index)
{
    struct prune p = { .density = density,
                       .random = density < 1,
                       .key = { seed, RNG_PRUNE, (uint32_t)index, 2166136261u } };

    for (; *name; name++)
        p.key.site = (p.key.site ^ (unsigned char)*name) * 16777619u;
    return p;
}

static bool stays(struct prune *p, int64_t i, float x)
{
    if (p->random)
        return (double)rng_uniform(p->key, (uint64_t)i) < p->density;
    if (!p->small || fabsf(x) > p->least)
        return true;
    return fabsf(x) == p->least && p->equals-- > 0;
}

void prune_values(struct prune *p, int64_t first, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++) {
        if (!stays(p, first + i, x[i]))
            x[i] = 0;
        else if (p->random)
            x[i] = (float)((double)x[i] / p->density);
    }
}

static int sign(double x)
{
    return (x > 0) - (x < 0);
}

static float merge_ties(const struct combine_input *in, int count, bool sign_by_count, int64_t n,
                        const float *x)
{
    double vote = 0, sum = 0;
    int elected, kept = 0;

    for (int i = 0; i < count; i++)
        vote += sign_by_count ? sign((double)x[i * n]) : (double)x[i * n];
    elected = vote >= 0 ? 1 : -1;
    for (int i = 0; i < count; i++)
        if (sign((double)x[i * n]) == elected) {
            sum += in[i].weight * (double)x[i * n];
            kept++;
        }
    return (float)(kept ? sum / kept : 0);
}

void prune_merge(const struct combine_input *in, int count, bool ties, bool sign_by_count,
                 int64_t n, const float *x, float *out)
{
    for (int64_t k = 0; k < n; k++) {
        double sum = 0;

        if (ties) {
            out[k] = merge_ties(in, count, sign_by_count, n, x + k);
            continue;
        }
        for (int i = 0; i < count; i++)
            sum += in[i].weight * (double)x[i * n + k];
        out[k] = (float)sum;
    }
}
