/* The record formats: one row each, and the function that makes tokens and labels of a record. */
#include "data/records.h"

#include <string.h>

/* Stanford's two prompts (tatsu-lab/stanford_alpaca, train.py): nothing follows "### Response:". */
static const char ALPACA_INPUT[] =
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n";
static const char ALPACA_PLAIN[] =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n";

void record_tokens_release(struct record_tokens *r)
{
    id_list_release(&r->id);
    id_list_release(&r->label);
    id_list_release(&r->at);
    strbuf_release(&r->text);
    r->masked = 0;
    r->straddles = false;
}

/* ---- tokens ---- */

/* Entry `i` of the list `name` as a token id; `mask` admits NO_LABEL too. */
static enum graft_status read_id(const struct dataset_opts *o, const char *name, const json_t *v,
                                 size_t i, bool mask, int32_t *out, struct graft_err *err)
{
    const json_int_t rows =
        o->vocab_rows > 0 && o->vocab_rows < DATASET_IDS ? o->vocab_rows : (json_int_t)DATASET_IDS;
    const char *also = mask ? "-100 or " : "";
    json_int_t x;

    if (!json_is_integer(v))
        return graft_fail(err, GRAFT_EFORMAT, "%s[%zu] is %s, wanted %sa token id", name, i,
                          json_kind(v), also);
    x = json_integer_value(v);
    if ((x < 0 || x >= rows) && !(mask && x == NO_LABEL))
        return graft_fail(err, GRAFT_EFORMAT, "%s[%zu] is %lld, wanted %sa token id from 0 to %lld",
                          name, i, (long long)x, also, (long long)rows - 1);
    *out = (int32_t)x;
    return GRAFT_OK;
}

static enum graft_status read_ids(const struct dataset_opts *o, const char *name,
                                  const json_t *list, bool mask, struct id_list *out,
                                  struct graft_err *err)
{
    const size_t n = json_array_size(list);

    if (!json_is_array(list))
        return graft_fail(err, GRAFT_EFORMAT, "\"%s\" is %s, wanted a list of token ids", name,
                          json_kind(list));
    for (size_t i = 0; i < n; i++) {
        int32_t id = 0;

        GRAFT_TRY(read_id(o, name, json_array_get(list, i), i, mask, &id, err));
        GRAFT_TRY(id_list_add(out, id, err));
    }
    return GRAFT_OK;
}

static enum graft_status encode_tokens(const struct dataset_opts *o, const json_t *rec,
                                       struct record_tokens *out, struct graft_err *err)
{
    const struct format_key *key = format_defs[RECORD_TOKENS].key;
    const json_t *labels = format_get(rec, &key[1]);

    GRAFT_TRY(read_ids(o, key[0].name, format_get(rec, &key[0]), false, &out->id, err));
    if (!labels)
        return GRAFT_OK;
    GRAFT_TRY(read_ids(o, key[1].name, labels, true, &out->label, err));
    if (out->label.count != out->id.count)
        return graft_fail(err, GRAFT_EFORMAT, "labels has %lld entries, input_ids %lld",
                          (long long)out->label.count, (long long)out->id.count);
    return GRAFT_OK;
}

/* ---- text ---- */

static enum graft_status get_string(const json_t *rec, const struct format_key *key,
                                    const json_t **out, struct graft_err *err)
{
    const json_t *v = format_get(rec, key);

    if (!json_is_string(v))
        return graft_fail(err, GRAFT_EFORMAT, "\"%s\" is %s, wanted a string",
                          json_object_get(rec, key->name) == v ? key->name : key->alias,
                          json_kind(v));
    *out = v;
    return GRAFT_OK;
}

/* Tokens of a whole text: what the post-processor adds, and EOS unless they end with it. */
static enum graft_status encode_whole(const struct dataset_opts *o, const char *text, size_t len,
                                      struct id_list *out, struct graft_err *err)
{
    if (!o->tokenizer)
        return graft_fail(err, GRAFT_EARG,
                          "a record of text needs a tokenizer, and the base has none; records with "
                          "\"input_ids\" need none");
    if (o->eos < 0)
        return graft_fail(err, GRAFT_EARG,
                          "a record of text ends with the EOS token, and the base names none "
                          "(eos_token in tokenizer_config.json, eos_token_id in config.json)");
    GRAFT_TRY(tokenizer_encode(o->tokenizer, text, len, true, out, err));
    if (out->count == 0 || out->id[out->count - 1] != o->eos)
        GRAFT_TRY(id_list_add(out, o->eos, err));
    return GRAFT_OK;
}

static enum graft_status encode_text(const struct dataset_opts *o, const json_t *rec,
                                     struct record_tokens *out, struct graft_err *err)
{
    const json_t *text = NULL;

    GRAFT_TRY(get_string(rec, &format_defs[RECORD_TEXT].key[0], &text, err));
    return encode_whole(o, json_string_value(text), json_string_length(text), &out->id, err);
}

/* ---- prompt and answer ---- */

/* As in TRL: the whole is tokenised as one string, and as many tokens are masked as the prompt
 * alone has. Where these are no prefix of the whole, a token straddles the boundary: masked all the
 * same, and counted. The prompt is whole[0 .. prompt_len). */
static enum graft_status encode_pair(const struct dataset_opts *o, const struct strbuf *whole,
                                     size_t prompt_len, struct record_tokens *out,
                                     struct graft_err *err)
{
    struct id_list prompt = { NULL, 0, 0 };
    enum graft_status st;

    if (whole->failed)
        return graft_fail_nomem(err, "a record", whole->len);
    GRAFT_TRY(encode_whole(o, strbuf_str(whole), whole->len, &out->id, err));
    st = tokenizer_encode(o->tokenizer, strbuf_str(whole), prompt_len, true, &prompt, err);
    if (!st) {
        out->straddles =
            prompt.count > out->id.count ||
            (prompt.count > 0 &&
             memcmp(prompt.id, out->id.id, (size_t)prompt.count * sizeof *prompt.id) != 0);
        out->masked = o->mask_prompt ? prompt.count : 0;
    }
    id_list_release(&prompt);
    return st;
}

static void put_string(struct strbuf *out, const json_t *s)
{
    strbuf_add(out, json_string_value(s), json_string_length(s));
}

/* Messages on one side need messages on the other. */
static enum graft_status check_sides(const json_t *rec, const json_t *prompt, const json_t *answer,
                                     struct graft_err *err)
{
    if (json_is_array(prompt) != json_is_array(answer))
        return graft_fail(err, GRAFT_EFORMAT,
                          "prompt is %s and completion %s, wanted two strings or two lists of "
                          "messages",
                          json_kind(prompt), json_kind(answer));
    if (json_is_string(prompt) && json_array_size(json_object_get(rec, "tools")) > 0)
        return graft_fail(
            err, GRAFT_EFORMAT,
            "has \"tools\", which texts have no use for; only messages can have them");
    return GRAFT_OK;
}

static enum graft_status encode_completion(const struct dataset_opts *o, const json_t *rec,
                                           struct record_tokens *out, struct graft_err *err)
{
    const struct format_key *key = format_defs[RECORD_COMPLETION].key;
    const json_t *prompt = format_get(rec, &key[0]), *answer = format_get(rec, &key[1]);
    struct strbuf whole = STRBUF_INIT;
    enum graft_status st;

    GRAFT_TRY(check_sides(rec, prompt, answer, err));
    if (json_is_array(prompt))
        return encode_message_pair(o, rec, prompt, answer, out, err);
    GRAFT_TRY(get_string(rec, &key[0], &prompt, err));
    GRAFT_TRY(get_string(rec, &key[1], &answer, err));
    put_string(&whole, prompt);
    put_string(&whole, answer);
    st = encode_pair(o, &whole, json_string_length(prompt), out, err);
    strbuf_release(&whole);
    return st;
}

static enum graft_status encode_alpaca(const struct dataset_opts *o, const json_t *rec,
                                       struct record_tokens *out, struct graft_err *err)
{
    const struct format_key *key = format_defs[RECORD_ALPACA].key;
    const json_t *instruction = NULL, *answer = NULL, *input = NULL;
    struct strbuf whole = STRBUF_INIT;
    enum graft_status st;
    size_t prompt_len;

    GRAFT_TRY(get_string(rec, &key[0], &instruction, err));
    GRAFT_TRY(get_string(rec, &key[1], &answer, err));
    if (format_get(rec, &key[2]))
        GRAFT_TRY(get_string(rec, &key[2], &input, err));
    if (input && json_string_length(input) == 0)
        input = NULL;
    strbuf_puts(&whole, input ? ALPACA_INPUT : ALPACA_PLAIN);
    put_string(&whole, instruction);
    if (input) {
        strbuf_puts(&whole, "\n\n### Input:\n");
        put_string(&whole, input);
    }
    strbuf_puts(&whole, "\n\n### Response:");
    prompt_len = whole.len;
    put_string(&whole, answer);
    st = encode_pair(o, &whole, prompt_len, out, err);
    strbuf_release(&whole);
    return st;
}

/* ---- the table ---- */

/* What the template of a conversation gets besides the messages. */
#define CHAT_KEYS                                                                                  \
    { .name = "tools" }, { .name = "documents", .chat = true },                                    \
    {                                                                                              \
        .name = "chat_template_kwargs", .chat = true                                               \
    }

const struct format_def format_defs[RECORD_FORMAT_COUNT] = {
    [RECORD_AUTO] = { .name = "auto" },
    [RECORD_TOKENS] = { "tokens",
                        { { .name = "input_ids", .required = true }, { .name = "labels" } },
                        encode_tokens },
    [RECORD_TEXT] = { "text", { { .name = "text", .required = true } }, encode_text },
    [RECORD_COMPLETION] = { "completion",
                            { { .name = "prompt", .required = true },
                              { .name = "completion", .alias = "response", .required = true },
                              CHAT_KEYS },
                            encode_completion },
    [RECORD_ALPACA] = { "alpaca",
                        { { .name = "instruction", .required = true },
                          { .name = "output", .required = true },
                          { .name = "input" } },
                        encode_alpaca },
    [RECORD_MESSAGES] = { "messages",
                          { { .name = "messages", .required = true }, CHAT_KEYS },
                          encode_messages },
    [RECORD_SHAREGPT] = { "sharegpt",
                          { { .name = "conversations", .required = true },
                            { .name = "system" },
                            CHAT_KEYS },
                          encode_sharegpt },
};

const char *const record_format_names[RECORD_FORMAT_COUNT + 1] = {
    "auto", "tokens", "text", "completion", "alpaca", "messages", "sharegpt", NULL,
};

/* Ids from the tokenizer: it may know more tokens than the embedding has rows. */
static enum graft_status check_rows(const struct dataset_opts *o, const struct record_tokens *r,
                                    struct graft_err *err)
{
    for (int64_t i = 0; i < r->id.count && o->vocab_rows > 0; i++) {
        const int32_t id = r->id.id[i];
        struct strbuf token = STRBUF_INIT, name = STRBUF_INIT;
        size_t len = 0;

        if (id >= 0 && id < o->vocab_rows)
            continue;
        if (o->tokenizer) {
            const char *text = tokenizer_token(o->tokenizer, id, &len);

            strbuf_add(&token, text, len);
            quote_name(&name, strbuf_str(&token));
        }
        graft_fail(err, GRAFT_EFORMAT,
                   "token %d %s at position %lld has no row in the embedding, which has %lld",
                   (int)id, strbuf_str(&name), (long long)i, (long long)o->vocab_rows);
        strbuf_release(&name);
        strbuf_release(&token);
        return GRAFT_EFORMAT;
    }
    return GRAFT_OK;
}

/* A record that says the same thing under two names. */
static enum graft_status check_aliases(const json_t *rec, const struct format_def *f,
                                       struct graft_err *err)
{
    for (const struct format_key *k = f->key; k < f->key + FORMAT_KEYS && k->name; k++) {
        const json_t *a = json_object_get(rec, k->name);
        const json_t *b = k->alias ? json_object_get(rec, k->alias) : NULL;

        if (a && b && !json_is_null(a) && !json_is_null(b))
            return graft_fail(err, GRAFT_EFORMAT,
                              "has both \"%s\" and \"%s\", which mean the same; leave one", k->name,
                              k->alias);
    }
    return GRAFT_OK;
}

enum graft_status record_encode(const struct dataset_opts *o, const json_t *rec,
                                struct record_tokens *out, enum record_format *format,
                                struct graft_err *err)
{
    *format = o->format;
    if (!json_is_object(rec))
        return graft_fail(err, GRAFT_EFORMAT, "the record is %s, wanted an object", json_kind(rec));
    if (o->format == RECORD_AUTO)
        GRAFT_TRY(format_detect(rec, format, err));
    else
        GRAFT_TRY(format_check(rec, o->format, err));
    GRAFT_TRY(check_aliases(rec, &format_defs[*format], err));
    GRAFT_TRY(format_defs[*format].encode(o, rec, out, err));
    return check_rows(o, out, err);
}
