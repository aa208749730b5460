/* graft inspect: what lies at a path. */
#include <string.h>

#include "cli/common.h"
#include "cli/verbs.h"
#include "train/inspect.h"

struct options {
    struct common common;
    bool json;
};

static const struct options defaults = { .json = false };

static const struct option_def rows[] = {
    { .name = "json",
      .type = OPTION_FLAG,
      .offset = offsetof(struct options, json),
      .help = "one JSON object" },
};

/* Scalars first, a line each; then what has parts. */
static void print_scalars(const char *indent, const json_t *o)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)o, key, v)
    {
        char size[32];

        if (json_is_object(v) || json_is_null(v))
            continue;
        printf("%s%-16s ", indent, key);
        if (json_is_string(v))
            printf("%s", json_string_value(v));
        else if (json_is_integer(v) && strstr(key, "bytes"))
            printf("%s", format_bytes(size, (double)json_integer_value(v)));
        else if (json_is_integer(v))
            printf("%lld", (long long)json_integer_value(v));
        else if (json_is_real(v))
            printf("%g", json_real_value(v));
        else if (json_is_boolean(v))
            printf("%s", json_is_true(v) ? "yes" : "no");
        else if (json_is_array(v))
            printf("%zu entries", json_array_size(v));
        putchar('\n');
    }
}

static void print_tensors(const json_t *tensors)
{
    const char *name;
    json_t *t, *d;
    size_t i;

    printf("tensors\n");
    json_object_foreach((json_t *)tensors, name, t)
    {
        printf("  %-5s (", json_string_value(json_object_get(t, "dtype")));
        json_array_foreach(json_object_get(t, "shape"), i, d)
        {
            printf("%s%lld", i ? ", " : "", (long long)json_integer_value(d));
        }
        printf(") %s\n", name);
    }
}

/* What a merge's audit found. */
static void print_audit(const json_t *audit)
{
    const json_t *side;
    size_t i;

    if (!audit)
        return;
    printf("audit\n");
    print_scalars("  ", audit);
    json_array_foreach(json_object_get(audit, "against"), i, side)
    {
        printf("  against base and adapter\n");
        print_scalars("    ", side);
    }
}

static void print_text(const json_t *o)
{
    static const char *const parts[] = { "config", "graft", "merge", "result", "dtypes" };

    print_scalars("", o);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const json_t *v = json_object_get(o, parts[i]);

        if (v) {
            printf("%s\n", parts[i]);
            print_scalars("  ", v);
        }
    }
    print_audit(json_object_get(json_object_get(o, "merge"), "audit"));
    if (json_object_get(o, "tensors"))
        print_tensors(json_object_get(o, "tensors"));
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    json_t *v = NULL;

    GRAFT_TRY(inspect_path(o->common.args.text[0], &v, err));
    if (o->json)
        return print_json(v, err);
    print_text(v);
    json_decref(v);
    return GRAFT_OK;
}

const struct verb inspect_verb = {
    .name = "inspect",
    .usage = "PATH [--json]",
    .summary = "Say what a checkpoint, adapter, container or run holds.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .arg = "PATH",
    .run = run,
};
