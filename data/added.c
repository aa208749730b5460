#include "data/added.h"

#include "core/mem.h"
#include "core/strbuf.h"
#include "data/unicode.h"

void added_release(struct added_set *a)
{
    mem_free(a->node);
    *a = (struct added_set){ 0 };
}

static enum graft_status new_node(struct added_set *a, unsigned char byte, int32_t sibling,
                                  int32_t *out, struct graft_err *err)
{
    if (a->count + 1 >= a->cap) {
        const int64_t cap = a->cap ? 2 * a->cap : 256;
        struct added_node *p = NULL;

        if (cap < INT32_MAX)
            p = mem_resize(a->node, (size_t)a->cap * sizeof *p, (size_t)cap * sizeof *p);
        if (!p)
            return graft_fail_nomem(err, "the added tokens", (size_t)cap * sizeof *p);
        a->node = p;
        a->cap = cap;
    }
    *out = (int32_t)++a->count;
    a->node[*out] = (struct added_node){ -1, sibling, -1, byte };
    return GRAFT_OK;
}

enum graft_status added_insert(struct added_set *a, const char *s, size_t len, int32_t id,
                               struct graft_err *err)
{
    int32_t at;

    if (len == 0)
        return GRAFT_OK;
    if (len > ADDED_MAX)
        return graft_fail(err, GRAFT_EFORMAT,
                          "added token %d has %zu bytes, at most %d are allowed", id, len,
                          ADDED_MAX);
    if (!a->root[(unsigned char)s[0]])
        GRAFT_TRY(new_node(a, (unsigned char)s[0], -1, &a->root[(unsigned char)s[0]], err));
    at = a->root[(unsigned char)s[0]];
    for (size_t i = 1; i < len; i++) {
        int32_t kid = a->node[at].child;

        while (kid >= 0 && a->node[kid].byte != (unsigned char)s[i])
            kid = a->node[kid].sibling;
        if (kid < 0) {
            GRAFT_TRY(new_node(a, (unsigned char)s[i], a->node[at].child, &kid, err));
            a->node[at].child = kid;
        }
        at = kid;
    }
    if (a->node[at].id < 0)
        a->node[at].id = id;
    return GRAFT_OK;
}

/* The leftmost longest token at or behind `from`. */
static bool find(const struct added_set *a, const char *s, size_t len, size_t from,
                 struct added_part *out)
{
    for (size_t i = from; i < len; i++) {
        int32_t at = a->root[(unsigned char)s[i]];
        size_t k = i + 1;

        out->id = -1;
        while (at > 0) {
            if (a->node[at].id >= 0) {
                out->id = a->node[at].id;
                out->end = k;
            }
            if (k >= len)
                break;
            at = a->node[at].child;
            while (at > 0 && a->node[at].byte != (unsigned char)s[k])
                at = a->node[at].sibling;
            k++;
        }
        if (out->id >= 0) {
            out->start = i;
            return true;
        }
    }
    return false;
}

static bool stands_alone(const char *s, size_t len, const struct added_part *p)
{
    uint32_t cp;

    if (p->start > 0) {
        const size_t back = unicode_back(s, p->start);

        utf8_next(s + back, p->start - back, &cp);
        if (unicode_is_word(cp))
            return false;
    }
    if (p->end < len) {
        utf8_next(s + p->end, len - p->end, &cp);
        return !unicode_is_word(cp);
    }
    return true;
}

static void swallow_spaces(const char *s, size_t len, unsigned flags, size_t behind,
                           struct added_part *p)
{
    uint32_t cp;

    if (flags & TOKEN_LSTRIP && p->start < behind)
        p->start = behind; /* the last token has swallowed this one's begin */
    while (flags & TOKEN_LSTRIP && p->start > behind) {
        const size_t back = unicode_back(s, p->start);

        utf8_next(s + back, p->start - back, &cp);
        if (!unicode_is_space(cp))
            break;
        p->start = back;
    }
    while (flags & TOKEN_RSTRIP && p->end < len) {
        const int k = utf8_next(s + p->end, len - p->end, &cp);

        if (!unicode_is_space(cp))
            break;
        p->end += (size_t)k;
    }
}

bool added_next(const struct added_set *a, const struct vocab *v, const char *s, size_t len,
                struct added_walk *w, struct added_part *out)
{
    struct added_part p = { -1, 0, 0 };

    if (w->held) {
        w->held = false;
        *out = w->token;
        return true;
    }
    while (a->count && find(a, s, len, w->from, &p)) {
        const unsigned flags = v->token[p.id].flags;

        w->from = p.end;
        if (flags & TOKEN_SINGLE_WORD && !stands_alone(s, len, &p))
            continue;
        swallow_spaces(s, len, flags, w->behind, &p);
        if (p.start >= p.end) /* and perhaps all of it */
            continue;
        *out = p;
        if (w->behind < p.start) {
            *out = (struct added_part){ -1, w->behind, p.start };
            w->token = p;
            w->held = true;
        }
        w->behind = p.end;
        return true;
    }
    w->from = len;
    if (w->behind >= len)
        return false;
    *out = (struct added_part){ -1, w->behind, len };
    w->behind = len;
    return true;
}
