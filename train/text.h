/* train/text.h - the words of a base: tokenizer, end tokens, chat templates; from a folder, a GGUF
 * file or a container. */
#ifndef TRAIN_TEXT_H
#define TRAIN_TEXT_H

#include "data/chat.h"

enum { TEXT_MAX_STOPS = 32 };

struct text {
    struct tokenizer *tokenizer;  /* NULL: the place has none */
    int32_t eos;                  /* what a record ends with; -1: not known */
    int32_t stop[TEXT_MAX_STOPS]; /* where generation ends: config, generation_config, tokenizer,
                                     and what closes an answer in the chat template */
    int stops;
    struct chat *chat;  /* NULL: there is no template, or it cannot be used: */
    char *chat_problem; /* why there is no chat */
    bool own_template;  /* text_use_template chose another than the place has */
    json_t *special;    /* bos_token ...: text */
};

/* Read what `path` (a Hugging Face folder, an adapter folder, a .gguf, a .h5, or a tokenizer.json)
 * has. A place without a tokenizer is no error: `tokenizer` is NULL then. */
enum graft_status text_open(const char *path, struct text *out, struct graft_err *err);
void text_release(struct text *t);
bool text_stops_at(const struct text *t, int32_t id);

/* Has the folder `dir` words of its own: a tokenizer, or a chat template at least? ENOMEM. */
enum graft_status text_is_in(const char *dir, bool *tokenizer, bool *any, struct graft_err *err);
/* The words of an adapter's folder, which has some: they go before those of the base at
 * `base_path`. What the folder lacks (tokenizer, EOS, chat template, special tokens) is the base's;
 * end tokens of both count. `date` as in text_set_date. */
enum graft_status text_open_over(const char *dir, const char *base_path, const struct text *base,
                                 const char *date, struct text *out, struct graft_err *err);

/* Take another chat template: `choice` is the name of a built-in one or the path of a .jinja file;
 * NULL or "auto": the one that is there stays. EARG, EFORMAT, EIO: it cannot be used. */
enum graft_status text_use_template(struct text *t, const char *choice, struct graft_err *err);
/* Where the template asks for a date: `date`, or today's when that is NULL. */
enum graft_status text_set_date(struct text *t, const char *date, struct graft_err *err);

/* Append the tokens of a conversation that asks for an answer. EARG: no tokenizer or template;
 * chat_render. */
enum graft_status text_encode_turns(const struct text *t, const struct chat_turns *turns,
                                    struct id_list *out, struct graft_err *err);

/* Hand the words' files to `put`: tokenizer.json, tokenizer_config.json, special_tokens_map.json,
 * generation_config.json where the place has them, made from GGUF's keys otherwise; and the chat
 * templates, as chat_template.jinja and additional_chat_templates/NAME.jinja. */
typedef enum graft_status text_put(void *user, const char *name, const char *text, size_t len,
                                   struct graft_err *err);
enum graft_status text_files(const char *path, const struct text *t, text_put *put, void *user,
                             struct graft_err *err);
/* The same into folder `dir`, each atomically. */
enum graft_status text_copy(const char *path, const struct text *t, const char *dir,
                            struct graft_err *err);
/* The words of folder `from`, if it has any. */
enum graft_status text_carry(const char *from, const char *dir, struct graft_err *err);

#endif
