/* bench/step - training steps over NF4 in f32: tokens a second, share of the machine's matrix rate,
 * peak memory against the plan.
 *
 * usage: step [--tokens N] [--steps N] [--method NAME]... [BASE...]
 *   BASE     a folder, a .gguf, a .h5, or random:100m, random:1b
 *   --method lora (when none is given), dora, rosa, spa, ia3: a line each, with its step's time
 *            against the first; peaks are those of the process, so of the largest so far. RoSA's
 *            density is 0.006, SpA has as many values as LoRA of rank 16 over SmolLM2-135M
 *
 * A token costs 4 N flops (2 N forward, 2 N backward; N = parameters in products), so the share is
 * 4 N * tokens/s / rate. Two rates are measured in the same run, on the base's own shapes:
 * OpenBLAS' sgemm (with the name of the core it chose) and Graft's own product of f32 weights. */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/gemm.h"
#include "optim/optim.h"
#include "train/base.h"

char *openblas_get_corename(void);

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int fail(const struct graft_err *err)
{
    fprintf(stderr, "step: %s\n", err->msg);
    return 1;
}

/* ---- random bases: every tensor looks into one buffer, so that a size costs no disk and no memory
 * ---- */

static const struct {
    const char *name, *config;
} random_bases[] = {
    { "random:100m",
      "{\"model_type\": \"llama\", \"vocab_size\": 32000, \"hidden_size\": 768, "
      "\"intermediate_size\": "
      "2048, \"num_hidden_layers\": 11, \"num_attention_heads\": 12, \"num_key_value_heads\": 12, "
      "\"max_position_embeddings\": 8192, \"tie_word_embeddings\": true}" },
    { "random:1b",
      "{\"model_type\": \"llama\", \"vocab_size\": 32000, \"hidden_size\": 2048, "
      "\"intermediate_size\": "
      "5632, \"num_hidden_layers\": 21, \"num_attention_heads\": 32, \"num_key_value_heads\": 8, "
      "\"max_position_embeddings\": 8192, \"tie_word_embeddings\": true}" },
};

struct random_base {
    struct checkpoint ck;
    struct store store;
    uint16_t *bits;
};

static void add_tensor(struct random_base *r, const char *name, int64_t rows, int64_t cols)
{
    struct stored_tensor *t = &r->store.tensor[r->store.count++];

    t->name = arena_strdup(&r->ck.mem, name);
    t->ndim = rows == 1 ? 1 : 2;
    t->dim[0] = rows == 1 ? cols : rows;
    t->dim[1] = cols;
    t->bytes = (size_t)(rows * cols) * 2;
    t->mat = (struct qmat){ .type = QT_BF16, .rows = rows, .cols = cols, .data = r->bits };
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct stored_tensor *)a)->name, ((const struct stored_tensor *)b)->name);
}

static void add_layers(struct random_base *r)
{
    const struct model_config *c = &r->ck.config;
    const int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const int64_t rows[LIN_COUNT] = { q, kv, kv, c->hidden, c->ffn, c->ffn, c->hidden };
    const int64_t cols[LIN_COUNT] = { c->hidden, c->hidden, c->hidden, q,
                                      c->hidden, c->hidden, c->ffn };
    char name[128];

    for (int64_t i = 0; i < c->layers; i++) {
        for (int k = 0; k < LIN_COUNT; k++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)i, c->arch->linear[k]);
            add_tensor(r, name, rows[k], cols[k]);
        }
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)i, c->arch->attn_norm);
        add_tensor(r, name, 1, c->hidden);
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)i, c->arch->ffn_norm);
        add_tensor(r, name, 1, c->hidden);
    }
}

static enum graft_status make_random(const char *config, struct random_base *r,
                                     struct graft_err *err)
{
    const struct rng_key key = { 7, RNG_TEST, 0, 0 };
    json_t *json = NULL;
    int64_t most;

    memset(r, 0, sizeof *r);
    r->ck.kind = CHECKPOINT_FOLDER;
    r->ck.path = "random";
    r->ck.store = &r->store;
    GRAFT_TRY(json_read("random", config, strlen(config), &json, err));
    GRAFT_TRY(model_config_from_json("random", json, &r->ck.mem, &r->ck.config, err));
    json_decref(json);
    most = r->ck.config.vocab * r->ck.config.hidden;
    r->bits = arena_array(&r->ck.mem, (size_t)most, sizeof *r->bits);
    r->store.tensor =
        arena_array(&r->ck.mem, (size_t)r->ck.config.layers * 9 + 2, sizeof *r->store.tensor);
    if (!r->bits || !r->store.tensor)
        return graft_fail_nomem(err, "random weights", (size_t)most * 2);
    for (int64_t i = 0; i < most; i++) {
        const float x = (2.0f * rng_uniform(key, (uint64_t)i) - 1.0f) * 0.04f;
        uint32_t u;

        memcpy(&u, &x, 4);
        r->bits[i] = (uint16_t)(u >> 16);
    }
    add_tensor(r, "model.embed_tokens.weight", r->ck.config.vocab, r->ck.config.hidden);
    add_layers(r);
    add_tensor(r, "model.norm.weight", 1, r->ck.config.hidden);
    qsort(r->store.tensor, (size_t)r->store.count, sizeof *r->store.tensor, by_name);
    return GRAFT_OK;
}

/* ---- matrix rates on the shapes of one block ---- */

static double sgemm_seconds(int64_t n, int64_t out, int64_t in, const float *x, const float *w,
                            float *y)
{
    double best = 1e9;

    for (int i = 0; i < 4; i++) {
        const double t = now();

        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)out, (int)in, 1, x,
                    (int)in, w, (int)in, 0, y, (int)out);
        best = fmin(best, now() - t);
    }
    return best;
}

static double own_seconds(int64_t n, int64_t out, int64_t in, const float *x, const float *w,
                          float *y, void *scratch)
{
    const struct qmat m = { .type = QT_F32, .rows = out, .cols = in, .data = w };
    double best = 1e9;

    for (int i = 0; i < 4; i++) {
        const double t = now();

        gemm_xwt(GEMM_F32, n, 1, (struct gemm_mat){ x, in, 0 }, &m, 0, y, out, scratch);
        best = fmin(best, now() - t);
    }
    return best;
}

/* Flops a second over all linears of a block, the time-weighted rate. */
static void rates(const struct model *m, int64_t n, double *blas, double *own)
{
    double flops = 0, t_blas = 0, t_own = 0;

    for (int k = 0; k < LIN_COUNT; k++) {
        const int64_t out = m->layer[0].linear[k].w.rows, in = m->layer[0].linear[k].w.cols;
        float *x = mem_array((size_t)(n * in), 4), *w = mem_array((size_t)(out * in), 4);
        float *y = mem_array((size_t)(n * out), 4);
        void *scratch = mem_alloc(gemm_scratch(n, in, out));

        for (int64_t i = 0; i < n * in; i++)
            x[i] = (float)(i % 17) * 0.01f;
        for (int64_t i = 0; i < out * in; i++)
            w[i] = (float)(i % 13) * 0.01f;
        t_blas += sgemm_seconds(n, out, in, x, w, y);
        t_own += own_seconds(n, out, in, x, w, y, scratch);
        flops += 2.0 * (double)n * (double)out * (double)in;
        mem_free(x);
        mem_free(w);
        mem_free(y);
        mem_free(scratch);
    }
    *blas = flops / t_blas;
    *own = flops / t_own;
}

/* ---- one base ---- */

struct rows {
    int32_t *id, *target, *pos;
    int64_t *start;
    int64_t n, segments;
};

static void make_rows(struct rows *r, int64_t tokens, int64_t vocab, struct arena *mem)
{
    const int64_t length = 512;

    r->n = tokens;
    r->segments = (tokens + length - 1) / length;
    r->id = arena_array(mem, (size_t)tokens, 4);
    r->target = arena_array(mem, (size_t)tokens, 4);
    r->pos = arena_array(mem, (size_t)tokens, 4);
    r->start = arena_array(mem, (size_t)r->segments + 1, 8);
    for (int64_t i = 0; i < tokens; i++) {
        r->id[i] = (int32_t)(i * 7919 % vocab);
        r->pos[i] = (int32_t)(i % length);
    }
    for (int64_t i = 0; i < tokens; i++)
        r->target[i] = i + 1 < tokens && r->pos[i + 1] ? r->id[i + 1] : -1;
    for (int64_t s = 0; s <= r->segments; s++)
        r->start[s] = s * length < tokens ? s * length : tokens;
}

static void list_params(const struct adapter *a, struct optim_param *p)
{
    for (int i = 0; i < a->param_count; i++) {
        const struct tensor *t = a->param[i];

        p[i] = (struct optim_param){ t->data, t->grad, t->dim[0] * (t->ndim > 1 ? t->dim[1] : 1),
                                     a->lr_ratio[i] };
    }
}

/* What is measured: from the command line. */
static struct {
    const char *method[8];
    int methods, steps;
    int64_t tokens;
} asked = { .steps = 3, .tokens = 2048 };

static struct adapter_config config_of(const char *method)
{
    struct adapter_config c = { .method = method, .init_ia3_ones = true };

    if (!strcmp(method, "ia3")) /* PEFT's default modules */
        return c;
    if (!strcmp(method, "rosa") || !strcmp(method, "spa")) {
        const bool alone = !strcmp(method, "spa");

        c.d = alone ? 0.046 : 0.006;
        c.schedule = alone ? ROSA_SPARSE : ROSA_BOTH;
        c.spa_num_grads = 1;
        c.mean_squared = true;
        if (alone) {
            c.target_modules.kind = TARGETS_ALL_LINEAR;
            return c;
        }
    }
    c.r = 16;
    c.lora_alpha = 32;
    c.target_modules.kind = TARGETS_ALL_LINEAR;
    return c;
}

/* A method with phases is measured with all of it awake; the pass that this takes is told apart. */
static enum graft_status wake(struct adapter *a, struct net *net, const struct graph_input *in,
                              struct graft_err *err)
{
    const struct adapter_phases *p = a->ops->phases;
    const double start = now();
    double passed;

    if (!p)
        return GRAFT_OK;
    GRAFT_TRY(p->start(a, INT64_MAX, err));
    GRAFT_TRY(p->gather(a, P_tmpdir, err));
    graph_forward(net->g, in);
    graph_backward(net->g, 1.0f / (float)in->n);
    passed = now() - start;
    GRAFT_TRY(p->gathered(a, true, err));
    p->step(a, 0);
    printf("%-14s %-6s choosing places: a pass of %.3f s, a choice of %.3f s\n", "", a->ops->name,
           passed, now() - start - passed);
    return GRAFT_OK;
}

/* *first: seconds of the first method's step, 0 before it. */
static enum graft_status measure(const char *name, const char *method, const struct model *m,
                                 size_t before, double *first, struct graft_err *err)
{
    const struct adapter_config config = config_of(method);
    const int64_t tokens = asked.tokens;
    const struct net_opts opts = {
        .max_tokens = tokens, .max_segments = tokens, .backward = true, .mode = NET_LOSS
    };
    const struct optim_opts o = { &adamw_def, 0.9, 0.999, 1e-8, 0 };
    const double n = (double)m->params;
    struct adapter *a = NULL;
    struct optim_param *p;
    struct optim *optim = NULL;
    struct net net = { 0 };
    struct arena mem = ARENA_INIT;
    struct rows r;
    double best = 1e9, blas, own;
    size_t plan, peak;

    GRAFT_TRY(adapter_new(&config, &m->slots, true, &a, err));
    GRAFT_TRY(adapter_init(a, 1, err));
    p = arena_array(&mem, (size_t)a->param_count, sizeof *p);
    list_params(a, p);
    GRAFT_TRY(optim_new(&o, p, a->param_count, &optim, err));
    GRAFT_TRY(net_make(m, a, &opts, &net, err));
    make_rows(&r, tokens, m->config->vocab, &mem);
    const struct graph_input in = { .n = r.n,
                                    .id = r.id,
                                    .target = r.target,
                                    .pos = r.pos,
                                    .segments = r.segments,
                                    .start = r.start,
                                    .training = true };
    GRAFT_TRY(wake(a, &net, &in, err));
    for (int i = 0; i < asked.steps; i++) {
        const double t = now();

        grad_clear(p, a->param_count);
        graph_forward(net.g, &in);
        graph_backward(net.g, 1.0f / (float)r.n);
        grad_clip(p, a->param_count, 1.0);
        optim_step(optim, 1e-4);
        best = fmin(best, now() - t);
    }
    peak = peak_memory();
    plan = m->weight_bytes + (size_t)a->param_elems * 8 + adapter_fixed_bytes(a) +
           optim_state_bytes(&o, p, a->param_count) + net.plan.slab + net.plan.scratch;
    net_release(&net);
    rates(m, tokens, &blas, &own);
    *first = *first > 0 ? *first : best;
    printf("%-14s %-6s %6.1f M  %8.1f tokens/s  %6.1f GFLOP/s | sgemm %6.1f (%s): share %.2f | own "
           "f32 "
           "%6.1f: share %.2f | "
           "plan %.0f MiB, peak %.0f MiB (%+.1f %%) | step %.3f s, %.3f times %s\n",
           name, method, n / 1e6, (double)tokens / best, 4e-9 * n * (double)tokens / best,
           blas / 1e9, openblas_get_corename(), 4 * n * (double)tokens / best / blas, own / 1e9,
           4 * n * (double)tokens / best / own, (double)plan / 1048576,
           (double)(peak - before) / 1048576, 100.0 * ((double)(peak - before) / (double)plan - 1),
           best, best / *first, asked.method[0]);
    optim_free(optim);
    adapter_free(a);
    arena_release(&mem);
    return GRAFT_OK;
}

static enum graft_status all_methods(const char *name, const struct model *m, size_t before,
                                     struct graft_err *err)
{
    double first = 0;

    for (int i = 0; i < asked.methods; i++)
        GRAFT_TRY(measure(name, asked.method[i], m, before, &first, err));
    return GRAFT_OK;
}

static enum graft_status one_base(const char *name, struct graft_err *err)
{
    const struct quant_config nf4 = { QUANT_TYPE, { QT_NF4, 64, true } };
    const struct weight_choice choice = { WEIGHTS_CODES, { QT_NF4, 64, true } };
    struct base b = { 0 };
    struct random_base r;
    struct model *m = NULL;
    size_t before = peak_memory();

    for (size_t i = 0; i < sizeof random_bases / sizeof *random_bases; i++) {
        if (strcmp(random_bases[i].name, name) != 0)
            continue;
        GRAFT_TRY(make_random(random_bases[i].config, &r, err));
        GRAFT_TRY(model_load(&r.ck, &choice, &m, err));
        GRAFT_TRY(all_methods(name, m, before, err));
        model_free(m);
        arena_release(&r.ck.mem);
        return GRAFT_OK;
    }
    GRAFT_TRY(base_open(name, &nf4, true, &b, err));
    GRAFT_TRY(all_methods(path_base(name), b.model, before, err));
    base_release(&b);
    return GRAFT_OK;
}

int main(int argc, char **argv)
{
    struct graft_err err = { GRAFT_OK, "" };
    const char *base[16] = { "random:100m" };
    int bases = 0;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--tokens") && i + 1 < argc)
            asked.tokens = strtoll(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--steps") && i + 1 < argc)
            asked.steps = (int)strtol(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--method") && i + 1 < argc && asked.methods < 8)
            asked.method[asked.methods++] = argv[++i];
        else if (bases < 16)
            base[bases++] = argv[i];
    }
    if (!asked.methods)
        asked.method[asked.methods++] = "lora";
    printf("%d threads, kernel %s, OpenBLAS core %s\n", omp_get_max_threads(), gemm_kernel_name(),
           openblas_get_corename());
    for (int i = 0; i < (bases ? bases : 1); i++) {
        if (one_base(base[i], &err))
            return fail(&err);
        fflush(stdout);
    }
    return 0;
}
