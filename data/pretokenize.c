#include "data/pretokenize.h"

#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_part.h"
#include "data/unicode.h"

void pretok_work_release(struct pretok_work *w)
{
    traced_release(&w->own[0]);
    traced_release(&w->own[1]);
    mem_free(w->piece);
    mem_free(w->next);
    strbuf_release(&w->flags);
    *w = (struct pretok_work){ 0 };
}

static enum graft_status put_piece(struct pretok_work *w, size_t start, size_t end,
                                   struct graft_err *err)
{
    if (w->next_count == w->next_cap) {
        const size_t cap = w->next_cap ? 2 * w->next_cap : 64;
        struct piece *p = mem_resize(w->next, w->next_count * sizeof *p, cap * sizeof *p);

        if (!p)
            return graft_fail_nomem(err, "the pieces of a text", cap * sizeof *p);
        w->next = p;
        w->next_cap = cap;
    }
    w->next[w->next_count++] = (struct piece){ start, end };
    return GRAFT_OK;
}

/* The pieces put become the pieces there are; empty ones are dropped. */
static void take_pieces(struct pretok_work *w)
{
    struct piece *p = w->piece;
    const size_t cap = w->cap;
    size_t kept = 0;

    for (size_t i = 0; i < w->next_count; i++)
        if (w->next[i].start < w->next[i].end)
            w->next[kept++] = w->next[i];
    w->piece = w->next;
    w->count = kept;
    w->cap = w->next_cap;
    w->next = p;
    w->next_count = 0;
    w->next_cap = cap;
}

/* The parts of one piece, alternately outside and inside of matches, put one after the other. */
struct splitter {
    struct pretok_work *w;
    enum split_behavior behavior;
    size_t first;  /* w->next index where this piece's parts begin */
    bool previous; /* whether the last part was a match */
};

static enum graft_status put_part(struct splitter *s, size_t start, size_t end, bool match,
                                  struct graft_err *err)
{
    struct pretok_work *w = s->w;
    const bool any = w->next_count > s->first;
    bool extend = false;

    if (s->behavior == SPLIT_REMOVED && match)
        return GRAFT_OK;
    if (s->behavior == SPLIT_CONTIGUOUS)
        extend = any && match == s->previous;
    else if (s->behavior == SPLIT_WITH_PREVIOUS)
        extend = any && match && !s->previous;
    else if (s->behavior == SPLIT_WITH_NEXT) /* a match waits for the part behind it */
        extend = any && !match && s->previous;
    s->previous = match;
    if (extend) {
        w->next[w->next_count - 1].end = end;
        return GRAFT_OK;
    }
    return put_piece(w, start, end, err);
}

static enum graft_status split_by_pattern(const struct pretokenizer *p, struct pretok_work *w,
                                          struct piece piece, struct graft_err *err)
{
    const char *s = w->text->text.buf + piece.start;
    const size_t len = piece.end - piece.start;
    struct splitter out = { w, p->behavior, w->next_count, false };
    struct pattern_walk walk = { 0, SIZE_MAX };
    size_t from = 0, start = 0, end = 0;
    bool found;

    for (;;) {
        GRAFT_TRY(pattern_next(&p->pattern, w->matcher, s, len, &walk, &found, &start, &end, err));
        if (!found)
            break;
        if (from < start)
            GRAFT_TRY(put_part(&out, piece.start + from, piece.start + start, p->invert, err));
        GRAFT_TRY(put_part(&out, piece.start + start, piece.start + end, !p->invert, err));
        from = end;
    }
    if (from < len)
        return put_part(&out, piece.start + from, piece.end, p->invert, err);
    return GRAFT_OK;
}

/* Each member character is a match of its own. */
static enum graft_status split_by_member(const struct pretokenizer *p, struct pretok_work *w,
                                         struct piece piece, struct graft_err *err)
{
    const char *s = w->text->text.buf;
    struct splitter out = { w, p->behavior, w->next_count, false };
    size_t from = piece.start;
    uint32_t cp;

    for (size_t i = piece.start, k; i < piece.end; i += k) {
        k = (size_t)utf8_next(s + i, piece.end - i, &cp);
        if (!p->member(cp))
            continue;
        if (from < i)
            GRAFT_TRY(put_part(&out, from, i, false, err));
        GRAFT_TRY(put_part(&out, i, i + k, true, err));
        from = i + k;
    }
    if (from < piece.end)
        return put_part(&out, from, piece.end, false, err);
    return GRAFT_OK;
}

static enum graft_status apply_split(const struct pretokenizer *p, struct pretok_work *w,
                                     struct graft_err *err)
{
    for (size_t i = 0; i < w->count; i++)
        GRAFT_TRY(p->member ? split_by_member(p, w, w->piece[i], err)
                            : split_by_pattern(p, w, w->piece[i], err));
    take_pieces(w);
    return GRAFT_OK;
}

/* Pieces of \w and of what is neither \w nor \s, as the expression \w+|[^\w\s]+ finds them. */
static enum graft_status apply_whitespace(const struct pretokenizer *p, struct pretok_work *w,
                                          struct graft_err *err)
{
    const char *s = strbuf_str(&w->text->text);

    (void)p;
    for (size_t i = 0; i < w->count; i++) {
        size_t from = w->piece[i].start;
        int last = 0; /* 0 space, 1 word, 2 other */
        uint32_t cp;

        for (size_t at = from, k; at < w->piece[i].end; at += k) {
            int kind;

            k = (size_t)utf8_next(s + at, w->piece[i].end - at, &cp);
            kind = unicode_is_word(cp) ? 1 : unicode_is_space(cp) ? 0 : 2;
            if (kind != last) {
                if (last)
                    GRAFT_TRY(put_piece(w, from, at, err));
                from = at;
            }
            last = kind;
        }
        if (last)
            GRAFT_TRY(put_piece(w, from, w->piece[i].end, err));
    }
    take_pieces(w);
    return GRAFT_OK;
}

/* The one of the two texts of ours that the pieces are not in, empty. */
static struct traced *other_text(struct pretok_work *w)
{
    struct traced *t = w->text == &w->own[0] ? &w->own[1] : &w->own[0];

    traced_clear(t);
    return t;
}

/* ByteLevel: perhaps a space before each piece, perhaps GPT-2's expression. The bytes themselves
 * are mapped by the model. */
static enum graft_status apply_byte_level(const struct pretokenizer *p, struct pretok_work *w,
                                          struct graft_err *err)
{
    if (p->prepend == PREPEND_ALWAYS) {
        struct traced *to = other_text(w);

        for (size_t i = 0; i < w->count; i++) {
            const struct piece q = w->piece[i];
            const size_t start = to->text.len;

            if (w->text->text.buf[q.start] != ' ')
                traced_add(to, " ", 1, traced_origin(w->text, q.start));
            traced_copy(to, w->text, q.start, q.end - q.start);
            GRAFT_TRY(put_piece(w, start, to->text.len, err));
        }
        if (to->failed)
            return graft_fail_nomem(err, "pieces of text", w->text->text.len);
        w->text = to;
        take_pieces(w);
    }
    return p->has_pattern ? apply_split(p, w, err) : GRAFT_OK;
}

/* Metaspace: spaces become the mark, one is put before the piece, and the piece is cut before each.
 */
static enum graft_status apply_metaspace(const struct pretokenizer *p, struct pretok_work *w,
                                         struct graft_err *err)
{
    struct traced *to = other_text(w);
    const char *s = strbuf_str(&w->text->text);

    for (size_t i = 0; i < w->count; i++) {
        const struct piece q = w->piece[i];
        const size_t start = to->text.len, origin = traced_origin(w->text, q.start);
        const size_t len = q.end - q.start;
        const bool marked = s[q.start] == ' ' ||
                            (len >= p->mark_len && memcmp(s + q.start, p->mark, p->mark_len) == 0);

        if (!marked && (p->prepend == PREPEND_ALWAYS || (p->prepend == PREPEND_FIRST && !origin)))
            traced_add(to, p->mark, p->mark_len, origin);
        for (size_t at = q.start; at < q.end;) {
            const char *space = memchr(s + at, ' ', q.end - at);
            const size_t end = space ? (size_t)(space - s) : q.end;

            traced_copy(to, w->text, at, end - at);
            if (space)
                traced_add(to, p->mark, p->mark_len, traced_origin(w->text, end));
            at = end + (space != NULL);
        }
        GRAFT_TRY(put_piece(w, start, to->text.len, err));
    }
    if (to->failed)
        return graft_fail_nomem(err, "pieces of text", w->text->text.len);
    w->text = to;
    take_pieces(w);
    return p->split ? apply_split(p, w, err) : GRAFT_OK;
}

static enum graft_status parse_behavior(struct pretokenizer *p, const json_t *o, const char *part,
                                        enum split_behavior dflt, struct graft_err *err)
{
    static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious",
                                         "MergedWithNext", "Contiguous" };
    const char *s;
    size_t len;

    p->behavior = dflt;
    GRAFT_TRY(part_text(o, part, "behavior", &s, &len, err));
    if (!s)
        return GRAFT_OK;
    for (int i = 0; i < 5; i++)
        if (strcmp(names[i], s) == 0) {
            p->behavior = (enum split_behavior)i;
            return GRAFT_OK;
        }
    return graft_fail(err, GRAFT_EFORMAT, "%s: unknown behavior \"%.40s\"", part, s);
}

static enum graft_status parse_split(struct pretokenizer *p, const json_t *o, struct graft_err *err)
{
    const char *part = "pre-tokenizer Split";

    GRAFT_TRY(parse_behavior(p, o, part, SPLIT_REMOVED, err));
    GRAFT_TRY(part_bool(o, part, "invert", false, &p->invert, err));
    p->has_pattern = true;
    return pattern_init(&p->pattern, json_object_get(o, "pattern"), part, err);
}

static enum graft_status parse_char_split(struct pretokenizer *p, const json_t *o,
                                          struct graft_err *err)
{
    p->behavior = SPLIT_REMOVED;
    p->has_pattern = true;
    return pattern_init(&p->pattern, json_object_get(o, "delimiter"),
                        "pre-tokenizer CharDelimiterSplit", err);
}

static enum graft_status parse_digits(struct pretokenizer *p, const json_t *o,
                                      struct graft_err *err)
{
    GRAFT_TRY(
        part_bool(o, "pre-tokenizer Digits", "individual_digits", false, &p->individual, err));
    p->behavior = p->individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    p->member = unicode_is_numeric;
    return GRAFT_OK;
}

static enum graft_status parse_punctuation(struct pretokenizer *p, const json_t *o,
                                           struct graft_err *err)
{
    p->member = unicode_is_punctuation;
    return parse_behavior(p, o, "pre-tokenizer Punctuation", SPLIT_ISOLATED, err);
}

static enum graft_status parse_space_split(struct pretokenizer *p, const json_t *o,
                                           struct graft_err *err)
{
    (void)o;
    (void)err;
    p->member = unicode_is_space;
    p->behavior = SPLIT_REMOVED;
    return GRAFT_OK;
}

static enum graft_status parse_byte_level(struct pretokenizer *p, const json_t *o,
                                          struct graft_err *err)
{
    static const char gpt2[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    const char *part = "pre-tokenizer ByteLevel";
    bool prepend;

    GRAFT_TRY(part_bool(o, part, "use_regex", true, &p->has_pattern, err));
    GRAFT_TRY(part_bool(o, part, "add_prefix_space", true, &prepend, err));
    p->prepend = prepend ? PREPEND_ALWAYS : PREPEND_NEVER;
    p->behavior = SPLIT_ISOLATED;
    return p->has_pattern ? pattern_regex(&p->pattern, gpt2, sizeof gpt2 - 1, part, err) : GRAFT_OK;
}

/* The older key add_prefix_space counts where prepend_scheme is missing. */
static enum graft_status parse_metaspace(struct pretokenizer *p, const json_t *o,
                                         struct graft_err *err)
{
    static const char *const names[] = { "always", "never", "first" };
    const char *part = "pre-tokenizer Metaspace", *s;
    bool prepend;
    uint32_t cp;
    json_t *mark;

    GRAFT_TRY(part_need_text(o, part, "replacement", &s, &p->mark_len, err));
    if (utf8_next(s, p->mark_len, &cp) != (int)p->mark_len)
        return graft_fail(err, GRAFT_EFORMAT, "%s: \"replacement\" must be one character", part);
    memcpy(p->mark, s, p->mark_len);
    GRAFT_TRY(part_bool(o, part, "split", true, &p->split, err));
    GRAFT_TRY(part_bool(o, part, "add_prefix_space", true, &prepend, err));
    GRAFT_TRY(part_text(o, part, "prepend_scheme", &s, &(size_t){ 0 }, err));
    p->prepend = prepend ? PREPEND_ALWAYS : PREPEND_NEVER;
    for (int i = 0; s && i <= 3; i++) {
        if (i == 3)
            return graft_fail(err, GRAFT_EFORMAT, "%s: unknown prepend_scheme \"%.40s\"", part, s);
        if (strcmp(names[i], s) == 0) {
            p->prepend = (enum prepend_scheme)i;
            break;
        }
    }
    p->behavior = SPLIT_WITH_NEXT;
    mark = json_stringn(p->mark, p->mark_len);
    if (!mark)
        return graft_fail_nomem(err, "a pre-tokenizer", p->mark_len);
    p->has_pattern = true;
    {
        const enum graft_status st = pattern_init(&p->pattern, mark, part, err);

        json_decref(mark);
        return st;
    }
}

const struct pretok_def pretok_defs[] = {
    { "ByteLevel", parse_byte_level, apply_byte_level },
    { "Split", parse_split, apply_split },
    { "Digits", parse_digits, apply_split },
    { "Metaspace", parse_metaspace, apply_metaspace },
    { "Whitespace", NULL, apply_whitespace },
    { "WhitespaceSplit", parse_space_split, apply_split },
    { "Punctuation", parse_punctuation, apply_split },
    { "CharDelimiterSplit", parse_char_split, apply_split },
};
const size_t pretok_def_count = sizeof pretok_defs / sizeof *pretok_defs;

static enum graft_status add_pretokenizer(void *user, const json_t *o, const char *type,
                                          struct graft_err *err)
{
    struct pretok_chain *c = user;
    struct pretokenizer *p = &c->item[c->count];

    if (c->bytes)
        return graft_fail(err, GRAFT_EFORMAT,
                          "pre-tokenizer \"%.60s\" behind ByteLevel is not supported", type);
    for (size_t i = 0; i < pretok_def_count; i++)
        if (strcmp(pretok_defs[i].type, type) == 0) {
            p->def = &pretok_defs[i];
            c->count++;
            if (p->def->parse)
                GRAFT_TRY(p->def->parse(p, o, err));
            c->bytes = p->def->apply == apply_byte_level;
            c->needs_origin |= p->def->apply == apply_metaspace && p->prepend == PREPEND_FIRST;
            return GRAFT_OK;
        }
    return graft_fail(err, GRAFT_EFORMAT, "pre-tokenizer \"%.60s\" is not supported", type);
}

enum graft_status pretok_init(struct pretok_chain *c, const json_t *o, struct graft_err *err)
{
    if (!o || json_is_null(o))
        return GRAFT_OK;
    c->item = mem_array(PART_COUNT, sizeof *c->item);
    if (!c->item)
        return graft_fail_nomem(err, "the pre-tokenizers", PART_COUNT * sizeof *c->item);
    return part_walk(o, "pre_tokenizer", "pretokenizers", add_pretokenizer, c, err);
}

void pretok_release(struct pretok_chain *c)
{
    for (int i = 0; i < c->count; i++)
        pattern_release(&c->item[i].pattern);
    mem_free(c->item);
    *c = (struct pretok_chain){ 0 };
}

enum graft_status pretok_apply(const struct pretok_chain *c, struct pretok_work *w,
                               const struct traced *text, size_t start, size_t end,
                               struct graft_err *err)
{
    w->text = text;
    w->next_count = 0;
    GRAFT_TRY(put_piece(w, start, end, err));
    take_pieces(w);
    for (int i = 0; i < c->count && w->count; i++)
        GRAFT_TRY(c->item[i].def->apply(&c->item[i], w, err));
    return GRAFT_OK;
}
