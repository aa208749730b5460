#include "train/evaluate.h"

#include <math.h>
#include <string.h>

struct evaluation {
    const struct evaluate_opts *opts;
    struct session session;
    struct dataset data;
    bool *use;
};

/* The longest record any of the adapters was trained on; 0: nothing is cut. */
static int64_t max_length(const struct task_list *t)
{
    int64_t most = 0;

    for (int i = 0; i < t->count; i++)
        if (t->task[i].facts.max_length > most)
            most = t->task[i].facts.max_length;
    return most;
}

void evaluate_result_release(struct evaluate_result *r)
{
    arena_release(&r->mem);
}

static enum graft_status load_data(struct evaluation *e, struct graft_err *err)
{
    const struct task_list *t = &e->session.tasks;
    const struct model_config *c = &e->session.base.ck.config;
    const char **names = mem_array((size_t)t->count + 1, sizeof *names);
    struct task_names tasks = { names, t->count, TASK_UNSAID };
    const struct dataset_opts opts = {
        .format = e->opts->format,
        .mask_prompt = e->opts->mask_prompt,
        .max_length = max_length(t),
        .max_positions = c->max_positions,
        .vocab_rows = c->vocab,
        .tokenizer = e->session.text->tokenizer,
        .eos = e->session.text->eos,
        .chat = e->session.text->chat,
        .chat_problem = e->session.text->chat_problem,
        .stop = e->session.text->stop,
        .stops = e->session.text->stops,
        .tasks = &tasks,
    };
    enum graft_status st = GRAFT_OK;

    if (!names)
        return graft_fail_nomem(err, "task names", (size_t)t->count * sizeof *names);
    for (int i = 0; i < t->count; i++)
        names[i] = t->task[i].name;
    if (e->opts->task || t->count <= 1)
        st = tasks_find(t, e->opts->task, &tasks.other, err);
    if (!st)
        st = dataset_load(&e->opts->data, 1, &opts, &e->data, err);
    mem_free(names);
    if (!st && e->data.stats.targets == 0)
        st = graft_fail(err, GRAFT_EFORMAT, "%s: no record has a token to measure", e->opts->data);
    return st;
}

enum graft_status evaluate_records(const struct model *m, struct adapter *a,
                                   const struct dataset *d, const bool *use, int compute,
                                   double *per_record, struct eval_result *out,
                                   struct graft_err *err)
{
    const struct net_opts opts = {
        .max_tokens = eval_pass_tokens(d),
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

    for (int64_t i = 0; i < e->data.count; i++) {
        e->use[i] = e->data.record[i].task == task;
        n += e->use[i] && e->data.record[i].length > 0;
    }
    if (n == 0)
        return GRAFT_OK;
    GRAFT_TRY(evaluate_records(e->session.base.model, a, &e->data, e->use, r->compute,
                               r->per_record, &sum, err));
    r->sum.nll += sum.nll;
    r->sum.tokens += sum.tokens;
    r->sum.examples += sum.examples;
    return GRAFT_OK;
}

static enum graft_status measure(struct evaluation *e, struct evaluate_result *r,
                                 struct graft_err *err)
{
    const size_t n = (size_t)e->data.count;

    r->records = e->data.count;
    r->truncated = e->data.stats.truncated;
    r->dropped = e->data.stats.dropped;
    r->per_record = arena_array(&r->mem, n, sizeof *r->per_record);
    r->targets = arena_array(&r->mem, n, sizeof *r->targets);
    e->use = arena_array(&r->mem, n, sizeof *e->use);
    if (!r->per_record || !r->targets || !e->use)
        return graft_fail_nomem(err, "results", n * 17);
    for (int64_t i = 0; i < e->data.count; i++) {
        r->per_record[i] = NAN;
        r->targets[i] = e->data.record[i].targets;
    }
    for (int t = TASK_BASE; t < e->session.tasks.count; t++)
        GRAFT_TRY(one_task(e, t, r, err));
    return GRAFT_OK;
}

enum graft_status evaluate_run(const struct evaluate_opts *opts, struct evaluate_result *out,
                               struct graft_err *err)
{
    struct evaluation e = { .opts = opts };
    struct evaluate_result r = { .compute = compute_resolve(opts->compute) };
    enum graft_status st =
        session_open(opts->base, opts->adapter, opts->adapters, &opts->quant, &e.session, err);

    if (st)
        return st;
    st = load_data(&e, err);
    if (!st)
        st = measure(&e, &r, err);
    if (!st)
        snprintf(r.format, sizeof r.format, "%s", session_format(&e.session));
    dataset_release(&e.data);
    session_release(&e.session);
    if (st)
        evaluate_result_release(&r);
    else
        *out = r;
    return st;
}
