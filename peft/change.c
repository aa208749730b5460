#include "peft/change.h"

#include <string.h>

const char *why_no_change(const struct adapter_ops *ops)
{
    if (ops->merge_rows || ops->merge_bias)
        return NULL;
    return ops->no_merge ? ops->no_merge : "it is no change of weights";
}

bool changes_weight(const struct adapter *a, const struct slot *slot)
{
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->merge_rows)
            return true;
    return false;
}

bool changes_bias(const struct adapter *a, const struct slot *slot)
{
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->merge_bias)
            return true;
    return false;
}

bool change_is_additive(const struct adapter *a, const struct slot *slot)
{
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if ((s->ops->merge_rows || s->ops->merge_bias) && s->ops->merges != MERGE_ADDS)
            return false;
    return true;
}

void merged_rows(const struct adapter *a, const struct slot *slot, int64_t first, int64_t n,
                 float *w)
{
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->merge_rows)
            s->ops->merge_rows(s, first, n, w);
}

/* A bias that stands in for the base's is what others add to, wherever it is in the list. */
void merged_bias(const struct adapter *a, const struct slot *slot, float *bias)
{
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->merge_bias && s->ops->merges == MERGE_REPLACES)
            s->ops->merge_bias(s, bias);
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next)
        if (s->ops->merge_bias && s->ops->merges != MERGE_REPLACES)
            s->ops->merge_bias(s, bias);
}

static void subtract(float *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] -= x[i];
}

void change_rows(const struct adapter *a, const struct slot *slot, int64_t first, int64_t n,
                 float *out, float *work)
{
    const size_t bytes = (size_t)(n * slot->in) * sizeof *out;

    if (change_is_additive(a, slot)) {
        memset(out, 0, bytes);
        merged_rows(a, slot, first, n, out);
        return;
    }
    if (slot->site == SITE_NORM)
        slot_vector(slot, work);
    else
        slot_decode_rows(slot, first, n, work);
    memcpy(out, work, bytes);
    merged_rows(a, slot, first, n, out);
    subtract(out, work, n * slot->in);
}

void change_bias(const struct adapter *a, const struct slot *slot, float *out, float *work)
{
    const size_t bytes = (size_t)slot->out * sizeof *out;

    if (slot->bias && !change_is_additive(a, slot))
        slot_bias(slot, work);
    else
        memset(work, 0, bytes);
    memcpy(out, work, bytes);
    merged_bias(a, slot, out);
    subtract(out, work, slot->out);
}

enum graft_status change_can_undo(const struct adapter *a, const struct slot *slot,
                                  struct graft_err *err)
{
    for (const struct adapter_site *s = adapter_at(a, slot); s; s = s->next) {
        if (!s->ops->merge_rows && !s->ops->merge_bias)
            return graft_fail(err, GRAFT_EARG,
                              "%s adapters are no change of weights: there is nothing to take back",
                              s->ops->name);
        if (s->ops->merges == MERGE_REPLACES)
            return graft_fail(err, GRAFT_EARG,
                              "%s: %s adapters put their own values in place of the base's, which "
                              "the merged checkpoint does not hold any more",
                              slot->name, s->ops->name);
        if (s->ops->merges == MERGE_BY_BASE)
            return graft_fail(err, GRAFT_EARG,
                              "%s: what a %s adapter changes depends on the base's own weights, "
                              "which cannot be told from the merged ones",
                              slot->name, s->ops->name);
    }
    return GRAFT_OK;
}

/* w (n, in) of one site taken back; `work` receives what 0 or 1 becomes. */
static void undo_site(const struct adapter_site *s, bool bias, int64_t first, int64_t n,
                      int64_t count, float *w, float *work)
{
    const float unit = s->ops->merges == MERGE_SCALES ? 1.0f : 0.0f;

    for (int64_t i = 0; i < count; i++)
        work[i] = unit;
    if (bias)
        s->ops->merge_bias(s, work);
    else
        s->ops->merge_rows(s, first, n, work);
    for (int64_t i = 0; i < count; i++)
        w[i] = unit != 0 ? w[i] / work[i] : w[i] - work[i];
}

/* The sites at a slot were merged from the first on: the last goes first. */
static void undo_all(const struct adapter_site *s, bool bias, int64_t first, int64_t n,
                     int64_t count, float *w, float *work)
{
    if (!s)
        return;
    undo_all(s->next, bias, first, n, count, w, work);
    if (bias ? s->ops->merge_bias != NULL : s->ops->merge_rows != NULL)
        undo_site(s, bias, first, n, count, w, work);
}

void undo_rows(const struct adapter *a, const struct slot *slot, int64_t first, int64_t n, float *w,
               float *work)
{
    undo_all(adapter_at(a, slot), false, first, n, n * slot->in, w, work);
}

void undo_bias(const struct adapter *a, const struct slot *slot, float *bias, float *work)
{
    undo_all(adapter_at(a, slot), true, 0, 1, slot->out, bias, work);
}
