/* The part of RoSA and of its sparse half alone, with the keys of the fork that brought it
 * (IST-DASLab/peft-rosa, tuners/rosa/config.py and scheduler.py). */
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "peft/config_parts.h"

/* "wl64": 64; false: no such word */
static bool warmup_of(const char *s, int64_t *out)
{
    char *end;

    if (strncmp(s, "wl", 2) != 0 || s[2] < '0' || s[2] > '9' || strlen(s) > 12)
        return false;
    *out = strtoll(s + 2, &end, 10);
    return !*end;
}

static enum graft_status read_schedule(const struct reading *r, const char *s,
                                       struct adapter_config *c)
{
    c->warmup = 0;
    if (!strcmp(s, "spa_only"))
        c->schedule = ROSA_SPARSE;
    else if (!strcmp(s, "lora_only"))
        c->schedule = ROSA_LOW_RANK;
    else if (strcmp(s, "df") != 0 && strcmp(s, "default") != 0 && !warmup_of(s, &c->warmup))
        return config_bad(r, "schedule",
                          "found \"%s\", want wlK with K steps (wl64), df, default, spa_only or "
                          "lora_only",
                          s);
    return GRAFT_OK;
}

static enum graft_status read_density(const struct reading *r, const struct adapter_raw *raw,
                                      struct adapter_config *c)
{
    double most = c->d = raw->d;

    GRAFT_TRY(config_pattern(r, "density_pattern", raw->density_pattern, &c->density_pattern,
                             &c->density_pattern_count));
    for (int i = 0; i < c->density_pattern_count; i++) {
        const struct pattern_value *p = &c->density_pattern[i];

        if (!(p->value >= 0 && p->value <= 1))
            return config_bad(r, "density_pattern", "\"%s\" has %g, want a share from 0 to 1",
                              p->regex, p->value);
        most = p->value > most ? p->value : most;
    }
    if (c->schedule == ROSA_LOW_RANK && most > 0)
        return config_bad(r, "schedule", "lora_only trains no sparse part, which takes d: 0");
    if (c->schedule != ROSA_LOW_RANK && most == 0 && (c->schedule == ROSA_SPARSE || c->warmup > 0))
        return config_bad(r, "d", "found 0, want more: the sparse part would train nothing");
    if (c->r == 0 && most == 0)
        return config_bad(r, "r", "found 0 beside d: 0, so nothing would train");
    return GRAFT_OK;
}

/* Relative paths start from the working directory. */
static enum graft_status absolute(const struct reading *r, const char *path, const char **out)
{
    struct strbuf abs = STRBUF_INIT;

    if (!path)
        return GRAFT_OK;
    path_absolute(&abs, path);
    *out = arena_strdup(r->mem, strbuf_str(&abs));
    strbuf_release(&abs);
    return *out ? GRAFT_OK : config_no_memory(r);
}

static enum graft_status read_mask(const struct reading *r, const struct adapter_raw *raw,
                                   struct adapter_config *c)
{
    GRAFT_TRY(absolute(r, raw->mask_load_path, &c->mask_load_path));
    GRAFT_TRY(absolute(r, raw->mask_save_path, &c->mask_save_path));
    c->terminate_after_mask_generation = raw->terminate_after_mask_generation;
    if (r->loaded) /* how it came to be is of no more use */
        return GRAFT_OK;
    if (c->mask_load_path && c->mask_save_path)
        return config_bad(r, "mask_save_path",
                          "does not go with mask_load_path: what is loaded is not chosen");
    if (c->terminate_after_mask_generation && !c->mask_save_path)
        return config_bad(r, "terminate_after_mask_generation",
                          "needs mask_save_path, or nothing would be left of the run");
    if (c->schedule == ROSA_LOW_RANK && (c->mask_load_path || c->mask_save_path))
        return config_bad(r, c->mask_load_path ? "mask_load_path" : "mask_save_path",
                          "schedule lora_only has no use for it");
    return GRAFT_OK;
}

static enum graft_status rosa_read(const struct reading *r, const struct adapter_raw *raw,
                                   struct adapter_config *c)
{
    c->spa_num_grads = raw->spa_num_grads;
    c->mean_squared = raw->grad_acc_mode == 0;
    c->loraplus_lr_ratio = raw->loraplus_lr_ratio > 0 ? raw->loraplus_lr_ratio : 1;
    c->spa_lr_ratio = raw->spa_lr_ratio > 0 ? raw->spa_lr_ratio : 1; /* a file says nothing of it */
    c->schedule = ROSA_SPARSE;
    if (!strcmp(c->method, "rosa")) {
        c->schedule = ROSA_BOTH;
        GRAFT_TRY(read_schedule(r, raw->schedule, c));
    }
    GRAFT_TRY(read_density(r, raw, c));
    return read_mask(r, raw, c);
}

static json_t *schedule_text(const struct adapter_config *c)
{
    char text[32];

    if (c->schedule != ROSA_BOTH)
        return json_string(c->schedule == ROSA_SPARSE ? "spa_only" : "lora_only");
    snprintf(text, sizeof text, "wl%lld", (long long)c->warmup);
    return json_string(c->warmup ? text : "df");
}

static void rosa_put(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "d", config_number(c->d));
    json_object_set_new(o, "density_pattern",
                        config_pattern_map(c->density_pattern, c->density_pattern_count, 1));
    json_object_set_new(o, "spa_num_grads", json_integer(c->spa_num_grads));
    json_object_set_new(o, "grad_acc_mode", json_string(c->mean_squared ? "mean_squared" : "mean"));
    json_object_set_new(o, "mask_load_path", config_text(c->mask_load_path));
    json_object_set_new(o, "mask_save_path", config_text(c->mask_save_path));
    json_object_set_new(o, "terminate_after_mask_generation",
                        json_boolean(c->terminate_after_mask_generation));
    json_object_set_new(o, "impl", json_string("auto"));
    json_object_set_new(o, "rosa_dtype", json_string("bf16"));
    json_object_set_new(o, "spa_store_transpose", json_true());
    if (!strcmp(c->method, "rosa"))
        json_object_set_new(o, "schedule", schedule_text(c));
}

static void rosa_put_own(json_t *o, const struct adapter_config *c)
{
    if (!strcmp(c->method, "rosa"))
        json_object_set_new(o, "loraplus_lr_ratio", json_real(c->loraplus_lr_ratio));
    json_object_set_new(o, "spa_lr_ratio", json_real(c->spa_lr_ratio));
}

const struct config_part rosa_part = { SPARSE, rosa_read, rosa_put, rosa_put_own };
