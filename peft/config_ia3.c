/* IA3's part: which of the targets scale their input. */
#include <string.h>

#include "peft/config_parts.h"

static bool in_list(const struct target_set *t, const char *name)
{
    for (int i = 0; i < t->count; i++)
        if (!strcmp(t->name[i], name))
            return true;
    return false;
}

/* IA3Config.__post_init__ asks for a subset where both are lists. */
static enum graft_status ia3_read(const struct reading *r, const struct adapter_raw *raw,
                                  struct adapter_config *c)
{
    const struct target_set *ff = &c->feedforward_modules;

    c->init_ia3_ones = raw->init_ia3_weights;
    if (json_is_array(raw->feedforward_modules) && !json_array_size(raw->feedforward_modules))
        c->feedforward_modules.kind = TARGETS_LIST; /* none at all; null would be the default */
    else
        GRAFT_TRY(config_targets(r, "feedforward_modules", raw->feedforward_modules,
                                 &c->feedforward_modules));
    for (int i = 0;
         ff->kind == TARGETS_LIST && c->target_modules.kind == TARGETS_LIST && i < ff->count; i++)
        if (!in_list(&c->target_modules, ff->name[i]))
            return config_bad(
                r, "feedforward_modules",
                "\"%s\" is not among target_modules, which hold all that get a vector",
                ff->name[i]);
    return GRAFT_OK;
}

static void ia3_put(json_t *o, const struct adapter_config *c)
{
    json_object_set_new(o, "feedforward_modules", config_target_set(&c->feedforward_modules));
    json_object_set_new(o, "init_ia3_weights", json_boolean(c->init_ia3_ones));
}

const struct config_part ia3_part = { "ia3", ia3_read, ia3_put, NULL };
