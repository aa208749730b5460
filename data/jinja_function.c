/* Arguments, and the functions that every template can call. */
#include <stdlib.h>
#include <string.h>

#include "data/jinja_impl.h"

int jplace(const char *names, const struct jstr *name)
{
    for (int i = 0;; i++) {
        const size_t n = strcspn(names, ",");

        if (n == name->len && memcmp(names, name->p, n) == 0 && *names != '_')
            return i;
        if (!names[n])
            return -1;
        names += n + 1;
    }
}

bool jbind(struct jrun *r, const char *what, const struct jargs *a, const char *names, int required,
           struct jval v[JINJA_MAX_ARGS])
{
    int count = *names ? 1 : 0;

    for (const char *c = names; *c; c++)
        count += *c == ',';
    for (int i = 0; i < JINJA_MAX_ARGS; i++)
        v[i] = (struct jval){ .kind = J_MISSING };
    if (a->n > count)
        return jfail(r, "%s takes at most %d argument(s), %lld given", what, count,
                     (long long)a->n);
    for (int64_t i = 0; i < a->n; i++)
        v[i] = a->v[i];
    for (int64_t i = 0; a->kw && i < a->kw->n; i++) {
        const struct jstr *name = a->kw->at[i].key.u.s;
        const int k = jplace(names, name);
        const int len = name->len > 60 ? 60 : (int)name->len;

        if (k < 0)
            return jfail(r, "%s got an unexpected keyword argument '%.*s'", what, len, name->p);
        if (v[k].kind != J_MISSING)
            return jfail(r, "%s got multiple values for argument '%.*s'", what, len, name->p);
        v[k] = a->kw->at[i].value;
    }
    for (int i = 0; i < required; i++)
        if (v[i].kind == J_MISSING)
            return jfail(r, "%s misses argument %d", what, i + 1);
    return true;
}

bool jarg_int(struct jrun *r, const char *what, const struct jval *v, int64_t otherwise,
              int64_t *out)
{
    *out = otherwise;
    if (v->kind == J_MISSING)
        return true;
    if (v->kind == J_UNDEFINED)
        return jfail_undefined(r, v);
    if (!jis_int(v))
        return jfail(r, "%s: '%s' object cannot be interpreted as an integer", what, jtype(v));
    *out = jint_of(v);
    return true;
}

bool jarg_str(struct jrun *r, const char *what, const struct jval *v, const struct jstr **out)
{
    if (v->kind != J_STR)
        return jfail(r, "%s: expected a string, found %s", what, jtype(v));
    *out = v->u.s;
    return true;
}

static bool call_raise(struct jrun *r, const struct jargs *a, struct jval *out)
{
    struct jval v[JINJA_MAX_ARGS], text;

    J_TRY(jbind(r, "raise_exception()", a, "message", 1, v) && jto_str(r, v, &text));
    (void)out;
    return jfail(r, "%.*s", text.u.s->len > 1500 ? 1500 : (int)text.u.s->len, text.u.s->p);
}

static bool call_strftime(struct jrun *r, const struct jargs *a, struct jval *out)
{
    const struct jstr *format = NULL;
    struct jval v[JINJA_MAX_ARGS];

    J_TRY(jbind(r, "strftime_now()", a, "format", 1, v));
    return jarg_str(r, "strftime_now()", v, &format) && jstrftime(r, format, out);
}

static bool call_range(struct jrun *r, const struct jargs *a, struct jval *out)
{
    int64_t v[3] = { 0, 0, 1 };
    struct jrange *g;
    uint64_t n = 0;
    bool up;

    if (a->kw || a->n < 1 || a->n > 3)
        return jfail(r, "range() takes 1 to 3 arguments");
    for (int64_t i = 0; i < a->n; i++)
        J_TRY(jarg_int(r, "range()", a->v + i, 0, v + (a->n == 1 ? 1 : i)));
    if (v[2] == 0)
        return jfail(r, "range() arg 3 must not be zero");
    up = v[2] > 0 ? v[1] > v[0] : v[0] > v[1];
    if (up) { /* the distance fits 64 bits without a sign */
        const uint64_t way =
            v[2] > 0 ? (uint64_t)v[1] - (uint64_t)v[0] : (uint64_t)v[0] - (uint64_t)v[1];

        const uint64_t by = v[2] < 0 ? 0 - (uint64_t)v[2] : (uint64_t)v[2];

        /* cppcheck-suppress zerodivcond ; zero was refused above */
        n = (way - 1) / by + 1;
    }
    if (n > 100000)
        return jfail(r, "range too big: the sandbox blocks ranges larger than 100000");
    J_TRY(g = jalloc(r, sizeof *g));
    *g = (struct jrange){ v[0], v[1], v[2], (int64_t)n };
    *out = (struct jval){ .kind = J_RANGE, .u.range = g };
    return true;
}

static bool put_pairs(struct jrun *r, const struct jval *from, struct jdict *m)
{
    struct jlist items, pair;

    if (from->kind == J_DICT) {
        for (int64_t i = 0; i < from->u.m->n; i++)
            J_TRY(jdict_set(r, m, &from->u.m->at[i].key, &from->u.m->at[i].value));
        return true;
    }
    J_TRY(jiterate(r, from, &items));
    for (int64_t i = 0; i < items.n; i++) {
        J_TRY(jiterate(r, items.v + i, &pair));
        if (pair.n != 2)
            return jfail(r,
                         "dictionary update sequence element #%lld has length %lld; 2 is "
                         "required",
                         (long long)i, (long long)pair.n);
        J_TRY(jdict_set(r, m, pair.v, pair.v + 1));
    }
    return true;
}

static bool make_dict(struct jrun *r, const struct jargs *a, int kind, struct jval *out)
{
    J_TRY(jdict_new(r, kind, out));
    if (a->n > 1)
        return jfail(r, "dict expected at most 1 argument, got %lld", (long long)a->n);
    if (a->n)
        J_TRY(put_pairs(r, a->v, out->u.m));
    for (int64_t i = 0; a->kw && i < a->kw->n; i++)
        J_TRY(jdict_set(r, out->u.m, &a->kw->at[i].key, &a->kw->at[i].value));
    return true;
}

static bool call_dict(struct jrun *r, const struct jargs *a, struct jval *out)
{
    return make_dict(r, a, J_DICT, out);
}

static bool call_namespace(struct jrun *r, const struct jargs *a, struct jval *out)
{
    J_TRY(make_dict(r, a, J_NAMESPACE, out));
    for (int64_t i = 0; i < out->u.m->n; i++) {
        const struct jval *key = &out->u.m->at[i].key;

        if (key->kind == J_STR && key->u.s->len && key->u.s->p[0] == '_')
            return jfail(r, "chat templates cannot store underscore-prefixed attributes on a "
                            "namespace");
    }
    return true;
}

static bool call_cycler(struct jrun *r, const struct jargs *a, struct jval *out)
{
    struct jcycler *c = jalloc(r, sizeof *c);

    J_TRY(c);
    if (a->n == 0 || a->kw)
        return jfail(r, "at least one item has to be provided");
    for (int64_t i = 0; i < a->n; i++)
        J_TRY(jlist_push(r, &c->items, a->v + i));
    *out = (struct jval){ .kind = J_CYCLER, .u.cycler = c };
    return true;
}

static bool call_joiner(struct jrun *r, const struct jargs *a, struct jval *out)
{
    struct jcycler *c = jalloc(r, sizeof *c);
    struct jval v[JINJA_MAX_ARGS];

    J_TRY(c && jbind(r, "joiner()", a, "sep", 0, v));
    if (v[0].kind == J_MISSING)
        J_TRY(jstr_ref(r, ", ", 2, v));
    J_TRY(jlist_push(r, &c->items, v));
    *out = (struct jval){ .kind = J_JOINER, .u.cycler = c };
    return true;
}

const struct jfunc jfunctions[] = {
    { "raise_exception", call_raise }, { "strftime_now", call_strftime },
    { "range", call_range },           { "dict", call_dict },
    { "namespace", call_namespace },   { "cycler", call_cycler },
    { "joiner", call_joiner },         { NULL, NULL },
};

bool jfunction_unsupported(const struct jstr *name)
{
    return jis(name, "lipsum") || jis(name, "self");
}
