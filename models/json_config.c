/* config.json of Hugging Face, keys of transformers 4 and 5. */
#include <math.h>
#include <string.h>

#include "models/arch.h"
#include "models/config.h"

struct reader {
    const char *file;
    const json_t *json;
    struct arena *mem;
    struct graft_err *err;
    enum graft_status st; /* the first failure sticks */
};

static const json_t *get(const struct reader *r, const char *key)
{
    const json_t *v = json_object_get(r->json, key);

    return v && !json_is_null(v) ? v : NULL;
}

static void wrong(struct reader *r, const char *key, const char *wanted, const json_t *found)
{
    struct strbuf text = STRBUF_INIT;

    if (r->st)
        return;
    if (found)
        json_write(&text, found);
    r->st = graft_fail(r->err, GRAFT_EFORMAT, "%s: \"%s\" is %.80s, wanted %s", r->file, key,
                       found ? strbuf_str(&text) : "missing", wanted);
    strbuf_release(&text);
}

/* An integer in [1, 2^31): every size of a model is one. `dflt` 0: the key is required. */
static int64_t size_key(struct reader *r, const char *key, int64_t dflt)
{
    const json_t *v = get(r, key);

    if (!v && dflt)
        return dflt;
    if (!v || !json_is_integer(v) || json_integer_value(v) < 1 ||
        json_integer_value(v) > INT32_MAX) {
        wrong(r, key, "a whole number from 1", v);
        return 1;
    }
    return json_integer_value(v);
}

static double number_key(struct reader *r, const char *key, double dflt)
{
    const json_t *v = get(r, key);

    if (!v)
        return dflt;
    if (!json_is_number(v) || !isfinite(json_number_value(v))) {
        wrong(r, key, "a number", v);
        return 1;
    }
    return json_number_value(v);
}

static bool bool_key(struct reader *r, const char *key, bool dflt)
{
    const json_t *v = get(r, key);

    if (!v)
        return dflt;
    if (!json_is_boolean(v))
        wrong(r, key, "true or false", v);
    return json_is_true(v);
}

static const char *text_key(struct reader *r, const char *key, const char *dflt)
{
    const json_t *v = get(r, key);
    const char *s;

    if (!v)
        return dflt;
    if (!json_is_string(v)) {
        wrong(r, key, "a string", v);
        return "";
    }
    s = arena_strdup(r->mem, json_string_value(v));
    if (!s && !r->st)
        r->st = graft_fail_nomem(r->err, key, json_string_length(v));
    return s ? s : "";
}

static const float *float_list(struct reader *r, const char *key, int64_t *count)
{
    const json_t *v = get(r, key);
    float *list;

    if (!v)
        return NULL;
    if (!json_is_array(v) || json_array_size(v) == 0) {
        wrong(r, key, "a list of numbers", v);
        return NULL;
    }
    list = arena_array(r->mem, json_array_size(v), sizeof *list);
    if (!list) {
        r->st = graft_fail_nomem(r->err, key, json_array_size(v) * 4);
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        const double x = json_number_value(json_array_get(v, i));

        if (!json_is_number(json_array_get(v, i)) || !(x > 0) || !isfinite(x))
            wrong(r, key, "a list of numbers above 0", json_array_get(v, i));
        list[i] = (float)x;
    }
    if (*count && *count != (int64_t)json_array_size(v))
        wrong(r, key, "as many entries as the other list", NULL);
    *count = (int64_t)json_array_size(v);
    return list;
}

static const struct {
    const char *name;
    enum rope_type type;
} rope_types[] = {
    { "default", ROPE_DEFAULT }, { "linear", ROPE_LINEAR },     { "dynamic", ROPE_DYNAMIC },
    { "yarn", ROPE_YARN },       { "longrope", ROPE_LONGROPE }, { "su", ROPE_LONGROPE },
    { "llama3", ROPE_LLAMA3 },
};

static void rope_type_key(struct reader *r, struct rope_config *out)
{
    const char *name = text_key(r, "rope_type", text_key(r, "type", "default"));

    for (size_t i = 0; i < sizeof rope_types / sizeof *rope_types; i++) {
        if (!strcmp(rope_types[i].name, name)) {
            out->type = rope_types[i].type;
            return;
        }
    }
    if (!r->st)
        r->st =
            graft_fail(r->err, GRAFT_EFORMAT,
                       "%s: rope_type \"%s\" is not supported; known are default, linear, dynamic, "
                       "yarn, longrope and llama3",
                       r->file, name);
}

/* The keys a type cannot do without; transformers raises KeyError for the same. */
static void rope_required(struct reader *r, const struct rope_config *c)
{
    const bool needs_factor =
        c->type == ROPE_LINEAR || c->type == ROPE_DYNAMIC || c->type == ROPE_LLAMA3;

    if (needs_factor && isnan(c->factor))
        wrong(r, "rope_scaling.factor", "a number", NULL);
    if (c->type == ROPE_LLAMA3 && (!c->low_freq_factor || !c->high_freq_factor || !c->original_max))
        wrong(r, "rope_scaling",
              "low_freq_factor, high_freq_factor and original_max_position_embeddings for llama3",
              NULL);
    if (!isnan(c->factor) && !(c->factor > 0))
        wrong(r, "rope_scaling.factor", "a number above 0", NULL);
    if (!(c->theta > 1) || !(c->partial > 0) || c->partial > 1)
        wrong(r, "rope_theta", "a base above 1 and a partial_rotary_factor in (0, 1]", NULL);
}

/* The architectures there are turn whole heads: transformers passes over the factor for the default
 * type and cannot run the others with it. */
static void whole_heads(struct reader *r, struct rope_config *c)
{
    if (c->partial == 1 || r->st)
        return;
    if (c->type != ROPE_DEFAULT)
        r->st = graft_fail(r->err, GRAFT_EFORMAT,
                           "%s: partial_rotary_factor %g is not supported for this model_type",
                           r->file, c->partial);
    else
        graft_note("%s: partial_rotary_factor %g is passed over, as in transformers", r->file,
                   c->partial);
    c->partial = 1;
}

static void read_rope(struct reader *top, const struct model_config *c, struct rope_config *out)
{
    const json_t *v5 = get(top, "rope_parameters"), *v4 = get(top, "rope_scaling");
    const bool old = !v5 || json_object_size(v4) > 0; /* as transformers v5 takes the two */
    struct reader r = *top;

    (void)c;
    *out = (struct rope_config){ .theta = number_key(top, "rope_theta", 10000.0),
                                 .partial = number_key(top, "partial_rotary_factor", 1.0),
                                 .factor = NAN,
                                 .attention_factor = NAN,
                                 .truncate = true,
                                 .beta_fast = 32,
                                 .beta_slow = 1 };
    out->original_max = number_key(top, "original_max_position_embeddings", 0);
    if (v5 || v4) {
        r.json = old ? v4 : v5;
        if (!json_is_object(r.json)) {
            wrong(top, old ? "rope_scaling" : "rope_parameters", "an object", r.json);
            return;
        }
        if (v5 && old)
            graft_note("%s: rope_scaling stands in place of rope_parameters, as in transformers",
                       r.file);
        rope_type_key(&r, out);
        out->theta = number_key(&r, "rope_theta", out->theta);
        out->partial = number_key(&r, "partial_rotary_factor", out->partial);
        out->factor = number_key(&r, "factor", NAN);
        if (!out->original_max) /* the one outside wins, as in transformers */
            out->original_max = number_key(&r, "original_max_position_embeddings", 0);
        out->attention_factor = number_key(&r, "attention_factor", NAN);
        out->beta_fast = number_key(&r, "beta_fast", 32);
        out->beta_slow = number_key(&r, "beta_slow", 1);
        out->mscale = number_key(&r, "mscale", 0);
        out->mscale_all_dim = number_key(&r, "mscale_all_dim", 0);
        out->truncate = bool_key(&r, "truncate", true);
        out->low_freq_factor = number_key(&r, "low_freq_factor", 0);
        out->high_freq_factor = number_key(&r, "high_freq_factor", 0);
        out->short_factor = float_list(&r, "short_factor", &out->factors);
        out->long_factor = float_list(&r, "long_factor", &out->factors);
    }
    rope_required(&r, out);
    whole_heads(&r, out);
    if (r.st && !top->st)
        top->st = r.st;
}

static void read_eos(struct reader *r, struct model_config *c)
{
    const json_t *v = get(r, "eos_token_id"), *bos = get(r, "bos_token_id");
    const size_t n = json_is_array(v) ? json_array_size(v) : v != NULL;

    c->bos = json_is_integer(bos) ? (int32_t)json_integer_value(bos) : -1;
    if (n > MAX_EOS)
        wrong(r, "eos_token_id", "at most 16 ids", v);
    for (size_t i = 0; i < n && i < MAX_EOS; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            wrong(r, "eos_token_id", "a token id or a list of them", v);
        else
            c->eos[c->eos_count++] = (int32_t)json_integer_value(id);
    }
}

static void read_windows(struct reader *r, struct model_config *c)
{
    const json_t *types = get(r, "layer_types");
    const enum window_rule rule = c->arch->window;
    int64_t window = 0, from = 0;

    c->window = arena_array(r->mem, (size_t)c->layers, sizeof *c->window);
    if (!c->window) {
        r->st = graft_fail_nomem(r->err, "layers", (size_t)c->layers * 8);
        return;
    }
    /* null says that there is none; a key left out does not */
    if (rule == WINDOW_NONE || json_is_null(json_object_get(r->json, "sliding_window")) ||
        (rule == WINDOW_SWITCHED && !bool_key(r, "use_sliding_window", false)))
        return;
    window = size_key(r, "sliding_window", c->arch->sliding_window);
    if (rule == WINDOW_SWITCHED)
        from = (int64_t)number_key(r, "max_window_layers", 28);
    if (types && (!json_is_array(types) || (int64_t)json_array_size(types) != c->layers))
        wrong(r, "layer_types", "one entry a layer", NULL);
    for (int64_t i = 0; i < c->layers && !r->st; i++) {
        const char *t = json_string_value(json_array_get(types, (size_t)i));

        if (types && (!t || (strcmp(t, "full_attention") && strcmp(t, "sliding_attention"))))
            wrong(r, "layer_types", "full_attention or sliding_attention",
                  json_array_get(types, (size_t)i));
        else if (types ? !strcmp(t, "sliding_attention") : i >= from)
            c->window[i] = window;
    }
}

static const struct {
    const char *name;
    enum activation act;
} act_names[] = {
    { "silu", ACT_SILU },
    { "swish", ACT_SILU },
    { "gelu", ACT_GELU },
    { "gelu_new", ACT_GELU_TANH },
    { "gelu_fast", ACT_GELU_TANH },
    { "gelu_pytorch_tanh", ACT_GELU_TANH },
    { "quick_gelu", ACT_QUICK_GELU },
    { "relu", ACT_RELU },
};

static void read_act(struct reader *r, struct model_config *c)
{
    const char *name = text_key(r, "hidden_act", c->arch->default_act);

    for (size_t i = 0; i < sizeof act_names / sizeof *act_names; i++) {
        if (!strcmp(act_names[i].name, name)) {
            c->act = act_names[i].act;
            return;
        }
    }
    if (!r->st)
        r->st = graft_fail(r->err, GRAFT_EFORMAT, "%s: hidden_act \"%s\" is not supported", r->file,
                           name);
}

static void read_dtype(struct reader *r, struct model_config *c)
{
    const char *name = text_key(r, "dtype", text_key(r, "torch_dtype", ""));

    c->dtype = !strcmp(name, "float32")    ? QT_F32
               : !strcmp(name, "bfloat16") ? QT_BF16
               : !strcmp(name, "float16")  ? QT_F16
                                           : QT_COUNT;
}

static void read_sizes(struct reader *r, struct model_config *c)
{
    c->vocab = size_key(r, "vocab_size", 0);
    c->hidden = size_key(r, "hidden_size", 0);
    c->ffn = size_key(r, "intermediate_size", 0);
    c->layers = size_key(r, "num_hidden_layers", 0);
    c->heads = size_key(r, "num_attention_heads", 0);
    c->kv_heads = size_key(r, "num_key_value_heads", c->heads);
    c->max_positions = size_key(r, "max_position_embeddings", c->arch->max_positions);
    c->head_dim = size_key(r, "head_dim",
                           c->arch->head_dim       ? c->arch->head_dim
                           : c->hidden >= c->heads ? c->hidden / c->heads
                                                   : 1);
    c->norm_eps = number_key(r, "rms_norm_eps", 1e-6);
    c->tied = bool_key(r, "tie_word_embeddings", false);
    if (r->st)
        return;
    if (!(c->norm_eps >= 0 && c->norm_eps < 1))
        wrong(r, "rms_norm_eps", "a number from 0 to below 1", get(r, "rms_norm_eps"));
    else if (c->heads % c->kv_heads != 0)
        wrong(r, "num_key_value_heads", "a divisor of num_attention_heads",
              get(r, "num_key_value_heads"));
    else if (!get(r, "head_dim") && !c->arch->head_dim && c->hidden % c->heads != 0)
        wrong(r, "hidden_size", "a multiple of num_attention_heads", get(r, "hidden_size"));
    else if (c->head_dim % 2 != 0)
        wrong(r, "head_dim", "an even number", get(r, "head_dim"));
    else if (c->layers > 4096)
        wrong(r, "num_hidden_layers", "at most 4096", get(r, "num_hidden_layers"));
}

enum graft_status model_config_from_json(const char *file, const json_t *json, struct arena *mem,
                                         struct model_config *out, struct graft_err *err)
{
    struct reader r = { file, json, mem, err, GRAFT_OK };
    struct model_config c = { 0 };

    if (!json_is_object(json))
        return graft_fail(err, GRAFT_EFORMAT, "%s: wanted a JSON object", file);
    if (get(&r, "quantization_config"))
        return graft_fail(
            err, GRAFT_EFORMAT,
            "%s: the checkpoint is quantised already (quantization_config); this version reads "
            "f32, f16 and bf16 checkpoints, GGUF files and .h5 containers",
            file);
    c.model_type = text_key(&r, "model_type", "");
    if (r.st)
        return r.st;
    if (!*c.model_type)
        wrong(&r, "model_type", "the name of an architecture", get(&r, "model_type"));
    if (r.st)
        return r.st;
    c.arch = arch_by_model_type(c.model_type);
    if (!c.arch)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: model_type \"%s\" is not supported; known are %s", file,
                          c.model_type, arch_names());
    read_sizes(&r, &c);
    if (r.st)
        return r.st;
    if (c.arch->bias == BIAS_CONFIG) {
        c.qkv_bias = c.o_bias = bool_key(&r, "attention_bias", false);
        c.mlp_bias = bool_key(&r, "mlp_bias", false);
    } else {
        c.qkv_bias = c.arch->bias == BIAS_QKV;
    }
    read_rope(&r, &c, &c.rope);
    read_act(&r, &c);
    read_windows(&r, &c);
    read_eos(&r, &c);
    read_dtype(&r, &c);
    c.name = text_key(&r, "_name_or_path", NULL);
    if (c.name && !c.name[0])
        c.name = NULL;
    if (r.st)
        return r.st;
    *out = c;
    return GRAFT_OK;
}
