/* adapter_model.safetensors: PEFT's names, shapes and row order; loading is strict, because a
 * missing tensor means an adapter that is half random and nobody notices. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "peft/adapter.h"

enum { LISTED = 12 }; /* names shown of each kind before "and N more" */

struct complaint {
    struct strbuf text;
    int64_t count;
    enum graft_status code;
};

static void complain(struct complaint *c, enum graft_status code, const char *what,
                     const char *name)
{
    if (c->count++ < LISTED)
        strbuf_printf(&c->text, "\n  %s %s", what, name);
    c->code = code;
}

static void shape_text(struct strbuf *out, int ndim, const int64_t *dim)
{
    strbuf_putc(out, '(');
    for (int i = 0; i < ndim; i++)
        strbuf_printf(out, "%s%lld", i ? ", " : "", (long long)dim[i]);
    strbuf_putc(out, ')');
}

static bool same_shape(const struct tensor *p, const struct stored_tensor *t)
{
    if (p->ndim != t->ndim)
        return false;
    for (int i = 0; i < p->ndim; i++)
        if (p->dim[i] != t->dim[i])
            return false;
    return true;
}

static int64_t elems(const struct tensor *p)
{
    int64_t n = 1;

    for (int i = 0; i < p->ndim; i++)
        n *= p->dim[i];
    return n;
}

static void check_one(const struct adapter_entry *e, const struct stored_tensor *t,
                      struct complaint *c)
{
    const struct tensor *p = e->tensor;
    struct strbuf what = STRBUF_INIT;

    if (!t) {
        complain(c, GRAFT_EFORMAT, "missing:", p->name);
    } else if (!same_shape(p, t)) {
        strbuf_puts(&what, "misshapen: found ");
        shape_text(&what, t->ndim, t->dim);
        strbuf_puts(&what, ", the base wants ");
        shape_text(&what, p->ndim, p->dim);
        strbuf_putc(&what, ':');
        complain(c, GRAFT_ESHAPE, strbuf_str(&what), p->name);
    } else if (e->index) {
        if (t->mat.type == QT_I32 || t->mat.type == QT_I16)
            return;
        strbuf_printf(&what, "of type %s, wanted i32:", qtypes[t->mat.type].name);
        complain(c, GRAFT_EFORMAT, strbuf_str(&what), p->name);
    } else if (!qtypes[t->mat.type].is_float) {
        strbuf_printf(&what, "of type %s, wanted f32, f16 or bf16:", qtypes[t->mat.type].name);
        complain(c, GRAFT_EFORMAT, strbuf_str(&what), p->name);
    }
    strbuf_release(&what);
}

static const struct tensor *tensor_named(const struct adapter *a, const char *name)
{
    for (int i = 0; i < a->entry_count; i++)
        if (!strcmp(a->entry[i].tensor->name, name))
            return a->entry[i].tensor;
    return NULL;
}

/* The entry in a file, under its name or the one it had before. */
static const struct stored_tensor *find_entry(const struct store *s, const struct adapter_entry *e)
{
    const struct stored_tensor *t = store_find(s, e->tensor->name);

    return t || !e->older ? t : store_find(s, e->older);
}

static bool is_older_name(const struct adapter *a, const char *name)
{
    for (int i = 0; i < a->entry_count; i++)
        if (a->entry[i].older && !strcmp(a->entry[i].older, name))
            return true;
    return false;
}

static int count_in(const struct adapter *a, enum param_file file)
{
    int n = 0;

    for (int i = 0; i < a->entry_count; i++)
        n += a->entry[i].file == file;
    return n;
}

/* The slot whose own weight this tensor is a copy of: PEFT saves one beside an adapter of the head,
 * as SLOT.base_layer.weight. NULL: it is something else. */
static const struct slot *copied_slot(const struct adapter *a, const char *name)
{
    static const char prefix[] = "base_model.model.", tail[] = ".base_layer.weight";
    const size_t len = strlen(name), p = sizeof prefix - 1, t = sizeof tail - 1;

    if (len <= p + t || strncmp(name, prefix, p) != 0 || strcmp(name + len - t, tail) != 0)
        return NULL;
    for (int i = 0; i < a->site_count; i++) {
        const struct slot *slot = a->site[i].slot;

        if (strlen(slot->name) == len - p - t && !memcmp(slot->name, name + p, len - p - t))
            return slot;
    }
    return NULL;
}

/* Is the copy the base's weight, up to the rounding of another float type or of 4-bit codes? A
 * resized or trained one is not, and leaving it out would change the model. */
static bool same_weight(const struct slot *slot, const struct stored_tensor *t)
{
    float *ours, *theirs;
    double apart = 0, size = 0;

    if (t->ndim != 2 || t->dim[0] != slot->out || t->dim[1] != slot->in ||
        !qtypes[t->mat.type].is_float)
        return false;
    ours = mem_array((size_t)slot->in * 2, sizeof *ours);
    if (!ours)
        return false;
    theirs = ours + slot->in;
    for (int64_t i = 0; i < slot->out; i++) {
        slot_decode_rows(slot, i, 1, ours);
        qmat_decode(&t->mat, i * slot->in, slot->in, theirs);
        for (int64_t k = 0; k < slot->in; k++) {
            apart += fabs((double)ours[k] - (double)theirs[k]);
            size += fabs((double)theirs[k]);
        }
    }
    mem_free(ours);
    return apart <= 0.15 * size; /* nf4 is off by 0.07 on average, another matrix by 1.4 */
}

/* What another program keeps and this one needs not. */
static bool is_spare(const struct adapter *a, const char *name)
{
    for (int i = 0; a->ops->spare && a->ops->spare[i]; i++) {
        const size_t len = strlen(name), tail = strlen(a->ops->spare[i]);

        if (len > tail && !strcmp(name + len - tail, a->ops->spare[i]))
            return true;
    }
    return false;
}

/* PEFT writes biases of modules_to_save (with bias: all) and resized embeddings again under names
 * of its own wrapper: MODULE.modules_to_save.X is the copy, MODULE.original_module.X the base's. */
static bool saved_twice(const struct adapter *a, const char *name)
{
    static const char *const marks[] = { ".modules_to_save.", ".original_module." };

    for (int i = 0; i < 2; i++) {
        const char *at = strstr(name, marks[i]);
        const size_t skip = strlen(marks[i]) - 1; /* all but the last dot */
        char plain[256];

        if (!at)
            continue;
        snprintf(plain, sizeof plain, "%.*s%s", (int)(at - name), name, at + skip);
        return tensor_named(a, plain) != NULL;
    }
    return false;
}

static void check_extra(const struct adapter *a, const struct stored_tensor *t, struct complaint *c)
{
    const struct slot *slot = copied_slot(a, t->name);

    if (tensor_named(a, t->name) || is_older_name(a, t->name) || is_spare(a, t->name) ||
        (slot && same_weight(slot, t)) || saved_twice(a, t->name))
        return;
    complain(c, GRAFT_EFORMAT,
             slot ? "a changed copy of the base's weight, not supported:" : "unexpected:", t->name);
}

static enum graft_status check_all(const struct adapter *a, const struct store *s,
                                   enum param_file file, struct graft_err *err)
{
    struct complaint c = { STRBUF_INIT, 0, GRAFT_OK };
    int64_t known = 0;

    for (int i = 0; i < a->entry_count; i++) {
        const struct stored_tensor *t = find_entry(s, &a->entry[i]);

        if (a->entry[i].file != file)
            continue;
        known += t != NULL;
        check_one(&a->entry[i], t, &c);
    }
    for (int64_t i = 0; i < s->count && known < s->count; i++)
        check_extra(a, &s->tensor[i], &c);
    if (c.count > LISTED)
        strbuf_printf(&c.text, "\n  and %lld more", (long long)c.count - LISTED);
    if (c.count)
        graft_fail(err, c.code, "%s: the adapter does not fit the base and its own config:%s",
                   s->path, strbuf_str(&c.text));
    strbuf_release(&c.text);
    return c.code;
}

void adapter_read_index(const struct stored_tensor *t, const struct adapter_entry *e)
{
    const int64_t n = elems(e->tensor);
    int32_t *to = e->tensor->data;

    if (t->mat.type == QT_I32)
        memcpy(to, t->mat.data, (size_t)n * sizeof *to);
    for (int64_t i = 0; i < n && t->mat.type == QT_I16; i++)
        to[i] = ((const int16_t *)t->mat.data)[i];
}

/* A second copy of values that are filled already must say the same. */
static enum graft_status check_shared(const struct adapter_entry *e, const struct store *s,
                                      struct graft_err *err)
{
    const struct tensor *p = e->tensor;
    const int64_t width = p->dim[p->ndim - 1], rows = elems(p) / width;
    float *row = mem_array((size_t)width, sizeof *row);
    bool same = true;

    if (!row)
        return graft_fail_nomem(err, p->name, (size_t)width * sizeof *row);
    for (int64_t i = 0; i < rows && same; i++) {
        qmat_decode(&store_find(s, p->name)->mat, i * width, width, row);
        same = !memcmp(row, (const float *)p->data + i * width, (size_t)width * sizeof *row);
    }
    mem_free(row);
    return same ? GRAFT_OK
                : graft_fail(err, GRAFT_EFORMAT,
                             "%s: %s differs from the tensor it is tied to (ensure_weight_tying)",
                             s->path, p->name);
}

static enum graft_status fill_all(struct adapter *a, const struct store *s, enum param_file file,
                                  struct graft_err *err)
{
    for (int i = 0; i < a->entry_count; i++) {
        struct tensor *p = a->entry[i].tensor;
        const int64_t n = elems(p);
        float *v = p->data;

        if (a->entry[i].file != file)
            continue;
        if (a->entry[i].index) {
            adapter_read_index(store_find(s, p->name), &a->entry[i]);
            continue;
        }
        if (a->entry[i].shared)
            GRAFT_TRY(check_shared(&a->entry[i], s, err));
        else
            qmat_decode(&find_entry(s, &a->entry[i])->mat, 0, n, v);
        for (int64_t k = 0; k < n; k++)
            if (!isfinite(v[k]))
                return graft_fail(err, GRAFT_EFORMAT, "%s: %s[%lld] is %g", s->path, p->name,
                                  (long long)k, (double)v[k]);
    }
    return GRAFT_OK;
}

enum graft_status adapter_open(const char *dir, struct store *s, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    path_join(&path, dir, "adapter_model.safetensors");
    if (path.failed) {
        st = graft_fail_nomem(err, "adapter_model.safetensors", strlen(dir));
    } else if (!file_exists(strbuf_str(&path))) {
        strbuf_clear(&path);
        path_join(&path, dir, "adapter_model.bin");
        st = file_exists(strbuf_str(&path))
                 ? graft_fail(
                       err, GRAFT_EFORMAT,
                       "%s: a pickled adapter can run code and is not read; convert it once with "
                       "Python: PeftModel.from_pretrained(base, \"%s\").save_pretrained(\"%s\")",
                       strbuf_str(&path), dir, dir)
                 : graft_fail(err, GRAFT_EIO, "%s: there is no adapter_model.safetensors in it",
                              dir);
    } else {
        st = safetensors_open(strbuf_str(&path), s, err);
    }
    strbuf_release(&path);
    return st;
}

static enum graft_status open_state(const char *dir, struct store *s, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    path_join(&path, dir, "graft_state.safetensors");
    if (path.failed)
        st = graft_fail_nomem(err, "graft_state.safetensors", strlen(dir));
    else if (!file_exists(strbuf_str(&path)))
        st = graft_fail(err, GRAFT_EIO,
                        "%s: there is no graft_state.safetensors in it, which holds what training "
                        "goes on from; PEFT's own files have only its result",
                        dir);
    else
        st = safetensors_open(strbuf_str(&path), s, err);
    strbuf_release(&path);
    return st;
}

static enum graft_status load_file(struct adapter *a, const char *dir, enum param_file file,
                                   struct graft_err *err)
{
    struct store s = { 0 };
    enum graft_status st =
        file == FILE_ADAPTER ? adapter_open(dir, &s, err) : open_state(dir, &s, err);

    if (!st)
        st = check_all(a, &s, file, err);
    if (!st)
        st = fill_all(a, &s, file, err);
    store_release(&s);
    return st;
}

enum graft_status adapter_load_values(struct adapter *a, const char *dir, struct graft_err *err)
{
    GRAFT_TRY(load_file(a, dir, FILE_ADAPTER, err));
    if (count_in(a, FILE_STATE))
        GRAFT_TRY(load_file(a, dir, FILE_STATE, err));
    for (int i = 0; i < a->site_count; i++) {
        const struct adapter_ops *ops = a->site[i].ops;

        if (ops->loaded)
            GRAFT_TRY(ops->loaded(&a->site[i], err));
        if (ops->ready && !a->trainable)
            GRAFT_TRY(ops->ready(&a->site[i], err));
    }
    return GRAFT_OK;
}

static enum graft_status write_param(void *user, const struct safetensors_entry *e,
                                     struct out_file *f, struct graft_err *err)
{
    const struct tensor *p = tensor_named(user, e->name);
    const int64_t n = elems(p);
    const struct qtype_info *q = &qtypes[e->type];
    unsigned char piece[4096];

    (void)err;
    if (e->type == QT_I32) {
        out_file_write(f, p->data, (size_t)n * sizeof(int32_t));
        return GRAFT_OK;
    }
    for (int64_t i = 0, step; i < n; i += step) {
        step = n - i < 1024 ? n - i : 1024;
        q->encode(piece, (const float *)p->data + i, step);
        out_file_write(f, piece, (size_t)(step * q->block_bytes));
    }
    return GRAFT_OK;
}

static enum graft_status save_values(const struct adapter *a, const char *dir, enum param_file file,
                                     struct graft_err *err)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    static const char *const names[] = { "adapter_model.safetensors", "graft_state.safetensors" };
    const int count = count_in(a, file);
    struct safetensors_entry *e = mem_array((size_t)count, sizeof *e);
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;
    int n = 0;

    if (!e)
        return graft_fail_nomem(err, "list of tensors", (size_t)count * sizeof *e);
    for (int i = 0; i < a->entry_count; i++) {
        const struct tensor *p = a->entry[i].tensor;

        if (a->entry[i].file != file)
            continue;
        e[n].name = p->name;
        e[n].type = a->entry[i].index                             ? QT_I32
                    : a->config.save_bf16 && file == FILE_ADAPTER ? QT_BF16
                                                                  : QT_F32;
        e[n].ndim = p->ndim;
        memcpy(e[n++].dim, p->dim, sizeof p->dim);
    }
    path_join(&path, dir, names[file]);
    st = path.failed ? graft_fail_nomem(err, names[file], strlen(dir))
                     : safetensors_write(strbuf_str(&path), e, count, metadata, write_param,
                                         (void *)(uintptr_t)a, err);
    strbuf_release(&path);
    mem_free(e);
    return st;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The last parts of the filled slots' names, sorted, each once: what PEFT writes for all-linear and
 * for default targets. Returns their count. */
static int resolved_targets(const struct adapter *a, const char **name)
{
    int n = 0, unique = 0;

    for (int i = 0; i < a->site_count; i++) {
        const char *dot = strrchr(a->site[i].slot->name, '.');

        if (a->site[i].ops != a->ops)
            continue; /* a copy beside the adapters */
        name[n++] = dot ? dot + 1 : a->site[i].slot->name;
    }
    qsort(name, (size_t)n, sizeof *name, by_text);
    for (int i = 0; i < n; i++)
        if (!unique || strcmp(name[unique - 1], name[i]) != 0)
            name[unique++] = name[i];
    return unique;
}

static enum graft_status save_config(const struct adapter *a, const char *dir,
                                     struct graft_err *err)
{
    const enum target_kind kind = a->config.target_modules.kind;
    const bool resolve = !a->ops->takes && (kind == TARGETS_ALL_LINEAR || kind == TARGETS_DEFAULT);
    const char **name = mem_array((size_t)a->site_count, sizeof *name);
    struct adapter_config c = a->config;
    struct strbuf text = STRBUF_INIT, path = STRBUF_INIT;
    enum graft_status st;

    if (!name)
        return graft_fail_nomem(err, "adapter_config.json", (size_t)a->site_count * sizeof *name);
    if (lora_init_takes(c.init)) { /* whoever reads it has no start to take any more */
        c.doubled = !a->changes_base;
        c.init = LORA_INIT_TRUE;
    }
    st = adapter_config_write(&c, resolve ? name : NULL, resolve ? resolved_targets(a, name) : 0,
                              &text, err);
    path_join(&path, dir, "adapter_config.json");
    if (!st && path.failed)
        st = graft_fail_nomem(err, "adapter_config.json", strlen(dir));
    if (!st)
        st = file_write(strbuf_str(&path), strbuf_str(&text), text.len, err);
    strbuf_release(&path);
    strbuf_release(&text);
    mem_free(name);
    return st;
}

enum graft_status adapter_save(struct adapter *a, const char *dir, struct graft_err *err)
{
    for (int i = 0; i < a->site_count; i++)
        if (a->site[i].ops->derive)
            GRAFT_TRY(a->site[i].ops->derive(&a->site[i], err));
    GRAFT_TRY(save_values(a, dir, FILE_ADAPTER, err));
    if (count_in(a, FILE_STATE))
        GRAFT_TRY(save_values(a, dir, FILE_STATE, err));
    return save_config(a, dir, err);
}
