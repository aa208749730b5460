/* P-tuning, Liu et al. 2021, arXiv:2103.10385; layers, names and start values as in PEFT.
 *
 * The embeddings of the virtual tokens are made by a network from embeddings that train with it:
 *     MLP    E (P, C) -> linear C to H, ReLU, linear H to H, ReLU, linear H to C
 *     LSTM   E (P, C) -> layers of H there and H back -> linear 2H to 2H, ReLU, linear 2H to C
 * In front of every record, or where the record has its placeholders. What the network makes is the
 * adapter that is used: prompt_embeddings (P, C), row i for the id -1 - i. */
#include <math.h>

#include "peft/encoder.h"
#include "peft/methods.h"

enum { EMBEDDING, MADE }; /* MADE: the only one where nothing trains */
enum { THERE, BACK, DIRECTIONS };

struct direction {
    struct tensor *w_in, *w, *b_in, *b; /* (4H, I) (4H, H) (4H) (4H) */
};

struct encoder {
    struct direction (*layer)[DIRECTIONS]; /* of an LSTM */
    struct dense head[3];                  /* an LSTM has two */
    int heads;
};

static bool ptuning_takes(const struct adapter_config *c, const struct slot *slot)
{
    (void)c;
    return slot->site == SITE_EMBED;
}

static enum graft_status lstm_build(struct adapter_site *s, int64_t layer, int direction,
                                    int64_t in, struct direction *d, struct graft_err *err)
{
    const int64_t H = s->adapter->config.prompt.encoder_hidden_size;
    const struct {
        const char *name;
        int64_t cols;
        struct tensor **out;
    } part[] = { { "weight_ih", in, &d->w_in },
                 { "weight_hh", H, &d->w },
                 { "bias_ih", 0, &d->b_in },
                 { "bias_hh", 0, &d->b } };

    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        char name[64];

        snprintf(name, sizeof name, "lstm_head.%s_l%lld%s", part[i].name, (long long)layer,
                 direction == BACK ? "_reverse" : "");
        GRAFT_TRY(encoder_param(s, name, 4 * H, part[i].cols, part[i].out, err));
    }
    return GRAFT_OK;
}

static enum graft_status encoder_build(struct adapter_site *s, struct encoder *e,
                                       struct graft_err *err)
{
    const struct prompt_config *p = &s->adapter->config.prompt;
    const int64_t C = s->slot->in, H = p->encoder_hidden_size;

    GRAFT_TRY(encoder_param(s, "embedding.weight", p->tokens, C, &s->param[EMBEDDING], err));
    if (!p->lstm) {
        e->heads = 3;
        GRAFT_TRY(dense_build(s, "mlp_head.0", H, C, &e->head[0], err));
        GRAFT_TRY(dense_build(s, "mlp_head.2", H, H, &e->head[1], err));
        return dense_build(s, "mlp_head.4", C, H, &e->head[2], err);
    }
    e->heads = 2;
    e->layer = arena_array(&s->adapter->mem, (size_t)p->encoder_num_layers, sizeof *e->layer);
    if (!e->layer)
        return graft_fail_nomem(err, "the encoder", sizeof *e->layer);
    for (int64_t i = 0; i < p->encoder_num_layers; i++)
        for (int d = THERE; d < DIRECTIONS; d++)
            GRAFT_TRY(lstm_build(s, i, d, i ? 2 * H : C, &e->layer[i][d], err));
    GRAFT_TRY(dense_build(s, "mlp_head.0", 2 * H, 2 * H, &e->head[0], err));
    return dense_build(s, "mlp_head.2", C, 2 * H, &e->head[1], err);
}

static enum graft_status ptuning_build(struct adapter_site *s, struct graft_err *err)
{
    struct adapter *a = s->adapter;
    const struct prompt_config *p = &a->config.prompt;

    GRAFT_TRY(prompt_fill(a, s->slot->in, a->slots->heads, err));
    if (p->placeholder)
        a->placed_tokens = p->tokens;
    else
        a->virtual_tokens = p->tokens;
    if (a->trainable) {
        s->state = arena_alloc(&a->mem, sizeof(struct encoder));
        if (!s->state)
            return graft_fail_nomem(err, "the encoder", sizeof(struct encoder));
        GRAFT_TRY(encoder_build(s, s->state, err));
    }
    return prompt_embeddings(s, p->tokens, s->slot->in, a->trainable, &s->param[MADE], err);
}

/* As PyTorch starts them: nn.Embedding normal, nn.Linear and nn.LSTM uniform. */
static enum graft_status ptuning_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    const struct prompt_config *p = &s->adapter->config.prompt;
    const struct encoder *e = s->state;
    const double bound = 1.0 / sqrt((double)p->encoder_hidden_size);

    (void)err;
    init_normal(s, s->param[EMBEDDING], seed, 1.0);
    for (int64_t i = 0; e->layer && i < p->encoder_num_layers; i++)
        for (int k = THERE; k < DIRECTIONS; k++) {
            const struct direction *d = &e->layer[i][k];

            init_uniform(s, d->w_in, seed, bound);
            init_uniform(s, d->w, seed, bound);
            init_uniform(s, d->b_in, seed, bound);
            init_uniform(s, d->b, seed, bound);
        }
    for (int i = 0; i < e->heads; i++)
        dense_init(s, &e->head[i], seed);
    return GRAFT_OK;
}

static struct tensor *record_direction(struct graph *g, const struct direction *d, struct tensor *x,
                                       bool reverse)
{
    struct tensor *z = op_linear(g, x, graph_leaf(g, d->w_in), graph_leaf(g, d->b_in), NULL, 1.0f);

    return op_lstm(g, z, graph_leaf(g, d->w), graph_leaf(g, d->b), reverse);
}

static struct tensor *record_encoder(struct adapter_site *s, struct graph *g)
{
    const struct prompt_config *p = &s->adapter->config.prompt;
    const struct encoder *e = s->state;
    const enum dtype act = graph_set_act(g, DT_F32);
    struct tensor *x = graph_leaf(g, s->param[EMBEDDING]);

    for (int64_t i = 0; e->layer && i < p->encoder_num_layers; i++) {
        if (i && p->encoder_dropout > 0)
            x = op_dropout(g, x, (float)p->encoder_dropout, (uint32_t)i);
        x = op_concat(g, record_direction(g, &e->layer[i][THERE], x, false),
                      record_direction(g, &e->layer[i][BACK], x, true));
    }
    for (int i = 0; i < e->heads; i++) {
        x = dense_record(g, &e->head[i], x);
        if (i + 1 < e->heads)
            x = op_activation(g, x, ACT_RELU);
    }
    graph_set_act(g, act);
    return x;
}

static struct tensor *ptuning_rows(struct adapter_site *s, struct graph *g)
{
    return s->state ? record_encoder(s, g) : graph_leaf(g, s->param[MADE]);
}

static enum graft_status ptuning_derive(struct adapter_site *s, struct graft_err *err)
{
    return s->state ? encoder_run(s, record_encoder, s->param[MADE], err) : GRAFT_OK;
}

const struct adapter_ops ptuning_ops = {
    .name = "ptuning",
    .peft_type = "P_TUNING",
    .paper = "arXiv:2103.10385",
    .sites = SITE_EMBED,
    .no_merge = "its virtual tokens are input, they change no weight",
    .takes = ptuning_takes,
    .build = ptuning_build,
    .init = ptuning_init,
    .rows = ptuning_rows,
    .derive = ptuning_derive,
};
