#include "data/preview.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

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

void preview_texts_release(struct preview_texts *p)
{
    strbuf_release(&p->text);
    id_list_release(&p->at);
    mem_free(p->begin);
    *p = (struct preview_texts){ .count = 0 };
}

enum graft_status preview_take_text(void *user, const char *text, size_t len, const int32_t *at,
                                    int64_t n, struct graft_err *err)
{
    struct preview_texts *p = user;

    if (p->count == p->cap) {
        const int64_t cap = p->cap ? 2 * p->cap : 16;
        struct preview_place *begin =
            mem_resize(p->begin, (size_t)p->cap * sizeof *begin, (size_t)cap * sizeof *begin);

        if (!begin)
            return graft_fail_nomem(err, "places of texts", (size_t)cap * sizeof *begin);
        p->begin = begin;
        p->cap = cap;
    }
    p->begin[p->count++] = (struct preview_place){ p->text.len, p->at.count };
    if (text)
        strbuf_add(&p->text, text, len);
    for (int64_t i = 0; i < n; i++)
        GRAFT_TRY(id_list_add(&p->at, at[i], err));
    return p->text.failed ? graft_fail_nomem(err, "texts of records", p->text.len) : GRAFT_OK;
}

static bool is_rendered(const struct preview_texts *p, int64_t i, const int32_t *id, int64_t n)
{
    const int64_t past = i + 1 < p->count ? p->begin[i + 1].at : p->at.count;

    if (i >= p->count || past - p->begin[i].at < n)
        return false;
    for (int64_t k = 0; k < n; k++)
        if (id[k] < 0)
            return false;
    return true;
}

enum graft_status preview_rendered(const struct preview_texts *p, const struct tokenizer *t,
                                   int64_t i, const int32_t *id, int64_t n, struct strbuf *text,
                                   int64_t *end, struct graft_err *err)
{
    struct preview_place from, past = { p->text.len, p->at.count };
    size_t len;

    if (!is_rendered(p, i, id, n))
        return preview_text(t, id, n, text, end, err);
    from = p->begin[i];
    if (i + 1 < p->count)
        past = p->begin[i + 1];
    len = past.text - from.text;
    for (int64_t k = 0; k < n; k++) {
        const int64_t next = from.at + k + 1;
        const size_t at = next < past.at ? (size_t)p->at.id[next] : len;

        end[k] = (int64_t)(text->len + at);
    }
    len = n ? (size_t)end[n - 1] - text->len : len;
    strbuf_add(text, p->text.buf + from.text, len);
    return text->failed ? graft_fail_nomem(err, "the text of a record", text->len) : GRAFT_OK;
}

static bool is_stop(int32_t id, const int32_t *stop, int stops)
{
    for (int i = 0; i < stops; i++)
        if (stop[i] == id)
            return true;
    return false;
}

bool preview_end_trained(const struct dataset *d, const struct record *r, const int32_t *stop,
                         int stops)
{
    int64_t learnt = r->length - 1, end;

    while (learnt > 0 && dataset_label(d, r, learnt) == NO_LABEL)
        learnt--;
    if (learnt > 0 && is_stop(dataset_label(d, r, learnt), stop, stops))
        return true;
    end = r->length - 1;
    while (end > 0 && !is_stop(dataset_id(d, r, end), stop, stops))
        end--;
    return end > 0 && dataset_label(d, r, end) != NO_LABEL;
}

const int preview_percent[6] = { 1, 25, 50, 75, 95, 99 };

/* A record's tokens and labels as one number; equal ones are compared. */
static uint64_t hash_record(const struct dataset *d, const struct record *r)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a, a token at a time */

    for (int64_t t = 0; t < r->length; t++) {
        h = (h ^ (uint32_t)dataset_id(d, r, t)) * 1099511628211u;
        h = (h ^ (uint32_t)dataset_label(d, r, t)) * 1099511628211u;
    }
    return h;
}

static bool same_record(const struct dataset *d, const struct record *a, const struct record *b)
{
    bool same = a->length == b->length;

    for (int64_t t = 0; t < a->length && same; t++)
        same = dataset_id(d, a, t) == dataset_id(d, b, t) &&
               dataset_label(d, a, t) == dataset_label(d, b, t);
    return same;
}

/* Open addressing over the kept records; a place holds the index + 1 of the first of its kind. */
static enum graft_status count_duplicates(const struct dataset *d, int64_t *out,
                                          struct graft_err *err)
{
    size_t room = 16;
    int64_t *place;

    while (room < 2 * (size_t)d->count)
        room *= 2;
    place = mem_array(room, sizeof *place);
    if (!place)
        return graft_fail_nomem(err, "a table of records", room * sizeof *place);
    *out = 0;
    for (int64_t i = 0; i < d->count; i++) {
        size_t at;

        if (d->record[i].length == 0)
            continue;
        at = (size_t)hash_record(d, &d->record[i]) & (room - 1);
        while (place[at] && !same_record(d, &d->record[place[at] - 1], &d->record[i]))
            at = (at + 1) & (room - 1);
        if (place[at])
            ++*out;
        else
            place[at] = i + 1;
    }
    mem_free(place);
    return GRAFT_OK;
}

static int by_size(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static enum graft_status find_lengths(const struct dataset *d, struct preview_summary *s,
                                      struct graft_err *err)
{
    int64_t *length = mem_array((size_t)d->count + 1, sizeof *length), n = 0;

    if (!length)
        return graft_fail_nomem(err, "lengths", (size_t)d->count * sizeof *length);
    for (int64_t i = 0; i < d->count; i++)
        if (d->record[i].length > 0)
            length[n++] = d->record[i].length;
    qsort(length, (size_t)n, sizeof *length, by_size);
    for (int k = 0; k < 6; k++) {
        const int64_t rank = (n * preview_percent[k] + 99) / 100;

        s->length[k] = n ? length[rank > 0 ? rank - 1 : 0] : 0;
    }
    mem_free(length);
    return GRAFT_OK;
}

enum graft_status preview_summarise(const struct dataset *d, const int32_t *stop, int stops,
                                    struct preview_summary *out, struct graft_err *err)
{
    struct preview_summary s = { 0 };

    for (int64_t i = 0; i < d->count; i++)
        s.endless += d->record[i].length > 0 && !preview_end_trained(d, &d->record[i], stop, stops);
    GRAFT_TRY(find_lengths(d, &s, err));
    GRAFT_TRY(count_duplicates(d, &s.duplicates, err));
    *out = s;
    return GRAFT_OK;
}
