/* Data sets by way of the cache: the same as without, and nothing but the same. */
#include "tests/data/data_testing.h"

#include <sys/stat.h>
#include <sys/time.h>

#include "core/mem.h"
#include "train/cache.h"
#include "train/cache_dir.h"

static const char *const PATHS[2] = { "a.jsonl", "b.jsonl" };
static const struct dataset_opts OPTS = { .mask_prompt = true, .eos = -1 };
static struct strbuf notes;

static void catch_note(void *user, const char *msg)
{
    strbuf_printf(user, "%s\n", msg);
}

static int enter(void **state)
{
    setenv("GRAFT_CACHE", "cache", 1);
    unsetenv("GRAFT_CACHE_SIZE");
    graft_note_sink(catch_note, &notes);
    return enter_folder(state);
}

static int leave(void **state)
{
    graft_note_sink(NULL, NULL);
    strbuf_release(&notes);
    return leave_folder(state);
}

static void put_files(void)
{
    put_file(PATHS[0], "{\"input_ids\": [1, 2, 3], \"labels\": [-100, 2, 3], \"id\": 4}\n"
                       "{\"input_ids\": [1]}\n"
                       "{\"input_ids\": [4, 5], \"labels\": [-100, 77], \"why\": 1}\n");
    put_file(PATHS[1], "{\"input_ids\": [6, 7, 8, 9]}\n");
}

static struct cached_data load(int64_t files, const struct dataset_opts *o)
{
    struct cached_data c;
    struct graft_err err = { GRAFT_OK, "" };

    strbuf_clear(&notes);
    if (cached_load(PATHS, files, o, &c, &err))
        fail_msg("%s", err.msg);
    return c;
}

static void assert_same_data(const struct dataset *a, const struct dataset *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->token_count, b->token_count);
    assert_memory_equal(a->record, b->record, (size_t)a->count * sizeof *a->record);
    assert_memory_equal(a->token, b->token, (size_t)a->token_count * sizeof *a->token);
    assert_memory_equal(&a->stats, &b->stats, sizeof a->stats);
    for (int f = 0; f < a->files; f++)
        assert_string_equal(a->file[f], b->file[f]);
}

static void made_found_or_in_memory_a_data_set_is_the_same(void **state)
{
    struct cached_data made, found;
    struct dataset d = { .count = 0 };
    char sum[65];
    struct strbuf list = STRBUF_INIT;

    (void)state;
    put_files();
    assert_int_equal(dataset_load(PATHS, 2, &OPTS, &d, NULL), GRAFT_OK);
    for (int64_t files = 1; files <= 2; files++) {
        made = load(files, &OPTS);
        assert_string_equal(strbuf_str(&notes),
                            files == 1 ? "a.jsonl: keys that the format has no use for are "
                                         "ignored: \"id\", \"why\"\n"
                                       : "b.jsonl: keys that the format has no use for are "
                                         "ignored: \"id\", \"why\"\n");
        assert_true(made.data.mapped && made.file.records == made.data.count);
        found = load(files, &OPTS);
        assert_true(notes.len > 0); /* told again */
        assert_same_data(&made.data, &found.data);
        assert_string_equal(made.sha256, found.sha256);
        cached_release(&made);
        if (files == 2)
            assert_same_data(&found.data, &d);
        cached_release(&found);
    }
    for (int f = 0; f < 2; f++) { /* of several files: the hash of the list of theirs */
        struct strbuf text = STRBUF_INIT;

        assert_int_equal(file_read(PATHS[f], 4096, &text, NULL), GRAFT_OK);
        sha256_hex(text.buf, text.len, sum);
        strbuf_printf(&list, "%s\n", sum);
        strbuf_release(&text);
    }
    sha256_hex(list.buf, list.len, sum);
    found = load(2, &OPTS);
    assert_string_equal(found.sha256, sum);
    cached_release(&found);
    strbuf_release(&list);
    dataset_release(&d);
}

static int caches(void)
{
    FILE *f = popen("ls cache | grep -c tokens.h5", "r");
    int n = -1;

    assert_int_equal(fscanf(f, "%d", &n), 1);
    pclose(f);
    return n;
}

/* Every option that may change tokens makes another key. */
static void every_option_counts(void **state)
{
    static const char *const names[] = { "x", "y" };
    static const enum record_format formats[] = { RECORD_TOKENS };
    static const struct task_names tasks = { names, 2, TASK_OF_BASE }, one = { names, 1, 0 };
    static const struct virtual_tokens virt[] = { { .front = 3 }, { .placed = 0, .before = 4 } };
    enum { KEYS = 13 };
    struct dataset_opts o[KEYS];
    int before;

    (void)state;
    put_files();
    for (int i = 0; i < KEYS; i++)
        o[i] = OPTS;
    o[1].mask_prompt = false;
    o[2].max_length = 2;
    o[3].max_positions = 50;
    o[4].vocab_rows = 100;
    o[5].eos = 3;
    o[6].file_format = formats;
    o[7].first_line = 2;
    o[8].limit = 1;
    o[9].tasks = &tasks;
    o[10].tasks = &one;
    o[11].virt = &virt[0];
    o[12].virt = &virt[1];
    assert_int_equal(system("rm -rf cache"), 0);
    for (int i = 0; i < KEYS; i++)
        for (int again = 0; again < 2; again++) {
            struct cached_data c = load(1, &o[i]);

            cached_release(&c);
            assert_int_equal(caches(), i + 1);
        }
    before = caches();
    struct cached_data c = load(2, &OPTS);
    cached_release(&c);
    assert_int_equal(caches(), before + 1);
}

static void a_bad_record_leaves_no_cache(void **state)
{
    struct cached_data c = { .sha256 = "untouched" };
    struct graft_err err = { GRAFT_OK, "" };

    (void)state;
    put_file(PATHS[0], "{\"input_ids\": [1, 2]}\n{\"input_ids\": 5}\n");
    assert_int_equal(system("rm -rf cache"), 0);
    assert_int_equal(cached_load(PATHS, 1, &OPTS, &c, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg,
                        "a.jsonl:2: \"input_ids\" is an integer, wanted a list of token ids");
    assert_string_equal(c.sha256, "untouched");
    assert_int_equal(system("test -z \"$(ls -A cache)\""), 0);
}

static void a_hash_is_remembered_while_the_file_is_the_same(void **state)
{
    struct cache_dir dir;
    struct file_stamp stamp, again;
    char first[65], second[65];
    FILE *f;

    (void)state;
    put_file("h", "one");
    assert_int_equal(cache_dir_open(&dir, NULL), GRAFT_OK);
    assert_int_equal(system("rm -f cache/*.hash.json"), 0);
    assert_int_equal(cache_hash(&dir, "h", first, &stamp, NULL), GRAFT_OK);
    assert_int_equal(system("ls cache/*.hash.json 2>/dev/null | wc -l | grep -qx 0"), 0); /* racy */
    usleep(2100000);
    assert_int_equal(cache_hash(&dir, "h", first, &stamp, NULL), GRAFT_OK);
    assert_int_equal(system("sed -i 's/\"sha256\": \"[0-9a-f]*\"/\"sha256\": "
                            "\"'$(printf %064d 7)'\"/' cache/*.hash.json"),
                     0);
    assert_int_equal(cache_hash(&dir, "h", second, &again, NULL), GRAFT_OK);
    assert_int_equal(second[63], '7'); /* it was not read */
    f = fopen("h", "r+");
    fputs("two", f);
    fclose(f);
    assert_int_equal(cache_hash(&dir, "h", second, &again, NULL), GRAFT_OK);
    assert_false(file_stamp_same(&stamp, &again));
    sha256_hex("two", 3, first);
    assert_string_equal(first, second);
    assert_int_equal(cache_hash(&dir, "nothing", first, &stamp, NULL), GRAFT_EIO);
    cache_dir_release(&dir);
}

static void no_failed_allocation_leaks_or_crashes(void **state)
{
    (void)state;
    put_files();
    for (int there = 0; there < 2; there++) {
        enum graft_status st = GRAFT_ENOMEM;

        for (int64_t k = 1; st; k++) {
            struct cached_data c = { .sha256 = "" };

            if (!there)
                assert_int_equal(system("rm -rf cache"), 0);
            mem_fail_at(k);
            st = cached_load(PATHS, 2, &OPTS, &c, NULL);
            mem_fail_at(0);
            assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
            cached_release(&c);
        }
    }
    assert_int_equal(system("test -z \"$(ls cache | grep part-)\""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_found_or_in_memory_a_data_set_is_the_same),
        cmocka_unit_test(every_option_counts),
        cmocka_unit_test(a_bad_record_leaves_no_cache),
        cmocka_unit_test(a_hash_is_remembered_while_the_file_is_the_same),
        cmocka_unit_test(no_failed_allocation_leaks_or_crashes),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
