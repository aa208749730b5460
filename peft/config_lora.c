/* The parts of the low-rank methods and of all that choose their modules by name: PEFT's
 * target_modules, patterns and layers. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "peft/config_parts.h"

enum graft_status config_names(const struct reading *r, const char *key, const json_t *v,
                               const char ***out, int *count)
{
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    const char **name = arena_array(r->mem, n, sizeof *name);

    if (!name)
        return config_no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;

        if (!config_is_text(item))
            return config_bad_form(r, key, v);
        name[i] = arena_strdup(r->mem, json_string_value(item));
        if (!name[i])
            return config_no_memory(r);
    }
    *out = name;
    *count = (int)n;
    return GRAFT_OK;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum graft_status config_targets(const struct reading *r, const char *key, const json_t *v,
                                 struct target_set *out)
{
    const bool target = !strcmp(key, "target_modules");

    *out = (struct target_set){ TARGETS_DEFAULT, NULL, 0 };
    if (!v || (!target && schema_is_off(v)))
        return GRAFT_OK;
    if (schema_is_off(v))
        return config_bad_form(r, key, v);
    if (target && json_is_string(v) && !strcasecmp(json_string_value(v), "all-linear")) {
        out->kind = TARGETS_ALL_LINEAR;
        return GRAFT_OK;
    }
    out->kind = json_is_array(v) ? TARGETS_LIST : TARGETS_REGEX;
    GRAFT_TRY(config_names(r, key, v, &out->name, &out->count));
    /* a set in PEFT: in one order, equal sets compare equal */
    qsort(out->name, (size_t)out->count, sizeof *out->name, by_bytes);
    return GRAFT_OK;
}

enum graft_status config_pattern(const struct reading *r, const char *key, const json_t *map,
                                 struct pattern_value **out, int *count)
{
    const bool rank = !strcmp(key, "rank_pattern");
    const char *regex;
    json_t *v;
    int n = 0;

    if (!map || schema_is_off(map))
        return GRAFT_OK;
    if (!json_is_object(map))
        return config_bad_form(r, key, map);
    *out = arena_array(r->mem, json_object_size(map), sizeof **out);
    if (!*out)
        return config_no_memory(r);
    json_object_foreach((json_t *)map, regex, v)
    {
        if (rank ? !json_is_integer(v) || json_integer_value(v) < 1 : !json_is_number(v))
            return config_bad(r, key, "\"%s\" has no %s", regex, rank ? "rank from 1" : "number");
        (*out)[n].regex = arena_strdup(r->mem, regex);
        (*out)[n].value = json_number_value(v);
        if (!(*out)[n++].regex)
            return config_no_memory(r);
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
        return config_no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;

        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return config_bad_form(r, "layers_to_transform", v);
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
        return config_bad(r, "init_lora_weights",
                          "\"%s\" is not supported in this version, true, false or gaussian is", s);
    else
        return config_bad_form(r, "init_lora_weights", v);
    return GRAFT_OK;
}

static enum graft_status targets_read(const struct reading *r, const struct adapter_raw *raw,
                                      struct adapter_config *c)
{
    GRAFT_TRY(config_targets(r, "target_modules", raw->target_modules, &c->target_modules));
    return config_targets(r, "exclude_modules", raw->exclude_modules, &c->exclude_modules);
}

static void targets_put(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "target_modules", config_target_set(&c->target_modules));
    json_object_set_new(o, "exclude_modules", config_target_set(&c->exclude_modules));
}

const struct config_part targets_part = { TARGETED, targets_read, targets_put };

static enum graft_status layers_read(const struct reading *r, const struct adapter_raw *raw,
                                     struct adapter_config *c)
{
    GRAFT_TRY(read_layers(r, raw->layers_to_transform, c));
    if (raw->layers_pattern && !schema_is_off(raw->layers_pattern))
        GRAFT_TRY(config_names(r, "layers_pattern", raw->layers_pattern, &c->layers_pattern,
                               &c->layers_pattern_count));
    if (c->target_modules.kind == TARGETS_REGEX && c->layers_to_transform_count)
        return config_bad(r, "layers_to_transform",
                          "cannot stand beside a regular expression in target_modules, which may "
                          "name the layers itself");
    if (c->layers_pattern_count && !c->layers_to_transform_count)
        return config_bad(r, "layers_pattern", "needs layers_to_transform beside it");
    return GRAFT_OK;
}

static void layers_put(json_t *o, const struct adapter_config *c)
{
    json_t *list = c->layers_to_transform_count ? json_array() : json_null();

    for (int i = 0; i < c->layers_to_transform_count; i++)
        json_array_append_new(list, json_integer(c->layers_to_transform[i]));
    json_object_set_new(o, "layers_to_transform", list);
    json_object_set_new(o, "layers_pattern",
                        c->layers_pattern_count
                            ? config_name_list(c->layers_pattern, c->layers_pattern_count)
                            : json_null());
}

const struct config_part layers_part = { LAYERED, layers_read, layers_put };

static enum graft_status lora_read(const struct reading *r, const struct adapter_raw *raw,
                                   struct adapter_config *c)
{
    if (raw->r < 1 && strcmp(c->method, "rosa") != 0)
        return config_bad(r, "r", "found 0, want 1 or more");
    c->r = raw->r;
    c->lora_alpha = raw->lora_alpha;
    c->lora_dropout = raw->lora_dropout;
    c->use_rslora = raw->use_rslora;
    c->lora_bias = raw->lora_bias;
    GRAFT_TRY(config_pattern(r, "rank_pattern", raw->rank_pattern, &c->rank_pattern,
                             &c->rank_pattern_count));
    GRAFT_TRY(config_pattern(r, "alpha_pattern", raw->alpha_pattern, &c->alpha_pattern,
                             &c->alpha_pattern_count));
    GRAFT_TRY(read_init(r, raw->init_lora_weights, &c->init));
    if (c->lora_dropout >= 1)
        return config_bad(r, "lora_dropout", "found 1, want a number below 1");
    if (c->lora_bias && c->init == LORA_INIT_GAUSSIAN) /* LoraConfig.__post_init__ */
        return config_bad(r, "lora_bias", "true does not go with init_lora_weights gaussian");
    return GRAFT_OK;
}

json_t *config_pattern_map(const struct pattern_value *p, int count)
{
    json_t *map = json_object();

    for (int i = 0; i < count; i++)
        json_object_set_new(map, p[i].regex, config_number(p[i].value));
    return map;
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

static void lora_put(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "r", json_integer(c->r));
    json_object_set_new(o, "lora_alpha", config_number(c->lora_alpha));
    json_object_set_new(o, "lora_dropout", json_real(c->lora_dropout));
    json_object_set_new(o, "use_rslora", json_boolean(c->use_rslora));
    json_object_set_new(o, "rank_pattern",
                        config_pattern_map(c->rank_pattern, c->rank_pattern_count));
    json_object_set_new(o, "alpha_pattern",
                        config_pattern_map(c->alpha_pattern, c->alpha_pattern_count));
    if (strcmp(c->method, "rosa") != 0) /* its config has no such key */
        json_object_set_new(o, "lora_bias", json_boolean(c->lora_bias));
    json_object_set_new(o, "init_lora_weights", init(c->init));
}

const struct config_part lora_part = { LOW_RANK, lora_read, lora_put };
