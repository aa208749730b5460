/* Trained rows of some tokens, in place of the embedding's and the head's own: new or rare tokens
 * without a copy of the whole table. PEFT's trainable_token_indices.
 *
 * embedding: y[t] = D[k] where token t is id[k]   head: z[:, id[k]] = x D[k]   D: (P, C)
 * Over a tied base both take the same D, which is saved once, under the embedding's name. */
#include <string.h>

#include "peft/adapter.h"

enum { ROWS };

static struct token_set *make_set(struct adapter *a, const struct token_rows *t, int64_t vocab)
{
    struct token_set *set = arena_alloc(&a->mem, sizeof *set);
    int32_t *place = arena_array(&a->mem, (size_t)vocab, sizeof *place);

    if (!set || !place)
        return NULL;
    memset(place, 0xff, (size_t)vocab * sizeof *place);
    for (int i = 0; i < t->count; i++)
        place[t->id[i]] = i;
    *set = (struct token_set){ t->id, place, t->count, vocab };
    return set;
}

/* The entry of the config that means this slot; NULL: none. */
static const struct token_rows *tokens_of(const struct adapter_config *c, const struct slot *s)
{
    for (int i = 0; i < c->tokens_count; i++) {
        const char *m = c->tokens[i].module;
        const size_t len = m ? strlen(m) : 0, all = strlen(s->name);

        if (m ? len <= all && !strcmp(s->name + all - len, m) : s->site == SITE_EMBED)
            return &c->tokens[i];
    }
    return NULL;
}

static bool same_ids(const struct token_rows *a, const struct token_rows *b)
{
    return a->count == b->count && !memcmp(a->id, b->id, (size_t)a->count * sizeof *a->id);
}

static const struct slot *half_of(const struct slot_list *l, bool head)
{
    for (int i = 0; i < l->count; i++)
        if (head ? l->slot[i].is_head : l->slot[i].site == SITE_EMBED)
            return &l->slot[i];
    return NULL;
}

/* Do head and embedding take the same rows? */
static bool rows_tied(const struct adapter *a)
{
    const struct token_rows *e = tokens_of(&a->config, half_of(a->slots, false));
    const struct token_rows *h = tokens_of(&a->config, half_of(a->slots, true));

    return a->slots->tied && e && (!h || same_ids(e, h));
}

static enum graft_status tokens_build(struct adapter_site *s, struct graft_err *err)
{
    struct adapter *a = s->adapter;
    const bool shares = s->slot->is_head && rows_tied(a);
    const struct slot *owner = shares ? half_of(a->slots, false) : s->slot;
    const struct token_rows *t = tokens_of(&a->config, owner);
    const struct param_spec rows = { .suffix = ".token_adapter.trainable_tokens_delta",
                                     .ndim = 2,
                                     .dim = { t->count, s->slot->in } };

    s->state = make_set(a, t, s->slot->out);
    s->param[ROWS] = shares ? adapter_at(a, owner)->param[ROWS] : adapter_param(s, &rows);
    if (!s->state || !s->param[ROWS])
        return graft_fail_nomem(err, s->slot->name, (size_t)(t->count * s->slot->in) * 8);
    return GRAFT_OK;
}

static enum graft_status tokens_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    const struct token_set *set = s->state;

    (void)seed;
    (void)err;
    for (int64_t i = 0; i < set->count; i++)
        slot_decode_rows(s->slot, set->id[i], 1, (float *)s->param[ROWS]->data + i * s->slot->in);
    return GRAFT_OK;
}

static struct tensor *tokens_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                     struct tensor *y)
{
    struct tensor *rows = graph_leaf(g, s->param[ROWS]);

    if (s->slot->site == SITE_EMBED)
        return op_token_rows(g, y, rows, s->state, 1.0f);
    return op_token_columns(g, y, op_linear(g, x, rows, NULL, NULL, 1.0f), s->state);
}

static void tokens_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const struct token_set *set = s->state;
    const int64_t width = s->slot->in;

    for (int64_t i = 0; i < set->count; i++)
        if (set->id[i] >= first && set->id[i] < first + n)
            memcpy(w + (set->id[i] - first) * width,
                   (const float *)s->param[ROWS]->data + i * width, (size_t)width * sizeof *w);
}

static const struct adapter_ops tokens_ops = {
    .name = "trainable_token_indices",
    .sites = SITE_EMBED | SITE_LINEAR,
    .build = tokens_build,
    .init = tokens_init,
    .forward = tokens_forward,
    .merge_rows = tokens_merge_rows,
    .merges = MERGE_REPLACES,
};

static enum graft_status check_ids(const struct token_rows *t, const struct slot *s,
                                   struct graft_err *err)
{
    for (int i = 0; i < t->count; i++)
        if (t->id[i] >= s->out)
            return graft_fail(err, GRAFT_EARG,
                              "adapter.trainable_token_indices: token %d, but %s has rows 0 to "
                              "%lld; new rows are made in the checkpoint first, with transformers' "
                              "resize_token_embeddings",
                              t->id[i], s->name, (long long)s->out - 1);
    return GRAFT_OK;
}

static enum graft_status check_modules(const struct adapter *a, struct graft_err *err)
{
    const struct slot *half[2] = { half_of(a->slots, false), half_of(a->slots, true) };
    const struct token_rows *t[2];

    for (int i = 0; i < 2; i++) {
        int which;

        t[i] = tokens_of(&a->config, half[i]);
        if (!t[i])
            continue;
        if (targets_saves(&a->config, half[i], &which))
            return graft_fail(err, GRAFT_EARG,
                              "adapter.trainable_token_indices: %s is trained whole by "
                              "modules_to_save already, leave one out",
                              half[i]->name);
        GRAFT_TRY(check_ids(t[i], half[i], err));
    }
    for (int i = 0; i < a->config.tokens_count; i++)
        if (&a->config.tokens[i] != t[0] && &a->config.tokens[i] != t[1])
            return graft_fail(err, GRAFT_EARG,
                              "adapter.trainable_token_indices: '%s' names neither %s nor %s",
                              a->config.tokens[i].module, half[0]->name, half[1]->name);
    if (a->config.ensure_weight_tying && a->slots->tied && t[0] && t[1] && !same_ids(t[0], t[1]))
        return graft_fail(err, GRAFT_EARG,
                          "adapter.ensure_weight_tying: %s and %s are tied and have different "
                          "tokens in trainable_token_indices",
                          half[0]->name, half[1]->name);
    return GRAFT_OK;
}

enum graft_status tokens_place(struct adapter *a, struct graft_err *err)
{
    if (!a->config.tokens_count)
        return GRAFT_OK;
    GRAFT_TRY(check_modules(a, err));
    for (int i = 0; i < 2; i++) {
        const struct slot *s = half_of(a->slots, i == 1);

        if (tokens_of(&a->config, s) || (s->is_head && rows_tied(a)))
            GRAFT_TRY(adapter_add_site(a, &tokens_ops, s, NULL, err));
    }
    return GRAFT_OK;
}
