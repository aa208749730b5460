/* The parts of the low-rank methods: ranks, scales and start values, and what of them is LoRA's
 * and DoRA's alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "peft/config_parts.h"

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
        if (rank ? !json_is_integer(v) || json_integer_value(v) < 1
                 : !json_is_number(v) || !(json_number_value(v) >= 0))
            return config_bad(r, key, "\"%s\" has no %s", regex,
                              rank ? "rank from 1" : "number from 0");
        (*out)[n].regex = arena_strdup(r->mem, regex);
        (*out)[n].value = json_number_value(v);
        if (!(*out)[n++].regex)
            return config_no_memory(r);
    }
    *count = n;
    return GRAFT_OK;
}

/* The start values by PEFT's names; true and false are no text. */
static const struct {
    const char *name;
    enum lora_init init;
} init_names[] = {
    { "gaussian", LORA_INIT_GAUSSIAN }, { "orthogonal", LORA_INIT_ORTHOGONAL },
    { "pissa", LORA_INIT_PISSA },       { "olora", LORA_INIT_OLORA },
    { "loftq", LORA_INIT_LOFTQ },
};

const char *lora_init_name(enum lora_init kind)
{
    for (size_t i = 0; i < sizeof init_names / sizeof *init_names; i++)
        if (init_names[i].init == kind)
            return init_names[i].name;
    return NULL;
}

/* "pissa_niter_16": the rounds, 0 when it is something else. */
static int pissa_rounds(const char *s)
{
    static const char head[] = "pissa_niter_";
    char *end;
    long n;

    if (strncmp(s, head, sizeof head - 1) != 0)
        return 0;
    n = strtol(s + sizeof head - 1, &end, 10);
    return *end || n < 1 || n > 1000 ? 0 : (int)n;
}

static enum graft_status read_init(const struct reading *r, const json_t *v,
                                   struct adapter_config *c)
{
    const char *s = json_string_value(v);

    c->init = LORA_INIT_TRUE;
    if (!v || json_is_true(v))
        return GRAFT_OK;
    if (json_is_false(v)) {
        c->init = LORA_INIT_FALSE;
        return GRAFT_OK;
    }
    for (size_t i = 0; s && i < sizeof init_names / sizeof *init_names; i++)
        if (!strcmp(s, init_names[i].name)) {
            c->init = init_names[i].init;
            return GRAFT_OK;
        }
    c->pissa_niter = s ? pissa_rounds(s) : 0;
    if (!c->pissa_niter)
        return config_bad_form(r, "init_lora_weights", v);
    c->init = LORA_INIT_PISSA;
    return GRAFT_OK;
}

static enum graft_status read_loftq(const struct reading *r, const json_t *v,
                                    struct adapter_config *c)
{
    const json_t *bits = json_object_get(v, "loftq_bits"), *iter = json_object_get(v, "loftq_iter");
    const size_t known = (size_t)(bits != NULL) + (size_t)(iter != NULL);

    c->loftq_iter = 1;
    if (!v || schema_is_off(v))
        return GRAFT_OK;
    if (!json_is_object(v) || json_object_size(v) != known || (bits && !json_is_integer(bits)) ||
        (iter && (!json_is_integer(iter) || json_integer_value(iter) < 1 ||
                  json_integer_value(iter) > 1000)))
        return config_bad_form(r, "loftq_config", v);
    if (c->init != LORA_INIT_LOFTQ)
        return config_bad(r, "loftq_config", "has a use with init_lora_weights loftq only");
    if (bits && json_integer_value(bits) != 4)
        return config_bad(r, "loftq_config",
                          "loftq_bits %lld is not supported in this version, 4 is",
                          (long long)json_integer_value(bits));
    if (iter)
        c->loftq_iter = (int)json_integer_value(iter);
    return GRAFT_OK;
}

/* What does not go together: LoraConfig.__post_init__, and what must not be silent. */
static enum graft_status check_init(const struct reading *r, const struct adapter_config *c)
{
    const bool plain = c->init == LORA_INIT_TRUE || c->init == LORA_INIT_FALSE;

    if (c->lora_bias && !plain)
        return config_bad(r, "lora_bias", "true goes with init_lora_weights true or false only");
    if (!lora_init_takes(c->init))
        return GRAFT_OK;
    if (r->loaded)
        return config_bad(r, "init_lora_weights",
                          "an adapter that took its start out of the base fits only a base without "
                          "that; PEFT writes a plain one with save_pretrained(..., "
                          "path_initial_model_for_weight_conversion=...)");
    if (strcmp(c->method, "lora") != 0)
        return config_bad(r, "init_lora_weights", "%s does not take its start out of the base",
                          c->method);
    return GRAFT_OK;
}

static enum graft_status lora_read(const struct reading *r, const struct adapter_raw *raw,
                                   struct adapter_config *c)
{
    if (raw->r < 1 && strcmp(c->method, "rosa") != 0)
        return config_bad(r, "r", "found 0, want 1 or more");
    c->r = raw->r;
    c->lora_alpha = raw->lora_alpha;
    c->lora_dropout = raw->lora_dropout;
    c->use_rslora = raw->use_rslora;
    GRAFT_TRY(config_pattern(r, "rank_pattern", raw->rank_pattern, &c->rank_pattern,
                             &c->rank_pattern_count));
    GRAFT_TRY(config_pattern(r, "alpha_pattern", raw->alpha_pattern, &c->alpha_pattern,
                             &c->alpha_pattern_count));
    if (c->lora_dropout >= 1)
        return config_bad(r, "lora_dropout", "found 1, want a number below 1");
    c->lora_bias = raw->lora_bias;
    GRAFT_TRY(read_init(r, raw->init_lora_weights, c));
    GRAFT_TRY(read_loftq(r, raw->loftq_config, c));
    return check_init(r, c);
}

json_t *config_pattern_map(const struct pattern_value *p, int count, double factor)
{
    json_t *map = json_object();

    for (int i = 0; i < count; i++)
        json_object_set_new(map, p[i].regex, config_number(factor * p[i].value));
    return map;
}

static json_t *init(const struct adapter_config *c)
{
    char text[32];

    if (c->init == LORA_INIT_TRUE || c->init == LORA_INIT_FALSE)
        return json_boolean(c->init == LORA_INIT_TRUE);
    if (c->init == LORA_INIT_PISSA && c->pissa_niter) {
        snprintf(text, sizeof text, "pissa_niter_%d", c->pissa_niter);
        return json_string(text);
    }
    return json_string(lora_init_name(c->init));
}

static void lora_put(json_t *o, const struct adapter_config *c)
{
    /* twice the rank at the same scale, alpha / r or alpha / sqrt(r) */
    const double rank = c->doubled ? 2 : 1, alpha = c->doubled && c->use_rslora ? sqrt(2) : rank;

    json_object_set_new(o, "r", json_integer((json_int_t)rank * c->r));
    json_object_set_new(o, "lora_alpha", config_number(alpha * c->lora_alpha));
    json_object_set_new(o, "lora_dropout", json_real(c->lora_dropout));
    json_object_set_new(o, "use_rslora", json_boolean(c->use_rslora));
    json_object_set_new(o, "rank_pattern",
                        config_pattern_map(c->rank_pattern, c->rank_pattern_count, rank));
    json_object_set_new(o, "alpha_pattern",
                        config_pattern_map(c->alpha_pattern, c->alpha_pattern_count, alpha));
    json_object_set_new(o, "init_lora_weights", init(c));
    json_object_set_new(o, "loftq_config",
                        c->init == LORA_INIT_LOFTQ
                            ? json_pack("{s:i, s:i}", "loftq_bits", 4, "loftq_iter", c->loftq_iter)
                            : json_object());
}

const struct config_part lora_part = { LOW_RANK, lora_read, lora_put, NULL };

static enum graft_status variant_read(const struct reading *r, const struct adapter_raw *raw,
                                      struct adapter_config *c)
{
    /* a file says nothing of it */
    c->loraplus_lr_ratio = raw->loraplus_lr_ratio > 0 ? raw->loraplus_lr_ratio : 1;
    if (c->lora_bias && !strcmp(c->method, "dora"))
        return config_bad(r, "lora_bias", "true does not go with dora");
    return GRAFT_OK;
}

static void variant_put(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "lora_bias", json_boolean(c->lora_bias));
    json_object_set_new(o, "use_dora", json_boolean(!strcmp(c->method, "dora")));
}

static void variant_put_own(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "loraplus_lr_ratio", json_real(c->loraplus_lr_ratio));
}

const struct config_part variant_part = { "lora, dora", variant_read, variant_put,
                                          variant_put_own };
