#include "core/schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    SHOWN_MAX = 60, /* bytes of a value that a message repeats */
    HELP_WIDTH = 100,
};

static const char *dotted(const struct key_table *table, const char *name, struct strbuf *out)
{
    strbuf_clear(out);
    if (*table->section)
        strbuf_printf(out, "%s.", table->section);
    strbuf_puts(out, name);
    return strbuf_str(out);
}

enum graft_status schema_fail(const struct schema_source *src, const char *path,
                              struct graft_err *err, const char *fmt, ...)
{
    struct strbuf place = STRBUF_INIT;
    char msg[GRAFT_ERR_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    src->where(src, path, &place);
    graft_fail(err, GRAFT_EARG, "%s: %s%s%s", strbuf_str(&place), path, *path ? ": " : "", msg);
    strbuf_release(&place);
    return GRAFT_EARG;
}

/* The value as a message shows it: JSON, cut when long. */
static void put_shown(struct strbuf *out, const json_t *value)
{
    struct strbuf s = STRBUF_INIT;

    json_write(&s, value);
    if (s.len > SHOWN_MAX)
        strbuf_printf(out, "%.*s...", SHOWN_MAX, s.buf);
    else
        strbuf_puts(out, strbuf_str(&s));
    strbuf_release(&s);
}

enum graft_status schema_found(const struct schema_source *src, const char *path,
                               const json_t *value, const char *want, struct graft_err *err)
{
    struct strbuf s = STRBUF_INIT;

    put_shown(&s, value);
    schema_fail(src, path, err, "found %s, want %s", strbuf_str(&s), want);
    strbuf_release(&s);
    return GRAFT_EARG;
}

bool schema_is_off(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

bool schema_lists(const char *list, const char *word)
{
    const size_t n = strlen(word);

    while (list && *list) {
        const char *end = strchr(list, ',');
        const size_t len = end ? (size_t)(end - list) : strlen(list);

        if (len == n && !strncmp(list, word, n))
            return true;
        list = end ? end + 1 + (end[1] == ' ') : NULL;
    }
    return false;
}

static const struct key_def *row(const struct key_table *table, const char *name, size_t len)
{
    for (size_t i = 0; i < table->count; i++)
        if (strlen(table->keys[i].name) == len && !strncmp(table->keys[i].name, name, len))
            return &table->keys[i];
    return NULL;
}

const struct key_def *schema_key(const struct key_table *table, const char *path)
{
    const struct key_def *k = NULL;

    while (path && table) {
        const char *dot = strchr(path, '.');

        k = row(table, path, dot ? (size_t)(dot - path) : strlen(path));
        if (!k || (dot && k->type != KEY_MAP && k->type != KEY_JSON))
            return NULL;
        path = dot ? dot + 1 : NULL;
        table = k->table;
    }
    return k;
}

/* What an unknown key may have meant. */
struct hint {
    const struct key_table *table;
    const struct key_def *key;
};

/* The row, in `table` and the sections below it, that other tools call `name`, or that has this
 * very name. */
static struct hint find_meant(const struct key_table *table, const char *name, bool others)
{
    struct hint h = { NULL, NULL };

    for (size_t i = 0; i < table->count && !h.key; i++) {
        const struct key_def *k = &table->keys[i];

        if (others ? schema_lists(k->others, name) : !strcmp(k->name, name))
            h = (struct hint){ table, k };
        else if (k->table)
            h = find_meant(k->table, name, others);
    }
    return h;
}

bool schema_names_key(const struct key_table *table, const char *name)
{
    return find_meant(table, name, true).key || find_meant(table, name, false).key;
}

static size_t collect_names(const struct key_table *table, bool deep, const char **out)
{
    size_t n = 0;

    for (size_t i = 0; i < table->count; i++) {
        if (out)
            out[n] = table->keys[i].name;
        n++;
        if (deep && table->keys[i].table)
            n += collect_names(table->keys[i].table, true, out ? out + n : NULL);
    }
    return n;
}

static const char *nearest_key(const struct key_table *table, bool deep, const char *name)
{
    const size_t n = collect_names(table, deep, NULL);
    const char **names = mem_array(n, sizeof *names), *best = NULL;

    if (names) {
        collect_names(table, deep, names);
        best = nearest_name(name, names, n);
    }
    mem_free(names);
    return best;
}

static void put_names(const struct key_table *table, struct strbuf *out)
{
    for (size_t i = 0; i < table->count; i++)
        strbuf_printf(out, "%s%s", i ? ", " : "", table->keys[i].name);
}

/* The rest of the message: which key was meant, or which there are. */
static void put_hint(const struct key_table *table, const char *name, struct strbuf *out)
{
    const struct key_table *top = table->top ? table->top : table;
    struct strbuf path = STRBUF_INIT;
    struct hint h = find_meant(table, name, true);
    const char *near;

    if (!h.key)
        h = find_meant(top, name, true);
    if (h.key) {
        strbuf_printf(out, ": it is called \"%s\" here", dotted(h.table, h.key->name, &path));
    } else if ((h = find_meant(top, name, false)).key) {
        strbuf_printf(out, ": it stands at \"%s\"", dotted(h.table, h.key->name, &path));
    } else if ((near = nearest_key(table, false, name))) {
        strbuf_printf(out, ", did you mean \"%s\"?", dotted(table, near, &path));
    } else if ((near = nearest_key(top, true, name))) {
        h = find_meant(top, near, false);
        strbuf_printf(out, ", did you mean \"%s\"?", dotted(h.table, near, &path));
    } else {
        strbuf_puts(out, "; there are ");
        put_names(table, out);
    }
    strbuf_release(&path);
}

enum graft_status schema_unknown(const struct key_table *table, const char *name,
                                 const struct schema_source *src, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT, place = STRBUF_INIT, hint = STRBUF_INIT;

    src->where(src, dotted(table, name, &path), &place);
    put_hint(table, name, &hint);
    graft_fail(err, GRAFT_EARG, "%s: unknown key \"%s\"%s", strbuf_str(&place), strbuf_str(&path),
               strbuf_str(&hint));
    strbuf_release(&path);
    strbuf_release(&place);
    strbuf_release(&hint);
    return GRAFT_EARG;
}

static void put_range(const struct key_def *k, struct strbuf *out)
{
    if (k->min == 0 && k->max == 0)
        return;
    if (k->max >= 1e300)
        strbuf_printf(out, ", %.15g or more", k->min);
    else if (k->type == KEY_INT)
        strbuf_printf(out, " from %.0f to %.0f", k->min, k->max);
    else
        strbuf_printf(out, " from %.15g to %.15g", k->min, k->max);
}

/* "a, b or c": the choices that work. */
static void put_choices(const struct key_def *k, struct strbuf *out)
{
    const char *last = NULL;
    bool first = true;

    for (int i = 0; k->choices[i]; i++) {
        if (schema_lists(k->later, k->choices[i]))
            continue;
        if (last)
            strbuf_printf(out, "%s%s", first ? "" : ", ", last);
        first = first && !last;
        last = k->choices[i];
    }
    strbuf_printf(out, "%s%s", first ? "" : " or ", last ? last : "");
}

void schema_want(const struct key_def *k, struct strbuf *out)
{
    switch (k->type) {
    case KEY_BOOL:
        strbuf_puts(out, "true or false");
        break;
    case KEY_INT:
        strbuf_puts(out, "a whole number");
        put_range(k, out);
        break;
    case KEY_FLOAT:
        strbuf_puts(out, "a number");
        put_range(k, out);
        break;
    case KEY_ENUM:
        put_choices(k, out);
        break;
    case KEY_STR:
    case KEY_JSON:
        strbuf_puts(out, k->form ? k->form : k->nullable ? "a text or null" : "a text");
        break;
    case KEY_MAP:
        strbuf_puts(out, "a map of keys");
        break;
    }
}

/* One value on its way into the struct. */
struct filling {
    const struct key_def *key;
    const char *path;
    const struct schema_source *src;
    struct arena *mem;
    struct graft_err *err;
};

/* A whole number as a file may have it, 1e3, is a real one; so is one beyond 64 bits. */
static void put_whole(const struct key_def *k, double x, struct strbuf *out)
{
    if (!(fabs(x) < 9.2e18) && k->max >= 1e300)
        strbuf_printf(out, ", at most %lld", (long long)INT64_MAX);
    else if (fabs(x) < 9.2e18 && trunc(x) == x)
        strbuf_puts(out, ", in digits alone");
}

static enum graft_status refuse(const struct filling *f, const json_t *v)
{
    struct strbuf want = STRBUF_INIT;

    schema_want(f->key, &want);
    if (f->key->type == KEY_INT && json_is_real(v))
        put_whole(f->key, json_real_value(v), &want);
    schema_found(f->src, f->path, v, strbuf_str(&want), f->err);
    strbuf_release(&want);
    return GRAFT_EARG;
}

static enum graft_status refuse_later(const struct filling *f, const json_t *v)
{
    struct strbuf shown = STRBUF_INIT, works = STRBUF_INIT;

    put_shown(&shown, v);
    if (f->key->only)
        strbuf_printf(&works, "only %s", f->key->only);
    else
        schema_want(f->key, &works);
    schema_fail(f->src, f->path, f->err, "%s is not supported in this version, %s is",
                strbuf_str(&shown), strbuf_str(&works));
    strbuf_release(&shown);
    strbuf_release(&works);
    return GRAFT_EARG;
}

static enum graft_status put_number(const struct filling *f, const json_t *v, void *field)
{
    const struct key_def *k = f->key;
    const bool bounded = k->min != 0 || k->max != 0;
    const double x = json_number_value(v);

    if (k->type == KEY_INT ? !json_is_integer(v) : !json_is_number(v))
        return refuse(f, v);
    if (bounded && !(x >= k->min && x <= k->max))
        return refuse(f, v);
    if (k->type == KEY_INT)
        *(int64_t *)field = json_integer_value(v);
    else
        *(double *)field = x;
    return GRAFT_OK;
}

static enum graft_status put_string(const struct filling *f, const json_t *v, void *field)
{
    const char **s = field;

    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return refuse(f, v);
    *s = arena_strdup(f->mem, json_string_value(v));
    return *s ? GRAFT_OK : graft_fail_nomem(f->err, f->path, json_string_length(v));
}

static enum graft_status put_choice(const struct filling *f, const json_t *v, void *field)
{
    if (json_is_string(v))
        for (int i = 0; f->key->choices[i]; i++)
            if (!strcmp(f->key->choices[i], json_string_value(v))) {
                *(int *)field = i;
                return GRAFT_OK;
            }
    return refuse(f, v);
}

static enum graft_status put_value(const struct filling *f, const json_t *v, void *field)
{
    switch (f->key->type) {
    case KEY_BOOL:
        if (!json_is_boolean(v))
            return refuse(f, v);
        *(bool *)field = json_is_true(v);
        return GRAFT_OK;
    case KEY_INT:
    case KEY_FLOAT:
        return put_number(f, v, field);
    case KEY_STR:
        return put_string(f, v, field);
    case KEY_ENUM:
        return put_choice(f, v, field);
    case KEY_JSON:
        *(const json_t **)field = v;
        return GRAFT_OK;
    case KEY_MAP:
        if (!json_is_object(v))
            return refuse(f, v);
        return schema_fill(f->key->table, v, f->src, field, f->mem, f->err);
    }
    return GRAFT_OK;
}

bool schema_is(const char *text, const json_t *v)
{
    json_t *o = NULL;
    bool same;

    if (json_read("value", text, strlen(text), &o, NULL)) /* a word, or no memory */
        return json_is_string(v) && !strcmp(json_string_value(v), text);
    if (json_is_number(o) && json_is_number(v))
        same = json_number_value(o) == json_number_value(v);
    else
        same = json_equal(o, v) || (schema_is_off(o) && schema_is_off(v));
    json_decref(o);
    return same;
}

/* What a field holds when its key has no value. */
static enum graft_status put_null(enum key_type type, void *field)
{
    if (type == KEY_STR)
        *(const char **)field = NULL;
    else if (type == KEY_INT)
        *(int64_t *)field = 0;
    else if (type == KEY_FLOAT)
        *(double *)field = NAN;
    else
        *(int *)field = -1; /* KEY_ENUM; KEY_BOOL has none */
    return GRAFT_OK;
}

static enum graft_status put_default(const struct filling *f, void *field)
{
    const struct key_def *k = f->key;
    struct strbuf want = STRBUF_INIT;
    json_t *v = NULL;
    enum graft_status st = GRAFT_OK;

    if (k->type == KEY_MAP)
        return schema_fill(k->table, NULL, f->src, field, f->mem, f->err);
    if (!k->dflt) {
        schema_want(k, &want);
        st = schema_fail(f->src, f->path, f->err, "missing, want %s", strbuf_str(&want));
        strbuf_release(&want);
        return st;
    }
    if (k->type == KEY_JSON) {
        *(const json_t **)field = NULL;
        return GRAFT_OK;
    }
    if (!strcmp(k->dflt, "null"))
        return put_null(k->type, field);
    if (k->type == KEY_STR || k->type == KEY_ENUM)
        v = json_string(k->dflt);
    else
        GRAFT_TRY(json_read(f->path, k->dflt, strlen(k->dflt), &v, f->err));
    if (!v)
        return graft_fail_nomem(f->err, f->path, strlen(k->dflt));
    st = put_value(f, v, field);
    json_decref(v);
    return st;
}

static enum graft_status fill_key(const struct filling *f, const json_t *v, char *target)
{
    const struct key_def *k = f->key;
    void *field = target + k->offset;

    if (!v || (json_is_null(v) && (k->nullable || k->type == KEY_MAP)))
        return put_default(f, field);
    if (k->only && !schema_is(k->only, v))
        return refuse_later(f, v);
    if (k->only && schema_is_off(v)) /* an off value of any type stands for the default */
        return put_default(f, field);
    if (json_is_string(v) && schema_lists(k->later, json_string_value(v)))
        return refuse_later(f, v);
    return put_value(f, v, field);
}

static enum graft_status check_names(const struct key_table *table, json_t *map,
                                     const struct schema_source *src, struct graft_err *err)
{
    enum graft_status st = GRAFT_OK;
    struct graft_err one;
    const char *key;
    json_t *v;

    json_object_foreach(map, key, v)
    {
        struct strbuf place = STRBUF_INIT, path = STRBUF_INIT;

        if (row(table, key, strlen(key)))
            continue;
        if (!table->lenient || !schema_is_off(v)) {
            st = graft_fail_also(err, st, schema_unknown(table, key, src, &one), &one);
            continue;
        }
        src->where(src, dotted(table, key, &path), &place);
        graft_note("%s: unknown key \"%s\" asks for nothing and is left out", strbuf_str(&place),
                   strbuf_str(&path));
        strbuf_release(&place);
        strbuf_release(&path);
    }
    return st;
}

enum graft_status schema_fill(const struct key_table *table, const json_t *map,
                              const struct schema_source *src, void *target, struct arena *mem,
                              struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;
    struct graft_err one;

    if (map && !json_is_object(map))
        return schema_found(src, table->section, map, "a map of keys", err);
    if (map) /* jansson's iterators take no const */
        st = check_names(table, (json_t *)map, src, err);
    for (size_t i = 0; i < table->count && st != GRAFT_ENOMEM; i++) {
        const struct key_def *k = &table->keys[i];
        const struct filling f = { k, dotted(table, k->name, &path), src, mem, &one };

        st = graft_fail_also(err, st,
                             path.failed
                                 ? graft_fail_nomem(&one, k->name, path.len)
                                 : fill_key(&f, map ? json_object_get(map, k->name) : NULL, target),
                             &one);
    }
    strbuf_release(&path);
    return st;
}

enum graft_status schema_for(const struct key_table *all, const char *user, struct arena *mem,
                             struct key_table *out, struct graft_err *err)
{
    struct key_def *keys = arena_array(mem, all->count, sizeof *keys);

    if (!keys)
        return graft_fail_nomem(err, all->section, all->count * sizeof *keys);
    *out = *all;
    out->keys = keys;
    out->count = 0;
    for (size_t i = 0; i < all->count; i++)
        if (!all->keys[i].users || schema_lists(all->keys[i].users, user))
            keys[out->count++] = all->keys[i];
    return GRAFT_OK;
}

/* A comment of several lines where it is long. */
static void put_comment(const char *lead, const char *text, int indent, struct strbuf *out)
{
    size_t col = 0;

    while (*text) {
        const size_t word = strcspn(text, " ");

        if (!col || col + 1 + word > HELP_WIDTH) {
            if (col)
                strbuf_putc(out, '\n');
            strbuf_printf(out, "%*s#%s", indent, "", lead);
            col = (size_t)indent + 1 + strlen(lead);
        }
        strbuf_putc(out, ' ');
        strbuf_add(out, text, word);
        col += 1 + word;
        text += word + (text[word] == ' ');
    }
    strbuf_putc(out, '\n');
}

static void put_help_row(const struct key_def *k, int indent, struct strbuf *out)
{
    struct strbuf takes = STRBUF_INIT;

    put_comment("", k->help, indent, out);
    if (k->only)
        strbuf_printf(&takes, "%s only, in this version", k->only);
    else
        schema_want(k, &takes);
    if (k->later)
        strbuf_printf(&takes, " (not in this version: %s)", k->later);
    if (!k->dflt)
        strbuf_puts(&takes, "; must be given");
    if (k->users)
        strbuf_printf(&takes, "; for %s", k->users);
    put_comment("  ", strbuf_str(&takes), indent, out);
    if (k->others) {
        strbuf_clear(&takes);
        strbuf_printf(&takes, "elsewhere: %s", k->others);
        put_comment("  ", strbuf_str(&takes), indent, out);
    }
    strbuf_printf(out, "%*s%s:%s%s\n", indent, "", k->name, k->dflt ? " " : "",
                  k->dflt ? k->dflt : "");
    strbuf_release(&takes);
}

static void put_help(const struct key_table *table, int indent, struct strbuf *out)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct key_def *k = &table->keys[i];

        if (k->table) {
            strbuf_printf(out, "\n%*s# %s\n%*s%s:\n", indent, "", k->help, indent, "", k->name);
            put_help(k->table, indent + 2, out);
            if (i + 1 < table->count && !table->keys[i + 1].table)
                strbuf_putc(out, '\n');
        } else {
            put_help_row(k, indent, out);
        }
    }
}

void schema_help(const struct key_table *table, struct strbuf *out)
{
    put_help(table, 0, out);
}
