#include <stdlib.h>
#include <string.h>

#include "peft/config_parts.h"

/* Whose keys adapter_config.json holds. */
static const char PEFT_VERSION[] = "0.21.0";

json_t *config_number(double x)
{
    /* PEFT's lora_alpha is an integer */
    return x == (double)(int64_t)x ? json_integer((int64_t)x) : json_real(x);
}

json_t *config_text(const char *s)
{
    return s ? json_string(s) : json_null();
}

json_t *config_name_list(const char *const *name, int count)
{
    json_t *list = json_array();

    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_string(name[i]));
    return list;
}

json_t *config_target_set(const struct target_set *t)
{
    switch (t->kind) {
    case TARGETS_ALL_LINEAR:
        return json_string("all-linear");
    case TARGETS_REGEX:
        return json_string(t->name[0]);
    case TARGETS_LIST:
        return config_name_list(t->name, t->count);
    case TARGETS_DEFAULT:
        break;
    }
    return json_null();
}

static void put_parts(json_t *o, const struct adapter_config *c)
{
    for (int i = 0; config_parts[i]; i++)
        if (!config_parts[i]->users || schema_lists(config_parts[i]->users, c->method))
            config_parts[i]->put(o, c);
    json_object_set_new(o, "revision", config_text(c->revision));
    json_object_set_new(o, "base_model_name_or_path", config_text(c->base_model_name_or_path));
}

json_t *adapter_config_json(const struct adapter_config *c)
{
    json_t *o = json_object();

    if (!o)
        return NULL;
    json_object_set_new(o, "method", config_text(c->method));
    put_parts(o, c);
    for (int i = 0; config_parts[i]; i++)
        if (config_parts[i]->put_own && schema_lists(config_parts[i]->users, c->method))
            config_parts[i]->put_own(o, c);
    json_object_set_new(o, "init_from", config_text(c->init_from));
    json_object_set_new(o, "save_dtype", json_string(c->save_bf16 ? "bf16" : "f32"));
    return o;
}

static const struct adapter_kind *kind_of(const char *method)
{
    const struct adapter_kind *k = adapter_kinds;

    while (strcmp(k->name, method) != 0)
        k++;
    return k;
}

/* Keys that work at their no-op value only stand in PEFT's files all the same; runtime_config is
 * never written. */
static void put_no_ops(json_t *o, const char *method)
{
    for (size_t i = 0; i < adapter_file_keys.count; i++) {
        const struct key_def *k = &adapter_file_keys.keys[i];
        json_t *v = NULL;

        if (!k->only || !strcmp(k->name, "runtime_config") ||
            (k->users && !schema_lists(k->users, method)))
            continue;
        if (!json_read(k->name, k->only, strlen(k->only), &v, NULL))
            json_object_set_new(o, k->name, v);
    }
    json_object_set_new(o, "auto_mapping", json_null());
    json_object_set_new(o, "inference_mode", json_true());
    json_object_set_new(o, "peft_type", json_string(kind_of(method)->peft_type));
    json_object_set_new(o, "peft_version", json_string(PEFT_VERSION));
    json_object_set_new(o, "task_type", json_string("CAUSAL_LM"));
}

/* One value as json.dumps(indent=2) writes it a level deep; maps keep their order. */
static void put_value(const json_t *v, struct strbuf *out)
{
    const bool map = json_is_object(v);
    const char *key;
    json_t *item;
    size_t i, n = 0;

    if ((!map && !json_is_array(v)) || schema_is_off(v)) {
        json_write(out, v);
        return;
    }
    strbuf_puts(out, map ? "{" : "[");
    json_object_foreach((json_t *)v, key, item)
    {
        json_t *name = json_string(key);

        strbuf_puts(out, n++ ? ",\n    " : "\n    ");
        json_write(out, name);
        strbuf_puts(out, ": ");
        json_write(out, item);
        json_decref(name);
    }
    json_array_foreach(v, i, item)
    {
        strbuf_puts(out, i ? ",\n    " : "\n    ");
        json_write(out, item);
    }
    strbuf_puts(out, map ? "\n  }" : "\n  ]");
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_sorted(json_t *o, struct strbuf *out)
{
    const size_t n = json_object_size(o);
    const char **keys = mem_array(n, sizeof *keys), *key;
    json_t *v;
    size_t i = 0;

    if (!keys) {
        out->failed = true;
        return;
    }
    json_object_foreach(o, key, v) keys[i++] = key;
    qsort(keys, n, sizeof *keys, by_bytes);
    for (i = 0; i < n; i++) {
        strbuf_printf(out, "%s\n  \"%s\": ", i ? "," : "{", keys[i]);
        put_value(json_object_get(o, keys[i]), out);
    }
    strbuf_puts(out, "\n}\n");
    mem_free(keys);
}

enum graft_status adapter_config_write(const struct adapter_config *c, const char *const *target,
                                       int count, struct strbuf *out, struct graft_err *err)
{
    json_t *o = json_object();

    if (!o)
        return graft_fail_nomem(err, "adapter_config.json", 4096);
    put_no_ops(o, c->method);
    put_parts(o, c);
    if (c->prompt.placeholder)
        json_object_set_new(o, "peft_type", json_string(PLACED_P_TUNING));
    else
        json_object_del(o, "placeholder"); /* no key of PEFT's */
    if (target)
        json_object_set_new(o, "target_modules", config_name_list(target, count));
    put_sorted(o, out);
    json_decref(o);
    return out->failed ? graft_fail_nomem(err, "adapter_config.json", out->len) : GRAFT_OK;
}
