/* Batches: units (records, or packed rows) in file order or shuffled, batch_size of them a pass.
 *
 * An epoch begins with its draws: every file's records as often as the file's weight says. What
 * lies in which row is decided once, so that every epoch has as many passes, and an epoch shuffles
 * the rows; only where a weight has a fraction, and so epochs differ in their records, rows are
 * decided anew. */
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "data/dataset.h"
#include "data/pack.h"

/* Of the shuffle's stream; data/dataset.c has another. */
enum { SITE_ORDER = 0, SITE_PACKING = 1, SITE_WEIGHT = 3 };

/* One file. */
struct source {
    int64_t first, end; /* its records */
    int64_t kept;       /* those that can be drawn */
    int64_t whole;      /* each is drawn so many times, */
    int64_t part;       /* and so many of them once more */
    uint32_t *rank;     /* part > 0: kept, a permutation: epoch e takes the ranks from e * part on,
                           round and round, so that the same come again as late as can be */
};

struct loader {
    const struct dataset *data;
    struct loader_opts opts;
    struct source *source; /* data->files */
    bool fraction;         /* some source has a part: epochs differ in their records */
    int64_t draws, units;
    int64_t epoch;       /* of what follows; -1: none yet */
    uint32_t *draw;      /* draws: records, in the order of the epoch; packing: row by row */
    uint32_t *row_start; /* packing: units + 1, into draw; NULL: a unit is a draw */
    uint32_t *order;     /* packing: the rows in the order of the epoch */
    int64_t row_tokens;  /* packing: tokens of all rows */
    struct rows *rows;   /* packing: what it takes to decide rows; NULL once that is done */
    int64_t max_tokens, max_segments, touched;
    int32_t *id, *target, *pos; /* max_tokens */
    int64_t *start, *which;     /* max_segments + 1, max_segments */
};

/* The memory for deciding which draw lies in which row; all arrays have `draws` entries. */
struct rows {
    struct packer *packer; /* shuffled only */
    uint32_t *draw;        /* in file order */
    uint32_t *length, *rank, *row;
};

/* Fisher-Yates: the permutation is a pure function of the key. */
static void shuffle(struct rng_key key, uint32_t *x, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)rng_below(key, (uint64_t)i, (uint64_t)i + 1);
        const uint32_t old = x[i];

        x[i] = x[j];
        x[j] = old;
    }
}

static void permute(struct rng_key key, uint32_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (uint32_t)i;
    shuffle(key, x, n);
}

static struct rng_key shuffle_key(const struct loader *l, int64_t step, uint32_t site)
{
    return (struct rng_key){ l->opts.seed, RNG_SHUFFLE, (uint32_t)step, site };
}

/* ---- draws ---- */

static bool can_draw(const struct loader *l, int64_t i)
{
    return l->data->record[i].length > 0 && !(l->opts.skip && l->opts.skip[i]);
}

static enum graft_status fail_empty(const struct loader *l, struct graft_err *err)
{
    const struct dataset *d = l->data;

    return graft_fail(err, GRAFT_EFORMAT,
                      "%s: no record has a token with loss: all %lld were dropped%s",
                      d->count ? dataset_file(d, &d->record[0]) : "data", (long long)d->count,
                      d->stats.truncated ? " (max_length cut off what was to be learnt)" : "");
}

static enum graft_status check_loader(const struct loader *l, struct graft_err *err)
{
    const struct dataset *d = l->data;
    const struct loader_opts *o = &l->opts;

    if (o->batch_size < 1)
        return graft_fail(err, GRAFT_EARG, "batch_size is %lld, wanted 1 or more",
                          (long long)o->batch_size);
    if (d->stats.records == d->stats.dropped)
        return fail_empty(l, err);
    if (d->count > UINT32_MAX)
        return graft_fail(err, GRAFT_EARG, "%lld records, at most %lld can be put in order",
                          (long long)d->count, (long long)UINT32_MAX);
    if (o->packing && o->row_length < d->stats.longest)
        return graft_fail(err, GRAFT_EARG,
                          "packing: rows hold %lld tokens, the longest record has %lld; set "
                          "max_length",
                          (long long)o->row_length, (long long)d->stats.longest);
    return GRAFT_OK;
}

/* Where each file's records stand, and how many of them can be drawn. */
static void find_sources(struct loader *l)
{
    for (int64_t i = 0; i < l->data->count; i++) {
        struct source *s = &l->source[l->data->record[i].file];

        dataset_touch_table(l->data, &l->touched, i);
        if (s->end == 0)
            s->first = i;
        s->end = i + 1;
        s->kept += can_draw(l, i);
    }
}

static enum graft_status weigh(struct loader *l, int file, struct graft_err *err)
{
    struct source *s = &l->source[file];
    const double w = l->opts.weight ? l->opts.weight[file] : 1;

    if (!(w > 0 && w <= 1e6))
        return graft_fail(err, GRAFT_EARG, "%s: the weight is %g, wanted more than 0",
                          l->data->file[file], w);
    s->whole = (int64_t)floor(w);
    s->part = llround((w - floor(w)) * (double)s->kept);
    if (s->part == s->kept) {
        s->whole++;
        s->part = 0;
    }
    if (s->kept && !s->whole && !s->part)
        return graft_fail(err, GRAFT_EARG, "%s: a weight of %g draws none of its %lld records",
                          l->data->file[file], w, (long long)s->kept);
    l->draws += s->whole * s->kept + s->part;
    if (l->draws > UINT32_MAX)
        return graft_fail(err, GRAFT_EARG,
                          "%s: with a weight of %g an epoch has more than %lld records",
                          l->data->file[file], w, (long long)UINT32_MAX);
    if (!s->part)
        return GRAFT_OK;
    l->fraction = true;
    s->rank = mem_array((size_t)s->kept, sizeof *s->rank);
    if (!s->rank)
        return graft_fail_nomem(err, "the order of the records", (size_t)s->kept * 4);
    permute(shuffle_key(l, file, SITE_WEIGHT), s->rank, s->kept);
    return GRAFT_OK;
}

static enum graft_status make_sources(struct loader *l, struct graft_err *err)
{
    l->source = mem_array((size_t)l->data->files, sizeof *l->source);
    if (!l->source)
        return graft_fail_nomem(err, "the loader", (size_t)l->data->files * sizeof *l->source);
    find_sources(l);
    for (int f = 0; f < l->data->files; f++)
        GRAFT_TRY(weigh(l, f, err));
    return l->draws ? GRAFT_OK : fail_empty(l, err);
}

/* The records of one file: each as often as the weight's whole part says, then those whose turn it
 * is. `k`: entries of `draw` that are there. */
static int64_t draw_from(struct loader *l, const struct source *s, int64_t epoch, uint32_t *draw,
                         int64_t k)
{
    const uint64_t begin = s->part ? (uint64_t)epoch * (uint64_t)s->part % (uint64_t)s->kept : 0;
    int64_t j = 0;

    for (int64_t times = 0; times < s->whole; times++)
        for (int64_t i = s->first; i < s->end; i++) {
            dataset_touch_table(l->data, &l->touched, i);
            if (can_draw(l, i))
                draw[k++] = (uint32_t)i;
        }
    for (int64_t i = s->first; i < s->end && s->part; i++) {
        dataset_touch_table(l->data, &l->touched, i);
        if (can_draw(l, i)) {
            const uint64_t turn = s->rank[j++] + (uint64_t)s->kept - begin;

            if ((int64_t)(turn % (uint64_t)s->kept) < s->part)
                draw[k++] = (uint32_t)i;
        }
    }
    return k;
}

static void fill_draws(struct loader *l, int64_t epoch, uint32_t *draw)
{
    int64_t k = 0;

    for (int f = 0; f < l->data->files; f++)
        k = draw_from(l, &l->source[f], epoch, draw, k);
}

/* ---- rows ---- */

static enum graft_status rows_new(struct loader *l, struct graft_err *err)
{
    const struct dataset_stats *s = &l->data->stats;
    const size_t n = (size_t)l->draws;
    int64_t room = l->opts.row_length;
    struct rows *r = l->rows = mem_alloc(sizeof *r);

    if (!r)
        return graft_fail_nomem(err, "packing", sizeof *r);
    r->draw = mem_array(n, sizeof *r->draw);
    r->length = mem_array(n, sizeof *r->length);
    r->rank = mem_array(n, sizeof *r->rank);
    r->row = mem_array(n, sizeof *r->row);
    if (!r->draw || !r->length || !r->rank || !r->row)
        return graft_fail_nomem(err, "packing", n * 16);
    if (s->longest * l->draws < room) /* more room than there are tokens costs memory only */
        room = s->longest * l->draws;
    return l->opts.shuffle ? packer_new(l->draws, room, &r->packer, err) : GRAFT_OK;
}

static void rows_free(struct rows *r)
{
    if (!r)
        return;
    packer_free(r->packer);
    mem_free(r->draw);
    mem_free(r->length);
    mem_free(r->rank);
    mem_free(r->row);
    mem_free(r);
}

/* draw and row_start from row[k] of the k-th draw: within a row, records stand in file order. */
static void sort_into_rows(struct loader *l)
{
    const struct rows *r = l->rows;

    memset(l->row_start, 0, ((size_t)l->units + 1) * sizeof *l->row_start);
    for (int64_t k = 0; k < l->draws; k++)
        l->row_start[r->row[k]]++;
    for (int64_t u = 1; u <= l->units; u++)
        l->row_start[u] += l->row_start[u - 1];
    for (int64_t k = l->draws - 1; k >= 0;
         k--) /* each start runs from the row's end to its start */
        l->draw[--l->row_start[r->row[k]]] = r->draw[k];
}

/* The rows of an epoch. row_start and order have room for them, or are made when there are none. */
static enum graft_status decide_rows(struct loader *l, int64_t epoch, struct graft_err *err)
{
    struct rows *r = l->rows;
    const int64_t room = l->opts.row_length;

    fill_draws(l, epoch, r->draw);
    l->row_tokens = 0;
    for (int64_t k = 0; k < l->draws; k++) {
        r->length[k] = (uint32_t)l->data->record[r->draw[k]].length;
        l->row_tokens += r->length[k];
    }
    if (r->packer) {
        permute(shuffle_key(l, epoch, SITE_PACKING), r->rank, l->draws);
        l->units = pack_best_fit(r->packer, r->length, l->draws, r->rank, r->row);
    } else {
        l->units = pack_in_order(r->length, l->draws, room, r->row);
    }
    if (!l->row_start) {
        const size_t most = (size_t)(l->fraction ? l->draws : l->units);

        l->row_start = mem_array(most + 1, sizeof *l->row_start);
        l->order = mem_array(most, sizeof *l->order);
        if (!l->row_start || !l->order)
            return graft_fail_nomem(err, "packing", most * 8);
    }
    sort_into_rows(l);
    for (int64_t u = 0; u < l->units; u++)
        l->order[u] = (uint32_t)u;
    return GRAFT_OK;
}

/* ---- an epoch ---- */

static enum graft_status enter_epoch(struct loader *l, int64_t epoch, struct graft_err *err)
{
    if (epoch < 0 || epoch > UINT32_MAX)
        return graft_fail(err, GRAFT_EARG, "there is no epoch %lld", (long long)epoch);
    if (l->epoch == epoch)
        return GRAFT_OK;
    if (l->opts.packing && (l->epoch < 0 || l->fraction))
        GRAFT_TRY(decide_rows(l, epoch, err));
    else if (!l->opts.packing && (l->epoch < 0 || l->fraction || l->opts.shuffle))
        fill_draws(l, epoch, l->draw);
    if (l->opts.shuffle && l->opts.packing)
        permute(shuffle_key(l, epoch, SITE_ORDER), l->order, l->units);
    else if (l->opts.shuffle)
        shuffle(shuffle_key(l, epoch, SITE_ORDER), l->draw, l->draws);
    l->epoch = epoch;
    return GRAFT_OK;
}

static enum graft_status first_epoch(struct loader *l, struct graft_err *err)
{
    l->draw = mem_array((size_t)l->draws, sizeof *l->draw);
    if (!l->draw)
        return graft_fail_nomem(err, "the order of the records", (size_t)l->draws * 4);
    l->units = l->draws;
    if (l->opts.packing)
        GRAFT_TRY(rows_new(l, err));
    GRAFT_TRY(enter_epoch(l, 0, err));
    if (!l->fraction) {
        rows_free(l->rows);
        l->rows = NULL;
    }
    return GRAFT_OK;
}

/* ---- bounds ---- */

/* How many records lie in unit `u`, counted without shuffling, or how many tokens with the virtual
 * ones before them. */
static int64_t size_of(const struct loader *l, int64_t u, bool tokens)
{
    const int64_t first = l->row_start ? l->row_start[u] : u;
    const int64_t end = l->row_start ? l->row_start[u + 1] : u + 1;
    int64_t sum = 0;

    if (!tokens)
        return end - first;
    for (int64_t k = first; k < end; k++)
        sum += l->opts.virtual_front + l->data->record[l->draw[k]].length;
    return sum;
}

/* The most that the units of one pass can sum to: in file order over the passes there are, shuffled
 * over any batch_size units. */
static enum graft_status bound_of_units(const struct loader *l, bool tokens, int64_t *out,
                                        struct graft_err *err)
{
    const int64_t batch = l->opts.batch_size;
    int64_t sum = 0, most = 0, top = 0, *have;

    for (int64_t u = 0; u < l->units; u++) {
        const int64_t value = size_of(l, u, tokens);

        sum = (u % batch ? sum : 0) + value;
        most = sum > most ? sum : most;
        top = value > top ? value : top;
    }
    *out = most;
    if (!l->opts.shuffle)
        return GRAFT_OK;
    have = mem_array((size_t)top + 1, sizeof *have);
    if (!have)
        return graft_fail_nomem(err, "the order of the records", (size_t)top * sizeof *have);
    for (int64_t u = 0; u < l->units; u++)
        have[size_of(l, u, tokens)]++;
    *out = 0;
    for (int64_t left = batch; top > 0 && left > 0; top--) {
        const int64_t n = have[top] < left ? have[top] : left;

        *out += n * top;
        left -= n;
    }
    mem_free(have);
    return GRAFT_OK;
}

/* The bounds where any records that the files have may meet. */
static enum graft_status bound_of_any(struct loader *l, struct graft_err *err)
{
    const int64_t batch = l->opts.batch_size, longest = l->data->stats.longest;
    const int64_t room = l->opts.packing ? batch * l->opts.row_length : INT64_MAX;
    int64_t *have = mem_array((size_t)longest + 1, sizeof *have);
    int64_t records = l->opts.packing ? INT64_MAX : batch, tokens = 0, segments = 0;

    if (!have)
        return graft_fail_nomem(err, "the order of the records", (size_t)longest * sizeof *have);
    for (int f = 0; f < l->data->files; f++)
        for (int64_t i = l->source[f].first; i < l->source[f].end; i++) {
            dataset_touch_table(l->data, &l->touched, i);
            if (can_draw(l, i))
                have[l->data->record[i].length] += l->source[f].whole + (l->source[f].part > 0);
        }
    for (int64_t n = longest; n > 0 && records > 0 && tokens < room; n--) { /* the longest */
        const int64_t k = have[n] < records ? have[n] : records;

        tokens += k * n;
        records -= k;
    }
    l->max_tokens = tokens < room ? tokens : room;
    for (int64_t n = 1, left = room; n <= longest && n <= left; n++) { /* the shortest */
        const int64_t k = have[n] < left / n ? have[n] : left / n;

        segments += k;
        left -= k * n;
    }
    l->max_segments = l->opts.packing || segments < batch ? segments : batch;
    l->max_tokens += l->max_segments * l->opts.virtual_front;
    mem_free(have);
    return GRAFT_OK;
}

static enum graft_status make_buffers(struct loader *l, struct graft_err *err)
{
    if (l->fraction || (l->opts.shuffle && !l->opts.packing)) {
        GRAFT_TRY(bound_of_any(l, err));
    } else {
        GRAFT_TRY(bound_of_units(l, true, &l->max_tokens, err));
        GRAFT_TRY(bound_of_units(l, false, &l->max_segments, err));
    }
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
    struct loader *l = mem_alloc(sizeof *l);
    enum graft_status st;

    if (!l)
        return graft_fail_nomem(err, "the loader", sizeof *l);
    *l = (struct loader){ .data = d, .opts = *opts, .epoch = -1 };
    st = check_loader(l, err);
    if (!st)
        st = make_sources(l, err);
    if (!st)
        st = first_epoch(l, err);
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
    for (int f = 0; f < l->data->files && l->source; f++)
        mem_free(l->source[f].rank);
    mem_free(l->source);
    rows_free(l->rows);
    mem_free(l->draw);
    mem_free(l->row_start);
    mem_free(l->order);
    mem_free(l->id);
    mem_free(l->target);
    mem_free(l->pos);
    mem_free(l->start);
    mem_free(l->which);
    mem_free(l);
}

int64_t loader_draws(const struct loader *l)
{
    return l->draws;
}

void loader_source(const struct loader *l, int file, int64_t *records, int64_t *draws)
{
    const struct source *s = &l->source[file];

    *records = s->kept;
    *draws = s->whole * s->kept + s->part;
}

enum graft_status loader_passes(struct loader *l, int64_t epoch, int64_t *out,
                                struct graft_err *err)
{
    if (loader_passes_vary(l))
        GRAFT_TRY(enter_epoch(l, epoch, err));
    *out = (l->units - 1) / l->opts.batch_size + 1;
    return GRAFT_OK;
}

bool loader_passes_vary(const struct loader *l)
{
    return l->fraction && l->opts.packing;
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
    return (double)l->row_tokens / ((double)l->units * (double)l->opts.row_length);
}

size_t loader_bytes(const struct loader *l)
{
    const size_t n = (size_t)l->draws;
    size_t bytes = n * sizeof *l->draw;

    for (int f = 0; f < l->data->files; f++)
        bytes += l->source[f].rank ? (size_t)l->source[f].kept * sizeof *l->source[f].rank : 0;
    if (l->opts.packing)
        bytes += (l->fraction ? n : (size_t)l->units) * 8;
    if (l->rows)
        bytes += n * 16 + (l->rows->packer ? packer_bytes(l->rows->packer) : 0);
    return bytes + (size_t)l->max_tokens * 12 + (size_t)l->max_segments * 16;
}

/* ---- a batch ---- */

/* Append record `index` to the batch, behind its virtual tokens; label[t + 1] is what position t
 * must predict. The last virtual token predicts nothing: a record's first token is no target. */
static void add_record(struct loader *l, int64_t index, struct batch *b)
{
    const struct record *r = &l->data->record[index];
    const int32_t *x = l->data->token + r->first, *label = r->labelled ? x + r->length : x;
    const int64_t front = l->opts.virtual_front, n = front + r->length;
    int32_t *id = l->id + b->n, *pos = l->pos + b->n, *target = l->target + b->n;

    for (int64_t t = 0; t < n; t++)
        pos[t] = (int32_t)(l->opts.first_position + t);
    for (int64_t t = 0; t < front; t++) {
        id[t] = (int32_t)(-1 - t);
        target[t] = -1;
    }
    for (int64_t t = 0; t < r->length; t++) {
        id[front + t] = token_id(x[t]);
        target[front + t] = t + 1 < r->length && label[t + 1] >= 0 ? label[t + 1] : -1;
    }
    l->which[b->segments++] = index;
    b->n += n;
    b->targets += r->targets;
    l->start[b->segments] = b->n;
}

/* What reading one record may bring into memory beside its own bytes: the system reads in pages,
 * and some around. */
enum { READ_AROUND = 64 << 10 };

static void add_unit(struct loader *l, int64_t u, struct batch *b)
{
    const int64_t unit = l->row_start ? l->order[u] : u;
    const int64_t first = l->row_start ? l->row_start[unit] : unit;
    const int64_t end = l->row_start ? l->row_start[unit + 1] : unit + 1;

    for (int64_t k = first; k < end; k++) {
        const int64_t before = b->n;

        add_record(l, l->draw[k], b);
        dataset_touch(l->data, &l->touched, (size_t)(b->n - before) * 4 + 2 * READ_AROUND);
    }
}

enum graft_status loader_batch(struct loader *l, int64_t epoch, int64_t pass, struct batch *out,
                               struct graft_err *err)
{
    const int64_t batch = l->opts.batch_size;
    struct batch b = {
        .id = l->id, .target = l->target, .pos = l->pos, .start = l->start, .which = l->which
    };

    GRAFT_TRY(enter_epoch(l, epoch, err));
    if (pass < 0 || pass > (l->units - 1) / batch)
        return graft_fail(err, GRAFT_EARG, "epoch %lld has no pass %lld; it has %lld",
                          (long long)epoch, (long long)pass,
                          (long long)((l->units - 1) / batch + 1));
    l->start[0] = 0;
    for (int64_t u = pass * batch; u < l->units && u < (pass + 1) * batch; u++)
        add_unit(l, u, &b);
    *out = b;
    return GRAFT_OK;
}
