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

/* Reasoning has had three names: transformers fills in the newest, and the one gpt-oss reads. */
static json_t *with_reasoning(const json_t *message)
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
    if (!reasoning)
        return json_incref((json_t *)(uintptr_t)message);
    copy = json_object();
    if (!copy || json_object_set(copy, "thinking", reasoning))
        goto fail;
    json_object_keylen_foreach((json_t *)(uintptr_t)message, key, len, v)
    {
        if (json_object_setn(copy, key, len, v))
            goto fail;
    }
    if (json_object_set(copy, "reasoning_content", reasoning))
        goto fail;
    return copy;
fail:
    json_decref(copy);
    return NULL;
}

static enum graft_status alias_reasoning(const json_t *messages, json_t **out,
                                         struct graft_err *err)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        json_t *copy;

        if (!json_is_object(message)) {
            json_decref(list);
            return graft_fail(err, GRAFT_EFORMAT, "messages[%zu] is not an object", i);
        }
        copy = with_reasoning(message);
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
    json_t *aliased = NULL;
    enum graft_status status;

    GRAFT_TRY(alias_reasoning(messages, &aliased, err));
    status = render(t, aliased, o, out, spans, err);
    json_decref(aliased);
    return status && status != GRAFT_ENOMEM ? graft_fail_in(err, status, "%s", t->name) : status;
}

/* Answers ---------------------------------------------------------------------------------------
 */

void chat_answers_release(struct chat_answers *a)
{
    mem_free(a->at);
    *a = (struct chat_answers){ .count = 0 };
}

static enum graft_status add_answer(struct chat_answers *a, int64_t message, size_t begin,
                                    size_t end, struct graft_err *err)
{
    if (a->count == a->cap) {
        const int64_t cap = a->cap ? 2 * a->cap : 8;
        struct chat_answer *at =
            mem_resize(a->at, (size_t)a->cap * sizeof *at, (size_t)cap * sizeof *at);

        if (!at)
            return graft_fail_nomem(err, "answers", (size_t)cap * sizeof *at);
        a->at = at;
        a->cap = cap;
    }
    a->at[a->count++] = (struct chat_answer){ message, begin, end };
    return GRAFT_OK;
}

static bool starts_character(const struct strbuf *s, size_t at)
{
    return at >= s->len || ((unsigned char)s->buf[at] & 0xc0) != 0x80;
}

/* Bytes that both begin with, whole characters only. */
static size_t common_start(const struct strbuf *a, const struct strbuf *b)
{
    size_t n = 0;

    while (n < a->len && n < b->len && a->buf[n] == b->buf[n])
        n++;
    while (n && !(starts_character(a, n) && starts_character(b, n)))
        n--;
    return n;
}

/* Bytes that both end with behind the first `skip`, whole characters only. */
static size_t common_end(const struct strbuf *a, const struct strbuf *b, size_t skip)
{
    size_t n = 0;

    while (n < a->len - skip && n < b->len - skip &&
           a->buf[a->len - 1 - n] == b->buf[b->len - 1 - n])
        n++;
    while (n && !starts_character(a, a->len - n))
        n--;
    return n;
}

static bool contains(const struct strbuf *s, const char *what)
{
    const struct jstr in = { strbuf_str(s), s->len }, w = { what, strlen(what) };

    return jfind(&in, 0, &w) != NULL;
}

/* Two characters for private use that are not in the text, around a word. */
static void make_marker(const struct strbuf *text, struct strbuf *out)
{
    for (uint32_t cp = 0xe000; cp < 0xf8ff; cp += 2) {
        struct strbuf one = STRBUF_INIT;
        bool used;

        strbuf_put_utf8(&one, cp);
        used = contains(text, strbuf_str(&one));
        strbuf_clear(&one);
        strbuf_put_utf8(&one, cp + 1);
        used |= contains(text, strbuf_str(&one));
        strbuf_release(&one);
        if (used)
            continue;
        strbuf_put_utf8(out, cp);
        strbuf_puts(out, "answer");
        strbuf_put_utf8(out, cp + 1);
        return;
    }
}

/* The messages up to `n`, the last of them replaced by an answer of `marker` unless that is NULL;
 * `rest`: with those behind it. */
static json_t *some_messages(const json_t *messages, size_t n, const char *marker)
{
    json_t *list = marker ? json_copy((json_t *)(uintptr_t)messages) : json_array(), *v;

    if (marker) {
        v = json_pack("{s:s, s:s}", "role", "assistant", "content", marker);
        if (!list || !v || json_array_set_new(list, n, v)) {
            json_decref(list);
            return NULL;
        }
        return list;
    }
    for (size_t i = 0; list && i < n; i++) {
        if (json_array_append(list, json_array_get(messages, i))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static enum graft_status render_some(const struct chat_template *t, const json_t *messages,
                                     size_t n, const char *marker, const struct chat_opts *o,
                                     bool prompt, struct strbuf *out, struct graft_err *err)
{
    struct chat_opts with = *o;
    json_t *list = some_messages(messages, n, marker);
    enum graft_status status;

    if (!list)
        return graft_fail_nomem(err, "messages", 0);
    with.add_generation_prompt = prompt;
    status = chat_template_render(t, list, &with, out, NULL, err);
    json_decref(list);
    return status;
}

/* What the generation prompt adds behind the first `n` messages; empty when it is no extension, or
 * the template refuses these messages. */
static enum graft_status prompt_head(const struct chat_template *t, const json_t *messages,
                                     size_t n, const struct chat_opts *o, struct strbuf *out,
                                     struct graft_err *err)
{
    struct strbuf before = STRBUF_INIT, asked = STRBUF_INIT;
    enum graft_status status = render_some(t, messages, n, NULL, o, false, &before, NULL);

    if (!status)
        status = render_some(t, messages, n, NULL, o, true, &asked, NULL);
    if (!status && asked.len > before.len &&
        (!before.len || memcmp(asked.buf, before.buf, before.len) == 0))
        strbuf_add(out, asked.buf + before.len, asked.len - before.len);
    strbuf_release(&before);
    strbuf_release(&asked);
    return status == GRAFT_ENOMEM || out->failed ? graft_fail_nomem(err, "rendered text", 0)
                                                 : GRAFT_OK;
}

/* The last `what` within [from, to) of the text; SIZE_MAX when there is none. */
static size_t last_within(const struct strbuf *text, size_t from, size_t to,
                          const struct strbuf *what)
{
    for (size_t at = to >= what->len ? to - what->len + 1 : 0; at-- > from;)
        if (memcmp(text->buf + at, what->buf, what->len) == 0)
            return at;
    return SIZE_MAX;
}

/* The end of the answer: behind the special token that follows it, if one does. */
static size_t with_end_token(const struct strbuf *text, size_t end,
                             const struct tokenizer_text *special, int64_t specials)
{
    const struct jstr rest = { strbuf_str(text) + end, text->len - end };
    const struct jstr tail = jstrip(rest, NULL, 1);
    size_t longest = 0;

    for (int64_t i = 0; i < specials; i++)
        if (special[i].len > longest && special[i].len <= tail.len &&
            memcmp(tail.p, special[i].s, special[i].len) == 0)
            longest = special[i].len;
    return longest ? end + (rest.len - tail.len) + longest : end;
}

static enum graft_status find_answer(const struct chat_template *t, const json_t *messages,
                                     size_t which, const struct chat_opts *o,
                                     const struct strbuf *text, const char *marker, size_t previous,
                                     size_t *begin, size_t *end, struct graft_err *err)
{
    struct strbuf other = STRBUF_INIT, head = STRBUF_INIT;
    enum graft_status status =
        render_some(t, messages, which, marker, o, o->add_generation_prompt, &other, err);

    if (!status && other.len == text->len &&
        (!text->len || memcmp(other.buf, text->buf, text->len) == 0))
        status = graft_fail(err, GRAFT_EFORMAT,
                            "messages[%zu]: the chat template leaves this answer out of the text",
                            which);
    if (!status) {
        *begin = common_start(text, &other);
        *end = text->len - common_end(text, &other, *begin);
        status = prompt_head(t, messages, which, o, &head, err);
    }
    if (!status && head.len) {
        const size_t at = last_within(text, previous, *begin, &head);

        if (at != SIZE_MAX)
            *begin = at + head.len;
    }
    strbuf_release(&other);
    strbuf_release(&head);
    return status;
}

static enum graft_status answers_by_blocks(const struct chat_template *t, const json_t *messages,
                                           const struct chat_opts *o, struct chat_answers *out,
                                           struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    struct jinja_spans spans = { .count = 0 };
    enum graft_status status = chat_template_render(t, messages, o, &text, &spans, err);

    for (int64_t i = 0; !status && i < spans.count; i++)
        status = add_answer(out, -1, spans.span[i].begin, spans.span[i].end, err);
    strbuf_release(&text);
    jinja_spans_release(&spans);
    return status;
}

enum graft_status chat_template_answers(const struct chat_template *t, const json_t *messages,
                                        const struct chat_opts *o, const struct strbuf *text,
                                        const struct tokenizer_text *special, int64_t specials,
                                        struct chat_answers *out, struct graft_err *err)
{
    struct strbuf marker = STRBUF_INIT;
    struct chat_answers found = { .count = 0 };
    enum graft_status status = GRAFT_OK;
    size_t end = 0;

    if (jinja_has_generation(t->jinja)) {
        status = answers_by_blocks(t, messages, o, &found, err);
    } else {
        make_marker(text, &marker);
        if (marker.failed)
            status = graft_fail_nomem(err, "a marker", 16);
        else if (!marker.len)
            status = graft_fail(err, GRAFT_EFORMAT, "the text uses all private characters");
    }
    for (size_t i = 0; !status && marker.len && i < json_array_size(messages); i++) {
        const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
        size_t begin = 0;

        if (!role || strcmp(role, "assistant"))
            continue;
        status = find_answer(t, messages, i, o, text, marker.buf, end, &begin, &end, err);
        if (status)
            break;
        end = with_end_token(text, end, special, specials);
        status = add_answer(&found, (int64_t)i, begin, end, err);
    }
    strbuf_release(&marker);
    if (status)
        chat_answers_release(&found);
    else
        *out = found;
    return status;
}
