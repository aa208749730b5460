#include "data/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_part.h"

enum {
    PATTERN_MAX = 1 << 16, /* bytes of an expression */
    STEPS = 1 << 20,       /* of one search, and STEPS_PER_BYTE more for each byte of text */
    STEPS_PER_BYTE = 32,
    JIT_STACK = 8 << 20,
    HEAP_KIB = 64 << 10
};

static void *pcre_alloc(size_t bytes, void *user)
{
    (void)user;
    return mem_alloc(bytes);
}

static void pcre_free(void *p, void *user)
{
    (void)user;
    mem_free(p);
}

static enum graft_status compile(struct pattern *p, const struct strbuf *text, const char *part,
                                 struct graft_err *err)
{
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    enum graft_status st = GRAFT_OK;
    int code = PCRE2_ERROR_NOMEMORY;
    size_t at = 0;
    char why[120];

    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        p->code = pcre2_compile((PCRE2_SPTR)text->buf, text->len,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                &code, &at, context);
    }
    if (!p->code && (!context || code == PCRE2_ERROR_HEAP_FAILED || code == PCRE2_ERROR_NOMEMORY)) {
        st = graft_fail_nomem(err, "a regular expression", text->len);
    } else if (!p->code) {
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        st = graft_fail(err, GRAFT_EFORMAT, "%s: regular expression: %s", part, why);
    } else {
        p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    return st;
}

enum graft_status pattern_regex(struct pattern *p, const char *text, size_t len, const char *part,
                                struct graft_err *err)
{
    struct strbuf out = STRBUF_INIT;
    enum graft_status st;

    if (len == 0 || len > PATTERN_MAX)
        return graft_fail(err, GRAFT_EFORMAT, "%s: a regular expression of %zu bytes", part, len);
    st = pattern_translate(text, len, &out, err);
    if (st)
        st = graft_fail_in(err, st, "%s", part);
    else
        st = compile(p, &out, part, err);
    strbuf_release(&out);
    return st;
}

enum graft_status pattern_init(struct pattern *p, const json_t *o, const char *part,
                               struct graft_err *err)
{
    const json_t *regex = json_object_get(o, "Regex");
    const json_t *text = json_is_string(o) ? o : json_object_get(o, "String");

    if (json_is_string(regex))
        return pattern_regex(p, json_string_value(regex), json_string_length(regex), part, err);
    if (!json_is_string(text) || json_string_length(text) == 0)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: \"pattern\" must be {\"String\": ...} or {\"Regex\": ...}", part);
    p->len = json_string_length(text);
    p->text = part_copy(json_string_value(text), p->len);
    return p->text ? GRAFT_OK : graft_fail_nomem(err, "a pattern", p->len);
}

void pattern_release(struct pattern *p)
{
    mem_free(p->text);
    pcre2_code_free(p->code);
    *p = (struct pattern){ 0 };
}

void matcher_release(struct matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (struct matcher){ 0 };
}

static enum graft_status matcher_start(struct matcher *m, struct graft_err *err)
{
    pcre2_general_context *general;

    if (m->context && m->data)
        return GRAFT_OK;
    general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (general && !m->data)
        m->data = pcre2_match_data_create(1, general);
    if (general && !m->context)
        m->context = pcre2_match_context_create(general);
    pcre2_general_context_free(general);
    if (!m->data || !m->context)
        return graft_fail_nomem(err, "matching a regular expression", 0);
    pcre2_set_heap_limit(m->context, HEAP_KIB);
    return GRAFT_OK;
}

static int search(const struct pattern *p, struct matcher *m, const char *s, size_t len,
                  size_t from)
{
    const size_t steps = len < (1u << 26) ? STEPS + STEPS_PER_BYTE * len : UINT32_MAX;

    pcre2_set_match_limit(m->context, (uint32_t)steps);
    if (p->jit)
        return pcre2_jit_match(p->code, (PCRE2_SPTR)s, len, from, 0, m->data, m->context);
    return pcre2_match(p->code, (PCRE2_SPTR)s, len, from, PCRE2_NO_UTF_CHECK, m->data, m->context);
}

static enum graft_status search_regex(const struct pattern *p, struct matcher *m, const char *s,
                                      size_t len, size_t from, bool *found, size_t *start,
                                      size_t *end, struct graft_err *err)
{
    int rc;

    GRAFT_TRY(matcher_start(m, err));
    rc = search(p, m, s, len, from);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !m->stack) {
        m->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK, NULL);
        if (!m->stack)
            return graft_fail_nomem(err, "matching a regular expression", JIT_STACK);
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
        rc = search(p, m, s, len, from);
    }
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH)
        return GRAFT_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return graft_fail_nomem(err, "matching a regular expression", 0);
    if (rc < 0)
        return graft_fail(err, GRAFT_EFORMAT,
                          "a regular expression of the tokenizer needs too many steps on this text "
                          "(error %d)",
                          rc);
    *start = pcre2_get_ovector_pointer(m->data)[0];
    *end = pcre2_get_ovector_pointer(m->data)[1];
    if (*start > *end) /* \K in a look-ahead */
        *start = *end;
    return GRAFT_OK;
}

/* A match may be empty, but not directly behind the last one. */
enum graft_status pattern_next(const struct pattern *p, struct matcher *m, const char *s,
                               size_t len, struct pattern_walk *w, bool *found, size_t *start,
                               size_t *end, struct graft_err *err)
{
    *found = false;
    while (w->from <= len) {
        if (p->code) {
            GRAFT_TRY(search_regex(p, m, s, len, w->from, found, start, end, err));
        } else {
            const char *hit = memmem(s + w->from, len - w->from, p->text, p->len);

            *found = hit != NULL;
            *start = hit ? (size_t)(hit - s) : len;
            *end = *start + p->len;
        }
        if (!*found)
            return GRAFT_OK;
        if (*end > *start || *end != w->last) {
            w->from = w->last = *end;
            return GRAFT_OK;
        }
        if (*end >= len)
            break;
        w->from = *end + 1;
        while (w->from < len && ((unsigned char)s[w->from] & 0xc0) == 0x80)
            w->from++;
    }
    *found = false;
    return GRAFT_OK;
}
