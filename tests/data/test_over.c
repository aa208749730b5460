/* Data sets over arrays of somebody else: used as they lie there, or refused when they cannot be
 * what they are said to be. */
#include "tests/data/data_testing.h"

static const char *const FILE_NAMES[2] = { "a.jsonl", "b.jsonl" };
static const struct dataset_opts OPTS = { .mask_prompt = true, .eos = -1, .vocab_rows = 100 };

enum { RECORDS = 5, TOKENS = 15 };
struct arrays {
    struct record record[RECORDS];
    int32_t token[TOKENS];
};

/* Learnt 8 and 9; dropped; all but the first; labels of its own; another file. */
static struct arrays good_arrays(void)
{
    return (struct arrays){
        .record = { { .first = 0, .line = 1, .length = 3, .targets = 2 },
                    { .first = 3, .line = 2 },
                    { .first = 3, .line = 5, .length = 2, .targets = 1, .truncated = true },
                    { .first = 5, .line = 6, .length = 3, .targets = 1, .labelled = true },
                    { .first = 11, .line = 1, .length = 4, .targets = 3, .file = 1 } },
        .token = { ~7, 8, 9, 1, 2, 10, 11, 12, NO_LABEL, 50, NO_LABEL, 20, 21, 22, 23 },
    };
}

static enum graft_status over(const struct arrays *a, struct dataset *out, struct graft_err *err)
{
    const struct dataset_arrays in = { a->record, a->token, RECORDS, TOKENS, false };

    return dataset_over(&in, FILE_NAMES, 2, &OPTS, out, err);
}

static void arrays_are_used_as_they_lie_there(void **state)
{
    const struct arrays a = good_arrays();
    struct dataset d = { .count = 0 };
    int32_t *x;

    (void)state;
    assert_int_equal(over(&a, &d, NULL), GRAFT_OK);
    assert_ptr_equal(d.record, a.record);
    assert_ptr_equal(d.token, a.token);
    assert_int_equal(d.stats.records, 5);
    assert_int_equal(d.stats.dropped, 1);
    assert_int_equal(d.stats.truncated, 1);
    assert_int_equal(d.stats.tokens, 12);
    assert_int_equal(d.stats.targets, 7);
    assert_int_equal(d.stats.longest, 4);
    assert_string_equal(dataset_file(&d, &d.record[4]), "b.jsonl");
    x = copy_of(&d, 0, false);
    assert_ids(x, 3, IDS(7, 8, 9));
    free(x);
    x = copy_of(&d, 0, true);
    assert_ids(x, 3, IDS(NO_LABEL, 8, 9));
    free(x);
    x = copy_of(&d, 3, true);
    assert_ids(x, 3, IDS(NO_LABEL, 50, NO_LABEL));
    free(x);
    dataset_release(&d);
}

static void whatever_does_not_fit_is_refused(void **state)
{
    struct arrays a;
    struct dataset d = { .count = -7 };
    struct graft_err err = { GRAFT_OK, "" };

    (void)state;
#define BAD(change)                                                                                \
    do {                                                                                           \
        a = good_arrays();                                                                         \
        change;                                                                                    \
        assert_int_equal(over(&a, &d, &err), GRAFT_EFORMAT);                                       \
        assert_string_equal(err.msg, "these are no records of a.jsonl");                           \
        assert_int_equal(d.count, -7);                                                             \
    } while (0)
    BAD(a.record[2].first = 2);
    BAD(a.record[0].first = -1);
    BAD(a.record[4].length = 5);
    BAD(a.record[4].length = 3);
    BAD(a.record[4].length = INT32_MAX);
    BAD(a.record[1].length = -1);
    BAD(a.record[0].targets = 3);
    BAD(a.record[0].targets = 1);
    BAD(a.record[0].targets = 0);
    BAD(a.record[0].targets = -1);
    BAD(a.record[1].targets = 1);
    BAD(a.record[4].file = 2);
    BAD(a.record[0].file = 1);
    BAD(a.record[4].file = -1);
    BAD(a.record[1].line = 1);
    BAD(a.record[0].line = 0);
    BAD(a.record[4].labelled = true);
    BAD(a.record[3].labelled = false);
    BAD(a.token[1] = 100);
    BAD(a.token[1] = INT32_MAX);
    BAD(a.token[0] = ~100);
    BAD(a.token[0] = INT32_MIN);
    BAD(a.token[1] = ~8);  /* a target less than the record says */
    BAD(a.token[5] = ~10); /* labels of its own: ids are plain */
    BAD(a.token[9] = -3);  /* neither a label nor none */
    BAD(a.token[9] = 100);
    BAD(a.token[10] = 12); /* a target more */
#undef BAD
}

static void limits_of_the_options_hold(void **state)
{
    const struct arrays a = good_arrays();
    const struct dataset_arrays in = { a.record, a.token, RECORDS, TOKENS, false };
    struct dataset_opts o = OPTS;
    struct dataset d = { .count = 0 };

    (void)state;
    o.max_length = 3;
    assert_int_equal(dataset_over(&in, FILE_NAMES, 2, &o, &d, NULL), GRAFT_EFORMAT);
    o.max_length = 4;
    assert_int_equal(dataset_over(&in, FILE_NAMES, 2, &o, &d, NULL), GRAFT_OK);
    dataset_release(&d);
    o.max_positions = 3;
    assert_int_equal(dataset_over(&in, FILE_NAMES, 2, &o, &d, NULL), GRAFT_EFORMAT);
    o.max_positions = 0;
    o.vocab_rows = 0; /* no limit but that of the type */
    assert_int_equal(dataset_over(&in, FILE_NAMES, 2, &o, &d, NULL), GRAFT_OK);
    dataset_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_are_used_as_they_lie_there),
        cmocka_unit_test(whatever_does_not_fit_is_refused),
        cmocka_unit_test(limits_of_the_options_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
