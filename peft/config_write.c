#include <stdlib.h>
#include <string.h>

#include "peft/config.h"

/* Whose keys adapter_config.json holds. */
static const char PEFT_VERSION[] = "0.21.0";

/* 8, not 8.0, where the number is whole: PEFT's lora_alpha is an integer. */
static json_t *number(double x)
{
    return x == (double)(int64_t)x ? json_integer((int64_t)x) : json_real(x);
}

static json_t *text(const char *s)
{
    return s ? json_string(s) : json_null();
}

static json_t *names(const char *const *name, int count)
{
    json_t *list = json_array();

    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_string(name[i]));
    return list;
}

static json_t *targets(const struct target_set *t)
{
    switch (t->kind) {
    case TARGETS_ALL_LINEAR:
        return json_string("all-linear");
    case TARGETS_REGEX:
        return json_string(t->name[0]);
    case TARGETS_LIST:
        return names((const char *const *)t->name, t->count);
    case TARGETS_DEFAULT:
        break;
    }
    return json_null();
}

static json_t *pattern(const struct pattern_value *p, int count)
{
    json_t *map = json_object();

    for (int i = 0; i < count; i++)
        json_object_set_new(map, p[i].regex, number(p[i].value));
    return map;
}

static json_t *layers(const struct adapter_config *c)
{
    json_t *list;

    if (!c->layers_to_transform_count)
        return json_null();
    list = json_array();
    for (int i = 0; i < c->layers_to_transform_count; i++)
        json_array_append_new(list, json_integer(c->layers_to_transform[i]));
    return list;
}

static json_t *init(enum lora_init kind)
{
    switch (kind) {
    case LORA_INIT_GAUSSIAN:
        return json_string("gaussian");
    case LORA_INIT_ORTHOGONAL:
        return json_string("orthogonal");
    case LORA_INIT_FALSE:
        return json_false();
    case LORA_INIT_TRUE:
        break;
    }
    return json_true();
}

/* The keys of LoRA that work, which a config and adapter_config.json share. */
static void put_lora(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "r", json_integer(c->r));
    json_object_set_new(o, "lora_alpha", number(c->lora_alpha));
    json_object_set_new(o, "lora_dropout", json_real(c->lora_dropout));
    json_object_set_new(o, "use_rslora", json_boolean(c->use_rslora));
    json_object_set_new(o, "target_modules", targets(&c->target_modules));
    json_object_set_new(o, "exclude_modules", targets(&c->exclude_modules));
    json_object_set_new(o, "rank_pattern", pattern(c->rank_pattern, c->rank_pattern_count));
    json_object_set_new(o, "alpha_pattern", pattern(c->alpha_pattern, c->alpha_pattern_count));
    json_object_set_new(o, "layers_to_transform", layers(c));
    json_object_set_new(o, "layers_pattern",
                        c->layers_pattern_count
                            ? names((const char *const *)c->layers_pattern, c->layers_pattern_count)
                            : json_null());
    json_object_set_new(o, "lora_bias", json_boolean(c->lora_bias));
    json_object_set_new(o, "init_lora_weights", init(c->init));
    json_object_set_new(o, "revision", text(c->revision));
}

json_t *adapter_config_json(const struct adapter_config *c)
{
    json_t *o = json_object();

    if (!o)
        return NULL;
    json_object_set_new(o, "method", text(c->method));
    put_lora(o, c);
    json_object_set_new(o, "base_model_name_or_path", text(c->base_model_name_or_path));
    json_object_set_new(o, "init_from", text(c->init_from));
    json_object_set_new(o, "save_dtype", json_string(c->save_bf16 ? "bf16" : "f32"));
    return o;
}

static void put_no_ops(json_t *o)
{
    static const char *const null_keys[] = { "alora_invocation_tokens",
                                             "arrow_config",
                                             "auto_mapping",
                                             "corda_config",
                                             "eva_config",
                                             "kasa_config",
                                             "layer_replication",
                                             "lora_ga_config",
                                             "megatron_config",
                                             "modules_to_save",
                                             "monteclora_config",
                                             "target_parameters",
                                             "trainable_token_indices",
                                             "use_bdlora",
                                             "velora_config" };

    for (size_t i = 0; i < sizeof null_keys / sizeof *null_keys; i++)
        json_object_set_new(o, null_keys[i], json_null());
    json_object_set_new(o, "bias", json_string("none"));
    json_object_set_new(o, "ensure_weight_tying", json_false());
    json_object_set_new(o, "fan_in_fan_out", json_false());
    json_object_set_new(o, "inference_mode", json_true());
    json_object_set_new(o, "loftq_config", json_object());
    json_object_set_new(o, "megatron_core", json_string("megatron.core"));
    json_object_set_new(o, "peft_type", json_string("LORA"));
    json_object_set_new(o, "peft_version", json_string(PEFT_VERSION));
    json_object_set_new(o, "qalora_group_size", json_integer(16));
    json_object_set_new(o, "task_type", json_string("CAUSAL_LM"));
    json_object_set_new(o, "use_dora", json_false());
    json_object_set_new(o, "use_qalora", json_false());
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
    put_lora(o, c);
    put_no_ops(o);
    json_object_set_new(o, "base_model_name_or_path", text(c->base_model_name_or_path));
    if (target)
        json_object_set_new(o, "target_modules", names(target, count));
    put_sorted(o, out);
    json_decref(o);
    return out->failed ? graft_fail_nomem(err, "adapter_config.json", out->len) : GRAFT_OK;
}
