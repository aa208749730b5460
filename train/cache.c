#include "train/cache.h"

#include <string.h>

#include "core/json.h"
#include "train/cache_dir.h"

/* To be raised with every change that gives the same record other tokens, or a record another
 * layout: tokens made before are then made anew. */
enum { TOKENS_VERSION = 2 };
static const int64_t LARGE = (int64_t)256 << 20; /* bytes that take minutes */

struct loading {
    const char *const *file;
    int64_t files;
    const struct dataset_opts *opts;
    struct cache_dir dir;
    struct file_stamp *stamp; /* files */
    char key[65];
    struct strbuf path; /* of the token cache */
    struct cached_data *out;
};

/* ---- the key ---- */

static void add_int(struct sha256 *sha, int64_t x)
{
    sha256_add(sha, &x, sizeof x);
}

static void add_text(struct sha256 *sha, const char *s)
{
    add_int(sha, s ? (int64_t)strlen(s) : -1);
    if (s)
        sha256_add(sha, s, strlen(s));
}

static void add_options(struct sha256 *sha, const struct dataset_opts *o)
{
    add_int(sha, o->mask_prompt);
    add_int(sha, o->train_on_last);
    add_int(sha, o->max_length);
    add_int(sha, o->max_positions);
    add_int(sha, o->vocab_rows);
    add_int(sha, o->eos);
    add_int(sha, o->stops);
    for (int i = 0; i < o->stops; i++)
        add_int(sha, o->stop[i]);
    add_int(sha, o->first_line);
    add_int(sha, o->limit);
    add_int(sha, o->tasks ? o->tasks->count : -1);
    for (int i = 0; o->tasks && i < o->tasks->count; i++)
        add_text(sha, o->tasks->name[i]);
    if (o->tasks)
        add_int(sha, o->tasks->other);
    for (int i = 0; o->virt && i < (o->tasks ? o->tasks->count : 1); i++) {
        const struct virtual_tokens *v = &o->virt[i];

        if (!v->front && !v->before && !v->placed)
            continue;
        add_int(sha, i);
        add_int(sha, v->front + v->before); /* they take positions */
        add_int(sha, v->placed);
        add_int(sha, v->placeholder);
    }
}

static enum graft_status add_words(struct sha256 *sha, const struct dataset_opts *o,
                                   struct graft_err *err)
{
    struct strbuf json = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    if (o->tokenizer)
        st = tokenizer_to_json(o->tokenizer, &json, err);
    if (!st) {
        add_int(sha, o->tokenizer ? (int64_t)json.len : -1);
        sha256_add(sha, strbuf_str(&json), json.len);
        add_int(sha, o->chat != NULL);
        if (o->chat)
            chat_hash(o->chat, sha);
    }
    strbuf_release(&json);
    return st;
}

/* The hashes of the files, which make the key with all else that has a say. */
static enum graft_status find_key(struct loading *l, struct graft_err *err)
{
    struct sha256 key, all;
    char hex[65];

    sha256_init(&key);
    sha256_init(&all);
    add_text(&key, "graft tokens " GRAFT_VERSION);
    add_int(&key, TOKENS_VERSION);
    for (int64_t i = 0; i < l->files; i++) {
        GRAFT_TRY(cache_hash(&l->dir, l->file[i], hex, &l->stamp[i], err));
        add_text(&key, hex);
        add_int(&key,
                l->opts->file_format ? (int64_t)l->opts->file_format[i] : (int64_t)l->opts->format);
        sha256_add(&all, hex, 64);
        sha256_add(&all, "\n", 1);
    }
    if (l->files == 1)
        memcpy(l->out->sha256, hex, sizeof hex);
    else
        sha256_finish(&all, l->out->sha256);
    add_options(&key, l->opts);
    GRAFT_TRY(add_words(&key, l->opts, err));
    sha256_finish(&key, l->key);
    return GRAFT_OK;
}

static enum graft_status check_unchanged(const struct loading *l, struct graft_err *err)
{
    for (int64_t i = 0; i < l->files; i++) {
        struct file_stamp now;

        GRAFT_TRY(file_stamp_get(l->file[i], &now, err));
        if (!file_stamp_same(&now, &l->stamp[i]))
            return graft_fail(err, GRAFT_EIO, "%s: changed while it was read", l->file[i]);
    }
    return GRAFT_OK;
}

/* ---- what stands beside the records ---- */

/* {"ignored": [names]} */
static void put_meta(const struct strbuf *ignored, struct strbuf *out)
{
    json_t *list = json_array(), *o;

    for (size_t i = 0; i < ignored->len; i += strlen(ignored->buf + i) + 1)
        json_array_append_new(list, json_string(ignored->buf + i));
    o = json_pack("{s:o}", "ignored", list);
    if (o)
        json_write(out, o);
    out->failed |= !o;
    json_decref(o);
}

static enum graft_status read_meta(const struct token_cache *c, const char *path,
                                   struct strbuf *ignored, struct graft_err *err)
{
    json_t *o = NULL, *v;
    size_t i;

    GRAFT_TRY(json_read(path, c->meta, c->meta_len, &o, err));
    json_array_foreach(json_object_get(o, "ignored"), i, v)
    {
        const char *name = json_string_value(v);

        if (name)
            strbuf_add(ignored, name, strlen(name) + 1);
    }
    json_decref(o);
    return ignored->failed ? graft_fail_nomem(err, "names of keys", ignored->len) : GRAFT_OK;
}

/* ---- there already ---- */

static enum graft_status open_cache(struct loading *l, struct graft_err *err)
{
    struct token_cache c = { .records = 0 };
    struct strbuf ignored = STRBUF_INIT;
    const char *path = strbuf_str(&l->path);
    enum graft_status st = token_cache_open(path, l->key, sizeof(struct record), &c, err);
    const struct dataset_arrays a = { c.record, c.token, c.records, c.tokens, true };

    if (!st)
        st = read_meta(&c, path, &ignored, err);
    if (!st)
        st = dataset_over(&a, l->file, l->files, l->opts, &l->out->data, err);
    if (st) {
        token_cache_release(&c);
    } else {
        l->out->file = c;
        cache_touch(path);
        dataset_note_ignored(l->file, l->files, &ignored);
    }
    strbuf_release(&ignored);
    return st;
}

/* ---- to be made ---- */

static enum graft_status put_in_file(void *user, const struct record *record, int64_t count,
                                     const int32_t *token, int64_t tokens, struct graft_err *err)
{
    return token_writer_add(user, record, count, token, tokens, err);
}

static void announce(const struct loading *l)
{
    int64_t bytes = 0;
    char size[32];

    for (int64_t i = 0; i < l->files; i++)
        bytes += l->stamp[i].size;
    if (bytes >= LARGE)
        graft_note("tokenising %s of records; later runs find the tokens in %s",
                   format_bytes(size, (double)bytes), strbuf_str(&l->dir.path));
}

/* EWRITE: it cannot be kept, which is no reason not to train. */
static enum graft_status make_cache(struct loading *l, struct graft_err *err)
{
    struct strbuf ignored = STRBUF_INIT, meta = STRBUF_INIT;
    struct token_writer *w = NULL;
    enum graft_status st = token_writer_new(strbuf_str(&l->path), sizeof(struct record), &w, err);

    if (st)
        return st;
    announce(l);
    st = dataset_read(l->file, l->files, l->opts, put_in_file, w, &ignored, err);
    if (!st)
        st = check_unchanged(l, err);
    if (!st) {
        put_meta(&ignored, &meta);
        st = meta.failed ? graft_fail_nomem(err, "names of keys", ignored.len) : GRAFT_OK;
    }
    if (!st)
        st = token_writer_commit(w, l->key, strbuf_str(&meta), meta.len, err);
    else
        token_writer_abort(w);
    strbuf_release(&ignored);
    strbuf_release(&meta);
    if (!st)
        cache_trim(&l->dir, strbuf_str(&l->path));
    return st;
}

static enum graft_status load_into_memory(struct loading *l, struct graft_err *err)
{
    GRAFT_TRY(dataset_load(l->file, l->files, l->opts, &l->out->data, err));
    return check_unchanged(l, err);
}

static enum graft_status load(struct loading *l, struct graft_err *err)
{
    struct graft_err why = { GRAFT_OK, "" };
    enum graft_status st;

    GRAFT_TRY(find_key(l, err));
    if (!l->dir.path.len)
        return load_into_memory(l, err);
    cache_tokens_path(&l->dir, l->key, &l->path);
    if (l->path.failed)
        return graft_fail_nomem(err, "the path of the cache", 4096);
    if (file_exists(strbuf_str(&l->path))) {
        st = open_cache(l, &why);
        if (!st)
            return GRAFT_OK;
        if (st == GRAFT_ENOMEM)
            return graft_fail(err, st, "%s", why.msg);
        graft_note("%s; the records are tokenised anew", why.msg);
    }
    st = make_cache(l, &why);
    if (!st)
        st = open_cache(l, &why);
    else if (st != GRAFT_EWRITE)
        return graft_fail(err, st, "%s", why.msg);
    if (!st)
        return GRAFT_OK;
    graft_note("the tokens cannot be kept for later runs and stay in memory: %s", why.msg);
    return load_into_memory(l, err);
}

enum graft_status cached_load(const char *const *file, int64_t files,
                              const struct dataset_opts *opts, struct cached_data *out,
                              struct graft_err *err)
{
    struct cached_data c = { .sha256 = "" };
    struct loading l = { .file = file, .files = files, .opts = opts, .out = &c };
    enum graft_status st;

    if (files < 1)
        return graft_fail(err, GRAFT_EARG, "no data file is given");
    st = cache_dir_open(&l.dir, err);
    if (!st && !(l.stamp = mem_array((size_t)files, sizeof *l.stamp)))
        st = graft_fail_nomem(err, "names of files", (size_t)files * sizeof *l.stamp);
    if (!st)
        st = load(&l, err);
    strbuf_release(&l.path);
    mem_free(l.stamp);
    cache_dir_release(&l.dir);
    if (st)
        cached_release(&c);
    else
        *out = c;
    return st;
}

void cached_release(struct cached_data *c)
{
    dataset_release(&c->data);
    token_cache_release(&c->file);
}
