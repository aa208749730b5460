/* train/text_impl.h - what the files that read a base's words share. Inside train/text*.c only. */
#ifndef TRAIN_TEXT_IMPL_H
#define TRAIN_TEXT_IMPL_H

#include "train/place.h"
#include "train/text.h"

void text_add_stop(struct text *t, int64_t id);

/* text_gguf.c */
enum graft_status text_open_gguf(const char *path, struct text *t, struct graft_err *err);

/* text_chat.c: fill chat or chat_problem, and the stop at what closes an answer. `from` stands in
 * messages; `templates` NULL: there is none. */
enum graft_status text_make_chat(struct text *t, const char *from, const json_t *templates,
                                 struct graft_err *err);
/* One more template of a place; a name that could not be a file's is passed over. */
enum graft_status text_add_template(json_t *out, const char *name, const char *text, size_t len,
                                    struct graft_err *err);
/* The templates of a folder or container: name to text, NULL in *out without; *from: the file. */
enum graft_status text_find_templates(const struct place *p, const json_t *settings, json_t **out,
                                      struct strbuf *from, struct graft_err *err);
/* bos_token ... of tokenizer_config.json and special_tokens_map.json, as an object of strings. */
enum graft_status text_find_special(const struct place *p, const json_t *settings, json_t **out,
                                    struct graft_err *err);

/* Files on their way out. */
struct text_sink {
    text_put *put;
    void *user;
};
enum graft_status text_hand(const struct text_sink *k, const char *name, const struct strbuf *text,
                            struct graft_err *err);
enum graft_status text_hand_templates(const struct text *t, const struct text_sink *k,
                                      struct graft_err *err);
enum graft_status text_files_of_gguf(const char *path, const struct text *t,
                                     const struct text_sink *k, struct graft_err *err);

#endif
