/* Records of conversations, in their three forms, to one. */
#include "data/conversation.h"

#include <string.h>

#include "data/records.h"

void conversation_release(struct conversation *c)
{
    json_decref(c->messages);
    json_decref(c->tools);
    *c = (struct conversation){ .first = 0 };
}

struct chat_turns conversation_turns(const struct conversation *c)
{
    return (struct chat_turns){ c->messages, c->tools, c->documents, c->extra };
}

/* Checking --------------------------------------------------------------------------------------
 */

bool message_is_answer(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));

    return role && !strcmp(role, "assistant");
}

static enum graft_status check_part(const char *name, size_t i, size_t k, const json_t *part,
                                    struct graft_err *err)
{
    const json_t *type = json_object_get(part, "type"), *text = json_object_get(part, "text");

    if (!json_is_object(part))
        return graft_fail(err, GRAFT_EFORMAT, "%s[%zu].content[%zu] is %s, wanted a text part",
                          name, i, k, json_kind(part));
    if (json_is_string(type) && strcmp(json_string_value(type), "text") != 0)
        return graft_fail(
            err, GRAFT_EFORMAT,
            "%s[%zu].content[%zu] is a part of type \"%.40s\", only text is supported", name, i, k,
            json_string_value(type));
    if (!json_is_string(text))
        return graft_fail(err, GRAFT_EFORMAT, "%s[%zu].content[%zu] has no \"text\"", name, i, k);
    return GRAFT_OK;
}

/* A string, or a list of text parts; a tool may answer with anything, an answer with nothing but
 * calls or reasoning. */
static enum graft_status check_content(const char *name, size_t i, const json_t *m,
                                       struct graft_err *err)
{
    const json_t *content = json_object_get(m, "content");
    const char *role = json_string_value(json_object_get(m, "role"));

    if (!content || json_is_null(content) || json_is_string(content) || !strcmp(role, "tool"))
        return GRAFT_OK;
    if (!json_is_array(content))
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s[%zu].content is %s, wanted a string or a list of text parts", name, i,
                          json_kind(content));
    for (size_t k = 0; k < json_array_size(content); k++)
        GRAFT_TRY(check_part(name, i, k, json_array_get(content, k), err));
    return GRAFT_OK;
}

enum graft_status message_weight(const char *name, size_t i, const json_t *m, bool *never,
                                 struct graft_err *err)
{
    const json_t *weight = json_object_get(m, "weight"), *train = json_object_get(m, "train");
    const bool has_weight = weight && !json_is_null(weight),
               has_train = train && !json_is_null(train);

    if (has_weight && !(json_is_number(weight) &&
                        (json_number_value(weight) == 0 || json_number_value(weight) == 1)))
        return graft_fail(err, GRAFT_EFORMAT, "%s[%zu].weight is %s, wanted 0 or 1", name, i,
                          json_is_number(weight) ? "another number" : json_kind(weight));
    if (has_train && !json_is_boolean(train))
        return graft_fail(err, GRAFT_EFORMAT, "%s[%zu].train is %s, wanted true or false", name, i,
                          json_kind(train));
    *never = (has_weight && json_number_value(weight) == 0) || (has_train && !json_is_true(train));
    if (!*never && !message_is_answer(m) && (has_weight || has_train))
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s[%zu] asks to be learnt and its role is \"%.40s\"; only answers, role "
                          "assistant, can be",
                          name, i, json_string_value(json_object_get(m, "role")));
    return GRAFT_OK;
}

static enum graft_status check_messages(const char *name, const json_t *list, struct graft_err *err)
{
    if (!json_is_array(list))
        return graft_fail(err, GRAFT_EFORMAT, "\"%s\" is %s, wanted a list of messages", name,
                          json_kind(list));
    if (json_array_size(list) == 0)
        return graft_fail(err, GRAFT_EFORMAT, "\"%s\" has no messages", name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i), *role = json_object_get(m, "role");
        bool never;

        if (!json_is_object(m))
            return graft_fail(err, GRAFT_EFORMAT, "%s[%zu] is %s, wanted an object", name, i,
                              json_kind(m));
        if (!json_is_string(role))
            return graft_fail(err, GRAFT_EFORMAT, "%s[%zu].role is %s, wanted a string%s", name, i,
                              role ? json_kind(role) : "missing",
                              json_object_get(m, "from")
                                  ? " (\"from\" and \"value\" are of the format sharegpt)"
                                  : "");
        GRAFT_TRY(check_content(name, i, m, err));
        GRAFT_TRY(message_weight(name, i, m, &never, err));
    }
    return GRAFT_OK;
}

/* A list of tools, or that list as JSON in a string, as tables of one type a column have it. */
static enum graft_status read_tools(const json_t *v, json_t **out, struct graft_err *err)
{
    json_t *list = NULL;
    struct graft_err why = { GRAFT_OK, "" };

    if (!v || (json_is_string(v) && json_string_length(v) == 0))
        return GRAFT_OK;
    if (json_is_array(v)) {
        list = json_incref((json_t *)(uintptr_t)v);
    } else if (json_is_string(v)) {
        const enum graft_status st =
            json_read_line("tools", 1, json_string_value(v), json_string_length(v), &list, &why);

        if (st)
            return graft_fail(err, st, "\"tools\" is a string that is no JSON (%s)", why.msg);
    }
    if (!json_is_array(list)) {
        json_decref(list);
        return graft_fail(err, GRAFT_EFORMAT, "\"tools\" is %s, wanted a list", json_kind(v));
    }
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_object(json_array_get(list, i))) {
            graft_fail(err, GRAFT_EFORMAT, "tools[%zu] is %s, wanted an object", i,
                       json_kind(json_array_get(list, i)));
            json_decref(list);
            return GRAFT_EFORMAT;
        }
    *out = list;
    return GRAFT_OK;
}

/* The value of a key; NULL when it is absent or null. */
static const json_t *get(const json_t *rec, const char *key)
{
    const json_t *v = json_object_get(rec, key);

    return v && !json_is_null(v) ? v : NULL;
}

static enum graft_status read_more(const json_t *rec, struct conversation *c, struct graft_err *err)
{
    static const char *const given[] = { "messages", "tools", "documents",
                                         "add_generation_prompt" };

    c->documents = get(rec, "documents");
    c->extra = get(rec, "chat_template_kwargs");
    if (c->documents && !json_is_array(c->documents))
        return graft_fail(err, GRAFT_EFORMAT, "\"documents\" is %s, wanted a list",
                          json_kind(c->documents));
    if (c->extra && !json_is_object(c->extra))
        return graft_fail(err, GRAFT_EFORMAT, "\"chat_template_kwargs\" is %s, wanted an object",
                          json_kind(c->extra));
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        if (json_object_get(c->extra, given[i]))
            return graft_fail(err, GRAFT_EFORMAT,
                              "chat_template_kwargs.%s: the template gets it from elsewhere",
                              given[i]);
    return read_tools(get(rec, "tools"), &c->tools, err);
}

enum graft_status conversation_of_messages(const json_t *rec, struct conversation *out,
                                           struct graft_err *err)
{
    json_t *messages = json_object_get(rec, "messages");
    struct conversation c = { .first = 0 };

    GRAFT_TRY(check_messages("messages", messages, err));
    GRAFT_TRY(read_more(rec, &c, err));
    c.messages = json_incref(messages);
    *out = c;
    return GRAFT_OK;
}

enum graft_status conversation_of_pair(const json_t *rec, const json_t *prompt,
                                       const json_t *completion, struct conversation *out,
                                       struct graft_err *err)
{
    struct conversation c = { .first = json_array_size(prompt) };

    GRAFT_TRY(check_messages("prompt", prompt, err));
    GRAFT_TRY(check_messages("completion", completion, err));
    GRAFT_TRY(read_more(rec, &c, err));
    c.messages = json_copy((json_t *)(uintptr_t)prompt);
    if (!c.messages || json_array_extend(c.messages, (json_t *)(uintptr_t)completion)) {
        conversation_release(&c);
        return graft_fail_nomem(err, "messages", 1024);
    }
    *out = c;
    return GRAFT_OK;
}

/* sharegpt --------------------------------------------------------------------------------------
 */

static const char *const sharegpt_roles[][2] = {
    { "human", "user" }, { "gpt", "assistant" },       { "system", "system" },
    { "tool", "tool" },  { "observation", "tool" },    { "function_call", "assistant" },
    { "user", "user" },  { "assistant", "assistant" },
};

static const char *role_of(const char *from)
{
    for (size_t i = 0; i < sizeof sharegpt_roles / sizeof *sharegpt_roles; i++)
        if (!strcmp(sharegpt_roles[i][0], from))
            return sharegpt_roles[i][1];
    return NULL;
}

static enum graft_status fail_from(size_t i, const json_t *turn, struct graft_err *err)
{
    const json_t *from = json_object_get(turn, "from");

    if (json_object_get(turn, "role"))
        return graft_fail(err, GRAFT_EFORMAT,
                          "conversations[%zu] has \"role\", wanted \"from\" and \"value\"; to make "
                          "messages of them: jq -c '{messages: .conversations}'",
                          i);
    if (!json_is_string(from))
        return graft_fail(err, GRAFT_EFORMAT, "conversations[%zu].from is %s, wanted a string", i,
                          from ? json_kind(from) : "missing");
    return graft_fail(err, GRAFT_EFORMAT,
                      "conversations[%zu].from is \"%.40s\", wanted human, gpt, system, tool, "
                      "observation or function_call",
                      i, json_string_value(from));
}

static enum graft_status add_turn(size_t i, const json_t *turn, json_t *messages,
                                  struct graft_err *err)
{
    const char *from = json_string_value(json_object_get(turn, "from"));
    const char *role = from ? role_of(from) : NULL;
    json_t *value = json_object_get(turn, "value"), *m;
    static const char *const kept[] = { "weight", "train" };

    if (!json_is_object(turn))
        return graft_fail(err, GRAFT_EFORMAT, "conversations[%zu] is %s, wanted an object", i,
                          json_kind(turn));
    if (!role)
        return fail_from(i, turn, err);
    if (!json_is_string(value))
        return graft_fail(err, GRAFT_EFORMAT, "conversations[%zu].value is %s, wanted a string", i,
                          value ? json_kind(value) : "missing");
    m = json_pack("{s:s, s:O}", "role", role, "content", value);
    for (size_t k = 0; m && k < 2; k++) {
        json_t *v = json_object_get(turn, kept[k]);

        if (v && json_object_set(m, kept[k], v)) {
            json_decref(m);
            m = NULL;
        }
    }
    return m && !json_array_append_new(messages, m) ? GRAFT_OK
                                                    : graft_fail_nomem(err, "messages", 1024);
}

static enum graft_status turn_all(const json_t *rec, struct conversation *c, struct graft_err *err)
{
    const json_t *turns = json_object_get(rec, "conversations");
    const json_t *system = json_object_get(rec, "system");

    if (!json_is_array(turns))
        return graft_fail(err, GRAFT_EFORMAT, "\"conversations\" is %s, wanted a list",
                          json_kind(turns));
    if (system && !json_is_null(system) && !json_is_string(system))
        return graft_fail(err, GRAFT_EFORMAT, "\"system\" is %s, wanted a string",
                          json_kind(system));
    c->messages = json_array();
    if (!c->messages ||
        (json_string_length(system) > 0 &&
         json_array_append_new(c->messages,
                               json_pack("{s:s, s:O}", "role", "system", "content", system))))
        return graft_fail_nomem(err, "messages", 1024);
    for (size_t i = 0; i < json_array_size(turns); i++)
        GRAFT_TRY(add_turn(i, json_array_get(turns, i), c->messages, err));
    return GRAFT_OK;
}

enum graft_status conversation_of_sharegpt(const json_t *rec, struct conversation *out,
                                           struct graft_err *err)
{
    struct conversation c = { .first = 0 };
    enum graft_status st = turn_all(rec, &c, err);

    if (!st)
        st = check_messages("conversations", c.messages, err);
    if (!st)
        st = read_more(rec, &c, err);
    if (st)
        conversation_release(&c);
    else
        *out = c;
    return st;
}
