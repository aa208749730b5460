/* Contents that are lists of text parts: whether a template knows them, which is tried message by
 * message, and the parts as one string for those that do not. */
#include <string.h>

#include "data/template_impl.h"

/* A list of text parts and nothing else. A tool answers with data that may look like parts: of it
 * only what has a part's type and text and no other key is. */
static bool has_text_parts(const json_t *message)
{
    const json_t *content = json_object_get(message, "content");
    const bool tool = chat_has_role(message, "tool");

    for (size_t k = 0; k < json_array_size(content); k++) {
        const json_t *part = json_array_get(content, k);
        const char *type = json_string_value(json_object_get(part, "type"));

        if (!json_is_string(json_object_get(part, "text")) ||
            (tool && (json_object_size(part) != 2 || !type || strcmp(type, "text") != 0)))
            return false;
    }
    return json_array_size(content) > 0;
}

/* The message with its parts as one string; NULL: no memory. */
static json_t *joined(const json_t *message)
{
    const json_t *parts = json_object_get(message, "content");
    struct strbuf text = STRBUF_INIT;
    json_t *v;

    for (size_t k = 0; k < json_array_size(parts); k++) {
        v = json_object_get(json_array_get(parts, k), "text");
        strbuf_add(&text, json_string_value(v), json_string_length(v));
    }
    v = text.failed ? NULL : json_stringn(strbuf_str(&text), text.len);
    strbuf_release(&text);
    return chat_with_content(message, v);
}

/* What a template that knows parts shows of part `k` of a probe, and what it does not show. */
static void put_text_of(struct strbuf *out, const char *marker, size_t k)
{
    strbuf_printf(out, "%s%zu%s", marker, k, marker);
}

static void put_key(struct strbuf *out, const char *marker)
{
    strbuf_printf(out, "%skey%s", marker, marker);
}

/* The message with parts of the same kind, their texts markers, with a key more in each: it shows
 * where a part is printed as the map that it is. NULL: no memory. */
static json_t *probe_of(const json_t *message, const char *marker)
{
    json_t *parts = json_deep_copy(json_object_get(message, "content"));
    struct strbuf text = STRBUF_INIT, key = STRBUF_INIT;
    bool ok = parts != NULL;

    put_key(&key, marker);
    for (size_t k = 0; ok && k < json_array_size(parts); k++) {
        json_t *part = json_array_get(parts, k);

        strbuf_clear(&text);
        put_text_of(&text, marker, k);
        ok = !text.failed && !key.failed &&
             !json_object_set_new(part, "text", json_string(text.buf)) &&
             !json_object_set_new(part, key.buf, json_true());
    }
    strbuf_release(&text);
    strbuf_release(&key);
    if (!ok) {
        json_decref(parts);
        return NULL;
    }
    return chat_with_content(message, parts);
}

/* Did the template show every part's text, and that alone? What a tool answered may stand there as
 * JSON, which is a text of it. */
static bool shows_parts(const struct strbuf *text, const json_t *message, const char *marker)
{
    const size_t n = json_array_size(json_object_get(message, "content"));
    struct strbuf what = STRBUF_INIT;
    bool shown = true;

    for (size_t k = 0; k < n && shown; k++) {
        strbuf_clear(&what);
        put_text_of(&what, marker, k);
        shown = chat_contains(text, strbuf_str(&what));
    }
    strbuf_clear(&what);
    put_key(&what, marker);
    shown = shown && (chat_has_role(message, "tool") || !chat_contains(text, strbuf_str(&what)));
    strbuf_release(&what);
    return shown;
}

/* Whether message `i` is understood as parts: among the others as they are; where the template
 * refuses that, among `plain` ones. */
static enum graft_status knows_parts(const struct chat_template *t, const json_t *messages,
                                     const json_t *plain, size_t i, const struct chat_opts *o,
                                     const char *marker, bool *knows, struct graft_err *err)
{
    const json_t *const others[] = { messages, plain };
    const json_t *message = json_array_get(messages, i);
    enum graft_status st = GRAFT_EFORMAT;

    *knows = false;
    for (int k = 0; k < 2 && st == GRAFT_EFORMAT; k++) {
        json_t *list = chat_with_message(others[k], i, probe_of(message, marker));
        struct strbuf text = STRBUF_INIT;

        st = list ? chat_template_render(t, list, o, &text, NULL, NULL) : GRAFT_ENOMEM;
        *knows = !st && shows_parts(&text, message, marker);
        strbuf_release(&text);
        json_decref(list);
    }
    return st == GRAFT_ENOMEM ? graft_fail_nomem(err, "messages", 1024) : GRAFT_OK;
}

/* The conversation without parts; NULL: no memory. */
static json_t *join_all(const json_t *messages)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < json_array_size(messages); i++) {
        json_t *m = json_array_get(messages, i);

        if (json_array_append_new(list, has_text_parts(m) ? joined(m) : json_incref(m))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* The messages with the parts that the template understands, of `plain` where it does not. */
static enum graft_status fit(const struct chat_template *t, const json_t *messages,
                             const json_t *plain, const struct chat_opts *o, const char *marker,
                             json_t *out, struct graft_err *err)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *m = json_array_get(messages, i);
        bool knows = true;

        if (has_text_parts(m))
            GRAFT_TRY(knows_parts(t, messages, plain, i, o, marker, &knows, err));
        if (json_array_append(out, knows ? m : json_array_get(plain, i)))
            return graft_fail_nomem(err, "messages", 1024);
    }
    return GRAFT_OK;
}

static bool any_parts(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (has_text_parts(json_array_get(messages, i)))
            return true;
    return false;
}

enum graft_status chat_template_fit_parts(const struct chat_template *t, const json_t *messages,
                                          const struct chat_opts *o, json_t **out,
                                          struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT, marker = STRBUF_INIT;
    json_t *plain, *list;
    enum graft_status st;

    if (!any_parts(messages)) {
        *out = json_incref((json_t *)(uintptr_t)messages);
        return GRAFT_OK;
    }
    plain = join_all(messages);
    list = json_array();
    st = plain && list ? chat_template_render(t, plain, o, &text, NULL, NULL) : GRAFT_ENOMEM;
    if (st == GRAFT_ENOMEM)
        st = graft_fail_nomem(err, "messages", 1024);
    else /* a template may refuse strings, and take parts */
        st = chat_marker(&text, &marker, err);
    if (!st)
        st = fit(t, messages, plain, o, marker.buf, list, err);
    strbuf_release(&text);
    strbuf_release(&marker);
    json_decref(plain);
    if (st)
        json_decref(list);
    else
        *out = list;
    return st;
}
