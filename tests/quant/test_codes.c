/* nf4, fp4 and their double quantisation, against bitsandbytes and against the plain reference. */
#include "golden.h"

#include <math.h>

#include "core/rng.h"

static const int blocks[] = { 32, 64, 128, 256, 512, 1024, 2048, 4096 };
enum { N_BLOCKS = sizeof blocks / sizeof *blocks, ROOM = 9000 };

struct kind {
    const char *name;
    void (*quantize)(const float *, int64_t, int, uint8_t *, float *);
    void (*quantize_ref)(const float *, int64_t, int, uint8_t *, float *);
    const float *lut;
};
static const struct kind kinds[] = {
    { "nf4", nf4_quantize, nf4_quantize_ref, nf4_lut },
    { "fp4", fp4_quantize, fp4_quantize_ref, fp4_lut },
};

static void tables_are_those_of_bitsandbytes(void **state)
{
    static const char *const names[] = { "lut.nf4", "lut.fp4", "map.signed", "map.unsigned" };
    const float *const ours[] = { nf4_lut, fp4_lut, dynamic_map_signed(), dynamic_map_unsigned() };

    (void)state;
    for (int t = 0; t < 4; t++) {
        int64_t n;
        float *theirs = golden_floats(names[t], &n);

        assert_int_equal(n, t < 2 ? 16 : 256);
        for (int64_t i = 0; i < n; i++)
            if (ours[t][i] != theirs[i])
                fail_msg("%s[%d] is %.9g, wanted %.9g", names[t], (int)i, (double)ours[t][i],
                         (double)theirs[i]);
        mem_free(theirs);
    }
}

static void check_golden(const struct kind *k, int block, const float *x, int64_t n)
{
    char name[32];
    uint8_t codes[ROOM / 2 + 1], *want_codes;
    float absmax[ROOM / 32 + 1], *want_absmax;
    int64_t n_codes, nb;

    snprintf(name, sizeof name, "%s.%d.codes", k->name, block);
    want_codes = golden(name, 1, &n_codes);
    snprintf(name, sizeof name, "%s.%d.absmax", k->name, block);
    want_absmax = golden_floats(name, &nb);
    assert_int_equal(n_codes, (n + 1) / 2);
    assert_int_equal(nb, (n + block - 1) / block);
    for (int plain = 0; plain < 2; plain++) {
        memset(codes, 0xaa, sizeof codes);
        (plain ? k->quantize_ref : k->quantize)(x, n, block, codes, absmax);
        for (int64_t i = 0; i < n_codes; i++)
            if (codes[i] != want_codes[i])
                fail_msg("%s block %d: byte %d is %02x, wanted %02x", k->name, block, (int)i,
                         codes[i], want_codes[i]);
        assert_int_equal(first_difference(absmax, want_absmax, nb), -1);
        assert_int_equal(codes[n_codes], 0xaa);
    }
    mem_free(want_codes);
    mem_free(want_absmax);
}

static void golden_codes_at_this_level(void)
{
    int64_t n;
    float *x = golden_floats("x", &n);

    for (int k = 0; k < 2; k++)
        for (int b = 0; b < N_BLOCKS; b++)
            check_golden(&kinds[k], blocks[b], x, n);
    mem_free(x);
}

static void codes_and_absmax_are_bit_equal_to_bitsandbytes(void **state)
{
    (void)state;
    at_every_level(golden_codes_at_this_level);
}

/* At a midpoint, and one float to either side of it. */
static void check_around(const struct kind *k, float mid, unsigned below, unsigned above)
{
    const float v[4] = { nextafterf(mid, -2.0f), mid, nextafterf(mid, 2.0f), 1.0f };
    const unsigned at = mid < 0 && k->lut == fp4_lut ? above : below; /* fp4 goes by |x| */
    uint8_t codes[16];
    float x[32] = { 0 }, absmax;

    memcpy(x, v, sizeof v);
    for (int plain = 0; plain < 2; plain++) {
        (plain ? k->quantize_ref : k->quantize)(x, 32, 32, codes, &absmax);
        if (codes[0] >> 4 != below || (codes[0] & 15u) != at || codes[1] >> 4 != (int)above)
            fail_msg("%s around %.9g: codes %x %x %x, wanted %x %x %x", k->name, (double)mid,
                     codes[0] >> 4, codes[0] & 15u, codes[1] >> 4, below, at, above);
    }
}

static void thresholds_at_this_level(void)
{
    static const float fp4[7] = { 0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f,
                                  0.4166667f,  0.583333f,  0.8333333f };
    static const unsigned order[8] = { 0, 1, 6, 7, 4, 5, 2, 3 };

    for (unsigned c = 0; c < 15; c++)
        check_around(&kinds[0], (nf4_lut[c] + nf4_lut[c + 1]) / 2.0f, c, c + 1);
    for (unsigned r = 0; r < 7; r++) {
        check_around(&kinds[1], fp4[r], order[r], order[r + 1]);
        check_around(&kinds[1], -fp4[r], order[r + 1] | 8, order[r] | 8);
    }
}

static void codes_change_right_above_the_midpoints(void **state)
{
    (void)state;
    at_every_level(thresholds_at_this_level);
}

static void a_block_of_zeros_has_absmax_zero_and_comes_back_as_zeros(void **state)
{
    float x[64] = { 0 }, absmax, back[64];
    uint8_t codes[32];

    (void)state;
    for (int k = 0; k < 2; k++) {
        const struct qmat w = { .type = k ? QT_FP4 : QT_NF4,
                                .rows = 1,
                                .cols = 64,
                                .data = codes,
                                .block = 64,
                                .lut = kinds[k].lut,
                                .absmax = &absmax };

        kinds[k].quantize(x, 64, 64, codes, &absmax);
        assert_true(absmax == 0.0f);
        for (int i = 0; i < 32; i++)
            assert_int_equal(codes[i], 0);
        qmat_decode(&w, 0, 64, back);
        for (int i = 0; i < 64; i++)
            assert_true(back[i] == 0.0f);
    }
}

static void an_odd_tail_is_filled_with_the_code_of_zero(void **state)
{
    const float x[3] = { 1, -1, 1 };
    float absmax;
    uint8_t codes[2];

    (void)state;
    nf4_quantize(x, 3, 64, codes, &absmax);
    assert_int_equal(codes[0], 0xf0);
    assert_int_equal(codes[1], 0xf7);
    fp4_quantize(x, 3, 64, codes, &absmax);
    assert_int_equal(codes[0], 0x3b);
    assert_int_equal(codes[1], 0x30);
}

static void fill(float *x, int64_t n, uint32_t site)
{
    const struct rng_key key = { .seed = 5, .stream = RNG_TEST, .site = site };

    for (int64_t i = 0; i < n; i++)
        x[i] = 0.03f * rng_normal(key, (uint64_t)i);
}

static void fast_quantisers_at_this_level(void)
{
    static const int64_t sizes[] = {
        1, 2, 31, 32, 33, 63, 64, 65, 511, 1000, 4095, 4096, 4097, 8555
    };
    static float x[ROOM], absmax[ROOM / 32 + 1], absmax_ref[ROOM / 32 + 1];
    static uint8_t codes[ROOM / 2], codes_ref[ROOM / 2];

    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s];

        fill(x, n, (uint32_t)s);
        for (int k = 0; k < 2; k++) {
            for (int b = 0; b < N_BLOCKS; b++) {
                kinds[k].quantize(x, n, blocks[b], codes, absmax);
                kinds[k].quantize_ref(x, n, blocks[b], codes_ref, absmax_ref);
                assert_memory_equal(codes, codes_ref, (size_t)(n + 1) / 2);
                assert_int_equal(
                    first_difference(absmax, absmax_ref, (n + blocks[b] - 1) / blocks[b]), -1);
            }
        }
    }
}

static void fast_quantisers_equal_the_reference_at_odd_sizes(void **state)
{
    (void)state;
    at_every_level(fast_quantisers_at_this_level);
}

static void nested_absmax_is_bit_equal_to_bitsandbytes(void **state)
{
    int64_t nb, n2, one;
    float *absmax = golden_floats("nested.absmax", &nb), offset;
    float *want_offset = golden_floats("nested.offset", &one);
    float *want2 = golden_floats("nested.absmax2", &n2), absmax2[8];
    uint8_t *want8 = golden("nested.absmax8", 1, &nb), absmax8[1024];

    (void)state;
    assert_int_equal(n2, (nb + 255) / 256);
    absmax_quantize(absmax, nb, absmax8, absmax2, &offset);
    assert_true(offset == *want_offset);
    assert_memory_equal(absmax8, want8, (size_t)nb);
    assert_int_equal(first_difference(absmax2, want2, n2), -1);
    absmax_quantize_at_ref(absmax, nb, offset, absmax8, absmax2);
    assert_memory_equal(absmax8, want8, (size_t)nb);
    mem_free(absmax);
    mem_free(want_offset);
    mem_free(want2);
    mem_free(want8);
}

/* The code is the number of midpoints below the value. */
static void ties_between_map_entries_take_the_lower_one(void **state)
{
    const float *map = dynamic_map_signed();
    float x[256], absmax2[1], ref2[1];
    uint8_t q[256], ref[256];

    (void)state;
    for (int i = 0; i < 255; i++)
        x[i] = (map[i] + map[i + 1]) * 0.5f;
    x[255] = 1; /* absmax2 */
    absmax_quantize_at(x, 256, 0.0f, q, absmax2);
    absmax_quantize_at_ref(x, 256, 0.0f, ref, ref2);
    assert_memory_equal(q, ref, 256);
    for (int i = 0; i < 255; i++)
        assert_int_equal(q[i], i);
    assert_int_equal(q[255], 255);
}

static void the_map_search_equals_the_reference_on_many_values(void **state)
{
    static float x[5003], a2[20], ref2[20];
    static uint8_t q[5003], ref[5003];

    (void)state;
    fill(x, 5003, 77);
    for (int i = 0; i < 5003; i++)
        x[i] = fabsf(x[i]) * (i % 7 ? 1.0f : 1e-4f);
    absmax_quantize_at(x, 5003, 0.02f, q, a2);
    absmax_quantize_at_ref(x, 5003, 0.02f, ref, ref2);
    assert_memory_equal(q, ref, sizeof q);
    assert_int_equal(first_difference(a2, ref2, 20), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_those_of_bitsandbytes),
        cmocka_unit_test(codes_and_absmax_are_bit_equal_to_bitsandbytes),
        cmocka_unit_test(codes_change_right_above_the_midpoints),
        cmocka_unit_test(a_block_of_zeros_has_absmax_zero_and_comes_back_as_zeros),
        cmocka_unit_test(an_odd_tail_is_filled_with_the_code_of_zero),
        cmocka_unit_test(fast_quantisers_equal_the_reference_at_odd_sizes),
        cmocka_unit_test(nested_absmax_is_bit_equal_to_bitsandbytes),
        cmocka_unit_test(ties_between_map_entries_take_the_lower_one),
        cmocka_unit_test(the_map_search_equals_the_reference_on_many_values),
    };

    return cmocka_run_group_tests(tests, golden_open, golden_close);
}
