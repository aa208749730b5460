#include "io/container.h"

#include <string.h>

#include "io/build.h"
#include "io/h5.h"

enum { VERSION = 1 };

/* What one open works on. */
struct reader {
    struct h5_file f;
    struct store_build b;
    struct container c;
    int64_t sum_cap;
    struct container_sum *sum; /* mem_alloc; moves to the arena at the end */
};

static enum graft_status add_sum(struct reader *r, const char *where, const char *name,
                                 const struct h5_bytes *bytes)
{
    struct container_sum *s;

    if (r->c.sum_count == r->sum_cap) {
        const int64_t cap = r->sum_cap ? 2 * r->sum_cap : 64;
        void *p = mem_resize(r->sum, (size_t)r->sum_cap * sizeof *s, (size_t)cap * sizeof *s);

        if (!p)
            return graft_fail_nomem(r->f.err, r->f.path, (size_t)cap * sizeof *s);
        r->sum = p;
        r->sum_cap = cap;
    }
    s = &r->sum[r->c.sum_count];
    s->name = arena_printf(&r->b.s.mem, "%s%s%s", where, where[0] ? "/" : "", name);
    if (!s->name)
        return graft_fail_nomem(r->f.err, r->f.path, strlen(where) + strlen(name));
    s->data = bytes->data;
    s->len = bytes->len;
    memcpy(s->hex, bytes->sum, sizeof s->hex);
    r->c.sum_count++;
    return GRAFT_OK;
}

/* The dataset `name` of a tensor, exactly `len` bytes long and aligned. */
static enum graft_status read_part(struct reader *r, hid_t group, const char *tensor,
                                   const char *name, H5T_class_t cls, size_t size, size_t len,
                                   size_t align, const void **out)
{
    struct h5_bytes bytes;

    GRAFT_TRY(h5_get_bytes(&r->f, group, tensor, name, cls, size, &bytes));
    if (bytes.len != len)
        return graft_fail(r->f.err, GRAFT_EFORMAT,
                          "%s: tensor \"%s\": dataset \"%s\" has %zu bytes, wanted %zu", r->f.path,
                          SHOW(tensor), name, bytes.len, len);
    GRAFT_TRY(add_sum(r, tensor, name, &bytes));
    *out = bytes.data;
    return build_align(&r->b, tensor, out, len, align, r->f.err);
}

static enum graft_status read_floats(struct reader *r, hid_t group, const char *tensor,
                                     const char *name, int64_t count, const float **out)
{
    const void *p = NULL;

    GRAFT_TRY(read_part(r, group, tensor, name, H5T_FLOAT, sizeof(float),
                        (size_t)count * sizeof(float), sizeof(float), &p));
    *out = p;
    return GRAFT_OK;
}

static enum graft_status read_block(struct reader *r, hid_t group, const char *tensor,
                                    const char *name, int *out)
{
    int64_t v = 0;
    int count = 0;

    GRAFT_TRY(h5_get_ints(&r->f, group, tensor, name, 1, &v, &count));
    if (count != 1 || v < 32 || v > 4096 || (v & (v - 1)) != 0)
        return graft_fail(r->f.err, GRAFT_EFORMAT,
                          "%s: tensor \"%s\": %s is %lld, wanted a power of two from 32 to 4096",
                          r->f.path, SHOW(tensor), name, (long long)v);
    *out = (int)v;
    return GRAFT_OK;
}

/* The scales of nf4 and fp4 (quant/quant.h): absmax, or absmax8 + absmax2 + map8 + offset. */
static enum graft_status read_scales(struct reader *r, hid_t group, struct stored_tensor *t)
{
    struct qmat *w = &t->mat;
    const int64_t n = qmat_elems(w);
    const void *p = NULL;
    int64_t blocks;

    GRAFT_TRY(read_block(r, group, t->name, "block", &w->block));
    blocks = n / w->block + (n % w->block != 0);
    GRAFT_TRY(read_floats(r, group, t->name, "lut", 16, &w->lut));
    if (h5_has(group, "absmax"))
        return read_floats(r, group, t->name, "absmax", blocks, &w->absmax);
    GRAFT_TRY(read_block(r, group, t->name, "block2", &w->block2));
    GRAFT_TRY(h5_get_float(&r->f, group, t->name, "offset", &w->offset));
    GRAFT_TRY(read_part(r, group, t->name, "absmax8", H5T_INTEGER, 1, (size_t)blocks, 1, &p));
    w->absmax8 = p;
    GRAFT_TRY(read_floats(r, group, t->name, "absmax2",
                          blocks / w->block2 + (blocks % w->block2 != 0), &w->absmax2));
    return read_floats(r, group, t->name, "map8", 256, &w->map8);
}

static enum graft_status read_tensor(struct reader *r, hid_t group, struct stored_tensor *t)
{
    int64_t dim[STORE_MAX_DIM] = { 0 };
    const char *type_name = "";
    enum qtype type;
    int ndim = 0;

    GRAFT_TRY(h5_get_text(&r->f, group, t->name, "type", &r->b.s.mem, &type_name));
    type = qtype_by_name(type_name);
    if (type == QT_COUNT)
        return graft_fail(r->f.err, GRAFT_EFORMAT, "%s: tensor \"%s\" has the unknown type \"%s\"",
                          r->f.path, SHOW(t->name), SHOW(type_name));
    GRAFT_TRY(h5_get_ints(&r->f, group, t->name, "shape", STORE_MAX_DIM, dim, &ndim));
    for (int i = 0; i < ndim; i++)
        if (dim[i] < 0)
            return graft_fail(r->f.err, GRAFT_EFORMAT, "%s: tensor \"%s\" has the shape %s",
                              r->f.path, SHOW(t->name), SHOW_DIMS(ndim, dim));
    if (!tensor_shape(t, type, ndim, dim))
        return graft_fail(
            r->f.err, GRAFT_EFORMAT,
            "%s: tensor \"%s\": the shape %s of %s is too large or not in whole blocks", r->f.path,
            SHOW(t->name), SHOW_DIMS(ndim, dim), type_name);
    GRAFT_TRY(read_part(r, group, t->name, "data", H5T_INTEGER, 1, t->bytes, type_align(type),
                        &t->mat.data));
    return type == QT_NF4 || type == QT_FP4 ? read_scales(r, group, t) : GRAFT_OK;
}

static enum graft_status open_group(const struct h5_file *f, hid_t loc, const char *name,
                                    hid_t *out)
{
    *out = h5_has(loc, name) ? H5Gopen2(loc, name, H5P_DEFAULT) : H5I_INVALID_HID;
    if (*out >= 0)
        return GRAFT_OK;
    H5Eclear2(H5E_DEFAULT);
    return graft_fail(f->err, GRAFT_EFORMAT,
                      "%s: not a container of Graft: there is no group \"%s\"", f->path,
                      SHOW(name));
}

static enum graft_status read_named_tensor(struct reader *r, hid_t tensors, const char *name)
{
    struct stored_tensor *t;
    enum graft_status st;
    hid_t group;

    GRAFT_TRY(build_add(&r->b, &t, r->f.err));
    t->name = name;
    t->file = r->b.s.path;
    GRAFT_TRY(open_group(&r->f, tensors, name, &group));
    st = read_tensor(r, group, t);
    H5Gclose(group);
    return st;
}

static enum graft_status read_tensors(struct reader *r)
{
    struct h5_names names = { 0 };
    enum graft_status st;
    hid_t group;

    GRAFT_TRY(open_group(&r->f, r->f.id, "tensors", &group));
    st = h5_list(&r->f, group, "tensor", &r->b.s.mem, &names);
    for (int64_t i = 0; !st && i < names.count; i++)
        st = read_named_tensor(r, group, names.name[i]);
    mem_free(names.name);
    H5Gclose(group);
    return st;
}

/* Copied: a text file is wanted with a NUL behind it. */
static enum graft_status read_file(struct reader *r, hid_t files, const char *name,
                                   struct container_file *out)
{
    struct h5_bytes bytes;

    GRAFT_TRY(h5_get_bytes(&r->f, files, "files", name, H5T_INTEGER, 1, &bytes));
    GRAFT_TRY(add_sum(r, "", name, &bytes));
    out->name = name;
    out->len = bytes.len;
    out->data = arena_strndup(&r->b.s.mem, bytes.data, bytes.len);
    return out->data ? GRAFT_OK : graft_fail_nomem(r->f.err, SHOW(name), bytes.len);
}

static enum graft_status read_files(struct reader *r)
{
    struct h5_names names = { 0 };
    enum graft_status st;
    hid_t group;

    GRAFT_TRY(open_group(&r->f, r->f.id, "files", &group));
    st = h5_list(&r->f, group, "file", &r->b.s.mem, &names);
    if (!st) {
        r->c.file = arena_array(&r->b.s.mem, (size_t)names.count, sizeof *r->c.file);
        if (!r->c.file)
            st = graft_fail_nomem(r->f.err, r->f.path, (size_t)names.count * sizeof *r->c.file);
    }
    for (int64_t i = 0; !st && i < names.count; i++)
        st = read_file(r, group, names.name[i], &r->c.file[r->c.file_count++]);
    mem_free(names.name);
    H5Gclose(group);
    return st;
}

static enum graft_status read_head(struct reader *r)
{
    enum graft_status st;
    int64_t version = 0;
    int count = 0;
    hid_t group;

    GRAFT_TRY(open_group(&r->f, r->f.id, "graft", &group));
    st = h5_get_ints(&r->f, group, "graft", "version", 1, &version, &count);
    if (!st && (count != 1 || version != VERSION))
        st = graft_fail(r->f.err, GRAFT_EFORMAT,
                        "%s: container version %lld is not supported, wanted %d", r->f.path,
                        (long long)version, VERSION);
    r->c.base_hash = "";
    if (!st && H5Aexists(group, "base_hash") > 0)
        st = h5_get_text(&r->f, group, "graft", "base_hash", &r->b.s.mem, &r->c.base_hash);
    H5Gclose(group);
    return st;
}

static enum graft_status read_all(struct reader *r)
{
    struct container_sum *kept;
    const size_t one = sizeof *kept;

    GRAFT_TRY(read_head(r));
    GRAFT_TRY(read_tensors(r));
    GRAFT_TRY(read_files(r));
    kept = arena_array(&r->b.s.mem, (size_t)r->c.sum_count, one);
    if (!kept)
        return graft_fail_nomem(r->f.err, r->f.path, (size_t)r->c.sum_count * one);
    if (r->c.sum_count)
        memcpy(kept, r->sum, (size_t)r->c.sum_count * one);
    r->c.sum = kept;
    return GRAFT_OK;
}

static enum graft_status open_file(struct reader *r)
{
    GRAFT_TRY(build_map(&r->b, r->f.path, &r->f.map, r->f.err));
    return h5_open(&r->f, h5_magic, "container of Graft (graft quantize makes them)");
}

bool container_is(const char *path)
{
    return file_begins(path, h5_magic, sizeof h5_magic - 1);
}

enum graft_status container_open(const char *path, struct container *out, struct graft_err *err)
{
    struct reader r = { .f = { path, H5I_INVALID_HID, { NULL, 0 }, err } };
    struct h5_quiet quiet;
    enum graft_status st;

    GRAFT_TRY(build_begin(&r.b, path, "graft-h5", 1, err));
    h5_quiet_begin(&quiet);
    st = open_file(&r);
    if (!st)
        st = read_all(&r);
    if (r.f.id >= 0)
        H5Fclose(r.f.id);
    h5_quiet_end(&quiet);
    mem_free(r.sum);
    if (st)
        build_release(&r.b);
    else
        st = build_finish(&r.b, &r.c.store, err);
    if (!st)
        *out = r.c;
    return st;
}

void container_release(struct container *c)
{
    store_release(&c->store);
    *c = (struct container){ 0 };
}

const struct container_file *container_find_file(const struct container *c, const char *name)
{
    for (int i = 0; i < c->file_count; i++)
        if (strcmp(c->file[i].name, name) == 0)
            return &c->file[i];
    return NULL;
}

enum graft_status container_verify(const struct container *c, struct graft_err *err)
{
    for (int64_t i = 0; i < c->sum_count; i++) {
        const struct container_sum *s = &c->sum[i];
        char hex[65];

        sha256_hex(s->data, s->len, hex);
        if (memcmp(hex, s->hex, sizeof s->hex - 1) != 0)
            return graft_fail(err, GRAFT_EFORMAT,
                              "%s: \"%s\" is damaged: its checksum is %.16s, the file says %s",
                              c->store.path, SHOW(s->name), hex, SHOW(s->hex));
    }
    return GRAFT_OK;
}
