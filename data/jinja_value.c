/* Values: making them, truth, equality and order, lengths, iteration. As Python has them. */
#include <math.h>
#include <string.h>

#include "data/jinja_impl.h"

bool jis(const struct jstr *s, const char *text)
{
    return s->len == strlen(text) && memcmp(s->p, text, s->len) == 0;
}

bool jstr_ref(struct jrun *r, const char *p, size_t len, struct jval *out)
{
    struct jstr *s = jalloc(r, sizeof *s);

    J_TRY(s);
    *s = (struct jstr){ p, len };
    *out = (struct jval){ .kind = J_STR, .u.s = s };
    return true;
}

bool jstr_copy(struct jrun *r, const char *p, size_t len, struct jval *out)
{
    char *copy = jalloc(r, len + 1);

    J_TRY(copy);
    if (len)
        memcpy(copy, p, len);
    return jstr_ref(r, copy, len, out);
}

bool jstr_take(struct jrun *r, struct strbuf *s, struct jval *out)
{
    bool ok = jsteps(r, (int64_t)(s->len / 64));

    if (s->failed && !r->status)
        r->status = graft_fail_nomem(r->err, "a template's text", s->cap);
    ok = ok && !s->failed && jstr_copy(r, s->buf, s->len, out);
    strbuf_release(s);
    return ok;
}

bool jlist_new(struct jrun *r, int kind, struct jval *out)
{
    struct jlist *l = jalloc(r, sizeof *l);

    J_TRY(l);
    *out = (struct jval){ .kind = (uint8_t)kind, .u.l = l };
    return true;
}

bool jlist_push(struct jrun *r, struct jlist *l, const struct jval *v)
{
    J_TRY(jsteps(r, 1));
    if (l->n == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : 4;
        struct jval *at = jalloc(r, (size_t)cap * sizeof *at);

        J_TRY(at);
        if (l->n)
            memcpy(at, l->v, (size_t)l->n * sizeof *at);
        l->v = at;
        l->cap = cap;
    }
    l->v[l->n++] = *v;
    return true;
}

bool jdict_new(struct jrun *r, int kind, struct jval *out)
{
    struct jdict *m = jalloc(r, sizeof *m);

    J_TRY(m);
    *out = (struct jval){ .kind = (uint8_t)kind, .u.m = m };
    return true;
}

bool jhashable(const struct jval *v)
{
    if (v->kind == J_TUPLE)
        for (int64_t i = 0; i < v->u.l->n; i++)
            J_TRY(jhashable(v->u.l->v + i));
    return v->kind != J_LIST && v->kind != J_DICT && v->kind != J_VIEW;
}

/* Equal keys have equal hashes: 1, 1.0 and true are equal. */
static uint32_t hash(const struct jval *v)
{
    uint32_t h = 2166136261u;

    if (v->kind == J_STR) {
        for (size_t i = 0; i < v->u.s->len; i++)
            h = (h ^ (unsigned char)v->u.s->p[i]) * 16777619u;
    } else if (jis_int(v)) {
        h ^= (uint32_t)jint_of(v);
    } else if (v->kind == J_FLOAT) {
        h ^= fabs(v->u.d) < 9e18 ? (uint32_t)(int64_t)v->u.d : 0;
    }
    return h;
}

static bool scalar_equal(const struct jval *a, const struct jval *b)
{
    if (jis_int(a) && jis_int(b))
        return jint_of(a) == jint_of(b);
    if ((jis_int(a) || a->kind == J_FLOAT) && (jis_int(b) || b->kind == J_FLOAT)) {
        const double x = a->kind == J_FLOAT ? a->u.d : (double)jint_of(a);
        const double y = b->kind == J_FLOAT ? b->u.d : (double)jint_of(b);

        return x == y;
    }
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case J_NONE:
    case J_UNDEFINED:
    case J_MISSING:
        return true;
    case J_STR:
        return a->u.s->len == b->u.s->len && memcmp(a->u.s->p, b->u.s->p, a->u.s->len) == 0;
    case J_RANGE:
        return a->u.range->n == b->u.range->n &&
               (a->u.range->n < 1 || a->u.range->start == b->u.range->start) &&
               (a->u.range->n < 2 || a->u.range->step == b->u.range->step);
    default:
        return a->u.l == b->u.l; /* identity, of whatever pointer it is */
    }
}

static bool key_equal(const struct jval *a, const struct jval *b)
{
    if (a->kind == J_TUPLE && b->kind == J_TUPLE) {
        if (a->u.l->n != b->u.l->n)
            return false;
        for (int64_t i = 0; i < a->u.l->n; i++)
            J_TRY(key_equal(a->u.l->v + i, b->u.l->v + i));
        return true;
    }
    return scalar_equal(a, b);
}

static struct jpair *find(const struct jdict *m, const struct jval *key)
{
    const uint32_t h = hash(key);

    for (int64_t i = 0; i < m->n; i++)
        if (m->at[i].hash == h && key_equal(&m->at[i].key, key))
            return m->at + i;
    return NULL;
}

const struct jval *jdict_get(const struct jdict *m, const struct jval *key)
{
    const struct jpair *p = find(m, key);

    return p ? &p->value : NULL;
}

const struct jval *jdict_get_str(const struct jdict *m, const char *p, size_t len)
{
    const struct jstr s = { p, len };
    const struct jval key = { .kind = J_STR, .u.s = &s };

    return jdict_get(m, &key);
}

bool jdict_set(struct jrun *r, struct jdict *m, const struct jval *key, const struct jval *value)
{
    struct jpair *p;

    J_TRY(jsteps(r, 1 + m->n / 16));
    if (!jhashable(key))
        return jfail(r, "unhashable type: '%s'", jtype(key));
    p = find(m, key);
    if (p) {
        p->value = *value;
        return true;
    }
    if (m->n == m->cap) {
        const int64_t cap = m->cap ? 2 * m->cap : 4;

        p = jalloc(r, (size_t)cap * sizeof *p);
        J_TRY(p);
        if (m->n)
            memcpy(p, m->at, (size_t)m->n * sizeof *p);
        m->at = p;
        m->cap = cap;
    }
    m->at[m->n++] = (struct jpair){ *key, *value, hash(key) };
    return true;
}

bool jundefined(struct jrun *r, const char *hint, const struct jval *name, const char *of,
                struct jval *out)
{
    struct jundef *u = jalloc(r, sizeof *u);

    J_TRY(u);
    *u = (struct jundef){ .hint = hint, .of = of };
    if (name)
        u->name = *name;
    *out = (struct jval){ .kind = J_UNDEFINED, .u.undef = u };
    return true;
}

bool jfail_undefined(struct jrun *r, const struct jval *v)
{
    const struct jundef *u = v->u.undef;
    struct strbuf name = STRBUF_INIT;
    const bool text = u->name.kind == J_STR;

    if (u->hint)
        return jfail(r, "%s", u->hint);
    if (jput_repr(r, &name, &u->name)) {
        if (!u->of)
            jfail(r, "%.200s is undefined", strbuf_str(&name));
        else if (text)
            jfail(r, "'%s object' has no attribute %.200s", u->of, strbuf_str(&name));
        else
            jfail(r, "%s object has no element %.200s", u->of, strbuf_str(&name));
    }
    strbuf_release(&name);
    return false;
}

bool jtruth(const struct jval *v)
{
    switch (v->kind) {
    case J_MISSING:
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v->u.b;
    case J_INT:
        return v->u.i != 0;
    case J_FLOAT:
        return v->u.d != 0;
    case J_STR:
        return v->u.s->len != 0;
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
        return v->u.l->n != 0;
    case J_RANGE:
        return v->u.range->n != 0;
    case J_DICT:
        return v->u.m->n != 0;
    default:
        return true; /* a loop, too: it has a length of at least 1 while it runs */
    }
}

const char *jtype(const struct jval *v)
{
    static const char *const names[] = {
        [J_MISSING] = "missing",  [J_UNDEFINED] = "Undefined",
        [J_NONE] = "NoneType",    [J_BOOL] = "bool",
        [J_INT] = "int",          [J_FLOAT] = "float",
        [J_STR] = "str",          [J_LIST] = "list",
        [J_TUPLE] = "tuple",      [J_GEN] = "generator",
        [J_VIEW] = "dict view",   [J_RANGE] = "range",
        [J_DICT] = "dict",        [J_NAMESPACE] = "Namespace",
        [J_LOOP] = "LoopContext", [J_MACRO] = "Macro",
        [J_FUNC] = "function",    [J_METHOD] = "method",
        [J_CYCLER] = "Cycler",    [J_JOINER] = "Joiner",
    };

    if (v->kind == J_VIEW)
        return v->u.l->name;
    return v->kind == J_STR && v->safe ? "Markup" : names[v->kind];
}

static bool dict_equal(struct jrun *r, const struct jdict *a, const struct jdict *b, bool *out)
{
    *out = a->n == b->n;
    for (int64_t i = 0; *out && i < a->n; i++) {
        const struct jval *other = jdict_get(b, &a->at[i].key);

        *out = false;
        if (other)
            J_TRY(jequal(r, &a->at[i].value, other, out));
    }
    return true;
}

bool jequal(struct jrun *r, const struct jval *a, const struct jval *b, bool *out)
{
    const bool lists = a->kind == b->kind && (a->kind == J_LIST || a->kind == J_TUPLE);
    bool ok = true;

    J_TRY(jsteps(r, 1));
    if (!lists && !(a->kind == J_DICT && b->kind == J_DICT)) {
        *out = scalar_equal(a, b);
        return true;
    }
    J_TRY(jdeeper(r));
    if (a->kind == J_DICT) {
        ok = dict_equal(r, a->u.m, b->u.m, out);
    } else {
        *out = a->u.l->n == b->u.l->n;
        for (int64_t i = 0; ok && *out && i < a->u.l->n; i++)
            ok = jequal(r, a->u.l->v + i, b->u.l->v + i, out);
    }
    r->depth--;
    return ok;
}

static bool list_less(struct jrun *r, const struct jlist *a, const struct jlist *b, const char *op,
                      bool *out)
{
    for (int64_t i = 0; i < a->n && i < b->n; i++) {
        bool same;

        J_TRY(jequal(r, a->v + i, b->v + i, &same));
        if (!same)
            return jless(r, a->v + i, b->v + i, op, out);
    }
    *out = a->n < b->n;
    return true;
}

bool jless(struct jrun *r, const struct jval *a, const struct jval *b, const char *op, bool *out)
{
    const bool na = jis_int(a) || a->kind == J_FLOAT, nb = jis_int(b) || b->kind == J_FLOAT;

    J_TRY(jsteps(r, 1));
    if (a->kind == J_UNDEFINED || b->kind == J_UNDEFINED)
        return jfail_undefined(r, a->kind == J_UNDEFINED ? a : b);
    if (jis_int(a) && jis_int(b)) {
        *out = jint_of(a) < jint_of(b);
    } else if (na && nb) {
        *out = (a->kind == J_FLOAT ? a->u.d : (double)jint_of(a)) <
               (b->kind == J_FLOAT ? b->u.d : (double)jint_of(b));
    } else if (a->kind == J_STR && b->kind == J_STR) {
        const struct jstr *s = a->u.s, *t = b->u.s;
        const int c = memcmp(s->p, t->p, s->len < t->len ? s->len : t->len);

        *out = c < 0 || (c == 0 && s->len < t->len); /* bytes of UTF-8 sort as code points do */
    } else if (a->kind == b->kind && (a->kind == J_LIST || a->kind == J_TUPLE)) {
        bool ok;

        J_TRY(jdeeper(r));
        ok = list_less(r, a->u.l, b->u.l, op, out);
        r->depth--;
        return ok;
    } else {
        return jfail(r, "'%s' not supported between instances of '%s' and '%s'", op, jtype(a),
                     jtype(b));
    }
    return true;
}

bool jhas_len(const struct jval *v)
{
    return v->kind == J_STR || v->kind == J_LIST || v->kind == J_TUPLE || v->kind == J_DICT ||
           v->kind == J_VIEW || v->kind == J_RANGE || v->kind == J_UNDEFINED || v->kind == J_LOOP;
}

bool jlen(struct jrun *r, const struct jval *v, int64_t *out)
{
    bool there;

    if (!jhas_len(v))
        return jfail(r, "object of type '%s' has no len()", jtype(v));
    switch (v->kind) {
    case J_STR:
        *out = jchars(v->u.s);
        return jsteps(r, (int64_t)(v->u.s->len / 64));
    case J_DICT:
        *out = v->u.m->n;
        return true;
    case J_RANGE:
        *out = v->u.range->n;
        return true;
    case J_UNDEFINED:
        *out = 0;
        return true;
    case J_LOOP:
        J_TRY(jloop_ahead(r, v->u.loop, INT64_MAX, &there));
        *out = v->u.loop->got.n;
        return true;
    default:
        *out = v->u.l->n;
        return true;
    }
}

static bool iterate_string(struct jrun *r, const struct jstr *s, struct jlist *out)
{
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        const size_t n = jchar(s->p + at, s->len - at, &cp);
        struct jval v;

        J_TRY(jstr_ref(r, s->p + at, n, &v) && jlist_push(r, out, &v));
        at += n;
    }
    return true;
}

bool jiterate(struct jrun *r, const struct jval *v, struct jlist *out)
{
    *out = (struct jlist){ .n = 0 };
    switch (v->kind) {
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
        *out = *v->u.l;
        out->cap = out->n; /* a push makes a copy */
        return true;
    case J_GEN:
        for (; v->u.l->pos < v->u.l->n; v->u.l->pos++)
            J_TRY(jlist_push(r, out, v->u.l->v + v->u.l->pos));
        return true;
    case J_STR:
        return iterate_string(r, v->u.s, out);
    case J_DICT:
        for (int64_t i = 0; i < v->u.m->n; i++)
            J_TRY(jlist_push(r, out, &v->u.m->at[i].key));
        return true;
    case J_RANGE:
        for (int64_t i = 0; i < v->u.range->n; i++) {
            const struct jval k = jint(v->u.range->start + i * v->u.range->step);

            J_TRY(jlist_push(r, out, &k));
        }
        return true;
    case J_UNDEFINED:
        return true;
    case J_LOOP:
        return jrefuse(r, "iterating over \"loop\"");
    default:
        return jfail(r, "'%s' object is not iterable", jtype(v));
    }
}

static bool from_object(struct jrun *r, const json_t *v, struct jval *out)
{
    const char *key;
    size_t len;
    json_t *x;

    J_TRY(jdict_new(r, J_DICT, out));
    json_object_keylen_foreach((json_t *)(uintptr_t)v, key, len, x)
    {
        struct jval name, value;

        J_TRY(jstr_ref(r, key, len, &name) && jfrom_json(r, x, &value) &&
              jdict_set(r, out->u.m, &name, &value));
    }
    return true;
}

bool jfrom_json(struct jrun *r, const json_t *v, struct jval *out)
{
    bool ok = true;

    J_TRY(jdeeper(r));
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_NULL:
        *out = jnone();
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = jbool(json_is_true(v));
        break;
    case JSON_INTEGER:
        *out = jint(json_integer_value(v));
        break;
    case JSON_REAL:
        *out = jfloat(json_real_value(v));
        break;
    case JSON_STRING:
        ok = jstr_ref(r, json_string_value(v), json_string_length(v), out);
        break;
    case JSON_ARRAY:
        ok = jlist_new(r, J_LIST, out);
        for (size_t i = 0; ok && i < json_array_size(v); i++) {
            struct jval x;

            ok = jfrom_json(r, json_array_get(v, i), &x) && jlist_push(r, out->u.l, &x);
        }
        break;
    case JSON_OBJECT:
        ok = from_object(r, v, out);
        break;
    }
    r->depth--;
    return ok;
}
