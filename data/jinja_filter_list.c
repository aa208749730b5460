/* Filters of lists and maps. */
#include <string.h>

#include "data/jinja_impl.h"

#define FILTER(name_)                                                                              \
    static bool name_(struct jrun *r, const struct jval *in, const struct jargs *a,                \
                      struct jval *out)

/* What a filter written as a Python generator returns. */
static bool generator(struct jrun *r, const struct jval *list, struct jval *out)
{
    (void)r;
    *out = *list;
    out->kind = J_GEN;
    return true;
}

FILTER(filter_length)
{
    struct jval v[JINJA_MAX_ARGS];
    int64_t n;

    J_TRY(jbind(r, "length", a, "", 0, v) && jlen(r, in, &n));
    *out = jint(n);
    return true;
}

static bool list_of(struct jrun *r, const struct jval *in, struct jval *out)
{
    struct jlist items;

    J_TRY(jiterate(r, in, &items) && jlist_new(r, J_LIST, out));
    *out->u.l = items;
    return true;
}

FILTER(filter_list)
{
    struct jval v[JINJA_MAX_ARGS];

    return jbind(r, "list", a, "", 0, v) && list_of(r, in, out);
}

FILTER(filter_first)
{
    struct jval v[JINJA_MAX_ARGS];
    struct jlist items;

    J_TRY(jbind(r, "first", a, "", 0, v));
    if (in->kind == J_GEN && in->u.l->pos < in->u.l->n) {
        *out = in->u.l->v[in->u.l->pos++];
        return true;
    }
    J_TRY(jiterate(r, in, &items));
    if (!items.n)
        return jundefined(r, "no first item, sequence was empty", NULL, NULL, out);
    *out = items.v[0];
    return true;
}

FILTER(filter_last)
{
    struct jval v[JINJA_MAX_ARGS];
    struct jlist items;

    J_TRY(jbind(r, "last", a, "", 0, v));
    if (in->kind == J_GEN)
        return jfail(r, "'%s' object is not reversible", jtype(in));
    J_TRY(jiterate(r, in, &items));
    if (!items.n)
        return jundefined(r, "no last item, sequence was empty", NULL, NULL, out);
    *out = items.v[items.n - 1];
    return true;
}

FILTER(filter_reverse)
{
    struct jval v[JINJA_MAX_ARGS], list;
    struct jlist items;

    J_TRY(jbind(r, "reverse", a, "", 0, v));
    if (in->kind == J_STR) {
        const struct jval step = jint(-1);

        return jslice(r, in, NULL, NULL, &step, out);
    }
    J_TRY(jiterate(r, in, &items) && jlist_new(r, J_LIST, &list));
    for (int64_t i = items.n; i-- > 0;)
        J_TRY(jlist_push(r, list.u.l, items.v + i));
    *out = list; /* Python has a list where the value cannot be reversed, else an iterator */
    return in->kind == J_GEN || generator(r, &list, out);
}

FILTER(filter_items)
{
    struct jval v[JINJA_MAX_ARGS], list;

    J_TRY(jbind(r, "items", a, "", 0, v) && jlist_new(r, J_LIST, &list));
    if (in->kind != J_DICT && in->kind != J_UNDEFINED)
        return jfail(r, "can only get item pairs from a mapping");
    for (int64_t i = 0; in->kind == J_DICT && i < in->u.m->n; i++) {
        struct jval pair;

        J_TRY(jlist_new(r, J_TUPLE, &pair) && jlist_push(r, pair.u.l, &in->u.m->at[i].key) &&
              jlist_push(r, pair.u.l, &in->u.m->at[i].value) && jlist_push(r, list.u.l, &pair));
    }
    return generator(r, &list, out);
}

/* item.a.b.0, as `attribute` of filters has it; a number as a string is an index. */
static bool get_path(struct jrun *r, const struct jval *item, const struct jval *path,
                     struct jval *out)
{
    struct jval v = *item, key;

    if (path->kind != J_STR)
        return path->kind <= J_NONE ? (*out = v, true) : jgetitem(r, &v, path, out);
    for (size_t at = 0; at <= path->u.s->len;) {
        const char *p = path->u.s->p + at, *dot = memchr(p, '.', path->u.s->len - at);
        const size_t n = dot ? (size_t)(dot - p) : path->u.s->len - at;
        int64_t index = 0;
        bool digits = n > 0 && n < 18;

        for (size_t i = 0; i < n && digits; i++) {
            digits = p[i] >= '0' && p[i] <= '9';
            index = index * 10 + (p[i] - '0');
        }
        if (digits)
            key = jint(index);
        else
            J_TRY(jstr_ref(r, p, n, &key));
        J_TRY(jgetitem(r, &v, &key, out));
        v = *out;
        at += n + 1;
    }
    return true;
}

/* What a comparison sees of `v`: strings in lower case unless case matters. */
static bool folded(struct jrun *r, const struct jval *v, bool case_sensitive, struct jval *out)
{
    *out = *v;
    return case_sensitive || v->kind != J_STR || jmap_case(r, v->u.s, CASE_LOWER, out);
}

FILTER(filter_join)
{
    struct strbuf text = STRBUF_INIT;
    struct jval v[JINJA_MAX_ARGS], by, item;
    struct jlist items;

    J_TRY(jbind(r, "join", a, "d,attribute", 0, v) && jiterate(r, in, &items));
    J_TRY(v[0].kind == J_MISSING ? jstr_ref(r, "", 0, &by) : jto_str(r, v, &by));
    for (int64_t i = 0; i < items.n; i++) {
        bool ok = true;

        item = items.v[i];
        if (v[1].kind > J_NONE)
            ok = get_path(r, items.v + i, v + 1, &item);
        if (i)
            strbuf_add(&text, by.u.s->p, by.u.s->len);
        ok = ok && jput_str(r, &text, &item) &&
             (text.len <= JINJA_MAX_OUTPUT ||
              jfail(r, "text longer than %d bytes", JINJA_MAX_OUTPUT));
        if (!ok) {
            strbuf_release(&text);
            return false;
        }
    }
    return jstr_take(r, &text, out);
}

/* The arguments behind the first `off`, for the filter or test that they name. */
static struct jargs behind(const struct jargs *a, int64_t off)
{
    return (struct jargs){ a->v + off, a->n - off, a->kw };
}

static bool map_attribute(struct jrun *r, const struct jlist *items, const struct jargs *a,
                          struct jval *list)
{
    struct jval v[JINJA_MAX_ARGS], x;

    J_TRY(jbind(r, "map", a, "attribute,default", 1, v));
    for (int64_t i = 0; i < items->n; i++) {
        const bool other = v[1].kind > J_NONE;

        J_TRY(get_path(r, items->v + i, v, &x));
        J_TRY(jlist_push(r, list->u.l, other && x.kind == J_UNDEFINED ? v + 1 : &x));
    }
    return true;
}

FILTER(filter_map)
{
    const struct jfilter *f;
    const struct jstr *name;
    struct jval list, x;
    struct jlist items = { .n = 0 };
    struct jargs rest;

    J_TRY(jlist_new(r, J_LIST, &list));
    if (jtruth(in))
        J_TRY(jiterate(r, in, &items));
    if (!jtruth(in)) {
        /* nothing is asked of the arguments then */
    } else if (a->n == 0 && a->kw && jdict_get_str(a->kw, "attribute", 9)) {
        J_TRY(map_attribute(r, &items, a, &list));
    } else if (a->n == 0) {
        return jfail(r, "map requires a filter argument");
    } else {
        J_TRY(jarg_str(r, "map", a->v, &name));
        f = jfilter_find(name);
        if (!f && jfilter_unsupported(name))
            return jrefuse(r, "filter \"%.*s\"", (int)name->len, name->p);
        if (!f && items.n)
            return jfail(r, "no filter named \"%.*s\"", name->len > 60 ? 60 : (int)name->len,
                         name->p);
        rest = behind(a, 1);
        J_TRY(jdeeper(r));
        for (int64_t i = 0; i < items.n; i++)
            J_TRY(f->call(r, items.v + i, &rest, &x) && jlist_push(r, list.u.l, &x));
        r->depth--;
    }
    return generator(r, &list, out);
}

static bool select_items(struct jrun *r, const struct jval *in, const struct jargs *a, bool want,
                         bool attribute, struct jval *out)
{
    const int64_t off = attribute ? 1 : 0;
    const struct jtest *test = NULL;
    const struct jstr *name;
    struct jval list, x;
    struct jlist items = { .n = 0 };
    struct jargs rest = { NULL, 0, NULL };
    bool yes;

    J_TRY(jlist_new(r, J_LIST, &list));
    if (jtruth(in))
        J_TRY(jiterate(r, in, &items));
    if (jtruth(in) && a->n < off)
        return jfail(r, "missing parameter for attribute name");
    if (jtruth(in) && a->n > off) {
        J_TRY(jarg_str(r, "the name of a test", a->v + off, &name));
        test = jtest_find(name);
        if (!test && items.n)
            return jfail(r, "no test named \"%.*s\"", name->len > 60 ? 60 : (int)name->len,
                         name->p);
        rest = behind(a, off + 1);
    }
    for (int64_t i = 0; i < items.n; i++) {
        x = items.v[i];
        if (attribute)
            J_TRY(get_path(r, items.v + i, a->v, &x));
        yes = jtruth(&x);
        if (test)
            J_TRY(test->call(r, &x, &rest, &yes));
        if (yes == want)
            J_TRY(jlist_push(r, list.u.l, items.v + i));
    }
    return generator(r, &list, out);
}

FILTER(filter_select)
{
    return select_items(r, in, a, true, false, out);
}

FILTER(filter_reject)
{
    return select_items(r, in, a, false, false, out);
}

FILTER(filter_selectattr)
{
    return select_items(r, in, a, true, true, out);
}

FILTER(filter_rejectattr)
{
    return select_items(r, in, a, false, true, out);
}

/* Stable merge sort of `order` by the keys it points to. */
static bool sort(struct jrun *r, const struct jval *key, int64_t *order, int64_t *room, int64_t n,
                 bool reverse)
{
    int64_t i = 0, k = n / 2, at = 0;
    bool less;

    if (n < 2)
        return true;
    J_TRY(sort(r, key, order, room, k, reverse) && sort(r, key, order + k, room, n - k, reverse));
    while (i < n / 2 && k < n) {
        const struct jval *x = key + order[i], *y = key + order[k];

        /* the second comes first only when it is less (more, in reverse) */
        J_TRY(reverse ? jless(r, x, y, "<", &less) : jless(r, y, x, "<", &less));
        room[at++] = less ? order[k++] : order[i++];
    }
    while (i < n / 2)
        room[at++] = order[i++];
    memcpy(order, room, (size_t)at * sizeof *order);
    return true;
}

static bool sort_by(struct jrun *r, const struct jlist *items, const struct jval *key, bool reverse,
                    struct jval *out)
{
    int64_t *order = jalloc(r, (size_t)(items->n + 1) * sizeof *order);
    int64_t *room = jalloc(r, (size_t)(items->n + 1) * sizeof *room);

    J_TRY(order && room && jlist_new(r, J_LIST, out));
    for (int64_t i = 0; i < items->n; i++)
        order[i] = i;
    J_TRY(sort(r, key, order, room, items->n, reverse));
    for (int64_t i = 0; i < items->n; i++)
        J_TRY(jlist_push(r, out->u.l, items->v + order[i]));
    return true;
}

/* The sort key of an item: a list of the attributes, which are separated by commas. */
static bool sort_key(struct jrun *r, const struct jval *item, const struct jval *attribute,
                     bool case_sensitive, struct jval *out)
{
    size_t at = 0;
    struct jval part, x;

    J_TRY(jlist_new(r, J_LIST, out));
    if (attribute->kind != J_STR)
        return get_path(r, item, attribute, &x) && folded(r, &x, case_sensitive, &part) &&
               jlist_push(r, out->u.l, &part);
    while (at <= attribute->u.s->len) {
        const char *p = attribute->u.s->p + at, *comma = memchr(p, ',', attribute->u.s->len - at);
        const size_t n = comma ? (size_t)(comma - p) : attribute->u.s->len - at;
        struct jval path;

        J_TRY(jstr_ref(r, p, n, &path) && get_path(r, item, &path, &x) &&
              folded(r, &x, case_sensitive, &part) && jlist_push(r, out->u.l, &part));
        at += n + 1;
    }
    return true;
}

FILTER(filter_sort)
{
    struct jval v[JINJA_MAX_ARGS], *key;
    struct jlist items;

    J_TRY(jbind(r, "sort", a, "reverse,case_sensitive,attribute", 0, v) && jiterate(r, in, &items));
    J_TRY(key = jalloc(r, (size_t)(items.n + 1) * sizeof *key));
    for (int64_t i = 0; i < items.n; i++)
        J_TRY(sort_key(r, items.v + i, v + 2, jtruth(v + 1), key + i));
    return sort_by(r, &items, key, jtruth(v), out);
}

FILTER(filter_dictsort)
{
    struct jval v[JINJA_MAX_ARGS], pairs, *key;
    const struct jargs none = { NULL, 0, NULL };
    const struct jstr *by = NULL;
    bool value = false;

    J_TRY(jbind(r, "dictsort", a, "case_sensitive,by,reverse", 0, v));
    if (v[1].kind != J_MISSING)
        J_TRY(jarg_str(r, "dictsort", v + 1, &by));
    if (by && !jis(by, "key") && !jis(by, "value"))
        return jfail(r, "you can only sort by either \"key\" or \"value\"");
    value = by && jis(by, "value");
    if (in->kind == J_UNDEFINED)
        return jfail_undefined(r, in);
    if (in->kind != J_DICT)
        return jfail(r, "'%s' object has no attribute 'items'", jtype(in));
    J_TRY(filter_items(r, in, &none, &pairs));
    J_TRY(key = jalloc(r, (size_t)(pairs.u.l->n + 1) * sizeof *key));
    for (int64_t i = 0; i < pairs.u.l->n; i++)
        J_TRY(folded(r, pairs.u.l->v[i].u.l->v + value, jtruth(v), key + i));
    return sort_by(r, pairs.u.l, key, jtruth(v + 2), out);
}

FILTER(filter_unique)
{
    struct jval v[JINJA_MAX_ARGS], list, x, key, seen;
    struct jlist items;

    J_TRY(jbind(r, "unique", a, "case_sensitive,attribute", 0, v) && jiterate(r, in, &items));
    J_TRY(jlist_new(r, J_LIST, &list) && jdict_new(r, J_DICT, &seen));
    for (int64_t i = 0; i < items.n; i++) {
        J_TRY(get_path(r, items.v + i, v + 1, &x) && folded(r, &x, jtruth(v), &key));
        if (!jhashable(&key))
            return jfail(r, "unhashable type: '%s'", jtype(&key));
        if (jdict_get(seen.u.m, &key))
            continue;
        J_TRY(jdict_set(r, seen.u.m, &key, &key) && jlist_push(r, list.u.l, items.v + i));
    }
    return generator(r, &list, out);
}

static bool extreme(struct jrun *r, const struct jval *in, const struct jargs *a, bool max,
                    struct jval *out)
{
    struct jval v[JINJA_MAX_ARGS], x, key, best;
    struct jlist items;
    bool less;

    J_TRY(jbind(r, max ? "max" : "min", a, "case_sensitive,attribute", 0, v) &&
          jiterate(r, in, &items));
    if (!items.n)
        return jundefined(r, "no aggregated item, sequence was empty", NULL, NULL, out);
    for (int64_t i = 0; i < items.n; i++) {
        J_TRY(get_path(r, items.v + i, v + 1, &x) && folded(r, &x, jtruth(v), &key));
        less = i == 0;
        if (i)
            J_TRY(max ? jless(r, &best, &key, "<", &less) : jless(r, &key, &best, "<", &less));
        if (less) {
            best = key;
            *out = items.v[i];
        }
    }
    return true;
}

FILTER(filter_min)
{
    return extreme(r, in, a, false, out);
}

FILTER(filter_max)
{
    return extreme(r, in, a, true, out);
}

FILTER(filter_sum)
{
    struct jval v[JINJA_MAX_ARGS], x, sum;
    struct jlist items;

    J_TRY(jbind(r, "sum", a, "attribute,start", 0, v) && jiterate(r, in, &items));
    sum = v[1].kind == J_MISSING ? jint(0) : v[1];
    if (sum.kind == J_STR)
        return jfail(r, "sum() can't sum strings");
    for (int64_t i = 0; i < items.n; i++) {
        J_TRY(get_path(r, items.v + i, v, &x) && jbinary(r, T_ADD, &sum, &x, out));
        sum = *out;
    }
    *out = sum;
    return true;
}

FILTER(filter_batch)
{
    struct jval v[JINJA_MAX_ARGS], list, row = { .kind = J_NONE };
    struct jlist items;
    int64_t n;

    J_TRY(jbind(r, "batch", a, "linecount,fill_with", 1, v) && jarg_int(r, "batch", v, 1, &n) &&
          jiterate(r, in, &items) && jlist_new(r, J_LIST, &list));
    for (int64_t i = 0; i < items.n; i++) {
        if (i == 0 || row.u.l->n == n)
            J_TRY(jlist_new(r, J_LIST, &row) && jlist_push(r, list.u.l, &row));
        J_TRY(jlist_push(r, row.u.l, items.v + i));
    }
    while (items.n && v[1].kind > J_NONE && row.u.l->n < n)
        J_TRY(jlist_push(r, row.u.l, v + 1));
    return generator(r, &list, out);
}

FILTER(filter_slice)
{
    struct jval v[JINJA_MAX_ARGS], list, row;
    struct jlist items;
    int64_t n, at = 0;

    J_TRY(jbind(r, "slice", a, "slices,fill_with", 1, v) && jarg_int(r, "slice", v, 1, &n) &&
          jiterate(r, in, &items) && jlist_new(r, J_LIST, &list));
    if (n == 0)
        return jfail(r, "integer division or modulo by zero");
    for (int64_t i = 0; i < n; i++) {
        const bool more = i < items.n % n;

        J_TRY(jlist_new(r, J_LIST, &row));
        for (int64_t k = 0; k < items.n / n + more; k++)
            J_TRY(jlist_push(r, row.u.l, items.v + at++));
        if (v[1].kind > J_NONE && !more)
            J_TRY(jlist_push(r, row.u.l, v + 1));
        J_TRY(jlist_push(r, list.u.l, &row));
    }
    return generator(r, &list, out);
}

FILTER(filter_attr)
{
    struct jval v[JINJA_MAX_ARGS];
    bool found;

    J_TRY(jbind(r, "attr", a, "name", 1, v));
    if (v[0].kind != J_STR)
        return jfail(r, "attribute name must be string, not '%s'", jtype(v));
    if (in->kind == J_UNDEFINED)
        return jfail_undefined(r, in);
    J_TRY(jmethod_find(r, in, v[0].u.s, &found, out));
    return found || jundefined(r, NULL, v, jtype(in), out);
}

/* One group of `groupby`: (key, [items]), named grouper and list. */
static bool group(struct jrun *r, const struct jlist *items, int64_t from, int64_t to,
                  const struct jval *key, struct jval *list)
{
    struct jval pair, rows;

    J_TRY(jlist_new(r, J_LIST, &rows) && jlist_new(r, J_TUPLE, &pair));
    pair.u.l->name = "grouper,list";
    for (int64_t i = from; i < to; i++)
        J_TRY(jlist_push(r, rows.u.l, items->v + i));
    return jlist_push(r, pair.u.l, key) && jlist_push(r, pair.u.l, &rows) &&
           jlist_push(r, list->u.l, &pair);
}

static bool group_key(struct jrun *r, const struct jval *item, const struct jval v[3],
                      struct jval *raw, struct jval *out)
{
    J_TRY(get_path(r, item, v, raw));
    if (raw->kind == J_UNDEFINED && v[1].kind > J_NONE)
        *raw = v[1];
    return folded(r, raw, jtruth(v + 2), out);
}

FILTER(filter_groupby)
{
    struct jval v[JINJA_MAX_ARGS], *key, raw, sorted, first, other;
    struct jlist items;
    int64_t from = 0;
    bool same = true;

    J_TRY(jbind(r, "groupby", a, "attribute,default,case_sensitive", 1, v) &&
          jiterate(r, in, &items));
    J_TRY(key = jalloc(r, (size_t)(items.n + 1) * sizeof *key));
    for (int64_t i = 0; i < items.n; i++)
        J_TRY(group_key(r, items.v + i, v, &raw, key + i));
    J_TRY(sort_by(r, &items, key, false, &sorted) && jlist_new(r, J_LIST, out));
    for (int64_t i = 1; i <= items.n; i++) {
        J_TRY(group_key(r, sorted.u.l->v + from, v, &raw, &first));
        if (i < items.n) {
            struct jval unused;

            J_TRY(group_key(r, sorted.u.l->v + i, v, &unused, &other) &&
                  jequal(r, &first, &other, &same));
            if (same)
                continue;
        }
        J_TRY(group(r, sorted.u.l, from, i, &raw, out));
        from = i;
    }
    return true;
}

const struct jfilter jfilters_list[] = {
    { "length", filter_length },
    { "count", filter_length },
    { "list", filter_list },
    { "first", filter_first },
    { "last", filter_last },
    { "reverse", filter_reverse },
    { "items", filter_items },
    { "join", filter_join },
    { "map", filter_map },
    { "select", filter_select },
    { "reject", filter_reject },
    { "selectattr", filter_selectattr },
    { "rejectattr", filter_rejectattr },
    { "sort", filter_sort },
    { "dictsort", filter_dictsort },
    { "unique", filter_unique },
    { "min", filter_min },
    { "max", filter_max },
    { "sum", filter_sum },
    { "batch", filter_batch },
    { "slice", filter_slice },
    { "attr", filter_attr },
    { "groupby", filter_groupby },
    { NULL, NULL },
};
