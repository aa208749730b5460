/* data/decode.h - tokens back to text. */
#ifndef DATA_DECODE_H
#define DATA_DECODE_H

#include "core/json.h"
#include "data/pattern.h"

/* The parts of a text: first a token each, joined or cut by the decoders. */
struct parts {
    struct strbuf text;
    size_t *end; /* count: where each part ends */
    int64_t count, cap;
    bool failed;
};
void parts_release(struct parts *p);
void parts_clear(struct parts *p);
void parts_add(struct parts *p, const char *s, size_t len); /* a part of its own */

struct decoder_def;
struct decoder {
    const struct decoder_def *def;
    struct pattern pattern;
    char *text; /* Replace: content; Strip, Metaspace: the character; BPEDecoder: suffix */
    size_t len;
    int64_t start, stop; /* Strip */
    bool keep_first;     /* Metaspace: nothing was prepended */
};
struct decoder_chain {
    struct decoder *item;
    int count;
    bool byte_level;    /* text is final only at whole characters */
    bool byte_fallback; /* text is final only behind a run of byte tokens */
    bool whole;         /* no part is final before the end */
};

/* One row per kind. */
struct decoder_def {
    const char *type;
    enum graft_status (*parse)(struct decoder *d, const json_t *o, struct graft_err *err);
    enum graft_status (*apply)(const struct decoder *d, struct matcher *m, const struct parts *in,
                               struct parts *out, struct graft_err *err);
};
extern const struct decoder_def decoder_defs[];
extern const size_t decoder_def_count;

/* From the "decoder" member; null: parts joined by spaces. EFORMAT names a type not supported. */
enum graft_status decoder_init(struct decoder_chain *c, const json_t *o, struct graft_err *err);
void decoder_release(struct decoder_chain *c);
/* Append the text of `parts`, which are used up. */
enum graft_status decoder_apply(const struct decoder_chain *c, struct parts *parts,
                                struct strbuf *out, struct graft_err *err);
/* The byte of a token <0xHH>; -1: it is none. */
int decoder_byte(const char *s, size_t len);
/* The bytes of a token of a byte-level vocabulary. */
void decoder_raw_bytes(const char *s, size_t len, struct strbuf *out);

#endif
