/* graft unmerge: an adapter out of the checkpoint it was merged into. */
#include "cli/common.h"
#include "cli/verbs.h"
#include "train/merge.h"

struct options {
    struct common common;
    const char *merged, *adapter, *output, *dtype;
    bool force, json;
};

static const struct options defaults = { .merged = NULL };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    { .name = "merged",
      .type = OPTION_STR,
      AT(merged),
      .value = "M",
      .help = "what graft merge wrote: a folder or a .gguf",
      .needed = true },
    ROW_ADAPTER,
    ROW_OUT("DIR", "folder of the base, or a .gguf file where M is one"),
    ROW_DTYPE("f32, bf16 or f16; without: the checkpoint's"),
    ROW_FORCE("replace a checkpoint that the folder holds, or the file"),
    ROW_JSON,
};
#undef AT

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct merge_opts m = { .base = o->merged,
                            .adapter = o->adapter,
                            .output = o->output,
                            .undo = true,
                            .dtype = QT_COUNT,
                            .force = o->force };
    struct merge_report r;

    m.gguf = merge_is_gguf(o->output);
    if (o->dtype)
        GRAFT_TRY(merge_dtype_parse("--dtype", o->dtype, m.gguf, &m.dtype, err));
    GRAFT_TRY(merge_run(&m, &r, err));
    if (o->json)
        return print_json(json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "output", o->output, "method",
                                    r.method, "dtype", qtypes[r.dtype].name, "tensors",
                                    (json_int_t)r.tensors, "changed", (json_int_t)r.changed,
                                    "bytes", (json_int_t)r.bytes),
                          err);
    if (!o->common.quiet)
        fprintf(stderr, "%lld of %lld tensors are as before the merge, up to rounding to %s\n%s\n",
                (long long)r.changed, (long long)r.tensors, qtypes[r.dtype].name, o->output);
    return GRAFT_OK;
}

const struct verb unmerge_verb = {
    .name = "unmerge",
    .usage = "--merged M --adapter A -o DIR|F.gguf [--dtype T] [--force] [--json]",
    .summary = "Take an adapter out of a merged checkpoint again.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .writes = true,
    .more =
        "Exact up to rounding where the change can be told without the base: what LoRA and RoSA\n"
        "add, what IA3 multiplies by. Other methods are refused, and so is a merged model whose\n"
        "weights were quantised after.\n",
    .run = run,
};
