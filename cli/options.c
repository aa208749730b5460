#include "cli/options.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) .offset = offsetof(struct common, field)
static const struct option_def common_options[] = {
    { .name = "device", .type = OPTION_STR, AT(device), .value = "NAME", .help = "auto or cpu" },
    { .name = "threads",
      .type = OPTION_INT,
      AT(threads),
      .value = "N",
      .min = 1,
      .max = 4096,
      .help = "threads; default: as many as there are cores" },
    { .letter = 'q',
      .name = "quiet",
      .type = OPTION_FLAG,
      AT(quiet),
      .help = "no progress and no notes, errors only" },
    { .letter = 'v',
      .name = "verbose",
      .type = OPTION_FLAG,
      AT(verbose),
      .help = "say more on the way" },
};
#undef AT

enum { COMMON_COUNT = sizeof common_options / sizeof *common_options, MAX_OPTIONS = 40 };

/* One command line being read. */
struct reading {
    const struct verb *verb;
    int argc, at;
    char **argv;
    char *target;
    struct arena *mem;
    enum parsed *what;
    struct strbuf *out;
    struct graft_err *err;
};

static const struct option_def *option_at(const struct verb *v, size_t i)
{
    if (i < v->option_count)
        return &v->options[i];
    return i < v->option_count + COMMON_COUNT ? &common_options[i - v->option_count] : NULL;
}

static enum graft_status wrong(const struct reading *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static enum graft_status wrong(const struct reading *r, const char *fmt, ...)
{
    char msg[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    graft_fail(r->err, GRAFT_EARG, "%s: %s\nsee graft %s --help", r->verb->name, msg,
               r->verb->name);
    return GRAFT_EARG;
}

static enum graft_status unknown(const struct reading *r, const char *word)
{
    const char *names[MAX_OPTIONS], *near;
    const struct option_def *o;
    char name[64];
    size_t n = 0;

    for (size_t i = 0; (o = option_at(r->verb, i)) && n < MAX_OPTIONS; i++)
        names[n++] = o->name;
    snprintf(name, sizeof name, "%s", word + strspn(word, "-"));
    name[strcspn(name, "=")] = '\0';
    near = strlen(name) > 1 ? nearest_name(name, names, n) : NULL;
    if (near)
        return wrong(r, "unknown option \"%s\", did you mean --%s?", word, near);
    return wrong(r, "unknown option \"%s\"", word);
}

static enum graft_status out_of_range(const struct reading *r, const struct option_def *o,
                                      const char *text)
{
    const char *kind = o->type == OPTION_INT ? "a whole number" : "a number";

    if (o->max >= 1e15)
        return wrong(r, "--%s: found \"%s\", want %s, %.16g or more", o->name, text, kind, o->min);
    return wrong(r, "--%s: found \"%s\", want %s from %.16g to %.16g", o->name, text, kind, o->min,
                 o->max);
}

static enum graft_status put_int(const struct reading *r, const struct option_def *o,
                                 const char *text, int64_t *out)
{
    char *end;
    long long x;

    errno = 0;
    x = strtoll(text, &end, 10);
    if (end == text || *end || errno || (double)x < o->min || (double)x > o->max)
        return out_of_range(r, o, text);
    *out = x;
    return GRAFT_OK;
}

static enum graft_status put_float(const struct reading *r, const struct option_def *o,
                                   const char *text, double *out)
{
    char *end;
    const double x = strtod(text, &end);

    if (end == text || *end || !(x >= o->min && x <= o->max))
        return out_of_range(r, o, text);
    *out = x;
    return GRAFT_OK;
}

/* Append to a list; it can grow to argc texts at most. */
static enum graft_status put_text(const struct reading *r, struct text_list *list, const char *text)
{
    if (!list->text)
        list->text = arena_array(r->mem, (size_t)r->argc + 1, sizeof *list->text);
    if (!list->text)
        return graft_fail_nomem(r->err, "the command line", (size_t)r->argc * sizeof text);
    list->text[list->count++] = text;
    return GRAFT_OK;
}

/* Give option `o` its value; `text` is NULL for those that take none. */
static enum graft_status put_option(const struct reading *r, const struct option_def *o,
                                    const char *text)
{
    void *field = r->target + o->offset;

    switch (o->type) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return GRAFT_OK;
    case OPTION_STR:
        if (o->letter == 'o' && !*text)
            return wrong(r, "-o: an empty name");
        *(const char **)field = text;
        return GRAFT_OK;
    case OPTION_INT:
        return put_int(r, o, text, field);
    case OPTION_FLOAT:
        return put_float(r, o, text, field);
    case OPTION_LIST:
        return put_text(r, field, text);
    case OPTION_PRINT:
        o->print(r->out);
        *r->what = PARSED_PRINTED;
        return GRAFT_OK;
    case OPTION_LATER:
        return wrong(r, "--%s is not supported in this version", o->name);
    }
    return GRAFT_OK;
}

static bool takes_value(const struct option_def *o)
{
    return o->type != OPTION_FLAG && o->type != OPTION_PRINT && o->type != OPTION_LATER;
}

/* "--name", "--name=VALUE", "--name VALUE". */
static enum graft_status read_long(struct reading *r, const char *word)
{
    const char *name = word + 2, *eq = strchr(name, '=');
    const size_t len = eq ? (size_t)(eq - name) : strlen(name);
    const struct option_def *o;

    for (size_t i = 0; (o = option_at(r->verb, i)); i++) {
        if (strlen(o->name) != len || strncmp(o->name, name, len) != 0)
            continue;
        if (!takes_value(o))
            return eq && o->type != OPTION_LATER ? wrong(r, "--%s takes no value", o->name)
                                                 : put_option(r, o, NULL);
        if (eq)
            return put_option(r, o, eq + 1);
        if (r->at == r->argc)
            return wrong(r, "--%s needs a value: %s", o->name, o->value);
        return put_option(r, o, r->argv[r->at++]);
    }
    return unknown(r, word);
}

/* "-x", "-xVALUE", "-x VALUE"; flags may stand together. */
static enum graft_status read_short(struct reading *r, const char *word)
{
    for (const char *c = word + 1; *c; c++) {
        const struct option_def *o;
        size_t i = 0;

        while ((o = option_at(r->verb, i)) && o->letter != *c)
            i++;
        if (!o)
            return unknown(r, word);
        if (takes_value(o)) {
            if (c[1])
                return put_option(r, o, c + 1);
            if (r->at == r->argc)
                return wrong(r, "-%c needs a value: %s", o->letter, o->value);
            return put_option(r, o, r->argv[r->at++]);
        }
        GRAFT_TRY(put_option(r, o, NULL));
    }
    return GRAFT_OK;
}

static enum graft_status read_all(struct reading *r)
{
    struct common *c = (struct common *)(void *)r->target;
    bool only_args = false;

    while (r->at < r->argc && *r->what == PARSED_RUN) {
        const char *word = r->argv[r->at++];

        if (only_args || word[0] != '-' || !word[1])
            GRAFT_TRY(put_text(r, &c->args, word));
        else if (!strcmp(word, "--"))
            only_args = true;
        else if (word[1] == '-')
            GRAFT_TRY(read_long(r, word));
        else
            GRAFT_TRY(read_short(r, word));
    }
    return GRAFT_OK;
}

static bool asks_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

static enum graft_status check_needed(const struct reading *r)
{
    const struct option_def *o;

    for (size_t i = 0; (o = option_at(r->verb, i)); i++) {
        const void *field = r->target + o->offset;

        if (!o->needed)
            continue;
        if (o->type == OPTION_LIST ? ((const struct text_list *)field)->count > 0
                                   : *(const char *const *)field != NULL)
            continue;
        return o->letter ? wrong(r, "-%c is missing", o->letter)
                         : wrong(r, "--%s is missing", o->name);
    }
    return GRAFT_OK;
}

enum graft_status options_parse(const struct verb *v, int argc, char **argv, void *target,
                                struct arena *mem, enum parsed *what, struct strbuf *out,
                                struct graft_err *err)
{
    struct reading r = { v, argc, 0, argv, target, mem, what, out, err };
    const struct common *c = target;
    const int most = v->arg_many ? INT_MAX : v->arg ? 1 : 0;

    *what = PARSED_RUN;
    memcpy(target, v->defaults, v->size);
    if (asks_help(argc, argv)) {
        help_verb(v, out);
        *what = PARSED_PRINTED;
        return GRAFT_OK;
    }
    GRAFT_TRY(read_all(&r));
    if (*what == PARSED_PRINTED)
        return GRAFT_OK;
    if (c->args.count > most)
        return wrong(&r, "unexpected argument \"%s\"", c->args.text[most]);
    if (v->arg && !v->arg_optional && !c->args.count)
        return wrong(&r, "%s is missing", v->arg);
    return check_needed(&r);
}

static void put_option_help(const struct option_def *o, struct strbuf *out)
{
    char left[64];
    int n;

    if (o->type == OPTION_LATER)
        return;
    n = snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : " ",
                 o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
    strbuf_printf(out, "  %-25s%s%s\n", left, n < 25 ? "" : "\n                           ",
                  o->help);
}

void help_verb(const struct verb *v, struct strbuf *out)
{
    const struct option_def *o;

    strbuf_printf(out, "usage: graft %s %s\n%s\n\n", v->name, v->usage, v->summary);
    for (size_t i = 0; (o = option_at(v, i)); i++) {
        if (i == v->option_count && i)
            strbuf_putc(out, '\n');
        put_option_help(o, out);
    }
    if (v->more)
        strbuf_printf(out, "\n%s", v->more);
}

void help_all(struct strbuf *out)
{
    strbuf_puts(out,
                "usage: graft VERB [OPTION]...\n"
                "Fine-tune language models by training a small adapter over a frozen base.\n\n");
    for (int i = 0; verbs[i]; i++)
        strbuf_printf(out, "  %-12s%s\n", verbs[i]->name, verbs[i]->summary);
    strbuf_puts(
        out,
        "\n"
        "graft help VERB tells more, graft train --help-config lists the keys of a config,\n"
        "graft --version the version.\n"
        "exit: 0 done, 1 run failed, 2 wrong usage or config, 3 bad input file, 4 device error,\n"
        "129, 130 and 143 stopped by SIGHUP, SIGINT or SIGTERM after saving\n");
}
