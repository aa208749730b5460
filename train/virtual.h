/* train/virtual.h - what a prompt method and the words of a base have to do with each other. */
#ifndef TRAIN_VIRTUAL_H
#define TRAIN_VIRTUAL_H

#include "data/virtual.h"
#include "peft/adapter.h"
#include "train/text.h"

/* What the adapter puts before a record or in it; nothing for other methods. EARG: its placeholder
 * is no token of the tokenizer, or there is no tokenizer (NULL). */
enum graft_status virtual_of(const struct adapter_config *c, const struct tokenizer *t,
                             struct virtual_tokens *out, struct graft_err *err);

/* The tokens that prompt_tuning_init: TEXT starts from, with what the tokenizer adds around a text;
 * nothing for other starts. The tokenizer is that of the folder that tokenizer_name_or_path names,
 * else the base's (`text`), with a note where another is named. EARG; what reading it gives. */
enum graft_status virtual_text(const struct adapter_config *c, const struct text *text,
                               struct id_list *out, struct graft_err *err);

#endif
