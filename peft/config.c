#include "peft/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "peft/config_keys.h"

/* One map being read. */
struct reading {
    const struct key_table *table;
    const struct schema_source *src;
    bool loaded; /* the values exist already: init_lora_weights decides nothing */
    struct arena *mem;
    struct graft_err *err;
};

static enum graft_status bad(const struct reading *r, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static const char *key_path(const struct reading *r, const char *key, struct strbuf *out)
{
    strbuf_printf(out, "%s%s%s", r->table->section, *r->table->section ? "." : "", key);
    return strbuf_str(out);
}

static enum graft_status bad(const struct reading *r, const char *key, const char *fmt, ...)
{
    struct strbuf path = STRBUF_INIT;
    char msg[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    schema_fail(r->src, key_path(r, key, &path), r->err, "%s", msg);
    strbuf_release(&path);
    return GRAFT_EARG;
}

/* "found X, want ..." with what the key's row says. */
static enum graft_status bad_form(const struct reading *r, const char *key, const json_t *v)
{
    struct strbuf path = STRBUF_INIT, want = STRBUF_INIT;

    schema_want(schema_key(r->table, key), &want);
    schema_found(r->src, key_path(r, key, &path), v, strbuf_str(&want), r->err);
    strbuf_release(&path);
    strbuf_release(&want);
    return GRAFT_EARG;
}

static enum graft_status no_memory(const struct reading *r)
{
    return graft_fail_nomem(r->err, "an adapter's config", 1024);
}

static bool is_text(const json_t *v)
{
    return json_is_string(v) && json_string_length(v) > 0 &&
           strlen(json_string_value(v)) == json_string_length(v);
}

/* Methods of PEFT 0.21 that have no name here. */
static bool is_peft_type(const char *name)
{
    static const char *const types[] = { "MULTITASK_PROMPT_TUNING",
                                         "ADALORA",
                                         "ADAMSS",
                                         "BOFT",
                                         "ADAPTION_PROMPT",
                                         "BEFT",
                                         "LILY",
                                         "LOHA",
                                         "LOKR",
                                         "OFT",
                                         "POLY",
                                         "VERA",
                                         "FROD",
                                         "PVERA",
                                         "FOURIERFT",
                                         "GLORA",
                                         "XLORA",
                                         "HRA",
                                         "VBLORA",
                                         "UNILORA",
                                         "CPT",
                                         "MISS",
                                         "RANDLORA",
                                         "ROAD",
                                         "TRAINABLE_TOKENS",
                                         "HIRA",
                                         "SHIRA",
                                         "C3A",
                                         "WAVEFT",
                                         "OSF",
                                         "DELORA",
                                         "GRALORA",
                                         "CARTRIDGE",
                                         "TINYLORA",
                                         "PSOFT",
                                         "PEANUT",
                                         "SHADOW",
                                         "SUPERTUNING",
                                         "DEFT" };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i], name))
            return true;
    return false;
}

/* The kind that `method` and `peft_type` name; either may be NULL, not both. */
static enum graft_status find_kind(const struct reading *r, const char *key, const json_t *v,
                                   const struct adapter_kind **out)
{
    const bool by_type = !strcmp(key, "peft_type");
    const char *names[16], *near;
    size_t n = 0;

    for (const struct adapter_kind *k = adapter_kinds; k->name; k++) {
        const char *name = by_type ? k->peft_type : k->name;

        if (!name)
            continue;
        names[n++] = name;
        if (!json_is_string(v) || strcmp(name, json_string_value(v)) != 0)
            continue;
        *out = k;
        return k->works ? GRAFT_OK
                        : bad(r, key, "\"%s\" is not supported in this version, only \"%s\" is",
                              name, by_type ? "LORA" : "lora");
    }
    if (by_type && json_is_string(v) && is_peft_type(json_string_value(v)))
        return bad(r, key, "\"%s\" is not supported, only \"LORA\" is", json_string_value(v));
    near = json_is_string(v) ? nearest_name(json_string_value(v), names, n) : NULL;
    if (near)
        return bad(r, key, "found \"%s\", did you mean \"%s\"?", json_string_value(v), near);
    return bad_form(r, key, v);
}

static enum graft_status read_method(const struct reading *r, const json_t *map, const char **out)
{
    const json_t *method = json_object_get(map, "method"),
                 *type = json_object_get(map, "peft_type");
    const struct adapter_kind *a = NULL, *b = NULL;

    if (method && !json_is_null(method))
        GRAFT_TRY(find_kind(r, "method", method, &a));
    if (type && !json_is_null(type))
        GRAFT_TRY(find_kind(r, "peft_type", type, &b));
    if (!a && !b)
        return bad(r, *r->table->section ? "method" : "peft_type", "missing, want %s",
                   *r->table->section ? "lora" : "LORA");
    if (a && b && a != b)
        return bad(r, "method", "\"%s\", but peft_type says \"%s\"", a->name, b->peft_type);
    if (json_is_true(json_object_get(map, "use_dora")))
        return bad(r, "use_dora",
                   "true is the method dora, which is not supported in this version");
    *out = a ? a->name : b->name;
    return GRAFT_OK;
}

/* Whether `v` is what PEFT writes when nothing is asked: the JSON text `dflt`, or an off value. */
static bool is_no_op(const json_t *v, const char *dflt)
{
    json_t *d = NULL;
    bool same;

    if (schema_is_off(v))
        return true;
    if (json_read("default", dflt, strlen(dflt), &d, NULL))
        return false;
    same = json_is_number(d) && json_is_number(v) ? json_number_value(d) == json_number_value(v)
                                                  : json_equal(d, v);
    json_decref(d);
    return same;
}

/* Take other methods' keys out of `map`, refusing those that ask for something. */
static enum graft_status drop_foreign(const struct reading *r, json_t *map, const char *method)
{
    for (const struct foreign_key *f = foreign_keys; f->name; f++) {
        const json_t *v = json_object_get(map, f->name);

        if (v && !is_no_op(v, f->dflt))
            return bad(r, f->name, "%s has no use for it, it belongs to %s", method, f->methods);
        if (v)
            json_object_del(map, f->name);
    }
    return GRAFT_OK;
}

static enum graft_status read_names(const struct reading *r, const char *key, const json_t *v,
                                    const char ***out, int *count)
{
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    const char **name = arena_array(r->mem, n, sizeof *name);

    if (!name)
        return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;

        if (!is_text(item))
            return bad_form(r, key, v);
        name[i] = arena_strdup(r->mem, json_string_value(item));
        if (!name[i])
            return no_memory(r);
    }
    *out = name;
    *count = (int)n;
    return GRAFT_OK;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum graft_status read_targets(const struct reading *r, const char *key, const json_t *v,
                                      struct target_set *out)
{
    const bool target = !strcmp(key, "target_modules");

    *out = (struct target_set){ TARGETS_DEFAULT, NULL, 0 };
    if (!v || (!target && schema_is_off(v)))
        return GRAFT_OK;
    if (schema_is_off(v))
        return bad_form(r, key, v);
    if (target && json_is_string(v) && !strcasecmp(json_string_value(v), "all-linear")) {
        out->kind = TARGETS_ALL_LINEAR;
        return GRAFT_OK;
    }
    out->kind = json_is_array(v) ? TARGETS_LIST : TARGETS_REGEX;
    GRAFT_TRY(read_names(r, key, v, &out->name, &out->count));
    /* a set in PEFT: in one order, equal sets compare equal */
    qsort(out->name, (size_t)out->count, sizeof *out->name, by_bytes);
    return GRAFT_OK;
}

static enum graft_status read_pattern(const struct reading *r, const char *key, const json_t *map,
                                      struct pattern_value **out, int *count)
{
    const bool rank = !strcmp(key, "rank_pattern");
    const char *regex;
    json_t *v;
    int n = 0;

    if (!map || schema_is_off(map))
        return GRAFT_OK;
    if (!json_is_object(map))
        return bad_form(r, key, map);
    *out = arena_array(r->mem, json_object_size(map), sizeof **out);
    if (!*out)
        return no_memory(r);
    json_object_foreach((json_t *)map, regex, v)
    {
        if (rank ? !json_is_integer(v) || json_integer_value(v) < 1 : !json_is_number(v))
            return bad(r, key, "\"%s\" has no %s", regex, rank ? "rank from 1" : "number");
        (*out)[n].regex = arena_strdup(r->mem, regex);
        (*out)[n].value = json_number_value(v);
        if (!(*out)[n++].regex)
            return no_memory(r);
    }
    *count = n;
    return GRAFT_OK;
}

static enum graft_status read_layers(const struct reading *r, const json_t *v,
                                     struct adapter_config *c)
{
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;

    if (!v || schema_is_off(v))
        return GRAFT_OK;
    c->layers_to_transform = arena_array(r->mem, n, sizeof *c->layers_to_transform);
    if (!c->layers_to_transform)
        return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;

        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return bad_form(r, "layers_to_transform", v);
        c->layers_to_transform[i] = json_integer_value(item);
    }
    c->layers_to_transform_count = (int)n;
    return GRAFT_OK;
}

static enum graft_status read_init(const struct reading *r, const json_t *v, enum lora_init *out)
{
    const char *s = json_string_value(v);

    *out = LORA_INIT_TRUE;
    if (!v || json_is_true(v))
        return GRAFT_OK;
    if (json_is_false(v))
        *out = LORA_INIT_FALSE;
    else if (s && !strcmp(s, "gaussian"))
        *out = LORA_INIT_GAUSSIAN;
    else if (s && !strcmp(s, "orthogonal") && r->loaded)
        *out = LORA_INIT_ORTHOGONAL;
    else if (s && (!strncmp(s, "pissa_niter_", 12) || !strcmp(s, "orthogonal")))
        return bad(r, "init_lora_weights",
                   "\"%s\" is not supported in this version, true, false or gaussian is", s);
    else
        return bad_form(r, "init_lora_weights", v);
    return GRAFT_OK;
}

/* PEFT's rules between keys (LoraConfig.__post_init__). */
static enum graft_status check_together(const struct reading *r, const struct adapter_config *c)
{
    if (c->lora_dropout >= 1)
        return bad(r, "lora_dropout", "found 1, want a number below 1");
    if (c->target_modules.kind == TARGETS_REGEX && c->layers_to_transform_count)
        return bad(r, "layers_to_transform",
                   "cannot stand beside a regular expression in target_modules, which may name the "
                   "layers itself");
    if (c->layers_pattern_count && !c->layers_to_transform_count)
        return bad(r, "layers_pattern", "needs layers_to_transform beside it");
    if (c->lora_bias && c->init == LORA_INIT_GAUSSIAN)
        return bad(r, "lora_bias", "true does not go with init_lora_weights gaussian");
    return GRAFT_OK;
}

static enum graft_status convert(const struct reading *r, const struct adapter_raw *raw,
                                 struct adapter_config *c)
{
    c->r = raw->r;
    c->lora_alpha = raw->lora_alpha;
    c->lora_dropout = raw->lora_dropout;
    c->use_rslora = raw->use_rslora;
    c->lora_bias = raw->lora_bias;
    c->save_bf16 = raw->save_dtype == 1;
    c->base_model_name_or_path = raw->base_model_name_or_path;
    c->revision = raw->revision;
    GRAFT_TRY(read_targets(r, "target_modules", raw->target_modules, &c->target_modules));
    GRAFT_TRY(read_targets(r, "exclude_modules", raw->exclude_modules, &c->exclude_modules));
    GRAFT_TRY(read_pattern(r, "rank_pattern", raw->rank_pattern, &c->rank_pattern,
                           &c->rank_pattern_count));
    GRAFT_TRY(read_pattern(r, "alpha_pattern", raw->alpha_pattern, &c->alpha_pattern,
                           &c->alpha_pattern_count));
    GRAFT_TRY(read_layers(r, raw->layers_to_transform, c));
    if (raw->layers_pattern && !schema_is_off(raw->layers_pattern))
        GRAFT_TRY(read_names(r, "layers_pattern", raw->layers_pattern, &c->layers_pattern,
                             &c->layers_pattern_count));
    GRAFT_TRY(read_init(r, raw->init_lora_weights, &c->init));
    if (raw->task_type && strcmp(raw->task_type, "CAUSAL_LM") != 0)
        return bad(r, "task_type", "\"%s\" is not supported, only CAUSAL_LM is", raw->task_type);
    return check_together(r, c);
}

static enum graft_status parse_map(const struct reading *r, const json_t *map,
                                   struct adapter_config *out)
{
    struct adapter_config c = { 0 };
    struct adapter_raw raw = { 0 };
    json_t *own = json_copy((json_t *)map); /* json_copy takes no const */
    enum graft_status st = own ? GRAFT_OK : no_memory(r);

    if (!st)
        st = read_method(r, map, &c.method);
    if (!st)
        st = drop_foreign(r, own, c.method);
    if (!st)
        st = schema_fill(r->table, own, r->src, &raw, r->mem, r->err);
    if (!st)
        st = convert(r, &raw, &c);
    json_decref(own);
    if (!st)
        *out = c;
    return st;
}

static void where_file(const struct schema_source *src, const char *path, struct strbuf *out)
{
    (void)path;
    strbuf_puts(out, src->data);
}

/* What stands in an adapter_config.json that is not PEFT's. */
static const char *other_tool(const json_t *map)
{
    if (json_object_get(map, "lora_parameters") || json_object_get(map, "fine_tune_type"))
        return "mlx-lm";
    if (json_object_get(map, "config") && json_object_get(map, "model_class"))
        return "AdapterHub";
    return NULL;
}

static enum graft_status read_file(const char *dir, struct strbuf *path, json_t **out,
                                   struct graft_err *err)
{
    if (file_exists(dir) && !dir_exists(dir))
        return graft_fail(err, GRAFT_EARG, "%s: not a folder with an adapter in it", dir);
    path_join(path, dir, "adapter_config.json");
    if (path->failed)
        return graft_fail_nomem(err, "adapter_config.json", strlen(dir));
    GRAFT_TRY(json_read_file(strbuf_str(path), out, err));
    if (!json_is_object(*out))
        return graft_fail(err, GRAFT_EFORMAT, "%s: not an object of keys", strbuf_str(path));
    if (!json_object_get(*out, "peft_type") && other_tool(*out))
        return graft_fail(err, GRAFT_EFORMAT, "%s: an adapter of %s, not of PEFT's format",
                          strbuf_str(path), other_tool(*out));
    return GRAFT_OK;
}

static enum graft_status read_config(const char *dir, json_t **map, struct strbuf *path,
                                     struct adapter_config *out, struct arena *mem,
                                     struct graft_err *err)
{
    enum graft_status st;

    GRAFT_TRY(read_file(dir, path, map, err));
    {
        const struct schema_source src = { where_file, path->buf };
        const struct reading r = { &adapter_file_keys, &src, true, mem, err };

        st = parse_map(&r, *map, out);
    }
    if (st != GRAFT_EARG)
        return st;
    if (err)
        err->code = GRAFT_EFORMAT; /* the words are the schema's, the fault is the file's */
    return GRAFT_EFORMAT;
}

enum graft_status adapter_config_read(const char *dir, struct adapter_config *out,
                                      struct arena *mem, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    json_t *map = NULL;
    const enum graft_status st = read_config(dir, &map, &path, out, mem, err);

    json_decref(map);
    strbuf_release(&path);
    return st;
}

/* Keys of init_from's file that say nothing about the adapter's form: neither inherited nor
 * compared. */
static bool is_circumstance(const char *key)
{
    static const char *const keys[] = { "inference_mode", "base_model_name_or_path",
                                        "revision",       "task_type",
                                        "peft_version",   "auto_mapping",
                                        "runtime_config" };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i]))
            return true;
    return false;
}

/* Places of a config merged from two: keys given in the config stand there, others in the file. */
struct merged_place {
    const json_t *given;
    const struct schema_source *config;
    const char *file;
};

static void where_merged(const struct schema_source *src, const char *path, struct strbuf *out)
{
    const struct merged_place *m = src->data;
    const char *key = strchr(path, '.');

    if (key && !json_object_get(m->given, key + 1))
        strbuf_puts(out, m->file);
    else
        m->config->where(m->config, path, out);
}

/* Keys given that need not equal the adapter's. all-linear is not comparable with the names it
 * became when the adapter was saved: loading the tensors will tell. */
static bool may_differ(const char *key, const json_t *now)
{
    return !strcmp(key, "lora_dropout") || !strcmp(key, "save_dtype") ||
           !strcmp(key, "init_from") || is_circumstance(key) ||
           (json_is_string(now) && !strcmp(json_string_value(now), "all-linear"));
}

/* Every other key given must say what the adapter says. */
static enum graft_status compare_given(const struct reading *r, json_t *given,
                                       const struct adapter_config *now,
                                       const struct adapter_config *from, const char *dir)
{
    json_t *a = adapter_config_json(now), *b = adapter_config_json(from);
    enum graft_status st = a && b ? GRAFT_OK : no_memory(r);
    const char *key;
    json_t *v;

    json_object_foreach(given, key, v)
    {
        const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
        struct strbuf s = STRBUF_INIT;

        if (st || !x || !y || json_equal(x, y) || may_differ(key, x))
            continue;
        json_write(&s, x);
        strbuf_puts(&s, ", but the adapter in ");
        strbuf_printf(&s, "%s has ", dir);
        json_write(&s, y);
        st = bad(r, key, "%s", strbuf_str(&s));
        strbuf_release(&s);
    }
    json_decref(a);
    json_decref(b);
    return st;
}

/* The file's keys with those given put over them; the caller owns it. */
static json_t *merge_maps(json_t *file, json_t *given)
{
    json_t *all = json_object(), *v;
    const char *key;

    json_object_foreach(file, key, v)
    {
        if (!is_circumstance(key))
            json_object_set(all, key, v);
    }
    return json_object_update(all, given) ? NULL : all;
}

static enum graft_status parse_over(const struct reading *r, json_t *given, const char *dir,
                                    struct adapter_config *out)
{
    struct adapter_config from = { 0 };
    struct strbuf path = STRBUF_INIT;
    json_t *file = NULL, *all = NULL;
    enum graft_status st = read_config(dir, &file, &path, &from, r->mem, r->err);

    if (st)
        st = graft_fail_in(r->err, st, "adapter.init_from");
    if (!st && !(all = merge_maps(file, given)))
        st = no_memory(r);
    if (!st) {
        struct merged_place place = { given, r->src, path.buf };
        const struct schema_source src = { where_merged, &place };
        const struct reading both = { r->table, &src, true, r->mem, r->err };

        st = parse_map(&both, all, out);
    }
    if (!st)
        st = compare_given(r, given, out, &from, dir);
    json_decref(file);
    json_decref(all);
    strbuf_release(&path);
    return st;
}

enum graft_status adapter_config_parse(const json_t *map, const struct schema_source *src,
                                       struct adapter_config *out, struct arena *mem,
                                       struct graft_err *err)
{
    const struct reading r = { &adapter_keys, src, false, mem, err };
    const json_t *from = json_object_get(map, "init_from");
    struct strbuf abs = STRBUF_INIT;
    struct adapter_config c = { 0 };
    enum graft_status st;

    if (!json_is_object(map))
        return schema_found(src, "adapter", map, "a map of keys", err);
    if (!from || json_is_null(from))
        return parse_map(&r, map, out);
    if (!is_text(from))
        return bad_form(&r, "init_from", from);
    path_absolute(&abs, json_string_value(from));
    st =
        parse_over(&r, (json_t *)map, strbuf_str(&abs), &c); /* jansson's iterators take no const */
    if (!st && !(c.init_from = arena_strdup(mem, strbuf_str(&abs))))
        st = no_memory(&r);
    if (!st)
        *out = c;
    strbuf_release(&abs);
    return st;
}
