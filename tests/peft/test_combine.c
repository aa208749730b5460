/* Combined changes against dense arithmetic: PEFT's own functions on the changes (combine.json),
 * and plain sums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/json.h"
#include "peft/combine.h"
#include "peft/methods.h"
#include "peft/prune.h"

enum { INPUTS = 3 };

static json_t *golden;
static int64_t OUT, IN;
static struct arena mem;
static struct slot slot = { .name = "model.layers.0.q_proj",
                            .site = SITE_LINEAR,
                            .has_bias = true };
static struct slot_list slots = { .slot = &slot, .count = 1, .model_type = "llama" };
static struct adapter *adapter[INPUTS];
static struct combine_input input[INPUTS];
static struct graft_err err;

static const json_t *item(const char *list, size_t i)
{
    const json_t *v = json_array_get(json_object_get(golden, list), i);

    assert_non_null(v);
    return v;
}

static float *floats(const json_t *list)
{
    float *x = arena_array(&mem, json_array_size(list), sizeof *x);

    assert_true(x && json_array_size(list) > 0);
    for (size_t i = 0; i < json_array_size(list); i++)
        x[i] = (float)json_number_value(json_array_get(list, i));
    return x;
}

static int make_inputs(void **state)
{
    static const char *const q_proj = "q_proj";

    (void)state;
    if (json_read_file(GRAFT_GOLDEN "/combine.json", &golden, &err))
        return -1;
    slot.out = OUT = json_integer_value(json_object_get(golden, "out"));
    slot.in = IN = json_integer_value(json_object_get(golden, "in"));
    for (size_t i = 0; i < INPUTS; i++) {
        const double r = json_number_value(item("ranks", i));
        const struct adapter_config c = {
            .method = "lora",
            .r = (int64_t)r,
            .lora_alpha = r * json_number_value(item("scales", i)),
            .lora_bias = true,
            .target_modules = { TARGETS_LIST, (const char **)(uintptr_t)&q_proj, 1 }
        };

        if (adapter_new(&c, &slots, false, &adapter[i], &err))
            return -1;
        lora_fill(&adapter[i]->site[0], floats(item("left", i)), floats(item("right", i)),
                  floats(item("bias", i)));
        input[i] =
            (struct combine_input){ adapter[i], &slot, json_number_value(item("weights", i)) };
    }
    return 0;
}

static int drop_inputs(void **state)
{
    (void)state;
    for (int i = 0; i < INPUTS; i++)
        adapter_free(adapter[i]);
    json_decref(golden);
    arena_release(&mem);
    return 0;
}

struct result {
    int64_t r;
    float *change, *bias;
    struct combine_loss loss;
};

static struct result combined(const struct combine_opts *o, int count)
{
    struct result x = { .bias = arena_array(&mem, (size_t)OUT, sizeof(float)),
                        .change = arena_array(&mem, (size_t)(OUT * IN), sizeof(float)) };
    float *left, *right;

    if (combine_rank(o, input, count, &x.r, &err))
        fail_msg("%s", err.msg);
    left = arena_array(&mem, (size_t)(OUT * x.r), sizeof *left);
    right = arena_array(&mem, (size_t)(x.r * IN), sizeof *right);
    if (combine_slot(o, input, count, x.r, left, right, x.bias, &x.loss, &err))
        fail_msg("%s", err.msg);
    for (int64_t y = 0; y < OUT; y++)
        for (int64_t k = 0; k < IN; k++) {
            double sum = 0;

            for (int64_t t = 0; t < x.r; t++)
                sum += (double)left[y * x.r + t] * right[t * IN + k];
            x.change[y * IN + k] = (float)sum;
        }
    return x;
}

/* The largest difference over the largest value. */
static double apart(const float *a, const float *b, int64_t n)
{
    double most = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return most / size;
}

static enum combine_how how_named(const char *name)
{
    for (int i = 0; i < COMBINE_COUNT; i++)
        if (!strcmp(combine_names[i], name))
            return (enum combine_how)i;
    fail_msg("no way is named %s", name);
    return COMBINE_COUNT;
}

/* At full rank nothing is cut off, so that the whole change shows. */
static void the_change_is_what_peft_makes_of_dense_ones(void **state)
{
    const json_t *cases = json_object_get(golden, "cases"), *c;
    size_t i;

    (void)state;
    assert_true(json_array_size(cases) > 5);
    json_array_foreach(cases, i, c)
    {
        const char *how = json_string_value(json_object_get(c, "how"));
        const double density = json_number_value(json_object_get(c, "density"));
        const char *sign = json_string_value(json_object_get(c, "sign"));
        const struct combine_opts o = { .how = how_named(how),
                                        .rank = IN,
                                        .density = density,
                                        .sign_by_count = !strcmp(sign, "frequency") };
        const struct result x = combined(&o, INPUTS);
        const double w = apart(x.change, floats(json_object_get(c, "weight")), OUT * IN);
        const double b = apart(x.bias, floats(json_object_get(c, "bias")), OUT);

        if (!(w < 3e-6) || !(b < 1e-6))
            fail_msg("%s at %g, sign by %s: off by %g, the bias by %g", how, density, sign, w, b);
    }
}

static void a_sum_is_exact_and_has_all_ranks(void **state)
{
    const struct combine_opts linear = { .how = COMBINE_LINEAR }, cat = { .how = COMBINE_CAT };
    const float *want = floats(json_object_get(item("cases", 0), "weight"));

    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct result x = combined(i ? &cat : &linear, INPUTS);

        assert_int_equal(x.r, 3 + 2 + 4);
        assert_true(apart(x.change, want, OUT * IN) < 1e-6);
        assert_true(x.loss.lost == 0 && x.loss.all > 0);
    }
}

/* What is lost is what the singular values say, on the way over factors and over values. */
static void a_rank_keeps_the_best_of_it(void **state)
{
    static const enum combine_how how[] = { COMBINE_LINEAR, COMBINE_SVD, COMBINE_MAGNITUDE_PRUNE };
    const struct result whole = combined(&(struct combine_opts){ .how = COMBINE_LINEAR }, INPUTS);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const struct combine_opts o = { .how = how[i],
                                        .density = 1,
                                        .rank = how[i] == COMBINE_SVD ? 0 : 4 };
        const struct result x = combined(&o, INPUTS);
        double lost = 0, all = 0;

        assert_int_equal(x.r, 4); /* svd: the largest of the inputs */
        for (int64_t k = 0; k < OUT * IN; k++) {
            const double d = (double)whole.change[k] - (double)x.change[k];

            lost += d * d;
            all += (double)whole.change[k] * (double)whole.change[k];
        }
        assert_true(fabs(x.loss.all / all - 1) < 1e-5);
        assert_true(fabs(x.loss.lost / lost - 1) < 1e-4);
        assert_true(lost > 0.001 * all);
    }
}

static void a_rank_is_never_more_than_there_is(void **state)
{
    struct combine_opts o = { .how = COMBINE_SVD, .rank = 100 };
    int64_t r = 0;

    (void)state;
    assert_int_equal(combine_rank(&o, input, 2, &r, &err), GRAFT_OK);
    assert_int_equal(r, 5);
    o.how = COMBINE_TIES;
    assert_int_equal(combine_rank(&o, input, 2, &r, &err), GRAFT_OK);
    assert_int_equal(r, IN);
}

/* DARE: a value is left out or divided by the density, as its numbers say; the mean stays. */
static void values_left_out_at_random_are_made_up_for(void **state)
{
    const struct combine_opts o = {
        .how = COMBINE_DARE_LINEAR, .rank = IN, .density = 0.4, .seed = 3
    };
    const struct result x = combined(&o, INPUTS), again = combined(&o, INPUTS);
    float *want = arena_array(&mem, (size_t)(OUT * IN), sizeof *want), *d = want + 0;
    float *one = arena_array(&mem, (size_t)(OUT * IN), sizeof *one);
    int64_t zeros = 0;

    (void)state;
    for (int i = 0; i < INPUTS; i++) {
        struct prune p = prune_random(0.4, 3, slot.name, i);

        change_rows(adapter[i], &slot, 0, OUT, one, one);
        prune_values(&p, 0, OUT * IN, one);
        for (int64_t k = 0; k < OUT * IN; k++) {
            zeros += one[k] == 0;
            d[k] += (float)(input[i].weight * (double)one[k]);
        }
    }
    assert_true(apart(x.change, want, OUT * IN) < 3e-6);
    assert_true(fabs((double)zeros / (INPUTS * OUT * IN) - 0.6) < 0.08);
    assert_memory_equal(x.change, again.change, (size_t)(OUT * IN) * sizeof *x.change);
}

static void exactly_as_many_values_stay_as_asked(void **state)
{
    enum { N = 4000 };
    float x[N], y[N];

    (void)state;
    for (int round = 0; round < 3; round++) { /* many that are equal, too */
        for (int i = 0; i < N; i++)
            x[i] = round ? (float)((i * 7919) % (round == 1 ? 10 : N)) - 3 : 1.0f;
        for (int64_t k = 0; k <= N; k += 500) {
            struct prune p = prune_small(x, N, k);
            int64_t kept = 0;
            float least = INFINITY, most = 0;

            memcpy(y, x, sizeof x);
            for (int64_t i = 0; i < N; i += 100) /* in pieces, as callers do */
                prune_values(&p, i, 100, y + i);
            for (int i = 0; i < N; i++) {
                if (y[i] != 0 || (x[i] == 0 && k == N)) {
                    kept++;
                    least = fminf(least, fabsf(x[i]));
                } else {
                    most = fmaxf(most, fabsf(x[i]));
                }
            }
            assert_true(kept == k || most == 0);
            assert_true(least >= most);
        }
    }
}

static void an_input_that_leaves_the_weight_alone_counts_as_none(void **state)
{
    const struct combine_opts o = { .how = COMBINE_CAT };
    struct combine_input with[INPUTS];
    float left[12 * 7], right[7 * 10], bias[12];
    struct combine_loss loss = { 0, 0 };
    int64_t r = 0;

    (void)state;
    memcpy(with, input, sizeof with);
    with[1].slot = NULL;
    assert_int_equal(combine_rank(&o, with, INPUTS, &r, &err), GRAFT_OK);
    assert_int_equal(r, 7);
    assert_int_equal(combine_slot(&o, with, INPUTS, r, left, right, bias, &loss, &err), GRAFT_OK);
    assert_true(loss.all > 0);
}

static void memory_that_fails_is_told(void **state)
{
    const struct combine_opts o[] = { { .how = COMBINE_CAT },
                                      { .how = COMBINE_SVD },
                                      { .how = COMBINE_TIES, .density = 0.5, .rank = 3 } };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        float left[12 * 9], right[9 * 10], bias[12];
        struct combine_loss loss = { 0, 0 };
        enum graft_status st = GRAFT_ENOMEM;
        int64_t r = 0;

        assert_int_equal(combine_rank(&o[i], input, INPUTS, &r, &err), GRAFT_OK);
        for (int64_t k = 1; st; k++) {
            mem_fail_at(k);
            st = combine_slot(&o[i], input, INPUTS, r, left, right, bias, &loss, &err);
            mem_fail_at(0);
            assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_change_is_what_peft_makes_of_dense_ones),
        cmocka_unit_test(a_sum_is_exact_and_has_all_ranks),
        cmocka_unit_test(a_rank_keeps_the_best_of_it),
        cmocka_unit_test(a_rank_is_never_more_than_there_is),
        cmocka_unit_test(values_left_out_at_random_are_made_up_for),
        cmocka_unit_test(exactly_as_many_values_stay_as_asked),
        cmocka_unit_test(an_input_that_leaves_the_weight_alone_counts_as_none),
        cmocka_unit_test(memory_that_fails_is_told),
    };

    return cmocka_run_group_tests(tests, make_inputs, drop_inputs);
}
