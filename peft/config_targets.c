/* The parts of all methods that choose their modules by name: PEFT's target_modules and layers. */
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

const struct config_part targets_part = { TARGETED, targets_read, targets_put, NULL };

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

const struct config_part layers_part = { LAYERED, layers_read, layers_put, NULL };
