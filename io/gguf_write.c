#include "io/gguf_write.h"

#include <stdlib.h>
#include <string.h>

#include "io/build.h"

enum { NAME_MOST = 63 }; /* bytes of a tensor's name that ggml has room for */

void gguf_keys_release(struct gguf_keys *k)
{
    strbuf_release(&k->bytes);
    k->count = 0;
}

static void put_text(struct strbuf *s, const char *text, uint64_t len)
{
    strbuf_add(s, &len, sizeof len);
    strbuf_add(s, text, len);
}

/* A key and the type of its value, which follows. */
static void put_key(struct gguf_keys *k, const char *key, uint64_t len, enum gguf_type type)
{
    const uint32_t id = type;

    put_text(&k->bytes, key, len);
    strbuf_add(&k->bytes, &id, sizeof id);
    k->count++;
}

void gguf_put_str(struct gguf_keys *k, const char *key, const char *value)
{
    put_key(k, key, strlen(key), GGUF_STRING);
    put_text(&k->bytes, value, strlen(value));
}

void gguf_put_u32(struct gguf_keys *k, const char *key, uint32_t value)
{
    put_key(k, key, strlen(key), GGUF_U32);
    strbuf_add(&k->bytes, &value, sizeof value);
}

void gguf_put_f32(struct gguf_keys *k, const char *key, float value)
{
    put_key(k, key, strlen(key), GGUF_F32);
    strbuf_add(&k->bytes, &value, sizeof value);
}

void gguf_put_copy(struct gguf_keys *k, const struct gguf_value *v)
{
    const uint32_t item = v->item;

    put_key(k, v->key.s, v->key.len, v->type);
    if (v->type == GGUF_ARRAY) {
        strbuf_add(&k->bytes, &item, sizeof item);
        strbuf_add(&k->bytes, &v->count, sizeof v->count);
    }
    strbuf_add(&k->bytes, v->data, gguf_value_bytes(v));
}

/* The reader sorts keys by name; where their names lie is the order of the file. */
static int by_place(const void *a, const void *b)
{
    const char *x = (*(const struct gguf_value *const *)a)->key.s;
    const char *y = (*(const struct gguf_value *const *)b)->key.s;

    return (x > y) - (x < y);
}

static bool is_among(const struct gguf_string *key, const char *const *name, int count)
{
    for (int i = 0; i < count; i++)
        if (strlen(name[i]) == key->len && !memcmp(name[i], key->s, key->len))
            return true;
    return false;
}

enum graft_status gguf_put_all(struct gguf_keys *k, const struct gguf *g, const char *const *but,
                               int count, struct graft_err *err)
{
    const size_t n = (size_t)g->value_count;
    const struct gguf_value **v = mem_array(n + 1, sizeof *v);

    if (!v)
        return graft_fail_nomem(err, g->store.path, n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = &g->value[i];
    qsort(v, n, sizeof *v, by_place);
    for (size_t i = 0; i < n; i++)
        if (!is_among(&v[i]->key, but, count))
            gguf_put_copy(k, v[i]);
    mem_free(v);
    return GRAFT_OK;
}

/* One file being written. */
struct writing {
    const char *path;
    const struct gguf_entry *entry;
    int64_t count;
    uint64_t align;
    struct graft_err *err;
};

static enum graft_status entry_bytes(const struct writing *w, const struct gguf_entry *e,
                                     uint64_t *out)
{
    struct stored_tensor t = { 0 };

    if (gguf_type_id(e->type) < 0)
        return graft_fail(w->err, GRAFT_EARG, "%s: tensor \"%s\": GGUF has no type %s", w->path,
                          SHOW(e->name), qtypes[e->type].name);
    if (strlen(e->name) > NAME_MOST)
        return graft_fail(w->err, GRAFT_EARG,
                          "%s: \"%s\" is too long for a tensor's name: at most %d bytes", w->path,
                          SHOW(e->name), NAME_MOST);
    if (!tensor_shape(&t, e->type, e->ndim, e->dim))
        return graft_fail(
            w->err, GRAFT_EARG,
            "%s: tensor \"%s\": the shape %s is too large, or a row is no whole number "
            "of %s blocks of %d",
            w->path, SHOW(e->name), SHOW_DIMS(e->ndim, e->dim), qtypes[e->type].name,
            qtypes[e->type].block);
    *out = t.bytes;
    return GRAFT_OK;
}

static uint64_t padding(const struct writing *w, uint64_t at)
{
    return (w->align - at % w->align) % w->align;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum graft_status check_names(const struct writing *w)
{
    const char **name = mem_array((size_t)w->count + 1, sizeof *name);
    enum graft_status st = GRAFT_OK;

    if (!name)
        return graft_fail_nomem(w->err, w->path, (size_t)w->count * sizeof *name);
    for (int64_t i = 0; i < w->count; i++)
        name[i] = w->entry[i].name;
    qsort(name, (size_t)w->count, sizeof *name, by_text);
    for (int64_t i = 1; i < w->count && !st; i++)
        if (!strcmp(name[i - 1], name[i]))
            st = graft_fail(w->err, GRAFT_EARG, "%s: tensor \"%s\" is given twice", w->path,
                            SHOW(name[i]));
    mem_free(name);
    return st;
}

/* ggml counts dimensions from the contiguous one. */
static enum graft_status make_header(const struct writing *w, const struct gguf_keys *keys,
                                     struct strbuf *out)
{
    const uint32_t version = 3;
    const uint64_t tensors = (uint64_t)w->count;
    uint64_t at = 0;

    strbuf_add(out, "GGUF", 4);
    strbuf_add(out, &version, sizeof version);
    strbuf_add(out, &tensors, sizeof tensors);
    strbuf_add(out, &keys->count, sizeof keys->count);
    strbuf_add(out, strbuf_str(&keys->bytes), keys->bytes.len);
    for (int64_t i = 0; i < w->count; i++) {
        const struct gguf_entry *e = &w->entry[i];
        const uint32_t ndim = (uint32_t)e->ndim;
        uint32_t type;
        uint64_t bytes = 0;

        GRAFT_TRY(entry_bytes(w, e, &bytes));
        type = (uint32_t)gguf_type_id(e->type);
        put_text(out, e->name, strlen(e->name));
        strbuf_add(out, &ndim, sizeof ndim);
        for (int d = e->ndim - 1; d >= 0; d--)
            strbuf_add(out, &e->dim[d], sizeof e->dim[d]);
        strbuf_add(out, &type, sizeof type);
        strbuf_add(out, &at, sizeof at);
        at += bytes;
        at += padding(w, at);
    }
    return out->failed || keys->bytes.failed ? graft_fail_nomem(w->err, w->path, out->len)
                                             : GRAFT_OK;
}

static void pad(const struct writing *w, struct out_file *f)
{
    static const char zero[64];

    for (uint64_t n = padding(w, out_file_bytes(f)); n > 0;) {
        const uint64_t step = n < sizeof zero ? n : sizeof zero;

        out_file_write(f, zero, step);
        n -= step;
    }
}

static enum graft_status write_data(const struct writing *w, gguf_fill *fill, void *user,
                                    struct out_file *f)
{
    pad(w, f);
    /* a full disk shows at commit; what is left to compute would be for nothing */
    for (int64_t i = 0; i < w->count && !out_file_failed(f); i++) {
        const uint64_t before = out_file_bytes(f);
        uint64_t bytes = 0;

        GRAFT_TRY(entry_bytes(w, &w->entry[i], &bytes));
        GRAFT_TRY(fill(user, &w->entry[i], f, w->err));
        if (out_file_bytes(f) - before != bytes)
            return graft_fail(w->err, GRAFT_EARG,
                              "%s: tensor \"%s\" takes %llu bytes, %llu were written", w->path,
                              SHOW(w->entry[i].name), (unsigned long long)bytes,
                              (unsigned long long)(out_file_bytes(f) - before));
        pad(w, f);
    }
    return GRAFT_OK;
}

enum graft_status gguf_write(const char *path, const struct gguf_keys *keys,
                             const struct gguf_entry *entry, int64_t count, int64_t align,
                             gguf_fill *fill, void *user, struct graft_err *err)
{
    const struct writing w = { path, entry, count, (uint64_t)align, err };
    struct strbuf header = STRBUF_INIT;
    struct out_file *f = NULL;
    enum graft_status st = check_names(&w);

    if (!st)
        st = make_header(&w, keys, &header);
    if (!st)
        st = out_file_open(path, &f, err);
    if (!st) {
        out_file_write(f, header.buf, header.len);
        st = write_data(&w, fill, user, f);
    }
    strbuf_release(&header);
    if (!st)
        return out_file_commit(f, err);
    out_file_abort(f);
    return st;
}

/* In the order of the file, as far as the data tells. */
static int by_data(const void *a, const void *b)
{
    const char *x = (*(const struct stored_tensor *const *)a)->mat.data;
    const char *y = (*(const struct stored_tensor *const *)b)->mat.data;

    return (x > y) - (x < y);
}

enum graft_status gguf_tensors_in_order(const struct gguf *g, const struct stored_tensor ***out,
                                        struct graft_err *err)
{
    const size_t n = (size_t)g->store.count;
    const struct stored_tensor **t = mem_array(n + 1, sizeof *t);

    if (!t)
        return graft_fail_nomem(err, g->store.path, n * sizeof *t);
    for (size_t i = 0; i < n; i++)
        t[i] = &g->store.tensor[i];
    qsort(t, n, sizeof *t, by_data);
    *out = t;
    return GRAFT_OK;
}

struct copying {
    const struct stored_tensor **from;
    struct gguf_entry *entry;
};

static enum graft_status copy_tensor(void *user, const struct gguf_entry *e, struct out_file *f,
                                     struct graft_err *err)
{
    const struct copying *c = user;
    const struct stored_tensor *t = c->from[e - c->entry];

    (void)err;
    out_file_write(f, t->mat.data, t->bytes);
    file_forget(t->mat.data, t->bytes);
    return GRAFT_OK;
}

static enum graft_status annotate(const char *path, struct gguf *g, const char *key,
                                  const char *value, struct copying *c, struct gguf_keys *k,
                                  struct graft_err *err)
{
    const size_t n = (size_t)g->store.count;
    int64_t align = 32;

    GRAFT_TRY(gguf_int(g, "general.alignment", 32, &align, err));
    GRAFT_TRY(gguf_tensors_in_order(g, &c->from, err));
    c->entry = mem_array(n + 1, sizeof *c->entry);
    if (!c->entry)
        return graft_fail_nomem(err, path, n * sizeof *c->entry);
    for (size_t i = 0; i < n; i++) {
        c->entry[i] = (struct gguf_entry){ .name = c->from[i]->name,
                                           .type = c->from[i]->mat.type,
                                           .ndim = c->from[i]->ndim };
        memcpy(c->entry[i].dim, c->from[i]->dim, sizeof c->entry[i].dim);
    }
    GRAFT_TRY(gguf_put_all(k, g, &key, 1, err));
    gguf_put_str(k, key, value);
    return gguf_write(path, k, c->entry, (int64_t)n, align, copy_tensor, c, err);
}

enum graft_status gguf_annotate(const char *path, const char *key, const char *value,
                                struct graft_err *err)
{
    struct gguf g = { 0 };
    struct gguf_keys k = { STRBUF_INIT, 0 };
    struct copying c = { NULL, NULL };
    enum graft_status st = gguf_open(path, &g, err);

    if (!st)
        st = annotate(path, &g, key, value, &c, &k, err);
    mem_free(c.from);
    mem_free(c.entry);
    gguf_keys_release(&k);
    gguf_release(&g);
    return st;
}
