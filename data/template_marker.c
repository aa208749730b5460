#include <string.h>

#include "data/jinja_impl.h"
#include "data/template_impl.h"

bool chat_contains(const struct strbuf *text, const char *what)
{
    const struct jstr in = { strbuf_str(text), text->len }, w = { what, strlen(what) };

    return jfind(&in, 0, &w) != NULL;
}

static bool contains_char(const struct strbuf *text, uint32_t cp)
{
    struct strbuf one = STRBUF_INIT;
    bool found;

    strbuf_put_utf8(&one, cp);
    found = chat_contains(text, strbuf_str(&one));
    strbuf_release(&one);
    return found;
}

enum graft_status chat_marker(const struct strbuf *text, struct strbuf *out, struct graft_err *err)
{
    uint32_t cp = 0xe000;

    while (cp < 0xf8ff && (contains_char(text, cp) || contains_char(text, cp + 1)))
        cp += 2;
    if (cp >= 0xf8ff)
        return graft_fail(err, GRAFT_EFORMAT, "the text uses all private characters");
    strbuf_put_utf8(out, cp);
    strbuf_puts(out, "answer");
    strbuf_put_utf8(out, cp + 1);
    return out->failed ? graft_fail_nomem(err, "a marker", 16) : GRAFT_OK;
}

bool chat_has_role(const json_t *message, const char *role)
{
    const char *is = json_string_value(json_object_get(message, "role"));

    return is && !strcmp(is, role);
}

json_t *chat_with_content(const json_t *message, json_t *content)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)message);

    if (!content || !copy || json_object_set(copy, "content", content)) {
        json_decref(copy);
        copy = NULL;
    }
    json_decref(content);
    return copy;
}

json_t *chat_with_message(const json_t *messages, size_t i, json_t *v)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)messages);

    if (!v || !copy || json_array_set(copy, i, v)) {
        json_decref(copy);
        copy = NULL;
    }
    json_decref(v);
    return copy;
}
