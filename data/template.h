/* data/template.h - chat templates: conversations to text as transformers' apply_chat_template
 * renders them, and where the answers lie in it. */
#ifndef DATA_TEMPLATE_H
#define DATA_TEMPLATE_H

#include "core/json.h"
#include "data/jinja.h"
#include "data/tokenizer.h"

struct chat_template;

/* `name` stands in messages. EFORMAT as "NAME: template line N: ...". The caller owns *out. */
enum graft_status chat_template_new(const char *name, const char *source, size_t len,
                                    struct chat_template **out, struct graft_err *err);
void chat_template_free(struct chat_template *t);

/* What a rendering is made of besides the messages; zeroed memory is the default. All borrowed. */
struct chat_opts {
    const json_t *tools;     /* an array, NULL: none */
    const json_t *documents; /* the same */
    const json_t *special;   /* bos_token, eos_token ...: an object of strings; NULL: none */
    const json_t *extra;     /* further variables of the template (enable_thinking ...) */
    bool add_generation_prompt;
    const char *date; /* YYYY-MM-DD, what strftime_now tells (midnight); NULL: an error
                         for templates that ask */
};

/* EARG unless `text` is YYYY-MM-DD. */
enum graft_status chat_date_check(const char *text, struct graft_err *err);

/* Append the conversation to `out`; `spans` (may be NULL) gets the generation blocks' bytes. As
 * transformers does, keys of a message that are null are left out and no messages at all are
 * refused. A template's own raise_exception is EFORMAT with its text. On failure `out` is as it
 * was. */
enum graft_status chat_template_render(const struct chat_template *t, const json_t *messages,
                                       const struct chat_opts *o, struct strbuf *out,
                                       struct jinja_spans *spans, struct graft_err *err);
/* The messages as the template can take them: a content that is a list of text parts becomes one
 * string where the template would not show every part's text, or would show the list itself (a
 * tool's may stand there as JSON). What a tool answered is left alone unless it is text parts and
 * nothing else. The caller owns *out. */
enum graft_status chat_template_fit_parts(const struct chat_template *t, const json_t *messages,
                                          const struct chat_opts *o, json_t **out,
                                          struct graft_err *err);
/* Whether the template names this variable or function anywhere. */
bool chat_template_names(const struct chat_template *t, const char *name);
/* Whether it has generation blocks, which say themselves what the answers are. */
bool chat_template_marks_answers(const struct chat_template *t);

/* One message's part of the text, an answer's as a rule, the end marker with it. */
struct chat_answer {
    int64_t message; /* index into messages; -1: of a generation block that may be any's */
    size_t begin, end;
};
struct chat_answers {
    struct chat_answer *at;
    int64_t count, cap;
};
void chat_answers_release(struct chat_answers *a);

/* The special tokens' texts. The longest that follows an answer, behind blanks at most, is part of
 * it. */
struct chat_specials {
    const struct tokenizer_text *text;
    int64_t count;
};

/* The end of an answer whose own words end at `end`: behind the special token that follows. */
size_t chat_answer_end(const struct strbuf *text, size_t end, const struct chat_specials *special);

/* Where the answers lie in `text`, which chat_template_render made of the same messages and
 * options: by the template's generation blocks, else by rendering again with each answer replaced,
 * in a part of the conversation where the template refuses that in the whole. `want` (one a
 * message; NULL: all answers) picks messages; those that are no answers are found in the same way,
 * their content replaced. `whole`: blocks do not count, all of a message is asked for. EFORMAT
 * names a message that does not change the text, that changes more of it than its own words, or
 * that the template wants as it is. */
enum graft_status chat_template_answers(const struct chat_template *t, const json_t *messages,
                                        const struct chat_opts *o, const struct strbuf *text,
                                        const struct chat_specials *special, const bool *want,
                                        bool whole, struct chat_answers *out,
                                        struct graft_err *err);

#endif
