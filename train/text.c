#include "train/text.h"

#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "io/gguf.h"
#include "train/text_impl.h"

void text_add_stop(struct text *t, int64_t id)
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
        text_add_stop(t, json_integer_value(v));
        return (int32_t)json_integer_value(v);
    }
    json_array_foreach(v, i, id)
    {
        if (!json_is_integer(id))
            continue;
        if (first < 0)
            first = (int32_t)json_integer_value(id);
        text_add_stop(t, json_integer_value(id));
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

static enum graft_status read_chat(const struct place *p, const json_t *settings, struct text *t,
                                   struct graft_err *err)
{
    struct strbuf from = STRBUF_INIT;
    json_t *templates = NULL;
    enum graft_status st = text_find_special(p, settings, &t->special, err);

    if (!st)
        st = text_find_templates(p, settings, &templates, &from, err);
    if (!st)
        st = text_make_chat(t, strbuf_str(&from), templates, err);
    json_decref(templates);
    strbuf_release(&from);
    return st;
}

static enum graft_status open_place(const struct place *p, struct text *t, struct graft_err *err)
{
    struct strbuf tok = STRBUF_INIT, label = STRBUF_INIT;
    json_t *config = NULL, *generation = NULL, *settings = NULL;
    int32_t of_config = -1;
    bool found = false;
    enum graft_status st = place_read(p, "tokenizer.json", &tok, &found, err);

    path_join(&label, p->path, "tokenizer.json");
    if (!st && found)
        st = tokenizer_from_json(strbuf_str(&label), strbuf_str(&tok), tok.len, &t->tokenizer, err);
    if (!st)
        st = place_json(p, "config.json", &config, err);
    if (!st)
        st = place_json(p, "generation_config.json", &generation, err);
    if (!st)
        st = place_json(p, "tokenizer_config.json", &settings, err);
    if (!st) {
        of_config = add_stops(t, config);
        add_stops(t, generation);
        t->eos = eos_of_settings(t, settings);
        text_add_stop(t, t->eos);
        if (t->eos < 0)
            t->eos = of_config;
        st = read_chat(p, settings, t, err);
    }
    json_decref(config);
    json_decref(generation);
    json_decref(settings);
    strbuf_release(&label);
    strbuf_release(&tok);
    return st;
}

enum graft_status text_open(const char *path, struct text *out, struct graft_err *err)
{
    struct text t = { .eos = -1 };
    enum graft_status st;

    if (gguf_is(path)) {
        st = text_open_gguf(path, &t, err);
    } else if (container_is(path) || dir_exists(path)) {
        struct place p = { 0 };

        st = place_open(path, &p, err);
        if (!st)
            st = open_place(&p, &t, err);
        place_release(&p);
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
    chat_free(t->chat);
    tokenizer_free(t->tokenizer);
    json_decref(t->special);
    mem_free(t->chat_problem);
    *t = (struct text){ .eos = -1 };
}

bool text_stops_at(const struct text *t, int32_t id)
{
    for (int i = 0; i < t->stops; i++)
        if (t->stop[i] == id)
            return true;
    return false;
}

static const char *const copied_files[] = { "tokenizer.json", "tokenizer_config.json",
                                            "special_tokens_map.json", "generation_config.json" };

enum graft_status text_hand(const struct text_sink *k, const char *name, const struct strbuf *text,
                            struct graft_err *err)
{
    if (text->failed)
        return graft_fail_nomem(err, name, text->len);
    return k->put(k->user, name, strbuf_str(text), text->len, err);
}

static enum graft_status hand_bytes(void *user, const char *name, const char *text, size_t len,
                                    struct graft_err *err)
{
    const struct text_sink *k = user;

    return k->put(k->user, name, text, len, err);
}

/* The templates as they lie there, for words that do not know them. */
static enum graft_status hand_raw_templates(const struct place *p, const struct text_sink *k,
                                            struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    bool found = false;
    enum graft_status st = place_read(p, "chat_template.jinja", &text, &found, err);

    if (!st && found)
        st = text_hand(k, "chat_template.jinja", &text, err);
    strbuf_release(&text);
    if (!st)
        st = place_list(p, "additional_chat_templates", ".jinja", hand_bytes, (void *)(uintptr_t)k,
                        err);
    return st;
}

/* A template of one's own stands in chat_template.jinja; the old one must not stay beside it. */
static enum graft_status without_template(struct strbuf *text, struct graft_err *err)
{
    json_t *o = NULL;

    GRAFT_TRY(json_read("tokenizer_config.json", strbuf_str(text), text->len, &o, err));
    if (json_object_get(o, "chat_template")) {
        json_object_del(o, "chat_template");
        strbuf_clear(text);
        json_write_pretty(text, o);
    }
    json_decref(o);
    return GRAFT_OK;
}

static enum graft_status files_of_place(const struct place *p, const struct text *t,
                                        const struct text_sink *k, struct graft_err *err)
{
    for (size_t i = 0; i < sizeof copied_files / sizeof *copied_files; i++) {
        struct strbuf text = STRBUF_INIT;
        bool found = false;
        enum graft_status st = place_read(p, copied_files[i], &text, &found, err);

        if (!st && found && t->own_template && !strcmp(copied_files[i], "tokenizer_config.json"))
            st = without_template(&text, err);
        if (!st && found)
            st = text_hand(k, copied_files[i], &text, err);
        strbuf_release(&text);
        GRAFT_TRY(st);
    }
    return t->chat ? text_hand_templates(t, k, err) : hand_raw_templates(p, k, err);
}

enum graft_status text_files(const char *path, const struct text *t, text_put *put, void *user,
                             struct graft_err *err)
{
    const struct text_sink k = { put, user };
    struct place p = { 0 };
    enum graft_status st;

    if (gguf_is(path))
        return t->tokenizer ? text_files_of_gguf(path, t, &k, err) : GRAFT_OK;
    st = place_open(path, &p, err);
    if (!st)
        st = files_of_place(&p, t, &k, err);
    place_release(&p);
    return st;
}

static enum graft_status put_in_folder(void *user, const char *name, const char *text, size_t len,
                                       struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    path_join(&path, user, name);
    if (strchr(name, '/') && !path.failed) {
        char *slash = strrchr(path.buf, '/');

        *slash = '\0';
        st = dir_make(path.buf, err);
        *slash = '/';
    }
    if (!st)
        st = file_write(strbuf_str(&path), text, len, err);
    strbuf_release(&path);
    return st;
}

enum graft_status text_copy(const char *path, const struct text *t, const char *dir,
                            struct graft_err *err)
{
    return text_files(path, t, put_in_folder, (void *)(uintptr_t)dir, err);
}

enum graft_status text_carry(const char *from, const char *dir, struct graft_err *err)
{
    struct text t = { .eos = -1 };
    enum graft_status st = text_open(from, &t, err);

    if (!st && t.tokenizer)
        st = text_copy(from, &t, dir, err);
    text_release(&t);
    return st;
}
