/* graft train: one run from a config. */
#include <math.h>
#include <omp.h>

#include "cli/common.h"
#include "cli/progress.h"
#include "cli/verbs.h"

struct options {
    struct common common;
    struct text_list set;
    const char *output;
    bool dry_run, json, force;
};

static const struct options defaults = { .output = NULL };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    { .letter = 's',
      .name = "set",
      .type = OPTION_LIST,
      AT(set),
      .value = "KEY=VALUE",
      .help = "override one config key; may repeat" },
    { .letter = 'o',
      .name = "out",
      .type = OPTION_STR,
      AT(output),
      .value = "DIR",
      .help = "folder of the run, before the config's output" },
    { .name = "dry-run",
      .type = OPTION_FLAG,
      AT(dry_run),
      .help = "print the resolved config and the memory plan, then stop" },
    { .name = "json", .type = OPTION_FLAG, AT(json), .help = "with --dry-run: one JSON object" },
    { .name = "force",
      .type = OPTION_FLAG,
      AT(force),
      .help = "replace the run that the folder holds" },
    { .name = "help-config",
      .type = OPTION_PRINT,
      .help = "print every key of a config",
      .print = config_help },
    { .name = "resume", .type = OPTION_LATER, .help = "" },
    { .name = "allow-changed", .type = OPTION_LATER, .help = "" },
};
#undef AT

/* --dry-run: the plan is printed when it is known. */
struct dry_run {
    const struct options *o;
    struct graft_err err;
    enum graft_status st;
};

static void print_plan(void *user, const struct run_info *info)
{
    struct dry_run *d = user;
    struct strbuf text = STRBUF_INIT;

    if (d->o->json) {
        d->st = print_json(progress_plan_json(info), &d->err);
        return;
    }
    progress_plan(info, "# ", &text); /* comments, so that the whole is a config again */
    d->st = config_to_yaml(info->config, &text, &d->err);
    fputs(strbuf_str(&text), stdout);
    strbuf_release(&text);
}

static enum graft_status dry_run(const struct options *o, const struct run_config *c,
                                 struct graft_err *err)
{
    struct dry_run d = { .o = o };
    const struct run_hooks hooks = { .user = &d, .start = print_plan };

    GRAFT_TRY(train_plan(c, &hooks, err));
    return d.st ? graft_fail(err, d.st, "%s", d.err.msg) : GRAFT_OK;
}

static enum graft_status train(const struct options *o, const struct run_config *c,
                               struct graft_err *err)
{
    struct run_result result = { .loss = NAN, .valid_loss = NAN };
    struct strbuf text = STRBUF_INIT;
    struct progress p;
    struct run_hooks hooks;
    enum graft_status st;

    progress_init(&p, &o->common);
    hooks = progress_hooks(&p);
    signals_catch();
    st = train_run(c, o->force, &hooks, &result, err);
    progress_wipe(&p);
    if (!o->common.quiet && result.status && (!st || st == GRAFT_ESTOPPED)) {
        progress_summary(&p, c, &result, &text);
        fputs(strbuf_str(&text), stderr);
    }
    strbuf_release(&text);
    return st;
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    const struct config_input in = { .file = o->common.args.text[0],
                                     .set = o->set.text,
                                     .set_count = o->set.count,
                                     .output = o->output,
                                     .device = o->common.device,
                                     .threads = o->common.threads,
                                     .need_output = !o->dry_run };
    struct run_config c = { 0 };
    enum graft_status st;

    if (o->json && !o->dry_run)
        return graft_fail(err, GRAFT_EARG,
                          "train: --json goes with --dry-run\nsee graft train --help");
    GRAFT_TRY(config_load(&in, &c, err));
    if (c.threads)
        omp_set_num_threads((int)c.threads);
    st = o->dry_run ? dry_run(o, &c, err) : train(o, &c, err);
    run_config_release(&c);
    return st;
}

const struct verb train_verb = {
    .name = "train",
    .usage = "CONFIG.yaml [-s KEY=VALUE]... [-o DIR] [--dry-run [--json]] [--force]",
    .summary = "Fine-tune a base model with one adapter.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .arg = "CONFIG.yaml",
    .more =
        "exit: 0 done, 1 run failed, 2 wrong usage or config, 3 bad input file, 4 device error,\n"
        "129/130/143 stopped by SIGHUP/SIGINT/SIGTERM after saving\n",
    .run = run,
};
