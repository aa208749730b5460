/* A folder of adapter-hub/adapters: adapter_config.json, which has no peft_type, and
 * adapter.safetensors. Keys are those of its BnConfig (configuration/adapter_config.py) around what
 * build_full_config adds; tensors are named PLACE.adapters.NAME.adapter_down.0.weight and so on
 * (methods/modeling.py). */
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "io/safetensors.h"
#include "models/arch.h"
#include "peft/config_keys.h"
#include "train/export.h"

static const char PREFIX[] = "base_model.model."; /* of tensors in PEFT's files and ours */

struct hub {
    const struct exporting *x;
    char name[64]; /* of the adapter: the folder's, in letters a module may have */
    struct safetensors_entry *entry;
    const struct tensor **tensor; /* beside entry */
    int count;
    struct arena mem;
};

static size_t bytes_of(const struct tensor *t)
{
    size_t n = sizeof(float);

    for (int i = 0; i < t->ndim; i++)
        n *= (size_t)t->dim[i];
    return n;
}

static void name_adapter(struct hub *h)
{
    size_t n = 0;

    for (const char *s = path_base(h->x->opts->output); *s && n + 1 < sizeof h->name; s++)
        h->name[n++] =
            strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", *s) ? *s
                                                                                           : '_';
    if (!n)
        snprintf(h->name, sizeof h->name, "adapter");
}

static enum graft_status list_tensors(struct hub *h, struct graft_err *err)
{
    const struct adapter *a = h->x->task->adapter;

    h->entry = arena_array(&h->mem, (size_t)a->entry_count, sizeof *h->entry);
    h->tensor = arena_array(&h->mem, (size_t)a->entry_count, sizeof *h->tensor);
    if (!h->entry || !h->tensor)
        return graft_fail_nomem(err, "list of tensors", (size_t)a->entry_count * 64);
    for (int i = 0; i < a->entry_count; i++) {
        const struct tensor *t = a->entry[i].tensor;
        const char *place = t->name + sizeof PREFIX - 1, *tail = strstr(place, ".adapter_");
        struct safetensors_entry *e = &h->entry[h->count];

        e->name =
            arena_printf(&h->mem, "%.*s.adapters.%s%s", (int)(tail - place), place, h->name, tail);
        if (!e->name)
            return graft_fail_nomem(err, t->name, 128);
        e->type = QT_F32;
        e->ndim = t->ndim;
        memcpy(e->dim, t->dim, sizeof t->dim);
        h->tensor[h->count++] = t;
        h->x->report->bytes += bytes_of(t);
    }
    h->x->report->tensors = h->count;
    return GRAFT_OK;
}

static enum graft_status write_tensor(void *user, const struct safetensors_entry *e,
                                      struct out_file *f, struct graft_err *err)
{
    const struct hub *h = user;
    int i = 0;

    (void)err;
    while (strcmp(h->entry[i].name, e->name) != 0)
        i++;
    out_file_write(f, h->tensor[i]->data, bytes_of(h->tensor[i]));
    return GRAFT_OK;
}

/* int(hidden // factor) is the width there: half a step beyond it, no rounding reaches another. */
static double factor_of(const struct bottleneck_config *b, int64_t hidden)
{
    return b->size ? (double)hidden / ((double)b->size + 0.5) : b->reduction_factor;
}

static json_t *bottleneck_json(const struct hub *h)
{
    const struct bottleneck_config *b = &h->x->task->config.bottleneck;
    const bool both = !strcmp(h->x->task->config.method, "houlsby");
    json_t *o = json_pack("{s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}", "mh_adapter",
                          both, "output_adapter", true, "original_ln_before", false,
                          "original_ln_after", true, "residual_before_ln", true,
                          "adapter_residual_before_ln", false, "ln_before", false, "ln_after",
                          false, "is_parallel", false, "use_gating", false, "cross_adapter", false);

    json_object_set_new(o, "reduction_factor",
                        json_number(factor_of(b, h->x->base->ck.config.hidden)));
    json_object_set_new(o, "non_linearity", json_string(non_linearity_names[b->non_linearity]));
    json_object_set_new(o, "scaling", json_real(b->scaling)); /* an integer is refused there */
    json_object_set_new(o, "dropout", json_real(b->dropout));
    json_object_set_new(o, "init_weights", json_string(init_weights_names[b->init]));
    json_object_set_new(o, "leave_out", json_array());
    json_object_set_new(o, "inv_adapter", json_null());
    json_object_set_new(o, "phm_layer", json_false());
    return o;
}

static enum graft_status write_config(const struct hub *h, struct graft_err *err)
{
    const struct model_config *m = &h->x->base->ck.config;
    const char *base = h->x->task->config.base_model_name_or_path;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:o}", "name", h->name, "model_type",
                          m->model_type, "model_class", m->arch->class_name, "model_name",
                          base ? base : "", "hidden_size", (json_int_t)m->hidden, "version",
                          "adapters.1.3.0", "config", bottleneck_json(h));
    struct strbuf path = STRBUF_INIT, text = STRBUF_INIT;
    enum graft_status st;

    json_write_pretty(&text, o);
    strbuf_puts(&text, "\n");
    path_join(&path, h->x->opts->output, "adapter_config.json");
    st = !o || text.failed || path.failed ? graft_fail_nomem(err, "adapter_config.json", 4096)
                                          : file_write(strbuf_str(&path), text.buf, text.len, err);
    strbuf_release(&text);
    strbuf_release(&path);
    json_decref(o);
    return st;
}

enum graft_status export_hub(const struct exporting *x, struct graft_err *err)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    struct hub h = { .x = x };
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    name_adapter(&h);
    path_join(&path, x->opts->output, "adapter.safetensors");
    st = path.failed ? graft_fail_nomem(err, "adapter.safetensors", 256) : list_tensors(&h, err);
    if (!st)
        st =
            safetensors_write(strbuf_str(&path), h.entry, h.count, metadata, write_tensor, &h, err);
    if (!st)
        st = write_config(&h, err);
    strbuf_release(&path);
    arena_release(&h.mem);
    return st;
}
