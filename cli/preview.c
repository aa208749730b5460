/* graft preview: records as they will be trained, what is learnt told apart from what is not. */
#include <inttypes.h>
#include <string.h>

#include "cli/common.h"
#include "cli/verbs.h"
#include "data/preview.h"
#include "models/checkpoint.h"
#include "train/config.h"
#include "train/text.h"
#include "train/virtual.h"

struct options {
    struct common common;
    struct text_list set;
    int64_t count, line;
    bool json;
};

static const struct options defaults = { .count = 3 };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    { .letter = 's',
      .name = "set",
      .type = OPTION_LIST,
      AT(set),
      .value = "KEY=VALUE",
      .help = "override one config key; may repeat" },
    { .letter = 'n',
      .name = "count",
      .type = OPTION_INT,
      AT(count),
      .value = "N",
      .min = 1,
      .max = 1e15,
      .help = "records to show; default: 3" },
    { .name = "line",
      .type = OPTION_INT,
      AT(line),
      .value = "N",
      .min = 1,
      .max = 1e15,
      .help = "begin at this line of the file; alone: show that one record" },
    { .name = "json",
      .type = OPTION_FLAG,
      AT(json),
      .help = "input_ids, labels and text, an object a line" },
};
#undef AT

/* What one record is shown with. */
struct view {
    const struct options *o;
    const struct dataset *data;
    const struct text *text;
    bool colour;
};

static bool is_trained(const struct view *v, const struct record *r, int64_t t)
{
    return t > 0 && v->data->label[r->first + t] != NO_LABEL;
}

/* Text on its way to a terminal: control characters of the data must not steer it. */
static void put_safe(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)s[i];

        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
}

static void put_mark(const struct view *v, bool on)
{
    if (v->colour)
        fputs(on ? "\033[1;32m" : "\033[0m", stdout);
    else
        putchar(on ? '[' : ']');
}

/* The text with what is learnt in colour, or in brackets. `end` as preview_text gives it. */
static void put_pieces(const struct view *v, const struct record *r, const struct strbuf *text,
                       const int64_t *end)
{
    int64_t from = 0;
    bool on = false;

    for (int64_t t = 0; t < r->length; t++) {
        if (is_trained(v, r, t) != on)
            put_mark(v, on = !on);
        put_safe(text->buf + from, (size_t)(end[t] - from));
        from = end[t];
    }
    if (on)
        put_mark(v, false);
}

/* Without a tokenizer: the ids themselves. */
static void put_ids(const struct view *v, const struct record *r)
{
    bool on = false;

    for (int64_t t = 0; t < r->length; t++) {
        if (is_trained(v, r, t) != on)
            put_mark(v, on = !on);
        printf("%s%" PRId32, t ? " " : "", v->data->id[r->first + t]);
    }
    if (on)
        put_mark(v, false);
}

static void put_head(const struct view *v, const struct record *r)
{
    printf("%s:%" PRId64 ": ", r->file, r->line);
    if (!r->length) {
        puts("dropped, no token to learn from is left");
        return;
    }
    printf("%" PRId64 " tokens, %" PRId64 " trained (%.1f %%), ", r->length, r->targets,
           100.0 * (double)r->targets / (double)r->length);
    if (v->text->eos < 0)
        fputs("no end token is known", stdout);
    else
        printf("the end token is%s in the loss",
               preview_eos_trained(v->data, r, v->text->eos) ? "" : " not");
    printf("%s%s\n", r->truncated ? ", truncated" : "",
           r->straddles ? ", a token straddles prompt and completion" : "");
}

static json_t *int_list(const int32_t *x, int64_t n)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(x[i]));
    return list;
}

static enum graft_status show_json(const struct view *v, const struct record *r,
                                   const struct strbuf *text, struct graft_err *err)
{
    const struct dataset *d = v->data;
    json_t *o = json_object();

    json_object_set_new(o, "file", json_string(r->file));
    json_object_set_new(o, "line", json_integer(r->line));
    json_object_set_new(o, "input_ids", int_list(d->id + r->first, r->length));
    json_object_set_new(o, "labels", int_list(d->label + r->first, r->length));
    json_object_set_new(
        o, "text", v->text->tokenizer ? json_stringn(strbuf_str(text), text->len) : json_null());
    return print_json(o, err);
}

static enum graft_status show(const struct view *v, const struct record *r, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    int64_t *end = mem_array((size_t)r->length + 1, sizeof *end);
    enum graft_status st = end ? GRAFT_OK : graft_fail_nomem(err, "a record", (size_t)r->length);

    if (!st && v->text->tokenizer)
        st = preview_text(v->text->tokenizer, v->data->id + r->first, r->length, &text, end, err);
    if (!st && v->o->json) {
        st = show_json(v, r, &text, err);
    } else if (!st) {
        put_head(v, r);
        if (v->text->tokenizer)
            put_pieces(v, r, &text, end);
        else
            put_ids(v, r);
        puts("\n");
    }
    mem_free(end);
    strbuf_release(&text);
    return st;
}

static enum graft_status load(const struct options *o, const struct run_config *c,
                              const struct text *text, struct dataset *out, struct graft_err *err)
{
    struct checkpoint ck = { 0 };
    const struct data_config *d = &c->data;
    struct virtual_tokens virt;
    struct dataset_opts opts = {
        .format = d->format,
        .file_format = d->train_format,
        .mask_prompt = d->mask_prompt,
        .max_length = d->max_length,
        .tokenizer = text->tokenizer,
        .eos = text->eos,
        .chat = text->chat,
        .chat_problem = text->chat_problem,
        .train_on_last = d->train_on_last,
        .first_line = o->line,
        .limit = o->line && o->count == defaults.count ? 1 : o->count,
    };

    GRAFT_TRY(checkpoint_open(c->base, false, &ck, err));
    opts.max_positions = ck.config.max_positions;
    opts.vocab_rows = ck.config.vocab;
    checkpoint_release(&ck);
    GRAFT_TRY(virtual_of(&c->adapter, text->tokenizer, &virt, err));
    GRAFT_TRY(
        dataset_load((const char *const *)d->train, o->line ? 1 : d->train_count, &opts, out, err));
    return dataset_add_virtual(out, 0, &virt, opts.max_positions, err);
}

static enum graft_status show_all(const struct options *o, const struct run_config *c,
                                  struct graft_err *err)
{
    struct text text = { 0 };
    struct dataset data = { 0 };
    const struct view v = { o, &data, &text, has_colour(stdout) };
    enum graft_status st;

    GRAFT_TRY(text_open(c->base, &text, err));
    st = text_use_template(&text, c->data.template_name, err);
    if (!st)
        st = text_set_date(&text, c->data.template_date, err);
    if (!st)
        st = load(o, c, &text, &data, err);
    if (!st && !data.count)
        st =
            graft_fail(err, GRAFT_EARG, "%s: there is no line %" PRId64, c->data.train[0], o->line);
    for (int64_t i = 0; i < data.count && i < (o->line ? data.count : o->count) && !st; i++)
        st = show(&v, &data.record[i], err);
    dataset_release(&data);
    text_release(&text);
    return st;
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    const struct config_input in = { .file = o->common.args.text[0],
                                     .set = o->set.text,
                                     .set_count = o->set.count,
                                     .device = o->common.device,
                                     .threads = o->common.threads };
    struct run_config c = { 0 };
    enum graft_status st;

    GRAFT_TRY(config_load(&in, &c, err));
    st = show_all(o, &c, err);
    run_config_release(&c);
    return st;
}

const struct verb preview_verb = {
    .name = "preview",
    .usage = "CONFIG.yaml [-n 3] [--line N] [--json] [-s KEY=VALUE]...",
    .summary = "Show records as they will be trained; reads no weights.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .arg = "CONFIG.yaml",
    .more = "What is learnt stands in colour on a terminal, in [brackets] otherwise.\n",
    .run = run,
};
