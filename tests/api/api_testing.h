/* What the tests of the public interface share: a model of random numbers, and short words. They
 * include graft.h and nothing of the inside. */
#ifndef TESTS_API_TESTING_H
#define TESTS_API_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <graft.h>
#include <malloc.h>
#include <math.h>
#include <unistd.h>

static char dir[256];

/* "DIR/name"; sixteen calls may be in use at once. */
static inline const char *in_dir(const char *name)
{
    static char path[16][512];
    static int next;
    char *p = path[next++ % 16];

    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static inline int run(const char *command, const char *arg)
{
    char line[1024];

    snprintf(line, sizeof line, "%s '%s'", command, arg);
    return system(line);
}

static inline int make_files(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(dir, sizeof dir, "%s/graft-api-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(dir) && run(GRAFT_TINY, dir) == 0 ? 0 : -1;
}

static inline int remove_files(void **state)
{
    (void)state;
    return run("rm -r", dir);
}

static struct graft_err err;

static inline void ok(enum graft_status st)
{
    if (st)
        fail_msg("%s: %s", graft_status_text(st), err.msg);
}

static inline void refused(enum graft_status st, enum graft_status want, const char *part)
{
    if (st != want || !strstr(err.msg, part))
        fail_msg("found %d \"%s\", wanted %d and \"%s\" in it", (int)st, st ? err.msg : "", want,
                 part);
}

static inline struct graft_model *open_base(const char *quant)
{
    struct graft_model_opts opts = GRAFT_MODEL_DEFAULTS;
    struct graft_model *m = NULL;

    opts.quant = quant;
    ok(graft_model_open(in_dir("base"), &opts, &m, &err));
    return m;
}

static inline struct graft_adapter *load(struct graft_model *m, const char *name)
{
    struct graft_adapter *a = NULL;

    ok(graft_adapter_load(m, NULL, in_dir(name), &a, &err));
    return a;
}

static inline struct graft_answer *ask(struct graft_model *m, const struct graft_adapter *a,
                                       int64_t n)
{
    struct graft_generate_opts opts = GRAFT_GENERATE_DEFAULTS;
    struct graft_answer *answer = NULL;

    opts.max_new = n;
    ok(graft_generate(m, a, "the cat sat", &opts, &answer, &err));
    return answer;
}

static inline bool same(const struct graft_answer *a, const struct graft_answer *b)
{
    return a->count == b->count && a->stop == b->stop && !strcmp(a->text, b->text) &&
           !memcmp(a->ids, b->ids, (size_t)a->count * sizeof *a->ids);
}

/* Bytes the program has from the allocator now; 0 under a sanitizer's. */
static inline size_t heap(void)
{
    const struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

/* No more than the allocator's own rounding: an adapter's graph alone is larger. */
static inline bool grew(size_t before)
{
    return heap() > before + 4096;
}

static inline void steady(size_t before)
{
    if (grew(before))
        fail_msg("the heap grew from %zu to %zu bytes", before, heap());
}

#endif
