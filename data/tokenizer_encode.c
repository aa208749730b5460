/* Text to ids: added tokens in the raw text, then normalising what lies between, added tokens in
 * that, then pieces, then the model. */
#include "core/mem.h"
#include "data/tokenizer_impl.h"
#include "data/unicode.h"

struct encoder {
    const struct tokenizer *t;
    struct traced clean; /* the text when it had to be repaired */
    struct traced segment, spare;
    struct pretok_work pretok;
    struct bpe_work bpe;
    struct matcher matcher;
    struct id_list *out, *at; /* at: NULL when not asked for */
};

static enum graft_status emit(struct encoder *e, int32_t id, size_t origin, struct graft_err *err)
{
    GRAFT_TRY(id_list_add(e->out, id, err));
    return e->at ? id_list_add(e->at, (int32_t)origin, err) : GRAFT_OK;
}

/* [start, end) of the normalised segment holds no added token. */
static enum graft_status encode_plain(struct encoder *e, size_t start, size_t end,
                                      struct graft_err *err)
{
    struct pretok_work *w = &e->pretok;

    GRAFT_TRY(pretok_apply(&e->t->pretok, w, &e->segment, start, end, err));
    for (size_t i = 0; i < w->count; i++) {
        const struct piece p = w->piece[i];
        const int64_t first = e->at ? e->at->count : 0;

        GRAFT_TRY(bpe_encode(&e->t->bpe, &e->bpe, w->text->text.buf + p.start, p.end - p.start,
                             e->out, e->at, err));
        for (int64_t k = first; e->at && k < e->at->count; k++)
            e->at->id[k] = (int32_t)traced_origin(w->text, p.start + (size_t)e->at->id[k]);
    }
    return GRAFT_OK;
}

/* A stretch of raw text between added tokens; origin: its first byte, or of `from`, its origins. */
static enum graft_status encode_segment(struct encoder *e, const char *s, size_t start, size_t end,
                                        const struct traced *from, struct graft_err *err)
{
    struct added_walk walk = { 0 };
    struct added_part part;

    traced_clear(&e->segment);
    if (from)
        traced_copy(&e->segment, from, start, end - start);
    else
        traced_add_run(&e->segment, s + start, end - start, start);
    if (e->segment.failed)
        return graft_fail_nomem(err, "text to encode", end - start);
    GRAFT_TRY(normalizer_apply(&e->t->normalizer, &e->matcher, &e->segment, &e->spare, err));
    while (added_next(&e->t->normalized, &e->t->vocab, strbuf_str(&e->segment.text),
                      e->segment.text.len, &walk, &part))
        if (part.id >= 0)
            GRAFT_TRY(emit(e, part.id, traced_origin(&e->segment, part.start), err));
        else
            GRAFT_TRY(encode_plain(e, part.start, part.end, err));
    return GRAFT_OK;
}

/* Put U+FFFD for what is not UTF-8. */
static enum graft_status repair(struct encoder *e, const char *s, size_t len, struct graft_err *err)
{
    for (size_t i = 0; i < len;) {
        const size_t n = unicode_valid(s + i, len - i);
        bool ok;

        traced_add_run(&e->clean, s + i, n, i);
        i += n;
        if (i < len) {
            traced_add(&e->clean, "\xef\xbf\xbd", 3, i);
            i += unicode_step(s + i, len - i, &ok);
        }
    }
    return e->clean.failed ? graft_fail_nomem(err, "text to encode", len) : GRAFT_OK;
}

static enum graft_status encode_text(struct encoder *e, const char *s, size_t len,
                                     struct graft_err *err)
{
    const struct traced *from = NULL;
    struct added_walk walk = { 0 };
    struct added_part part;

    if (unicode_valid(s, len) < len) {
        GRAFT_TRY(repair(e, s, len, err));
        from = &e->clean;
        s = e->clean.text.buf;
        len = e->clean.text.len;
    }
    while (added_next(&e->t->raw, &e->t->vocab, s, len, &walk, &part))
        if (part.id >= 0)
            GRAFT_TRY(emit(e, part.id, from ? traced_origin(from, part.start) : part.start, err));
        else
            GRAFT_TRY(encode_segment(e, s, part.start, part.end, from, err));
    return GRAFT_OK;
}

static enum graft_status encode(struct encoder *e, const char *text, size_t len, bool add_special,
                                struct graft_err *err)
{
    const struct tokenizer *t = e->t;
    const bool trace = e->at || t->pretok.needs_origin;

    e->clean.trace = e->segment.trace = e->spare.trace = trace;
    e->pretok.own[0].trace = e->pretok.own[1].trace = trace;
    e->pretok.matcher = &e->matcher;
    for (int64_t i = 0; add_special && i < t->before.count; i++)
        GRAFT_TRY(emit(e, t->before.id[i], (size_t)-1, err));
    if (len)
        GRAFT_TRY(encode_text(e, text, len, err));
    for (int64_t i = 0; add_special && i < t->after.count; i++)
        GRAFT_TRY(emit(e, t->after.id[i], (size_t)-1, err));
    return GRAFT_OK;
}

enum graft_status tokenizer_encode_offsets(const struct tokenizer *t, const char *text, size_t len,
                                           bool add_special, struct id_list *out,
                                           struct id_list *at, struct graft_err *err)
{
    struct encoder e = { .t = t, .out = out, .at = at };
    const int64_t had = out->count, at_had = at ? at->count : 0;
    enum graft_status st;

    if (len > INT32_MAX / 8)
        return graft_fail(err, GRAFT_EARG, "a text of %zu bytes, at most %d can be encoded at once",
                          len, INT32_MAX / 8);
    st = encode(&e, text, len, add_special, err);
    if (st) {
        out->count = had;
        if (at)
            at->count = at_had;
    }
    traced_release(&e.clean);
    traced_release(&e.segment);
    traced_release(&e.spare);
    pretok_work_release(&e.pretok);
    bpe_work_release(&e.bpe);
    matcher_release(&e.matcher);
    return st;
}

enum graft_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                                   bool add_special, struct id_list *out, struct graft_err *err)
{
    return tokenizer_encode_offsets(t, text, len, add_special, out, NULL, err);
}
