#include "train/combine.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "peft/change.h"
#include "peft/file_slots.h"
#include "peft/methods.h"
#include "train/output.h"
#include "train/tasks.h"

/* One input. */
struct source {
    const char *dir;
    double weight;
    struct slot_list slots; /* its own, or the base's */
    const struct task *task;
    struct adapter *adapter; /* owned here where `slots` is its own */
};

struct combining {
    const struct combine_run_opts *opts;
    struct base base; /* opened when one is given */
    struct task_list tasks;
    struct source *source;
    struct slot *slot; /* every weight that some input changes */
    int slots;
    struct combine_input *input; /* of one slot, by source */
    int64_t *rank;               /* by slot */
    struct slot_list result_slots;
    struct adapter *result;
    struct combine_loss loss;
    struct arena mem;
};

static enum graft_status read_sources(struct combining *c, struct graft_err *err)
{
    const int n = c->opts->adapters;

    c->source = arena_array(&c->mem, (size_t)n, sizeof *c->source);
    c->input = arena_array(&c->mem, (size_t)n, sizeof *c->input);
    if (!c->source || !c->input)
        return graft_fail_nomem(err, "adapters", (size_t)n * sizeof *c->source);
    GRAFT_TRY(output_spares(OUTPUT_RUN, c->opts->output, "the base", c->opts->base, err));
    for (int i = 0; i < n; i++) {
        char name[16]; /* the same adapter may come twice */
        int index;

        c->source[i].dir = c->opts->adapter[i];
        c->source[i].weight = c->opts->weight ? c->opts->weight[i] : 1;
        if (!isfinite(c->source[i].weight))
            return graft_fail(err, GRAFT_EARG, "%s: its weight is %g", c->source[i].dir,
                              c->source[i].weight);
        GRAFT_TRY(output_spares(OUTPUT_RUN, c->opts->output, "one of the adapters",
                                c->source[i].dir, err));
        snprintf(name, sizeof name, "%d", i);
        GRAFT_TRY(tasks_add(&c->tasks, name, c->source[i].dir, &index, err));
    }
    for (int i = 0; i < n; i++) /* the list does not move any more */
        c->source[i].task = &c->tasks.task[i];
    return GRAFT_OK;
}

static enum graft_status open_base(struct combining *c, struct graft_err *err)
{
    const struct quant_config given = { .mode = QUANT_AUTO };
    struct quant_config quant;

    GRAFT_TRY(tasks_quant(&c->tasks, &given, &quant, err));
    GRAFT_TRY(base_open(c->opts->base, &quant, false, &c->base, err));
    GRAFT_TRY(tasks_load(&c->tasks, c->base.model, err));
    for (int i = 0; i < c->opts->adapters; i++) {
        c->source[i].slots = c->base.model->slots;
        c->source[i].adapter = c->tasks.task[i].adapter;
    }
    return GRAFT_OK;
}

static enum graft_status load_alone(struct combining *c, struct source *s, struct graft_err *err)
{
    struct adapter_config config = s->task->config;
    struct adapter *a = NULL;

    GRAFT_TRY(file_slots(s->dir, &config, &c->mem, &s->slots, err));
    if (!s->slots.count)
        return graft_fail(
            err, GRAFT_EARG,
            "%s: the files of %s adapters do not tell the shapes of what they change: "
            "give the base with --base B",
            s->dir, config.method);
    GRAFT_TRY(adapter_new(&config, &s->slots, false, &a, err));
    c->tasks.task[s - c->source].adapter = s->adapter = a;
    return adapter_load_values(a, s->dir, err);
}

/* Every site must be a change of a weight, and one that can be told from what is there. */
static enum graft_status check_sites(const struct combining *c, const struct source *s,
                                     struct graft_err *err)
{
    for (int i = 0; i < s->adapter->site_count; i++) {
        const struct adapter_site *site = &s->adapter->site[i];

        if (why_no_change(site->ops))
            return graft_fail(err, GRAFT_EARG, "%s: a %s adapter cannot be combined: %s", s->dir,
                              site->ops->name, why_no_change(site->ops));
        if (site->ops->merge_bias && site->ops->merges == MERGE_REPLACES && site->slot->has_bias)
            return graft_fail(err, GRAFT_EARG,
                              "%s: the result is a LoRA adapter, which has no place for the "
                              "trained bias of %s",
                              s->dir, site->slot->name);
        if (!(lora_ops.sites & site->slot->site))
            return graft_fail(err, GRAFT_EARG,
                              "%s: the result is a LoRA adapter, which has no place for a change "
                              "of %s",
                              s->dir, site->slot->name);
        if (!c->opts->base && !change_is_additive(s->adapter, site->slot))
            return graft_fail(err, GRAFT_EARG,
                              "%s: what %s adapters change depends on the base: give it with "
                              "--base B",
                              s->dir, site->ops->name);
    }
    return GRAFT_OK;
}

/* What stands beside an adapter in place of the base's own values; NULL: nothing. */
static const char *copies_of(const struct adapter_config *c)
{
    return c->modules_to_save_count ? "modules_to_save"
           : c->bias                ? "trained biases"
           : c->tokens_count        ? "trainable_token_indices"
                                    : NULL;
}

/* An adapter that took its start out of the base means nothing without that base: the combination
 * would go with no base that there is. */
static enum graft_status check_bases(const struct combining *c, struct graft_err *err)
{
    const struct source *bound = NULL;

    for (int i = 0; i < c->opts->adapters && !bound; i++)
        bound = c->source[i].task->facts.change.by ? &c->source[i] : NULL;
    for (int i = 0; bound && i < c->opts->adapters; i++) {
        const struct facts *f = &c->source[i].task->facts;

        if (!f->known || strcmp(f->base_hash, bound->task->facts.base_hash) != 0)
            return graft_fail(err, GRAFT_EARG,
                              "%s goes with the base that %s changed for it (%s, hash %s), and %s "
                              "with another: no base fits both",
                              bound->dir, bound->task->facts.change.by,
                              bound->task->facts.base_path ? bound->task->facts.base_path : "?",
                              bound->task->facts.base_hash, c->source[i].dir);
    }
    return GRAFT_OK;
}

static enum graft_status load_sources(struct combining *c, struct graft_err *err)
{
    GRAFT_TRY(check_bases(c, err));
    for (int i = 0; i < c->opts->adapters; i++) {
        const struct adapter_config *config = &c->source[i].task->config;
        const struct adapter_ops *ops = adapter_method(config->method);
        const char *copies = copies_of(config);

        if (ops && why_no_change(ops))
            return graft_fail(err, GRAFT_EARG, "%s: a %s adapter cannot be combined: %s",
                              c->source[i].dir, ops->name, why_no_change(ops));
        if (copies && !c->opts->base)
            return graft_fail(err, GRAFT_EARG,
                              "%s: its %s stand in for values of the base: give it with --base B",
                              c->source[i].dir, copies);
        if (ops && ops->merges != MERGE_ADDS && !c->opts->base)
            return graft_fail(err, GRAFT_EARG,
                              "%s: what %s adapters change depends on the base: give it with "
                              "--base B",
                              c->source[i].dir, ops->name);
    }
    if (c->opts->base)
        GRAFT_TRY(open_base(c, err));
    for (int i = 0; i < c->opts->adapters; i++) {
        if (!c->opts->base)
            GRAFT_TRY(load_alone(c, &c->source[i], err));
        GRAFT_TRY(check_sites(c, &c->source[i], err));
    }
    return GRAFT_OK;
}

static const struct slot *own_slot(const struct source *s, const char *name)
{
    for (int i = 0; i < s->adapter->site_count; i++)
        if (!strcmp(s->adapter->site[i].slot->name, name))
            return s->adapter->site[i].slot;
    return NULL;
}

static struct slot *slot_named(const struct combining *c, const char *name)
{
    for (int i = 0; i < c->slots; i++)
        if (!strcmp(c->slot[i].name, name))
            return &c->slot[i];
    return NULL;
}

/* The weights that any input changes; shapes must agree. */
static enum graft_status unite_slots(struct combining *c, struct graft_err *err)
{
    int64_t most = 0;

    for (int i = 0; i < c->opts->adapters; i++)
        most += c->source[i].adapter->site_count;
    c->slot = arena_array(&c->mem, (size_t)most, sizeof *c->slot);
    c->rank = arena_array(&c->mem, (size_t)most, sizeof *c->rank);
    if (!c->slot || !c->rank)
        return graft_fail_nomem(err, "list of modules", (size_t)most * sizeof *c->slot);
    for (int i = 0; i < c->opts->adapters; i++)
        for (int k = 0; k < c->source[i].adapter->site_count; k++) {
            const struct slot *s = c->source[i].adapter->site[k].slot;
            const struct slot *known = slot_named(c, s->name);

            if (known && (known->in != s->in || known->out != s->out))
                return graft_fail(err, GRAFT_ESHAPE,
                                  "%s: %s changes a weight of (%lld, %lld), %s one of (%lld, "
                                  "%lld): they belong to different bases",
                                  s->name, c->source[0].dir, (long long)known->out,
                                  (long long)known->in, c->source[i].dir, (long long)s->out,
                                  (long long)s->in);
            if (known)
                continue;
            c->slot[c->slots] = *s;
            c->slot[c->slots].index = c->slots;
            c->slots++;
        }
    return GRAFT_OK;
}

static const struct combine_input *inputs_at(const struct combining *c, int slot)
{
    for (int i = 0; i < c->opts->adapters; i++)
        c->input[i] = (struct combine_input){ c->source[i].adapter,
                                              own_slot(&c->source[i], c->slot[slot].name),
                                              c->source[i].weight };
    return c->input;
}

static bool same_names(const struct target_set *a, const struct target_set *b)
{
    if (a->kind != b->kind || a->count != b->count)
        return false;
    for (int i = 0; i < a->count; i++)
        if (strcmp(a->name[i], b->name[i]) != 0)
            return false;
    return true;
}

static bool same_layers(const struct adapter_config *a, const struct adapter_config *b)
{
    bool same = a->layers_to_transform_count == b->layers_to_transform_count &&
                a->layers_pattern_count == b->layers_pattern_count;

    for (int i = 0; same && i < a->layers_to_transform_count; i++)
        same = a->layers_to_transform[i] == b->layers_to_transform[i];
    for (int i = 0; same && i < a->layers_pattern_count; i++)
        same = !strcmp(a->layers_pattern[i], b->layers_pattern[i]);
    return same;
}

/* Do all inputs say in the same words where they sit? Then the result says it so, too. */
static bool same_places(const struct combining *c)
{
    const struct adapter_config *first = &c->source[0].task->config;

    if (first->target_modules.kind != TARGETS_LIST && first->target_modules.kind != TARGETS_REGEX)
        return false;
    for (int i = 0; i < c->opts->adapters; i++)
        if (copies_of(&c->source[i].task->config))
            return false; /* they change modules that target_modules does not name */
    for (int i = 1; i < c->opts->adapters; i++) {
        const struct adapter_config *k = &c->source[i].task->config;

        if (strcmp(k->method, first->method) != 0 ||
            !same_names(&k->target_modules, &first->target_modules) ||
            !same_names(&k->exclude_modules, &first->exclude_modules) || !same_layers(k, first))
            return false;
    }
    return true;
}

/* Places by name, whatever other modules the base has. */
static enum graft_status name_places(struct combining *c, struct adapter_config *out,
                                     struct graft_err *err)
{
    const struct adapter_config *first = &c->source[0].task->config;
    const char **name;

    if (same_places(c)) {
        out->target_modules = first->target_modules;
        out->exclude_modules = first->exclude_modules;
        out->layers_to_transform = first->layers_to_transform;
        out->layers_to_transform_count = first->layers_to_transform_count;
        out->layers_pattern = first->layers_pattern;
        out->layers_pattern_count = first->layers_pattern_count;
        return GRAFT_OK;
    }
    name = arena_array(&c->mem, (size_t)c->slots, sizeof *name);
    if (!name)
        return graft_fail_nomem(err, "target_modules", (size_t)c->slots * sizeof *name);
    for (int i = 0; i < c->slots; i++)
        name[i] = c->slot[i].name;
    out->target_modules = (struct target_set){ TARGETS_LIST, name, c->slots };
    return GRAFT_OK;
}

/* r is the largest rank; where it is another, a pattern says so. The scale is 1 everywhere. */
static enum graft_status name_ranks(struct combining *c, struct adapter_config *out,
                                    struct graft_err *err)
{
    struct pattern_value *p = arena_array(&c->mem, (size_t)c->slots, sizeof *p);
    int n = 0;

    if (!p)
        return graft_fail_nomem(err, "rank_pattern", (size_t)c->slots * sizeof *p);
    for (int i = 0; i < c->slots; i++)
        if (c->rank[i] > out->r)
            out->r = c->rank[i];
    for (int i = 0; i < c->slots; i++)
        if (c->rank[i] != out->r)
            p[n++] = (struct pattern_value){ c->slot[i].name, (double)c->rank[i] };
    out->lora_alpha = (double)out->r;
    out->rank_pattern = out->alpha_pattern = p;
    out->rank_pattern_count = out->alpha_pattern_count = n;
    return GRAFT_OK;
}

/* A bias that an input adds to or scales is a bias of the result's B; *found stays true. */
static enum graft_status find_biases(struct combining *c, const struct adapter *a, bool *found,
                                     struct graft_err *err)
{
    for (int i = 0; i < a->site_count && !*found; i++) {
        const struct adapter_site *s = &a->site[i];
        float *bias;

        if (!s->ops->merge_bias || (s->ops->merges != MERGE_ADDS && !s->slot->has_bias))
            continue;
        bias = arena_array(&c->mem, (size_t)s->slot->out, sizeof *bias);
        if (!bias)
            return graft_fail_nomem(err, s->slot->name, (size_t)s->slot->out * sizeof *bias);
        *found = s->ops->merge_bias(s, bias);
    }
    return GRAFT_OK;
}

static enum graft_status make_result(struct combining *c, struct graft_err *err)
{
    const struct adapter_config *first = &c->source[0].task->config;
    struct adapter_config config = { .method = "lora",
                                     .base_model_name_or_path = first->base_model_name_or_path,
                                     .revision = first->revision };

    for (int i = 0; i < c->slots; i++)
        GRAFT_TRY(
            combine_rank(&c->opts->how, inputs_at(c, i), c->opts->adapters, &c->rank[i], err));
    for (int i = 0; i < c->opts->adapters; i++)
        GRAFT_TRY(find_biases(c, c->source[i].adapter, &config.lora_bias, err));
    GRAFT_TRY(name_ranks(c, &config, err));
    GRAFT_TRY(name_places(c, &config, err));
    c->result_slots = (struct slot_list){ .slot = c->slot, .count = c->slots, .model_type = "" };
    return adapter_new(&config, &c->result_slots, false, &c->result, err);
}

static enum graft_status fill_slot(struct combining *c, int i, struct graft_err *err)
{
    const struct slot *s = &c->slot[i];
    struct adapter_site *site = adapter_at(c->result, s);
    struct arena mem = ARENA_INIT;
    float *left = arena_array(&mem, (size_t)(s->out * c->rank[i]), sizeof *left);
    float *right = arena_array(&mem, (size_t)(c->rank[i] * s->in), sizeof *right);
    float *bias = arena_array(&mem, (size_t)s->out, sizeof *bias);
    enum graft_status st;

    if (!left || !right || !bias) {
        arena_release(&mem);
        return graft_fail_nomem(err, s->name, (size_t)(s->out + s->in) * (size_t)c->rank[i] * 4);
    }
    st = combine_slot(&c->opts->how, inputs_at(c, i), c->opts->adapters, c->rank[i], left, right,
                      c->result->config.lora_bias ? bias : NULL, &c->loss, err);
    if (!st)
        lora_fill(site, left, right, c->result->config.lora_bias ? bias : NULL);
    arena_release(&mem);
    return st ? graft_fail_in(err, st, "%s", s->name) : GRAFT_OK;
}

/* The one whose tokenizer and template the combination has: the first that has any. */
static const struct source *words_source(const struct combining *c)
{
    const char *words = tasks_text_path(&c->tasks, NULL);

    for (int i = 0; words && i < c->opts->adapters; i++)
        if (words == c->source[i].task->dir)
            return &c->source[i];
    return &c->source[0];
}

/* A date that the template asks for is in its hash. */
static const char *template_of(const struct facts *f, char text[256])
{
    snprintf(text, 256, "%s%s%s", f->template_name ? f->template_name : "none",
             f->template_date ? " of " : "", f->template_date ? f->template_date : "");
    return text;
}

static void note_templates(const struct combining *c)
{
    const struct source *kept = words_source(c);
    const struct facts *f = &kept->task->facts;

    for (int i = 0; f->known && i < c->opts->adapters; i++) {
        const struct facts *k = &c->source[i].task->facts;
        const char *a = f->template_hash, *b = k->template_hash;
        char mine[256], other[256];

        if (!k->known || (a && b ? !strcmp(a, b) : a == b))
            continue;
        graft_note("the adapters were trained with different chat templates (%s: %s, %s: %s): the "
                   "combination has that of %s",
                   kept->dir, template_of(f, mine), c->source[i].dir, template_of(k, other),
                   kept->dir);
        return;
    }
}

/* graft.json says what the inputs agree on. */
static enum graft_status write_facts(const struct combining *c, struct graft_err *err)
{
    const struct facts *first = &c->source[0].task->facts;
    const struct facts *words = &words_source(c)->task->facts;
    struct facts f = *first;

    f.template_name = words->template_name;
    f.template_hash = words->template_hash;
    f.template_date = words->template_date;
    for (int i = 0; i < c->opts->adapters; i++) {
        const struct facts *k = &c->source[i].task->facts;

        if (!k->known || !k->has_quant)
            return GRAFT_OK; /* nothing is known of them all */
        if (strcmp(k->base_hash, first->base_hash) != 0) {
            graft_note("the adapters were trained over different bases (%s, %s): the combination "
                       "says of none that it belongs to it",
                       c->source[0].dir, c->source[i].dir);
            return GRAFT_OK;
        }
        if (!facts_same_quant(&k->quant, &first->quant)) {
            graft_note("the adapters were trained over different formats of their base (%s, %s): "
                       "the combination names none, so use it with --quant",
                       c->source[0].dir, c->source[i].dir);
            return GRAFT_OK;
        }
        f.max_length = k->max_length > f.max_length ? k->max_length : f.max_length;
    }
    return facts_copy(&f, c->opts->output, err);
}

static enum graft_status write_all(struct combining *c, struct graft_err *err)
{
    const char *words;
    bool made;
    enum graft_status st = adapter_folder(c->opts->output, c->opts->force, &made, err);

    if (st)
        return st;
    words = tasks_text_path(&c->tasks, NULL);
    st = words ? text_carry(words, c->opts->output, err) : GRAFT_OK;
    if (!st)
        st = write_facts(c, err);
    if (!st)
        note_templates(c);
    if (!st)
        st = adapter_save(c->result, c->opts->output, err);
    if (st)
        adapter_folder_discard(c->opts->output, made);
    else
        result_keep();
    return st;
}

static void fill_report(const struct combining *c, struct combine_report *r)
{
    struct strbuf path = STRBUF_INIT;
    struct stat file;

    *r = (struct combine_report){ .modules = c->slots,
                                  .parameters = c->result->param_elems,
                                  .least_rank = c->rank[0],
                                  .lost = c->loss.all > 0 ? sqrt(c->loss.lost / c->loss.all) : 0 };
    for (int i = 0; i < c->slots; i++) {
        r->least_rank = c->rank[i] < r->least_rank ? c->rank[i] : r->least_rank;
        r->most_rank = c->rank[i] > r->most_rank ? c->rank[i] : r->most_rank;
    }
    path_join(&path, c->opts->output, "adapter_model.safetensors");
    r->bytes = stat(strbuf_str(&path), &file) == 0 ? (size_t)file.st_size : 0;
    strbuf_release(&path);
}

static enum graft_status check_options(const struct combine_run_opts *o, struct graft_err *err)
{
    const struct combine_opts *h = &o->how;

    if (o->adapters < 1)
        return graft_fail(err, GRAFT_EARG, "no adapter to combine");
    if (combine_prunes(h->how) && !(h->density > 0 && h->density <= 1))
        return graft_fail(err, GRAFT_EARG,
                          "%s needs a density: the share of values to keep, above 0 and at most 1",
                          combine_names[h->how]);
    if (!combine_prunes(h->how) && h->density != 0)
        return graft_fail(err, GRAFT_EARG, "%s has no use for a density, it leaves nothing out",
                          combine_names[h->how]);
    if (h->how == COMBINE_CAT && h->rank)
        return graft_fail(err, GRAFT_EARG,
                          "cat keeps every rank, %lld cannot be asked for; linear and svd cut",
                          (long long)h->rank);
    return GRAFT_OK;
}

enum graft_status combine_run(const struct combine_run_opts *opts, struct combine_report *out,
                              struct graft_err *err)
{
    struct combining c = { .opts = opts };
    enum graft_status st = check_options(opts, err);

    if (!st)
        st = read_sources(&c, err);
    if (!st)
        st = load_sources(&c, err);
    if (!st)
        st = unite_slots(&c, err);
    if (!st)
        st = make_result(&c, err);
    for (int i = 0; i < c.slots && !st; i++)
        st = fill_slot(&c, i, err);
    if (!st)
        st = write_all(&c, err);
    if (!st)
        fill_report(&c, out);
    adapter_free(c.result);
    tasks_release(&c.tasks);
    base_release(&c.base);
    arena_release(&c.mem);
    return st;
}
