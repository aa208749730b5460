#include "data/tokenizer.h"

#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "data/tokenizer_impl.h"
#include "data/tokenizer_part.h"

void id_list_release(struct id_list *l)
{
    mem_free(l->id);
    *l = (struct id_list){ 0 };
}

enum graft_status id_list_add(struct id_list *l, int32_t id, struct graft_err *err)
{
    if (l->count == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : 64;
        int32_t *p = mem_resize(l->id, (size_t)l->cap * sizeof *p, (size_t)cap * sizeof *p);

        if (!p)
            return graft_fail_nomem(err, "token ids", (size_t)cap * sizeof *p);
        l->id = p;
        l->cap = cap;
    }
    l->id[l->count++] = id;
    return GRAFT_OK;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    vocab_release(&t->vocab);
    added_release(&t->raw);
    added_release(&t->normalized);
    normalizer_release(&t->normalizer);
    pretok_release(&t->pretok);
    bpe_release(&t->bpe);
    decoder_release(&t->decoder);
    id_list_release(&t->before);
    id_list_release(&t->after);
    strbuf_release(&t->json);
    mem_free(t);
}

/* Sizes of the vocabulary: the largest id + 1, and the bytes of all texts. */
static enum graft_status measure(const json_t *vocab, const json_t *added, int64_t *size,
                                 int64_t *count, size_t *bytes, struct graft_err *err)
{
    const char *key;
    json_t *v;

    *size = *count = 0;
    *bytes = 0;
    json_object_foreach((json_t *)vocab, key, v)
    {
        const json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;

        if (id < 0 || id >= INT32_MAX)
            return graft_fail(err, GRAFT_EFORMAT,
                              "model: the id of token \"%.40s\" is not an integer from 0 to %d",
                              key, INT32_MAX - 1);
        *size = id >= *size ? id + 1 : *size;
        *bytes += strlen(key);
        ++*count;
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *a = json_array_get(added, i), *id = json_object_get(a, "id");
        const json_t *content = json_object_get(a, "content");

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= INT32_MAX || !json_is_string(content))
            return graft_fail(err, GRAFT_EFORMAT,
                              "added token %zu needs a \"content\" and an \"id\" from 0 to %d", i,
                              INT32_MAX - 1);
        *size = json_integer_value(id) >= *size ? json_integer_value(id) + 1 : *size;
        *bytes += json_string_length(content);
        ++*count;
    }
    return GRAFT_OK;
}

static enum graft_status read_added(struct vocab *v, const json_t *a, struct graft_err *err)
{
    static const struct {
        const char *key;
        unsigned flag;
    } flags[] = { { "special", TOKEN_SPECIAL },
                  { "normalized", TOKEN_NORMALIZED },
                  { "lstrip", TOKEN_LSTRIP },
                  { "rstrip", TOKEN_RSTRIP },
                  { "single_word", TOKEN_SINGLE_WORD } };
    const int32_t id = (int32_t)json_integer_value(json_object_get(a, "id"));
    const json_t *content = json_object_get(a, "content");
    const char *s = json_string_value(content);
    const size_t len = json_string_length(content);
    struct token *t = &v->token[id];
    const int32_t known = vocab_find(v, s, len);
    unsigned all = TOKEN_ADDED;

    if (len == 0)
        return GRAFT_OK; /* the reference ignores it too */
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        bool on;

        GRAFT_TRY(part_bool(a, "added token", flags[i].key, false, &on, err));
        all |= on ? flags[i].flag : 0;
    }
    if (known >= 0 && known != id)
        return graft_fail(err, GRAFT_EFORMAT, "added token \"%.40s\" has id %d, but also id %d", s,
                          id, known);
    if (t->s && (t->flags & TOKEN_ADDED || known < 0))
        return graft_fail(err, GRAFT_EFORMAT, "added token \"%.40s\" has id %d, which is \"%.*s\"",
                          s, id, (int)(t->len < 40 ? t->len : 40), t->s);
    if (known < 0)
        vocab_put(v, id, s, len, all);
    t->flags |= all;
    return GRAFT_OK;
}

static enum graft_status read_vocab(struct vocab *v, const json_t *vocab, const json_t *added,
                                    struct graft_err *err)
{
    int64_t size, count;
    size_t bytes;
    const char *key;
    json_t *id;

    if (!json_is_object(vocab))
        return graft_fail(err, GRAFT_EFORMAT, "model: \"vocab\" must be an object");
    if (added && !json_is_null(added) && !json_is_array(added))
        return graft_fail(err, GRAFT_EFORMAT, "\"added_tokens\" must be an array");
    GRAFT_TRY(measure(vocab, added, &size, &count, &bytes, err));
    if (size == 0)
        return graft_fail(err, GRAFT_EFORMAT, "the vocabulary is empty");
    GRAFT_TRY(vocab_init(v, size, count, bytes, err));
    json_object_foreach((json_t *)vocab, key, id)
    {
        const struct token *t = &v->token[json_integer_value(id)];

        if (t->s)
            return graft_fail(err, GRAFT_EFORMAT, "model: \"%.40s\" and \"%.*s\" have the same id",
                              key, (int)(t->len < 40 ? t->len : 40), t->s);
        vocab_put(v, (int32_t)json_integer_value(id), key, strlen(key), TOKEN_MODEL);
    }
    for (size_t i = 0; i < json_array_size(added); i++)
        GRAFT_TRY(read_added(v, json_array_get(added, i), err));
    return GRAFT_OK;
}

/* An added token with normalized = true is looked for, and decoded, as its normalised text. */
static enum graft_status insert_normalized(struct tokenizer *t, struct token *tok, int32_t id,
                                           struct graft_err *err)
{
    struct traced text = { 0 }, spare = { 0 };
    struct matcher m = { 0 };
    enum graft_status st;

    traced_add(&text, tok->s, tok->len, 0);
    st = text.failed ? graft_fail_nomem(err, "an added token", tok->len)
                     : normalizer_apply(&t->normalizer, &m, &text, &spare, err);
    if (!st)
        st = added_insert(&t->normalized, strbuf_str(&text.text), text.text.len, id, err);
    if (!st && (text.text.len != tok->len || memcmp(text.text.buf, tok->s, tok->len) != 0)) {
        tok->shown = part_copy(strbuf_str(&text.text), text.text.len);
        tok->shown_len = text.text.len;
        if (!tok->shown)
            st = graft_fail_nomem(err, "an added token", tok->shown_len);
    }
    traced_release(&text);
    traced_release(&spare);
    matcher_release(&m);
    return st;
}

/* Special tokens first: where two have the same text the first one counts. */
static enum graft_status insert_added(struct tokenizer *t, const json_t *added,
                                      struct graft_err *err)
{
    for (int special = 1; special >= 0; special--)
        for (size_t i = 0; i < json_array_size(added); i++) {
            const json_t *a = json_array_get(added, i);
            const int32_t id = (int32_t)json_integer_value(json_object_get(a, "id"));
            struct token *tok = &t->vocab.token[id];

            if (!tok->s || !(tok->flags & TOKEN_ADDED) ||
                ((tok->flags & TOKEN_SPECIAL) != 0) != special)
                continue;
            if (tok->len > ADDED_MAX)
                return graft_fail(err, GRAFT_EFORMAT,
                                  "added token %d has %u bytes, at most %d are allowed", id,
                                  (unsigned)tok->len, ADDED_MAX);
            if (tok->flags & TOKEN_NORMALIZED)
                GRAFT_TRY(insert_normalized(t, tok, id, err));
            else
                GRAFT_TRY(added_insert(&t->raw, tok->s, tok->len, id, err));
        }
    return GRAFT_OK;
}

/* Old files leave the type of a BPE model out. */
static enum graft_status check_model(const json_t *model, struct graft_err *err)
{
    const char *type = json_string_value(json_object_get(model, "type"));

    if (!json_is_object(model))
        return graft_fail(err, GRAFT_EFORMAT, "no \"model\" object: this is not a tokenizer.json");
    if (!type && !json_object_get(model, "merges"))
        return graft_fail(err, GRAFT_EFORMAT, "the model has no \"type\"");
    if (type && strcmp(type, "BPE") != 0)
        return graft_fail(err, GRAFT_EFORMAT,
                          "tokenizer model \"%.40s\" is not supported, only BPE is", type);
    return GRAFT_OK;
}

static enum graft_status build(struct tokenizer *t, const json_t *root, struct graft_err *err)
{
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");

    GRAFT_TRY(check_model(model, err));
    GRAFT_TRY(normalizer_init(&t->normalizer, json_object_get(root, "normalizer"), err));
    GRAFT_TRY(pretok_init(&t->pretok, json_object_get(root, "pre_tokenizer"), err));
    GRAFT_TRY(decoder_init(&t->decoder, json_object_get(root, "decoder"), err));
    GRAFT_TRY(read_vocab(&t->vocab, json_object_get(model, "vocab"), added, err));
    GRAFT_TRY(insert_added(t, added, err));
    GRAFT_TRY(bpe_init(&t->bpe, model, &t->vocab, t->pretok.bytes, err));
    return post_init(t, json_object_get(root, "post_processor"), err);
}

enum graft_status tokenizer_from_json(const char *name, const char *text, size_t len,
                                      struct tokenizer **out, struct graft_err *err)
{
    struct tokenizer *t = mem_alloc(sizeof *t);
    json_t *root = NULL;
    enum graft_status st;

    if (!t)
        return graft_fail_nomem(err, "a tokenizer", sizeof *t);
    st = len > JSON_FILE_LIMIT
             ? graft_fail(err, GRAFT_EFORMAT, "%s: %zu bytes, a tokenizer may have at most %d",
                          name, len, JSON_FILE_LIMIT)
             : json_read(name, text, len, &root, err);
    if (!st && (st = build(t, root, err)))
        st = graft_fail_in(err, st, "%s", name);
    if (!st) {
        strbuf_add(&t->json, text, len);
        if (t->json.failed)
            st = graft_fail_nomem(err, "a tokenizer", len);
    }
    json_decref(root);
    if (st)
        tokenizer_free(t);
    else
        *out = t;
    return st;
}

enum graft_status tokenizer_open(const char *path, struct tokenizer **out, struct graft_err *err)
{
    struct mapped_file m = { NULL, 0 };
    enum graft_status st;

    GRAFT_TRY(file_map(path, &m, err));
    st = tokenizer_from_json(path, m.data, m.size, out, err);
    file_unmap(&m);
    return st;
}

enum graft_status tokenizer_to_json(const struct tokenizer *t, struct strbuf *out,
                                    struct graft_err *err)
{
    strbuf_add(out, t->json.buf, t->json.len);
    return out->failed ? graft_fail_nomem(err, "a tokenizer.json", t->json.len) : GRAFT_OK;
}

int64_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->vocab.size;
}

int32_t tokenizer_id(const struct tokenizer *t, const char *token, size_t len)
{
    return vocab_find(&t->vocab, token, len);
}

const char *tokenizer_token(const struct tokenizer *t, int32_t id, size_t *len)
{
    if (id < 0 || id >= t->vocab.size || !t->vocab.token[id].s) {
        *len = 0;
        return "";
    }
    *len = t->vocab.token[id].len;
    return t->vocab.token[id].s;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->vocab.size && t->vocab.token[id].flags & TOKEN_SPECIAL;
}
