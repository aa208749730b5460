/* data/conversation.h - the conversation of a record, whatever form it has: messages, sharegpt, or
 * prompt and completion as lists. Errors carry no place: the caller puts FILE:LINE before them. */
#ifndef DATA_CONVERSATION_H
#define DATA_CONVERSATION_H

#include "core/json.h"
#include "data/chat.h"

struct conversation {
    json_t *messages, *tools;        /* owned; tools NULL: none */
    const json_t *documents, *extra; /* in the record; NULL: none */
    size_t first;                    /* the message from which on answers are learnt */
};
void conversation_release(struct conversation *c);
/* What the template gets, borrowed from `c`. */
struct chat_turns conversation_turns(const struct conversation *c);

/* EFORMAT: what is wrong with which message. The caller owns *out, untouched on failure; it borrows
 * from `rec`. */
enum graft_status conversation_of_messages(const json_t *rec, struct conversation *out,
                                           struct graft_err *err);
enum graft_status conversation_of_sharegpt(const json_t *rec, struct conversation *out,
                                           struct graft_err *err);
/* `prompt` and `completion`: lists of messages, of which the completion's answers are learnt. */
enum graft_status conversation_of_pair(const json_t *rec, const json_t *prompt,
                                       const json_t *completion, struct conversation *out,
                                       struct graft_err *err);

bool message_is_answer(const json_t *message); /* role assistant */
/* Whether message `i` of the list `name` must never be learnt: weight 0 and train: false mean the
 * same. EFORMAT: other values, or a question that asks to be learnt. */
enum graft_status message_weight(const char *name, size_t i, const json_t *message, bool *never,
                                 struct graft_err *err);

#endif
