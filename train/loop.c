/* The training loop, to be read from the top: steps of forward and backward passes, clip, update;
 * evaluation; saving; the reasons to stop. Nothing in a step allocates. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/file.h"
#include "train/facts.h"
#include "train/output.h"
#include "train/phase.h"

static const char HELD_FILE[] = "valid.jsonl"; /* in the output folder */

struct loop {
    struct run *r;
    const struct run_config *config; /* as given: r->config is that of one stage */
    struct output out;
    struct run_result result;
    int64_t pass;      /* forward passes so far: the random stream of dropout */
    float *good;       /* all trained values as they were before the last update */
    int64_t good_step; /* updates they have seen: the loss of the step behind that was a number */
    bool over;         /* the method ended the run before its last step */
    double train_seconds;
    int64_t train_tokens;
    struct strbuf line; /* of metrics.jsonl; kept, since a step allocates nothing */
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The loss is a mean over all target tokens of the step, so they are counted before the first pass.
 */
static enum graft_status count_targets(struct run *r, const struct run_place *at,
                                       struct step_info *s, struct graft_err *err)
{
    struct batch b;

    s->tokens = s->input_tokens = 0;
    for (int64_t p = at->first; p < at->end; p++) {
        GRAFT_TRY(loader_batch(r->data.loader, at->epoch, p, &b, err));
        s->tokens += b.targets;
        s->input_tokens += b.n;
    }
    return GRAFT_OK;
}

static enum graft_status forward_backward(struct loop *l, int64_t i, struct step_info *s,
                                          struct graft_err *err)
{
    struct run *r = l->r;
    const uint64_t seed = (uint64_t)r->config->train.seed;
    struct run_place at;
    double sum = 0;

    GRAFT_TRY(run_step(r, i, &at, err));
    GRAFT_TRY(count_targets(r, &at, s, err));
    grad_clear(r->param, r->adapter->param_count);
    for (int64_t p = at.first; p < at.end; p++) {
        struct batch b;

        GRAFT_TRY(loader_batch(r->data.loader, at.epoch, p, &b, err));
        const struct graph_input in = {
            .n = b.n,
            .id = b.id,
            .target = b.target,
            .pos = b.pos,
            .segments = b.segments,
            .start = b.start,
            .training = true,
            .rng = { seed, RNG_DROPOUT, (uint32_t)l->pass++, 0 },
        };
        graph_forward(r->net.g, &in);
        sum += (double)*(const float *)r->net.out->data;
        graph_backward(r->net.g, (float)(1.0 / (double)s->tokens));
    }
    s->loss = sum / (double)s->tokens;
    s->epoch = at.progress;
    return GRAFT_OK;
}

static enum graft_status save_in(const struct loop *l, const char *name, struct graft_err *err)
{
    struct strbuf dir = STRBUF_INIT;
    enum graft_status st;

    path_join(&dir, l->out.dir, name);
    st = run_save(l->r, strbuf_str(&dir), err);
    strbuf_release(&dir);
    return st;
}

static void put_number(struct strbuf *line, const char *key, double x)
{
    strbuf_printf(line, ", \"%s\": ", key);
    json_write_number(line, x);
}

static enum graft_status log_step(struct loop *l, const struct step_info *s, struct graft_err *err)
{
    struct strbuf *line = &l->line;
    enum graft_status st;

    strbuf_clear(line);
    strbuf_printf(line, "{\"step\": %" PRId64, s->step);
    put_number(line, "epoch", s->epoch);
    put_number(line, "loss", s->loss);
    put_number(line, "lr", s->lr);
    put_number(line, "grad_norm", s->grad_norm);
    strbuf_printf(line, ", \"tokens\": %" PRId64 ", \"input_tokens\": %" PRId64, s->tokens,
                  s->input_tokens);
    put_number(line, "seconds", s->seconds);
    put_number(line, "tokens_per_second", s->tokens_per_second);
    strbuf_putc(line, '}');
    st = output_metric_text(&l->out, line, err);
    if (!st && l->r->hooks && l->r->hooks->step)
        l->r->hooks->step(l->r->hooks->user, s);
    return st;
}

/* (optional result) The first trained tensor with a value that is no number. */
static const char *value_not_finite(const struct run *r)
{
    for (int i = 0; i < r->adapter->param_count; i++)
        for (int64_t k = 0; k < r->param[i].count; k++)
            if (!isfinite(r->param[i].value[k]))
                return r->adapter->param[i]->name;
    return NULL;
}

/* Where the first value that is no number stands: in the base, the adapter, else in a gradient. */
static void blame(const struct run *r, struct strbuf *out)
{
    const int bad = grad_not_finite(r->param, r->adapter->param_count);
    const char *value = value_not_finite(r);

    if (base_not_finite(&r->base, out))
        strbuf_puts(out, " in the base");
    else if (value)
        strbuf_printf(out, "first in %s of the adapter", value);
    else if (bad >= 0)
        strbuf_printf(out, "first in the gradient of %s", r->adapter->param[bad]->name);
    else
        strbuf_puts(out, "base, adapter and gradients hold numbers only");
}

/* Copy the trained values aside, or back. */
static void keep_values(struct loop *l, bool back)
{
    float *good = l->good;

    for (int i = 0; i < l->r->adapter->param_count; i++) {
        const struct optim_param *p = &l->r->param[i];

        memcpy(back ? p->value : good, back ? good : p->value, (size_t)p->count * sizeof *good);
        good += p->count;
    }
}

/* What the last update made of the values gave a loss that is no number, so the good ones are those
 * before it. `what` tells the loss; ERUN. */
static enum graft_status not_finite(struct loop *l, const char *what, struct graft_err *err)
{
    const struct run_result *s = &l->result;
    struct strbuf where = STRBUF_INIT;
    char best[64] = "";
    enum graft_status st = GRAFT_OK;

    blame(l->r, &where);
    if (s->best_step && l->r->config->train.keep_best)
        snprintf(best, sizeof best, ", the best one, of step %lld, in best",
                 (long long)s->best_step);
    if (l->good_step > 0) {
        keep_values(l, true);
        st = save_in(l, "last_good", err);
    }
    if (!st && l->good_step > 0)
        st = graft_fail(err, GRAFT_ERUN,
                        "%s (%s); the adapter of step %lld, the last good one, is in "
                        "%s/last_good%s; a lower optim.lr or optim.max_grad_norm may help",
                        what, strbuf_str(&where), (long long)l->good_step, l->out.dir, best);
    else if (!st)
        st = graft_fail(err, GRAFT_ERUN, "%s (%s); no step before it left a good adapter", what,
                        strbuf_str(&where));
    strbuf_release(&where);
    return st;
}

static enum graft_status step_not_finite(struct loop *l, const struct step_info *s,
                                         struct graft_err *err)
{
    char what[96];

    log_step(l, s, NULL);
    snprintf(what, sizeof what, "step %lld: loss %g, gradient norm %g", (long long)s->step,
             fabs(s->loss), fabs(s->grad_norm)); /* of a NaN the sign says nothing */
    return not_finite(l, what, err);
}

static enum graft_status one_step(struct loop *l, int64_t i, struct graft_err *err)
{
    struct run *r = l->r;
    const double start = now();
    struct step_info s = { .step = i + 1, .steps = r->steps, .lr = schedule_rate(&r->schedule, i) };

    GRAFT_TRY(forward_backward(l, i, &s, err));
    s.grad_norm = grad_clip(r->param, r->adapter->param_count, r->config->optim.max_grad_norm);
    s.seconds = now() - start;
    if (!isfinite(s.loss) || !isfinite(s.grad_norm))
        return step_not_finite(l, &s, err);
    keep_values(l, false);
    l->good_step = i;
    optim_step(r->optim, s.lr);
    s.seconds = now() - start;
    s.tokens_per_second = (double)s.input_tokens / s.seconds;
    l->train_seconds += s.seconds;
    l->train_tokens += s.input_tokens;
    l->result.steps = s.step;
    l->result.loss = s.loss;
    return log_step(l, &s, err);
}

static enum graft_status log_eval(struct loop *l, double loss, int64_t tokens,
                                  struct graft_err *err)
{
    json_t *o = json_pack("{s:I, s:o, s:I}", "step", (json_int_t)l->result.steps, "valid_loss",
                          json_number(loss), "valid_tokens", (json_int_t)tokens);
    const enum graft_status st =
        o ? output_metric(&l->out, o, err) : graft_fail_nomem(err, "metrics.jsonl", 512);

    json_decref(o);
    return st;
}

/* `why` names the record. */
static enum graft_status eval_not_finite(struct loop *l, const struct graft_err *why,
                                         struct graft_err *err)
{
    char what[sizeof why->msg];

    log_eval(l, NAN, l->r->data.valid.stats.targets, NULL);
    snprintf(what, sizeof what, "validation after step %lld: %.400s", (long long)l->result.steps,
             why->msg);
    return not_finite(l, what, err);
}

static enum graft_status evaluate(struct loop *l, struct graft_err *err)
{
    struct run *r = l->r;
    struct eval_result v;
    struct graft_err why;
    double loss;
    bool best;
    enum graft_status st;

    st = eval_records(&r->net, r->evaluator, &r->data.valid, NULL, NULL, &v, &why);
    if (st == GRAFT_ESTOPPED) { /* the adapter is worth more than its loss: on to saving it */
        graft_note("stopped in the evaluation after step %lld, which has no validation loss",
                   (long long)l->result.steps);
        return GRAFT_OK;
    }
    if (st == GRAFT_ERUN)
        return eval_not_finite(l, &why, err);
    if (st)
        return graft_fail(err, st, "%s", why.msg);
    loss = v.nll / (double)v.tokens;
    best = l->result.best_step == 0 || loss < l->result.best_loss;
    l->result.valid_loss = loss;
    if (best && r->config->train.keep_best)
        GRAFT_TRY(save_in(l, "best", err)); /* where it fails, the former one is there */
    if (best) {
        l->result.best_step = l->result.steps;
        l->result.best_loss = loss;
    }
    st = log_eval(l, loss, v.tokens, err);
    if (!st && r->hooks && r->hooks->eval)
        r->hooks->eval(r->hooks->user, l->result.steps, loss, v.tokens, best);
    return st;
}

static bool stop_wanted(const struct run *r)
{
    return r->hooks && r->hooks->stop && *r->hooks->stop;
}

static enum graft_status all_steps(struct loop *l, struct graft_err *err)
{
    struct run *r = l->r;
    const int64_t every = r->config->train.eval_every;
    int64_t evaluated = -1;

    for (int64_t i = 0; i < r->steps && !stop_wanted(r); i++) {
        bool go_on;

        GRAFT_TRY(phase_before_step(r, i, l->out.dir, &go_on, err));
        if (!go_on) {
            l->over = !stop_wanted(r);
            break;
        }
        GRAFT_TRY(one_step(l, i, err));
        if (r->data.has_valid && every && (i + 1) % every == 0) {
            GRAFT_TRY(evaluate(l, err));
            evaluated = i + 1;
        }
    }
    if (r->data.has_valid && evaluated != l->result.steps && !stop_wanted(r))
        return evaluate(l, err);
    return GRAFT_OK;
}

static void config_hash(const struct run_config *c, char hex[65])
{
    struct strbuf text = STRBUF_INIT;

    memset(hex, 0, 65);
    if (!config_to_yaml(c, &text, NULL))
        sha256_hex(strbuf_str(&text), text.len, hex);
    strbuf_release(&text);
}

/* The config as it was given, with the date that the run told its template: the same on another
 * day. */
static struct run_config as_run(const struct loop *l)
{
    struct run_config c = *l->config;

    c.data.template_date = l->r->config->data.template_date;
    return c;
}

static enum graft_status write_result(struct loop *l, struct graft_err *err)
{
    const struct run_result *s = &l->result;
    const struct run_config c = as_run(l);
    json_t *best = s->best_step ? json_pack("{s:I, s:o}", "step", (json_int_t)s->best_step,
                                            "valid_loss", json_number(s->best_loss))
                                : json_null();
    char hash[65];
    json_t *o;
    enum graft_status st;

    config_hash(&c, hash);
    o = json_pack(
        "{s:s, s:I, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:s, s:I, s:s, s:s, s:s, s:s}",
        "status", s->status, "steps", (json_int_t)s->steps, "loss", json_number(s->loss),
        "valid_loss", json_number(s->valid_loss), "best", best, "trainable_parameters",
        (json_int_t)s->trainable, "adapter_bytes", (json_int_t)s->adapter_bytes, "planned_bytes",
        (json_int_t)s->planned, "peak_bytes", (json_int_t)s->peak, "seconds",
        json_number(s->seconds), "tokens_per_second", json_number(s->tokens_per_second), "method",
        c.adapter.method, "seed", (json_int_t)c.train.seed, "version", graft_version(),
        "config_sha256", hash, "data_sha256", l->r->data.sha256, "base_hash", l->r->base.ck.hash);
    if (!o)
        return graft_fail_nomem(err, "result.json", 1024);
    st = output_json(&l->out, "result.json", o, err);
    json_decref(o);
    return st;
}

static size_t adapter_bytes(const struct run *r, const char *dir)
{
    struct strbuf path = STRBUF_INIT;
    struct mapped_file m = { NULL, 0 };
    size_t size;

    if (adapter_is_whole(&r->config->adapter))
        return (size_t)r->adapter->param_elems * (r->config->adapter.save_bf16 ? 2 : 4);
    path_join(&path, dir, "adapter_model.safetensors");
    file_map(strbuf_str(&path), &m, NULL);
    size = m.size;
    file_unmap(&m);
    strbuf_release(&path);
    return size;
}

/* A file could not be written while the steps were going well, a disk being full say: what they
 * have made is saved after all where it can be, and the message says what is where. `st` stays. */
static enum graft_status rescue(struct loop *l, enum graft_status st, struct graft_err *err)
{
    const struct run_result *s = &l->result;
    struct graft_err first = *err, second;
    char best[64] = "";

    if (s->best_step && l->r->config->train.keep_best)
        snprintf(best, sizeof best, "; the best one, of step %lld, is in best",
                 (long long)s->best_step);
    if (s->steps == 0)
        return st;
    if (save_in(l, "last_good", &second))
        return graft_fail(err, st, "%s; the adapter of step %lld is lost (%s)%s", first.msg,
                          (long long)s->steps, second.msg, best);
    return graft_fail(err, st,
                      "%s; the adapter of step %lld is in %s/last_good, go on from it with "
                      "adapter.init_from and another output%s",
                      first.msg, (long long)s->steps, l->out.dir, best);
}

/* The end of a run, good or bad. `st` is what the steps ended with and stays the outcome. */
static enum graft_status finish(struct loop *l, double start, enum graft_status st,
                                struct graft_err *err)
{
    struct run_result *s = &l->result;
    const bool stopped = !st && s->steps < l->r->steps && !l->over;
    const bool whole = adapter_is_whole(&l->r->config->adapter);
    enum graft_status saved = GRAFT_OK;

    s->status = st ? "failed" : stopped ? "interrupted" : "finished";
    if (!st)
        saved = run_save(l->r, l->out.dir, err);
    if (st == GRAFT_EWRITE || saved == GRAFT_EWRITE)
        rescue(l, GRAFT_EWRITE, err);
    if (saved) {
        st = saved;
        s->status = "failed";
    }
    s->adapter_bytes = !st ? adapter_bytes(l->r, l->out.dir) : 0;
    s->trainable = l->r->adapter->param_elems;
    s->changed_base = l->r->adapter->changes_base;
    s->planned = l->r->memory.total;
    s->peak = peak_memory();
    s->seconds = now() - start;
    s->tokens_per_second = l->train_seconds > 0 ? (double)l->train_tokens / l->train_seconds : 0;
    if (st) {
        write_result(l, NULL);
        return st;
    }
    saved = write_result(l, err);
    if (!saved && stopped)
        return graft_fail(
            err, GRAFT_ESTOPPED,
            "stopped after step %lld of %lld; the %s is in %s, go on from it with %s and another "
            "output",
            (long long)s->steps, (long long)l->r->steps, whole ? "checkpoint" : "adapter",
            l->out.dir, whole ? "base" : "adapter.init_from");
    return saved;
}

/* The records that data.valid held out, so that they can be looked at and measured again. */
static enum graft_status write_held(struct loop *l, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    if (!l->r->data.held)
        return GRAFT_OK;
    path_join(&path, l->out.dir, HELD_FILE);
    st = dataset_write_lines(&l->r->data.all, l->r->data.held, strbuf_str(&path), err);
    strbuf_release(&path);
    return st;
}

/* Once, before the first step: what the adapter took stands in no other file. */
static enum graft_status write_changed_base(const struct loop *l, struct graft_err *err)
{
    const struct run *r = l->r;

    return r->adapter->changes_base ? changed_base_write(&r->base, &r->change, r->base_path, err)
                                    : GRAFT_OK;
}

static enum graft_status write_config(struct loop *l, struct graft_err *err)
{
    const struct run_config c = as_run(l);
    struct strbuf text = STRBUF_INIT;
    enum graft_status st = config_to_yaml(&c, &text, err);

    if (!st)
        st = output_text(&l->out, "config.yaml", strbuf_str(&text), text.len, err);
    strbuf_release(&text);
    return st;
}

/* Of the adapter, and once more of the best one; or of a temporary file before them. */
static size_t file_bytes(const struct run *r)
{
    const struct run_config *c = r->config;
    const size_t value = c->adapter.save_bf16 ? 2 : 4;
    const size_t saved =
        (size_t)r->adapter->param_elems * value * (r->data.has_valid && c->train.keep_best ? 2 : 1);

    return saved > r->memory.disk ? saved : r->memory.disk;
}

/* The run of one stage, in a folder that is claimed. */
static enum graft_status run_stage(struct loop *l, const struct run_config *stage,
                                   const struct run_hooks *hooks, struct graft_err *err)
{
    const double start = now();
    struct run *r = l->r;
    enum graft_status st = run_setup(stage, hooks, false, r, err);

    if (st) {
        l->result.status = NULL;
        output_discard(&l->out);
        return st;
    }
    l->good = mem_array((size_t)r->adapter->param_elems, sizeof *l->good);
    st = l->good ? output_begin(&l->out, err)
                 : graft_fail_nomem(err, "adapter", (size_t)r->adapter->param_elems * 4);
    if (!st)
        output_note_room(&l->out, file_bytes(r));
    if (!st)
        st = write_config(l, err);
    if (r->evaluator && hooks)
        evaluator_stop_at(r->evaluator, hooks->stop);
    if (!st)
        st = write_held(l, err);
    if (!st)
        st = write_changed_base(l, err);
    if (!st)
        st = all_steps(l, err);
    st = finish(l, start, st, err);
    strbuf_release(&l->line);
    mem_free(l->good);
    run_release(r);
    output_close(&l->out);
    return st;
}

/* Neither the output nor the mask may be written over what the run reads. */
static enum graft_status check_read(const struct run_config *config, const char *what,
                                    const char *path, struct graft_err *err)
{
    const char *mask = config->adapter.mask_save_path;

    GRAFT_TRY(output_spares(OUTPUT_RUN, config->output, what, path, err));
    return mask && output_spares(OUTPUT_FILE, mask, what, path, err)
               ? graft_fail_in(err, GRAFT_EARG, "adapter.mask_save_path")
               : GRAFT_OK;
}

static enum graft_status check_output(const struct run_config *config, struct graft_err *err)
{
    const struct data_config *d = &config->data;
    const bool own_template = d->template_name && *d->template_name == '/';

    if (!config->output)
        return graft_fail(err, GRAFT_EARG,
                          "no output folder: give 'output' in the config or -o DIR");
    GRAFT_TRY(check_read(config, "the base", config->base, err));
    GRAFT_TRY(check_read(config, "adapter.init_from", config->adapter.init_from, err));
    GRAFT_TRY(check_read(config, "adapter.mask_load_path", config->adapter.mask_load_path, err));
    for (int i = 0; i < d->train_count; i++)
        GRAFT_TRY(check_read(config, "data.train", d->train[i], err));
    GRAFT_TRY(check_read(config, "data.valid", d->valid, err));
    return check_read(config, "data.template", own_template ? d->template_name : NULL, err);
}

static bool has_stages(const struct run_config *c)
{
    return !strcmp(c->adapter.method, "lpft");
}

/* Of a run that was stopped in its first stage, whose folder has that stage's config alone. */
static enum graft_status write_whole_config(const struct run_config *config, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT, path = STRBUF_INIT;
    struct graft_err why;
    enum graft_status st = config_to_yaml(config, &text, &why);

    path_join(&path, config->output, "config.yaml");
    if (!st)
        st = file_write(strbuf_str(&path), strbuf_str(&text), text.len, &why);
    strbuf_release(&path);
    strbuf_release(&text);
    return st ? graft_fail(err, st, "%s", why.msg) : GRAFT_OK;
}

enum graft_status train_run(const struct run_config *config, bool force,
                            const struct run_hooks *hooks, struct run_result *out,
                            struct graft_err *err)
{
    struct run r;
    struct loop l = { .r = &r,
                      .config = config,
                      .result = { .status = "failed", .loss = NAN, .valid_loss = NAN } };
    struct run_config stage = *config;
    struct arena mem = ARENA_INIT;
    enum graft_status st = GRAFT_OK;

    GRAFT_TRY(check_output(config, err));
    GRAFT_TRY(phase_check(config, force, err));
    /* the output is claimed first: a minute of loading must not end in a refusal */
    GRAFT_TRY(output_open(config->output, force, adapter_is_whole(&config->adapter), &l.out, err));
    if (has_stages(config)) {
        l.out.keep = lpft_folder;
        st = lpft_probe(config, force, hooks, &stage, &mem, out, err);
        out->first_stage = true;
        if (st)
            output_discard(&l.out);
    }
    if (!st) {
        st = run_stage(&l, &stage, hooks, err);
        if (st == GRAFT_ESTOPPED && has_stages(config) && !l.result.status)
            graft_fail(err, st, "stopped behind the first stage; its adapter is in %s/%s",
                       config->output, lpft_folder);
        else
            *out = l.result;
    }
    if (st == GRAFT_ESTOPPED && has_stages(config) && out->first_stage && out->status) {
        const enum graft_status written = write_whole_config(config, err);

        out->status = "interrupted";
        st = written ? written : st;
    }
    arena_release(&mem);
    return st;
}

enum graft_status train_plan(const struct run_config *config, const struct run_hooks *hooks,
                             struct graft_err *err)
{
    const struct run_config second = lpft_second(config);
    struct run r;

    GRAFT_TRY(run_setup(has_stages(config) ? &second : config, hooks, true, &r, err));
    run_release(&r);
    return GRAFT_OK;
}
