/* Batches: units (records, or packed rows) in file order or shuffled, batch_size of them a pass.
 * What lies in which row is decided once, so that every epoch has as many passes; an epoch shuffles
 * the rows. */
#include <string.h>

#include "core/rng.h"
#include "data/dataset.h"
#include "data/pack.h"

enum { SITE_ORDER = 0, SITE_PACKING = 1 }; /* of the shuffle's stream */

struct loader {
    const struct dataset *data;
    struct loader_opts opts;
    int64_t units;
    int64_t *unit_start;  /* units + 1, into unit_record */
    int64_t *unit_record; /* index into data->record, the kept ones */
    int64_t *unit_tokens; /* units */
    int64_t *order;       /* units: their order in `epoch` */
    int64_t epoch;        /* of `order`; -1: none yet */
    int64_t max_tokens, max_segments;
    int32_t *id, *target, *pos; /* max_tokens */
    int64_t *start, *which;     /* max_segments + 1, max_segments */
};

/* Fisher-Yates over 0 .. n - 1: the permutation is a pure function of the key. */
static void shuffle(struct rng_key key, int64_t *order, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)rng_below(key, (uint64_t)i, (uint64_t)i + 1);
        const int64_t old = order[i];

        order[i] = order[j];
        order[j] = old;
    }
}

/* ---- units ---- */

static enum graft_status check_loader(const struct dataset *d, const struct loader_opts *o,
                                      int64_t kept, struct graft_err *err)
{
    if (o->batch_size < 1)
        return graft_fail(err, GRAFT_EARG, "batch_size is %lld, wanted 1 or more",
                          (long long)o->batch_size);
    if (kept == 0)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: no record has a token with loss: all %lld were dropped%s",
                          d->count ? d->record[0].file : "data", (long long)d->count,
                          d->stats.truncated ? " (max_length cut off what was to be learnt)" : "");
    if (o->packing && o->row_length < d->stats.longest)
        return graft_fail(err, GRAFT_EARG,
                          "packing: rows hold %lld tokens, the longest record has %lld; set "
                          "max_length",
                          (long long)o->row_length, (long long)d->stats.longest);
    return GRAFT_OK;
}

/* row[k] for the k-th kept record. */
static enum graft_status pack(struct loader *l, const int64_t *kept, int64_t n, int64_t *row,
                              struct graft_err *err)
{
    const struct loader_opts *o = &l->opts;
    const int64_t all = l->data->stats.tokens, room = o->row_length < all ? o->row_length : all;
    int64_t *length = mem_array((size_t)n, sizeof *length);
    int64_t *rank = mem_array((size_t)n, sizeof *rank);
    enum graft_status st = GRAFT_OK;

    if (!length || !rank) {
        st = graft_fail_nomem(err, "packing", (size_t)n * sizeof *length);
    } else {
        for (int64_t k = 0; k < n; k++)
            length[k] = l->data->record[kept[k]].length;
        if (o->shuffle) {
            shuffle((struct rng_key){ o->seed, RNG_SHUFFLE, 0, SITE_PACKING }, rank, n);
            st = pack_best_fit(length, n, room, rank, row, &l->units, err);
        } else {
            pack_in_order(length, n, room, row, &l->units);
        }
    }
    mem_free(rank);
    mem_free(length);
    return st;
}

/* unit_start and unit_record from row[k]: within a unit, records stand in file order. */
static enum graft_status make_units(struct loader *l, const int64_t *kept, int64_t n,
                                    const int64_t *row, struct graft_err *err)
{
    l->unit_start = mem_array((size_t)l->units + 2, sizeof *l->unit_start);
    l->unit_record = mem_array((size_t)n, sizeof *l->unit_record);
    l->unit_tokens = mem_array((size_t)l->units, sizeof *l->unit_tokens);
    l->order = mem_array((size_t)l->units, sizeof *l->order);
    if (!l->unit_start || !l->unit_record || !l->unit_tokens || !l->order)
        return graft_fail_nomem(err, "the order of the records", (size_t)n * 4 * sizeof *row);
    for (int64_t k = 0; k < n; k++)
        l->unit_start[row[k] + 2]++;
    for (int64_t u = 2; u <= l->units; u++)
        l->unit_start[u] += l->unit_start[u - 1];
    for (int64_t k = 0; k < n; k++) { /* start[u + 1] runs from the start of u to its end */
        l->unit_record[l->unit_start[row[k] + 1]++] = kept[k];
        l->unit_tokens[row[k]] += l->data->record[kept[k]].length + l->opts.virtual_front;
    }
    for (int64_t u = 0; u < l->units; u++)
        l->order[u] = u;
    return GRAFT_OK;
}

static enum graft_status plan_units(struct loader *l, int64_t n, struct graft_err *err)
{
    int64_t *kept = mem_array((size_t)n, sizeof *kept), *row = mem_array((size_t)n, sizeof *row);
    enum graft_status st = GRAFT_OK;

    if (!kept || !row) {
        st = graft_fail_nomem(err, "the order of the records", (size_t)n * sizeof *row);
    } else {
        for (int64_t i = 0, k = 0; i < l->data->count; i++)
            if (l->data->record[i].length > 0) {
                row[k] = k;
                kept[k++] = i;
            }
        l->units = n;
        if (l->opts.packing)
            st = pack(l, kept, n, row, err);
        if (!st)
            st = make_units(l, kept, n, row, err);
    }
    mem_free(row);
    mem_free(kept);
    return st;
}

/* ---- bounds ---- */

static int64_t tokens_of(const struct loader *l, int64_t u)
{
    return l->unit_tokens[u];
}

static int64_t segments_of(const struct loader *l, int64_t u)
{
    return l->unit_start[u + 1] - l->unit_start[u];
}

/* The most that the units of one pass can sum to: in file order over the passes there are, shuffled
 * over any batch_size units. */
static enum graft_status bound(const struct loader *l,
                               int64_t (*value)(const struct loader *, int64_t), int64_t *out,
                               struct graft_err *err)
{
    const int64_t batch = l->opts.batch_size;
    int64_t sum = 0, most = 0, top = 0, *have;

    for (int64_t u = 0; u < l->units; u++) {
        sum = (u % batch ? sum : 0) + value(l, u);
        most = sum > most ? sum : most;
        top = value(l, u) > top ? value(l, u) : top;
    }
    *out = most;
    if (!l->opts.shuffle)
        return GRAFT_OK;
    have = mem_array((size_t)top + 1, sizeof *have);
    if (!have)
        return graft_fail_nomem(err, "the order of the records", (size_t)top * sizeof *have);
    for (int64_t u = 0; u < l->units; u++)
        have[value(l, u)]++;
    *out = 0;
    for (int64_t left = batch; top > 0 && left > 0; top--) {
        const int64_t n = have[top] < left ? have[top] : left;

        *out += n * top;
        left -= n;
    }
    mem_free(have);
    return GRAFT_OK;
}

static enum graft_status make_buffers(struct loader *l, struct graft_err *err)
{
    GRAFT_TRY(bound(l, tokens_of, &l->max_tokens, err));
    GRAFT_TRY(bound(l, segments_of, &l->max_segments, err));
    l->id = mem_array((size_t)l->max_tokens, sizeof *l->id);
    l->target = mem_array((size_t)l->max_tokens, sizeof *l->target);
    l->pos = mem_array((size_t)l->max_tokens, sizeof *l->pos);
    l->start = mem_array((size_t)l->max_segments + 1, sizeof *l->start);
    l->which = mem_array((size_t)l->max_segments, sizeof *l->which);
    if (!l->id || !l->target || !l->pos || !l->start || !l->which)
        return graft_fail_nomem(err, "a batch",
                                (size_t)l->max_tokens * 12 + (size_t)l->max_segments * 16);
    return GRAFT_OK;
}

enum graft_status loader_new(const struct dataset *d, const struct loader_opts *opts,
                             struct loader **out, struct graft_err *err)
{
    const int64_t kept = d->stats.records - d->stats.dropped;
    enum graft_status st = check_loader(d, opts, kept, err);
    struct loader *l;

    if (st)
        return st;
    l = mem_alloc(sizeof *l);
    if (!l)
        return graft_fail_nomem(err, "the loader", sizeof *l);
    *l = (struct loader){ .data = d, .opts = *opts, .epoch = -1 };
    st = plan_units(l, kept, err);
    if (!st)
        st = make_buffers(l, err);
    if (st)
        loader_free(l);
    else
        *out = l;
    return st;
}

void loader_free(struct loader *l)
{
    if (!l)
        return;
    mem_free(l->unit_start);
    mem_free(l->unit_record);
    mem_free(l->unit_tokens);
    mem_free(l->order);
    mem_free(l->id);
    mem_free(l->target);
    mem_free(l->pos);
    mem_free(l->start);
    mem_free(l->which);
    mem_free(l);
}

int64_t loader_passes(const struct loader *l)
{
    return (l->units - 1) / l->opts.batch_size + 1;
}

int64_t loader_max_tokens(const struct loader *l)
{
    return l->max_tokens;
}

int64_t loader_max_segments(const struct loader *l)
{
    return l->max_segments;
}

int64_t loader_rows(const struct loader *l)
{
    return l->units;
}

double loader_fill(const struct loader *l)
{
    if (!l->opts.packing)
        return 1;
    return (double)l->data->stats.tokens / ((double)l->units * (double)l->opts.row_length);
}

/* ---- a batch ---- */

/* Append record `index` to the batch, behind its virtual tokens; label[t + 1] is what position t
 * must predict. The last virtual token predicts nothing: a record's first token is no target. */
static void add_record(struct loader *l, int64_t index, struct batch *b)
{
    const struct record *r = &l->data->record[index];
    const int32_t *label = l->data->label + r->first;
    const int64_t front = l->opts.virtual_front, n = front + r->length;
    int32_t *id = l->id + b->n, *pos = l->pos + b->n, *target = l->target + b->n;

    for (int64_t t = 0; t < n; t++)
        pos[t] = (int32_t)(l->opts.first_position + t);
    for (int64_t t = 0; t < front; t++) {
        id[t] = (int32_t)(-1 - t);
        target[t] = -1;
    }
    memcpy(id + front, l->data->id + r->first, (size_t)r->length * sizeof *id);
    for (int64_t t = 0; t < r->length; t++)
        target[front + t] = t + 1 < r->length && label[t + 1] >= 0 ? label[t + 1] : -1;
    l->which[b->segments++] = index;
    b->n += n;
    b->targets += r->targets;
    l->start[b->segments] = b->n;
}

enum graft_status loader_batch(struct loader *l, int64_t epoch, int64_t pass, struct batch *out,
                               struct graft_err *err)
{
    struct batch b = {
        .id = l->id, .target = l->target, .pos = l->pos, .start = l->start, .which = l->which
    };

    if (epoch < 0 || epoch > UINT32_MAX || pass < 0 || pass >= loader_passes(l))
        return graft_fail(err, GRAFT_EARG, "epoch %lld has no pass %lld; it has %lld",
                          (long long)epoch, (long long)pass, (long long)loader_passes(l));
    if (l->opts.shuffle && l->epoch != epoch) {
        const struct rng_key key = { l->opts.seed, RNG_SHUFFLE, (uint32_t)epoch, SITE_ORDER };

        shuffle(key, l->order, l->units);
        l->epoch = epoch;
    }
    l->start[0] = 0;
    for (int64_t u = pass * l->opts.batch_size, left = l->opts.batch_size; u < l->units && left > 0;
         u++, left--)
        for (int64_t k = l->unit_start[l->order[u]]; k < l->unit_start[l->order[u] + 1]; k++)
            add_record(l, l->unit_record[k], &b);
    *out = b;
    return GRAFT_OK;
}
