/* The plan: how many blocks are recomputed so that the slab fits its budget. */
#include <string.h>

#include "autograd/plan.h"

enum { MIB = 1 << 20 };

/* Tables for the worst case: every node runs twice and backward. */
static enum graft_status plan_tables(struct graph *g, struct graft_err *err)
{
    const size_t nodes = (size_t)g->nodes, bufs = 5 * nodes;
    const size_t bytes = bufs * (sizeof *g->buf + sizeof *g->item + sizeof *g->placed);

    g->step = arena_array(&g->plan_mem, 3 * nodes, sizeof *g->step);
    g->buf = arena_array(&g->plan_mem, bufs, sizeof *g->buf);
    g->item = arena_array(&g->plan_mem, bufs, sizeof *g->item);
    g->placed = arena_array(&g->plan_mem, bufs, sizeof *g->placed);
    g->live = arena_array(&g->plan_mem, 2 * (3 * nodes + 1), sizeof *g->live);
    g->output = arena_array(&g->plan_mem, (size_t)g->outputs, sizeof *g->output);
    if (!g->step || !g->buf || !g->item || !g->placed || !g->live || !g->output)
        return graft_fail_nomem(err, "the memory plan", bytes);
    return GRAFT_OK;
}

static enum graft_status check_outputs(const struct graph *g, struct tensor *const *output,
                                       int outputs, struct graft_err *err)
{
    GRAFT_TRY(graph_error(g, err));
    if (outputs < 1)
        return graft_fail(err, GRAFT_EARG, "a graph needs an output");
    for (int i = 0; i < outputs; i++)
        if (!output[i])
            return graft_fail(err, GRAFT_EARG, "output %d of the graph is missing", i);
    return GRAFT_OK;
}

/* Counts of the pruned graph; refuses a gradient through an op that has none. */
static enum graft_status count_nodes(struct graph *g, struct plan_report *r, struct graft_err *err)
{
    int last = -1;

    g->scratch = 0;
    for (int i = 0; i < g->nodes; i++) {
        const struct node *n = g->node[i];
        const struct op_def *op = &g->ops[n->op];
        const size_t scratch = n->plan->needed && op->scratch ? op->scratch(n) : 0;

        if (scratch > g->scratch)
            g->scratch = scratch;
        r->nodes += n->plan->needed;
        r->backward_nodes += n->plan->backward;
        if (n->plan->backward && !op->backward)
            return graft_fail(err, GRAFT_EARG, "%s: has no gradient, but one must pass through it",
                              op->name);
        if (n->plan->backward && n->plan->block > last) {
            last = n->plan->block;
            r->blocks++;
        }
    }
    r->scratch = g->scratch;
    return GRAFT_OK;
}

/* The smallest number of recomputed blocks whose slab fits. A layout whose live bytes alone exceed
 * the budget need not be packed. */
static enum graft_status choose(struct graph *g, size_t budget, struct plan_report *r,
                                struct graft_err *err)
{
    size_t least = SIZE_MAX;

    schedule_layout(g, r->blocks);
    r->slab_full_recompute = pack_buffers(g);
    schedule_layout(g, 0);
    r->slab_no_recompute = pack_buffers(g);
    for (int k = 0; k <= r->blocks; k++) {
        const size_t live = schedule_layout(g, k);

        if (budget && live > budget) {
            least = live < least ? live : least;
            continue;
        }
        g->slab = pack_buffers(g);
        if (!budget || g->slab <= budget) {
            r->slab = g->slab;
            r->recomputed = k;
            return GRAFT_OK;
        }
        least = g->slab < least ? g->slab : least;
    }
    if (!r->blocks)
        return graft_fail(err, GRAFT_EARG,
                          "activations and gradients need %.1f MiB and no block has any to "
                          "recompute, the budget leaves %.1f MiB for them",
                          (double)least / MIB, (double)budget / MIB);
    return graft_fail(err, GRAFT_EARG,
                      "activations and gradients need %.1f MiB with all %d blocks recomputed, "
                      "the budget leaves %.1f MiB for them",
                      (double)least / MIB, r->blocks, (double)budget / MIB);
}

/* Whatever an earlier plan or pass left: dims of the largest pass, no buffers. */
static void forget_plan(struct graph *g)
{
    g->planned = false;
    g->memory = NULL;
    arena_release(&g->plan_mem);
    for (int i = 0; i < g->nodes; i++) {
        struct tensor *t = g->node[i]->out;

        if (t->per_token)
            t->dim[0] = g->opts.max_tokens;
        else if (t->per_segment)
            t->dim[0] = g->opts.max_segments;
        t->data = NULL;
        t->grad = NULL;
        g->node[i]->saved = NULL;
    }
}

enum graft_status graph_plan(struct graph *g, struct tensor *const *output, int outputs,
                             size_t budget, struct plan_report *report, struct graft_err *err)
{
    struct plan_report r = { 0 };

    GRAFT_TRY(check_outputs(g, output, outputs, err));
    forget_plan(g);
    g->outputs = outputs;
    GRAFT_TRY(plan_tables(g, err));
    memcpy(g->output, output, (size_t)outputs * sizeof *output);
    schedule_mark(g);
    GRAFT_TRY(count_nodes(g, &r, err));
    GRAFT_TRY(choose(g, budget, &r, err));
    g->planned = true;
    r.tables = g->mem.used + g->plan_mem.used;
    if (report)
        *report = r;
    return GRAFT_OK;
}

void graph_memory_release(struct graph_memory *m)
{
    mem_free(m->slab);
    mem_free(m->scratch);
    *m = (struct graph_memory){ NULL, NULL, 0, 0 };
}

void graph_lend(struct graph *g, struct graph_memory *m)
{
    g->memory = m;
}

/* Freed before it grows: two slabs at once would break the plan. */
static enum graft_status grow(void **p, size_t *have, size_t want, const char *what,
                              struct graft_err *err)
{
    if (*p && *have >= want)
        return GRAFT_OK;
    mem_free(*p);
    *have = 0;
    *p = mem_alloc(want);
    if (!*p)
        return graft_fail_nomem(err, what, want);
    *have = want;
    return GRAFT_OK;
}

enum graft_status graph_allocate(struct graph *g, struct graph_memory *shared,
                                 struct graft_err *err)
{
    struct graph_memory *m = shared ? shared : &g->own;

    if (!g->planned)
        return graft_fail(err, GRAFT_EARG, "a graph is planned before it is allocated");
    GRAFT_TRY(grow(&m->slab, &m->slab_bytes, g->slab, "activations and gradients", err));
    GRAFT_TRY(grow(&m->scratch, &m->scratch_bytes, g->scratch, "working memory", err));
    g->memory = m;
    return GRAFT_OK;
}
