/* data/added.h - finding added tokens in text: leftmost, then longest. */
#ifndef DATA_ADDED_H
#define DATA_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/vocab.h"

enum { ADDED_MAX = 1024 }; /* bytes of an added token: bounds the time of a search */

struct added_node {
    int32_t child, sibling; /* -1: none */
    int32_t id;             /* -1: no token ends here */
    unsigned char byte;
};
struct added_set {
    struct added_node *node; /* a tree of bytes */
    int64_t count, cap;
    int32_t root[256]; /* node of a first byte; 0: none (node 0 is never used) */
};

/* Text that is already there keeps its first id; empty text is left out. */
enum graft_status added_insert(struct added_set *a, const char *s, size_t len, int32_t id,
                               struct graft_err *err);
void added_release(struct added_set *a);

/* A part of a text: a token, or what lies between (id -1). */
struct added_part {
    int32_t id;
    size_t start, end;
};
struct added_walk {
    size_t from;   /* where to search */
    size_t behind; /* end of what was handed out */
    struct added_part token;
    bool held; /* `token` waits behind the part before it */
};
/* The next part of s with the rules of single_word, lstrip and rstrip; false at the end. */
bool added_next(const struct added_set *a, const struct vocab *v, const char *s, size_t len,
                struct added_walk *w, struct added_part *out);

#endif
