/* Virtual tokens: before records in batches, and in records at a placeholder's places. */
#include "tests/data/data_testing.h"

#include "data/preview.h"
#include "data/virtual.h"

enum { PLACE = 9 };
static const struct virtual_tokens two = { .placed = 2, .placeholder = PLACE };
static const struct dataset_opts PLAIN = { .eos = -1 };
static struct graft_err err;

static struct dataset_opts with(const struct virtual_tokens *v)
{
    struct dataset_opts o = PLAIN;

    o.virt = v;
    return o;
}

/* Ids and labels of record i. */
static void holds(const struct dataset *d, int64_t i, const int32_t *id, size_t n,
                  const int32_t *label, size_t labels)
{
    int32_t *ids = copy_of(d, i, false), *own = copy_of(d, i, true);

    assert_ids(ids, d->record[i].length, id, n);
    assert_ids(own, d->record[i].length, label, labels);
    free(ids);
    free(own);
}

static void placeholders_become_the_virtual_tokens_in_order(void **state)
{
    const struct dataset_opts o = with(&two);
    struct dataset d = load_text("{\"input_ids\": [5, 9, 6, 9, 7, 8]}\n"
                                 "{\"input_ids\": [5, 9, 6, 9, 7], \"labels\": [1, 9, 2, 9, 3]}\n"
                                 "{\"input_ids\": [5, 9, 6, 9, 7], \"labels\": [5, 2, 6, 2, 7]}\n",
                                 &o);

    (void)state;
    /* none is a target; what stands behind one in the middle is */
    holds(&d, 0, IDS(5, -1, 6, -2, 7, 8), IDS(5, -100, 6, -100, 7, 8));
    assert_int_equal(d.record[0].targets, 3);
    assert_true(d.record[1].labelled);
    holds(&d, 1, IDS(5, -1, 6, -2, 7), IDS(1, -100, 2, -100, 3));
    assert_int_equal(d.record[1].targets, 2);
    assert_false(d.record[2].labelled); /* other labels than the ids stood at placeholders only */
    holds(&d, 2, IDS(5, -1, 6, -2, 7), IDS(5, -100, 6, -100, 7));
    assert_int_equal(d.stats.targets, 7);
    dataset_release(&d);
}

static void the_first_token_behind_leading_ones_is_no_target(void **state)
{
    const struct dataset_opts o = with(&two);
    struct dataset d = load_text("{\"input_ids\": [9, 9, 6, 7], \"labels\": [9, 9, 6, 7]}\n"
                                 "{\"input_ids\": [9, 9, 6, 7]}\n"
                                 "{\"input_ids\": [9, 6, 9, 7], \"labels\": [9, 1, 9, 2]}\n",
                                 &o);

    (void)state;
    holds(&d, 0, IDS(-1, -2, 6, 7), IDS(-100, -100, -100, 7));
    holds(&d, 1, IDS(-1, -2, 6, 7), IDS(-100, -100, -100, 7));
    holds(&d, 2, IDS(-1, 6, -2, 7), IDS(-100, -100, -100, 2));
    for (int i = 0; i < 3; i++)
        assert_int_equal(d.record[i].targets, 1);
    dataset_release(&d);
}

static void a_record_left_without_a_target_is_dropped(void **state)
{
    const struct dataset_opts o = with(&two);
    struct dataset d = load_text("{\"input_ids\": [9, 9, 6]}\n{\"input_ids\": [9, 4, 9, 6]}\n", &o);

    (void)state;
    assert_int_equal(d.record[0].length, 0);
    assert_int_equal(d.stats.dropped, 1);
    assert_int_equal(d.stats.tokens, 4);
    assert_int_equal(d.stats.targets, 1);
    dataset_release(&d);
}

static void refused(const char *text, struct dataset_opts o, const struct virtual_tokens *v,
                    const char *message)
{
    static const char *const path = "d.jsonl";
    struct dataset d;

    o.virt = v;
    put_file(path, text);
    assert_int_equal(dataset_load(&path, 1, &o, &d, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg, message);
}

static void another_count_is_an_error_with_its_line(void **state)
{
    static const struct dataset_opts cut = { .eos = -1, .max_length = 3 };
    static const struct dataset_opts five = { .eos = -1, .max_positions = 5 };
    static const struct virtual_tokens front = { .front = 3 }, prefix = { .before = 3 };

    (void)state;
    refused(
        "{\"input_ids\": [9, 9, 6, 7]}\n{\"input_ids\": [5, 9, 6]}\n", PLAIN, &two,
        "d.jsonl:2: the placeholder stands in 1 places, the adapter has 2 virtual tokens for it");
    refused(
        "{\"input_ids\": [9, 9, 9, 7]}\n", PLAIN, &two,
        "d.jsonl:1: the placeholder stands in 3 places, the adapter has 2 virtual tokens for it");
    refused("{\"input_ids\": [5, 9, 7, 9]}\n", cut, &two,
            "d.jsonl:1: max_length cut the record: the placeholder stands in 1 places, the adapter "
            "has 2 virtual tokens for it");
    refused(
        "{\"input_ids\": [5, 6]}\n{\"input_ids\": [5, 6, 7]}\n", five, &front,
        "d.jsonl:2: the record has 3 tokens and 3 positions before them, the model 5 positions; "
        "a smaller max_length truncates it");
    refused(
        "{\"input_ids\": [5, 6, 7]}\n", five, &prefix,
        "d.jsonl:1: the record has 3 tokens and 3 positions before them, the model 5 positions; "
        "a smaller max_length truncates it");
}

static void each_task_has_its_own(void **state)
{
    static const char *const names[] = { "a", "b" };
    static const struct virtual_tokens virt[] = { { .before = 100 },
                                                  { .placed = 1, .placeholder = 9 } };
    static const struct task_names tasks = { names, 2, TASK_OF_BASE };
    struct dataset_opts o = with(virt);
    struct dataset d;

    (void)state;
    o.tasks = &tasks;
    d = load_text("{\"input_ids\": [5, 9, 6], \"task\": \"a\"}\n{\"input_ids\": [5, 9, 6]}\n"
                  "{\"input_ids\": [5, 9, 6], \"task\": \"b\"}\n",
                  &o);
    holds(&d, 0, IDS(5, 9, 6), IDS(5, 9, 6));
    holds(&d, 1, IDS(5, 9, 6), IDS(5, 9, 6));
    holds(&d, 2, IDS(5, -1, 6), IDS(5, -100, 6));
    dataset_release(&d);
}

/* Ids near the largest are kept apart from virtual ones. */
static void the_largest_ids_are_no_virtual_tokens(void **state)
{
    struct dataset d;

    (void)state;
    assert_int_equal(token_id(token_virtual(-1)), -1);
    assert_int_equal(token_id(token_virtual(-VIRTUAL_MAX)), -VIRTUAL_MAX);
    assert_int_equal(token_id(~(DATASET_IDS - 1)), DATASET_IDS - 1);
    assert_int_equal(token_id(~DATASET_IDS), -VIRTUAL_MAX);
    d = load_text("{\"input_ids\": [2147418111, 4, 2147418111], \"labels\": [-100, 4, -100]}\n",
                  &PLAIN);
    holds(&d, 0, IDS(2147418111, 4, 2147418111), IDS(-100, 4, -100));
    dataset_release(&d);
    refused("{\"input_ids\": [5, 2147418112]}\n", PLAIN, NULL,
            "d.jsonl:1: input_ids[1] is 2147418112, wanted a token id from 0 to 2147418111");
}

/* Over arrays: virtual tokens that the options know of, and no others. */
static void arrays_hold_no_more_than_there_are(void **state)
{
    static const char *const path = "d.jsonl";
    const struct dataset_opts o = with(&two);
    struct dataset d = load_text("{\"input_ids\": [5, 9, 9, 6]}\n", &o), over;
    int32_t token[4];
    const struct dataset_arrays a = { d.record, token, 1, 4, false };

    (void)state;
    memcpy(token, d.token, sizeof token);
    assert_int_equal(dataset_over(&a, &path, 1, &o, &over, &err), GRAFT_OK);
    assert_int_equal(dataset_id(&over, &over.record[0], 2), -2);
    dataset_release(&over);
    assert_int_equal(dataset_over(&a, &path, 1, &PLAIN, &over, &err), GRAFT_EFORMAT);
    token[1] = token_virtual(-3);
    assert_int_equal(dataset_over(&a, &path, 1, &o, &over, &err), GRAFT_EFORMAT);
    dataset_release(&d);
}

/* ---- in batches */

static void check_batch(const struct dataset *d, const struct loader_opts *o, const struct batch *b)
{
    int64_t targets = 0;

    for (int64_t s = 0; s < b->segments; s++) {
        const struct record *r = &d->record[b->which[s]];
        const int64_t n = b->start[s + 1] - b->start[s];

        assert_int_equal(n, o->virtual_front + r->length);
        for (int64_t t = 0; t < n; t++) {
            const int64_t at = b->start[s] + t, own = t - o->virtual_front;
            const bool target =
                own >= 0 && own + 1 < r->length && dataset_label(d, r, own + 1) != NO_LABEL;

            assert_int_equal(b->pos[at], o->first_position + t);
            assert_int_equal(b->id[at], own < 0 ? -1 - t : dataset_id(d, r, own));
            assert_int_equal(b->target[at] >= 0, target);
            targets += target;
        }
    }
    assert_int_equal(b->targets, targets);
}

static void check_front(const struct dataset *d, struct loader_opts o)
{
    struct loader *l = NULL;
    struct batch b;
    int64_t passes = 0;

    assert_int_equal(loader_new(d, &o, &l, &err), GRAFT_OK);
    for (int64_t e = 0; e < 5; e++) {
        assert_int_equal(loader_passes(l, e, &passes, &err), GRAFT_OK);
        for (int64_t p = 0; p < passes; p++) {
            assert_int_equal(loader_batch(l, e, p, &b, &err), GRAFT_OK);
            assert_true(b.n <= loader_max_tokens(l) && b.segments <= loader_max_segments(l));
            check_batch(d, &o, &b);
        }
    }
    loader_free(l);
}

/* Rows hold the same records as without virtual tokens: methods compare on the same steps. */
static void every_record_of_a_batch_begins_with_them(void **state)
{
    struct dataset d = load_text("{\"input_ids\": [5, 6, 7]}\n{\"input_ids\": [5, 6, 7, 8, 9, 1]}\n"
                                 "{\"input_ids\": [4, 3]}\n{\"input_ids\": [4, 3, 2, 1]}\n",
                                 &PLAIN);
    static const double more = 2.5;
    struct loader_opts o = { .batch_size = 2, .row_length = 8, .virtual_front = 3 };
    struct loader *with = NULL, *without = NULL;

    (void)state;
    check_front(&d, o);
    o.first_position = 5;
    check_front(&d, o);
    o.packing = o.shuffle = true;
    check_front(&d, o);
    o.weight = &more; /* a fraction: the rows of every epoch are other ones */
    check_front(&d, o);
    o.packing = false;
    check_front(&d, o);
    o.packing = true;
    o.weight = NULL;
    assert_int_equal(loader_new(&d, &o, &with, &err), GRAFT_OK);
    o.virtual_front = 0;
    assert_int_equal(loader_new(&d, &o, &without, &err), GRAFT_OK);
    assert_int_equal(loader_rows(with), loader_rows(without));
    assert_true(loader_fill(with) == loader_fill(without));
    assert_int_equal(loader_max_tokens(with),
                     loader_max_tokens(without) + 3 * loader_max_segments(without));
    loader_free(with);
    loader_free(without);
    dataset_release(&d);
}

static void preview_shows_their_numbers(void **state)
{
    struct tokenizer *t = toy_tokenizer(false);
    const int32_t id[] = { CH('x'), -1, CH('y'), -2 };
    struct strbuf text = STRBUF_INIT;
    int64_t end[4];

    (void)state;
    assert_int_equal(preview_text(t, id, 4, &text, end, &err), GRAFT_OK);
    assert_string_equal(strbuf_str(&text), "x<virtual 1>y<virtual 2>");
    assert_int_equal(end[1], 12);
    strbuf_release(&text);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(placeholders_become_the_virtual_tokens_in_order),
        cmocka_unit_test(the_first_token_behind_leading_ones_is_no_target),
        cmocka_unit_test(a_record_left_without_a_target_is_dropped),
        cmocka_unit_test(another_count_is_an_error_with_its_line),
        cmocka_unit_test(each_task_has_its_own),
        cmocka_unit_test(the_largest_ids_are_no_virtual_tokens),
        cmocka_unit_test(arrays_hold_no_more_than_there_are),
        cmocka_unit_test(every_record_of_a_batch_begins_with_them),
        cmocka_unit_test(preview_shows_their_numbers),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
