#include "io/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "io/build.h"

/* Reading position. Whatever is taken is checked against what is left first. */
struct cursor {
    const char *file;
    const unsigned char *start, *p, *end;
    struct graft_err *err;
};

static enum graft_status too_short(const struct cursor *c, const char *what)
{
    return graft_fail(c->err, GRAFT_EFORMAT, "%s: cut short: at byte %zu of %zu, %s does not fit",
                      c->file, (size_t)(c->p - c->start), (size_t)(c->end - c->start), what);
}

static enum graft_status take(struct cursor *c, void *out, size_t n, const char *what)
{
    if ((size_t)(c->end - c->p) < n)
        return too_short(c, what);
    memcpy(out, c->p, n);
    c->p += n;
    return GRAFT_OK;
}

static enum graft_status take_string(struct cursor *c, struct gguf_string *out, const char *what)
{
    GRAFT_TRY(take(c, &out->len, sizeof out->len, what));
    if (out->len > (uint64_t)(c->end - c->p))
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: cut short: %s at byte %zu would have %llu bytes, %zu are left",
                          c->file, what, (size_t)(c->p - c->start), (unsigned long long)out->len,
                          (size_t)(c->end - c->p));
    out->s = (const char *)c->p;
    c->p += out->len;
    return GRAFT_OK;
}

/* A key or a tensor's name: not empty, no U+0000, so that it can be a C string. */
static enum graft_status take_name(struct cursor *c, struct gguf_string *out, const char *what)
{
    GRAFT_TRY(take_string(c, out, what));
    if (out->len == 0 || memchr(out->s, 0, out->len))
        return graft_fail(c->err, GRAFT_EFORMAT, "%s: %s \"%s\" is empty or holds U+0000", c->file,
                          what, SHOW_BYTES(out->s, out->len));
    return GRAFT_OK;
}

/* Bytes of a value; 0: of no fixed size. */
static const uint8_t value_bytes[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

size_t gguf_value_bytes(const struct gguf_value *v)
{
    const char *p = v->data;

    if (v->item != GGUF_STRING)
        return (size_t)v->count * value_bytes[v->item];
    for (uint64_t i = 0, len; i < v->count; i++) {
        memcpy(&len, p, sizeof len);
        p += sizeof len + len;
    }
    return (size_t)(p - (const char *)v->data);
}

static enum graft_status take_type(struct cursor *c, const struct gguf_string *key,
                                   enum gguf_type *out)
{
    uint32_t type = 0;

    GRAFT_TRY(take(c, &type, sizeof type, "the type of a value"));
    if (type >= GGUF_TYPE_COUNT)
        return graft_fail(c->err, GRAFT_EFORMAT, "%s: key \"%s\" has the unknown value type %u",
                          c->file, SHOW_BYTES(key->s, key->len), type);
    *out = (enum gguf_type)type;
    return GRAFT_OK;
}

static enum graft_status take_value(struct cursor *c, struct gguf_value *v)
{
    const size_t name_room = 8; /* the least a string takes in the file */
    struct gguf_string text = { NULL, 0 };
    size_t size;

    GRAFT_TRY(take_name(c, &v->key, "a key"));
    GRAFT_TRY(take_type(c, &v->key, &v->type));
    v->item = v->type;
    v->count = 1;
    if (v->type == GGUF_ARRAY) {
        GRAFT_TRY(take_type(c, &v->key, &v->item));
        GRAFT_TRY(take(c, &v->count, sizeof v->count, "the length of an array"));
    }
    if (v->item == GGUF_ARRAY)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: key \"%s\" is an array of arrays, which is not supported", c->file,
                          SHOW_BYTES(v->key.s, v->key.len));
    size = v->item == GGUF_STRING ? name_room : value_bytes[v->item];
    if (v->count > (uint64_t)(c->end - c->p) / size)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: cut short: key \"%s\" would have %llu values, %zu bytes are left",
                          c->file, SHOW_BYTES(v->key.s, v->key.len), (unsigned long long)v->count,
                          (size_t)(c->end - c->p));
    v->data = c->p;
    if (v->item != GGUF_STRING) {
        c->p += v->count * size;
        return GRAFT_OK;
    }
    for (uint64_t i = 0; i < v->count; i++)
        GRAFT_TRY(take_string(c, &text, "a string"));
    return GRAFT_OK;
}

struct head {
    uint64_t tensors, values;
};

static enum graft_status take_head(struct cursor *c, struct head *h)
{
    char magic[4] = { 0 };
    uint32_t version = 0;

    GRAFT_TRY(take(c, magic, sizeof magic, "a GGUF header"));
    if (memcmp(magic, "GGUF", 4) != 0)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: not a GGUF file: it begins with \"%s\", wanted \"GGUF\"", c->file,
                          SHOW_BYTES(magic, 4));
    GRAFT_TRY(take(c, &version, sizeof version, "the version"));
    if (version && (version & 0xffff) == 0)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: a big-endian GGUF file, only little-endian ones are supported",
                          c->file);
    if (version != 2 && version != 3)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: GGUF version %u is not supported, wanted 2 or 3", c->file, version);
    GRAFT_TRY(take(c, &h->tensors, sizeof h->tensors, "the number of tensors"));
    GRAFT_TRY(take(c, &h->values, sizeof h->values, "the number of keys"));
    /* The least a tensor's entry takes is 8 + 4 + 4 + 8 bytes and a name, a key's 8 + 4 + 1. */
    if (h->tensors > (uint64_t)(c->end - c->p) / 25 || h->values > (uint64_t)(c->end - c->p) / 14)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: %llu tensors and %llu keys do not fit into the %zu bytes behind the "
                          "header",
                          c->file, (unsigned long long)h->tensors, (unsigned long long)h->values,
                          (size_t)(c->end - c->p));
    return GRAFT_OK;
}

static int compare_strings(const struct gguf_string *a, const struct gguf_string *b)
{
    const size_t n = a->len < b->len ? a->len : b->len;
    const int d = memcmp(a->s, b->s, n);

    return d ? d : (a->len > b->len) - (a->len < b->len);
}

static int by_key(const void *a, const void *b)
{
    return compare_strings(&((const struct gguf_value *)a)->key,
                           &((const struct gguf_value *)b)->key);
}

static enum graft_status take_values(struct cursor *c, struct store_build *b, uint64_t count,
                                     struct gguf *g)
{
    g->value = arena_array(&b->s.mem, (size_t)count, sizeof *g->value);
    if (!g->value)
        return graft_fail_nomem(c->err, c->file, (size_t)count * sizeof *g->value);
    for (uint64_t i = 0; i < count; i++)
        GRAFT_TRY(take_value(c, &g->value[i]));
    g->value_count = (int64_t)count;
    if (count)
        qsort(g->value, (size_t)count, sizeof *g->value, by_key);
    for (uint64_t i = 1; i < count; i++)
        if (by_key(&g->value[i - 1], &g->value[i]) == 0)
            return graft_fail(c->err, GRAFT_EFORMAT, "%s: key \"%s\" is there twice", c->file,
                              SHOW_BYTES(g->value[i].key.s, g->value[i].key.len));
    return GRAFT_OK;
}

/* Types of ggml by number; where `type` is QT_COUNT the name is all that is known here. */
static const struct {
    const char *name;
    enum qtype type;
} ggml_types[] = {
    { "F32", QT_F32 },
    { "F16", QT_F16 },
    { "Q4_0", QT_Q4_0 },
    { "Q4_1", QT_Q4_1 },
    { "Q4_2", QT_COUNT },
    { "Q4_3", QT_COUNT },
    { "Q5_0", QT_Q5_0 },
    { "Q5_1", QT_Q5_1 },
    { "Q8_0", QT_Q8_0 },
    { "Q8_1", QT_COUNT },
    { "Q2_K", QT_COUNT },
    { "Q3_K", QT_COUNT },
    { "Q4_K", QT_Q4_K },
    { "Q5_K", QT_Q5_K },
    { "Q6_K", QT_Q6_K },
    { "Q8_K", QT_COUNT },
    { "IQ2_XXS", QT_COUNT },
    { "IQ2_XS", QT_COUNT },
    { "IQ3_XXS", QT_COUNT },
    { "IQ1_S", QT_COUNT },
    { "IQ4_NL", QT_COUNT },
    { "IQ3_S", QT_COUNT },
    { "IQ2_S", QT_COUNT },
    { "IQ4_XS", QT_COUNT },
    { "I8", QT_I8 },
    { "I16", QT_I16 },
    { "I32", QT_I32 },
    { "I64", QT_I64 },
    { "F64", QT_F64 },
    { "IQ1_M", QT_COUNT },
    { "BF16", QT_BF16 },
    { "Q4_0_4_4", QT_COUNT },
    { "Q4_0_4_8", QT_COUNT },
    { "Q4_0_8_8", QT_COUNT },
    { "TQ1_0", QT_COUNT },
    { "TQ2_0", QT_COUNT },
    { "IQ4_NL_4_4", QT_COUNT },
    { "IQ4_NL_4_8", QT_COUNT },
    { "IQ4_NL_8_8", QT_COUNT },
    { "MXFP4", QT_COUNT },
};
enum { GGML_TYPES = sizeof ggml_types / sizeof *ggml_types, GGML_MAX_DIMS = 4 };

int gguf_type_id(enum qtype type)
{
    for (int i = 0; i < GGML_TYPES && type != QT_COUNT; i++)
        if (ggml_types[i].type == type)
            return i;
    return -1;
}

static enum graft_status take_tensor_type(struct cursor *c, const char *name, enum qtype *out)
{
    uint32_t id = 0;

    GRAFT_TRY(take(c, &id, sizeof id, "the type of a tensor"));
    if (id >= GGML_TYPES)
        return graft_fail(c->err, GRAFT_EFORMAT, "%s: tensor \"%s\" has the unknown type %u",
                          c->file, SHOW(name), id);
    if (ggml_types[id].type == QT_COUNT)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: tensor \"%s\" has the type %s, which is not supported (supported: "
                          "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K)",
                          c->file, SHOW(name), ggml_types[id].name);
    *out = ggml_types[id].type;
    return GRAFT_OK;
}

/* ggml counts dimensions from the contiguous one; ours end with it. */
static enum graft_status take_dims(struct cursor *c, const char *name, uint32_t *ndim,
                                   int64_t dim[GGML_MAX_DIMS])
{
    uint64_t ne = 0;

    GRAFT_TRY(take(c, ndim, sizeof *ndim, "the shape of a tensor"));
    if (*ndim > GGML_MAX_DIMS)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: tensor \"%s\" has %u dimensions, at most %d are allowed", c->file,
                          SHOW(name), *ndim, GGML_MAX_DIMS);
    for (uint32_t i = 0; i < *ndim; i++) {
        GRAFT_TRY(take(c, &ne, sizeof ne, "the shape of a tensor"));
        if (ne > INT64_MAX)
            return graft_fail(c->err, GRAFT_EFORMAT,
                              "%s: tensor \"%s\": dimension %llu is too large", c->file, SHOW(name),
                              (unsigned long long)ne);
        dim[*ndim - 1 - i] = (int64_t)ne;
    }
    return GRAFT_OK;
}

/* `span`: where the data is, counted from the start of the data. */
struct span {
    uint64_t begin, end;
    const char *name;
};

static enum graft_status take_tensor(struct cursor *c, struct store_build *b, struct span *span)
{
    struct gguf_string name = { NULL, 0 };
    struct stored_tensor *t;
    enum qtype type = QT_F32;
    uint32_t ndim = 0;
    int64_t dim[GGML_MAX_DIMS] = { 0 };

    GRAFT_TRY(take_name(c, &name, "the name of a tensor"));
    GRAFT_TRY(build_add(b, &t, c->err));
    t->file = b->s.path;
    t->name = arena_strndup(&b->s.mem, name.s, name.len);
    if (!t->name)
        return graft_fail_nomem(c->err, c->file, name.len);
    GRAFT_TRY(take_dims(c, t->name, &ndim, dim));
    GRAFT_TRY(take_tensor_type(c, t->name, &type));
    if (!tensor_shape(t, type, (int)ndim, dim))
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: tensor \"%s\": the shape %s is too large, or a row of %s is not a "
                          "multiple of %d",
                          c->file, SHOW(t->name), SHOW_DIMS((int)ndim, dim), qtypes[type].name,
                          qtypes[type].block);
    GRAFT_TRY(take(c, &span->begin, sizeof span->begin, "the offset of a tensor"));
    span->name = t->name;
    if (__builtin_add_overflow(span->begin, t->bytes, &span->end))
        return graft_fail(c->err, GRAFT_EFORMAT, "%s: tensor \"%s\": offset %llu is too large",
                          c->file, SHOW(t->name), (unsigned long long)span->begin);
    return GRAFT_OK;
}

static int by_begin(const void *a, const void *b)
{
    const struct span *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Sorts `span`. */
static enum graft_status check_overlap(const struct cursor *c, struct span *span, int64_t count)
{
    qsort(span, (size_t)count, sizeof *span, by_begin);
    for (int64_t i = 1; i < count; i++)
        if (span[i].begin < span[i - 1].end)
            return graft_fail(c->err, GRAFT_EFORMAT, "%s: tensors \"%s\" and \"%s\" overlap",
                              c->file, SHOW(span[i - 1].name), SHOW(span[i].name));
    return GRAFT_OK;
}

/* Data begins at the next multiple of the alignment, and so does every tensor in it. */
static enum graft_status place_tensors(struct cursor *c, struct store_build *b,
                                       const struct span *span, uint64_t align)
{
    const size_t head = (size_t)(c->p - c->start), size = (size_t)(c->end - c->start);
    const size_t pad = (size_t)((align - head % align) % align);
    const size_t room = pad <= size - head ? size - head - pad : 0;

    for (int64_t i = 0; i < b->count; i++) {
        struct stored_tensor *t = &b->item[i];

        if (span[i].begin % align != 0)
            return graft_fail(
                c->err, GRAFT_EFORMAT,
                "%s: tensor \"%s\": offset %llu is not a multiple of the alignment %llu", c->file,
                SHOW(t->name), (unsigned long long)span[i].begin, (unsigned long long)align);
        if (span[i].end > room)
            return graft_fail(c->err, GRAFT_EFORMAT,
                              "%s: tensor \"%s\": bytes %llu to %llu of the data do not fit, the "
                              "file has %zu",
                              c->file, SHOW(t->name), (unsigned long long)span[i].begin,
                              (unsigned long long)span[i].end, room);
        t->mat.data = room ? c->p + pad + span[i].begin : c->p;
        GRAFT_TRY(build_align(b, t->name, &t->mat.data, t->bytes, type_align(t->mat.type), c->err));
    }
    return GRAFT_OK;
}

static enum graft_status take_tensors(struct cursor *c, struct store_build *b, uint64_t count,
                                      uint64_t align)
{
    struct span *span = mem_array((size_t)count, sizeof *span);
    enum graft_status st = GRAFT_OK;

    if (!span)
        return graft_fail_nomem(c->err, c->file, (size_t)count * sizeof *span);
    for (uint64_t i = 0; !st && i < count; i++)
        st = take_tensor(c, b, &span[i]);
    if (!st)
        st = place_tensors(c, b, span, align);
    if (!st && count)
        st = check_overlap(c, span, (int64_t)count);
    mem_free(span);
    return st;
}

static enum graft_status check_keys(const struct cursor *c, const struct gguf *g, int64_t *align)
{
    int64_t parts = 1;

    GRAFT_TRY(gguf_int(g, "general.alignment", 32, align, c->err));
    if (*align < 1 || *align > 1 << 30 || (*align & (*align - 1)) != 0)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: general.alignment is %lld, wanted a power of two up to 2^30",
                          c->file, (long long)*align);
    GRAFT_TRY(gguf_int(g, "split.count", 1, &parts, c->err));
    if (parts > 1)
        return graft_fail(c->err, GRAFT_EFORMAT,
                          "%s: one of %lld parts of a model; join them first: "
                          "llama-gguf-split --merge FIRST-PART OUT",
                          c->file, (long long)parts);
    return GRAFT_OK;
}

static enum graft_status parse(struct store_build *b, const void *bytes, size_t size,
                               struct gguf *g, struct graft_err *err)
{
    const unsigned char *p = bytes;
    struct cursor c = { b->s.path, p, p, p + size, err };
    struct head h = { 0, 0 };
    int64_t align = 32;

    g->store.path = b->s.path; /* gguf_int names it */
    GRAFT_TRY(take_head(&c, &h));
    GRAFT_TRY(take_values(&c, b, h.values, g));
    GRAFT_TRY(check_keys(&c, g, &align));
    return take_tensors(&c, b, h.tensors, (uint64_t)align);
}

static enum graft_status finish(struct store_build *b, const void *bytes, size_t size,
                                struct gguf *out, struct graft_err *err)
{
    static const unsigned char nothing[1];
    struct gguf g = { 0 };
    enum graft_status st = parse(b, bytes ? bytes : nothing, size, &g, err);

    if (!st)
        st = build_finish(b, &g.store, err);
    else
        build_release(b);
    if (!st)
        *out = g;
    return st;
}

enum graft_status gguf_parse(const char *name, const void *bytes, size_t size, struct gguf *out,
                             struct graft_err *err)
{
    struct store_build b;

    GRAFT_TRY(build_begin(&b, name, "gguf", 0, err));
    return finish(&b, bytes, size, out, err);
}

bool gguf_is(const char *path)
{
    return file_begins(path, "GGUF", 4);
}

enum graft_status gguf_open(const char *path, struct gguf *out, struct graft_err *err)
{
    struct store_build b;
    struct mapped_file m;
    enum graft_status st;

    GRAFT_TRY(build_begin(&b, path, "gguf", 1, err));
    st = build_map(&b, path, &m, err);
    if (!st)
        return finish(&b, m.data, m.size, out, err);
    build_release(&b);
    return st;
}

void gguf_release(struct gguf *g)
{
    store_release(&g->store);
    *g = (struct gguf){ 0 };
}
