/* Packing and batches: every kept record once an epoch, in rows that never overflow, laid end to
 * end with targets that stay within their record. */
#include "tests/data/data_testing.h"

#include <omp.h>

#include "core/rng.h"
#include "data/pack.h"

static const struct rng_key RANDOM = { 7, RNG_TEST, 0, 0 };

/* `count` records of random length from `least` to `most`; every seventh has no target. */
static struct dataset random_data(int count, int least, int most, uint32_t step)
{
    static const struct dataset_opts opts = { .eos = -1 };
    struct rng_key key = RANDOM;
    struct strbuf s = STRBUF_INIT;
    struct dataset d;

    key.step = step;
    for (int i = 0; i < count; i++) {
        const int n = least + (int)rng_below(key, (uint64_t)i, (uint64_t)(most - least + 1));

        strbuf_printf(&s, "{\"input_ids\": [%d", i);
        for (int t = 1; t < n; t++)
            strbuf_printf(&s, ",%d", 1000 * t + i);
        strbuf_puts(&s, "], \"labels\": [-100");
        for (int t = 1; t < n; t++)
            if (i % 7 == 6 || (t > 1 && (t + i) % 3 == 0))
                strbuf_puts(&s, ",-100");
            else
                strbuf_printf(&s, ",%d", 1000 * t + i);
        strbuf_puts(&s, "]}\n");
    }
    d = load_text(s.buf, &opts);
    strbuf_release(&s);
    return d;
}

static struct loader *new_loader(const struct dataset *d, struct loader_opts o)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct loader *l = NULL;

    if (loader_new(d, &o, &l, &err))
        fail_msg("%s", err.msg);
    return l;
}

static int64_t passes_of(struct loader *l, int64_t epoch)
{
    int64_t n = 0;

    assert_int_equal(loader_passes(l, epoch, &n, NULL), GRAFT_OK);
    return n;
}

static struct batch get_batch(struct loader *l, int64_t epoch, int64_t pass)
{
    struct batch b = { .n = 0 };

    assert_int_equal(loader_batch(l, epoch, pass, &b, NULL), GRAFT_OK);
    return b;
}

/* What a batch holds is what its records are. */
static void check_batch(const struct dataset *d, const struct batch *b)
{
    int64_t targets = 0;

    assert_int_equal(b->start[0], 0);
    assert_int_equal(b->start[b->segments], b->n);
    for (int64_t s = 0; s < b->segments; s++) {
        const struct record *r = &d->record[b->which[s]];
        const int64_t at = b->start[s];

        assert_int_equal(b->start[s + 1] - at, r->length);
        for (int64_t t = 0; t < r->length; t++) {
            const int32_t label = t + 1 < r->length ? dataset_label(d, r, t + 1) : NO_LABEL;

            assert_int_equal(b->pos[at + t], t);
            assert_int_equal(b->id[at + t], dataset_id(d, r, t));
            assert_int_equal(b->target[at + t], label == NO_LABEL ? -1 : label);
            targets += label != NO_LABEL;
        }
    }
    assert_int_equal(b->targets, targets);
}

/* One epoch: each kept record once; returns the number of tokens, and the order of the records. */
static int64_t check_epoch(const struct dataset *d, struct loader *l, int64_t epoch, int64_t *order)
{
    int *seen = calloc((size_t)d->count, sizeof *seen);
    int64_t tokens = 0, k = 0;

    for (int64_t pass = 0; pass < passes_of(l, epoch); pass++) {
        const struct batch b = get_batch(l, epoch, pass);

        check_batch(d, &b);
        assert_true(b.n > 0 && b.n <= loader_max_tokens(l));
        assert_true(b.segments <= loader_max_segments(l));
        for (int64_t s = 0; s < b.segments; s++) {
            seen[b.which[s]]++;
            order[k++] = b.which[s];
        }
        tokens += b.n;
    }
    for (int64_t i = 0; i < d->count; i++)
        assert_int_equal(seen[i], d->record[i].length > 0);
    free(seen);
    return tokens;
}

static void without_shuffle_records_come_in_file_order(void **state)
{
    struct dataset d = random_data(23, 2, 9, 1);
    struct loader *l = new_loader(&d, (struct loader_opts){ .batch_size = 4 });
    int64_t order[23], most = 0;

    (void)state;
    assert_int_equal(loader_rows(l), 20); /* three of 23 are dropped */
    assert_int_equal(passes_of(l, 0), 5);
    assert_true(loader_fill(l) == 1);
    for (int epoch = 0; epoch < 2; epoch++) {
        assert_int_equal(check_epoch(&d, l, epoch, order), d.stats.tokens);
        for (int k = 1; k < 20; k++)
            assert_true(order[k] > order[k - 1]);
    }
    for (int64_t pass = 0; pass < 5; pass++) {
        const struct batch b = get_batch(l, 0, pass);

        most = b.n > most ? b.n : most;
    }
    assert_int_equal(loader_max_tokens(l), most); /* exact where the order is known */
    assert_int_equal(loader_max_segments(l), 4);
    loader_free(l);
    dataset_release(&d);
}

static void the_last_batch_may_be_smaller(void **state)
{
    struct dataset d = random_data(5, 3, 3, 1);
    struct loader *l = new_loader(&d, (struct loader_opts){ .batch_size = 3 });
    struct batch b;

    (void)state;
    assert_int_equal(passes_of(l, 0), 2);
    b = get_batch(l, 0, 1);
    assert_int_equal(b.segments, 2);
    assert_int_equal(b.n, 6);
    assert_int_equal(loader_batch(l, 0, 2, &b, NULL), GRAFT_EARG);
    assert_int_equal(loader_batch(l, -1, 0, &b, NULL), GRAFT_EARG);
    assert_int_equal(b.n, 6); /* untouched */
    loader_free(l);
    l = new_loader(&d, (struct loader_opts){ .batch_size = INT64_MAX });
    assert_int_equal(passes_of(l, 0), 1);
    b = get_batch(l, 0, 0);
    assert_int_equal(b.segments, 5);
    loader_free(l);
    dataset_release(&d);
}

static void shuffles_differ_by_epoch_and_by_seed_and_nothing_else(void **state)
{
    struct dataset d = random_data(60, 2, 9, 2);
    const int threads = omp_get_max_threads();
    int64_t a[60], b[60];

    (void)state;
    for (int packing = 0; packing < 2; packing++) {
        const struct loader_opts o = {
            .batch_size = 3, .shuffle = true, .seed = 42, .packing = packing, .row_length = 12
        };
        struct loader_opts other = o;
        struct loader *l = new_loader(&d, o), *m;

        check_epoch(&d, l, 0, a);
        check_epoch(&d, l, 1, b);
        assert_memory_not_equal(a, b, sizeof(int64_t) * 52);
        check_epoch(&d, l, 0, b); /* back again: a batch depends on no batch before it */
        assert_memory_equal(a, b, sizeof(int64_t) * 52);
        omp_set_num_threads(packing + 2);
        m = new_loader(&d, o);
        check_epoch(&d, m, 0, b);
        assert_memory_equal(a, b, sizeof(int64_t) * 52);
        loader_free(m);
        other.seed = 43;
        m = new_loader(&d, other);
        check_epoch(&d, m, 0, b);
        assert_memory_not_equal(a, b, sizeof(int64_t) * 52);
        loader_free(m);
        loader_free(l);
    }
    omp_set_num_threads(threads);
    dataset_release(&d);
}

/* Every place of a shuffle is taken by every unit about equally often. */
static void a_shuffle_prefers_no_place(void **state)
{
    struct dataset d = random_data(6, 3, 3, 2);
    struct loader *l =
        new_loader(&d, (struct loader_opts){ .batch_size = 6, .shuffle = true, .seed = 1 });
    int count[6][6] = { { 0 } };

    (void)state;
    for (int64_t epoch = 0; epoch < 6000; epoch++) {
        const struct batch b = get_batch(l, epoch, 0);

        for (int64_t s = 0; s < 6; s++)
            count[s][b.which[s]]++;
    }
    for (int s = 0; s < 6; s++)
        for (int i = 0; i < 6; i++)
            assert_in_range(count[s][i], 1000 - 150, 1000 + 150); /* five deviations */
    loader_free(l);
    dataset_release(&d);
}

static int falling(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? 1 : x > y ? -1 : 0;
}

static void the_bound_of_a_shuffled_batch_is_its_longest_records(void **state)
{
    struct dataset d = random_data(41, 2, 60, 3);
    struct loader *l =
        new_loader(&d, (struct loader_opts){ .batch_size = 5, .shuffle = true, .seed = 9 });
    int64_t length[41], order[41], want = 0;

    (void)state;
    for (int64_t i = 0; i < d.count; i++)
        length[i] = d.record[i].length;
    qsort(length, 41, sizeof *length, falling);
    for (int i = 0; i < 5; i++)
        want += length[i];
    assert_int_equal(loader_max_tokens(l), want);
    assert_int_equal(loader_max_segments(l), 5);
    for (int64_t epoch = 0; epoch < 30; epoch++)
        check_epoch(&d, l, epoch, order);
    loader_free(l);
    dataset_release(&d);
}

static void packed_rows_hold_whole_records_and_never_overflow(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 24; k++) {
        const int room = 16 + (int)k * 5, most = k % 3 ? room / 4 : room;
        struct dataset d = random_data(90, 2, most, 100 + k);
        const struct loader_opts o = {
            .batch_size = 1, .packing = true, .row_length = room, .shuffle = k % 2 == 0, .seed = k
        };
        struct loader *l = new_loader(&d, o);
        const int64_t least = (d.stats.tokens + room - 1) / room;
        int64_t order[90];

        for (int64_t epoch = 0; epoch < 3; epoch++)
            assert_int_equal(check_epoch(&d, l, epoch, order), d.stats.tokens);
        for (int64_t pass = 0; pass < passes_of(l, 0); pass++)
            assert_true(get_batch(l, 0, pass).n <= room);
        assert_true(loader_rows(l) >= least);
        if (o.shuffle && most == room / 4) /* all rows but one are more than 3/4 full */
            assert_true(3 * (loader_rows(l) - 1) <= 4 * d.stats.tokens / room);
        if (!o.shuffle)
            for (int i = 1; i < d.count - d.stats.dropped; i++)
                assert_true(order[i] > order[i - 1]);
        assert_true(loader_fill(l) > 0.5 && loader_fill(l) <= 1);
        loader_free(l);
        dataset_release(&d);
    }
}

/* Best fit by looking at every row. */
static int64_t plain_best_fit(const uint32_t *length, const uint32_t *rank, int n, int64_t room,
                              int64_t *sum_of_squares)
{
    int64_t left[200], rows = 0;
    bool done[200] = { false };

    *sum_of_squares = 0;
    for (int k = 0; k < n; k++) {
        int next = -1;
        int64_t best = -1;

        for (int i = 0; i < n; i++)
            if (!done[i] && (next < 0 || length[i] > length[next] ||
                             (length[i] == length[next] && rank[i] < rank[next])))
                next = i;
        done[next] = true;
        for (int64_t r = 0; r < rows; r++)
            if (left[r] >= length[next] && (best < 0 || left[r] < left[best]))
                best = r;
        if (best < 0) {
            best = rows++;
            left[best] = room;
        }
        left[best] -= length[next];
    }
    for (int64_t r = 0; r < rows; r++)
        *sum_of_squares += left[r] * left[r];
    return rows;
}

static void best_fit_finds_the_rows_that_a_plain_search_finds(void **state)
{
    struct rng_key key = RANDOM;
    uint32_t length[200], rank[200], row[200];
    int64_t left[200], want, rows, squares;
    struct packer *packer = NULL;

    (void)state;
    for (uint32_t k = 0; k < 60; k++) {
        const int64_t room = 10 + 7 * k;
        const int n = 1 + (int)(k * 199 / 59);

        key.step = 1000 + k;
        for (int i = 0; i < n; i++) {
            length[i] = 1 + (uint32_t)rng_below(key, (uint64_t)i, (uint64_t)room);
            rank[i] = (uint32_t)(n - 1 - i);
            left[i] = room;
        }
        want = plain_best_fit(length, rank, n, room, &squares);
        assert_int_equal(packer_new(n, room, &packer, NULL), GRAFT_OK);
        for (int again = 0; again < 2; again++) /* what one call leaves does not matter */
            rows = pack_best_fit(packer, length, n, rank, row);
        packer_free(packer);
        assert_int_equal(rows, want);
        for (int i = 0; i < n; i++)
            left[row[i]] -= length[i];
        for (int64_t r = 0; r < rows; r++) {
            assert_true(left[r] >= 0);
            squares -= left[r] * left[r];
        }
        assert_int_equal(squares, 0); /* the rows are as full, one by one */
    }
}

static void what_cannot_be_batched_is_refused(void **state)
{
    static const struct dataset_opts cut = { .eos = -1, .max_length = 2 };
    struct dataset d = random_data(5, 9, 9, 4), none = { .count = 0 };
    struct loader_opts o = { .batch_size = 0 };
    struct graft_err err = { GRAFT_OK, "" };
    struct loader *l = NULL;

    (void)state;
    assert_int_equal(loader_new(&d, &o, &l, &err), GRAFT_EARG);
    assert_string_equal(err.msg, "batch_size is 0, wanted 1 or more");
    o = (struct loader_opts){ .batch_size = 1, .packing = true, .row_length = 8 };
    assert_int_equal(loader_new(&d, &o, &l, &err), GRAFT_EARG);
    assert_string_equal(err.msg,
                        "packing: rows hold 8 tokens, the longest record has 9; set max_length");
    none = load_text("{\"input_ids\": [1, 2, 3], \"labels\": [-100, -100, 3]}\n", &cut);
    assert_int_equal(loader_new(&none, &o, &l, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg, "d.jsonl: no record has a token with loss: all 1 were dropped "
                                 "(max_length cut off what was to be learnt)");
    assert_null(l);
    dataset_release(&none);
    dataset_release(&d);
}

static void batches_allocate_nothing(void **state)
{
    struct dataset d = random_data(40, 2, 20, 5);
    const struct loader_opts o = {
        .batch_size = 2, .packing = true, .row_length = 32, .shuffle = true, .seed = 3
    };
    struct loader *l = new_loader(&d, o);
    int64_t order[40];

    (void)state;
    mem_fail_at(0);
    for (int64_t epoch = 0; epoch < 3; epoch++)
        check_epoch(&d, l, epoch, order);
    assert_int_equal(mem_count(), 0);
    loader_free(l);
    dataset_release(&d);
}

static void no_failed_allocation_leaks_or_crashes(void **state)
{
    struct dataset d = random_data(12, 2, 20, 6);

    (void)state;
    for (int packing = 0; packing < 2; packing++) {
        const struct loader_opts o = {
            .batch_size = 2, .packing = packing, .row_length = 32, .shuffle = true
        };
        enum graft_status st = GRAFT_ENOMEM;

        for (int64_t k = 1; st; k++) {
            struct loader *l = NULL;

            mem_fail_at(k);
            st = loader_new(&d, &o, &l, NULL);
            mem_fail_at(0);
            assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
            assert_true(st == GRAFT_OK || !l);
            assert_true(st || k > 9);
            loader_free(l);
        }
    }
    dataset_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_shuffle_records_come_in_file_order),
        cmocka_unit_test(the_last_batch_may_be_smaller),
        cmocka_unit_test(shuffles_differ_by_epoch_and_by_seed_and_nothing_else),
        cmocka_unit_test(a_shuffle_prefers_no_place),
        cmocka_unit_test(the_bound_of_a_shuffled_batch_is_its_longest_records),
        cmocka_unit_test(packed_rows_hold_whole_records_and_never_overflow),
        cmocka_unit_test(best_fit_finds_the_rows_that_a_plain_search_finds),
        cmocka_unit_test(what_cannot_be_batched_is_refused),
        cmocka_unit_test(batches_allocate_nothing),
        cmocka_unit_test(no_failed_allocation_leaks_or_crashes),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
