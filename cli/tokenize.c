/* graft tokenize: text to ids and back, a JSON object a line. */
#include <string.h>

#include "cli/common.h"
#include "cli/lines.h"
#include "cli/verbs.h"
#include "train/text.h"

struct options {
    struct common common;
    const char *base, *data;
    bool decode, no_special;
};

static const struct options defaults = { .base = NULL };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    { .name = "base",
      .type = OPTION_STR,
      AT(base),
      .value = "B",
      .help = "Hugging Face folder, .gguf, .h5 or tokenizer.json",
      .needed = true },
    { .name = "data",
      .type = OPTION_STR,
      AT(data),
      .value = "F.jsonl",
      .help = "read this file instead of standard input; - is that" },
    { .name = "decode",
      .type = OPTION_FLAG,
      AT(decode),
      .help = "read {\"ids\": [...]}, print {\"text\": ...}" },
    { .name = "no-special",
      .type = OPTION_FLAG,
      AT(no_special),
      .help = "without the special tokens that the tokenizer adds around a text" },
};
#undef AT

/* What one line needs. */
struct job {
    const struct options *o;
    const struct tokenizer *tokenizer;
    const char *name;
};

static enum graft_status encode(const struct job *j, int64_t line, const json_t *in, json_t **out,
                                struct graft_err *err)
{
    const json_t *text = json_object_get(in, "text");
    struct id_list ids = { 0 };
    enum graft_status st;
    json_t *list;

    if (!json_is_string(text))
        return graft_fail(err, GRAFT_EFORMAT, "%s:%lld: want {\"text\": ...}", j->name,
                          (long long)line);
    st = tokenizer_encode(j->tokenizer, json_string_value(text), json_string_length(text),
                          !j->o->no_special, &ids, err);
    if (!st) {
        list = json_array();
        for (int64_t i = 0; i < ids.count; i++)
            json_array_append_new(list, json_integer(ids.id[i]));
        *out = json_pack("{s:o}", "ids", list);
    }
    id_list_release(&ids);
    return st;
}

static enum graft_status decode(const struct job *j, int64_t line, const json_t *in, json_t **out,
                                struct graft_err *err)
{
    const json_t *list = json_object_get(in, "ids");
    struct strbuf text = STRBUF_INIT;
    struct id_list ids = { 0 };
    enum graft_status st = GRAFT_OK;
    json_t *v;
    size_t i;

    if (!json_is_array(list))
        return graft_fail(err, GRAFT_EFORMAT, "%s:%lld: want {\"ids\": [...]}", j->name,
                          (long long)line);
    json_array_foreach(list, i, v)
    {
        const int64_t id = json_integer_value(v);

        if (!st && (!json_is_integer(v) || id < 0 || id > INT32_MAX))
            st = graft_fail(err, GRAFT_EFORMAT, "%s:%lld: item %zu of ids is no token id", j->name,
                            (long long)line, i);
        if (!st)
            st = id_list_add(&ids, (int32_t)id, err);
    }
    if (!st) {
        st = tokenizer_decode(j->tokenizer, ids.id, ids.count, false, &text, err);
        if (st)
            st = graft_fail_in(err, st, "%s:%lld", j->name, (long long)line);
    }
    if (!st)
        *out = json_pack("{s:o}", "text", json_stringn(strbuf_str(&text), text.len));
    id_list_release(&ids);
    strbuf_release(&text);
    return st;
}

static enum graft_status one_line(void *user, int64_t line, const char *text, size_t len,
                                  struct graft_err *err)
{
    const struct job *j = user;
    json_t *in = NULL, *out = NULL;
    enum graft_status st = json_read_line(j->name, line, text, len, &in, err);

    if (!st)
        st = j->o->decode ? decode(j, line, in, &out, err) : encode(j, line, in, &out, err);
    json_decref(in);
    return st ? st : print_json(out, err);
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct text t = { 0 };
    struct job job = { o, NULL, o->data && strcmp(o->data, "-") ? o->data : "standard input" };
    enum graft_status st;

    GRAFT_TRY(text_open(o->base, &t, err));
    job.tokenizer = t.tokenizer;
    st = t.tokenizer ? lines_read(o->data, one_line, &job, err)
                     : graft_fail(err, GRAFT_EIO, "%s: there is no tokenizer", o->base);
    text_release(&t);
    return st;
}

const struct verb tokenize_verb = {
    .name = "tokenize",
    .usage = "--base B [--decode] [--no-special] [--data F.jsonl]",
    .summary = "Turn text into token ids and back, a JSON object a line.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .more = "Reads {\"text\": ...} a line and prints {\"ids\": [...]}.\n",
    .run = run,
};
