/* data/bpe.h - byte pair encoding of one piece of text: Sennrich et al. 2016, arXiv:1508.07909.
 *
 * The pair of neighbours with the lowest rank is joined until none is left; among equal ranks the
 * leftmost first. */
#ifndef DATA_BPE_H
#define DATA_BPE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/json.h"
#include "data/tokenizer.h"
#include "data/vocab.h"

struct bpe_merge {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: empty slot */
    int32_t rank, id;
};

struct bpe {
    const struct vocab *vocab; /* borrowed */
    struct bpe_merge *merge;   /* open addressing */
    uint64_t mask;
    char *prefix, *suffix; /* of every character but the first; of the last; "" when none */
    size_t prefix_len, suffix_len;
    int32_t unk; /* -1: characters without a token vanish */
    bool fuse_unk, byte_fallback, ignore_merges;
    bool bytes;            /* pieces are raw bytes, the vocabulary has them as mapped characters */
    bool split_words;      /* no merge joins something before U+2581 with what follows */
    int32_t byte_id[256];  /* bytes: the token of one byte; -1: none */
    int32_t fallback[256]; /* the tokens <0x00> .. <0xFF>; -1: none */
    int32_t *char_id;      /* 65536: the token of one character; -1: none */
};

/* The character that stands for byte b in a byte-level vocabulary, and back (-1: none). */
uint32_t bpe_byte_char(uint8_t b);
int bpe_char_byte(uint32_t cp);

static inline uint64_t bpe_hash_pair(uint64_t pair)
{
    pair *= UINT64_C(0x9e3779b97f4a7c15);
    return pair ^ pair >> 32;
}

/* From the "model" object. `bytes`: the last pre-tokenizer is ByteLevel. */
enum graft_status bpe_init(struct bpe *m, const json_t *model, const struct vocab *vocab,
                           bool bytes, struct graft_err *err);
void bpe_release(struct bpe *m);

/* What one encoding call needs besides; zeroed memory is a fresh one. */
struct bpe_symbol;
struct bpe_entry;
struct bpe_work {
    struct bpe_symbol *sym;
    int64_t count, cap;
    struct bpe_entry *heap;
    int64_t heap_count, heap_cap;
    struct strbuf text;
    int32_t unk_start; /* start of an unk not emitted yet; -1: none */
};
void bpe_work_release(struct bpe_work *w);

/* Append the ids of `s` to `out`, and where each begins in `s` to `at` (may be NULL). */
enum graft_status bpe_encode(const struct bpe *m, struct bpe_work *w, const char *s, size_t len,
                             struct id_list *out, struct id_list *at, struct graft_err *err);

#endif
