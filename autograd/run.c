/* Running: the planned steps one after another; nothing allocates. */
#include <assert.h>
#include <string.h>

#include "autograd/plan.h"

/* Where a buffer begins; NULL: there is none. */
static void *at(const struct graph *g, int buffer)
{
    return buffer == NO_BUFFER ? NULL : (char *)g->memory->slab + g->buf[buffer].off;
}

/* Fill with bytes that are NaN in f32 and in bf16. */
static void poison(void *p, size_t bytes)
{
    memset(p, 0xff, bytes);
}

/* Buffers whose last step is t, and working memory, which no op may rely on. Only tests ask for it.
 */
static void poison_dead(const struct graph *g, int t)
{
    poison(g->memory->scratch, g->scratch);
    for (int i = 0; i < g->bufs; i++)
        if (g->buf[i].root == i && g->buf[i].death == t)
            poison(at(g, i), g->buf[i].bytes);
}

/* Point the node's results at the buffers of this run (0: first forward, 1: recomputation). */
static void place(const struct graph *g, struct node *n, int run)
{
    n->out->data = at(g, n->out->plan->data[run]);
    n->saved = at(g, n->plan->saved[run]);
    n->out->grad = at(g, n->out->plan->grad);
}

/* Rows of this pass: buffers hold max_tokens, only n are worked on. */
static void set_rows(const struct graph *g, struct tensor *t)
{
    if (t->per_token)
        t->dim[0] = g->input->n;
    else if (t->per_segment)
        t->dim[0] = g->input->segments;
}

void graph_forward(struct graph *g, const struct graph_input *in)
{
    assert(g->memory && g->memory->slab_bytes >= g->slab && in->n <= g->opts.max_tokens);
    g->input = in;
    if (g->poison)
        poison(g->memory->slab, g->slab);
    for (int t = 0; t < g->forward_steps; t++) {
        struct node *n = g->step[t].node;

        set_rows(g, n->out);
        place(g, n, 0);
        g->ops[n->op].forward(n);
        if (g->poison)
            poison_dead(g, t);
    }
}

/* Backward adds, so gradients begin as zero: those born at step t that took over no other's
 * storage. */
static void clear_born(const struct graph *g, const struct node *n, int t)
{
    for (int k = 0; k < n->n_in; k++) {
        const struct tensor *in = n->in[k];
        const int b = in && in->from ? in->plan->grad : NO_BUFFER;

        if (b != NO_BUFFER && g->buf[b].root == b && g->buf[b].birth == t)
            memset(at(g, b), 0, (size_t)tensor_elems(in) * sizeof(float));
    }
}

void graph_backward(struct graph *g, float seed)
{
    if (g->steps == g->forward_steps)
        return; /* nothing trains */
    for (int64_t i = 0, n = tensor_elems(g->output[0]); i < n; i++)
        g->output[0]->grad[i] = seed;
    for (int t = g->forward_steps; t < g->steps; t++) {
        struct node *n = g->step[t].node;

        if (g->step[t].kind == STEP_RECOMPUTE) {
            place(g, n, 1);
            g->ops[n->op].forward(n);
        } else {
            clear_born(g, n, t);
            g->ops[n->op].backward(n);
        }
        if (g->poison)
            poison_dead(g, t);
    }
}
