/* graft combine: several adapters as one. */
#include <stdlib.h>
#include <string.h>

#include "cli/common.h"
#include "cli/verbs.h"
#include "core/file.h"
#include "train/combine.h"

struct options {
    struct common common;
    const char *base, *output, *how, *sign;
    int64_t rank, seed;
    double density;
    bool force, json;
};

static const struct options defaults = { .how = "linear", .sign = "total", .seed = 42 };

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    ROW_OUT("DIR", "folder of the new adapter, a LoRA one"),
    { .name = "how",
      .type = OPTION_STR,
      AT(how),
      .value = "HOW",
      .help = "linear, cat, svd, ties, dare_linear, dare_ties or magnitude_prune [linear]" },
    { .name = "rank",
      .type = OPTION_INT,
      AT(rank),
      .value = "R",
      .min = 1,
      .max = 65536,
      .help = "rank of the result; without: see below" },
    { .name = "density",
      .type = OPTION_FLOAT,
      AT(density),
      .value = "D",
      .min = 0,
      .max = 1,
      .help = "share of each change's values that ties, dare and magnitude_prune keep" },
    { .name = "sign",
      .type = OPTION_STR,
      AT(sign),
      .value = "RULE",
      .help = "sign that ties elects: total, of the sum, or frequency, of the most [total]" },
    { .name = "seed",
      .type = OPTION_INT,
      AT(seed),
      .value = "S",
      .min = 0,
      .max = 9e15,
      .help = "of what dare leaves out [42]" },
    { .name = "base",
      .type = OPTION_STR,
      AT(base),
      .value = "B",
      .help = "their base; needed where a change depends on it (all methods but LoRA)" },
    ROW_FORCE("replace an adapter that the folder holds"),
    ROW_JSON,
};
#undef AT

static enum graft_status parse(const struct options *o, struct combine_opts *c,
                               struct graft_err *err)
{
    const char *near;
    int i = 0;

    while (combine_names[i] && strcmp(o->how, combine_names[i]) != 0)
        i++;
    if (!combine_names[i]) {
        near = nearest_name(o->how, combine_names, COMBINE_COUNT);
        return graft_fail(err, GRAFT_EARG, "--how: found \"%s\", %s%s%s", o->how,
                          near ? "did you mean \"" : "wanted linear, cat, svd, ties, dare_linear, ",
                          near ? near : "dare_ties or magnitude_prune", near ? "\"?" : "");
    }
    *c = (struct combine_opts){ .how = (enum combine_how)i,
                                .rank = o->rank,
                                .density = o->density,
                                .seed = (uint64_t)o->seed };
    c->sign_by_count = !strcmp(o->sign, "frequency");
    if (!c->sign_by_count && strcmp(o->sign, "total") != 0)
        return graft_fail(err, GRAFT_EARG, "--sign: found \"%s\", wanted total or frequency",
                          o->sign);
    return GRAFT_OK;
}

static enum graft_status print_report(const struct options *o, const struct combine_report *r,
                                      struct graft_err *err)
{
    char size[32], rank[48];

    if (o->json)
        return print_json(json_pack("{s:s, s:s, s:i, s:I, s:[II], s:o, s:I, s:I}", "output",
                                    o->output, "how", o->how, "adapters", o->common.args.count,
                                    "modules", (json_int_t)r->modules, "rank",
                                    (json_int_t)r->least_rank, (json_int_t)r->most_rank, "lost",
                                    json_number(r->lost), "parameters", (json_int_t)r->parameters,
                                    "bytes", (json_int_t)r->bytes),
                          err);
    if (o->common.quiet)
        return GRAFT_OK;
    snprintf(rank, sizeof rank, r->least_rank == r->most_rank ? "rank %lld" : "ranks %lld to %lld",
             (long long)r->least_rank, (long long)r->most_rank);
    fprintf(stderr, "%d adapter%s combined by %s: %lld modules, %s, %s; ", o->common.args.count,
            o->common.args.count == 1 ? "" : "s", o->how, (long long)r->modules, rank,
            format_bytes(size, (double)r->bytes));
    if (r->lost > 0)
        fprintf(stderr, "%.3g %% of the change does not fit the rank\n%s\n", 100 * r->lost,
                o->output);
    else
        fprintf(stderr, "nothing is lost\n%s\n", o->output);
    return GRAFT_OK;
}

/* "DIR" or "DIR:WEIGHT"; a text that names a folder is a folder. */
static enum graft_status split(const char *arg, struct arena *mem, const char **dir, double *weight,
                               struct graft_err *err)
{
    const char *colon = strrchr(arg, ':');
    char *end;

    *dir = arg;
    *weight = 1;
    if (dir_exists(arg) || !colon)
        return GRAFT_OK;
    *weight = strtod(colon + 1, &end);
    if (end == colon + 1 || *end)
        return graft_fail(err, GRAFT_EARG,
                          "%s: found \"%s\" for a weight, wanted a number: DIR:0.5", arg,
                          colon + 1);
    *dir = arena_strndup(mem, arg, (size_t)(colon - arg));
    return *dir ? GRAFT_OK : graft_fail_nomem(err, arg, strlen(arg));
}

static enum graft_status combine(const struct options *o, struct combine_run_opts *c,
                                 struct combine_report *r, struct graft_err *err)
{
    const size_t n = (size_t)c->adapters;
    struct arena mem = ARENA_INIT;
    const char **dir = arena_array(&mem, n, sizeof *dir);
    double *weight = arena_array(&mem, n, sizeof *weight);
    enum graft_status st =
        dir && weight ? GRAFT_OK : graft_fail_nomem(err, "the command line", n * sizeof *dir);

    for (size_t i = 0; i < n && !st; i++)
        st = split(o->common.args.text[i], &mem, &dir[i], &weight[i], err);
    c->adapter = dir;
    c->weight = weight;
    if (!st)
        st = combine_run(c, r, err);
    arena_release(&mem);
    return st;
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct combine_run_opts c = {
        .base = o->base, .adapters = o->common.args.count, .output = o->output, .force = o->force
    };
    struct combine_report r;

    GRAFT_TRY(parse(o, &c.how, err));
    GRAFT_TRY(combine(o, &c, &r, err));
    return print_report(o, &r, err);
}

const struct verb combine_verb = {
    .name = "combine",
    .usage = "A1[:W1] A2[:W2]... -o DIR [--how HOW] [--rank R] [--density D] [--base B]",
    .summary = "Make one adapter of several.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .writes = true,
    .arg = "A1[:W1]",
    .arg_many = true,
    .more =
        "Ways are defined on the change of each weight, W' - W, each times its weight (1 where\n"
        "none stands):\n"
        "  linear           their sum. Without --rank exact, of all ranks together; with it cut\n"
        "                   by an SVD to the best of that rank\n"
        "  cat              the sum, exact: factors side by side, all ranks together\n"
        "  svd              the sum by an SVD, of the largest rank among the adapters or --rank\n"
        "  ties             of each change the largest values, then the weighted mean of those\n"
        "                   that have the sign elected without weights (arXiv:2306.01708)\n"
        "  dare_linear      values left out at random, the rest divided by the density, summed\n"
        "  dare_ties        left out as dare, merged as ties (arXiv:2311.03099)\n"
        "  magnitude_prune  of each change the largest values, summed\n"
        "The last four make a change of full rank and keep the best of the largest rank among\n"
        "the adapters, or of --rank. What a rank cannot hold is reported: |D - D_r| / |D|.\n",
    .run = run,
};
