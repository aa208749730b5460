#include "peft/slot.h"

#include <string.h>

void slot_decode_rows(const struct slot *s, int64_t first, int64_t n, float *out)
{
    qmat_decode(s->w, first * s->in, n * s->in, out);
}

void slot_bias(const struct slot *s, float *out)
{
    memcpy(out, s->bias, (size_t)s->out * sizeof *out);
}

void slot_vector(const struct slot *s, float *out)
{
    memcpy(out, s->vector, (size_t)s->out * sizeof *out);
}

bool slot_is_float(const struct slot *s)
{
    return qtypes[s->w->type].is_float;
}
