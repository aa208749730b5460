/* Files drawn as often as their weight says, and records held out for validation. */
#include <math.h>

#include "tests/data/data_testing.h"

enum { A = 40, B = 25, C = 7, ALL = A + B + C, FILES = 3 };
static const char *const names[FILES] = { "a.jsonl", "b.jsonl", "c.jsonl" };
static const int counts[FILES] = { A, B, C };
static const struct dataset_opts PLAIN = { .mask_prompt = true, .eos = -1 };

/* Record i of all has i % 9 + 2 tokens, whose first is i. */
static struct dataset three_files(void)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset d = { .count = 0 };
    int n = 0;

    for (int f = 0; f < FILES; f++) {
        struct strbuf s = STRBUF_INIT;

        for (int i = 0; i < counts[f]; i++, n++) {
            strbuf_printf(&s, "{\"input_ids\": [%d", n);
            for (int t = 0; t <= n % 9; t++)
                strbuf_printf(&s, ",%d", 1000 + t);
            strbuf_puts(&s, "]}\n");
        }
        put_file(names[f], s.buf);
        strbuf_release(&s);
    }
    if (dataset_load(names, FILES, &PLAIN, &d, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(d.count, ALL);
    return d;
}

static struct loader *new_loader(const struct dataset *d, const struct loader_opts *o)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct loader *l = NULL;

    if (loader_new(d, o, &l, &err))
        fail_msg("%s", err.msg);
    return l;
}

/* How often each record comes in an epoch; returns how many records come, their order in `order`.
 */
static int count_epoch(struct loader *l, int64_t epoch, int *often, int *order)
{
    int64_t passes = 0;
    int n = 0;

    memset(often, 0, ALL * sizeof *often);
    assert_int_equal(loader_passes(l, epoch, &passes, NULL), GRAFT_OK);
    for (int64_t p = 0; p < passes; p++) {
        struct batch b;

        assert_int_equal(loader_batch(l, epoch, p, &b, NULL), GRAFT_OK);
        assert_true(b.n <= loader_max_tokens(l));
        assert_true(b.segments <= loader_max_segments(l));
        for (int64_t s = 0; s < b.segments; s++) {
            assert_int_equal(b.id[b.start[s]], b.which[s]);
            often[b.which[s]]++;
            if (order)
                order[n] = (int)b.which[s];
            n++;
        }
    }
    assert_int_equal(loader_batch(l, epoch, passes, &(struct batch){ 0 }, NULL), GRAFT_EARG);
    return n;
}

static const double WEIGHTS[FILES] = { 0.5, 2, 1.3 }; /* 20, 50 and 7 + 2 draws */

static void a_weight_is_how_often_records_are_drawn(void **state)
{
    struct dataset d = three_files();

    (void)state;
    for (int packing = 0; packing < 2; packing++) {
        for (int shuffle = 0; shuffle < 2; shuffle++) {
            const struct loader_opts o = { .batch_size = 3,
                                           .packing = packing,
                                           .row_length = 20,
                                           .shuffle = shuffle,
                                           .seed = 5,
                                           .weight = WEIGHTS };
            struct loader *l = new_loader(&d, &o);
            int often[2][ALL], sums[ALL] = { 0 }, c_twice = 0;
            int64_t records, draws;

            assert_int_equal(loader_draws(l), 20 + 50 + 9);
            loader_source(l, 2, &records, &draws);
            assert_int_equal(records, C);
            assert_int_equal(draws, 9);
            for (int e = 0; e < 8; e++) {
                assert_int_equal(count_epoch(l, e, often[e % 2], NULL), 79);
                for (int i = 0; i < ALL; i++) {
                    const int n = often[e % 2][i];

                    sums[i] += n;
                    if (i < A) /* one half, then the other */
                        assert_int_equal(n, e % 2 ? 1 - often[0][i] : n > 0);
                    else if (i < A + B)
                        assert_int_equal(n, 2);
                    else
                        assert_true(n == 1 || n == 2);
                }
            }
            for (int i = 0; i < A; i++)
                assert_int_equal(sums[i], 4);
            for (int i = A + B; i < ALL; i++) { /* 16 extra draws of 7: as even as it can be */
                assert_true(sums[i] == 8 + 2 || sums[i] == 8 + 3);
                c_twice += sums[i] - 8;
            }
            assert_int_equal(c_twice, 16);
            loader_free(l);
        }
    }
    dataset_release(&d);
}

static void without_shuffle_weighted_files_come_in_order(void **state)
{
    static const double weight[FILES] = { 0.25, 2, 1 };
    struct dataset d = three_files();
    const struct loader_opts o = { .batch_size = 4, .seed = 1, .weight = weight };
    struct loader *l = new_loader(&d, &o);
    int often[ALL], order[10 + 2 * B + C];

    (void)state;
    assert_int_equal(count_epoch(l, 3, often, order), 10 + 2 * B + C);
    for (int k = 1; k < 10; k++)
        assert_true(order[k] > order[k - 1] && order[k] < A);
    for (int k = 0; k < 2 * B; k++)
        assert_int_equal(order[10 + k], A + k % B);
    for (int k = 0; k < C; k++)
        assert_int_equal(order[10 + 2 * B + k], A + B + k);
    loader_free(l);
    dataset_release(&d);
}

/* Any epoch at any time: what is drawn does not depend on what was drawn before. */
static void epochs_are_the_same_in_any_order(void **state)
{
    struct dataset d = three_files();

    (void)state;
    for (int packing = 0; packing < 2; packing++) {
        const struct loader_opts o = { .batch_size = 2,
                                       .packing = packing,
                                       .row_length = 30,
                                       .shuffle = true,
                                       .seed = 8,
                                       .weight = WEIGHTS };
        struct loader *one = new_loader(&d, &o), *other = new_loader(&d, &o);
        int often[ALL], order[2][79], differ = 0;

        for (int e = 0; e < 5; e++) {
            count_epoch(one, e, often, order[0]);
            count_epoch(other, 9 - e, often, order[1]);
            count_epoch(other, e, often, order[1]);
            assert_memory_equal(order[0], order[1], sizeof order[0]);
            count_epoch(other, e + 1, often, order[1]);
            differ += memcmp(order[0], order[1], sizeof order[0]) != 0;
        }
        assert_int_equal(differ, 5);
        loader_free(one);
        loader_free(other);
    }
    dataset_release(&d);
}

static void epochs_without_fractions_have_as_many_passes(void **state)
{
    static const double whole[FILES] = { 1, 3, 2 };
    struct dataset d = three_files();
    struct loader_opts o = {
        .batch_size = 1, .packing = true, .row_length = 12, .shuffle = true, .weight = whole
    };
    struct loader *l = new_loader(&d, &o);
    int64_t passes[2];

    (void)state;
    assert_false(loader_passes_vary(l));
    for (int e = 0; e < 2; e++)
        assert_int_equal(loader_passes(l, e, &passes[e], NULL), GRAFT_OK);
    assert_int_equal(passes[0], passes[1]);
    loader_free(l);
    o.weight = WEIGHTS;
    l = new_loader(&d, &o);
    assert_true(loader_passes_vary(l));
    loader_free(l);
    o.packing = false;
    l = new_loader(&d, &o);
    assert_false(loader_passes_vary(l));
    assert_int_equal(loader_passes(l, 0, &passes[0], NULL), GRAFT_OK);
    assert_int_equal(passes[0], 79);
    loader_free(l);
    dataset_release(&d);
}

static void weights_without_sense_are_refused(void **state)
{
    static const struct {
        double weight;
        const char *msg;
    } cases[] = {
        { 0, "a.jsonl: the weight is 0, wanted more than 0" },
        { -1, "a.jsonl: the weight is -1, wanted more than 0" },
        { (double)NAN, "a.jsonl: the weight is nan, wanted more than 0" },
        { 0.01, "a.jsonl: a weight of 0.01 draws none of its 40 records" },
    };
    struct dataset d = three_files();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const double weight[FILES] = { cases[i].weight, 1, 1 };
        const struct loader_opts o = { .batch_size = 1, .weight = weight };
        struct graft_err err = { GRAFT_OK, "" };
        struct loader *l = NULL;

        assert_int_equal(loader_new(&d, &o, &l, &err), GRAFT_EARG);
        assert_string_equal(err.msg, cases[i].msg);
        assert_null(l);
    }
    dataset_release(&d);
}

static void later_epochs_allocate_nothing(void **state)
{
    struct dataset d = three_files();
    int often[ALL];

    (void)state;
    for (int packing = 0; packing < 2; packing++) {
        const struct loader_opts o = { .batch_size = 3,
                                       .packing = packing,
                                       .row_length = 20,
                                       .shuffle = true,
                                       .weight = WEIGHTS };
        struct loader *l = new_loader(&d, &o);

        mem_fail_at(0);
        for (int e = 0; e < 5; e++)
            count_epoch(l, e, often, NULL);
        assert_int_equal(mem_count(), 0);
        loader_free(l);
    }
    dataset_release(&d);
}

/* ---- held out ---- */

static int count_true(const bool *in)
{
    int n = 0;

    for (int i = 0; i < ALL; i++)
        n += in[i];
    return n;
}

static void a_share_or_a_number_is_chosen_by_seed(void **state)
{
    struct dataset d = three_files();
    bool in[ALL], again[ALL];
    int often[ALL] = { 0 };

    (void)state;
    assert_int_equal(dataset_choose(&d, 0, 13, 1, in, NULL), GRAFT_OK);
    assert_int_equal(count_true(in), 13);
    assert_int_equal(dataset_choose(&d, 0, 13, 1, again, NULL), GRAFT_OK);
    assert_memory_equal(in, again, sizeof in);
    assert_int_equal(dataset_choose(&d, 0, 13, 2, again, NULL), GRAFT_OK);
    assert_memory_not_equal(in, again, sizeof in);
    assert_int_equal(dataset_choose(&d, 0.25, 0, 1, in, NULL), GRAFT_OK);
    assert_int_equal(count_true(in), ALL / 4);
    assert_int_equal(dataset_choose(&d, 0.01, 0, 1, in, NULL), GRAFT_OK);
    assert_int_equal(count_true(in), 1);
    for (uint64_t seed = 0; seed < 4000; seed++) { /* no record is likelier than others */
        assert_int_equal(dataset_choose(&d, 0, ALL / 2, seed, in, NULL), GRAFT_OK);
        for (int i = 0; i < ALL; i++)
            often[i] += in[i];
    }
    for (int i = 0; i < ALL; i++) /* 2000 expected, deviation 32 */
        assert_true(often[i] > 1840 && often[i] < 2160);
    dataset_release(&d);
}

static void none_may_be_left_out(void **state)
{
    struct dataset d = three_files();
    struct graft_err err = { GRAFT_OK, "" };
    bool in[ALL];

    (void)state;
    assert_int_equal(dataset_choose(&d, 0, ALL, 1, in, &err), GRAFT_EARG);
    assert_string_equal(err.msg, "72 of 72 usable records leave none to train on");
    assert_int_equal(dataset_choose(&d, 0.999, 0, 1, in, &err), GRAFT_EARG);
    assert_int_equal(dataset_choose(&d, 0, ALL - 1, 1, in, &err), GRAFT_OK);
    dataset_release(&d);
}

static void parts_share_the_tokens_and_split_the_counts(void **state)
{
    struct dataset d = three_files(), valid;
    struct dataset_stats train;
    bool in[ALL];
    int k = 0;

    (void)state;
    assert_int_equal(dataset_choose(&d, 0, 20, 3, in, NULL), GRAFT_OK);
    assert_int_equal(dataset_part(&d, in, true, &valid, NULL), GRAFT_OK);
    assert_int_equal(dataset_count(&d, in, false, &train, NULL), GRAFT_OK);
    assert_int_equal(valid.count, 20);
    assert_int_equal(valid.stats.records + train.records, ALL);
    assert_int_equal(valid.stats.tokens + train.tokens, d.stats.tokens);
    assert_int_equal(valid.stats.targets + train.targets, d.stats.targets);
    for (int i = 0; i < ALL; i++)
        if (in[i])
            assert_int_equal(dataset_id(&valid, &valid.record[k++], 0), i);
    dataset_release(&valid);
    dataset_release(&d);
}

static void what_is_held_out_is_never_drawn(void **state)
{
    struct dataset d = three_files();
    bool in[ALL];
    int often[ALL], sums[ALL] = { 0 };

    (void)state;
    assert_int_equal(dataset_choose(&d, 0, 12, 3, in, NULL), GRAFT_OK);
    for (int packing = 0; packing < 2; packing++) {
        const struct loader_opts o = { .batch_size = 3,
                                       .packing = packing,
                                       .row_length = 20,
                                       .shuffle = true,
                                       .weight = WEIGHTS,
                                       .skip = in };
        struct loader *l = new_loader(&d, &o);

        for (int e = 0; e < 4; e++) {
            count_epoch(l, e, often, NULL);
            for (int i = 0; i < ALL; i++)
                sums[i] += often[i];
        }
        loader_free(l);
    }
    for (int i = 0; i < ALL; i++)
        assert_int_equal(sums[i] == 0, in[i]);
    dataset_release(&d);
}

static void lines_are_written_as_they_stand(void **state)
{
    static const char one[] = "{\"input_ids\": [1, 2], \"id\":   7}\r\n"
                              "{\"input_ids\": [3]}\n" /* dropped */
                              "{\"input_ids\": [3, 4], \"x\": \"\xc3\xa9\"}";
    static const char two[] = "{\"input_ids\": [5, 6]}\n\n";
    static const char *const path[] = { "one.jsonl", "two.jsonl" };
    static const bool in[4] = { true, false, true, true };
    struct strbuf have = STRBUF_INIT;
    struct dataset d = { .count = 0 };

    (void)state;
    put_file(path[0], one);
    put_file(path[1], two);
    assert_int_equal(dataset_load(path, 2, &PLAIN, &d, NULL), GRAFT_OK);
    assert_int_equal(dataset_write_lines(&d, in, "held.jsonl", NULL), GRAFT_OK);
    assert_int_equal(file_read("held.jsonl", 4096, &have, NULL), GRAFT_OK);
    assert_string_equal(have.buf, "{\"input_ids\": [1, 2], \"id\":   7}\n"
                                  "{\"input_ids\": [3, 4], \"x\": \"\xc3\xa9\"}\n"
                                  "{\"input_ids\": [5, 6]}\n");
    put_file(path[0], two); /* it changed meanwhile */
    assert_int_equal(dataset_write_lines(&d, in, "held2.jsonl", NULL), GRAFT_EFORMAT);
    assert_false(file_exists("held2.jsonl"));
    strbuf_release(&have);
    dataset_release(&d);
}

static void no_failed_allocation_leaks_or_crashes(void **state)
{
    struct dataset d = three_files();
    bool in[ALL] = { true, false, true };

    (void)state;
    for (int packing = 0; packing < 2; packing++) {
        const struct loader_opts o = { .batch_size = 2,
                                       .packing = packing,
                                       .row_length = 32,
                                       .shuffle = true,
                                       .weight = WEIGHTS };
        enum graft_status st = GRAFT_ENOMEM;

        for (int64_t k = 1; st; k++) {
            struct loader *l = NULL;
            struct dataset part = { .count = 0 };

            mem_fail_at(k);
            st = loader_new(&d, &o, &l, NULL);
            if (!st)
                st = dataset_part(&d, in, true, &part, NULL);
            if (!st)
                st = dataset_write_lines(&d, in, "held.jsonl", NULL);
            mem_fail_at(0);
            assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
            loader_free(l);
            dataset_release(&part);
        }
    }
    dataset_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_is_how_often_records_are_drawn),
        cmocka_unit_test(without_shuffle_weighted_files_come_in_order),
        cmocka_unit_test(epochs_are_the_same_in_any_order),
        cmocka_unit_test(epochs_without_fractions_have_as_many_passes),
        cmocka_unit_test(weights_without_sense_are_refused),
        cmocka_unit_test(later_epochs_allocate_nothing),
        cmocka_unit_test(a_share_or_a_number_is_chosen_by_seed),
        cmocka_unit_test(none_may_be_left_out),
        cmocka_unit_test(parts_share_the_tokens_and_split_the_counts),
        cmocka_unit_test(what_is_held_out_is_never_drawn),
        cmocka_unit_test(lines_are_written_as_they_stand),
        cmocka_unit_test(no_failed_allocation_leaks_or_crashes),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
