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

/* What the search goes by; all borrowed. */
struct search {
    const struct chat_template *t;
    const json_t *messages;
    const struct chat_opts *o;
    const struct strbuf *text; /* of all messages */
    const struct chat_specials *special;
    const char *marker;
};
struct place {
    size_t begin, end;
};

static bool is_answer(const json_t *messages, size_t i)
{
    return chat_has_role(json_array_get(messages, i), "assistant");
}

/* Lists of messages that differ from the whole in one way, the caller's; NULL: no memory. */
static json_t *first_messages(const json_t *messages, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < n; i++) {
        if (json_array_append(list, json_array_get(messages, i))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* Without what tools answered right behind message `which`. */
static json_t *without_results(const json_t *messages, size_t which)
{
    json_t *list = json_copy((json_t *)(uintptr_t)messages);

    while (list && chat_has_role(json_array_get(list, which + 1), "tool")) {
        if (json_array_remove(list, which + 1)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* An answer is replaced whole, of another message the content. */
static json_t *with_marker(const json_t *messages, size_t which, const char *marker)
{
    json_t *m = is_answer(messages, which)
                    ? json_pack("{s:s, s:s}", "role", "assistant", "content", marker)
                    : chat_with_content(json_array_get(messages, which), json_string(marker));

    return chat_with_message(messages, which, m);
}

/* Call `which`, its results and the answer behind them as one answer. */
static json_t *one_answer(const json_t *messages, size_t which, const char *marker)
{
    json_t *list = without_results(messages, which), *with;

    if (list && chat_has_role(json_array_get(list, which + 1), "assistant"))
        json_array_remove(list, which + 1);
    with = list ? with_marker(list, which, marker) : NULL;
    json_decref(list);
    return with;
}

/* Takes `list`, one of the above. */
static enum graft_status render_list(const struct search *s, json_t *list, bool prompt,
                                     struct strbuf *out, struct graft_err *err)
{
    struct chat_opts with = *s->o;
    enum graft_status status;

    if (!list)
        return graft_fail_nomem(err, "messages", 0);
    with.add_generation_prompt = prompt;
    status = chat_template_render(s->t, list, &with, out, NULL, err);
    json_decref(list);
    return status;
}

/* What the generation prompt adds behind the first `n` messages; empty when it is no extension, or
 * the template refuses these messages. */
static enum graft_status prompt_head(const struct search *s, size_t n, struct strbuf *out,
                                     struct graft_err *err)
{
    struct strbuf before = STRBUF_INIT, asked = STRBUF_INIT;
    enum graft_status status = render_list(s, first_messages(s->messages, n), false, &before, NULL);

    if (!status)
        status = render_list(s, first_messages(s->messages, n), true, &asked, NULL);
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

/* Where `text` differs from another rendering; false: nowhere. */
static bool differ(const struct strbuf *text, const struct strbuf *other, struct place *out)
{
    out->begin = common_start(text, other);
    out->end = text->len - common_end(text, other, out->begin);
    return out->begin < text->len || out->begin < other->len;
}

/* Where message `which` lies in the text of `part`, a list that is taken; the text goes to `own`.
 */
static enum graft_status place_in(const struct search *s, json_t *part, size_t which,
                                  struct strbuf *own, struct place *out, bool *found)
{
    struct strbuf other = STRBUF_INIT;
    const bool prompt = s->o->add_generation_prompt;
    enum graft_status status =
        part ? render_list(s, json_incref(part), prompt, own, NULL) : GRAFT_ENOMEM;

    if (!status)
        status = render_list(s, with_marker(part, which, s->marker), prompt, &other, NULL);
    *found = !status && differ(own, &other, out);
    strbuf_release(&other);
    json_decref(part);
    return status == GRAFT_ENOMEM ? status : GRAFT_OK;
}

/* The same, found when the whole conversation's text begins as that one does up to there. */
static enum graft_status find_in(const struct search *s, json_t *part, size_t which,
                                 struct place *out, bool *found)
{
    struct strbuf own = STRBUF_INIT;
    const enum graft_status status = place_in(s, part, which, &own, out, found);

    *found = *found && s->text->len >= out->end &&
             memcmp(strbuf_str(s->text), strbuf_str(&own), out->end) == 0;
    strbuf_release(&own);
    return status;
}

/* Where tools are listed before the last question, no shorter conversation begins as the whole. The
 * call, its results and the answer to them replaced by one answer tell where the call begins, the
 * conversation that ends with it what it says: found when that stands there. */
static enum graft_status find_by_round(const struct search *s, size_t which, struct place *out,
                                       bool *found)
{
    struct strbuf own = STRBUF_INIT, other = STRBUF_INIT;
    struct place call = { 0, 0 };
    enum graft_status status =
        place_in(s, first_messages(s->messages, which + 1), which, &own, &call, found);

    if (!status && *found) {
        status = render_list(s, one_answer(s->messages, which, s->marker),
                             s->o->add_generation_prompt, &other, NULL);
        *found =
            !status && differ(s->text, &other, out) &&
            s->text->len - out->begin >= call.end - call.begin &&
            memcmp(s->text->buf + out->begin, own.buf + call.begin, call.end - call.begin) == 0;
        out->end = out->begin + call.end - call.begin;
    }
    strbuf_release(&own);
    strbuf_release(&other);
    return status == GRAFT_ENOMEM ? status : GRAFT_OK;
}

/* Templates refuse another answer in the place of a call where a tool's result stands behind it.
 * Then the conversation that ends with the call tells where it lies, or the one without the
 * results, or the one without the whole round. `why` has the refusal. */
static enum graft_status find_without_results(const struct search *s, size_t which,
                                              struct place *out, struct graft_err *why)
{
    bool found;
    enum graft_status status =
        find_in(s, first_messages(s->messages, which + 1), which, out, &found);

    if (!status && !found)
        status = find_in(s, without_results(s->messages, which), which, out, &found);
    if (!status && !found && is_answer(s->messages, which))
        status = find_by_round(s, which, out, &found);
    if (status)
        return graft_fail_nomem(why, "rendered text", 0);
    if (found)
        return GRAFT_OK;
    return graft_fail_in(
        why, GRAFT_EFORMAT,
        "messages[%zu]: this %s place in the text is found by another one in its stead, and that "
        "the template refuses%s",
        which, is_answer(s->messages, which) ? "answer's" : "message's",
        is_answer(s->messages, which) ? " (\"train\": false on the message leaves it unlearnt)"
                                      : "");
}

/* Does the place hold the message's own words and nothing else? */
static bool holds_content(const struct search *s, size_t which, const struct place *at)
{
    const json_t *content = json_object_get(json_array_get(s->messages, which), "content");
    const struct jstr place = { strbuf_str(s->text) + at->begin, at->end - at->begin };
    const struct jstr words = { json_string_value(content), json_string_length(content) };
    const struct jstr in = jstrip(place, NULL, 3), want = jstrip(words, NULL, 3);

    return json_is_string(content) && in.len == want.len && !memcmp(in.p, want.p, in.len);
}

/* The part of the text that is message `which`'s, the special token behind it not. */
static enum graft_status find_words(const struct search *s, size_t which, struct place *out,
                                    struct graft_err *err)
{
    struct graft_err why = { GRAFT_OK, "" };
    struct strbuf other = STRBUF_INIT;
    enum graft_status status = render_list(s, with_marker(s->messages, which, s->marker),
                                           s->o->add_generation_prompt, &other, &why);

    if (!status && !differ(s->text, &other, out))
        status = graft_fail(&why, GRAFT_EFORMAT,
                            "messages[%zu]: the chat template leaves this %s out of the text",
                            which, is_answer(s->messages, which) ? "answer" : "message");
    else if (status == GRAFT_EFORMAT)
        status = find_without_results(s, which, out, &why);
    if (!status && !is_answer(s->messages, which) && !holds_content(s, which, out))
        status = graft_fail(&why, GRAFT_EFORMAT,
                            "messages[%zu]: another message in its stead changes more of the text "
                            "than its own words, so where it lies cannot be told",
                            which);
    strbuf_release(&other);
    if (status && err)
        *err = why;
    return status;
}

/* Where message `which` lies, with the special token behind it. What the generation prompt says is
 * not an answer's own. `previous`: where the answer before it ends. */
static enum graft_status find_message(const struct search *s, size_t which, size_t previous,
                                      struct place *out, struct graft_err *err)
{
    struct strbuf head = STRBUF_INIT;
    enum graft_status status = find_words(s, which, out, err);

    if (!status && is_answer(s->messages, which))
        status = prompt_head(s, which, &head, err);
    if (!status && head.len) {
        const size_t at = last_within(s->text, previous, out->begin, &head);

        if (at != SIZE_MAX)
            out->begin = at + head.len;
    }
    if (!status)
        out->end = chat_answer_end(s->text, out->end, s->special);
    strbuf_release(&head);
    return status;
}

/* An answer that is not wanted is looked at for its end alone, which the next one's beginning
 * needs; where it cannot be found the end before it stands. */
static enum graft_status answers_by_marker(const struct search *s, const bool *want,
                                           struct chat_answers *out, struct graft_err *err)
{
    const size_t n = json_array_size(s->messages);
    size_t end = 0, next;

    for (size_t i = 0; i < n; i++) {
        const bool wanted = !want || want[i];
        struct place at;
        enum graft_status status;

        if (!is_answer(s->messages, i))
            continue;
        for (next = i + 1; next < n && !is_answer(s->messages, next);)
            next++;
        if (!wanted && !(next < n && want[next]))
            continue;
        status = find_message(s, i, end, &at, wanted ? err : NULL);
        if (status && (wanted || status == GRAFT_ENOMEM))
            return wanted ? status : graft_fail_nomem(err, "rendered text", 0);
        if (status)
            continue;
        end = at.end;
        if (wanted)
            GRAFT_TRY(add_answer(out, (int64_t)i, at.begin, at.end, err));
    }
    return GRAFT_OK;
}

/* Blocks are the answers' when there are as many. */
static enum graft_status one_block_each(const struct search *s, const struct jinja_spans *spans,
                                        const bool *want, struct chat_answers *out,
                                        struct graft_err *err)
{
    const struct jinja_span *b = spans->span;

    for (size_t i = 0; i < json_array_size(s->messages); i++) {
        if (!is_answer(s->messages, i))
            continue;
        if (!want || want[i])
            GRAFT_TRY(add_answer(out, (int64_t)i, b->begin, b->end, err));
        b++;
    }
    return GRAFT_OK;
}

/* Where there are not, a block is the last answer's that begins before the block ends. */
static enum graft_status share_blocks(const struct search *s, const struct jinja_spans *spans,
                                      const bool *want, struct chat_answers *out,
                                      struct graft_err *err)
{
    struct chat_answers all = { .count = 0 };
    enum graft_status status = answers_by_marker(s, NULL, &all, err);
    int64_t whose = 0;

    for (int64_t i = 0; i < spans->count && !status; i++) {
        const struct jinja_span *b = &spans->span[i];

        while (whose + 1 < all.count && all.at[whose + 1].begin < b->end)
            whose++;
        if (want[all.at[whose].message])
            status = add_answer(out, all.at[whose].message, b->begin, b->end, err);
    }
    chat_answers_release(&all);
    return status;
}

static enum graft_status keep_blocks(const struct search *s, const struct jinja_spans *spans,
                                     const bool *want, struct chat_answers *out,
                                     struct graft_err *err)
{
    int64_t answers = 0, wanted = 0;

    for (size_t i = 0; i < json_array_size(s->messages); i++) {
        answers += is_answer(s->messages, i);
        wanted += is_answer(s->messages, i) && (!want || want[i]);
    }
    if (answers == spans->count)
        return one_block_each(s, spans, want, out, err);
    if (wanted > 0 && wanted < answers)
        return share_blocks(s, spans, want, out, err);
    for (int64_t i = 0; wanted > 0 && i < spans->count; i++)
        GRAFT_TRY(add_answer(out, -1, spans->span[i].begin, spans->span[i].end, err));
    return GRAFT_OK;
}

/* A block around nothing of the answer would teach an empty one. */
static enum graft_status check_kept(const struct search *s, const bool *want, struct graft_err *err)
{
    for (size_t i = 0; i < json_array_size(s->messages); i++) {
        struct strbuf other = STRBUF_INIT;
        struct place at;
        enum graft_status status = GRAFT_OK;

        if (!is_answer(s->messages, i) || (want && !want[i]))
            continue;
        status = render_list(s, with_marker(s->messages, i, s->marker), s->o->add_generation_prompt,
                             &other, NULL);
        if (!status && !differ(s->text, &other, &at))
            status = graft_fail(
                err, GRAFT_EFORMAT,
                "messages[%zu]: the chat template leaves this answer out of the text", i);
        else if (status == GRAFT_EFORMAT) /* it wants the answer as it is */
            status = GRAFT_OK;
        strbuf_release(&other);
        GRAFT_TRY(status);
    }
    return GRAFT_OK;
}

static enum graft_status answers_by_blocks(const struct search *s, const bool *want,
                                           struct chat_answers *out, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    struct jinja_spans spans = { .count = 0 };
    enum graft_status status = check_kept(s, want, err);

    if (!status)
        status = chat_template_render(s->t, s->messages, s->o, &text, &spans, err);
    if (!status)
        status = keep_blocks(s, &spans, want, out, err);
    strbuf_release(&text);
    jinja_spans_release(&spans);
    return status;
}

/* The wanted messages that are no answers. */
static enum graft_status find_others(const struct search *s, const bool *want,
                                     struct chat_answers *out, struct graft_err *err)
{
    for (size_t i = 0; want && i < json_array_size(s->messages); i++) {
        struct place at;

        if (!want[i] || is_answer(s->messages, i))
            continue;
        GRAFT_TRY(find_message(s, i, 0, &at, err));
        GRAFT_TRY(add_answer(out, (int64_t)i, at.begin, at.end, err));
    }
    return GRAFT_OK;
}

enum graft_status chat_template_answers(const struct chat_template *t, const json_t *messages,
                                        const struct chat_opts *o, const struct strbuf *text,
                                        const struct chat_specials *special, const bool *want,
                                        bool whole, struct chat_answers *out, struct graft_err *err)
{
    struct strbuf marker = STRBUF_INIT;
    struct chat_answers found = { .count = 0 };
    enum graft_status status = chat_marker(text, &marker, err);
    const struct search s = { t, messages, o, text, special, marker.buf };

    if (!status)
        status = chat_template_marks_answers(t) && !whole
                     ? answers_by_blocks(&s, want, &found, err)
                     : answers_by_marker(&s, want, &found, err);
    if (!status)
        status = find_others(&s, want, &found, err);
    strbuf_release(&marker);
    if (status)
        chat_answers_release(&found);
    else
        *out = found;
    return status;
}
