#include "data/traced.h"

#include <string.h>

#include "core/mem.h"

void traced_release(struct traced *t)
{
    strbuf_release(&t->text);
    mem_free(t->at);
    *t = (struct traced){ 0 };
}

void traced_clear(struct traced *t)
{
    strbuf_clear(&t->text);
    t->failed = false;
}

/* Room for `extra` more origins; false when there is none or nothing is traced. */
static bool want_origins(struct traced *t, size_t extra)
{
    const size_t need = t->text.len + extra;

    if (!t->trace || t->failed)
        return false;
    if (need > t->at_cap) {
        const size_t cap = need + need / 2 + 64;
        size_t *p = mem_resize(t->at, t->text.len * sizeof *p, cap * sizeof *p);

        if (!p) {
            t->failed = true;
            return false;
        }
        t->at = p;
        t->at_cap = cap;
    }
    return true;
}

static void add_text(struct traced *t, const char *s, size_t len)
{
    strbuf_add(&t->text, s, len);
    t->failed |= t->text.failed;
}

void traced_add(struct traced *t, const char *s, size_t len, size_t origin)
{
    if (want_origins(t, len))
        for (size_t i = 0; i < len; i++)
            t->at[t->text.len + i] = origin;
    add_text(t, s, len);
}

void traced_add_run(struct traced *t, const char *s, size_t len, size_t origin)
{
    if (want_origins(t, len))
        for (size_t i = 0; i < len; i++)
            t->at[t->text.len + i] = origin + i;
    add_text(t, s, len);
}

void traced_copy(struct traced *t, const struct traced *from, size_t start, size_t len)
{
    if (len && want_origins(t, len))
        memcpy(t->at + t->text.len, from->at + start, len * sizeof *t->at);
    add_text(t, strbuf_str(&from->text) + start, len);
}

size_t traced_origin(const struct traced *t, size_t i)
{
    return t->trace && i < t->text.len ? t->at[i] : 0;
}
