#include "train/export.h"

#include <string.h>
#include <sys/stat.h>

#include "train/output.h"

const char *const export_names[EXPORT_FORMS + 1] = { "gguf", "peft", "adapter-hub", NULL };

static const char NO_BOTTLENECKS[] = "PEFT has no bottleneck adapters";

static const char AS_SAVED[] = "which method it was: PEFT takes it for LoRA of rank 1 that changes "
                               "nothing, with the copies as "
                               "modules_to_save, and would train the LoRA, too";
static const char AS_BIASES[] =
    "which method it was: PEFT takes it for LoRA of rank 1 that changes nothing, with bias: all, "
    "and would train the LoRA, too";

const struct exporter exporters[] = {
    { "rosa", EXPORT_PEFT, "the sparse part, which changes the weights beside the low-rank one",
      export_rosa },
    { "spa", EXPORT_PEFT, "PEFT has no adapters with sparse values", NULL },
    { "houlsby", EXPORT_HUB, NULL, export_hub },
    { "pfeiffer", EXPORT_HUB, NULL, export_hub },
    { "parallel", EXPORT_HUB,
      "adapter-hub's parallel adapter reads the residual stream, this one the sublayer's normed "
      "input",
      NULL },
    { "houlsby", EXPORT_PEFT, NO_BOTTLENECKS, NULL },
    { "pfeiffer", EXPORT_PEFT, NO_BOTTLENECKS, NULL },
    { "parallel", EXPORT_PEFT, NO_BOTTLENECKS, NULL },
    { "bitfit", EXPORT_PEFT, AS_BIASES, export_copies },
    { "head", EXPORT_PEFT, AS_SAVED, export_copies },
    { "last_layers", EXPORT_PEFT, AS_SAVED, export_copies },
    { .method = NULL },
};

enum graft_status export_parse(const char *to_place, const char *to, const char *dtype_place,
                               const char *dtype, struct export_opts *out, struct graft_err *err)
{
    static const enum qtype dtypes[] = { QT_F32, QT_F16, QT_BF16, QT_Q8_0 };
    int form = 0;

    while (to && export_names[form] && strcmp(to, export_names[form]) != 0)
        form++;
    if (!export_names[form])
        return graft_fail(err, GRAFT_EARG, "%s: found \"%s\", wanted gguf, peft or adapter-hub",
                          to_place, to);
    out->form = (enum export_form)form;
    out->dtype = dtype ? QT_COUNT : QT_F32;
    for (int i = 0; dtype && i < 4; i++)
        if (!strcmp(dtype, qtypes[dtypes[i]].name))
            out->dtype = dtypes[i];
    if (out->dtype == QT_COUNT)
        return graft_fail(err, GRAFT_EARG, "%s: found \"%s\", wanted f32, f16, bf16 or q8_0",
                          dtype_place, dtype);
    if (dtype && out->form != EXPORT_GGUF)
        return graft_fail(err, GRAFT_EARG, "%s is for gguf; %s keeps the adapter's", dtype_place,
                          to);
    return GRAFT_OK;
}

static const struct exporter *exporter_for(const char *method, enum export_form form)
{
    for (const struct exporter *e = exporters; e->method; e++)
        if (e->form == form && !strcmp(e->method, method))
            return e;
    return NULL;
}

static bool writes(const char *method, enum export_form form)
{
    const struct exporter *e = exporter_for(method, form);

    return e && e->write;
}

/* Where no row writes a method: its folder is in that format, or something keeps it out. */
static enum graft_status refuse(const struct export_opts *o, const struct task *k,
                                struct graft_err *err)
{
    const struct adapter_config *c = &k->config;
    const char *method = c->method;
    const struct exporter *e = exporter_for(method, o->form);

    if (e)
        return graft_fail(err, GRAFT_EARG, "%s: %s", o->adapter, e->lost);
    if (o->form == EXPORT_PEFT && c->prompt.placeholder)
        return graft_fail(err, GRAFT_EARG,
                          "%s: PEFT puts virtual tokens in front of a record, not at the places of "
                          "\"%s\"",
                          o->adapter, c->prompt.placeholder);
    if (o->form == EXPORT_PEFT && k->facts.change.by)
        return graft_fail(err, GRAFT_EARG,
                          "%s is in PEFT's own format already, but goes with the base that %s "
                          "changed for it (%s), which PEFT cannot open: merge the two instead "
                          "(graft merge)",
                          o->adapter, k->facts.change.by,
                          k->facts.base_path ? k->facts.base_path : "?");
    if (o->form == EXPORT_PEFT)
        return graft_fail(
            err, GRAFT_EARG,
            "%s: a %s adapter is in PEFT's own format already: PEFT opens the folder as "
            "it is",
            o->adapter, method);
    return graft_fail(err, GRAFT_EARG,
                      "%s: of adapter-hub's formats only that of bottlenecks is written (houlsby, "
                      "pfeiffer), not one of %s adapters",
                      o->adapter, method);
}

static enum graft_status check_output(const struct export_opts *o, struct graft_err *err)
{
    const enum output_kind kind = o->form == EXPORT_GGUF ? OUTPUT_FILE : OUTPUT_RUN;

    GRAFT_TRY(output_spares(kind, o->output, "the base", o->base, err));
    GRAFT_TRY(output_spares(kind, o->output, "the adapter", o->adapter, err));
    return o->form == EXPORT_GGUF ? result_file(o->output, o->force, err) : GRAFT_OK;
}

/* What the folder says of the base and of words is the adapter's. */
static enum graft_status write_rest(const struct exporting *x, struct graft_err *err)
{
    const struct facts *f = &x->task->facts;

    GRAFT_TRY(text_carry(x->task->dir, x->opts->output, err));
    return f->known && f->has_quant ? facts_copy(f, x->opts->output, err) : GRAFT_OK;
}

static enum graft_status export_loaded(struct exporting *x, struct graft_err *err)
{
    const struct exporter *e = exporter_for(x->task->config.method, x->opts->form);
    const char *dir = x->opts->output;
    enum graft_status st;
    bool made;

    if (x->opts->form == EXPORT_GGUF)
        return export_gguf(x, err);
    x->report->lost = e->lost;
    GRAFT_TRY(adapter_folder(dir, x->opts->force, &made, err));
    st = e->write(x, err);
    if (!st && x->opts->form == EXPORT_PEFT)
        st = write_rest(x, err);
    if (st)
        adapter_folder_discard(dir, made);
    else
        result_keep();
    return st;
}

/* The base is only asked for names and shapes: it stays as it lies, whatever was trained over. */
static enum graft_status load(const struct export_opts *o, struct base *base, struct task *k,
                              struct graft_err *err)
{
    const struct quant_config quant = { .mode = QUANT_AUTO };

    GRAFT_TRY(base_open(o->base, &quant, false, base, err));
    GRAFT_TRY(facts_check(k->dir, &k->facts, &base->ck, err));
    if (o->form == EXPORT_GGUF && k->facts.change.by)
        return graft_fail(err, GRAFT_EARG,
                          "%s goes with the base that %s changed for it, which no GGUF file holds: "
                          "merge the two instead (graft merge)",
                          o->adapter, k->facts.change.by);
    facts_compare(k->dir, &k->facts, k->config.base_model_name_or_path, &base->ck);
    GRAFT_TRY(adapter_new(&k->config, &base->model->slots, false, &k->adapter, err));
    return adapter_load_values(k->adapter, k->dir, err);
}

enum graft_status export_run(const struct export_opts *opts, struct export_report *out,
                             struct graft_err *err)
{
    struct export_report report = { 0 };
    struct task_list tasks = { 0 };
    struct base base = { 0 };
    int index = 0;
    enum graft_status st = check_output(opts, err);

    if (!st)
        st = tasks_add(&tasks, "adapter", opts->adapter, &index, err);
    if (!st && opts->form != EXPORT_GGUF && !writes(tasks.task[0].config.method, opts->form))
        st = refuse(opts, &tasks.task[0], err);
    if (!st)
        st = load(opts, &base, &tasks.task[0], err);
    if (!st) {
        struct exporting x = { opts, &base, &tasks.task[0], &report };

        st = export_loaded(&x, err);
    }
    tasks_release(&tasks);
    base_release(&base);
    if (!st)
        *out = report;
    return st;
}
