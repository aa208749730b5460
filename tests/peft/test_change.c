/* Changes of weights told and taken back, for every kind of merge: with methods made for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "peft/change.h"

enum { OUT = 3, IN = 5 };

static float weight[OUT * IN], biases[OUT];
static const struct qmat w = { .type = QT_F32, .rows = OUT, .cols = IN, .data = weight };
static const struct slot slot = { .name = "layers.0.q_proj",
                                  .site = SITE_LINEAR,
                                  .in = IN,
                                  .out = OUT,
                                  .has_bias = true,
                                  .w = &w,
                                  .bias = biases };
static struct graft_err err;

static void add_rows(const struct adapter_site *s, int64_t first, int64_t n, float *x)
{
    (void)s;
    for (int64_t i = 0; i < n * IN; i++)
        x[i] += 0.25f * (float)(first * IN + i);
}

static bool add_bias(const struct adapter_site *s, float *x)
{
    (void)s;
    for (int i = 0; i < OUT; i++)
        x[i] += (float)i;
    return true;
}

static void scale_rows(const struct adapter_site *s, int64_t first, int64_t n, float *x)
{
    (void)s;
    for (int64_t i = 0; i < n * IN; i++)
        x[i] *= 2.0f + (float)((first * IN + i) / IN);
}

static bool scale_bias(const struct adapter_site *s, float *x)
{
    (void)s;
    for (int i = 0; i < OUT; i++)
        x[i] *= 2.0f + (float)i;
    return true;
}

static const struct adapter_ops adds = { .name = "adds",
                                         .merge_rows = add_rows,
                                         .merge_bias = add_bias,
                                         .merges = MERGE_ADDS },
                                scales = { .name = "scales",
                                           .merge_rows = scale_rows,
                                           .merge_bias = scale_bias,
                                           .merges = MERGE_SCALES },
                                by_base = { .name = "norms", .merge_rows = scale_rows },
                                replaces = { .name = "copies",
                                             .merge_rows = scale_rows,
                                             .merges = MERGE_REPLACES },
                                no_change = { .name = "prompts" };

/* Two sites at the slot, the second around the first; NULL: one. */
struct made {
    struct adapter a;
    struct adapter_site site[2], *of[1];
};

static struct adapter *make(struct made *m, const struct adapter_ops *one,
                            const struct adapter_ops *two)
{
    memset(m, 0, sizeof *m);
    m->site[0] =
        (struct adapter_site){ .ops = one, .slot = &slot, .next = two ? &m->site[1] : NULL };
    m->site[1] = (struct adapter_site){ .ops = two, .slot = &slot };
    m->of[0] = &m->site[0];
    m->a = (struct adapter){
        .ops = one, .site = m->site, .site_count = two ? 2 : 1, .site_of = m->of
    };
    return &m->a;
}

static int fill(void **state)
{
    (void)state;
    for (int i = 0; i < OUT * IN; i++)
        weight[i] = (float)(i % 7) - 2.5f;
    for (int i = 0; i < OUT; i++)
        biases[i] = 1.5f - (float)i;
    return 0;
}

static void the_change_is_the_difference_of_the_merge(void **state)
{
    static const struct adapter_ops *const pair[][2] = {
        { &adds, NULL }, { &scales, NULL }, { &adds, &scales }, { &scales, &adds }
    };

    (void)state;
    for (size_t p = 0; p < 4; p++) {
        struct made m;
        const struct adapter *a = make(&m, pair[p][0], pair[p][1]);
        float merged[OUT * IN], d[OUT * IN], work[OUT * IN], b[OUT];

        memcpy(merged, weight, sizeof merged);
        merged_rows(a, &slot, 0, OUT, merged);
        change_rows(a, &slot, 0, 1, d, work); /* in pieces */
        change_rows(a, &slot, 1, 2, d + IN, work);
        for (int i = 0; i < OUT * IN; i++)
            assert_true(fabsf(merged[i] - weight[i] - d[i]) < 1e-5f);
        memcpy(b, biases, sizeof b);
        merged_bias(a, &slot, b);
        change_bias(a, &slot, d, work);
        for (int i = 0; i < OUT; i++)
            assert_true(fabsf(b[i] - biases[i] - d[i]) < 1e-6f);
        assert_int_equal(change_is_additive(a, &slot), p == 0);
    }
}

static void what_was_merged_can_be_taken_back(void **state)
{
    static const struct adapter_ops *const pair[][2] = {
        { &adds, NULL }, { &scales, NULL }, { &adds, &scales }, { &scales, &adds }
    };

    (void)state;
    for (size_t p = 0; p < 4; p++) {
        struct made m;
        const struct adapter *a = make(&m, pair[p][0], pair[p][1]);
        float x[OUT * IN], b[OUT], work[OUT * IN];

        assert_int_equal(change_can_undo(a, &slot, &err), GRAFT_OK);
        memcpy(x, weight, sizeof x);
        merged_rows(a, &slot, 0, OUT, x);
        undo_rows(a, &slot, 0, OUT, x, work);
        for (int i = 0; i < OUT * IN; i++)
            assert_true(fabsf(x[i] - weight[i]) < 1e-5f);
        memcpy(b, biases, sizeof b);
        merged_bias(a, &slot, b);
        undo_bias(a, &slot, b, work);
        for (int i = 0; i < OUT; i++)
            assert_true(fabsf(b[i] - biases[i]) < 1e-5f);
    }
}

static void refused(const struct adapter_ops *one, const struct adapter_ops *two, const char *part)
{
    struct made m;

    assert_int_equal(change_can_undo(make(&m, one, two), &slot, &err), GRAFT_EARG);
    if (!strstr(err.msg, part))
        fail_msg("%s", err.msg);
}

static void what_cannot_be_taken_back_is_refused_by_name(void **state)
{
    (void)state;
    refused(&by_base, NULL, "a norms adapter changes depends on the base");
    refused(&adds, &replaces, "copies adapters put their own values");
    refused(&no_change, NULL, "prompts adapters are no change of weights");
}

static void only_methods_that_merge_change_a_weight(void **state)
{
    struct made m;

    (void)state;
    assert_true(changes_weight(make(&m, &no_change, &adds), &slot));
    assert_true(changes_bias(make(&m, &no_change, &adds), &slot));
    assert_false(changes_weight(make(&m, &no_change, NULL), &slot));
    assert_false(changes_bias(make(&m, &by_base, NULL), &slot));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_change_is_the_difference_of_the_merge),
        cmocka_unit_test(what_was_merged_can_be_taken_back),
        cmocka_unit_test(what_cannot_be_taken_back_is_refused_by_name),
        cmocka_unit_test(only_methods_that_merge_change_a_weight),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
