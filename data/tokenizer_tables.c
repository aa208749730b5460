/* The tables of a GGUF file as a tokenizer.json, which is then read like any other: so what is
 * written beside an adapter makes the very same tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_impl.h"
#include "data/unicode.h"

/* Values of tokenizer.ggml.token_type. */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4 };

#define SPLIT(regex)                                                                               \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex                                          \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define BYTES(regex)                                                                               \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_"             \
    "regex\":" regex "}"
#define SEQUENCE(a, b) "{\"type\":\"Sequence\",\"pretokenizers\":[" a "," b "]}"
#define WORDS(digits)                                                                              \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits                 \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

/* One row per value of tokenizer.ggml.pre. */
static const struct pre_def {
    const char *name;
    const char *pre_tokenizer; /* JSON */
    bool nfc, ignore_merges, add_bos;
} pre_defs[] = {
    { "gpt-2", BYTES("true"), false, false, false },
    { "phi-2", BYTES("true"), false, false, false },
    { "llama-bpe", SEQUENCE(SPLIT(WORDS("\\\\p{N}{1,3}")), BYTES("false")), false, true, true },
    { "llama3", SEQUENCE(SPLIT(WORDS("\\\\p{N}{1,3}")), BYTES("false")), false, true, true },
    { "llama-v3", SEQUENCE(SPLIT(WORDS("\\\\p{N}{1,3}")), BYTES("false")), false, true, true },
    { "qwen2", SEQUENCE(SPLIT(WORDS("\\\\p{N}")), BYTES("false")), true, false, false },
    { "deepseek-r1-qwen", SEQUENCE(SPLIT(WORDS("\\\\p{N}")), BYTES("false")), true, false, false },
    { "smollm", SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true}", BYTES("true")), false,
      false, false },
    { "starcoder", SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true}", BYTES("true")),
      false, false, false },
};

/* A merge of a SentencePiece vocabulary: the token that it makes, and where that is cut. */
struct score_merge {
    int32_t token, left, right;
    int64_t order;
    float score;
};

struct tables {
    const struct tokenizer_tables *t;
    struct vocab vocab; /* to find texts */
    struct strbuf json;
    struct score_merge *merge;
    int64_t merges, merge_cap;
    int32_t unk;
};

static int32_t type_of(const struct tokenizer_tables *t, int64_t id)
{
    return t->type ? t->type[id] : TYPE_NORMAL;
}

static void put_quoted(struct strbuf *out, const char *s, size_t len)
{
    strbuf_putc(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"' || s[i] == '\\')
            strbuf_putc(out, '\\');
        if ((unsigned char)s[i] < 0x20)
            strbuf_printf(out, "\\u%04x", (unsigned)(unsigned char)s[i]);
        else
            strbuf_putc(out, s[i]);
    }
    strbuf_putc(out, '"');
}

static void put_token(struct tables *b, int32_t id)
{
    put_quoted(&b->json, b->t->token[id].s, (size_t)b->t->token[id].len);
}

/* Texts by id; a text that stands there twice counts for its first id. */
static enum graft_status index_tokens(struct tables *b, struct graft_err *err)
{
    const struct tokenizer_tables *t = b->t;
    size_t bytes = 0;

    if (t->vocab_size <= 0 || t->vocab_size >= INT32_MAX)
        return graft_fail(err, GRAFT_EFORMAT, "tokenizer.ggml.tokens has %lld entries",
                          (long long)t->vocab_size);
    for (int64_t i = 0; i < t->vocab_size; i++) {
        const struct tokenizer_text *x = &t->token[i];

        if (x->len > INT32_MAX || unicode_valid(x->s, (size_t)x->len) < x->len ||
            (x->len && memchr(x->s, 0, (size_t)x->len)))
            return graft_fail(err, GRAFT_EFORMAT, "tokenizer.ggml.tokens: entry %lld is not text",
                              (long long)i);
        bytes += (size_t)x->len;
    }
    GRAFT_TRY(vocab_init(&b->vocab, t->vocab_size, t->vocab_size, bytes, err));
    for (int64_t i = 0; i < t->vocab_size; i++)
        if (vocab_find(&b->vocab, t->token[i].s, (size_t)t->token[i].len) < 0)
            vocab_put(&b->vocab, (int32_t)i, t->token[i].s, (size_t)t->token[i].len, TOKEN_MODEL);
    return GRAFT_OK;
}

static void put_vocab(struct tables *b)
{
    bool first = true;

    strbuf_puts(&b->json, "\"vocab\":{");
    for (int64_t i = 0; i < b->t->vocab_size; i++) {
        if (!b->vocab.token[i].s)
            continue;
        if (!first)
            strbuf_putc(&b->json, ',');
        first = false;
        put_token(b, (int32_t)i);
        strbuf_printf(&b->json, ":%lld", (long long)i);
    }
    strbuf_puts(&b->json, "},");
}

static void put_added(struct tables *b)
{
    bool first = true;

    strbuf_puts(&b->json, "\"added_tokens\":[");
    for (int64_t i = 0; i < b->t->vocab_size; i++) {
        const int32_t type = type_of(b->t, i);

        if ((type != TYPE_CONTROL && type != TYPE_USER && i != b->unk) || !b->vocab.token[i].s ||
            b->t->token[i].len == 0)
            continue;
        strbuf_puts(&b->json, first ? "{\"id\":" : ",{\"id\":");
        first = false;
        strbuf_printf(&b->json, "%lld,\"content\":", (long long)i);
        put_token(b, (int32_t)i);
        strbuf_printf(&b->json,
                      ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                      "\"normalized\":false,\"special\":%s}",
                      type == TYPE_USER ? "false" : "true");
    }
    strbuf_puts(&b->json, "],");
}

static enum graft_status check_special(const struct tables *b, int32_t id, const char *key,
                                       struct graft_err *err)
{
    if (id < 0 || id >= b->t->vocab_size || !b->vocab.token[id].s)
        return graft_fail(err, GRAFT_EFORMAT, "tokenizer.ggml.%s_token_id is %d of %lld tokens",
                          key, id, (long long)b->t->vocab_size);
    return GRAFT_OK;
}

static void put_special(struct tables *b, int32_t id)
{
    strbuf_puts(&b->json, "{\"SpecialToken\":{\"id\":");
    put_token(b, id);
    strbuf_puts(&b->json, ",\"type_id\":0}}");
}

static void put_sequence(struct tables *b, bool bos, bool eos, const char *name)
{
    if (bos) {
        put_special(b, b->t->bos);
        strbuf_putc(&b->json, ',');
    }
    strbuf_printf(&b->json, "{\"Sequence\":{\"id\":\"%s\",\"type_id\":0}}", name);
    if (eos) {
        strbuf_putc(&b->json, ',');
        put_special(b, b->t->eos);
    }
}

/* bos and eos around each sequence. */
static enum graft_status put_post(struct tables *b, bool bos, bool eos, struct graft_err *err)
{
    const int32_t id[2] = { bos ? b->t->bos : -1,
                            eos && !(bos && b->t->eos == b->t->bos) ? b->t->eos : -1 };
    bool first = true;

    if (bos)
        GRAFT_TRY(check_special(b, b->t->bos, "bos", err));
    if (eos)
        GRAFT_TRY(check_special(b, b->t->eos, "eos", err));
    strbuf_puts(&b->json, "\"post_processor\":");
    if (!bos && !eos) {
        strbuf_puts(&b->json, "null,");
        return GRAFT_OK;
    }
    strbuf_puts(&b->json, "{\"type\":\"TemplateProcessing\",\"single\":[");
    put_sequence(b, bos, eos, "A");
    strbuf_puts(&b->json, "],\"pair\":[");
    put_sequence(b, bos, eos, "A");
    strbuf_putc(&b->json, ',');
    put_sequence(b, bos, eos, "B");
    strbuf_puts(&b->json, "],\"special_tokens\":{");
    for (int k = 0; k < 2; k++) {
        if (id[k] < 0)
            continue;
        strbuf_puts(&b->json, first ? "" : ",");
        first = false;
        put_token(b, id[k]);
        strbuf_puts(&b->json, ":{\"id\":");
        put_token(b, id[k]);
        strbuf_printf(&b->json, ",\"ids\":[%d],\"tokens\":[", id[k]);
        put_token(b, id[k]);
        strbuf_puts(&b->json, "]}");
    }
    strbuf_puts(&b->json, "}},");
    return GRAFT_OK;
}

/* "a b", cut at the first space behind the first byte. */
static enum graft_status put_merges(struct tables *b, struct graft_err *err)
{
    const struct tokenizer_tables *t = b->t;

    strbuf_puts(&b->json, "\"merges\":[");
    for (int64_t i = 0; i < t->merge_count; i++) {
        const char *s = t->merge[i].s;
        const size_t len = (size_t)t->merge[i].len;
        const char *gap = len > 1 ? memchr(s + 1, ' ', len - 1) : NULL;

        if (!gap || unicode_valid(s, len) < len || memchr(s, 0, len))
            return graft_fail(err, GRAFT_EFORMAT,
                              "tokenizer.ggml.merges: entry %lld is not two tokens", (long long)i);
        strbuf_puts(&b->json, i ? ",[" : "[");
        put_quoted(&b->json, s, (size_t)(gap - s));
        strbuf_putc(&b->json, ',');
        put_quoted(&b->json, gap + 1, len - (size_t)(gap - s) - 1);
        strbuf_putc(&b->json, ']');
    }
    strbuf_puts(&b->json, "]");
    return GRAFT_OK;
}

static enum graft_status put_gpt2(struct tables *b, struct graft_err *err)
{
    const struct tokenizer_tables *t = b->t;
    const struct pre_def *pre = NULL;
    bool bos;

    for (size_t i = 0; t->pre && i < sizeof pre_defs / sizeof *pre_defs; i++)
        if (strcmp(pre_defs[i].name, t->pre) == 0)
            pre = &pre_defs[i];
    if (!t->pre)
        return graft_fail(err, GRAFT_EFORMAT,
                          "tokenizer.ggml.pre is missing: how text is cut before "
                          "BPE is not known");
    if (!pre)
        return graft_fail(err, GRAFT_EFORMAT, "tokenizer.ggml.pre \"%.40s\" is not supported",
                          t->pre);
    bos = t->add_bos < 0 ? pre->add_bos && t->bos >= 0 : t->add_bos;
    put_added(b);
    strbuf_printf(&b->json, "\"normalizer\":%s,\"pre_tokenizer\":%s,",
                  pre->nfc ? "{\"type\":\"NFC\"}" : "null", pre->pre_tokenizer);
    GRAFT_TRY(put_post(b, bos, t->add_eos > 0, err));
    strbuf_printf(&b->json,
                  "\"decoder\":%s,\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                  "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                  "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":%s,",
                  BYTES("true"), pre->ignore_merges ? "true" : "false");
    put_vocab(b);
    return put_merges(b, err);
}

/* Best score first; of equal ones the longest left part, then the longest right part, then the
 * order of the vocabulary: the order in which transformers converts SentencePiece vocabularies. */
static int compare_merges(const void *x, const void *y)
{
    const struct score_merge *a = x, *b = y;

    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Of one token's ways the one with the smaller ids first. */
static int compare_parts(const void *x, const void *y)
{
    const struct score_merge *a = x, *b = y;

    if (a->left != b->left)
        return a->left < b->left ? -1 : 1;
    return a->right < b->right ? -1 : a->right > b->right;
}

static int32_t find_normal(const struct tables *b, const char *s, size_t len)
{
    const int32_t id = vocab_find(&b->vocab, s, len);

    return id >= 0 && type_of(b->t, id) == TYPE_NORMAL ? id : -1;
}

/* Every way to make token `id` of two others. */
static enum graft_status add_score_merges(struct tables *b, int32_t id, struct graft_err *err)
{
    const char *s = b->t->token[id].s;
    const size_t len = (size_t)b->t->token[id].len;
    const int64_t first = b->merges;

    for (size_t i = 1; i < len; i++) {
        struct score_merge m = { .token = id, .score = b->t->score[id] };

        if (((unsigned char)s[i] & 0xc0) == 0x80)
            continue;
        m.left = find_normal(b, s, i);
        m.right = m.left >= 0 ? find_normal(b, s + i, len - i) : -1;
        if (m.right < 0)
            continue;
        if (b->merges == b->merge_cap) {
            const int64_t cap = b->merge_cap ? 2 * b->merge_cap : 4096;
            struct score_merge *p =
                mem_resize(b->merge, (size_t)b->merges * sizeof *p, (size_t)cap * sizeof *p);

            if (!p)
                return graft_fail_nomem(err, "merges", (size_t)cap * sizeof *p);
            b->merge = p;
            b->merge_cap = cap;
        }
        b->merge[b->merges++] = m;
    }
    if (b->merges > first + 1)
        qsort(b->merge + first, (size_t)(b->merges - first), sizeof *b->merge, compare_parts);
    return GRAFT_OK;
}

static enum graft_status put_score_merges(struct tables *b, struct graft_err *err)
{
    for (int64_t i = 0; i < b->t->vocab_size; i++) {
        if (b->vocab.token[i].s && b->t->token[i].len > ADDED_MAX)
            return graft_fail(err, GRAFT_EFORMAT,
                              "tokenizer.ggml.tokens: entry %lld has %llu bytes", (long long)i,
                              (unsigned long long)b->t->token[i].len);
        if (b->vocab.token[i].s && type_of(b->t, i) == TYPE_NORMAL)
            GRAFT_TRY(add_score_merges(b, (int32_t)i, err));
    }
    for (int64_t i = 0; i < b->merges; i++) {
        if (b->merge[i].score != b->merge[i].score)
            return graft_fail(err, GRAFT_EFORMAT, "tokenizer.ggml.scores: entry %d is not a number",
                              b->merge[i].token);
        b->merge[i].order = i;
    }
    if (b->merges)
        qsort(b->merge, (size_t)b->merges, sizeof *b->merge, compare_merges);
    strbuf_puts(&b->json, "\"merges\":[");
    for (int64_t i = 0; i < b->merges; i++) {
        strbuf_puts(&b->json, i ? ",[" : "[");
        put_token(b, b->merge[i].left);
        strbuf_putc(&b->json, ',');
        put_token(b, b->merge[i].right);
        strbuf_putc(&b->json, ']');
    }
    strbuf_puts(&b->json, "]");
    return GRAFT_OK;
}

static enum graft_status put_llama(struct tables *b, struct graft_err *err)
{
    const struct tokenizer_tables *t = b->t;
    const bool prefix = t->add_space_prefix != 0;

    if (!t->score)
        return graft_fail(err, GRAFT_EFORMAT, "tokenizer.ggml.scores is missing");
    put_added(b);
    strbuf_printf(&b->json,
                  "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s{\"type\":\"Replace\","
                  "\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}]},"
                  "\"pre_tokenizer\":null,",
                  prefix ? "{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"}," : "");
    GRAFT_TRY(put_post(b, t->add_bos < 0 ? t->bos >= 0 : t->add_bos, t->add_eos > 0, err));
    strbuf_printf(&b->json,
                  "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
                  "\"pattern\":{\"String\":\"\\u2581\"},\"content\":\" \"},"
                  "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]},",
                  prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}" : "");
    strbuf_puts(&b->json, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (b->unk >= 0)
        put_token(b, b->unk);
    else
        strbuf_puts(&b->json, "null");
    strbuf_puts(&b->json, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                          "\"fuse_unk\":true,\"byte_fallback\":true,\"ignore_merges\":false,");
    put_vocab(b);
    return put_score_merges(b, err);
}

static enum graft_status put_all(struct tables *b, struct graft_err *err)
{
    const struct tokenizer_tables *t = b->t;
    const bool llama = t->model && strcmp(t->model, "llama") == 0;

    GRAFT_TRY(index_tokens(b, err));
    b->unk = llama ? t->unk : -1;
    for (int64_t i = 0; llama && b->unk < 0 && t->type && i < t->vocab_size; i++)
        if (t->type[i] == TYPE_UNKNOWN)
            b->unk = (int32_t)i;
    if (b->unk >= 0)
        GRAFT_TRY(check_special(b, b->unk, "unknown", err));
    strbuf_puts(&b->json, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,");
    if (t->model && strcmp(t->model, "gpt2") == 0)
        GRAFT_TRY(put_gpt2(b, err));
    else if (llama)
        GRAFT_TRY(put_llama(b, err));
    else
        return graft_fail(err, GRAFT_EFORMAT, "tokenizer.ggml.model \"%.40s\" is not supported",
                          t->model ? t->model : "");
    strbuf_puts(&b->json, "}}");
    return b->json.failed ? graft_fail_nomem(err, "a tokenizer", b->json.len) : GRAFT_OK;
}

enum graft_status tokenizer_from_tables(const struct tokenizer_tables *t, struct tokenizer **out,
                                        struct graft_err *err)
{
    struct tables b = { .t = t };
    enum graft_status st = put_all(&b, err);

    mem_free(b.merge);
    vocab_release(&b.vocab);
    if (!st)
        st = tokenizer_from_json("tokenizer of the GGUF file", b.json.buf, b.json.len, out, err);
    strbuf_release(&b.json);
    return st;
}
