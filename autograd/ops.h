/* autograd/ops.h - the ops: constructors for model and adapter code, and the table behind them.
 *
 * N tokens, C width, I/O in/out features, R rank, V vocabulary, H heads, K key/value heads, D head
 * size. Each op is one file in autograd/ops/: formula, shapes, what it saves, source. */
#ifndef AUTOGRAD_OPS_H
#define AUTOGRAD_OPS_H

#include "autograd/graph.h"
#include "backend/backend.h"

enum op {
    OP_EMBEDDING,
    OP_LINEAR,
    OP_SPARSE,
    OP_RMSNORM,
    OP_LAYERNORM,
    OP_ROPE_ANGLES,
    OP_ROPE,
    OP_ATTENTION,
    OP_LSTM,
    OP_GATE,
    OP_ACTIVATION,
    OP_ADD,
    OP_SCALE,
    OP_DROPOUT,
    OP_CONCAT,
    OP_SLICE,
    OP_PICK_LAST,
    OP_TOKEN_ROWS,
    OP_TOKEN_COLUMNS,
    OP_HEAD_LOSS,
    OP_HEAD_CHUNKS,
    OP_CROSS_ENTROPY,
    OP_COLUMN_SCALE,
    OP_MAGNITUDE,
    OP_PICK_COLUMNS,
    OP_COUNT
};

/* Rotary frequencies of one model (formats.md has no say here: see models/rope.c). A segment of
 * total length L (past tokens counted) takes inv_freq, or, where `long_after` > 0 and L >
 * long_after, `long_inv_freq`; type dynamic: base grown by L. cos and sin are multiplied by
 * `scale`. */
struct rope {
    int64_t half;               /* D_rot / 2 frequencies */
    const float *inv_freq;      /* half */
    const float *long_inv_freq; /* half, or NULL */
    int64_t long_after;
    float scale; /* attention factor; 1 without */
    /* dynamic NTK: base * ((factor L / L0) - (factor - 1))^(d / (d - 2)) where L > L0; factor 0:
     * off */
    double dynamic_factor, base;
    int64_t dynamic_after; /* L0 */
};

/* Where the values of a sparse weight (rows, cols) stand. It may change between passes: the graph
 * reads it anew. */
struct sparse {
    int64_t rows, cols;
    const int32_t *row_offs; /* rows + 1, as struct csr; NULL: not chosen yet, the weight is zero */
    const int32_t *col_idx;
    /* (optional) while set, backward adds the dense gradient of the weight, or its entries'
     * squares, to these (rows, cols) instead of making the gradient of the values */
    float *dense;
    bool squared;
    bool mapped; /* dense lies in a mapped file, whose pages need not stay */
};

/* Some tokens of a vocabulary, in an order of their own. Borrowed by the ops that take one. */
struct token_set {
    const int32_t *id;    /* count */
    const int32_t *place; /* vocab: where it stands in id, -1: it is not among them */
    int64_t count, vocab;
};

/* What an op needs besides its inputs; each op reads its own member. */
union op_args {
    struct {
        float scale;
    } linear; /* y = acc + scale * (x W^T + b) */
    struct {
        const struct sparse *at;
    } sparse;
    struct {
        float eps;
        int64_t group;
        bool plus_one;
    } norm;
    struct {
        const struct rope *rope;
    } angles;
    struct {
        int64_t heads, head_dim;
    } rope;
    struct attention_shape attention;
    struct {
        enum activation kind;
    } act;
    struct {
        float scale;
    } scale; /* of scale; add: out = a + scale * b; embedding: factor */
    struct {
        float p;
        uint32_t site;
    } dropout;
    struct {
        bool reverse;
    } lstm;
    struct {
        int64_t first, count;
    } slice;
    struct {
        const struct token_set *set;
        float scale;
    } tokens;
    struct {
        float softcap;
    } loss;
    struct {
        float scale;
        bool columns;
    } magnitude;
    struct {
        struct graph *head;         /* over a chunk of rows */
        struct tensor *rows, *loss; /* its input and its output */
    } chunks;
};

struct node {
    enum op op;
    int n_in;
    struct tensor *in[NODE_MAX_IN]; /* an absent optional input is NULL */
    struct tensor *out;
    enum dtype act; /* of the graph when it was recorded */
    union op_args args;
    void *saved;        /* what forward keeps for backward; in the slab */
    size_t saved_bytes; /* for max_tokens; set by infer */
    int lanes; /* threads that working memory is laid out for; set by infer where it counts */
    struct graph *g;
    struct node_plan *plan;
};

enum { NEEDS_OUT = 1 << 30 };

struct op_def {
    const char *name;
    int min_in, max_in;
    /* Check shapes, set out->ndim, dim, per_token, dtype and saved_bytes. The only one that may
     * refuse. */
    enum graft_status (*infer)(struct node *n, struct graft_err *err);
    void (*forward)(struct node *n);  /* overwrites out->data */
    void (*backward)(struct node *n); /* adds to each in[i]->grad that is not NULL */
    /* bit i: backward reads in[i]->data; NEEDS_OUT: out->data. Asked after `trains` is known. */
    uint32_t (*needs)(const struct node *n);
    size_t (*scratch)(
        const struct node *n); /* (optional) bytes of working memory, forward or backward */
    /* out may take over the storage (data and grad) of in[inplace]; -1: never. Backward of such an
     * op adds nothing to that input's grad when it is the very same memory. */
    int inplace;
    /* what it makes is small and dear: kept for backward even where its block is recomputed */
    bool keep;
};
extern const struct op_def op_defs[OP_COUNT];

/* For ops: the running pass and its working memory (NULL before graph_allocate). */
const struct graph_input *node_input(const struct node *n);
void *node_scratch(const struct node *n);
enum dtype graph_act(const struct graph *g); /* while it is recorded */
bool graph_wants_backward(const struct graph *g);
int64_t graph_max_tokens(const struct graph *g);
int64_t graph_max_segments(const struct graph *g);

/* x (N, C) = scale * table[id]   table (V, C) in any format or trainable; `virtual_rows` (P, C) or
 * NULL: row i for id -1 - i (never scaled) */
struct tensor *op_embedding(struct graph *g, struct tensor *table, struct tensor *virtual_rows,
                            float scale);
/* y (N, O) = acc + scale * (x W^T + b)   x (N, I), w (O, I) any format or trainable; b (O), acc (N,
 * O) may be NULL */
struct tensor *op_linear(struct graph *g, struct tensor *x, struct tensor *w, struct tensor *b,
                         struct tensor *acc, float scale);
/* y (N, O) = acc + x S^T   x (N, I), values (nnz) at the places `at` of S (O, I), which is
 * borrowed; acc (N, O) */
struct tensor *op_sparse(struct graph *g, struct tensor *x, struct tensor *values,
                         struct tensor *acc, const struct sparse *at);
/* Over groups of `group` = length of w channels, C / group groups a row (q/k norms: group = head
 * size). plus_one: multiplies by 1 + w (Gemma). */
struct tensor *op_rmsnorm(struct graph *g, struct tensor *x, struct tensor *w, float eps,
                          bool plus_one);
struct tensor *op_layernorm(struct graph *g, struct tensor *x, struct tensor *w, struct tensor *b,
                            float eps);
/* (N, 2 * half): cos | sin of every token's angles, from its position; once a pass. `rope` is
 * borrowed. */
struct tensor *op_rope_angles(struct graph *g, const struct rope *rope);
/* x (N, heads * head_dim): the first 2 * half channels of each head turn, half-split pairs (i, i +
 * half) */
struct tensor *op_rope(struct graph *g, struct tensor *x, struct tensor *angles, int64_t head_dim);
/* q (N, H*D), k and v (N, K*D): causal attention inside each segment; out (N, H*D). prefix_k and
 * prefix_v (P, K*D), or NULL both: keys and values that every query sees before its segment's own;
 * a window counts them. */
struct tensor *op_attention(struct graph *g, struct tensor *q, struct tensor *k, struct tensor *v,
                            struct tensor *prefix_k, struct tensor *prefix_v,
                            const struct attention_shape *shape);
/* z (T, 4H): input parts of the gates i, f, g, o; w (4H, H), b (4H): how the gates take the last
 * step's output; out (T, H) of one direction, `reverse`: from the last row back. f32 only. */
struct tensor *op_lstm(struct graph *g, struct tensor *z, struct tensor *w, struct tensor *b,
                       bool reverse);
/* act(a) * b, both (N, C) */
struct tensor *op_gate(struct graph *g, struct tensor *a, struct tensor *b, enum activation kind);
struct tensor *op_activation(struct graph *g, struct tensor *x, enum activation kind);
/* a + scale * b, same shape */
struct tensor *op_add(struct graph *g, struct tensor *a, struct tensor *b, float scale);
struct tensor *op_scale(struct graph *g, struct tensor *x, float scale);
/* `site` names the random stream: one per dropout of the graph. Identity when not training or p =
 * 0. */
struct tensor *op_dropout(struct graph *g, struct tensor *x, float p, uint32_t site);
/* Columns: (N, Ca), (N, Cb) -> (N, Ca + Cb); and back */
struct tensor *op_concat(struct graph *g, struct tensor *a, struct tensor *b);
struct tensor *op_slice(struct graph *g, struct tensor *x, int64_t first, int64_t count);
/* (segments, C): the row of each segment's last token. Forward only. */
struct tensor *op_pick_last(struct graph *g, struct tensor *x);
/* x (N, C), a row for each token: those of the tokens in `set` become scale * their row of `rows`
 * (count, C). */
struct tensor *op_token_rows(struct graph *g, struct tensor *x, struct tensor *rows,
                             const struct token_set *set, float scale);
/* x (N, V): the columns of the tokens in `set` become those of `columns` (N, count). */
struct tensor *op_token_columns(struct graph *g, struct tensor *x, struct tensor *columns,
                                const struct token_set *set);
/* Scalar: sum over tokens with a target of -log softmax(x w^T + b)[target]; logits in chunks of
 * rows that have a target, never (N, V). x (N, C); w (V, C) frozen; b (V) or NULL. softcap 0: off.
 * Fills graph_input.nll. */
struct tensor *op_head_loss(struct graph *g, struct tensor *x, struct tensor *w, struct tensor *b,
                            float softcap);
/* The same for a head that an adapter changes: `head` records it over a chunk of rows (n, C) in a
 * graph of its own and returns logits (n, V). What trains in there gets its gradient. */
typedef struct tensor *record_head(struct graph *head, struct tensor *rows, void *user);
struct tensor *op_head_chunks(struct graph *g, struct tensor *x, int64_t V, record_head *record,
                              void *user, float softcap);
/* The same over logits (N, V). */
struct tensor *op_cross_entropy(struct graph *g, struct tensor *logits, float softcap);

/* c (C) * (x - b) + b for rows x (N, C); b (C) or NULL */
struct tensor *op_column_scale(struct graph *g, struct tensor *x, struct tensor *c,
                               struct tensor *b);
/* (O): m / |W + scale B A|, row by row, without gradient through the norm. */
struct magnitude {
    struct tensor *m, *w, *a, *b; /* (O), (O, I) in any format, (R, I), (O, R) */
    struct tensor *square;        /* (O): |w_i|^2 */
    float scale;
    bool columns; /* w is (I, O): norms of its columns */
};
struct tensor *op_magnitude(struct graph *g, const struct magnitude *of);

/* (N, R): of each token the column of a (R, V) that its id names; zeros for virtual ids. */
struct tensor *op_pick_columns(struct graph *g, struct tensor *a);

/* For constructors in autograd/ops/: a node of `op` with these inputs, inferred; returns its
 * output, or NULL with the graph's error set. */
struct tensor *graph_node(struct graph *g, enum op op, const union op_args *args, int n_in,
                          struct tensor *const *in);

#endif
