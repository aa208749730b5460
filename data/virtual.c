#include "data/virtual.h"

enum graft_status virtual_check(const struct virtual_tokens *v, const int32_t *id, int64_t n,
                                struct graft_err *err)
{
    int64_t found = 0;

    for (int64_t i = 0; i < n && v->placed; i++)
        found += id[i] == v->placeholder;
    if (found != v->placed)
        return graft_fail(err, GRAFT_EARG,
                          "the placeholder stands in %lld places, the adapter has %lld virtual "
                          "tokens for it",
                          (long long)found, (long long)v->placed);
    return GRAFT_OK;
}

enum graft_status virtual_place(const struct virtual_tokens *v, int32_t *id, int64_t n,
                                struct graft_err *err)
{
    int32_t next = -1;

    GRAFT_TRY(virtual_check(v, id, n, err));
    for (int64_t i = 0; i < n && v->placed; i++)
        if (id[i] == v->placeholder)
            id[i] = next--;
    return GRAFT_OK;
}

/* Targets of the record, whose virtual tokens are in their places, counted anew. */
static void remove_targets(struct dataset *d, struct record *r)
{
    const int32_t *id = d->id + r->first;
    int32_t *label = d->label + r->first;
    const int64_t before = r->targets;
    bool first = true;

    r->targets = 0;
    for (int64_t t = 0; t < r->length; t++) {
        if (id[t] < 0 || first)
            label[t] = NO_LABEL;
        first = first && id[t] < 0;
        r->targets += t > 0 && label[t] != NO_LABEL;
    }
    d->stats.targets += r->targets - before;
    if (r->targets > 0)
        return;
    d->stats.dropped++;
    d->stats.tokens -= r->length;
    r->length = 0;
}

static enum graft_status add_to(struct dataset *d, struct record *r, const struct virtual_tokens *v,
                                int64_t max_positions, struct graft_err *err)
{
    const int64_t more = v->front + v->before;

    if (max_positions > 0 && r->length + more > max_positions)
        return graft_fail(err, GRAFT_EFORMAT,
                          "the record has %lld tokens and %lld positions before them, the model "
                          "%lld positions; a smaller max_length truncates it",
                          (long long)r->length, (long long)more, (long long)max_positions);
    if (!v->placed)
        return GRAFT_OK;
    if (virtual_place(v, d->id + r->first, r->length, err))
        return r->truncated ? graft_fail_in(err, GRAFT_EFORMAT, "max_length cut the record")
                            : GRAFT_EFORMAT;
    remove_targets(d, r);
    return GRAFT_OK;
}

enum graft_status dataset_add_virtual(struct dataset *d, int task, const struct virtual_tokens *v,
                                      int64_t max_positions, struct graft_err *err)
{
    for (int64_t i = 0; i < d->count; i++) {
        struct record *r = &d->record[i];

        if (r->length == 0 || r->task != task)
            continue;
        if (add_to(d, r, v, max_positions, err))
            return graft_fail_in(err, GRAFT_EFORMAT, "%s:%lld", r->file, (long long)r->line);
    }
    return GRAFT_OK;
}
