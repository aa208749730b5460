/* autograd/plan.h - what the graph keeps for itself: steps, buffers, and who shares what.
 *
 * A pass is a list of steps, one op call each; the index of a step is the time. A buffer is a piece
 * of the slab that lives over an interval of time: the data of a tensor (twice where its block is
 * recomputed), a gradient, or what a node saves. Buffers that work in place share a root. */
#ifndef AUTOGRAD_PLAN_H
#define AUTOGRAD_PLAN_H

#include "autograd/ops.h"

enum { NO_BUFFER = -1 };

struct buffer {
    size_t bytes;     /* a multiple of MEM_ALIGN */
    size_t off;       /* in the slab; of the root */
    int birth, death; /* first and last step that touches it; of a root: of all that share it */
    int root;         /* the buffer whose storage this one takes over; itself when none */
};

struct tensor_plan {
    int data[2]; /* buffer of the first forward, and of the recomputation */
    int grad;    /* NO_BUFFER: no gradient wanted */
};

struct node_plan {
    int index;      /* in recorded order */
    int block;      /* -1: outside of all */
    bool needed;    /* an output depends on it */
    bool backward;  /* a gradient flows through it */
    bool escapes;   /* its output is read outside its block, or is an output of the plan */
    bool rerun;     /* runs again before its block's backward */
    uint32_t needs; /* op_def.needs, asked once */
    int saved[2];   /* as tensor_plan.data */
};

struct pack_item {
    size_t bytes;
    int birth, index;
};

enum step_kind { STEP_FORWARD, STEP_RECOMPUTE, STEP_BACKWARD };

struct step {
    struct node *node;
    enum step_kind kind;
};

struct graph {
    const struct op_def *ops; /* op_defs; tests put their own */
    struct graph_opts opts;
    struct graft_err err; /* the first error of a constructor; code OK: none */
    struct arena mem;     /* nodes, tensors, their plans */
    struct node **node;
    int nodes, node_cap;
    int *mark; /* node count at each graph_block */
    int marks, mark_cap;
    bool wide; /* activations are f32, whatever opts.act; operands are rounded to that */
    struct graph *child, *sibling; /* graphs that ops of this one run; the next of the parent's */

    /* the plan; its arrays live in plan_mem */
    struct arena plan_mem;
    struct tensor **output;
    int outputs;
    struct step *step;
    int steps, forward_steps;
    struct buffer *buf;
    int bufs;
    struct pack_item *item; /* of packing: roots by size */
    int *placed;            /* of packing: buffers by offset */
    size_t *live;           /* bytes that come to life and that die at each step */
    size_t slab, scratch;
    bool planned;

    /* the run */
    struct graph_memory own, *memory; /* memory: NULL before graph_allocate */
    const struct graph_input *input;
    bool poison; /* tests: fill dead buffers with NaN, so that a wrong lifetime shows */
};

int64_t tensor_elems(const struct tensor *t);
/* Bytes of the data as dim stands now: n rows in a pass. */
size_t tensor_data_bytes(const struct tensor *t);

/* autograd/schedule.c: which steps run when the first `recomputed` blocks with backward work are
 * recomputed, and from when to when each buffer lives. Returns the largest sum of bytes alive at
 * once: no packing is smaller. */
void schedule_mark(struct graph *g);
size_t schedule_layout(struct graph *g, int recomputed);
/* autograd/pack.c: give every root an offset; returns the slab's bytes. */
size_t pack_buffers(struct graph *g);

#endif
