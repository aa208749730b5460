/* gguf_tool make DIR F.gguf [TYPE]           the Llama of a folder as a GGUF: keys, names and row
 * order of llama.cpp, matrices as TYPE [f32] gguf_tool check BASE MERGED LORA           each matrix
 * that LORA has factors of is, in MERGED, that of BASE + alpha / r b a; every other tensor has its
 * bytes Written without Graft's own idea of names and rows, which is what the tests are about. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "io/gguf_write.h"
#include "io/safetensors.h"

enum { MOST = 256 };

struct job {
    struct store s;
    json_t *config;
    const struct stored_tensor *from[MOST];
    struct gguf_entry e[MOST];
    char name[MOST][64];
    int64_t count;
    struct graft_err err;
};

static int64_t number(const struct job *j, const char *key)
{
    return json_integer_value(json_object_get(j->config, key));
}

/* "model.layers.0.mlp.up_proj.weight" -> "blk.0.ffn_up.weight" */
static bool name_of(const char *hf, char out[64])
{
    static const char *const top[][2] = { { "model.embed_tokens.", "token_embd." },
                                          { "model.norm.", "output_norm." },
                                          { "lm_head.", "output." } };
    static const char *const part[][2] = {
        { "self_attn.q_proj.", "attn_q." },          { "self_attn.k_proj.", "attn_k." },
        { "self_attn.v_proj.", "attn_v." },          { "self_attn.o_proj.", "attn_output." },
        { "mlp.gate_proj.", "ffn_gate." },           { "mlp.up_proj.", "ffn_up." },
        { "mlp.down_proj.", "ffn_down." },           { "input_layernorm.", "attn_norm." },
        { "post_attention_layernorm.", "ffn_norm." }
    };
    int layer, used = 0;

    for (size_t i = 0; i < 3; i++)
        if (!strncmp(hf, top[i][0], strlen(top[i][0])))
            return snprintf(out, 64, "%s%s", top[i][1], hf + strlen(top[i][0])) > 0;
    if (sscanf(hf, "model.layers.%d.%n", &layer, &used) != 1 || !used)
        return false;
    for (size_t i = 0; i < 9; i++)
        if (!strncmp(hf + used, part[i][0], strlen(part[i][0])))
            return snprintf(out, 64, "blk.%d.%s%s", layer, part[i][1],
                            hf + used + strlen(part[i][0])) > 0;
    return false;
}

static enum graft_status fill(void *user, const struct gguf_entry *e, struct out_file *f,
                              struct graft_err *err)
{
    struct job *j = user;
    const struct stored_tensor *t = j->from[e - j->e];
    const int64_t rows = t->mat.rows, cols = t->mat.cols, n = rows * cols;
    const int64_t head = number(j, "hidden_size") / number(j, "num_attention_heads");
    const bool turns = strstr(e->name, "attn_q.") || strstr(e->name, "attn_k.");
    float *x = mem_array((size_t)n, 8), *y = x + n;
    void *coded = mem_array((size_t)n, 4);

    if (!x || !coded)
        return graft_fail_nomem(err, e->name, (size_t)n * 12);
    qmat_decode(&t->mat, 0, n, x);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t h = r / head, half = head / 2, i = r % head;
        const int64_t to = turns ? h * head + i % half * 2 + i / half : r;

        memcpy(y + to * cols, x + r * cols, (size_t)cols * sizeof *y);
    }
    qtypes[e->type].encode(coded, y, n);
    out_file_write(f, coded,
                   (size_t)(n / qtypes[e->type].block) * (size_t)qtypes[e->type].block_bytes);
    mem_free(x);
    mem_free(coded);
    return GRAFT_OK;
}

static void put_keys(const struct job *j, struct gguf_keys *k)
{
    static const char *const sizes[][2] = {
        { "llama.block_count", "num_hidden_layers" },
        { "llama.context_length", "max_position_embeddings" },
        { "llama.embedding_length", "hidden_size" },
        { "llama.feed_forward_length", "intermediate_size" },
        { "llama.attention.head_count", "num_attention_heads" },
        { "llama.attention.head_count_kv", "num_key_value_heads" },
    };

    gguf_put_str(k, "general.architecture", "llama");
    gguf_put_str(k, "general.name", "tiny");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        gguf_put_u32(k, sizes[i][0], (uint32_t)number(j, sizes[i][1]));
    gguf_put_f32(k, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_put_f32(k, "llama.rope.freq_base", 1e4f);
}

static enum graft_status make(const char *dir, const char *out, const char *type)
{
    struct job j = { .count = 0 };
    struct gguf_keys k = { STRBUF_INIT, 0 };
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    path_join(&path, dir, "config.json");
    st = json_read_file(strbuf_str(&path), &j.config, &j.err);
    if (!st)
        st = safetensors_open_folder(dir, &j.s, &j.err);
    for (int64_t i = 0; i < j.s.count && !st && j.count < MOST; i++) {
        const struct stored_tensor *t = &j.s.tensor[i];
        struct gguf_entry *e = &j.e[j.count];

        if (!name_of(t->name, j.name[j.count]))
            st = graft_fail(&j.err, GRAFT_EARG, "no name for %s", t->name);
        *e = (struct gguf_entry){ .name = j.name[j.count], .ndim = t->ndim };
        memcpy(e->dim, t->dim, sizeof e->dim);
        e->type = t->ndim == 2 && t->mat.cols % qtypes[qtype_by_name(type)].block == 0
                      ? qtype_by_name(type)
                      : QT_F32;
        j.from[j.count++] = t;
    }
    if (!st) {
        put_keys(&j, &k);
        st = gguf_write(out, &k, j.e, j.count, 32, fill, &j, &j.err);
    }
    if (st)
        fprintf(stderr, "gguf_tool: %s\n", j.err.msg);
    gguf_keys_release(&k);
    store_release(&j.s);
    json_decref(j.config);
    strbuf_release(&path);
    return st;
}

static float *values(const struct stored_tensor *t)
{
    float *x = mem_array((size_t)qmat_elems(&t->mat), sizeof *x);

    if (x)
        qmat_decode(&t->mat, 0, qmat_elems(&t->mat), x);
    return x;
}

/* The largest difference between merged and base + alpha / r b a, over the largest merged value. */
static double apart(const struct stored_tensor *base, const struct stored_tensor *merged,
                    const struct stored_tensor *a, const struct stored_tensor *b, double alpha)
{
    const int64_t out = base->mat.rows, in = base->mat.cols, r = a->mat.rows;
    float *w = values(base), *m = values(merged), *x = values(a), *y = values(b);
    double worst = 0, size = 0;

    for (int64_t i = 0; i < out && w && m && x && y; i++)
        for (int64_t k = 0; k < in; k++) {
            double sum = 0;

            for (int64_t t = 0; t < r; t++)
                sum += (double)y[i * r + t] * (double)x[t * in + k];
            sum = (double)w[i * in + k] + alpha / (double)r * sum;
            worst = fmax(worst, fabs(sum - (double)m[i * in + k]));
            size = fmax(size, fabs((double)m[i * in + k]));
        }
    mem_free(w);
    mem_free(m);
    mem_free(x);
    mem_free(y);
    return worst / size;
}

static int check(const char *base, const char *merged, const char *lora, double bound)
{
    struct gguf g = { 0 }, m = { 0 }, l = { 0 };
    struct graft_err err = { 0 };
    double alpha = 0, worst = 0;
    int changed = 0, bad = 0;

    if (gguf_open(base, &g, &err) || gguf_open(merged, &m, &err) || gguf_open(lora, &l, &err) ||
        gguf_float(&l, "adapter.lora.alpha", 0, &alpha, &err)) {
        fprintf(stderr, "gguf_tool: %s\n", err.msg);
        return 1;
    }
    bad += g.store.count != m.store.count || g.value_count != m.value_count;
    for (int64_t i = 0; i < g.store.count; i++) {
        const struct stored_tensor *t = &g.store.tensor[i], *now = store_find(&m.store, t->name);
        const struct stored_tensor *a, *b;
        char name[80];

        snprintf(name, sizeof name, "%s.lora_a", t->name);
        a = store_find(&l.store, name);
        snprintf(name, sizeof name, "%s.lora_b", t->name);
        b = store_find(&l.store, name);
        if (!now || !a != !b) {
            printf("%s: missing\n", t->name);
            bad++;
        } else if (a) {
            worst = fmax(worst, apart(t, now, a, b, alpha));
            changed++;
        } else if (now->mat.type != t->mat.type || now->bytes != t->bytes ||
                   memcmp(now->mat.data, t->mat.data, t->bytes) != 0) {
            printf("%s: other bytes\n", t->name);
            bad++;
        }
    }
    printf("%d of %lld tensors have factors, worst apart %.3g\n", changed, (long long)g.store.count,
           worst);
    bad += 2 * changed != l.store.count || !(worst <= bound);
    gguf_release(&g);
    gguf_release(&m);
    gguf_release(&l);
    return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc > 3 && !strcmp(argv[1], "make"))
        return make(argv[2], argv[3], argc > 4 ? argv[4] : "f32") ? 1 : 0;
    if (argc > 4 && !strcmp(argv[1], "check"))
        return check(argv[2], argv[3], argv[4], argc > 5 ? strtod(argv[5], NULL) : 1e-6);
    return 2;
}
