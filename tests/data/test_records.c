/* Records to tokens: what is masked, cut, dropped and refused, with the words of each refusal. */
#include "tests/data/data_testing.h"

#include <omp.h>

#include "data/preview.h"
#include "data/records.h"

static const struct dataset_opts PLAIN = { .mask_prompt = true, .eos = -1, .vocab_rows = 32 };

static struct dataset_opts toy_opts(const struct tokenizer *t)
{
    return (struct dataset_opts){
        .mask_prompt = true, .eos = EOS, .vocab_rows = TOY_VOCAB, .tokenizer = t
    };
}

static void assert_record(const struct dataset *d, int64_t i, bool labels, const int32_t *want,
                          size_t n)
{
    int32_t *have = copy_of(d, i, labels);

    assert_ids(have, d->record[i].length, want, n);
    free(have);
}
#define ASSERT_IDS(d, i, ...)    assert_record(&(d), (i), false, IDS(__VA_ARGS__))
#define ASSERT_LABELS(d, i, ...) assert_record(&(d), (i), true, IDS(__VA_ARGS__))

static void assert_refused_as(const char *text, const struct dataset_opts *o,
                              enum graft_status want, const char *msg)
{
    static const char *const path = "d.jsonl";
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset d = { .count = -7 };

    put_file(path, text);
    assert_int_equal(dataset_load(&path, 1, o, &d, &err), want);
    assert_int_equal(err.code, want);
    assert_string_equal(err.msg, msg);
    assert_int_equal(d.count, -7); /* untouched */
}

static void assert_refused(const char *text, const struct dataset_opts *o, const char *msg)
{
    assert_refused_as(text, o, GRAFT_EFORMAT, msg);
}

static void every_format_has_a_row_and_its_name(void **state)
{
    (void)state;
    for (int f = 0; f < RECORD_FORMAT_COUNT; f++) {
        assert_string_equal(record_format_names[f], format_defs[f].name);
        assert_true(f == RECORD_AUTO || format_defs[f].key[0].required);
    }
    assert_null(record_format_names[RECORD_FORMAT_COUNT]);
}

static void tokens_without_labels_are_all_trained_but_the_first(void **state)
{
    struct dataset d = load_text("{\"input_ids\": [3, 4, 5]}\n", &PLAIN);

    (void)state;
    assert_int_equal(d.count, 1);
    ASSERT_IDS(d, 0, 3, 4, 5);
    ASSERT_LABELS(d, 0, 3, 4, 5);
    assert_int_equal(d.record[0].targets, 2);
    assert_int_equal(d.record[0].line, 1);
    assert_string_equal(dataset_file(&d, &d.record[0]), "d.jsonl");
    dataset_release(&d);
}

static void labels_are_taken_as_given(void **state)
{
    struct dataset d = load_text("{\"input_ids\": [3, 4, 5, 6], \"labels\": [-100, -100, 31, 6]}\n"
                                 "{\"input_ids\": [3, 4], \"labels\": null}\n",
                                 &PLAIN);

    (void)state;
    ASSERT_LABELS(d, 0, -100, -100, 31, 6);
    assert_int_equal(d.record[0].targets, 2);
    ASSERT_LABELS(d, 1, 3, 4);
    dataset_release(&d);
}

static void text_gets_eos_unless_it_ends_with_it(void **state)
{
    struct tokenizer *t = toy_tokenizer(false);
    const struct dataset_opts o = toy_opts(t);
    struct dataset d = load_text("{\"text\": \"xab\"}\n{\"text\": \"xy<eos>\"}\n", &o);

    (void)state;
    ASSERT_IDS(d, 0, CH('x'), AB, EOS);
    ASSERT_LABELS(d, 0, CH('x'), AB, EOS);
    ASSERT_IDS(d, 1, CH('x'), CH('y'), EOS);
    assert_int_equal(d.stats.targets, 4);
    dataset_release(&d);
    tokenizer_free(t);
}

static void completion_masks_the_tokens_of_the_prompt(void **state)
{
    struct tokenizer *t = toy_tokenizer(true);
    struct dataset_opts o = toy_opts(t);
    static const char text[] = "{\"prompt\": \"xy\", \"completion\": \"zab\"}\n"
                               "{\"prompt\": \"xy\", \"response\": \"\"}\n"
                               "{\"prompt\": \"\", \"completion\": \"z<eos>\"}\n";
    struct dataset d = load_text(text, &o);

    (void)state;
    ASSERT_IDS(d, 0, BOS, CH('x'), CH('y'), CH('z'), AB, EOS);
    ASSERT_LABELS(d, 0, -100, -100, -100, CH('z'), AB, EOS);
    ASSERT_LABELS(d, 1, -100, -100, -100, EOS);
    ASSERT_IDS(d, 2, BOS, CH('z'), EOS);
    ASSERT_LABELS(d, 2, -100, CH('z'), EOS);
    assert_int_equal(d.stats.targets, 3 + 1 + 2);
    assert_int_equal(d.stats.straddling, 0);
    assert_true(preview_end_trained(&d, &d.record[0], (const int32_t[]){ EOS }, 1));
    dataset_release(&d);

    o.mask_prompt = false;
    d = load_text(text, &o);
    ASSERT_LABELS(d, 0, BOS, CH('x'), CH('y'), CH('z'), AB, EOS);
    assert_int_equal(d.record[0].targets, 5); /* the first token is never a target */
    dataset_release(&d);
    tokenizer_free(t);
}

/* "xa" alone is two tokens, "xab" too: the second straddles, and is masked as TRL masks it. */
static void a_straddling_token_is_masked_and_counted(void **state)
{
    struct tokenizer *t = toy_tokenizer(false);
    const struct dataset_opts o = toy_opts(t);
    struct dataset d = load_text("{\"prompt\": \"xa\", \"completion\": \"bc\"}\n"
                                 "{\"prompt\": \"xa\", \"completion\": \"cc\"}\n",
                                 &o);

    (void)state;
    ASSERT_IDS(d, 0, CH('x'), AB, CH('c'), EOS);
    ASSERT_LABELS(d, 0, -100, -100, CH('c'), EOS);
    assert_true(d.record[0].straddles);
    assert_false(d.record[1].straddles);
    assert_int_equal(d.stats.straddling, 1);
    dataset_release(&d);
    tokenizer_free(t);
}

static void assert_pair(const struct dataset *d, int64_t i, const struct tokenizer *t,
                        const char *prompt, const char *answer)
{
    const struct record *r = &d->record[i];
    struct id_list want = { NULL, 0, 0 };
    int64_t masked;

    assert_int_equal(tokenizer_encode(t, prompt, strlen(prompt), true, &want, NULL), GRAFT_OK);
    masked = want.count;
    assert_int_equal(tokenizer_encode(t, answer, strlen(answer), false, &want, NULL), GRAFT_OK);
    assert_int_equal(id_list_add(&want, EOS, NULL), GRAFT_OK);
    assert_record(d, i, false, want.id, (size_t)want.count);
    for (int64_t k = 0; k < r->length; k++)
        assert_int_equal(dataset_label(d, r, k), k < masked ? NO_LABEL : want.id[k]);
    id_list_release(&want);
}

static void alpaca_uses_the_two_prompts_of_stanford(void **state)
{
    static const char with[] =
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n"
        "\n"
        "### Instruction:\n"
        "Add.\n"
        "\n"
        "### Input:\n"
        "1 2\n"
        "\n"
        "### Response:";
    static const char without[] = "Below is an instruction that describes a task. Write a response "
                                  "that appropriately completes the request.\n"
                                  "\n"
                                  "### Instruction:\n"
                                  "Add.\n"
                                  "\n"
                                  "### Response:";
    struct tokenizer *t = toy_tokenizer(true);
    const struct dataset_opts o = toy_opts(t);
    struct dataset d =
        load_text("{\"instruction\": \"Add.\", \"input\": \"1 2\", \"output\": \"3\"}\n"
                  "{\"instruction\": \"Add.\", \"input\": \"\", \"output\": \"3\"}\n"
                  "{\"instruction\": \"Add.\", \"input\": null, \"output\": \"3\"}\n"
                  "{\"instruction\": \"Add.\", \"output\": \"3\"}\n",
                  &o);

    (void)state;
    assert_pair(&d, 0, t, with, "3");
    for (int i = 1; i < 4; i++)
        assert_pair(&d, i, t, without, "3");
    dataset_release(&d);
    tokenizer_free(t);
}

static void truncation_cuts_the_end_and_is_counted(void **state)
{
    struct dataset_opts o = PLAIN;
    struct dataset d;

    (void)state;
    o.max_length = 3;
    d = load_text("{\"input_ids\": [1, 2, 3, 4]}\n{\"input_ids\": [5, 6, 7]}\n", &o);
    ASSERT_IDS(d, 0, 1, 2, 3);
    ASSERT_IDS(d, 1, 5, 6, 7);
    assert_true(d.record[0].truncated);
    assert_false(d.record[1].truncated);
    assert_int_equal(d.stats.truncated, 1);
    assert_int_equal(d.stats.tokens, 6);
    dataset_release(&d);
}

static void a_record_without_a_target_is_dropped_and_counted(void **state)
{
    struct dataset_opts o = PLAIN;
    struct dataset d;

    (void)state;
    o.max_length = 2;
    d = load_text("{\"input_ids\": [1, 2, 3], \"labels\": [-100, -100, 3]}\n"
                  "{\"input_ids\": []}\n"
                  "{\"input_ids\": [1]}\n"
                  "{\"input_ids\": [1, 2], \"labels\": [1, -100]}\n"
                  "{\"input_ids\": [1, 2]}\n",
                  &o);
    assert_int_equal(d.count, 5);
    for (int i = 0; i < 4; i++)
        assert_int_equal(d.record[i].length, 0);
    assert_int_equal(d.record[4].length, 2);
    assert_int_equal(d.stats.records, 5);
    assert_int_equal(d.stats.dropped, 4);
    assert_int_equal(d.stats.truncated, 1);
    assert_int_equal(d.token_count, 2);
    dataset_release(&d);
}

static void lengths_are_summed_up(void **state)
{
    struct strbuf s = STRBUF_INIT;
    struct dataset d;

    (void)state;
    for (int n = 2; n <= 21; n++) { /* 20 records of 2 .. 21 tokens */
        strbuf_puts(&s, "{\"input_ids\": [1");
        for (int i = 1; i < n; i++)
            strbuf_puts(&s, ",2");
        strbuf_puts(&s, "]}\n");
    }
    d = load_text(s.buf, &PLAIN);
    assert_int_equal(d.stats.longest, 21);
    assert_int_equal(d.stats.p50, 11);
    assert_int_equal(d.stats.p95, 20);
    assert_int_equal(d.stats.tokens, 230);
    assert_int_equal(d.stats.targets, 210);
    dataset_release(&d);
    strbuf_release(&s);
}

static void a_record_longer_than_the_positions_is_an_error(void **state)
{
    struct dataset_opts o = PLAIN;
    struct dataset d;
    static const char text[] = "{\"input_ids\": [1, 2]}\n{\"input_ids\": [1, 2, 3, 4]}\n";

    (void)state;
    o.max_positions = 3;
    o.max_length = 9; /* an upper bound may be above */
    assert_refused(
        text, &o,
        "d.jsonl:2: the record has 4 tokens, the model 3 positions; a smaller max_length "
        "truncates it");
    o.max_length = 3;
    d = load_text(text, &o);
    assert_int_equal(d.stats.truncated, 1);
    dataset_release(&d);
}

static void auto_takes_each_record_for_what_it_is(void **state)
{
    struct tokenizer *t = toy_tokenizer(false);
    struct dataset_opts o = toy_opts(t);
    struct dataset d = load_text("{\"input_ids\": [5, 6]}\n"
                                 "{\"text\": \"xy\", \"prompt\": null, \"completion\": null}\n"
                                 "{\"prompt\": \"x\", \"completion\": \"y\"}\n"
                                 "{\"instruction\": \"x\", \"output\": \"y\"}\n",
                                 &o);

    (void)state;
    assert_int_equal(d.count, 4);
    ASSERT_IDS(d, 1, CH('x'), CH('y'), EOS);
    ASSERT_LABELS(d, 2, -100, CH('y'), EOS);
    dataset_release(&d);
    assert_refused("{\"input_ids\": [5, 6]}\n"
                   "{\"text\": \"t\", \"instruction\": \"x\", \"output\": \"y\"}\n",
                   &o,
                   "d.jsonl:2: the record fits two formats, text (\"text\") and alpaca "
                   "(\"instruction\" + \"output\"); name the one that is meant as the format");
    o.format = RECORD_TEXT;
    d = load_text("{\"text\": \"xy\", \"instruction\": \"x\", \"output\": \"y\"}\n", &o);
    ASSERT_IDS(d, 0, CH('x'), CH('y'), EOS);
    dataset_release(&d);
    tokenizer_free(t);
}

static void conversations_need_a_tokenizer_and_a_template(void **state)
{
    static const char *const text[] = {
        "{\"input_ids\": [1, 2]}\n{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n",
        "{\"input_ids\": [1, 2]}\n{\"conversations\": [{\"from\": \"human\", \"value\": \"x\"}]}\n",
        "{\"input_ids\": [1, 2]}\n{\"prompt\": [], \"completion\": []}\n",
    };
    struct tokenizer *t = toy_tokenizer(false);
    struct dataset_opts o = toy_opts(t);

    (void)state;
    o.chat_problem = "no template here";
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        assert_refused_as(text[i], &PLAIN, GRAFT_EARG,
                          "d.jsonl:2: a conversation needs a tokenizer, and the base has none; "
                          "records with \"input_ids\" need none");
        assert_refused_as(text[i], &o, GRAFT_EARG, "d.jsonl:2: no template here");
    }
    tokenizer_free(t);
}

static void records_of_text_need_a_tokenizer_and_eos(void **state)
{
    struct tokenizer *t = toy_tokenizer(false);
    struct dataset_opts o = toy_opts(NULL);

    (void)state;
    assert_refused_as("{\"text\": \"x\"}\n", &o, GRAFT_EARG,
                      "d.jsonl:1: a record of text needs a tokenizer, and the base has none; "
                      "records with \"input_ids\" need none");
    o = toy_opts(t);
    o.eos = -1;
    assert_refused_as(
        "{\"text\": \"x\"}\n", &o, GRAFT_EARG,
        "d.jsonl:1: a record of text ends with the EOS token, and the base names none "
        "(eos_token in tokenizer_config.json, eos_token_id in config.json)");
    o = toy_opts(t);
    o.vocab_rows = AB;
    assert_refused(
        "{\"text\": \"xab\"}\n", &o,
        "d.jsonl:1: token 98 \"ab\" at position 1 has no row in the embedding, which has "
        "98");
    o.vocab_rows = 60; /* a token that others follow in the tokenizer's memory */
    assert_refused(
        "{\"text\": \"xab\"}\n", &o,
        "d.jsonl:1: token 89 \"x\" at position 0 has no row in the embedding, which has 60");
    tokenizer_free(t);
}

static void bad_records_are_refused_with_line_and_reason(void **state)
{
    static const struct {
        enum record_format format;
        const char *text, *msg;
    } cases[] = {
        { RECORD_AUTO, "42", "the record is an integer, wanted an object" },
        { RECORD_AUTO, "\"x\"", "the record is a string, wanted an object" },
        { RECORD_AUTO, "{\"input_ids\": [1, 2}", "column 20: ']' expected near '}'" },
        { RECORD_AUTO, "{\"input_ids\": [1, 2]} {", "column 23: end of file expected near '{'" },
        { RECORD_AUTO, "{\"text\": \"a\", \"text\": \"b\"}",
          "column 20: duplicate object key near '\"text\"'" },
        { RECORD_AUTO, "", "empty line, wanted a JSON object" },
        { RECORD_AUTO, " \t", "empty line, wanted a JSON object" },
        { RECORD_AUTO, "{\"text\": \"\xff\"}", "invalid UTF-8 at byte 11 (0xff)" },
        { RECORD_AUTO, "{\"text\": \"\xc3\"}", "invalid UTF-8 at byte 11 (0xc3)" },
        { RECORD_AUTO, "{}",
          "the record fits no format; found no keys; wanted \"input_ids\", \"text\", \"prompt\" + "
          "\"completion\" (or \"response\"), \"instruction\" + \"output\", \"messages\" or "
          "\"conversations\"" },
        { RECORD_AUTO, "{\"question\": \"x\", \"answer\": \"y\"}",
          "the record fits no format; found \"question\", \"answer\"; wanted \"input_ids\", "
          "\"text\", \"prompt\" + \"completion\" (or \"response\"), \"instruction\" + \"output\", "
          "\"messages\" or \"conversations\"; to make completion records: jq -c '{prompt: "
          ".question, completion: .answer}'" },
        { RECORD_AUTO, "{\"txt\": \"x\"}",
          "the record fits no format; found \"txt\"; wanted \"input_ids\", \"text\", \"prompt\" + "
          "\"completion\" (or \"response\"), \"instruction\" + \"output\", \"messages\" or "
          "\"conversations\"; \"txt\" looks like \"text\"" },
        { RECORD_COMPLETION, "{\"prompt\": \"x\", \"answer\": \"y\"}",
          "no \"completion\" (or \"response\"), which a record of format completion needs; found "
          "\"prompt\", \"answer\"; to make completion records: jq -c '{prompt: .prompt, "
          "completion: .answer}'" },
        { RECORD_ALPACA, "{\"instruction\": \"x\", \"response\": \"y\"}",
          "no \"output\", which a record of format alpaca needs; found \"instruction\", "
          "\"response\"; to make alpaca records: jq -c '{instruction, input, output: "
          ".response}'" },
        { RECORD_TEXT, "{\"text\": null, \"a\\u001bb\": 1}",
          "no \"text\", which a record of format text needs; found \"text\" (null), \"a?b\"" },
        { RECORD_AUTO, "{\"text\": 5}", "\"text\" is an integer, wanted a string" },
        { RECORD_AUTO, "{\"prompt\": \"x\", \"response\": [1]}",
          "prompt is a string and completion a list, wanted two strings or two lists of messages" },
        { RECORD_AUTO, "{\"prompt\": [], \"completion\": \"x\"}",
          "prompt is a list and completion a string, wanted two strings or two lists of messages" },
        { RECORD_AUTO, "{\"prompt\": \"x\", \"completion\": \"y\", \"response\": \"z\"}",
          "has both \"completion\" and \"response\", which mean the same; leave one" },
        { RECORD_AUTO, "{\"instruction\": \"x\", \"output\": \"y\", \"input\": {}}",
          "\"input\" is an object, wanted a string" },
        { RECORD_AUTO, "{\"input_ids\": \"x\"}",
          "\"input_ids\" is a string, wanted a list of token "
          "ids" },
        { RECORD_AUTO, "{\"input_ids\": [1, 2.0]}",
          "input_ids[1] is a number with a fraction, wanted a token id" },
        { RECORD_AUTO, "{\"input_ids\": [true, 2]}",
          "input_ids[0] is a boolean, wanted a token id" },
        { RECORD_AUTO, "{\"input_ids\": [1, 99]}",
          "input_ids[1] is 99, wanted a token id from 0 to 98" },
        { RECORD_AUTO, "{\"input_ids\": [1, -1]}",
          "input_ids[1] is -1, wanted a token id from 0 to 98" },
        { RECORD_AUTO, "{\"input_ids\": [1, -100]}",
          "input_ids[1] is -100, wanted a token id from 0 to 98" },
        { RECORD_AUTO, "{\"input_ids\": [1, 4294967297]}",
          "input_ids[1] is 4294967297, wanted a token id from 0 to 98" },
        { RECORD_AUTO, "{\"input_ids\": [1, 99999999999999999999]}",
          "input_ids[1] is a number beyond 64 bits, wanted a token id" },
        { RECORD_AUTO, "{\"input_ids\": [1, 2], \"labels\": [1]}",
          "labels has 1 entries, input_ids 2" },
        { RECORD_AUTO, "{\"input_ids\": [1, 2], \"labels\": [1, -1]}",
          "labels[1] is -1, wanted -100 or a token id from 0 to 98" },
        { RECORD_AUTO, "{\"input_ids\": [1, 2], \"labels\": [1, null]}",
          "labels[1] is null, wanted -100 or a token id" },
    };
    static const char fits_all[] = "{\"text\": \"t\", \"prompt\": \"p\", \"completion\": \"c\", "
                                   "\"instruction\": \"i\", \"output\": \"o\"}";
    struct tokenizer *t = toy_tokenizer(false);
    struct dataset_opts o = toy_opts(t);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512], msg[GRAFT_ERR_MAX];

        snprintf(text, sizeof text, "%s\n%s\n%s\n",
                 cases[i].format == RECORD_AUTO ? "{\"text\": \"t\"}" : fits_all, cases[i].text,
                 "{\"broken");
        snprintf(msg, sizeof msg, "d.jsonl:2: %s", cases[i].msg);
        o.format = cases[i].format;
        assert_refused(text, &o, msg);
    }
    tokenizer_free(t);
}

static void line_ends_and_byte_order_marks_are_taken_as_they_come(void **state)
{
    static const char *const text[] = {
        "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}",
        "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}\n",
        "{\"input_ids\": [1, 2]}\r\n{\"input_ids\": [3, 4]}\r\n",
        "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}\n\n \r\n",
        "\xef\xbb\xbf{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        struct dataset d = load_text(text[i], &PLAIN);

        assert_int_equal(d.count, 2);
        ASSERT_IDS(d, 0, 1, 2);
        ASSERT_IDS(d, 1, 3, 4);
        assert_int_equal(d.record[1].line, 2);
        dataset_release(&d);
    }
}

static void assert_file_refused(const char *path, const char *text, size_t len,
                                enum graft_status want, const char *msg)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset d = { .count = 0 };

    if (text)
        assert_int_equal(file_write(path, text, len, NULL), GRAFT_OK);
    assert_int_equal(dataset_load(&path, 1, &PLAIN, &d, &err), want);
    assert_string_equal(err.msg, msg);
}

static void other_kinds_of_files_are_refused_with_the_way_to_convert(void **state)
{
    (void)state;
    assert_file_refused("e.jsonl", "", 0, GRAFT_EFORMAT, "e.jsonl: no records");
    assert_file_refused("e.jsonl", " \n\n", 3, GRAFT_EFORMAT, "e.jsonl: no records");
    assert_file_refused("none.jsonl", NULL, 0, GRAFT_EIO, "none.jsonl: No such file or directory");
    assert_file_refused(".", NULL, 0, GRAFT_EIO, ".: not a regular file");
    assert_file_refused("a.json", "\n [{}]", 6, GRAFT_EFORMAT,
                        "a.json: is a JSON array, wanted JSONL (one JSON object a line); convert "
                        "it: jq -c '.[]' 'a.json' > 'a.json.jsonl'");
    assert_file_refused("a.json", "{\n \"text\": 1}", 13, GRAFT_EFORMAT,
                        "a.json: is JSON over several lines, wanted JSONL (one JSON object a "
                        "line); convert it: jq -c . 'a.json' > 'a.json.jsonl'");
    assert_file_refused("a.parquet", "PAR1\0\0", 6, GRAFT_EFORMAT,
                        "a.parquet: is a Parquet file, wanted JSONL (one JSON object a line); "
                        "convert it: python3 -c \"import pandas; pandas.read_parquet('a.parquet')"
                        ".to_json('a.parquet.jsonl', orient='records', lines=True)\"");
    assert_file_refused("a.CSV", "text,label\n", 11, GRAFT_EFORMAT,
                        "a.CSV: is CSV, wanted JSONL (one JSON object a line); convert it: "
                        "python3 -c \"import pandas; pandas.read_csv('a.CSV').to_json("
                        "'a.CSV.jsonl', orient='records', lines=True)\"");
    assert_file_refused("a.jsonl.xz", "\xfd\x37zXZ", 6, GRAFT_EFORMAT,
                        "a.jsonl.xz: is compressed by xz, wanted JSONL (one JSON object a line); "
                        "convert it: unxz -k 'a.jsonl.xz'");
    assert_file_refused("u.jsonl", "\xff\xfe{\0", 4, GRAFT_EFORMAT,
                        "u.jsonl: is UTF-16, wanted JSONL (one JSON object a line); convert it: "
                        "iconv -f UTF-16 -t UTF-8 'u.jsonl' > 'u.jsonl.utf8.jsonl'");
}

static void catch_note(void *user, const char *msg)
{
    strbuf_printf(user, "%s\n", msg);
}

static void keys_without_a_use_are_named_once(void **state)
{
    struct strbuf notes = STRBUF_INIT;
    struct dataset d;

    (void)state;
    graft_note_sink(catch_note, &notes);
    d = load_text("{\"input_ids\": [1, 2], \"id\": 7}\n"
                  "{\"input_ids\": [1, 2], \"source\": {\"x\": 1}, \"id\": 8, \"labels\": null}\n"
                  "{\"input_ids\": [1, 2], \"id\": 9}\n",
                  &PLAIN);
    dataset_release(&d);
    assert_string_equal(notes.buf, "d.jsonl: keys that the format has no use for are ignored: "
                                   "\"id\", \"source\"\n");
    strbuf_clear(&notes);
    d = load_text("{\"input_ids\": [1, 2]}\n", &PLAIN);
    dataset_release(&d);
    assert_string_equal(notes.buf, "");
    graft_note_sink(NULL, NULL);
    strbuf_release(&notes);
}

static void files_follow_each_other(void **state)
{
    static const char *const path[] = { "b.jsonl", "a.jsonl" };
    static const char one[] = "{\"input_ids\": [1, 2]}\n", two[] = "{\"input_ids\": [3, 4, 5]}";
    struct dataset d = { .count = 0 };

    (void)state;
    put_file("b.jsonl", one);
    put_file("a.jsonl", two);
    assert_int_equal(dataset_load(path, 2, &PLAIN, &d, NULL), GRAFT_OK);
    assert_int_equal(d.count, 2);
    assert_string_equal(dataset_file(&d, &d.record[1]), "a.jsonl");
    assert_int_equal(d.record[1].line, 1);
    dataset_release(&d);
    assert_int_equal(dataset_load(path, 0, &PLAIN, &d, NULL), GRAFT_EARG);
}

static void each_file_may_have_a_format_of_its_own(void **state)
{
    static const char *const path[] = { "a.jsonl", "b.jsonl" };
    static const enum record_format format[] = { RECORD_TOKENS, RECORD_TEXT };
    static const char both[] = "{\"input_ids\": [5, 6], \"text\": \"xyz\"}\n";
    struct tokenizer *t = toy_tokenizer(false);
    struct dataset_opts o = toy_opts(t);
    struct dataset d = { .count = 0 };

    (void)state;
    o.file_format = format;
    put_file("a.jsonl", both);
    put_file("b.jsonl", both);
    assert_int_equal(dataset_load(path, 2, &o, &d, NULL), GRAFT_OK);
    ASSERT_IDS(d, 0, 5, 6);
    ASSERT_IDS(d, 1, CH('x'), CH('y'), CH('z'), EOS);
    dataset_release(&d);
    tokenizer_free(t);
}

static void some_lines_can_be_read_alone(void **state)
{
    static const char *const path = "d.jsonl";
    static const char text[] = "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}\n{\"broken";
    struct graft_err err = { GRAFT_OK, "" };
    struct dataset_opts o = PLAIN;
    struct dataset d;

    (void)state;
    o.first_line = 2;
    o.limit = 1;
    d = load_text(text, &o);
    assert_int_equal(d.count, 1);
    assert_int_equal(d.record[0].line, 2);
    ASSERT_IDS(d, 0, 3, 4);
    dataset_release(&d);
    o.first_line = 4;
    assert_int_equal(dataset_load(&path, 1, &o, &d, &err), GRAFT_EARG);
    assert_string_equal(err.msg, "d.jsonl: no line 4, the file has 3");
}

/* Enough lines for several blocks; line i has the ids i % 31, (i + 1) % 31, ... */
static char *many_lines(int n)
{
    struct strbuf s = STRBUF_INIT;

    for (int i = 0; i < n; i++) {
        strbuf_puts(&s, "{\"input_ids\": [1");
        for (int k = 0; k < 30 + i % 7; k++)
            strbuf_printf(&s, ", %d", (i + k) % 31);
        strbuf_puts(&s, "]}\n");
    }
    return s.buf;
}

static void threads_change_nothing(void **state)
{
    char *text = many_lines(3000), *at;
    struct dataset one, four;
    const int threads = omp_get_max_threads();

    (void)state;
    omp_set_num_threads(1);
    one = load_text(text, &PLAIN);
    omp_set_num_threads(4);
    four = load_text(text, &PLAIN);
    assert_int_equal(one.count, 3000);
    assert_int_equal(four.count, 3000);
    assert_int_equal(one.token_count, four.token_count);
    assert_memory_equal(one.token, four.token, (size_t)one.token_count * sizeof *one.token);
    assert_memory_equal(&one.stats, &four.stats, sizeof one.stats);
    for (int64_t i = 0; i < one.count; i++) {
        assert_int_equal(four.record[i].line, i + 1);
        assert_int_equal(one.record[i].first, four.record[i].first);
    }
    dataset_release(&one);
    dataset_release(&four);

    at = text; /* two bad lines: the first is told, whoever meets it */
    for (int i = 1; i < 2000; i++) {
        at = strchr(at, '\n') + 1;
        if (i == 1499 || i == 1999)
            at[0] = '!';
    }
    for (int n = 1; n <= 4; n++) {
        omp_set_num_threads(n);
        assert_refused(text, &PLAIN, "d.jsonl:1500: column 1: invalid token near '!'");
    }
    omp_set_num_threads(threads);
    mem_free(text);
}

/* The first bad line is long, so that threads meet the second before they are done with it. */
static void of_two_bad_lines_the_first_is_told(void **state)
{
    const int threads = omp_get_max_threads();
    struct strbuf s = STRBUF_INIT;

    (void)state;
    strbuf_puts(&s, "{\"input_ids\": [1, 2]}\n{\"input_ids\": [1");
    for (int i = 0; i < 200000; i++)
        strbuf_puts(&s, ", 2");
    strbuf_puts(&s, "]!\n");
    for (int i = 0; i < 20; i++)
        strbuf_puts(&s, "{\"input_ids\": [1, 99]}\n");
    for (int n = 1; n <= 4; n++) {
        omp_set_num_threads(n);
        assert_refused(s.buf, &PLAIN, "d.jsonl:2: column 600018: '}' expected near '!'");
    }
    omp_set_num_threads(threads);
    strbuf_release(&s);
}

static void no_failed_allocation_leaks_or_crashes(void **state)
{
    static const char *const path = "d.jsonl";
    struct tokenizer *t = toy_tokenizer(true);
    struct dataset_opts o = toy_opts(t);
    const int threads = omp_get_max_threads();
    enum graft_status st = GRAFT_ENOMEM;

    (void)state;
    omp_set_num_threads(1);
    put_file(path, "{\"input_ids\": [1, 2], \"labels\": [1, 2], \"id\": 1}\n"
                   "{\"prompt\": \"xa\", \"completion\": \"bc\"}\n"
                   "{\"instruction\": \"x\", \"input\": \"y\", \"output\": \"z\"}\n"
                   "{\"text\": \"x\"}\n");
    for (int64_t k = 1; st == GRAFT_ENOMEM; k++) {
        struct graft_err err = { GRAFT_OK, "" };
        struct dataset d = { .count = 0 };

        mem_fail_at(k);
        st = dataset_load(&path, 1, &o, &d, &err);
        mem_fail_at(0);
        assert_true(st == GRAFT_OK || st == GRAFT_ENOMEM);
        if (st == GRAFT_OK) {
            assert_int_equal(d.count, 4);
            assert_true(k > 20);
        }
        dataset_release(&d);
    }
    omp_set_num_threads(threads);
    tokenizer_free(t);
}

static void a_preview_shows_what_each_token_adds(void **state)
{
    static const int32_t id[] = { BOS, CH('x'), AB, SPACE, EOS };
    static const int64_t want[] = { 5, 6, 8, 9, 14 };
    struct tokenizer *t = toy_tokenizer(true);
    struct strbuf text = STRBUF_INIT;
    int64_t end[5];

    (void)state;
    assert_int_equal(preview_text(t, id, 5, &text, end, NULL), GRAFT_OK);
    assert_string_equal(text.buf, "<bos>xab <eos>");
    assert_memory_equal(end, want, sizeof want);
    strbuf_release(&text);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_has_a_row_and_its_name),
        cmocka_unit_test(tokens_without_labels_are_all_trained_but_the_first),
        cmocka_unit_test(labels_are_taken_as_given),
        cmocka_unit_test(text_gets_eos_unless_it_ends_with_it),
        cmocka_unit_test(completion_masks_the_tokens_of_the_prompt),
        cmocka_unit_test(a_straddling_token_is_masked_and_counted),
        cmocka_unit_test(alpaca_uses_the_two_prompts_of_stanford),
        cmocka_unit_test(truncation_cuts_the_end_and_is_counted),
        cmocka_unit_test(a_record_without_a_target_is_dropped_and_counted),
        cmocka_unit_test(lengths_are_summed_up),
        cmocka_unit_test(a_record_longer_than_the_positions_is_an_error),
        cmocka_unit_test(auto_takes_each_record_for_what_it_is),
        cmocka_unit_test(conversations_need_a_tokenizer_and_a_template),
        cmocka_unit_test(records_of_text_need_a_tokenizer_and_eos),
        cmocka_unit_test(bad_records_are_refused_with_line_and_reason),
        cmocka_unit_test(line_ends_and_byte_order_marks_are_taken_as_they_come),
        cmocka_unit_test(other_kinds_of_files_are_refused_with_the_way_to_convert),
        cmocka_unit_test(keys_without_a_use_are_named_once),
        cmocka_unit_test(files_follow_each_other),
        cmocka_unit_test(each_file_may_have_a_format_of_its_own),
        cmocka_unit_test(some_lines_can_be_read_alone),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(of_two_bad_lines_the_first_is_told),
        cmocka_unit_test(no_failed_allocation_leaks_or_crashes),
        cmocka_unit_test(a_preview_shows_what_each_token_adds),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
