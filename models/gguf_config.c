/* The keys of a GGUF model (llama.cpp: gguf-py constants.py), as a model_config. */
#include <math.h>
#include <string.h>

#include "models/arch.h"
#include "models/config.h"

struct keys {
    struct gguf *g;
    const char *arch;
    struct graft_err *err;
    enum graft_status st; /* the first failure sticks */
};

static const char *full_key(const struct keys *k, const char *name, char out[128])
{
    const size_t n = strlen(k->arch);

    memcpy(out, k->arch, n);
    out[n] = '.';
    strncpy(out + n + 1, name, 126 - n);
    out[127] = '\0';
    return out;
}

/* `dflt` 0: the key is required. */
static int64_t size_key(struct keys *k, const char *name, int64_t dflt)
{
    char key[128];
    int64_t v = dflt;

    if (k->st)
        return 1;
    k->st = gguf_int(k->g, full_key(k, name, key), dflt, &v, k->err);
    if (!k->st && (v < 1 || v > INT32_MAX))
        k->st = graft_fail(k->err, GRAFT_EFORMAT, "%s: %s is %lld, wanted a whole number from 1",
                           k->g->store.path, key, (long long)v);
    return k->st ? 1 : v;
}

static double number_key(struct keys *k, const char *name, double dflt)
{
    char key[128];
    double v = dflt;

    if (!k->st)
        k->st = gguf_float(k->g, full_key(k, name, key), dflt, &v, k->err);
    return v;
}

static void read_rope(struct keys *k, struct arena *mem, struct rope_config *out)
{
    const struct stored_tensor *freqs = store_find(&k->g->store, "rope_freqs.weight");
    const char *type = "none";
    char key[128];

    *out = (struct rope_config){ .theta = number_key(k, "rope.freq_base", 10000.0),
                                 .partial = 1.0,
                                 .factor = NAN,
                                 .attention_factor = NAN,
                                 .beta_fast = 32,
                                 .beta_slow = 1,
                                 .truncate = true };
    if (!k->st)
        k->st = gguf_str(k->g, full_key(k, "rope.scaling.type", key), "none", &type, k->err);
    if (k->st)
        return;
    out->factor = number_key(k, "rope.scaling.factor", NAN);
    out->original_max = number_key(k, "rope.scaling.original_context_length", 0);
    if (!strcmp(type, "linear")) {
        out->type = ROPE_LINEAR;
    } else if (!strcmp(type, "yarn")) {
        out->type = ROPE_YARN;
        out->beta_fast = number_key(k, "rope.scaling.yarn_beta_fast", 32);
        out->beta_slow = number_key(k, "rope.scaling.yarn_beta_slow", 1);
    } else if (strcmp(type, "none") != 0) {
        k->st = graft_fail(k->err, GRAFT_EFORMAT, "%s: rope.scaling.type \"%s\" is not supported",
                           k->g->store.path, type);
    }
    if (!k->st && out->type != ROPE_DEFAULT && !(out->factor > 0))
        k->st = graft_fail(k->err, GRAFT_EFORMAT, "%s: rope scaling %s needs a factor above 0",
                           k->g->store.path, type);
    if (!k->st && !(out->theta > 1))
        k->st = graft_fail(k->err, GRAFT_EFORMAT, "%s: rope.freq_base is %g, wanted a base above 1",
                           k->g->store.path, out->theta);
    if (freqs && !k->st) {
        float *v = arena_array(mem, (size_t)qmat_elems(&freqs->mat), sizeof *v);

        if (!v) {
            k->st = graft_fail_nomem(k->err, "rope_freqs.weight", freqs->bytes);
            return;
        }
        qmat_decode(&freqs->mat, 0, qmat_elems(&freqs->mat), v);
        out->divisor = v;
        out->factors = qmat_elems(&freqs->mat);
    }
}

static void read_windows(struct keys *k, struct arena *mem, struct model_config *c)
{
    char key[128];
    int64_t window = 0;

    c->window = arena_array(mem, (size_t)c->layers, sizeof *c->window);
    if (!c->window) {
        k->st = graft_fail_nomem(k->err, "layers", (size_t)c->layers * 8);
        return;
    }
    if (!k->st)
        k->st = gguf_int(k->g, full_key(k, "attention.sliding_window", key), 0, &window, k->err);
    for (int64_t i = 0; i < c->layers; i++)
        c->window[i] = window > 0 ? window : 0;
}

static void read_ends(struct keys *k, struct model_config *c)
{
    static const char *const end_keys[] = { "tokenizer.ggml.eos_token_id",
                                            "tokenizer.ggml.eot_token_id" };
    int64_t v = -1;

    if (!k->st)
        k->st = gguf_int(k->g, "tokenizer.ggml.bos_token_id", -1, &v, k->err);
    c->bos = (int32_t)v;
    for (int i = 0; i < 2 && !k->st; i++) {
        k->st = gguf_int(k->g, end_keys[i], -1, &v, k->err);
        if (!k->st && v >= 0 && v <= INT32_MAX && !(c->eos_count && c->eos[0] == v))
            c->eos[c->eos_count++] = (int32_t)v;
    }
}

static void read_sizes(struct keys *k, struct model_config *c)
{
    const struct stored_tensor *embed = store_find(&k->g->store, "token_embd.weight");
    int64_t rotated;

    c->hidden = size_key(k, "embedding_length", 0);
    c->ffn = size_key(k, "feed_forward_length", 0);
    c->layers = size_key(k, "block_count", 0);
    c->heads = size_key(k, "attention.head_count", 0);
    c->kv_heads = size_key(k, "attention.head_count_kv", c->heads);
    c->max_positions = size_key(k, "context_length", 0);
    c->head_dim =
        size_key(k, "attention.key_length", c->hidden >= c->heads ? c->hidden / c->heads : 1);
    c->norm_eps = number_key(k, "attention.layer_norm_rms_epsilon", 1e-6);
    rotated = size_key(k, "rope.dimension_count", c->head_dim);
    if (k->st)
        return;
    if (!(c->norm_eps >= 0 && c->norm_eps < 1)) {
        k->st = graft_fail(k->err, GRAFT_EFORMAT,
                           "%s: attention.layer_norm_rms_epsilon is %g, wanted a number from 0 to "
                           "below 1",
                           k->g->store.path, c->norm_eps);
        return;
    }
    if (rotated != c->head_dim) {
        k->st = graft_fail(k->err, GRAFT_EFORMAT,
                           "%s: rope.dimension_count is %lld with a head size of %lld; a part of a "
                           "head alone is not rotated by this version",
                           k->g->store.path, (long long)rotated, (long long)c->head_dim);
        return;
    }
    if (!embed || embed->ndim != 2)
        k->st = graft_fail(k->err, GRAFT_EFORMAT, "%s: there is no tensor token_embd.weight (V, C)",
                           k->g->store.path);
    else if (c->heads % c->kv_heads != 0 || c->head_dim % 2 != 0 || c->layers > 4096)
        k->st = graft_fail(k->err, GRAFT_EFORMAT,
                           "%s: %lld heads, %lld key/value heads, head size %lld and %lld layers "
                           "do not make a model",
                           k->g->store.path, (long long)c->heads, (long long)c->kv_heads,
                           (long long)c->head_dim, (long long)c->layers);
    else
        c->vocab = embed->dim[0];
}

static bool has(const struct gguf *g, const char *name)
{
    return store_find(&g->store, name) != NULL;
}

/* The repository that the file was made from: "organisation/name" of its address. */
static enum graft_status read_name(struct gguf *g, const char **out, struct graft_err *err)
{
    const char *url = NULL, *host;

    GRAFT_TRY(gguf_str(g, "general.base_model.0.repo_url", NULL, &url, err));
    host = url ? strstr(url, "://") : NULL;
    host = host ? strchr(host + 3, '/') : NULL;
    *out = host && host[1] ? host + 1 : NULL;
    return GRAFT_OK;
}

enum graft_status model_config_from_gguf(struct gguf *g, struct arena *mem,
                                         struct model_config *out, struct graft_err *err)
{
    struct keys k = { g, NULL, err, GRAFT_OK };
    struct model_config c = { 0 };

    GRAFT_TRY(gguf_str(g, "general.architecture", NULL, &k.arch, err));
    if (!k.arch)
        return graft_fail(err, GRAFT_EFORMAT, "%s: general.architecture is missing", g->store.path);
    c.arch = arch_by_gguf(k.arch);
    if (!c.arch || strlen(k.arch) > 32)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: architecture \"%.32s\" is not supported; known are %s",
                          g->store.path, k.arch, arch_names());
    c.model_type = c.arch->model_type;
    c.act = ACT_SILU;
    c.dtype = QT_COUNT;
    read_sizes(&k, &c);
    if (k.st)
        return k.st;
    read_rope(&k, mem, &c.rope);
    read_windows(&k, mem, &c);
    read_ends(&k, &c);
    if (!k.st)
        k.st = read_name(g, &c.name, err);
    if (k.st)
        return k.st;
    c.tied = !has(g, "output.weight");
    c.qkv_bias = c.arch->bias == BIAS_QKV || has(g, "blk.0.attn_q.bias");
    c.o_bias = has(g, "blk.0.attn_output.bias");
    c.mlp_bias = has(g, "blk.0.ffn_gate.bias");
    *out = c;
    return GRAFT_OK;
}
