#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "io/safetensors_header.h"

struct plan {
    const struct safetensors_entry *e;
    int rank; /* row of st_dtypes */
    size_t bytes;
};

/* dtype descending, then name ascending: alignment falls, so that no tensor needs padding. */
static int by_file_order(const void *a, const void *b)
{
    const struct plan *x = a, *y = b;

    if (x->rank != y->rank)
        return x->rank > y->rank ? -1 : 1;
    return strcmp(x->e->name, y->e->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct plan *)a)->e->name, ((const struct plan *)b)->e->name);
}

/* Puts the tensors into file order. */
static enum graft_status sort_plan(const char *path, struct plan *plan, int64_t count,
                                   struct graft_err *err)
{
    if (count == 0)
        return GRAFT_OK;
    qsort(plan, (size_t)count, sizeof *plan, by_name);
    for (int64_t i = 1; i < count; i++)
        if (strcmp(plan[i - 1].e->name, plan[i].e->name) == 0)
            return graft_fail(err, GRAFT_EARG, "%s: tensor \"%s\" is given twice", path,
                              SHOW(plan[i].e->name));
    qsort(plan, (size_t)count, sizeof *plan, by_file_order);
    return GRAFT_OK;
}

static bool is_utf8(const char *s)
{
    size_t len = strlen(s);

    while (len) {
        uint32_t cp;
        const int n = utf8_next(s, len, &cp);

        if (n == 0)
            return false;
        s += n;
        len -= (size_t)n;
    }
    return true;
}

static enum graft_status plan_entry(const char *path, const struct safetensors_entry *e,
                                    struct plan *p, struct graft_err *err)
{
    struct stored_tensor t = { 0 };

    p->e = e;
    for (p->rank = 0; p->rank < ST_DTYPE_COUNT; p->rank++)
        if (st_dtypes[p->rank].type == e->type)
            break;
    if (p->rank == ST_DTYPE_COUNT)
        return graft_fail(err, GRAFT_EARG, "%s: tensor \"%s\": safetensors has no type %s", path,
                          SHOW(e->name), qtypes[e->type].name);
    if (!is_utf8(e->name) || strcmp(e->name, "__metadata__") == 0)
        return graft_fail(err, GRAFT_EARG, "%s: \"%s\" cannot be the name of a tensor", path,
                          SHOW(e->name));
    for (int i = 0; i < e->ndim; i++)
        if (e->dim[i] < 0)
            return graft_fail(err, GRAFT_EARG, "%s: tensor \"%s\" has the shape %s", path,
                              SHOW(e->name), SHOW_DIMS(e->ndim, e->dim));
    if (!tensor_shape(&t, e->type, e->ndim, e->dim))
        return graft_fail(err, GRAFT_EARG, "%s: tensor \"%s\": the shape %s is too large", path,
                          SHOW(e->name), SHOW_DIMS(e->ndim, e->dim));
    p->bytes = t.bytes;
    return GRAFT_OK;
}

/* As serde_json writes a string: short escapes where JSON has them, UTF-8 as it is. */
static void put_string(struct strbuf *out, const char *s)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";

    strbuf_putc(out, '"');
    for (; *s; s++) {
        const char *hit = strchr(from, *s);

        if (hit)
            strbuf_printf(out, "\\%c", to[hit - from]);
        else if ((unsigned char)*s < 0x20)
            strbuf_printf(out, "\\u%04x", (unsigned)*s);
        else
            strbuf_putc(out, *s);
    }
    strbuf_putc(out, '"');
}

static void put_entry(struct strbuf *out, const struct plan *p, uint64_t at)
{
    put_string(out, p->e->name);
    strbuf_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", st_dtypes[p->rank].name);
    for (int i = 0; i < p->e->ndim; i++)
        strbuf_printf(out, "%s%lld", i ? "," : "", (long long)p->e->dim[i]);
    strbuf_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                  (unsigned long long)(at + p->bytes));
}

static enum graft_status make_header(const char *path, const struct plan *plan, int64_t count,
                                     const char *const *metadata, struct strbuf *out,
                                     struct graft_err *err)
{
    uint64_t at = 0;

    strbuf_putc(out, '{');
    if (metadata && metadata[0]) {
        strbuf_puts(out, "\"__metadata__\":{");
        for (int i = 0; metadata[i]; i += 2) {
            if (!is_utf8(metadata[i]) || !is_utf8(metadata[i + 1]))
                return graft_fail(err, GRAFT_EARG, "%s: the metadata \"%s\" is not UTF-8", path,
                                  SHOW(metadata[i]));
            if (i)
                strbuf_putc(out, ',');
            put_string(out, metadata[i]);
            strbuf_putc(out, ':');
            put_string(out, metadata[i + 1]);
        }
        strbuf_putc(out, '}');
    }
    for (int64_t i = 0; i < count; i++) {
        if (i || (metadata && metadata[0]))
            strbuf_putc(out, ',');
        put_entry(out, &plan[i], at);
        if (__builtin_add_overflow(at, plan[i].bytes, &at))
            return graft_fail(err, GRAFT_EARG, "%s: the tensors are too large for one file", path);
    }
    strbuf_putc(out, '}');
    while (out->len % 8 != 0 && !out->failed)
        strbuf_putc(out, ' ');
    if (out->failed)
        return graft_fail_nomem(err, path, out->len);
    if (out->len > ST_HEADER_MAX)
        return graft_fail(err, GRAFT_EARG,
                          "%s: the header would have %zu bytes, the format allows %d", path,
                          out->len, ST_HEADER_MAX);
    return GRAFT_OK;
}

static enum graft_status write_tensors(const char *path, const struct plan *plan, int64_t count,
                                       safetensors_fill *fill, void *user, struct out_file *f,
                                       struct graft_err *err)
{
    /* A disk that is full shows at commit; what is left to compute would be for nothing. */
    for (int64_t i = 0; i < count && !out_file_failed(f); i++) {
        const uint64_t before = out_file_bytes(f);

        GRAFT_TRY(fill(user, plan[i].e, f, err));
        if (out_file_bytes(f) - before != plan[i].bytes)
            return graft_fail(err, GRAFT_EARG,
                              "%s: tensor \"%s\" takes %zu bytes, %llu were written", path,
                              SHOW(plan[i].e->name), plan[i].bytes,
                              (unsigned long long)(out_file_bytes(f) - before));
    }
    return GRAFT_OK;
}

static enum graft_status write_file(const char *path, const struct plan *plan, int64_t count,
                                    const struct strbuf *header, safetensors_fill *fill, void *user,
                                    struct graft_err *err)
{
    struct out_file *f = NULL;
    const uint64_t n = header->len;
    enum graft_status st;

    GRAFT_TRY(out_file_open(path, &f, err));
    out_file_write(f, &n, sizeof n);
    out_file_write(f, header->buf, header->len);
    st = write_tensors(path, plan, count, fill, user, f, err);
    if (!st)
        return out_file_commit(f, err);
    out_file_abort(f);
    return st;
}

enum graft_status safetensors_write(const char *path, const struct safetensors_entry *entries,
                                    int64_t count, const char *const *metadata,
                                    safetensors_fill *fill, void *user, struct graft_err *err)
{
    struct plan *plan = mem_array((size_t)count, sizeof *plan);
    struct strbuf header = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    if (!plan)
        return graft_fail_nomem(err, path, (size_t)count * sizeof *plan);
    for (int64_t i = 0; !st && i < count; i++)
        st = plan_entry(path, &entries[i], &plan[i], err);
    if (!st)
        st = sort_plan(path, plan, count, err);
    if (!st)
        st = make_header(path, plan, count, metadata, &header, err);
    if (!st)
        st = write_file(path, plan, count, &header, fill, user, err);
    strbuf_release(&header);
    mem_free(plan);
    return st;
}

static const char metadata_begins[] = "{\"__metadata__\":{";

/* The old header with the pair as the metadata's first. */
static enum graft_status annotated_header(const struct mapped_file *m, uint64_t len,
                                          const char *path, const char *key, const char *value,
                                          struct strbuf *out, struct graft_err *err)
{
    const char *old = (const char *)m->data + sizeof len;
    const size_t begin = sizeof metadata_begins - 1;

    if (len < begin || memcmp(old, metadata_begins, begin) != 0)
        return graft_fail(err, GRAFT_EARG, "%s: the file has no metadata to add to", path);
    while (len > begin && old[len - 1] == ' ')
        len--;
    strbuf_add(out, old, begin);
    put_string(out, key);
    strbuf_putc(out, ':');
    put_string(out, value);
    if (old[begin] != '}')
        strbuf_putc(out, ',');
    strbuf_add(out, old + begin, len - begin);
    while (out->len % 8 != 0 && !out->failed)
        strbuf_putc(out, ' ');
    return out->failed ? graft_fail_nomem(err, path, out->len) : GRAFT_OK;
}

enum graft_status safetensors_annotate(const char *path, const char *key, const char *value,
                                       struct graft_err *err)
{
    enum { PIECE = 16 << 20 };
    struct strbuf header = STRBUF_INIT;
    struct mapped_file m = { NULL, 0 };
    struct out_file *f = NULL;
    uint64_t len = 0, n;
    enum graft_status st;

    GRAFT_TRY(file_map(path, &m, err));
    if (m.size >= sizeof len)
        memcpy(&len, m.data, sizeof len);
    st = len && len <= m.size - sizeof len
             ? annotated_header(&m, len, path, key, value, &header, err)
             : graft_fail(err, GRAFT_EFORMAT, "%s: cut short", path);
    if (!st)
        st = out_file_open(path, &f, err);
    if (!st) {
        n = header.len;
        out_file_write(f, &n, sizeof n);
        out_file_write(f, header.buf, header.len);
        for (size_t i = sizeof len + len; i < m.size; i += PIECE) {
            const size_t step = m.size - i < PIECE ? m.size - i : PIECE;

            out_file_write(f, (const char *)m.data + i, step);
            file_forget((const char *)m.data + i, step);
        }
        st = out_file_commit(f, err);
    }
    strbuf_release(&header);
    file_unmap(&m);
    return st;
}

enum graft_status safetensors_metadata(const char *path, const char *key, struct strbuf *out,
                                       struct graft_err *err)
{
    struct mapped_file m = { NULL, 0 };
    uint64_t len = 0;
    json_t *o = NULL;
    const char *text;
    enum graft_status st;

    GRAFT_TRY(file_map(path, &m, err));
    if (m.size >= sizeof len)
        memcpy(&len, m.data, sizeof len);
    st = len && len <= ST_HEADER_MAX && len <= m.size - sizeof len
             ? json_read(path, (const char *)m.data + sizeof len, len, &o, err)
             : graft_fail(err, GRAFT_EFORMAT, "%s: cut short", path);
    text = json_string_value(json_object_get(json_object_get(o, "__metadata__"), key));
    if (text)
        strbuf_puts(out, text);
    json_decref(o);
    file_unmap(&m);
    return st;
}
