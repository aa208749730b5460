/* JSONL files to tokens. Lines are taken in blocks; a block's lines are parsed and tokenised by all
 * threads, then appended in file order, so that memory beyond the tokens is one block's. */
#include "data/dataset.h"

#include <string.h>

#include "core/file.h"
#include "data/jsonl.h"
#include "data/records.h"

enum {
    BLOCK_LINES = 1024,
    BLOCK_BYTES = 4 << 20,
    THREADS_FROM = 32 << 10, /* bytes of a block below which one thread is as fast */
    IGNORED_MAX = 32         /* names of ignored keys to remember */
};

struct line {
    const char *text; /* in the mapped file */
    size_t len;
    int64_t number;
    struct record_tokens tokens;
    bool truncated;
    int64_t length, targets; /* after truncation */
    int task;
    struct strbuf ignored; /* names of keys nobody uses, each with its NUL */
};

struct reader {
    struct dataset_opts opts; /* format: of the file that is read */
    struct dataset out;
    int64_t record_cap, id_cap;
    const char *file;  /* in out.mem */
    struct line *line; /* BLOCK_LINES */
    int64_t lines;
    size_t bytes;          /* of the block */
    struct strbuf ignored; /* told at the end; read-only while threads run */
    int ignored_count;
    struct sha256 hash;
};

/* ---- names of ignored keys ---- */

static bool has_name(const struct strbuf *names, const char *name)
{
    for (size_t i = 0; i < names->len; i += strlen(names->buf + i) + 1)
        if (strcmp(names->buf + i, name) == 0)
            return true;
    return false;
}

static void collect_ignored(const struct reader *r, const json_t *rec, enum record_format f,
                            struct strbuf *out)
{
    const char *key;
    json_t *v;

    if (r->ignored_count == IGNORED_MAX)
        return;
    json_object_foreach((json_t *)rec, key, v)
    {
        if (!format_has_key(f, key) && !has_name(&r->ignored, key) &&
            !(r->opts.tasks && !strcmp(key, "task")))
            strbuf_add(out, key, strlen(key) + 1);
    }
}

static void merge_ignored(struct reader *r, const struct strbuf *names)
{
    for (size_t i = 0; i < names->len && r->ignored_count < IGNORED_MAX;) {
        const size_t n = strlen(names->buf + i) + 1;

        if (!has_name(&r->ignored, names->buf + i)) {
            strbuf_add(&r->ignored, names->buf + i, n);
            r->ignored_count++;
        }
        i += n;
    }
}

static void note_ignored(const struct reader *r)
{
    struct strbuf list = STRBUF_INIT;

    for (size_t i = 0; i < r->ignored.len; i += strlen(r->ignored.buf + i) + 1) {
        strbuf_puts(&list, i ? ", " : "");
        quote_name(&list, r->ignored.buf + i);
    }
    if (r->ignored_count)
        graft_note("%s: keys that the format has no use for are ignored: %s%s", r->file,
                   strbuf_str(&list), r->ignored_count == IGNORED_MAX ? ", ..." : "");
    strbuf_release(&list);
}

/* ---- one line ---- */

static int32_t label_at(const struct record_tokens *t, int64_t i)
{
    if (t->label.count)
        return t->label.id[i];
    return i < t->masked ? NO_LABEL : t->id.id[i];
}

static enum graft_status measure(const struct dataset_opts *o, struct line *l,
                                 struct graft_err *err)
{
    l->length = l->tokens.id.count;
    l->truncated = o->max_length > 0 && l->length > o->max_length;
    if (l->truncated)
        l->length = o->max_length;
    l->targets = 0;
    for (int64_t i = 1; i < l->length; i++)
        l->targets += label_at(&l->tokens, i) != NO_LABEL;
    if (l->targets == 0)
        l->length = 0;
    if (o->max_positions > 0 && l->length > o->max_positions)
        return graft_fail(err, GRAFT_EFORMAT,
                          "the record has %lld tokens, the model %lld positions; a smaller "
                          "max_length truncates it",
                          (long long)l->length, (long long)o->max_positions);
    return GRAFT_OK;
}

static enum graft_status read_task(const struct task_names *t, const json_t *rec, int *out,
                                   struct graft_err *err)
{
    const json_t *v = json_object_get(rec, "task");

    *out = !v ? t->other : TASK_OF_BASE;
    if (json_is_string(v)) {
        for (int i = 0; i < t->count; i++)
            if (!strcmp(t->name[i], json_string_value(v))) {
                *out = i;
                return GRAFT_OK;
            }
        return graft_fail(err, GRAFT_EFORMAT, "there is no adapter for task \"%.64s\"",
                          json_string_value(v));
    }
    if (v && !json_is_null(v))
        return graft_fail(err, GRAFT_EFORMAT, "\"task\" is %s, wanted a string or null",
                          json_kind(v));
    if (*out == TASK_UNSAID)
        return graft_fail(
            err, GRAFT_EFORMAT,
            "the record names no \"task\" and several adapters are loaded; say which with --task");
    return GRAFT_OK;
}

static enum graft_status read_line(const struct reader *r, struct line *l, struct graft_err *err)
{
    enum record_format format;
    enum graft_status st;
    json_t *rec = NULL;

    GRAFT_TRY(jsonl_check(r->file, l->number, l->text, l->len, err));
    GRAFT_TRY(json_read_line(r->file, l->number, l->text, l->len, &rec, err));
    st = record_encode(&r->opts, rec, &l->tokens, &format, err);
    if (!st && r->opts.tasks)
        st = read_task(r->opts.tasks, rec, &l->task, err);
    if (!st)
        st = measure(&r->opts, l, err);
    if (!st)
        collect_ignored(r, rec, format, &l->ignored);
    if (!st && l->ignored.failed)
        st = graft_fail_nomem(err, "names of keys", l->ignored.len);
    json_decref(rec);
    return st && st != GRAFT_ENOMEM
               ? graft_fail_in(err, st, "%s:%lld", r->file, (long long)l->number)
               : st;
}

/* ---- a block ---- */

/* All lines of the block; of several bad ones the first in file order is told. */
static enum graft_status read_block(struct reader *r, struct graft_err *err)
{
    int64_t bad = r->lines;
    struct graft_err first = { GRAFT_OK, "" };

#pragma omp parallel for schedule(dynamic, 4) if (r->bytes > THREADS_FROM)
    for (int64_t i = 0; i < r->lines; i++) {
        struct graft_err mine = { GRAFT_OK, "" };
        int64_t so_far;

#pragma omp atomic read
        so_far = bad;
        if (i > so_far || !read_line(r, &r->line[i], &mine))
            continue;
#pragma omp critical(dataset_first_error)
        if (i < bad) {
            first = mine;
#pragma omp atomic write
            bad = i;
        }
    }
    return bad < r->lines ? graft_fail(err, first.code, "%s", first.msg) : GRAFT_OK;
}

static void clear_block(struct reader *r)
{
    for (int64_t i = 0; i < r->lines; i++) {
        record_tokens_release(&r->line[i].tokens);
        strbuf_release(&r->line[i].ignored);
    }
    r->lines = 0;
    r->bytes = 0;
}

/* Room for `n` more entries of `size` bytes in *p, growing by half. */
static enum graft_status grow(void *p, int64_t count, int64_t *cap, int64_t n, size_t size,
                              struct graft_err *err)
{
    int64_t want = *cap + *cap / 2;
    void *bigger;
    void *old;

    if (count + n <= *cap)
        return GRAFT_OK;
    if (want < count + n)
        want = count + n;
    memcpy(&old, p, sizeof old);
    bigger = mem_resize(old, (size_t)count * size, (size_t)want * size);
    if (!bigger)
        return graft_fail_nomem(err, "the data set", (size_t)want * size);
    memcpy(p, &bigger, sizeof bigger);
    *cap = want;
    return GRAFT_OK;
}

static enum graft_status append_line(struct reader *r, const struct line *l, struct graft_err *err)
{
    struct dataset *d = &r->out;
    struct dataset_stats *s = &d->stats;
    int64_t label_cap = r->id_cap;

    GRAFT_TRY(grow(&d->record, d->count, &r->record_cap, 1, sizeof *d->record, err));
    GRAFT_TRY(grow(&d->label, d->id_count, &label_cap, l->length, sizeof *d->label, err));
    GRAFT_TRY(grow(&d->id, d->id_count, &r->id_cap, l->length, sizeof *d->id, err));
    d->record[d->count++] = (struct record){ .file = r->file,
                                             .line = l->number,
                                             .first = d->id_count,
                                             .length = l->length,
                                             .targets = l->targets,
                                             .truncated = l->truncated,
                                             .straddles = l->tokens.straddles,
                                             .task = l->task };
    for (int64_t i = 0; i < l->length; i++) {
        d->id[d->id_count + i] = l->tokens.id.id[i];
        d->label[d->id_count + i] = label_at(&l->tokens, i);
    }
    d->id_count += l->length;
    s->records++;
    s->dropped += l->length == 0;
    s->truncated += l->truncated;
    s->straddling += l->tokens.straddles;
    s->tokens += l->length;
    s->targets += l->targets;
    if (l->length > s->longest)
        s->longest = l->length;
    return GRAFT_OK;
}

static enum graft_status finish_block(struct reader *r, struct graft_err *err)
{
    GRAFT_TRY(read_block(r, err));
    for (int64_t i = 0; i < r->lines; i++) {
        GRAFT_TRY(append_line(r, &r->line[i], err));
        merge_ignored(r, &r->line[i].ignored);
    }
    clear_block(r);
    return r->ignored.failed ? graft_fail_nomem(err, "names of keys", r->ignored.len) : GRAFT_OK;
}

/* ---- files ---- */

static enum graft_status read_lines(struct reader *r, struct jsonl *j, struct graft_err *err)
{
    const int64_t limit = r->opts.limit > 0 ? r->opts.limit : INT64_MAX;
    const char *text;
    size_t len;

    while (r->out.count + r->lines < limit && jsonl_next(j, &text, &len)) {
        if (j->line < r->opts.first_line)
            continue;
        r->line[r->lines++] = (struct line){ .text = text, .len = len, .number = j->line };
        r->bytes += len;
        if (r->lines == BLOCK_LINES || r->bytes >= BLOCK_BYTES)
            GRAFT_TRY(finish_block(r, err));
    }
    return finish_block(r, err);
}

static enum graft_status read_file(struct reader *r, const char *path, struct graft_err *err)
{
    struct jsonl j = { .path = path };
    enum graft_status st;

    r->file = arena_strdup(&r->out.mem, path);
    if (!r->file)
        return graft_fail_nomem(err, path, strlen(path));
    GRAFT_TRY(jsonl_open(path, &j, err));
    sha256_add(&r->hash, j.map.data, j.map.size);
    st = read_lines(r, &j, err);
    if (!st && r->opts.first_line > j.line)
        st = graft_fail(err, GRAFT_EARG, "%s: no line %lld, the file has %lld", path,
                        (long long)r->opts.first_line, (long long)j.line);
    jsonl_close(&j);
    return st;
}

/* The lengths that half and 95 % of the kept records do not exceed, by counting. */
static enum graft_status find_percentiles(struct dataset *d, struct graft_err *err)
{
    struct dataset_stats *s = &d->stats;
    const int64_t kept = s->records - s->dropped;
    int64_t *have, below = 0;

    if (kept == 0)
        return GRAFT_OK;
    have = mem_array((size_t)s->longest + 1, sizeof *have);
    if (!have)
        return graft_fail_nomem(err, "the lengths of the records", (size_t)s->longest * 8);
    for (int64_t i = 0; i < d->count; i++)
        have[d->record[i].length]++;
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

static enum graft_status check_opts(const struct dataset_opts *o, int64_t files,
                                    struct graft_err *err)
{
    if (files < 1)
        return graft_fail(err, GRAFT_EARG, "no data file is given");
    if (o->max_length < 0 || o->max_positions < 0 || o->vocab_rows < 0)
        return graft_fail(err, GRAFT_EARG, "max_length is %lld, wanted 0 or more",
                          (long long)o->max_length);
    return GRAFT_OK;
}

enum graft_status dataset_load(const char *const *file, int64_t files,
                               const struct dataset_opts *opts, struct dataset *out,
                               struct graft_err *err)
{
    struct reader r = { .opts = *opts };
    enum graft_status st = check_opts(opts, files, err);

    sha256_init(&r.hash);
    if (!st && !(r.line = mem_array(BLOCK_LINES, sizeof *r.line)))
        st = graft_fail_nomem(err, "lines", BLOCK_LINES * sizeof *r.line);
    for (int64_t i = 0; i < files && !st && !(opts->limit && r.out.count >= opts->limit); i++) {
        if (opts->file_format)
            r.opts.format = opts->file_format[i];
        st = read_file(&r, file[i], err);
    }
    if (!st)
        st = find_percentiles(&r.out, err);
    clear_block(&r);
    mem_free(r.line);
    if (st) {
        dataset_release(&r.out);
    } else {
        sha256_finish(&r.hash, r.out.sha256);
        note_ignored(&r);
        *out = r.out;
    }
    strbuf_release(&r.ignored);
    return st;
}

void dataset_release(struct dataset *d)
{
    mem_free(d->record);
    mem_free(d->id);
    mem_free(d->label);
    arena_release(&d->mem);
    *d = (struct dataset){ .count = 0 };
}
