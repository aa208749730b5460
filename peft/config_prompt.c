/* The parts of the methods that put virtual tokens, or keys and values, before a record (PEFT's
 * prompt learning), and of bottleneck adapters (adapter-hub's names). */
#include <math.h>
#include <string.h>

#include "peft/config_parts.h"

static bool is(const struct adapter_config *c, const char *method)
{
    return !strcmp(c->method, method);
}

static enum graft_status read_prompt(const struct reading *r, const struct adapter_raw *raw,
                                     struct prompt_config *p)
{
    p->init = (enum prompt_init)raw->prompt_tuning_init;
    p->text = raw->prompt_tuning_init_text;
    p->tokenizer = raw->tokenizer_name_or_path;
    if (r->loaded)
        return GRAFT_OK;
    if (p->init == PROMPT_TEXT && !p->text)
        return config_bad(r, "prompt_tuning_init_text",
                          "missing, prompt_tuning_init TEXT wants it");
    if (p->init != PROMPT_TEXT && p->text)
        return config_bad(r, "prompt_tuning_init_text",
                          "only prompt_tuning_init TEXT has a use for it");
    return GRAFT_OK;
}

static enum graft_status read_encoder(const struct reading *r, const struct adapter_raw *raw,
                                      struct prompt_config *p)
{
    const json_t *type = raw->peft_type;

    p->lstm = raw->encoder_reparameterization_type == 1;
    p->encoder_num_layers = raw->encoder_num_layers;
    p->encoder_dropout = raw->encoder_dropout;
    p->placeholder = raw->placeholder;
    if (p->placeholder && !*p->placeholder)
        return config_bad(r, "placeholder", "found \"\", want a token of the base, or null");
    if (!p->placeholder && json_is_string(type) &&
        !strcmp(json_string_value(type), PLACED_P_TUNING))
        return config_bad(r, "placeholder", "missing, peft_type %s wants it", PLACED_P_TUNING);
    if (p->encoder_dropout >= 1)
        return config_bad(r, "encoder_dropout", "found 1, want a number below 1");
    /* PEFT's files hold what was asked for, used or not */
    if (!r->loaded && !p->lstm && p->encoder_num_layers != 2)
        return config_bad(r, "encoder_num_layers",
                          "an MLP has always the same layers, encoder_reparameterization_type LSTM "
                          "has a use for it");
    if (!r->loaded && !p->lstm && p->encoder_dropout > 0)
        return config_bad(r, "encoder_dropout",
                          "an MLP has none, encoder_reparameterization_type LSTM has a use for it");
    return GRAFT_OK;
}

static enum graft_status prompt_read(const struct reading *r, const struct adapter_raw *raw,
                                     struct adapter_config *c)
{
    struct prompt_config *p = &c->prompt;

    p->tokens = raw->num_virtual_tokens;
    p->token_dim = raw->token_dim;
    p->num_layers = raw->num_layers;
    p->num_attention_heads = raw->num_attention_heads;
    p->num_transformer_submodules = raw->num_transformer_submodules;
    p->encoder_hidden_size = raw->encoder_hidden_size;
    if (p->num_transformer_submodules > 1)
        return config_bad(r, "num_transformer_submodules",
                          "found %lld, a decoder has 1; encoders are not supported",
                          (long long)p->num_transformer_submodules);
    if (is(c, "prompt"))
        return read_prompt(r, raw, p);
    if (is(c, "ptuning"))
        return read_encoder(r, raw, p);
    p->projection = raw->prefix_projection;
    p->zero = raw->init_weights == INIT_ZERO;
    if (raw->init_weights > INIT_ZERO)
        return config_bad(r, "init_weights", "\"%s\" is not for prefix, null or zero is",
                          init_weights_names[raw->init_weights]);
    return GRAFT_OK;
}

static json_t *size_or_null(int64_t n)
{
    return n ? json_integer(n) : json_null();
}

static void prompt_put(json_t *o, const struct adapter_config *c)
{
    static const char *const inits[] = { "RANDOM", "SAMPLE_VOCAB", "TEXT" };
    const struct prompt_config *p = &c->prompt;

    json_object_set_new(o, "num_virtual_tokens", json_integer(p->tokens));
    json_object_set_new(o, "token_dim", size_or_null(p->token_dim));
    json_object_set_new(o, "num_layers", size_or_null(p->num_layers));
    json_object_set_new(o, "num_attention_heads", size_or_null(p->num_attention_heads));
    json_object_set_new(o, "num_transformer_submodules",
                        size_or_null(p->num_transformer_submodules));
    if (is(c, "prompt")) {
        json_object_set_new(o, "prompt_tuning_init", json_string(inits[p->init]));
        json_object_set_new(o, "prompt_tuning_init_text", config_text(p->text));
        json_object_set_new(o, "tokenizer_name_or_path", config_text(p->tokenizer));
        return;
    }
    json_object_set_new(o, "encoder_hidden_size", size_or_null(p->encoder_hidden_size));
    if (is(c, "prefix")) {
        json_object_set_new(o, "prefix_projection", json_boolean(p->projection));
        json_object_set_new(o, "init_weights", config_text(p->zero ? "zero" : NULL));
        return;
    }
    json_object_set_new(o, "encoder_reparameterization_type",
                        json_string(p->lstm ? "LSTM" : "MLP"));
    json_object_set_new(o, "encoder_num_layers", json_integer(p->encoder_num_layers));
    json_object_set_new(o, "encoder_dropout", json_real(p->encoder_dropout));
    json_object_set_new(o, "placeholder", config_text(p->placeholder));
}

const struct config_part prompt_part = { PROMPTS, prompt_read, prompt_put, NULL };

/* What adapter-hub's classes have: DoubleSeqBnConfig, SeqBnConfig, ParBnConfig. */
static const struct bottleneck_defaults {
    const char *method;
    double reduction_factor;
    const char *non_linearity;
    double scaling;
    int init;
} bottleneck_defaults[] = {
    { "houlsby", 16, "swish", 1, INIT_BERT },
    { "pfeiffer", 16, "relu", 1, INIT_BERT },
    { "parallel", 2, "relu", 4, INIT_MAM },
};

static enum graft_status bottleneck_read(const struct reading *r, const struct adapter_raw *raw,
                                         struct adapter_config *c)
{
    const struct bottleneck_defaults *d = bottleneck_defaults;
    struct bottleneck_config *b = &c->bottleneck;

    while (!is(c, d->method))
        d++;
    b->size = raw->bottleneck_size;
    b->reduction_factor =
        isnan(raw->reduction_factor) ? d->reduction_factor : raw->reduction_factor;
    b->scaling = isnan(raw->scaling) ? d->scaling : raw->scaling;
    b->init = raw->init_weights < 0 ? d->init : raw->init_weights;
    b->dropout = raw->dropout;
    b->non_linearity = raw->non_linearity;
    for (int i = 0; raw->non_linearity < 0 && non_linearity_names[i]; i++)
        if (!strcmp(non_linearity_names[i], d->non_linearity))
            b->non_linearity = i;
    if (b->size && !isnan(raw->reduction_factor) && !r->loaded)
        return config_bad(r, "bottleneck_size", "reduction_factor says the same; leave one");
    if (b->init == INIT_ZERO)
        return config_bad(r, "init_weights",
                          "\"zero\" is for prefix; %s takes bert, houlsby or mam_adapter",
                          c->method);
    if (b->dropout >= 1)
        return config_bad(r, "dropout", "found 1, want a number below 1");
    return GRAFT_OK;
}

static void bottleneck_put(json_t *o, const struct adapter_config *c)
{
    const struct bottleneck_config *b = &c->bottleneck;

    json_object_set_new(o, "bottleneck_size", size_or_null(b->size));
    json_object_set_new(o, "reduction_factor",
                        b->size ? json_null() : config_number(b->reduction_factor));
    json_object_set_new(o, "non_linearity", json_string(non_linearity_names[b->non_linearity]));
    json_object_set_new(o, "scaling", config_number(b->scaling));
    json_object_set_new(o, "dropout", json_real(b->dropout));
    json_object_set_new(o, "init_weights", json_string(init_weights_names[b->init]));
}

const struct config_part bottleneck_part = { BOTTLENECK, bottleneck_read, bottleneck_put, NULL };
