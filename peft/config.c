#include "peft/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "peft/config_parts.h"

const struct config_part *const config_parts[] = {
    &targets_part,     &lora_part,       &variant_part, &ia3_part,   &layers_part,
    &prompt_part,      &bottleneck_part, &rosa_part,    &saved_part, &copies_part,
    &last_layers_part, &lpft_part,       NULL
};

static const char *key_path(const struct reading *r, const char *key, struct strbuf *out)
{
    strbuf_printf(out, "%s%s%s", r->table->section, *r->table->section ? "." : "", key);
    return strbuf_str(out);
}

enum graft_status config_bad(const struct reading *r, const char *key, const char *fmt, ...)
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

enum graft_status config_bad_form(const struct reading *r, const char *key, const json_t *v)
{
    struct strbuf path = STRBUF_INIT, want = STRBUF_INIT;

    schema_want(schema_key(r->table, key), &want);
    schema_found(r->src, key_path(r, key, &path), v, strbuf_str(&want), r->err);
    strbuf_release(&path);
    strbuf_release(&want);
    return GRAFT_EARG;
}

enum graft_status config_no_memory(const struct reading *r)
{
    return graft_fail_nomem(r->err, "an adapter's config", 1024);
}

bool config_is_text(const json_t *v)
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

/* The methods that work, as `method` or `peft_type` has them: "lora, dora or ia3". */
static const char *working_kinds(bool by_type, struct strbuf *out)
{
    const char *last = NULL, *before = NULL;

    for (const struct adapter_kind *k = adapter_kinds; k->name; k++) {
        const char *name = by_type ? k->peft_type : k->name;

        if (!k->works || !name || (last && !strcmp(name, last)))
            continue;
        if (before)
            strbuf_printf(out, "%s, ", before);
        before = last;
        last = name;
    }
    if (before)
        strbuf_printf(out, "%s or ", before);
    strbuf_puts(out, last);
    return strbuf_str(out);
}

static enum graft_status refuse_kind(const struct reading *r, const char *key, const char *name)
{
    struct strbuf works = STRBUF_INIT;

    working_kinds(!strcmp(key, "peft_type"), &works);
    config_bad(r, key, "\"%s\" is not supported in this version; want %s", name,
               strbuf_str(&works));
    strbuf_release(&works);
    return GRAFT_EARG;
}

/* The kind that `method` or `peft_type` names. */
static enum graft_status find_kind(const struct reading *r, const char *key, const json_t *v,
                                   const struct adapter_kind **out)
{
    const bool by_type = !strcmp(key, "peft_type");
    struct strbuf works = STRBUF_INIT;
    const char *names[32], *near;
    size_t n = 0;

    for (const struct adapter_kind *k = adapter_kinds; k->name; k++) {
        const char *name = by_type ? k->peft_type : k->name;

        if (!name)
            continue;
        names[n++] = name;
        if (!json_is_string(v) || strcmp(name, json_string_value(v)) != 0)
            continue;
        *out = k;
        return k->works ? GRAFT_OK : refuse_kind(r, key, name);
    }
    if (by_type && json_is_string(v) && is_peft_type(json_string_value(v)))
        return refuse_kind(r, key, json_string_value(v));
    near = json_is_string(v) ? nearest_name(json_string_value(v), names, n) : NULL;
    working_kinds(by_type, &works);
    if (near)
        config_bad(r, key, "found \"%s\", did you mean \"%s\"? There are %s", json_string_value(v),
                   near, strbuf_str(&works));
    else
        schema_found(r->src,
                     *r->table->section ? (by_type ? "adapter.peft_type" : "adapter.method") : key,
                     v, strbuf_str(&works), r->err);
    strbuf_release(&works);
    return GRAFT_EARG;
}

/* LoRA with use_dora is a method of its own here. */
static enum graft_status tell_dora(const struct reading *r, const json_t *use_dora,
                                   const struct adapter_kind **kind)
{
    const bool on = json_is_true(use_dora), named = !strcmp((*kind)->name, "dora");

    if (named && use_dora && !on)
        return config_bad(r, "use_dora", "false, but method says \"dora\"");
    if (!on || named)
        return GRAFT_OK;
    if (strcmp((*kind)->name, "lora") != 0)
        return config_bad(r, "use_dora", "%s has no use for it, it belongs to lora", (*kind)->name);
    while (strcmp((*kind)->name, "dora") != 0)
        (*kind)++; /* its row stands behind that of lora */
    return (*kind)->works
               ? GRAFT_OK
               : config_bad(r, "use_dora",
                            "true is the method dora, which is not supported in this version");
}

static enum graft_status read_method(const struct reading *r, const json_t *map, const char **out)
{
    const json_t *method = json_object_get(map, "method"),
                 *type = json_object_get(map, "peft_type");
    const struct adapter_kind *a = NULL, *b = NULL;
    const bool by_type = !*r->table->section;

    if (method && !json_is_null(method))
        GRAFT_TRY(find_kind(r, "method", method, &a));
    if (type && !json_is_null(type))
        GRAFT_TRY(find_kind(r, "peft_type", type, &b));
    if (!a && !b) {
        struct strbuf works = STRBUF_INIT;

        config_bad(r, by_type ? "peft_type" : "method", "missing, want %s",
                   working_kinds(by_type, &works));
        strbuf_release(&works);
        return GRAFT_EARG;
    }
    if (a && b && strcmp(a->name, b->name) != 0 &&
        (!a->peft_type || strcmp(a->peft_type, b->peft_type) != 0))
        return config_bad(r, "method", "\"%s\", but peft_type says \"%s\"", a->name, b->peft_type);
    a = a ? a : b;
    GRAFT_TRY(tell_dora(r, json_object_get(map, "use_dora"), &a));
    *out = a->name;
    return GRAFT_OK;
}

/* Is the name another tool's for a key that the method has? Then the hint to that key is better. */
static bool is_other_name(const struct key_table *t, const char *method, const char *name)
{
    for (size_t i = 0; i < t->count; i++)
        if (schema_lists(t->keys[i].others, name) && schema_lists(t->keys[i].users, method))
            return true;
    return false;
}

/* Does the value ask for something? */
static bool asks(const json_t *v, const char *dflt)
{
    const char *word = json_string_value(v); /* a default may be one, without quotes */

    return v && !schema_is_off(v) &&
           !(dflt && ((word && !strcmp(word, dflt)) || schema_is(dflt, v)));
}

/* Take other methods' keys out of `map`, refusing those that ask for something: PEFT writes every
 * key of a family, whatever is used. */
static enum graft_status drop_key(const struct reading *r, json_t *map, const char *method,
                                  const char *key, const char *dflt, const char *users)
{
    const json_t *v = json_object_get(map, key);

    if (asks(v, dflt) && is_other_name(r->table, method, key))
        return GRAFT_OK; /* unknown to the method, which says so */
    if (asks(v, dflt))
        return config_bad(r, key, "%s has no use for it, it belongs to %s", method, users);
    if (v)
        json_object_del(map, key);
    return GRAFT_OK;
}

static enum graft_status drop_foreign(const struct reading *r, json_t *map, const char *method)
{
    for (const struct foreign_key *f = foreign_keys; f->name; f++)
        GRAFT_TRY(drop_key(r, map, method, f->name, f->dflt, f->methods));
    for (size_t i = 0; i < r->table->count; i++) {
        const struct key_def *k = &r->table->keys[i];

        if (k->users && !schema_lists(k->users, method))
            GRAFT_TRY(drop_key(r, map, method, k->name, k->dflt, k->users));
    }
    return GRAFT_OK;
}

/* What every method has. */
static enum graft_status read_common(const struct reading *r, const struct adapter_raw *raw,
                                     struct adapter_config *c)
{
    c->save_bf16 = raw->save_dtype == 1;
    c->base_model_name_or_path = raw->base_model_name_or_path;
    c->revision = raw->revision;
    if (raw->task_type && strcmp(raw->task_type, "CAUSAL_LM") != 0)
        return config_bad(r, "task_type", "\"%s\" is not supported, only CAUSAL_LM is",
                          raw->task_type);
    return GRAFT_OK;
}

static enum graft_status read_parts(const struct reading *r, const struct adapter_raw *raw,
                                    struct adapter_config *c)
{
    GRAFT_TRY(read_common(r, raw, c));
    for (int i = 0; config_parts[i]; i++)
        if (!config_parts[i]->users || schema_lists(config_parts[i]->users, c->method))
            GRAFT_TRY(config_parts[i]->read(r, raw, c));
    return GRAFT_OK;
}

static enum graft_status parse_map(const struct reading *all, const json_t *map,
                                   struct adapter_config *out)
{
    struct adapter_config c = { 0 };
    struct adapter_raw raw = { 0 };
    struct reading r = *all;
    struct key_table own_keys;
    json_t *own = json_copy((json_t *)map); /* json_copy takes no const */
    enum graft_status st = own ? GRAFT_OK : config_no_memory(all);

    if (!st)
        st = read_method(all, map, &c.method);
    if (!st)
        st = drop_foreign(all, own, c.method);
    if (!st)
        st = schema_for(all->table, c.method, r.mem, &own_keys, r.err);
    r.table = &own_keys;
    if (!st)
        st = schema_fill(r.table, own, r.src, &raw, r.mem, r.err);
    if (!st)
        st = read_parts(&r, &raw, &c);
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
    if (dir_exists(dir) && !file_exists(strbuf_str(path)))
        return graft_fail(err, GRAFT_EIO,
                          "%s: no adapter in PEFT's format: there is no adapter_config.json in it",
                          dir);
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
                                        "runtime_config", "mask_load_path",
                                        "mask_save_path", "terminate_after_mask_generation" };

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

/* Keys that say how a run goes on, not what the adapter is. */
static bool is_course(const char *key)
{
    static const char list[] = "save_dtype, init_from, loraplus_lr_ratio, spa_lr_ratio, "
                               "schedule, spa_num_grads, grad_acc_mode";

    return schema_lists(list, key) || is_circumstance(key);
}

/* Keys given that need not equal the adapter's. all-linear is not comparable with the names it
 * became when the adapter was saved: loading the tensors will tell. */
static bool may_differ(const char *key, const json_t *now)
{
    return strstr(key, "dropout") || is_course(key) ||
           (json_is_string(now) && !strcmp(json_string_value(now), "all-linear"));
}

/* Every other key given must say what the adapter says. */
static enum graft_status compare_given(const struct reading *r, json_t *given,
                                       const struct adapter_config *now,
                                       const struct adapter_config *from, const char *dir)
{
    json_t *a = adapter_config_json(now), *b = adapter_config_json(from);
    enum graft_status st = a && b ? GRAFT_OK : config_no_memory(r);
    const char *key;
    json_t *v;

    json_object_foreach(given, key, v)
    {
        const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
        struct strbuf s = STRBUF_INIT;

        /* lora with the file's use_dora is dora, which is not what was asked for */
        if (!strcmp(key, "method") && !json_object_get(given, "use_dora"))
            x = v;
        if (st || json_is_null(v) || !x || !y || json_equal(x, y) || may_differ(key, x))
            continue;
        json_write(&s, x);
        strbuf_puts(&s, ", but the adapter in ");
        strbuf_printf(&s, "%s has ", dir);
        json_write(&s, y);
        st = config_bad(r, key, "%s", strbuf_str(&s));
        strbuf_release(&s);
    }
    json_decref(a);
    json_decref(b);
    return st;
}

/* The file's keys with those given put over them, of which null says nothing; the caller owns it.
 */
static json_t *merge_maps(json_t *file, json_t *given)
{
    json_t *all = json_object(), *v;
    const char *key;

    json_object_foreach(file, key, v)
    {
        if (!is_circumstance(key))
            json_object_set(all, key, v);
    }
    json_object_foreach(given, key, v)
    {
        if (!json_is_null(v))
            json_object_set(all, key, v);
    }
    return all;
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
        st = config_no_memory(r);
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

/* lpft's first stage is a head's training, which may go on from one. */
static enum graft_status parse_probe(const struct reading *r, const json_t *map, const char *dir,
                                     struct adapter_config *out)
{
    struct adapter_config from = { 0 };
    struct strbuf path = STRBUF_INIT;
    json_t *file = NULL;
    enum graft_status st = read_config(dir, &file, &path, &from, r->mem, r->err);

    if (st)
        st = graft_fail_in(r->err, st, "adapter.init_from");
    else if (strcmp(from.method, "head") != 0)
        st = config_bad(r, "init_from",
                        "lpft trains the head first and goes on from a head adapter alone, %s is "
                        "one of %s; full starts from any adapter that can be merged",
                        dir, from.method);
    json_decref(file);
    strbuf_release(&path);
    return st ? st : parse_map(r, map, out);
}

static bool is_method(const json_t *map, const char *name)
{
    const char *method = json_string_value(json_object_get(map, "method"));

    return method && !strcmp(method, name);
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
    if (!config_is_text(from))
        return config_bad_form(&r, "init_from", from);
    path_absolute(&abs, json_string_value(from));
    if (is_method(map, "lpft"))
        st = parse_probe(&r, map, strbuf_str(&abs), &c);
    else if (is_method(map, "full")) /* whose keys say nothing about a whole model */
        st = parse_map(&r, map, &c);
    else
        st = parse_over(&r, (json_t *)map, strbuf_str(&abs), &c); /* jansson takes no const */
    if (!st && !(c.init_from = arena_strdup(mem, strbuf_str(&abs))))
        st = config_no_memory(&r);
    if (!st)
        *out = c;
    strbuf_release(&abs);
    return st;
}
