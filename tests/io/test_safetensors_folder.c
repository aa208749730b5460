/* Hugging Face folders: one file, shards with an index, and what is wrong with others. */
#include "io_testing.h"

#include "io/safetensors.h"

/* A shard of U8 tensors of one byte each; names separated by blanks. */
static void put_shard(const char *file, const char *names)
{
    struct strbuf h = STRBUF_INIT, s = STRBUF_INIT;
    int n = 0;

    strbuf_putc(&h, '{');
    while (*names) {
        const int len = (int)strcspn(names, " ");

        strbuf_printf(&h, "%s\"%.*s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                      n ? "," : "", len, names, n, n + 1);
        n++;
        names += len + (names[len] == ' ');
    }
    strbuf_putc(&h, '}');
    put_u64(&s, h.len);
    strbuf_add(&s, h.buf, h.len);
    strbuf_add(&s, "abcdefgh", (size_t)n);
    put_file(file, s.buf, s.len);
    strbuf_release(&h);
    strbuf_release(&s);
}

static void put_index(const char *weight_map)
{
    struct strbuf s = STRBUF_INIT;

    strbuf_printf(&s, "{\"metadata\":{\"total_size\":3},\"weight_map\":%s}", weight_map);
    put_file("model.safetensors.index.json", s.buf, s.len);
    strbuf_release(&s);
}

#define ONE "model-00001-of-00002.safetensors"
#define TWO "model-00002-of-00002.safetensors"

static void put_pair(void)
{
    put_shard(ONE, "b d");
    put_shard(TWO, "a");
    put_index("{\"a\":\"" TWO "\",\"b\":\"" ONE "\",\"d\":\"" ONE "\"}");
}

static void refused(enum graft_status wanted_status, const char *wanted)
{
    struct graft_err err = { 0 };
    struct store store = { 0 };
    const enum graft_status st = safetensors_open_folder(test_dir, &store, &err);

    check_refusal(st, &err, test_dir);
    assert_int_equal(st, wanted_status);
    if (!strstr(err.msg, wanted))
        fail_msg("wanted \"%s\" in: %s", wanted, err.msg);
}

static void shards_become_one_store(void **state)
{
    struct store store;
    struct graft_err err = { 0 };

    (void)state;
    put_pair();
    if (safetensors_open_folder(test_dir, &store, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(store.count, 3);
    assert_int_equal(store.map_count, 2);
    assert_string_equal(store.path, test_dir);
    assert_int_equal(*(const char *)store_find(&store, "a")->mat.data, 'a');
    assert_int_equal(*(const char *)store_find(&store, "d")->mat.data, 'b');
    assert_non_null(strstr(store_find(&store, "d")->file, ONE));
    store_release(&store);
}

static void one_file_needs_no_index(void **state)
{
    struct store store;

    (void)state;
    put_shard("model.safetensors", "x y");
    assert_int_equal(safetensors_open_folder(test_dir, &store, NULL), GRAFT_OK);
    assert_int_equal(store.count, 2);
    store_release(&store);
}

static void a_missing_shard_is_named_with_a_tensor(void **state)
{
    (void)state;
    put_pair();
    unlink(in_dir(TWO));
    refused(GRAFT_EIO, TWO ": this shard is missing");
    refused(GRAFT_EIO, "tensor \"a\"");
}

static void index_and_shards_have_to_agree(void **state)
{
    (void)state;
    put_pair();
    put_index("{\"a\":\"" TWO "\",\"b\":\"" ONE "\"}");
    refused(GRAFT_EFORMAT, "tensor \"d\" is not in model.safetensors.index.json");
    put_index("{\"a\":\"" TWO "\",\"b\":\"" ONE "\",\"d\":\"" ONE "\",\"e\":\"" ONE "\"}");
    refused(GRAFT_EFORMAT, "tensor \"e\" is not in " ONE);
    put_index("{\"a\":\"" TWO "\",\"b\":\"" ONE "\",\"d\":\"" TWO "\"}");
    refused(GRAFT_EFORMAT, "holds tensor \"d\", which");
    put_pair();
    put_shard(TWO, "a b");
    refused(GRAFT_EFORMAT, "tensor \"b\" is also in");
}

static void an_index_that_is_none_is_refused(void **state)
{
    static const char *const outside[] = { "../x.safetensors",  "/etc/x.safetensors",  "..",
                                           ".safetensors",      "a\\\\b.safetensors",  "",
                                           "pytorch_model.bin", "x.safetensors\\u0000" };
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        snprintf(text, sizeof text, "{\"a\":\"%s\"}", outside[i]);
        put_index(text);
        refused(GRAFT_EFORMAT, "in the same folder");
    }
    put_index("{\"a\":1}");
    refused(GRAFT_EFORMAT, "name of a shard");
    put_index("{}");
    refused(GRAFT_EFORMAT, "weight_map");
    put_index("[]");
    refused(GRAFT_EFORMAT, "weight_map");
    put_index("{\"a\":\"" ONE "\",\"a\":\"" TWO "\"}");
    refused(GRAFT_EFORMAT, "index.json:1");
    put_file("model.safetensors.index.json", "{", 1);
    refused(GRAFT_EFORMAT, "index.json");
    put_file("model.safetensors.index.json", "[]", 2);
    refused(GRAFT_EFORMAT, "weight_map");
}

static void a_pickle_is_refused_with_the_way_to_convert_it(void **state)
{
    (void)state;
    put_file("training_args.bin", "x", 1);
    put_file("pytorch_model.bin", "x", 1);
    refused(GRAFT_EFORMAT, "save_pretrained(");
    refused(GRAFT_EFORMAT, "pytorch_model.bin");
    put_file("other.safetensors", "x", 1);
    refused(GRAFT_EIO, "found other.safetensors, wanted model.safetensors");
}

static void a_folder_without_a_model_says_what_is_missing(void **state)
{
    struct graft_err err;
    struct store store;

    (void)state;
    refused(GRAFT_EIO, "neither model.safetensors nor");
    assert_int_equal(safetensors_open_folder(in_dir("none"), &store, &err), GRAFT_EIO);
}

static void memory_that_runs_out_anywhere_is_an_error(void **state)
{
    enum graft_status st;
    int64_t k = 0;

    (void)state;
    put_pair();
    do {
        struct store store = { 0 };
        struct graft_err err;

        mem_fail_at(++k);
        st = safetensors_open_folder(test_dir, &store, &err);
        if (st)
            assert_int_equal(st, GRAFT_ENOMEM);
        store_release(&store);
    } while (st);
    mem_fail_at(0);
    assert_true(k > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shards_become_one_store, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(one_file_needs_no_index, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_missing_shard_is_named_with_a_tensor, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(index_and_shards_have_to_agree, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(an_index_that_is_none_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_pickle_is_refused_with_the_way_to_convert_it, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_folder_without_a_model_says_what_is_missing, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(memory_that_runs_out_anywhere_is_an_error, make_dir,
                                        remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
