#include "data/decode.h"

#include <string.h>

#include "core/mem.h"
#include "data/bpe.h"
#include "data/tokenizer_part.h"
#include "data/unicode.h"

void parts_release(struct parts *p)
{
    strbuf_release(&p->text);
    mem_free(p->end);
    *p = (struct parts){ 0 };
}

void parts_clear(struct parts *p)
{
    strbuf_clear(&p->text);
    p->count = 0;
    p->failed = false;
}

/* End the part that p->text was added to. */
static void end_part(struct parts *p)
{
    p->failed |= p->text.failed;
    if (p->count == p->cap && !p->failed) {
        const int64_t cap = p->cap ? 2 * p->cap : 64;
        size_t *q = mem_resize(p->end, (size_t)p->cap * sizeof *q, (size_t)cap * sizeof *q);

        if (q) {
            p->end = q;
            p->cap = cap;
        } else {
            p->failed = true;
        }
    }
    if (!p->failed)
        p->end[p->count++] = p->text.len;
}

void parts_add(struct parts *p, const char *s, size_t len)
{
    strbuf_add(&p->text, s, len);
    end_part(p);
}

static size_t part_start(const struct parts *p, int64_t i)
{
    return i ? p->end[i - 1] : 0;
}

static const char *part_at(const struct parts *p, int64_t i, size_t *len)
{
    *len = p->end[i] - part_start(p, i);
    return strbuf_str(&p->text) + part_start(p, i);
}

int decoder_byte(const char *s, size_t len)
{
    int b = 0;

    if (len != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        const char c = s[i], low = (char)(c | 0x20);

        if (c >= '0' && c <= '9')
            b = b * 16 + c - '0';
        else if (low >= 'a' && low <= 'f')
            b = b * 16 + low - 'a' + 10;
        else
            return -1;
    }
    return b;
}

/* A token with a character outside of the map is added text: its own bytes count. */
void decoder_raw_bytes(const char *s, size_t len, struct strbuf *out)
{
    const size_t start = out->len;
    uint32_t cp = 0;

    for (size_t i = 0; i < len;) {
        const int k = utf8_next(s + i, len - i, &cp), b = k ? bpe_char_byte(cp) : -1;

        if (b < 0) {
            out->len = out->buf ? start : 0;
            strbuf_add(out, s, len);
            return;
        }
        strbuf_putc(out, (char)b);
        i += (size_t)k;
    }
}

/* Append bytes as text; what is not UTF-8 becomes U+FFFD. */
static void put_lossy(struct strbuf *out, const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        const size_t n = unicode_valid(s + i, len - i);
        bool ok;

        strbuf_add(out, s + i, n);
        i += n;
        if (i < len) {
            i += unicode_step(s + i, len - i, &ok);
            strbuf_puts(out, "\xef\xbf\xbd");
        }
    }
}

static enum graft_status apply_byte_level(const struct decoder *d, struct matcher *m,
                                          const struct parts *in, struct parts *out,
                                          struct graft_err *err)
{
    struct strbuf raw = STRBUF_INIT;

    (void)d;
    (void)m;
    (void)err;
    for (int64_t i = 0; i < in->count; i++) {
        size_t len;
        const char *s = part_at(in, i, &len);

        decoder_raw_bytes(s, len, &raw);
    }
    put_lossy(&out->text, strbuf_str(&raw), raw.len);
    out->failed |= raw.failed;
    end_part(out);
    strbuf_release(&raw);
    return GRAFT_OK;
}

static enum graft_status parse_replace(struct decoder *d, const json_t *o, struct graft_err *err)
{
    const char *s;

    GRAFT_TRY(part_text(o, "decoder Replace", "content", &s, &d->len, err));
    d->text = part_copy(s, d->len);
    if (!d->text)
        return graft_fail_nomem(err, "a decoder", d->len);
    return pattern_init(&d->pattern, json_object_get(o, "pattern"), "decoder Replace", err);
}

static enum graft_status apply_replace(const struct decoder *d, struct matcher *m,
                                       const struct parts *in, struct parts *out,
                                       struct graft_err *err)
{
    for (int64_t i = 0; i < in->count; i++) {
        size_t len, from = 0, start = 0, end = 0;
        const char *s = part_at(in, i, &len);
        struct pattern_walk walk = { 0, SIZE_MAX };
        bool found;

        for (;;) {
            GRAFT_TRY(pattern_next(&d->pattern, m, s, len, &walk, &found, &start, &end, err));
            if (!found)
                break;
            strbuf_add(&out->text, s + from, start - from);
            strbuf_add(&out->text, d->text, d->len);
            from = end;
        }
        strbuf_add(&out->text, s + from, len - from);
        end_part(out);
    }
    return GRAFT_OK;
}

/* Bytes [from, to) of the raw run: one part when they are text, else one U+FFFD for each. */
static void flush_bytes(struct parts *out, struct strbuf *run)
{
    if (run->len == 0)
        return;
    if (unicode_valid(run->buf, run->len) == run->len)
        parts_add(out, run->buf, run->len);
    else
        for (size_t i = 0; i < run->len; i++)
            parts_add(out, "\xef\xbf\xbd", 3);
    strbuf_clear(run);
}

static enum graft_status apply_byte_fallback(const struct decoder *d, struct matcher *m,
                                             const struct parts *in, struct parts *out,
                                             struct graft_err *err)
{
    struct strbuf run = STRBUF_INIT;

    (void)d;
    (void)m;
    (void)err;
    for (int64_t i = 0; i < in->count; i++) {
        size_t len;
        const char *s = part_at(in, i, &len);
        const int b = decoder_byte(s, len);

        if (b >= 0) {
            strbuf_putc(&run, (char)b);
            continue;
        }
        out->failed |= run.failed;
        flush_bytes(out, &run);
        parts_add(out, s, len);
    }
    out->failed |= run.failed;
    flush_bytes(out, &run);
    strbuf_release(&run);
    return GRAFT_OK;
}

static enum graft_status apply_fuse(const struct decoder *d, struct matcher *m,
                                    const struct parts *in, struct parts *out,
                                    struct graft_err *err)
{
    (void)d;
    (void)m;
    (void)err;
    parts_add(out, strbuf_str(&in->text), in->text.len);
    return GRAFT_OK;
}

static enum graft_status parse_char(struct decoder *d, const json_t *o, const char *part,
                                    const char *key, struct graft_err *err)
{
    const char *s;
    uint32_t cp;

    GRAFT_TRY(part_need_text(o, part, key, &s, &d->len, err));
    if (utf8_next(s, d->len, &cp) != (int)d->len)
        return graft_fail(err, GRAFT_EFORMAT, "%s: \"%s\" must be one character", part, key);
    d->text = part_copy(s, d->len);
    return d->text ? GRAFT_OK : graft_fail_nomem(err, "a decoder", d->len);
}

static enum graft_status parse_strip(struct decoder *d, const json_t *o, struct graft_err *err)
{
    GRAFT_TRY(parse_char(d, o, "decoder Strip", "content", err));
    GRAFT_TRY(part_int(o, "decoder Strip", "start", 0, INT32_MAX, &d->start, err));
    return part_int(o, "decoder Strip", "stop", 0, INT32_MAX, &d->stop, err);
}

static enum graft_status apply_strip(const struct decoder *d, struct matcher *m,
                                     const struct parts *in, struct parts *out,
                                     struct graft_err *err)
{
    (void)m;
    (void)err;
    for (int64_t i = 0; i < in->count; i++) {
        size_t len;
        const char *s = part_at(in, i, &len);

        for (int64_t k = 0; k < d->start && len >= d->len && !memcmp(s, d->text, d->len); k++) {
            s += d->len;
            len -= d->len;
        }
        for (int64_t k = 0;
             k < d->stop && len >= d->len && !memcmp(s + len - d->len, d->text, d->len); k++)
            len -= d->len;
        parts_add(out, s, len);
    }
    return GRAFT_OK;
}

static enum graft_status parse_metaspace(struct decoder *d, const json_t *o, struct graft_err *err)
{
    const char *part = "decoder Metaspace", *scheme;
    bool prepend;
    size_t len;

    GRAFT_TRY(parse_char(d, o, part, "replacement", err));
    GRAFT_TRY(part_bool(o, part, "add_prefix_space", true, &prepend, err));
    GRAFT_TRY(part_text(o, part, "prepend_scheme", &scheme, &len, err));
    d->keep_first = scheme ? strcmp(scheme, "never") == 0 : !prepend;
    return GRAFT_OK;
}

static enum graft_status apply_metaspace(const struct decoder *d, struct matcher *m,
                                         const struct parts *in, struct parts *out,
                                         struct graft_err *err)
{
    (void)m;
    (void)err;
    for (int64_t i = 0; i < in->count; i++) {
        size_t len;
        const char *s = part_at(in, i, &len);

        for (size_t k = 0; k < len;) {
            if (len - k >= d->len && memcmp(s + k, d->text, d->len) == 0) {
                if (i > 0 || d->keep_first)
                    strbuf_putc(&out->text, ' ');
                k += d->len;
            } else {
                strbuf_putc(&out->text, s[k++]);
            }
        }
        end_part(out);
    }
    return GRAFT_OK;
}

static enum graft_status parse_bpe(struct decoder *d, const json_t *o, struct graft_err *err)
{
    const char *s;

    GRAFT_TRY(part_text(o, "decoder BPEDecoder", "suffix", &s, &d->len, err));
    if (!s) {
        s = "</w>";
        d->len = 4;
    }
    d->text = part_copy(s, d->len);
    return d->text ? GRAFT_OK : graft_fail_nomem(err, "a decoder", d->len);
}

/* The suffix ends a word: a space stands for it, but for the last token. */
static enum graft_status apply_bpe(const struct decoder *d, struct matcher *m,
                                   const struct parts *in, struct parts *out, struct graft_err *err)
{
    (void)m;
    (void)err;
    for (int64_t i = 0; i < in->count; i++) {
        size_t len;
        const char *s = part_at(in, i, &len);

        for (size_t k = 0; k < len;) {
            if (d->len && len - k >= d->len && memcmp(s + k, d->text, d->len) == 0) {
                if (i + 1 < in->count)
                    strbuf_putc(&out->text, ' ');
                k += d->len;
            } else {
                strbuf_putc(&out->text, s[k++]);
            }
        }
        end_part(out);
    }
    return GRAFT_OK;
}

const struct decoder_def decoder_defs[] = {
    { "ByteLevel", NULL, apply_byte_level },
    { "Replace", parse_replace, apply_replace },
    { "ByteFallback", NULL, apply_byte_fallback },
    { "Fuse", NULL, apply_fuse },
    { "Strip", parse_strip, apply_strip },
    { "Metaspace", parse_metaspace, apply_metaspace },
    { "BPEDecoder", parse_bpe, apply_bpe },
};
const size_t decoder_def_count = sizeof decoder_defs / sizeof *decoder_defs;

/* What streaming must know. A part's text depends on its neighbours only in the ways named; a
 * decoder that works on what others joined is streamed only where that is known to be harmless. */
static void note_streaming(struct decoder_chain *c, const struct decoder *d)
{
    const int before = c->count - 1;
    bool joined = false;

    for (int i = 0; i < before; i++)
        joined |= c->item[i].def->apply == apply_fuse || c->item[i].def->apply == apply_byte_level;
    if (d->def->apply == apply_byte_level) {
        c->byte_level = true;
        c->whole |= before > 0;
    } else if (d->def->apply == apply_byte_fallback) {
        c->byte_fallback = true;
        c->whole |= joined;
    } else if (d->def->apply == apply_replace) {
        c->whole |= joined || d->pattern.code != NULL;
    } else if (d->def->apply == apply_strip) {
        c->whole |= joined && d->stop > 0;
    } else if (d->def->apply == apply_bpe) {
        c->whole = true;
    } else if (d->def->apply == apply_metaspace) {
        c->whole |= before > 0;
    }
}

static enum graft_status add_decoder(void *user, const json_t *o, const char *type,
                                     struct graft_err *err)
{
    struct decoder_chain *c = user;
    struct decoder *d = &c->item[c->count];

    for (size_t i = 0; i < decoder_def_count; i++)
        if (strcmp(decoder_defs[i].type, type) == 0) {
            d->def = &decoder_defs[i];
            c->count++;
            if (d->def->parse)
                GRAFT_TRY(d->def->parse(d, o, err));
            note_streaming(c, d);
            return GRAFT_OK;
        }
    return graft_fail(err, GRAFT_EFORMAT, "decoder \"%.60s\" is not supported", type);
}

enum graft_status decoder_init(struct decoder_chain *c, const json_t *o, struct graft_err *err)
{
    if (!o || json_is_null(o))
        return GRAFT_OK;
    c->item = mem_array(PART_COUNT, sizeof *c->item);
    if (!c->item)
        return graft_fail_nomem(err, "the decoders", PART_COUNT * sizeof *c->item);
    return part_walk(o, "decoder", "decoders", add_decoder, c, err);
}

void decoder_release(struct decoder_chain *c)
{
    for (int i = 0; i < c->count; i++) {
        pattern_release(&c->item[i].pattern);
        mem_free(c->item[i].text);
    }
    mem_free(c->item);
    *c = (struct decoder_chain){ 0 };
}

static void join(const struct decoder_chain *c, const struct parts *p, struct strbuf *out)
{
    for (int64_t i = 0; i < p->count; i++) {
        size_t len;
        const char *s = part_at(p, i, &len);

        if (c->count == 0 && i > 0)
            strbuf_putc(out, ' ');
        strbuf_add(out, s, len);
    }
}

enum graft_status decoder_apply(const struct decoder_chain *c, struct parts *parts,
                                struct strbuf *out, struct graft_err *err)
{
    struct parts spare = { 0 };
    struct matcher m = { 0 };
    enum graft_status st = GRAFT_OK;

    for (int i = 0; i < c->count && !st && !parts->failed; i++) {
        struct parts swap;

        parts_clear(&spare);
        st = c->item[i].def->apply(&c->item[i], &m, parts, &spare, err);
        swap = *parts;
        *parts = spare;
        spare = swap;
    }
    if (!st && !parts->failed)
        join(c, parts, out);
    if (!st && (parts->failed || out->failed))
        st = graft_fail_nomem(err, "decoded text", parts->text.len);
    parts_release(&spare);
    matcher_release(&m);
    return st;
}
