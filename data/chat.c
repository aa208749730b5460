#include "data/chat.h"

#include <string.h>

#include "core/mem.h"
#include "data/jinja_impl.h"

struct chat {
    char *name;
    json_t *templates, *special;
    struct chat_template *usual, *tool_use; /* tool_use: NULL without one of its own */
    struct chat_specials specials;
    int32_t end_token;
    char date[11]; /* "": none */
    struct arena mem;
};

/* Making one ------------------------------------------------------------------------------------
 */

static enum graft_status add_special(struct chat *c, struct tokenizer_text *list, const char *s,
                                     size_t len, struct graft_err *err)
{
    char *copy;

    for (int64_t i = 0; i < c->specials.count; i++)
        if (list[i].len == len && memcmp(list[i].s, s, len) == 0)
            return GRAFT_OK;
    copy = arena_strndup(&c->mem, s, len);
    if (!copy)
        return graft_fail_nomem(err, "special tokens", len);
    list[c->specials.count++] = (struct tokenizer_text){ copy, len };
    return GRAFT_OK;
}

/* The tokenizer's special tokens, and the ones that have a name (bos_token ...). */
static enum graft_status list_specials(struct chat *c, const struct tokenizer *t,
                                       struct graft_err *err)
{
    const int64_t vocab = t ? tokenizer_vocab_size(t) : 0;
    size_t most = json_object_size(c->special);
    struct tokenizer_text *list;
    const char *key;
    json_t *v;

    for (int64_t i = 0; i < vocab; i++)
        most += tokenizer_is_special(t, (int32_t)i);
    list = arena_array(&c->mem, most + 1, sizeof *list);
    if (!list)
        return graft_fail_nomem(err, "special tokens", most * sizeof *list);
    c->specials.text = list;
    json_object_foreach(c->special, key, v)
    {
        if (json_string_length(v) > 0)
            GRAFT_TRY(add_special(c, list, json_string_value(v), json_string_length(v), err));
    }
    for (int64_t i = 0; i < vocab; i++) {
        size_t len;
        const char *s = tokenizer_token(t, (int32_t)i, &len);

        if (len > 0 && tokenizer_is_special(t, (int32_t)i))
            GRAFT_TRY(add_special(c, list, s, len, err));
    }
    return GRAFT_OK;
}

static enum graft_status read_template(const struct chat *c, const char *name,
                                       struct chat_template **out, struct graft_err *err)
{
    const json_t *v = json_object_get(c->templates, name);

    *out = NULL;
    return v ? chat_template_new(c->name, json_string_value(v), json_string_length(v), out, err)
             : GRAFT_OK;
}

static enum graft_status fail_no_default(const struct chat *c, struct graft_err *err)
{
    struct strbuf names = STRBUF_INIT;
    const char *key;
    json_t *v;

    json_object_foreach(c->templates, key, v)
        strbuf_printf(&names, "%s%.40s", names.len ? ", " : "", key);
    graft_fail(
        err, GRAFT_EFORMAT,
        "%s: several chat templates (%s) and none is named default; put the one that is meant "
        "into a .jinja file and name it as data.template",
        c->name, strbuf_str(&names));
    strbuf_release(&names);
    return GRAFT_EFORMAT;
}

/* The longest special token that the text before `end` ends with; len 0: none. */
static struct tokenizer_text special_before(const struct chat_specials *s, const char *text,
                                            size_t end)
{
    struct tokenizer_text found = { "", 0 };

    for (int64_t i = 0; i < s->count; i++) {
        const struct tokenizer_text *t = &s->text[i];

        if (t->len > found.len && t->len <= end && memcmp(text + end - t->len, t->s, t->len) == 0)
            found = *t;
    }
    return found;
}

/* What stands behind the answer of the shortest conversation; a template that refuses that says
 * nothing. */
static void find_end_token(struct chat *c, const struct tokenizer *t)
{
    json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content", "a", "role",
                                 "assistant", "content", "b");
    const struct chat_opts o = { .special = c->special, .date = "2024-07-06" };
    struct strbuf text = STRBUF_INIT;
    struct chat_answers a = { .count = 0 };
    struct tokenizer_text end = { "", 0 };

    if (messages && !chat_template_render(c->usual, messages, &o, &text, NULL, NULL) &&
        !chat_template_answers(c->usual, messages, &o, &text, &c->specials, NULL, false, &a,
                               NULL) &&
        a.count > 0) {
        const size_t last = a.at[a.count - 1].end;
        const size_t done = chat_answer_end(&text, last, &c->specials);

        /* a generation block may go on behind the end token to the line's end, or stop before it */
        end = special_before(&c->specials, text.buf,
                             jstrip((struct jstr){ text.buf, last }, NULL, 2).len);
        if (!end.len && done > last)
            end = special_before(&c->specials, text.buf, done);
    }
    c->end_token = end.len && t ? tokenizer_id(t, end.s, end.len) : -1;
    chat_answers_release(&a);
    strbuf_release(&text);
    json_decref(messages);
}

static enum graft_status build(struct chat *c, const struct chat_parts *p, struct graft_err *err)
{
    c->name = arena_strdup(&c->mem, p->name);
    c->templates = json_copy((json_t *)(uintptr_t)p->templates);
    c->special = p->special ? json_copy((json_t *)(uintptr_t)p->special) : json_object();
    if (!c->name || !c->templates || !c->special)
        return graft_fail_nomem(err, "a chat template", 1024);
    if (!json_object_get(c->templates, "default"))
        return fail_no_default(c, err);
    GRAFT_TRY(read_template(c, "default", &c->usual, err));
    GRAFT_TRY(read_template(c, "tool_use", &c->tool_use, err));
    GRAFT_TRY(list_specials(c, p->tokenizer, err));
    find_end_token(c, p->tokenizer);
    return GRAFT_OK;
}

enum graft_status chat_new(const struct chat_parts *p, struct chat **out, struct graft_err *err)
{
    struct chat *c = mem_alloc(sizeof *c);
    enum graft_status st;

    if (!c)
        return graft_fail_nomem(err, "a chat template", sizeof *c);
    st = build(c, p, err);
    if (st)
        chat_free(c);
    else
        *out = c;
    return st;
}

void chat_free(struct chat *c)
{
    if (!c)
        return;
    chat_template_free(c->usual);
    chat_template_free(c->tool_use);
    json_decref(c->templates);
    json_decref(c->special);
    arena_release(&c->mem);
    mem_free(c);
}

enum graft_status chat_set_date(struct chat *c, const char *date, struct graft_err *err)
{
    GRAFT_TRY(chat_date_check(date, err));
    memcpy(c->date, date, sizeof c->date);
    return GRAFT_OK;
}

const char *chat_date(const struct chat *c)
{
    return c->date[0] ? c->date : NULL;
}

bool chat_asks_date(const struct chat *c)
{
    return chat_template_names(c->usual, "strftime_now") ||
           (c->tool_use && chat_template_names(c->tool_use, "strftime_now"));
}

static bool in_word(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool has_word(const char *text, const char *word)
{
    const size_t n = strlen(word);

    for (const char *p = strstr(text, word); p && n; p = strstr(p + n, word))
        if ((p == text || !in_word(p[-1])) && !in_word(p[n]))
            return true;
    return false;
}

bool chat_has_word(const struct chat *c, const char *word)
{
    static const char *const used[] = { "default", "tool_use" };

    for (int i = 0; i < 2; i++) {
        const char *text = json_string_value(json_object_get(c->templates, used[i]));

        if (text && has_word(text, word))
            return true;
    }
    return false;
}

const char *chat_name(const struct chat *c)
{
    return c->name;
}

const json_t *chat_templates(const struct chat *c)
{
    return c->templates;
}

int32_t chat_end_token(const struct chat *c)
{
    return c->end_token;
}

static void hash_text(struct sha256 *into, const char *s, size_t len)
{
    const uint64_t n = len;

    sha256_add(into, &n, sizeof n);
    sha256_add(into, s, len);
}

static void hash_object(struct sha256 *into, const json_t *o)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)o, key, v)
    {
        hash_text(into, key, strlen(key));
        hash_text(into, json_string_value(v), json_string_length(v));
    }
}

void chat_hash(const struct chat *c, struct sha256 *into)
{
    hash_object(into, c->templates);
    hash_object(into, c->special);
    hash_text(into, c->date, chat_asks_date(c) ? strlen(c->date) : 0);
}

/* Rendering -------------------------------------------------------------------------------------
 */

static const struct chat_template *choose(const struct chat *c, const struct chat_turns *turns)
{
    return turns->tools && c->tool_use ? c->tool_use : c->usual;
}

static struct chat_opts opts_of(const struct chat *c, const struct chat_turns *turns, bool prompt)
{
    return (struct chat_opts){ .tools = turns->tools,
                               .documents = turns->documents,
                               .special = c->special,
                               .extra = turns->extra,
                               .add_generation_prompt = prompt,
                               .date = chat_date(c) };
}

/* Does this other way to tell the conversation give the same text? A refusal is another text. */
static bool same_text(const struct chat_template *t, const json_t *messages,
                      const struct chat_opts *o, const char *text, size_t len)
{
    struct strbuf other = STRBUF_INIT;
    const bool same = !chat_template_render(t, messages, o, &other, NULL, NULL) &&
                      other.len == len && memcmp(strbuf_str(&other), text, len) == 0;

    strbuf_release(&other);
    return same;
}

static bool is_filled(const json_t *v)
{
    return json_is_object(v) ? json_object_size(v) > 0
                             : v && !json_is_null(v) && !(json_is_array(v) && !json_array_size(v));
}

/* The messages with one call of message `i` left out, with the only one the key; NULL: no memory.
 */
static json_t *without_call(const json_t *messages, size_t i, size_t call)
{
    json_t *list = json_copy((json_t *)(uintptr_t)messages);
    json_t *m = json_copy(json_array_get(messages, i));
    json_t *calls = json_copy(json_object_get(m, "tool_calls"));
    const bool only = json_array_size(calls) < 2;

    if (!list || !calls ||
        (only ? json_object_del(m, "tool_calls") : json_array_remove(calls, call)) ||
        (!only && json_object_set(m, "tool_calls", calls)) || json_array_set(list, i, m)) {
        json_decref(list);
        list = NULL;
    }
    json_decref(calls);
    json_decref(m);
    return list;
}

/* Each by itself: some templates render the first one alone. */
static enum graft_status check_calls(const struct chat_template *t, json_t *messages, size_t i,
                                     const struct chat_opts *o, const char *text, size_t len,
                                     struct graft_err *err)
{
    const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
    size_t call = 0;

    do {
        json_t *list = without_call(messages, i, call);
        const bool same = list && same_text(t, list, o, text, len);

        json_decref(list);
        if (!list)
            return graft_fail_nomem(err, "messages", 1024);
        if (same)
            return graft_fail(err, GRAFT_EFORMAT,
                              "messages[%zu]: the chat template leaves tool_calls[%zu] out of the "
                              "text",
                              i, call);
    } while (++call < json_array_size(calls));
    return GRAFT_OK;
}

/* Tools and calls of them are rendered or refused, never dropped. */
static enum graft_status check_tools(const struct chat_template *t, json_t *messages,
                                     const struct chat_opts *o, const char *text, size_t len,
                                     struct graft_err *err)
{
    struct chat_opts without = *o;

    without.tools = NULL;
    if (is_filled(o->tools) && same_text(t, messages, &without, text, len))
        return graft_fail(err, GRAFT_EFORMAT,
                          "the chat template leaves the record's tools out of the text");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (is_filled(json_object_get(json_array_get(messages, i), "tool_calls")))
            GRAFT_TRY(check_calls(t, messages, i, o, text, len, err));
    return GRAFT_OK;
}

enum graft_status chat_render_answers(const struct chat *c, const struct chat_turns *turns,
                                      const bool *want, bool whole, struct strbuf *out,
                                      struct chat_answers *answers, struct graft_err *err)
{
    const struct chat_template *t = choose(c, turns);
    const struct chat_opts o = opts_of(c, turns, false);
    json_t *messages = NULL;
    enum graft_status st = chat_template_fit_parts(t, turns->messages, &o, &messages, err);

    if (!st)
        st = chat_template_render(t, messages, &o, out, NULL, err);
    if (!st)
        st = check_tools(t, messages, &o, strbuf_str(out), out->len, err);
    if (!st)
        st = chat_template_answers(t, messages, &o, out, &c->specials, want, whole, answers, err);
    json_decref(messages);
    return st;
}

enum graft_status chat_render(const struct chat *c, const struct chat_turns *turns, bool prompt,
                              struct strbuf *out, struct graft_err *err)
{
    const struct chat_template *t = choose(c, turns);
    const struct chat_opts o = opts_of(c, turns, prompt);
    const size_t from = out->len;
    json_t *messages = NULL;
    enum graft_status st = chat_template_fit_parts(t, turns->messages, &o, &messages, err);

    if (!st)
        st = chat_template_render(t, messages, &o, out, NULL, err);
    if (!st)
        st = check_tools(t, messages, &o, strbuf_str(out) + from, out->len - from, err);
    json_decref(messages);
    return st;
}
