/* The public interface: what makes files of files. */
#include <math.h>
#include <string.h>

#include "train/api.h"
#include "train/combine.h"
#include "train/export.h"
#include "train/merge.h"
#include "train/verify.h"

static enum graft_status merge_options(const struct graft_merge_opts *o, struct merge_opts *m,
                                       struct graft_err *err)
{
    static const char *const onto[] = { "auto", "original", "quantized" };
    int which = 0;

    while (o->onto && which < 3 && strcmp(o->onto, onto[which]) != 0)
        which++;
    if (which == 3)
        return graft_fail(err, GRAFT_EARG, "onto: found \"%s\", wanted auto, original or quantized",
                          o->onto);
    m->onto = (enum merge_onto)which;
    m->force = o->force;
    m->dtype = QT_COUNT;
    m->gguf = merge_is_gguf(m->output);
    if (!o->dtype || !strcmp(o->dtype, "auto"))
        return GRAFT_OK;
    return merge_dtype_parse("dtype", o->dtype, m->gguf, &m->dtype, err);
}

static void tell_audit(const struct audit *a, struct graft_audit *out)
{
    *out = (struct graft_audit){ .records = a->records,
                                 .tokens = a->tokens,
                                 .merged_perplexity = exp(a->side[0].merged_loss),
                                 .sides = a->sides };
    for (int i = 0; i < a->sides; i++) {
        const struct audit_side *s = &a->side[i];

        out->side[i].quantized = s->onto == ONTO_QUANTIZED;
        out->side[i].trained_on = s->trained_on;
        out->side[i].perplexity = exp(s->loss);
        out->side[i].kl = s->kl;
        out->side[i].kl_max = s->kl_most;
        out->side[i].logit_change = s->logit_change;
        out->side[i].same_token = (double)s->same / (double)s->tokens;
    }
}

enum graft_status graft_merge(const char *base, const char *adapter, const char *output,
                              const struct graft_merge_opts *opts, struct graft_err *err)
{
    static const struct graft_merge_opts defaults = GRAFT_MERGE_DEFAULTS;
    const struct graft_merge_opts *o = opts ? opts : &defaults;
    struct merge_opts m = { .base = base, .adapter = adapter, .output = output, .audit = o->audit };
    struct merge_report report;

    GRAFT_TRY(merge_options(o, &m, err));
    GRAFT_TRY(merge_run(&m, &report, err));
    if (o->audit && o->found)
        tell_audit(&report.audit, o->found);
    return GRAFT_OK;
}

enum graft_status graft_unmerge(const char *merged, const char *adapter, const char *output,
                                const struct graft_merge_opts *opts, struct graft_err *err)
{
    static const struct graft_merge_opts defaults = GRAFT_MERGE_DEFAULTS;
    struct merge_opts m = { .base = merged, .adapter = adapter, .output = output, .undo = true };
    struct merge_report report;

    GRAFT_TRY(merge_options(opts ? opts : &defaults, &m, err));
    return merge_run(&m, &report, err);
}

enum graft_status graft_verify(const char *adapter, const char *base, struct graft_verified *out,
                               struct graft_err *err)
{
    struct verify_report r;
    double sum = 0;

    GRAFT_TRY(verify_run(adapter, base, &r, err));
    for (int i = 0; i < r.slots; i++)
        sum += r.slot[i].weight ? r.slot[i].norm * r.slot[i].norm : 0;
    *out = (struct graft_verified){ .parameters = r.parameters,
                                    .slots = r.slots,
                                    .unchanged = r.idle,
                                    .norm = sqrt(sum),
                                    .other_base = r.other_base };
    verify_report_release(&r);
    return GRAFT_OK;
}

enum graft_status graft_export(const char *adapter, const char *base, const char *output,
                               const struct graft_export_opts *opts, const char **lost,
                               struct graft_err *err)
{
    static const struct graft_export_opts defaults = GRAFT_EXPORT_DEFAULTS;
    const struct graft_export_opts *o = opts ? opts : &defaults;
    struct export_opts x = {
        .base = base, .adapter = adapter, .output = output, .force = o->force
    };
    struct export_report report;

    GRAFT_TRY(export_parse("to", o->to, "dtype", o->dtype, &x, err));
    GRAFT_TRY(export_run(&x, &report, err));
    if (lost)
        *lost = report.lost;
    return GRAFT_OK;
}

static enum graft_status combine_options(const struct graft_combine_opts *o, struct combine_opts *c,
                                         struct graft_err *err)
{
    const char *how = o->how ? o->how : "linear", *sign = o->sign ? o->sign : "total";
    int i = 0;

    while (combine_names[i] && strcmp(how, combine_names[i]) != 0)
        i++;
    if (!combine_names[i])
        return graft_fail(err, GRAFT_EARG, "how: found \"%s\", wanted one of linear ... %s", how,
                          combine_names[COMBINE_COUNT - 1]);
    c->sign_by_count = !strcmp(sign, "frequency");
    if (!c->sign_by_count && strcmp(sign, "total") != 0)
        return graft_fail(err, GRAFT_EARG, "sign: found \"%s\", wanted total or frequency", sign);
    c->how = (enum combine_how)i;
    c->rank = o->rank;
    c->density = o->density;
    c->seed = o->seed;
    return o->rank < 0 || o->rank > 65536
               ? graft_fail(err, GRAFT_EARG, "rank is %lld, wanted 1 to 65536, or 0",
                            (long long)o->rank)
               : GRAFT_OK;
}

enum graft_status graft_combine(const char *const *adapters, const double *weights, int count,
                                const char *output, const struct graft_combine_opts *opts,
                                double *lost, struct graft_err *err)
{
    static const struct graft_combine_opts defaults = GRAFT_COMBINE_DEFAULTS;
    const struct graft_combine_opts *o = opts ? opts : &defaults;
    struct combine_run_opts c = { .base = o->base,
                                  .adapter = adapters,
                                  .weight = weights,
                                  .adapters = count,
                                  .output = output,
                                  .force = o->force };
    struct combine_report report;

    GRAFT_TRY(combine_options(o, &c.how, err));
    GRAFT_TRY(combine_run(&c, &report, err));
    if (lost)
        *lost = report.lost;
    return GRAFT_OK;
}

enum graft_status graft_quantize(const char *base, const char *output,
                                 const struct graft_quantize_opts *opts, struct graft_err *err)
{
    static const struct graft_quantize_opts defaults = GRAFT_QUANTIZE_DEFAULTS;
    const struct graft_quantize_opts *o = opts ? opts : &defaults;
    struct quantize_report report;
    struct quant_config quant;

    GRAFT_TRY(quant_config_parse(o->quant ? o->quant : "auto", &quant, err));
    return quantize_run(base, &quant, output, o->force, &report, err);
}
