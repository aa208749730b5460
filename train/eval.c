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

int64_t eval_pass_tokens(const struct dataset *d, int64_t virtual_front)
{
    const int64_t all = d->stats.tokens + d->count * virtual_front;
    const int64_t most = all < PASS_TOKENS ? all : PASS_TOKENS;
    const int64_t longest = d->stats.longest + virtual_front;

    return longest > most ? longest : most;
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

static void put_record(const struct net *n, struct evaluator *e, const struct dataset *d, int64_t i,
                       struct graph_input *in)
{
    const struct record *r = &d->record[i];
    const int64_t front = n->virtual_front, from = in->n + front;

    for (int64_t t = 0; t < front; t++) {
        e->id[in->n + t] = (int32_t)(-1 - t);
        e->target[in->n + t] = -1;
    }
    dataset_copy(d, r, e->id + from, NULL);
    for (int64_t t = 0; t < r->length; t++) {
        const int32_t label = t + 1 < r->length ? dataset_label(d, r, t + 1) : NO_LABEL;

        e->target[from + t] = label != NO_LABEL ? label : -1;
    }
    for (int64_t t = 0; t < front + r->length; t++)
        e->pos[in->n + t] = (int32_t)(n->first_position + t);
    e->which[in->segments++] = i;
    in->n += front + r->length;
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
                              dataset_file(d, r), (long long)r->line,
                              fabs(sum)); /* a NaN has no sign */
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
        const int64_t length = r->length + n->virtual_front;

        if (r->length == 0 || (use && !use[i]))
            continue;
        if (length > n->max_tokens)
            return graft_fail(err, GRAFT_EARG, "%s:%lld: %lld tokens, at most %lld fit here",
                              dataset_file(d, r), (long long)r->line, (long long)length,
                              (long long)n->max_tokens);
        if (in.n + length > n->max_tokens || in.segments == n->max_segments)
            GRAFT_TRY(run_pass(n, e, d, &in, per_record, &sum, err));
        put_record(n, e, d, i, &in);
        dataset_touch(d, &touched, (size_t)r->length * 4 + sizeof *r);
    }
    GRAFT_TRY(run_pass(n, e, d, &in, per_record, &sum, err));
    *out = sum;
    return GRAFT_OK;
}
