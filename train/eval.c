#include "train/eval.h"

#include <math.h>

enum { PASS_TOKENS = 2048, PASS_SEGMENTS = 256 };

struct evaluator {
    int32_t *target, *pos, *id;
    int64_t *start, *which;
    float *nll;
    const volatile sig_atomic_t *stop; /* NULL: nothing stops it */
    struct arena mem;
};

int64_t eval_pass_tokens(const struct dataset *d)
{
    const int64_t most = d->stats.tokens < PASS_TOKENS ? d->stats.tokens : PASS_TOKENS;

    return d->stats.longest > most ? d->stats.longest : most;
}

enum graft_status evaluator_new(const struct net *n, struct evaluator **out, struct graft_err *err)
{
    const size_t tokens = (size_t)n->max_tokens, segments = (size_t)n->max_segments;
    struct evaluator *e = mem_alloc(sizeof *e);

    if (!e)
        return graft_fail_nomem(err, "evaluation", sizeof *e);
    e->id = arena_array(&e->mem, tokens, sizeof *e->id);
    e->target = arena_array(&e->mem, tokens, sizeof *e->target);
    e->pos = arena_array(&e->mem, tokens, sizeof *e->pos);
    e->nll = arena_array(&e->mem, tokens, sizeof *e->nll);
    e->start = arena_array(&e->mem, segments + 1, sizeof *e->start);
    e->which = arena_array(&e->mem, segments, sizeof *e->which);
    if (!e->id || !e->target || !e->pos || !e->nll || !e->start || !e->which) {
        evaluator_free(e);
        return graft_fail_nomem(err, "evaluation", tokens * 16);
    }
    *out = e;
    return GRAFT_OK;
}

void evaluator_free(struct evaluator *e)
{
    if (!e)
        return;
    arena_release(&e->mem);
    mem_free(e);
}

void evaluator_stop_at(struct evaluator *e, const volatile sig_atomic_t *stop)
{
    e->stop = stop;
}

static void put_record(struct evaluator *e, const struct dataset *d, int64_t i,
                       struct graph_input *in)
{
    const struct record *r = &d->record[i];

    dataset_copy(d, r, e->id + in->n, NULL);
    for (int64_t t = 0; t < r->length; t++) {
        const int32_t label = t + 1 < r->length ? dataset_label(d, r, t + 1) : NO_LABEL;

        e->pos[in->n + t] = (int32_t)t;
        e->target[in->n + t] = label != NO_LABEL ? label : -1;
    }
    e->which[in->segments++] = i;
    in->n += r->length;
    e->start[in->segments] = in->n;
}

static enum graft_status run_pass(struct net *n, struct evaluator *e, const struct dataset *d,
                                  struct graph_input *in, double *per_record,
                                  struct eval_result *out, struct graft_err *err)
{
    if (in->n == 0)
        return GRAFT_OK;
    if (e->stop && *e->stop)
        return graft_fail(err, GRAFT_ESTOPPED, "the evaluation was stopped");
    graph_forward(n->g, in);
    for (int64_t s = 0; s < in->segments; s++) {
        const struct record *r = &d->record[e->which[s]];
        double sum = 0;

        for (int64_t t = e->start[s]; t < e->start[s + 1]; t++)
            if (e->target[t] >= 0)
                sum += (double)e->nll[t];
        if (!isfinite(sum))
            return graft_fail(err, GRAFT_ERUN, "%s:%lld: the loss of this record is %g",
                              dataset_file(d, r), (long long)r->line, sum);
        if (per_record)
            per_record[e->which[s]] = sum;
        out->nll += sum;
        out->tokens += r->targets;
        out->examples++;
    }
    in->n = in->segments = 0;
    return GRAFT_OK;
}

enum graft_status eval_records(struct net *n, struct evaluator *e, const struct dataset *d,
                               const bool *use, double *per_record, struct eval_result *out,
                               struct graft_err *err)
{
    struct graph_input in = {
        .id = e->id, .target = e->target, .pos = e->pos, .start = e->start, .nll = e->nll
    };
    struct eval_result sum = { 0 };
    int64_t touched = 0;

    e->start[0] = 0;
    for (int64_t i = 0; i < d->count; i++) {
        const struct record *r = &d->record[i];

        if (r->length == 0 || (use && !use[i]))
            continue;
        if (r->length > n->max_tokens)
            return graft_fail(err, GRAFT_EARG, "%s:%lld: %lld tokens, at most %lld fit here",
                              dataset_file(d, r), (long long)r->line, (long long)r->length,
                              (long long)n->max_tokens);
        if (in.n + r->length > n->max_tokens || in.segments == n->max_segments)
            GRAFT_TRY(run_pass(n, e, d, &in, per_record, &sum, err));
        put_record(e, d, i, &in);
        dataset_touch(d, &touched, (size_t)r->length * 4 + sizeof *r);
    }
    GRAFT_TRY(run_pass(n, e, d, &in, per_record, &sum, err));
    *out = sum;
    return GRAFT_OK;
}
