/* A config.json for bases that come without one (GGUF). */
#include <math.h>
#include <string.h>

#include "models/arch.h"
#include "models/config.h"

static json_t *float_list(const float *v, int64_t n)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_real((double)v[i]));
    return list;
}

/* GGUF keeps Llama 3's scaling as the divisors of the frequencies: wave lengths above low / L0 are
 * divided by the factor, those below high / L0 are not. With the usual 1, 4 and 8192 the divisors
 * are these exactly; other values cannot be told apart from a list, so a longrope with equal lists
 * says the same. */
static json_t *rope_json(const struct model_config *c)
{
    const struct rope_config *r = &c->rope;
    json_t *o = json_pack("{s:f}", "rope_theta", r->theta);

    if (r->divisor) {
        json_object_set_new(o, "rope_type", json_string("longrope"));
        json_object_set_new(o, "short_factor", float_list(r->divisor, r->factors));
        json_object_set_new(o, "long_factor", float_list(r->divisor, r->factors));
        json_object_set_new(o, "attention_factor", json_real(1.0));
        json_object_set_new(o, "factor", json_real(1.0));
        json_object_set_new(o, "original_max_position_embeddings", json_integer(c->max_positions));
        return o;
    }
    switch (r->type) {
    case ROPE_LINEAR:
        json_object_set_new(o, "rope_type", json_string("linear"));
        json_object_set_new(o, "factor", json_real(r->factor));
        break;
    case ROPE_YARN:
        json_object_set_new(o, "rope_type", json_string("yarn"));
        json_object_set_new(o, "factor", json_real(r->factor));
        json_object_set_new(o, "beta_fast", json_real(r->beta_fast));
        json_object_set_new(o, "beta_slow", json_real(r->beta_slow));
        if (r->original_max > 0)
            json_object_set_new(o, "original_max_position_embeddings",
                                json_integer((json_int_t)r->original_max));
        break;
    default: /* GGUF has no keys for the other types */
        json_object_set_new(o, "rope_type", json_string("default"));
        break;
    }
    return o;
}

/* As transformers 5 reads it, and as those before do, which know none of the former. */
static void set_rope(const struct model_config *c, json_t *o)
{
    json_t *now = rope_json(c);
    json_t *before = json_copy(now);

    json_object_del(before, "rope_theta");
    json_object_set_new(o, "rope_theta", json_real(c->rope.theta));
    if (strcmp(json_string_value(json_object_get(now, "rope_type")), "default") != 0)
        json_object_set(o, "rope_scaling", before);
    json_object_set_new(o, "rope_parameters", now);
    json_decref(before);
}

static json_t *eos_json(const struct model_config *c)
{
    json_t *list;

    if (c->eos_count == 0)
        return json_null();
    if (c->eos_count == 1)
        return json_integer(c->eos[0]);
    list = json_array();
    for (int i = 0; i < c->eos_count; i++)
        json_array_append_new(list, json_integer(c->eos[i]));
    return list;
}

static void set_biases(const struct model_config *c, json_t *o)
{
    if (c->arch->bias != BIAS_CONFIG)
        return;
    json_object_set_new(o, "attention_bias", json_boolean(c->qkv_bias));
    json_object_set_new(o, "mlp_bias", json_boolean(c->mlp_bias));
}

static void set_window(const struct model_config *c, json_t *o)
{
    const bool slides = c->layers > 0 && c->window[0] > 0;

    if (c->arch->window == WINDOW_NONE)
        return;
    json_object_set_new(o, "sliding_window", slides ? json_integer(c->window[0]) : json_null());
    if (c->arch->window == WINDOW_SWITCHED) {
        json_object_set_new(o, "use_sliding_window", json_boolean(slides));
        json_object_set_new(o, "max_window_layers", json_integer(slides ? 0 : c->layers));
    }
}

json_t *model_config_to_json(const struct model_config *c)
{
    json_t *o = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:b, s:o}", "architectures",
        c->arch->class_name, "model_type", c->model_type, "vocab_size", (json_int_t)c->vocab,
        "hidden_size", (json_int_t)c->hidden, "intermediate_size", (json_int_t)c->ffn,
        "num_hidden_layers", (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads,
        "num_key_value_heads", (json_int_t)c->kv_heads, "head_dim", (json_int_t)c->head_dim,
        "max_position_embeddings", (json_int_t)c->max_positions, "rms_norm_eps", c->norm_eps,
        "hidden_act", c->arch->default_act, "tie_word_embeddings", c->tied, "eos_token_id",
        eos_json(c));
    if (!o)
        return NULL;
    json_object_set_new(o, "bos_token_id", c->bos >= 0 ? json_integer(c->bos) : json_null());
    set_rope(c, o);
    set_biases(c, o);
    set_window(c, o);
    return o;
}
