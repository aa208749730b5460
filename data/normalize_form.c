/* NFC, NFD, NFKC, NFKD: decompose, order the marks, compose (UAX #15). The reference's character
 * data is old: marks and mappings that it does not know are left alone. */
#include <string.h>
#include <utf8proc.h>

#include "core/mem.h"
#include "data/normalize.h"
#include "data/unicode.h"

struct mark {
    uint32_t cp;
    int ccc; /* canonical combining class */
    size_t origin;
};

struct run {
    struct mark *mark, *spare;
    size_t count, cap;
};

static int combining_class(uint32_t cp)
{
    if (cp < 0x300 || unicode_in(unicode_unknown_mark, unicode_unknown_mark_count, cp))
        return 0;
    return utf8proc_get_property((utf8proc_int32_t)cp)->combining_class;
}

static bool unknown_mapping(uint32_t cp)
{
    return unicode_in(unicode_keep_compat, unicode_keep_compat_count, cp);
}

static bool run_push(struct run *r, uint32_t cp, size_t origin)
{
    if (r->count == r->cap) {
        const size_t cap = r->cap ? 2 * r->cap : 64;
        struct mark *p = mem_resize(r->mark, r->count * sizeof *p, cap * sizeof *p);
        struct mark *q = p ? mem_array(cap, sizeof *q) : NULL;

        if (p)
            r->mark = p;
        if (!q)
            return false;
        mem_free(r->spare);
        r->spare = q;
        r->cap = cap;
    }
    r->mark[r->count++] = (struct mark){ cp, combining_class(cp), origin };
    return true;
}

static bool decompose(struct run *r, uint32_t cp, bool compat, size_t origin)
{
    utf8proc_int32_t out[32];
    int boundary = 0;
    utf8proc_ssize_t n;

    if (cp < 0x80 || unknown_mapping(cp))
        return run_push(r, cp, origin);
    n = utf8proc_decompose_char(
        (utf8proc_int32_t)cp, out, 32,
        (utf8proc_option_t)(UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0)), &boundary);
    if (n <= 0 || n > 32)
        return run_push(r, cp, origin);
    for (utf8proc_ssize_t i = 0; i < n; i++)
        if (!run_push(r, (uint32_t)out[i], origin))
            return false;
    return true;
}

/* Stable order by class of mark[from .. to), none of class 0. Insertion for the few marks of real
 * text, a counting sort where someone wrote thousands. */
static void order_marks(struct run *r, size_t from, size_t to)
{
    size_t place[257] = { 0 };

    if (to - from <= 16) {
        for (size_t i = from + 1; i < to; i++) {
            const struct mark m = r->mark[i];
            size_t k = i;

            for (; k > from && r->mark[k - 1].ccc > m.ccc; k--)
                r->mark[k] = r->mark[k - 1];
            r->mark[k] = m;
        }
        return;
    }
    for (size_t i = from; i < to; i++)
        place[r->mark[i].ccc + 1]++;
    for (int c = 0; c < 256; c++)
        place[c + 1] += place[c];
    for (size_t i = from; i < to; i++)
        r->spare[place[r->mark[i].ccc]++] = r->mark[i];
    memcpy(r->mark + from, r->spare, (to - from) * sizeof *r->mark);
}

static void order(struct run *r)
{
    for (size_t i = 0; i < r->count;) {
        size_t end = i;

        while (end < r->count && r->mark[end].ccc)
            end++;
        if (end > i + 1)
            order_marks(r, i, end);
        i = end + 1;
    }
}

/* The primary composite of two characters; 0: none. */
static uint32_t compose_pair(uint32_t a, uint32_t b)
{
    utf8proc_int32_t pair[2] = { (utf8proc_int32_t)a, (utf8proc_int32_t)b };
    const utf8proc_ssize_t n =
        utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE);

    return n == 1 && !unknown_mapping((uint32_t)pair[0]) ? (uint32_t)pair[0] : 0;
}

static void compose(struct run *r)
{
    size_t starter = SIZE_MAX, kept = 0;
    int last = -1; /* class of the last character kept behind the starter; -1: none stands there */

    for (size_t i = 0; i < r->count; i++) {
        const struct mark m = r->mark[i];
        uint32_t joined = 0;

        if (starter != SIZE_MAX && last < m.ccc)
            joined = compose_pair(r->mark[starter].cp, m.cp);
        if (joined) {
            r->mark[starter].cp = joined;
            continue;
        }
        if (m.ccc == 0) {
            starter = kept;
            last = -1;
        } else {
            last = m.ccc;
        }
        r->mark[kept++] = m;
    }
    r->count = kept;
}

static void run_flush(struct run *r, bool compose_too, struct traced *out)
{
    order(r);
    if (compose_too)
        compose(r);
    for (size_t i = 0; i < r->count; i++) {
        const uint32_t cp = r->mark[i].cp;
        utf8proc_uint8_t bytes[4];
        const utf8proc_ssize_t n = utf8proc_encode_char((utf8proc_int32_t)cp, bytes);

        traced_add(out, (const char *)bytes, (size_t)n, r->mark[i].origin);
    }
    r->count = 0;
}

/* Characters below `plain` are their own form and begin a run that nothing before can reach. */
enum graft_status normalize_form(const struct traced *in, struct traced *out, bool compat,
                                 bool compose_too, struct graft_err *err)
{
    const uint32_t plain = !compat && compose_too ? 0x300 : 0x80;
    const char *s = strbuf_str(&in->text);
    const size_t len = in->text.len;
    struct run r = { NULL, NULL, 0, 0 };
    size_t from = 0; /* [from, start of the run) is copied as it is */
    bool ok = true;

    for (size_t i = 0; i < len && ok;) {
        uint32_t cp, next = 0;
        size_t end, k = (size_t)utf8_next(s + i, len - i, &cp);

        if (cp < plain &&
            (i + k == len || (utf8_next(s + i + k, len - i - k, &next), next) < plain)) {
            i += k;
            continue;
        }
        traced_copy(out, in, from, i - from);
        ok = decompose(&r, cp, compat, traced_origin(in, i));
        for (end = i + k; end < len && ok; end += k) {
            k = (size_t)utf8_next(s + end, len - end, &cp);
            if (cp < plain)
                break;
            ok = decompose(&r, cp, compat, traced_origin(in, end));
        }
        run_flush(&r, compose_too, out);
        i = from = end;
    }
    traced_copy(out, in, from, len - from);
    mem_free(r.mark);
    mem_free(r.spare);
    return ok ? GRAFT_OK : graft_fail_nomem(err, "normalised text", len);
}
