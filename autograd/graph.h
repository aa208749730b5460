/* autograd/graph.h - tensors, the recorded graph, its plan, and running it.
 *
 * Record: model code calls the op_* constructors of autograd/ops.h once, for the largest number of
 * tokens N of the run. Plan: graph_plan knows every lifetime, so it gives each buffer an offset in
 * one slab, decides which blocks are recomputed in the backward pass (gradient checkpointing) to
 * stay in the budget, and reports the bytes before any is allocated. Run: graph_forward and
 * graph_backward replay the graph on their own n <= N tokens; nothing allocates.
 *
 * Frozen is free: a tensor that neither trains nor depends on one that does has no gradient, and
 * all backward work for it is pruned. */
#ifndef AUTOGRAD_GRAPH_H
#define AUTOGRAD_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/status.h"
#include "quant/quant.h"

enum { GRAFT_MAX_DIM = 4, NODE_MAX_IN = 6 };

enum dtype { DT_F32, DT_BF16 }; /* of activations; weights carry their own format */

struct node;
struct graph;

struct tensor {
    enum dtype dtype; /* of data */
    int ndim;
    int64_t dim[GRAFT_MAX_DIM]; /* row-major: dim[ndim - 1] is contiguous */
    void *data;                 /* in the slab, or the owner's for parameters and constants */
    float *grad;                /* same dims, always f32; NULL means frozen */
    const struct qmat *w;       /* a frozen weight in any number format; data is NULL then */
    const char *name;           /* parameters: as saved; else NULL */
    bool per_token;             /* dim[0] counts tokens: N when recorded, n when replayed */
    bool per_segment;           /* dim[0] counts segments: max_segments, then graph_input's */
    bool trains;                /* is a trainable parameter or depends on one */
    struct node *from;          /* the node that makes it; NULL: a leaf */
    struct tensor_plan *plan;   /* the planner's own */
};

/* What one forward pass works on. All arrays are borrowed for the pass (forward and backward). */
struct graph_input {
    int64_t n;             /* tokens, <= max_tokens */
    const int32_t *id;     /* n; -1 - i stands for row i of virtual embeddings */
    const int32_t *target; /* n: id that position t must predict, -1 = none; NULL: no loss wanted */
    const int32_t *pos;    /* n: position in its record */
    int64_t segments;
    const int64_t *start; /* segments + 1: record s is tokens [start[s], start[s + 1]) */
    bool training;        /* dropout is active */
    struct rng_key rng;   /* of dropout: seed, RNG_DROPOUT, step = count of forward passes so far */
    float *nll; /* (optional) n: receives -log p(target) of each token, 0 without target */
    /* generation: keys and values of earlier tokens; NULL otherwise */
    struct kv_cache *cache;
    const int64_t *slot; /* segments: which sequence of the cache */
    const int64_t *past; /* segments: tokens of it that the cache holds already */
};

/* Keys and values of `layers` layers for `slots` sequences of at most `capacity` tokens, f32:
 * k, v: (layers, slots, capacity, width), width = KV heads * head size. The attention op appends.
 */
struct kv_cache {
    int64_t layers, slots, capacity, width;
    float *k, *v;
};

struct graph_opts {
    int64_t max_tokens; /* N */
    int64_t max_segments;
    enum dtype act; /* activations; DT_BF16 also rounds the operands of products to bf16 */
    bool backward;  /* gradients are wanted */
};

struct plan_report {
    size_t slab;    /* bytes of the one allocation: activations, gradients, saved values */
    size_t scratch; /* bytes of the kernels' working memory */
    size_t tables;  /* bytes of the graph itself: nodes and their plan */
    size_t slab_no_recompute, slab_full_recompute; /* the two ends of the choice */
    int blocks, recomputed;
    int nodes, backward_nodes; /* after pruning */
};

/* ENOMEM only. The graph owns its nodes and activations' descriptors, never parameters' memory. */
enum graft_status graph_new(const struct graph_opts *opts, struct graph **out,
                            struct graft_err *err);
void graph_free(struct graph *g);

/* Leaves. Descriptors live in the graph; the memory behind them is the caller's and must outlive
 * it. */
struct tensor *graph_weight(struct graph *g, const struct qmat *w, const char *name);
struct tensor *graph_vector(struct graph *g, const float *data, int64_t n, const char *name);
/* A tensor owned by an adapter or model: a parameter when grad is not NULL, else a constant. */
struct tensor *graph_leaf(struct graph *g, struct tensor *t);
/* Rows (n, width) of every pass that whoever runs the graph provides: before a pass it sets data
 * (of `dtype`), dim[0] and, where they train and backward follows, grad. */
struct tensor *graph_rows(struct graph *g, int64_t width, enum dtype dtype, bool trains);
/* A graph over at most `rows` tokens that an op of `g` runs inside itself; it dies with `g`. Its
 * activations are f32 whatever those of `g` are, operands are rounded alike. NULL: see graph_error.
 */
struct graph *graph_child(struct graph *g, int64_t rows);

/* The type of activations recorded from now on (graph_opts.act at first); returns what it was. */
enum dtype graph_set_act(struct graph *g, enum dtype act);

/* Marks a place where the residual stream `x` is the only live activation: nodes between two marks
 * are a block that the planner may recompute from the mark before it. */
void graph_block(struct graph *g, struct tensor *x);

/* Constructors of ops stop at the first error, keep it here and return NULL from then on; an op
 * given a NULL input returns NULL. graph_plan reports it. */
enum graft_status graph_error(const struct graph *g, struct graft_err *err);

/* Plan for the wanted outputs (their data stays readable after a pass). `budget` bytes for the slab
 * (0 = no limit): blocks are recomputed, as few as fit. It only decides and reports; may be called
 * again with another budget. EARG when even recomputing all of them does not fit (message: needed,
 * budget), ENOMEM for the planner's own tables. */
enum graft_status graph_plan(struct graph *g, struct tensor *const *output, int outputs,
                             size_t budget, struct plan_report *report, struct graft_err *err);
/* Allocate what was planned. `shared` (may be NULL) lends a slab and scratch to several graphs that
 * never run at once; it grows to the largest. On ENOMEM it may be empty: its graphs cannot run
 * then.
 */
struct graph_memory {
    void *slab, *scratch;
    size_t slab_bytes, scratch_bytes;
};
enum graft_status graph_allocate(struct graph *g, struct graph_memory *shared,
                                 struct graft_err *err);
void graph_memory_release(struct graph_memory *m);
/* Lend a planned graph slab and scratch of the planned sizes; NULL takes them back. */
void graph_lend(struct graph *g, struct graph_memory *m);

/* Run all forward nodes that the outputs need. */
void graph_forward(struct graph *g, const struct graph_input *in);
/* Gradients of seed * output[0] (a scalar) are added to every parameter's grad. Recomputes what the
 * plan dropped. The pass's graph_input must still be alive. */
void graph_backward(struct graph *g, float seed);

#endif
