/* Optimisers, schedules and clipping against torch and transformers (tests/golden/make_optim.py),
 * and what must hold for any sizes. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "core/rng.h"
#include "optim/optim.h"

enum { MAX_PARAMS = 2, MAX_COUNT = 16 };

static json_t *golden;

static int load_golden(void **state)
{
    struct graft_err err;

    (void)state;
    return json_read_file(GRAFT_GOLDEN "/optim.json", &golden, &err) == GRAFT_OK ? 0 : -1;
}

static int drop_golden(void **state)
{
    (void)state;
    json_decref(golden);
    return 0;
}

static double number(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    assert_true(json_is_number(v));
    return json_number_value(v);
}

static const char *text(const json_t *object, const char *name)
{
    const char *s = json_string_value(json_object_get(object, name));

    assert_non_null(s);
    return s;
}

/* Lists of lists of numbers into the parameters' arrays; returns how many there are. */
static int read_lists(const json_t *lists, float out[][MAX_COUNT], int64_t *count)
{
    const int params = (int)json_array_size(lists);

    assert_in_range(params, 1, MAX_PARAMS);
    for (int p = 0; p < params; p++) {
        const json_t *list = json_array_get(lists, (size_t)p);

        count[p] = (int64_t)json_array_size(list);
        assert_in_range(count[p], 1, MAX_COUNT);
        for (int64_t i = 0; i < count[p]; i++)
            out[p][i] = (float)json_number_value(json_array_get(list, (size_t)i));
    }
    return params;
}

static void assert_near(const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_true(fabsf(got[i] - want[i]) <= 4e-7f * (1 + fabsf(want[i])));
}

static void run_case(const json_t *c)
{
    const json_t *betas = json_object_get(c, "betas"), *steps = json_object_get(c, "steps");
    const struct optim_opts opts = { optim_by_name(text(c, "name")),
                                     json_number_value(json_array_get(betas, 0)),
                                     json_number_value(json_array_get(betas, 1)), number(c, "eps"),
                                     number(c, "weight_decay") };
    float value[MAX_PARAMS][MAX_COUNT], grad[MAX_PARAMS][MAX_COUNT], want[MAX_PARAMS][MAX_COUNT];
    struct optim_param param[MAX_PARAMS];
    int64_t count[MAX_PARAMS];
    const int params = read_lists(json_object_get(c, "start"), value, count);
    struct optim *o = NULL;

    assert_non_null(opts.def);
    for (int p = 0; p < params; p++)
        param[p] = (struct optim_param){ value[p], grad[p], count[p], 1 };
    assert_int_equal(optim_new(&opts, param, params, &o, NULL), GRAFT_OK);
    for (size_t s = 0; s < json_array_size(steps); s++) {
        const json_t *step = json_array_get(steps, s);
        const double max_norm = number(c, "max_norm");
        double norm;

        read_lists(json_object_get(step, "grad"), grad, count);
        norm = grad_clip(param, params, max_norm);
        if (max_norm > 0)
            assert_true(fabs(norm - number(step, "norm")) <= 1e-6 * norm);
        optim_step(o, number(step, "lr"));
        read_lists(json_object_get(step, "value"), want, count);
        for (int p = 0; p < params; p++)
            assert_near(value[p], want[p], count[p]);
    }
    optim_free(o);
}

static void optimisers_take_the_steps_of_torch(void **state)
{
    const json_t *cases = json_object_get(golden, "optimisers");

    (void)state;
    assert_true(json_array_size(cases) >= 4);
    for (size_t i = 0; i < json_array_size(cases); i++)
        run_case(json_array_get(cases, i));
}

static void schedules_give_the_rates_of_transformers(void **state)
{
    const json_t *cases = json_object_get(golden, "schedules");

    (void)state;
    assert_true(json_array_size(cases) >= 4);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *rates = json_object_get(c, "rates");
        const struct schedule s = { schedule_by_name(text(c, "name")), number(c, "lr"),
                                    number(c, "min_lr"), number(c, "warmup"),
                                    (int64_t)number(c, "total") };

        assert_non_null(s.def);
        for (size_t k = 0; k < json_array_size(rates); k++) {
            const double want = json_number_value(json_array_get(rates, k));

            assert_true(fabs(schedule_rate(&s, (int64_t)k) - want) <= 1e-12 * s.lr);
        }
    }
}

static bool in_golden(const char *list, const char *name)
{
    const json_t *cases = json_object_get(golden, list);

    for (size_t i = 0; i < json_array_size(cases); i++)
        if (strcmp(text(json_array_get(cases, i), "name"), name) == 0)
            return true;
    return false;
}

static void every_table_row_has_a_golden_case(void **state)
{
    (void)state;
    for (int i = 0; optim_defs[i]; i++) {
        assert_true(in_golden("optimisers", optim_defs[i]->name));
        assert_true(strlen(optim_defs[i]->help) > 0 && optim_defs[i]->moments <= OPTIM_MOMENTS);
        assert_ptr_equal(optim_by_name(optim_defs[i]->name), optim_defs[i]);
    }
    for (const struct schedule_def *d = schedule_defs; d->name; d++) {
        assert_true(in_golden("schedules", d->name));
        assert_true(strlen(d->help) > 0);
        assert_ptr_equal(schedule_by_name(d->name), d);
    }
    assert_null(optim_by_name("lion"));
    assert_null(schedule_by_name("step"));
}

static void rates_climb_to_lr_and_end_at_min_lr(void **state)
{
    (void)state;
    for (const struct schedule_def *d = schedule_defs; d->name; d++)
        for (int64_t total = 1; total < 40; total++)
            for (int64_t warmup = 0; warmup <= total; warmup++) {
                /* a number of steps, from 1 on; 0 has none */
                const struct schedule s = { d, 2e-4, 3e-5, (double)warmup, total };

                for (int64_t i = 0; i < warmup; i++)
                    assert_true(fabs(schedule_rate(&s, i) - 2e-4 * (double)i / (double)warmup) <
                                1e-15);
                assert_true(fabs(schedule_rate(&s, warmup) - 2e-4) < 1e-15);
                for (int64_t i = warmup; i < total; i++)
                    assert_true(schedule_rate(&s, i) >= schedule_rate(&s, i + 1));
                if (d != schedule_defs && warmup < total)
                    assert_true(fabs(schedule_rate(&s, total) - 3e-5) < 1e-15);
            }
}

static void a_share_of_warmup_rounds_up(void **state)
{
    struct schedule s = { schedule_by_name("linear"), 1, 0, 0.03, 100 };

    (void)state;
    assert_true(schedule_warmup_steps(&s) == 3);
    s.total = 101;
    assert_true(schedule_warmup_steps(&s) == 4);
    s.warmup = 1;
    assert_true(schedule_warmup_steps(&s) == 1);
}

/* Large enough for many chunks and a tail, in parameters of unequal size. */
enum { BIG = 5 * OPTIM_CHUNK + 77, SMALL = 11 };

struct field {
    float value[BIG + SMALL], grad[BIG + SMALL];
    struct optim_param param[2];
};

static struct field *field_new(void)
{
    const struct rng_key k = { .seed = 3, .stream = RNG_TEST };
    struct field *f = mem_alloc(sizeof *f);

    assert_non_null(f);
    for (int i = 0; i < BIG + SMALL; i++) {
        f->value[i] = rng_normal(k, (uint64_t)i);
        f->grad[i] = rng_normal(k, (uint64_t)(i + BIG + SMALL));
    }
    f->param[0] = (struct optim_param){ f->value, f->grad, BIG, 1 };
    f->param[1] = (struct optim_param){ f->value + BIG, f->grad + BIG, SMALL, 1 };
    return f;
}

static void steps(struct field *f, const struct optim_def *def, int threads)
{
    const struct optim_opts opts = { def, 0.9, 0.999, 1e-8, 0.01 };
    const int before = omp_get_max_threads();
    struct optim *o = NULL;

    omp_set_num_threads(threads);
    assert_int_equal(optim_new(&opts, f->param, 2, &o, NULL), GRAFT_OK);
    mem_fail_at(0);
    for (int i = 0; i < 3; i++) {
        grad_clip(f->param, 2, 0.5);
        optim_step(o, 1e-2);
    }
    assert_int_equal(mem_count(), 0);
    optim_free(o);
    omp_set_num_threads(before);
}

/* Half of the steps' rate and a ratio of 2 are the same bits; decay follows the rate. */
static void a_ratio_multiplies_the_rate_of_its_parameter(void **state)
{
    (void)state;
    for (int d = 0; optim_defs[d]; d++) {
        struct field *slow = field_new(), *fast = field_new();
        const struct optim_opts opts = { optim_defs[d], 0.9, 0.999, 1e-8, 0.01 };
        struct optim *a = NULL, *b = NULL;

        fast->param[1].lr_ratio = 2;
        assert_int_equal(optim_new(&opts, slow->param, 2, &a, NULL), GRAFT_OK);
        assert_int_equal(optim_new(&opts, fast->param, 2, &b, NULL), GRAFT_OK);
        for (int i = 0; i < 3; i++) {
            optim_step(a, 2e-3);
            optim_step(b, 1e-3);
        }
        assert_memory_equal(slow->param[1].value, fast->param[1].value,
                            (size_t)fast->param[1].count * sizeof(float));
        assert_true(memcmp(slow->param[0].value, fast->param[0].value, 64) != 0);
        optim_free(a);
        optim_free(b);
        mem_free(slow);
        mem_free(fast);
    }
}

static void results_do_not_depend_on_threads_or_chunks(void **state)
{
    (void)state;
    for (int d = 0; optim_defs[d]; d++) {
        struct field *one = field_new(), *three = field_new(), *whole = field_new();
        const struct optim_opts opts = { optim_defs[d], 0.9, 0.999, 1e-8, 0.01 };
        float *moment[OPTIM_MOMENTS];

        steps(one, optim_defs[d], 1);
        steps(three, optim_defs[d], 3);
        assert_memory_equal(one->value, three->value, sizeof one->value);
        assert_memory_equal(one->grad, three->grad, sizeof one->grad);
        /* the kernel over everything at once */
        for (int k = 0; k < OPTIM_MOMENTS; k++)
            moment[k] = mem_array(BIG + SMALL, sizeof(float));
        for (int i = 1; i <= 3; i++) {
            const struct optim_scalars s = { 1e-2, i, &opts };

            grad_clip(whole->param, 2, 0.5);
            optim_defs[d]->update(&s, whole->value, whole->grad, moment, BIG + SMALL);
        }
        for (int i = 0; i < BIG + SMALL; i++)
            assert_true(fabsf(one->value[i] - whole->value[i]) <= 1e-6f);
        for (int k = 0; k < OPTIM_MOMENTS; k++)
            mem_free(moment[k]);
        mem_free(one);
        mem_free(three);
        mem_free(whole);
    }
}

static void clipping_leaves_small_gradients_and_shortens_large_ones(void **state)
{
    struct field *f = field_new(), *same = field_new();
    double norm = grad_norm(f->param, 2), plain = 0;

    (void)state;
    for (int i = 0; i < BIG + SMALL; i++)
        plain += (double)f->grad[i] * f->grad[i];
    assert_true(fabs(norm - sqrt(plain)) <= 1e-12 * norm);
    assert_true(grad_clip(f->param, 2, 0) == norm);
    assert_true(grad_clip(f->param, 2, norm * 1.01) == norm);
    assert_memory_equal(f->grad, same->grad, sizeof f->grad);
    assert_true(grad_clip(f->param, 2, 0.25) == norm);
    assert_true(fabs(grad_norm(f->param, 2) - 0.25) < 1e-6);
    grad_scale(f->param, 2, 4);
    assert_true(fabs(grad_norm(f->param, 2) - 1) < 4e-6);
    grad_clear(f->param, 2);
    assert_true(grad_norm(f->param, 2) == 0);
    mem_free(f);
    mem_free(same);
}

static void a_gradient_that_is_not_finite_is_found_and_not_scaled(void **state)
{
    struct field *f = field_new();
    const float before = f->grad[0];

    (void)state;
    assert_int_equal(grad_not_finite(f->param, 2), -1);
    f->grad[BIG + 2] = NAN;
    assert_int_equal(grad_not_finite(f->param, 2), 1);
    assert_true(isnan(grad_clip(f->param, 2, 1e-3)));
    f->grad[BIG - 1] = -INFINITY;
    assert_int_equal(grad_not_finite(f->param, 2), 0);
    f->grad[BIG + 2] = 0;
    assert_true(isinf(grad_clip(f->param, 2, 1e-3)));
    assert_true(f->grad[0] == before);
    mem_free(f);
}

/* One parameter that waits for three steps goes on as one of a new optimiser. */
static void a_parameter_that_begins_later_counts_its_own_steps(void **state)
{
    const struct optim_opts opts = { &adamw_def, 0.9, 0.999, 1e-8, 0.1 };
    float v[2] = { 1, 0 }, g[2] = { 0.5f, 0 }, late = 0, late_g = 0.25f;
    const struct optim_param both[] = { { &v[0], &g[0], 1, 1 }, { &v[1], &g[1], 1, 2 } };
    const struct optim_param alone = { &late, &late_g, 1, 2 };
    struct optim *o = NULL, *p = NULL;

    (void)state;
    assert_int_equal(optim_new(&opts, both, 2, &o, NULL), GRAFT_OK);
    assert_int_equal(optim_new(&opts, &alone, 1, &p, NULL), GRAFT_OK);
    for (int i = 0; i < 3; i++)
        optim_step(o, 0.01);
    assert_true(v[1] == 0);
    optim_begin(o, 1);
    for (int i = 0; i < 4; i++) {
        g[1] = late_g = 0.25f * (float)(i + 1);
        optim_step(o, 0.01);
        optim_step(p, 0.01);
        assert_true(v[1] == late && late != 0);
    }
    optim_free(o);
    optim_free(p);
}

static void every_failed_allocation_is_reported(void **state)
{
    const struct optim_opts opts = { &adamw_def, 0.9, 0.999, 1e-8, 0 };
    struct field *f = field_new();
    enum graft_status st = GRAFT_ENOMEM;

    (void)state;
    assert_int_equal(optim_state_bytes(&opts, f->param, 2), (BIG + SMALL) * 2 * sizeof(float));
    for (int64_t k = 1; st; k++) {
        struct graft_err err = { 0 };
        struct optim *o = NULL;

        assert_true(k < 100);
        mem_fail_at(k);
        st = optim_new(&opts, f->param, 2, &o, &err);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || (st == GRAFT_ENOMEM && err.msg[0] && !o));
        optim_free(o);
    }
    mem_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimisers_take_the_steps_of_torch),
        cmocka_unit_test(schedules_give_the_rates_of_transformers),
        cmocka_unit_test(every_table_row_has_a_golden_case),
        cmocka_unit_test(rates_climb_to_lr_and_end_at_min_lr),
        cmocka_unit_test(a_share_of_warmup_rounds_up),
        cmocka_unit_test(a_ratio_multiplies_the_rate_of_its_parameter),
        cmocka_unit_test(results_do_not_depend_on_threads_or_chunks),
        cmocka_unit_test(clipping_leaves_small_gradients_and_shortens_large_ones),
        cmocka_unit_test(a_gradient_that_is_not_finite_is_found_and_not_scaled),
        cmocka_unit_test(a_parameter_that_begins_later_counts_its_own_steps),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, load_golden, drop_golden);
}
