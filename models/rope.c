/* Rotary frequencies: transformers' modeling_rope_utils.py, all types, f32 as there.
 *
 * default   base^(-i / d), i = 0, 2 .. d - 2
 * linear    default / factor
 * dynamic   default up to L0 = max_position_embeddings, then base grows with the length
 * yarn      a ramp between default and default / factor by wavelength; cos and sin scaled
 * longrope  default divided by a list of factors, another list beyond the original length; scaled
 * llama3    long waves / factor, short ones kept, a smooth mix between */
#include <math.h>
#include <string.h>

#include "models/config.h"

static const double TWO_PI = 6.283185307179586;

static float default_freq(double theta, int64_t i, int64_t dim)
{
    /* the exponent is rounded to f32 first, as torch computes it */
    return 1.0f / powf((float)theta, (float)(2 * i) / (float)dim);
}

static double yarn_mscale(double factor, double m)
{
    return factor <= 1 ? 1.0 : 0.1 * m * log(factor) + 1.0;
}

static double yarn_attention(const struct rope_config *r, double factor)
{
    if (!isnan(r->attention_factor))
        return r->attention_factor;
    if (r->mscale != 0 && r->mscale_all_dim != 0)
        return yarn_mscale(factor, r->mscale) / yarn_mscale(factor, r->mscale_all_dim);
    return yarn_mscale(factor, 1.0);
}

/* The channel whose wave turns `rotations` times in the original length. */
static double yarn_channel(double rotations, int64_t dim, double theta, double length)
{
    return (double)dim * log(length / (rotations * TWO_PI)) / (2.0 * log(theta));
}

static void yarn(const struct model_config *c, int64_t dim, float *inv, struct rope *out)
{
    const struct rope_config *r = &c->rope;
    const double length = r->original_max > 0 ? r->original_max : (double)c->max_positions;
    const double factor = !isnan(r->factor) ? r->factor : (double)c->max_positions / length;
    double low = yarn_channel(r->beta_fast, dim, r->theta, length);
    double high = yarn_channel(r->beta_slow, dim, r->theta, length);

    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)dim - 1);
    if (low == high)
        high += 0.001;
    for (int64_t j = 0; j < dim / 2; j++) {
        const float ramp = fminf(fmaxf(((float)j - (float)low) / (float)(high - low), 0), 1);
        const float pos = powf((float)r->theta, (float)(2 * j) / (float)dim);
        const float keep = 1.0f - ramp;

        inv[j] = 1.0f / ((float)factor * pos) * (1.0f - keep) + 1.0f / pos * keep;
    }
    if (!isnan(r->factor) && fabs(factor * length - (double)c->max_positions) > 0.5)
        graft_note(
            "rope_scaling: factor %g times original length %g is not max_position_embeddings "
            "%lld; the factor is taken, some versions of transformers take the ratio",
            factor, length, (long long)c->max_positions);
    out->scale = (float)yarn_attention(r, factor);
}

static void llama3(const struct rope_config *r, int64_t half, float *inv)
{
    for (int64_t j = 0; j < half; j++) {
        const float wave = (float)TWO_PI / inv[j];
        const float low = (float)(r->original_max / r->low_freq_factor);
        const float high = (float)(r->original_max / r->high_freq_factor);

        if (wave > low) {
            inv[j] = inv[j] / (float)r->factor;
        } else if (wave >= high) {
            const float s = ((float)r->original_max / wave - (float)r->low_freq_factor) /
                            (float)(r->high_freq_factor - r->low_freq_factor);

            inv[j] = (1.0f - s) * inv[j] / (float)r->factor + s * inv[j];
        }
    }
}

static enum graft_status longrope(const struct model_config *c, int64_t half, float *inv,
                                  float *inv_long, struct rope *out, struct graft_err *err)
{
    const struct rope_config *r = &c->rope;
    const double original = r->original_max > 0 ? r->original_max : (double)c->max_positions;
    const double factor = !isnan(r->factor) ? r->factor : (double)c->max_positions / original;

    if (!r->short_factor || !r->long_factor || r->factors != half)
        return graft_fail(
            err, GRAFT_EFORMAT,
            "rope_scaling longrope: short_factor and long_factor need %lld entries each",
            (long long)half);
    for (int64_t j = 0; j < half; j++) {
        inv_long[j] = inv[j] / r->long_factor[j];
        inv[j] = inv[j] / r->short_factor[j];
    }
    out->long_inv_freq = inv_long;
    out->long_after = (int64_t)original;
    if (!isnan(r->attention_factor))
        out->scale = (float)r->attention_factor;
    else if (factor > 1)
        out->scale = (float)sqrt(1.0 + log(factor) / log(original));
    return GRAFT_OK;
}

enum graft_status rope_make(const struct model_config *c, struct arena *mem, struct rope *out,
                            struct graft_err *err)
{
    const struct rope_config *r = &c->rope;
    const int64_t dim = (int64_t)((double)c->head_dim * r->partial), half = dim / 2;
    float *inv = arena_array(mem, (size_t)half, sizeof *inv);
    float *inv_long = arena_array(mem, (size_t)half, sizeof *inv);

    if (!inv || !inv_long)
        return graft_fail_nomem(err, "rotary frequencies", (size_t)half * 8);
    *out = (struct rope){ .half = half, .inv_freq = inv, .scale = 1.0f };
    for (int64_t j = 0; j < half; j++)
        inv[j] = default_freq(r->theta, j, dim);
    switch (r->type) {
    case ROPE_DEFAULT:
        break;
    case ROPE_LINEAR:
        for (int64_t j = 0; j < half; j++)
            inv[j] /= (float)r->factor;
        break;
    case ROPE_DYNAMIC:
        out->dynamic_factor = r->factor;
        out->base = r->theta;
        out->dynamic_after = c->max_positions;
        break;
    case ROPE_YARN:
        yarn(c, dim, inv, out);
        break;
    case ROPE_LONGROPE:
        GRAFT_TRY(longrope(c, half, inv, inv_long, out, err));
        break;
    case ROPE_LLAMA3:
        llama3(r, half, inv);
        break;
    }
    if (r->divisor) {
        if (r->factors != half)
            return graft_fail(err, GRAFT_EFORMAT, "rope_freqs.weight has %lld entries, wanted %lld",
                              (long long)r->factors, (long long)half);
        for (int64_t j = 0; j < half; j++)
            inv[j] /= r->divisor[j];
    }
    return GRAFT_OK;
}
