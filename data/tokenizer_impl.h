/* data/tokenizer_impl.h - what a tokenizer is made of; for the tokenizer's own files. */
#ifndef DATA_TOKENIZER_IMPL_H
#define DATA_TOKENIZER_IMPL_H

#include "data/added.h"
#include "data/bpe.h"
#include "data/decode.h"
#include "data/normalize.h"
#include "data/pretokenize.h"
#include "data/tokenizer.h"
#include "data/vocab.h"

struct tokenizer {
    struct vocab vocab;
    struct added_set raw;        /* added tokens looked for in the text as it is */
    struct added_set normalized; /* and those looked for in normalised text, normalised too */
    struct normalizer_chain normalizer;
    struct pretok_chain pretok;
    struct bpe bpe;
    struct decoder_chain decoder;
    struct id_list before, after; /* what the post-processor puts around one sequence */
    struct strbuf json;           /* the tokenizer.json */
};

/* tokenizer_post.c: fills before and after. */
enum graft_status post_init(struct tokenizer *t, const json_t *o, struct graft_err *err);

#endif
