/* A data set as a whole: records in memory or over somebody's arrays, what is said about them, and
 * parts of them. */
#include "data/dataset.h"

#include <math.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/jsonl.h"

enum { SITE_SPLIT = 2 }; /* of the shuffle's stream; data/loader.c has the others */

/* ---- into memory ---- */

struct growing {
    struct dataset *d;
    struct record *record;
    int32_t *token;
    int64_t record_cap, token_cap;
};

/* Room for `n` more entries of `size` bytes behind the `count` of `p`, growing by half; NULL when
 * there is no memory. */
static void *grow(void *p, int64_t count, int64_t *cap, int64_t n, size_t size)
{
    int64_t want = *cap + *cap / 2;
    void *bigger;

    if (count + n <= *cap)
        return p;
    if (want < count + n)
        want = count + n;
    bigger = mem_resize(p, (size_t)count * size, (size_t)want * size);
    if (bigger)
        *cap = want;
    return bigger;
}

static enum graft_status put_in_memory(void *user, const struct record *record, int64_t count,
                                       const int32_t *token, int64_t tokens, struct graft_err *err)
{
    struct growing *g = user;
    struct dataset *d = g->d;
    struct record *r = grow(g->record, d->count, &g->record_cap, count, sizeof *r);
    int32_t *t;

    if (!r)
        return graft_fail_nomem(err, "the data set", (size_t)(d->count + count) * sizeof *r);
    d->record = g->record = r;
    t = grow(g->token, d->token_count, &g->token_cap, tokens + 1, sizeof *t);
    if (!t)
        return graft_fail_nomem(err, "the data set", (size_t)(d->token_count + tokens) * sizeof *t);
    d->token = g->token = t;
    memcpy(r + d->count, record, (size_t)count * sizeof *r);
    if (tokens)
        memcpy(t + d->token_count, token, (size_t)tokens * sizeof *t);
    d->count += count;
    d->token_count += tokens;
    return GRAFT_OK;
}

static enum graft_status name_files(struct dataset *d, const char *const *file, int64_t files,
                                    struct graft_err *err)
{
    d->file = arena_array(&d->mem, (size_t)files, sizeof *d->file);
    for (int64_t i = 0; i < files && d->file; i++) {
        d->file[i] = arena_strdup(&d->mem, file[i]);
        if (!d->file[i])
            d->file = NULL;
    }
    d->files = (int)files;
    return d->file ? GRAFT_OK : graft_fail_nomem(err, "names of files", (size_t)files * 8);
}

enum graft_status dataset_load(const char *const *file, int64_t files,
                               const struct dataset_opts *opts, struct dataset *out,
                               struct graft_err *err)
{
    struct dataset d = { .owns_record = true, .owns_token = true };
    struct growing g = { .d = &d };
    struct strbuf ignored = STRBUF_INIT;
    enum graft_status st = dataset_read(file, files, opts, put_in_memory, &g, &ignored, err);

    if (!st)
        st = name_files(&d, file, files, err);
    if (!st)
        st = dataset_count(&d, NULL, true, &d.stats, err);
    if (st) {
        dataset_release(&d);
    } else {
        dataset_note_ignored(file, files, &ignored);
        *out = d;
    }
    strbuf_release(&ignored);
    return st;
}

void dataset_release(struct dataset *d)
{
    if (d->owns_record)
        mem_free((void *)(uintptr_t)d->record);
    if (d->owns_token)
        mem_free((void *)(uintptr_t)d->token);
    arena_release(&d->mem);
    *d = (struct dataset){ .count = 0 };
}

void dataset_copy(const struct dataset *d, const struct record *r, int32_t *id, int32_t *label)
{
    for (int64_t t = 0; t < r->length && id; t++)
        id[t] = dataset_id(d, r, t);
    for (int64_t t = 0; t < r->length && label; t++)
        label[t] = dataset_label(d, r, t);
}

/* ---- over arrays ---- */

static int64_t entries_of(const struct record *r)
{
    return r->labelled ? 2 * (int64_t)r->length : r->length;
}

/* Each record follows the one before, in a file that is there. */
static bool rows_fit(const struct dataset *d, const struct dataset_opts *o)
{
    int64_t first = 0, line = 0, touched = 0;
    int32_t file = 0;

    for (int64_t i = 0; i < d->count; i++) {
        const struct record *r = &d->record[i];

        dataset_touch_table(d, &touched, i);
        if (r->file != file)
            line = 0;
        const struct virtual_tokens *v = virtual_of_task(o, r->task);

        if (r->first != first || r->length < 0 || r->targets < 0 || r->targets > r->length ||
            r->file < file || r->file >= d->files || r->line <= line ||
            (o->max_length > 0 && r->length > o->max_length) ||
            (o->max_positions > 0 && r->length > 0 &&
             r->length + v->front + v->before > o->max_positions) ||
            (r->length == 0) != (r->targets == 0) || entries_of(r) > d->token_count - first)
            return false;
        first += entries_of(r);
        file = r->file;
        line = r->line;
    }
    return first == d->token_count;
}

/* Ids within the vocabulary, virtual ones that there are, as many targets as the record says. */
static bool tokens_fit(const struct dataset *d, const struct record *r, int64_t rows,
                       int64_t placed)
{
    int64_t targets = 0;

    for (int64_t t = 0; t < r->length; t++) {
        const int32_t id = dataset_id(d, r, t), label = dataset_label(d, r, t);

        if (id >= rows || id < -placed || (r->labelled && id >= 0 && d->token[r->first + t] < 0) ||
            label >= rows || (label < 0 && label != NO_LABEL))
            return false;
        targets += t > 0 && label != NO_LABEL;
    }
    return targets == r->targets;
}

static bool all_tokens_fit(const struct dataset *d, const struct dataset_opts *o)
{
    const int64_t rows =
        o->vocab_rows > 0 && o->vocab_rows < DATASET_IDS ? o->vocab_rows : (int64_t)DATASET_IDS;
    enum { CHUNK = 1 << 20 }; /* entries that are in memory together, one record more or less */
    int64_t touched = 0;
    bool good = true;

    for (int64_t i = 0, end; i < d->count && good; i = end) {
        for (end = i + 1; end < d->count && d->record[end].first - d->record[i].first < CHUNK;)
            end++;

#pragma omp parallel for schedule(dynamic, 256) reduction(&& : good)
        for (int64_t k = i; k < end; k++)
            good = good && tokens_fit(d, &d->record[k], rows,
                                      virtual_of_task(o, d->record[k].task)->placed);
        dataset_touch(d, &touched,
                      (size_t)(d->record[end - 1].first - d->record[i].first) * sizeof *d->token +
                          (size_t)(end - i) * sizeof *d->record);
    }
    return good;
}

enum graft_status dataset_over(const struct dataset_arrays *a, const char *const *file,
                               int64_t files, const struct dataset_opts *opts, struct dataset *out,
                               struct graft_err *err)
{
    struct dataset d = { .record = a->record,
                         .count = a->count,
                         .token = a->token,
                         .token_count = a->token_count,
                         .mapped = a->mapped };
    enum graft_status st = name_files(&d, file, files, err);

    if (!st && (a->count < 1 || !rows_fit(&d, opts) || !all_tokens_fit(&d, opts)))
        st = graft_fail(err, GRAFT_EFORMAT, "these are no records of %s", file[0]);
    if (!st)
        st = dataset_count(&d, NULL, true, &d.stats, err);
    if (st)
        dataset_release(&d);
    else
        *out = d;
    return st;
}

size_t dataset_bytes(const struct dataset *d)
{
    const size_t table = (size_t)d->count * sizeof *d->record;
    const size_t all = table + (size_t)d->token_count * sizeof *d->token;

    if (d->mapped)
        return all < DATASET_RESIDENT ? all : DATASET_RESIDENT;
    return (d->owns_record ? table : 0) + (d->owns_token ? all - table : 0);
}

void dataset_touch(const struct dataset *d, int64_t *touched, size_t bytes)
{
    const size_t table = (size_t)d->count * sizeof *d->record;
    const size_t tokens = (size_t)d->token_count * sizeof *d->token;

    *touched += (int64_t)bytes;
    if (!d->mapped || table + tokens <= DATASET_RESIDENT || *touched < DATASET_RESIDENT)
        return;
    file_forget(d->token, tokens);
    if (!d->owns_record)
        file_forget(d->record, table);
    *touched = 0;
}

/* ---- what is said about records ---- */

/* The lengths that half and 95 % of the kept records do not exceed, by counting. */
static enum graft_status find_percentiles(const struct dataset *d, const bool *in, bool want,
                                          struct dataset_stats *s, struct graft_err *err)
{
    const int64_t kept = s->records - s->dropped;
    int64_t *have, below = 0, touched = 0;

    if (kept == 0)
        return GRAFT_OK;
    have = mem_array((size_t)s->longest + 1, sizeof *have);
    if (!have)
        return graft_fail_nomem(err, "the lengths of the records", (size_t)s->longest * 8);
    for (int64_t i = 0; i < d->count; i++) {
        dataset_touch_table(d, &touched, i);
        if (!in || in[i] == want)
            have[d->record[i].length]++;
    }
    for (int64_t n = 1; n <= s->longest && s->p95 == 0; n++) {
        below += have[n];
        if (s->p50 == 0 && 2 * below >= kept)
            s->p50 = n;
        if (20 * below >= 19 * kept)
            s->p95 = n;
    }
    mem_free(have);
    return GRAFT_OK;
}

enum graft_status dataset_count(const struct dataset *d, const bool *in, bool want,
                                struct dataset_stats *out, struct graft_err *err)
{
    struct dataset_stats s = { .records = 0 };
    int64_t touched = 0;

    for (int64_t i = 0; i < d->count; i++) {
        const struct record *r = &d->record[i];

        dataset_touch_table(d, &touched, i);
        if (in && in[i] != want)
            continue;
        s.records++;
        s.dropped += r->length == 0;
        s.truncated += r->truncated;
        s.straddling += r->straddles;
        s.endless += r->endless;
        s.tokens += r->length;
        s.targets += r->targets;
        if (r->length > s.longest)
            s.longest = r->length;
    }
    GRAFT_TRY(find_percentiles(d, in, want, &s, err));
    *out = s;
    return GRAFT_OK;
}

/* ---- parts ---- */

enum graft_status dataset_choose(const struct dataset *d, double share, int64_t number,
                                 uint64_t seed, bool *out, struct graft_err *err)
{
    const struct rng_key key = { seed, RNG_SHUFFLE, 0, SITE_SPLIT };
    const int64_t kept = d->stats.records - d->stats.dropped;
    /* 0.07 of 100 is 7, whatever their product in binary is */
    int64_t need = number ? number : (int64_t)ceil(share * (double)kept * (1 - 1e-12));
    int64_t left = kept;

    if (need >= kept)
        return graft_fail(err, GRAFT_EARG, "%lld of %lld usable records leave none to train on",
                          (long long)need, (long long)kept);
    for (int64_t i = 0; i < d->count; i++) { /* each of `left` records is as likely */
        out[i] = false;
        if (d->record[i].length == 0)
            continue;
        out[i] = (int64_t)rng_below(key, (uint64_t)i, (uint64_t)left) < need;
        need -= out[i];
        left--;
    }
    return GRAFT_OK;
}

enum graft_status dataset_part(const struct dataset *d, const bool *in, bool want,
                               struct dataset *out, struct graft_err *err)
{
    struct dataset p = {
        .token = d->token, .token_count = d->token_count, .owns_record = true, .mapped = d->mapped
    };
    struct record *record;
    int64_t n = 0;
    enum graft_status st = dataset_count(d, in, want, &p.stats, err);

    if (!st)
        st = name_files(&p, d->file, d->files, err);
    record = st ? NULL : mem_array((size_t)p.stats.records, sizeof *record);
    if (!st && !record)
        st = graft_fail_nomem(err, "a part of the data set", (size_t)p.stats.records * 32);
    for (int64_t i = 0; i < d->count && !st; i++)
        if (in[i] == want)
            record[n++] = d->record[i];
    p.record = record;
    p.count = n;
    if (st)
        dataset_release(&p);
    else
        *out = p;
    return st;
}

/* The lines of one file, whose records are [i, end) of `d`. */
static enum graft_status write_file_lines(const struct dataset *d, const bool *in, int64_t i,
                                          int64_t end, struct out_file *f, struct graft_err *err)
{
    struct jsonl j = { 0 };
    enum jsonl_next next;
    const char *text;
    size_t len;
    enum graft_status st = jsonl_open(dataset_file(d, &d->record[i]), &j, err);

    while (!st && i < end && (next = jsonl_next(&j, &text, &len)) != JSONL_END) {
        if (next == JSONL_WAIT) {
            st = jsonl_more(&j, err);
            continue;
        }
        if (j.line != d->record[i].line)
            continue;
        if (in[i++]) {
            out_file_write(f, text, len);
            out_file_write(f, "\n", 1);
        }
        jsonl_forget(&j);
    }
    if (!st && i < end)
        st = graft_fail(err, GRAFT_EFORMAT, "%s: has lost lines while it was in use", j.path);
    jsonl_close(&j);
    return st;
}

enum graft_status dataset_write_lines(const struct dataset *d, const bool *in, const char *path,
                                      struct graft_err *err)
{
    struct out_file *f = NULL;
    enum graft_status st = out_file_open(path, &f, err);

    if (st)
        return st;
    for (int64_t i = 0, end; i < d->count && !st; i = end) {
        for (end = i; end < d->count && d->record[end].file == d->record[i].file;)
            end++;
        st = write_file_lines(d, in, i, end, f, err);
    }
    if (!st)
        return out_file_commit(f, err);
    out_file_abort(f);
    return st;
}
