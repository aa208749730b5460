/* data/tokenizer.h - text to token ids and back, as Hugging Face tokenizers does it.
 *
 * Made from a tokenizer.json, or from the plain tables below, which whoever reads GGUF keys fills
 * in. Immutable once made: any number of threads may use one. */
#ifndef DATA_TOKENIZER_H
#define DATA_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "core/strbuf.h"

struct tokenizer;

/* A growing list of ids; zeroed memory is an empty one. */
struct id_list {
    int32_t *id;
    int64_t count, cap;
};
void id_list_release(struct id_list *l);
enum graft_status id_list_add(struct id_list *l, int32_t id, struct graft_err *err);

/* The tables of `tokenizer.ggml.*`, as plain arrays. All borrowed during the call. */
struct tokenizer_text {
    const char *s;
    uint64_t len;
};
struct tokenizer_tables {
    const char *model; /* "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE) */
    const char *pre;   /* "llama-bpe", "qwen2", "smollm", "gpt-2", ...; NULL: absent */
    const struct tokenizer_text *token; /* vocab_size */
    int64_t vocab_size;
    const float *score;                 /* vocab_size; model "llama" */
    const int32_t *type;                /* vocab_size; NULL: all normal */
    const struct tokenizer_text *merge; /* "a b"; model "gpt2" */
    int64_t merge_count;
    int32_t bos, eos, eot, unk, pad;        /* -1: absent */
    int add_bos, add_eos, add_space_prefix; /* 0, 1; -1: key absent */
};

/* EIO, EFORMAT: malformed, or a component that is not supported (message names the part). */
enum graft_status tokenizer_open(const char *path, struct tokenizer **out, struct graft_err *err);
enum graft_status tokenizer_from_json(const char *name, const char *text, size_t len,
                                      struct tokenizer **out, struct graft_err *err);
enum graft_status tokenizer_from_tables(const struct tokenizer_tables *t, struct tokenizer **out,
                                        struct graft_err *err);
void tokenizer_free(struct tokenizer *t);

/* Append the ids of `text`. `add_special`: what the post-processor adds around one sequence (bos
 * ...); special tokens written in the text are found either way. Invalid UTF-8 becomes U+FFFD. */
enum graft_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                                   bool add_special, struct id_list *out, struct graft_err *err);
/* The same; also the byte offset in `text` where each token begins (`at` grows with `out`; specials
 * that the post-processor adds get -1). For masks by characters. */
enum graft_status tokenizer_encode_offsets(const struct tokenizer *t, const char *text, size_t len,
                                           bool add_special, struct id_list *out,
                                           struct id_list *at, struct graft_err *err);
/* Append the text of `id[0 .. n)`; EFORMAT names an id outside the vocabulary. */
enum graft_status tokenizer_decode(const struct tokenizer *t, const int32_t *id, int64_t n,
                                   bool skip_special, struct strbuf *out, struct graft_err *err);

/* Streaming decode: the text so far grows by whole characters only. Zeroed memory plus `t` starts.
 */
struct token_stream {
    const struct tokenizer *t;
    bool skip_special;
    struct id_list pending; /* ids whose text is not final yet */
    int64_t context;        /* how many of them were already printed */
};
/* Append what id makes printable (may be nothing); flush prints the rest at the end. */
enum graft_status token_stream_put(struct token_stream *s, int32_t id, struct strbuf *out,
                                   struct graft_err *err);
enum graft_status token_stream_flush(struct token_stream *s, struct strbuf *out,
                                     struct graft_err *err);
void token_stream_release(struct token_stream *s);

int64_t tokenizer_vocab_size(const struct tokenizer *t); /* largest id + 1, added tokens too */
int32_t tokenizer_id(const struct tokenizer *t, const char *token, size_t len); /* -1: none */
/* The token's text as in the vocabulary (not decoded); "" and len 0 for an unused id. */
const char *tokenizer_token(const struct tokenizer *t, int32_t id, size_t *len);
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
/* The tokenizer.json that makes this tokenizer (for output folders); made from tables when it came
 * from them. */
enum graft_status tokenizer_to_json(const struct tokenizer *t, struct strbuf *out,
                                    struct graft_err *err);

#endif
