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
    struct name_rule target, exclude, feedforward;
    bool all_linear;
    pcre2_code **layer; /* one a layers_pattern; or one general rule */
    int layer_count;
    pcre2_code **rank, **alpha, **density;       /* in the order of the config */
    pcre2_code **saved;                          /* modules_to_save, which get no adapter */
    bool *used, *exclude_used;                   /* which names of the lists matched */
    bool *rank_used, *alpha_used, *density_used; /* and which patterns decided something, */
    bool *layer_used;                            /* and which layers */
    bool exclude_met;                            /* exclude_modules matched something */
    const char *kept_out; /* the key that left a target out; NULL: none did */
    pcre2_match_data *match;
    struct arena mem;
};

/* PEFT's constants.py, for the architectures Graft has. */
enum { MOST_DEFAULTS = 4 };
static const struct {
    const char *users, *model_type, *name[MOST_DEFAULTS], *feedforward[MOST_DEFAULTS];
} default_targets[] = {
    { LAYERED, "llama", { "q_proj", "v_proj" }, { NULL } },
    { LAYERED, "mistral", { "q_proj", "v_proj" }, { NULL } },
    { LAYERED, "qwen2", { "q_proj", "v_proj" }, { NULL } },
    { LAYERED, "qwen3", { "q_proj", "v_proj" }, { NULL } },
    { "ia3", "llama", { "k_proj", "v_proj", "down_proj" }, { "down_proj" } },
    { "ia3", "mistral", { "k_proj", "v_proj", "down_proj" }, { "down_proj" } },
    { "ia3", "qwen2", { "q_proj", "v_proj", "down_proj" }, { "down_proj" } },
    { "ia3", "qwen3", { "q_proj", "v_proj", "down_proj" }, { "down_proj" } },
    { "layernorm", "llama", { "input_layernorm", "post_attention_layernorm", "norm" }, { NULL } },
    { "layernorm", "mistral", { "input_layernorm", "post_attention_layernorm", "norm" }, { NULL } },
    { "layernorm", "qwen2", { "post_attention_layernorm" }, { NULL } },
    { "layernorm", "qwen3", { "post_attention_layernorm" }, { NULL } },
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

static enum graft_status resolve_default(const char *key, const struct adapter_config *c,
                                         const char *model_type, struct target_set *out,
                                         struct graft_err *err)
{
    const bool feedforward = !strcmp(key, "feedforward_modules");

    for (size_t i = 0; i < sizeof default_targets / sizeof *default_targets; i++) {
        if (strcmp(default_targets[i].model_type, model_type) != 0 ||
            !schema_lists(default_targets[i].users, c->method))
            continue;
        /* only read, like the names of every config */
        out->name = (const char **)(uintptr_t)(feedforward ? default_targets[i].feedforward
                                                           : default_targets[i].name);
        for (out->count = 0; out->count < MOST_DEFAULTS && out->name[out->count];)
            out->count++;
        out->kind = TARGETS_LIST;
        return GRAFT_OK;
    }
    return graft_fail(err, GRAFT_EARG, "adapter.%s is needed: there are no default targets for %s",
                      key, model_type);
}

static bool holds(const struct target_set *t, const char *name)
{
    for (int i = 0; i < t->count; i++)
        if (!strcmp(t->name[i], name))
            return true;
    return false;
}

/* PEFT refuses to read feedforward_modules as a list that holds more than target_modules: then the
 * same as a regular expression. */
static enum graft_status subset_or_regex(const struct target_set *target, struct target_set *ff,
                                         struct arena *mem, struct graft_err *err)
{
    struct strbuf s = STRBUF_INIT;
    bool subset = target->kind != TARGETS_LIST;
    const char **one = arena_alloc(mem, sizeof *one);

    for (int i = 0; i < ff->count && target->kind == TARGETS_LIST; i++)
        subset = holds(target, ff->name[i]) && (i == 0 || subset);
    strbuf_puts(&s, ".*(");
    for (int i = 0; i < ff->count; i++) {
        strbuf_puts(&s, i ? "|" : "");
        for (const char *c = ff->name[i]; *c; c++)
            strbuf_printf(&s, *c == '.' ? "\\%c" : "%c", *c);
    }
    strbuf_puts(&s, ")");
    if (one)
        *one = arena_strdup(mem, strbuf_str(&s));
    strbuf_release(&s);
    if (!one || !*one)
        return graft_fail_nomem(err, "feedforward_modules", 256);
    if (!subset)
        *ff = (struct target_set){ TARGETS_REGEX, one, 1 };
    return GRAFT_OK;
}

enum graft_status targets_resolve(struct adapter_config *c, const struct slot_list *slots,
                                  struct arena *mem, struct graft_err *err)
{
    if (c->target_modules.kind == TARGETS_DEFAULT)
        GRAFT_TRY(resolve_default("target_modules", c, slots->model_type, &c->target_modules, err));
    if (strcmp(c->method, "ia3") != 0 || c->feedforward_modules.kind != TARGETS_DEFAULT)
        return GRAFT_OK;
    GRAFT_TRY(
        resolve_default("feedforward_modules", c, slots->model_type, &c->feedforward_modules, err));
    return subset_or_regex(&c->target_modules, &c->feedforward_modules, mem, err);
}

enum graft_status targets_compile(const struct adapter_config *c, struct target_matcher **out,
                                  struct graft_err *err)
{
    struct target_matcher *m = mem_alloc(sizeof *m);

    if (!m)
        return graft_fail_nomem(err, "target_modules", sizeof *m);
    *out = m;
    m->config = c;
    m->match = pcre2_match_data_create(8, NULL);
    if (!m->match)
        return graft_fail_nomem(err, "target_modules", 256);
    m->all_linear = c->target_modules.kind == TARGETS_ALL_LINEAR;
    GRAFT_TRY(compile_rule(m, "target_modules", &c->target_modules, &m->target, err));
    GRAFT_TRY(compile_rule(m, "exclude_modules", &c->exclude_modules, &m->exclude, err));
    GRAFT_TRY(
        compile_rule(m, "feedforward_modules", &c->feedforward_modules, &m->feedforward, err));
    m->used = arena_array(&m->mem, (size_t)m->target.count, sizeof *m->used);
    m->exclude_used = arena_array(&m->mem, (size_t)m->exclude.count, sizeof *m->used);
    m->rank_used = arena_array(&m->mem, (size_t)c->rank_pattern_count, sizeof *m->used);
    m->alpha_used = arena_array(&m->mem, (size_t)c->alpha_pattern_count, sizeof *m->used);
    m->density_used = arena_array(&m->mem, (size_t)c->density_pattern_count, sizeof *m->used);
    m->layer_used = arena_array(&m->mem, (size_t)c->layers_to_transform_count, sizeof *m->used);
    if (!m->used || !m->exclude_used || !m->rank_used || !m->alpha_used || !m->density_used ||
        !m->layer_used)
        return graft_fail_nomem(err, "target_modules", (size_t)m->target.count);
    if (c->layers_to_transform_count)
        GRAFT_TRY(compile_layers(m, err));
    GRAFT_TRY(compile_saved(m, err));
    GRAFT_TRY(
        compile_patterns(m, "rank_pattern", c->rank_pattern, c->rank_pattern_count, &m->rank, err));
    GRAFT_TRY(compile_patterns(m, "alpha_pattern", c->alpha_pattern, c->alpha_pattern_count,
                               &m->alpha, err));
    return compile_patterns(m, "density_pattern", c->density_pattern, c->density_pattern_count,
                            &m->density, err);
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
                return m->layer_used[k] = true;
        return false;
    }
    return false;
}

/* (optional result) The key that keeps adapters out of the module. */
static const char *excluded(struct target_matcher *m, const char *name)
{
    bool named = m->exclude.regex && run(m, m->exclude.regex, name);

    for (int i = 0; i < m->exclude.count; i++)
        if (!strcmp(name, m->exclude.name[i]) || tail_is(name, m->exclude.name[i]))
            named = m->exclude_used[i] = true;
    m->exclude_met = m->exclude_met || named;
    for (int i = 0; i < m->config->modules_to_save_count && !named; i++)
        if (run(m, m->saved[i], name))
            return "modules_to_save";
    return named ? "exclude_modules" : NULL;
}

static bool targeted(struct target_matcher *m, const struct slot *s)
{
    bool tail = false;

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

bool targets_match(struct target_matcher *m, const struct slot *s)
{
    const char *key = excluded(m, s->name); /* first: what it names counts, target or not */
    const bool target = targeted(m, s);

    if (target && key)
        m->kept_out = key;
    return target && !key;
}

const char *targets_kept_out(const struct target_matcher *m)
{
    return m->kept_out;
}

/* PEFT compares the end of the whole path here, not of its part after a dot. */
bool targets_feedforward(struct target_matcher *m, const struct slot *s)
{
    const size_t len = strlen(s->name);

    if (m->feedforward.regex)
        return run(m, m->feedforward.regex, s->name);
    for (int i = 0; i < m->feedforward.count; i++) {
        const size_t n = strlen(m->feedforward.name[i]);

        if (n <= len && !strcmp(s->name + len - n, m->feedforward.name[i]))
            return true;
    }
    return false;
}

/* Does the first `len` of a path end in `name`, with no look at dots? */
static bool ends_in(const char *path, size_t len, const char *name)
{
    const size_t n = strlen(name);

    return len >= n && !memcmp(path + len - n, name, n);
}

bool targets_name_saves(const char *name, const struct slot *s)
{
    const size_t all = strlen(s->name);

    /* the module, and every module it is in; a list of modules cannot be copied */
    for (size_t len = 1; len <= all; len++) {
        const char next = s->name[len];
        const bool list = next == '.' && s->name[len + 1] >= '0' && s->name[len + 1] <= '9';

        if ((next == '\0' || next == '.') && !list && ends_in(s->name, len, name))
            return true;
    }
    return false;
}

bool targets_saves(const struct adapter_config *c, const struct slot *s, int *which)
{
    for (int i = 0; i < c->modules_to_save_count; i++)
        if (targets_name_saves(c->modules_to_save[i], s)) {
            *which = i;
            return true;
        }
    return false;
}

int64_t targets_rank(struct target_matcher *m, const struct slot *s)
{
    for (int i = 0; i < m->config->rank_pattern_count; i++)
        if (run(m, m->rank[i], s->name)) {
            m->rank_used[i] = true;
            return (int64_t)m->config->rank_pattern[i].value;
        }
    return m->config->r;
}

double targets_alpha(struct target_matcher *m, const struct slot *s)
{
    for (int i = 0; i < m->config->alpha_pattern_count; i++)
        if (run(m, m->alpha[i], s->name)) {
            m->alpha_used[i] = true;
            return m->config->alpha_pattern[i].value;
        }
    return m->config->lora_alpha;
}

double targets_density(struct target_matcher *m, const struct slot *s)
{
    for (int i = 0; i < m->config->density_pattern_count; i++)
        if (run(m, m->density[i], s->name)) {
            m->density_used[i] = true;
            return m->config->density_pattern[i].value;
        }
    return m->config->d;
}

static void note_patterns(const char *key, const struct pattern_value *p, const bool *used, int n)
{
    for (int i = 0; i < n; i++)
        if (!used[i])
            graft_note("adapter.%s: '%s' decides for no module that has an adapter", key,
                       p[i].regex);
}

void targets_note_unused(const struct target_matcher *m)
{
    const struct adapter_config *c = m->config;

    for (int i = 0; i < m->target.count; i++)
        if (!m->used[i])
            graft_note("adapter.target_modules: '%s' matches no module of the base",
                       m->target.name[i]);
    for (int i = 0; i < m->exclude.count; i++)
        if (!m->exclude_used[i])
            graft_note("adapter.exclude_modules: '%s' matches no module of the base",
                       m->exclude.name[i]);
    if (m->exclude.regex && !m->exclude_met)
        graft_note("adapter.exclude_modules: '%s' matches no module of the base",
                   c->exclude_modules.name[0]);
    note_patterns("rank_pattern", c->rank_pattern, m->rank_used, c->rank_pattern_count);
    note_patterns("alpha_pattern", c->alpha_pattern, m->alpha_used, c->alpha_pattern_count);
    note_patterns("density_pattern", c->density_pattern, m->density_used, c->density_pattern_count);
    for (int i = 0; i < c->layers_to_transform_count; i++)
        if (!m->layer_used[i])
            graft_note("adapter.layers_to_transform: layer %lld has no module of the targets",
                       (long long)c->layers_to_transform[i]);
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
    pcre2_code_free(m->feedforward.regex);
    free_codes(m->layer, m->layer_count);
    free_codes(m->saved, m->config->modules_to_save_count);
    free_codes(m->rank, m->config->rank_pattern_count);
    free_codes(m->alpha, m->config->alpha_pattern_count);
    free_codes(m->density, m->config->density_pattern_count);
    pcre2_match_data_free(m->match);
    arena_release(&m->mem);
    mem_free(m);
}
