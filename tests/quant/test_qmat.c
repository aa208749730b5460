/* Matrices: quantised, decoded over any range, and turned into floats. */
#include "golden.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "core/rng.h"

static const int blocks[] = { 32, 64, 128, 256, 512, 1024, 2048, 4096 };
enum {
    N_BLOCKS = sizeof blocks / sizeof *blocks,
    ROWS = 61,
    COLS = 577
}; /* odd: 35 197 elements */

static float weights[ROWS * COLS];

static struct qmat float_matrix(void)
{
    const struct rng_key key = { .seed = 9, .stream = RNG_TEST };

    for (int i = 0; i < ROWS * COLS; i++)
        weights[i] = 0.02f * rng_normal(key, (uint64_t)i);
    return (struct qmat){ .type = QT_F32, .rows = ROWS, .cols = COLS, .data = weights };
}

static void compare(const struct qmat *w, int64_t first, int64_t n)
{
    static float out[ROWS * COLS + 1], ref[ROWS * COLS + 1];
    int64_t at;

    out[n] = 12345.0f;
    qmat_decode(w, first, n, out);
    qmat_decode_ref(w, first, n, ref);
    at = first_difference(out, ref, n);
    if (at >= 0)
        fail_msg("%s block %d: element %d of [%d, +%d) is %.9g, the reference says %.9g",
                 qtypes[w->type].name, w->block, (int)at, (int)first, (int)n, (double)out[at],
                 (double)ref[at]);
    assert_true(out[n] == 12345.0f);
}

static void ranges_at_this_level(void)
{
    const struct qmat src = float_matrix();

    for (int b = 0; b < N_BLOCKS; b++) {
        for (int v = 0; v < 4; v++) {
            const struct quant_spec spec = { v & 1 ? QT_FP4 : QT_NF4, blocks[b], v & 2 };
            struct arena mem = ARENA_INIT;
            struct qmat w;

            assert_int_equal(qmat_quantize(&src, &spec, &mem, &w, NULL), GRAFT_OK);
            assert_int_equal(qmat_elems(&w), ROWS * COLS);
            compare(&w, 0, ROWS * COLS);
            for (int64_t row = 0; row < ROWS; row += 7) /* rows start at odd bytes and in blocks */
                compare(&w, row * COLS, COLS);
            for (int64_t n = 0; n < 70; n++)
                compare(&w, 4096 - 33 + n, n);
            for (int64_t first = 0; first < 70; first++)
                compare(&w, 255 * 64 - 35 + first, 200);
            compare(&w, ROWS * COLS - 1, 1);
            arena_release(&mem);
        }
    }
}

static void any_range_of_codes_decodes_like_the_reference(void **state)
{
    (void)state;
    at_every_level(ranges_at_this_level);
}

/* (4 * 64 + 8) / 64 bits, 32 more for 256 blocks, and one offset */
static void double_quantised_nf4_takes_4_127_bits_a_weight(void **state)
{
    const struct qmat w = {
        .type = QT_NF4, .rows = 4096, .cols = 4096, .block = 64, .block2 = 256
    };
    float some = 0;
    struct qmat plain = w;

    (void)state;
    assert_float_equal(8.0 * (double)qmat_bytes(&w) / (4096.0 * 4096.0), 4.127, 0.0005);
    plain.absmax = &some;
    assert_int_equal(qmat_bytes(&plain), 4096 * 4096 / 2 + 4096 * 4096 / 64 * 4);
    assert_int_equal(qmat_bytes(&(struct qmat){ .type = QT_Q6_K, .rows = 3, .cols = 512 }),
                     6 * 210);
    assert_int_equal(qmat_bytes(&(struct qmat){ .type = QT_BF16, .rows = 3, .cols = 5 }), 30);
}

/* The pieces on the whole matrix give what qmat_quantize puts together from chunks. */
static void a_matrix_quantises_like_its_flat_array(void **state)
{
    const struct qmat src = float_matrix();
    const struct quant_spec spec = { QT_NF4, 64, true };
    struct arena mem = ARENA_INIT;
    const int64_t n = ROWS * COLS, nb = (n + 63) / 64;
    uint8_t *codes = arena_alloc(&mem, (size_t)(n + 1) / 2), *a8 = arena_alloc(&mem, (size_t)nb);
    float *absmax = arena_array(&mem, (size_t)nb, 4), a2[8], offset;
    struct qmat w;

    (void)state;
    nf4_quantize_ref(weights, n, 64, codes, absmax);
    absmax_quantize(absmax, nb, a8, a2, &offset);
    assert_int_equal(qmat_quantize(&src, &spec, &mem, &w, NULL), GRAFT_OK);
    assert_memory_equal(w.data, codes, (size_t)(n + 1) / 2);
    assert_memory_equal(w.absmax8, a8, (size_t)nb);
    assert_memory_equal(w.absmax2, a2, (size_t)((nb + 255) / 256) * 4);
    assert_true(w.offset == offset && w.block == 64 && w.block2 == 256 && !w.absmax);
    arena_release(&mem);
}

static void the_number_of_threads_changes_no_bit(void **state)
{
    const struct qmat src = float_matrix();
    const struct quant_spec spec = { QT_NF4, 64, true };
    const int threads = omp_get_max_threads();
    struct arena mem = ARENA_INIT;
    struct qmat one, four;

    (void)state;
    omp_set_num_threads(1);
    assert_int_equal(qmat_quantize(&src, &spec, &mem, &one, NULL), GRAFT_OK);
    omp_set_num_threads(4);
    assert_int_equal(qmat_quantize(&src, &spec, &mem, &four, NULL), GRAFT_OK);
    omp_set_num_threads(threads);
    assert_memory_equal(one.data, four.data, ROWS * COLS / 2);
    assert_memory_equal(one.absmax8, four.absmax8, ROWS * COLS / 64);
    assert_true(one.offset == four.offset);
    arena_release(&mem);
}

/* A matrix in any format can be quantised: the same as quantising its values. */
static void sources_of_every_format_quantise_by_their_values(void **state)
{
    const struct quant_spec spec = { QT_NF4, 128, false };
    const struct rng_key key = { .seed = 10, .stream = RNG_TEST };
    static uint8_t bytes[70 * 512 * 4];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(rng_u32(key, i) & 0x3b); /* scales below 1 */
    for (int t = 0; t < QT_COUNT; t++) {
        struct qmat src = { .type = (enum qtype)t, .rows = 70, .cols = 512, .data = bytes };
        struct qmat floats, a, b;
        struct arena mem = ARENA_INIT;

        if (!qtypes[t].decode)
            continue;
        assert_int_equal(qmat_to_float(&src, QT_F32, &mem, &floats, NULL), GRAFT_OK);
        qmat_decode_ref(&src, 0, 512, weights);
        assert_int_equal(first_difference(floats.data, weights, 512), -1);
        assert_int_equal(qmat_quantize(&src, &spec, &mem, &a, NULL), GRAFT_OK);
        assert_int_equal(qmat_quantize(&floats, &spec, &mem, &b, NULL), GRAFT_OK);
        assert_memory_equal(a.data, b.data, 70 * 256);
        assert_memory_equal(a.absmax, b.absmax, 70 * 4 * 4);
        arena_release(&mem);
    }
}

static void to_float_rounds_each_value_once(void **state)
{
    const struct qmat src = float_matrix();
    const struct quant_spec spec = { QT_NF4, 64, true };
    static const enum qtype types[] = { QT_F32, QT_F16, QT_BF16 };
    static float values[ROWS * COLS];
    static uint8_t want[ROWS * COLS * 4];
    struct arena mem = ARENA_INIT;
    struct qmat w, f;

    (void)state;
    assert_int_equal(qmat_quantize(&src, &spec, &mem, &w, NULL), GRAFT_OK);
    qmat_decode_ref(&w, 0, ROWS * COLS, values);
    for (int t = 0; t < 3; t++) {
        assert_int_equal(qmat_to_float(&w, types[t], &mem, &f, NULL), GRAFT_OK);
        assert_true(f.rows == ROWS && f.cols == COLS && f.type == types[t]);
        qtypes[types[t]].encode(want, values, ROWS * COLS);
        assert_memory_equal(f.data, want, qmat_bytes(&f));
    }
    arena_release(&mem);
}

static void a_value_that_is_not_finite_is_refused_with_its_place(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    static const int64_t places[] = { 0, 63, 64, 16383, 16384, 20000, ROWS * COLS - 1 };
    struct qmat src = float_matrix(), out = { .rows = -1 };

    (void)state;
    for (int b = 0; b < 3; b++) {
        for (int p = 0; p < 7; p++) {
            const struct quant_spec spec = { p & 1 ? QT_FP4 : QT_NF4, 64, p & 2 };
            struct arena mem = ARENA_INIT;
            struct graft_err err = { 0 };
            char want[64];

            src = float_matrix();
            weights[places[p]] = bad[b];
            weights[ROWS * COLS - 1] = NAN; /* the first one is named */
            assert_int_equal(qmat_quantize(&src, &spec, &mem, &out, &err), GRAFT_ERUN);
            snprintf(want, sizeof want, "element %d (row %d, column %d) is ", (int)places[p],
                     (int)places[p] / COLS, (int)places[p] % COLS);
            assert_memory_equal(err.msg, want, strlen(want));
            assert_int_equal(out.rows, -1);
            arena_release(&mem);
        }
    }
}

static void wrong_specs_and_sources_are_refused(void **state)
{
    const struct qmat src = float_matrix(), ints = { .type = QT_I32, .rows = 1, .cols = 1 };
    static const int bad_blocks[] = { 0, -64, 16, 48, 96, 8192 };
    struct arena mem = ARENA_INIT;
    struct graft_err err = { 0 };
    struct qmat out = { .rows = -1 };

    (void)state;
    for (int i = 0; i < 6; i++) {
        const struct quant_spec spec = { QT_NF4, bad_blocks[i], false };

        assert_int_equal(qmat_quantize(&src, &spec, &mem, &out, &err), GRAFT_EARG);
    }
    assert_string_equal(err.msg, "quantisation block is 8192; powers of two from 32 to 4096 are "
                                 "possible");
    assert_int_equal(
        qmat_quantize(&src, &(struct quant_spec){ QT_Q4_0, 64, false }, &mem, &out, &err),
        GRAFT_EARG);
    assert_string_equal(err.msg, "cannot quantise to q4_0; nf4 and fp4 are possible");
    assert_int_equal(
        qmat_quantize(&ints, &(struct quant_spec){ QT_NF4, 64, false }, &mem, &out, &err),
        GRAFT_EARG);
    assert_string_equal(err.msg, "a matrix of type i32 holds no weights");
    assert_int_equal(qmat_to_float(&src, QT_NF4, &mem, &out, &err), GRAFT_EARG);
    assert_string_equal(err.msg, "nf4 is not a float format; f32, f16 and bf16 are");
    assert_int_equal(out.rows, -1);
    arena_release(&mem);
}

static void every_failed_allocation_is_reported(void **state)
{
    const struct qmat src = float_matrix();
    const struct quant_spec spec = { QT_NF4, 64, true };
    int64_t k = 0;
    enum graft_status st;

    (void)state;
    do {
        struct arena mem = ARENA_INIT;
        struct graft_err err = { 0 };
        struct qmat out = { .rows = -1 };

        mem_fail_at(++k);
        st = qmat_quantize(&src, &spec, &mem, &out, &err);
        if (!st)
            st = qmat_to_float(&src, QT_BF16, &mem, &out, &err);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
        if (st)
            assert_non_null(strstr(err.msg, "out of memory"));
        arena_release(&mem);
    } while (st);
    assert_true(k > 3);
}

static void an_empty_matrix_is_no_trouble(void **state)
{
    const struct qmat src = { .type = QT_F32, .rows = 0, .cols = 64 };
    const struct quant_spec spec = { QT_NF4, 64, true };
    struct arena mem = ARENA_INIT;
    struct qmat w;
    float none[1];

    (void)state;
    assert_int_equal(qmat_quantize(&src, &spec, &mem, &w, NULL), GRAFT_OK);
    qmat_decode(&w, 0, 0, none);
    assert_int_equal(qmat_elems(&w), 0);
    arena_release(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_range_of_codes_decodes_like_the_reference),
        cmocka_unit_test(double_quantised_nf4_takes_4_127_bits_a_weight),
        cmocka_unit_test(a_matrix_quantises_like_its_flat_array),
        cmocka_unit_test(the_number_of_threads_changes_no_bit),
        cmocka_unit_test(sources_of_every_format_quantise_by_their_values),
        cmocka_unit_test(to_float_rounds_each_value_once),
        cmocka_unit_test(a_value_that_is_not_finite_is_refused_with_its_place),
        cmocka_unit_test(wrong_specs_and_sources_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(an_empty_matrix_is_no_trouble),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
