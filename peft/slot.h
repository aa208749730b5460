/* peft/slot.h - the named places of a model where a method may sit.
 *
 * A slot hides the base weight's number format: a method sees names and sizes, and asks the slot's
 * services where its mathematics needs the weight itself (a merge, row norms, an SVD). */
#ifndef PEFT_SLOT_H
#define PEFT_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "autograd/ops.h"
#include "core/status.h"
#include "quant/quant.h"

enum site {
    SITE_LINEAR = 1,   /* y = x W^T + b */
    SITE_EMBED = 2,    /* the input embedding; its rows are the vocabulary */
    SITE_NORM = 4,     /* a norm's weight */
    SITE_KV = 8,       /* keys and values of one layer's attention */
    SITE_SUBLAYER = 16 /* what attention or feed-forward adds to the residual stream */
};

enum sublayer { SUBLAYER_ATTENTION, SUBLAYER_FFN };

struct slot {
    /* the checkpoint's module path: "model.layers.0.self_attn.q_proj"; a layer's keys and values,
     * and its sublayers, have that of the module they are in */
    const char *name;
    enum site site;
    int index;  /* its place in the model's list of slots */
    int layer;  /* from 0; -1: outside of the layers */
    int64_t in; /* features; linear: W is (out, in); embedding: the width */
    int64_t
        out; /* embedding: the vocabulary; keys and values: their width; sublayer: the model's */
    bool is_head; /* the output embedding: "all-linear" leaves it out */
    bool has_bias;
    enum sublayer sublayer; /* SITE_SUBLAYER */
    /* for the services in slot.c only */
    const struct qmat *w;       /* linear, embedding */
    const float *bias, *vector; /* (out): of a linear with a bias, of a norm */
    /* where `w` was quantised from floats when the base was loaded: the same as w, to be changed,
     * and the floats; both NULL otherwise. Their rows may lie as llama.cpp has them
     * (slot_stored_row). */
    struct qmat *own;
    const struct qmat *source;
    int64_t source_head_dim; /* 0: in order */
};

/* Where row `row` of ours lies when rows are stored (half, 2) for each head and ours are (2, half):
 * our row p * half + j is theirs 2 * j + p. */
static inline int64_t slot_stored_row(int64_t row, int64_t head_dim)
{
    const int64_t half = head_dim / 2, h = row / head_dim, i = row % head_dim;

    return h * head_dim + 2 * (i % half) + i / half;
}

/* The slots of a model, linears in the order of its modules, then norms, keys and values,
 * sublayers. */
struct slot_list {
    const struct slot *slot;
    int count;
    const char *model_type; /* decides a method's default targets, as in PEFT */
    int64_t layers, hidden, heads, kv_heads, head_dim;
    bool tied; /* the head is the embedding */
};

/* Rows [first, first + n) of the weight as f32: out (n, in). */
void slot_decode_rows(const struct slot *s, int64_t first, int64_t n, float *out);
/* Is the weight of a linear or embedding stored as floats? */
bool slot_is_float(const struct slot *s);
/* The bias of a linear that has one, the weight of a norm: out (out features). */
void slot_bias(const struct slot *s, float *out);
void slot_vector(const struct slot *s, float *out);

/* The weight before it was quantised on loading, else as slot_decode_rows has it. */
void slot_source_rows(const struct slot *s, int64_t first, int64_t n, float *out);
/* Was it quantised on loading, so that the base may be given other values? */
bool slot_changeable(const struct slot *s);
/* Put w (out, in) in the place of such a weight, quantised the same way. ENOMEM, ERUN: a value that
 * is not finite. */
enum graft_status slot_change(const struct slot *s, const float *w, struct graft_err *err);

/* The base's own weight (out, in) and bias (out; NULL: none) as leaves of a graph. */
struct tensor *slot_weight(const struct slot *s, struct graph *g);
struct tensor *slot_bias_leaf(const struct slot *s, struct graph *g);

/* Sums of squares of the weight's rows, out (out features); of an embedding's columns, out (in).
 * ENOMEM. */
enum graft_status slot_squares(const struct slot *s, float *out, struct graft_err *err);
/* Norms of the same of W + scale B A (embedding: W + scale (B A)^T), from those squares: a (R, in),
 * b (out, R) (embedding: a (R, out), b (in, R)). W is decoded as it goes. ENOMEM. */
enum graft_status slot_changed_norms(const struct slot *s, int64_t R, float scale, const float *a,
                                     const float *b, const float *square, float *norm,
                                     struct graft_err *err);

#endif
