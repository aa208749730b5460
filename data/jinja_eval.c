/* Expressions to values. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "data/jinja_impl.h"

static bool fail_with(struct jrun *r, enum graft_status status, const char *fmt, va_list ap)
{
    char msg[GRAFT_ERR_MAX - 64];

    vsnprintf(msg, sizeof msg, fmt, ap);
    if (!r->status)
        r->status = graft_fail(r->err, status, "template line %d: %s", r->line, msg);
    return false;
}

bool jfail(struct jrun *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fail_with(r, GRAFT_EFORMAT, fmt, ap);
    va_end(ap);
    return false;
}

bool jrefuse(struct jrun *r, const char *fmt, ...)
{
    char with[512];
    va_list ap;

    snprintf(with, sizeof with, "%s is not supported", fmt);
    va_start(ap, fmt);
    fail_with(r, GRAFT_EFORMAT, with, ap);
    va_end(ap);
    return false;
}

void *jalloc(struct jrun *r, size_t bytes)
{
    void *at;

    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > JINJA_MAX_MEMORY || r->used + bytes > JINJA_MAX_MEMORY) {
        jfail(r, "the template takes more than %d bytes of memory", JINJA_MAX_MEMORY);
        return NULL;
    }
    if (bytes > r->left) {
        const size_t piece = bytes > 16384 ? bytes : 16384;

        at = arena_alloc(&r->mem, piece);
        if (!at) {
            if (!r->status)
                r->status = graft_fail_nomem(r->err, "a template's values", piece);
            return NULL;
        }
        if (piece - bytes < r->left) { /* a large one must not waste the room that is left */
            r->used += bytes;
            return at;
        }
        r->room = at;
        r->left = piece;
    }
    at = r->room;
    r->room += bytes;
    r->left -= bytes;
    r->used += bytes;
    return at;
}

bool jsteps(struct jrun *r, int64_t n)
{
    r->steps += n;
    return r->steps <= JINJA_MAX_STEPS ||
           jfail(r, "the template takes more than %d steps", JINJA_MAX_STEPS);
}

bool jdeeper(struct jrun *r)
{
    if (r->depth >= JINJA_MAX_DEPTH)
        return jfail(r, "nesting deeper than %d", JINJA_MAX_DEPTH);
    r->depth++;
    return true;
}

static bool eval_name(struct jrun *r, const struct jnode *n, struct jval *out)
{
    for (const struct jscope *s = r->scope; s; s = s->up)
        for (int i = 0; i < s->n; i++)
            if (s->var[i].name == n->name) {
                *out = s->var[i].value;
                return true;
            }
    *out = r->global[n->name];
    if (out->kind == J_UNDEFINED && jfunction_unsupported(r->t->name[n->name]))
        return jrefuse(r, "\"%.*s\"", (int)r->t->name[n->name]->len, r->t->name[n->name]->p);
    return true;
}

static bool eval_items(struct jrun *r, const struct jnode *list, struct jlist *out)
{
    struct jval v;

    for (; list; list = list->next)
        J_TRY(jeval(r, list, &v) && jlist_push(r, out, &v));
    return true;
}

static bool eval_dict(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval key, value;

    J_TRY(jdict_new(r, J_DICT, out));
    for (const struct jnode *k = n->a; k; k = k->next->next)
        J_TRY(jeval(r, k, &key) && jeval(r, k->next, &value) &&
              jdict_set(r, out->u.m, &key, &value));
    return true;
}

static bool eval_slice(struct jrun *r, const struct jnode *n, struct jval *out)
{
    const struct jnode *part[3] = { n->b->a, n->b->b, n->b->c };
    struct jval obj, v[3];

    J_TRY(jeval(r, n->a, &obj));
    for (int i = 0; i < 3; i++) {
        v[i] = jnone();
        if (part[i])
            J_TRY(jeval(r, part[i], v + i));
    }
    r->line = n->line;
    return jslice(r, &obj, v, v + 1, v + 2, out);
}

static bool eval_getitem(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval obj, key;

    if (n->b->type == N_SLICE)
        return eval_slice(r, n, out);
    J_TRY(jeval(r, n->a, &obj) && jeval(r, n->b, &key));
    r->line = n->line;
    return jgetitem(r, &obj, &key, out);
}

static bool add_keyword(struct jrun *r, struct jval *kw, const struct jval *name,
                        const struct jval *v)
{
    if (kw->kind != J_DICT)
        J_TRY(jdict_new(r, J_DICT, kw));
    if (name->kind != J_STR)
        return jfail(r, "keywords must be strings");
    if (jdict_get(kw->u.m, name))
        return jfail(r, "got multiple values for keyword argument '%.*s'", (int)name->u.s->len,
                     name->u.s->p);
    return jdict_set(r, kw->u.m, name, v);
}

bool jeval_args(struct jrun *r, const struct jnode *list, struct jargs *out)
{
    struct jlist pos = { .n = 0 }, more;
    struct jval kw = { .kind = J_MISSING }, v;

    for (; list; list = list->next) {
        if (list->type == N_KEYWORD) {
            const struct jval name = { .kind = J_STR, .u.s = list->text };

            J_TRY(jeval(r, list->a, &v) && add_keyword(r, &kw, &name, &v));
        } else if (list->type == N_STAR) {
            J_TRY(jeval(r, list->a, &v) && jiterate(r, &v, &more));
            for (int64_t i = 0; i < more.n; i++)
                J_TRY(jlist_push(r, &pos, more.v + i));
        } else if (list->type == N_STARSTAR) {
            J_TRY(jeval(r, list->a, &v));
            if (v.kind != J_DICT)
                return jfail(r, "argument after ** must be a mapping, not %s", jtype(&v));
            for (int64_t i = 0; i < v.u.m->n; i++)
                J_TRY(add_keyword(r, &kw, &v.u.m->at[i].key, &v.u.m->at[i].value));
        } else {
            J_TRY(jeval(r, list, &v) && jlist_push(r, &pos, &v));
        }
    }
    *out = (struct jargs){ pos.v, pos.n, kw.kind == J_DICT ? kw.u.m : NULL };
    return true;
}

bool jcall(struct jrun *r, const struct jval *f, const struct jargs *a, struct jval *out)
{
    bool ok;

    J_TRY(jdeeper(r));
    switch (f->kind) {
    case J_FUNC:
        ok = f->u.func->call(r, a, out);
        break;
    case J_METHOD:
        ok = f->u.method->def->call(r, &f->u.method->self, a, out);
        break;
    case J_MACRO:
        ok = jcall_macro(r, f->u.macro, a, out);
        break;
    case J_LOOP:
        ok = jcall_loop(r, f->u.loop, a, out);
        break;
    case J_JOINER:
        *out = f->u.cycler->items.v[0];
        ok = f->u.cycler->pos++ || jstr_ref(r, "", 0, out);
        break;
    case J_UNDEFINED:
        ok = jfail_undefined(r, f);
        break;
    default:
        ok = jfail(r, "'%s' object is not callable", jtype(f));
    }
    r->depth--;
    return ok;
}

static bool eval_call(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval f;
    struct jargs a;

    J_TRY(jeval(r, n->a, &f) && jeval_args(r, n->b, &a));
    r->line = n->line;
    return jcall(r, &f, &a, out);
}

static bool unknown(struct jrun *r, const struct jnode *n, const char *what)
{
    const int len = n->text->len > 60 ? 60 : (int)n->text->len;

    if (n->type == N_FILTER && jfilter_unsupported(n->text))
        return jrefuse(r, "filter \"%.*s\"", len, n->text->p);
    return jfail(r, "no %s named \"%.*s\"", what, len, n->text->p);
}

static bool eval_filter(struct jrun *r, const struct jnode *n, struct jval *out)
{
    const struct jfilter *f = n->def;
    struct jval in;
    struct jargs a;

    J_TRY(jeval(r, n->a, &in));
    r->line = n->line;
    if (!f)
        return unknown(r, n, "filter");
    J_TRY(jeval_args(r, n->b, &a));
    r->line = n->line;
    return f->call(r, &in, &a, out);
}

static bool eval_test(struct jrun *r, const struct jnode *n, struct jval *out)
{
    const struct jtest *t = n->def;
    struct jval in;
    struct jargs a;
    bool yes;

    J_TRY(jeval(r, n->a, &in));
    r->line = n->line;
    if (!t)
        return unknown(r, n, "test");
    J_TRY(jeval_args(r, n->b, &a));
    r->line = n->line;
    J_TRY(t->call(r, &in, &a, &yes));
    *out = jbool(yes);
    return true;
}

static bool eval_cond(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval v;

    J_TRY(jeval(r, n->b, &v));
    if (jtruth(&v))
        return jeval(r, n->a, out);
    if (n->c)
        return jeval(r, n->c, out);
    return jundefined(r,
                      "the inline if-expression evaluated to false and no else section was defined",
                      NULL, NULL, out);
}

static bool eval_binary(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval a, b;

    J_TRY(jeval(r, n->a, &a) && jeval(r, n->b, &b));
    r->line = n->line;
    return jbinary(r, n->op, &a, &b, out);
}

static bool eval_concat(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;

    for (const struct jnode *k = n->a; k; k = k->next) {
        struct jval v;

        if (jeval(r, k, &v) && jput_str(r, &text, &v) &&
            (text.len <= JINJA_MAX_OUTPUT ||
             jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT)))
            continue;
        strbuf_release(&text);
        return false;
    }
    return jstr_take(r, &text, out);
}

static bool eval_compare(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval a, b;
    bool yes = true;

    J_TRY(jeval(r, n->a, &a));
    for (const struct jnode *k = n->b; k && yes; k = k->next) {
        J_TRY(jeval(r, k->a, &b));
        r->line = k->line;
        J_TRY(jcompare(r, k->op, &a, &b, &yes));
        a = b;
    }
    *out = jbool(yes);
    return true;
}

static bool eval_logic(struct jrun *r, const struct jnode *n, struct jval *out)
{
    J_TRY(jeval(r, n->a, out));
    if (n->type == N_NOT)
        *out = jbool(!jtruth(out));
    else if (jtruth(out) == (n->type == N_AND))
        return jeval(r, n->b, out);
    return true;
}

static bool eval_unary(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval v;

    J_TRY(jeval(r, n->a, &v));
    r->line = n->line;
    return jnegate(r, &v, n->type == N_NEG, out);
}

static bool eval_attribute(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jval obj;

    J_TRY(jeval(r, n->a, &obj));
    r->line = n->line;
    return jgetattr(r, &obj, &n->value, out);
}

static bool eval_inner(struct jrun *r, const struct jnode *n, struct jval *out)
{
    switch (n->type) {
    case N_CONST:
        *out = n->value;
        return true;
    case N_NAME:
        return eval_name(r, n, out);
    case N_LIST:
    case N_TUPLE:
        return jlist_new(r, n->type == N_LIST ? J_LIST : J_TUPLE, out) &&
               eval_items(r, n->a, out->u.l);
    case N_DICT:
        return eval_dict(r, n, out);
    case N_GETATTR:
        return eval_attribute(r, n, out);
    case N_GETITEM:
        return eval_getitem(r, n, out);
    case N_CALL:
        return eval_call(r, n, out);
    case N_FILTER:
        return eval_filter(r, n, out);
    case N_TEST:
        return eval_test(r, n, out);
    case N_COND:
        return eval_cond(r, n, out);
    case N_OR:
    case N_AND:
    case N_NOT:
        return eval_logic(r, n, out);
    case N_NEG:
    case N_POS:
        return eval_unary(r, n, out);
    case N_BINARY:
        return eval_binary(r, n, out);
    case N_CONCAT:
        return eval_concat(r, n, out);
    default:
        return eval_compare(r, n, out);
    }
}

bool jeval(struct jrun *r, const struct jnode *n, struct jval *out)
{
    bool ok;

    r->line = n->line;
    J_TRY(jsteps(r, 1) && jdeeper(r));
    ok = eval_inner(r, n, out);
    r->depth--;
    return ok;
}
