#include "data/bpe.h"

#include <string.h>

#include "core/mem.h"
#include "data/unicode.h"

/* A symbol of the piece: a token and where it begins. In a long piece `prev` and `next` make a
 * list, and next is JOINED in a symbol that its left neighbour swallowed. */
struct bpe_symbol {
    int32_t id, start;
    int32_t prev, next;
    int32_t rank, joined; /* of the pair (this, next) in a short piece; rank NO_RANK: none */
};

/* A pair as it was when pushed; stale when the list no longer has it there. */
struct bpe_entry {
    int32_t rank, pos, left, right, joined;
};

enum { SCAN_MAX = 48, NO_RANK = INT32_MAX, END = -1, JOINED = -2 };

uint32_t bpe_byte_char(uint8_t b)
{
    if (b < 0x21)
        return 0x100u + b;
    if (b >= 0x7f && b < 0xa1)
        return 0x121u + b - 0x7f;
    return b == 0xad ? 0x143 : b;
}

int bpe_char_byte(uint32_t cp)
{
    if (cp < 0x100)
        return cp < 0x21 || (cp >= 0x7f && cp < 0xa1) || cp == 0xad ? -1 : (int)cp;
    if (cp < 0x121)
        return (int)cp - 0x100;
    if (cp < 0x143)
        return (int)cp - 0x121 + 0x7f;
    return cp == 0x143 ? 0xad : -1;
}

void bpe_work_release(struct bpe_work *w)
{
    mem_free(w->sym);
    mem_free(w->heap);
    strbuf_release(&w->text);
    *w = (struct bpe_work){ 0 };
}

static const struct bpe_merge *find_merge(const struct bpe *m, int32_t left, int32_t right)
{
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;

    for (uint64_t i = bpe_hash_pair(pair) & m->mask;; i = (i + 1) & m->mask) {
        if (m->merge[i].pair == pair)
            return &m->merge[i];
        if (m->merge[i].pair == UINT64_MAX)
            return NULL;
    }
}

static void add_symbol(struct bpe_work *w, int32_t id, int32_t start)
{
    struct bpe_symbol *s = &w->sym[w->count++];

    s->id = id;
    s->start = start;
}

/* An unk that waits for others to be fused with it. It is written before the next known character;
 * bytes of a fallback overtake it, as in the reference. */
static void flush_unk(const struct bpe *m, struct bpe_work *w)
{
    if (w->unk_start >= 0)
        add_symbol(w, m->unk, w->unk_start);
    w->unk_start = -1;
}

/* A character (with prefix and suffix) that has no token. */
static void add_unknown(const struct bpe *m, struct bpe_work *w, const char *s, size_t len,
                        int32_t start)
{
    bool all = m->byte_fallback;

    for (size_t i = 0; i < len && all; i++)
        all = m->fallback[(unsigned char)s[i]] >= 0;
    if (all) {
        for (size_t i = 0; i < len; i++)
            add_symbol(w, m->fallback[(unsigned char)s[i]], start);
        return;
    }
    if (m->unk < 0)
        return;
    if (w->unk_start >= 0 && m->fuse_unk)
        return;
    flush_unk(m, w);
    w->unk_start = start;
}

/* The token of the n bytes at s[at], one character; *text is set to what was looked up. */
static int32_t char_token(const struct bpe *m, struct bpe_work *w, const char *s, size_t n,
                          bool first, bool last, const char **text, size_t *text_len)
{
    uint32_t cp = 0;

    *text = s;
    *text_len = n;
    if (m->bytes) {
        cp = bpe_byte_char((uint8_t)s[0]);
        strbuf_clear(&w->text);
        strbuf_put_utf8(&w->text, cp);
        *text = w->text.buf;
        *text_len = w->text.len;
    } else {
        utf8_next(s, n, &cp);
    }
    if ((m->prefix_len == 0 || first) && (m->suffix_len == 0 || !last))
        return cp < 0x10000 ? m->char_id[cp] : vocab_find_model(m->vocab, *text, *text_len);
    strbuf_clear(&w->text);
    if (!first)
        strbuf_add(&w->text, m->prefix, m->prefix_len);
    if (m->bytes)
        strbuf_put_utf8(&w->text, cp);
    else
        strbuf_add(&w->text, s, n);
    if (last)
        strbuf_add(&w->text, m->suffix, m->suffix_len);
    *text = strbuf_str(&w->text);
    *text_len = w->text.len;
    return w->text.failed ? -1 : vocab_find_model(m->vocab, *text, *text_len);
}

static size_t char_length(const struct bpe *m, const char *s)
{
    const unsigned char c = (unsigned char)*s;

    return m->bytes || c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* Symbols of s, one a character. Room: a character of n bytes with prefix and suffix may become
 * that many fallback bytes. */
static enum graft_status make_symbols(const struct bpe *m, struct bpe_work *w, const char *s,
                                      size_t len, struct graft_err *err)
{
    const int64_t room = (int64_t)(len * (2 + m->prefix_len) + m->suffix_len + 1);
    const bool plain = m->bytes && !m->prefix_len && !m->suffix_len;

    w->count = 0;
    w->unk_start = -1;
    if (room > w->cap) {
        mem_free(w->sym);
        w->cap = 0;
        w->sym = mem_array((size_t)room * 2, sizeof *w->sym);
        if (!w->sym)
            return graft_fail_nomem(err, "the symbols of a piece of text", (size_t)room * 2);
        w->cap = room * 2;
    }
    for (size_t i = 0, n; i < len; i += n) {
        const char *text;
        size_t text_len;
        int32_t id;

        n = char_length(m, s + i);
        if (plain && m->byte_id[(unsigned char)s[i]] >= 0)
            id = m->byte_id[(unsigned char)s[i]];
        else
            id = char_token(m, w, s + i, n, i == 0, i + n == len, &text, &text_len);
        if (id >= 0) {
            flush_unk(m, w);
            add_symbol(w, id, (int32_t)i);
        } else {
            if (w->text.failed)
                return graft_fail_nomem(err, "a character", 0);
            add_unknown(m, w, text, text_len, (int32_t)i);
        }
    }
    flush_unk(m, w);
    return GRAFT_OK;
}

static void rank_pair(const struct bpe *m, struct bpe_symbol *sym, int64_t i, int64_t n)
{
    const struct bpe_merge *g = i + 1 < n ? find_merge(m, sym[i].id, sym[i + 1].id) : NULL;

    sym[i].rank = g ? g->rank : NO_RANK;
    sym[i].joined = g ? g->id : -1;
}

/* Short pieces: look at every pair each time. */
static void merge_by_scan(const struct bpe *m, struct bpe_work *w)
{
    struct bpe_symbol *sym = w->sym;
    int64_t n = w->count;

    for (int64_t i = 0; i < n; i++)
        rank_pair(m, sym, i, n);
    for (;;) {
        int64_t best = 0;

        for (int64_t i = 1; i < n; i++)
            if (sym[i].rank < sym[best].rank)
                best = i;
        if (n == 0 || sym[best].rank == NO_RANK)
            break;
        sym[best].id = sym[best].joined;
        n--;
        memmove(&sym[best + 1], &sym[best + 2], (size_t)(n - best - 1) * sizeof *sym);
        rank_pair(m, sym, best, n);
        if (best > 0)
            rank_pair(m, sym, best - 1, n);
    }
    w->count = n;
}

static bool entry_less(const struct bpe_entry *a, const struct bpe_entry *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void heap_push(const struct bpe *m, struct bpe_work *w, int32_t pos)
{
    const struct bpe_symbol *sym = w->sym;
    const struct bpe_merge *g;
    struct bpe_entry e;
    int64_t i;

    if (pos < 0 || sym[pos].next < 0)
        return;
    g = find_merge(m, sym[pos].id, sym[sym[pos].next].id);
    if (!g)
        return;
    e = (struct bpe_entry){ g->rank, pos, sym[pos].id, sym[sym[pos].next].id, g->id };
    for (i = w->heap_count++; i > 0 && entry_less(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct bpe_entry heap_pop(struct bpe_work *w)
{
    const struct bpe_entry top = w->heap[0], e = w->heap[--w->heap_count];
    int64_t i = 0;

    for (;;) {
        int64_t kid = 2 * i + 1;

        if (kid >= w->heap_count)
            break;
        if (kid + 1 < w->heap_count && entry_less(&w->heap[kid + 1], &w->heap[kid]))
            kid++;
        if (!entry_less(&w->heap[kid], &e))
            break;
        w->heap[i] = w->heap[kid];
        i = kid;
    }
    w->heap[i] = e;
    return top;
}

/* Long pieces: n symbols start n - 1 pairs, and each of at most n - 1 joins makes two more. */
static enum graft_status merge_by_heap(const struct bpe *m, struct bpe_work *w,
                                       struct graft_err *err)
{
    const int64_t n = w->count;
    struct bpe_symbol *sym = w->sym;
    int64_t kept = 0;

    if (3 * n > w->heap_cap) {
        mem_free(w->heap);
        w->heap_cap = 0;
        w->heap = mem_array((size_t)(3 * n), sizeof *w->heap);
        if (!w->heap)
            return graft_fail_nomem(err, "the pairs of a piece of text",
                                    (size_t)(3 * n) * sizeof *w->heap);
        w->heap_cap = 3 * n;
    }
    w->heap_count = 0;
    for (int64_t i = 0; i < n; i++) {
        sym[i].prev = (int32_t)i - 1;
        sym[i].next = i + 1 < n ? (int32_t)i + 1 : END;
    }
    for (int64_t i = 0; i < n; i++)
        heap_push(m, w, (int32_t)i);
    while (w->heap_count > 0) {
        const struct bpe_entry e = heap_pop(w);
        struct bpe_symbol *s = &sym[e.pos];
        const int32_t right = s->next;

        if (right < 0 || s->id != e.left || sym[right].id != e.right)
            continue;
        s->id = e.joined;
        s->next = sym[right].next;
        if (s->next >= 0)
            sym[s->next].prev = e.pos;
        sym[right].next = JOINED;
        heap_push(m, w, e.pos);
        heap_push(m, w, s->prev);
    }
    for (int64_t i = 0; i < n; i++)
        if (sym[i].next != JOINED)
            sym[kept++] = sym[i];
    w->count = kept;
    return GRAFT_OK;
}

/* One word: no merge crosses its ends. `base` is added to the places. */
static enum graft_status encode_word(const struct bpe *m, struct bpe_work *w, const char *s,
                                     size_t len, size_t base, struct id_list *out,
                                     struct id_list *at, struct graft_err *err)
{
    GRAFT_TRY(make_symbols(m, w, s, len, err));
    if (w->count > SCAN_MAX)
        GRAFT_TRY(merge_by_heap(m, w, err));
    else
        merge_by_scan(m, w);
    for (int64_t i = 0; i < w->count; i++) {
        GRAFT_TRY(id_list_add(out, w->sym[i].id, err));
        if (at)
            GRAFT_TRY(id_list_add(at, (int32_t)base + w->sym[i].start, err));
    }
    return GRAFT_OK;
}

/* The whole piece as a token; -1: not in the vocabulary. */
static int32_t whole_token(const struct bpe *m, struct bpe_work *w, const char *s, size_t len)
{
    if (!m->bytes)
        return vocab_find_model(m->vocab, s, len);
    strbuf_clear(&w->text);
    for (size_t i = 0; i < len; i++)
        strbuf_put_utf8(&w->text, bpe_byte_char((uint8_t)s[i]));
    return w->text.failed ? -1 : vocab_find_model(m->vocab, w->text.buf, w->text.len);
}

static bool is_lower_block(const char *s)
{
    return memcmp(s, "\xe2\x96\x81", 3) == 0; /* U+2581, which stands for a space */
}

enum graft_status bpe_encode(const struct bpe *m, struct bpe_work *w, const char *s, size_t len,
                             struct id_list *out, struct id_list *at, struct graft_err *err)
{
    size_t from = 0;

    if (len == 0)
        return GRAFT_OK;
    if (m->ignore_merges) {
        const int32_t id = whole_token(m, w, s, len);

        if (w->text.failed)
            return graft_fail_nomem(err, "a piece of text", len);
        if (id >= 0) {
            GRAFT_TRY(id_list_add(out, id, err));
            return at ? id_list_add(at, 0, err) : GRAFT_OK;
        }
    }
    if (m->split_words)
        for (size_t i = 3; i + 3 <= len; i++)
            if (s[i] == '\xe2' && is_lower_block(s + i) && !is_lower_block(s + i - 3)) {
                GRAFT_TRY(encode_word(m, w, s + from, i - from, from, out, at, err));
                from = i;
            }
    return encode_word(m, w, s + from, len - from, from, out, at, err);
}
