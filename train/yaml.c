#include "train/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#define TAG_PREFIX "tag:yaml.org,2002:"

struct anchor {
    char *name;
    json_t *value; /* borrowed from the tree */
};

struct reader {
    yaml_parser_t parser;
    const char *name;
    bool with_lines; /* messages say NAME:LINE, else NAME */
    struct yaml_doc *doc;
    struct anchor *anchor;
    size_t anchor_count;
    int64_t nodes;
    struct graft_err *err;
};

static enum graft_status fail(const struct reader *r, size_t line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum graft_status fail(const struct reader *r, size_t line, const char *fmt, ...)
{
    char msg[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (r->with_lines)
        return graft_fail(r->err, GRAFT_EARG, "%s:%zu: %s", r->name, line, msg);
    return graft_fail(r->err, GRAFT_EARG, "%s: %s", r->name, msg);
}

/* The parser's own error, with its line. */
static enum graft_status fail_syntax(const struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "not YAML";

    if (p->error == YAML_MEMORY_ERROR)
        return graft_fail_nomem(r->err, r->name, 0);
    if (p->error == YAML_READER_ERROR)
        return fail(r, p->mark.line + 1, "%s (byte %zu)", problem, p->problem_offset);
    if (p->context && r->with_lines)
        return fail(r, p->problem_mark.line + 1, "%s %s that begins on line %zu", problem,
                    p->context, p->context_mark.line + 1);
    return fail(r, p->problem_mark.line + 1, "%s", problem);
}

static enum graft_status next_event(struct reader *r, yaml_event_t *e)
{
    return yaml_parser_parse(&r->parser, e) ? GRAFT_OK : fail_syntax(r);
}

/* Room for one more element of a growing array; false when there is no memory. */
static bool reserve(void **array, size_t count, size_t size)
{
    void *p;

    if (count & (count - 1)) /* grown at powers of two only */
        return true;
    p = mem_resize(*array, count * size, (count ? 2 * count : 1) * size);
    if (p)
        *array = p;
    return p != NULL;
}

static char *copy_text(const char *s)
{
    const size_t n = strlen(s) + 1;
    char *p = mem_alloc(n);

    return p ? memcpy(p, s, n) : NULL;
}

static enum graft_status add_line(struct yaml_doc *d, const char *path, size_t line,
                                  const char *place, struct graft_err *err)
{
    char *copy = copy_text(path);

    if (!copy || !reserve((void **)&d->line, d->line_count, sizeof *d->line)) {
        mem_free(copy);
        return graft_fail_nomem(err, "the lines of a config", 64);
    }
    d->line[d->line_count++] = (struct yaml_line){ copy, line, place };
    return GRAFT_OK;
}

/* null, Null, NULL: the three spellings of the core schema. */
static bool is_word(const char *s, const char *lower)
{
    const bool first = s[0] == lower[0], upper = s[0] && s[1] >= 'A' && s[1] <= 'Z';

    if (strcasecmp(s, lower) != 0)
        return false;
    for (const char *p = s + 1; *p; p++)
        if ((*p >= 'A' && *p <= 'Z') != upper)
            return false;
    return !first || !upper;
}

/* [-+]? digits, 0o octal, 0x hex; *base tells which. */
static bool looks_int(const char *s, int *base)
{
    const char *digits = "0123456789";

    *base = 10;
    if (s[0] == '0' && (s[1] == 'o' || s[1] == 'x')) {
        *base = s[1] == 'o' ? 8 : 16;
        digits = s[1] == 'o' ? "01234567" : "0123456789abcdefABCDEF";
        s += 2;
    } else if (*s == '-' || *s == '+') {
        s++;
    }
    return *s && s[strspn(s, digits)] == '\0';
}

/* [-+]? (\. digits | digits (\. digits?)?) ([eE] [-+]? digits)? */
static bool looks_float(const char *s)
{
    size_t whole, part = 0;

    s += *s == '-' || *s == '+';
    whole = strspn(s, "0123456789");
    s += whole;
    if (*s == '.') {
        part = strspn(s + 1, "0123456789");
        s += 1 + part;
    }
    if (!whole && !part)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        if (!*s)
            return false;
        s += strspn(s, "0123456789");
    }
    return *s == '\0';
}

/* A plain scalar by the core schema. What JSON cannot hold (.inf, 1e999) stays a text. */
static json_t *resolve_plain(const char *s, size_t len)
{
    double x;
    int base;

    if (strlen(s) != len)
        return json_stringn(s, len);
    if (!*s || !strcmp(s, "~") || is_word(s, "null"))
        return json_null();
    if (is_word(s, "true"))
        return json_true();
    if (is_word(s, "false"))
        return json_false();
    if (looks_int(s, &base)) {
        long long v;

        errno = 0;
        v = strtoll(base == 10 ? s : s + 2, NULL, base);
        if (!errno)
            return json_integer(v);
    }
    if (looks_int(s, &base) ? base == 10 : looks_float(s)) {
        x = strtod(s, NULL);
        if (isfinite(x))
            return json_real(x);
    }
    return json_stringn(s, len);
}

static enum graft_status read_scalar(struct reader *r, const yaml_event_t *e, json_t **out)
{
    const char *s = (const char *)e->data.scalar.value;
    const char *tag = (const char *)e->data.scalar.tag;
    const size_t len = e->data.scalar.length, line = e->start_mark.line + 1;

    if (tag && !strcmp(tag, TAG_PREFIX "str"))
        tag = NULL;
    else if (tag && strcmp(tag, "!") != 0)
        return fail(r, line, "the tag \"%s\" is not known, leave it out", tag);
    *out = e->data.scalar.plain_implicit && !e->data.scalar.tag ? resolve_plain(s, len)
                                                                : json_stringn(s, len);
    return *out ? GRAFT_OK : graft_fail_nomem(r->err, r->name, len);
}

/* Nodes of `v` and its depth, counted no further than the limits. */
static void measure(const json_t *v, int depth, int64_t *nodes, int *deepest)
{
    const char *key;
    json_t *item;
    size_t i;

    if (depth > *deepest)
        *deepest = depth;
    if (++*nodes > YAML_NODES_MAX || depth > YAML_DEPTH_MAX)
        return;
    json_array_foreach(v, i, item) measure(item, depth + 1, nodes, deepest);
    json_object_foreach((json_t *)v, key, item) measure(item, depth + 1, nodes, deepest);
}

static enum graft_status read_alias(struct reader *r, const yaml_event_t *e, int depth,
                                    json_t **out)
{
    const char *name = (const char *)e->data.alias.anchor;
    const size_t line = e->start_mark.line + 1;
    int deepest = depth;

    for (size_t i = r->anchor_count; i-- > 0;) {
        if (strcmp(r->anchor[i].name, name) != 0)
            continue;
        measure(r->anchor[i].value, depth, &r->nodes, &deepest);
        if (r->nodes > YAML_NODES_MAX)
            return fail(r, line, "more than %d values, aliases followed", YAML_NODES_MAX);
        if (deepest > YAML_DEPTH_MAX)
            return fail(r, line, "nested deeper than %d", YAML_DEPTH_MAX);
        *out = json_deep_copy(r->anchor[i].value);
        return *out ? GRAFT_OK : graft_fail_nomem(r->err, r->name, 0);
    }
    return fail(r, line, "the alias \"*%s\" has no anchor before it", name);
}

static enum graft_status add_anchor(struct reader *r, const char *name, json_t *value)
{
    char *copy = copy_text(name);

    if (!copy || !reserve((void **)&r->anchor, r->anchor_count, sizeof *r->anchor)) {
        mem_free(copy);
        return graft_fail_nomem(r->err, "an anchor", 64);
    }
    r->anchor[r->anchor_count++] = (struct anchor){ copy, json_incref(value) };
    return GRAFT_OK;
}

static enum graft_status read_node(struct reader *r, const yaml_event_t *e, struct strbuf *path,
                                   int depth, json_t **out);

/* The value of one key or list item, whose first event is the next one, at path + "." + name. */
static enum graft_status read_child(struct reader *r, const yaml_event_t *e, struct strbuf *path,
                                    const char *name, int depth, json_t **out)
{
    const size_t old = path->len;
    enum graft_status st;

    strbuf_printf(path, "%s%s", old ? "." : "", name);
    st = read_node(r, e, path, depth + 1, out);
    path->len = old;
    path->buf[old] = '\0';
    return st;
}

static enum graft_status check_key(struct reader *r, const yaml_event_t *e, const json_t *map,
                                   const struct strbuf *path)
{
    const size_t line = e->start_mark.line + 1;
    const char *key = (const char *)e->data.scalar.value;

    if (e->type != YAML_SCALAR_EVENT)
        return fail(r, line, "a key must be a word");
    if (strlen(key) != e->data.scalar.length)
        return fail(r, line, "a key holds U+0000");
    if (!strcmp(key, "<<"))
        return fail(r, line, "the merge key \"<<\" is not supported, write the keys out");
    if (json_object_get(map, key))
        return fail(r, line, "the key \"%s%s%s\" stands here a second time", strbuf_str(path),
                    path->len ? "." : "", key);
    return GRAFT_OK;
}

static enum graft_status read_pair(struct reader *r, const yaml_event_t *key, struct strbuf *path,
                                   int depth, json_t *map)
{
    yaml_event_t e;
    json_t *v = NULL;
    enum graft_status st;

    GRAFT_TRY(check_key(r, key, map, path));
    GRAFT_TRY(next_event(r, &e));
    st = read_child(r, &e, path, (const char *)key->data.scalar.value, depth, &v);
    yaml_event_delete(&e);
    if (!st && json_object_set_new(map, (const char *)key->data.scalar.value, v))
        st = graft_fail_nomem(r->err, r->name, 0);
    return st;
}

static enum graft_status read_item(struct reader *r, const yaml_event_t *e, struct strbuf *path,
                                   int depth, json_t *list)
{
    json_t *v = NULL;
    char name[24];

    snprintf(name, sizeof name, "%zu", json_array_size(list));
    GRAFT_TRY(read_child(r, e, path, name, depth, &v));
    return json_array_append_new(list, v) ? graft_fail_nomem(r->err, r->name, 0) : GRAFT_OK;
}

/* The rest of a map or list up to its end event. */
static enum graft_status read_rest(struct reader *r, struct strbuf *path, int depth, json_t *v)
{
    const yaml_event_type_t end =
        json_is_object(v) ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;

    for (;;) {
        yaml_event_t e;
        enum graft_status st;

        GRAFT_TRY(next_event(r, &e));
        if (e.type == end) {
            yaml_event_delete(&e);
            return GRAFT_OK;
        }
        st =
            json_is_object(v) ? read_pair(r, &e, path, depth, v) : read_item(r, &e, path, depth, v);
        yaml_event_delete(&e);
        GRAFT_TRY(st);
    }
}

static enum graft_status read_container(struct reader *r, const yaml_event_t *e,
                                        struct strbuf *path, int depth, json_t **out)
{
    const bool map = e->type == YAML_MAPPING_START_EVENT;
    const char *tag = (const char *)(map ? e->data.mapping_start.tag : e->data.sequence_start.tag);
    json_t *v;
    enum graft_status st;

    if (tag)
        return fail(r, e->start_mark.line + 1, "the tag \"%s\" is not known, leave it out", tag);
    v = map ? json_object() : json_array();
    if (!v)
        return graft_fail_nomem(r->err, r->name, 0);
    st = read_rest(r, path, depth, v);
    if (st)
        json_decref(v);
    else
        *out = v;
    return st;
}

static const char *anchor_of(const yaml_event_t *e)
{
    if (e->type == YAML_SCALAR_EVENT)
        return (const char *)e->data.scalar.anchor;
    if (e->type == YAML_MAPPING_START_EVENT)
        return (const char *)e->data.mapping_start.anchor;
    return e->type == YAML_SEQUENCE_START_EVENT ? (const char *)e->data.sequence_start.anchor
                                                : NULL;
}

static enum graft_status read_node(struct reader *r, const yaml_event_t *e, struct strbuf *path,
                                   int depth, json_t **out)
{
    const size_t line = e->start_mark.line + 1;
    enum graft_status st;

    if (depth > YAML_DEPTH_MAX)
        return fail(r, line, "nested deeper than %d", YAML_DEPTH_MAX);
    if (++r->nodes > YAML_NODES_MAX)
        return fail(r, line, "more than %d values, aliases followed", YAML_NODES_MAX);
    if (path->failed)
        return graft_fail_nomem(r->err, r->name, path->len);
    if (r->doc)
        GRAFT_TRY(add_line(r->doc, strbuf_str(path), line, NULL, r->err));
    if (e->type == YAML_SCALAR_EVENT)
        st = read_scalar(r, e, out);
    else if (e->type == YAML_ALIAS_EVENT)
        st = read_alias(r, e, depth, out);
    else
        st = read_container(r, e, path, depth, out);
    if (!st && anchor_of(e) && (st = add_anchor(r, anchor_of(e), *out)))
        json_decref(*out);
    return st;
}

/* Stream start, at most one document, stream end. */
static enum graft_status read_stream(struct reader *r, json_t **out)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;
    bool seen = false, done = false;

    strbuf_puts(&path, "");
    while (!st && !done) {
        yaml_event_t e;

        st = next_event(r, &e);
        if (st)
            break;
        done = e.type == YAML_STREAM_END_EVENT;
        if (e.type == YAML_DOCUMENT_START_EVENT && seen)
            st = fail(r, e.start_mark.line + 1, "a second document begins, only one is read");
        else if (e.type == YAML_SCALAR_EVENT || e.type == YAML_ALIAS_EVENT ||
                 e.type == YAML_MAPPING_START_EVENT || e.type == YAML_SEQUENCE_START_EVENT) {
            seen = true;
            st = read_node(r, &e, &path, 0, out);
        }
        yaml_event_delete(&e);
    }
    strbuf_release(&path);
    if (!st && !*out)
        *out = json_null();
    return st;
}

static enum graft_status read_text(struct reader *r, const char *text, size_t len, json_t **out)
{
    enum graft_status st;

    if (!yaml_parser_initialize(&r->parser))
        return graft_fail_nomem(r->err, r->name, len);
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)(text ? text : ""), len);
    *out = NULL;
    st = read_stream(r, out);
    if (st) {
        json_decref(*out);
        *out = NULL;
    }
    for (size_t i = 0; i < r->anchor_count; i++) {
        mem_free(r->anchor[i].name);
        json_decref(r->anchor[i].value);
    }
    mem_free(r->anchor);
    yaml_parser_delete(&r->parser);
    return st;
}

static bool starts_like_json(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len && strchr(" \t\r\n", text[i]) && text[i])
        i++;
    return i < len && text[i] == '{';
}

enum graft_status yaml_parse(const char *name, const char *text, size_t len, struct yaml_doc *out,
                             struct graft_err *err)
{
    struct reader r = { .name = name, .with_lines = true, .doc = out, .err = err };
    enum graft_status st;

    memset(out, 0, sizeof *out);
    out->name = copy_text(name);
    if (!out->name)
        return graft_fail_nomem(err, name, strlen(name));
    st = read_text(&r, text, len, &out->root);
    /* JSON that libyaml does not take (tabs, surrogate pairs): its values have no lines */
    if (st == GRAFT_EARG && starts_like_json(text, len) &&
        !json_read(name, text, len, &out->root, NULL))
        st = GRAFT_OK;
    if (st)
        yaml_doc_release(out);
    return st;
}

enum graft_status yaml_parse_value(const char *place, const char *text, json_t **out,
                                   struct graft_err *err)
{
    struct reader r = { .name = place, .err = err };

    return read_text(&r, text, strlen(text), out);
}

void yaml_doc_release(struct yaml_doc *d)
{
    for (size_t i = 0; i < d->line_count; i++)
        mem_free(d->line[i].path);
    mem_free(d->line);
    mem_free(d->name);
    json_decref(d->root);
    memset(d, 0, sizeof *d);
}

static bool is_at_or_below(const char *path, const char *top)
{
    const size_t n = strlen(top);

    return !strncmp(path, top, n) && (path[n] == '\0' || path[n] == '.');
}

static void drop_lines(struct yaml_doc *d, const char *path)
{
    size_t kept = 0;

    for (size_t i = 0; i < d->line_count; i++) {
        if (is_at_or_below(d->line[i].path, path))
            mem_free(d->line[i].path);
        else
            d->line[kept++] = d->line[i];
    }
    d->line_count = kept;
}

/* The map that holds the last part of `path`, made on the way; `part` (as long as path) is that
 * part. */
static enum graft_status walk_to(json_t *map, const char *path, char *part, const char *place,
                                 json_t **holder, struct graft_err *err)
{
    const char *rest = path, *dot;

    while ((dot = strchr(rest, '.'))) {
        json_t *child;

        memcpy(part, rest, (size_t)(dot - rest));
        part[dot - rest] = '\0';
        if (!*part)
            return graft_fail(err, GRAFT_EARG, "%s: \"%s\" is not a key", place, path);
        child = json_object_get(map, part);
        if (child && !json_is_object(child) && !json_is_null(child))
            return graft_fail(err, GRAFT_EARG,
                              "%s: \"%.*s\" is no map, nothing can be set below it", place,
                              (int)(dot - path), path);
        if (!json_is_object(child)) {
            child = json_object();
            if (json_object_set_new(map, part, child))
                return graft_fail_nomem(err, place, strlen(part));
        }
        map = child;
        rest = dot + 1;
    }
    strcpy(part, rest);
    *holder = map;
    return *rest ? GRAFT_OK : graft_fail(err, GRAFT_EARG, "%s: \"%s\" is not a key", place, path);
}

static enum graft_status set_at(json_t *root, const char *path, json_t *value, const char *place,
                                struct graft_err *err)
{
    char *part = copy_text(path);
    json_t *map = NULL;
    enum graft_status st;

    if (!part)
        return graft_fail_nomem(err, place, strlen(path));
    st = walk_to(root, path, part, place, &map, err);
    if (!st && json_is_null(value))
        json_object_del(map, part);
    else if (!st && json_object_set(map, part, value))
        st = graft_fail_nomem(err, place, strlen(path));
    mem_free(part);
    return st;
}

enum graft_status yaml_set(struct yaml_doc *d, const char *path, json_t *value, const char *place,
                           struct graft_err *err)
{
    enum graft_status st = GRAFT_OK;

    if (json_is_null(d->root)) {
        json_decref(d->root);
        d->root = json_object();
    }
    if (!json_is_object(d->root))
        st = graft_fail(err, GRAFT_EARG, "%s: not a map of keys", d->name);
    if (!st)
        st = set_at(d->root, path, value, place, err);
    if (!st) {
        drop_lines(d, path);
        if (!json_is_null(value))
            st = add_line(d, path, 0, place, err);
    }
    json_decref(value);
    return st;
}

static const struct yaml_line *find_line(const struct yaml_doc *d, const char *path, size_t len)
{
    for (size_t i = d->line_count; i-- > 0;)
        if (strlen(d->line[i].path) == len && !strncmp(d->line[i].path, path, len))
            return &d->line[i];
    return NULL;
}

static void where(const struct schema_source *src, const char *path, struct strbuf *out)
{
    const struct yaml_doc *d = src->data;
    const struct yaml_line *l = NULL;
    size_t len = strlen(path);

    while (len && !(l = find_line(d, path, len))) {
        while (len && path[len - 1] != '.')
            len--;
        len -= len > 0;
    }
    if (l && l->place)
        strbuf_puts(out, l->place);
    else if (l)
        strbuf_printf(out, "%s:%zu", d->name, l->line);
    else
        strbuf_puts(out, d->name);
}

struct schema_source yaml_source(struct yaml_doc *d)
{
    return (struct schema_source){ where, d };
}
