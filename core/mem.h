/* core/mem.h - the allocator all of Graft uses, and arenas over it.
 *
 * Every allocation goes through mem_alloc and its kin, so that a test can make the k-th one fail
 * for every k. Arenas hold what dies together: model (whole run), plan (the slab that every step
 * replays in), scratch (one call). */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include <stddef.h>
#include <stdint.h>

enum { MEM_ALIGN = 64 }; /* one cache line, one AVX-512 register */

/* Zeroed, aligned to MEM_ALIGN; NULL when there is no memory or the size overflows.
 * mem_alloc(0) returns a pointer that may be freed and not read. */
void *mem_alloc(size_t bytes);
void *mem_array(size_t count, size_t size);
/* Grow or shrink: contents kept up to the smaller size, the rest zeroed. On NULL `p` is untouched.
 */
void *mem_resize(void *p, size_t old_bytes, size_t new_bytes);
void mem_free(void *p);
/* Give freed memory that the C library keeps for later back to the system, where it can. */
void mem_trim(void);

/* Tests: let the k-th allocation from now fail (k from 1); 0 = none. mem_count() = allocations made
 * since the last call of mem_fail_at. */
void mem_fail_at(int64_t k);
int64_t mem_count(void);

/* A bump arena of chunks. ARENA_INIT or zeroed memory is an empty arena. */
struct arena {
    struct arena_chunk *last;
    size_t used; /* bytes handed out */
};
#define ARENA_INIT                                                                                 \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

/* Zeroed, aligned to MEM_ALIGN, lives until arena_release; NULL when there is no memory. */
void *arena_alloc(struct arena *a, size_t bytes);
void *arena_array(struct arena *a, size_t count, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Free everything; the arena is empty and usable again. */
void arena_release(struct arena *a);

#endif
