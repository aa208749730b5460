/* Operators, attributes, subscripts and slices, as Python and Jinja2's sandbox have them. */
#include <math.h>
#include <string.h>

#include "data/jinja_impl.h"

static const char *op_text(int op)
{
    static const char *const text[] = {
        [T_ADD] = "+",       [T_SUB] = "-", [T_MUL] = "*",  [T_DIV] = "/",
        [T_FLOORDIV] = "//", [T_MOD] = "%", [T_POW] = "**", [T_GT] = ">",
        [T_GE] = ">=",       [T_LT] = "<",  [T_LE] = "<=",
    };

    return text[op];
}

static bool overflow(struct jrun *r)
{
    return jrefuse(r, "an integer beyond 64 bits");
}

bool jadd_int(struct jrun *r, int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out) || overflow(r);
}

static bool int_power(struct jrun *r, int64_t a, int64_t b, struct jval *out)
{
    int64_t y = 1;

    if (b < 0) {
        if (a == 0)
            return jfail(r, "0.0 cannot be raised to a negative power");
        *out = jfloat(pow((double)a, (double)b));
        return true;
    }
    if ((a == 1 || a == 0 || a == -1) && b > 1)
        b = 2 - (b & 1); /* the same power, reached at once */
    for (; b > 0; b--)
        if (__builtin_mul_overflow(y, a, &y))
            return overflow(r);
    *out = jint(y);
    return true;
}

static bool int_op(struct jrun *r, int op, int64_t a, int64_t b, struct jval *out)
{
    int64_t y = 0;
    bool over = false;

    if ((op == T_DIV || op == T_FLOORDIV || op == T_MOD) && b == 0)
        return jfail(r, op == T_DIV ? "division by zero" : "integer division or modulo by zero");
    switch (op) {
    case T_ADD:
        over = __builtin_add_overflow(a, b, &y);
        break;
    case T_SUB:
        over = __builtin_sub_overflow(a, b, &y);
        break;
    case T_MUL:
        over = __builtin_mul_overflow(a, b, &y);
        break;
    case T_POW:
        return int_power(r, a, b, out);
    case T_DIV:
        *out = jfloat((double)a / (double)b);
        return true;
    case T_FLOORDIV:
        over = b == -1 && a == INT64_MIN;
        y = over ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    default:
        y = b == -1 ? 0 : a % b;
        y += y != 0 && (y < 0) != (b < 0) ? b : 0;
    }
    if (over)
        return overflow(r);
    *out = jint(y);
    return true;
}

static bool float_op(struct jrun *r, int op, double a, double b, struct jval *out)
{
    double y, mod;

    if (b == 0 && (op == T_DIV || op == T_FLOORDIV || op == T_MOD))
        return jfail(r, "float division by zero");
    switch (op) {
    case T_ADD:
        y = a + b;
        break;
    case T_SUB:
        y = a - b;
        break;
    case T_MUL:
        y = a * b;
        break;
    case T_DIV:
        y = a / b;
        break;
    case T_POW:
        if (a == 0 && b < 0)
            return jfail(r, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b))
            return jrefuse(r, "a complex number");
        y = pow(a, b);
        if (isinf(y) && !isinf(a) && !isinf(b))
            return jfail(r, "numerical result out of range");
        break;
    default:
        mod = fmod(a, b);
        if (mod != 0 && (mod < 0) != (b < 0))
            mod += b;
        else if (mod == 0)
            mod = copysign(0, b);
        y = op == T_MOD ? mod : (a - mod) / b;
        if (op == T_FLOORDIV && y != 0)
            y = y - floor(y) > 0.5 ? floor(y) + 1 : floor(y);
        else if (op == T_FLOORDIV)
            y = copysign(0, a / b);
    }
    *out = jfloat(y);
    return true;
}

static bool repeat(struct jrun *r, const struct jval *of, int64_t times, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;

    if (times < 0)
        times = 0;
    if (of->kind == J_STR) {
        if (of->u.s->len && times > JINJA_MAX_OUTPUT / (int64_t)of->u.s->len)
            return jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
        for (int64_t i = 0; of->u.s->len && i < times; i++)
            strbuf_add(&text, of->u.s->p, of->u.s->len);
        J_TRY(jstr_take(r, &text, out));
        out->safe = of->safe;
        return true;
    }
    J_TRY(jlist_new(r, of->kind, out));
    for (int64_t i = 0; of->u.l->n && i < times; i++)
        for (int64_t k = 0; k < of->u.l->n; k++)
            J_TRY(jlist_push(r, out->u.l, of->u.l->v + k));
    return true;
}

static bool add_strings(struct jrun *r, const struct jval *a, const struct jval *b,
                        struct jval *out)
{
    const size_t n = a->u.s->len, m = b->u.s->len;
    struct strbuf text = STRBUF_INIT;
    char *p;

    if (a->safe || b->safe) { /* Markup escapes what it meets */
        J_TRY(jput_escaped(r, &text, a) && jput_escaped(r, &text, b) && jstr_take(r, &text, out));
        out->safe = true;
        return true;
    }
    if (n + m > JINJA_MAX_OUTPUT)
        return jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT);
    J_TRY(jsteps(r, (int64_t)((n + m) / 64)) && (p = jalloc(r, n + m + 1)));
    memcpy(p, a->u.s->p, n);
    memcpy(p + n, b->u.s->p, m);
    return jstr_ref(r, p, n + m, out);
}

static bool add_lists(struct jrun *r, const struct jval *a, const struct jval *b, struct jval *out)
{
    J_TRY(jlist_new(r, a->kind, out));
    for (int64_t i = 0; i < a->u.l->n; i++)
        J_TRY(jlist_push(r, out->u.l, a->u.l->v + i));
    for (int64_t i = 0; i < b->u.l->n; i++)
        J_TRY(jlist_push(r, out->u.l, b->u.l->v + i));
    return true;
}

static bool repeats(const struct jval *v)
{
    return v->kind == J_STR || v->kind == J_LIST || v->kind == J_TUPLE;
}

bool jbinary(struct jrun *r, int op, const struct jval *a, const struct jval *b, struct jval *out)
{
    const bool na = jis_int(a) || a->kind == J_FLOAT, nb = jis_int(b) || b->kind == J_FLOAT;

    if (op == T_MOD && a->kind == J_STR)
        return jformat_percent(r, a->u.s, b, out);
    if (a->kind == J_UNDEFINED || b->kind == J_UNDEFINED)
        return jfail_undefined(r, a->kind == J_UNDEFINED ? a : b);
    if (jis_int(a) && jis_int(b))
        return int_op(r, op, jint_of(a), jint_of(b), out);
    if (na && nb)
        return float_op(r, op, a->kind == J_FLOAT ? a->u.d : (double)jint_of(a),
                        b->kind == J_FLOAT ? b->u.d : (double)jint_of(b), out);
    if (op == T_ADD && a->kind == J_STR && b->kind == J_STR)
        return add_strings(r, a, b, out);
    if (op == T_ADD && a->kind == b->kind && (a->kind == J_LIST || a->kind == J_TUPLE))
        return add_lists(r, a, b, out);
    if (op == T_MUL && repeats(a) && jis_int(b))
        return repeat(r, a, jint_of(b), out);
    if (op == T_MUL && repeats(b) && jis_int(a))
        return repeat(r, b, jint_of(a), out);
    if (op == T_ADD && (a->kind == J_STR || a->kind == J_LIST))
        return jfail(r, "can only concatenate %s (not \"%s\") to %s", jtype(a), jtype(b), jtype(a));
    return jfail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op_text(op), jtype(a),
                 jtype(b));
}

bool jnegate(struct jrun *r, const struct jval *a, bool minus, struct jval *out)
{
    if (a->kind == J_UNDEFINED)
        return jfail_undefined(r, a);
    if (a->kind == J_FLOAT)
        *out = jfloat(minus ? -a->u.d : a->u.d);
    else if (!jis_int(a))
        return jfail(r, "bad operand type for unary %s: '%s'", minus ? "-" : "+", jtype(a));
    else if (minus && jint_of(a) == INT64_MIN)
        return overflow(r);
    else
        *out = jint(minus ? -jint_of(a) : jint_of(a));
    return true;
}

bool jcontains(struct jrun *r, const struct jval *in, const struct jval *what, bool *out)
{
    struct jlist items;

    *out = false;
    if (in->kind == J_STR) {
        if (what->kind != J_STR)
            return jfail(r, "'in <string>' requires string as left operand, not %s", jtype(what));
        *out = jfind(in->u.s, 0, what->u.s) != NULL;
        return jsteps(r, (int64_t)(in->u.s->len / 64));
    }
    if (in->kind == J_DICT) {
        if (!jhashable(what))
            return jfail(r, "unhashable type: '%s'", jtype(what));
        *out = jdict_get(in->u.m, what) != NULL;
        return jsteps(r, in->u.m->n / 16);
    }
    if (in->kind < J_STR && in->kind != J_UNDEFINED)
        return jfail(r, "argument of type '%s' is not iterable", jtype(in));
    J_TRY(jiterate(r, in, &items));
    for (int64_t i = 0; i < items.n && !*out; i++)
        J_TRY(jequal(r, items.v + i, what, out));
    return true;
}

bool jcompare(struct jrun *r, int op, const struct jval *a, const struct jval *b, bool *out)
{
    const struct jval *less = op == T_LT || op == T_GE ? a : b;
    const struct jval *more = less == a ? b : a;
    bool same;

    switch (op) {
    case T_EQ:
    case T_NE:
        J_TRY(jequal(r, a, b, out));
        *out = *out == (op == T_EQ);
        return true;
    case T_IN:
    case T_NOTIN:
        J_TRY(jcontains(r, b, a, out));
        *out = *out == (op == T_IN);
        return true;
    case T_LT:
    case T_GT:
        /* the message names the operands as written */
        if (op == T_GT && (a->kind != b->kind) && a->kind >= J_STR)
            return jless(r, a, b, ">", out);
        return jless(r, less, more, op_text(op), out);
    default:
        /* a <= b is a < b or a == b: not the same as not (b < a) for a NaN */
        J_TRY(jless(r, op == T_LE ? a : b, op == T_LE ? b : a, op_text(op), out));
        J_TRY(jequal(r, a, b, &same));
        *out = *out || same;
        return true;
    }
}

static bool indexed(const struct jval *v)
{
    return v->kind == J_STR || v->kind == J_LIST || v->kind == J_TUPLE || v->kind == J_RANGE;
}

static bool item_at(struct jrun *r, const struct jval *obj, int64_t at, struct jval *out)
{
    uint32_t cp;
    size_t from;

    switch (obj->kind) {
    case J_STR:
        from = joffset(obj->u.s, at);
        J_TRY(jsteps(r, (int64_t)(obj->u.s->len / 64)));
        return jstr_ref(r, obj->u.s->p + from, jchar(obj->u.s->p + from, obj->u.s->len - from, &cp),
                        out);
    case J_RANGE:
        *out = jint(obj->u.range->start + at * obj->u.range->step);
        return true;
    default:
        *out = obj->u.l->v[at];
        return true;
    }
}

/* obj[key], without the fall-back to attributes; *found unset where Python has no such item. */
static bool get_item(struct jrun *r, const struct jval *obj, const struct jval *key, bool *found,
                     struct jval *out)
{
    const struct jval *v;
    int64_t n, at;

    *found = false;
    if (obj->kind == J_UNDEFINED)
        return jfail_undefined(r, obj);
    if (obj->kind == J_DICT) {
        J_TRY(jsteps(r, obj->u.m->n / 16));
        v = jhashable(key) ? jdict_get(obj->u.m, key) : NULL;
        *found = v != NULL;
        if (v)
            *out = *v;
        return true;
    }
    if (!indexed(obj) || !jis_int(key))
        return true;
    J_TRY(jlen(r, obj, &n));
    at = jint_of(key);
    at += at < 0 ? n : 0;
    if (at < 0 || at >= n)
        return true;
    *found = true;
    return item_at(r, obj, at, out);
}

static bool get_attribute(struct jrun *r, const struct jval *obj, const struct jval *name,
                          bool *found, struct jval *out)
{
    const struct jstr *s = name->u.s;

    if (obj->kind == J_UNDEFINED) {
        *found = false;
        return (s->len > 3 && memcmp(s->p, "__", 2) == 0 && memcmp(s->p + s->len - 2, "__", 2) == 0)
                   ? true
                   : jfail_undefined(r, obj);
    }
    return jmethod_find(r, obj, s, found, out);
}

bool jgetattr(struct jrun *r, const struct jval *obj, const struct jval *name, struct jval *out)
{
    bool found;

    J_TRY(get_attribute(r, obj, name, &found, out));
    if (!found)
        J_TRY(get_item(r, obj, name, &found, out));
    return found || jundefined(r, NULL, name, jtype(obj), out);
}

bool jgetitem(struct jrun *r, const struct jval *obj, const struct jval *key, struct jval *out)
{
    bool found;

    J_TRY(get_item(r, obj, key, &found, out));
    if (!found && key->kind == J_STR)
        J_TRY(get_attribute(r, obj, key, &found, out));
    return found || jundefined(r, NULL, key, jtype(obj), out);
}

static bool slice_bound(struct jrun *r, const struct jval *v, int64_t n, int64_t step,
                        int64_t otherwise, int64_t *out)
{
    int64_t k;

    if (!v || v->kind == J_NONE) {
        *out = otherwise;
        return true;
    }
    if (v->kind == J_UNDEFINED || !jis_int(v))
        return jfail(r, "slice indices must be integers or None or have an __index__ method");
    k = jint_of(v);
    if (k < 0)
        k = k + n < 0 ? (step < 0 ? -1 : 0) : k + n;
    else if (k >= n)
        k = step < 0 ? n - 1 : n;
    *out = k;
    return true;
}

static bool slice_string(struct jrun *r, const struct jstr *s, int64_t from, int64_t step,
                         int64_t count, struct jval *out)
{
    struct strbuf text = STRBUF_INIT;
    size_t *start;
    int64_t n = 0;

    if (step == 1) {
        const size_t a = joffset(s, from);
        const struct jstr rest = { s->p + a, s->len - a };

        return jsteps(r, (int64_t)(s->len / 64)) && jstr_ref(r, rest.p, joffset(&rest, count), out);
    }
    J_TRY(jsteps(r, (int64_t)s->len));
    J_TRY(start = jalloc(r, (s->len + 1) * sizeof *start));
    for (size_t i = 0; i <= s->len; i++)
        if (i == s->len || ((unsigned char)s->p[i] & 0xc0) != 0x80)
            start[n++] = i;
    for (int64_t i = 0; i < count; i++) {
        const int64_t k = from + i * step;

        strbuf_add(&text, s->p + start[k], start[k + 1] - start[k]);
    }
    return jstr_take(r, &text, out);
}

bool jslice(struct jrun *r, const struct jval *obj, const struct jval *start,
            const struct jval *stop, const struct jval *step, struct jval *out)
{
    int64_t n, by = 1, from = 0, to = 0, count;

    if (obj->kind == J_UNDEFINED)
        return jfail_undefined(r, obj);
    if (obj->kind == J_DICT)
        return jfail(r, "unhashable type: 'slice'");
    if (!indexed(obj))
        return jfail(r, "'%s' object is not subscriptable", jtype(obj));
    if (obj->kind == J_RANGE)
        return jrefuse(r, "a slice of a range");
    if (step && step->kind != J_NONE && !jis_int(step))
        return jfail(r, "slice indices must be integers or None or have an __index__ method");
    if (step && step->kind != J_NONE)
        by = jint_of(step);
    if (by == 0)
        return jfail(r, "slice step cannot be zero");
    J_TRY(jlen(r, obj, &n));
    by = by > n + 1 ? n + 1 : by < -n - 1 ? -n - 1 : by;
    J_TRY(slice_bound(r, start, n, by, by < 0 ? n - 1 : 0, &from));
    J_TRY(slice_bound(r, stop, n, by, by < 0 ? -1 : n, &to));
    /* zero was refused above */
    /* cppcheck-suppress zerodivcond */
    /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero) */
    count = by < 0 ? (from - to - by - 1) / -by : (to - from + by - 1) / by;
    count = count < 0 ? 0 : count;
    if (obj->kind == J_STR) {
        J_TRY(slice_string(r, obj->u.s, from, by, count, out));
        out->safe = obj->safe;
        return true;
    }
    J_TRY(jlist_new(r, obj->kind, out));
    for (int64_t i = 0; i < count; i++)
        J_TRY(jlist_push(r, out->u.l, obj->u.l->v + from + i * by));
    return true;
}
