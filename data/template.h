/* data/template.h - chat templates: conversations to text as transformers' apply_chat_template
 * renders them, and where the answers lie in it. */
#ifndef DATA_TEMPLATE_H
#define DATA_TEMPLATE_H

#include "core/json.h"
#include "data/jinja.h"
#include "data/tokenizer.h"

struct chat_template;

/* `name` stands in messages. EFORMAT and EARG as "NAME: template line N: ...". The caller owns
 * *out. */
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

/* Append the conversation to `out`; `spans` (may be NULL) gets the generation blocks' bytes. A
 * template's own raise_exception is EFORMAT with its text. On failure `out` is as it was. */
enum graft_status chat_template_render(const struct chat_template *t, const json_t *messages,
                                       const struct chat_opts *o, struct strbuf *out,
                                       struct jinja_spans *spans, struct graft_err *err);

/* One assistant message's part of the text, the end marker with it. */
struct chat_answer {
    int64_t message; /* index into messages; -1: of a generation block */
    size_t begin, end;
};
struct chat_answers {
    struct chat_answer *at;
    int64_t count, cap;
};
void chat_answers_release(struct chat_answers *a);

/* Where the answers lie in `text`, which chat_template_render made of the same messages and
 * options: by the template's generation blocks, else by rendering again with each answer replaced.
 * `special` are the special tokens' texts; the longest that follows an answer, behind blanks at
 * most, is part of it. EFORMAT names an answer that does not change the text. */
enum graft_status chat_template_answers(const struct chat_template *t, const json_t *messages,
                                        const struct chat_opts *o, const struct strbuf *text,
                                        const struct tokenizer_text *special, int64_t specials,
                                        struct chat_answers *out, struct graft_err *err);

#endif
