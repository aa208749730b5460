/* Ids to text, at once or as they come. */
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_impl.h"
#include "data/unicode.h"

static enum graft_status check_id(const struct tokenizer *t, int32_t id, struct graft_err *err)
{
    if (id < 0 || id >= t->vocab.size)
        return graft_fail(err, GRAFT_EFORMAT, "token id %d is not in the vocabulary (0 to %lld)",
                          id, (long long)t->vocab.size - 1);
    return GRAFT_OK;
}

/* Whether the decoders see the token at all. */
static bool is_seen(const struct tokenizer *t, int32_t id, bool skip_special)
{
    const struct token *tok = &t->vocab.token[id];

    return tok->s && !(skip_special && tok->flags & TOKEN_SPECIAL);
}

/* What the decoders are given for it. */
static const char *shown(const struct tokenizer *t, int32_t id, size_t *len)
{
    const struct token *tok = &t->vocab.token[id];

    *len = tok->shown ? tok->shown_len : tok->len;
    return tok->shown ? tok->shown : tok->s;
}

enum graft_status tokenizer_decode(const struct tokenizer *t, const int32_t *id, int64_t n,
                                   bool skip_special, struct strbuf *out, struct graft_err *err)
{
    struct parts p = { 0 };
    enum graft_status st;

    for (int64_t i = 0; i < n; i++)
        GRAFT_TRY(check_id(t, id[i], err));
    for (int64_t i = 0; i < n; i++)
        if (is_seen(t, id[i], skip_special)) {
            size_t len;
            const char *text = shown(t, id[i], &len);

            parts_add(&p, text, len);
        }
    st = p.failed ? graft_fail_nomem(err, "tokens to decode", p.text.len)
                  : decoder_apply(&t->decoder, &p, out, err);
    parts_release(&p);
    return st;
}

/* Whether bytes end within a character that more bytes may complete. */
static bool ends_open(const struct strbuf *s)
{
    size_t back = s->len;

    for (int i = 0; i < 3 && back > 0; i++) {
        const unsigned char c = (unsigned char)s->buf[--back];
        bool ok;

        if ((c & 0xc0) == 0x80)
            continue;
        return c >= 0xc0 && unicode_step(s->buf + back, s->len - back, &ok) == s->len - back && !ok;
    }
    return false;
}

/* Whether no later token can change the text of the pending ones. */
static bool is_final(const struct token_stream *s, bool *nomem)
{
    const struct tokenizer *t = s->t;
    const int64_t n = s->pending.count;
    struct strbuf raw = STRBUF_INIT;
    size_t len;
    const char *text = shown(t, s->pending.id[n - 1], &len);
    bool open;

    if (t->decoder.whole)
        return false;
    if (t->decoder.byte_fallback && decoder_byte(text, len) >= 0)
        return false;
    if (!t->decoder.byte_level)
        return true;
    for (int64_t i = n > 4 ? n - 4 : 0; i < n; i++) {
        text = shown(t, s->pending.id[i], &len);
        decoder_raw_bytes(text, len, &raw);
    }
    *nomem = raw.failed;
    open = ends_open(&raw);
    strbuf_release(&raw);
    return !open;
}

/* Keep as context the fewest last ids that have a text: what is decoded behind them then comes out
 * as it would behind all. */
static enum graft_status keep_context(struct token_stream *s, struct graft_err *err)
{
    struct id_list *p = &s->pending;
    int64_t keep = 1;

    for (;; keep *= 2) {
        struct strbuf text = STRBUF_INIT;
        enum graft_status st;
        bool some;

        if (keep >= p->count) {
            keep = p->count;
            break;
        }
        st = tokenizer_decode(s->t, p->id + p->count - keep, keep, s->skip_special, &text, err);
        some = text.len > 0;
        strbuf_release(&text);
        GRAFT_TRY(st);
        if (some)
            break;
    }
    memmove(p->id, p->id + p->count - keep, (size_t)keep * sizeof *p->id);
    p->count = s->context = keep;
    return GRAFT_OK;
}

static enum graft_status print_pending(struct token_stream *s, struct strbuf *out,
                                       struct graft_err *err)
{
    struct strbuf old = STRBUF_INIT, all = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    if (s->context) /* nothing at all is not the same as no parts: no decoder runs on it */
        st = tokenizer_decode(s->t, s->pending.id, s->context, s->skip_special, &old, err);
    if (!st)
        st = tokenizer_decode(s->t, s->pending.id, s->pending.count, s->skip_special, &all, err);
    if (!st && all.len > old.len)
        strbuf_add(out, all.buf + old.len, all.len - old.len);
    if (!st && out->failed)
        st = graft_fail_nomem(err, "decoded text", all.len);
    strbuf_release(&old);
    strbuf_release(&all);
    return st;
}

enum graft_status token_stream_put(struct token_stream *s, int32_t id, struct strbuf *out,
                                   struct graft_err *err)
{
    bool nomem = false;

    GRAFT_TRY(check_id(s->t, id, err));
    if (!is_seen(s->t, id, s->skip_special))
        return GRAFT_OK;
    GRAFT_TRY(id_list_add(&s->pending, id, err));
    if (!is_final(s, &nomem))
        return nomem ? graft_fail_nomem(err, "decoded text", 0) : GRAFT_OK;
    GRAFT_TRY(print_pending(s, out, err));
    return keep_context(s, err);
}

enum graft_status token_stream_flush(struct token_stream *s, struct strbuf *out,
                                     struct graft_err *err)
{
    GRAFT_TRY(print_pending(s, out, err));
    s->pending.count = s->context = 0;
    return GRAFT_OK;
}

void token_stream_release(struct token_stream *s)
{
    id_list_release(&s->pending);
    s->context = 0;
}
