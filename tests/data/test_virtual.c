/* Virtual tokens: before records in batches, and in records at a placeholder's places. */
#include "tests/data/data_testing.h"

#include "data/preview.h"
#include "data/virtual.h"

enum { PLACE = 9 };
static const struct virtual_tokens two = { .placed = 2, .placeholder = PLACE };
static const struct dataset_opts PLAIN = { .eos = -1 };
static struct graft_err err;

static const struct record *one(struct dataset *d, const char *text, const struct virtual_tokens *v)
{
    *d = load_text(text, &PLAIN);
    if (dataset_add_virtual(d, 0, v, 0, &err))
        fail_msg("%s", err.msg);
    return &d->record[0];
}

static void placeholders_become_the_virtual_tokens_in_order(void **state)
{
    struct dataset d;
    const struct record *r = one(&d, "{\"input_ids\": [5, 9, 6, 9, 7, 8]}\n", &two);

    (void)state;
    assert_ids(d.id, r->length, IDS(5, -1, 6, -2, 7, 8));
    /* none is a target; what stands behind one in the middle is */
    assert_ids(d.label, r->length, IDS(-100, -100, 6, -100, 7, 8));
    assert_int_equal(r->targets, 3);
    assert_int_equal(d.stats.targets, 3);
    dataset_release(&d);
}

static void the_first_token_behind_leading_ones_is_no_target(void **state)
{
    struct dataset d;
    const struct record *r =
        one(&d, "{\"input_ids\": [9, 9, 6, 7], \"labels\": [9, 9, 6, 7]}\n", &two);

    (void)state;
    assert_ids(d.id, r->length, IDS(-1, -2, 6, 7));
    assert_ids(d.label, r->length, IDS(-100, -100, -100, 7));
    assert_int_equal(r->targets, 1);
    dataset_release(&d);
}

static void a_record_left_without_a_target_is_dropped(void **state)
{
    struct dataset d;
    const struct record *r =
        one(&d, "{\"input_ids\": [9, 9, 6]}\n{\"input_ids\": [9, 4, 9, 6]}\n", &two);

    (void)state;
    assert_int_equal(r->length, 0);
    assert_int_equal(d.stats.dropped, 1);
    assert_int_equal(d.stats.tokens, 4);
    assert_int_equal(d.stats.targets, 1);
    dataset_release(&d);
}

static void refused(const char *text, const struct dataset_opts *o, const struct virtual_tokens *v,
                    int64_t max_positions, const char *message)
{
    struct dataset d = load_text(text, o);

    assert_int_equal(dataset_add_virtual(&d, 0, v, max_positions, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg, message);
    dataset_release(&d);
}

static void another_count_is_an_error_with_its_line(void **state)
{
    static const struct dataset_opts cut = { .eos = -1, .max_length = 3 };
    static const struct virtual_tokens front = { .front = 3 }, prefix = { .before = 3 };

    (void)state;
    refused(
        "{\"input_ids\": [9, 9, 6, 7]}\n{\"input_ids\": [5, 9, 6]}\n", &PLAIN, &two, 0,
        "d.jsonl:2: the placeholder stands in 1 places, the adapter has 2 virtual tokens for it");
    refused(
        "{\"input_ids\": [9, 9, 9, 7]}\n", &PLAIN, &two, 0,
        "d.jsonl:1: the placeholder stands in 3 places, the adapter has 2 virtual tokens for it");
    refused("{\"input_ids\": [5, 9, 7, 9]}\n", &cut, &two, 0,
            "d.jsonl:1: max_length cut the record: the placeholder stands in 1 places, the adapter "
            "has 2 virtual tokens for it");
    refused(
        "{\"input_ids\": [5, 6]}\n{\"input_ids\": [5, 6, 7]}\n", &PLAIN, &front, 5,
        "d.jsonl:2: the record has 3 tokens and 3 positions before them, the model 5 positions; "
        "a smaller max_length truncates it");
    refused(
        "{\"input_ids\": [5, 6, 7]}\n", &PLAIN, &prefix, 5,
        "d.jsonl:1: the record has 3 tokens and 3 positions before them, the model 5 positions; "
        "a smaller max_length truncates it");
}

static void only_records_of_the_task_are_touched(void **state)
{
    struct dataset d = load_text("{\"input_ids\": [5, 9, 6]}\n", &PLAIN);

    (void)state;
    assert_int_equal(dataset_add_virtual(&d, 1, &two, 2, &err), GRAFT_OK);
    assert_ids(d.id, 3, IDS(5, 9, 6));
    dataset_release(&d);
}

/* ---- in batches */

static void check_front(struct dataset *d, struct loader_opts o)
{
    struct loader *l = NULL;
    struct batch b;

    assert_int_equal(loader_new(d, &o, &l, &err), GRAFT_OK);
    for (int64_t p = 0; p < loader_passes(l); p++) {
        int64_t targets = 0;

        assert_int_equal(loader_batch(l, 0, p, &b, &err), GRAFT_OK);
        assert_true(b.n <= loader_max_tokens(l));
        for (int64_t s = 0; s < b.segments; s++) {
            const struct record *r = &d->record[b.which[s]];

            assert_int_equal(b.start[s + 1] - b.start[s], o.virtual_front + r->length);
            for (int64_t t = 0; t < b.start[s + 1] - b.start[s]; t++) {
                const int64_t at = b.start[s] + t, own = t - o.virtual_front;

                assert_int_equal(b.pos[at], o.first_position + t);
                assert_int_equal(b.id[at], own < 0 ? -1 - t : d->id[r->first + own]);
                assert_int_equal(b.target[at] >= 0, own >= 0 && own + 1 < r->length &&
                                                        d->label[r->first + own + 1] != NO_LABEL);
                targets += b.target[at] >= 0;
            }
        }
        assert_int_equal(b.targets, targets);
    }
    loader_free(l);
}

/* Rows hold the same records as without virtual tokens: methods compare on the same steps. */
static void every_record_of_a_batch_begins_with_them(void **state)
{
    struct dataset d = load_text("{\"input_ids\": [5, 6, 7]}\n{\"input_ids\": [5, 6, 7, 8, 9, 1]}\n"
                                 "{\"input_ids\": [4, 3]}\n{\"input_ids\": [4, 3, 2, 1]}\n",
                                 &PLAIN);
    struct loader_opts o = { .batch_size = 2, .row_length = 8, .virtual_front = 3 };
    struct loader *with = NULL, *without = NULL;

    (void)state;
    check_front(&d, o);
    o.first_position = 5;
    check_front(&d, o);
    o.packing = o.shuffle = true;
    check_front(&d, o);
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
        cmocka_unit_test(only_records_of_the_task_are_touched),
        cmocka_unit_test(every_record_of_a_batch_begins_with_them),
        cmocka_unit_test(preview_shows_their_numbers),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
