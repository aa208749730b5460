/* Where the answers of a conversation lie in its text: by the template's own blocks, or by what
 * changes when an answer does. */
#include <string.h>

#include "core/mem.h"
#include "data/jinja_impl.h"
#include "data/template_impl.h"

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

/* The messages before `n`; with a marker all of them, message `n` replaced by an answer of it.
 * NULL: no memory. */
static json_t *some_messages(const json_t *messages, size_t n, const char *marker)
{
    json_t *list;

    if (marker)
        return chat_with_message(messages, n,
                                 json_pack("{s:s, s:s}", "role", "assistant", "content", marker));
    list = json_array();
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

size_t chat_answer_end(const struct strbuf *text, size_t end, const struct chat_specials *special)
{
    const struct jstr rest = { strbuf_str(text) + end, text->len - end };
    const struct jstr tail = jstrip(rest, NULL, 1);
    size_t longest = 0;

    for (int64_t i = 0; i < special->count; i++)
        if (special->text[i].len > longest && special->text[i].len <= tail.len &&
            memcmp(tail.p, special->text[i].s, special->text[i].len) == 0)
            longest = special->text[i].len;
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

    if (status && status != GRAFT_ENOMEM)
        status = graft_fail_in(
            err, status,
            "messages[%zu]: this answer's place in the text is found by another one in its stead, "
            "and that the template refuses (\"train\": false on the message leaves it unlearnt)",
            which);
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

static bool is_answer(const json_t *messages, size_t i)
{
    return chat_has_role(json_array_get(messages, i), "assistant");
}

/* Blocks are the answers' when there are as many. Where there are not, none may be left out. */
static enum graft_status keep_blocks(const json_t *messages, const struct jinja_spans *spans,
                                     const bool *want, struct chat_answers *out,
                                     struct graft_err *err)
{
    const size_t n = json_array_size(messages);
    int64_t answers = 0, wanted = 0, at = 0;

    for (size_t i = 0; i < n; i++) {
        answers += is_answer(messages, i);
        wanted += is_answer(messages, i) && (!want || want[i]);
    }
    if (answers == spans->count) {
        for (size_t i = 0; i < n; i++) {
            if (!is_answer(messages, i))
                continue;
            if (!want || want[i])
                GRAFT_TRY(
                    add_answer(out, (int64_t)i, spans->span[at].begin, spans->span[at].end, err));
            at++;
        }
        return GRAFT_OK;
    }
    if (wanted == 0)
        return GRAFT_OK;
    if (wanted < answers)
        return graft_fail(err, GRAFT_EFORMAT,
                          "the chat template has %lld generation blocks for %lld answers, so that "
                          "those to be learnt cannot be told from the others",
                          (long long)spans->count, (long long)answers);
    for (int64_t i = 0; i < spans->count; i++)
        GRAFT_TRY(add_answer(out, -1, spans->span[i].begin, spans->span[i].end, err));
    return GRAFT_OK;
}

static enum graft_status answers_by_blocks(const struct chat_template *t, const json_t *messages,
                                           const struct chat_opts *o, const bool *want,
                                           struct chat_answers *out, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    struct jinja_spans spans = { .count = 0 };
    enum graft_status status = chat_template_render(t, messages, o, &text, &spans, err);

    if (!status)
        status = keep_blocks(messages, &spans, want, out, err);
    strbuf_release(&text);
    jinja_spans_release(&spans);
    return status;
}

/* An answer that is not wanted is looked at for its end alone, which the next one's beginning
 * needs; where it cannot be found the end before it stands. */
static enum graft_status answers_by_marker(const struct chat_template *t, const json_t *messages,
                                           const struct chat_opts *o, const struct strbuf *text,
                                           const struct chat_specials *special, const bool *want,
                                           const char *marker, struct chat_answers *out,
                                           struct graft_err *err)
{
    const size_t n = json_array_size(messages);
    size_t end = 0, next;

    for (size_t i = 0; i < n; i++) {
        const bool wanted = !want || want[i];
        size_t from = 0, to = 0;
        enum graft_status status;

        if (!is_answer(messages, i))
            continue;
        for (next = i + 1; next < n && !is_answer(messages, next);)
            next++;
        if (!wanted && !(next < n && want[next]))
            continue;
        status = find_answer(t, messages, i, o, text, marker, end, &from, &to, wanted ? err : NULL);
        if (status && (wanted || status == GRAFT_ENOMEM))
            return wanted ? status : graft_fail_nomem(err, "rendered text", 0);
        if (status)
            continue;
        end = chat_answer_end(text, to, special);
        if (wanted)
            GRAFT_TRY(add_answer(out, (int64_t)i, from, end, err));
    }
    return GRAFT_OK;
}

enum graft_status chat_template_answers(const struct chat_template *t, const json_t *messages,
                                        const struct chat_opts *o, const struct strbuf *text,
                                        const struct chat_specials *special, const bool *want,
                                        struct chat_answers *out, struct graft_err *err)
{
    struct strbuf marker = STRBUF_INIT;
    struct chat_answers found = { .count = 0 };
    enum graft_status status;

    if (chat_template_marks_answers(t)) {
        status = answers_by_blocks(t, messages, o, want, &found, err);
    } else {
        status = chat_marker(text, &marker, err);
        if (!status)
            status =
                answers_by_marker(t, messages, o, text, special, want, marker.buf, &found, err);
    }
    strbuf_release(&marker);
    if (status)
        chat_answers_release(&found);
    else
        *out = found;
    return status;
}
