#include "io/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/build.h"

static int by_name(const void *a, const void *b)
{
    const struct stored_tensor *x = a, *y = b;

    return strcmp(x->name, y->name);
}

const struct stored_tensor *store_find(const struct store *s, const char *name)
{
    const struct stored_tensor key = { .name = name };

    if (s->count == 0)
        return NULL;
    return bsearch(&key, s->tensor, (size_t)s->count, sizeof *s->tensor, by_name);
}

void store_release(struct store *s)
{
    for (int i = 0; i < s->map_count; i++)
        file_unmap(&s->map[i]);
    arena_release(&s->mem);
    *s = (struct store){ 0 };
}

enum graft_status build_begin(struct store_build *b, const char *path, const char *format,
                              int map_count, struct graft_err *err)
{
    *b = (struct store_build){ 0 };
    b->s.format = format;
    b->s.path = arena_strdup(&b->s.mem, path);
    b->s.map = arena_array(&b->s.mem, (size_t)map_count, sizeof *b->s.map);
    if (!b->s.path || !b->s.map) {
        build_release(b);
        return graft_fail_nomem(err, path, (size_t)map_count * sizeof *b->s.map);
    }
    return GRAFT_OK;
}

enum graft_status build_map(struct store_build *b, const char *path, struct mapped_file *out,
                            struct graft_err *err)
{
    GRAFT_TRY(file_map(path, out, err));
    b->s.map[b->s.map_count++] = *out;
    return GRAFT_OK;
}

enum graft_status build_add(struct store_build *b, struct stored_tensor **out,
                            struct graft_err *err)
{
    if (b->count == b->cap) {
        const int64_t cap = b->cap ? 2 * b->cap : 64;
        void *p =
            mem_resize(b->item, (size_t)b->cap * sizeof *b->item, (size_t)cap * sizeof *b->item);

        if (!p)
            return graft_fail_nomem(err, b->s.path, (size_t)cap * sizeof *b->item);
        b->item = p;
        b->cap = cap;
    }
    *out = &b->item[b->count++];
    return GRAFT_OK;
}

void build_release(struct store_build *b)
{
    mem_free(b->item);
    store_release(&b->s);
    *b = (struct store_build){ 0 };
}

static enum graft_status finish(struct store_build *b, struct graft_err *err)
{
    struct store *s = &b->s;

    s->tensor = arena_array(&s->mem, (size_t)b->count, sizeof *s->tensor);
    if (!s->tensor)
        return graft_fail_nomem(err, s->path, (size_t)b->count * sizeof *s->tensor);
    if (b->count)
        memcpy(s->tensor, b->item, (size_t)b->count * sizeof *s->tensor);
    s->count = b->count;
    qsort(s->tensor, (size_t)s->count, sizeof *s->tensor, by_name);
    for (int64_t i = 1; i < s->count; i++) {
        const struct stored_tensor *x = &s->tensor[i - 1], *y = &s->tensor[i];

        if (strcmp(x->name, y->name) != 0)
            continue;
        if (strcmp(x->file, y->file) != 0)
            return graft_fail(err, GRAFT_EFORMAT, "%s: tensor \"%s\" is also in %s", y->file,
                              SHOW(y->name), x->file);
        return graft_fail(err, GRAFT_EFORMAT, "%s: tensor \"%s\" is there twice", y->file,
                          SHOW(y->name));
    }
    if (b->copied) {
        char size[32];

        graft_note("%s: some tensors are not aligned in the file; they take %s of memory", s->path,
                   format_bytes(size, (double)b->copied));
    }
    return GRAFT_OK;
}

enum graft_status build_finish(struct store_build *b, struct store *out, struct graft_err *err)
{
    const enum graft_status st = finish(b, err);

    if (!st) {
        *out = b->s;
        b->s = (struct store){ 0 };
    }
    build_release(b);
    return st;
}

size_t type_align(enum qtype type)
{
    const struct qtype_info *q = &qtypes[type];

    if (type == QT_NF4 || type == QT_FP4)
        return 1;
    return q->block > 1 ? 2 : (size_t)q->block_bytes; /* blocks hold f16 scales */
}

bool tensor_shape(struct stored_tensor *t, enum qtype type, int ndim, const int64_t *dim)
{
    const struct qtype_info *q = &qtypes[type];
    int64_t rows = 1, elems, bytes;

    t->mat.type = type;
    t->ndim = ndim;
    for (int i = 0; i < ndim; i++)
        t->dim[i] = dim[i];
    for (int i = 0; i + 1 < ndim; i++)
        if (__builtin_mul_overflow(rows, dim[i], &rows))
            return false;
    t->mat.rows = rows;
    t->mat.cols = ndim ? dim[ndim - 1] : 1;
    if (__builtin_mul_overflow(rows, t->mat.cols, &elems) || elems > INT64_MAX - 1)
        return false;
    if (type == QT_NF4 || type == QT_FP4) {
        t->bytes = (size_t)((elems + 1) / 2);
        return true;
    }
    if (t->mat.cols % q->block != 0 ||
        __builtin_mul_overflow(elems / q->block, (int64_t)q->block_bytes, &bytes))
        return false;
    t->bytes = (size_t)bytes;
    return true;
}

enum graft_status build_align(struct store_build *b, const char *name, const void **data,
                              size_t bytes, size_t align, struct graft_err *err)
{
    void *copy;

    if ((uintptr_t)*data % align == 0)
        return GRAFT_OK;
    copy = arena_alloc(&b->s.mem, bytes);
    if (!copy)
        return graft_fail_nomem(err, SHOW(name), bytes);
    memcpy(copy, *data, bytes);
    *data = copy;
    b->copied += bytes;
    return GRAFT_OK;
}

const char *show_bytes(struct shown *out, const char *s, size_t len)
{
    enum { ROOM = sizeof out->text - 4 };
    size_t n = 0;

    while (n < len) {
        uint32_t cp;
        int k = utf8_next(s + n, len - n, &cp);

        if (k == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            cp = '?';
            k = 1;
        }
        if (n + (size_t)k > ROOM) {
            memcpy(out->text + n, "...", 4);
            return out->text;
        }
        if (cp == '?')
            out->text[n] = '?';
        else
            memcpy(out->text + n, s + n, (size_t)k);
        n += (size_t)k;
    }
    out->text[n] = '\0';
    return out->text;
}

const char *show_dims(struct shown *out, int ndim, const int64_t *dim)
{
    size_t n = 0;

    for (int i = 0; i < ndim && n + 24 < sizeof out->text; i++)
        n += (size_t)snprintf(out->text + n, sizeof out->text - n, "%s%lld", i ? ", " : "(",
                              (long long)dim[i]);
    snprintf(out->text + n, sizeof out->text - n, ndim ? ")" : "()");
    return out->text;
}
