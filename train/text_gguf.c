/* The words of a GGUF file: its tokenizer.ggml keys and chat templates. */
#include <string.h>

#include "core/mem.h"
#include "io/gguf.h"
#include "train/text_impl.h"

static enum graft_status gguf_texts(struct gguf *g, const char *key, struct arena *mem,
                                    const struct tokenizer_text **out, int64_t *count,
                                    struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    const struct gguf_string *s = NULL;
    struct tokenizer_text *copy;

    *out = NULL;
    *count = 0;
    if (!v)
        return GRAFT_OK;
    GRAFT_TRY(gguf_strings(g, v, &s, err));
    copy = arena_array(mem, (size_t)v->count, sizeof *copy);
    if (!copy)
        return graft_fail_nomem(err, key, (size_t)v->count * sizeof *copy);
    for (uint64_t i = 0; i < v->count; i++)
        copy[i] = (struct tokenizer_text){ s[i].s, s[i].len };
    *out = copy;
    *count = (int64_t)v->count;
    return GRAFT_OK;
}

/* An array of numbers with one entry a token, as f32 or i32; NULL when the key is absent. */
static enum graft_status gguf_numbers(struct gguf *g, const char *key, int64_t count,
                                      struct arena *mem, float **as_float, int32_t **as_int,
                                      struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);

    if (!v)
        return GRAFT_OK;
    if (v->type != GGUF_ARRAY || v->item == GGUF_STRING || v->item == GGUF_ARRAY ||
        (int64_t)v->count != count)
        return graft_fail(err, GRAFT_EFORMAT, "%s: %s needs one number for each of %lld tokens",
                          g->store.path, key, (long long)count);
    if (as_float)
        *as_float = arena_array(mem, (size_t)count, sizeof **as_float);
    else
        *as_int = arena_array(mem, (size_t)count, sizeof **as_int);
    if (as_float ? !*as_float : !*as_int)
        return graft_fail_nomem(err, key, (size_t)count * 4);
    for (int64_t i = 0; i < count; i++) {
        if (as_float)
            (*as_float)[i] = (float)gguf_number_at(v, (uint64_t)i);
        else
            (*as_int)[i] = (int32_t)gguf_number_at(v, (uint64_t)i);
    }
    return GRAFT_OK;
}

static enum graft_status gguf_id(struct gguf *g, const char *key, int64_t most, int32_t *out,
                                 struct graft_err *err)
{
    int64_t v = -1;

    GRAFT_TRY(gguf_int(g, key, -1, &v, err));
    if (v < -1 || v >= most)
        return graft_fail(err, GRAFT_EFORMAT, "%s: %s is %lld, the vocabulary has %lld tokens",
                          g->store.path, key, (long long)v, (long long)most);
    *out = (int32_t)v;
    return GRAFT_OK;
}

static enum graft_status gguf_flag(const struct gguf *g, const char *key, int *out,
                                   struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);

    *out = -1;
    if (!v)
        return GRAFT_OK;
    if (v->type != GGUF_BOOL)
        return graft_fail(err, GRAFT_EFORMAT, "%s: %s is not true or false", g->store.path, key);
    *out = *(const uint8_t *)v->data != 0;
    return GRAFT_OK;
}

static enum graft_status fill_tables(struct gguf *g, struct arena *mem, struct tokenizer_tables *t,
                                     struct graft_err *err)
{
    int64_t n;
    float *score = NULL;
    int32_t *type = NULL;

    GRAFT_TRY(gguf_str(g, "tokenizer.ggml.pre", NULL, &t->pre, err));
    GRAFT_TRY(gguf_texts(g, "tokenizer.ggml.tokens", mem, &t->token, &n, err));
    t->vocab_size = n;
    GRAFT_TRY(gguf_texts(g, "tokenizer.ggml.merges", mem, &t->merge, &t->merge_count, err));
    GRAFT_TRY(gguf_numbers(g, "tokenizer.ggml.scores", n, mem, &score, NULL, err));
    GRAFT_TRY(gguf_numbers(g, "tokenizer.ggml.token_type", n, mem, NULL, &type, err));
    t->score = score;
    t->type = type;
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.bos_token_id", n, &t->bos, err));
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.eos_token_id", n, &t->eos, err));
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.eot_token_id", n, &t->eot, err));
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.unknown_token_id", n, &t->unk, err));
    GRAFT_TRY(gguf_id(g, "tokenizer.ggml.padding_token_id", n, &t->pad, err));
    GRAFT_TRY(gguf_flag(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err));
    GRAFT_TRY(gguf_flag(g, "tokenizer.ggml.add_eos_token", &t->add_eos, err));
    return gguf_flag(g, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix, err);
}

/* The special tokens by the names they have in tokenizer_config.json. */
static enum graft_status read_special(struct gguf *g, struct text *t, struct graft_err *err)
{
    static const char *const roles[][2] = { { "bos_token", "tokenizer.ggml.bos_token_id" },
                                            { "eos_token", "tokenizer.ggml.eos_token_id" },
                                            { "unk_token", "tokenizer.ggml.unknown_token_id" },
                                            { "pad_token", "tokenizer.ggml.padding_token_id" } };

    t->special = json_object();
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        int32_t id = -1;
        size_t len = 0;
        const char *s;

        GRAFT_TRY(gguf_id(g, roles[i][1], tokenizer_vocab_size(t->tokenizer), &id, err));
        s = id >= 0 ? tokenizer_token(t->tokenizer, id, &len) : NULL;
        if (s && json_object_set_new(t->special, roles[i][0], json_stringn(s, len)))
            return graft_fail_nomem(err, "special tokens", len);
    }
    return t->special ? GRAFT_OK : graft_fail_nomem(err, "special tokens", 64);
}

/* tokenizer.chat_template and tokenizer.chat_template.NAME: name to text. */
static enum graft_status read_templates(struct gguf *g, json_t *out, struct graft_err *err)
{
    static const char base[] = "tokenizer.chat_template";
    const size_t n = sizeof base - 1;

    for (int64_t i = 0; i < g->value_count; i++) {
        const struct gguf_string *key = &g->value[i].key;
        char name[96];
        const char *text = NULL;

        if (key->len < n || key->len >= sizeof name || memcmp(key->s, base, n) != 0 ||
            (key->len > n && key->s[n] != '.'))
            continue;
        memcpy(name, key->s, key->len);
        name[key->len] = '\0';
        GRAFT_TRY(gguf_str(g, name, NULL, &text, err));
        GRAFT_TRY(text_add_template(out, key->len > n ? name + n + 1 : "default", text,
                                    strlen(text), err));
    }
    return GRAFT_OK;
}

static enum graft_status read_chat(struct gguf *g, const char *path, struct text *t,
                                   struct graft_err *err)
{
    json_t *templates = json_object();
    struct strbuf from = STRBUF_INIT;
    enum graft_status st =
        templates ? read_templates(g, templates, err) : graft_fail_nomem(err, "chat templates", 64);

    strbuf_printf(&from, "%s: tokenizer.chat_template", path);
    if (!st)
        st = read_special(g, t, err);
    if (!st)
        st = text_make_chat(t, strbuf_str(&from), json_object_size(templates) ? templates : NULL,
                            err);
    strbuf_release(&from);
    json_decref(templates);
    return st;
}

enum graft_status text_open_gguf(const char *path, struct text *t, struct graft_err *err)
{
    struct gguf g = { 0 };
    struct arena mem = ARENA_INIT;
    struct tokenizer_tables tables = { 0 };
    enum graft_status st = gguf_open(path, &g, err);

    if (!st)
        st = gguf_str(&g, "tokenizer.ggml.model", NULL, &tables.model, err);
    if (!st && tables.model) {
        st = fill_tables(&g, &mem, &tables, err);
        if (!st)
            st = tokenizer_from_tables(&tables, &t->tokenizer, err);
        if (st)
            st = graft_fail_in(err, st, "%s", path);
        t->eos = tables.eos;
        text_add_stop(t, tables.eos);
        text_add_stop(t, tables.eot);
        if (!st)
            st = read_chat(&g, path, t, err);
    }
    arena_release(&mem);
    gguf_release(&g);
    return st;
}

/* What is no template that can be used goes out as it is. */
static enum graft_status hand_raw(struct gguf *g, const struct text_sink *k, struct graft_err *err)
{
    const char *text = NULL;
    struct strbuf chat = STRBUF_INIT;
    enum graft_status st = gguf_str(g, "tokenizer.chat_template", NULL, &text, err);

    if (!st && text) {
        strbuf_puts(&chat, text);
        st = text_hand(k, "chat_template.jinja", &chat, err);
    }
    strbuf_release(&chat);
    return st;
}

static enum graft_status hand_settings(const struct text *t, const struct text_sink *k,
                                       struct graft_err *err)
{
    json_t *o = json_copy(t->special);
    struct strbuf text = STRBUF_INIT;
    enum graft_status st;

    if (!o || json_object_set_new(o, "tokenizer_class", json_string("PreTrainedTokenizerFast"))) {
        json_decref(o);
        return graft_fail_nomem(err, "tokenizer_config.json", 1024);
    }
    json_write_pretty(&text, o);
    st = text_hand(k, "tokenizer_config.json", &text, err);
    strbuf_release(&text);
    json_decref(o);
    return st;
}

enum graft_status text_files_of_gguf(const char *path, const struct text *t,
                                     const struct text_sink *k, struct graft_err *err)
{
    struct gguf g = { 0 };
    struct strbuf text = STRBUF_INIT;
    enum graft_status st = gguf_open(path, &g, err);

    if (!st)
        st = tokenizer_to_json(t->tokenizer, &text, err);
    if (!st)
        st = text_hand(k, "tokenizer.json", &text, err);
    if (!st)
        st = hand_settings(t, k, err);
    if (!st)
        st = t->chat ? text_hand_templates(t, k, err) : hand_raw(&g, k, err);
    strbuf_release(&text);
    gguf_release(&g);
    return st;
}
