/* Any bytes as a safetensors file: every byte of every tensor is looked at. */
#include <string.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static volatile unsigned sum;
    struct graft_err err = { 0 };
    struct store s;

    if (safetensors_parse("fuzz", data, size, &s, &err))
        return 0;
    for (int64_t i = 0; i < s.count; i++) {
        const struct stored_tensor *t = &s.tensor[i];
        const unsigned char *p = t->mat.data;

        for (size_t k = 0; k < t->bytes; k++)
            sum += p[k];
        if (store_find(&s, t->name) != t || qmat_elems(&t->mat) < 0)
            __builtin_trap();
    }
    store_release(&s);
    return 0;
}
