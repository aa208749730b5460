#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "io/safetensors_header.h"

/* One file: 8 bytes of header length, the header, the buffer to the end of the file. The checks
 * and their order are those of the reference (safetensors/src/tensor.rs). */
struct st_file {
    const char *name;
    const char *header; /* header_len bytes */
    size_t header_len;
    const char *buffer; /* buffer_len bytes */
    size_t buffer_len;
};

static enum graft_status check_utf8(const struct st_file *f, struct graft_err *err)
{
    const char *s = f->header;

    for (size_t i = 0; i < f->header_len;) {
        uint32_t cp;
        const int n = utf8_next(s + i, f->header_len - i, &cp);

        if (n == 0)
            return graft_fail(err, GRAFT_EFORMAT, "%s: header byte %zu is not UTF-8", f->name,
                              i + 8);
        i += (size_t)n;
    }
    return GRAFT_OK;
}

static enum graft_status split_file(const char *name, const void *bytes, size_t size,
                                    struct st_file *f, struct graft_err *err)
{
    uint64_t n = 0;

    if (size < sizeof n)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: %zu bytes are too few for a safetensors file, which has at least 8",
                          name, size);
    memcpy(&n, bytes, sizeof n);
    if (n > ST_HEADER_MAX)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: not a safetensors file: it would have a header of %llu bytes, at "
                          "most %d are allowed",
                          name, (unsigned long long)n, ST_HEADER_MAX);
    if (n > size - sizeof n)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: the header of %llu bytes does not fit into the file of %zu bytes",
                          name, (unsigned long long)n, size);
    f->name = name;
    f->header = (const char *)bytes + sizeof n;
    f->header_len = (size_t)n;
    f->buffer = f->header + n;
    f->buffer_len = size - sizeof n - (size_t)n;
    return check_utf8(f, err);
}

static int by_offset(const void *a, const void *b)
{
    const struct st_entry *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Step 7: the shape's bytes, by checked multiplication, are the bytes that the offsets span. */
static enum graft_status check_size(const struct st_file *f, const struct st_entry *e,
                                    struct graft_err *err)
{
    const struct st_dtype *d = &st_dtypes[e->dtype];
    uint64_t n = 1;
    bool over = false;

    for (int i = 0; i < e->ndim; i++)
        over |= __builtin_mul_overflow(n, (uint64_t)e->dim[i], &n);
    over |= __builtin_mul_overflow(n, (uint64_t)d->bits, &n);
    if (over)
        return graft_fail(err, GRAFT_EFORMAT, "%s: tensor \"%s\": the shape %s of %s is too large",
                          f->name, SHOW(e->name), SHOW_DIMS(e->ndim, e->dim), d->name);
    if (n % 8 != 0)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: tensor \"%s\": the shape %s of %s does not end on a whole byte",
                          f->name, SHOW(e->name), SHOW_DIMS(e->ndim, e->dim), d->name);
    if (n / 8 != e->end - e->begin)
        return graft_fail(
            err, GRAFT_EFORMAT,
            "%s: tensor \"%s\": the shape %s of %s takes %llu bytes, its data_offsets "
            "span %llu",
            f->name, SHOW(e->name), SHOW_DIMS(e->ndim, e->dim), d->name,
            (unsigned long long)(n / 8), (unsigned long long)(e->end - e->begin));
    return GRAFT_OK;
}

/* Step 6: in order of their offsets, each tensor starts where the one before it ended. */
static enum graft_status check_layout(const struct st_file *f, const struct st_header *h,
                                      struct graft_err *err)
{
    uint64_t at = 0;

    for (int64_t i = 0; i < h->count; i++) {
        const struct st_entry *e = &h->entry[i];

        if (e->begin != at || e->end < e->begin)
            return graft_fail(
                err, GRAFT_EFORMAT,
                "%s: tensor \"%s\": data_offsets [%llu, %llu), wanted a start at %llu, "
                "where the tensor before it ends",
                f->name, SHOW(e->name), (unsigned long long)e->begin, (unsigned long long)e->end,
                (unsigned long long)at);
        at = e->end;
        GRAFT_TRY(check_size(f, e, err));
    }
    if (at != f->buffer_len)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: its tensors take %llu bytes, the file has %zu bytes of data (%s)",
                          f->name, (unsigned long long)at, f->buffer_len,
                          at > f->buffer_len ? "it is cut short" : "more than it should");
    return GRAFT_OK;
}

static enum graft_status add_tensor(struct store_build *b, const struct st_file *f,
                                    const struct st_entry *e, struct graft_err *err)
{
    const struct st_dtype *d = &st_dtypes[e->dtype];
    struct stored_tensor *t;

    if (d->type == QT_COUNT)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: tensor \"%s\" has the dtype %s, which is not supported", f->name,
                          SHOW(e->name), d->name);
    GRAFT_TRY(build_add(b, &t, err));
    t->name = e->name;
    t->file = f->name;
    t->mat.data = f->buffer + e->begin;
    if (!tensor_shape(t, d->type, e->ndim, e->dim))
        return graft_fail(err, GRAFT_EFORMAT, "%s: tensor \"%s\": the shape %s is too large",
                          f->name, SHOW(e->name), SHOW_DIMS(e->ndim, e->dim));
    return build_align(b, e->name, &t->mat.data, t->bytes, type_align(d->type), err);
}

enum graft_status st_file_read(struct store_build *b, const char *name, const void *bytes,
                               size_t size, struct graft_err *err)
{
    struct st_file f = { 0 };
    struct st_header h = { NULL, 0, 0 };
    enum graft_status st;

    GRAFT_TRY(split_file(name, bytes, size, &f, err));
    st = st_header_read(name, f.header, f.header_len, &b->s.mem, &h, err);
    if (!st) {
        if (h.count)
            qsort(h.entry, (size_t)h.count, sizeof *h.entry, by_offset);
        st = check_layout(&f, &h, err);
    }
    for (int64_t i = 0; !st && i < h.count; i++)
        st = add_tensor(b, &f, &h.entry[i], err);
    mem_free(h.entry);
    return st;
}

enum graft_status safetensors_parse(const char *name, const void *bytes, size_t size,
                                    struct store *out, struct graft_err *err)
{
    struct store_build b;
    enum graft_status st;

    GRAFT_TRY(build_begin(&b, name, "safetensors", 0, err));
    st = st_file_read(&b, b.s.path, bytes, size, err);
    if (!st)
        return build_finish(&b, out, err);
    build_release(&b);
    return st;
}

enum graft_status safetensors_open(const char *path, struct store *out, struct graft_err *err)
{
    struct store_build b;
    struct mapped_file m;
    enum graft_status st;

    GRAFT_TRY(build_begin(&b, path, "safetensors", 1, err));
    st = build_map(&b, path, &m, err);
    if (!st)
        st = st_file_read(&b, b.s.path, m.data, m.size, err);
    if (!st)
        return build_finish(&b, out, err);
    build_release(&b);
    return st;
}
