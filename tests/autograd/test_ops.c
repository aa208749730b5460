/* Every op's backward against its own forward. */
#include "op_testing.h"

#define ROWS(cols)                                                                                 \
    {                                                                                              \
        0, cols, false                                                                             \
    }
#define LEAF(rows, cols)                                                                           \
    {                                                                                              \
        rows, cols, false                                                                          \
    }
#define VECTOR(n)                                                                                  \
    {                                                                                              \
        n, 0, false                                                                                \
    }

typedef struct tensor *T;

static T embedding(struct graph *g, T const *t, const struct op_case *c)
{
    return op_embedding(g, t[0], t[1], c->p);
}

static T linear(struct graph *g, T const *t, const struct op_case *c)
{
    return op_linear(g, t[0], t[1], t[2], t[3], c->p);
}

/* acc is read once more, so the sum cannot take over its storage. */
static T linear_kept(struct graph *g, T const *t, const struct op_case *c)
{
    return op_add(g, op_linear(g, t[0], t[1], NULL, t[2], c->p), t[2], 1.0f);
}

/* Rows of 2, 0 and 3 values; of c->k columns, where the last value stands in the last. */
static T sparse(struct graph *g, T const *t, const struct op_case *c)
{
    static const int32_t offs[] = { 0, 2, 2, 5 };
    static int32_t cols[] = { 1, 4, 0, 2, 0 };
    static struct sparse at = { .rows = 3, .row_offs = offs, .col_idx = cols };

    at.cols = c->k;
    cols[4] = c->k - 1;
    return op_sparse(g, t[0], t[1], t[2], &at);
}

/* Wider than the pieces of the kernels, each fifth row of three values. */
static T sparse_wide(struct graph *g, T const *t, const struct op_case *c)
{
    static int32_t offs[136], cols[81];
    static const struct sparse at = { 135, 150, offs, cols, NULL, false, false };

    (void)c;
    for (int32_t i = 0; i < 135; i++)
        offs[i + 1] = offs[i] + (i % 5 == 4 ? 3 : 0);
    for (int32_t i = 0; i < 81; i++)
        cols[i] = i % 3 * 50 + i / 3;
    return op_sparse(g, t[0], t[1], t[2], &at);
}

/* acc is read once more, so the sum cannot take over its storage. */
static T sparse_kept(struct graph *g, T const *t, const struct op_case *c)
{
    return op_add(g, sparse(g, t, c), t[2], 1.0f);
}

static T sparse_nowhere(struct graph *g, T const *t, const struct op_case *c)
{
    static const struct sparse at = { .rows = 3, .cols = 5 };

    (void)c;
    return op_add(g, op_sparse(g, t[0], t[1], t[2], &at), t[2], 1.0f);
}

static T rmsnorm(struct graph *g, T const *t, const struct op_case *c)
{
    return op_rmsnorm(g, t[0], t[1], 1e-2f, c->k);
}

static T layernorm(struct graph *g, T const *t, const struct op_case *c)
{
    (void)c;
    return op_layernorm(g, t[0], t[1], t[2], 1e-2f);
}

static T rope(struct graph *g, T const *t, const struct op_case *c)
{
    static const float inv_freq[] = { 1.0f, 0.3f };
    static const struct rope r = { .half = 2, .inv_freq = inv_freq, .scale = 1.2f };

    return op_rope(g, t[0], op_rope_angles(g, &r), c->k);
}

static T attention(struct graph *g, T const *t, const struct op_case *c)
{
    return op_attention(g, t[0], t[1], t[2], t[3], t[4], &c->shape);
}

static T lstm(struct graph *g, T const *t, const struct op_case *c)
{
    return op_lstm(g, t[0], t[1], t[2], c->k);
}

static T gate(struct graph *g, T const *t, const struct op_case *c)
{
    return op_gate(g, t[0], t[1], (enum activation)c->k);
}

static T activation(struct graph *g, T const *t, const struct op_case *c)
{
    return op_activation(g, t[0], (enum activation)c->k);
}

static T add(struct graph *g, T const *t, const struct op_case *c)
{
    return op_add(g, t[0], t[1], c->p);
}

/* a is read once more, so the sum cannot take over its storage. */
static T add_kept(struct graph *g, T const *t, const struct op_case *c)
{
    return op_add(g, op_add(g, t[0], t[1], c->p), t[0], 1.0f);
}

static T scale(struct graph *g, T const *t, const struct op_case *c)
{
    return op_scale(g, t[0], c->p);
}

static T dropout(struct graph *g, T const *t, const struct op_case *c)
{
    return op_dropout(g, t[0], c->p, 12);
}

static T concat(struct graph *g, T const *t, const struct op_case *c)
{
    (void)c;
    return op_concat(g, t[0], t[1]);
}

static T slice(struct graph *g, T const *t, const struct op_case *c)
{
    return op_slice(g, t[0], c->k, 3);
}

static T pick_last(struct graph *g, T const *t, const struct op_case *c)
{
    (void)c;
    return op_pick_last(g, t[0]);
}

static T head_loss(struct graph *g, T const *t, const struct op_case *c)
{
    return op_head_loss(g, t[0], t[1], t[2], c->p);
}

/* A small vocabulary of which three tokens are replaced, out of order. */
static const int32_t set_id[] = { 5, 0, 3 }, set_place[] = { 1, -1, -1, 2, -1, 0 };
static const struct token_set set = { set_id, set_place, 3, 6 };

/* x goes through a linear with a bias: rows that are replaced must send it nothing. */
static T token_rows(struct graph *g, T const *t, const struct op_case *c)
{
    return op_token_rows(g, op_linear(g, t[0], t[2], t[3], NULL, 1), t[1], &set, c->p);
}

/* x is read once more, so the result cannot take over its storage. */
static T token_rows_kept(struct graph *g, T const *t, const struct op_case *c)
{
    T x = op_linear(g, t[0], t[2], t[3], NULL, 1);

    return op_add(g, op_token_rows(g, x, t[1], &set, c->p), x, 0.5f);
}

static T token_columns(struct graph *g, T const *t, const struct op_case *c)
{
    (void)c;
    return op_token_columns(g, t[0], t[1], &set);
}

static T token_columns_kept(struct graph *g, T const *t, const struct op_case *c)
{
    (void)c;
    return op_add(g, op_token_columns(g, t[0], t[1], &set), t[0], 0.5f);
}

static T head_of(struct graph *g, T rows, void *user)
{
    T const *t = user;

    return op_linear(g, op_dropout(g, rows, 0.2f, 5), graph_leaf(g, t[1]),
                     t[2] ? graph_leaf(g, t[2]) : NULL, NULL, 1.0f);
}

static T head_chunks(struct graph *g, T const *t, const struct op_case *c)
{
    return op_head_chunks(g, t[0], 6, head_of, (void *)(uintptr_t)t, c->p);
}

static T cross_entropy(struct graph *g, T const *t, const struct op_case *c)
{
    return op_cross_entropy(g, t[0], c->p);
}

static T column_scale(struct graph *g, T const *t, const struct op_case *c)
{
    (void)c;
    return op_column_scale(g, t[0], t[1], t[2]);
}

/* x is read once more, so the product cannot take over its storage. */
static T column_scale_kept(struct graph *g, T const *t, const struct op_case *c)
{
    (void)c;
    return op_add(g, op_column_scale(g, t[0], t[1], NULL), t[0], 1.0f);
}

/* m / |W + s B A| as a factor of rows; W (O, I), or (I, O) where k says columns. */
static T magnitude(struct graph *g, T const *t, const struct op_case *c)
{
    static float square[16];
    const float *w = t[2]->data;
    const struct magnitude of = { .m = t[1],
                                  .w = t[2],
                                  .a = t[3],
                                  .b = t[4],
                                  .square = graph_vector(g, square, t[1]->dim[0], "square"),
                                  .scale = c->p,
                                  .columns = c->k };

    memset(square, 0, sizeof square);
    for (int64_t i = 0; i < t[2]->dim[0]; i++)
        for (int64_t k = 0; k < t[2]->dim[1]; k++)
            square[c->k ? k : i] += w[i * t[2]->dim[1] + k] * w[i * t[2]->dim[1] + k];
    return op_column_scale(g, t[0], op_magnitude(g, &of), NULL);
}

static T pick_columns(struct graph *g, T const *t, const struct op_case *c)
{
    (void)c;
    return op_pick_columns(g, t[0]);
}

#define SHAPE(h, k, d, w, cap)                                                                     \
    {                                                                                              \
        .heads = h, .kv_heads = k, .head_dim = d, .scale = 0.6f, .window = w, .softcap = cap       \
    }

static const struct op_case cases[] = {
    { "embedding", OP_EMBEDDING, { LEAF(4, 5), LEAF(9, 5) }, .build = embedding, .p = 1.7f },
    { "linear",
      OP_LINEAR,
      { ROWS(5), LEAF(3, 5), VECTOR(3), ROWS(3) },
      .build = linear,
      .p = 0.7f },
    { "linear, no bias", OP_LINEAR, { ROWS(5), LEAF(33, 5) }, .build = linear, .p = 1.0f },
    { "linear, acc kept",
      OP_LINEAR,
      { ROWS(5), LEAF(3, 5), ROWS(3) },
      .build = linear_kept,
      .p = 0.7f },
    { "linear, frozen", OP_LINEAR, { ROWS(7), { 5, 7, true } }, .build = linear, .p = 1.0f },
    { "sparse", OP_SPARSE, { ROWS(5), VECTOR(5), ROWS(3) }, .build = sparse, .k = 5 },
    { "sparse, one token",
      OP_SPARSE,
      { ROWS(7), VECTOR(5), ROWS(3) },
      .build = sparse,
      .segment = { 1 },
      .k = 7 },
    { "sparse, acc kept",
      OP_SPARSE,
      { ROWS(5), VECTOR(5), ROWS(3) },
      .build = sparse_kept,
      .segment = { 90, 56 },
      .k = 5 },
    { "sparse, wide",
      OP_SPARSE,
      { ROWS(150), VECTOR(81), ROWS(135) },
      .build = sparse_wide,
      .segment = { 40 } },
    { "sparse, not chosen", OP_SPARSE, { ROWS(5), VECTOR(5), ROWS(3) }, .build = sparse_nowhere },
    { "rmsnorm", OP_RMSNORM, { ROWS(5), VECTOR(5) }, .build = rmsnorm },
    { "rmsnorm by heads, 1 + w", OP_RMSNORM, { ROWS(15), VECTOR(5) }, .build = rmsnorm, .k = 1 },
    { "rmsnorm, many rows",
      OP_RMSNORM,
      { ROWS(3), VECTOR(3) },
      .build = rmsnorm,
      .segment = { 90, 31 } },
    { "layernorm", OP_LAYERNORM, { ROWS(5), VECTOR(5), VECTOR(5) }, .build = layernorm },
    { "layernorm, no bias",
      OP_LAYERNORM,
      { ROWS(5), VECTOR(5) },
      .build = layernorm,
      .segment = { 40 } },
    { "rope", OP_ROPE, { ROWS(12) }, .build = rope, .segment = { 5, 3 }, .k = 4 },
    { "rope, part of a head", OP_ROPE, { ROWS(21) }, .build = rope, .segment = { 5, 3 }, .k = 7 },
    { "attention",
      OP_ATTENTION,
      { ROWS(10), ROWS(10), ROWS(10) },
      .build = attention,
      .segment = { 5, 1, 3 },
      .shape = SHAPE(2, 2, 5, 0, 0) },
    { "attention, shared key heads, window, cap",
      OP_ATTENTION,
      { ROWS(18), ROWS(6), ROWS(6) },
      .build = attention,
      .segment = { 4, 9 },
      .shape = SHAPE(6, 2, 3, 4, 0.4f) },
    { "attention over several tiles",
      OP_ATTENTION,
      { ROWS(4), ROWS(2), ROWS(2) },
      .build = attention,
      .segment = { 3, 140 },
      .shape = SHAPE(2, 1, 2, 0, 0) },
    { "attention, long window",
      OP_ATTENTION,
      { ROWS(4), ROWS(2), ROWS(2) },
      .build = attention,
      .segment = { 150 },
      .shape = SHAPE(2, 1, 2, 70, 0) },
    { "attention, wide heads",
      OP_ATTENTION,
      { ROWS(33), ROWS(33), ROWS(33) },
      .build = attention,
      .segment = { 5 },
      .shape = SHAPE(1, 1, 33, 0, 0) },
    { "attention behind a prefix",
      OP_ATTENTION,
      { ROWS(10), ROWS(10), ROWS(10), LEAF(3, 10), LEAF(3, 10) },
      .build = attention,
      .segment = { 5, 1, 3 },
      .shape = SHAPE(2, 2, 5, 0, 0) },
    { "attention behind a prefix of several tiles",
      OP_ATTENTION,
      { ROWS(18), ROWS(6), ROWS(6), LEAF(67, 6), LEAF(67, 6) },
      .build = attention,
      .segment = { 41, 9, 17 },
      .shape = SHAPE(6, 2, 3, 0, 0.4f) },
    { "attention behind a prefix that leaves the window",
      OP_ATTENTION,
      { ROWS(18), ROWS(6), ROWS(6), LEAF(6, 6), LEAF(6, 6) },
      .build = attention,
      .segment = { 70, 2 },
      .shape = SHAPE(6, 2, 3, 4, 0) },
    { "lstm", OP_LSTM, { LEAF(5, 12), LEAF(12, 3), VECTOR(12) }, .build = lstm },
    { "lstm, reverse", OP_LSTM, { LEAF(5, 12), LEAF(12, 3), VECTOR(12) }, .build = lstm, .k = 1 },
    { "lstm, wide", OP_LSTM, { LEAF(2, 284), LEAF(284, 71), VECTOR(284) }, .build = lstm },
    { "gate silu", OP_GATE, { ROWS(5), ROWS(5) }, .build = gate, .k = ACT_SILU },
    { "gate gelu", OP_GATE, { ROWS(5), ROWS(5) }, .build = gate, .k = ACT_GELU },
    { "gate gelu tanh", OP_GATE, { ROWS(5), ROWS(5) }, .build = gate, .k = ACT_GELU_TANH },
    { "gate quick gelu", OP_GATE, { ROWS(5), ROWS(5) }, .build = gate, .k = ACT_QUICK_GELU },
    { "gate tanh", OP_GATE, { ROWS(5), ROWS(5) }, .build = gate, .k = ACT_TANH },
    { "gate relu",
      OP_GATE,
      { ROWS(5), ROWS(5) },
      .build = gate,
      .k = ACT_RELU,
      .away_from_zero = true },
    { "silu", OP_ACTIVATION, { ROWS(5) }, .build = activation, .k = ACT_SILU },
    { "gelu", OP_ACTIVATION, { ROWS(5) }, .build = activation, .k = ACT_GELU },
    { "gelu tanh", OP_ACTIVATION, { ROWS(5) }, .build = activation, .k = ACT_GELU_TANH },
    { "quick gelu", OP_ACTIVATION, { ROWS(5) }, .build = activation, .k = ACT_QUICK_GELU },
    { "tanh", OP_ACTIVATION, { ROWS(5) }, .build = activation, .k = ACT_TANH },
    { "relu",
      OP_ACTIVATION,
      { ROWS(5) },
      .build = activation,
      .k = ACT_RELU,
      .away_from_zero = true },
    { "add", OP_ADD, { ROWS(5), ROWS(5) }, .build = add, .p = -1.3f },
    { "add, a kept", OP_ADD, { ROWS(5), ROWS(5) }, .build = add_kept, .p = -1.3f },
    { "scale", OP_SCALE, { ROWS(5) }, .build = scale, .p = -1.3f },
    { "dropout", OP_DROPOUT, { ROWS(5) }, .build = dropout, .p = 0.4f },
    { "concat", OP_CONCAT, { ROWS(5), ROWS(3) }, .build = concat },
    { "slice", OP_SLICE, { ROWS(7) }, .build = slice, .k = 2 },
    { "pick_last", OP_PICK_LAST, { ROWS(5) }, .build = pick_last, .segment = { 3, 1, 4 } },
    { "head_loss", OP_HEAD_LOSS, { ROWS(5), { 6, 5, true }, { 6, 0, true } }, .build = head_loss },
    { "head_loss, many rows, cap",
      OP_HEAD_LOSS,
      { ROWS(5), { 6, 5, true } },
      .build = head_loss,
      .segment = { 100, 50 },
      .p = 1.5f },
    { "token_rows",
      OP_TOKEN_ROWS,
      { ROWS(5), LEAF(3, 5), LEAF(5, 5), VECTOR(5) },
      .build = token_rows,
      .segment = { 9 },
      .p = 1.3f },
    { "token_rows, x kept",
      OP_TOKEN_ROWS,
      { ROWS(5), LEAF(3, 5), LEAF(5, 5), VECTOR(5) },
      .build = token_rows_kept,
      .segment = { 9 },
      .p = 1.3f },
    { "token_columns", OP_TOKEN_COLUMNS, { ROWS(6), ROWS(3) }, .build = token_columns },
    { "token_columns, x kept",
      OP_TOKEN_COLUMNS,
      { ROWS(6), ROWS(3) },
      .build = token_columns_kept },
    { "head_chunks", OP_HEAD_CHUNKS, { ROWS(5), LEAF(6, 5), VECTOR(6) }, .build = head_chunks },
    { "head_chunks, many rows, cap",
      OP_HEAD_CHUNKS,
      { ROWS(5), LEAF(6, 5) },
      .build = head_chunks,
      .segment = { 100, 50 },
      .p = 1.5f },
    { "cross_entropy", OP_CROSS_ENTROPY, { ROWS(6) }, .build = cross_entropy },
    { "cross_entropy, cap", OP_CROSS_ENTROPY, { ROWS(6) }, .build = cross_entropy, .p = 1.5f },
    { "column_scale", OP_COLUMN_SCALE, { ROWS(5), VECTOR(5), VECTOR(5) }, .build = column_scale },
    { "column_scale, no bias, many rows",
      OP_COLUMN_SCALE,
      { ROWS(3), LEAF(3, 1) },
      .build = column_scale,
      .segment = { 90, 31 } },
    { "column_scale, frozen bias",
      OP_COLUMN_SCALE,
      { ROWS(5), VECTOR(5), { 5, 0, true } },
      .build = column_scale },
    { "column_scale, x kept",
      OP_COLUMN_SCALE,
      { ROWS(5), LEAF(1, 5) },
      .build = column_scale_kept },
    { "magnitude",
      OP_MAGNITUDE,
      { ROWS(5), VECTOR(5), { 5, 7, true }, { 3, 7, true }, { 5, 3, true } },
      .build = magnitude,
      .p = 0.7f },
    { "pick_columns", OP_PICK_COLUMNS, { LEAF(4, 5) }, .build = pick_columns, .segment = { 9 } },
    { "magnitude of columns",
      OP_MAGNITUDE,
      { ROWS(5), VECTOR(5), { 7, 5, true }, { 3, 7, true }, { 5, 3, true } },
      .build = magnitude,
      .p = 0.7f,
      .k = 1 },
};
enum { CASES = sizeof cases / sizeof *cases };

/* Too large for a stack. */
static struct rig rig, other;

static void check_case(const struct op_case *c)
{
    const double tolerance = c->tolerance > 0 ? c->tolerance : 2e-3;

    rig_open(&rig, c, DT_F32, -1);
    rig_loss(&rig);
    graph_backward(rig.g, 1.0f);
    rig.g->poison = false; /* it takes its time */
    for (int i = 0; i < case_inputs(c); i++) {
        if (!rig.in[i].grad)
            continue;
        const double off = rig_gradcheck(&rig, i);

        if (!(off < tolerance))
            fail_msg("%s: the gradient of input %d is off by %.2e of its largest value", c->name, i,
                     off);
    }
    rig_close(&rig);
}

static void gradients_match_central_differences(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++)
        check_case(&cases[i]);
}

static void every_op_with_a_gradient_has_a_case(void **state)
{
    bool seen[OP_COUNT] = { false };

    (void)state;
    for (int i = 0; i < CASES; i++)
        seen[cases[i].op] = true;
    for (int op = 0; op < OP_COUNT; op++) {
        assert_non_null(op_defs[op].name);
        if (!op_defs[op].backward) {
            assert_int_equal(op_defs[op].max_in, 0); /* nothing to differentiate by */
            continue;
        }
        if (!seen[op])
            fail_msg("op \"%s\" has no gradient case", op_defs[op].name);
    }
}

/* Whatever else is frozen: fewer values are kept for backward then, and none that it reads. */
static void one_input_alone_gets_the_same_gradient(void **state)
{
    (void)state;
    for (int k = 0; k < CASES; k++) {
        rig_open(&rig, &cases[k], DT_F32, -1);
        rig_loss(&rig);
        graph_backward(rig.g, 0.5f);
        for (int i = 0; i < case_inputs(&cases[k]); i++) {
            if (!rig.in[i].grad)
                continue;
            rig_open(&other, &cases[k], DT_F32, i);
            rig_loss(&other);
            graph_backward(other.g, 0.5f);
            if (memcmp(rig.in[i].grad, other.in[i].grad, (size_t)rig.elems[i] * sizeof(float)))
                fail_msg("%s: input %d alone gets another gradient", cases[k].name, i);
            rig_close(&other);
        }
        rig_close(&rig);
    }
}

static double largest_gradient(const struct rig *r, int i)
{
    double most = 0;

    for (int64_t j = 0; j < r->elems[i]; j++)
        most = fmax(most, fabs(rig_added(r, i, j)));
    return most;
}

static void bf16_activations_stay_close_to_f32(void **state)
{
    (void)state;
    for (int k = 0; k < CASES; k++) {
        double scale = 0;

        rig_open(&rig, &cases[k], DT_F32, -1);
        rig_open(&other, &cases[k], DT_BF16, -1);
        rig_loss(&rig);
        rig_loss(&other);
        graph_backward(rig.g, 1.0f);
        graph_backward(other.g, 1.0f);
        for (int64_t j = 0; rig.proj.data && j < tensor_elems(rig.out); j++)
            scale += fabs((double)((const float *)rig.out->data)[j]);
        if (!(fabs(rig.loss - other.loss) <= 0.02 * fmax(scale, fabs(rig.loss))))
            fail_msg("%s: bf16 gives %g, f32 %g", cases[k].name, other.loss, rig.loss);
        for (int i = 0; i < case_inputs(&cases[k]); i++) {
            const double most = rig.in[i].grad ? largest_gradient(&rig, i) : 0;

            for (int64_t j = 0; rig.in[i].grad && j < rig.elems[i]; j++)
                if (!(fabs(rig_added(&rig, i, j) - rig_added(&other, i, j)) <= 0.05 * most))
                    fail_msg("%s: bf16 gradient %d of input %d is %g, f32 %g", cases[k].name,
                             (int)j, i, rig_added(&other, i, j), rig_added(&rig, i, j));
        }
        rig_close(&other);
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_with_a_gradient_has_a_case),
        cmocka_unit_test(gradients_match_central_differences),
        cmocka_unit_test(one_input_alone_gets_the_same_gradient),
        cmocka_unit_test(bf16_activations_stay_close_to_f32),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
