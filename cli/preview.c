/* graft preview: records as they will be trained, what is learnt told apart from what is not. */
#include <inttypes.h>
#include <string.h>

#include "cli/common.h"
#include "cli/verbs.h"
#include "data/preview.h"
#include "models/checkpoint.h"
#include "train/data.h"
#include "train/virtual.h"

struct options {
    struct common common;
    struct text_list set;
    int64_t count, line;
    bool all, json;
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
      .help = "begin at this line of the first file; alone: show that one record" },
    { .name = "all",
      .type = OPTION_FLAG,
      AT(all),
      .help = "read every record and sum up instead: lengths, what is learnt, what is cut" },
    { .name = "json",
      .type = OPTION_FLAG,
      AT(json),
      .help = "input_ids, labels and text, an object a line; with --all one object" },
};
#undef AT

/* What one record is shown with. */
struct view {
    const struct options *o;
    const struct dataset *data;
    const struct text *text;
    const struct data_config *how;
    const struct preview_texts *rendered;
    bool colour;
};

static bool is_trained(const struct view *v, const struct record *r, int64_t t)
{
    return t > 0 && dataset_label(v->data, r, t) != NO_LABEL;
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

/* The text with what is learnt in colour, or in brackets. `end` as preview_text gives it; what
 * stands behind the tokens is a dropped record's. */
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
    put_safe(strbuf_str(text) + from, text->len - (size_t)from);
}

/* Without a tokenizer: the ids themselves. */
static void put_ids(const struct view *v, const struct record *r)
{
    bool on = false;

    for (int64_t t = 0; t < r->length; t++) {
        if (is_trained(v, r, t) != on)
            put_mark(v, on = !on);
        printf("%s%" PRId32, t ? " " : "", dataset_id(v->data, r, t));
    }
    if (on)
        put_mark(v, false);
}

static void put_head(const struct view *v, const struct record *r)
{
    printf("%s:%" PRId64 ": ", dataset_file(v->data, r), r->line);
    if (v->how->train_weight[r->file] != 1)
        printf("weight %g, ", v->how->train_weight[r->file]);
    if (!r->length) {
        if (r->truncated)
            printf("dropped, its first %" PRId64 " tokens hold none to learn from\n",
                   v->how->max_length);
        else
            puts("dropped, it holds no token to learn from");
        return;
    }
    printf("%" PRId32 " tokens, %" PRId32 " trained (%.1f %%), ", r->length, r->targets,
           100.0 * (double)r->targets / (double)r->length);
    if (v->text->stops == 0)
        fputs("no end token is known", stdout);
    else
        printf("the end token is%s in the loss",
               preview_end_trained(v->data, r, v->text->stop, v->text->stops) ? "" : " not");
    printf("%s%s\n", r->truncated ? ", truncated" : "",
           r->straddles ? ", a token straddles prompt and completion" : "");
}

/* The record's ids and labels, one behind the other; NULL: no memory. */
static int32_t *copy_record(const struct view *v, const struct record *r)
{
    int32_t *id = mem_array((size_t)r->length * 2, sizeof *id);

    if (id)
        dataset_copy(v->data, r, id, id + r->length);
    return id;
}

static json_t *int_list(const int32_t *x, int64_t n)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(x[i]));
    return list;
}

static enum graft_status show_json(const struct view *v, const struct record *r, const int32_t *id,
                                   const struct strbuf *text, struct graft_err *err)
{
    json_t *o = json_object();

    json_object_set_new(o, "file", json_string(dataset_file(v->data, r)));
    json_object_set_new(o, "line", json_integer(r->line));
    json_object_set_new(o, "weight", json_real(v->how->train_weight[r->file]));
    json_object_set_new(o, "dropped", json_boolean(!r->length));
    json_object_set_new(o, "input_ids", int_list(id, r->length));
    json_object_set_new(o, "labels", int_list(id + r->length, r->length));
    json_object_set_new(
        o, "text", v->text->tokenizer ? json_stringn(strbuf_str(text), text->len) : json_null());
    json_object_set_new(o, "end_trained",
                        v->text->stops ? json_boolean(preview_end_trained(v->data, r, v->text->stop,
                                                                          v->text->stops))
                                       : json_null());
    return print_json(o, err);
}

static enum graft_status show(const struct view *v, const struct record *r, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    int64_t *end = mem_array((size_t)r->length + 1, sizeof *end);
    int32_t *id = copy_record(v, r);
    enum graft_status st =
        end && id ? GRAFT_OK : graft_fail_nomem(err, "a record", (size_t)r->length);

    if (!st && v->text->tokenizer)
        st = preview_rendered(v->rendered, v->text->tokenizer, r - v->data->record, id, r->length,
                              &text, end, err);
    if (!st && v->o->json) {
        st = show_json(v, r, id, &text, err);
    } else if (!st) {
        put_head(v, r);
        if (v->text->tokenizer)
            put_pieces(v, r, &text, end);
        else
            put_ids(v, r);
        puts("\n");
    }
    mem_free(end);
    mem_free(id);
    strbuf_release(&text);
    return st;
}

/* All of them by way of the cache, which the run will look into, too. */
static enum graft_status load(const struct options *o, const struct run_config *c,
                              const struct text *text, struct preview_texts *rendered,
                              struct cached_data *out, struct graft_err *err)
{
    const struct data_config *d = &c->data;
    const char *const *file = (const char *const *)d->train;
    struct checkpoint ck = { 0 };
    struct virtual_tokens virt;
    struct dataset_opts opts;

    GRAFT_TRY(virtual_of(&c->adapter, text->tokenizer, &virt, err));
    GRAFT_TRY(checkpoint_open(c->base, false, &ck, err));
    opts = run_data_opts(c, text, &ck.config, &virt);
    checkpoint_release(&ck);
    if (o->all)
        return cached_load(file, d->train_count, &opts, out, err);
    opts.take_text = preview_take_text;
    opts.take_user = rendered;
    opts.first_line = o->line;
    opts.limit = o->line && o->count == defaults.count ? 1 : o->count;
    return dataset_load(file, o->line ? 1 : d->train_count, &opts, &out->data, err);
}

static enum graft_status show_records(const struct view *v, struct graft_err *err)
{
    const struct options *o = v->o;

    if (!v->data->count)
        return graft_fail(err, GRAFT_EARG, "there is no line %" PRId64, o->line);
    for (int64_t i = 0; i < v->data->count && i < (o->line ? v->data->count : o->count); i++)
        GRAFT_TRY(show(v, &v->data->record[i], err));
    return GRAFT_OK;
}

/* What a run would do with the records that are kept. */
struct plan {
    int64_t held_out, rows;
    double fill;
};

static enum graft_status plan(const struct view *v, const struct run_config *c, struct plan *out,
                              struct graft_err *err)
{
    struct virtual_tokens virt;
    struct loader_opts how;
    struct loader *l = NULL;
    enum graft_status st;
    bool *held;

    *out = (struct plan){ .rows = 0 };
    if (v->data->stats.records == v->data->stats.dropped)
        return GRAFT_OK;
    GRAFT_TRY(virtual_of(&c->adapter, v->text->tokenizer, &virt, err));
    GRAFT_TRY(run_hold_out(c, v->data, &held, err));
    for (int64_t i = 0; held && i < v->data->count; i++)
        out->held_out += held[i] && v->data->record[i].length > 0;
    how = run_loader_opts(c, &virt);
    how.skip = held;
    st = loader_new(v->data, &how, &l, err);
    if (!st) {
        out->rows = loader_rows(l);
        out->fill = loader_fill(l);
    }
    loader_free(l);
    mem_free(held);
    return st;
}

static double share(int64_t part, int64_t all)
{
    return all ? (double)part / (double)all : 0;
}

static enum graft_status print_summary_json(const struct view *v, const struct preview_summary *s,
                                            const struct plan *p, struct graft_err *err)
{
    const struct dataset_stats *t = &v->data->stats;
    json_t *lengths = json_object();

    for (int i = 0; i < 6; i++) {
        char name[8];

        snprintf(name, sizeof name, "p%d", preview_percent[i]);
        json_object_set_new(lengths, name, json_integer(s->length[i]));
    }
    json_object_set_new(lengths, "longest", json_integer(t->longest));
    return print_json(
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:o, s:o, s:I, s:I, s:o}", "records",
                  (json_int_t)(t->records - t->dropped), "dropped", (json_int_t)t->dropped,
                  "held_out", (json_int_t)p->held_out, "tokens", (json_int_t)t->tokens, "targets",
                  (json_int_t)t->targets, "trained_share",
                  json_number(share(t->targets, t->tokens)), "truncated", (json_int_t)t->truncated,
                  "straddling", (json_int_t)t->straddling, "without_end",
                  v->text->stops ? json_integer(s->endless) : json_null(), "lengths", lengths,
                  "duplicates", (json_int_t)s->duplicates, "rows", (json_int_t)p->rows, "fill",
                  v->how->packing ? json_number(p->fill) : json_null()),
        err);
}

/* What happens to some of the records: each count names what it is of. */
static void print_records(const struct view *v, const struct plan *p)
{
    const struct dataset_stats *t = &v->data->stats;

    printf("records      %" PRId64 "\n", t->records - t->dropped);
    printf("dropped      %" PRId64 " of %" PRId64 ", no token to learn from is left\n", t->dropped,
           t->records);
    printf("truncated    %" PRId64 " of %" PRId64 " (%.1f %%) at max_length %" PRId64 "\n",
           t->truncated, t->records, 100 * share(t->truncated, t->records), v->how->max_length);
    if (p->held_out)
        printf("held out     %" PRId64 " of %" PRId64 " for validation\n", p->held_out,
               t->records - t->dropped);
}

static void print_summary(const struct view *v, const struct preview_summary *s,
                          const struct plan *p)
{
    const struct dataset_stats *t = &v->data->stats;
    const int64_t kept = t->records - t->dropped;

    print_records(v, p);
    printf("tokens       %" PRId64 ", %.1f %% trained\n", t->tokens,
           100 * share(t->targets, t->tokens));
    printf("lengths      ");
    for (int i = 0; i < 6; i++)
        printf("%d %%: %" PRId64 "  ", preview_percent[i], s->length[i]);
    printf("longest: %" PRId64 "\n", t->longest);
    if (t->straddling)
        printf("straddling   %" PRId64 ", a token across prompt and completion\n", t->straddling);
    if (v->text->stops)
        printf("no end       %" PRId64 " (%.1f %%) without a trained end token\n", s->endless,
               100 * share(s->endless, kept));
    else
        puts("no end       no end token is known");
    printf("duplicates   %" PRId64 " (%.1f %%) of an earlier record\n", s->duplicates,
           100 * share(s->duplicates, kept));
    if (v->how->packing)
        printf("packed       %" PRId64 " rows of %" PRId64 " tokens, %.1f %% full%s\n", p->rows,
               v->how->max_length, 100 * p->fill, p->held_out ? ", without what is held out" : "");
}

static enum graft_status show_summary(const struct view *v, const struct run_config *c,
                                      struct graft_err *err)
{
    struct preview_summary s;
    struct plan p;

    GRAFT_TRY(preview_summarise(v->data, v->text->stop, v->text->stops, &s, err));
    GRAFT_TRY(plan(v, c, &p, err));
    if (v->o->json)
        return print_summary_json(v, &s, &p, err);
    print_summary(v, &s, &p);
    return GRAFT_OK;
}

static enum graft_status show_all(const struct options *o, const struct run_config *c,
                                  struct graft_err *err)
{
    struct text text = { .eos = -1 };
    struct cached_data data = { .sha256 = "" };
    struct preview_texts rendered = { .count = 0 };
    const struct view v = { o, &data.data, &text, &c->data, &rendered, has_colour(stdout) };
    enum graft_status st;

    if (o->all && (o->line || o->count != defaults.count))
        return graft_fail(err, GRAFT_EARG,
                          "preview: --all reads every record, leave out --line and -n");
    GRAFT_TRY(text_open(c->base, &text, err));
    st = text_use_template(&text, c->data.template_name, err);
    if (!st)
        st = text_set_date(&text, c->data.template_date, err);
    if (!st)
        st = load(o, c, &text, &rendered, &data, err);
    if (!st)
        st = o->all ? show_summary(&v, c, err) : show_records(&v, err);
    preview_texts_release(&rendered);
    cached_release(&data);
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
    .usage = "CONFIG.yaml [-n 3 | --line N | --all] [--json] [-s KEY=VALUE]...",
    .summary = "Show records as they will be trained; reads no weights.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .arg = "CONFIG.yaml",
    .more = "What is learnt stands in colour on a terminal, in [brackets] otherwise.\n",
    .run = run,
};
