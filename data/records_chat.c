/* Conversations to tokens: messages, sharegpt, prompt and completion as lists of messages. */
#include <string.h>

#include "core/mem.h"
#include "data/conversation.h"
#include "data/records.h"

/* What becomes of each message; freed by the caller even on failure. */
struct marks {
    bool *want;  /* an answer to be learnt */
    bool *never; /* a message that must not be: weight 0, train false */
};

static enum graft_status mark_messages(const struct dataset_opts *o, const struct conversation *c,
                                       struct marks *m, struct graft_err *err)
{
    const size_t n = json_array_size(c->messages);
    size_t last = n;

    m->want = mem_array(n, sizeof *m->want);
    m->never = mem_array(n, sizeof *m->never);
    if (!m->want || !m->never)
        return graft_fail_nomem(err, "messages", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(c->messages, i);

        GRAFT_TRY(message_weight("messages", i, message, &m->never[i], err));
        m->want[i] = message_is_answer(message) && !m->never[i] && i >= c->first;
        if (message_is_answer(message))
            last = i;
    }
    for (size_t i = 0; i < n && o->train_on_last; i++)
        m->want[i] = m->want[i] && i == last;
    return GRAFT_OK;
}

/* A label for each token: its own id where its first byte lies in one of the spans, or, with
 * `outside`, in none. */
static enum graft_status put_labels(const struct chat_answers *a, const struct id_list *at,
                                    bool outside, struct record_tokens *out, struct graft_err *err)
{
    for (int64_t i = 0; i < at->count; i++) {
        const size_t begin = (size_t)at->id[i];
        bool in = false;

        for (int64_t k = 0; k < a->count && !in; k++)
            in = a->at[k].begin <= begin && begin < a->at[k].end;
        GRAFT_TRY(id_list_add(&out->label, in != outside ? out->id.id[i] : NO_LABEL, err));
    }
    return GRAFT_OK;
}

static enum graft_status encode_text(const struct dataset_opts *o, const struct strbuf *text,
                                     const struct chat_answers *a, struct record_tokens *out,
                                     struct graft_err *err)
{
    struct id_list at = { NULL, 0, 0 };
    enum graft_status st = tokenizer_encode_offsets(o->tokenizer, strbuf_str(text), text->len,
                                                    false, &out->id, &at, err);

    if (!st)
        st = put_labels(a, &at, !o->mask_prompt, out, err);
    if (!st && o->take_text) {
        strbuf_add(&out->text, strbuf_str(text), text->len);
        out->at = at;
        at = (struct id_list){ NULL, 0, 0 };
    }
    id_list_release(&at);
    return st;
}

static enum graft_status encode_conversation(const struct dataset_opts *o,
                                             const struct conversation *c,
                                             struct record_tokens *out, struct graft_err *err)
{
    const struct chat_turns turns = conversation_turns(c);
    struct marks m = { NULL, NULL };
    struct strbuf text = STRBUF_INIT;
    struct chat_answers answers = { .count = 0 };
    enum graft_status st = mark_messages(o, c, &m, err);

    /* without mask_prompt everything is learnt but what must not be */
    if (!st)
        st = chat_render_answers(o->chat, &turns, o->mask_prompt ? m.want : m.never,
                                 !o->mask_prompt, &text, &answers, err);
    if (!st)
        st = encode_text(o, &text, &answers, out, err);
    chat_answers_release(&answers);
    strbuf_release(&text);
    mem_free(m.want);
    mem_free(m.never);
    return st;
}

static enum graft_status need_chat(const struct dataset_opts *o, struct graft_err *err)
{
    if (!o->tokenizer)
        return graft_fail(err, GRAFT_EARG,
                          "a conversation needs a tokenizer, and the base has none; records with "
                          "\"input_ids\" need none");
    return o->chat ? GRAFT_OK
                   : graft_fail(err, GRAFT_EARG, "%s",
                                o->chat_problem ? o->chat_problem : "there is no chat template");
}

enum graft_status encode_messages(const struct dataset_opts *o, const json_t *rec,
                                  struct record_tokens *out, struct graft_err *err)
{
    struct conversation c = { .first = 0 };
    enum graft_status st = need_chat(o, err);

    if (!st)
        st = conversation_of_messages(rec, &c, err);
    if (!st)
        st = encode_conversation(o, &c, out, err);
    conversation_release(&c);
    return st;
}

enum graft_status encode_message_pair(const struct dataset_opts *o, const json_t *rec,
                                      const json_t *prompt, const json_t *completion,
                                      struct record_tokens *out, struct graft_err *err)
{
    struct conversation c = { .first = 0 };
    enum graft_status st = need_chat(o, err);

    if (!st)
        st = conversation_of_pair(rec, prompt, completion, &c, err);
    if (!st)
        st = encode_conversation(o, &c, out, err);
    conversation_release(&c);
    return st;
}

enum graft_status encode_sharegpt(const struct dataset_opts *o, const json_t *rec,
                                  struct record_tokens *out, struct graft_err *err)
{
    struct conversation c = { .first = 0 };
    enum graft_status st = need_chat(o, err);

    if (!st)
        st = conversation_of_sharegpt(rec, &c, err);
    if (!st)
        st = encode_conversation(o, &c, out, err);
    conversation_release(&c);
    return st;
}

/* ---- keys of messages ---- */

static bool one_of(const char *const *names, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], key) == 0)
            return true;
    return false;
}

/* Calls are rendered or refused; reasoning is given to the template by two of its three names. */
static bool template_uses(const struct chat *chat, const char *key)
{
    static const char *const known[] = { "role", "content", "weight", "train", "tool_calls" };
    static const char *const reasoning[] = { "reasoning_content", "thinking", "reasoning" };

    return one_of(known, sizeof known / sizeof *known, key) || chat_has_word(chat, key) ||
           (one_of(reasoning, 3, key) &&
            (chat_has_word(chat, reasoning[0]) || chat_has_word(chat, reasoning[1])));
}

static bool turn_uses(const char *key)
{
    static const char *const known[] = { "from", "value", "weight", "train" };

    return one_of(known, sizeof known / sizeof *known, key);
}

static void unused_keys(const struct chat *chat, const json_t *rec, const char *list,
                        struct strbuf *out)
{
    const json_t *messages = json_object_get(rec, list);
    const char *key;
    json_t *v;

    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_object_foreach(json_array_get(messages, i), key, v)
        {
            if (json_is_null(v) || (chat ? template_uses(chat, key) : turn_uses(key)))
                continue;
            strbuf_printf(out, "%s[].%s", list, key);
            strbuf_add(out, "", 1);
        }
    }
}

void unused_message_keys(const struct chat *chat, enum record_format f, const json_t *rec,
                         struct strbuf *out)
{
    const struct format_key *k = format_defs[f].key;

    if (chat && json_is_array(json_object_get(rec, k->name)) &&
        json_array_size(json_object_get(rec, "documents")) > 0 && !chat_has_word(chat, "documents"))
        strbuf_add(out, "documents[]", sizeof "documents[]");
    if (f == RECORD_SHAREGPT)
        unused_keys(NULL, rec, k->name, out);
    else if (chat)
        for (; k < format_defs[f].key + FORMAT_KEYS && k->name && k->required; k++)
            unused_keys(chat, rec, json_object_get(rec, k->name) ? k->name : k->alias, out);
}
