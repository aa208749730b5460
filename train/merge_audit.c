/* The audit of a merge: which records, over which weights of the base, and its note in the result.
 */
#include <string.h>

#include "train/audit.h"
#include "train/data.h"
#include "train/merge_impl.h"
#include "train/merge_note.h"

enum graft_status merge_load_records(struct merge *m, struct graft_err *err)
{
    struct dataset_opts how = data_opts(m->text, &m->base.ck.config);

    if (!m->opts->audit)
        return GRAFT_OK;
    how.format = m->opts->format;
    facts_data_opts(&m->tasks.task[0].facts, &how);
    GRAFT_TRY(dataset_load(&m->opts->audit, 1, &how, &m->data, err));
    return m->data.stats.targets
               ? GRAFT_OK
               : graft_fail(err, GRAFT_EFORMAT, "%s: no record has a token to measure",
                            m->opts->audit);
}

/* Are the base's linears on disk what `q` would make of them? */
static bool lies_as(const struct merge *m, const struct quant_config *q)
{
    char name[160];
    const struct stored_tensor *t;

    snprintf(name, sizeof name, "%s.weight", m->base.model->layer[0].linear[LIN_Q].name);
    t = checkpoint_find(&m->base.ck, name);
    return t && t->mat.type == q->spec.type && t->mat.block == q->spec.block &&
           (t->mat.absmax8 != NULL) == q->spec.nested;
}

/* The weights that were not chosen, where the base has both: as it lies, and quantised. */
static void choose_other(struct merge *m, const struct quant_config *chosen, struct audit_opts *a)
{
    const struct facts *f = &m->tasks.task[0].facts;
    struct quant_config other = { QUANT_TYPE, { QT_NF4, 64, true } };

    a->quant[0] = *chosen;
    a->onto[0] = m->report.onto;
    a->onto[1] = m->report.onto == ONTO_ORIGINAL ? ONTO_QUANTIZED : ONTO_ORIGINAL;
    a->sides = 1;
    if (a->onto[1] == ONTO_QUANTIZED) {
        if (f->has_quant && f->quant.mode == QUANT_TYPE)
            other = f->quant;
        else if (!checkpoint_is_float(&m->base.ck))
            m->report.audit.missing = "the base is quantised as it lies: there is nothing else";
    } else {
        other = (struct quant_config){ .mode = QUANT_AUTO };
        if (chosen->mode != QUANT_TYPE)
            m->report.audit.missing = "the base's original weights are not at hand";
    }
    if (!m->report.audit.missing && lies_as(m, chosen->mode == QUANT_TYPE ? chosen : &other))
        m->report.audit.missing = "the base's original weights are not at hand";
    if (!m->report.audit.missing) {
        a->quant[1] = other;
        a->sides = 2;
    }
    a->trained_on = -1;
    for (int i = 0; i < a->sides && f->has_quant; i++)
        if ((f->quant.mode != QUANT_NONE) == (a->onto[i] == ONTO_QUANTIZED) ||
            (f->quant.mode == QUANT_AUTO && a->quant[i].mode == QUANT_AUTO))
            a->trained_on = i;
}

static json_t *note_json(const struct merge *m, const char *base_hash)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "version", graft_version(), "method",
                     m->report.method, "onto",
                     m->report.onto == ONTO_QUANTIZED ? "quantized" : "original", "weights",
                     m->report.format, "dtype", qtypes[m->dtype].name, "base_hash", base_hash,
                     "audit", audit_json(&m->report.audit));
}

enum graft_status merge_audit(struct merge *m, const struct quant_config *chosen,
                              struct graft_err *err)
{
    struct audit_opts a = { .base = m->opts->base,
                            .adapter = m->opts->adapter,
                            .merged = m->opts->output,
                            .data = &m->data };
    char hash[sizeof m->base.ck.hash];
    json_t *note;
    enum graft_status st;

    choose_other(m, chosen, &a);
    memcpy(hash, m->base.ck.hash, sizeof hash);
    merge_close(m);
    snprintf(m->report.audit.data, sizeof m->report.audit.data, "%s", path_base(m->opts->audit));
    st = audit_run(&a, &m->report.audit, err);
    if (st)
        return graft_fail_in(err, st, "%s is merged, but not audited", m->opts->output);
    note = note_json(m, hash);
    st = note ? merge_note_write(m->opts->output, note, err)
              : graft_fail_nomem(err, "metadata", 1024);
    json_decref(note);
    return st;
}
