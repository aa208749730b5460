#include "train/generate.h"

#include <string.h>

#include "train/sample.h"

enum { PREFILL = 256, CACHE_LIMIT_MIB = 2048 };

const char *const stop_names[] = { "length", "eos", "text", "asked" };

/* One request under way. */
struct sequence {
    const struct generate_request *req;
    struct generate_answer *answer;
    const struct text *text; /* of its task */
    const int32_t *id;       /* n: the prompt with its virtual tokens */
    int32_t *own;            /* they, where it has any */
    int64_t n;
    int64_t first_position;
    struct token_stream stream;
    int index;    /* of the request, for the stream */
    size_t shown; /* bytes of the text already streamed */
    int64_t past; /* tokens in the cache */
    bool done;
};

struct generator {
    const struct base *base;
    const struct text *text;
    const struct task_list *tasks;
    struct generate_opts opts;
    struct sampler sampler;
    struct net base_net; /* the base alone; g NULL until used, as in `net` */
    struct net *net;     /* nets, by task */
    int nets;
    struct graph_memory memory; /* shared by the nets: one runs at a time */
    struct kv_cache cache;
    struct sample_item *work;
    struct arena mem;
};

void generate_answer_release(struct generate_answer *a)
{
    id_list_release(&a->id);
    strbuf_release(&a->text);
}

enum graft_status generator_options(struct generator *g, const struct generate_opts *opts,
                                    struct graft_err *err)
{
    const enum dtype act = g->opts.act;

    for (int i = 0; i < opts->stops; i++)
        if (!*opts->stop[i])
            return graft_fail(err, GRAFT_EARG, "stop text %d is empty", i + 1);
    g->opts = *opts;
    g->opts.act = act;
    g->sampler = (struct sampler){ opts->temperature, opts->top_k, opts->top_p };
    return GRAFT_OK;
}

enum graft_status generator_new(const struct base *b, const struct text *text,
                                const struct task_list *tasks, const struct generate_opts *opts,
                                struct generator **out, struct graft_err *err)
{
    struct generator *g = mem_alloc(sizeof *g);
    const size_t vocab = (size_t)b->ck.config.vocab;
    enum graft_status st;

    if (!g)
        return graft_fail_nomem(err, "generation", sizeof *g);
    g->base = b;
    g->text = text;
    g->tasks = tasks;
    g->opts.act = opts->act;
    st = generator_options(g, opts, err);
    g->work = arena_array(&g->mem, vocab, sizeof *g->work);
    if (!st && !g->work)
        st = graft_fail_nomem(err, "generation", vocab * sizeof *g->work);
    if (st)
        generator_free(g);
    else
        *out = g;
    return st;
}

static void cache_release(struct kv_cache *c)
{
    mem_free(c->k);
    mem_free(c->v);
    *c = (struct kv_cache){ 0 };
}

void generator_free(struct generator *g)
{
    if (!g)
        return;
    net_release(&g->base_net);
    for (int i = 0; i < g->nets; i++)
        net_release(&g->net[i]);
    mem_free(g->net);
    graph_memory_release(&g->memory);
    cache_release(&g->cache);
    arena_release(&g->mem);
    mem_free(g);
}

/* Where the net of a task lives, made when there is no place yet; NULL: no memory. */
static struct net *net_place(struct generator *g, int task)
{
    const int nets = task + 1 > g->tasks->count ? task + 1 : g->tasks->count;
    struct net *grown;

    if (task == TASK_BASE)
        return &g->base_net;
    if (task >= g->nets) {
        grown = mem_resize(g->net, (size_t)g->nets * sizeof *grown, (size_t)nets * sizeof *grown);
        if (!grown)
            return NULL;
        g->net = grown;
        g->nets = nets;
    }
    return &g->net[task];
}

static enum graft_status net_for(struct generator *g, int task, struct net **out,
                                 struct graft_err *err)
{
    const struct net_opts opts = { .max_tokens = PREFILL,
                                   .max_segments = GENERATE_BATCH,
                                   .act = g->opts.act,
                                   .mode = NET_LOGITS,
                                   .shared = &g->memory };

    *out = net_place(g, task);
    if (!*out)
        return graft_fail_nomem(err, "graphs", (size_t)(task + 1) * sizeof **out);
    if ((*out)->g) /* what is shared may have been lost when another graph did not fit */
        return graph_allocate((*out)->g, &g->memory, err);
    return net_make(g->base->model, task == TASK_BASE ? NULL : g->tasks->task[task].adapter, &opts,
                    *out, err);
}

enum graft_status generator_prepare(struct generator *g, int task, struct graft_err *err)
{
    struct net *net;

    return net_for(g, task, &net, err);
}

void generator_forget(struct generator *g, int task)
{
    if (task == TASK_BASE)
        net_release(&g->base_net);
    else if (task < g->nets)
        net_release(&g->net[task]);
}

/* Room for `slots` sequences of `capacity` tokens; what is there is kept when it suffices. */
static enum graft_status cache_make(struct generator *g, int64_t slots, int64_t capacity,
                                    struct graft_err *err)
{
    const struct model_config *c = &g->base->ck.config;
    struct kv_cache k = { c->layers, slots, capacity, c->kv_heads * c->head_dim, NULL, NULL };
    const size_t n = (size_t)(k.layers * k.slots * k.capacity * k.width);

    if (g->cache.k && g->cache.slots >= slots && g->cache.capacity >= capacity)
        return GRAFT_OK;
    cache_release(&g->cache);
    k.k = mem_array(n, sizeof *k.k);
    k.v = mem_array(n, sizeof *k.v);
    if (!k.k || !k.v) {
        cache_release(&k);
        return graft_fail_nomem(err, "keys and values of earlier tokens", n * 8);
    }
    g->cache = k;
    return GRAFT_OK;
}

/* Where the first of the stop texts begins in the answer; SIZE_MAX: nowhere. */
static size_t find_stop(const struct generator *g, const struct strbuf *text)
{
    size_t first = SIZE_MAX;

    for (int i = 0; i < g->opts.stops; i++) {
        const char *stop = g->opts.stop[i]; /* the text may hold U+0000 */
        const char *at = text->len ? memmem(text->buf, text->len, stop, strlen(stop)) : NULL;

        if (at && (size_t)(at - text->buf) < first)
            first = (size_t)(at - text->buf);
    }
    return first;
}

/* How much of the text can be shown: the tail might be the beginning of a stop text. */
static size_t safe_length(const struct generator *g, const struct strbuf *text)
{
    size_t keep = 0;

    for (int i = 0; i < g->opts.stops; i++) {
        const size_t len = strlen(g->opts.stop[i]);

        for (size_t n = len < text->len ? len : text->len; n > keep; n--)
            if (!memcmp(text->buf + text->len - n, g->opts.stop[i], n))
                keep = n;
    }
    return text->len - keep;
}

static void stream(struct sequence *s, size_t upto, generate_piece *piece, void *user)
{
    if (piece && upto > s->shown)
        piece(user, s->index, s->answer->text.buf + s->shown, upto - s->shown);
    if (upto > s->shown)
        s->shown = upto;
}

static enum graft_status finish(struct generator *g, struct sequence *s, generate_piece *piece,
                                void *user, struct graft_err *err)
{
    struct generate_answer *a = s->answer;
    size_t cut;

    s->done = true;
    if (s->text->tokenizer && a->stop != STOP_TEXT)
        GRAFT_TRY(token_stream_flush(&s->stream, &a->text, err));
    cut = find_stop(g, &a->text);
    if (cut != SIZE_MAX) {
        a->text.len = cut;
        a->text.buf[cut] = '\0';
        a->stop = STOP_TEXT;
    }
    stream(s, a->text.len, piece, user);
    return GRAFT_OK;
}

/* Take the token that follows position `past` of the sequence. */
static enum graft_status accept(struct generator *g, struct sequence *s, const float *logit,
                                generate_piece *piece, void *user, struct graft_err *err)
{
    const struct rng_key key = { s->req->seed, RNG_SAMPLE, 0, 0 };
    struct generate_answer *a = s->answer;
    const int32_t id = sample_token(&g->sampler, logit, g->base->ck.config.vocab,
                                    rng_uniform(key, (uint64_t)a->id.count), g->work);

    if (id < 0)
        return graft_fail(err, GRAFT_ERUN, "the logits of token %lld are not numbers",
                          (long long)s->past);
    GRAFT_TRY(id_list_add(&a->id, id, err));
    if (text_stops_at(s->text, id)) {
        a->stop = STOP_EOS;
        return finish(g, s, piece, user, err);
    }
    if (s->text->tokenizer) {
        /* rows of the embedding that no token has: no text */
        if (id < tokenizer_vocab_size(s->text->tokenizer))
            GRAFT_TRY(token_stream_put(&s->stream, id, &a->text, err));
        if (find_stop(g, &a->text) != SIZE_MAX) {
            a->stop = STOP_TEXT;
            return finish(g, s, piece, user, err);
        }
        stream(s, safe_length(g, &a->text), piece, user);
    }
    if (a->id.count == g->opts.max_new ||
        s->first_position + s->past >= g->base->ck.config.max_positions) {
        a->stop = STOP_LENGTH;
        return finish(g, s, piece, user, err);
    }
    return GRAFT_OK;
}

/* The caller wants no more: the answer ends where it is. */
static bool asked(const struct generator *g)
{
    return g->opts.asked && *g->opts.asked;
}

static enum graft_status end_asked(struct generator *g, struct sequence *s, generate_piece *piece,
                                   void *user, struct graft_err *err)
{
    if (s->done)
        return GRAFT_OK;
    s->answer->stop = STOP_ASKED;
    return finish(g, s, piece, user, err);
}

static enum graft_status prefill(struct generator *g, struct net *net, struct sequence *s,
                                 int64_t slot, generate_piece *piece, void *user,
                                 struct graft_err *err)
{
    int32_t pos[PREFILL];

    while (s->past < s->n) {
        const int64_t n = s->n - s->past < PREFILL ? s->n - s->past : PREFILL;
        const int64_t start[2] = { 0, n };
        struct graph_input in = { .n = n,
                                  .id = s->id + s->past,
                                  .pos = pos,
                                  .segments = 1,
                                  .start = start,
                                  .cache = &g->cache,
                                  .slot = &slot,
                                  .past = &s->past };

        if (asked(g))
            return end_asked(g, s, piece, user, err);
        for (int64_t i = 0; i < n; i++)
            pos[i] = (int32_t)(s->first_position + s->past + i);
        graph_forward(net->g, &in);
        s->past += n;
    }
    return accept(g, s, net->out->data, piece, user, err);
}

/* One token for every sequence that is not done, in one pass. *left: how many there were. */
static enum graft_status decode(struct generator *g, struct net *net, struct sequence *seq,
                                int count, int *left, generate_piece *piece, void *user,
                                struct graft_err *err)
{
    const int64_t vocab = g->base->ck.config.vocab;
    int32_t id[GENERATE_BATCH], pos[GENERATE_BATCH];
    int64_t start[GENERATE_BATCH + 1] = { 0 }, slot[GENERATE_BATCH], past[GENERATE_BATCH];
    struct sequence *row[GENERATE_BATCH];
    struct graph_input in = {
        .id = id, .pos = pos, .start = start, .cache = &g->cache, .slot = slot, .past = past
    };

    for (int i = 0; i < count; i++) {
        const struct id_list *l = &seq[i].answer->id;

        if (seq[i].done)
            continue;
        row[in.n] = &seq[i];
        id[in.n] = l->id[l->count - 1];
        pos[in.n] = (int32_t)(seq[i].first_position + seq[i].past);
        past[in.n] = seq[i].past;
        slot[in.n] = i;
        in.n++;
        start[in.n] = in.n;
    }
    in.segments = in.n;
    *left = (int)in.n;
    if (in.n == 0)
        return GRAFT_OK;
    graph_forward(net->g, &in);
    for (int64_t i = 0; i < in.n; i++) {
        row[i]->past++;
        GRAFT_TRY(accept(g, row[i], (const float *)net->out->data + i * vocab, piece, user, err));
    }
    return GRAFT_OK;
}

/* Sequences of one task: each prompt alone, then the new tokens together. */
static enum graft_status run_group(struct generator *g, struct sequence *seq, int count,
                                   generate_piece *piece, void *user, struct graft_err *err)
{
    struct net *net = NULL;
    int64_t longest = 0, room;
    int left = 1;

    for (int i = 0; i < count; i++)
        if (seq[i].n > longest)
            longest = seq[i].n;
    GRAFT_TRY(net_for(g, seq[0].req->task, &net, err));
    room = longest + g->opts.max_new;
    if (room > g->base->ck.config.max_positions)
        room = g->base->ck.config.max_positions;
    GRAFT_TRY(cache_make(g, count, room, err));
    for (int i = 0; i < count; i++)
        GRAFT_TRY(prefill(g, net, &seq[i], i, piece, user, err));
    while (left && !asked(g))
        GRAFT_TRY(decode(g, net, seq, count, &left, piece, user, err));
    for (int i = 0; i < count; i++)
        GRAFT_TRY(end_asked(g, &seq[i], piece, user, err));
    return GRAFT_OK;
}

enum graft_status generator_check(const struct generator *g, int task, const int32_t *id, int64_t n,
                                  struct graft_err *err)
{
    const int64_t most = g->base->ck.config.max_positions, vocab = g->base->ck.config.vocab;
    const struct virtual_tokens v = tasks_virtual(g->tasks, task);
    const int64_t more = v.front + v.before;

    if (n == 0)
        return graft_fail(err, GRAFT_EARG, "the prompt has no tokens");
    if (n <= most && n + more > most)
        return graft_fail(
            err, GRAFT_EARG,
            "the prompt has %lld tokens, the adapter puts %lld positions before them, "
            "the model's context is %lld",
            (long long)n, (long long)more, (long long)most);
    if (n > most)
        return graft_fail(err, GRAFT_EARG,
                          "the prompt has %lld tokens, the model's context is %lld", (long long)n,
                          (long long)most);
    for (int64_t t = 0; t < n; t++)
        if (id[t] < 0 || id[t] >= vocab)
            return graft_fail(
                err, GRAFT_EARG,
                "token id %d at position %lld of the prompt, the embedding has rows 0 to %lld",
                id[t], (long long)t, (long long)vocab - 1);
    return virtual_check(&v, id, n, err);
}

static enum graft_status check_all(const struct generator *g, const struct generate_request *req,
                                   int count, struct graft_err *err)
{
    for (int i = 0; i < count; i++) {
        const enum graft_status st = generator_check(g, req[i].task, req[i].id, req[i].n, err);

        if (st)
            return count == 1 ? st : graft_fail_in(err, st, "prompt %d", i + 1);
    }
    return GRAFT_OK;
}

/* How many sequences may share the cache, by its size. */
static int group_limit(const struct generator *g, int64_t capacity)
{
    const struct model_config *c = &g->base->ck.config;
    const int64_t one = c->layers * capacity * c->kv_heads * c->head_dim * 8;
    const int64_t fit = ((int64_t)CACHE_LIMIT_MIB << 20) / (one ? one : 1);

    return fit < 1 ? 1 : fit > GENERATE_BATCH ? GENERATE_BATCH : (int)fit;
}

/* The prompt as the network takes it. */
static enum graft_status put_prompt(const struct generator *g, struct sequence *s,
                                    struct graft_err *err)
{
    const struct virtual_tokens v = tasks_virtual(g->tasks, s->req->task);

    s->id = s->req->id;
    s->n = s->req->n;
    s->first_position = v.before;
    if (!v.front && !v.placed)
        return GRAFT_OK;
    s->n += v.front;
    s->own = mem_array((size_t)s->n, sizeof *s->own);
    if (!s->own)
        return graft_fail_nomem(err, "prompt", (size_t)s->n * sizeof *s->own);
    for (int64_t t = 0; t < v.front; t++)
        s->own[t] = (int32_t)(-1 - t);
    memcpy(s->own + v.front, s->req->id, (size_t)s->req->n * sizeof *s->own);
    s->id = s->own;
    return virtual_place(&v, s->own + v.front, s->req->n, err);
}

static enum graft_status begin(const struct generator *g, const struct generate_request *req, int i,
                               struct generate_answer *answer, struct sequence *out,
                               struct graft_err *err)
{
    const struct text *own = req->task == TASK_BASE ? NULL : g->tasks->task[req->task].text;
    const struct text *text = own ? own : g->text;

    *out = (struct sequence){ .req = req,
                              .answer = answer,
                              .text = text,
                              .index = i,
                              .stream = { .t = text->tokenizer, .skip_special = true } };
    return put_prompt(g, out, err);
}

enum graft_status generator_run(struct generator *g, const struct generate_request *req, int count,
                                struct generate_answer *answer, generate_piece *piece, void *user,
                                struct graft_err *err)
{
    struct sequence seq[GENERATE_BATCH];
    bool taken[GENERATE_BATCH] = { false };
    enum graft_status st = check_all(g, req, count, err);

    for (int first = 0; first < count && !st; first++) {
        int n = 0, most = 1;

        if (taken[first])
            continue;
        memset(seq, 0, sizeof seq);
        for (int i = first; i < count && n < most && !st; i++) {
            if (taken[i] || req[i].task != req[first].task)
                continue;
            taken[i] = true;
            st = begin(g, &req[i], i, &answer[i], &seq[n++], err);
            most = group_limit(g, seq[n - 1].n + g->opts.max_new);
        }
        if (!st)
            st = run_group(g, seq, n, piece, user, err);
        for (int i = 0; i < n; i++) {
            token_stream_release(&seq[i].stream);
            mem_free(seq[i].own);
        }
    }
    return st;
}
