/* graft export: an adapter in another program's format. */
#include "train/export.h"
#include "cli/common.h"
#include "cli/verbs.h"

struct options {
    struct common common;
    const char *base, *adapter, *output, *to, *dtype;
    bool force, json;
};

static const struct options defaults = { .to = "gguf" };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    ROW_ADAPTER,
    { .name = "base",
      .type = OPTION_STR,
      AT(base),
      .value = "B",
      .help = "its base, for names and shapes: a folder, .gguf or .h5",
      .needed = true },
    { .name = "to",
      .type = OPTION_STR,
      AT(to),
      .value = "FORMAT",
      .help = "gguf (llama.cpp), peft or adapter-hub [gguf]" },
    ROW_OUT("PATH", "the file (gguf) or folder"),
    ROW_DTYPE("of a gguf: f32, f16, bf16 or q8_0 [f32]"),
    ROW_FORCE("replace what is there"),
    ROW_JSON,
};
#undef AT

static enum graft_status print_report(const struct options *o, const struct export_opts *x,
                                      const struct export_report *r, struct graft_err *err)
{
    char size[32];

    if (o->json)
        return print_json(
            json_pack("{s:s, s:s, s:o, s:I, s:I, s:o}", "output", o->output, "format", o->to,
                      "dtype",
                      x->form == EXPORT_GGUF ? json_string(qtypes[x->dtype].name) : json_null(),
                      "tensors", (json_int_t)r->tensors, "bytes", (json_int_t)r->bytes, "lost",
                      r->lost ? json_string(r->lost) : json_null()),
            err);
    if (o->common.quiet)
        return GRAFT_OK;
    if (r->in_f16)
        fprintf(stderr, "%lld tensors are f16: their rows are no whole number of %s blocks\n",
                (long long)r->in_f16, qtypes[x->dtype].name);
    if (r->lost)
        fprintf(stderr, "left out: %s\n", r->lost);
    fprintf(stderr, "%lld tensors, %s\n%s\n", (long long)r->tensors,
            format_bytes(size, (double)r->bytes), o->output);
    return GRAFT_OK;
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct export_opts x = {
        .base = o->base, .adapter = o->adapter, .output = o->output, .force = o->force
    };
    struct export_report r;

    GRAFT_TRY(export_parse("--to", o->to, "--dtype", o->dtype, &x, err));
    GRAFT_TRY(export_run(&x, &r, err));
    return print_report(o, &x, &r, err);
}

const struct verb export_verb = {
    .name = "export",
    .usage = "--adapter A --base B -o PATH [--to gguf|peft|adapter-hub] [--dtype T] [--force]",
    .summary = "Write an adapter in another program's format.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .writes = true,
    .more =
        "gguf is what llama-cli --lora and llama-cpp-python load over the base's GGUF. It holds\n"
        "products of two factors: other changes are refused, and graft merge -o F.gguf takes\n"
        "them. Adapters are in PEFT's format as they are; peft and adapter-hub are for methods\n"
        "that PEFT lacks, and say what of them is left out.\n",
    .run = run,
};
