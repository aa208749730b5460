/* graft eval: the loss of records, for people or as JSON. */
#include <math.h>
#include <string.h>

#include "cli/common.h"
#include "cli/verbs.h"
#include "train/evaluate.h"

struct options {
    struct common common;
    const char *base, *task, *data, *format, *template_name, *quant, *compute;
    struct text_list adapter;
    bool per_example, json;
};

static const struct options defaults = { .format = "auto", .quant = "auto", .compute = "auto" };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    { .name = "base",
      .type = OPTION_STR,
      AT(base),
      .value = "B",
      .help = "Hugging Face folder, .gguf or .h5",
      .needed = true },
    { .name = "adapter",
      .type = OPTION_LIST,
      AT(adapter),
      .value = "[NAME=]DIR",
      .help = "an adapter and its task name; may repeat" },
    { .name = "task",
      .type = OPTION_STR,
      AT(task),
      .value = "NAME",
      .help = "adapter of records that name no task" },
    { .name = "data",
      .type = OPTION_STR,
      AT(data),
      .value = "F.jsonl",
      .help = "records to measure",
      .needed = true },
    { .name = "format",
      .type = OPTION_STR,
      AT(format),
      .value = "FMT",
      .help = "auto, tokens, text, completion, alpaca, messages or sharegpt" },
    { .name = "template",
      .type = OPTION_STR,
      AT(template_name),
      .value = "T",
      .help = "chat template: auto, a built-in name, or a .jinja file" },
    { .name = "quant",
      .type = OPTION_STR,
      AT(quant),
      .value = "Q",
      .help = "auto, nf4, fp4, none or a map; auto: as the adapter was trained" },
    { .name = "compute",
      .type = OPTION_STR,
      AT(compute),
      .value = "C",
      .help = "auto, f32 or bf16; auto: as the adapter was trained, else f32" },
    { .name = "per-example",
      .type = OPTION_FLAG,
      AT(per_example),
      .help = "each record's sum of loss and its tokens too" },
    { .name = "json", .type = OPTION_FLAG, AT(json), .help = "one JSON object" },
};
#undef AT

static json_t *per_example(const struct evaluate_result *r)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < r->records; i++)
        json_array_append_new(list,
                              isnan(r->per_record[i])
                                  ? json_null()
                                  : json_pack("{s:o, s:I}", "nll", json_number(r->per_record[i]),
                                              "tokens", (json_int_t)r->targets[i]));
    return list;
}

static json_t *adapters_json(const struct options *o)
{
    json_t *list;

    if (o->adapter.count == 0)
        return json_null();
    if (o->adapter.count == 1)
        return json_string(o->adapter.text[0]);
    list = json_array();
    for (int i = 0; i < o->adapter.count; i++)
        json_array_append_new(list, json_string(o->adapter.text[i]));
    return list;
}

static enum graft_status print_result(const struct options *o, const struct evaluate_result *r,
                                      struct graft_err *err)
{
    const double loss = r->sum.nll / (double)r->sum.tokens;
    json_t *v;

    if (!o->json) {
        for (int64_t i = 0; o->per_example && i < r->records; i++)
            printf("%lld: nll %.6g over %lld tokens\n", (long long)i + 1, r->per_record[i],
                   (long long)r->targets[i]);
        printf("loss %.6f  perplexity %.4f  (%lld target tokens in %lld records; %lld truncated, "
               "%lld dropped)\n",
               loss, exp(loss), (long long)r->sum.tokens, (long long)r->sum.examples,
               (long long)r->truncated, (long long)r->dropped);
        return GRAFT_OK;
    }
    v = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:o, s:s, s:s}", "loss", json_number(loss),
                  "perplexity", json_number(exp(loss)), "tokens", (json_int_t)r->sum.tokens,
                  "examples", (json_int_t)r->sum.examples, "truncated", (json_int_t)r->truncated,
                  "dropped", (json_int_t)r->dropped, "base", o->base, "adapter", adapters_json(o),
                  "quant", r->format, "compute", compute_names[r->compute]);
    if (v && o->per_example)
        json_object_set_new(v, "per_example", per_example(r));
    return print_json(v, err);
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct evaluate_opts e = { .base = o->base,
                               .adapter = o->adapter.text,
                               .adapters = o->adapter.count,
                               .task = o->task,
                               .data = o->data,
                               .template_name = o->template_name };
    struct evaluate_result r;
    enum compute_type compute;
    enum graft_status st;

    GRAFT_TRY(record_format_parse(o->format, &e.format, err));
    GRAFT_TRY(quant_config_parse(o->quant, &e.quant, err));
    GRAFT_TRY(compute_parse(o->compute, &compute, err));
    e.compute = compute;
    GRAFT_TRY(evaluate_run(&e, &r, err));
    st = print_result(o, &r, err);
    evaluate_result_release(&r);
    return st;
}

const struct verb eval_verb = {
    .name = "eval",
    .usage = "--base B [--adapter [NAME=]DIR]... --data F.jsonl [--per-example] [--json]",
    .summary = "Measure the loss of records, each alone.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .run = run,
};
