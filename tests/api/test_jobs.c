/* What makes files of files: merge, audit, unmerge, combine, export, verify, quantise. */
#include "tests/api/api_testing.h"

static void merged_it_answers_as_the_adapter_does(void **state)
{
    struct graft_model *m = open_base(NULL), *merged = NULL, *small = NULL;
    struct graft_answer *want = ask(m, load(m, "one"), 16), *found;
    struct graft_model_info info;

    (void)state;
    ok(graft_merge(in_dir("base"), in_dir("one"), in_dir("merged"), NULL, &err));
    ok(graft_model_open(in_dir("merged"), NULL, &merged, &err));
    found = ask(merged, NULL, 16);
    assert_true(same(want, found));
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("merged"), NULL, &err), GRAFT_EARG,
            "merged");
    ok(graft_quantize(in_dir("merged"), in_dir("merged.h5"), NULL, &err));
    ok(graft_model_open(in_dir("merged.h5"), NULL, &small, &err));
    graft_model_describe(small, &info);
    assert_string_equal(info.format, "nf4");
    assert_true(info.has_tokenizer);
    graft_answer_free(want);
    graft_answer_free(found);
    graft_model_free(m);
    graft_model_free(merged);
    graft_model_free(small);
}

static void combined_adapters_are_one(void **state)
{
    struct graft_combine_opts opts = GRAFT_COMBINE_DEFAULTS;
    const char *const both[] = { in_dir("one"), in_dir("two") };
    const double first[] = { 1, 0 };
    struct graft_model *m = open_base(NULL);
    struct graft_answer *want = ask(m, load(m, "one"), 16), *found;
    struct graft_adapter_info info;
    double lost = -1;

    (void)state;
    ok(graft_combine(both, first, 2, in_dir("both"), NULL, &lost, &err));
    assert_true(lost == 0);
    graft_adapter_describe(load(m, "both"), &info);
    assert_int_equal(info.slots, 4);
    assert_int_equal(info.parameters, 2 * 8 * (32 + 32 + 32 + 16)); /* ranks 4 + 4 */
    found = ask(m, graft_adapter_find(m, "both"), 16);
    assert_true(same(want, found));
    refused(graft_combine(both, NULL, 2, in_dir("both"), NULL, NULL, &err), GRAFT_EARG, "both");
    opts.how = "sum";
    refused(graft_combine(both, NULL, 2, in_dir("x"), &opts, NULL, &err), GRAFT_EARG, "\"sum\"");
    opts.how = "ties";
    refused(graft_combine(both, NULL, 2, in_dir("x"), &opts, NULL, &err), GRAFT_EARG, "density");
    opts.density = 0.5;
    opts.rank = 4;
    opts.force = true;
    ok(graft_combine(both, NULL, 2, in_dir("both"), &opts, &lost, &err));
    assert_true(lost > 0 && lost < 1);
    graft_answer_free(want);
    graft_answer_free(found);
    graft_model_free(m);
}

static void an_audit_finds_a_merge_faithful(void **state)
{
    struct graft_merge_opts opts = GRAFT_MERGE_DEFAULTS;
    struct graft_audit found = { .sides = -1 };
    struct graft_eval_result eval;
    struct graft_model *m = open_base(NULL);

    (void)state;
    opts.audit = in_dir("records.jsonl");
    opts.found = &found;
    ok(graft_merge(in_dir("base"), in_dir("one"), in_dir("audited"), &opts, &err));
    ok(graft_eval(m, load(m, "one"), in_dir("records.jsonl"), NULL, &eval, &err));
    assert_int_equal(found.records, 3);
    assert_int_equal(found.tokens, eval.tokens);
    assert_int_equal(found.sides, 2);
    assert_false(found.side[0].quantized);
    assert_true(found.side[1].quantized);
    assert_true(fabs(found.side[0].perplexity / found.merged_perplexity - 1) < 1e-5);
    /* the loss of a measured file is the logarithm of it; no libm here */
    assert_true(found.side[0].perplexity > 1 + eval.loss);
    assert_true(found.side[0].kl < 1e-9 && found.side[0].same_token == 1);
    assert_true(found.side[1].kl > 1e-5 && found.side[1].kl_max >= found.side[1].kl);
    opts.audit = in_dir("train.yaml");
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("x"), &opts, &err), GRAFT_EFORMAT,
            "train.yaml");
    graft_model_free(m);
}

static void what_was_merged_is_taken_out_again(void **state)
{
    struct graft_model *m = open_base(NULL), *back = NULL;
    struct graft_answer *want = ask(m, NULL, 16), *found;
    struct graft_verified v;

    (void)state;
    ok(graft_merge(in_dir("base"), in_dir("two"), in_dir("with_two"), NULL, &err));
    ok(graft_unmerge(in_dir("with_two"), in_dir("two"), in_dir("without"), NULL, &err));
    ok(graft_model_open(in_dir("without"), NULL, &back, &err));
    found = ask(back, NULL, 16);
    assert_memory_equal(want->ids, found->ids, 16 * sizeof *want->ids);
    graft_answer_free(want);
    graft_answer_free(found);
    ok(graft_verify(in_dir("two"), in_dir("base"), &v, &err));
    assert_int_equal(v.slots, 4);
    assert_int_equal(v.unchanged, 0);
    assert_int_equal(v.parameters, 2 * 4 * (32 + 32 + 32 + 16));
    assert_true(v.norm > 1 && v.norm < 1000);
    refused(graft_verify(in_dir("misfit"), in_dir("base"), &v, &err), GRAFT_ESHAPE, "misshapen");
    graft_model_free(back);
    graft_model_free(m);
}

static void an_adapter_goes_to_llama_cpp(void **state)
{
    struct graft_export_opts opts = GRAFT_EXPORT_DEFAULTS;
    struct graft_merge_opts merge = GRAFT_MERGE_DEFAULTS;
    const char *lost = "nothing yet";

    (void)state;
    ok(graft_export(in_dir("one"), in_dir("base"), in_dir("one.gguf"), NULL, &lost, &err));
    assert_null(lost);
    refused(graft_export(in_dir("one"), in_dir("base"), in_dir("one.gguf"), NULL, NULL, &err),
            GRAFT_EARG, "exists");
    opts.force = true;
    opts.dtype = "q8_0";
    ok(graft_export(in_dir("one"), in_dir("base"), in_dir("one.gguf"), &opts, NULL, &err));
    opts.dtype = "q4_0";
    refused(graft_export(in_dir("one"), in_dir("base"), in_dir("one.gguf"), &opts, NULL, &err),
            GRAFT_EARG, "\"q4_0\"");
    opts.dtype = NULL;
    opts.to = "peft";
    refused(graft_export(in_dir("one"), in_dir("base"), in_dir("x"), &opts, NULL, &err), GRAFT_EARG,
            "PEFT");
    merge.dtype = "q8_0";
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("x"), &merge, &err), GRAFT_EARG,
            "\"q8_0\"");
    refused(graft_merge(in_dir("base"), in_dir("one"), in_dir("x.gguf"), &merge, &err), GRAFT_EARG,
            "GGUF base");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_it_answers_as_the_adapter_does),
        cmocka_unit_test(combined_adapters_are_one),
        cmocka_unit_test(an_audit_finds_a_merge_faithful),
        cmocka_unit_test(what_was_merged_is_taken_out_again),
        cmocka_unit_test(an_adapter_goes_to_llama_cpp),
    };

    return cmocka_run_group_tests_name("jobs", tests, make_files, remove_files);
}
