/* io/gguf.h - GGUF models, version 2 and 3 (ggml-org: gguf-py constants.py, quants.py). */
#ifndef IO_GGUF_H
#define IO_GGUF_H

#include "io/store.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

struct gguf_string {
    const char *s; /* in the mapped file, not NUL-terminated */
    uint64_t len;
};

struct gguf_value {
    struct gguf_string key;
    enum gguf_type type; /* GGUF_ARRAY: of `item` */
    enum gguf_type item; /* a scalar: its own type */
    uint64_t count;      /* items of an array, else 1 */
    const void *data;    /* in the mapped file, may be unaligned; strings: see gguf_strings */
};

struct gguf {
    struct store
        store; /* names are GGUF's own: "blk.0.attn_q.weight"; dims reversed to row-major */
    struct gguf_value *value; /* sorted by key */
    int64_t value_count;
};

/* Little-endian files of version 2 and 3, in one part. EIO; EFORMAT for whatever does not hold:
 * every count, length and offset is checked against the file before it is used. */
/* Does the file say that it is one? (Not whether it is a good one.) */
bool gguf_is(const char *path);
enum graft_status gguf_open(const char *path, struct gguf *out, struct graft_err *err);
/* The same over bytes in memory, which have to outlive `out`; `name` stands in messages. */
enum graft_status gguf_parse(const char *name, const void *bytes, size_t size, struct gguf *out,
                             struct graft_err *err);
void gguf_release(struct gguf *g);

/* ggml's number of a format; -1: it has none. */
int gguf_type_id(enum qtype type);
/* Bytes of a value's data in the file, an array's type and count not among them. */
size_t gguf_value_bytes(const struct gguf_value *v);
const struct gguf_value *gguf_find(const struct gguf *g, const char *key); /* NULL: absent */
/* Typed access: `dflt` when absent; EFORMAT when the type does not fit. Any integer type is taken
 * where its value fits, a bool as 0 or 1; gguf_float takes integers too. The string is
 * NUL-terminated and lives in g's arena; one that holds U+0000 is EFORMAT. */
enum graft_status gguf_int(const struct gguf *g, const char *key, int64_t dflt, int64_t *out,
                           struct graft_err *err);
enum graft_status gguf_float(const struct gguf *g, const char *key, double dflt, double *out,
                             struct graft_err *err);
enum graft_status gguf_str(struct gguf *g, const char *key, const char *dflt, const char **out,
                           struct graft_err *err);
/* Item i (below count) of an array of integers, floats or bools, or a scalar; 0 for strings. */
double gguf_number_at(const struct gguf_value *v, uint64_t i);
/* All `count` strings of an array of strings (or the one of a scalar string); memory from g's
 * arena. EFORMAT when the value holds something else. */
enum graft_status gguf_strings(struct gguf *g, const struct gguf_value *v,
                               const struct gguf_string **out, struct graft_err *err);

#endif
