#include "peft/slot.h"

void slot_decode_rows(const struct slot *s, int64_t first, int64_t n, float *out)
{
    qmat_decode(s->w, first * s->in, n * s->in, out);
}
