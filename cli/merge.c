/* graft merge: an adapter into its base. */
#include <math.h>
#include <string.h>

#include "cli/common.h"
#include "cli/verbs.h"
#include "train/audit.h"

struct options {
    struct common common;
    const char *base, *adapter, *output, *onto, *dtype, *audit, *format;
    bool force, json;
};

static const struct options defaults = { .format = "auto" };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    { .name = "base",
      .type = OPTION_STR,
      AT(base),
      .value = "B",
      .help = "Hugging Face folder, .gguf or .h5",
      .needed = true },
    ROW_ADAPTER,
    ROW_OUT("DIR", "folder of the merged checkpoint, or a .gguf file over a GGUF base"),
    { .name = "onto",
      .type = OPTION_STR,
      AT(onto),
      .value = "WEIGHTS",
      .help = "original or quantized; without: what the adapter was trained on" },
    ROW_DTYPE(
        "f32, bf16 or f16; without: the checkpoint's. Of a GGUF's changed tensors, q8_0 too;\n"
        "                           without: f16"),
    { .name = "audit",
      .type = OPTION_STR,
      AT(audit),
      .value = "F.jsonl",
      .help = "compare the result with base and adapter on these records" },
    { .name = "format",
      .type = OPTION_STR,
      AT(format),
      .value = "FMT",
      .help = "of the records [auto]" },
    ROW_FORCE("replace a checkpoint that the folder holds, or the file"),
    ROW_JSON,
};
#undef AT

static const char *const onto_names[] = { "auto", "original", "quantized" };

static enum graft_status parse(const struct options *o, struct merge_opts *m, struct graft_err *err)
{
    m->onto = ONTO_AUTO;
    m->dtype = QT_COUNT;
    m->gguf = merge_is_gguf(o->output);
    for (int i = 1; o->onto && i < 3; i++)
        if (!strcmp(o->onto, onto_names[i]))
            m->onto = (enum merge_onto)i;
    if (o->onto && m->onto == ONTO_AUTO)
        return graft_fail(err, GRAFT_EARG, "--onto: found \"%s\", wanted original or quantized",
                          o->onto);
    GRAFT_TRY(record_format_parse(o->format, &m->format, err));
    return o->dtype ? merge_dtype_parse("--dtype", o->dtype, m->gguf, &m->dtype, err) : GRAFT_OK;
}

static void print_side(const struct audit_side *s)
{
    printf(
        "  base + adapter over the %s weights (%s%s): perplexity %.4f\n"
        "      KL %.3g (at most %.3g), logits at most %.3g apart, %.2f %% likeliest tokens equal\n",
        onto_names[s->onto], s->weights, s->trained_on ? ", as trained" : "", exp(s->loss), s->kl,
        s->kl_most, s->logit_change, 100 * (double)s->same / (double)s->tokens);
}

static void print_audit(const struct audit *a)
{
    printf("audit of %s: %lld records, %lld target tokens\n  merged: perplexity %.4f\n", a->data,
           (long long)a->records, (long long)a->tokens, exp(a->side[0].merged_loss));
    for (int i = 0; i < a->sides; i++)
        print_side(&a->side[i]);
    if (a->missing)
        printf("  %s\n", a->missing);
}

static enum graft_status print_report(const struct options *o, const struct merge_report *r,
                                      struct graft_err *err)
{
    char size[32];
    json_t *v;

    if (o->json) {
        v = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:i}", "output", o->output, "onto",
                      onto_names[r->onto], "weights", r->format, "dtype", qtypes[r->dtype].name,
                      "tensors", (json_int_t)r->tensors, "changed", (json_int_t)r->changed, "bytes",
                      (json_int_t)r->bytes, "shards", r->shards);
        if (v && r->audit.sides)
            json_object_set_new(v, "audit", audit_json(&r->audit));
        return print_json(v, err);
    }
    if (r->in_f16 && !o->common.quiet)
        fprintf(stderr, "%lld tensors are f16: their rows are no whole number of q8_0 blocks\n",
                (long long)r->in_f16);
    if (!o->common.quiet)
        fprintf(stderr,
                "merged onto the %s weights (%s; %s): %lld of %lld tensors changed, %s of %s in %d "
                "file%s\n%s\n",
                onto_names[r->onto], r->format, r->onto_why, (long long)r->changed,
                (long long)r->tensors, format_bytes(size, (double)r->bytes), qtypes[r->dtype].name,
                r->shards, r->shards == 1 ? "" : "s", o->output);
    if (r->audit.sides)
        print_audit(&r->audit);
    return GRAFT_OK;
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct merge_opts m = { .base = o->base,
                            .adapter = o->adapter,
                            .output = o->output,
                            .force = o->force,
                            .audit = o->audit };
    struct merge_report r;

    GRAFT_TRY(parse(o, &m, err));
    GRAFT_TRY(merge_run(&m, &r, err));
    return print_report(o, &r, err);
}

const struct verb merge_verb = {
    .name = "merge",
    .usage = "--base B --adapter A -o DIR|F.gguf [--onto original|quantized] [--dtype T] [--audit "
             "F.jsonl]",
    .summary = "Write base plus adapter as a checkpoint or a GGUF model.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .writes = true,
    .more = "--audit runs the records through base and adapter, unmerged, and through what was "
            "written,\n"
            "over the weights that were chosen and, where the base has both, over the others: mean "
            "and\n"
            "largest KL divergence of a target token, the largest difference of two logits, "
            "perplexity.\n"
            "What it finds is written into the model's metadata (graft inspect shows it).\n",
    .run = run,
};
