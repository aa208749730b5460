/* Chat templates over the interpreter in jinja.c: the variables that transformers gives them. */
#include "data/template.h"

#include <string.h>

#include "core/mem.h"
#include "data/jinja_impl.h"

struct chat_template {
    struct jinja *jinja;
    char *name;
};

enum graft_status chat_template_new(const char *name, const char *source, size_t len,
                                    struct chat_template **out, struct graft_err *err)
{
    struct chat_template *t = mem_alloc(sizeof *t);
    enum graft_status status;

    if (!t)
        return graft_fail_nomem(err, "a chat template", sizeof *t);
    t->name = mem_alloc(strlen(name) + 1);
    status = t->name ? jinja_new(source, len, &t->jinja, err)
                     : graft_fail_nomem(err, "a chat template", strlen(name) + 1);
    if (status) {
        chat_template_free(t);
        return status == GRAFT_ENOMEM ? status : graft_fail_in(err, status, "%s", name);
    }
    memcpy(t->name, name, strlen(name));
    *out = t;
    return GRAFT_OK;
}

void chat_template_free(struct chat_template *t)
{
    if (!t)
        return;
    jinja_free(t->jinja);
    mem_free(t->name);
    mem_free(t);
}

static bool has_null(const json_t *message)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)message, key, v)
    {
        if (json_is_null(v))
            return true;
    }
    return false;
}

/* The message as templates see it: without keys that are null; and reasoning, which has had three
 * names, under the newest and under the one that gpt-oss reads. */
static json_t *as_given(const json_t *message)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    json_t *reasoning = NULL, *copy;
    const char *key;
    size_t len;
    json_t *v;

    for (int i = 0; i < 3 && !reasoning; i++) {
        reasoning = json_object_get(message, names[i]);
        if (json_is_null(reasoning))
            reasoning = NULL;
    }
    if (!reasoning && !has_null(message))
        return json_incref((json_t *)(uintptr_t)message);
    copy = json_object();
    if (!copy || (reasoning && json_object_set(copy, "thinking", reasoning)))
        goto fail;
    json_object_keylen_foreach((json_t *)(uintptr_t)message, key, len, v)
    {
        if (!json_is_null(v) && json_object_setn(copy, key, len, v))
            goto fail;
    }
    if (reasoning && json_object_set(copy, "reasoning_content", reasoning))
        goto fail;
    return copy;
fail:
    json_decref(copy);
    return NULL;
}

static enum graft_status prepare_messages(const json_t *messages, json_t **out,
                                          struct graft_err *err)
{
    json_t *list;

    if (json_array_size(messages) == 0)
        return graft_fail(err, GRAFT_EFORMAT, "a conversation without messages");
    list = json_array();
    for (size_t i = 0; list && i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        json_t *copy;

        if (!json_is_object(message)) {
            json_decref(list);
            return graft_fail(err, GRAFT_EFORMAT, "messages[%zu] is not an object", i);
        }
        copy = as_given(message);
        if (!copy || json_array_append_new(list, copy)) {
            json_decref(list);
            list = NULL;
        }
    }
    if (!list)
        return graft_fail_nomem(err, "messages", 0);
    *out = list;
    return GRAFT_OK;
}

static bool digits(const char *s, int n, int *out)
{
    *out = 0;
    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *out = *out * 10 + (s[i] - '0');
    }
    return true;
}

static enum graft_status read_date(const char *text, struct jinja_date *out, struct graft_err *err)
{
    *out = (struct jinja_date){ 0 };
    if (strlen(text) == 10 && digits(text, 4, &out->year) && text[4] == '-' &&
        digits(text + 5, 2, &out->month) && text[7] == '-' && digits(text + 8, 2, &out->day) &&
        out->year > 0 && out->month >= 1 && out->month <= 12 && out->day >= 1 && out->day <= 31)
        return GRAFT_OK;
    return graft_fail(err, GRAFT_EARG, "\"%.40s\" is not a date, YYYY-MM-DD", text);
}

enum graft_status chat_date_check(const char *text, struct graft_err *err)
{
    struct jinja_date date;

    return read_date(text, &date, err);
}

enum { MAX_VARS = 64 };
struct vars {
    struct jinja_var var[MAX_VARS];
    int n;
};

static enum graft_status add_vars(struct vars *v, const json_t *object, struct graft_err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (v->n == MAX_VARS)
            return graft_fail(err, GRAFT_EARG, "more than %d template variables", MAX_VARS);
        v->var[v->n++] = (struct jinja_var){ key, value };
    }
    return GRAFT_OK;
}

static enum graft_status render(const struct chat_template *t, const json_t *messages,
                                const struct chat_opts *o, struct strbuf *out,
                                struct jinja_spans *spans, struct graft_err *err)
{
    struct vars v = { .n = 0 };
    struct jinja_date now;

    GRAFT_TRY(add_vars(&v, o->special, err));
    GRAFT_TRY(add_vars(&v, o->extra, err));
    if (v.n + 4 > MAX_VARS)
        return graft_fail(err, GRAFT_EARG, "more than %d template variables", MAX_VARS);
    v.var[v.n++] = (struct jinja_var){ "messages", messages };
    v.var[v.n++] = (struct jinja_var){ "tools", o->tools };
    v.var[v.n++] = (struct jinja_var){ "documents", o->documents };
    v.var[v.n++] = (struct jinja_var){ "add_generation_prompt",
                                       o->add_generation_prompt ? json_true() : json_false() };
    if (o->date)
        GRAFT_TRY(read_date(o->date, &now, err));
    return jinja_render(t->jinja, v.var, v.n, o->date ? &now : NULL, out, spans, err);
}

enum graft_status chat_template_render(const struct chat_template *t, const json_t *messages,
                                       const struct chat_opts *o, struct strbuf *out,
                                       struct jinja_spans *spans, struct graft_err *err)
{
    json_t *given = NULL;
    enum graft_status status;

    GRAFT_TRY(prepare_messages(messages, &given, err));
    status = render(t, given, o, out, spans, err);
    json_decref(given);
    return status && status != GRAFT_ENOMEM ? graft_fail_in(err, status, "%s", t->name) : status;
}

bool chat_template_names(const struct chat_template *t, const char *name)
{
    return jinja_names(t->jinja, name);
}

bool chat_template_marks_answers(const struct chat_template *t)
{
    return jinja_has_generation(t->jinja);
}
