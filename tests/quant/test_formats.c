/* The table of number formats: each row decoded, compared with the plain reference bit for bit, and
 * for GGUF's blocks with what gguf's Python package makes of the same bytes. */
#include "golden.h"

#include <math.h>

#include "core/rng.h"
#include "quant/half.h"

/* How a row is tested; a row of `qtypes` without a case here fails the walk. */
enum how { UNTESTED, FLOAT, CODES, BLOCKS, SIZE_ONLY };
struct format_case {
    enum how how;
    int bits_per_256; /* bytes of 256 elements */
};
static const struct format_case cases[QT_COUNT] = {
    [QT_F32] = { FLOAT, 1024 },        [QT_F16] = { FLOAT, 512 },
    [QT_BF16] = { FLOAT, 512 },        [QT_NF4] = { CODES, 0 },
    [QT_FP4] = { CODES, 0 },           [QT_Q4_0] = { BLOCKS, 144 },
    [QT_Q4_1] = { BLOCKS, 160 },       [QT_Q5_0] = { BLOCKS, 176 },
    [QT_Q5_1] = { BLOCKS, 192 },       [QT_Q8_0] = { BLOCKS, 272 },
    [QT_Q4_K] = { BLOCKS, 144 },       [QT_Q5_K] = { BLOCKS, 176 },
    [QT_Q6_K] = { BLOCKS, 210 },       [QT_F64] = { SIZE_ONLY, 2048 },
    [QT_I64] = { SIZE_ONLY, 2048 },    [QT_I32] = { SIZE_ONLY, 1024 },
    [QT_I16] = { SIZE_ONLY, 512 },     [QT_I8] = { SIZE_ONLY, 256 },
    [QT_U64] = { SIZE_ONLY, 2048 },    [QT_U32] = { SIZE_ONLY, 1024 },
    [QT_U16] = { SIZE_ONLY, 512 },     [QT_U8] = { SIZE_ONLY, 256 },
    [QT_BOOL] = { SIZE_ONLY, 256 },    [QT_F8_E4M3] = { SIZE_ONLY, 256 },
    [QT_F8_E5M2] = { SIZE_ONLY, 256 },
};

static void every_row_of_the_table_has_a_case(void **state)
{
    (void)state;
    for (int t = 0; t < QT_COUNT; t++) {
        const struct qtype_info *q = &qtypes[t];

        if (!q->name || cases[t].how == UNTESTED)
            fail_msg("number format %d (%s) has no test case", t, q->name ? q->name : "no name");
        assert_int_equal(256 / q->block * q->block_bytes, cases[t].bits_per_256);
        assert_int_equal(q->is_float, cases[t].how == FLOAT);
        assert_int_equal(q->decode != NULL, cases[t].how == FLOAT || cases[t].how == BLOCKS);
        if (cases[t].how == FLOAT)
            assert_non_null(q->encode);
        assert_int_equal(qtype_by_name(q->name), t);
    }
    assert_int_equal(qtype_by_name("q9_9"), QT_COUNT);
    assert_int_equal(qtype_by_name(""), QT_COUNT);
}

static void gguf_at_this_level(void)
{
    for (int t = 0; t < QT_COUNT; t++) {
        const struct qtype_info *q = &qtypes[t];
        char name[32];
        int64_t bytes, n;
        uint8_t *data;
        float *want, out[1024];

        if (cases[t].how != BLOCKS)
            continue;
        data = golden(q->name, 1, &bytes);
        snprintf(name, sizeof name, "%s.f32", q->name);
        want = golden_floats(name, &n);
        assert_int_equal(n / q->block * q->block_bytes, bytes);
        q->decode(out, data, n);
        for (int64_t i = 0; i < n; i++)
            if (out[i] != want[i])
                fail_msg("%s: element %d is %.9g, wanted %.9g", q->name, (int)i, (double)out[i],
                         (double)want[i]);
        mem_free(data);
        mem_free(want);
    }
}

static void blocks_decode_as_the_gguf_package_decodes_them(void **state)
{
    (void)state;
    at_every_level(gguf_at_this_level);
}

static void q8_0_is_encoded_as_the_gguf_package_encodes_it(void **state)
{
    int64_t n, bytes;
    float *x = golden_floats("x", &n);
    uint8_t *want = golden("q8_0.encoded", 1, &bytes), *got = mem_alloc((size_t)bytes);

    (void)state;
    assert_non_null(got);
    qtypes[QT_Q8_0].encode(got, x, bytes / 34 * 32);
    assert_memory_equal(got, want, (size_t)bytes);
    mem_free(x);
    mem_free(want);
    mem_free(got);
}

enum { ROWS = 37, COLS = 768, PAD = 1 };
static uint8_t bytes[ROWS * COLS * 4 + PAD];
static float out[ROWS * COLS + 1], ref[ROWS * COLS + 1];

/* Bytes that no weight has too: NaN and Inf scales, every bit pattern. */
static void fill_bytes(size_t n, uint32_t site)
{
    const struct rng_key key = { .seed = 6, .stream = RNG_TEST, .site = site };

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)rng_u32(key, i);
}

static void compare_range(const struct qmat *w, int64_t first, int64_t n)
{
    int64_t at;

    out[n] = 12345.0f;
    qmat_decode(w, first, n, out);
    qmat_decode_ref(w, first, n, ref);
    at = first_difference(out, ref, n);
    for (; at >= 0 && isnan(out[at]) && isnan(ref[at]); at++) { /* whose payload may differ */
        const int64_t next = first_difference(out + at + 1, ref + at + 1, n - at - 1);

        if (next < 0)
            return;
        at += next;
    }
    if (at >= 0)
        fail_msg("%s: element %d of [%d, +%d) is %.9g, the reference says %.9g",
                 qtypes[w->type].name, (int)at, (int)first, (int)n, (double)out[at],
                 (double)ref[at]);
    assert_true(out[n] == 12345.0f);
}

static void decoders_at_this_level(void)
{
    for (int t = 0; t < QT_COUNT; t++) {
        const int64_t block = qtypes[t].block, all = (int64_t)ROWS * COLS;
        struct qmat w = { .type = (enum qtype)t, .rows = ROWS, .cols = COLS };

        if (!qtypes[t].decode)
            continue;
        fill_bytes(sizeof bytes, (uint32_t)t);
        for (int offset = 0; offset <= PAD; offset++) { /* a tensor may start at any byte */
            w.data = bytes + offset;
            for (int64_t n = 0; n <= 40 * block && n <= 2048; n += block)
                compare_range(&w, n % 3 * block, n);
            compare_range(&w, 0, all);
            compare_range(&w, all - block, block);
        }
    }
}

static void fast_decoders_equal_the_reference_on_any_bytes(void **state)
{
    (void)state;
    at_every_level(decoders_at_this_level);
}

/* f16 by its definition, in double. */
static float f16_value(unsigned h)
{
    const int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
    const double a = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);

    return (float)(h & 0x8000 ? -a : a);
}

static void every_f16_has_its_value_and_comes_back(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        const float f = f16_to_f32((uint16_t)h);

        if ((h & 0x7fff) > 0x7c00) {
            assert_true(isnan(f));
            assert_int_equal(f16_from_f32(f), h | 0x200);
        } else if ((h & 0x7fff) == 0x7c00) {
            assert_true(isinf(f) && (f < 0) == (h > 0x7fff));
            assert_int_equal(f16_from_f32(f), h);
        } else {
            assert_true(f == f16_value(h));
            assert_int_equal(f16_from_f32(f), h);
        }
    }
}

/* Around the middle between two neighbours: below, above, and the tie to the even one. */
static void f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        const float up = h == 0x7bff ? 65536.0f : f16_value(h + 1);
        const float mid = (f16_value(h) + up) / 2.0f; /* exact in f32 */
        const unsigned even = h & 1 ? h + 1 : h;

        assert_int_equal(f16_from_f32(mid), even);
        assert_int_equal(f16_from_f32(nextafterf(mid, 0.0f)), h);
        assert_int_equal(f16_from_f32(nextafterf(mid, INFINITY)), h + 1);
        assert_int_equal(f16_from_f32(-mid), even | 0x8000);
    }
    assert_int_equal(f16_from_f32(1e30f), 0x7c00);
    assert_int_equal(f16_from_f32(1e-30f), 0);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7f80; h++) {
        const uint32_t mid_bits = h << 16 | 0x8000;
        float mid;

        memcpy(&mid, &mid_bits, 4);
        assert_int_equal(bf16_from_f32(bf16_to_f32((uint16_t)h)), h);
        assert_int_equal(bf16_from_f32(mid), h & 1 ? h + 1 : h);
        assert_int_equal(bf16_from_f32(nextafterf(mid, 0.0f)), h);
        assert_int_equal(bf16_from_f32(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_true(isnan(bf16_to_f32(bf16_from_f32(NAN))));
    assert_int_equal(bf16_from_f32(-INFINITY), 0xff80);
}

static void encoders_at_this_level(void)
{
    static const enum qtype types[] = { QT_F32, QT_F16, QT_BF16 };
    const struct rng_key key = { .seed = 8, .stream = RNG_TEST };
    float x[1003];
    uint8_t enc[sizeof x];

    for (int i = 0; i < 1003; i++) {
        const uint32_t u = rng_u32(key, (uint64_t)i);

        memcpy(x + i, &u, 4); /* any float at all */
    }
    for (int t = 0; t < 3; t++) {
        for (int64_t n = 0; n <= 1003; n += 17) {
            qtypes[types[t]].encode(enc, x, n);
            for (int64_t i = 0; i < n; i++) {
                uint16_t h;

                memcpy(&h, enc + 2 * i, 2);
                if (types[t] == QT_F16)
                    assert_int_equal(h, f16_from_f32(x[i]));
                else if (types[t] == QT_BF16)
                    assert_int_equal(h, bf16_from_f32(x[i]));
                else
                    assert_memory_equal(enc + 4 * i, x + i, 4);
            }
        }
    }
}

static void fast_encoders_equal_the_scalar_conversions(void **state)
{
    (void)state;
    at_every_level(encoders_at_this_level);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_the_table_has_a_case),
        cmocka_unit_test(blocks_decode_as_the_gguf_package_decodes_them),
        cmocka_unit_test(q8_0_is_encoded_as_the_gguf_package_encodes_it),
        cmocka_unit_test(fast_decoders_equal_the_reference_on_any_bytes),
        cmocka_unit_test(every_f16_has_its_value_and_comes_back),
        cmocka_unit_test(f16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(fast_encoders_equal_the_scalar_conversions),
    };

    return cmocka_run_group_tests(tests, golden_open, golden_close);
}
