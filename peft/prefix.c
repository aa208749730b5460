/* Prefix tuning, Li & Liang 2021, arXiv:2101.00190, and P-tuning v2, Liu et al. 2021,
 * arXiv:2110.07602; shapes, names and start values as in PEFT.
 *
 * In every layer P keys and values stand before those of a record, unrotated, at the positions
 * 0 .. P - 1; the record's own tokens begin at P. D: width of a layer's keys (kv heads * head
 * size). prompt_embeddings (P, L * 2 * D): columns 2l * D of layer l's keys, (2l + 1) * D of its
 * values With prefix_projection a network makes them, which trains instead: E (P, D) -> linear D to
 * H, tanh, linear H to L * 2 * D */
#include <string.h>

#include "peft/encoder.h"
#include "peft/methods.h"

enum { EMBEDDING, MADE };

/* One for all sites, at the first. */
struct prefix {
    struct tensor *embedding, *made;
    struct dense transform[2];
    bool projects;
    struct tensor *recorded; /* of the graph that is being recorded: all layers */
};

static bool prefix_takes(const struct adapter_config *c, const struct slot *slot)
{
    (void)c;
    return slot->site == SITE_KV;
}

static struct adapter_site *first_site(const struct adapter_site *s)
{
    return &s->adapter->site[0];
}

static enum graft_status build_all(struct adapter_site *s, struct prefix *f, struct graft_err *err)
{
    struct adapter *a = s->adapter;
    const struct prompt_config *p = &a->config.prompt;
    const int64_t D = p->token_dim, width = 2 * a->slots->layers * D;

    f->projects = a->trainable && p->projection;
    if (f->projects) {
        GRAFT_TRY(encoder_param(s, "embedding.weight", p->tokens, D, &f->embedding, err));
        GRAFT_TRY(dense_build(s, "transform.0", p->encoder_hidden_size, D, &f->transform[0], err));
        GRAFT_TRY(
            dense_build(s, "transform.2", width, p->encoder_hidden_size, &f->transform[1], err));
    }
    return prompt_embeddings(s, p->tokens, width, f->projects, &f->made, err);
}

static enum graft_status prefix_build(struct adapter_site *s, struct graft_err *err)
{
    struct adapter *a = s->adapter;
    struct prefix *f;

    if (s != first_site(s))
        return GRAFT_OK;
    GRAFT_TRY(prompt_fill(a, s->slot->out, a->slots->kv_heads, err));
    a->prefix_tokens = a->config.prompt.tokens;
    s->state = f = arena_alloc(&a->mem, sizeof *f);
    return f ? build_all(s, f, err) : graft_fail_nomem(err, "the prefix", sizeof *f);
}

static enum graft_status prefix_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    const bool zero = s->adapter->config.prompt.zero;
    const struct prefix *f = s->state;

    (void)err;
    if (!f)
        return GRAFT_OK;
    if (f->projects) {
        init_normal(s, f->embedding, seed, 1.0);
        dense_init(s, &f->transform[0], seed);
        if (!zero) /* zeros as they were made */
            dense_init(s, &f->transform[1], seed);
    } else if (!zero) {
        init_normal(s, f->made, seed, 1.0);
    }
    return GRAFT_OK;
}

static struct tensor *record_all(struct adapter_site *s, struct graph *g)
{
    const struct prefix *f = s->state;
    const enum dtype act = graph_set_act(g, DT_F32);
    struct tensor *x;

    if (f->projects) {
        x = dense_record(g, &f->transform[0], graph_leaf(g, f->embedding));
        x = dense_record(g, &f->transform[1], op_activation(g, x, ACT_TANH));
    } else {
        x = graph_leaf(g, f->made);
    }
    graph_set_act(g, act);
    return x;
}

/* Layers come in order, so the first one records what all share. */
static void prefix_keys_values(struct adapter_site *s, struct graph *g, struct tensor **k,
                               struct tensor **v)
{
    const int64_t D = s->slot->out, l = s->slot->layer;
    struct prefix *f = first_site(s)->state;

    if (s == first_site(s))
        f->recorded = record_all(s, g);
    *k = op_slice(g, f->recorded, 2 * l * D, D);
    *v = op_slice(g, f->recorded, (2 * l + 1) * D, D);
}

static enum graft_status prefix_derive(struct adapter_site *s, struct graft_err *err)
{
    struct prefix *f = s->state;

    return f && f->projects ? encoder_run(s, record_all, f->made, err) : GRAFT_OK;
}

/* The layer's own columns: its keys and values. */
static void prefix_size(const struct adapter_site *s, double *squares, double *largest)
{
    const struct prefix *f = first_site(s)->state;
    const int64_t D = s->slot->out, width = f->made->dim[1];
    const float *v = (const float *)f->made->data + 2 * s->slot->layer * D;

    for (int64_t p = 0; p < f->made->dim[0]; p++)
        add_size(v + p * width, 2 * D, squares, largest);
}

const struct adapter_ops prefix_ops = {
    .name = "prefix",
    .peft_type = "PREFIX_TUNING",
    .paper = "arXiv:2101.00190, arXiv:2110.07602",
    .sites = SITE_KV,
    .no_merge = "its keys and values stand beside a record's, they change no weight",
    .takes = prefix_takes,
    .build = prefix_build,
    .init = prefix_init,
    .keys_values = prefix_keys_values,
    .derive = prefix_derive,
    .size = prefix_size,
};
