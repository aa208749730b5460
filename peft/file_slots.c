#include "peft/file_slots.h"

#include <string.h>

#include "io/safetensors.h"

static const char prefix[] = "base_model.model.";

/* The two factors by their names' ends. Of an embedding, A is (r, V) and B (C, r). */
static const struct factors {
    const char *a, *b;
    enum site site;
} kinds[] = { { ".lora_A.weight", ".lora_B.weight", SITE_LINEAR },
              { ".lora_embedding_A", ".lora_embedding_B", SITE_EMBED } };

/* "model.layers.0.q_proj" of the A's name and its kind; NULL: it is something else, or there is no
 * memory. */
static const char *module_of(const char *name, struct arena *mem, const struct factors **kind)
{
    const size_t len = strlen(name), p = sizeof prefix - 1;

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t t = strlen(kinds[i].a);

        *kind = &kinds[i];
        if (len > p + t && !strncmp(name, prefix, p) && !strcmp(name + len - t, kinds[i].a))
            return arena_strndup(mem, name + p, len - p - t);
    }
    return NULL;
}

static enum graft_status read_slot(const struct store *s, const struct stored_tensor *a,
                                   const char *module, const struct factors *kind,
                                   struct arena *mem, struct slot *out, struct graft_err *err)
{
    const char *name = arena_printf(mem, "%s%s%s", prefix, module, kind->b);
    const struct stored_tensor *b = name ? store_find(s, name) : NULL;
    const bool embed = kind->site == SITE_EMBED;

    if (!name)
        return graft_fail_nomem(err, module, strlen(module));
    if (!b)
        return graft_fail(err, GRAFT_EFORMAT, "%s: %s is missing beside its A", s->path, name);
    if (a->ndim != 2 || b->ndim != 2 || a->dim[0] != b->dim[1])
        return graft_fail(err, GRAFT_ESHAPE,
                          "%s: A and B of %s do not fit: wanted (r, in), (out, r)", s->path,
                          module);
    *out = (struct slot){ .name = module,
                          .site = kind->site,
                          .layer = -1,
                          .in = embed ? b->dim[0] : a->dim[1],
                          .out = embed ? a->dim[1] : b->dim[0] };
    return GRAFT_OK;
}

static enum graft_status read_all(const struct store *s, struct adapter_config *config,
                                  struct arena *mem, struct slot_list *out, struct graft_err *err)
{
    struct slot *slot = arena_array(mem, (size_t)s->count + 1, sizeof *slot);
    const char **name = arena_array(mem, (size_t)s->count + 1, sizeof *name);
    int n = 0;

    if (!slot || !name)
        return graft_fail_nomem(err, s->path, (size_t)s->count * sizeof *slot);
    for (int64_t i = 0; i < s->count; i++) {
        const struct factors *kind;
        const char *module = module_of(s->tensor[i].name, mem, &kind);

        if (!module)
            continue;
        GRAFT_TRY(read_slot(s, &s->tensor[i], module, kind, mem, &slot[n], err));
        slot[n].index = n;
        name[n++] = module;
    }
    *out = (struct slot_list){ .slot = slot, .count = n, .model_type = "" };
    config->target_modules = (struct target_set){ TARGETS_LIST, name, n };
    config->exclude_modules = (struct target_set){ TARGETS_DEFAULT, NULL, 0 };
    config->layers_to_transform_count = config->layers_pattern_count = 0;
    return GRAFT_OK;
}

enum graft_status file_slots(const char *dir, struct adapter_config *config, struct arena *mem,
                             struct slot_list *out, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    struct store s = { 0 };
    enum graft_status st = GRAFT_OK;

    path_join(&path, dir, "adapter_model.safetensors");
    if (path.failed)
        st = graft_fail_nomem(err, dir, strlen(dir));
    else if (file_exists(strbuf_str(&path))) /* loading says what is there instead */
        st = safetensors_open(strbuf_str(&path), &s, err);
    if (!st)
        st = read_all(&s, config, mem, out, err);
    store_release(&s);
    strbuf_release(&path);
    return st;
}
