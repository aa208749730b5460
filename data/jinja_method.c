/* Attributes and methods of everything but strings. */
#include <string.h>

#include "data/jinja_impl.h"

#define METHOD(name_)                                                                              \
    static bool name_(struct jrun *r, const struct jval *self, const struct jargs *a,              \
                      struct jval *out)

static bool no_arguments(struct jrun *r, const struct jargs *a)
{
    struct jval v[JINJA_MAX_ARGS];

    return jbind(r, "a method that takes nothing", a, "", 0, v);
}

METHOD(dict_keys)
{
    J_TRY(no_arguments(r, a) && jlist_new(r, J_VIEW, out));
    out->u.l->name = "dict_keys";
    for (int64_t i = 0; i < self->u.m->n; i++)
        J_TRY(jlist_push(r, out->u.l, &self->u.m->at[i].key));
    return true;
}

METHOD(dict_values)
{
    J_TRY(no_arguments(r, a) && jlist_new(r, J_VIEW, out));
    out->u.l->name = "dict_values";
    for (int64_t i = 0; i < self->u.m->n; i++)
        J_TRY(jlist_push(r, out->u.l, &self->u.m->at[i].value));
    return true;
}

METHOD(dict_items)
{
    J_TRY(no_arguments(r, a) && jlist_new(r, J_VIEW, out));
    out->u.l->name = "dict_items";
    for (int64_t i = 0; i < self->u.m->n; i++) {
        struct jval pair;

        J_TRY(jlist_new(r, J_TUPLE, &pair) && jlist_push(r, pair.u.l, &self->u.m->at[i].key) &&
              jlist_push(r, pair.u.l, &self->u.m->at[i].value) && jlist_push(r, out->u.l, &pair));
    }
    return true;
}

METHOD(dict_get)
{
    struct jval v[JINJA_MAX_ARGS];
    const struct jval *x;

    J_TRY(jbind(r, "get()", a, "_,_", 1, v));
    if (!jhashable(v))
        return jfail(r, "unhashable type: '%s'", jtype(v));
    J_TRY(jsteps(r, self->u.m->n / 16));
    x = jdict_get(self->u.m, v);
    *out = x ? *x : v[1].kind == J_MISSING ? jnone() : v[1];
    return true;
}

METHOD(dict_copy)
{
    J_TRY(no_arguments(r, a) && jdict_new(r, J_DICT, out));
    for (int64_t i = 0; i < self->u.m->n; i++)
        J_TRY(jdict_set(r, out->u.m, &self->u.m->at[i].key, &self->u.m->at[i].value));
    return true;
}

/* Of the function `dict`, to which transformers leaves this one method. */
METHOD(dict_fromkeys)
{
    const struct jval none = jnone();
    struct jval v[JINJA_MAX_ARGS];
    struct jlist keys;

    (void)self;
    J_TRY(jbind(r, "fromkeys()", a, "_,_", 1, v) && jiterate(r, v, &keys) &&
          jdict_new(r, J_DICT, out));
    for (int64_t i = 0; i < keys.n; i++) {
        if (!jhashable(keys.v + i))
            return jfail(r, "unhashable type: '%s'", jtype(keys.v + i));
        J_TRY(jdict_set(r, out->u.m, keys.v + i, v[1].kind == J_MISSING ? &none : v + 1));
    }
    return true;
}

METHOD(list_count)
{
    struct jval v[JINJA_MAX_ARGS];
    int64_t n = 0;
    bool same;

    J_TRY(jbind(r, "count()", a, "_", 1, v));
    for (int64_t i = 0; i < self->u.l->n; i++) {
        J_TRY(jequal(r, self->u.l->v + i, v, &same));
        n += same;
    }
    *out = jint(n);
    return true;
}

METHOD(list_index)
{
    struct jval v[JINJA_MAX_ARGS];
    int64_t from, to;
    bool same;

    J_TRY(jbind(r, "index()", a, "_,_,_", 1, v) && jarg_int(r, "index()", v + 1, 0, &from) &&
          jarg_int(r, "index()", v + 2, self->u.l->n, &to));
    from = from < 0 ? (from + self->u.l->n < 0 ? 0 : from + self->u.l->n) : from;
    to = to < 0 ? to + self->u.l->n : to;
    for (int64_t i = from; i < self->u.l->n && i < to; i++) {
        J_TRY(jequal(r, self->u.l->v + i, v, &same));
        if (same) {
            *out = jint(i);
            return true;
        }
    }
    return jfail(r, "the value is not in the list");
}

METHOD(list_copy)
{
    J_TRY(no_arguments(r, a) && jlist_new(r, J_LIST, out));
    for (int64_t i = 0; i < self->u.l->n; i++)
        J_TRY(jlist_push(r, out->u.l, self->u.l->v + i));
    return true;
}

METHOD(loop_cycle)
{
    if (a->n == 0)
        return jfail(r, "no items for cycling given");
    *out = a->v[self->u.loop->index0 % a->n];
    return true;
}

METHOD(loop_changed)
{
    struct jval now;
    bool same = false;

    J_TRY(jlist_new(r, J_TUPLE, &now));
    for (int64_t i = 0; i < a->n; i++)
        J_TRY(jlist_push(r, now.u.l, a->v + i));
    if (self->u.loop->changed.kind == J_TUPLE)
        J_TRY(jequal(r, &self->u.loop->changed, &now, &same));
    self->u.loop->changed = now;
    *out = jbool(!same);
    return true;
}

METHOD(cycler_next)
{
    struct jcycler *c = self->u.cycler;

    J_TRY(no_arguments(r, a));
    *out = c->items.v[c->pos];
    c->pos = (c->pos + 1) % c->items.n;
    return true;
}

METHOD(cycler_reset)
{
    J_TRY(no_arguments(r, a));
    self->u.cycler->pos = 0;
    *out = jnone();
    return true;
}

static const struct jmethod_def dict_methods[] = {
    { "keys", dict_keys }, { "values", dict_values }, { "items", dict_items },
    { "get", dict_get },   { "copy", dict_copy },     { NULL, NULL },
};
static const struct jmethod_def dict_function_methods[] = {
    { "fromkeys", dict_fromkeys },
    { NULL, NULL },
};
static const struct jmethod_def list_methods[] = {
    { "count", list_count },
    { "index", list_index },
    { "copy", list_copy },
    { NULL, NULL },
};
static const struct jmethod_def tuple_methods[] = {
    { "count", list_count },
    { "index", list_index },
    { NULL, NULL },
};
static const struct jmethod_def loop_methods[] = {
    { "cycle", loop_cycle },
    { "changed", loop_changed },
    { NULL, NULL },
};
static const struct jmethod_def cycler_methods[] = {
    { "next", cycler_next },
    { "reset", cycler_reset },
    { NULL, NULL },
};

/* Attributes that Python's types have and that are not here: told by name instead of taken for
 * missing. "!" in front: the sandbox lets nobody call it, as it would change the object. */
static const char *const more_attributes[] = {
    /* NOLINTNEXTLINE(bugprone-suspicious-missing-comma): one text over two lines */
    [J_BOOL] = "bit_length bit_count to_bytes from_bytes as_integer_ratio real imag numerator "
               "denominator conjugate ",
    [J_INT] = "bit_length bit_count to_bytes from_bytes as_integer_ratio real imag numerator "
              "denominator conjugate ",
    [J_FLOAT] = "as_integer_ratio fromhex hex is_integer real imag conjugate ",
    [J_STR] = "encode casefold translate maketrans expandtabs format_map isascii isidentifier "
              "isprintable istitle ",
    [J_LIST] = "!append !clear !pop !reverse !insert !sort !extend !remove ",
    [J_DICT] = "fromkeys !clear !pop !popitem !setdefault !update ",
    [J_GEN] = "close send throw gi_code gi_frame gi_running gi_yieldfrom gi_suspended ",
    [J_VIEW] = "mapping isdisjoint ",
    [J_RANGE] = "start stop step count index ",
    [J_MACRO] = "name arguments catch_kwargs catch_varargs caller explicit_caller ",
    [J_LOOP] = "",
    [J_CYCLER] = "items pos ",
    [J_JOINER] = "sep used ",
};

static bool listed(const char *list, const struct jstr *name, bool *barred)
{
    const char *p = list;

    while (p && *p) {
        const size_t n = strcspn(p, " ");
        const bool bar = *p == '!';

        if (n - bar == name->len && memcmp(p + bar, name->p, name->len) == 0) {
            *barred = bar;
            return true;
        }
        p += n + 1;
    }
    return false;
}

static bool bind_method(struct jrun *r, const struct jval *obj, const struct jmethod_def *def,
                        struct jval *out)
{
    struct jmethod *m = jalloc(r, sizeof *m);

    J_TRY(m);
    *m = (struct jmethod){ *obj, def };
    *out = (struct jval){ .kind = J_METHOD, .u.method = m };
    return true;
}

static bool loop_item(struct jrun *r, struct jloop *l, const struct jstr *name, struct jval *out)
{
    const bool next = jis(name, "nextitem");
    bool there = l->index0 > 0;

    if (next)
        J_TRY(jloop_ahead(r, l, l->index0 + 1, &there));
    if (!there)
        return jundefined(r, next ? "there is no next item" : "there is no previous item", NULL,
                          NULL, out);
    *out = l->got.v[l->index0 + (next ? 1 : -1)];
    return true;
}

static bool loop_attribute(struct jrun *r, struct jloop *l, const struct jstr *name, bool *found,
                           struct jval *out)
{
    bool there;

    *found = true;
    if (jis(name, "index") || jis(name, "index0")) {
        *out = jint(l->index0 + (name->len == 5));
    } else if (jis(name, "first")) {
        *out = jbool(l->index0 == 0);
    } else if (jis(name, "last")) {
        J_TRY(jloop_ahead(r, l, l->index0 + 1, &there));
        *out = jbool(!there);
    } else if (jis(name, "length") || jis(name, "revindex") || jis(name, "revindex0")) {
        J_TRY(jloop_ahead(r, l, INT64_MAX, &there));
        *out = jint(l->got.n - (name->len == 6 ? 0 : name->len == 8 ? l->index0 : l->index0 + 1));
    } else if (jis(name, "depth") || jis(name, "depth0")) {
        *out = jint(l->depth0 + (name->len == 5));
    } else if (jis(name, "previtem") || jis(name, "nextitem")) {
        return loop_item(r, l, name, out);
    } else {
        *found = false;
    }
    return true;
}

static const struct jmethod_def *methods_of(const struct jval *obj)
{
    switch (obj->kind) {
    case J_STR:
        return jstring_methods;
    case J_LIST:
        return list_methods;
    case J_TUPLE:
        return tuple_methods;
    case J_DICT:
        return dict_methods;
    case J_FUNC:
        return strcmp(obj->u.func->name, "dict") == 0 ? dict_function_methods : NULL;
    case J_LOOP:
        return loop_methods;
    case J_CYCLER:
        return cycler_methods;
    default:
        return NULL;
    }
}

bool jmethod_find(struct jrun *r, const struct jval *obj, const struct jstr *name, bool *found,
                  struct jval *out)
{
    const int len = name->len > 60 ? 60 : (int)name->len;
    bool barred;

    *found = true;
    if (obj->kind == J_NAMESPACE) {
        const struct jval *v = jdict_get_str(obj->u.m, name->p, name->len);

        *found = v != NULL;
        if (v)
            *out = *v;
        return true;
    }
    if (obj->kind == J_LOOP) {
        J_TRY(loop_attribute(r, obj->u.loop, name, found, out));
        if (*found)
            return true;
        *found = true;
    }
    if (obj->kind == J_TUPLE && obj->u.l->name && jplace(obj->u.l->name, name) >= 0) {
        *out = obj->u.l->v[jplace(obj->u.l->name, name)];
        return true;
    }
    if (obj->kind == J_CYCLER && jis(name, "current")) {
        *out = obj->u.cycler->items.v[obj->u.cycler->pos];
        return true;
    }
    for (const struct jmethod_def *m = methods_of(obj); m && m->name; m++)
        if (jis(name, m->name))
            return bind_method(r, obj, m, out);
    if (obj->kind < sizeof more_attributes / sizeof *more_attributes &&
        listed(more_attributes[obj->kind], name, &barred)) {
        if (!barred)
            return jrefuse(r, "attribute '%.*s' of '%s' objects", len, name->p, jtype(obj));
        /* Jinja2 gives an undefined value here, which fails when it is used */
        return jundefined(r, "a template cannot change a list or a dict", NULL, NULL, out);
    }
    if (name->len > 4 && memcmp(name->p, "__", 2) == 0 &&
        memcmp(name->p + name->len - 2, "__", 2) == 0)
        return jrefuse(r, "attribute '%.*s'", len, name->p);
    *found = false;
    return true;
}
