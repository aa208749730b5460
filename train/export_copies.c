/* Methods that train copies of the base's tensors, in a form that PEFT opens: a LoRA adapter whose
 * change is zero, beside which PEFT keeps such copies as modules_to_save or as biases. */
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "train/export.h"

static bool is_copied(const struct adapter *a, const struct slot *slot)
{
    return adapter_at(a, slot) != NULL;
}

/* PEFT wants a module for the LoRA itself: a linear that is no copy; with biases any does. */
static const struct slot *host_of(const struct adapter *a, bool biases)
{
    for (int i = 0; i < a->slots->count; i++) {
        const struct slot *s = &a->slots->slot[i];

        if (s->site == SITE_LINEAR && !s->is_head && (biases || !is_copied(a, s)))
            return s;
    }
    return NULL;
}

/* Every module that is a copy, by its path. */
static enum graft_status name_copies(const struct adapter *a, struct arena *mem,
                                     struct adapter_config *out, struct graft_err *err)
{
    const char **name = arena_array(mem, (size_t)a->site_count, sizeof *name);

    if (!name)
        return graft_fail_nomem(err, "modules_to_save", (size_t)a->site_count * sizeof *name);
    for (int i = 0; i < a->site_count; i++)
        name[i] = a->site[i].slot->name;
    out->modules_to_save = name;
    out->modules_to_save_count = a->site_count;
    return GRAFT_OK;
}

static enum graft_status describe(const struct adapter *a, struct arena *mem,
                                  struct adapter_config *out, struct graft_err *err)
{
    const bool biases = !strcmp(a->ops->name, "bitfit");
    const struct slot *host = host_of(a, biases);
    const char **target = arena_alloc(mem, sizeof *target);

    if (!target)
        return graft_fail_nomem(err, "target_modules", sizeof *target);
    if (!host)
        return graft_fail(err, GRAFT_EARG,
                          "PEFT keeps copies beside an adapter only, and all linears are copies "
                          "here: graft merge makes a checkpoint of them");
    *target = host->name;
    *out = (struct adapter_config){ .method = "lora",
                                    .r = 1,
                                    .lora_alpha = 1,
                                    .loraplus_lr_ratio = 1,
                                    .target_modules = { TARGETS_LIST, target, 1 },
                                    .bias = biases ? BIAS_COPIES_ALL : BIAS_COPIES_NONE,
                                    .save_bf16 = a->config.save_bf16,
                                    .base_model_name_or_path = a->config.base_model_name_or_path,
                                    .revision = a->config.revision };
    return biases && !a->config.modules_to_save_count ? GRAFT_OK : name_copies(a, mem, out, err);
}

static const struct tensor *param_named(const struct adapter *a, const char *name)
{
    for (int i = 0; i < a->entry_count; i++)
        if (!strcmp(a->entry[i].tensor->name, name) ||
            (a->entry[i].older && !strcmp(a->entry[i].older, name)))
            return a->entry[i].tensor;
    return NULL;
}

void export_same_tensors(const struct adapter *from, struct adapter *to)
{
    for (int i = 0; i < from->entry_count; i++) {
        const struct tensor *v = from->entry[i].tensor, *t = param_named(to, v->name);
        size_t n = sizeof(float);

        for (int k = 0; t && k < v->ndim; k++)
            n *= (size_t)v->dim[k];
        if (t)
            memcpy(t->data, v->data, n);
    }
}

void export_report(const struct exporting *x, const struct adapter *a)
{
    struct strbuf path = STRBUF_INIT;
    struct stat file;

    path_join(&path, x->opts->output, "adapter_model.safetensors");
    x->report->bytes = stat(strbuf_str(&path), &file) == 0 ? (size_t)file.st_size : 0;
    x->report->tensors = a->entry_count;
    strbuf_release(&path);
}

enum graft_status export_copies(const struct exporting *x, struct graft_err *err)
{
    const struct adapter *a = x->task->adapter;
    struct arena mem = ARENA_INIT;
    struct adapter *out = NULL;
    struct adapter_config c;
    enum graft_status st = describe(a, &mem, &c, err);

    if (!st)
        st = adapter_new(&c, &x->base->model->slots, false, &out, err);
    if (!st)
        st = adapter_init(out, 0, err);
    if (!st) {
        export_same_tensors(a, out);
        st = adapter_save(out, x->opts->output, err);
    }
    if (!st)
        export_report(x, out);
    adapter_free(out);
    arena_release(&mem);
    return st;
}
