/* The public interface: measuring and training. */
#include <math.h>
#include <string.h>

#include "train/api.h"
#include "train/data.h"
#include "train/evaluate.h"
#include "train/run.h"

static enum graft_status load_records(const struct graft_model *m, int task, const char *data,
                                      const struct graft_eval_opts *o, struct dataset *out,
                                      struct graft_err *err)
{
    struct dataset_opts how =
        data_opts(session_text(&m->session, task), &m->session.base.ck.config);

    if (task != TASK_BASE) {
        facts_data_opts(&m->session.tasks.task[task].facts, &how);
        how.virt = &m->session.tasks.task[task].virt;
    }
    how.mask_prompt &= !o->whole_records;
    GRAFT_TRY(record_format_parse(o->format ? o->format : "auto", &how.format, err));
    GRAFT_TRY(dataset_load(&data, 1, &how, out, err));
    if (out->stats.targets)
        return GRAFT_OK;
    dataset_release(out);
    return graft_fail(err, GRAFT_EFORMAT, "%s: no record has a token to measure", data);
}

static void fill_result(const struct dataset *d, const struct eval_result *sum,
                        struct graft_eval_result *out)
{
    *out = (struct graft_eval_result){
        .loss = sum->nll / (double)sum->tokens,
        .nll = sum->nll,
        .tokens = sum->tokens,
        .examples = sum->examples,
        .records = d->count,
        .truncated = d->stats.truncated,
        .dropped = d->stats.dropped,
    };
}

static enum graft_status measure(const struct graft_model *m, int task, const struct dataset *d,
                                 const struct graft_eval_opts *o, struct graft_eval_result *out,
                                 struct graft_err *err)
{
    struct adapter *a = task == TASK_BASE ? NULL : m->session.tasks.task[task].adapter;
    double *each = mem_array((size_t)d->count, sizeof *each);
    struct eval_result sum = { 0 };
    enum graft_status st;

    if (!each)
        return graft_fail_nomem(err, "results", (size_t)d->count * sizeof *each);
    st = evaluate_records(m->session.base.model, a, d, NULL, m->compute, each, &sum, err);
    for (int64_t i = 0; i < d->count && !st && o->record; i++)
        o->record(o->user, i, d->record[i].length ? each[i] : (double)NAN, d->record[i].targets);
    mem_free(each);
    if (!st)
        fill_result(d, &sum, out);
    return st;
}

enum graft_status graft_eval(struct graft_model *m, const struct graft_adapter *adapter,
                             const char *data, const struct graft_eval_opts *opts,
                             struct graft_eval_result *out, struct graft_err *err)
{
    static const struct graft_eval_opts defaults = GRAFT_EVAL_DEFAULTS;
    const struct graft_eval_opts *o = opts ? opts : &defaults;
    const int before = threads_enter(m->threads);
    struct dataset d = { 0 };
    int task = TASK_BASE;
    enum graft_status st = task_of(m, adapter, &task, err);

    if (!st)
        st = load_records(m, task, data, o, &d, err);
    if (!st)
        st = measure(m, task, &d, o, out, err);
    dataset_release(&d);
    threads_leave(before);
    return st;
}

static void on_start(void *user, const struct run_info *r)
{
    const struct graft_train_opts *o = user;
    const struct graft_run_info info = {
        .architecture = r->architecture,
        .method = r->config->adapter.method,
        .base_format = r->base_format,
        .format = r->format,
        .parameters = r->base_params,
        .trainable = r->trainable,
        .train_records = r->train->records - r->train->dropped,
        .valid_records = r->valid ? r->valid->records - r->valid->dropped : 0,
        .steps = r->steps,
        .steps_per_epoch = r->steps_per_epoch,
        .planned_bytes = r->memory.total,
    };

    if (o->start)
        o->start(o->user, &info);
}

static void on_step(void *user, const struct step_info *s)
{
    const struct graft_train_opts *o = user;
    const struct graft_step_info info = {
        .step = s->step,
        .steps = s->steps,
        .epoch = s->epoch,
        .loss = s->loss,
        .lr = s->lr,
        .grad_norm = s->grad_norm,
        .tokens = s->tokens,
        .input_tokens = s->input_tokens,
        .seconds = s->seconds,
        .tokens_per_second = s->tokens_per_second,
    };

    if (o->step)
        o->step(o->user, &info);
}

static void on_eval(void *user, int64_t step, double loss, int64_t tokens, bool best)
{
    const struct graft_train_opts *o = user;

    (void)tokens;
    if (o->eval)
        o->eval(o->user, step, loss, best);
}

static enum graft_status run_config(const struct run_config *c, const struct graft_train_opts *o,
                                    struct graft_train_result *out, struct graft_err *err)
{
    const struct run_hooks hooks = { (void *)(uintptr_t)o, on_start, on_step, on_eval,
                                     o->stop_flag };
    struct run_result r;
    enum graft_status st;

    if (o->plan_only)
        return train_plan(c, &hooks, err);
    st = train_run(c, o->force, &hooks, &r, err);
    if (out && (!st || st == GRAFT_ESTOPPED))
        *out = (struct graft_train_result){
            .steps = r.steps,
            .loss = r.loss,
            .valid_loss = r.valid_loss,
            .best_step = r.best_step,
            .best_loss = r.best_loss,
            .trainable = r.trainable,
            .adapter_bytes = r.adapter_bytes,
            .planned_bytes = r.planned,
            .peak_bytes = r.peak,
            .seconds = r.seconds,
            .tokens_per_second = r.tokens_per_second,
        };
    return st;
}

enum graft_status graft_train(const char *config, const struct graft_train_opts *opts,
                              struct graft_train_result *out, struct graft_err *err)
{
    static const struct graft_train_opts defaults = GRAFT_TRAIN_DEFAULTS;
    const struct graft_train_opts *o = opts ? opts : &defaults;
    const struct config_input in = {
        .file = config,
        .set = o->set,
        .set_count = o->set_count,
        .output = o->output,
        .threads = o->threads,
        .need_output = !o->plan_only,
    };
    struct run_config c = { 0 };
    enum graft_status st;
    int before;

    GRAFT_TRY(config_load(&in, &c, err));
    before = threads_enter((int)c.threads);
    st = run_config(&c, o, out, err);
    threads_leave(before);
    run_config_release(&c);
    return st;
}
