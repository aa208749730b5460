/* Offsets: largest buffers first, each into the tightest gap among those that live with it (greedy
 * by size; Pisarchyk and Lee 2020, arXiv:2001.03288). Ties go by birth, then by number, so the same
 * graph always gets the same offsets. */
#include <stdlib.h>
#include <string.h>

#include "autograd/plan.h"

static int by_size(const void *pa, const void *pb)
{
    const struct pack_item *a = pa, *b = pb;

    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? 1 : -1;
    if (a->birth != b->birth)
        return a->birth < b->birth ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* The lowest tight gap for `b` among `count` buffers placed so far, which are sorted by offset. */
static size_t find_gap(const struct graph *g, const struct buffer *b, int count)
{
    size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;

    for (int i = 0; i < count; i++) {
        const struct buffer *o = &g->buf[g->placed[i]];

        if (o->death < b->birth || b->death < o->birth)
            continue;
        if (o->off >= end + b->bytes && o->off - end < best_gap) {
            best = end;
            best_gap = o->off - end;
        }
        if (o->off + o->bytes > end)
            end = o->off + o->bytes;
    }
    return best == SIZE_MAX ? end : best;
}

static void insert_placed(struct graph *g, int index, int count)
{
    int lo = 0, hi = count;

    while (lo < hi) {
        const int mid = (lo + hi) / 2;

        if (g->buf[g->placed[mid]].off <= g->buf[index].off)
            lo = mid + 1;
        else
            hi = mid;
    }
    memmove(g->placed + lo + 1, g->placed + lo, (size_t)(count - lo) * sizeof *g->placed);
    g->placed[lo] = index;
}

size_t pack_buffers(struct graph *g)
{
    size_t slab = 0;
    int items = 0;

    for (int i = 0; i < g->bufs; i++)
        if (g->buf[i].root == i)
            g->item[items++] = (struct pack_item){ g->buf[i].bytes, g->buf[i].birth, i };
    qsort(g->item, (size_t)items, sizeof *g->item, by_size);
    for (int i = 0; i < items; i++) {
        struct buffer *b = &g->buf[g->item[i].index];

        b->off = find_gap(g, b, i);
        if (b->off + b->bytes > slab)
            slab = b->off + b->bytes;
        insert_placed(g, g->item[i].index, i);
    }
    for (int i = 0; i < g->bufs; i++)
        g->buf[i].off = g->buf[g->buf[i].root].off;
    return slab;
}
