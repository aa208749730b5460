/* Real data sets with real tokenizers, against what tests/golden/make_records.py made of them. */
#include "tests/data/data_testing.h"

#include "core/json.h"
#include "core/strbuf.h"

static char assets[2048];

static void asset_path(char out[4096], const char *folder, const char *name)
{
    snprintf(out, 4096, "%s/%s/%s", assets, folder, name);
}

/* A JSON array of objects as JSONL: most instruction sets come as one. */
static void write_lines(const char *from, const char *to)
{
    struct strbuf s = STRBUF_INIT;
    json_t *list = NULL, *item;
    size_t i;

    assert_int_equal(json_read_file(from, &list, NULL), GRAFT_OK);
    json_array_foreach(list, i, item)
    {
        json_write(&s, item);
        strbuf_putc(&s, '\n');
    }
    put_file(to, s.buf);
    json_decref(list);
    strbuf_release(&s);
}

/* One line of records.txt: what was read, and what must come of it. */
struct golden {
    char data[128], format[16], tokenizer[16], ids[65], labels[65];
    long long eos, max_length;
    struct dataset_stats stats;
};

static bool next_golden(FILE *f, struct golden *g)
{
    long long n[6];

    if (fscanf(f, "%127s %15s %15s %lld %lld %lld %lld %lld %lld %lld %lld %64s %64s", g->data,
               g->format, g->tokenizer, &g->eos, &g->max_length, &n[0], &n[1], &n[2], &n[3], &n[4],
               &n[5], g->ids, g->labels) != 13)
        return false;
    g->stats = (struct dataset_stats){ .records = n[0],
                                       .dropped = n[1],
                                       .truncated = n[2],
                                       .straddling = n[3],
                                       .tokens = n[4],
                                       .targets = n[5] };
    return true;
}

static void hash_all(const struct dataset *d, bool labels, char hex[65])
{
    struct sha256 sha;

    sha256_init(&sha);
    for (int64_t i = 0; i < d->count; i++) {
        int32_t *x = copy_of(d, i, labels);

        sha256_add(&sha, x, (size_t)d->record[i].length * sizeof *x);
        free(x);
    }
    sha256_finish(&sha, hex);
}

static void check_golden(const struct golden *g)
{
    char path[4096], hex[65];
    const char *file = path;
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset d = { .count = 0 };
    struct tokenizer *t = NULL;
    struct dataset_opts o = { .mask_prompt = true,
                              .max_length = g->max_length,
                              .eos = (int32_t)g->eos };

    asset_path(path, "tokenizers", g->tokenizer);
    strcat(path, "/tokenizer.json");
    if (tokenizer_open(path, &t, &err))
        fail_msg("%s", err.msg);
    o.tokenizer = t;
    o.vocab_rows = tokenizer_vocab_size(t);
    while (strcmp(record_format_names[o.format], g->format) != 0)
        o.format = (enum record_format)(o.format + 1);
    asset_path(path, "datasets", g->data);
    if (strcmp(path + strlen(path) - 5, ".json") == 0) {
        write_lines(path, "rows.jsonl");
        file = "rows.jsonl";
    }
    if (dataset_load(&file, 1, &o, &d, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(d.stats.records, g->stats.records);
    assert_int_equal(d.stats.dropped, g->stats.dropped);
    assert_int_equal(d.stats.truncated, g->stats.truncated);
    assert_int_equal(d.stats.straddling, g->stats.straddling);
    assert_int_equal(d.stats.tokens, g->stats.tokens);
    assert_int_equal(d.stats.targets, g->stats.targets);
    hash_all(&d, false, hex);
    assert_string_equal(hex, g->ids);
    hash_all(&d, true, hex);
    assert_string_equal(hex, g->labels);
    dataset_release(&d);
    tokenizer_free(t);
}

static void real_records_are_the_tokens_and_labels_of_the_reference(void **state)
{
    FILE *f = fopen(GRAFT_GOLDEN "/records.txt", "r");
    struct golden g;
    int count = 0;

    (void)state;
    assert_non_null(f);
    for (; next_golden(f, &g); count++)
        check_golden(&g);
    assert_int_equal(count, 6);
    fclose(f);
}

static void sets_in_other_forms_are_refused_with_help(void **state)
{
    static const struct {
        const char *data, *say[3];
    } cases[] = {
        { "gsm8k/test.jsonl",
          { ":1: the record fits no format; found \"question\", \"answer\"",
            "jq -c '{prompt: .question, completion: .answer}'", "" } },
        { "instruct/dolly_sample.jsonl",
          { ":1: the record fits no format; found \"prompt\", \"answer\"",
            "jq -c '{prompt: .prompt, completion: .answer}'", "" } },
        { "instruct/alpaca_seed_tasks.jsonl",
          { ":1: the record fits no format; found \"id\", \"name\", \"instruction\", \"instances\"",
            "\"instruction\" + \"output\"", "" } },
        { "instruct/alpaca_en_demo.json", { "is a JSON array", "jq -c '.[]'", "" } },
        { "lm/tinyshakespeare.txt", { "is plain text", "jq -Rc '{text: .}'", "" } },
        { "e2e/devset.csv", { "is CSV", "pandas.read_csv", "" } },
        { "sst2/dev.tsv", { "is TSV", "pandas.read_csv", "sep='\\t'" } },
        { "e2e/e2e_aligned.tar.gz", { "what is compressed in it is a tar archive", "", "" } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct dataset_opts o = { .eos = 0 };
        struct graft_err err = { GRAFT_OK, "" };
        struct dataset d = { .count = 0 };
        char path[4096];
        const char *file = path;

        asset_path(path, "datasets", cases[i].data);
        assert_int_equal(dataset_load(&file, 1, &o, &d, &err), GRAFT_EFORMAT);
        for (int k = 0; k < 3; k++)
            if (!strstr(err.msg, cases[i].say[k]))
                fail_msg("\"%s\" is not in: %s", cases[i].say[k], err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_records_are_the_tokens_and_labels_of_the_reference),
        cmocka_unit_test(sets_in_other_forms_are_refused_with_help),
    };
    const char *from = getenv("GRAFT_ASSETS");

    snprintf(assets, sizeof assets, "%s", from ? from : GRAFT_SOURCE_DIR "/../shared/assets");
    if (!dir_exists(assets)) {
        printf("skipped: no real data sets in %s (GRAFT_ASSETS)\n", assets);
        return 77;
    }
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
