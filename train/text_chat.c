/* The chat templates of a base: where they are kept, and the ones that a user names instead. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/file.h"
#include "core/mem.h"
#include "train/text_impl.h"

static const char FOLDER[] = "additional_chat_templates", SUFFIX[] = ".jinja";
enum { TEMPLATE_LIMIT = 4 << 20 };

static bool is_file_name(const char *s)
{
    if (!*s || *s == '.' || strlen(s) > 64)
        return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              *s == '_' || *s == '-' || *s == '.'))
            return false;
    return true;
}

enum graft_status text_add_template(json_t *out, const char *name, const char *text, size_t len,
                                    struct graft_err *err)
{
    json_t *v;

    if (!is_file_name(name))
        return GRAFT_OK;
    v = json_stringn(text, len);
    if (!v)
        return graft_fail(err, GRAFT_EFORMAT, "chat template \"%s\" is not UTF-8", name);
    return json_object_set_new(out, name, v) ? graft_fail_nomem(err, "a chat template", len)
                                             : GRAFT_OK;
}

/* "FOLDER/NAME.jinja" to NAME. */
static enum graft_status add_named(void *user, const char *path, const char *text, size_t len,
                                   struct graft_err *err)
{
    char name[PLACE_NAME_MAX];

    snprintf(name, sizeof name, "%s", path + sizeof FOLDER);
    name[strlen(name) - (sizeof SUFFIX - 1)] = '\0';
    return text_add_template(user, name, text, len, err);
}

/* chat_template.jinja and the folder of further ones. */
static enum graft_status find_files(const struct place *p, json_t *out, struct strbuf *from,
                                    struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    bool found = false;
    enum graft_status st = place_read(p, "chat_template.jinja", &text, &found, err);

    path_join(from, p->path, "chat_template.jinja");
    if (!st && found)
        st = text_add_template(out, "default", strbuf_str(&text), text.len, err);
    strbuf_release(&text);
    if (!st)
        st = place_list(p, FOLDER, SUFFIX, add_named, out, err);
    return st ? graft_fail_in(err, st, "%s", p->path) : GRAFT_OK;
}

/* chat_template of a JSON file: a text, or a list of {name, template}. */
static enum graft_status find_in_json(const json_t *settings, json_t *out, struct graft_err *err)
{
    const json_t *v = json_object_get(settings, "chat_template");

    if (json_is_string(v))
        return text_add_template(out, "default", json_string_value(v), json_string_length(v), err);
    for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i), *text = json_object_get(item, "template");
        const char *name = json_string_value(json_object_get(item, "name"));

        if (name && json_is_string(text))
            GRAFT_TRY(text_add_template(out, name, json_string_value(text),
                                        json_string_length(text), err));
    }
    return GRAFT_OK;
}

enum graft_status text_find_templates(const struct place *p, const json_t *settings, json_t **out,
                                      struct strbuf *from, struct graft_err *err)
{
    json_t *found = json_object(), *processor = NULL;
    enum graft_status st =
        found ? find_files(p, found, from, err) : graft_fail_nomem(err, "chat templates", 1024);

    if (!st && !json_object_size(found)) {
        strbuf_clear(from);
        path_join(from, p->path, "tokenizer_config.json");
        st = find_in_json(settings, found, err);
    }
    if (!st && !json_object_size(found)) { /* of models for pictures too */
        strbuf_clear(from);
        path_join(from, p->path, "chat_template.json");
        st = place_json(p, "chat_template.json", &processor, err);
        if (!st)
            st = find_in_json(processor, found, err);
        json_decref(processor);
    }
    if (!st && json_object_size(found))
        *out = json_incref(found);
    json_decref(found);
    return st;
}

static bool is_token_key(const char *key)
{
    const size_t n = strlen(key);

    return n > 6 && !strcmp(key + n - 6, "_token");
}

/* Each `x_token` that is a text or an object with `content`, unless it is there already. */
static int add_tokens(json_t *out, const json_t *from, bool any_key)
{
    const char *key;
    json_t *v;
    int failed = 0;

    json_object_foreach((json_t *)(uintptr_t)from, key, v)
    {
        json_t *text = json_is_object(v) ? json_object_get(v, "content") : v;

        if ((any_key || is_token_key(key)) && json_is_string(text) && !json_object_get(out, key))
            failed |= json_object_set(out, key, text);
    }
    return failed;
}

enum graft_status text_find_special(const struct place *p, const json_t *settings, json_t **out,
                                    struct graft_err *err)
{
    json_t *found = json_object(), *map = NULL;
    const json_t *extra = json_object_get(settings, "extra_special_tokens");
    enum graft_status st = place_json(p, "special_tokens_map.json", &map, err);

    if (!st && (!found || add_tokens(found, settings, false) ||
                (json_is_object(extra) && add_tokens(found, extra, true)) ||
                add_tokens(found, map, false)))
        st = graft_fail_nomem(err, "special tokens", 1024);
    json_decref(map);
    if (st)
        json_decref(found);
    else
        *out = found;
    return st;
}

static enum graft_status set_problem(struct text *t, const char *why, struct graft_err *err)
{
    mem_free(t->chat_problem);
    t->chat_problem = mem_alloc(strlen(why) + 1);
    if (!t->chat_problem)
        return graft_fail_nomem(err, "a message", strlen(why));
    memcpy(t->chat_problem, why, strlen(why));
    return GRAFT_OK;
}

static enum graft_status take_chat(struct text *t, const char *from, const json_t *templates,
                                   struct graft_err *err)
{
    const struct chat_parts parts = { from, templates, t->special, t->tokenizer };
    struct chat *chat = NULL;

    GRAFT_TRY(chat_new(&parts, &chat, err));
    chat_free(t->chat);
    t->chat = chat;
    mem_free(t->chat_problem);
    t->chat_problem = NULL;
    text_add_stop(t, chat_end_token(chat));
    return GRAFT_OK;
}

enum graft_status text_make_chat(struct text *t, const char *from, const json_t *templates,
                                 struct graft_err *err)
{
    struct graft_err why = { GRAFT_OK, "" };
    enum graft_status st;

    if (!templates)
        return set_problem(t,
                           "the base has no chat template; name one with data.template in a "
                           "config, with --template for eval and generate: chatml, llama3, llama2, "
                           "mistral, zephyr, gemma, phi3 or a .jinja file",
                           err);
    st = take_chat(t, from, templates, &why);
    if (st == GRAFT_ENOMEM)
        return graft_fail(err, st, "%s", why.msg);
    /* a template that cannot be used hinders only those who need it */
    return st ? set_problem(t, why.msg, err) : GRAFT_OK;
}

static enum graft_status read_jinja(const char *path, json_t **out, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    enum graft_status st = file_read(path, TEMPLATE_LIMIT, &text, err);

    if (!st) {
        *out = json_stringn(strbuf_str(&text), text.len);
        if (!*out)
            st = graft_fail(err, GRAFT_EFORMAT, "%s: not UTF-8", path);
    }
    strbuf_release(&text);
    return st;
}

enum graft_status text_use_template(struct text *t, const char *choice, struct graft_err *err)
{
    const struct chat_builtin *b;
    json_t *templates, *source = NULL;
    enum graft_status st = GRAFT_OK;

    if (!choice || !strcmp(choice, "auto"))
        return GRAFT_OK;
    b = chat_builtin_find(choice);
    if (b)
        source = json_string(b->source);
    else
        st = read_jinja(choice, &source, err);
    if (st)
        return st;
    templates = json_pack("{s:o}", "default", source);
    st = templates ? take_chat(t, choice, templates, err)
                   : graft_fail_nomem(err, "a chat template", 1024);
    t->own_template = !st;
    json_decref(templates);
    return st;
}

enum graft_status text_set_date(struct text *t, const char *date, struct graft_err *err)
{
    char today[11];
    const time_t now = time(NULL);
    struct tm local;

    if (!t->chat || !chat_asks_date(t->chat))
        return GRAFT_OK;
    if (date)
        return chat_set_date(t->chat, date, err);
    if (!localtime_r(&now, &local) || !strftime(today, sizeof today, "%Y-%m-%d", &local))
        return graft_fail(err, GRAFT_ERUN, "the system does not tell the date");
    return chat_set_date(t->chat, today, err);
}

static enum graft_status inherit(struct text *t, const struct text *base, struct graft_err *err)
{
    const char *key;
    json_t *v;

    if (t->eos < 0)
        t->eos = base->eos;
    for (int i = 0; i < base->stops; i++)
        text_add_stop(t, base->stop[i]);
    if (!t->chat && base->chat) {
        json_object_foreach(base->special, key, v)
        {
            if (!json_object_get(t->special, key) && json_object_set(t->special, key, v))
                return graft_fail_nomem(err, "special tokens", 64);
        }
        return text_make_chat(t, chat_name(base->chat), chat_templates(base->chat), err);
    }
    return GRAFT_OK;
}

/* Has the folder such a file? Too little memory to ask is no "no". */
static enum graft_status folder_has(const char *dir, const char *name, bool *out,
                                    struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    bool failed;

    path_join(&path, dir, name);
    failed = path.failed;
    *out = !failed && file_exists(strbuf_str(&path));
    strbuf_release(&path);
    return failed ? graft_fail_nomem(err, name, strlen(dir)) : GRAFT_OK;
}

enum graft_status text_is_in(const char *dir, bool *tokenizer, bool *any, struct graft_err *err)
{
    GRAFT_TRY(folder_has(dir, "tokenizer.json", tokenizer, err));
    GRAFT_TRY(folder_has(dir, "chat_template.jinja", any, err));
    *any = *any || *tokenizer;
    return GRAFT_OK;
}

enum graft_status text_open_over(const char *dir, const char *base_path, const struct text *base,
                                 const char *date, struct text *out, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    struct text t = { .eos = -1 };
    bool tokenizer, any;
    enum graft_status st;

    GRAFT_TRY(text_is_in(dir, &tokenizer, &any, err));
    GRAFT_TRY(text_open(tokenizer ? dir : base_path, &t, err));
    if (!tokenizer) {
        path_join(&path, dir, "chat_template.jinja");
        st = text_use_template(&t, strbuf_str(&path), err);
        strbuf_release(&path);
    } else {
        st = inherit(&t, base, err);
    }
    if (!st)
        st = text_set_date(&t, date, err);
    if (st)
        text_release(&t);
    else
        *out = t;
    return st;
}

enum graft_status text_encode_turns(const struct text *t, const struct chat_turns *turns,
                                    struct id_list *out, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    enum graft_status st;

    if (!t->tokenizer || !t->chat)
        return graft_fail(err, GRAFT_EARG, "%s",
                          t->tokenizer ? t->chat_problem : "the base has no tokenizer");
    st = chat_render(t->chat, turns, true, &text, err);
    if (!st)
        st = tokenizer_encode(t->tokenizer, strbuf_str(&text), text.len, false, out, err);
    strbuf_release(&text);
    return st;
}

enum graft_status text_hand_templates(const struct text *t, const struct text_sink *k,
                                      struct graft_err *err)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)chat_templates(t->chat), key, v)
    {
        struct strbuf name = STRBUF_INIT, text = STRBUF_INIT;
        enum graft_status st;

        if (!strcmp(key, "default"))
            strbuf_puts(&name, "chat_template.jinja");
        else
            strbuf_printf(&name, "%s/%s%s", FOLDER, key, SUFFIX);
        strbuf_add(&text, json_string_value(v), json_string_length(v));
        st = text_hand(k, strbuf_str(&name), &text, err);
        strbuf_release(&name);
        strbuf_release(&text);
        GRAFT_TRY(st);
    }
    return GRAFT_OK;
}
