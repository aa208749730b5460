/* Packing: best-fit decreasing (Johnson 1973; the strategy "bfd" of TRL) and next fit. */
#include "data/pack.h"

#include <stdbool.h>

#include "core/mem.h"

/* The rows that are open, by the tokens left in them: a list for each number of tokens, and over
 * the numbers a binary tree that says under which there is any, so that the least sufficient one is
 * found in O(log room). */
struct open_rows {
    int64_t leaves; /* a power of two above room */
    bool *any;      /* 2 * leaves; any[1] is the root, any[leaves + left] the list for `left` */
    int64_t *first; /* leaves: the row opened last with that much left; -1: none */
    int64_t *next;  /* n: the next row of the same list */
};

static void open_rows_release(struct open_rows *o)
{
    mem_free(o->any);
    mem_free(o->first);
    mem_free(o->next);
}

static enum graft_status open_rows_init(struct open_rows *o, int64_t n, int64_t room,
                                        struct graft_err *err)
{
    for (o->leaves = 1; o->leaves <= room;)
        o->leaves *= 2;
    o->any = mem_array((size_t)o->leaves * 2, sizeof *o->any);
    o->first = mem_array((size_t)o->leaves, sizeof *o->first);
    o->next = mem_array((size_t)n, sizeof *o->next);
    if (!o->any || !o->first || !o->next) {
        open_rows_release(o);
        return graft_fail_nomem(err, "packing", (size_t)(o->leaves + n) * sizeof *o->next);
    }
    for (int64_t i = 0; i < o->leaves; i++)
        o->first[i] = -1;
    return GRAFT_OK;
}

static void put_row(struct open_rows *o, int64_t row, int64_t left)
{
    o->next[row] = o->first[left];
    o->first[left] = row;
    for (int64_t i = o->leaves + left; i > 0 && !o->any[i]; i /= 2)
        o->any[i] = true;
}

/* Take out a row with the least room that is at least `need`; -1 when there is none. */
static int64_t take_row(struct open_rows *o, int64_t need, int64_t *left)
{
    int64_t i = o->leaves + need, row;

    while (!o->any[i]) { /* up until a right neighbour has one, then down its left edge */
        while (i > 1 && i % 2 == 1)
            i /= 2;
        if (i <= 1)
            return -1;
        i++;
    }
    while (i < o->leaves)
        i = o->any[2 * i] ? 2 * i : 2 * i + 1;
    *left = i - o->leaves;
    row = o->first[*left];
    o->first[*left] = o->next[row];
    for (; i > 0; i /= 2)
        o->any[i] = i >= o->leaves ? o->first[*left] >= 0 : o->any[2 * i] || o->any[2 * i + 1];
    return row;
}

/* order = [0, n) by decreasing length, ties by rank. */
static enum graft_status longest_first(const int64_t *length, int64_t n, int64_t room,
                                       const int64_t *rank, int64_t *order, struct graft_err *err)
{
    int64_t *start = mem_array((size_t)room + 2, sizeof *start);
    int64_t *by_rank = mem_array((size_t)n, sizeof *by_rank);

    if (start && by_rank) {
        for (int64_t i = 0; i < n; i++) {
            by_rank[rank[i]] = i;
            start[room - length[i] + 1]++;
        }
        for (int64_t k = 1; k <= room; k++)
            start[k] += start[k - 1];
        for (int64_t i = 0; i < n; i++)
            order[start[room - length[by_rank[i]]]++] = by_rank[i];
    }
    mem_free(by_rank);
    mem_free(start);
    return start && by_rank ? GRAFT_OK
                            : graft_fail_nomem(err, "packing", (size_t)(room + n) * sizeof *start);
}

enum graft_status pack_best_fit(const int64_t *length, int64_t n, int64_t room, const int64_t *rank,
                                int64_t *row, int64_t *rows, struct graft_err *err)
{
    struct open_rows open = { 0, NULL, NULL, NULL };
    int64_t *order = mem_array((size_t)n, sizeof *order), count = 0;
    enum graft_status st;

    if (!order)
        return graft_fail_nomem(err, "packing", (size_t)n * sizeof *order);
    st = longest_first(length, n, room, rank, order, err);
    if (!st)
        st = open_rows_init(&open, n, room, err);
    for (int64_t k = 0; k < n && !st; k++) {
        const int64_t i = order[k];
        int64_t left = room;

        row[i] = take_row(&open, length[i], &left);
        if (row[i] < 0)
            row[i] = count++;
        put_row(&open, row[i], left - length[i]);
    }
    if (!st) {
        open_rows_release(&open);
        *rows = count;
    }
    mem_free(order);
    return st;
}

void pack_in_order(const int64_t *length, int64_t n, int64_t room, int64_t *row, int64_t *rows)
{
    int64_t left = 0, count = 0;

    for (int64_t i = 0; i < n; i++) {
        if (length[i] > left) {
            count++;
            left = room;
        }
        left -= length[i];
        row[i] = count - 1;
    }
    *rows = count;
}
