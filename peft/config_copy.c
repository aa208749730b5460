/* The parts of whatever trains copies of the base's own tensors: beside a method (modules_to_save,
 * bias, trainable_token_indices, as in PEFT) or as the method itself. */
#include <math.h>
#include <string.h>

#include "peft/config_parts.h"

static enum graft_status saved_read(const struct reading *r, const struct adapter_raw *raw,
                                    struct adapter_config *c)
{
    if (!raw->modules_to_save || schema_is_off(raw->modules_to_save))
        return GRAFT_OK;
    return config_names(r, "modules_to_save", raw->modules_to_save, &c->modules_to_save,
                        &c->modules_to_save_count);
}

static void saved_put(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "modules_to_save",
                        c->modules_to_save_count
                            ? config_name_list(c->modules_to_save, c->modules_to_save_count)
                            : json_null());
}

const struct config_part saved_part = { SAVERS, saved_read, saved_put, NULL };

static enum graft_status read_ids(const struct reading *r, const json_t *all, const json_t *list,
                                  struct token_rows *out)
{
    const size_t n = json_array_size(list);

    if (!json_is_array(list) || !n)
        return config_bad_form(r, "trainable_token_indices", all);
    out->id = arena_array(r->mem, n, sizeof *out->id);
    if (!out->id)
        return config_no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const json_int_t id = json_integer_value(v);

        if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
            return config_bad_form(r, "trainable_token_indices", all);
        for (size_t k = 0; k < i; k++)
            if (out->id[k] == id)
                return config_bad(r, "trainable_token_indices", "token %d stands there twice",
                                  (int)id);
        out->id[i] = (int32_t)id;
    }
    out->count = (int)n;
    return GRAFT_OK;
}

static enum graft_status read_tokens(const struct reading *r, const json_t *v,
                                     struct adapter_config *c)
{
    const size_t n = json_is_object(v) ? json_object_size(v) : 1;
    const char *module;
    json_t *list;

    if (!v || schema_is_off(v))
        return GRAFT_OK;
    c->tokens = arena_array(r->mem, n, sizeof *c->tokens);
    if (!c->tokens)
        return config_no_memory(r);
    if (!json_is_object(v)) {
        c->tokens_count = 1;
        return read_ids(r, v, v, &c->tokens[0]);
    }
    json_object_foreach((json_t *)v, module, list)
    {
        struct token_rows *t = &c->tokens[c->tokens_count++];

        t->module = arena_strdup(r->mem, module);
        if (!t->module)
            return config_no_memory(r);
        GRAFT_TRY(read_ids(r, v, list, t));
    }
    return GRAFT_OK;
}

static enum graft_status copies_read(const struct reading *r, const struct adapter_raw *raw,
                                     struct adapter_config *c)
{
    const bool theirs = raw->bias > BIAS_COPIES_TARGETS; /* the word of RoSA's authors */

    if (theirs && strcmp(c->method, "rosa") != 0)
        return config_bad(r, "bias", "rosa_only is for rosa; for %s it is lora_only", c->method);
    c->bias = theirs ? BIAS_COPIES_TARGETS : (enum bias_copies)raw->bias;
    c->ensure_weight_tying = raw->ensure_weight_tying;
    return read_tokens(r, raw->trainable_token_indices, c);
}

static json_t *id_list(const struct token_rows *t)
{
    json_t *list = json_array();

    for (int i = 0; i < t->count; i++)
        json_array_append_new(list, json_integer(t->id[i]));
    return list;
}

static json_t *tokens_json(const struct adapter_config *c)
{
    json_t *map;

    if (!c->tokens_count)
        return json_null();
    if (!c->tokens[0].module)
        return id_list(&c->tokens[0]);
    map = json_object();
    for (int i = 0; i < c->tokens_count; i++)
        json_object_set_new(map, c->tokens[i].module, id_list(&c->tokens[i]));
    return map;
}

static void copies_put(json_t *o, const struct adapter_config *c)
{
    static const char *const words[] = { "none", "all", "lora_only" };

    json_object_set_new(o, "bias",
                        json_string(c->bias == BIAS_COPIES_TARGETS && !strcmp(c->method, "rosa")
                                        ? "rosa_only"
                                        : words[c->bias]));
    if (!schema_lists("lora, dora", c->method))
        return;
    json_object_set_new(o, "trainable_token_indices", tokens_json(c));
    json_object_set_new(o, "ensure_weight_tying", json_boolean(c->ensure_weight_tying));
}

const struct config_part copies_part = { LOW_RANK, copies_read, copies_put, NULL };

static enum graft_status last_layers_read(const struct reading *r, const struct adapter_raw *raw,
                                          struct adapter_config *c)
{
    (void)r;
    c->last_layers = raw->last_layers;
    return GRAFT_OK;
}

static void last_layers_put(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "last_layers", json_integer(c->last_layers));
}

const struct config_part last_layers_part = { "last_layers", last_layers_read, last_layers_put,
                                              NULL };

static enum graft_status lpft_read(const struct reading *r, const struct adapter_raw *raw,
                                   struct adapter_config *c)
{
    const json_t *lr = raw->probe_lr;

    c->probe_steps = raw->probe_steps;
    c->probe_lr = NAN;
    if (!lr || json_is_null(lr))
        return GRAFT_OK;
    c->probe_lr = json_number_value(lr);
    if (!json_is_number(lr) || !(c->probe_lr >= 0))
        return config_bad_form(r, "probe_lr", lr);
    return GRAFT_OK;
}

static void lpft_put(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "probe_steps", json_integer(c->probe_steps));
    json_object_set_new(o, "probe_lr", isnan(c->probe_lr) ? json_null() : json_real(c->probe_lr));
}

const struct config_part lpft_part = { "lpft", lpft_read, lpft_put, NULL };

bool adapter_is_whole(const struct adapter_config *c)
{
    return schema_lists(WHOLE, c->method);
}
