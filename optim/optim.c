/* The table of optimisers, and the walk of one over all chunks. */
#include "optim/optim.h"

#include <stdbool.h>
#include <string.h>

const struct optim_def *const optim_defs[] = { &adamw_def, &sgd_def, NULL };

const struct optim_def *optim_by_name(const char *name)
{
    for (int i = 0; optim_defs[i]; i++)
        if (strcmp(optim_defs[i]->name, name) == 0)
            return optim_defs[i];
    return NULL;
}

static int64_t chunks_of(int64_t count)
{
    return (count + OPTIM_CHUNK - 1) / OPTIM_CHUNK;
}

size_t optim_state_bytes(const struct optim_opts *opts, const struct optim_param *param, int params)
{
    int64_t elems = 0;

    for (int p = 0; p < params; p++)
        elems += param[p].count;
    return (size_t)elems * (size_t)opts->def->moments * sizeof(float);
}

/* Fixed runs of OPTIM_CHUNK elements; none spans two parameters. */
static void cut_chunks(struct optim *o)
{
    struct optim_chunk *c = o->chunk;
    int64_t flat = 0;

    for (int p = 0; p < o->params; p++)
        for (int64_t first = 0; first < o->param[p].count; first += OPTIM_CHUNK) {
            const int64_t left = o->param[p].count - first;
            const int64_t n = left < OPTIM_CHUNK ? left : OPTIM_CHUNK;

            *c++ = (struct optim_chunk){ p, first, n, flat };
            flat += n;
        }
}

enum graft_status optim_new(const struct optim_opts *opts, const struct optim_param *param,
                            int params, struct optim **out, struct graft_err *err)
{
    const size_t bytes = optim_state_bytes(opts, param, params);
    struct optim *o = mem_alloc(sizeof *o);
    bool whole;

    if (!o)
        return graft_fail_nomem(err, "the optimiser", sizeof *o);
    o->opts = *opts;
    o->params = params;
    for (int p = 0; p < params; p++) {
        o->elems += param[p].count;
        o->chunks += chunks_of(param[p].count);
    }
    o->param = arena_array(&o->mem, (size_t)params, sizeof *o->param);
    o->chunk = arena_array(&o->mem, (size_t)o->chunks, sizeof *o->chunk);
    o->began = arena_array(&o->mem, (size_t)params, sizeof *o->began);
    whole = o->param && o->chunk && o->began;
    for (int k = 0; k < opts->def->moments; k++) {
        o->moment[k] = arena_array(&o->mem, (size_t)o->elems, sizeof(float));
        whole = whole && o->moment[k];
    }
    if (!whole) {
        optim_free(o);
        return graft_fail_nomem(err, "the optimiser's state", bytes);
    }
    if (params > 0)
        memcpy(o->param, param, (size_t)params * sizeof *param);
    cut_chunks(o);
    *out = o;
    return GRAFT_OK;
}

void optim_free(struct optim *o)
{
    if (!o)
        return;
    arena_release(&o->mem);
    mem_free(o);
}

void optim_begin(struct optim *o, int param)
{
    o->began[param] = o->step;
}

void optim_step(struct optim *o, double lr)
{
    const int64_t step = ++o->step;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < o->chunks; i++) {
        const struct optim_chunk *c = &o->chunk[i];
        const struct optim_param *p = &o->param[c->param];
        const struct optim_scalars s = { lr * p->lr_ratio, step - o->began[c->param], &o->opts };
        float *moment[OPTIM_MOMENTS] = { NULL, NULL };

        for (int k = 0; k < o->opts.def->moments; k++)
            moment[k] = o->moment[k] + c->flat;
        o->opts.def->update(&s, p->value + c->first, p->grad + c->first, moment, c->count);
    }
}
