#include "train/setup.h"

#include <math.h>
#include <string.h>

#include "train/facts.h"
#include "train/virtual.h"

/* The share of the memory that is free now which a plan may take when the config sets no budget. */
static const double AUTO_SHARE = 0.8;
enum { EPOCHS_SUMMED = 1000 };
/* Steps and saving bring in this part more of the program's code than loading did (measured: 3 %).
 */
enum { LATE_CODE = 32 };

/* A trained value, its gradient, and its copy of the last good step. */
enum { ADAPTER_BYTES = 12, MIB = 1 << 20 };

static enum graft_status load_data(struct run *r, struct graft_err *err)
{
    return run_data_open(r->config, &r->base.text, &r->base.ck.config, &r->data, err);
}

/* The chat template that the config names, and the date it is told: kept, so that the run means the
 * same on another day. */
static enum graft_status choose_template(struct run *r, struct graft_err *err)
{
    struct text *t = &r->base.text;

    GRAFT_TRY(text_use_template(t, r->config->data.template_name, err));
    GRAFT_TRY(text_set_date(t, r->config->data.template_date, err));
    if (t->chat && chat_date(t->chat))
        r->own.data.template_date = chat_date(t->chat);
    return GRAFT_OK;
}

/* A text that is put together grows by moving, so that it is there twice for a moment. */
static enum graft_status see_words(void *user, const char *name, const char *text, size_t len,
                                   struct graft_err *err)
{
    size_t *most = user;
    const size_t now = resident_memory() + len;

    (void)name, (void)text, (void)err;
    *most = now > *most ? now : *most;
    return GRAFT_OK;
}

/* What the process holds before it makes anything that grows with adapter or batch, and how much
 * all of it may become. The tokenizer's files are made once as they will be for each saving: what
 * that takes comes on top of a run, and what is wrong with them ends it before it begins.
 * `peak_before`: of the process, before the run. */
static enum graft_status count_held(struct run *r, size_t peak_before, struct graft_err *err)
{
    struct memory_plan *m = &r->memory;
    const size_t given = (size_t)r->config->train.memory;
    size_t counted, held, before, saving = 0, code;

    mem_trim(); /* what loading took and freed is there for the run */
    before = resident_memory();
    GRAFT_TRY(text_files(r->config->base, &r->base.text, see_words, &saving, err));
    mem_trim();
    held = anonymous_memory();
    saving = saving > before ? saving - before : 0;
    m->loading = peak_memory() > peak_before ? peak_memory() : 0;
    m->weights = adapter_is_whole(&r->config->adapter) ? r->base.model->mem.used
                                                       : r->base.model->weight_bytes;
    m->data = run_data_bytes(&r->data);
    counted = r->base.model->mem.used + m->data;
    code = code_memory();
    code += code / LATE_CODE;
    m->program = code + saving + (held > counted ? held - counted : 0);
    m->budget = given ? given
                      : m->weights + m->data + m->program +
                            (size_t)(AUTO_SHARE * (double)available_memory());
    return GRAFT_OK;
}

/* What adapter_config.json calls the base. */
static const char *name_of_base(const struct run *r)
{
    const char *own = r->base.ck.config.name;

    if (r->config->base_name)
        return r->config->base_name;
    if (own && *own)
        return own;
    graft_note("the base carries no name, so adapter_config.json gets its path; base_name in the "
               "config sets another");
    return r->config->base;
}

static enum graft_status load_start(struct run *r, const struct adapter_config *c,
                                    struct graft_err *err)
{
    struct facts f = { 0 };

    enum graft_status st;

    GRAFT_TRY(facts_read(c->init_from, &f, err));
    st = facts_check(c->init_from, &f, &r->base.ck, err);
    if (!st && !f.change.by)
        facts_compare(c->init_from, &f, NULL, &r->base.ck);
    facts_release(&f);
    GRAFT_TRY(st);
    return adapter_load_values(r->adapter, c->init_from, err);
}

static struct optim_opts optim_of(const struct run_config *c)
{
    return (struct optim_opts){ optim_by_name(optim_names[c->optim.name]), c->optim.beta1,
                                c->optim.beta2, c->optim.eps, c->optim.weight_decay };
}

/* What a config asks of a base that lacks it is wrong usage; an adapter made for another base is a
 * bad file, as it is for every verb. */
static enum graft_status of_adapter(enum graft_status st, const struct adapter_config *c,
                                    struct graft_err *err)
{
    if (!st || !c->init_from)
        return st;
    return graft_fail_in(err, st == GRAFT_EARG ? GRAFT_EFORMAT : st,
                         "adapter.init_from %s/adapter_config.json", c->init_from);
}

/* A rank by mistake is refused before it takes the machine's memory. */
static enum graft_status check_memory(const struct run *r, const struct adapter_config *c,
                                      struct graft_err *err)
{
    const struct memory_plan *m = &r->memory;
    const struct optim_opts o = optim_of(r->config);
    struct optim_param all = { 0 };
    size_t held = m->weights + m->data + m->program, adapter;

    if (r->config->train.memory && m->loading > m->budget)
        return graft_fail(err, GRAFT_EARG,
                          "train.memory: %.1f MiB are not enough: loading base and data took %.1f "
                          "MiB for a while",
                          (double)m->budget / MIB, (double)m->loading / MIB);
    GRAFT_TRY(of_adapter(adapter_count(c, &r->base.model->slots, &all.count, err), c, err));
    adapter = (size_t)all.count * ADAPTER_BYTES + optim_state_bytes(&o, &all, 1);
    if (held + adapter < m->budget)
        return GRAFT_OK;
    return graft_fail(
        err, GRAFT_EARG,
        "train.memory%s: %.1f MiB are not enough: weights, data and program take %.1f "
        "MiB, an adapter of %lld parameters with its optimiser %.1f MiB",
        r->config->train.memory ? "" : " auto, most of what is free now", (double)m->budget / MIB,
        (double)held / MIB, (long long)all.count, (double)adapter / MIB);
}

/* The base as the adapter's start left it: it is to be written beside the run. */
static enum graft_status note_change(struct run *r, struct graft_err *err)
{
    const struct adapter_config *c = &r->config->adapter;
    struct strbuf path = STRBUF_INIT;

    changed_base_rehash(&r->base);
    path_join(&path, r->config->output, CHANGED_BASE_FILE);
    r->base_path = arena_strdup(&r->mem, strbuf_str(&path));
    r->change = (struct base_change){ lora_init_name(c->init), r->config->base };
    strbuf_release(&path);
    if (!r->base_path)
        return graft_fail_nomem(err, CHANGED_BASE_FILE, 256);
    r->adapter->config.base_model_name_or_path = r->base_path;
    return GRAFT_OK;
}

/* Start values, which may be those of a text's tokens. */
static enum graft_status start_values(struct run *r, struct graft_err *err)
{
    struct adapter *a = r->adapter;
    struct id_list text = { NULL, 0, 0 };
    enum graft_status st = virtual_text(&a->config, &r->base.text, &text, err);

    a->text_id = text.id;
    a->text_count = text.count;
    if (!st)
        st = adapter_init(a, (uint64_t)r->config->train.seed, err);
    a->text_id = NULL;
    a->text_count = 0;
    id_list_release(&text);
    return st;
}

/* Decompositions take and free a lot; what the library keeps of it is the program's from then on.
 */
static enum graft_status start_adapter(struct run *r, struct graft_err *err)
{
    const size_t before = anonymous_memory();
    size_t kept;

    GRAFT_TRY(start_values(r, err));
    mem_trim();
    kept = anonymous_memory();
    r->memory.program += kept > before ? kept - before : 0;
    return r->adapter->changes_base ? note_change(r, err) : GRAFT_OK;
}

/* Start values are drawn for a run only: a plan needs their number. */
static enum graft_status make_adapter(struct run *r, bool dry, struct graft_err *err)
{
    struct adapter_config c = r->config->adapter;

    if (adapter_is_whole(&c)) {
        GRAFT_TRY(run_check_whole(r, err));
        GRAFT_TRY(check_memory(r, &c, err));
        return run_make_whole(r, dry, err);
    }
    c.base_model_name_or_path = name_of_base(r);
    if (c.prompt.init == PROMPT_TEXT && !c.prompt.tokenizer) /* PEFT wants one named */
        c.prompt.tokenizer = c.base_model_name_or_path;
    GRAFT_TRY(check_memory(r, &c, err));
    GRAFT_TRY(of_adapter(adapter_new(&c, &r->base.model->slots, true, &r->adapter, err), &c, err));
    if (c.init_from)
        return load_start(r, &c, err);
    if (dry)
        return GRAFT_OK;
    return start_adapter(r, err);
}

/* ---- steps ---- */

static enum graft_status steps_of_epoch(const struct run *r, int64_t epoch, int64_t *out,
                                        struct graft_err *err)
{
    const int64_t g = r->config->train.gradient_accumulation;

    GRAFT_TRY(loader_passes(r->data.loader, epoch, out, err));
    *out = (*out + g - 1) / g;
    return GRAFT_OK;
}

/* All steps of `epochs` epochs that differ in length; of very many, what the first lets expect. */
static enum graft_status sum_steps(struct run *r, double epochs, struct graft_err *err)
{
    if (epochs > EPOCHS_SUMMED)
        return GRAFT_OK;
    r->steps = 0;
    for (int64_t e = 0; (double)e < epochs; e++) {
        const double part = epochs - (double)e < 1 ? epochs - (double)e : 1;
        int64_t steps = 0;

        GRAFT_TRY(steps_of_epoch(r, e, &steps, err));
        r->steps += (int64_t)ceil(part * (double)steps - 1e-9);
    }
    return steps_of_epoch(r, 0, &r->steps_per_epoch, err);
}

static enum graft_status count_steps(struct run *r, struct graft_err *err)
{
    const struct train_config *t = &r->config->train;

    GRAFT_TRY(steps_of_epoch(r, 0, &r->steps_per_epoch, err));
    r->epoch_steps = r->steps_per_epoch;
    r->steps = t->steps ? t->steps : (int64_t)ceil(t->epochs * (double)r->steps_per_epoch - 1e-9);
    if (!t->steps && loader_passes_vary(r->data.loader))
        GRAFT_TRY(sum_steps(r, t->epochs, err));
    r->schedule = (struct schedule){
        .def = schedule_by_name(schedule_names[r->config->optim.schedule]),
        .lr = r->config->optim.lr,
        .min_lr = r->config->optim.min_lr,
        .warmup = r->config->optim.warmup,
        .total = r->steps,
    };
    r->max_tokens = loader_max_tokens(r->data.loader);
    r->max_segments = loader_max_segments(r->data.loader);
    if (r->data.has_valid &&
        r->data.valid.stats.longest + r->adapter->virtual_tokens > r->max_tokens)
        r->max_tokens = r->data.valid.stats.longest + r->adapter->virtual_tokens;
    return GRAFT_OK;
}

enum graft_status run_step(struct run *r, int64_t i, struct run_place *out, struct graft_err *err)
{
    const int64_t g = r->config->train.gradient_accumulation;
    int64_t passes = 0;

    if (!loader_passes_vary(r->data.loader)) {
        r->epoch = i / r->epoch_steps;
        r->epoch_first = r->epoch * r->epoch_steps;
    }
    if (i < r->epoch_first) { /* lengths are known from the first epoch on only */
        r->epoch = r->epoch_first = 0;
        GRAFT_TRY(steps_of_epoch(r, 0, &r->epoch_steps, err));
    }
    while (i >= r->epoch_first + r->epoch_steps) {
        r->epoch_first += r->epoch_steps;
        GRAFT_TRY(steps_of_epoch(r, ++r->epoch, &r->epoch_steps, err));
    }
    GRAFT_TRY(loader_passes(r->data.loader, r->epoch, &passes, err));
    *out = (struct run_place){ .epoch = r->epoch,
                               .first = (i - r->epoch_first) * g,
                               .progress = (double)r->epoch + (double)(i + 1 - r->epoch_first) /
                                                                  (double)r->epoch_steps };
    out->end = out->first + g < passes ? out->first + g : passes;
    return GRAFT_OK;
}

static enum graft_status list_params(struct run *r, struct graft_err *err)
{
    const int n = r->adapter->param_count;

    r->param = arena_array(&r->mem, (size_t)n, sizeof *r->param);
    r->idle = arena_array(&r->mem, (size_t)n, sizeof *r->idle);
    if (!r->param || !r->idle)
        return graft_fail_nomem(err, "list of parameters", (size_t)n * sizeof *r->param);
    for (int i = 0; i < n; i++) {
        const struct tensor *p = r->adapter->param[i];
        int64_t count = 1;

        for (int k = 0; k < p->ndim; k++)
            count *= p->dim[k];
        r->param[i] = (struct optim_param){ p->data, p->grad, count, r->adapter->lr_ratio[i] };
        r->idle[i] = r->adapter->idle[i];
    }
    return GRAFT_OK;
}

/* Everything but the slab is known before the planner runs; what is left of the budget is its. */
static enum graft_status make_net(struct run *r, bool dry, struct graft_err *err)
{
    struct memory_plan *m = &r->memory;
    const struct optim_opts o = optim_of(r->config);
    struct net_opts opts = { .max_tokens = r->max_tokens,
                             .max_segments = r->max_segments,
                             .act = r->config->compute == COMPUTE_BF16 ? DT_BF16 : DT_F32,
                             .backward = true,
                             .mode = NET_LOSS,
                             .dry = dry };
    size_t fixed;
    enum graft_status st;

    m->adapter = (size_t)r->adapter->param_elems * ADAPTER_BYTES + adapter_fixed_bytes(r->adapter);
    m->optimizer = optim_state_bytes(&o, r->param, r->adapter->param_count);
    fixed = m->weights + m->data + m->program + m->adapter + m->optimizer;
    if (fixed >= m->budget)
        return graft_fail(err, GRAFT_EARG,
                          "train.memory: %.1f MiB are not enough: weights, data, program, adapter "
                          "and optimiser take %.1f MiB",
                          (double)m->budget / MIB, (double)fixed / MIB);
    opts.budget = m->budget - fixed;
    st = net_make(r->base.model, r->adapter, &opts, &r->net, err);
    if (st == GRAFT_EARG)
        return graft_fail_in(err, st, "train.memory%s: %.1f MiB are not enough",
                             r->config->train.memory ? "" : " auto, most of what is free now",
                             (double)m->budget / MIB);
    GRAFT_TRY(st);
    m->activations = r->net.plan.slab;
    m->scratch = r->net.plan.scratch + r->net.plan.tables;
    m->blocks = r->net.plan.blocks;
    m->recomputed = r->net.plan.recomputed;
    m->total = fixed + m->activations + m->scratch;
    if (m->total < m->loading)
        m->total = m->loading;
    m->disk = r->adapter->ops->phases ? r->adapter->ops->phases->disk(r->adapter) : 0;
    return GRAFT_OK;
}

static void announce(const struct run *r)
{
    const struct run_info info = {
        .config = r->config,
        .architecture = r->base.ck.config.model_type,
        .base_format = checkpoint_format(&r->base.ck),
        .format = qtypes[r->base.model->layer[0].linear[LIN_Q].w.type].name,
        .base_params = r->base.model->params,
        .trainable = r->adapter->param_elems,
        .sites = r->adapter->site_count,
        .train = &r->data.train,
        .valid = r->data.has_valid ? &r->data.valid.stats : NULL,
        .loader = r->data.loader,
        .steps_per_epoch = r->steps_per_epoch,
        .steps = r->steps,
        .max_tokens = r->max_tokens,
        .memory = r->memory,
    };

    if (r->hooks && r->hooks->start)
        r->hooks->start(r->hooks->user, &info);
}

/* Between its stages: what is set up for a run that nobody wants any more is for nothing. */
static enum graft_status ask_stop(const struct run *r, struct graft_err *err)
{
    if (!r->hooks || !r->hooks->stop || !*r->hooks->stop)
        return GRAFT_OK;
    return graft_fail(err, GRAFT_ESTOPPED, "stopped before the first step; nothing was written");
}

enum graft_status run_setup(const struct run_config *config, const struct run_hooks *hooks,
                            bool dry, struct run *out, struct graft_err *err)
{
    const struct optim_opts o = optim_of(config);
    const size_t peak = peak_memory();
    enum graft_status st;

    memset(out, 0, sizeof *out);
    out->own = *config;
    out->config = &out->own;
    out->hooks = hooks;
    st = base_open(config->base, &config->quant, !adapter_is_whole(&config->adapter), &out->base,
                   err);
    out->base_path = out->config->base;
    if (!st)
        st = changed_base_read(&out->base.ck, &out->mem, &out->change, err);
    if (!st)
        st = ask_stop(out, err);
    if (!st)
        st = choose_template(out, err);
    if (!st)
        st = load_data(out, err);
    if (!st)
        st = ask_stop(out, err);
    if (!st)
        st = count_held(out, peak, err);
    if (!st)
        st = make_adapter(out, dry, err);
    if (!st)
        st = ask_stop(out, err);
    if (!st)
        st = list_params(out, err);
    if (!st)
        st = count_steps(out, err);
    if (!st && out->adapter->ops->phases)
        st = out->adapter->ops->phases->start(out->adapter, out->steps, err);
    if (!st)
        st = make_net(out, dry, err);
    if (!st && !dry)
        st = optim_new(&o, out->param, out->adapter->param_count, &out->optim, err);
    if (!st && !dry && out->data.has_valid)
        st = evaluator_new(&out->net, &out->evaluator, err);
    if (st)
        run_release(out);
    else
        announce(out);
    return st;
}

void run_release(struct run *r)
{
    evaluator_free(r->evaluator);
    optim_free(r->optim);
    net_release(&r->net);
    adapter_free(r->adapter);
    run_data_release(&r->data);
    base_release(&r->base);
    arena_release(&r->mem);
}
