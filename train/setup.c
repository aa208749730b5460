#include "train/setup.h"

#include <math.h>
#include <string.h>

#include "core/file.h"
#include "train/facts.h"
#include "train/merge.h"

/* The share of the memory that is free now which a plan may take when the config sets no budget. */
static const double AUTO_SHARE = 0.8;

static enum graft_status load_data(struct run *r, struct graft_err *err)
{
    const struct data_config *d = &r->config->data;
    const struct model_config *m = &r->base.ck.config;
    struct dataset_opts opts = {
        .format = d->format,
        .file_format = d->train_format,
        .mask_prompt = d->mask_prompt,
        .max_length = d->max_length,
        .max_positions = m->max_positions,
        .vocab_rows = m->vocab,
        .tokenizer = r->base.text.tokenizer,
        .eos = r->base.text.eos,
        .chat = r->base.text.chat,
        .chat_problem = r->base.text.chat_problem,
        .train_on_last = d->train_on_last,
    };
    const struct loader_opts how = {
        .batch_size = r->config->train.batch_size,
        .packing = d->packing,
        .row_length = d->max_length,
        .shuffle = d->shuffle,
        .seed = (uint64_t)r->config->train.seed,
    };

    GRAFT_TRY(dataset_load((const char *const *)d->train, d->train_count, &opts, &r->train, err));
    opts.file_format = NULL;
    if (d->valid) {
        GRAFT_TRY(dataset_load(&d->valid, 1, &opts, &r->valid, err));
        r->has_valid = true;
    }
    if (r->train.stats.targets == 0)
        return graft_fail(err, GRAFT_EFORMAT, "%s: no record has a token to learn from",
                          d->train[0]);
    if (r->has_valid && r->valid.stats.targets == 0)
        return graft_fail(err, GRAFT_EFORMAT, "%s: no record has a token to measure", d->valid);
    return loader_new(&r->train, &how, &r->loader, err);
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

    GRAFT_TRY(facts_read(c->init_from, &f, err));
    facts_compare(c->init_from, &f, NULL, &r->base.ck);
    facts_release(&f);
    return adapter_load_values(r->adapter, c->init_from, err);
}

/* Training everything from another adapter: its change is part of the start. */
static enum graft_status open_change(struct run *r, const char *dir, struct adapter **out,
                                     struct graft_err *err)
{
    struct adapter_config c = { 0 };
    struct facts f = { 0 };
    struct adapter *a = NULL;
    enum graft_status st = adapter_config_read(dir, &c, &r->mem, err);

    if (!st)
        st = facts_read(dir, &f, err);
    if (!st) {
        facts_compare(dir, &f, NULL, &r->base.ck);
        facts_release(&f);
        st = adapter_new(&c, &r->base.model->slots, false, &a, err);
    }
    if (!st)
        st = adapter_load_values(a, dir, err);
    if (!st)
        st = adapter_check_merge(a, err);
    if (st) {
        adapter_free(a);
        return st == GRAFT_EARG ? graft_fail_in(err, st, "adapter.init_from") : st;
    }
    *out = a;
    return GRAFT_OK;
}

static enum graft_status make_whole(struct run *r, const struct adapter_config *config,
                                    struct graft_err *err)
{
    struct adapter_config c = *config;
    struct adapter *change = NULL;
    const struct store *files = r->base.ck.store;
    enum graft_status st = GRAFT_OK;

    if (!checkpoint_is_float(&r->base.ck))
        return graft_fail(err, GRAFT_EARG,
                          "adapter.method %s trains every weight and needs a base of floats; %s is "
                          "%s: use the checkpoint it was made from, or an adapter over this one",
                          c.method, r->config->base, checkpoint_format(&r->base.ck));
    if (c.init_from)
        st = open_change(r, c.init_from, &change, err);
    if (!st && change && !adapter_keeps_tie(change))
        c.untie_head = r->base.ck.config.tied;
    if (!st)
        st = adapter_new(&c, &r->base.model->slots, true, &r->adapter, err);
    if (!st)
        st = adapter_init(r->adapter, (uint64_t)r->config->train.seed, err);
    if (!st && change)
        adapter_start_from(r->adapter, change);
    adapter_free(change);
    /* nothing reads the base's own weights again */
    for (int64_t i = 0; !st && i < files->count; i++)
        file_forget(files->tensor[i].mat.data, files->tensor[i].bytes);
    return st;
}

static enum graft_status make_adapter(struct run *r, struct graft_err *err)
{
    struct adapter_config c = r->config->adapter;

    if (adapter_is_whole(&c))
        return make_whole(r, &c, err);
    c.base_model_name_or_path = name_of_base(r);
    GRAFT_TRY(adapter_new(&c, &r->base.model->slots, true, &r->adapter, err));
    if (c.init_from)
        return load_start(r, &c, err);
    return adapter_init(r->adapter, (uint64_t)r->config->train.seed, err);
}

static void count_steps(struct run *r)
{
    const struct train_config *t = &r->config->train;
    const int64_t passes = loader_passes(r->loader), g = t->gradient_accumulation;

    r->steps_per_epoch = (passes + g - 1) / g;
    r->steps = t->steps ? t->steps : (int64_t)ceil(t->epochs * (double)r->steps_per_epoch - 1e-9);
    r->schedule = (struct schedule){
        .def = schedule_by_name(schedule_names[r->config->optim.schedule]),
        .lr = r->config->optim.lr,
        .min_lr = r->config->optim.min_lr,
        .warmup = r->config->optim.warmup,
        .total = r->steps,
    };
    r->max_tokens = loader_max_tokens(r->loader);
    r->max_segments = loader_max_segments(r->loader);
    if (r->has_valid && r->valid.stats.longest > r->max_tokens)
        r->max_tokens = r->valid.stats.longest;
}

static struct optim_opts optim_of(const struct run_config *c)
{
    return (struct optim_opts){ optim_by_name(optim_names[c->optim.name]), c->optim.beta1,
                                c->optim.beta2, c->optim.eps, c->optim.weight_decay };
}

static enum graft_status list_params(struct run *r, struct graft_err *err)
{
    const int n = r->adapter->param_count;

    r->param = arena_array(&r->mem, (size_t)n, sizeof *r->param);
    if (!r->param)
        return graft_fail_nomem(err, "list of parameters", (size_t)n * sizeof *r->param);
    for (int i = 0; i < n; i++) {
        const struct tensor *p = r->adapter->param[i];
        int64_t count = 1;

        for (int k = 0; k < p->ndim; k++)
            count *= p->dim[k];
        r->param[i] = (struct optim_param){ p->data, p->grad, count, r->adapter->lr_ratio[i] };
    }
    return GRAFT_OK;
}

/* What is allocated by now and stands in no other line of the plan. */
static size_t program_memory(const struct run *r)
{
    const size_t counted = r->base.model->mem.used + r->adapter->mem.used + r->memory.data;
    const size_t held = anonymous_memory();

    return held > counted ? held - counted : 0;
}

/* Everything but the slab is known before the planner runs; what is left of the budget is its. */
static enum graft_status make_net(struct run *r, bool dry, struct graft_err *err)
{
    struct memory_plan *m = &r->memory;
    const struct optim_opts o = optim_of(r->config);
    const size_t given = (size_t)r->config->train.memory;
    struct net_opts opts = { .max_tokens = r->max_tokens,
                             .max_segments = r->max_segments,
                             .act = r->config->compute == COMPUTE_BF16 ? DT_BF16 : DT_F32,
                             .backward = true,
                             .mode = NET_LOSS,
                             .dry = dry };
    size_t fixed, budget;

    m->weights = adapter_is_whole(&r->config->adapter) ? r->base.model->mem.used
                                                       : r->base.model->weight_bytes;
    m->adapter = (size_t)r->adapter->param_elems * 12; /* values, the last good ones, gradients */
    m->optimizer = optim_state_bytes(&o, r->param, r->adapter->param_count);
    m->data = (size_t)(r->train.id_count + r->valid.id_count) * 8;
    m->program = program_memory(r);
    fixed = m->weights + m->adapter + m->optimizer + m->data + m->program;
    budget = given ? given : (size_t)(AUTO_SHARE * (double)available_memory()) + m->weights;
    if (budget <= fixed)
        return graft_fail(err, GRAFT_EARG,
                          "train.memory: %.0f MiB are not enough: weights, adapter, optimiser and "
                          "data take %.0f MiB",
                          (double)budget / 1048576, (double)fixed / 1048576);
    opts.budget = budget - fixed;
    GRAFT_TRY(net_make(r->base.model, r->adapter, &opts, &r->net, err));
    m->activations = r->net.plan.slab;
    m->scratch = r->net.plan.scratch;
    m->blocks = r->net.plan.blocks;
    m->recomputed = r->net.plan.recomputed;
    m->total = fixed + m->activations + m->scratch;
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
        .train = &r->train.stats,
        .valid = r->has_valid ? &r->valid.stats : NULL,
        .rows = loader_rows(r->loader),
        .fill = loader_fill(r->loader),
        .steps_per_epoch = r->steps_per_epoch,
        .steps = r->steps,
        .max_tokens = r->max_tokens,
        .memory = r->memory,
    };

    if (r->hooks && r->hooks->start)
        r->hooks->start(r->hooks->user, &info);
}

enum graft_status run_setup(const struct run_config *config, const struct run_hooks *hooks,
                            bool dry, struct run *out, struct graft_err *err)
{
    const struct optim_opts o = optim_of(config);
    enum graft_status st;

    memset(out, 0, sizeof *out);
    out->own = *config;
    out->config = &out->own;
    out->hooks = hooks;
    st = base_open(config->base, &config->quant, !adapter_is_whole(&config->adapter), &out->base,
                   err);
    if (!st)
        st = choose_template(out, err);
    if (!st)
        st = load_data(out, err);
    if (!st)
        st = make_adapter(out, err);
    if (!st)
        st = list_params(out, err);
    if (!st) {
        count_steps(out);
        st = make_net(out, dry, err);
    }
    if (!st && !dry)
        st = optim_new(&o, out->param, out->adapter->param_count, &out->optim, err);
    if (!st && !dry && out->has_valid)
        st = evaluator_new(&out->net, &out->evaluator, err);
    if (st)
        run_release(out);
    else
        announce(out);
    return st;
}

enum graft_status run_save(struct run *r, const char *dir, struct graft_err *err)
{
    const struct run_config *c = r->config;
    const bool whole = adapter_is_whole(&c->adapter);
    struct facts f = { .base_path = c->base,
                       .compute = c->compute == COMPUTE_AUTO ? COMPUTE_F32 : c->compute,
                       .max_length = c->data.max_length };
    json_t *quant = base_quant_json(&r->base);
    enum graft_status st = dir_make(dir, err);

    memcpy(f.base_hash, r->base.ck.hash, sizeof f.base_hash);
    /* a folder with graft.json and no adapter is taken for a checkpoint of ours (train/output.c) */
    if (!st && !whole)
        st = adapter_save(r->adapter, dir, err);
    if (!st)
        st = facts_write(dir, &f, quant, err);
    if (!st)
        st = whole ? merge_write(&r->base, c->base, r->adapter,
                                 c->adapter.save_bf16 ? QT_BF16 : QT_F32, dir, err)
                   : text_copy(c->base, &r->base.text, dir, err);
    json_decref(quant);
    return st;
}

void run_release(struct run *r)
{
    evaluator_free(r->evaluator);
    optim_free(r->optim);
    net_release(&r->net);
    adapter_free(r->adapter);
    loader_free(r->loader);
    dataset_release(&r->train);
    dataset_release(&r->valid);
    base_release(&r->base);
    arena_release(&r->mem);
}
