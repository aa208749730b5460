#include "data/preview.h"

enum graft_status preview_text(const struct tokenizer *t, const int32_t *id, int64_t n,
                               struct strbuf *text, int64_t *end, struct graft_err *err)
{
    struct token_stream s = { .t = t };
    enum graft_status st = GRAFT_OK;

    for (int64_t i = 0; i < n && !st; i++) {
        if (id[i] < 0) {
            st = token_stream_flush(&s, text, err);
            strbuf_printf(text, "<virtual %d>", -id[i]);
        } else if (id[i] < tokenizer_vocab_size(t)) { /* other rows of the embedding: no text */
            st = token_stream_put(&s, id[i], text, err);
        }
        end[i] = (int64_t)text->len;
    }
    if (!st)
        st = token_stream_flush(&s, text, err);
    if (!st && n > 0)
        end[n - 1] = (int64_t)text->len;
    token_stream_release(&s);
    if (!st && text->failed)
        st = graft_fail_nomem(err, "the text of a record", text->len);
    return st;
}

bool preview_eos_trained(const struct dataset *d, const struct record *r, int32_t eos)
{
    const int64_t last = r->first + r->length - 1;

    return r->length > 1 && d->id[last] == eos && d->label[last] == eos;
}
