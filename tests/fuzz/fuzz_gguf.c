/* Any bytes as a GGUF file: every key and every byte of every tensor is looked at. */
#include <string.h>

#include "io/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sum;

static void look_at_value(struct gguf *g, const struct gguf_value *v)
{
    struct graft_err err = { 0 };
    const struct gguf_string *list;
    const char *text;
    char key[64];
    int64_t n;
    double x;

    for (uint64_t k = 0; k < v->count; k++)
        sum += gguf_number_at(v, k) > 0;
    if (!gguf_strings(g, v, &list, &err))
        for (uint64_t k = 0; k < v->count; k++)
            for (uint64_t c = 0; c < list[k].len; c++)
                sum += (unsigned char)list[k].s[c];
    if (v->key.len >= sizeof key)
        return;
    memcpy(key, v->key.s, v->key.len);
    key[v->key.len] = '\0';
    if (gguf_find(g, key) != v)
        __builtin_trap();
    gguf_int(g, key, 0, &n, &err);
    gguf_float(g, key, 0, &x, &err);
    gguf_str(g, key, "", &text, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct graft_err err = { 0 };
    struct gguf g;

    if (gguf_parse("fuzz", data, size, &g, &err))
        return 0;
    for (int64_t i = 0; i < g.value_count; i++)
        look_at_value(&g, &g.value[i]);
    for (int64_t i = 0; i < g.store.count; i++) {
        const struct stored_tensor *t = &g.store.tensor[i];
        const unsigned char *p = t->mat.data;

        for (size_t k = 0; k < t->bytes; k++)
            sum += p[k];
        if (store_find(&g.store, t->name) != t || qmat_elems(&t->mat) < 0)
            __builtin_trap();
    }
    gguf_release(&g);
    return 0;
}
