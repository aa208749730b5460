/* data/vocab.h - tokens by id, and ids by text. */
#ifndef DATA_VOCAB_H
#define DATA_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum token_flag {
    TOKEN_MODEL = 1,   /* in the model's vocabulary */
    TOKEN_ADDED = 2,   /* matched before the model sees the text */
    TOKEN_SPECIAL = 4, /* left out when decoding with skip_special */
    TOKEN_NORMALIZED = 8,
    TOKEN_LSTRIP = 16,
    TOKEN_RSTRIP = 32,
    TOKEN_SINGLE_WORD = 64,
};

struct token {
    const char *s; /* in the pool; NULL: id not used */
    uint32_t len;
    unsigned flags;
    char *shown; /* owned: decoded as this text; NULL: as s */
    size_t shown_len;
};

struct vocab {
    struct token *token; /* size */
    int64_t size;        /* largest id + 1 */
    int32_t *slot;       /* open addressing by the hash of the text; -1 empty */
    uint32_t mask;
    char *pool;
    size_t pool_used, pool_size;
};

/* Room for ids [0, size), `count` tokens, `bytes` of text. EFORMAT when the ids are out of all
 * proportion to the tokens. */
enum graft_status vocab_init(struct vocab *v, int64_t size, int64_t count, size_t bytes,
                             struct graft_err *err);
void vocab_release(struct vocab *v);
/* Add a token. The caller has checked that id and text are new and that the room suffices. */
void vocab_put(struct vocab *v, int32_t id, const char *s, size_t len, unsigned flags);
int32_t vocab_find(const struct vocab *v, const char *s, size_t len);       /* -1: none */
int32_t vocab_find_model(const struct vocab *v, const char *s, size_t len); /* only the model's */

#endif
