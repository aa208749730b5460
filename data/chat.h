/* data/chat.h - how a model talks: its chat templates with the special tokens and the date that
 * they see; conversations to text, and where the answers lie in it. */
#ifndef DATA_CHAT_H
#define DATA_CHAT_H

#include "core/file.h"
#include "data/template.h"

/* Immutable while it is used: any number of threads may. */
struct chat;

struct chat_parts {
    const char *name; /* stands in messages: the file the template came from */
    const json_t
        *templates;        /* name: text; "default", and "tool_use" for conversations with tools */
    const json_t *special; /* bos_token ...: text; NULL: none */
    const struct tokenizer *tokenizer; /* knows what is a special token; NULL: nothing is */
};
/* All parts are borrowed during the call. EFORMAT: a template that cannot be used, by line; no
 * template named "default". */
enum graft_status chat_new(const struct chat_parts *p, struct chat **out, struct graft_err *err);
void chat_free(struct chat *c);

/* What strftime_now tells templates that ask: "YYYY-MM-DD". EARG: not a date. */
enum graft_status chat_set_date(struct chat *c, const char *date, struct graft_err *err);
const char *chat_date(const struct chat *c); /* NULL: none was set */
bool chat_asks_date(const struct chat *c);

/* Whether a template that is used has this word anywhere: without it, a message's key of that name
 * makes no difference, unless whole messages are printed. */
bool chat_has_word(const struct chat *c, const char *word);
const char *chat_name(const struct chat *c);
const json_t *chat_templates(const struct chat *c); /* name: text */
/* All that a rendering depends on besides the conversation. */
void chat_hash(const struct chat *c, struct sha256 *into);
/* The special token that closes the last turn of a conversation when that is an answer; -1: none.
 */
int32_t chat_end_token(const struct chat *c);

/* A conversation and what else the template gets. All borrowed. */
struct chat_turns {
    const json_t *messages;
    const json_t *tools, *documents; /* arrays; NULL: none */
    const json_t *extra;             /* further variables: an object; NULL: none */
};

/* Append the text of the conversation; with `prompt` an answer is asked for at its end. EFORMAT:
 * the template refuses it, or leaves tools or tool_calls out of the text. */
enum graft_status chat_render(const struct chat *c, const struct chat_turns *turns, bool prompt,
                              struct strbuf *out, struct graft_err *err);
/* The same, and the answers: chat_template_answers. */
enum graft_status chat_render_answers(const struct chat *c, const struct chat_turns *turns,
                                      const bool *want, bool whole, struct strbuf *out,
                                      struct chat_answers *answers, struct graft_err *err);

/* Templates of our own: the default texts of widely used forms. */
struct chat_builtin {
    const char *name, *source;
};
extern const struct chat_builtin chat_builtins[]; /* ends with a NULL name */
/* NULL: there is none of that name. */
const struct chat_builtin *chat_builtin_find(const char *name);

#endif
