#include "train/config.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "data/dataset.h"
#include "train/config_raw.h"
#include "train/yaml.h"

static const double WEIGHT_MAX = 1e6;

/* One config on its way into the struct. */
struct loading {
    const struct schema_source *src;
    struct run_config *c;
    struct graft_err *err;
};

static enum graft_status no_memory(const struct loading *l)
{
    return graft_fail_nomem(l->err, "a config", 1024);
}

/* "found X, want WHAT" for a value whose form the tables cannot say. */
static enum graft_status bad_form(const struct loading *l, const char *path, const json_t *v)
{
    return schema_found(l->src, path, v, schema_key(&config_keys, path)->form, l->err);
}

static enum graft_status keep_path(const struct loading *l, const char *path, const char **out)
{
    struct strbuf abs = STRBUF_INIT;

    *out = NULL;
    if (!path)
        return GRAFT_OK;
    path_absolute(&abs, path);
    if (!abs.failed)
        *out = arena_strdup(&l->c->mem, strbuf_str(&abs));
    strbuf_release(&abs);
    return *out ? GRAFT_OK : no_memory(l);
}

/* The same of a key that has no use for an empty text, which would be the folder one stands in. */
static enum graft_status keep_named(const struct loading *l, const json_t *root, const char *key,
                                    const char *path, const char **out)
{
    return path && !*path ? bad_form(l, key, json_object_get(root, key)) : keep_path(l, path, out);
}

bool config_splits(const struct data_config *d)
{
    return d->valid_share > 0 || d->valid_number > 0;
}

bool config_has_valid(const struct data_config *d)
{
    return d->valid || config_splits(d);
}

static bool is_text(const json_t *v)
{
    return json_is_string(v) && json_string_length(v) > 0 &&
           strlen(json_string_value(v)) == json_string_length(v);
}

static enum graft_status read_format(const struct loading *l, const char *path, const json_t *v,
                                     enum record_format *out)
{
    static const char path_format[] = "data.format";
    const struct key_def *k = schema_key(&config_keys, path_format);
    struct strbuf want = STRBUF_INIT;

    for (int i = 0; json_is_string(v) && i < RECORD_FORMAT_COUNT; i++)
        if (!strcmp(record_format_names[i], json_string_value(v))) {
            *out = (enum record_format)i;
            return GRAFT_OK;
        }
    schema_want(k, &want);
    schema_found(l->src, path, v, strbuf_str(&want), l->err);
    strbuf_release(&want);
    return GRAFT_EARG;
}

/* A member {path, format, weight} of the list data.train. */
static enum graft_status read_train_map(const struct loading *l, const char *path, json_t *v,
                                        const char **file, enum record_format *format,
                                        double *weight)
{
    const char *key;
    json_t *item;

    json_object_foreach(v, key, item)
    {
        if (strcmp(key, "path") != 0 && strcmp(key, "format") != 0 && strcmp(key, "weight") != 0)
            return schema_fail(l->src, path, l->err,
                               "unknown key \"%s\", there are path, format and weight", key);
    }
    item = json_object_get(v, "weight");
    *weight = item ? json_number_value(item) : 1;
    if (!(*weight > 0 && *weight <= WEIGHT_MAX))
        return schema_found(l->src, path, item,
                            "a weight above 0, at most 1e6: times a record is drawn an epoch",
                            l->err);
    item = json_object_get(v, "format");
    if (item)
        GRAFT_TRY(read_format(l, path, item, format));
    item = json_object_get(v, "path");
    if (!is_text(item))
        return schema_fail(l->src, path, l->err, "a map needs the path of a JSONL file");
    return keep_path(l, json_string_value(item), file);
}

static enum graft_status read_train_files(const struct loading *l, const struct raw_data *raw)
{
    struct data_config *d = &l->c->data;
    const json_t *v = raw->train;
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    char path[40];

    if (!v || !n)
        return v ? bad_form(l, "data.train", v)
                 : schema_fail(l->src, "data.train", l->err, "missing, want " DATA_FORM);
    d->train = arena_array(&l->c->mem, n, sizeof *d->train);
    d->train_format = arena_array(&l->c->mem, n, sizeof *d->train_format);
    d->train_weight = arena_array(&l->c->mem, n, sizeof *d->train_weight);
    if (!d->train || !d->train_format || !d->train_weight)
        return no_memory(l);
    for (size_t i = 0; i < n; i++) {
        json_t *item = json_is_array(v) ? json_array_get(v, i) : (json_t *)v;

        snprintf(path, sizeof path, json_is_array(v) ? "data.train.%zu" : "data.train", i);
        d->train_format[i] = d->format;
        d->train_weight[i] = 1;
        if (json_is_object(item))
            GRAFT_TRY(read_train_map(l, path, item, &d->train[i], &d->train_format[i],
                                     &d->train_weight[i]));
        else if (is_text(item))
            GRAFT_TRY(keep_path(l, json_string_value(item), &d->train[i]));
        else
            return bad_form(l, "data.train", item);
    }
    d->train_count = (int)n;
    return GRAFT_OK;
}

/* A built-in template by name, or a file: what looks like a path is one. */
static enum graft_status read_template(const struct loading *l, const struct raw_data *raw)
{
    struct data_config *d = &l->c->data;
    const char *names[32], *near, *given = raw->template_name;
    size_t n = 0;

    d->template_name = given;
    names[n++] = "auto";
    for (const struct chat_builtin *b = chat_builtins; b->name; b++)
        names[n++] = b->name;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(names[i], given))
            return GRAFT_OK;
    if (strchr(given, '/') || strstr(given, ".jinja") || file_exists(given))
        return keep_path(l, given, &d->template_name);
    near = nearest_name(given, names, n);
    return schema_fail(l->src, "data.template", l->err, "found \"%.60s\", want %s%s%s%s", given,
                       schema_key(&config_keys, "data.template")->form,
                       near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static enum graft_status read_chat(const struct loading *l, const struct raw_data *raw)
{
    struct data_config *d = &l->c->data;

    GRAFT_TRY(read_template(l, raw));
    d->train_on_last = raw->train_on == 1;
    d->template_date = raw->template_date;
    if (d->template_date && chat_date_check(d->template_date, NULL))
        return schema_fail(l->src, "data.template_date", l->err,
                           "found \"%.40s\", want a date, YYYY-MM-DD", d->template_date);
    if (d->train_on_last && !d->mask_prompt)
        return schema_fail(l->src, "data.train_on", l->err,
                           "last learns one answer alone, but mask_prompt: false learns the whole "
                           "conversation; leave one out");
    return GRAFT_OK;
}

static enum graft_status read_valid(const struct loading *l, const json_t *v)
{
    struct data_config *d = &l->c->data;

    if (json_is_integer(v) && json_integer_value(v) > 0)
        d->valid_number = json_integer_value(v);
    else if (json_is_real(v) && json_real_value(v) > 0 && json_real_value(v) < 1)
        d->valid_share = json_real_value(v);
    else if (v && !is_text(v))
        return bad_form(l, "data.valid", v);
    return keep_path(l, json_string_value(v), &d->valid);
}

static enum graft_status read_data(const struct loading *l, const struct raw_data *raw)
{
    struct data_config *d = &l->c->data;

    d->format = (enum record_format)raw->format;
    d->mask_prompt = raw->mask_prompt;
    d->packing = raw->packing;
    d->shuffle = raw->shuffle;
    d->max_length = raw->max_length;
    GRAFT_TRY(read_valid(l, raw->valid));
    GRAFT_TRY(read_chat(l, raw));
    return read_train_files(l, raw);
}

bool config_size_parse(const char *s, int64_t *out)
{
    static const char letters[] = "KMGT";
    double unit = 1, x;
    const char *at;
    char *end;

    x = strtod(s, &end);
    if (end == s)
        return false;
    while (*end == ' ')
        end++;
    at = *end ? strchr(letters, *end & ~0x20) : NULL;
    if (at && (!strcmp(end + 1, "iB") || !strcmp(end + 1, "B")))
        unit = pow(end[1] == 'i' ? 1024 : 1000, (double)(at - letters + 1));
    else if (*end && strcmp(end, "B") != 0)
        return false;
    if (!(x * unit >= 1 && x * unit < 9e18))
        return false;
    *out = (int64_t)(x * unit);
    return true;
}

static bool read_size(const json_t *v, int64_t *out)
{
    if (json_is_string(v))
        return config_size_parse(json_string_value(v), out);
    *out = json_integer_value(v);
    return json_is_integer(v) && *out >= 1;
}

static enum graft_status read_train(const struct loading *l, const struct raw_train *raw)
{
    struct train_config *t = &l->c->train;

    t->steps = raw->steps;
    t->batch_size = raw->batch_size;
    t->gradient_accumulation = raw->gradient_accumulation;
    t->seed = raw->seed;
    t->log_every = raw->log_every;
    t->eval_every = raw->eval_every;
    t->keep_best = raw->keep_best;
    t->keep_last = 2;
    if (raw->epochs && !(json_is_number(raw->epochs) && json_number_value(raw->epochs) > 0 &&
                         json_number_value(raw->epochs) <= 1e9))
        return bad_form(l, "train.epochs", raw->epochs);
    if (raw->epochs && raw->steps)
        return schema_fail(l->src, "train.steps", l->err,
                           "steps and epochs both say how long the run is, leave one out: "
                           "-s train.steps=null or -s train.epochs=null");
    t->epochs = raw->steps ? 0 : raw->epochs ? json_number_value(raw->epochs) : 1;
    if (t->eval_every && !config_has_valid(&l->c->data))
        return schema_fail(l->src, "train.eval_every", l->err, "needs data.valid beside it");
    if (raw->memory &&
        (!json_is_string(raw->memory) || strcmp(json_string_value(raw->memory), "auto")) &&
        !read_size(raw->memory, &t->memory))
        return bad_form(l, "train.memory", raw->memory);
    return GRAFT_OK;
}

static enum graft_status read_optim(const struct loading *l, const struct raw_optim *raw)
{
    struct optim_config *o = &l->c->optim;
    double *beta[2] = { &o->beta1, &o->beta2 };

    *o = raw->o;
    o->beta1 = 0.9;
    o->beta2 = 0.999;
    if (raw->betas && json_array_size(raw->betas) != 2)
        return bad_form(l, "optim.betas", raw->betas);
    for (size_t i = 0; raw->betas && i < 2; i++) {
        const json_t *b = json_array_get(raw->betas, i);

        *beta[i] = json_number_value(b);
        if (!json_is_number(b) || !(*beta[i] >= 0 && *beta[i] < 1))
            return bad_form(l, "optim.betas", raw->betas);
    }
    if (o->warmup >= 1 && o->warmup != floor(o->warmup))
        return schema_fail(l->src, "optim.warmup", l->err,
                           "found %g, want a share below 1 or a whole number of steps", o->warmup);
    if (o->min_lr > o->lr)
        return schema_fail(l->src, "optim.min_lr", l->err, "%g is above lr, which is %g", o->min_lr,
                           o->lr);
    return GRAFT_OK;
}

enum graft_status device_check(const char *place, const char *name, struct graft_err *err)
{
    if (!strcmp(name, "auto") || !strcmp(name, "cpu"))
        return GRAFT_OK;
    if (!strcmp(name, "cuda") || !strncmp(name, "cuda:", 5))
        return graft_fail(err, GRAFT_EARG,
                          "%s: \"%s\" is not supported in this version, auto or cpu is", place,
                          name);
    return graft_fail(err, GRAFT_EARG, "%s: found \"%s\", want auto or cpu", place, name);
}

static enum graft_status read_device(const struct loading *l, const char *name)
{
    struct strbuf place = STRBUF_INIT;
    enum graft_status st;

    l->src->where(l->src, "device", &place);
    strbuf_puts(&place, ": device");
    st = device_check(strbuf_str(&place), name, l->err);
    strbuf_release(&place);
    l->c->device = strcmp(name, "cpu") == 0 ? "cpu" : "auto";
    return st;
}

/* A key of `adapter:` that belongs to another section, before the adapter's own parser wonders. */
static enum graft_status check_adapter_names(const struct loading *l, json_t *adapter)
{
    /* no rows of its own: the place is the adapter's, the hint the whole config's */
    static const struct key_table elsewhere = { "adapter", NULL, 0, &config_keys, false };
    const char *key;
    json_t *v;

    json_object_foreach(adapter, key, v)
    {
        if (!schema_key(&adapter_keys, key) && !schema_is_off(v) &&
            schema_names_key(&config_keys, key))
            return schema_unknown(&elsewhere, key, l->src, l->err);
    }
    return GRAFT_OK;
}

static enum graft_status read_adapter(const struct loading *l, const json_t *map)
{
    struct run_config *c = l->c;
    const char *name;

    if (json_is_object(map))
        GRAFT_TRY(check_adapter_names(l, (json_t *)map));
    GRAFT_TRY(adapter_config_parse(map, l->src, &c->adapter, &c->mem, l->err));
    name = c->adapter.base_model_name_or_path;
    if (c->base_name && name && strcmp(c->base_name, name) != 0)
        return schema_fail(l->src, "adapter.base_model_name_or_path", l->err,
                           "\"%s\", but base_name says \"%s\"", name, c->base_name);
    if (!c->base_name)
        c->base_name = name;
    c->adapter.base_model_name_or_path = c->base_name;
    if (adapter_is_whole(&c->adapter) && c->quant.mode == QUANT_TYPE)
        return schema_fail(
            l->src, "quant", l->err,
            "adapter.method %s trains every weight, which takes floats: leave it out",
            c->adapter.method);
    return GRAFT_OK;
}

/* What is wrong is told together, so that a config is put right in one go. */
static enum graft_status read_all(const struct loading *l, const json_t *root, bool need_output)
{
    struct raw_config raw = { 0 };
    struct run_config *c = l->c;
    struct graft_err one;
    const struct loading each = { l->src, c, &one };
    enum graft_status st = schema_fill(&config_keys, root, l->src, &raw, &c->mem, l->err);

    if (st && raw.adapter)
        st = graft_fail_also(l->err, st, read_adapter(&each, raw.adapter), &one);
    GRAFT_TRY(st);
    GRAFT_TRY(keep_named(l, root, "base", raw.base, &c->base));
    GRAFT_TRY(keep_named(l, root, "output", raw.output, &c->output));
    c->base_name = raw.base_name;
    c->compute = raw.compute;
    c->threads = raw.threads;
    st = quant_config_read(raw.quant, l->src, &c->quant, l->err);
    st = graft_fail_also(l->err, st, read_device(&each, raw.device), &one);
    st = graft_fail_also(l->err, st, read_adapter(&each, raw.adapter), &one);
    st = graft_fail_also(l->err, st, read_data(&each, &raw.data), &one);
    st = graft_fail_also(l->err, st, read_train(&each, &raw.train), &one);
    st = graft_fail_also(l->err, st, read_optim(&each, &raw.optim), &one);
    GRAFT_TRY(st);
    if (need_output && !c->output)
        return schema_fail(l->src, "output", l->err,
                           "missing, want the path of a folder here or with -o");
    return GRAFT_OK;
}

/* Removing a key that does not exist is a slip like any other. */
static enum graft_status check_removed(const char *path, const char *place, struct yaml_doc *doc,
                                       struct graft_err *err)
{
    const struct key_table *table = &config_keys;
    const struct schema_source src = yaml_source(doc);
    const char *dot = strchr(path, '.');
    char first[32];

    if (schema_key(table, path))
        return GRAFT_OK;
    if (dot && dot - path < (ptrdiff_t)sizeof first) {
        const struct key_def *k;

        memcpy(first, path, (size_t)(dot - path));
        first[dot - path] = '\0';
        k = schema_key(table, first);
        if (k && k->table) {
            table = k->table;
            path = dot + 1;
        }
    }
    schema_unknown(table, path, &src, err);
    return graft_fail_in(err, GRAFT_EARG, "%s", place);
}

/* One -s KEY=VALUE. The texts of places live in `mem`. */
static enum graft_status apply_set(struct yaml_doc *doc, const char *arg, struct arena *mem,
                                   struct graft_err *err)
{
    const char *eq = strchr(arg, '='), *place = arena_printf(mem, "-s %s", arg), *key;
    json_t *v = NULL;

    if (!place)
        return graft_fail_nomem(err, "-s", strlen(arg));
    if (!eq || eq == arg)
        return graft_fail(err, GRAFT_EARG, "%s: want KEY=VALUE", place);
    key = arena_strndup(mem, arg, (size_t)(eq - arg));
    if (!key)
        return graft_fail_nomem(err, "-s", strlen(arg));
    GRAFT_TRY(yaml_parse_value(place, eq + 1, &v, err));
    if (json_is_null(v)) {
        const enum graft_status st = check_removed(key, place, doc, err);

        if (st) {
            json_decref(v);
            return st;
        }
    }
    return yaml_set(doc, key, v, place, err);
}

static enum graft_status apply_option(struct yaml_doc *doc, const char *key, const char *option,
                                      json_t *value, struct arena *mem, struct graft_err *err)
{
    const char *place = arena_printf(mem, "%s", option);

    if (place && value)
        return yaml_set(doc, key, value, place, err);
    json_decref(value);
    return graft_fail_nomem(err, option, 64);
}

static enum graft_status apply_overrides(const struct config_input *in, struct yaml_doc *doc,
                                         struct arena *mem, struct graft_err *err)
{
    for (int i = 0; i < in->set_count; i++)
        GRAFT_TRY(apply_set(doc, in->set[i], mem, err));
    if (in->output)
        GRAFT_TRY(apply_option(doc, "output", "-o", json_string(in->output), mem, err));
    if (in->device)
        GRAFT_TRY(apply_option(doc, "device", "--device", json_string(in->device), mem, err));
    if (in->threads)
        GRAFT_TRY(apply_option(doc, "threads", "--threads", json_integer(in->threads), mem, err));
    return GRAFT_OK;
}

static enum graft_status load_doc(const struct config_input *in, struct yaml_doc *doc,
                                  struct arena *places, struct run_config *c, struct graft_err *err)
{
    const struct schema_source src = yaml_source(doc);
    const struct loading l = { &src, c, err };

    GRAFT_TRY(apply_overrides(in, doc, places, err));
    if (!json_is_null(doc->root) && !json_is_object(doc->root))
        return graft_fail(err, GRAFT_EARG, "%s: not a map of keys", in->file);
    return read_all(&l, json_is_null(doc->root) ? NULL : doc->root, in->need_output);
}

enum graft_status config_load(const struct config_input *in, struct run_config *out,
                              struct graft_err *err)
{
    struct run_config c = { 0 };
    struct arena places = ARENA_INIT;
    struct strbuf text = STRBUF_INIT;
    struct yaml_doc doc = { 0 };
    enum graft_status st = file_read(in->file, YAML_FILE_LIMIT, &text, err);

    if (!st)
        st = yaml_parse(in->file, strbuf_str(&text), text.len, &doc, err);
    if (!st)
        st = load_doc(in, &doc, &places, &c, err);
    yaml_doc_release(&doc);
    strbuf_release(&text);
    arena_release(&places);
    if (st)
        run_config_release(&c);
    else
        *out = c;
    return st;
}

void run_config_release(struct run_config *c)
{
    arena_release(&c->mem);
    memset(c, 0, sizeof *c);
}
