/* A merged GGUF model: the base's keys, the tensors that change in a type of their own, all others
 * byte for byte. */
#include <string.h>

#include "io/gguf_write.h"
#include "train/merge_impl.h"
#include "train/output.h"

struct writing {
    struct merge *m;
    struct gguf_entry *entry;
    const struct stored_tensor **raw;   /* by entry: written as it lies; NULL: merged */
    const struct model_tensor **tensor; /* by entry: NULL where the model has no use for it */
    int64_t count;
    struct arena mem;
};

enum graft_status merge_check_gguf(const struct merge_opts *o, struct graft_err *err)
{
    GRAFT_TRY(result_file(o->output, o->force, err));
    if (!gguf_is(o->base) && file_exists(o->base))
        return graft_fail(
            err, GRAFT_EARG,
            "%s: a GGUF model is made of a GGUF base, whose keys and tokenizer it "
            "keeps, and this is none; merge into a folder with -o DIR, which llama.cpp's "
            "convert_hf_to_gguf.py turns into a GGUF",
            o->base);
    return GRAFT_OK;
}

/* Does a merge change what the file holds of this tensor? It does, too, where the adapter was
 * trained over another format of the base than the file's, and that is what is merged onto. */
static bool is_changed(const struct merge *m, const struct model_tensor *t,
                       const struct stored_tensor *s)
{
    const struct adapter_site *site = merge_site(m, t);

    for (; site; site = site->next)
        if (t->is_bias ? site->ops->merge_bias != NULL : site->ops->merge_rows != NULL)
            return true;
    return t->ndim == 2 && t->mat.type != s->mat.type;
}

/* Vectors are f32: llama.cpp adds and multiplies them so. */
static enum qtype type_for(struct merge *m, const struct model_tensor *t)
{
    if (t->ndim == 1)
        return QT_F32;
    if (t->mat.cols % qtypes[m->dtype].block == 0)
        return m->dtype;
    m->report.in_f16++;
    return QT_F16;
}

static const struct model_tensor *tensor_of(const struct merge *m, const struct stored_tensor *s)
{
    for (int64_t i = 0; i < m->count; i++)
        if (checkpoint_find(&m->base.ck, m->tensor[i].name) == s)
            return &m->tensor[i];
    return NULL;
}

static void add_entry(struct writing *w, const char *name, const struct model_tensor *t,
                      const struct stored_tensor *s)
{
    struct merge *m = w->m;
    struct gguf_entry *e = &w->entry[w->count];
    const bool changed = !s || (t && is_changed(m, t, s));

    *e = (struct gguf_entry){ .name = name, .ndim = s ? s->ndim : t->ndim };
    if (s)
        memcpy(e->dim, s->dim, sizeof e->dim);
    else
        memcpy(e->dim, (int64_t[4]){ t->mat.rows, t->mat.cols }, sizeof e->dim);
    e->type = changed ? type_for(m, t) : s->mat.type;
    w->raw[w->count] = changed ? NULL : s;
    w->tensor[w->count++] = t;
    m->report.changed += changed;
}

static enum graft_status list_entries(struct writing *w, struct graft_err *err)
{
    const struct store *s = w->m->base.ck.store;
    const size_t n = (size_t)s->count + 1;
    const struct stored_tensor **order = NULL;

    GRAFT_TRY(gguf_tensors_in_order(&w->m->base.ck.gguf, &order, err));
    w->entry = arena_array(&w->mem, n, sizeof *w->entry);
    w->raw = arena_array(&w->mem, n, sizeof *w->raw);
    w->tensor = arena_array(&w->mem, n, sizeof *w->tensor);
    if (!w->entry || !w->raw || !w->tensor) {
        mem_free(order);
        return graft_fail_nomem(err, "list of tensors", n * sizeof *w->entry);
    }
    for (int64_t i = 0; i < s->count; i++)
        add_entry(w, order[i]->name, tensor_of(w->m, order[i]), order[i]);
    mem_free(order);
    if (w->m->untied) /* the last of the list; a tied GGUF has no head */
        add_entry(w, "output.weight", &w->m->tensor[w->m->count - 1], NULL);
    return GRAFT_OK;
}

/* Our rows in m->rows, whole heads of them, to the file's order; a bias has rows of one value. */
static enum graft_status order_rows(const struct merge *m, int64_t head, int64_t rows, int64_t cols,
                                    struct graft_err *err)
{
    float *copy = mem_array((size_t)(head * cols), sizeof *copy);

    if (!copy)
        return graft_fail_nomem(err, "rows of q and k", (size_t)(head * cols) * sizeof *copy);
    for (int64_t h = 0; h < rows; h += head) {
        float *at = m->rows + h * cols;

        memcpy(copy, at, (size_t)(head * cols) * sizeof *copy);
        for (int64_t y = 0; y < head; y++)
            memcpy(at + slot_stored_row(y, head) * cols, copy + y * cols,
                   (size_t)cols * sizeof *copy);
    }
    mem_free(copy);
    return GRAFT_OK;
}

static enum graft_status write_merged(struct merge *m, const struct model_tensor *t,
                                      const struct gguf_entry *e, struct out_file *f,
                                      struct graft_err *err)
{
    const int64_t head = checkpoint_rows_permuted(&m->base.ck, t->name), cols = t->mat.cols;
    const struct qtype_info *q = &qtypes[e->type];
    int64_t step = m->room / cols;

    if (head && t->ndim == 2)
        step -= step % head;
    for (int64_t i = 0; i < t->mat.rows; i += step) {
        const int64_t n = t->mat.rows - i < step ? t->mat.rows - i : step;

        GRAFT_TRY(merge_rows(m, t, i, n, err));
        if (head && t->ndim == 2)
            GRAFT_TRY(order_rows(m, head, n, cols, err));
        else if (head)
            GRAFT_TRY(order_rows(m, head, cols, 1, err));
        GRAFT_TRY(merge_encode(m, e->name, e->type, n * cols, err));
        out_file_write(f, m->coded, (size_t)(n * cols / q->block) * (size_t)q->block_bytes);
    }
    return GRAFT_OK;
}

static enum graft_status fill(void *user, const struct gguf_entry *e, struct out_file *f,
                              struct graft_err *err)
{
    const struct writing *w = user;
    const int64_t i = e - w->entry;
    const uint64_t before = out_file_bytes(f);

    if (w->raw[i])
        out_file_write(f, w->raw[i]->mat.data, w->raw[i]->bytes);
    else
        GRAFT_TRY(write_merged(w->m, w->tensor[i], e, f, err));
    w->m->report.bytes += (size_t)(out_file_bytes(f) - before);
    return GRAFT_OK;
}

enum graft_status merge_write_gguf(struct merge *m, struct graft_err *err)
{
    struct writing w = { .m = m };
    struct gguf_keys k = { STRBUF_INIT, 0 };
    int64_t align = 32;
    enum graft_status st = gguf_int(&m->base.ck.gguf, "general.alignment", 32, &align, err);

    m->report.changed = 0;
    m->report.bytes = 0;
    if (!st)
        st = list_entries(&w, err);
    if (!st)
        st = gguf_put_all(&k, &m->base.ck.gguf, NULL, 0, err);
    if (!st)
        st = gguf_write(m->opts->output, &k, w.entry, w.count, align, fill, &w, err);
    m->report.tensors = w.count;
    m->report.shards = 1;
    gguf_keys_release(&k);
    arena_release(&w.mem);
    return st;
}
