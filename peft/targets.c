/* Which slots a config means: PEFT's check_target_module_exists and get_pattern_key.
 *
 * A list names modules by their whole path or by a tail after a dot; a string is one regular
 * expression for the whole path; exclude_modules goes by the same rules and wins. With a list,
 * layers_to_transform keeps tail matches of the named layers only: the layer is the first number
 * between dots (layers_pattern: the number after such a name). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdlib.h>
#include <string.h>

#include "peft/adapter.h"
#include "peft/config_keys.h"

struct name_rule {
    pcre2_code *regex; /* NULL: a list */
    const char *const *name;
    int count;
};

struct target_matcher {
    const struct adapter_config *config;
    struct name_rule target, exclude;
    bool all_linear;
    pcre2_code **layer; /* one a layers_pattern; or one general rule */
    int layer_count;
    pcre2_code **rank, **alpha; /* in the order of the config */
    pcre2_code **saved;         /* modules_to_save, which get no adapter */
    bool *used;                 /* which names of a target list matched */
    pcre2_match_data *match;
    struct arena mem;
};

/* PEFT's constants.py, for the architectures Graft has. */
static const struct {
    const char *users, *model_type, *name[4];
} default_targets[] = {
    { LAYERED, "llama", { "q_proj", "v_proj" } },
    { LAYERED, "mistral", { "q_proj", "v_proj" } },
    { LAYERED, "qwen2", { "q_proj", "v_proj" } },
    { LAYERED, "qwen3", { "q_proj", "v_proj" } },
    { "layernorm", "llama", { "input_layernorm", "post_attention_layernorm", "norm" } },
    { "layernorm", "mistral", { "input_layernorm", "post_attention_layernorm", "norm" } },
    { "layernorm", "qwen2", { "post_attention_layernorm" } },
    { "layernorm", "qwen3", { "post_attention_layernorm" } },
};

static enum graft_status compile(struct target_matcher *m, const char *key, const char *before,
                                 const char *pattern, const char *after, pcre2_code **out,
                                 struct graft_err *err)
{
    const char *full = arena_printf(&m->mem, "%s%s%s", before, pattern, after);
    PCRE2_UCHAR reason[128];
    PCRE2_SIZE at;
    int code;

    if (!full)
        return graft_fail_nomem(err, key, strlen(pattern));
    *out = pcre2_compile((PCRE2_SPTR)full, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    if (*out)
        return GRAFT_OK;
    pcre2_get_error_message(code, reason, sizeof reason);
    return graft_fail(err, GRAFT_EARG, "adapter.%s: '%s' is not a regular expression: %s", key,
                      pattern, (const char *)reason);
}

static bool run(struct target_matcher *m, const pcre2_code *re, const char *name)
{
    return pcre2_match(re, (PCRE2_SPTR)name, PCRE2_ZERO_TERMINATED, 0, 0, m->match, NULL) > 0;
}

/* "name", or a path that ends in ".name". */
static bool tail_is(const char *path, const char *name)
{
    const size_t p = strlen(path), n = strlen(name);

    return p > n && path[p - n - 1] == '.' && !strcmp(path + p - n, name);
}

static enum graft_status compile_rule(struct target_matcher *m, const char *key,
                                      const struct target_set *t, struct name_rule *out,
                                      struct graft_err *err)
{
    if (t->kind == TARGETS_REGEX)
        return compile(m, key, "^(?:", t->name[0], ")\\z", &out->regex, err);
    if (t->kind == TARGETS_LIST) {
        out->name = t->name;
        out->count = t->count;
    }
    return GRAFT_OK;
}

static enum graft_status compile_layers(struct target_matcher *m, struct graft_err *err)
{
    const struct adapter_config *c = m->config;
    const int n = c->layers_pattern_count ? c->layers_pattern_count : 1;

    m->layer = arena_array(&m->mem, (size_t)n, sizeof(pcre2_code *));
    if (!m->layer)
        return graft_fail_nomem(err, "layers_pattern", (size_t)n * sizeof(pcre2_code *));
    m->layer_count = n;
    if (!c->layers_pattern_count)
        return compile(m, "layers_pattern", "^", ".*?\\.[^.]*\\.(\\d+)\\.", "", &m->layer[0], err);
    for (int i = 0; i < n; i++)
        GRAFT_TRY(compile(m, "layers_pattern", "^(?:|.*?\\.)(?:", c->layers_pattern[i],
                          ")\\.(?<idx>\\d+)\\.", &m->layer[i], err));
    return GRAFT_OK;
}

static enum graft_status compile_patterns(struct target_matcher *m, const char *key,
                                          const struct pattern_value *p, int n, pcre2_code ***out,
                                          struct graft_err *err)
{
    *out = arena_array(&m->mem, (size_t)n, sizeof(pcre2_code *));
    if (!*out)
        return graft_fail_nomem(err, key, (size_t)n * sizeof(pcre2_code *));
    for (int i = 0; i < n; i++)
        GRAFT_TRY(compile(m, key, "^(?:.*\\.)?(?:", p[i].regex, ")\\z", &(*out)[i], err));
    return GRAFT_OK;
}

/* PEFT: such a path, or anything inside it, gets no adapter. */
static enum graft_status compile_saved(struct target_matcher *m, struct graft_err *err)
{
    const struct adapter_config *c = m->config;

    m->saved = arena_array(&m->mem, (size_t)c->modules_to_save_count, sizeof(pcre2_code *));
    if (!m->saved)
        return graft_fail_nomem(err, "modules_to_save", (size_t)c->modules_to_save_count);
    for (int i = 0; i < c->modules_to_save_count; i++)
        GRAFT_TRY(compile(m, "modules_to_save", "^(?:|.*\\.)(?:", c->modules_to_save[i],
                          ")(?:\\z|\\..*)", &m->saved[i], err));
    return GRAFT_OK;
}

static enum graft_status resolve_default(struct target_matcher *m, const char *model_type,
                                         struct graft_err *err)
{
    for (size_t i = 0; i < sizeof default_targets / sizeof *default_targets; i++) {
        if (strcmp(default_targets[i].model_type, model_type) != 0 ||
            !schema_lists(default_targets[i].users, m->config->method))
            continue;
        m->target.name = default_targets[i].name;
        for (m->target.count = 0; m->target.count < 4 && m->target.name[m->target.count];)
            m->target.count++;
        return GRAFT_OK;
    }
    return graft_fail(err, GRAFT_EARG,
                      "adapter.target_modules is needed: there are no default targets for %s",
                      model_type);
}

enum graft_status targets_compile(const struct adapter_config *c, const struct slot_list *slots,
                                  struct target_matcher **out, struct graft_err *err)
{
    struct target_matcher *m = mem_alloc(sizeof *m);
    enum graft_status st;

    if (!m)
        return graft_fail_nomem(err, "target_modules", sizeof *m);
    *out = m;
    m->config = c;
    m->match = pcre2_match_data_create(8, NULL);
    if (!m->match)
        return graft_fail_nomem(err, "target_modules", 256);
    m->all_linear = c->target_modules.kind == TARGETS_ALL_LINEAR;
    if (c->target_modules.kind == TARGETS_DEFAULT)
        GRAFT_TRY(resolve_default(m, slots->model_type, err));
    GRAFT_TRY(compile_rule(m, "target_modules", &c->target_modules, &m->target, err));
    GRAFT_TRY(compile_rule(m, "exclude_modules", &c->exclude_modules, &m->exclude, err));
    m->used = arena_array(&m->mem, (size_t)m->target.count, sizeof *m->used);
    if (!m->used)
        return graft_fail_nomem(err, "target_modules", (size_t)m->target.count);
    if (c->layers_to_transform_count)
        GRAFT_TRY(compile_layers(m, err));
    GRAFT_TRY(compile_saved(m, err));
    GRAFT_TRY(
        compile_patterns(m, "rank_pattern", c->rank_pattern, c->rank_pattern_count, &m->rank, err));
    st = compile_patterns(m, "alpha_pattern", c->alpha_pattern, c->alpha_pattern_count, &m->alpha,
                          err);
    return st;
}

static bool in_layers(struct target_matcher *m, const char *name)
{
    const struct adapter_config *c = m->config;

    for (int i = 0; i < m->layer_count; i++) {
        const PCRE2_SIZE *at;
        int group;
        long layer;

        if (!run(m, m->layer[i], name))
            continue;
        group = c->layers_pattern_count
                    ? pcre2_substring_number_from_name(m->layer[i], (PCRE2_SPTR) "idx")
                    : 1;
        at = pcre2_get_ovector_pointer(m->match);
        layer = strtol(name + at[2 * group], NULL, 10);
        for (int k = 0; k < c->layers_to_transform_count; k++)
            if (c->layers_to_transform[k] == layer)
                return true;
        return false;
    }
    return false;
}

static bool excluded(struct target_matcher *m, const char *name)
{
    for (int i = 0; i < m->config->modules_to_save_count; i++)
        if (run(m, m->saved[i], name))
            return true;
    if (m->exclude.regex)
        return run(m, m->exclude.regex, name);
    for (int i = 0; i < m->exclude.count; i++)
        if (!strcmp(name, m->exclude.name[i]) || tail_is(name, m->exclude.name[i]))
            return true;
    return false;
}

bool targets_match(struct target_matcher *m, const struct slot *s)
{
    bool tail = false;

    if (excluded(m, s->name))
        return false;
    if (m->target.regex)
        return run(m, m->target.regex, s->name);
    if (m->all_linear)
        tail = s->site == SITE_LINEAR && !s->is_head;
    for (int i = 0; i < m->target.count; i++) {
        if (!strcmp(s->name, m->target.name[i]))
            return m->used[i] = true;
        if (tail_is(s->name, m->target.name[i]))
            tail = m->used[i] = true;
    }
    return tail && (!m->config->layers_to_transform_count || in_layers(m, s->name));
}

/* Does the first `len` of a path end in `name`, with no look at dots? */
static bool ends_in(const char *path, size_t len, const char *name)
{
    const size_t n = strlen(name);

    return len >= n && !memcmp(path + len - n, name, n);
}

bool targets_saves(const struct adapter_config *c, const struct slot *s, int *which)
{
    const size_t all = strlen(s->name);

    /* the module, and every module it is in; a list of modules cannot be copied */
    for (int i = 0; i < c->modules_to_save_count; i++)
        for (size_t len = 1; len <= all; len++) {
            const char next = s->name[len];
            const bool list = next == '.' && s->name[len + 1] >= '0' && s->name[len + 1] <= '9';

            if ((next == '\0' || next == '.') && !list &&
                ends_in(s->name, len, c->modules_to_save[i])) {
                *which = i;
                return true;
            }
        }
    return false;
}

int64_t targets_rank(struct target_matcher *m, const struct slot *s)
{
    for (int i = 0; i < m->config->rank_pattern_count; i++)
        if (run(m, m->rank[i], s->name))
            return (int64_t)m->config->rank_pattern[i].value;
    return m->config->r;
}

double targets_alpha(struct target_matcher *m, const struct slot *s)
{
    for (int i = 0; i < m->config->alpha_pattern_count; i++)
        if (run(m, m->alpha[i], s->name))
            return m->config->alpha_pattern[i].value;
    return m->config->lora_alpha;
}

void targets_note_unused(const struct target_matcher *m)
{
    for (int i = 0; i < m->target.count; i++)
        if (!m->used[i])
            graft_note("adapter.target_modules: '%s' matches no module of the base",
                       m->target.name[i]);
}

static void free_codes(pcre2_code **code, int n)
{
    for (int i = 0; code && i < n; i++)
        pcre2_code_free(code[i]);
}

void targets_free(struct target_matcher *m)
{
    if (!m)
        return;
    pcre2_code_free(m->target.regex);
    pcre2_code_free(m->exclude.regex);
    free_codes(m->layer, m->layer_count);
    free_codes(m->saved, m->config->modules_to_save_count);
    free_codes(m->rank, m->config->rank_pattern_count);
    free_codes(m->alpha, m->config->alpha_pattern_count);
    pcre2_match_data_free(m->match);
    arena_release(&m->mem);
    mem_free(m);
}
