/* tests/train/golden_train.h - runs of the whole program over the golden models. */
#ifndef TESTS_GOLDEN_TRAIN_H
#define TESTS_GOLDEN_TRAIN_H

#include "golden/models.h"

#include "io/safetensors.h"
#include "train/evaluate.h"
#include "train/run.h"

enum { MAX_STEPS = 64 };

/* What a run told its display. */
struct told {
    int64_t steps, tokens[MAX_STEPS], input_tokens[MAX_STEPS];
    int64_t allocations[MAX_STEPS]; /* since the program began, when the step ended */
    double loss[MAX_STEPS], lr[MAX_STEPS], grad_norm[MAX_STEPS];
    struct memory_plan memory;
};

static inline void hear_start(void *user, const struct run_info *info)
{
    struct told *t = user;

    t->memory = info->memory;
    t->steps = 0; /* a second stage counts anew */
}

static inline void hear_step(void *user, const struct step_info *s)
{
    struct told *t = user;

    assert_in_range(s->step, 1, MAX_STEPS);
    assert_int_equal(s->step, ++t->steps);
    t->loss[s->step - 1] = s->loss;
    t->lr[s->step - 1] = s->lr;
    t->grad_norm[s->step - 1] = s->grad_norm;
    t->tokens[s->step - 1] = s->tokens;
    t->input_tokens[s->step - 1] = s->input_tokens;
    t->allocations[s->step - 1] = mem_count();
}

/* The arithmetic that make_models.py has PyTorch do: constant rate, no clipping, file order. */
#define GOLDEN_CONFIG                                                                              \
    "base: " GRAFT_GOLDEN "/models/llama\n"                                                        \
    "quant: none\n"                                                                                \
    "compute: f32\n"                                                                               \
    "adapter: {method: lora}\n"                                                                    \
    "data: {train: " GRAFT_GOLDEN "/models/data.jsonl, format: tokens, shuffle: false, "           \
    "max_length: 64}\n"                                                                            \
    "train: {steps: 50, batch_size: 2, gradient_accumulation: 2}\n"                                \
    "optim: {lr: 3.0e-3, weight_decay: 0.01, schedule: constant, warmup: 0, max_grad_norm: 0}\n"

/* Train with GOLDEN_CONFIG and the settings (NULL-terminated), into the folder `output`. */
static inline enum graft_status try_run(const char *output, const char *const *set,
                                        struct told *told, struct graft_err *err)
{
    struct config_input in = {
        .file = "golden.yaml", .set = set, .output = output, .need_output = true
    };
    const struct run_hooks hooks = { told, hear_start, hear_step, NULL, NULL };
    struct run_result result;
    struct run_config c;
    enum graft_status st;

    memset(told, 0, sizeof *told);
    assert_int_equal(file_write(in.file, GOLDEN_CONFIG, strlen(GOLDEN_CONFIG), err), GRAFT_OK);
    while (set[in.set_count])
        in.set_count++;
    GRAFT_TRY(config_load(&in, &c, err));
    st = train_run(&c, true, &hooks, &result, err);
    run_config_release(&c);
    if (!st) {
        assert_string_equal(result.status, "finished");
        assert_int_equal(result.steps, told->steps);
    }
    return st;
}

static inline struct told golden_run(const char *output, const char *const *set)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct told told;

    if (try_run(output, set, &told, &err))
        fail_msg("%s", err.msg);
    return told;
}

#define RUN(output, ...) golden_run(output, (const char *const[]){ __VA_ARGS__, NULL })

static inline struct store open_store(const char *path)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct store s = { 0 };

    if (safetensors_open(path, &s, &err))
        fail_msg("%s", err.msg);
    return s;
}

/* Values of an f32 tensor of a file. */
static inline const float *values_of(const struct store *s, const char *name, int64_t *n)
{
    const struct stored_tensor *t = store_find(s, name);

    if (!t)
        fail_msg("%s: there is no %s", s->path, name);
    assert_int_equal(t->mat.type, QT_F32);
    *n = qmat_elems(&t->mat);
    return t->mat.data;
}

/* The largest distance of two files' tensors, which have the same names. */
static inline double stores_apart(const char *path_a, const char *path_b)
{
    struct store a = open_store(path_a), b = open_store(path_b);
    double worst = 0;

    assert_int_equal(a.count, b.count);
    for (int64_t i = 0; i < a.count; i++) {
        int64_t n, m;
        const float *x = values_of(&a, a.tensor[i].name, &n);
        const float *y = values_of(&b, a.tensor[i].name, &m);

        assert_int_equal(n, m);
        worst = fmax(worst, distance(x, y, n));
    }
    store_release(&a);
    store_release(&b);
    return worst;
}

static inline void assert_same_file(const char *a, const char *b)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct mapped_file x, y;

    if (file_map(a, &x, &err) || file_map(b, &y, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    file_unmap(&x);
    file_unmap(&y);
}

/* Losses of data.jsonl's records as `graft eval` gives them. `quant` as on the command line. */
static inline struct evaluate_result golden_eval(const char *base, const char *adapter,
                                                 const char *quant)
{
    struct evaluate_opts opts = {
        .base = base,
        .adapter = &adapter,
        .adapters = adapter != NULL,
        .data = GRAFT_GOLDEN "/models/data.jsonl",
        .format = RECORD_TOKENS,
        .compute = COMPUTE_F32,
    };
    struct graft_err err = { GRAFT_OK, "" };
    struct evaluate_result r;

    if (quant_config_parse(quant, &opts.quant, &err) || evaluate_run(&opts, &r, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(r.records, GOLDEN_RECORDS);
    return r;
}

static inline void check_eval(const char *what, const char *base, const char *adapter,
                              const char *quant, const json_t *nll, double bound)
{
    struct evaluate_result r = golden_eval(base, adapter, quant);

    assert_near(what, worst_of(r.per_record, nll, GOLDEN_RECORDS), bound);
    evaluate_result_release(&r);
}

#endif
