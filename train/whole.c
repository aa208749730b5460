/* Runs that train every weight: what they start from, and the checkpoint that they end in. */
#include "core/file.h"
#include "train/facts.h"
#include "train/merge.h"
#include "train/setup.h"

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
    if (!st)
        st = facts_check(dir, &f, &r->base.ck, err);
    if (!st) {
        facts_compare(dir, &f, NULL, &r->base.ck);
        st = adapter_new(&c, &r->base.model->slots, false, &a, err);
    }
    facts_release(&f);
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

enum graft_status run_check_whole(const struct run *r, struct graft_err *err)
{
    if (checkpoint_is_float(&r->base.ck))
        return GRAFT_OK;
    return graft_fail(err, GRAFT_EARG,
                      "adapter.method %s trains every weight and needs a base of floats; %s is %s: "
                      "use the checkpoint it was made from, or an adapter over this one",
                      r->config->adapter.method, r->config->base, checkpoint_format(&r->base.ck));
}

enum graft_status run_make_whole(struct run *r, bool dry, struct graft_err *err)
{
    struct adapter_config c = r->config->adapter;
    struct adapter *change = NULL;
    const struct store *files = r->base.ck.store;
    enum graft_status st = GRAFT_OK;

    if (c.init_from)
        st = open_change(r, c.init_from, &change, err);
    if (!st && change && !adapter_keeps_tie(change))
        c.untie_head = r->base.ck.config.tied;
    if (!st)
        st = adapter_new(&c, &r->base.model->slots, true, &r->adapter, err);
    if (!st && !dry)
        st = adapter_init(r->adapter, (uint64_t)r->config->train.seed, err);
    if (!st && !dry && change)
        adapter_start_from(r->adapter, change);
    adapter_free(change);
    /* nothing reads the base's own weights again */
    for (int64_t i = 0; !st && i < files->count; i++)
        file_forget(files->tensor[i].mat.data, files->tensor[i].bytes);
    return st;
}
