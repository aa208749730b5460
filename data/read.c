/* JSONL files to tokens. Lines are taken in blocks; a block's lines are parsed and tokenised by all
 * threads, then handed on in file order, so that no more than one block is in memory. */
#include "data/dataset.h"

#include <string.h>

#include "data/jsonl.h"
#include "data/records.h"

enum {
    BLOCK_LINES = 1024,
    BLOCK_BYTES = 4 << 20,
    THREADS_FROM = 32 << 10, /* bytes of a block below which one thread is as fast */
    IGNORED_MAX = 32         /* names of ignored keys to remember */
};

struct line {
    const char *text; /* until the reader is asked for more */
    size_t len;
    int64_t number;
    struct record_tokens tokens;
    bool truncated, endless;
    int64_t length, targets; /* after truncation */
    int task;
    struct strbuf ignored; /* names of keys nobody uses, each with its NUL */
};

struct reader {
    struct dataset_opts opts; /* format: of the file that is read */
    dataset_put *put;
    void *user;
    const char *file;
    int32_t file_index;
    struct line *line; /* BLOCK_LINES */
    int64_t lines;
    size_t bytes;           /* of the block */
    struct record *record;  /* BLOCK_LINES: the block as it is handed on */
    struct id_list token;   /* the block's */
    int64_t records, first; /* read, and tokens put, in earlier blocks */
    struct strbuf *ignored; /* names of keys; read-only while threads run */
    int ignored_count;
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
        if (!format_uses(f, rec, key) && !has_name(r->ignored, key) &&
            !(r->opts.tasks && !strcmp(key, "task")))
            strbuf_add(out, key, strlen(key) + 1);
    }
    unused_message_keys(r->opts.chat, f, rec, out);
}

static void merge_ignored(struct reader *r, const struct strbuf *names)
{
    for (size_t i = 0; i < names->len && r->ignored_count < IGNORED_MAX;) {
        const size_t n = strlen(names->buf + i) + 1;

        if (!has_name(r->ignored, names->buf + i)) {
            strbuf_add(r->ignored, names->buf + i, n);
            r->ignored_count++;
        }
        i += n;
    }
}

/* As unused_message_keys names them. */
static bool left_out_by_template(const char *name)
{
    return strstr(name, "[]") && strncmp(name, "conversations[].", 16) != 0;
}

void dataset_note_ignored(const char *const *file, int64_t files, const struct strbuf *ignored)
{
    struct strbuf list[2] = { STRBUF_INIT, STRBUF_INIT }; /* of the format, of the template */
    int count = 0;

    for (size_t i = 0; i < ignored->len; i += strlen(ignored->buf + i) + 1, count++) {
        struct strbuf *to = &list[left_out_by_template(ignored->buf + i)];

        strbuf_puts(to, to->len ? ", " : "");
        quote_name(to, ignored->buf + i);
    }
    if (list[0].len)
        graft_note("%s: keys that the format has no use for are ignored: %s%s", file[files - 1],
                   strbuf_str(&list[0]), count == IGNORED_MAX ? ", ..." : "");
    if (list[1].len)
        graft_note("%s: keys that the chat template does not name: %s%s", file[files - 1],
                   strbuf_str(&list[1]), count == IGNORED_MAX ? ", ..." : "");
    strbuf_release(&list[0]);
    strbuf_release(&list[1]);
}

/* ---- one line ---- */

static int32_t label_at(const struct record_tokens *t, int64_t i)
{
    if (t->id.id[i] < 0)
        return NO_LABEL;
    if (t->label.count)
        return t->label.id[i];
    return i < t->masked ? NO_LABEL : t->id.id[i];
}

static void count_targets(struct line *l)
{
    l->targets = 0;
    for (int64_t i = 1; i < l->length; i++)
        l->targets += label_at(&l->tokens, i) != NO_LABEL;
    if (l->targets == 0)
        l->length = 0;
}

/* Virtual tokens in their places; the first token behind leading ones is no target. */
static enum graft_status place_virtual(const struct virtual_tokens *v, struct line *l,
                                       struct graft_err *err)
{
    struct record_tokens *t = &l->tokens;
    int64_t lead = 0;

    if (virtual_place(v, t->id.id, l->length, err))
        return l->truncated ? graft_fail_in(err, GRAFT_EFORMAT, "max_length cut the record")
                            : GRAFT_EFORMAT;
    while (lead < l->length && t->id.id[lead] < 0)
        lead++;
    if (lead && t->label.count && lead < l->length)
        t->label.id[lead] = NO_LABEL;
    else if (lead && t->masked <= lead)
        t->masked = lead + 1;
    count_targets(l);
    return GRAFT_OK;
}

static enum graft_status measure(const struct dataset_opts *o, struct line *l,
                                 struct graft_err *err)
{
    const struct virtual_tokens *v = virtual_of_task(o, l->task);
    const int64_t more = v->front + v->before;

    l->length = l->tokens.id.count;
    if (l->length > INT32_MAX)
        return graft_fail(err, GRAFT_EFORMAT, "the record has %lld tokens, more than any may have",
                          (long long)l->length);
    l->truncated = o->max_length > 0 && l->length > o->max_length;
    if (l->truncated)
        l->length = o->max_length;
    count_targets(l);
    if (l->length && v->placed)
        GRAFT_TRY(place_virtual(v, l, err));
    if (o->max_positions > 0 && l->length && more && l->length + more > o->max_positions)
        return graft_fail(err, GRAFT_EFORMAT,
                          "the record has %lld tokens and %lld positions before them, the model "
                          "%lld positions; a smaller max_length truncates it",
                          (long long)l->length, (long long)more, (long long)o->max_positions);
    if (o->max_positions > 0 && l->length > o->max_positions)
        return graft_fail(err, GRAFT_EFORMAT,
                          "the record has %lld tokens, the model %lld positions; a smaller "
                          "max_length truncates it",
                          (long long)l->length, (long long)o->max_positions);
    return GRAFT_OK;
}

static bool is_stop(const struct dataset_opts *o, int32_t id)
{
    for (int i = 0; i < o->stops; i++)
        if (o->stop[i] == id)
            return true;
    return false;
}

/* A whole conversation in which no end token is learnt: its model would not stop. */
static bool is_endless(const struct dataset_opts *o, enum record_format f, const struct line *l)
{
    const bool chat = f != RECORD_TOKENS && l->tokens.label.count > 0;

    if (!chat || l->truncated || l->length == 0 || o->stops == 0)
        return false;
    for (int64_t i = 1; i < l->length; i++)
        if (label_at(&l->tokens, i) != NO_LABEL && is_stop(o, label_at(&l->tokens, i)))
            return false;
    return true;
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
    l->endless = !st && is_endless(&r->opts, format, l);
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

/* Whether a label is more than "this token" or "none". */
static bool has_own_labels(const struct line *l)
{
    const struct record_tokens *t = &l->tokens;

    for (int64_t i = 0; i < l->length && t->label.count; i++)
        if (label_at(t, i) != NO_LABEL && t->label.id[i] != t->id.id[i])
            return true;
    return false;
}

static enum graft_status append_line(struct reader *r, const struct line *l, struct record *out,
                                     struct graft_err *err)
{
    const struct record_tokens *t = &l->tokens;

    *out = (struct record){ .first = r->first + r->token.count,
                            .line = l->number,
                            .length = (int32_t)l->length,
                            .targets = (int32_t)l->targets,
                            .file = r->file_index,
                            .task = (int16_t)l->task,
                            .truncated = l->truncated,
                            .straddles = t->straddles,
                            .labelled = has_own_labels(l),
                            .endless = l->endless };
    for (int64_t i = 0; i < l->length; i++) {
        const int32_t id = t->id.id[i];
        const bool learnt = out->labelled || label_at(t, i) != NO_LABEL;

        GRAFT_TRY(id_list_add(&r->token, id < 0 ? token_virtual(id) : learnt ? id : ~id, err));
    }
    for (int64_t i = 0; i < l->length && out->labelled; i++)
        GRAFT_TRY(id_list_add(&r->token, label_at(t, i), err));
    return GRAFT_OK;
}

static enum graft_status hand_text(const struct reader *r, const struct record_tokens *t,
                                   struct graft_err *err)
{
    if (t->text.failed)
        return graft_fail_nomem(err, "the text of a record", t->text.len);
    return r->opts.take_text(r->opts.take_user, t->text.buf, t->text.len, t->at.id, t->at.count,
                             err);
}

static enum graft_status finish_block(struct reader *r, struct graft_err *err)
{
    GRAFT_TRY(read_block(r, err));
    r->token.count = 0;
    for (int64_t i = 0; i < r->lines; i++) {
        GRAFT_TRY(append_line(r, &r->line[i], &r->record[i], err));
        if (r->opts.take_text)
            GRAFT_TRY(hand_text(r, &r->line[i].tokens, err));
        merge_ignored(r, &r->line[i].ignored);
    }
    if (r->ignored->failed)
        return graft_fail_nomem(err, "names of keys", r->ignored->len);
    if (r->lines)
        GRAFT_TRY(r->put(r->user, r->record, r->lines, r->token.id, r->token.count, err));
    r->records += r->lines;
    r->first += r->token.count;
    clear_block(r);
    return GRAFT_OK;
}

static bool is_enough(const struct reader *r)
{
    return r->opts.limit > 0 && r->records + r->lines >= r->opts.limit;
}

static enum graft_status read_lines(struct reader *r, struct jsonl *j, struct graft_err *err)
{
    enum jsonl_next next = JSONL_LINE;
    const char *text;
    size_t len;

    while (!is_enough(r) && (next = jsonl_next(j, &text, &len)) != JSONL_END) {
        if (next == JSONL_WAIT) {
            GRAFT_TRY(finish_block(r, err));
            GRAFT_TRY(jsonl_more(j, err));
            continue;
        }
        if (j->line < r->opts.first_line)
            continue;
        r->line[r->lines++] = (struct line){ .text = text, .len = len, .number = j->line };
        r->bytes += len;
        if (r->lines == BLOCK_LINES || r->bytes >= BLOCK_BYTES) {
            GRAFT_TRY(finish_block(r, err));
            jsonl_forget(j);
        }
    }
    return finish_block(r, err);
}

static enum graft_status read_file(struct reader *r, const char *path, struct graft_err *err)
{
    struct jsonl j = { .path = path };
    enum graft_status st;

    r->file = path;
    GRAFT_TRY(jsonl_open(path, &j, err));
    st = read_lines(r, &j, err);
    if (!st && r->opts.first_line > j.line)
        st = graft_fail(err, GRAFT_EARG, "%s: no line %lld, the file has %lld", path,
                        (long long)r->opts.first_line, (long long)j.line);
    clear_block(r); /* its lines lie in the file */
    jsonl_close(&j);
    return st;
}

static enum graft_status check_opts(const struct dataset_opts *o, int64_t files,
                                    struct graft_err *err)
{
    if (files < 1 || files > INT32_MAX)
        return graft_fail(err, GRAFT_EARG, files < 1 ? "no data file is given" : "too many files");
    if (o->max_length < 0 || o->max_positions < 0 || o->vocab_rows < 0)
        return graft_fail(err, GRAFT_EARG, "max_length is %lld, wanted 0 or more",
                          (long long)o->max_length);
    if (o->tasks && o->tasks->count > INT16_MAX)
        return graft_fail(err, GRAFT_EARG, "%d adapters, at most %d can be told apart by records",
                          o->tasks->count, INT16_MAX);
    return GRAFT_OK;
}

enum graft_status dataset_read(const char *const *file, int64_t files,
                               const struct dataset_opts *opts, dataset_put *put, void *user,
                               struct strbuf *ignored, struct graft_err *err)
{
    struct reader r = { .opts = *opts, .put = put, .user = user, .ignored = ignored };
    enum graft_status st = check_opts(opts, files, err);

    if (!st) {
        r.line = mem_array(BLOCK_LINES, sizeof *r.line);
        r.record = mem_array(BLOCK_LINES, sizeof *r.record);
        if (!r.line || !r.record)
            st = graft_fail_nomem(err, "lines", BLOCK_LINES * sizeof *r.line);
    }
    for (int64_t i = 0; i < files && !st && !is_enough(&r); i++) {
        if (opts->file_format)
            r.opts.format = opts->file_format[i];
        r.file_index = (int32_t)i;
        st = read_file(&r, file[i], err);
    }
    id_list_release(&r.token);
    mem_free(r.record);
    mem_free(r.line);
    return st;
}
