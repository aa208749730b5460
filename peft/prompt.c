/* Prompt tuning, Lester et al. 2021, arXiv:2104.08691; names and start values as in PEFT.
 *
 * Every record begins with P virtual tokens, whose embeddings train:
 *     prompt_embeddings (P, C), row i for the id -1 - i
 * Nothing of the base changes, so nothing can be merged into it. */
#include <string.h>

#include "peft/encoder.h"
#include "peft/methods.h"

enum { ROWS };

static bool prompt_takes(const struct adapter_config *c, const struct slot *slot)
{
    (void)c;
    return slot->site == SITE_EMBED;
}

static enum graft_status prompt_build(struct adapter_site *s, struct graft_err *err)
{
    struct adapter *a = s->adapter;
    const struct prompt_config *p = &a->config.prompt;

    GRAFT_TRY(prompt_fill(a, s->slot->in, a->slots->heads, err));
    a->virtual_tokens = p->tokens;
    return prompt_embeddings(s, p->tokens, s->slot->in, false, &s->param[ROWS], err);
}

/* Rows of the embedding for the ids of a text, repeated to the number of virtual tokens. */
static enum graft_status init_text(struct adapter_site *s, struct graft_err *err)
{
    const struct adapter *a = s->adapter;
    const int64_t C = s->slot->in;
    float *v = s->param[ROWS]->data;

    if (a->text_count < 1)
        return graft_fail(err, GRAFT_EARG, "adapter.prompt_tuning_init_text has no tokens");
    for (int64_t i = 0; i < a->config.prompt.tokens; i++) {
        const int32_t id = a->text_id[i % a->text_count];

        if (id < 0 || id >= s->slot->out)
            return graft_fail(err, GRAFT_EARG,
                              "adapter.prompt_tuning_init_text: token %d has no row in the "
                              "embedding, which has %lld",
                              id, (long long)s->slot->out);
        slot_decode_rows(s->slot, id, 1, v + i * C);
    }
    return GRAFT_OK;
}

static enum graft_status prompt_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    const struct rng_key key = { seed, RNG_INIT, 0, 0 };
    const struct prompt_config *p = &s->adapter->config.prompt;
    float *v = s->param[ROWS]->data;

    if (p->init == PROMPT_TEXT)
        return init_text(s, err);
    if (p->init == PROMPT_RANDOM) {
        init_normal(s, s->param[ROWS], seed, 1.0);
        return GRAFT_OK;
    }
    for (int64_t i = 0; i < p->tokens; i++)
        slot_decode_rows(s->slot, (int64_t)rng_below(key, (uint64_t)i, (uint64_t)s->slot->out), 1,
                         v + i * s->slot->in);
    return GRAFT_OK;
}

static struct tensor *prompt_rows(struct adapter_site *s, struct graph *g)
{
    return graph_leaf(g, s->param[ROWS]);
}

const struct adapter_ops prompt_ops = {
    .name = "prompt",
    .peft_type = "PROMPT_TUNING",
    .paper = "arXiv:2104.08691",
    .sites = SITE_EMBED,
    .no_merge = "its virtual tokens are input, they change no weight",
    .takes = prompt_takes,
    .build = prompt_build,
    .init = prompt_init,
    .rows = prompt_rows,
};
