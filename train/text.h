/* train/text.h - the words of a base: tokenizer, end tokens; from a folder, a GGUF file or a
 * container. */
#ifndef TRAIN_TEXT_H
#define TRAIN_TEXT_H

#include "data/tokenizer.h"

enum { TEXT_MAX_STOPS = 32 };

struct text {
    struct tokenizer *tokenizer;  /* NULL: the place has none */
    int32_t eos;                  /* what a record ends with; -1: not known */
    int32_t stop[TEXT_MAX_STOPS]; /* where generation ends: config, generation_config, tokenizer */
    int stops;
};

/* Read what `path` (a Hugging Face folder, an adapter folder, a .gguf, a .h5, or a tokenizer.json)
 * has. A place without a tokenizer is no error: `tokenizer` is NULL then. */
enum graft_status text_open(const char *path, struct text *out, struct graft_err *err);
void text_release(struct text *t);
bool text_stops_at(const struct text *t, int32_t id);

/* Hand the words' files to `put`: tokenizer.json, tokenizer_config.json, special_tokens_map.json,
 * chat_template.jinja, generation_config.json where the place has them, made from GGUF's keys
 * otherwise. */
typedef enum graft_status text_put(void *user, const char *name, const char *text, size_t len,
                                   struct graft_err *err);
enum graft_status text_files(const char *path, const struct text *t, text_put *put, void *user,
                             struct graft_err *err);
/* The same into folder `dir`, each atomically. */
enum graft_status text_copy(const char *path, const struct text *t, const char *dir,
                            struct graft_err *err);

#endif
