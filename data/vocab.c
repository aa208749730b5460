#include "data/vocab.h"

#include <string.h>

#include "core/mem.h"

static uint32_t hash_text(const char *s, size_t len)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ len;

    while (len >= 8) {
        uint64_t w;

        memcpy(&w, s, 8);
        h = (h ^ w) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
        s += 8;
        len -= 8;
    }
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return (uint32_t)(h >> 32);
}

enum graft_status vocab_init(struct vocab *v, int64_t size, int64_t count, size_t bytes,
                             struct graft_err *err)
{
    const int64_t slack = 1 << 20; /* ids that models leave unused */
    uint32_t slots = 16;

    if (size > 2 * count + slack)
        return graft_fail(err, GRAFT_EFORMAT, "%lld tokens, but ids up to %lld", (long long)count,
                          (long long)size - 1);
    while (slots < 2 * (uint64_t)count)
        slots *= 2;
    v->size = size;
    v->mask = slots - 1;
    v->pool_size = bytes;
    v->token = mem_array((size_t)size, sizeof *v->token);
    v->slot = mem_array(slots, sizeof *v->slot);
    v->pool = mem_alloc(bytes);
    if (!v->token || !v->slot || !v->pool)
        return graft_fail_nomem(err, "the vocabulary", bytes + (size_t)size * sizeof *v->token);
    memset(v->slot, 0xff, slots * sizeof *v->slot);
    return GRAFT_OK;
}

void vocab_release(struct vocab *v)
{
    for (int64_t i = 0; v->token && i < v->size; i++)
        mem_free(v->token[i].shown);
    mem_free(v->token);
    mem_free(v->slot);
    mem_free(v->pool);
    *v = (struct vocab){ 0 };
}

void vocab_put(struct vocab *v, int32_t id, const char *s, size_t len, unsigned flags)
{
    struct token *t = &v->token[id];
    uint32_t i = hash_text(s, len) & v->mask;

    t->s = v->pool + v->pool_used;
    t->len = (uint32_t)len;
    t->flags = flags;
    if (len)
        memcpy(v->pool + v->pool_used, s, len);
    v->pool_used += len;
    while (v->slot[i] >= 0)
        i = (i + 1) & v->mask;
    v->slot[i] = id;
}

int32_t vocab_find(const struct vocab *v, const char *s, size_t len)
{
    for (uint32_t i = hash_text(s, len) & v->mask; v->slot[i] >= 0; i = (i + 1) & v->mask) {
        const struct token *t = &v->token[v->slot[i]];

        if (t->len == len && memcmp(t->s, s, len) == 0)
            return v->slot[i];
    }
    return -1;
}

int32_t vocab_find_model(const struct vocab *v, const char *s, size_t len)
{
    const int32_t id = vocab_find(v, s, len);

    return id >= 0 && v->token[id].flags & TOKEN_MODEL ? id : -1;
}
