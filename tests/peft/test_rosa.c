/* RoSA and its sparse half over slots: keys, sizes, the choice of places, files, merging. */
#include "peft/peft_testing.h"

#include <dirent.h>
#include <omp.h>

#include "io/safetensors.h"
#include "peft/rosa.h"

static const char *const names[] = { "model.layers.0.self_attn.q_proj",
                                     "model.layers.0.mlp.up_proj",
                                     "model.layers.1.self_attn.q_proj" };
enum { SLOTS = 3, IN = 24, OUT = 16, ELEMS = IN * OUT };
static struct slot slot[SLOTS];
static struct slot_list slots = { .slot = slot, .count = SLOTS, .model_type = "llama" };

static int make_slots(void **state)
{
    (void)state;
    for (int i = 0; i < SLOTS; i++)
        slot[i] = (struct slot){
            .name = names[i], .site = SITE_LINEAR, .index = i, .in = IN, .out = OUT
        };
    return 0;
}

static void where(const struct schema_source *src, const char *path, struct strbuf *out)
{
    (void)src;
    (void)path;
    strbuf_puts(out, "c.yaml:7");
}

/* The `adapter:` section (' for "). */
static enum graft_status read_config(const char *keys, struct adapter_config *out)
{
    static const struct schema_source source = { where, NULL };
    struct strbuf s = json_of("", keys, ", 'target_modules': 'all-linear'");
    json_t *map = NULL;
    enum graft_status st;

    if (json_read("test", s.buf, s.len, &map, &err))
        fail_msg("%s", err.msg);
    st = adapter_config_parse(map, &source, out, &mem, &err);
    json_decref(map);
    strbuf_release(&s);
    return st;
}

static struct adapter_config config(const char *keys)
{
    struct adapter_config c;

    if (read_config(keys, &c))
        fail_msg("%s: %s", keys, err.msg);
    return c;
}

static struct adapter *place(const char *keys)
{
    const struct adapter_config c = config(keys);
    struct adapter *a = NULL;

    if (adapter_new(&c, &slots, true, &a, &err) || adapter_init(a, 1, &err))
        fail_msg("%s: %s", keys, err.msg);
    return a;
}

static struct rosa_site *own(const struct adapter *a, int site)
{
    return a->site[site].state;
}

/* ---- keys */

static void refuses(const char *keys, const char *message)
{
    struct adapter_config c;

    assert_int_equal(read_config(keys, &c), GRAFT_EARG);
    assert_string_equal(err.msg, message);
}

static void schedules_have_the_names_of_the_fork(void **state)
{
    struct adapter_config c = config("'method': 'rosa'");

    (void)state;
    assert_true(c.schedule == ROSA_BOTH && c.warmup == 64 && c.d == 0.003 && c.mean_squared);
    assert_true(c.spa_num_grads == 1 && c.spa_lr_ratio == 1 && c.loraplus_lr_ratio == 1 &&
                c.r == 8);
    c = config("'method': 'rosa', 'schedule': 'wl7'");
    assert_true(c.schedule == ROSA_BOTH && c.warmup == 7);
    c = config("'method': 'rosa', 'schedule': 'default'");
    assert_true(c.schedule == ROSA_BOTH && c.warmup == 0);
    c = config("'peft_type': 'ROSA', 'schedule': 'df', 'd': 0");
    assert_true(c.schedule == ROSA_BOTH && c.warmup == 0);
    c = config("'method': 'rosa', 'schedule': 'spa_only', 'r': 0");
    assert_true(c.schedule == ROSA_SPARSE);
    c = config("'method': 'rosa', 'schedule': 'lora_only', 'd': 0");
    assert_true(c.schedule == ROSA_LOW_RANK);
    c = config("'method': 'spa', 'd': 0.5, 'grad_acc_mode': 'mean'");
    assert_true(c.schedule == ROSA_SPARSE && c.r == 0 && !c.mean_squared);
    refuses("'method': 'rosa', 'schedule': 'wl'",
            "c.yaml:7: adapter.schedule: found \"wl\", want wlK with K steps (wl64), df, default, "
            "spa_only or lora_only");
    refuses("'method': 'rosa', 'schedule': 'wl6x'",
            "c.yaml:7: adapter.schedule: found \"wl6x\", want wlK with K steps (wl64), df, "
            "default, spa_only or lora_only");
}

static void settings_that_train_nothing_or_contradict_are_refused(void **state)
{
    (void)state;
    refuses("'method': 'rosa', 'schedule': 'lora_only'",
            "c.yaml:7: adapter.schedule: lora_only trains no sparse part, which takes d: 0");
    refuses("'method': 'rosa', 'd': 0",
            "c.yaml:7: adapter.d: found 0, want more: the sparse part would train nothing");
    refuses("'method': 'spa', 'd': 0",
            "c.yaml:7: adapter.d: found 0, want more: the sparse part would train nothing");
    refuses("'method': 'rosa', 'd': 0, 'r': 0, 'schedule': 'df'",
            "c.yaml:7: adapter.r: found 0 beside d: 0, so nothing would train");
    refuses("'method': 'lora', 'r': 0", "c.yaml:7: adapter.r: found 0, want 1 or more");
    refuses("'method': 'rosa', 'density_pattern': {'q_proj': 1.5}",
            "c.yaml:7: adapter.density_pattern: \"q_proj\" has 1.5, want a share from 0 to 1");
    refuses("'method': 'rosa', 'mask_load_path': 'a', 'mask_save_path': 'b'",
            "c.yaml:7: adapter.mask_save_path: does not go with mask_load_path: what is loaded is "
            "not chosen");
    refuses("'method': 'rosa', 'terminate_after_mask_generation': true",
            "c.yaml:7: adapter.terminate_after_mask_generation: needs mask_save_path, or nothing "
            "would be left of the run");
    refuses("'method': 'spa', 'r': 4",
            "c.yaml:7: adapter.r: spa has no use for it, it belongs to lora, dora, rosa");
    refuses("'method': 'lora', 'd': 0.1",
            "c.yaml:7: adapter.d: lora has no use for it, it belongs to rosa, spa");
}

/* What adapter_config.json holds comes back, and the fork's defaults with it. */
static void configs_come_back(void **state)
{
    const struct adapter_config a =
        config("'method': 'rosa', 'r': 3, 'd': 0.25, 'density_pattern': {'up_proj': 0.5}, "
               "'schedule': 'wl9', 'spa_num_grads': 4, 'grad_acc_mode': 'mean', "
               "'spa_lr_ratio': 3.5, 'mask_save_path': 'm'");
    struct strbuf s = STRBUF_INIT;
    struct adapter_config b;

    (void)state;
    assert_int_equal(adapter_config_write(&a, NULL, 0, &s, &err), GRAFT_OK);
    assert_null(strstr(s.buf, "lr_ratio")); /* Graft's own */
    assert_non_null(strstr(s.buf, "\"rosa_dtype\": \"bf16\""));
    assert_non_null(strstr(s.buf, "\"peft_type\": \"ROSA\""));
    assert_null(strstr(s.buf, "lora_bias"));
    assert_int_equal(file_write("adapter_config.json", s.buf, s.len, &err), GRAFT_OK);
    if (adapter_config_read(".", &b, &mem, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(b.method, "rosa");
    assert_true(b.r == 3 && b.d == 0.25 && b.warmup == 9 && b.spa_num_grads == 4);
    assert_true(!b.mean_squared && b.density_pattern_count == 1);
    assert_true(b.density_pattern[0].value == 0.5);
    strbuf_release(&s);
}

/* ---- sizes */

static void a_site_has_as_many_values_as_the_fork_gives_it(void **state)
{
    struct adapter *a = place("'method': 'rosa', 'r': 2, 'd': 0.0365, "
                              "'density_pattern': {'layers.1.*q_proj': 0, 'up_proj': 1}");

    (void)state;
    assert_int_equal(own(a, 0)->nnz, 14); /* int(0.0365 * 384) = int(14.016) */
    assert_int_equal(own(a, 1)->nnz, ELEMS);
    assert_int_equal(own(a, 2)->nnz, 0);
    assert_null(a->site[2].param[ROSA_VALUES]);
    assert_int_equal(a->param_elems, 3 * 2 * (IN + OUT) + 14 + ELEMS);
    adapter_free(a);
    a = place("'method': 'spa', 'd': 0.0026");
    assert_int_equal(own(a, 0)->nnz, 0); /* 0.9984 */
    assert_int_equal(rosa_phases.start(a, 10, &err), GRAFT_EARG);
    assert_string_equal(err.msg, "adapter.d: 0.0026 leaves no value in any of the weights");
    adapter_free(a);
}

static void the_low_rank_begins_as_that_of_lora(void **state)
{
    struct adapter *a = place("'method': 'rosa', 'r': 4"), *b = place("'method': 'lora', 'r': 4");

    (void)state;
    for (int i = 0; i < SLOTS; i++)
        assert_memory_equal(a->site[i].param[LORA_A]->data, b->site[i].param[0]->data,
                            sizeof(float) * 4 * IN);
    adapter_free(a);
    adapter_free(b);
}

static void parts_that_do_not_train_have_no_gradient(void **state)
{
    struct adapter *a = place("'method': 'rosa', 'r': 2, 'schedule': 'spa_only', 'd': 0.1");

    (void)state;
    assert_null(a->site[0].param[LORA_A]->grad);
    assert_int_equal(a->param_elems, 3 * 38);
    assert_true(a->idle[0] && a->lr_ratio[0] == 1);
    adapter_free(a);
    a = place("'method': 'rosa', 'r': 2, 'd': 0.1, 'spa_lr_ratio': 0.25, 'loraplus_lr_ratio': 16");
    assert_true(!a->idle[0] && a->lr_ratio[0] == 1 && a->lr_ratio[1] == 16);
    assert_true(a->idle[2] && a->lr_ratio[2] == 0.25);
    adapter_free(a);
}

/* ---- choosing */

/* Begin to gather; returns the sums of a site. */
static float *sums(struct adapter *a, int site)
{
    return own(a, site)->sparse.dense;
}

static void begin(struct adapter *a, int64_t step)
{
    if (rosa_phases.start(a, 100, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(rosa_phases.passes(a, step), a->config.spa_num_grads);
    if (rosa_phases.gather(a, ".", &err))
        fail_msg("%s", err.msg);
}

static void finish(struct adapter *a)
{
    if (rosa_phases.gathered(a, true, &err))
        fail_msg("%s", err.msg);
    for (int i = 0; i < SLOTS; i++)
        assert_null(sums(a, i));
}

static void noise(float *x, int64_t n, uint32_t site)
{
    const struct rng_key key = { 3, RNG_TEST, 0, site };

    for (int64_t i = 0; i < n; i++)
        x[i] = rng_normal(key, (uint64_t)i);
}

/* Each is chosen exactly when fewer than nnz are larger, or equal and before it. */
static void check_choice(const struct adapter_site *s, const float *x)
{
    const int32_t *offs = s->param[ROSA_ROW_OFFS]->data, *cols = s->param[ROSA_COL_IDX]->data;
    const int64_t nnz = ((const struct rosa_site *)s->state)->nnz;
    int64_t at = 0;

    assert_int_equal(offs[0], 0);
    for (int64_t i = 0; i < ELEMS; i++) {
        int64_t before = 0;

        for (int64_t k = 0; k < ELEMS; k++)
            before += fabsf(x[k]) > fabsf(x[i]) || (fabsf(x[k]) == fabsf(x[i]) && k < i);
        if (before < nnz) {
            assert_in_range(at, offs[i / IN], offs[i / IN + 1] - 1);
            assert_int_equal(cols[at++], i % IN);
        }
    }
    assert_int_equal(at, nnz);
    assert_int_equal(offs[OUT], nnz);
}

static void the_largest_of_each_matrix_are_chosen(void **state)
{
    struct adapter *a = place("'method': 'spa', 'd': 0.1");
    static float x[SLOTS][ELEMS];

    (void)state;
    begin(a, 0);
    for (int i = 0; i < SLOTS; i++) {
        noise(x[i], ELEMS, (uint32_t)i);
        for (int k = 0; k < ELEMS; k++)
            x[i][k] *= i == 1 ? 1e-19f : 1.0f; /* of each alone: the second would lose to others */
        memcpy(sums(a, i), x[i], sizeof x[i]);
    }
    finish(a);
    for (int i = 0; i < SLOTS; i++)
        check_choice(&a->site[i], x[i]);
    assert_int_equal(rosa_phases.passes(a, 1), 0);
    adapter_free(a);
}

static void of_equal_ones_the_first_are_chosen(void **state)
{
    static float x[SLOTS][ELEMS];

    (void)state;
    for (int threads = 1; threads < 4; threads += 2) {
        const int before = omp_get_max_threads();
        struct adapter *a = place("'method': 'spa', 'd': 0.1");

        omp_set_num_threads(threads);
        begin(a, 0);
        for (int k = 0; k < ELEMS; k++) {
            x[0][k] = 0;
            x[1][k] = (float)(k % 3 - 1);         /* -1, 0, 1: by magnitude */
            x[2][k] = k % 20 == 19 ? -5e-39f : 0; /* fewer than wanted, subnormal */
        }
        for (int i = 0; i < SLOTS; i++)
            memcpy(sums(a, i), x[i], sizeof x[i]);
        finish(a);
        for (int i = 0; i < SLOTS; i++)
            check_choice(&a->site[i], x[i]);
        adapter_free(a);
        omp_set_num_threads(before);
    }
}

static void a_gradient_that_is_no_number_ends_the_choice(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct adapter *a = place("'method': 'spa', 'd': 0.1");

        begin(a, 0);
        sums(a, 1)[77] = bad[i];
        assert_int_equal(rosa_phases.gathered(a, true, &err), GRAFT_ERUN);
        assert_string_equal(err.msg,
                            "the gradient of model.layers.0.mlp.up_proj, from which the places of "
                            "its sparse values are to be chosen, is not finite");
        adapter_free(a);
    }
}

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

/* The temporary file has no name, so a kill leaves nothing either. */
static void gathering_leaves_nothing_on_disk(void **state)
{
    struct adapter *a = place("'method': 'rosa', 'r': 2, 'd': 0.1, 'schedule': 'wl4'");

    (void)state;
    assert_int_equal(rosa_phases.start(a, 100, &err), GRAFT_OK);
    assert_int_equal(rosa_phases.disk(a), 3 * 4096);
    assert_int_equal(rosa_phases.passes(a, 3), 0);
    begin(a, 4);
    assert_int_equal(entries("."), 0);
    assert_int_equal(rosa_phases.gathered(a, false, &err), GRAFT_OK);
    assert_int_equal(rosa_phases.passes(a, 4), 1); /* not done: wanted still */
    assert_true(rosa_phases.step(a, 4));
    assert_null(own(a, 0)->sparse.row_offs);
    assert_int_equal(rosa_phases.gather(a, "nowhere", &err), GRAFT_EWRITE);
    assert_string_equal(err.msg,
                        "nowhere: cannot make a temporary file in it: No such file or directory");
    adapter_free(a);
}

static size_t kib_of(const char *key)
{
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "re");

    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)))
            kib = strtoul(line + strlen(key), NULL, 10);
    fclose(f);
    return kib;
}

/* The sums of many weights, each smaller than what is let go at a time, are never all in memory. */
static void choosing_keeps_the_sums_out_of_memory(void **state)
{
    enum { MANY = 64, SIDE = 512, MIB = MANY * SIDE * SIDE * 4 >> 20 };
    static struct slot many[MANY];
    const struct slot_list list = { .slot = many, .count = MANY, .model_type = "llama" };
    const struct adapter_config c = config("'method': 'spa', 'd': 0.001");
    FILE *clear = fopen("/proc/self/clear_refs", "we");
    struct adapter *a = NULL;
    size_t before;

    (void)state;
    for (int i = 0; i < MANY; i++)
        many[i] = (struct slot){
            .name = names[0], .site = SITE_LINEAR, .index = i, .in = SIDE, .out = SIDE
        };
    assert_int_equal(adapter_new(&c, &list, true, &a, &err), GRAFT_OK);
    begin(a, 0);
    assert_true(clear && fputs("5", clear) > 0 && fclose(clear) == 0); /* the peak begins anew */
    before = kib_of("VmRSS:");
    assert_int_equal(rosa_phases.gathered(a, true, &err), GRAFT_OK);
    assert_in_range(kib_of("VmHWM:") - before, 0, MIB * 1024 / 2);
    adapter_free(a);
}

/* ---- phases */

static void values_wake_when_the_warm_up_is_over(void **state)
{
    struct adapter *a = place("'method': 'rosa', 'r': 2, 'd': 0.1, 'schedule': 'wl4'");

    (void)state;
    begin(a, 4);
    finish(a);
    assert_true(a->idle[2] && !own(a, 0)->sparse.row_offs);
    assert_true(rosa_phases.step(a, 4));
    assert_true(!a->idle[2] && own(a, 0)->sparse.row_offs == a->site[0].param[ROSA_ROW_OFFS]->data);
    adapter_free(a);
}

static void a_warm_up_that_outlasts_the_run_is_refused(void **state)
{
    struct adapter *a = place("'method': 'rosa', 'r': 2, 'd': 0.1");

    (void)state;
    assert_int_equal(rosa_phases.start(a, 65, &err), GRAFT_OK);
    assert_int_equal(rosa_phases.start(a, 64, &err), GRAFT_EARG);
    assert_string_equal(err.msg,
                        "adapter.schedule wl64: the run has 64 steps, so the sparse part would "
                        "never train; take a shorter warm-up, df, or more steps");
    adapter_free(a);
}

/* ---- files */

/* An adapter with places, and with numbers everywhere. */
static struct adapter *chosen(const char *keys)
{
    struct adapter *a = place(keys);

    begin(a, a->config.warmup);
    for (int i = 0; i < SLOTS; i++)
        noise(sums(a, i), ELEMS, (uint32_t)i);
    finish(a);
    assert_true(a->config.terminate_after_mask_generation || rosa_phases.step(a, a->config.warmup));
    for (int i = 0; i < a->param_count; i++)
        noise(a->param[i]->data,
              a->param[i]->dim[0] * (a->param[i]->ndim > 1 ? a->param[i]->dim[1] : 1),
              50 + (uint32_t)i);
    return a;
}

#define KEYS "'method': 'rosa', 'r': 2, 'd': 0.1, 'schedule': 'df'"

static void same_places(const struct adapter *a, const struct adapter *b)
{
    for (int i = 0; i < SLOTS; i++)
        for (int p = ROSA_ROW_OFFS; p <= ROSA_COL_IDX; p++)
            assert_memory_equal(a->site[i].param[p]->data, b->site[i].param[p]->data,
                                sizeof(int32_t) * (size_t)a->site[i].param[p]->dim[0]);
}

static void what_is_saved_comes_back_bit_for_bit(void **state)
{
    struct adapter *a = chosen(KEYS), *b = place(KEYS);
    struct store s;

    (void)state;
    if (dir_make("a", &err) || adapter_save(a, "a", &err) || adapter_load_values(b, "a", &err))
        fail_msg("%s", err.msg);
    same_places(a, b);
    for (int i = 0; i < a->param_count; i++)
        assert_memory_equal(a->param[i]->data, b->param[i]->data, sizeof(float) * 38);
    assert_ptr_equal(own(b, 0)->sparse.row_offs, b->site[0].param[ROSA_ROW_OFFS]->data);
    assert_false(b->idle[2]);
    assert_int_equal(rosa_phases.start(b, 3, &err), GRAFT_OK);
    assert_int_equal(rosa_phases.passes(b, 0), 0); /* no new choice */
    if (safetensors_open("a/adapter_model.safetensors", &s, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(s.count, 5 * SLOTS);
    assert_string_equal(s.tensor[5].name,
                        "base_model.model.model.layers.0.self_attn.q_proj.rosa_A.weight");
    assert_string_equal(s.tensor[7].name,
                        "base_model.model.model.layers.0.self_attn.q_proj.rosa_spa.col_idx");
    assert_int_equal(s.tensor[7].mat.type, QT_I32);
    assert_string_equal(s.tensor[8].name,
                        "base_model.model.model.layers.0.self_attn.q_proj.rosa_spa.row_offs");
    assert_int_equal(s.tensor[8].dim[0], OUT + 1);
    assert_string_equal(s.tensor[9].name,
                        "base_model.model.model.layers.0.self_attn.q_proj.rosa_spa.values");
    assert_int_equal(s.tensor[9].mat.type, QT_F32);
    store_release(&s);
    adapter_free(a);
    adapter_free(b);
}

/* Saved in its warm-up: no places, and a run that goes on from it chooses them. */
static void an_adapter_without_places_is_one_too(void **state)
{
    struct adapter *a = place(KEYS), *b = place(KEYS);

    (void)state;
    if (dir_make("a", &err) || adapter_save(a, "a", &err) || adapter_load_values(b, "a", &err))
        fail_msg("%s", err.msg);
    assert_true(!own(b, 0)->sparse.row_offs && b->idle[2]);
    begin(b, 0);
    assert_int_equal(rosa_phases.gathered(b, false, &err), GRAFT_OK);
    adapter_free(a);
    adapter_free(b);
}

static void masks_are_written_and_taken(void **state)
{
    struct adapter *a = chosen("'method': 'rosa', 'r': 2, 'd': 0.1, 'schedule': 'df', "
                               "'mask_save_path': 'm.safetensors', "
                               "'terminate_after_mask_generation': true");
    struct adapter *b = place(KEYS ", 'mask_load_path': 'm.safetensors'");
    struct adapter *c = place("'method': 'spa', 'd': 0.1, 'mask_load_path': 'a'");

    (void)state;
    assert_false(rosa_phases.step(a, 0)); /* the run ends */
    if (dir_make("a", &err) || adapter_save(a, "a", &err))
        fail_msg("%s", err.msg);
    if (rosa_phases.start(b, 3, &err) || rosa_phases.start(c, 3, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(rosa_phases.passes(b, 0), 0);
    assert_true(rosa_phases.step(b, 0) && own(b, 2)->sparse.row_offs);
    same_places(a, b);
    for (int i = 0; i < SLOTS; i++)
        assert_memory_equal(a->site[i].param[ROSA_COL_IDX]->data,
                            c->site[i].param[ROSA_COL_IDX]->data, sizeof(int32_t) * 38);
    adapter_free(a);
    adapter_free(b);
    adapter_free(c);
}

static void mask_fails(const char *keys, enum graft_status code, const char *message)
{
    struct adapter *a = place(keys);
    const char *tail;

    assert_int_equal(rosa_phases.start(a, 3, &err), code);
    tail = strstr(err.msg, "m.safetensors"); /* behind this machine's folder */
    assert_string_equal(tail ? tail : err.msg, message);
    adapter_free(a);
}

static void masks_that_do_not_fit_are_refused(void **state)
{
    struct adapter *a =
        chosen("'method': 'spa', 'd': 0.1, 'mask_save_path': 'm.safetensors', 'exclude_modules': "
               "['nothing']");

    (void)state;
    mask_fails("'method': 'spa', 'd': 0.2, 'mask_load_path': 'm.safetensors'", GRAFT_ESHAPE,
               "m.safetensors: base_model.model.model.layers.0.self_attn.q_proj.rosa_spa.col_idx "
               "has 38 entries, wanted 76; is it of another base, or of another adapter.d?");
    slot[2].name = "model.layers.1.self_attn.k_proj";
    mask_fails("'method': 'spa', 'd': 0.1, 'mask_load_path': 'm.safetensors'", GRAFT_EFORMAT,
               "m.safetensors: there is no "
               "base_model.model.model.layers.1.self_attn.k_proj.rosa_spa.row_offs");
    slot[2].name = names[2];
    ((int32_t *)a->site[0].param[ROSA_COL_IDX]->data)[0] = IN;
    assert_int_equal(rosa_phases.gathered(a, false, &err), GRAFT_OK);
    adapter_free(a);
}

/* Files of others: whatever stands in them must not lead a kernel astray. */
static void hostile_places_are_refused(void **state)
{
    static const struct {
        int param;
        int64_t at;
        int32_t value;
        const char *message;
    } cases[] = {
        { ROSA_ROW_OFFS, 0, 1, "row_offs[0] is 1, wanted 0" },
        { ROSA_ROW_OFFS, 3, -1, "row_offs[3] is -1, wanted no less than the one before" },
        { ROSA_ROW_OFFS, OUT, 39, "row_offs ends with 39, there are 38 values" },
        { ROSA_ROW_OFFS, OUT - 1, 1 << 30,
          "row_offs[16] is 38, wanted no less than the one before" },
        { ROSA_COL_IDX, 5, -1, NULL },
        { ROSA_COL_IDX, 37, IN, NULL },
        { ROSA_COL_IDX, 0, IN - 1, NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct adapter *a = chosen(KEYS), *b = place(KEYS);

        ((int32_t *)a->site[0].param[cases[i].param]->data)[cases[i].at] = cases[i].value;
        if (dir_make("a", &err) || adapter_save(a, "a", &err))
            fail_msg("%s", err.msg);
        assert_int_equal(adapter_load_values(b, "a", &err), GRAFT_EFORMAT);
        if (!strstr(err.msg, cases[i].message ? cases[i].message : "wanted columns of row"))
            fail_msg("%s", err.msg);
        adapter_free(a);
        adapter_free(b);
    }
}

/* ---- what it computes */

enum { N = 7 };

/* One site alone: y = x W^T + s B A x + S x with W zero, loss = sum of dy * y. */
static struct pass {
    struct graph *g;
    float x[N * IN], dx[N * IN], dy[N * OUT], table[IN], w[ELEMS];
    struct tensor tx, tdy, ttable, tw;
    double dyd[N * OUT];
} one;

static void run_one(struct adapter *a)
{
    const struct graph_opts opts = { .max_tokens = N, .max_segments = 1, .backward = true };
    const int64_t start[2] = { 0, N };
    int32_t id[N], pos[N] = { 0 };
    struct plan_report plan;
    struct tensor *x, *y;

    memset(&one, 0, sizeof one);
    noise(one.x, N * IN, 91);
    noise(one.dy, N * OUT, 92);
    for (int i = 0; i < N; i++)
        id[i] = -1 - i;
    for (int i = 0; i < N * OUT; i++) /* a gate multiplies by silu */
        one.dyd[i] = (double)one.dy[i] / (1 + exp(-(double)one.dy[i]));
    one.tx = (struct tensor){ .ndim = 2, .dim = { N, IN }, .data = one.x, .grad = one.dx };
    one.tdy = (struct tensor){ .ndim = 2, .dim = { N, OUT }, .data = one.dy, .per_token = true };
    one.ttable = (struct tensor){ .ndim = 2, .dim = { 1, IN }, .data = one.table };
    one.tw = (struct tensor){ .ndim = 2, .dim = { OUT, IN }, .data = one.w };
    assert_int_equal(graph_new(&opts, &one.g, &err), GRAFT_OK);
    x = op_embedding(one.g, graph_leaf(one.g, &one.ttable), graph_leaf(one.g, &one.tx), 1.0f);
    y = op_linear(one.g, x, graph_leaf(one.g, &one.tw), NULL, NULL, 1.0f);
    y = adapter_apply(a, &slot[0], one.g, x, y);
    y = op_gate(one.g, graph_leaf(one.g, &one.tdy), y, ACT_SILU);
    if (graph_error(one.g, &err) || graph_plan(one.g, &y, 1, 0, &plan, &err) ||
        graph_allocate(one.g, NULL, &err))
        fail_msg("%s", err.msg);
    graph_forward(
        one.g, &(struct graph_input){
                   .n = N, .id = id, .pos = pos, .segments = 1, .start = start, .training = true });
    graph_backward(one.g, 1.0f);
    graph_free(one.g);
}

static void near(const char *what, const float *found, const double *want, int n)
{
    double most = 0;

    for (int i = 0; i < n; i++)
        most = fmax(most, fabs(want[i]));
    for (int i = 0; i < n; i++)
        if (!(fabs((double)found[i] - want[i]) <= 2e-6 * most))
            fail_msg("%s[%d] is %.9g, wanted %.9g", what, i, (double)found[i], want[i]);
}

/* G = dy^T x is the weight's gradient: dS is G at the places, dA = s B^T G, dB = s G A^T, and dx =
 * dy (S + s B A). */
static void gradients_are_those_of_the_formulas(void **state)
{
    struct adapter *a = chosen("'method': 'rosa', 'r': 3, 'lora_alpha': 7, 'd': 0.1, "
                               "'schedule': 'df'");
    const struct adapter_site *s = &a->site[0];
    const float *A = s->param[LORA_A]->data, *B = s->param[LORA_B]->data;
    const float *v = s->param[ROSA_VALUES]->data;
    const int32_t *offs = s->param[ROSA_ROW_OFFS]->data, *cols = s->param[ROSA_COL_IDX]->data;
    static double G[ELEMS], W[ELEMS], dv[38], dA[3 * IN], dB[OUT * 3], dx[N * IN];

    (void)state;
    run_one(a);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            for (int t = 0; t < N; t++)
                G[o * IN + i] += one.dyd[t * OUT + o] * (double)one.x[t * IN + i];
            for (int r = 0; r < 3; r++) {
                W[o * IN + i] += 7.0 / 3 * (double)B[o * 3 + r] * (double)A[r * IN + i];
                dA[r * IN + i] += 7.0 / 3 * (double)B[o * 3 + r] * G[o * IN + i];
                dB[o * 3 + r] += 7.0 / 3 * G[o * IN + i] * (double)A[r * IN + i];
            }
        }
    for (int o = 0; o < OUT; o++)
        for (int k = offs[o]; k < offs[o + 1]; k++) {
            W[o * IN + cols[k]] += (double)v[k];
            dv[k] = G[o * IN + cols[k]];
        }
    for (int t = 0; t < N; t++)
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++)
                dx[t * IN + i] += one.dyd[t * OUT + o] * W[o * IN + i];
    near("dS", s->param[ROSA_VALUES]->grad, dv, 38);
    near("dA", s->param[LORA_A]->grad, dA, 3 * IN);
    near("dB", s->param[LORA_B]->grad, dB, OUT * 3);
    near("dx", one.dx, dx, N * IN);
    adapter_free(a);
}

/* What is gathered over two passes is the sum of their squared gradients. */
static void gathering_adds_squared_gradients_of_passes(void **state)
{
    struct adapter *a = place("'method': 'spa', 'd': 0.1, 'spa_num_grads': 2");
    static double want[ELEMS];
    static float seen[ELEMS];

    (void)state;
    begin(a, 0);
    run_one(a);
    run_one(a);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            double g = 0;

            for (int t = 0; t < N; t++)
                g += one.dyd[t * OUT + o] * (double)one.x[t * IN + i];
            want[o * IN + i] = 2 * g * g;
        }
    near("G", sums(a, 0), want, ELEMS);
    memcpy(seen, sums(a, 0), sizeof seen);
    finish(a);
    check_choice(&a->site[0], seen);
    adapter_free(a);
}

static void merging_adds_the_product_and_the_values(void **state)
{
    struct adapter *a = chosen("'method': 'rosa', 'r': 3, 'lora_alpha': 7, 'd': 0.1, "
                               "'schedule': 'df'");
    const struct adapter_site *s = &a->site[1];
    const float *x = s->param[LORA_A]->data, *y = s->param[LORA_B]->data;
    const float *v = s->param[ROSA_VALUES]->data;
    const int32_t *offs = s->param[ROSA_ROW_OFFS]->data, *cols = s->param[ROSA_COL_IDX]->data;
    double want[4 * IN];
    float w[4 * IN];

    (void)state;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < IN; k++) {
            want[i * IN + k] = (double)(w[i * IN + k] = (float)(i * IN + k) / 7);
            for (int r = 0; r < 3; r++)
                want[i * IN + k] += 7.0 / 3 * (double)y[(5 + i) * 3 + r] * (double)x[r * IN + k];
        }
    for (int i = 0; i < 4; i++)
        for (int k = offs[5 + i]; k < offs[6 + i]; k++)
            want[i * IN + cols[k]] += (double)v[k];
    a->ops->merge_rows(s, 5, 4, w);
    for (int i = 0; i < 4 * IN; i++)
        assert_true(fabs((double)w[i] - want[i]) < 1e-5);
    adapter_free(a);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_have_the_names_of_the_fork),
        cmocka_unit_test(settings_that_train_nothing_or_contradict_are_refused),
        IN_FOLDER(configs_come_back),
        cmocka_unit_test(a_site_has_as_many_values_as_the_fork_gives_it),
        cmocka_unit_test(the_low_rank_begins_as_that_of_lora),
        cmocka_unit_test(parts_that_do_not_train_have_no_gradient),
        IN_FOLDER(the_largest_of_each_matrix_are_chosen),
        IN_FOLDER(of_equal_ones_the_first_are_chosen),
        IN_FOLDER(a_gradient_that_is_no_number_ends_the_choice),
        IN_FOLDER(gathering_leaves_nothing_on_disk),
        IN_FOLDER(choosing_keeps_the_sums_out_of_memory),
        IN_FOLDER(values_wake_when_the_warm_up_is_over),
        cmocka_unit_test(a_warm_up_that_outlasts_the_run_is_refused),
        IN_FOLDER(what_is_saved_comes_back_bit_for_bit),
        IN_FOLDER(an_adapter_without_places_is_one_too),
        IN_FOLDER(masks_are_written_and_taken),
        IN_FOLDER(masks_that_do_not_fit_are_refused),
        IN_FOLDER(hostile_places_are_refused),
        IN_FOLDER(gradients_are_those_of_the_formulas),
        IN_FOLDER(gathering_adds_squared_gradients_of_passes),
        IN_FOLDER(merging_adds_the_product_and_the_values),
    };

    return cmocka_run_group_tests(tests, make_slots, free_memory);
}
