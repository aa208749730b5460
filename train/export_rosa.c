/* RoSA's low-rank part as a LoRA adapter, which is what PEFT can hold of it. */
#include "peft/lora.h"
#include "train/export.h"

static bool has_values(const struct adapter *a)
{
    for (int i = 0; i < a->entry_count; i++)
        if (a->entry[i].index)
            return true;
    return false;
}

static enum graft_status make_lora(const struct exporting *x, struct adapter **out,
                                   struct graft_err *err)
{
    const struct adapter *a = x->task->adapter;
    struct adapter_config c = a->config;

    c.method = "lora";
    c.loftq_iter = 1;
    GRAFT_TRY(adapter_new(&c, a->slots, false, out, err));
    for (int i = 0; i < a->site_count; i++) {
        const struct adapter_site *s = &a->site[i];

        if (s->ops == a->ops)
            lora_fill(adapter_at(*out, s->slot), s->param[LORA_B]->data, s->param[LORA_A]->data,
                      NULL);
    }
    export_same_tensors(a, *out);
    return GRAFT_OK;
}

enum graft_status export_rosa(const struct exporting *x, struct graft_err *err)
{
    const struct adapter *a = x->task->adapter;
    struct adapter *lora = NULL;
    enum graft_status st;

    if (!a->config.r || a->config.schedule == ROSA_SPARSE)
        return graft_fail(err, GRAFT_EARG,
                          "%s: no low-rank part was trained, and a sparse one is nothing that PEFT "
                          "can hold; graft merge --base B --adapter A -o DIR makes a checkpoint",
                          x->opts->adapter);
    if (!has_values(a))
        x->report->lost = NULL;
    st = make_lora(x, &lora, err);
    if (!st)
        st = adapter_save(lora, x->opts->output, err);
    if (!st)
        export_report(x, lora);
    adapter_free(lora);
    return st;
}
