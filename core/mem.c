#include "core/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

static _Atomic int64_t fail_at, count;

void mem_fail_at(int64_t k)
{
    fail_at = k;
    count = 0;
}

int64_t mem_count(void)
{
    return count;
}

void *mem_alloc(size_t bytes)
{
    void *p;
    size_t whole;
    const int64_t k = atomic_fetch_add(&count, 1) + 1;

    if (k == fail_at || bytes > SIZE_MAX / 2)
        return NULL;
    whole = (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
    if (whole == 0)
        whole = MEM_ALIGN;
    p = aligned_alloc(MEM_ALIGN, whole);
    if (p)
        memset(p, 0, whole);
    return p;
}

void *mem_array(size_t count_, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count_, size, &bytes))
        return NULL;
    return mem_alloc(bytes);
}

void *mem_resize(void *p, size_t old_bytes, size_t new_bytes)
{
    void *q = mem_alloc(new_bytes);

    if (!q)
        return NULL;
    if (p)
        memcpy(q, p, old_bytes < new_bytes ? old_bytes : new_bytes);
    mem_free(p);
    return q;
}

void mem_free(void *p)
{
    free(p);
}

void mem_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

struct arena_chunk {
    struct arena_chunk *prev;
    size_t size, used; /* bytes of data behind the header */
};

/* What is LARGE gets a chunk of its size behind the one that is being filled, which goes on being
 * filled: tensors of a few hundred megabytes in all leave no part of every chunk empty. */
enum { HEADER = 64, CHUNK = 1 << 16, LARGE = CHUNK / 8 };
_Static_assert(sizeof(struct arena_chunk) <= HEADER, "the chunk header outgrew its place");

static struct arena_chunk *add_chunk(struct arena *a, size_t size, bool behind)
{
    struct arena_chunk *c = mem_alloc(HEADER + size);

    if (!c)
        return NULL;
    c->size = size;
    if (behind) {
        c->prev = a->last->prev;
        a->last->prev = c;
    } else {
        c->prev = a->last;
        a->last = c;
    }
    return c;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    struct arena_chunk *c = a->last;
    size_t whole;
    void *p;

    if (bytes > SIZE_MAX / 4)
        return NULL;
    whole = (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
    if (!c || c->size - c->used < whole) {
        c = add_chunk(a, whole > LARGE ? whole : CHUNK, c && whole > LARGE);
        if (!c)
            return NULL;
    }
    p = (char *)c + HEADER + c->used;
    c->used += whole;
    a->used += whole;
    return p;
}

void *arena_array(struct arena *a, size_t count_, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count_, size, &bytes))
        return NULL;
    return arena_alloc(a, bytes);
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
    char *p = arena_alloc(a, len + 1);

    if (p)
        memcpy(p, s, len);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, ap2;
    char *p = NULL;
    int n;

    va_start(ap, fmt);
    va_copy(ap2, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0)
        p = arena_alloc(a, (size_t)n + 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, ap2);
    va_end(ap2);
    va_end(ap);
    return p;
}

void arena_release(struct arena *a)
{
    for (struct arena_chunk *c = a->last, *prev; c; c = prev) {
        prev = c->prev;
        mem_free(c);
    }
    a->last = NULL;
    a->used = 0;
}
