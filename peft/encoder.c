#include "peft/encoder.h"

#include <math.h>
#include <string.h>

int64_t param_elems(const struct tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

void add_size(const float *x, int64_t n, double *squares, double *largest)
{
    for (int64_t i = 0; i < n; i++) {
        *squares += (double)x[i] * (double)x[i];
        *largest = fmax(*largest, fabs((double)x[i]));
    }
}

enum graft_status encoder_param(struct adapter_site *s, const char *name, int64_t rows,
                                int64_t cols, struct tensor **out, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    struct param_spec spec = { .ndim = cols ? 2 : 1, .dim = { rows, cols }, .file = FILE_STATE };

    strbuf_printf(&path, "prompt_encoder.%s", name);
    spec.name = strbuf_str(&path);
    *out = path.failed ? NULL : adapter_param(s, &spec);
    strbuf_release(&path);
    return *out ? GRAFT_OK : graft_fail_nomem(err, name, (size_t)(rows * (cols ? cols : 1)) * 8);
}

enum graft_status dense_build(struct adapter_site *s, const char *name, int64_t out, int64_t in,
                              struct dense *d, struct graft_err *err)
{
    char part[64];

    snprintf(part, sizeof part, "%s.weight", name);
    GRAFT_TRY(encoder_param(s, part, out, in, &d->w, err));
    snprintf(part, sizeof part, "%s.bias", name);
    return encoder_param(s, part, out, 0, &d->b, err);
}

struct tensor *dense_record(struct graph *g, const struct dense *d, struct tensor *x)
{
    return op_linear(g, x, graph_leaf(g, d->w), graph_leaf(g, d->b), NULL, 1.0f);
}

static struct rng_key stream_of(const struct adapter_site *s, const struct tensor *t, uint64_t seed)
{
    const struct adapter *a = s->adapter;
    uint32_t i = 0;

    while ((int)i < a->entry_count && a->entry[i].tensor != t)
        i++;
    return (struct rng_key){ seed, RNG_INIT, 1, i };
}

void init_uniform(const struct adapter_site *s, struct tensor *t, uint64_t seed, double bound)
{
    const struct rng_key key = stream_of(s, t, seed);
    float *v = t->data;

    for (int64_t i = 0, n = param_elems(t); i < n; i++)
        v[i] = (float)(bound * (2.0 * rng_uniform(key, (uint64_t)i) - 1.0));
}

void init_normal(const struct adapter_site *s, struct tensor *t, uint64_t seed, double deviation)
{
    const struct rng_key key = stream_of(s, t, seed);
    float *v = t->data;

    for (int64_t i = 0, n = param_elems(t); i < n; i++)
        v[i] = (float)deviation * rng_normal(key, (uint64_t)i);
}

void init_truncated(const struct adapter_site *s, struct tensor *t, uint64_t seed, double deviation)
{
    const struct rng_key key = stream_of(s, t, seed);
    const int64_t n = param_elems(t);
    float *v = t->data;

    for (int64_t i = 0; i < n; i++) {
        float z = 3;

        for (int64_t at = i; fabsf(z) > 2; at += n)
            z = rng_normal(key, (uint64_t)at);
        v[i] = (float)deviation * z;
    }
}

/* nn.Linear: both uniform in +-1/sqrt(in). */
void dense_init(const struct adapter_site *s, const struct dense *d, uint64_t seed)
{
    const double bound = 1.0 / sqrt((double)d->w->dim[1]);

    init_uniform(s, d->w, seed, bound);
    init_uniform(s, d->b, seed, bound);
}

enum graft_status prompt_embeddings(struct adapter_site *s, int64_t n, int64_t width, bool fixed,
                                    struct tensor **out, struct graft_err *err)
{
    const struct param_spec spec = {
        .name = "prompt_embeddings", .ndim = 2, .dim = { n, width }, .fixed = fixed
    };

    *out = adapter_param(s, &spec);
    return *out ? GRAFT_OK : graft_fail_nomem(err, spec.name, (size_t)(n * width) * 8);
}

enum graft_status encoder_run(struct adapter_site *s,
                              struct tensor *(*record)(struct adapter_site *s, struct graph *g),
                              struct tensor *out, struct graft_err *err)
{
    const struct graph_opts opts = { .max_tokens = 1, .max_segments = 1 };
    const struct graph_input pass = { 0 };
    struct plan_report report;
    struct graph *g = NULL;
    struct tensor *y;
    enum graft_status st;

    GRAFT_TRY(graph_new(&opts, &g, err));
    y = record(s, g);
    st = graph_plan(g, &y, 1, 0, &report, err);
    if (!st)
        st = graph_allocate(g, NULL, err);
    if (!st) {
        graph_forward(g, &pass);
        memcpy(out->data, y->data, (size_t)param_elems(out) * sizeof(float));
    }
    graph_free(g);
    return st;
}

static enum graft_status fill(const char *key, int64_t *given, int64_t want, struct graft_err *err)
{
    if (*given && *given != want)
        return graft_fail(err, GRAFT_EARG, "adapter.%s: found %lld, the base has %lld", key,
                          (long long)*given, (long long)want);
    *given = want;
    return GRAFT_OK;
}

enum graft_status prompt_fill(struct adapter *a, int64_t width, int64_t heads,
                              struct graft_err *err)
{
    struct prompt_config *p = &a->config.prompt;

    GRAFT_TRY(fill("token_dim", &p->token_dim, width, err));
    GRAFT_TRY(fill("num_attention_heads", &p->num_attention_heads, heads, err));
    GRAFT_TRY(fill("num_layers", &p->num_layers, a->slots->layers, err));
    p->num_transformer_submodules = 1;
    if (!p->encoder_hidden_size)
        p->encoder_hidden_size = width;
    return GRAFT_OK;
}
