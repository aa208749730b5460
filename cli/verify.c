/* graft verify: does an adapter fit a base, and does it do anything? */
#include <math.h>
#include <stdio.h>

#include "cli/common.h"
#include "cli/verbs.h"
#include "train/verify.h"

struct options {
    struct common common;
    const char *base;
    bool json;
};

static const struct options defaults = { .base = NULL };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    { .name = "base",
      .type = OPTION_STR,
      AT(base),
      .value = "B",
      .help = "Hugging Face folder, .gguf or .h5",
      .needed = true },
    { .name = "json", .type = OPTION_FLAG, AT(json), .help = "report as one JSON object" },
};
#undef AT

static json_t *slot_json(const struct verified_slot *s)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:b}", "name", s->name, "method",
                          s->method, "changes", s->changes, "norm", json_number(s->norm),
                          "relative", json_number(s->relative), "largest", json_number(s->largest),
                          "unchanged", s->idle);

    if (o && s->r) {
        json_object_set_new(o, "rank", json_integer(s->r));
        json_object_set_new(o, "scale", json_number(s->scale));
    }
    if (o && s->bias)
        json_object_set_new(o, "bias_norm", json_number(s->bias_norm));
    return o;
}

static json_t *report_json(const struct options *o, const struct verify_report *r)
{
    json_t *list = json_array();

    for (int i = 0; i < r->slots; i++)
        json_array_append_new(list, slot_json(&r->slot[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:i, s:i, s:i, s:o}", "adapter",
                     o->common.args.text[0], "base", o->base, "method", r->method, "verdict",
                     r->idle == r->slots ? "untrained" : "trained", "weights", r->format,
                     "other_base", r->other_base, "parameters", (json_int_t)r->parameters, "filled",
                     r->slots, "linears", r->linears, "unchanged", r->idle, "slots", list);
}

static void print_slot(const struct verified_slot *s)
{
    printf("  %-44s", s->name);
    if (s->r)
        printf(" r %-4lld", (long long)s->r);
    if (s->weight)
        printf(" |change| %-9.4g of the weight %-9.3g", s->norm, s->relative);
    else if (!s->bias)
        printf(" |values| %-9.4g", s->norm);
    if (s->bias && s->bias_norm > 0)
        printf(" bias %.4g", s->bias_norm);
    printf("%s\n", s->idle ? " unchanged" : "");
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct verify_report r;
    enum graft_status st = GRAFT_OK;

    GRAFT_TRY(verify_run(o->common.args.text[0], o->base, &r, err));
    if (o->json) {
        st = print_json(report_json(o, &r), err);
    } else {
        for (int i = 0; i < r.slots; i++)
            print_slot(&r.slot[i]);
        printf("%s: %lld parameters at %d places (the base has %d linears, used as %s); names and "
               "shapes fit, all %lld values are finite\n",
               r.method, (long long)r.parameters, r.slots, r.linears, r.format,
               (long long)r.values);
        if (r.idle == r.slots)
            printf("untrained: %s\n",
                   r.adds_input ? "its values are all zero" : "it changes nothing");
        else if (r.idle)
            printf("%d of %d places are unchanged\n", r.idle, r.slots);
    }
    verify_report_release(&r);
    return st;
}

const struct verb verify_verb = {
    .name = "verify",
    .usage = "ADAPTER --base B [--json]",
    .summary = "Check that an adapter fits a base and changes it.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .arg = "ADAPTER",
    .more = "Names, shapes and values are checked as every verb checks them that loads an adapter; "
            "what\n"
            "does not fit is listed, exit 3. Then, for each module: the Frobenius norm of what the "
            "adapter\n"
            "changes of its weight, and its share of the weight's own; of methods that change no "
            "weight, the\n"
            "norm of their values there. An adapter whose changes are all zero, or no more than "
            "rounding, is\n"
            "called untrained.\n",
    .run = run,
};
