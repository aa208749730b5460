/* Forward passes against transformers, over checkpoints that transformers wrote. */
#include "golden/models.h"

#include "io/safetensors.h"

static json_t *expected;
static struct golden_record record[GOLDEN_RECORDS];

static int read_golden(void **state)
{
    (void)state;
    expected = read_json(GOLDEN("expected.json"));
    read_records(record);
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    json_decref(expected);
    return 0;
}

static void check_losses(const char *what, const struct model *m, const json_t *want, double bound)
{
    struct tiny_net n = tiny_net(m, NULL, NET_LOSS, DT_F32, false);
    double nll[GOLDEN_RECORDS];

    for (int i = 0; i < GOLDEN_RECORDS; i++)
        nll[i] = record_nll(&n, &record[i]);
    assert_near(what, worst_of(nll, json_object_get(want, "nll"), GOLDEN_RECORDS), bound);
    graph_free(n.g);
}

/* Whatever the activations are, logits are f32: a sampler reads them as such. */
static void check_logits(const char *what, const struct model *m, const json_t *want,
                         enum dtype act, double bound)
{
    struct tiny_net n = tiny_net(m, NULL, NET_LOGITS, act, false);
    struct flat f;

    flatten(record, 1, &f);
    const struct graph_input in = flat_input(&f);
    graph_forward(n.g, &in);
    assert_int_equal(n.out->dtype, DT_F32);
    assert_near(what, distance_of(n.out->data, json_object_get(want, "logits"), GOLDEN_VOCAB),
                bound);
    graph_free(n.g);
}

static void check(const char *what, const char *path, enum weight_mode mode, const json_t *want)
{
    struct opened o;

    assert_non_null(want);
    open_model(path, mode, &o);
    check_losses(what, o.m, want, 1e-5);
    check_logits(what, o.m, want, DT_F32, 1e-5);
    check_logits(what, o.m, want, DT_BF16, 3e-2);
    close_model(&o);
}

/* Untied with llama3 rope and GQA; tied with biases, f16; sharded with a sliding window; Qwen2 with
 * a window in its second layer; Qwen3 with norms of q and k and a head size of its own. */
static void every_architecture_gives_the_losses_and_logits_of_transformers(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    assert_int_equal(json_object_size(json_object_get(expected, "models")), 5);
    json_object_foreach(json_object_get(expected, "models"), name, want)
        check(name, GOLDEN(name), WEIGHTS_FLOATS, want);
}

/* One checkpoint under other configs: rope types in both generations of keys, the activation. */
static void every_variant_of_the_config_gives_the_losses_of_transformers(void **state)
{
    const char *name;
    json_t *want;

    (void)state;
    copy_file(GOLDEN("llama/model.safetensors"), "model.safetensors");
    json_object_foreach(json_object_get(expected, "variants"), name, want)
    {
        copy_file(path_of("%s/models/variants/%s.json", GRAFT_GOLDEN, name), "config.json");
        check(name, ".", WEIGHTS_FLOATS, want);
    }
}

static void variants_differ_so_that_each_case_proves_something(void **state)
{
    static const char *const same[][2] = { { "plain", "old-plain" },
                                           { "linear", "old-linear" },
                                           { "yarn", "old-yarn" },
                                           /* these models turn whole heads all the same */
                                           { "plain", "partial" },
                                           { "partial", "old-plain" } };
    const json_t *all = json_object_get(expected, "variants");
    const char *a, *b;
    json_t *x, *y;

    (void)state;
    json_object_foreach((json_t *)all, a, x) json_object_foreach((json_t *)all, b, y)
    {
        bool twins = !strcmp(a, b);

        for (size_t i = 0; i < sizeof same / sizeof *same; i++)
            twins |= (!strcmp(a, same[i][0]) && !strcmp(b, same[i][1])) ||
                     (!strcmp(b, same[i][0]) && !strcmp(a, same[i][1]));
        assert_int_equal(json_equal(json_object_get(x, "nll"), json_object_get(y, "nll")), twins);
    }
}

static const struct stored_tensor *part(const struct store *s, const char *linear, const char *what)
{
    const struct stored_tensor *t = store_find(s, path_of("%s.%s", linear, what));

    assert_non_null(t);
    return t;
}

static void nf4_codes_and_nested_absmax_are_bit_equal_to_bitsandbytes(void **state)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct store s = { 0 };
    struct opened o;

    (void)state;
    open_model(GOLDEN("llama"), WEIGHTS_CODES, &o);
    if (safetensors_open(GOLDEN("nf4.safetensors"), &s, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(s.count, 4 * LIN_COUNT * 2);
    for (int64_t i = 0; i < 2; i++)
        for (int k = 0; k < LIN_COUNT; k++) {
            const struct model_linear *l = &o.m->layer[i].linear[k];
            const struct stored_tensor *codes = part(&s, l->name, "codes");
            const struct stored_tensor *absmax = part(&s, l->name, "absmax8");

            assert_int_equal(l->w.type, QT_NF4);
            assert_int_equal(codes->bytes, qmat_elems(&l->w) / 2);
            assert_memory_equal(l->w.data, codes->mat.data, codes->bytes);
            assert_int_equal(absmax->bytes, qmat_elems(&l->w) / 64);
            assert_memory_equal(l->w.absmax8, absmax->mat.data, absmax->bytes);
            assert_memory_equal(l->w.absmax2, part(&s, l->name, "absmax2")->mat.data, 4);
            assert_memory_equal(&l->w.offset, part(&s, l->name, "offset")->mat.data, 4);
        }
    store_release(&s);
    close_model(&o);
}

static void losses_over_nf4_are_those_over_the_same_weights_in_transformers(void **state)
{
    (void)state;
    check("nf4", GOLDEN("llama"), WEIGHTS_CODES, json_object_get(expected, "nf4"));
}

/* Rows of q and k lie permuted in the files, rope_freqs stands for llama3's scaling. */
static void gguf_files_give_the_losses_of_the_checkpoint_they_were_made_of(void **state)
{
    const json_t *want = json_object_get(expected, "gguf");

    (void)state;
    check("floats", GOLDEN("floats.gguf"), WEIGHTS_KEEP, json_object_get(want, "floats"));
    check("floats, llama", GOLDEN("floats.gguf"), WEIGHTS_KEEP,
          json_object_get(json_object_get(expected, "models"), "llama"));
    check("blocks", GOLDEN("blocks.gguf"), WEIGHTS_KEEP, json_object_get(want, "blocks"));
    check("blocks decoded", GOLDEN("blocks.gguf"), WEIGHTS_FLOATS, json_object_get(want, "blocks"));
    check("floats as nf4", GOLDEN("floats.gguf"), WEIGHTS_CODES, json_object_get(expected, "nf4"));
}

static void a_record_has_the_same_bits_alone_and_among_others(void **state)
{
    const char *const name[] = { "llama", "mistral", "qwen3" };

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct opened o;
        struct flat f;

        open_model(GOLDEN(name[k]), WEIGHTS_CODES, &o);
        flatten(record, GOLDEN_RECORDS, &f);
        struct tiny_net n = tiny_net(o.m, NULL, NET_LOSS, DT_F32, false);
        const struct graph_input in = flat_input(&f);
        graph_forward(n.g, &in);
        for (int i = 0; i < GOLDEN_RECORDS; i++) {
            double sum = 0;

            for (int64_t t = f.start[i]; t < f.start[i + 1]; t++)
                sum += f.target[t] >= 0 ? (double)f.nll[t] : 0;
            f.nll[f.start[i]] = (float)sum;
        }
        for (int i = 0; i < GOLDEN_RECORDS; i++)
            assert_true(f.nll[f.start[i]] == (float)record_nll(&n, &record[i]));
        graph_free(n.g);
        close_model(&o);
    }
}

static void bf16_compute_stays_near_f32(void **state)
{
    const json_t *want = json_object_get(json_object_get(expected, "models"), "llama");
    double nll[GOLDEN_RECORDS];
    struct opened o;

    (void)state;
    open_model(GOLDEN("llama"), WEIGHTS_FLOATS, &o);
    struct tiny_net n = tiny_net(o.m, NULL, NET_LOSS, DT_BF16, false);
    for (int i = 0; i < GOLDEN_RECORDS; i++)
        nll[i] = record_nll(&n, &record[i]);
    assert_near("bf16", worst_of(nll, json_object_get(want, "nll"), GOLDEN_RECORDS), 3e-2);
    graph_free(n.g);
    close_model(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_gives_the_losses_and_logits_of_transformers),
        cmocka_unit_test_setup_teardown(
            every_variant_of_the_config_gives_the_losses_of_transformers, enter_folder,
            leave_folder),
        cmocka_unit_test(variants_differ_so_that_each_case_proves_something),
        cmocka_unit_test(nf4_codes_and_nested_absmax_are_bit_equal_to_bitsandbytes),
        cmocka_unit_test(losses_over_nf4_are_those_over_the_same_weights_in_transformers),
        cmocka_unit_test(gguf_files_give_the_losses_of_the_checkpoint_they_were_made_of),
        cmocka_unit_test(a_record_has_the_same_bits_alone_and_among_others),
        cmocka_unit_test(bf16_compute_stays_near_f32),
    };

    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
