#include "train/verify.h"

#include <math.h>
#include <string.h>

#include "io/safetensors.h"
#include "peft/change.h"
#include "train/tasks.h"

/* A change below this share of the weight is its rounding: DoRA's start is not the base to the bit.
 */
static const double ROUNDING = 1e-6;

void verify_report_release(struct verify_report *r)
{
    arena_release(&r->mem);
}

/* A file without tensors would only be told to lack every one. */
static enum graft_status check_empty(const char *dir, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    struct store s = { 0 };
    enum graft_status st = GRAFT_OK;

    path_join(&path, dir, "adapter_model.safetensors");
    if (file_exists(strbuf_str(&path))) /* loading says what is there instead */
        st = safetensors_open(strbuf_str(&path), &s, err);
    if (!st && s.path && s.count == 0)
        st = graft_fail(err, GRAFT_EFORMAT, "%s: the adapter is empty: it holds no tensor", s.path);
    store_release(&s);
    strbuf_release(&path);
    return st;
}

static void add_squares(const float *x, int64_t n, double *sum, double *largest)
{
    for (int64_t i = 0; i < n; i++) {
        *sum += (double)x[i] * (double)x[i];
        if (largest)
            *largest = fmax(*largest, fabs((double)x[i]));
    }
}

/* Rows in pieces of about a MiB. */
static enum graft_status measure_weight(const struct adapter *a, const struct slot *slot,
                                        struct verified_slot *v, struct graft_err *err)
{
    const int64_t rows = slot->site == SITE_NORM ? 1 : slot->out, in = slot->in;
    const int64_t step = in < 262144 ? 262144 / in : 1;
    float *d = mem_array((size_t)(step * in) * 2, sizeof *d), *work;
    double change = 0, weight = 0;

    if (!d)
        return graft_fail_nomem(err, slot->name, (size_t)(step * in) * 8);
    work = d + step * in;
    for (int64_t i = 0; i < rows; i += step) {
        const int64_t n = rows - i < step ? rows - i : step;

        change_rows(a, slot, i, n, d, work);
        add_squares(d, n * in, &change, &v->largest);
        if (slot->site == SITE_NORM)
            slot_vector(slot, work);
        else
            slot_decode_rows(slot, i, n, work);
        add_squares(work, n * in, &weight, NULL);
    }
    mem_free(d);
    v->norm = sqrt(change);
    v->relative = weight > 0 ? sqrt(change / weight) : NAN;
    return GRAFT_OK;
}

static enum graft_status measure_bias(const struct adapter *a, const struct slot *slot,
                                      struct verified_slot *v, struct graft_err *err)
{
    float *d = mem_array((size_t)slot->out * 2, sizeof *d);
    double sum = 0;

    if (!d)
        return graft_fail_nomem(err, slot->name, (size_t)slot->out * 8);
    change_bias(a, slot, d, d + slot->out);
    add_squares(d, slot->out, &sum, NULL);
    mem_free(d);
    v->bias_norm = sqrt(sum);
    return GRAFT_OK;
}

/* Methods that change no weight: the size of their values is all there is to tell. */
static void measure_values(const struct adapter_site *s, struct verified_slot *v)
{
    double sum = 0;

    for (; s; s = s->next) {
        if (s->ops->size) {
            s->ops->size(s, &sum, &v->largest);
            continue;
        }
        for (int i = 0; i < ADAPTER_MAX_PARAMS; i++) {
            const struct tensor *t = s->param[i];
            int64_t n = 1;

            for (int k = 0; t && k < t->ndim; k++)
                n *= t->dim[k];
            if (t && t->dtype == DT_F32)
                add_squares(t->data, n, &sum, &v->largest);
        }
    }
    v->norm = sqrt(sum);
    v->relative = NAN;
}

static enum graft_status verify_slot(const struct adapter *a, const struct slot *slot,
                                     struct verified_slot *v, struct arena *mem,
                                     struct graft_err *err)
{
    const struct adapter_site *s = adapter_at(a, slot);
    const bool weight = changes_weight(a, slot), bias = changes_bias(a, slot);

    *v = (struct verified_slot){ .name = arena_strdup(mem, slot->name),
                                 .method = s->ops->name,
                                 .r = s->r,
                                 .scale = (double)s->scale,
                                 .weight = weight,
                                 .bias = bias,
                                 .changes = weight && bias        ? "weight and bias"
                                            : weight              ? "weight"
                                            : bias                ? "bias"
                                            : s->ops->rows        ? "input"
                                            : s->ops->keys_values ? "keys and values"
                                                                  : "activations",
                                 .relative = NAN };
    if (!v->name)
        return graft_fail_nomem(err, slot->name, strlen(slot->name));
    if (v->weight)
        GRAFT_TRY(measure_weight(a, slot, v, err));
    if (v->bias)
        GRAFT_TRY(measure_bias(a, slot, v, err));
    if (!v->weight && !v->bias)
        measure_values(s, v);
    v->idle = (v->norm == 0 || v->relative <= ROUNDING) && v->bias_norm == 0;
    return GRAFT_OK;
}

static enum graft_status verify_all(const struct adapter *a, const struct slot_list *slots,
                                    struct verify_report *r, struct graft_err *err)
{
    r->slot = arena_array(&r->mem, (size_t)a->site_count, sizeof *r->slot);
    if (!r->slot)
        return graft_fail_nomem(err, "slots", (size_t)a->site_count * sizeof *r->slot);
    for (int i = 0; i < slots->count; i++) {
        const struct slot *slot = &slots->slot[i];

        r->linears += slot->site == SITE_LINEAR;
        if (!adapter_at(a, slot))
            continue;
        GRAFT_TRY(verify_slot(a, slot, &r->slot[r->slots], &r->mem, err));
        r->idle += r->slot[r->slots++].idle;
    }
    for (int i = 0; i < a->entry_count; i++) {
        int64_t n = 1;

        for (int k = 0; k < a->entry[i].tensor->ndim; k++)
            n *= a->entry[i].tensor->dim[k];
        r->values += n;
    }
    r->parameters = a->param_elems;
    r->adds_input = a->ops->rows || a->ops->keys_values;
    r->method = a->ops->name;
    return GRAFT_OK;
}

static enum graft_status verify_over(struct task_list *tasks, const char *path,
                                     struct verify_report *r, struct graft_err *err)
{
    const struct quant_config given = { .mode = QUANT_AUTO };
    struct task *k = &tasks->task[0];
    struct quant_config quant;
    struct base base = { 0 };
    enum graft_status st = tasks_quant(tasks, &given, &quant, err);

    if (!st)
        st = base_open(path, &quant, false, &base, err);
    if (!st)
        st = tasks_load(tasks, base.model, err); /* strict: names, shapes, finite values */
    if (!st) {
        snprintf(r->format, sizeof r->format, "%s",
                 qtypes[base.model->layer[0].linear[LIN_Q].w.type].name);
        r->other_base = k->facts.known && strcmp(k->facts.base_hash, base.ck.hash) != 0;
        st = verify_all(k->adapter, &base.model->slots, r, err);
    }
    base_release(&base);
    return st;
}

enum graft_status verify_run(const char *adapter, const char *base, struct verify_report *out,
                             struct graft_err *err)
{
    struct verify_report r = { 0 };
    struct task_list tasks = { 0 };
    enum graft_status st = tasks_open(&adapter, 1, &tasks, err);

    if (!st)
        st = check_empty(tasks.task[0].dir, err);
    if (!st)
        st = verify_over(&tasks, base, &r, err);
    tasks_release(&tasks);
    if (st)
        verify_report_release(&r);
    else
        *out = r;
    return st;
}
