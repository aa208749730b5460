/* Statements, scopes, macros and loops; rendering. */
#include <string.h>

#include "data/jinja_impl.h"

bool jscope_push(struct jrun *r, struct jscope *up, struct jscope **saved)
{
    struct jscope *s = jalloc(r, sizeof *s);

    J_TRY(s);
    s->up = up;
    *saved = r->scope;
    r->scope = s;
    return true;
}

bool jscope_set(struct jrun *r, struct jscope *s, int name, const struct jval *v)
{
    for (int i = 0; i < s->n; i++) {
        if (s->var[i].name == name) {
            s->var[i].value = *v;
            return true;
        }
    }
    if (s->n == s->cap) {
        const int cap = s->cap ? 2 * s->cap : 4;
        struct jvar *var = jalloc(r, (size_t)cap * sizeof *var);

        J_TRY(var);
        if (s->n)
            memcpy(var, s->var, (size_t)s->n * sizeof *var);
        s->var = var;
        s->cap = cap;
    }
    s->var[s->n++] = (struct jvar){ name, *v };
    return true;
}

bool jwrite(struct jrun *r, const char *p, size_t len)
{
    if (r->out->len - r->out_start + len > JINJA_MAX_OUTPUT)
        return jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
    strbuf_add(r->out, p, len);
    if (r->out->failed && !r->status)
        r->status = graft_fail_nomem(r->err, "rendered text", r->out->cap);
    return !r->out->failed;
}

/* Text that is not to be printed is written behind what is, and cut off again. */
void jcapture_begin(struct jrun *r, struct jmark *m)
{
    m->at = r->out->len;
    if (r->captures++ == 0)
        r->root_len = m->at;
}

bool jcapture_end(struct jrun *r, const struct jmark *m, struct jval *out)
{
    const size_t len = r->out->len - m->at;

    r->captures--;
    J_TRY(jstr_copy(r, len ? r->out->buf + m->at : "", len, out));
    r->out->len = m->at;
    if (r->out->buf)
        r->out->buf[m->at] = '\0';
    return true;
}

static bool unpack(struct jrun *r, const struct jnode *target, const struct jval *v)
{
    struct jlist items;
    int64_t want = 0;
    const struct jnode *k;

    if (v->kind < J_STR && v->kind != J_UNDEFINED)
        return jfail(r, "cannot unpack non-iterable %s object", jtype(v));
    J_TRY(jiterate(r, v, &items));
    for (k = target->a; k; k = k->next)
        want++;
    if (items.n > want)
        return jfail(r, "too many values to unpack (expected %lld)", (long long)want);
    if (items.n < want)
        return jfail(r, "not enough values to unpack (expected %lld, got %lld)", (long long)want,
                     (long long)items.n);
    want = 0;
    for (k = target->a; k; k = k->next)
        J_TRY(jassign(r, k, items.v + want++));
    return true;
}

static bool assign_namespace(struct jrun *r, const struct jnode *target, const struct jval *v)
{
    struct jnode name = *target;
    struct jval ns;

    name.type = N_NAME;
    J_TRY(jeval(r, &name, &ns));
    if (ns.kind != J_NAMESPACE)
        return jfail(r, "cannot assign attribute on non-namespace object");
    if (target->text->len && target->text->p[0] == '_')
        return jfail(r,
                     "chat templates cannot store underscore-prefixed attributes on a namespace");
    return jdict_set(r, ns.u.m, &target->value, v);
}

bool jassign(struct jrun *r, const struct jnode *target, const struct jval *v)
{
    if (target->type == N_TUPLE)
        return unpack(r, target, v);
    if (target->type == N_NSREF)
        return assign_namespace(r, target, v);
    return jscope_set(r, r->scope, target->name, v);
}

/* Runs `list` in a scope of its own inside `up`; its text into *text unless that is NULL. */
static bool exec_scoped(struct jrun *r, const struct jnode *list, struct jscope *up,
                        struct jval *text)
{
    struct jscope *saved;
    struct jmark mark;
    bool ok;

    J_TRY(jscope_push(r, up, &saved));
    if (text)
        jcapture_begin(r, &mark);
    ok = jexec(r, list);
    r->scope = saved;
    if (!text)
        return ok;
    return jcapture_end(r, &mark, text) && ok;
}

/* Macros ----------------------------------------------------------------------------------------
 */

static const struct jval *keyword(const struct jargs *a, const struct jstr *name)
{
    return a->kw ? jdict_get_str(a->kw, name->p, name->len) : NULL;
}

static void take_keyword(struct jdict *m, const struct jstr *name)
{
    int64_t i = 0;

    while (i < m->n && !(m->at[i].key.u.s->len == name->len &&
                         memcmp(m->at[i].key.u.s->p, name->p, name->len) == 0))
        i++;
    if (i == m->n)
        return;
    m->n--;
    memmove(m->at + i, m->at + i + 1, (size_t)(m->n - i) * sizeof *m->at);
}

/* Parameters, then what is left over into `kwargs` and `varargs`. */
static bool bind_parameters(struct jrun *r, const struct jnode *m, const struct jargs *a,
                            struct jval *rest)
{
    int64_t at = 0;

    J_TRY(jdict_new(r, J_DICT, rest));
    for (int64_t i = 0; a->kw && i < a->kw->n; i++)
        J_TRY(jdict_set(r, rest->u.m, &a->kw->at[i].key, &a->kw->at[i].value));
    for (const struct jnode *k = m->a; k; k = k->next, at++) {
        const struct jval *given = at < a->n ? a->v + at : keyword(a, k->text);
        struct jval v;

        if (at >= a->n && given)
            take_keyword(rest->u.m, k->text);
        if (given) {
            v = *given;
        } else if (k->a) {
            J_TRY(jeval(r, k->a, &v));
        } else {
            const struct jval name = { .kind = J_STR, .u.s = k->text };

            J_TRY(jundefined(r, NULL, &name, NULL, &v));
        }
        J_TRY(jscope_set(r, r->scope, k->name, &v));
    }
    return true;
}

static bool bind_rest(struct jrun *r, const struct jnode *m, const struct jargs *a,
                      struct jval *rest)
{
    int64_t params = 0;
    struct jval v;

    for (const struct jnode *k = m->a; k; k = k->next)
        params++;
    if (m->op & MACRO_CALLER && !keyword(a, r->t->name[NAME_CALLER])) {
        const struct jval name = { .kind = J_STR, .u.s = r->t->name[NAME_CALLER] };

        J_TRY(jundefined(r, "No caller defined", &name, NULL, &v) &&
              jscope_set(r, r->scope, NAME_CALLER, &v));
    } else if (m->op & MACRO_CALLER) {
        J_TRY(jscope_set(r, r->scope, NAME_CALLER, keyword(a, r->t->name[NAME_CALLER])));
        take_keyword(rest->u.m, r->t->name[NAME_CALLER]);
    }
    if (m->op & MACRO_KWARGS)
        J_TRY(jscope_set(r, r->scope, NAME_KWARGS, rest));
    else if (rest->u.m->n)
        return jfail(r, "macro '%.*s' takes no keyword argument '%.*s'", (int)m->text->len,
                     m->text->p, (int)rest->u.m->at[0].key.u.s->len, rest->u.m->at[0].key.u.s->p);
    if (m->op & MACRO_VARARGS) {
        J_TRY(jlist_new(r, J_TUPLE, &v));
        for (int64_t i = params; i < a->n; i++)
            J_TRY(jlist_push(r, v.u.l, a->v + i));
        return jscope_set(r, r->scope, NAME_VARARGS, &v);
    }
    return a->n <= params || jfail(r, "macro '%.*s' takes not more than %lld argument(s)",
                                   (int)m->text->len, m->text->p, (long long)params);
}

bool jcall_macro(struct jrun *r, const struct jmacro *m, const struct jargs *a, struct jval *out)
{
    const int line = r->line;
    struct jscope *saved;
    struct jval rest;
    struct jmark mark;
    bool ok;

    J_TRY(jscope_push(r, m->scope, &saved));
    ok = bind_parameters(r, m->node, a, &rest) && bind_rest(r, m->node, a, &rest);
    if (ok) {
        jcapture_begin(r, &mark);
        ok = jexec(r, m->node->c);
        ok = jcapture_end(r, &mark, out) && ok;
        r->line = ok ? line : r->line;
    }
    r->scope = saved;
    return ok;
}

static bool make_macro(struct jrun *r, const struct jnode *n, struct jval *out)
{
    struct jmacro *m = jalloc(r, sizeof *m);

    J_TRY(m);
    *m = (struct jmacro){ n, r->scope };
    *out = (struct jval){ .kind = J_MACRO, .u.macro = m };
    return true;
}

static bool exec_call_block(struct jrun *r, const struct jnode *n)
{
    const struct jval name = { .kind = J_STR, .u.s = r->t->name[NAME_CALLER] };
    struct jval f, caller, kw, out, text;
    struct jargs a;

    J_TRY(make_macro(r, n->b, &caller) && jeval(r, n->a->a, &f) && jeval_args(r, n->a->b, &a));
    J_TRY(jdict_new(r, J_DICT, &kw));
    for (int64_t i = 0; a.kw && i < a.kw->n; i++)
        J_TRY(jdict_set(r, kw.u.m, &a.kw->at[i].key, &a.kw->at[i].value));
    J_TRY(jdict_set(r, kw.u.m, &name, &caller));
    a.kw = kw.u.m;
    r->line = n->line;
    return jcall(r, &f, &a, &out) && jto_str(r, &out, &text) &&
           jwrite(r, text.u.s->p, text.u.s->len);
}

/* Loops -----------------------------------------------------------------------------------------
 */

/* Take items from the source until `upto` have passed the loop's `if`. */
bool jloop_ahead(struct jrun *r, struct jloop *l, int64_t upto, bool *there)
{
    while (l->got.n <= upto && l->next < l->source.n) {
        const struct jval *v = l->source.v + l->next++;
        struct jval yes = jbool(true);
        struct jscope *saved;
        bool ok;

        if (l->node->e) {
            J_TRY(jscope_push(r, l->scope, &saved));
            ok = jassign(r, l->node->a, v) && jeval(r, l->node->e, &yes);
            r->scope = saved;
            J_TRY(ok);
        }
        if (jtruth(&yes))
            J_TRY(jlist_push(r, &l->got, v));
    }
    *there = l->got.n > upto;
    return true;
}

static bool run_loop(struct jrun *r, struct jloop *l)
{
    const struct jnode *n = l->node;
    const struct jval self = { .kind = J_LOOP, .u.loop = l };
    struct jscope *saved;
    bool there, ok = true;

    for (l->index0 = 0;; l->index0++) {
        J_TRY(jsteps(r, 1) && jloop_ahead(r, l, l->index0, &there));
        if (!there)
            break;
        J_TRY(jscope_push(r, l->scope, &saved));
        ok = jscope_set(r, r->scope, NAME_LOOP, &self) && jassign(r, n->a, l->got.v + l->index0) &&
             jexec(r, n->c);
        r->scope = saved;
        J_TRY(ok);
        if (r->flow == FLOW_BREAK) {
            r->flow = FLOW_NEXT;
            return true;
        }
        r->flow = FLOW_NEXT;
    }
    /* `else` runs when nothing was there to loop over */
    return l->index0 > 0 || !n->d || exec_scoped(r, n->d, l->scope, NULL);
}

static bool exec_loop(struct jrun *r, const struct jnode *n, struct jscope *scope,
                      const struct jval *over, int64_t depth0)
{
    struct jloop *l = jalloc(r, sizeof *l);
    bool ok;

    J_TRY(l);
    *l = (struct jloop){ .node = n, .scope = scope, .depth0 = depth0 };
    J_TRY(jdeeper(r));
    ok = jiterate(r, over, &l->source) && run_loop(r, l);
    r->depth--;
    return ok;
}

bool jcall_loop(struct jrun *r, struct jloop *l, const struct jargs *a, struct jval *out)
{
    struct jmark mark;
    bool ok;

    if (!l->node->flag)
        return jfail(r, "the loop must have the 'recursive' marker to be called recursively");
    if (a->n != 1 || a->kw)
        return jfail(r, "loop() takes one argument");
    jcapture_begin(r, &mark);
    ok = exec_loop(r, l->node, l->scope, a->v, l->depth0 + 1);
    return jcapture_end(r, &mark, out) && ok;
}

/* Statements ------------------------------------------------------------------------------------
 */

static bool exec_print(struct jrun *r, const struct jnode *n)
{
    struct jval v, text;

    for (const struct jnode *k = n->a; k; k = k->next) {
        J_TRY(jeval(r, k, &v));
        J_TRY(jto_str(r, &v, &text) && jwrite(r, text.u.s->p, text.u.s->len));
    }
    return true;
}

static bool exec_if(struct jrun *r, const struct jnode *n)
{
    struct jval v;

    for (;;) {
        J_TRY(jeval(r, n->a, &v));
        if (jtruth(&v))
            return jexec(r, n->b);
        if (!n->flag)
            return jexec(r, n->c);
        n = n->c;
    }
}

/* The filters of a block, innermost first, over `text`. */
static bool apply_filters(struct jrun *r, const struct jnode *n, const struct jval *text,
                          struct jval *out)
{
    struct jnode constant = { .type = N_CONST, .line = n->line, .value = *text };
    struct jnode one = *n;
    struct jval inner;

    if (n->a) {
        J_TRY(jdeeper(r));
        J_TRY(apply_filters(r, n->a, text, &inner));
        r->depth--;
        constant.value = inner;
    }
    one.a = &constant;
    return jeval(r, &one, out);
}

static bool exec_set_block(struct jrun *r, const struct jnode *n)
{
    struct jval text, v;

    J_TRY(exec_scoped(r, n->c, r->scope, &text));
    if (r->flow != FLOW_NEXT)
        return true;
    v = text;
    if (n->b)
        J_TRY(apply_filters(r, n->b, &text, &v));
    return jassign(r, n->a, &v);
}

static bool exec_filter_block(struct jrun *r, const struct jnode *n)
{
    struct jval text, v, s;

    J_TRY(exec_scoped(r, n->c, r->scope, &text));
    if (r->flow != FLOW_NEXT)
        return true;
    return apply_filters(r, n->a, &text, &v) && jto_str(r, &v, &s) &&
           jwrite(r, s.u.s->p, s.u.s->len);
}

static bool exec_with(struct jrun *r, const struct jnode *n)
{
    struct jscope *outer = r->scope, *saved, *inner;
    bool ok = true;

    J_TRY(jscope_push(r, outer, &saved));
    inner = r->scope;
    for (const struct jnode *k = n->a; ok && k; k = k->next->next) {
        struct jval v;

        r->scope = outer; /* values do not see the targets */
        ok = jeval(r, k->next, &v);
        r->scope = inner;
        ok = ok && jassign(r, k, &v);
    }
    ok = ok && jexec(r, n->c);
    r->scope = saved;
    return ok;
}

/* As transformers notes it: where the text outside of macros and block assignments ends so far. */
static bool exec_generation(struct jrun *r, const struct jnode *n)
{
    const size_t from = r->captures ? r->root_len : r->out->len, begin = r->out->len;

    J_TRY(exec_scoped(r, n->c, r->scope, NULL));
    if (!r->spans)
        return true;
    r->status = jinja_spans_add(r->spans, from, from + r->out->len - begin, r->err);
    return r->status == GRAFT_OK;
}

static bool exec_one(struct jrun *r, const struct jnode *n)
{
    struct jval v;

    switch (n->type) {
    case N_DATA:
        return jwrite(r, n->value.u.s->p, n->value.u.s->len);
    case N_PRINT:
        return exec_print(r, n);
    case N_IF:
        return exec_if(r, n);
    case N_FOR:
        return jeval(r, n->b, &v) && exec_loop(r, n, r->scope, &v, 0);
    case N_SET:
        return jeval(r, n->b, &v) && jassign(r, n->a, &v);
    case N_SETBLOCK:
        return exec_set_block(r, n);
    case N_MACRO:
        return make_macro(r, n, &v) && jscope_set(r, r->scope, n->name, &v);
    case N_CALLBLOCK:
        return exec_call_block(r, n);
    case N_FILTERBLOCK:
        return exec_filter_block(r, n);
    case N_WITH:
        return exec_with(r, n);
    case N_GENERATION:
        return exec_generation(r, n);
    default:
        r->flow = n->type == N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return true;
    }
}

bool jexec(struct jrun *r, const struct jnode *list)
{
    bool ok = true;

    J_TRY(jdeeper(r));
    for (; ok && list && r->flow == FLOW_NEXT; list = list->next) {
        r->line = list->line;
        ok = jsteps(r, 1) && exec_one(r, list);
    }
    r->depth--;
    return ok;
}

/* Rendering -------------------------------------------------------------------------------------
 */

static bool make_globals(struct jrun *r, const struct jinja_var *var, int vars)
{
    const struct jinja *t = r->t;

    J_TRY(r->global = jalloc(r, (size_t)t->names * sizeof *r->global));
    for (int i = 0; i < t->names; i++) {
        const struct jval name = { .kind = J_STR, .u.s = t->name[i] };
        struct jval *v = r->global + i;

        for (const struct jfunc *f = jfunctions; f->name; f++)
            if (jis(t->name[i], f->name))
                *v = (struct jval){ .kind = J_FUNC, .u.func = f };
        for (int k = 0; k < vars; k++)
            if (jis(t->name[i], var[k].name))
                J_TRY(jfrom_json(r, var[k].value, v));
        if (v->kind == J_MISSING)
            J_TRY(jundefined(r, NULL, &name, NULL, v));
    }
    return true;
}

enum graft_status jinja_render(const struct jinja *t, const struct jinja_var *var, int vars,
                               const struct jinja_date *now, struct strbuf *out,
                               struct jinja_spans *spans, struct graft_err *err)
{
    struct jrun r = {
        .t = t, .out = out, .out_start = out->len, .line = 1, .now = now, .spans = spans, .err = err
    };
    const int64_t first = spans ? spans->count : 0;
    struct jscope *none;

    if (make_globals(&r, var, vars) && jscope_push(&r, NULL, &none))
        jexec(&r, t->body);
    arena_release(&r.mem);
    if (r.status) {
        out->len = r.out_start;
        if (out->buf)
            out->buf[out->len] = '\0';
        if (spans)
            spans->count = first;
    } else {
        for (int64_t i = first; spans && i < spans->count; i++) {
            spans->span[i].begin -= r.out_start;
            spans->span[i].end -= r.out_start;
        }
    }
    return r.status;
}

void jinja_spans_release(struct jinja_spans *s)
{
    mem_free(s->span);
    *s = (struct jinja_spans){ .count = 0 };
}

enum graft_status jinja_spans_add(struct jinja_spans *s, size_t begin, size_t end,
                                  struct graft_err *err)
{
    if (s->count == s->cap) {
        const int64_t cap = s->cap ? 2 * s->cap : 8;
        struct jinja_span *span =
            mem_resize(s->span, (size_t)s->cap * sizeof *span, (size_t)cap * sizeof *span);

        if (!span)
            return graft_fail_nomem(err, "spans of answers", (size_t)cap * sizeof *span);
        s->span = span;
        s->cap = cap;
    }
    s->span[s->count++] = (struct jinja_span){ begin, end };
    return GRAFT_OK;
}
