/* Tokens to nodes: statements. The grammar is that of Jinja2's parser. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "data/jinja_impl.h"

static bool fail_with(struct jparser *p, enum graft_status status, int line, const char *fmt,
                      va_list ap)
{
    char msg[512];

    vsnprintf(msg, sizeof msg, fmt, ap);
    if (!p->status)
        p->status = graft_fail(p->err, status, "template line %d: %s", line, msg);
    return false;
}

bool jparse_fail(struct jparser *p, int line, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fail_with(p, GRAFT_EFORMAT, line, fmt, ap);
    va_end(ap);
    return false;
}

bool jparse_refuse(struct jparser *p, int line, const char *fmt, ...)
{
    char with[512];
    va_list ap;

    snprintf(with, sizeof with, "%s is not supported", fmt);
    va_start(ap, fmt);
    fail_with(p, GRAFT_EFORMAT, line, with, ap);
    va_end(ap);
    return false;
}

void *jparse_alloc(struct jparser *p, size_t bytes)
{
    struct jinja *t = p->t;
    void *at;

    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > t->left) {
        const size_t piece = bytes > 4096 ? bytes : 4096;

        t->room = arena_alloc(&t->mem, piece);
        t->left = t->room ? piece : 0;
        if (!t->room) {
            if (!p->status)
                p->status = graft_fail_nomem(p->err, "a template", piece);
            return NULL;
        }
    }
    at = t->room;
    t->room += bytes;
    t->left -= bytes;
    return at;
}

struct jnode *jnode(struct jparser *p, int type, int line)
{
    struct jnode *n = jparse_alloc(p, sizeof *n);

    if (n) {
        n->type = (uint8_t)type;
        n->line = line;
    }
    return n;
}

int jintern(struct jparser *p, const struct jstr *s)
{
    struct jinja *t = p->t;
    struct jstr *copy;

    for (int i = 0; i < t->names; i++)
        if (t->name[i]->len == s->len && memcmp(t->name[i]->p, s->p, s->len) == 0)
            return i;
    if (t->names == t->names_cap) {
        const int cap = t->names_cap ? 2 * t->names_cap : 32;
        const struct jstr **name = jparse_alloc(p, (size_t)cap * sizeof *name);

        if (!name)
            return -1;
        if (t->names)
            memcpy(name, t->name, (size_t)t->names * sizeof *name);
        t->name = name;
        t->names_cap = cap;
    }
    copy = jparse_alloc(p, sizeof *copy);
    if (!copy)
        return -1;
    *copy = *s;
    t->name[t->names] = copy;
    return t->names++;
}

struct jtoken *jpeek(struct jparser *p)
{
    return p->tok + p->at;
}

bool jis_name(const struct jtoken *t, const char *name)
{
    return t->type == T_NAME && jis(&t->s, name);
}

bool jskip(struct jparser *p, int type)
{
    if (jpeek(p)->type != type)
        return false;
    p->at++;
    return true;
}

bool jskip_name(struct jparser *p, const char *name)
{
    if (!jis_name(jpeek(p), name))
        return false;
    p->at++;
    return true;
}

const char *jtok_text(const struct jtoken *t, char *room)
{
    switch (t->type) {
    case T_EOF:
        return "the end of the template";
    case T_DATA:
        return "text";
    case T_VAR_BEGIN:
    case T_BLOCK_BEGIN:
        return "the beginning of a tag";
    case T_VAR_END:
    case T_BLOCK_END:
        return "the end of a tag";
    case T_STRING:
        return "a string";
    default:
        snprintf(room, 80, "\"%.*s\"", t->s.len > 60 ? 60 : (int)t->s.len, t->s.p);
        return room;
    }
}

bool jexpect(struct jparser *p, int type)
{
    static const char *const text[] = {
        [T_VAR_END] = "\"}}\"", [T_BLOCK_END] = "\"%}\"", [T_NAME] = "a name",
        [T_RBRACKET] = "\"]\"", [T_LPAREN] = "\"(\"",     [T_RPAREN] = "\")\"",
        [T_RBRACE] = "\"}\"",   [T_ASSIGN] = "\"=\"",     [T_COLON] = "\":\"",
        [T_COMMA] = "\",\"",    [T_LBRACKET] = "\"[\"",   [T_LBRACE] = "\"{\"",
    };
    char room[80];

    if (jskip(p, type))
        return true;
    return jparse_fail(p, jpeek(p)->line, "expected %s, found %s", text[type],
                       jtok_text(jpeek(p), room));
}

bool jenter(struct jparser *p)
{
    if (++p->depth <= JINJA_MAX_NESTING)
        return true;
    return jparse_refuse(p, jpeek(p)->line, "nesting deeper than %d", JINJA_MAX_NESTING);
}

static bool parse_list(struct jparser *p, const char *const *ends, struct jnode **out);

/* The statements up to {% END %}, of which one of `ends` is found; the token of that name is the
 * current one then. */
static bool parse_body(struct jparser *p, const char *const *ends, struct jnode **out)
{
    jskip(p, T_COLON);
    return jexpect(p, T_BLOCK_END) && parse_list(p, ends, out);
}

static bool parse_until(struct jparser *p, const char *end, struct jnode **out)
{
    const char *const ends[] = { end, NULL };

    J_TRY(parse_body(p, ends, out));
    p->at++;
    return true;
}

/* A body that is a frame of its own: an unknown filter is told when the template is read. */
static bool parse_frame(struct jparser *p, const char *const *ends, struct jnode **out)
{
    const bool soft = p->soft;

    p->soft = false;
    J_TRY(parse_body(p, ends, out));
    p->soft = soft;
    return true;
}

static bool parse_frame_until(struct jparser *p, const char *end, struct jnode **out)
{
    const char *const ends[] = { end, NULL };

    J_TRY(parse_frame(p, ends, out));
    p->at++;
    return true;
}

/* The same for a body that becomes a function: no break leads out of it. */
static bool parse_function(struct jparser *p, const char *end, struct jnode **out)
{
    const int loops = p->loops;

    p->loops = 0;
    J_TRY(parse_frame_until(p, end, out));
    p->loops = loops;
    return true;
}

static bool parse_for(struct jparser *p, struct jnode *n)
{
    static const char *const ends[] = { "endfor", "else", NULL };
    const bool soft = p->soft;

    n->type = N_FOR;
    J_TRY(n->a = jparse_target(p, false, "in"));
    if (!jskip_name(p, "in"))
        return jparse_fail(p, jpeek(p)->line, "expected \"in\" in a for");
    J_TRY(n->b = jparse_tuple(p, false, false, "recursive"));
    p->soft = false;
    if (jskip_name(p, "if"))
        J_TRY(n->e = jparse_expr(p));
    p->soft = soft;
    n->flag = jskip_name(p, "recursive");
    p->loops++;
    J_TRY(parse_frame(p, ends, &n->c));
    p->loops--;
    if (jskip_name(p, "else")) {
        /* in Python's terms this lies behind the loop */
        J_TRY(parse_frame_until(p, "endfor", &n->d));
    } else {
        p->at++;
    }
    return true;
}

static bool parse_if(struct jparser *p, struct jnode *n)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    const bool soft = p->soft;

    p->soft = true;
    for (;;) {
        n->type = N_IF;
        J_TRY(n->a = jparse_tuple(p, false, false, NULL));
        J_TRY(parse_body(p, ends, &n->b));
        if (!jskip_name(p, "elif"))
            break;
        n->flag = true;
        J_TRY(n->c = jnode(p, N_IF, jpeek(p)->line));
        n = n->c;
    }
    if (jskip_name(p, "else"))
        J_TRY(parse_until(p, "endif", &n->c));
    else
        p->at++;
    p->soft = soft;
    return true;
}

static bool parse_set(struct jparser *p, struct jnode *n)
{
    J_TRY(n->a = jparse_target(p, true, NULL));
    if (jskip(p, T_ASSIGN)) {
        n->type = N_SET;
        return (n->b = jparse_tuple(p, true, false, NULL)) != NULL;
    }
    n->type = N_SETBLOCK;
    if (jpeek(p)->type == T_PIPE)
        J_TRY(n->b = jparse_filters(p, NULL, false));
    return parse_frame_until(p, "endset", &n->c);
}

/* (a, b=1): N_NAMEs with their defaults. */
static bool parse_signature(struct jparser *p, struct jnode **out)
{
    bool defaults = false;

    J_TRY(jexpect(p, T_LPAREN));
    while (jpeek(p)->type != T_RPAREN) {
        struct jnode *n;

        if (out[0] != NULL)
            J_TRY(jexpect(p, T_COMMA));
        while (*out)
            out = &(*out)->next;
        J_TRY(n = jnode(p, N_NAME, jpeek(p)->line));
        *out = n;
        J_TRY(jexpect(p, T_NAME));
        n->text = &p->tok[p->at - 1].s;
        J_TRY((n->name = jintern(p, n->text)) >= 0);
        n->text = p->t->name[n->name];
        if (jskip(p, T_ASSIGN)) {
            J_TRY(n->a = jparse_expr(p));
            defaults = true;
        } else if (defaults) {
            return jparse_fail(p, n->line, "non-default argument follows default argument");
        }
    }
    p->at++;
    return true;
}

static bool parse_macro(struct jparser *p, struct jnode *n)
{
    const unsigned uses = p->uses;

    n->type = N_MACRO;
    J_TRY(jexpect(p, T_NAME));
    J_TRY((n->name = jintern(p, &p->tok[p->at - 1].s)) >= 0);
    n->text = p->t->name[n->name];
    p->uses = 0;
    J_TRY(parse_signature(p, &n->a) && parse_function(p, "endmacro", &n->c));
    n->op = (uint8_t)p->uses;
    p->uses |= uses;
    return true;
}

static bool parse_call_block(struct jparser *p, struct jnode *n)
{
    const unsigned uses = p->uses;

    n->type = N_CALLBLOCK;
    J_TRY(n->b = jnode(p, N_MACRO, n->line));
    n->b->name = NAME_CALLER;
    n->b->text = p->t->name[NAME_CALLER];
    if (jpeek(p)->type == T_LPAREN)
        J_TRY(parse_signature(p, &n->b->a));
    J_TRY(n->a = jparse_expr(p));
    if (n->a->type != N_CALL)
        return jparse_fail(p, n->line, "expected call");
    p->uses = 0;
    J_TRY(parse_function(p, "endcall", &n->b->c));
    n->b->op = (uint8_t)p->uses;
    p->uses |= uses;
    return true;
}

static bool parse_with(struct jparser *p, struct jnode *n)
{
    struct jnode **end = &n->a;

    n->type = N_WITH;
    while (jpeek(p)->type != T_BLOCK_END) {
        if (n->a)
            J_TRY(jexpect(p, T_COMMA));
        J_TRY(*end = jparse_target(p, false, NULL));
        end = &(*end)->next;
        J_TRY(jexpect(p, T_ASSIGN) && (*end = jparse_expr(p)));
        end = &(*end)->next;
    }
    return parse_frame_until(p, "endwith", &n->c);
}

static bool parse_print(struct jparser *p, struct jnode *n)
{
    struct jnode **end = &n->a;

    n->type = N_PRINT;
    while (jpeek(p)->type != T_BLOCK_END) {
        if (n->a)
            J_TRY(jexpect(p, T_COMMA));
        J_TRY(*end = jparse_expr(p));
        end = &(*end)->next;
    }
    return true;
}

static bool parse_filter_block(struct jparser *p, struct jnode *n)
{
    n->type = N_FILTERBLOCK;
    J_TRY(n->a = jparse_filters(p, NULL, true));
    return parse_frame_until(p, "endfilter", &n->c);
}

static bool parse_generation(struct jparser *p, struct jnode *n)
{
    n->type = N_GENERATION;
    p->t->generation = true;
    return parse_function(p, "endgeneration", &n->c);
}

static bool parse_loop_control(struct jparser *p, struct jnode *n)
{
    n->type = jis_name(p->tok + p->at - 1, "break") ? N_BREAK : N_CONTINUE;
    if (p->loops)
        return true;
    return jparse_fail(p, n->line, "%s outside of a loop",
                       n->type == N_BREAK ? "break" : "continue");
}

static bool parse_statement(struct jparser *p, struct jnode **out)
{
    static const struct {
        const char *name;
        bool (*parse)(struct jparser *p, struct jnode *n); /* NULL: refused */
    } statements[] = {
        { "for", parse_for },
        { "if", parse_if },
        { "set", parse_set },
        { "macro", parse_macro },
        { "call", parse_call_block },
        { "filter", parse_filter_block },
        { "with", parse_with },
        { "print", parse_print },
        { "generation", parse_generation },
        { "break", parse_loop_control },
        { "continue", parse_loop_control },
        { "block", NULL },
        { "extends", NULL },
        { "include", NULL },
        { "import", NULL },
        { "from", NULL },
        { "autoescape", NULL },
    };
    const struct jtoken *t = jpeek(p);
    char room[80];

    if (t->type != T_NAME)
        return jparse_fail(p, t->line, "tag name expected, found %s", jtok_text(t, room));
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        bool ok;

        if (!jis_name(t, statements[i].name))
            continue;
        if (!statements[i].parse)
            return jparse_refuse(p, t->line, "{%% %s %%}", statements[i].name);
        J_TRY(jenter(p) && (*out = jnode(p, N_PRINT, t->line)));
        p->at++;
        ok = statements[i].parse(p, *out);
        p->depth--;
        return ok;
    }
    return jparse_fail(p, t->line, "unknown tag %s", jtok_text(t, room));
}

static bool parse_output(struct jparser *p, struct jnode **out)
{
    const struct jtoken *t = jpeek(p);

    if (t->type == T_DATA) {
        struct jstr *s = jparse_alloc(p, sizeof *s);

        J_TRY(s && (*out = jnode(p, N_DATA, t->line)));
        *s = t->s;
        (*out)->value = (struct jval){ .kind = J_STR, .u.s = s };
        p->at++;
        return true;
    }
    p->at++; /* {{ */
    J_TRY(*out = jnode(p, N_PRINT, t->line));
    return ((*out)->a = jparse_tuple(p, true, false, NULL)) && jexpect(p, T_VAR_END);
}

static bool parse_list(struct jparser *p, const char *const *ends, struct jnode **out)
{
    char room[80];

    for (;;) {
        const struct jtoken *t = jpeek(p);

        if (t->type == T_EOF) {
            if (ends)
                return jparse_fail(p, t->line, "the template ends before {%% %s %%}", ends[0]);
            return true;
        }
        if (t->type != T_BLOCK_BEGIN) {
            J_TRY(parse_output(p, out));
        } else {
            p->at++;
            for (int i = 0; ends && ends[i]; i++)
                if (jis_name(jpeek(p), ends[i]))
                    return true;
            J_TRY(parse_statement(p, out));
            if (jpeek(p)->type != T_BLOCK_END)
                return jparse_fail(p, jpeek(p)->line, "expected \"%%}\", found %s",
                                   jtok_text(jpeek(p), room));
            p->at++;
        }
        out = &(*out)->next;
    }
}

/* Line ends as Jinja2 makes them: \n alone, and none at the very end. */
static char *normalise(struct jparser *p, const char *text, size_t *len)
{
    char *s = jparse_alloc(p, *len + 1);
    size_t n = 0;

    if (!s)
        return NULL;
    for (size_t i = 0; i < *len; i++) {
        if (text[i] == '\r') {
            s[n++] = '\n';
            i += i + 1 < *len && text[i + 1] == '\n';
        } else {
            s[n++] = text[i];
        }
    }
    *len = n - (n && s[n - 1] == '\n');
    return s;
}

static bool valid(struct jparser *p, const char *text, size_t len)
{
    int line = 1;
    uint32_t cp;

    if (len > JINJA_MAX_TEMPLATE)
        return jparse_refuse(p, 1, "a template of more than %d bytes", JINJA_MAX_TEMPLATE);
    for (size_t i = 0; i < len;) {
        const int n = utf8_next(text + i, len - i, &cp);

        if (!n)
            return jparse_fail(p, line, "not valid UTF-8");
        line += text[i] == '\n';
        i += (size_t)n;
    }
    return true;
}

static bool parse_all(struct jparser *p, const char *text, size_t len)
{
    static const struct jstr fixed[NAME_FIXED] = {
        { "loop", 4 }, { "caller", 6 }, { "kwargs", 6 }, { "varargs", 7 }
    };
    char *s;

    for (int i = 0; i < NAME_FIXED; i++)
        J_TRY(jintern(p, fixed + i) >= 0);
    J_TRY(valid(p, text, len) && (s = normalise(p, text, &len)));
    J_TRY(jlex(p, s, len) && parse_list(p, NULL, &p->t->body));
    if (!p->unknown)
        return true;
    return jparse_fail(
        p, p->unknown->line, "no %s named \"%.*s\"", p->unknown->type == N_TEST ? "test" : "filter",
        p->unknown->text->len > 60 ? 60 : (int)p->unknown->text->len, p->unknown->text->p);
}

enum graft_status jinja_new(const char *text, size_t len, struct jinja **out, struct graft_err *err)
{
    struct jinja *t = mem_alloc(sizeof *t);
    struct jparser p = { .t = t, .err = err };

    if (!t)
        return graft_fail_nomem(err, "a template", sizeof *t);
    if (parse_all(&p, text, len)) {
        *out = t;
        t = NULL;
    }
    mem_free(p.tok);
    jinja_free(t);
    return p.status;
}

void jinja_free(struct jinja *t)
{
    if (!t)
        return;
    arena_release(&t->mem);
    mem_free(t);
}

bool jinja_has_generation(const struct jinja *t)
{
    return t->generation;
}

bool jinja_names(const struct jinja *t, const char *name)
{
    for (int i = NAME_FIXED; i < t->names; i++)
        if (jis(t->name[i], name))
            return true;
    return false;
}
