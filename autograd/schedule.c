/* Lifetimes: the order of steps, and the interval of time each buffer lives in.
 *
 * Forward runs every needed node in recorded order, backward every node with a gradient in reverse.
 * A recomputed block runs its forward once more right before the first backward step of its own:
 * what only this block reads is then dead between its last use in the forward pass and the second
 * run. Only the nodes whose data or saved values its backward reads run again. */
#include <string.h>

#include "autograd/plan.h"

/* Nodes the outputs depend on; inputs are recorded before their readers. */
static void mark_needed(struct graph *g)
{
    for (int i = 0; i < g->outputs; i++)
        if (g->output[i]->from)
            g->output[i]->from->plan->needed = true;
    for (int i = g->nodes - 1; i >= 0; i--) {
        const struct node *n = g->node[i];

        for (int k = 0; n->plan->needed && k < n->n_in; k++)
            if (n->in[k] && n->in[k]->from)
                n->in[k]->from->plan->needed = true;
    }
}

/* Gradients flow from output[0] down to whatever trains. */
static void mark_backward(struct graph *g)
{
    const struct tensor *loss = g->output[0];

    if (!g->opts.backward || !loss->from || !loss->trains)
        return;
    loss->from->plan->backward = true;
    for (int i = g->nodes - 1; i >= 0; i--) {
        const struct node *n = g->node[i];
        const struct op_def *op = &g->ops[n->op];

        if (!n->plan->backward)
            continue;
        n->plan->needs = op->needs ? op->needs(n) : 0;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && n->in[k]->from && n->in[k]->trains)
                n->in[k]->from->plan->backward = true;
    }
}

static void mark_escapes(struct graph *g)
{
    for (int i = 0; i < g->outputs; i++)
        if (g->output[i]->from)
            g->output[i]->from->plan->escapes = true;
    for (int i = 0; i < g->nodes; i++) {
        const struct node *n = g->node[i];

        if (g->ops[n->op].keep)
            n->plan->escapes = true;
        for (int k = 0; n->plan->needed && k < n->n_in; k++) {
            const struct node *from = n->in[k] ? n->in[k]->from : NULL;

            if (from && from->plan->block != n->plan->block)
                from->plan->escapes = true;
        }
    }
}

void schedule_mark(struct graph *g)
{
    int block = -1;

    for (int i = 0, m = 0; i < g->nodes; i++) {
        struct node_plan *p = g->node[i]->plan;

        while (m < g->marks && g->mark[m] <= i)
            block = m++;
        *p = (struct node_plan){ .index = i, .block = block };
        /* what follows the last mark is no block: nothing ends it */
        if (block == g->marks - 1)
            p->block = -1;
    }
    mark_needed(g);
    mark_backward(g);
    mark_escapes(g);
}

/* Which nodes of recomputed blocks run again: those whose data or saved values a backward step or
 * another rerun node reads. What escapes is kept from the first forward instead. */
static void mark_rerun(struct graph *g, int recomputed)
{
    int blocks = 0, last = -1;

    /* the first blocks: their buffers would live longest, and the peak stands at the other end */
    for (int i = 0; i < g->nodes && blocks <= recomputed; i++) {
        const struct node_plan *p = g->node[i]->plan;

        if (p->backward && p->block > last && ++blocks <= recomputed)
            last = p->block;
    }
    for (int i = 0; i < g->nodes; i++)
        g->node[i]->plan->rerun = false;
    for (int i = g->nodes - 1; i >= 0; i--) {
        const struct node *n = g->node[i];
        struct node_plan *p = n->plan;

        if (p->block < 0 || p->block > last)
            continue;
        if (p->backward && (n->saved_bytes > 0 || (p->needs & NEEDS_OUT)))
            p->rerun = true;
        if (p->escapes || !p->needed)
            p->rerun = false;
        for (int k = 0; k < n->n_in; k++) {
            const struct node *from = n->in[k] ? n->in[k]->from : NULL;
            const bool read = p->rerun || (p->backward && (p->needs >> k & 1));

            /* where that one escapes, its own turn takes this back */
            if (from && read && from->plan->block == p->block)
                from->plan->rerun = true;
        }
    }
}

static void add_step(struct graph *g, struct node *n, enum step_kind kind)
{
    g->step[g->steps++] = (struct step){ n, kind };
}

static void build_steps(struct graph *g)
{
    int entered = -1;

    g->steps = 0;
    for (int i = 0; i < g->nodes; i++)
        if (g->node[i]->plan->needed)
            add_step(g, g->node[i], STEP_FORWARD);
    g->forward_steps = g->steps;
    for (int i = g->nodes - 1; i >= 0; i--) {
        const struct node_plan *p = g->node[i]->plan;

        if (!p->backward)
            continue;
        if (p->block >= 0 && p->block != entered) {
            int first = i;

            entered = p->block;
            while (first > 0 && g->node[first - 1]->plan->block == entered)
                first--;
            for (int k = first; k < g->nodes && g->node[k]->plan->block == entered; k++)
                if (g->node[k]->plan->rerun)
                    add_step(g, g->node[k], STEP_RECOMPUTE);
        }
        add_step(g, g->node[i], STEP_BACKWARD);
    }
}

/* The buffer in *slot is touched at time t; it is born there when it was not yet. */
static void touch(struct graph *g, int *slot, size_t bytes, int t)
{
    if (*slot == NO_BUFFER) {
        const size_t whole = (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;

        *slot = g->bufs++;
        g->buf[*slot] = (struct buffer){ whole, 0, t, t, *slot };
    }
    g->buf[*slot].death = t;
}

static void touch_grad(struct graph *g, const struct tensor *t, int time)
{
    touch(g, &t->plan->grad, (size_t)tensor_elems(t) * sizeof(float), time);
}

/* Which of the two runs made what is read at a step of this kind. */
static int run_of(const struct tensor *t, enum step_kind kind)
{
    return kind != STEP_FORWARD && t->from->plan->rerun;
}

static void touch_step(struct graph *g, int t)
{
    const enum step_kind kind = g->step[t].kind;
    const struct node *n = g->step[t].node;
    const uint32_t reads = kind == STEP_BACKWARD ? n->plan->needs : UINT32_MAX;
    const int run = run_of(n->out, kind);

    for (int k = 0; k < n->n_in; k++) {
        const struct tensor *in = n->in[k];

        if (!in || !in->from)
            continue;
        if (reads >> k & 1)
            touch(g, &in->plan->data[run_of(in, kind)], tensor_data_bytes(in), t);
        if (kind == STEP_BACKWARD && in->trains)
            touch_grad(g, in, t);
    }
    if (kind != STEP_BACKWARD || (reads & NEEDS_OUT))
        touch(g, &n->out->plan->data[run], tensor_data_bytes(n->out), t);
    if (n->saved_bytes > 0)
        touch(g, &n->plan->saved[run], n->saved_bytes, t);
    if (kind == STEP_BACKWARD)
        touch_grad(g, n->out, t);
}

/* The input whose storage the output may take over; NULL: none. */
static const struct tensor *inplace_input(const struct graph *g, const struct node *n)
{
    const int at = g->ops[n->op].inplace;
    const struct tensor *in = at >= 0 && at < n->n_in ? n->in[at] : NULL;

    if (!in || !in->from || tensor_elems(in) != tensor_elems(n->out))
        return NULL;
    for (int k = 0; k < n->n_in; k++)
        if (k != at && n->in[k] == in)
            return NULL; /* read again through another place while it is overwritten */
    return in;
}

/* In place. Data: this step is the last that touches the input's. Gradient: this step is the first
 * that adds to the input's, and the last that reads the output's. So a residual stream is one
 * buffer. */
static void share_step(struct graph *g, int t)
{
    const enum step_kind kind = g->step[t].kind;
    const struct node *n = g->step[t].node;
    const struct tensor *in = inplace_input(g, n);
    int from, to;

    if (!in)
        return;
    if (kind == STEP_BACKWARD) {
        from = n->out->plan->grad;
        to = in->plan->grad;
        if (to == NO_BUFFER || g->buf[to].birth != t)
            return;
    } else {
        from = in->plan->data[run_of(in, kind)];
        to = n->out->plan->data[run_of(n->out, kind)];
        if (g->buf[from].death != t || in->dtype != n->out->dtype)
            return;
    }
    g->buf[to].root = g->buf[from].root;
}

/* Outputs stay readable to the end, and output[0]'s gradient is seeded before backward begins. */
static void pin_ends(struct graph *g)
{
    const struct tensor *loss = g->output[0];

    for (int i = 0; i < g->outputs; i++)
        if (g->output[i]->from)
            g->buf[g->output[i]->plan->data[0]].death = g->steps;
    if (loss->from && loss->plan->grad != NO_BUFFER)
        g->buf[loss->plan->grad].birth = g->forward_steps;
}

/* Roots take the whole interval of those that share them; returns the peak of live bytes. */
static size_t live_peak(struct graph *g)
{
    size_t *born = g->live, *dead = g->live + g->steps + 1, now = 0, peak = 0;

    for (int i = 0; i < g->bufs; i++) {
        struct buffer *b = &g->buf[i], *root = &g->buf[b->root];

        if (b->birth < root->birth)
            root->birth = b->birth;
        if (b->death > root->death)
            root->death = b->death;
    }
    memset(g->live, 0, (size_t)(g->steps + 1) * 2 * sizeof *g->live);
    for (int i = 0; i < g->bufs; i++)
        if (g->buf[i].root == i) {
            born[g->buf[i].birth] += g->buf[i].bytes;
            dead[g->buf[i].death] += g->buf[i].bytes;
        }
    for (int t = 0; t <= g->steps; t++) {
        now += born[t];
        if (now > peak)
            peak = now;
        now -= dead[t];
    }
    return peak;
}

size_t schedule_layout(struct graph *g, int recomputed)
{
    mark_rerun(g, recomputed);
    build_steps(g);
    g->bufs = 0;
    for (int i = 0; i < g->nodes; i++) {
        struct node *n = g->node[i];

        *n->out->plan = (struct tensor_plan){ { NO_BUFFER, NO_BUFFER }, NO_BUFFER };
        n->plan->saved[0] = n->plan->saved[1] = NO_BUFFER;
    }
    for (int t = 0; t < g->steps; t++)
        touch_step(g, t);
    pin_ends(g);
    for (int t = 0; t < g->steps; t++)
        share_step(g, t);
    return live_peak(g);
}
