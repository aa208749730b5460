#include "train/text.h"

#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "io/container.h"
#include "io/gguf.h"

enum { SETTINGS_LIMIT = 64 << 20 };

/* A folder or a container: named small files. */
struct place {
    const char *path;
    struct container container; /* empty for a folder */
    bool is_container;
};

/* Append the file `name`; *found tells whether there is one. */
static enum graft_status read_named(const struct place *p, const char *name, struct strbuf *out,
                                    bool *found, struct graft_err *err)
{
    const struct container_file *f;
    struct strbuf path = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    if (p->is_container) {
        f = container_find_file(&p->container, name);
        *found = f != NULL;
        if (f)
            strbuf_add(out, f->data, f->len);
        return GRAFT_OK;
    }
    path_join(&path, p->path, name);
    *found = file_exists(strbuf_str(&path));
    if (path.failed)
        st = graft_fail_nomem(err, name, strlen(p->path));
    else if (*found)
        st = file_read(strbuf_str(&path), SETTINGS_LIMIT, out, err);
    strbuf_release(&path);
    return st;
}

/* The JSON file `name`, or NULL in *out when there is none. */
static enum graft_status read_json(const struct place *p, const char *name, json_t **out,
                                   struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT, label = STRBUF_INIT;
    bool found = false;
    enum graft_status st = read_named(p, name, &text, &found, err);

    *out = NULL;
    path_join(&label, p->path, name);
    if (!st && found)
        st = json_read(strbuf_str(&label), strbuf_str(&text), text.len, out, err);
    strbuf_release(&label);
    strbuf_release(&text);
    return st;
}

static void add_stop(struct text *t, int64_t id)
{
    if (id < 0 || id > INT32_MAX || text_stops_at(t, (int32_t)id) || t->stops == TEXT_MAX_STOPS)
        return;
    t->stop[t->stops++] = (int32_t)id;
}

/* eos_token_id of a config: an id or a list of them. Returns the first, -1 without. */
static int32_t add_stops(struct text *t, const json_t *config)
{
    const json_t *v = json_object_get(config, "eos_token_id");
    int32_t first = -1;
    size_t i;
    json_t *id;

    if (json_is_integer(v)) {
        add_stop(t, json_integer_value(v));
        return (int32_t)json_integer_value(v);
    }
    json_array_foreach(v, i, id)
    {
        if (!json_is_integer(id))
            continue;
        if (first < 0)
            first = (int32_t)json_integer_value(id);
        add_stop(t, json_integer_value(id));
    }
    return first;
}

/* eos_token of tokenizer_config.json: a string, or an object with `content`. */
static int32_t eos_of_settings(const struct text *t, const json_t *settings)
{
    const json_t *v = json_object_get(settings, "eos_token");

    if (json_is_object(v))
        v = json_object_get(v, "content");
    if (!t->tokenizer || !json_is_string(v))
        return -1;
    return tokenizer_id(t->tokenizer, json_string_value(v), json_string_length(v));
}

static enum graft_status open_place(const struct place *p, struct text *t, struct graft_err *err)
{
    struct strbuf tok = STRBUF_INIT, label = STRBUF_INIT;
    json_t *config = NULL, *generation = NULL, *settings = NULL;
    int32_t of_config = -1;
    bool found = false;
    enum graft_status st = read_named(p, "tokenizer.json", &tok, &found, err);

    path_join(&label, p->path, "tokenizer.json");
    if (!st && found)
        st = tokenizer_from_json(strbuf_str(&label), strbuf_str(&tok), tok.len, &t->tokenizer, err);
    if (!st)
        st = read_json(p, "config.json", &config, err);
    if (!st)
        st = read_json(p, "generation_config.json", &generation, err);
    if (!st)
        st = read_json(p, "tokenizer_config.json", &settings, err);
    if (!st) {
        of_config = add_stops(t, config);
        add_stops(t, generation);
        t->eos = eos_of_settings(t, settings);
        add_stop(t, t->eos);
        if (t->eos < 0)
            t->eos = of_config;
    }
    json_decref(config);
    json_decref(generation);
    json_decref(settings);
    strbuf_release(&label);
    strbuf_release(&tok);
    return st;
}

static enum graft_status gguf_texts(struct gguf *g, const char *key, struct arena *mem,
                                    const struct tokenizer_text **out, int64_t *count,
                                    struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    const struct gguf_string *s = NULL;
    struct tokenizer_text *copy;

    *out = NULL;
    *count = 0;
    if (!v)
        return GRAFT_OK;
    GRAFT_TRY(gguf_strings(g, v, &s, err));
    copy = arena_array(mem, (size_t)v->count, sizeof *copy);
    if (!copy)
        return graft_fail_nomem(err, key, (size_t)v->count * sizeof *copy);
    for (uint64_t i = 0; i < v->count; i++)
        copy[i] = (struct tokenizer_text){ s[i].s, s[i].len };
    *out = copy;
    *count = (int64_t)v->count;
    return GRAFT_OK;
}

/* An array of numbers with one entry a token, as f32 or i32; NULL when the key is absent. */
static enum graft_status gguf_numbers(struct gguf *g, const char *key, int64_t count,
                                      struct arena *mem, float **as_float, int32_t **as_int,
                                      struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);

    if (!v)
        return GRAFT_OK;
    if (v->type != GGUF_ARRAY || v->item == GGUF_STRING || v->item == GGUF_ARRAY ||
        (int64_t)v->count != count)
        return graft_fail(err, GRAFT_EFORMAT, "%s: %s needs one number for each of %lld tokens",
                          g->store.path, key, (long long)count);
    if (as_float)
        *as_float = arena_array(mem, (size_t)count, sizeof **as_float);
    else
        *as_int = arena_array(mem, (size_t)count, sizeof **as_int);
    if (as_float ? !*as_float : !*as_int)
        return graft_fail_nomem(err, key, (size_t)count * 4);
    for (int64_t i = 0; i < count; i++) {
        if (as_float)
            (*as_float)[i] = (float)gguf_number_at(v, (uint64_t)i);
        else
            (*as_int)[i] = (int32_t)gguf_number_at(v, (uint64_t)i);
    }
    return GRAFT_OK;
}

static enum graft_status gguf_id(struct gguf *g, const char *key, int64_t most, int32_t *out,
                                 struct graft_err *err)
{
    int64_t v = -1;

    GRAFT_TRY(gguf_int(g, key, -1, &v, err));
    if (v < -1 || v >= most)
        return graft_fail(err, GRAFT_EFORMAT, "%s: %s is %lld, the vocabulary has %lld tokens",
                          g->store.path, key, (long long)v, (long long)most);
    *out = (int32_t)v;
    return GRAFT_OK;
}

static enum graft_status gguf_flag(const struct gguf *g, const char *key, int *out,
                                   struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);

    *out = -1;
    if (!v)
        return GRAFT_OK;
    if (v->type != GGUF_BOOL)
        return graft_fail(err, GRAFT_EFORMAT, "%s: %s is not true or false", g->store.path, key);
    *out = *(const uint8_t *)v->data != 0;
    return GRAFT_OK;
}

static enum graft_status fill_tables(struct gguf *g, struct arena *mem, struct tokenizer_tables *t,
                                     struct graft_err *err)
{
    int64_t n;
    float *score = NULL;
    int32_t *type = NULL;

    GRAFT_TRY(gguf_str(g, "tokenizer.ggml.pre", NULL, &t->pre, err));
    GRAFT_TRY(gguf_texts(g, "tokenizer.ggml.tokens", mem, &t->token, &n, err));
    t->vocab_size = n;
    GRAFT_TRY(gguf_texts(g, "tokenizer.ggml.merges", mem, &t->merge, &t->merge_count, err));
    GRAFT_TRY(gguf_numbers(g, "tokenizer.ggml.scores", n, mem, &score, NULL, err));
    GRAFT_TRY(gguf_numbers(g, "tokenizer.ggml.token_type", n, mem, NULL, &type, err));
    t->score = score;
    t->type = type;
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.bos_token_id", n, &t->bos, err));
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.eos_token_id", n, &t->eos, err));
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.eot_token_id", n, &t->eot, err));
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.unknown_token_id", n, &t->unk, err));
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.padding_token_id", n, &t->pad, err));
    GRAFT_TRY(gguf_flag(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err));
    GRAFT_TRY(gguf_flag(g, "tokenizer.ggml.add_eos_token", &t->add_eos, err));
    return gguf_flag(g, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix, err);
}

static enum graft_status open_gguf(const char *path, struct text *t, struct graft_err *err)
{
    struct gguf g = { 0 };
    struct arena mem = ARENA_INIT;
    struct tokenizer_tables tables = { 0 };
    enum graft_status st = gguf_open(path, &g, err);

    if (!st)
        st = gguf_str(&g, "tokenizer.ggml.model", NULL, &tables.model, err);
    if (!st && tables.model) {
        st = fill_tables(&g, &mem, &tables, err);
        if (!st)
            st = tokenizer_from_tables(&tables, &t->tokenizer, err);
        if (st)
            st = graft_fail_in(err, st, "%s", path);
        t->eos = tables.eos;
        add_stop(t, tables.eos);
        add_stop(t, tables.eot);
    }
    arena_release(&mem);
    gguf_release(&g);
    return st;
}

enum graft_status text_open(const char *path, struct text *out, struct graft_err *err)
{
    struct place p = { .path = path };
    struct text t = { .eos = -1 };
    enum graft_status st;

    if (gguf_is(path)) {
        st = open_gguf(path, &t, err);
    } else if (container_is(path)) {
        p.is_container = true;
        st = container_open(path, &p.container, err);
        if (!st)
            st = open_place(&p, &t, err);
        container_release(&p.container);
    } else if (dir_exists(path)) {
        st = open_place(&p, &t, err);
    } else {
        st = tokenizer_open(path, &t.tokenizer, err);
    }
    if (st)
        text_release(&t);
    else
        *out = t;
    return st;
}

void text_release(struct text *t)
{
    tokenizer_free(t->tokenizer);
    t->tokenizer = NULL;
}

bool text_stops_at(const struct text *t, int32_t id)
{
    for (int i = 0; i < t->stops; i++)
        if (t->stop[i] == id)
            return true;
    return false;
}

static const char *const copied_files[] = { "tokenizer.json", "tokenizer_config.json",
                                            "special_tokens_map.json", "chat_template.jinja",
                                            "generation_config.json" };

struct sink {
    text_put *put;
    void *user;
};

static enum graft_status hand(const struct sink *k, const char *name, const struct strbuf *text,
                              struct graft_err *err)
{
    if (text->failed)
        return graft_fail_nomem(err, name, text->len);
    return k->put(k->user, name, strbuf_str(text), text->len, err);
}

static enum graft_status files_of_place(const struct place *p, const struct sink *k,
                                        struct graft_err *err)
{
    for (size_t i = 0; i < sizeof copied_files / sizeof *copied_files; i++) {
        struct strbuf text = STRBUF_INIT;
        bool found = false;
        enum graft_status st = read_named(p, copied_files[i], &text, &found, err);

        if (!st && found)
            st = hand(k, copied_files[i], &text, err);
        strbuf_release(&text);
        GRAFT_TRY(st);
    }
    return GRAFT_OK;
}

/* tokenizer_config.json of a GGUF: the special tokens by name, and the chat template. */
static enum graft_status settings_of_gguf(struct gguf *g, const struct text *t,
                                          const struct sink *k, struct graft_err *err)
{
    static const char *const roles[][2] = { { "bos_token", "tokenizer.ggml.bos_token_id" },
                                            { "eos_token", "tokenizer.ggml.eos_token_id" },
                                            { "unk_token", "tokenizer.ggml.unknown_token_id" },
                                            { "pad_token", "tokenizer.ggml.padding_token_id" } };
    json_t *o = json_pack("{s:s}", "tokenizer_class", "PreTrainedTokenizerFast");
    struct strbuf text = STRBUF_INIT, chat = STRBUF_INIT;
    const char *chat_template = NULL;
    enum graft_status st = gguf_str(g, "tokenizer.chat_template", NULL, &chat_template, err);

    for (size_t i = 0; i < 4 && !st; i++) {
        int32_t id = -1;
        size_t len = 0;
        const char *s;

        st = gguf_id(g, roles[i][1], tokenizer_vocab_size(t->tokenizer), &id, err);
        s = id >= 0 ? tokenizer_token(t->tokenizer, id, &len) : NULL;
        if (s)
            json_object_set_new(o, roles[i][0], json_stringn(s, len));
    }
    json_write_pretty(&text, o);
    if (!st)
        st = hand(k, "tokenizer_config.json", &text, err);
    if (!st && chat_template) {
        strbuf_puts(&chat, chat_template);
        st = hand(k, "chat_template.jinja", &chat, err);
    }
    strbuf_release(&text);
    strbuf_release(&chat);
    json_decref(o);
    return st;
}

static enum graft_status files_of_gguf(const char *path, const struct text *t, const struct sink *k,
                                       struct graft_err *err)
{
    struct gguf g = { 0 };
    struct strbuf text = STRBUF_INIT;
    enum graft_status st = gguf_open(path, &g, err);

    if (!st)
        st = tokenizer_to_json(t->tokenizer, &text, err);
    if (!st)
        st = hand(k, "tokenizer.json", &text, err);
    if (!st)
        st = settings_of_gguf(&g, t, k, err);
    strbuf_release(&text);
    gguf_release(&g);
    return st;
}

enum graft_status text_files(const char *path, const struct text *t, text_put *put, void *user,
                             struct graft_err *err)
{
    const struct sink k = { put, user };
    struct place p = { .path = path };
    enum graft_status st = GRAFT_OK;

    if (gguf_is(path))
        return t->tokenizer ? files_of_gguf(path, t, &k, err) : GRAFT_OK;
    if (!dir_exists(path)) {
        p.is_container = true;
        st = container_open(path, &p.container, err);
    }
    if (!st)
        st = files_of_place(&p, &k, err);
    container_release(&p.container);
    return st;
}

static enum graft_status put_in_folder(void *user, const char *name, const char *text, size_t len,
                                       struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    path_join(&path, user, name);
    st = file_write(strbuf_str(&path), text, len, err);
    strbuf_release(&path);
    return st;
}

enum graft_status text_copy(const char *path, const struct text *t, const char *dir,
                            struct graft_err *err)
{
    return text_files(path, t, put_in_folder, (void *)(uintptr_t)dir, err);
}
