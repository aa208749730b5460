/* Recording: nodes in the order of their calls, leaves, and the first error. */
#include <string.h>

#include "autograd/plan.h"

enum graft_status graph_new(const struct graph_opts *opts, struct graph **out,
                            struct graft_err *err)
{
    struct graph *g = mem_alloc(sizeof *g);

    if (!g)
        return graft_fail_nomem(err, "a graph", sizeof *g);
    g->ops = op_defs;
    g->opts = *opts;
    *out = g;
    return GRAFT_OK;
}

void graph_free(struct graph *g)
{
    struct graph *child = g ? g->child : NULL;

    if (!g)
        return;
    while (child) {
        struct graph *next = child->sibling;

        graph_free(child);
        child = next;
    }
    graph_memory_release(&g->own);
    arena_release(&g->plan_mem);
    arena_release(&g->mem);
    mem_free(g->node);
    mem_free(g->mark);
    mem_free(g);
}

enum graft_status graph_error(const struct graph *g, struct graft_err *err)
{
    if (g->err.code == GRAFT_OK)
        return GRAFT_OK;
    return graft_fail(err, g->err.code, "%s", g->err.msg);
}

/* Room for one more entry of `size` bytes in a growing array. */
static void *grown(struct graph *g, void *array, int count, int *cap, size_t size)
{
    const int more = *cap ? *cap * 2 : 64;
    void *p;

    if (count < *cap)
        return array;
    p = mem_resize(array, (size_t)*cap * size, (size_t)more * size);
    if (!p) {
        graft_fail_nomem(&g->err, "a graph", (size_t)more * size);
        return NULL;
    }
    *cap = more;
    return p;
}

static void *record_alloc(struct graph *g, size_t bytes)
{
    void *p = g->err.code ? NULL : arena_alloc(&g->mem, bytes);

    if (!p && !g->err.code)
        graft_fail_nomem(&g->err, "a graph", bytes);
    return p;
}

struct tensor *graph_weight(struct graph *g, const struct qmat *w, const char *name)
{
    struct tensor *t = record_alloc(g, sizeof *t);

    if (!t)
        return NULL;
    *t = (struct tensor){ .ndim = 2, .dim = { w->rows, w->cols }, .w = w, .name = name };
    return t;
}

struct tensor *graph_vector(struct graph *g, const float *data, int64_t n, const char *name)
{
    struct tensor *t = record_alloc(g, sizeof *t);

    if (!t)
        return NULL;
    /* the graph reads leaves without a gradient and never writes them */
    *t = (struct tensor){ .ndim = 1, .dim = { n }, .data = (void *)(uintptr_t)data, .name = name };
    return t;
}

struct tensor *graph_leaf(struct graph *g, struct tensor *t)
{
    struct tensor *leaf;

    if (!t)
        return NULL;
    leaf = record_alloc(g, sizeof *leaf);
    if (!leaf)
        return NULL;
    /* a copy: one parameter may train in one graph and be a constant of another */
    *leaf = *t;
    leaf->from = NULL;
    leaf->plan = NULL;
    leaf->per_token = leaf->per_segment = false;
    if (!g->opts.backward)
        leaf->grad = NULL;
    leaf->trains = leaf->grad != NULL;
    return leaf;
}

enum dtype graph_set_act(struct graph *g, enum dtype act)
{
    const enum dtype before = g->opts.act;

    g->opts.act = act;
    return before;
}

struct tensor *graph_rows(struct graph *g, int64_t width, enum dtype dtype, bool trains)
{
    struct tensor *t = record_alloc(g, sizeof *t);

    if (!t)
        return NULL;
    *t = (struct tensor){ .dtype = dtype,
                          .ndim = 2,
                          .dim = { g->opts.max_tokens, width },
                          .per_token = true,
                          .trains = trains && g->opts.backward };
    return t;
}

struct graph *graph_child(struct graph *g, int64_t rows)
{
    const struct graph_opts opts = {
        .max_tokens = rows, .max_segments = 1, .act = g->opts.act, .backward = g->opts.backward
    };
    struct graph *child = NULL;

    if (g->err.code || graph_new(&opts, &child, &g->err))
        return NULL;
    child->ops = g->ops;
    child->wide = true;
    child->sibling = g->child;
    return g->child = child;
}

void graph_block(struct graph *g, struct tensor *x)
{
    int *mark;

    if (!x || g->err.code)
        return;
    mark = grown(g, g->mark, g->marks, &g->mark_cap, sizeof *g->mark);
    if (!mark)
        return;
    g->mark = mark;
    g->mark[g->marks++] = g->nodes;
}

int64_t tensor_elems(const struct tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

size_t tensor_data_bytes(const struct tensor *t)
{
    return (size_t)tensor_elems(t) * (t->dtype == DT_BF16 ? 2 : 4);
}

/* Shapes come from files: their product must not overflow. 2^56 elements are beyond any machine. */
static enum graft_status check_size(const struct op_def *op, const struct node *n,
                                    struct graft_err *err)
{
    int64_t elems = 1;

    for (int i = 0; i < n->out->ndim; i++) {
        const int64_t d = n->out->dim[i];

        if (d < 0 || __builtin_mul_overflow(elems, d, &elems) || elems > (int64_t)1 << 56)
            return graft_fail(err, GRAFT_ESHAPE, "%s: an output of that size cannot be held",
                              op->name);
    }
    if (n->saved_bytes > (size_t)1 << 58)
        return graft_fail(err, GRAFT_ESHAPE, "%s: saved values of that size cannot be held",
                          op->name);
    return GRAFT_OK;
}

/* Space of one node and all that belongs to it. */
struct record {
    struct node node;
    struct tensor out;
    struct node_plan node_plan;
    struct tensor_plan tensor_plan;
};

static struct node *record_node(struct graph *g, enum op op, const union op_args *args, int n_in,
                                struct tensor *const *in)
{
    struct record *r = record_alloc(g, sizeof *r);
    struct node *n;

    if (!r)
        return NULL;
    n = &r->node;
    n->op = op;
    n->n_in = n_in;
    n->act = g->opts.act;
    if (args)
        n->args = *args;
    n->g = g;
    n->plan = &r->node_plan;
    n->out = &r->out;
    n->out->dtype = graph_act(g);
    n->out->from = n;
    n->out->plan = &r->tensor_plan;
    for (int i = 0; i < n_in; i++) {
        n->in[i] = in[i];
        n->out->trains |= in[i] && in[i]->trains;
    }
    return n;
}

/* True when the inputs are fit to record; else the graph's error says why. */
static bool inputs_given(struct graph *g, const struct op_def *op, int n_in,
                         struct tensor *const *in)
{
    if (g->err.code)
        return false;
    if (n_in < op->min_in || n_in > op->max_in || n_in > NODE_MAX_IN) {
        graft_fail(&g->err, GRAFT_EARG, "%s: takes %d to %d inputs, found %d", op->name, op->min_in,
                   op->max_in, n_in);
        return false;
    }
    for (int i = 0; i < op->min_in; i++)
        if (!in[i]) {
            graft_fail(&g->err, GRAFT_EARG, "%s: input %d is missing", op->name, i);
            return false;
        }
    return true;
}

struct tensor *graph_node(struct graph *g, enum op op, const union op_args *args, int n_in,
                          struct tensor *const *in)
{
    const struct op_def *def = &g->ops[op];
    struct node **list, *n;

    if (!inputs_given(g, def, n_in, in))
        return NULL;
    list = grown(g, g->node, g->nodes, &g->node_cap, sizeof *list);
    if (!list)
        return NULL;
    g->node = list;
    n = record_node(g, op, args, n_in, in);
    if (!n)
        return NULL;
    if (def->infer(n, &g->err) || check_size(def, n, &g->err))
        return NULL;
    /* rows of segments stay rows of segments, whatever the op does to their columns */
    if (n_in > 0 && in[0] && in[0]->per_segment && !n->out->per_token && n->out->ndim > 0 &&
        n->out->dim[0] == in[0]->dim[0])
        n->out->per_segment = true;
    n->plan->index = g->nodes;
    g->node[g->nodes++] = n;
    g->planned = false;
    return n->out;
}

const struct graph_input *node_input(const struct node *n)
{
    return n->g->input;
}

void *node_scratch(const struct node *n)
{
    return n->g->memory ? n->g->memory->scratch : NULL;
}

enum dtype graph_act(const struct graph *g)
{
    return g->wide ? DT_F32 : g->opts.act;
}

bool graph_wants_backward(const struct graph *g)
{
    return g->opts.backward;
}

int64_t graph_max_tokens(const struct graph *g)
{
    return g->opts.max_tokens;
}

int64_t graph_max_segments(const struct graph *g)
{
    return g->opts.max_segments;
}
