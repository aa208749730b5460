/* out = cos | sin of the angles pos * inv_freq, times the attention factor   Su et al. 2021
 *
 * pos: (N), of the pass   out: (N, 2 * half), always f32
 * Frequencies depend on the length L of the segment (its last position and one): long_inv_freq
 * where L > long_after (Phi-3, Ding et al. 2024); dynamic NTK where L > L0: base' = base ((f L /
 * L0) - (f - 1))^(d / (d - 2)),  inv_freq[i] = base'^(-2i / d),  d = 2 half The angle is rounded to
 * f32 first, as transformers does. No inputs, so no gradient. */
#include "autograd/ops/op.h"

#include <math.h>

enum graft_status rope_angles_infer(struct node *n, struct graft_err *err)
{
    const struct rope *r = n->args.angles.rope;
    struct tensor *out = n->out;

    if (r->half < 1 || !r->inv_freq)
        return graft_fail(err, GRAFT_EARG, "rope: no frequencies");
    if (r->dynamic_factor > 0 && (r->half < 2 || r->dynamic_after < 1))
        return graft_fail(err, GRAFT_EARG,
                          "rope: dynamic scaling wants more than one frequency "
                          "and the length from which it holds");
    out->ndim = 2;
    out->dim[0] = graph_max_tokens(n->g);
    out->dim[1] = 2 * r->half;
    out->dtype = DT_F32;
    out->per_token = true;
    return GRAFT_OK;
}

static void grown_frequencies(const struct rope *r, int64_t length, float *inv_freq)
{
    const double d = 2.0 * (double)r->half, f = r->dynamic_factor;
    const double ratio = f * (double)length / (double)r->dynamic_after - (f - 1.0);
    const double base = r->base * pow(ratio, d / (d - 2.0));

    for (int64_t i = 0; i < r->half; i++)
        inv_freq[i] = (float)(1.0 / pow(base, 2.0 * (double)i / d));
}

enum table { TABLE_SHORT, TABLE_LONG, TABLE_GROWN };

/* By the last position: tokens in the cache and those that stand before the record are counted. */
static int64_t total_length(const struct graph_input *in, int64_t s)
{
    return in->start[s + 1] > in->start[s] ? (int64_t)in->pos[in->start[s + 1] - 1] + 1 : 0;
}

static enum table table_for(const struct rope *r, int64_t length)
{
    if (r->dynamic_factor > 0 && length > r->dynamic_after)
        return TABLE_GROWN;
    return r->long_inv_freq && r->long_after > 0 && length > r->long_after ? TABLE_LONG
                                                                           : TABLE_SHORT;
}

/* Neighbouring segments of one table go in one call; a grown table is a segment's own. */
void rope_angles_forward(struct node *n)
{
    const struct rope *r = n->args.angles.rope;
    const struct graph_input *in = node_input(n);
    float *out = n->out->data, *grown = node_scratch(n);

    for (int64_t s = 0, end; s < in->segments; s = end) {
        const enum table table = table_for(r, total_length(in, s));
        const int64_t first = in->start[s];
        const float *f = table == TABLE_LONG ? r->long_inv_freq : r->inv_freq;

        end = s + 1;
        if (table == TABLE_GROWN) {
            grown_frequencies(r, total_length(in, s), grown);
            f = grown;
        } else {
            while (end < in->segments && table_for(r, total_length(in, end)) == table)
                end++;
        }
        node_backend(n)->rope_angles(in->start[end] - first, r->half, in->pos + first, f, r->scale,
                                     out + first * 2 * r->half);
    }
}

size_t rope_angles_scratch(const struct node *n)
{
    return (size_t)n->args.angles.rope->half * sizeof(float);
}

struct tensor *op_rope_angles(struct graph *g, const struct rope *rope)
{
    const union op_args args = { .angles = { rope } };

    return graph_node(g, OP_ROPE_ANGLES, &args, 0, NULL);
}
