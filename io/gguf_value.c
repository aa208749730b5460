/* Typed access to the keys of a GGUF file. Bounds were checked when the file was opened. */
#include "io/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "io/build.h"

static int key_order(const void *a, const void *b)
{
    const char *key = a;
    const struct gguf_string *s = &((const struct gguf_value *)b)->key;
    const size_t len = strlen(key), n = len < s->len ? len : (size_t)s->len;
    const int d = memcmp(key, s->s, n);

    return d ? d : (len > s->len) - (len < s->len);
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    if (g->value_count == 0)
        return NULL;
    return bsearch(key, g->value, (size_t)g->value_count, sizeof *g->value, key_order);
}

static const char *type_name(enum gguf_type type)
{
    static const char *const name[GGUF_TYPE_COUNT] = { "u8",  "i8",  "u16",  "i16",    "u32",
                                                       "i32", "f32", "bool", "string", "array",
                                                       "u64", "i64", "f64" };

    return name[type];
}

static enum graft_status wrong_type(const struct gguf *g, const char *key,
                                    const struct gguf_value *v, const char *wanted,
                                    struct graft_err *err)
{
    const bool array = v->type == GGUF_ARRAY;

    return graft_fail(err, GRAFT_EFORMAT, "%s: key \"%s\": found %s%s, wanted %s", g->store.path,
                      key, array ? "an array of " : "", type_name(v->item), wanted);
}

/* Item i widened: integers to `*i64` (true), floats to `*f64` (false); u64 beyond 2^63 - 1 counts
 * as a float. */
static bool widen(enum gguf_type type, const void *data, uint64_t i, int64_t *i64, double *f64)
{
#define AT(ctype, var)                                                                             \
    ctype var;                                                                                     \
    memcpy(&var, (const char *)data + i * sizeof var, sizeof var)
#define INT_CASE(row, ctype)                                                                       \
    case row: {                                                                                    \
        AT(ctype, x);                                                                              \
        *i64 = (int64_t)x;                                                                         \
        *f64 = (double)x;                                                                          \
        return true;                                                                               \
    }
#define FLOAT_CASE(row, ctype)                                                                     \
    case row: {                                                                                    \
        AT(ctype, x);                                                                              \
        *f64 = (double)x;                                                                          \
        return false;                                                                              \
    }
    *f64 = 0;
    switch (type) {
        INT_CASE(GGUF_U8, uint8_t)
        INT_CASE(GGUF_I8, int8_t)
        INT_CASE(GGUF_U16, uint16_t)
        INT_CASE(GGUF_I16, int16_t)
        INT_CASE(GGUF_U32, uint32_t)
        INT_CASE(GGUF_I32, int32_t)
        INT_CASE(GGUF_I64, int64_t)
        FLOAT_CASE(GGUF_F32, float)
        FLOAT_CASE(GGUF_F64, double)
    case GGUF_BOOL: {
        AT(uint8_t, x);
        *i64 = x != 0;
        *f64 = x != 0;
        return true;
    }
    case GGUF_U64: {
        AT(uint64_t, x);
        *i64 = (int64_t)x;
        *f64 = (double)x;
        return x <= INT64_MAX;
    }
    default:
        return false;
    }
#undef FLOAT_CASE
#undef INT_CASE
#undef AT
}

enum graft_status gguf_int(const struct gguf *g, const char *key, int64_t dflt, int64_t *out,
                           struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    int64_t x = dflt;
    double f;

    if (v && (v->type == GGUF_ARRAY || !widen(v->type, v->data, 0, &x, &f)))
        return wrong_type(g, key, v, "an integer below 2^63", err);
    *out = x;
    return GRAFT_OK;
}

enum graft_status gguf_float(const struct gguf *g, const char *key, double dflt, double *out,
                             struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    double f = dflt;
    int64_t x;

    if (v && (v->type == GGUF_ARRAY || v->type == GGUF_STRING || v->type == GGUF_BOOL))
        return wrong_type(g, key, v, "a number", err);
    if (v)
        widen(v->type, v->data, 0, &x, &f);
    *out = f;
    return GRAFT_OK;
}

static const char *string_at(const char *p, struct gguf_string *out)
{
    memcpy(&out->len, p, sizeof out->len);
    out->s = p + sizeof out->len;
    return out->s + out->len;
}

enum graft_status gguf_str(struct gguf *g, const char *key, const char *dflt, const char **out,
                           struct graft_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    struct gguf_string s;
    char *copy;

    if (!v) {
        *out = dflt;
        return GRAFT_OK;
    }
    if (v->type != GGUF_STRING)
        return wrong_type(g, key, v, "a string", err);
    string_at(v->data, &s);
    if (memchr(s.s, 0, s.len))
        return graft_fail(err, GRAFT_EFORMAT, "%s: key \"%s\": the string holds U+0000",
                          g->store.path, key);
    copy = arena_strndup(&g->store.mem, s.s, s.len);
    if (!copy)
        return graft_fail_nomem(err, key, s.len);
    *out = copy;
    return GRAFT_OK;
}

double gguf_number_at(const struct gguf_value *v, uint64_t i)
{
    int64_t x;
    double f;

    widen(v->item, v->data, i, &x, &f);
    return f;
}

enum graft_status gguf_strings(struct gguf *g, const struct gguf_value *v,
                               const struct gguf_string **out, struct graft_err *err)
{
    const char *p = v->data;
    struct gguf_string *list;

    if (v->item != GGUF_STRING)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: key \"%s\": found an array of %s, wanted strings", g->store.path,
                          SHOW_BYTES(v->key.s, v->key.len), type_name(v->item));
    list = arena_array(&g->store.mem, (size_t)v->count, sizeof *list);
    if (!list)
        return graft_fail_nomem(err, SHOW_BYTES(v->key.s, v->key.len),
                                (size_t)v->count * sizeof *list);
    for (uint64_t i = 0; i < v->count; i++)
        p = string_at(p, &list[i]);
    *out = list;
    return GRAFT_OK;
}
