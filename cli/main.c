/* cli/main.c - the program: find the verb, read its options, run it, say what went wrong. */
#include <errno.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/common.h"
#include "train/config.h"

static void print_note(void *user, const char *msg)
{
    const bool *quiet = user;

    if (!*quiet)
        fprintf(stderr, "graft: note: %s\n", msg);
}

static int fail(const struct graft_err *err, enum graft_status st)
{
    fprintf(stderr, "graft: %s\n", err->msg[0] ? err->msg : graft_status_text(st));
    return exit_code(st);
}

/* What was printed has to be written, too: a full disk is an error. */
static int finish(int code)
{
    if ((fflush(stdout) || ferror(stdout)) && code == 0) {
        fprintf(stderr, "graft: the output cannot be written: %s\n", strerror(errno));
        return 1;
    }
    return code;
}

static int print(struct strbuf *text)
{
    fwrite(strbuf_str(text), 1, text->len, stdout);
    strbuf_release(text);
    return 0;
}

static int unknown_verb(const char *word)
{
    const char *names[32], *near;
    size_t n = 0;

    for (int i = 0; later_verbs[i]; i++)
        if (!strcmp(word, later_verbs[i])) {
            fprintf(stderr, "graft: %s is not in this version\n", word);
            return 2;
        }
    while (n < 32 && verbs[n]) {
        names[n] = verbs[n]->name;
        n++;
    }
    near = nearest_name(word, names, n);
    if (near)
        fprintf(stderr, "graft: unknown verb \"%s\", did you mean \"%s\"?\n", word, near);
    else
        fprintf(stderr, "graft: unknown verb \"%s\"\n", word);
    fprintf(stderr, "there are");
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "%s %s", i ? "," : "", names[i]);
    fprintf(stderr, "\n");
    fprintf(stderr, "see graft help\n");
    return 2;
}

static enum graft_status apply_common(const struct common *c, struct graft_err *err)
{
    if (c->device)
        GRAFT_TRY(device_check("--device", c->device, err));
    if (c->threads)
        omp_set_num_threads((int)c->threads);
    return GRAFT_OK;
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
    static bool quiet;
    struct graft_err err = { GRAFT_OK, "" };
    struct arena mem = ARENA_INIT;
    struct strbuf text = STRBUF_INIT;
    struct common *options = arena_alloc(&mem, v->size);
    enum parsed what = PARSED_RUN;
    enum graft_status st;

    if (!options)
        return fail(&err, graft_fail_nomem(&err, "options", v->size));
    st = options_parse(v, argc, argv, options, &mem, &what, &text, &err);
    if (!st && what == PARSED_RUN)
        st = apply_common(options, &err);
    if (!st && what == PARSED_RUN) {
        quiet = options->quiet;
        graft_note_sink(print_note, &quiet);
        if (v->writes)
            signals_take_back();
        st = v->run(options, &err);
    }
    if (!st)
        print(&text);
    strbuf_release(&text);
    arena_release(&mem);
    return st ? fail(&err, st) : 0;
}

static int run_help(int argc, char **argv)
{
    struct strbuf text = STRBUF_INIT;
    const struct verb *v = argc > 0 ? verb_by_name(argv[0]) : NULL;

    if (argc > 0 && !strcmp(argv[0], "--man"))
        help_man(&text);
    else if (argc > 0 && !strcmp(argv[0], "--bash"))
        help_completion(&text);
    else if (argc > 0 && !v)
        return unknown_verb(argv[0]);
    else if (v)
        help_verb(v, &text);
    else
        help_all(&text);
    return print(&text);
}

int main(int argc, char **argv)
{
    struct strbuf text = STRBUF_INIT;
    const struct verb *v;

    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a failed write like a full disk */
    if (argc < 2) {
        help_all(&text);
        fwrite(strbuf_str(&text), 1, text.len, stderr);
        strbuf_release(&text);
        return 2;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("graft %s\n", graft_version());
        return finish(0);
    }
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return finish(run_help(argc - 2, argv + 2));
    v = verb_by_name(argv[1]);
    if (v)
        threads_settle(argv);
    return finish(v ? run_verb(v, argc - 2, argv + 2) : unknown_verb(argv[1]));
}
