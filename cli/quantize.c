/* graft quantize: a base into a container that loads at once. */
#include "cli/common.h"
#include "cli/verbs.h"
#include "train/merge.h"

struct options {
    struct common common;
    const char *output, *quant;
    bool force;
};

static const struct options defaults = { .quant = "auto" };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    ROW_OUT("F.h5", "the container"),
    { .name = "quant",
      .type = OPTION_STR,
      AT(quant),
      .value = "Q",
      .help = "auto, nf4, fp4, none or a map; auto: nf4 of a float base" },
    ROW_FORCE("replace the file"),
};
#undef AT

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct quant_config quant;
    struct quantize_report r;
    char size[32];

    GRAFT_TRY(quant_config_parse(o->quant, &quant, err));
    GRAFT_TRY(quantize_run(o->common.args.text[0], &quant, o->output, o->force, &r, err));
    if (!o->common.quiet)
        fprintf(stderr, "%lld tensors, linears in %s at %.3f bits a weight, %s\n%s\n",
                (long long)r.tensors, r.format, r.bits, format_bytes(size, (double)r.bytes),
                o->output);
    return GRAFT_OK;
}

const struct verb quantize_verb = {
    .name = "quantize",
    .usage = "B -o F.h5 [--quant Q] [--force]",
    .summary = "Write a quantised base as one file that loads at once.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .writes = true,
    .arg = "B",
    .run = run,
};
