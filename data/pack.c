/* Packing: best-fit decreasing (Johnson 1973; the strategy "bfd" of TRL) and next fit. */
#include "data/pack.h"

#include <stdbool.h>
#include <string.h>

#include "core/mem.h"

static const uint32_t NONE = UINT32_MAX;

/* The rows that are open, by the tokens left in them: a list for each number of tokens, and over
 * the numbers a binary tree that says under which there is any, so that the least sufficient one is
 * found in O(log room). */
struct packer {
    int64_t most, room;
    int64_t leaves;  /* a power of two above room */
    bool *any;       /* 2 * leaves; any[1] is the root, any[leaves + left] the list for `left` */
    uint32_t *first; /* leaves: the row opened last with that much left */
    uint32_t *next;  /* most: the next row of the same list; before: the records by rank */
    uint32_t *order; /* most: the records, longest first */
    int64_t *start;  /* room + 2: of each length in `order` */
};

enum graft_status packer_new(int64_t most, int64_t room, struct packer **out, struct graft_err *err)
{
    struct packer *p = mem_alloc(sizeof *p);

    if (!p)
        return graft_fail_nomem(err, "packing", sizeof *p);
    *p = (struct packer){ .most = most, .room = room };
    for (p->leaves = 1; p->leaves <= room;)
        p->leaves *= 2;
    p->any = mem_array((size_t)p->leaves * 2, sizeof *p->any);
    p->first = mem_array((size_t)p->leaves, sizeof *p->first);
    p->next = mem_array((size_t)most, sizeof *p->next);
    p->order = mem_array((size_t)most, sizeof *p->order);
    p->start = mem_array((size_t)room + 2, sizeof *p->start);
    if (!p->any || !p->first || !p->next || !p->order || !p->start) {
        const size_t bytes = packer_bytes(p);

        packer_free(p);
        return graft_fail_nomem(err, "packing", bytes);
    }
    *out = p;
    return GRAFT_OK;
}

void packer_free(struct packer *p)
{
    if (!p)
        return;
    mem_free(p->any);
    mem_free(p->first);
    mem_free(p->next);
    mem_free(p->order);
    mem_free(p->start);
    mem_free(p);
}

size_t packer_bytes(const struct packer *p)
{
    return (size_t)p->most * 8 + (size_t)p->leaves * 6 + (size_t)p->room * 8;
}

static void put_row(struct packer *p, uint32_t row, int64_t left)
{
    p->next[row] = p->first[left];
    p->first[left] = row;
    for (int64_t i = p->leaves + left; i > 0 && !p->any[i]; i /= 2)
        p->any[i] = true;
}

/* Take out a row with the least room that is at least `need`; NONE when there is none. */
static uint32_t take_row(struct packer *p, int64_t need, int64_t *left)
{
    int64_t i = p->leaves + need;
    uint32_t row;

    while (!p->any[i]) { /* up until a right neighbour has one, then down its left edge */
        while (i > 1 && i % 2 == 1)
            i /= 2;
        if (i <= 1)
            return NONE;
        i++;
    }
    while (i < p->leaves)
        i = p->any[2 * i] ? 2 * i : 2 * i + 1;
    *left = i - p->leaves;
    row = p->first[*left];
    p->first[*left] = p->next[row];
    for (; i > 0; i /= 2)
        p->any[i] = i >= p->leaves ? p->first[*left] != NONE : p->any[2 * i] || p->any[2 * i + 1];
    return row;
}

/* order = [0, n) by decreasing length, ties by rank. */
static void longest_first(struct packer *p, const uint32_t *length, int64_t n, const uint32_t *rank)
{
    uint32_t *by_rank = p->next;

    memset(p->start, 0, ((size_t)p->room + 2) * sizeof *p->start);
    for (int64_t i = 0; i < n; i++) {
        by_rank[rank[i]] = (uint32_t)i;
        p->start[p->room - length[i] + 1]++;
    }
    for (int64_t k = 1; k <= p->room; k++)
        p->start[k] += p->start[k - 1];
    for (int64_t i = 0; i < n; i++)
        p->order[p->start[p->room - length[by_rank[i]]]++] = by_rank[i];
}

int64_t pack_best_fit(struct packer *p, const uint32_t *length, int64_t n, const uint32_t *rank,
                      uint32_t *row)
{
    int64_t count = 0;

    longest_first(p, length, n, rank);
    memset(p->any, 0, (size_t)p->leaves * 2 * sizeof *p->any);
    for (int64_t i = 0; i < p->leaves; i++)
        p->first[i] = NONE;
    for (int64_t k = 0; k < n; k++) {
        const uint32_t i = p->order[k];
        int64_t left = p->room;

        row[i] = take_row(p, length[i], &left);
        if (row[i] == NONE)
            row[i] = (uint32_t)count++;
        put_row(p, row[i], left - length[i]);
    }
    return count;
}

int64_t pack_in_order(const uint32_t *length, int64_t n, int64_t room, uint32_t *row)
{
    int64_t left = 0, count = 0;

    for (int64_t i = 0; i < n; i++) {
        if (length[i] > left) {
            count++;
            left = room;
        }
        left -= length[i];
        row[i] = (uint32_t)(count - 1);
    }
    return count;
}
