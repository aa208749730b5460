/* Tokens to nodes: expressions, by the precedence of Jinja2's parser. Note that there ** binds to
 * the left and unary minus before it. */
#include <string.h>

#include "data/jinja_impl.h"

static struct jnode *parse_unary(struct jparser *p, bool with_filter);

static struct jnode *constant(struct jparser *p, int line, struct jval v)
{
    struct jnode *n = jnode(p, N_CONST, line);

    if (n)
        n->value = v;
    return n;
}

static struct jnode *string_constant(struct jparser *p)
{
    const int64_t first = p->at;
    struct jstr *s = jparse_alloc(p, sizeof *s);
    size_t len = 0;
    char *at;

    while (jpeek(p)->type == T_STRING)
        len += p->tok[p->at++].s.len;
    at = s ? jparse_alloc(p, len + 1) : NULL;
    if (!at)
        return NULL;
    *s = (struct jstr){ at, len };
    for (int64_t i = first; i < p->at; i++) {
        memcpy(at, p->tok[i].s.p, p->tok[i].s.len);
        at += p->tok[i].s.len;
    }
    return constant(p, p->tok[first].line, (struct jval){ .kind = J_STR, .u.s = s });
}

static struct jnode *parse_name(struct jparser *p, bool namespaces)
{
    static const unsigned uses[NAME_FIXED] = { 0, MACRO_CALLER, MACRO_KWARGS, MACRO_VARARGS };
    const struct jtoken *t = p->tok + p->at++;
    struct jnode *n;

    if (jis(&t->s, "true") || jis(&t->s, "True"))
        return constant(p, t->line, jbool(true));
    if (jis(&t->s, "false") || jis(&t->s, "False"))
        return constant(p, t->line, jbool(false));
    if (jis(&t->s, "none") || jis(&t->s, "None"))
        return constant(p, t->line, jnone());
    n = jnode(p, N_NAME, t->line);
    if (!n || (n->name = jintern(p, &t->s)) < 0)
        return NULL;
    if (n->name < NAME_FIXED)
        p->uses |= uses[n->name];
    if (namespaces && jskip(p, T_DOT)) {
        n->type = N_NSREF;
        n->text = &jpeek(p)->s;
        if (!jexpect(p, T_NAME))
            return NULL;
        n->value = (struct jval){ .kind = J_STR };
        n->value.u.s = jparse_alloc(p, sizeof(struct jstr));
        if (!n->value.u.s)
            return NULL;
        memcpy((void *)(uintptr_t)n->value.u.s, n->text, sizeof(struct jstr));
        n->text = n->value.u.s; /* the tokens do not live as long */
    }
    return n;
}

/* [a, b] and {a: b}; the current token is the opening one. */
static struct jnode *parse_items(struct jparser *p, bool dict)
{
    const int close = dict ? T_RBRACE : T_RBRACKET;
    struct jnode *n = jnode(p, dict ? N_DICT : N_LIST, jpeek(p)->line), **end;

    if (!n)
        return NULL;
    end = &n->a;
    p->at++;
    while (jpeek(p)->type != close) {
        if (n->a && !jexpect(p, T_COMMA))
            return NULL;
        if (jpeek(p)->type == close)
            break;
        if (!(*end = jparse_expr(p)))
            return NULL;
        end = &(*end)->next;
        if (!dict)
            continue;
        if (!jexpect(p, T_COLON) || !(*end = jparse_expr(p)))
            return NULL;
        end = &(*end)->next;
    }
    p->at++;
    return n;
}

struct jnode *jparse_primary(struct jparser *p, bool namespaces)
{
    const struct jtoken *t = jpeek(p);
    struct jnode *n;
    char room[80];

    switch (t->type) {
    case T_NAME:
        return parse_name(p, namespaces);
    case T_STRING:
        return string_constant(p);
    case T_INT:
        p->at++;
        return constant(p, t->line, jint(t->i));
    case T_FLOAT:
        p->at++;
        return constant(p, t->line, jfloat(t->d));
    case T_LPAREN:
        if (!jenter(p))
            return NULL;
        p->at++;
        n = jparse_tuple(p, true, true, NULL);
        p->depth--;
        return n && jexpect(p, T_RPAREN) ? n : NULL;
    case T_LBRACKET:
    case T_LBRACE:
        if (!jenter(p))
            return NULL;
        n = parse_items(p, t->type == T_LBRACE);
        p->depth--;
        return n;
    default:
        jparse_fail(p, t->line, "unexpected %s", jtok_text(t, room));
        return NULL;
    }
}

/* Items separated by commas until `end`; `one` parses each. Without a comma the item itself. */
static struct jnode *parse_commas(struct jparser *p, struct jnode *(*one)(struct jparser *p),
                                  bool explicit_empty, const char *stop)
{
    const int line = jpeek(p)->line;
    struct jnode *first = NULL, **end = &first, *n;
    bool tuple = false;
    char room[80];

    for (;;) {
        const struct jtoken *t = jpeek(p);

        if (t->type == T_VAR_END || t->type == T_BLOCK_END || t->type == T_RPAREN ||
            (stop && jis_name(t, stop)))
            break;
        if (!(*end = one(p)))
            return NULL;
        end = &(*end)->next;
        if (!jskip(p, T_COMMA))
            break;
        tuple = true;
    }
    if (!tuple && first)
        return first;
    if (!tuple && !explicit_empty) {
        jparse_fail(p, jpeek(p)->line, "expected an expression, found %s",
                    jtok_text(jpeek(p), room));
        return NULL;
    }
    n = jnode(p, N_TUPLE, line);
    if (n)
        n->a = first;
    return n;
}

struct jnode *jparse_tuple(struct jparser *p, bool cond, bool explicit_empty, const char *end)
{
    return parse_commas(p, cond ? jparse_expr : jparse_no_cond, explicit_empty, end);
}

static struct jnode *target_name(struct jparser *p)
{
    return jparse_primary(p, false);
}

static struct jnode *target_namespace(struct jparser *p)
{
    return jparse_primary(p, true);
}

static bool assignable(const struct jnode *n)
{
    if (n->type == N_TUPLE) {
        for (const struct jnode *k = n->a; k; k = k->next)
            J_TRY(assignable(k));
        return true;
    }
    return n->type == N_NAME || n->type == N_NSREF;
}

struct jnode *jparse_target(struct jparser *p, bool namespaces, const char *end)
{
    struct jnode *n = parse_commas(p, namespaces ? target_namespace : target_name, false, end);

    if (n && !assignable(n)) {
        jparse_fail(p, n->line, "can't assign to this expression");
        return NULL;
    }
    return n;
}

/* What stands in brackets: an expression or a slice. */
static struct jnode *parse_subscribed(struct jparser *p)
{
    const int line = jpeek(p)->line;
    struct jnode *part[3] = { NULL, NULL, NULL }, *n;

    if (jpeek(p)->type != T_COLON) {
        part[0] = jparse_expr(p);
        if (!part[0] || jpeek(p)->type != T_COLON)
            return part[0];
    }
    for (int i = 1; i < 3 && jskip(p, T_COLON); i++) {
        const int t = jpeek(p)->type;

        if (t != T_COLON && t != T_RBRACKET && t != T_COMMA && !(part[i] = jparse_expr(p)))
            return NULL;
    }
    n = jnode(p, N_SLICE, line);
    if (n) {
        n->a = part[0];
        n->b = part[1];
        n->c = part[2];
    }
    return n;
}

static struct jnode *parse_brackets(struct jparser *p, struct jnode *of)
{
    struct jnode *n = jnode(p, N_GETITEM, jpeek(p)->line), *first = NULL, **end = &first, *tuple;

    if (!n || !jenter(p))
        return NULL;
    p->at++;
    while (jpeek(p)->type != T_RBRACKET) {
        if (first && !jexpect(p, T_COMMA))
            return NULL;
        if (!(*end = parse_subscribed(p)))
            return NULL;
        end = &(*end)->next;
    }
    p->at++;
    p->depth--;
    n->a = of;
    n->b = first;
    if (first && !first->next)
        return n;
    tuple = jnode(p, N_TUPLE, n->line);
    if (!tuple)
        return NULL;
    for (const struct jnode *k = first; k; k = k->next) {
        if (k->type == N_SLICE) {
            jparse_refuse(p, k->line, "a slice within several subscripts");
            return NULL;
        }
    }
    tuple->a = first;
    n->b = tuple;
    return n;
}

/* A copy of the text of a token, which lives as long as the template. */
static const struct jstr *keep(struct jparser *p, const struct jstr *s)
{
    const int id = jintern(p, s);

    return id < 0 ? NULL : p->t->name[id];
}

static struct jnode *parse_dot(struct jparser *p, struct jnode *of)
{
    struct jnode *n = jnode(p, N_GETATTR, jpeek(p)->line);
    const struct jtoken *t;

    if (!n)
        return NULL;
    p->at++;
    t = p->tok + p->at++;
    n->a = of;
    if (t->type == T_NAME) {
        n->text = keep(p, &t->s);
        n->value = (struct jval){ .kind = J_STR, .u.s = n->text };
        return n->text ? n : NULL;
    }
    if (t->type != T_INT) {
        jparse_fail(p, t->line, "expected name or number");
        return NULL;
    }
    n->type = N_GETITEM;
    n->b = constant(p, t->line, jint(t->i));
    return n->b ? n : NULL;
}

static bool parse_arg(struct jparser *p, struct jnode **out, int *stage, int line)
{
    int kind = N_CONST;

    if (jskip(p, T_MUL))
        kind = N_STAR;
    else if (jskip(p, T_POW))
        kind = N_STARSTAR;
    else if (jpeek(p)->type == T_NAME && jpeek(p)[1].type == T_ASSIGN)
        kind = N_KEYWORD;
    /* positional, keyword, *list and **map in this order; keywords may follow *list */
    if ((kind == N_CONST && *stage > 0) || (kind == N_KEYWORD && *stage > 2) ||
        (kind == N_STAR && *stage > 1) || (kind == N_STARSTAR && *stage > 2))
        return jparse_fail(p, line, "invalid syntax for function call expression");
    *stage = kind == N_STARSTAR ? 3 : kind == N_STAR || *stage == 2 ? 2 : kind == N_KEYWORD ? 1 : 0;
    if (kind == N_CONST)
        return (*out = jparse_expr(p)) != NULL;
    J_TRY(*out = jnode(p, kind, jpeek(p)->line));
    if (kind == N_KEYWORD) {
        J_TRY((*out)->text = keep(p, &jpeek(p)->s));
        p->at += 2;
    }
    return ((*out)->a = jparse_expr(p)) != NULL;
}

bool jparse_args(struct jparser *p, struct jnode **out)
{
    const int line = jpeek(p)->line;
    struct jnode *first = NULL, **end = &first;
    int stage = 0;

    J_TRY(jenter(p) && jexpect(p, T_LPAREN));
    while (jpeek(p)->type != T_RPAREN) {
        if (first) {
            J_TRY(jexpect(p, T_COMMA));
            if (jpeek(p)->type == T_RPAREN)
                break;
        }
        J_TRY(parse_arg(p, end, &stage, line));
        end = &(*end)->next;
    }
    p->at++;
    p->depth--;
    *out = first;
    return true;
}

static struct jnode *parse_call(struct jparser *p, struct jnode *of)
{
    struct jnode *n = jnode(p, N_CALL, jpeek(p)->line);

    if (!n || !jparse_args(p, &n->b))
        return NULL;
    n->a = of;
    return n;
}

static struct jnode *parse_postfix(struct jparser *p, struct jnode *n)
{
    while (n) {
        const int t = jpeek(p)->type;

        if (t == T_DOT)
            n = parse_dot(p, n);
        else if (t == T_LBRACKET)
            n = parse_brackets(p, n);
        else if (t == T_LPAREN)
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* The dotted name of a filter or test into n->text. */
static bool parse_dotted(struct jparser *p, struct jnode *n)
{
    struct jstr whole;

    J_TRY(jexpect(p, T_NAME));
    whole = p->tok[p->at - 1].s;
    while (jskip(p, T_DOT)) {
        J_TRY(jexpect(p, T_NAME));
        whole.len = (size_t)(p->tok[p->at - 1].s.p - whole.p) + p->tok[p->at - 1].s.len;
    }
    return (n->text = keep(p, &whole)) != NULL;
}

static void note_unknown(struct jparser *p, const struct jnode *n)
{
    if (!n->def && !p->soft && !p->unknown &&
        !(n->type == N_FILTER && jfilter_unsupported(n->text)))
        p->unknown = n;
}

struct jnode *jparse_filters(struct jparser *p, struct jnode *node, bool inline_first)
{
    while (inline_first || jskip(p, T_PIPE)) {
        struct jnode *n = jnode(p, N_FILTER, jpeek(p)->line);

        if (!n || !parse_dotted(p, n))
            return NULL;
        if (jpeek(p)->type == T_LPAREN && !jparse_args(p, &n->b))
            return NULL;
        n->def = jfilter_find(n->text);
        note_unknown(p, n);
        n->a = node;
        node = n;
        inline_first = false;
    }
    return node;
}

static struct jnode *parse_test(struct jparser *p, struct jnode *of)
{
    struct jnode *n = jnode(p, N_TEST, jpeek(p)->line), *not ;
    const struct jtoken *t;
    bool negated;

    p->at++;
    negated = jskip_name(p, "not");
    if (!n || !parse_dotted(p, n))
        return NULL;
    n->a = of;
    n->def = jtest_find(n->text);
    note_unknown(p, n);
    t = jpeek(p);
    if (t->type == T_LPAREN) {
        if (!jparse_args(p, &n->b))
            return NULL;
    } else if (t->type == T_STRING || t->type == T_INT || t->type == T_FLOAT ||
               t->type == T_LBRACKET || t->type == T_LBRACE ||
               (t->type == T_NAME && !jis(&t->s, "else") && !jis(&t->s, "or") &&
                !jis(&t->s, "and"))) {
        if (jis_name(t, "is")) {
            jparse_fail(p, t->line, "you cannot chain multiple tests with is");
            return NULL;
        }
        n->b = parse_postfix(p, jparse_primary(p, false));
        if (!n->b)
            return NULL;
    }
    if (!negated)
        return n;
    not = jnode(p, N_NOT, n->line);
    if (not )
        not ->a = n;
    return not ;
}

static struct jnode *parse_filter_expr(struct jparser *p, struct jnode *n)
{
    while (n) {
        const struct jtoken *t = jpeek(p);

        if (t->type == T_PIPE)
            n = jparse_filters(p, n, false);
        else if (jis_name(t, "is"))
            n = parse_test(p, n);
        else if (t->type == T_LPAREN)
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

static struct jnode *parse_unary(struct jparser *p, bool with_filter)
{
    const struct jtoken *t = jpeek(p);
    struct jnode *n;

    if (t->type == T_SUB || t->type == T_ADD) {
        n = jnode(p, t->type == T_SUB ? N_NEG : N_POS, t->line);
        if (!n || !jenter(p))
            return NULL;
        p->at++;
        n->a = parse_unary(p, false);
        p->depth--;
        if (!n->a)
            return NULL;
    } else {
        n = jparse_primary(p, false);
    }
    n = parse_postfix(p, n);
    return with_filter ? parse_filter_expr(p, n) : n;
}

static struct jnode *binary(struct jparser *p, int type, int op, struct jnode *a, struct jnode *b,
                            int line)
{
    struct jnode *n = a && b ? jnode(p, type, line) : NULL;

    if (n) {
        n->op = (uint8_t)op;
        n->a = a;
        n->b = b;
    }
    return n;
}

static struct jnode *parse_pow(struct jparser *p)
{
    const int line = jpeek(p)->line;
    struct jnode *n = parse_unary(p, true);

    while (n && jskip(p, T_POW))
        n = binary(p, N_BINARY, T_POW, n, parse_unary(p, true), line);
    return n;
}

static struct jnode *parse_product(struct jparser *p)
{
    struct jnode *n = parse_pow(p);

    while (n) {
        const struct jtoken *t = jpeek(p);

        if (t->type != T_MUL && t->type != T_DIV && t->type != T_FLOORDIV && t->type != T_MOD)
            break;
        p->at++;
        n = binary(p, N_BINARY, t->type, n, parse_pow(p), t->line);
    }
    return n;
}

static struct jnode *parse_concat(struct jparser *p)
{
    struct jnode *first = parse_product(p), *last = first, *n;

    if (!first || jpeek(p)->type != T_TILDE)
        return first;
    n = jnode(p, N_CONCAT, first->line);
    while (n && jskip(p, T_TILDE)) {
        if (!(last->next = parse_product(p)))
            return NULL;
        last = last->next;
    }
    if (n)
        n->a = first;
    return n;
}

static struct jnode *parse_sum(struct jparser *p)
{
    struct jnode *n = parse_concat(p);

    while (n) {
        const struct jtoken *t = jpeek(p);

        if (t->type != T_ADD && t->type != T_SUB)
            break;
        p->at++;
        n = binary(p, N_BINARY, t->type, n, parse_concat(p), t->line);
    }
    return n;
}

static struct jnode *parse_compare(struct jparser *p)
{
    struct jnode *first = parse_sum(p), *n, **end;

    if (!first)
        return NULL;
    n = NULL;
    end = NULL;
    for (;;) {
        const struct jtoken *t = jpeek(p);
        int op = t->type;

        if (jis_name(t, "in")) {
            op = T_IN;
        } else if (jis_name(t, "not") && jis_name(t + 1, "in")) {
            op = T_NOTIN;
            p->at++;
        } else if (op < T_EQ || op > T_LE) {
            break;
        }
        p->at++;
        if (!n) {
            n = jnode(p, N_COMPARE, t->line);
            if (!n)
                return NULL;
            n->a = first;
            end = &n->b;
        }
        *end = jnode(p, N_OPERAND, t->line);
        if (!*end || !((*end)->a = parse_sum(p)))
            return NULL;
        (*end)->op = (uint8_t)op;
        end = &(*end)->next;
    }
    return n ? n : first;
}

static struct jnode *parse_not(struct jparser *p)
{
    struct jnode *n;

    if (!jis_name(jpeek(p), "not"))
        return parse_compare(p);
    n = jnode(p, N_NOT, jpeek(p)->line);
    if (!n || !jenter(p))
        return NULL;
    p->at++;
    n->a = parse_not(p);
    p->depth--;
    return n->a ? n : NULL;
}

static struct jnode *parse_and(struct jparser *p)
{
    const int line = jpeek(p)->line;
    struct jnode *n = parse_not(p);

    while (n && jskip_name(p, "and"))
        n = binary(p, N_AND, 0, n, parse_not(p), line);
    return n;
}

struct jnode *jparse_no_cond(struct jparser *p)
{
    const int line = jpeek(p)->line;
    struct jnode *n;

    if (!jenter(p))
        return NULL;
    n = parse_and(p);
    while (n && jskip_name(p, "or"))
        n = binary(p, N_OR, 0, n, parse_and(p), line);
    p->depth--;
    return n;
}

struct jnode *jparse_expr(struct jparser *p)
{
    const struct jnode *unknown = p->unknown;
    struct jnode *n = jparse_no_cond(p);

    while (n && jis_name(jpeek(p), "if")) {
        struct jnode *cond = binary(p, N_COND, 0, n, n, jpeek(p)->line);

        p->at++;
        if (!cond || !jenter(p) || !(cond->b = jparse_no_cond(p)))
            return NULL;
        if (jskip_name(p, "else") && !(cond->c = jparse_expr(p)))
            return NULL;
        p->depth--;
        p->unknown = unknown; /* conditions ask for a filter only when they use it */
        n = cond;
    }
    return n;
}
