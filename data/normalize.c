#include "data/normalize.h"

#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_part.h"
#include "data/unicode.h"

static enum graft_status apply_nfc(const struct normalizer *n, struct matcher *m,
                                   const struct traced *in, struct traced *out,
                                   struct graft_err *err)
{
    (void)n;
    (void)m;
    return normalize_form(in, out, false, true, err);
}

static enum graft_status apply_nfd(const struct normalizer *n, struct matcher *m,
                                   const struct traced *in, struct traced *out,
                                   struct graft_err *err)
{
    (void)n;
    (void)m;
    return normalize_form(in, out, false, false, err);
}

static enum graft_status apply_nfkc(const struct normalizer *n, struct matcher *m,
                                    const struct traced *in, struct traced *out,
                                    struct graft_err *err)
{
    (void)n;
    (void)m;
    return normalize_form(in, out, true, true, err);
}

static enum graft_status apply_nfkd(const struct normalizer *n, struct matcher *m,
                                    const struct traced *in, struct traced *out,
                                    struct graft_err *err)
{
    (void)n;
    (void)m;
    return normalize_form(in, out, true, false, err);
}

static enum graft_status apply_lowercase(const struct normalizer *n, struct matcher *m,
                                         const struct traced *in, struct traced *out,
                                         struct graft_err *err)
{
    const char *s = strbuf_str(&in->text);
    struct strbuf one = STRBUF_INIT;
    uint32_t cp;

    (void)n;
    (void)m;
    (void)err;
    for (size_t i = 0, k; i < in->text.len; i += k) {
        k = (size_t)utf8_next(s + i, in->text.len - i, &cp);
        strbuf_clear(&one);
        if (cp == 0x130) { /* the one letter whose small form is two */
            strbuf_puts(&one, "i\xcc\x87");
        } else {
            strbuf_put_utf8(&one, unicode_lower(cp));
        }
        out->failed |= one.failed;
        traced_add(out, strbuf_str(&one), one.len, traced_origin(in, i));
    }
    strbuf_release(&one);
    return GRAFT_OK;
}

static enum graft_status parse_prepend(struct normalizer *n, const json_t *o, struct graft_err *err)
{
    const char *s;

    GRAFT_TRY(part_need_text(o, "normalizer Prepend", "prepend", &s, &n->len, err));
    n->text = part_copy(s, n->len);
    return n->text ? GRAFT_OK : graft_fail_nomem(err, "a normalizer", n->len);
}

static enum graft_status apply_prepend(const struct normalizer *n, struct matcher *m,
                                       const struct traced *in, struct traced *out,
                                       struct graft_err *err)
{
    (void)m;
    (void)err;
    if (in->text.len)
        traced_add(out, n->text, n->len, traced_origin(in, 0));
    traced_copy(out, in, 0, in->text.len);
    return GRAFT_OK;
}

static enum graft_status parse_replace(struct normalizer *n, const json_t *o, struct graft_err *err)
{
    const char *s;

    GRAFT_TRY(part_text(o, "normalizer Replace", "content", &s, &n->len, err));
    n->text = part_copy(s, n->len);
    if (!n->text)
        return graft_fail_nomem(err, "a normalizer", n->len);
    return pattern_init(&n->pattern, json_object_get(o, "pattern"), "normalizer Replace", err);
}

static enum graft_status apply_replace(const struct normalizer *n, struct matcher *m,
                                       const struct traced *in, struct traced *out,
                                       struct graft_err *err)
{
    const char *s = strbuf_str(&in->text);
    struct pattern_walk walk = { 0, SIZE_MAX };
    size_t from = 0, start = 0, end = 0;
    bool found;

    for (;;) {
        GRAFT_TRY(pattern_next(&n->pattern, m, s, in->text.len, &walk, &found, &start, &end, err));
        if (!found)
            break;
        traced_copy(out, in, from, start - from);
        traced_add(out, n->text, n->len, traced_origin(in, start));
        from = end;
    }
    traced_copy(out, in, from, in->text.len - from);
    return GRAFT_OK;
}

static enum graft_status parse_strip(struct normalizer *n, const json_t *o, struct graft_err *err)
{
    GRAFT_TRY(part_bool(o, "normalizer Strip", "strip_left", true, &n->left, err));
    return part_bool(o, "normalizer Strip", "strip_right", true, &n->right, err);
}

static enum graft_status apply_strip(const struct normalizer *n, struct matcher *m,
                                     const struct traced *in, struct traced *out,
                                     struct graft_err *err)
{
    const char *s = strbuf_str(&in->text);
    size_t from = 0, to = in->text.len;
    uint32_t cp;

    (void)m;
    (void)err;
    while (n->left && from < to) {
        const int k = utf8_next(s + from, to - from, &cp);

        if (!unicode_is_space(cp))
            break;
        from += (size_t)k;
    }
    while (n->right && to > from) {
        const size_t back = unicode_back(s, to);

        utf8_next(s + back, to - back, &cp);
        if (!unicode_is_space(cp))
            break;
        to = back;
    }
    traced_copy(out, in, from, to - from);
    return GRAFT_OK;
}

const struct norm_def norm_defs[] = {
    { "NFC", NULL, apply_nfc },
    { "NFD", NULL, apply_nfd },
    { "NFKC", NULL, apply_nfkc },
    { "NFKD", NULL, apply_nfkd },
    { "Lowercase", NULL, apply_lowercase },
    { "Prepend", parse_prepend, apply_prepend },
    { "Replace", parse_replace, apply_replace },
    { "Strip", parse_strip, apply_strip },
};
const size_t norm_def_count = sizeof norm_defs / sizeof *norm_defs;

static enum graft_status add_normalizer(void *user, const json_t *o, const char *type,
                                        struct graft_err *err)
{
    struct normalizer_chain *c = user;
    struct normalizer *n = &c->item[c->count];

    for (size_t i = 0; i < norm_def_count; i++)
        if (strcmp(norm_defs[i].type, type) == 0) {
            n->def = &norm_defs[i];
            c->count++;
            return n->def->parse ? n->def->parse(n, o, err) : GRAFT_OK;
        }
    return graft_fail(err, GRAFT_EFORMAT, "normalizer \"%.60s\" is not supported", type);
}

enum graft_status normalizer_init(struct normalizer_chain *c, const json_t *o,
                                  struct graft_err *err)
{
    if (!o || json_is_null(o))
        return GRAFT_OK;
    c->item = mem_array(PART_COUNT, sizeof *c->item);
    if (!c->item)
        return graft_fail_nomem(err, "the normalizers", PART_COUNT * sizeof *c->item);
    return part_walk(o, "normalizer", "normalizers", add_normalizer, c, err);
}

void normalizer_release(struct normalizer_chain *c)
{
    for (int i = 0; i < c->count; i++) {
        pattern_release(&c->item[i].pattern);
        mem_free(c->item[i].text);
    }
    mem_free(c->item);
    *c = (struct normalizer_chain){ 0 };
}

enum graft_status normalizer_apply(const struct normalizer_chain *c, struct matcher *m,
                                   struct traced *text, struct traced *spare, struct graft_err *err)
{
    for (int i = 0; i < c->count && text->text.len; i++) {
        struct traced swap;

        traced_clear(spare);
        GRAFT_TRY(c->item[i].def->apply(&c->item[i], m, text, spare, err));
        if (spare->failed)
            return graft_fail_nomem(err, "normalised text", text->text.len);
        swap = *text;
        *text = *spare;
        *spare = swap;
    }
    return GRAFT_OK;
}
