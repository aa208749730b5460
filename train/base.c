#include "train/base.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"

static struct weight_choice resolve(const struct checkpoint *ck, const struct quant_config *q,
                                    bool quantise_floats)
{
    struct weight_choice c = { WEIGHTS_KEEP, q->spec };

    if (q->mode == QUANT_NONE)
        c.mode = WEIGHTS_FLOATS;
    else if (q->mode == QUANT_TYPE || (quantise_floats && checkpoint_is_float(ck)))
        c.mode = WEIGHTS_CODES;
    return c;
}

/* A GGUF file's keys hold the tokenizer, which is made: megabytes that nobody asks for again. */
static void forget_keys(const struct store *s)
{
    const char *begin = s->map_count == 1 ? s->map[0].data : NULL, *end = NULL;

    for (int64_t i = 0; i < s->count; i++) {
        const char *data = s->tensor[i].mat.data;

        if (data && (!end || data < end))
            end = data;
    }
    if (begin && end)
        file_forget(begin, (size_t)(end - begin));
}

enum graft_status base_open(const char *path, const struct quant_config *quant,
                            bool quantise_floats, struct base *out, struct graft_err *err)
{
    struct weight_choice choice;
    enum graft_status st;

    memset(out, 0, sizeof *out);
    GRAFT_TRY(checkpoint_open(path, true, &out->ck, err));
    choice = resolve(&out->ck, quant, quantise_floats);
    st = model_load(&out->ck, &choice, &out->model, err);
    if (!st)
        st = text_open(path, &out->text, err);
    if (st)
        base_release(out);
    else
        forget_keys(&out->ck.gguf.store);
    return st;
}

void base_release(struct base *b)
{
    text_release(&b->text);
    model_free(b->model);
    checkpoint_release(&b->ck);
    memset(b, 0, sizeof *b);
}

json_t *base_quant_json(const struct base *b)
{
    const struct qmat *w = &b->model->layer[0].linear[LIN_Q].w;

    if (qtypes[w->type].is_float)
        return json_string("none");
    if (w->type != QT_NF4 && w->type != QT_FP4)
        return json_string("auto");
    return json_pack("{s:s, s:i, s:b}", "type", qtypes[w->type].name, "block", w->block, "double",
                     w->absmax8 != NULL);
}

/* Index of the first value of the tensor that is no number, -1: all are. */
static int64_t first_not_finite(const struct qmat *w, float *value)
{
    enum { STEP = 4096 }; /* a whole number of blocks of every format */
    float x[STEP];

    for (int64_t i = 0, n = qmat_elems(w); i < n; i += STEP) {
        const int64_t count = n - i < STEP ? n - i : STEP;

        qmat_decode(w, i, count, x);
        for (int64_t k = 0; k < count; k++)
            if (!isfinite(x[k])) {
                *value = x[k];
                return i + k;
            }
    }
    return -1;
}

bool base_not_finite(const struct base *b, struct strbuf *out)
{
    struct arena mem = ARENA_INIT;
    struct model_tensor *t = NULL;
    int64_t count = 0, at = -1;
    float value = 0;

    if (model_tensors(b->model, &mem, &t, &count, NULL))
        count = 0;
    for (int64_t i = 0; i < count && at < 0; i++) {
        at = first_not_finite(&t[i].mat, &value);
        if (at >= 0)
            strbuf_printf(out, "%s[%lld] is %g", t[i].name, (long long)at, (double)value);
    }
    arena_release(&mem);
    return at >= 0;
}

/* Scratch and tables do not depend on the budget, and are known after planning only. */
static enum graft_status plan_within(struct net *n, size_t budget, struct graft_err *err)
{
    size_t fixed;

    GRAFT_TRY(graph_plan(n->g, &n->out, 1, 0, &n->plan, err));
    fixed = n->plan.scratch + n->plan.tables;
    if (!budget || n->plan.slab + fixed <= budget)
        return GRAFT_OK;
    return graph_plan(n->g, &n->out, 1, budget > fixed ? budget - fixed : 1, &n->plan, err);
}

enum graft_status net_make(const struct model *m, struct adapter *a, const struct net_opts *opts,
                           struct net *out, struct graft_err *err)
{
    const struct graph_opts g = { opts->max_tokens, opts->max_segments, opts->act, opts->backward };
    struct net n = { .max_tokens = opts->max_tokens,
                     .max_segments = opts->max_segments,
                     .virtual_front = a ? a->virtual_tokens : 0,
                     .first_position = a ? a->prefix_tokens : 0 };
    enum graft_status st = graph_new(&g, &n.g, err);

    if (st)
        return st;
    n.out = model_record(m, a, n.g, opts->mode);
    st = graph_error(n.g, err);
    if (!st)
        st = plan_within(&n, opts->budget, err);
    if (!st && !opts->dry)
        st = graph_allocate(n.g, opts->shared, err);
    if (st)
        net_release(&n);
    else
        *out = n;
    return st;
}

enum graft_status net_make_head(const struct model *m, struct adapter *a, float *hidden,
                                int64_t rows, struct net *out, struct graft_err *err)
{
    const struct graph_opts g = { rows, 1, DT_F32, false };
    struct net n = { .max_tokens = rows, .max_segments = 1 };
    struct tensor table = { .ndim = 2, .dim = { rows, m->config->hidden }, .data = hidden };
    enum graft_status st = graph_new(&g, &n.g, err);

    if (st)
        return st;
    n.out = model_record_head(m, a, n.g, &table);
    st = graph_error(n.g, err);
    if (!st)
        st = graph_plan(n.g, &n.out, 1, 0, &n.plan, err);
    if (!st)
        st = graph_allocate(n.g, NULL, err);
    if (st)
        net_release(&n);
    else
        *out = n;
    return st;
}

void net_release(struct net *n)
{
    graph_free(n->g);
    n->g = NULL;
}

static size_t proc_kib(const char *file, const char *key)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen(file, "re");

    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)))
            sscanf(line + strlen(key), "%llu", &kib);
    if (f)
        fclose(f);
    return (size_t)kib * 1024;
}

size_t peak_memory(void)
{
    return proc_kib("/proc/self/status", "VmHWM:");
}

size_t resident_memory(void)
{
    return proc_kib("/proc/self/status", "VmRSS:");
}

size_t anonymous_memory(void)
{
    return proc_kib("/proc/self/status", "RssAnon:");
}

/* Is this line of smaps the head of a mapping of the program or of a library? */
static bool is_code(const char *line, const char *self)
{
    const char *path = strchr(line, '/'), *name;

    if (!path)
        return false;
    name = path_base(path);
    return strstr(name, ".so") || !strncmp(path, self, strlen(self));
}

size_t code_memory(void)
{
    char self[4096], line[4608];
    unsigned long long kib, sum = 0;
    bool code = false;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    FILE *f = n > 0 ? fopen("/proc/self/smaps", "re") : NULL;

    if (!f)
        return 0;
    self[n] = '\0';
    while (fgets(line, sizeof line, f)) {
        if ((line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f'))
            code = is_code(line, self);
        else if (code && sscanf(line, "Rss: %llu", &kib) == 1)
            sum += kib;
        else if (code && sscanf(line, "Anonymous: %llu", &kib) == 1)
            sum -= kib; /* pages written to are no longer the file's */
    }
    fclose(f);
    return (size_t)sum * 1024;
}

/* A number from a file of the cgroup, 0 when there is none ("max": no limit). */
static size_t cgroup_bytes(const char *file)
{
    unsigned long long v = 0;
    FILE *f = fopen(file, "re");

    if (f && fscanf(f, "%llu", &v) != 1)
        v = 0;
    if (f)
        fclose(f);
    return (size_t)v;
}

size_t available_memory(void)
{
    const size_t free_now = proc_kib("/proc/meminfo", "MemAvailable:");
    const size_t limit = cgroup_bytes("/sys/fs/cgroup/memory.max");
    const size_t used = cgroup_bytes("/sys/fs/cgroup/memory.current");
    const size_t left = limit > used ? limit - used : 0;

    return limit && left < free_now ? left : free_now;
}
