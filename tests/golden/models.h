/* tests/golden/models.h - the tiny models of golden/models/ (make_models.py) and what transformers
 * and PEFT computed from them. For the tests of models and train. */
#ifndef TESTS_GOLDEN_MODELS_H
#define TESTS_GOLDEN_MODELS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "models/model.h"

enum { GOLDEN_RECORDS = 12, GOLDEN_LONGEST = 64, GOLDEN_VOCAB = 61 };

/* A path that lives until the 16th call after this one. */
static inline const char *path_of(const char *fmt, ...)
{
    static char ring[16][512];
    static int next;
    char *out = ring[next++ % 16];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(out, 512, fmt, ap);
    va_end(ap);
    return out;
}

#define GOLDEN(name) path_of("%s/models/%s", GRAFT_GOLDEN, name)

static inline json_t *read_json(const char *path)
{
    struct graft_err err = { GRAFT_OK, "" };
    json_t *v = NULL;

    if (json_read_file(path, &v, &err))
        fail_msg("%s", err.msg);
    return v;
}

/* A folder of its own for every test, gone when the test ends. */
static inline int enter_folder(void **state)
{
    char dir[] = "/tmp/graft-test-XXXXXX";

    *state = mkdtemp(dir) ? strdup(dir) : NULL;
    return *state && chdir(*state) == 0 ? 0 : -1;
}

static inline int leave_folder(void **state)
{
    char cmd[64];

    snprintf(cmd, sizeof cmd, "rm -r '%s'", (char *)*state);
    free(*state);
    return chdir("/") == 0 ? system(cmd) : -1;
}

static inline void copy_file(const char *from, const char *to)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct strbuf s = STRBUF_INIT;

    if (file_read(from, 16 << 20, &s, &err) || file_write(to, strbuf_str(&s), s.len, &err))
        fail_msg("%s", err.msg);
    strbuf_release(&s);
}

/* Largest |got - want| / |want|, or of the whole list's norm for vectors near zero. */
static inline double worst_of(const double *got, const json_t *want, size_t n)
{
    double worst = 0;

    assert_int_equal(json_array_size(want), n);
    for (size_t i = 0; i < n; i++) {
        const double w = json_number_value(json_array_get(want, i));
        const double e = fabs(got[i] - w) / fabs(w);

        if (!(e <= worst))
            worst = e;
    }
    return worst;
}

static inline double distance_of(const float *got, const json_t *want, size_t n)
{
    double d = 0, norm = 0;

    assert_int_equal(json_array_size(want), n);
    for (size_t i = 0; i < n; i++) {
        const double w = json_number_value(json_array_get(want, i));

        d += (got[i] - w) * (got[i] - w);
        norm += w * w;
    }
    return sqrt(d / norm);
}

/* ||got - want|| / ||want|| */
static inline double distance(const float *got, const float *want, int64_t n)
{
    double d = 0, norm = 0;

    for (int64_t i = 0; i < n; i++) {
        const double e = (double)got[i] - want[i];

        d += e * e;
        norm += (double)want[i] * want[i];
    }
    return sqrt(d / norm);
}

#define assert_near(what, error, bound)                                                            \
    do {                                                                                           \
        const double error_ = (error);                                                             \
        if (!(error_ <= (bound)))                                                                  \
            fail_msg("%s: off by %g, allowed %g", what, error_, (double)(bound));                  \
    } while (0)

struct golden_record {
    int64_t n, targets;
    int32_t id[GOLDEN_LONGEST], target[GOLDEN_LONGEST], pos[GOLDEN_LONGEST];
};

static inline void read_record(const json_t *o, struct golden_record *r)
{
    const json_t *ids = json_object_get(o, "input_ids"), *labels = json_object_get(o, "labels");

    *r = (struct golden_record){ .n = (int64_t)json_array_size(ids) };
    assert_in_range(r->n, 1, GOLDEN_LONGEST);
    for (int64_t t = 0; t < r->n; t++) {
        const json_int_t next =
            t + 1 < r->n ? json_integer_value(json_array_get(labels, (size_t)t + 1)) : -100;

        r->id[t] = (int32_t)json_integer_value(json_array_get(ids, (size_t)t));
        r->pos[t] = (int32_t)t;
        r->target[t] = next == -100 ? -1 : (int32_t)next;
        r->targets += next != -100;
    }
}

/* The records of data.jsonl. */
static inline void read_records(struct golden_record r[GOLDEN_RECORDS])
{
    FILE *f = fopen(GOLDEN("data.jsonl"), "r");
    char line[4096];
    int n = 0;

    assert_non_null(f);
    while (n < GOLDEN_RECORDS && fgets(line, sizeof line, f)) {
        json_t *o = json_loads(line, 0, NULL);

        read_record(o, &r[n++]);
        json_decref(o);
    }
    fclose(f);
    assert_int_equal(n, GOLDEN_RECORDS);
}

/* One recorded graph over a model. */
struct tiny_net {
    struct graph *g;
    struct tensor *out;
};

static inline struct tiny_net tiny_net(const struct model *m, struct adapter *a, enum net_mode mode,
                                       enum dtype act, bool backward)
{
    const struct graph_opts opts = { 512, 16, act, backward };
    struct graft_err err = { GRAFT_OK, "" };
    struct plan_report plan;
    struct tiny_net n = { NULL, NULL };

    assert_int_equal(graph_new(&opts, &n.g, &err), GRAFT_OK);
    n.out = model_record(m, a, n.g, mode);
    if (graph_error(n.g, &err) || graph_plan(n.g, &n.out, 1, 0, &plan, &err) ||
        graph_allocate(n.g, NULL, &err))
        fail_msg("%s", err.msg);
    return n;
}

/* Sum of NLL of one record, alone in its pass. */
static inline double record_nll(const struct tiny_net *n, const struct golden_record *r)
{
    const int64_t start[2] = { 0, r->n };
    float nll[GOLDEN_LONGEST];
    const struct graph_input in = { .n = r->n,
                                    .id = r->id,
                                    .target = r->target,
                                    .pos = r->pos,
                                    .segments = 1,
                                    .start = start,
                                    .nll = nll };
    double sum = 0;

    graph_forward(n->g, &in);
    for (int64_t t = 0; t < r->n; t++)
        sum += r->target[t] >= 0 ? (double)nll[t] : 0;
    return sum;
}

/* All records of `r` end to end. */
struct flat {
    int64_t n, targets, segments, start[GOLDEN_RECORDS + 1];
    int32_t id[512], target[512], pos[512];
    float nll[512];
};

static inline void flatten(const struct golden_record *r, int count, struct flat *f)
{
    f->n = f->targets = 0;
    f->segments = count;
    for (int i = 0; i < count; i++) {
        f->start[i] = f->n;
        for (int64_t t = 0; t < r[i].n; t++, f->n++) {
            f->id[f->n] = r[i].id[t];
            f->target[f->n] = r[i].target[t];
            f->pos[f->n] = r[i].pos[t];
        }
        f->targets += r[i].targets;
    }
    f->start[count] = f->n;
}

static inline struct graph_input flat_input(struct flat *f)
{
    return (struct graph_input){ .n = f->n,
                                 .id = f->id,
                                 .target = f->target,
                                 .pos = f->pos,
                                 .segments = f->segments,
                                 .start = f->start,
                                 .nll = f->nll };
}

/* A model with its checkpoint, opened in place. */
struct opened {
    struct checkpoint ck;
    struct model *m;
};

static inline void open_model(const char *path, enum weight_mode mode, struct opened *o)
{
    const struct weight_choice w = { mode, { QT_NF4, 64, true } };
    struct graft_err err = { GRAFT_OK, "" };

    if (checkpoint_open(path, true, &o->ck, &err) || model_load(&o->ck, &w, &o->m, &err))
        fail_msg("%s", err.msg);
}

static inline void close_model(struct opened *o)
{
    model_free(o->m);
    checkpoint_release(&o->ck);
}

#endif
