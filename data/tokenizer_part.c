#include "data/tokenizer_part.h"

#include <string.h>

#include "core/mem.h"

enum graft_status part_bool(const json_t *o, const char *part, const char *key, bool dflt,
                            bool *out, struct graft_err *err)
{
    const json_t *v = json_object_get(o, key);

    if (v && !json_is_null(v) && !json_is_boolean(v))
        return graft_fail(err, GRAFT_EFORMAT, "%s: \"%s\" must be true or false", part, key);
    *out = v && !json_is_null(v) ? json_is_true(v) : dflt;
    return GRAFT_OK;
}

enum graft_status part_int(const json_t *o, const char *part, const char *key, int64_t dflt,
                           int64_t max, int64_t *out, struct graft_err *err)
{
    const json_t *v = json_object_get(o, key);

    if (!v || json_is_null(v)) {
        *out = dflt;
        return GRAFT_OK;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
        return graft_fail(err, GRAFT_EFORMAT, "%s: \"%s\" must be an integer from 0 to %lld", part,
                          key, (long long)max);
    *out = json_integer_value(v);
    return GRAFT_OK;
}

enum graft_status part_text(const json_t *o, const char *part, const char *key, const char **s,
                            size_t *len, struct graft_err *err)
{
    const json_t *v = json_object_get(o, key);

    *s = NULL;
    *len = 0;
    if (!v || json_is_null(v))
        return GRAFT_OK;
    if (!json_is_string(v))
        return graft_fail(err, GRAFT_EFORMAT, "%s: \"%s\" must be a string", part, key);
    *s = json_string_value(v);
    *len = json_string_length(v);
    return GRAFT_OK;
}

enum graft_status part_need_text(const json_t *o, const char *part, const char *key, const char **s,
                                 size_t *len, struct graft_err *err)
{
    GRAFT_TRY(part_text(o, part, key, s, len, err));
    if (*len == 0)
        return graft_fail(err, GRAFT_EFORMAT, "%s: \"%s\" is missing or empty", part, key);
    return GRAFT_OK;
}

enum graft_status part_type(const json_t *o, const char *part, const char **type,
                            struct graft_err *err)
{
    size_t len;

    if (!json_is_object(o))
        return graft_fail(err, GRAFT_EFORMAT, "%s must be an object or null", part);
    return part_need_text(o, part, "type", type, &len, err);
}

static enum graft_status walk(const json_t *o, const char *part, const char *list, part_fn *each,
                              void *user, int depth, int *count, struct graft_err *err)
{
    const char *type = NULL;
    const json_t *items;

    GRAFT_TRY(part_type(o, part, &type, err));
    if (strcmp(type, "Sequence") != 0) {
        if (++*count > PART_COUNT)
            return graft_fail(err, GRAFT_EFORMAT, "%s: more than %d components", part, PART_COUNT);
        return each(user, o, type, err);
    }
    items = json_object_get(o, list);
    if (!json_is_array(items))
        return graft_fail(err, GRAFT_EFORMAT, "%s: a Sequence without an array \"%s\"", part, list);
    if (depth >= PART_DEPTH)
        return graft_fail(err, GRAFT_EFORMAT, "%s: Sequences nested deeper than %d", part,
                          PART_DEPTH);
    for (size_t i = 0; i < json_array_size(items); i++)
        GRAFT_TRY(walk(json_array_get(items, i), part, list, each, user, depth + 1, count, err));
    return GRAFT_OK;
}

enum graft_status part_walk(const json_t *o, const char *part, const char *list, part_fn *each,
                            void *user, struct graft_err *err)
{
    int count = 0;

    if (!o || json_is_null(o))
        return GRAFT_OK;
    return walk(o, part, list, each, user, 0, &count, err);
}

char *part_copy(const char *s, size_t len)
{
    char *p = mem_alloc(len + 1);

    if (p && len)
        memcpy(p, s, len);
    return p;
}
