/* The "model" object of a tokenizer.json: tables that bpe.c works from. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "data/bpe.h"
#include "data/tokenizer_part.h"

void bpe_release(struct bpe *m)
{
    mem_free(m->merge);
    mem_free(m->char_id);
    mem_free(m->prefix);
    mem_free(m->suffix);
    *m = (struct bpe){ 0 };
}

/* Tokens of single characters, and those that a character without a token falls back to. */
static enum graft_status init_chars(struct bpe *m, struct graft_err *err)
{
    m->char_id = mem_array(65536, sizeof *m->char_id);
    if (!m->char_id)
        return graft_fail_nomem(err, "the characters of the vocabulary", 65536 * 4);
    memset(m->char_id, 0xff, 65536 * sizeof *m->char_id);
    for (int64_t i = 0; i < m->vocab->size; i++) {
        const struct token *t = &m->vocab->token[i];
        uint32_t cp;

        if (t->flags & TOKEN_MODEL && t->len > 0 && t->len <= 3 &&
            utf8_next(t->s, t->len, &cp) == (int)t->len)
            m->char_id[cp] = (int32_t)i;
    }
    for (int b = 0; b < 256; b++) {
        char name[8];

        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        m->byte_id[b] = m->char_id[bpe_byte_char((uint8_t)b)];
        m->fallback[b] = vocab_find_model(m->vocab, name, 6);
    }
    return GRAFT_OK;
}

/* Split merge number `rank` ("a b" or ["a", "b"]) into its two tokens' ids. */
static enum graft_status merge_parts(const struct bpe *m, const json_t *v, int64_t rank,
                                     int32_t id[2], struct graft_err *err)
{
    const char *s[2];
    size_t len[2];

    if (json_is_string(v)) {
        const char *all = json_string_value(v), *gap;
        const size_t n = json_string_length(v);

        gap = memchr(all, ' ', n);
        if (!gap || memchr(gap + 1, ' ', n - (size_t)(gap + 1 - all)))
            return graft_fail(
                err, GRAFT_EFORMAT,
                "model: merge %lld (\"%.40s\") is not two tokens with a space between",
                (long long)rank, all);
        s[0] = all;
        len[0] = (size_t)(gap - all);
        s[1] = gap + 1;
        len[1] = n - len[0] - 1;
    } else if (json_is_array(v) && json_array_size(v) == 2 &&
               json_is_string(json_array_get(v, 0)) && json_is_string(json_array_get(v, 1))) {
        for (size_t k = 0; k < 2; k++) {
            s[k] = json_string_value(json_array_get(v, k));
            len[k] = json_string_length(json_array_get(v, k));
        }
    } else {
        return graft_fail(err, GRAFT_EFORMAT, "model: merge %lld is not a pair of tokens",
                          (long long)rank);
    }
    for (int k = 0; k < 2; k++) {
        id[k] = vocab_find_model(m->vocab, s[k], len[k]);
        if (id[k] < 0)
            return graft_fail(err, GRAFT_EFORMAT,
                              "model: merge %lld names \"%.40s\", which is not in the vocabulary",
                              (long long)rank, s[k]);
    }
    return GRAFT_OK;
}

/* Whether the token has U+2581 behind another character: then a merge crosses a word's start. */
static bool crosses_words(const struct token *t)
{
    for (uint32_t i = 1; i + 3 <= t->len; i++)
        if (memcmp(t->s + i, "\xe2\x96\x81", 3) == 0 &&
            (i < 3 || memcmp(t->s + i - 3, "\xe2\x96\x81", 3) != 0))
            return true;
    return false;
}

static enum graft_status add_merge(struct bpe *m, const json_t *v, int32_t rank,
                                   struct strbuf *text, struct graft_err *err)
{
    int32_t id[2] = { -1, -1 }, joined;
    uint64_t pair, i;
    const struct token *a, *b;

    GRAFT_TRY(merge_parts(m, v, rank, id, err));
    a = &m->vocab->token[id[0]];
    b = &m->vocab->token[id[1]];
    if (b->len < m->prefix_len)
        return graft_fail(err, GRAFT_EFORMAT, "model: merge %d: the second token lacks the prefix",
                          rank);
    strbuf_clear(text);
    strbuf_add(text, a->s, a->len);
    strbuf_add(text, b->s + m->prefix_len, b->len - m->prefix_len);
    if (text->failed)
        return graft_fail_nomem(err, "a merge", a->len + b->len);
    joined = vocab_find_model(m->vocab, strbuf_str(text), text->len);
    if (joined < 0)
        return graft_fail(err, GRAFT_EFORMAT,
                          "model: merge %d makes \"%.40s\", which is not in the vocabulary", rank,
                          strbuf_str(text));
    if (crosses_words(&m->vocab->token[joined]))
        m->split_words = false;
    pair = (uint64_t)id[0] << 32 | (uint32_t)id[1];
    for (i = bpe_hash_pair(pair) & m->mask; m->merge[i].pair != UINT64_MAX; i = (i + 1) & m->mask)
        if (m->merge[i].pair == pair)
            break; /* named twice: the last one counts, as in the reference */
    m->merge[i] = (struct bpe_merge){ pair, rank, joined };
    return GRAFT_OK;
}

static enum graft_status init_merges(struct bpe *m, const json_t *list, struct graft_err *err)
{
    const size_t n = json_array_size(list);
    struct strbuf text = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;
    uint64_t slots = 16;

    if (!json_is_array(list) || n >= INT32_MAX)
        return graft_fail(err, GRAFT_EFORMAT, "model: \"merges\" must be an array");
    while (slots < 2 * n)
        slots *= 2;
    m->mask = slots - 1;
    m->merge = mem_array(slots, sizeof *m->merge);
    if (!m->merge)
        return graft_fail_nomem(err, "the merges", slots * sizeof *m->merge);
    for (uint64_t i = 0; i < slots; i++)
        m->merge[i].pair = UINT64_MAX;
    for (size_t i = 0; i < n && !st; i++) {
        const char *line = json_string_value(json_array_get(list, i));

        if (!line || strncmp(line, "#version", 8) != 0) /* a merges.txt's first line */
            st = add_merge(m, json_array_get(list, i), (int32_t)i, &text, err);
    }
    strbuf_release(&text);
    return st;
}

static enum graft_status init_options(struct bpe *m, const json_t *model, struct graft_err *err)
{
    const json_t *dropout = json_object_get(model, "dropout");
    const char *unk, *prefix, *suffix;
    size_t unk_len;

    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return graft_fail(err, GRAFT_EFORMAT, "model: BPE with dropout is not supported");
    GRAFT_TRY(part_bool(model, "model", "fuse_unk", false, &m->fuse_unk, err));
    GRAFT_TRY(part_bool(model, "model", "byte_fallback", false, &m->byte_fallback, err));
    GRAFT_TRY(part_bool(model, "model", "ignore_merges", false, &m->ignore_merges, err));
    GRAFT_TRY(part_text(model, "model", "continuing_subword_prefix", &prefix, &m->prefix_len, err));
    GRAFT_TRY(part_text(model, "model", "end_of_word_suffix", &suffix, &m->suffix_len, err));
    GRAFT_TRY(part_text(model, "model", "unk_token", &unk, &unk_len, err));
    if (m->prefix_len > 1024 || m->suffix_len > 1024)
        return graft_fail(err, GRAFT_EFORMAT, "model: prefix or suffix longer than 1024 bytes");
    m->prefix = part_copy(prefix, m->prefix_len);
    m->suffix = part_copy(suffix, m->suffix_len);
    if (!m->prefix || !m->suffix)
        return graft_fail_nomem(err, "the model", m->prefix_len + m->suffix_len);
    m->unk = -1;
    if (unk && (m->unk = vocab_find_model(m->vocab, unk, unk_len)) < 0 && unk_len)
        return graft_fail(err, GRAFT_EFORMAT, "model: unk_token \"%.40s\" is not in the vocabulary",
                          unk);
    return GRAFT_OK;
}

enum graft_status bpe_init(struct bpe *m, const json_t *model, const struct vocab *vocab,
                           bool bytes, struct graft_err *err)
{
    m->vocab = vocab;
    m->bytes = bytes;
    GRAFT_TRY(init_options(m, model, err));
    GRAFT_TRY(init_chars(m, err));
    m->split_words = !bytes && !m->prefix_len && !m->suffix_len && m->char_id[0x2581] >= 0;
    return init_merges(m, json_object_get(model, "merges"), err);
}
