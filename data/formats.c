/* Which format a record is in, and what to say when it is in none. */
#include <math.h>
#include <string.h>

#include "data/records.h"

enum { KEYS_SHOWN = 8, NAME_SHOWN = 40 };

const char *json_kind(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return fabs(json_real_value(v)) < 9.2e18 ? "a number with a fraction"
                                                 : "a number beyond 64 bits";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

void quote_name(struct strbuf *out, const char *name)
{
    size_t left = strlen(name), shown = 0;
    uint32_t cp = 0;

    strbuf_putc(out, '"');
    for (int n; left && shown < NAME_SHOWN; name += n, left -= (size_t)n, shown++) {
        n = utf8_next(name, left, &cp);
        if (n == 0)
            n = 1;
        if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) /* a terminal would obey it */
            strbuf_putc(out, '?');
        else
            strbuf_add(out, name, (size_t)n);
    }
    strbuf_puts(out, left ? "...\"" : "\"");
}

json_t *format_get(const json_t *rec, const struct format_key *key)
{
    json_t *v = json_object_get(rec, key->name);

    if ((!v || json_is_null(v)) && key->alias) {
        json_t *other = json_object_get(rec, key->alias);

        v = other ? other : v;
    }
    return v && json_is_null(v) ? NULL : v;
}

bool format_uses(enum record_format f, const json_t *rec, const char *key)
{
    const struct format_key *first = format_defs[f].key;

    for (const struct format_key *k = first; k < first + FORMAT_KEYS && k->name; k++)
        if (strcmp(k->name, key) == 0 || (k->alias && strcmp(k->alias, key) == 0))
            return !k->chat || json_is_array(format_get(rec, first));
    return false;
}

/* The first required key that is not there; NULL when the record fits. */
static const struct format_key *missing_key(const json_t *rec, enum record_format f)
{
    for (const struct format_key *k = format_defs[f].key;
         k < format_defs[f].key + FORMAT_KEYS && k->name; k++)
        if (k->required && !format_get(rec, k))
            return k;
    return NULL;
}

static void put_keys_found(struct strbuf *out, const json_t *rec)
{
    const char *key;
    json_t *v;
    size_t i = 0;

    if (json_object_size(rec) == 0)
        strbuf_puts(out, "no keys");
    json_object_foreach((json_t *)rec, key, v)
    {
        if (i++ == KEYS_SHOWN) {
            strbuf_printf(out, " and %zu more", json_object_size(rec) - KEYS_SHOWN);
            return;
        }
        strbuf_puts(out, i > 1 ? ", " : "");
        quote_name(out, key);
        strbuf_puts(out, json_is_null(v) ? " (null)" : "");
    }
}

/* What a format needs: "prompt" + "completion" (or "response"). */
static void put_keys_wanted(struct strbuf *out, enum record_format f)
{
    const char *sep = "";

    for (const struct format_key *k = format_defs[f].key;
         k < format_defs[f].key + FORMAT_KEYS && k->name; k++)
        if (k->required) {
            strbuf_printf(out, "%s\"%s\"", sep, k->name);
            if (k->alias)
                strbuf_printf(out, " (or \"%s\")", k->alias);
            sep = " + ";
        }
}

/* Question and answer under other names, as many published sets have them: how to rename. */
static bool put_rename_hint(struct strbuf *out, const json_t *rec)
{
    static const char *const ask[] = { "prompt", "question", "query", "inputs", "source", "input" };
    static const char *const reply[] = { "completion", "response", "answer",
                                         "target",     "targets",  "output" };
    const char *a = NULL, *b = NULL;

    for (size_t i = 0; i < sizeof ask / sizeof *ask && !a; i++)
        a = json_is_string(json_object_get(rec, ask[i])) ? ask[i] : NULL;
    for (size_t i = 0; i < sizeof reply / sizeof *reply && !b; i++)
        b = json_is_string(json_object_get(rec, reply[i])) ? reply[i] : NULL;
    if (b && json_is_string(json_object_get(rec, "instruction"))) {
        strbuf_printf(out, "; to make alpaca records: jq -c '{instruction, input, output: .%s}'",
                      b);
        return true;
    }
    if (!a || !b)
        return false;
    strbuf_printf(out, "; to make completion records: jq -c '{prompt: .%s, completion: .%s}'", a,
                  b);
    return true;
}

/* A key that is nearly one of a format's. */
static void put_near_hint(struct strbuf *out, const json_t *rec, enum record_format only)
{
    const char *names[RECORD_FORMAT_COUNT * FORMAT_KEYS * 2], *key, *near;
    size_t n = 0;
    json_t *v;

    for (int f = RECORD_AUTO; f < RECORD_FORMAT_COUNT; f++)
        for (int k = 0; k < FORMAT_KEYS && (only == RECORD_AUTO || (int)only == f); k++) {
            if (format_defs[f].key[k].name)
                names[n++] = format_defs[f].key[k].name;
            if (format_defs[f].key[k].alias)
                names[n++] = format_defs[f].key[k].alias;
        }
    json_object_foreach((json_t *)rec, key, v)
    {
        near = nearest_name(key, names, n);
        if (!near || strcmp(near, key) == 0 || json_object_get(rec, near))
            continue;
        strbuf_puts(out, "; ");
        quote_name(out, key);
        strbuf_printf(out, " looks like \"%s\"", near);
        return;
    }
}

static enum graft_status fail_with(struct graft_err *err, struct strbuf *msg)
{
    const enum graft_status st = msg->failed
                                     ? graft_fail_nomem(err, "an error message", msg->len)
                                     : graft_fail(err, GRAFT_EFORMAT, "%s", strbuf_str(msg));

    strbuf_release(msg);
    return st;
}

enum graft_status format_check(const json_t *rec, enum record_format f, struct graft_err *err)
{
    const struct format_key *k = missing_key(rec, f);
    struct strbuf msg = STRBUF_INIT;

    if (!k)
        return GRAFT_OK;
    strbuf_printf(&msg, "no \"%s\"", k->name);
    if (k->alias)
        strbuf_printf(&msg, " (or \"%s\")", k->alias);
    strbuf_printf(&msg, ", which a record of format %s needs; found ", format_defs[f].name);
    put_keys_found(&msg, rec);
    if (!put_rename_hint(&msg, rec))
        put_near_hint(&msg, rec, f);
    return fail_with(err, &msg);
}

static enum graft_status fail_no_format(const json_t *rec, struct graft_err *err)
{
    struct strbuf msg = STRBUF_INIT;

    strbuf_puts(&msg, "the record fits no format; found ");
    put_keys_found(&msg, rec);
    strbuf_puts(&msg, "; wanted ");
    for (int f = RECORD_AUTO + 1; f < RECORD_FORMAT_COUNT; f++) {
        strbuf_puts(&msg, f == RECORD_AUTO + 1 ? "" : f + 1 < RECORD_FORMAT_COUNT ? ", " : " or ");
        put_keys_wanted(&msg, (enum record_format)f);
    }
    if (!put_rename_hint(&msg, rec))
        put_near_hint(&msg, rec, RECORD_AUTO);
    return fail_with(err, &msg);
}

static enum graft_status fail_two_formats(enum record_format a, enum record_format b,
                                          struct graft_err *err)
{
    struct strbuf msg = STRBUF_INIT;

    strbuf_printf(&msg, "the record fits two formats, %s (", format_defs[a].name);
    put_keys_wanted(&msg, a);
    strbuf_printf(&msg, ") and %s (", format_defs[b].name);
    put_keys_wanted(&msg, b);
    strbuf_puts(&msg, "); name the one that is meant as the format");
    return fail_with(err, &msg);
}

enum graft_status format_detect(const json_t *rec, enum record_format *out, struct graft_err *err)
{
    enum record_format found = RECORD_AUTO;

    for (int f = RECORD_AUTO + 1; f < RECORD_FORMAT_COUNT; f++) {
        if (missing_key(rec, (enum record_format)f))
            continue;
        if (found != RECORD_AUTO)
            return fail_two_formats(found, (enum record_format)f, err);
        found = (enum record_format)f;
    }
    if (found == RECORD_AUTO)
        return fail_no_format(rec, err);
    *out = found;
    return GRAFT_OK;
}

enum graft_status record_format_parse(const char *name, enum record_format *out,
                                      struct graft_err *err)
{
    struct strbuf list = STRBUF_INIT;

    for (int i = 0; i < RECORD_FORMAT_COUNT; i++) {
        if (!strcmp(record_format_names[i], name)) {
            *out = (enum record_format)i;
            return GRAFT_OK;
        }
        strbuf_printf(&list, "%s%s", i ? ", " : "", record_format_names[i]);
    }
    graft_fail(err, GRAFT_EARG, "--format: found \"%s\", wanted one of %s", name,
               strbuf_str(&list));
    strbuf_release(&list);
    return GRAFT_EARG;
}
