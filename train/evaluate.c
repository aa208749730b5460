#include "train/evaluate.h"

#include <math.h>
#include <string.h>

#include "train/data.h"

struct evaluation {
    const struct evaluate_opts *opts;
    struct session session;
    struct cached_data cached;
    bool *use;
};

/* Records are cut and masked as they were for the adapters; where these differ, at the longest
 * length, and all answers count. */
static void read_as_trained(const struct task_list *t, struct dataset_opts *o)
{
    bool differ = false;

    for (int i = 0; i < t->count; i++) {
        const struct facts *f = &t->task[i].facts, *first = &t->task[0].facts;

        o->max_length = f->max_length > o->max_length ? f->max_length : o->max_length;
        differ |= f->mask_prompt != first->mask_prompt || f->train_on_last != first->train_on_last;
    }
    if (differ)
        graft_note("the adapters learnt different parts of a record (mask_prompt, train_on): here "
                   "all answers count");
    else if (t->count) {
        o->mask_prompt = t->task[0].facts.mask_prompt;
        o->train_on_last = t->task[0].facts.train_on_last;
    }
}

void evaluate_result_release(struct evaluate_result *r)
{
    arena_release(&r->mem);
}

static enum graft_status load_data(struct evaluation *e, struct graft_err *err)
{
    const struct task_list *t = &e->session.tasks;
    const char **names = mem_array((size_t)t->count + 1, sizeof *names);
    struct virtual_tokens *virt = mem_array((size_t)t->count + 1, sizeof *virt);
    struct task_names tasks = { names, t->count, TASK_UNSAID };
    struct dataset_opts opts = data_opts(e->session.text, &e->session.base.ck.config);
    enum graft_status st = GRAFT_OK;

    if (!names || !virt)
        st = graft_fail_nomem(err, "task names", (size_t)t->count * sizeof *virt);
    opts.format = e->opts->format;
    opts.tasks = &tasks;
    opts.virt = virt;
    read_as_trained(t, &opts);
    for (int i = 0; i < t->count && !st; i++) {
        names[i] = t->task[i].name;
        virt[i] = t->task[i].virt;
    }
    if (!st && (e->opts->task || t->count <= 1))
        st = tasks_find(t, e->opts->task, &tasks.other, err);
    if (!st)
        st = cached_load(&e->opts->data, 1, &opts, &e->cached, err);
    mem_free(names);
    mem_free(virt);
    if (!st && e->cached.data.stats.targets == 0)
        st = graft_fail(err, GRAFT_EFORMAT, "%s: no record has a token to measure", e->opts->data);
    return st;
}

enum graft_status evaluate_records(const struct model *m, struct adapter *a,
                                   const struct dataset *d, const bool *use, int compute,
                                   double *per_record, struct eval_result *out,
                                   struct graft_err *err)
{
    const struct net_opts opts = {
        .max_tokens = eval_pass_tokens(d, a ? a->virtual_tokens : 0),
        .max_segments = 256,
        .act = compute == COMPUTE_BF16 ? DT_BF16 : DT_F32,
        .mode = NET_LOSS,
    };
    struct evaluator *ev = NULL;
    struct net net = { 0 };
    enum graft_status st = net_make(m, a, &opts, &net, err);

    if (!st)
        st = evaluator_new(&net, &ev, err);
    if (!st)
        st = eval_records(&net, ev, d, use, per_record, out, err);
    evaluator_free(ev);
    net_release(&net);
    return st;
}

/* All records of one task through one network. */
static enum graft_status one_task(struct evaluation *e, int task, struct evaluate_result *r,
                                  struct graft_err *err)
{
    struct adapter *a = task == TASK_BASE ? NULL : e->session.tasks.task[task].adapter;
    struct eval_result sum = { 0 };
    int64_t n = 0;

    for (int64_t i = 0; i < e->cached.data.count; i++) {
        e->use[i] = e->cached.data.record[i].task == task;
        n += e->use[i] && e->cached.data.record[i].length > 0;
    }
    if (n == 0)
        return GRAFT_OK;
    GRAFT_TRY(evaluate_records(e->session.base.model, a, &e->cached.data, e->use, r->compute,
                               r->per_record, &sum, err));
    r->sum.nll += sum.nll;
    r->sum.tokens += sum.tokens;
    r->sum.examples += sum.examples;
    return GRAFT_OK;
}

static enum graft_status measure(struct evaluation *e, struct evaluate_result *r,
                                 struct graft_err *err)
{
    const size_t n = (size_t)e->cached.data.count;

    r->records = e->cached.data.count;
    r->truncated = e->cached.data.stats.truncated;
    r->dropped = e->cached.data.stats.dropped;
    r->per_record = arena_array(&r->mem, n, sizeof *r->per_record);
    r->targets = arena_array(&r->mem, n, sizeof *r->targets);
    e->use = arena_array(&r->mem, n, sizeof *e->use);
    if (!r->per_record || !r->targets || !e->use)
        return graft_fail_nomem(err, "results", n * 17);
    for (int64_t i = 0; i < e->cached.data.count; i++) {
        r->per_record[i] = NAN;
        r->targets[i] = e->cached.data.record[i].targets;
    }
    for (int t = TASK_BASE; t < e->session.tasks.count; t++)
        GRAFT_TRY(one_task(e, t, r, err));
    return GRAFT_OK;
}

enum graft_status evaluate_run(const struct evaluate_opts *opts, struct evaluate_result *out,
                               struct graft_err *err)
{
    struct evaluation e = { .opts = opts };
    struct evaluate_result r = { .records = 0 };
    enum graft_status st =
        session_open(opts->base, opts->adapter, opts->adapters, &opts->quant, &e.session, err);

    if (st)
        return st;
    r.compute = session_compute(&e.session, opts->compute);
    st = session_use_template(&e.session, opts->template_name, err);
    if (!st)
        st = load_data(&e, err);
    if (!st)
        st = measure(&e, &r, err);
    if (!st)
        snprintf(r.format, sizeof r.format, "%s", session_format(&e.session));
    cached_release(&e.cached);
    session_release(&e.session);
    if (st)
        evaluate_result_release(&r);
    else
        *out = r;
    return st;
}
