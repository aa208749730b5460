/* make_base DIR [KEY=VALUE]... - a Llama of a few thousand parameters as a Hugging Face folder, so
 * that the tests of the command line need no model from outside. Values come from the seed.
 *
 *   seed=N          of the values [1]
 *   scale=X         factor of every weight matrix [1]
 *   put=NAME:VALUE  set the first value of this tensor (nan and inf too)
 *   drop=NAME       leave this tensor out
 *   narrow=NAME     one column less than the config says
 *   extra=NAME      a tensor that no Llama has
 *   dtype=T         f32, bf16 or f16 [f32]
 *   shards=1        two files and an index
 *   biases=1        biases of the linears of attention */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "core/rng.h"
#include "io/safetensors.h"
#include "quant/half.h"

enum { VOCAB = 272, HIDDEN = 64, FFN = 96, LAYERS = 2, HEADS = 4, KV = 2, HEAD = 16, EOS = 256 };
enum { POSITIONS = 256, MOST = 14 * LAYERS + 4 };

struct wish {
    const char *dir, *put, *drop, *narrow, *extra;
    uint64_t seed;
    double scale, value;
    enum qtype dtype;
    bool shards, biases;
};

struct tensors {
    const struct wish *w;
    struct safetensors_entry e[MOST];
    int count;
    struct arena mem;
    struct graft_err err;
};

static void add(struct tensors *t, const char *name, int64_t rows, int64_t cols)
{
    const struct wish *w = t->w;
    struct safetensors_entry *e = &t->e[t->count];

    if (w->drop && !strcmp(name, w->drop))
        return;
    if (w->narrow && !strcmp(name, w->narrow))
        cols--;
    *e = (struct safetensors_entry){ .name = arena_strdup(&t->mem, name),
                                     .type = w->dtype,
                                     .ndim = rows ? 2 : 1,
                                     .dim = { rows ? rows : cols, cols } };
    t->count++;
}

static void list_tensors(struct tensors *t)
{
    static const struct {
        const char *name;
        int64_t rows, cols;
    } part[] = { { "input_layernorm", 0, HIDDEN },
                 { "self_attn.q_proj", HEADS * HEAD, HIDDEN },
                 { "self_attn.k_proj", KV * HEAD, HIDDEN },
                 { "self_attn.v_proj", KV * HEAD, HIDDEN },
                 { "self_attn.o_proj", HIDDEN, HEADS * HEAD },
                 { "post_attention_layernorm", 0, HIDDEN },
                 { "mlp.gate_proj", FFN, HIDDEN },
                 { "mlp.up_proj", FFN, HIDDEN },
                 { "mlp.down_proj", HIDDEN, FFN } };
    char name[96];

    add(t, "model.embed_tokens.weight", VOCAB, HIDDEN);
    for (int l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, part[i].name);
            add(t, name, part[i].rows, part[i].cols);
            snprintf(name, sizeof name, "model.layers.%d.%s.bias", l, part[i].name);
            if (t->w->biases && !strncmp(part[i].name, "self_attn.", 10))
                add(t, name, 0, part[i].rows);
        }
    add(t, "model.norm.weight", 0, HIDDEN);
    if (t->w->extra)
        add(t, t->w->extra, 3, 5);
}

/* Norms near 1, matrices normal with deviation scale / 8; each tensor is its own site. */
static enum graft_status fill(void *user, const struct safetensors_entry *e, struct out_file *f,
                              struct graft_err *err)
{
    const struct wish *w = user;
    const int64_t n = e->dim[0] * (e->ndim == 2 ? e->dim[1] : 1);
    struct rng_key key = { w->seed, RNG_TEST, 0, 0 };
    float *x = mem_array((size_t)n, sizeof *x);
    void *out = mem_array((size_t)n, 4);

    if (!x || !out)
        return graft_fail_nomem(err, e->name, (size_t)n * 8);
    for (const char *p = e->name; *p; p++)
        key.site = key.site * 31 + (unsigned char)*p;
    for (int64_t i = 0; i < n; i++)
        x[i] = e->ndim == 1 ? 1 + 0.1f * rng_normal(key, (uint64_t)i)
                            : (float)w->scale * 0.125f * rng_normal(key, (uint64_t)i);
    if (w->put && !strcmp(e->name, w->put))
        x[0] = (float)w->value;
    for (int64_t i = 0; i < n && e->type != QT_F32; i++)
        ((uint16_t *)out)[i] = e->type == QT_BF16 ? bf16_from_f32(x[i]) : f16_from_f32(x[i]);
    out_file_write(f, e->type == QT_F32 ? (void *)x : out, (size_t)n * (e->type == QT_F32 ? 4 : 2));
    mem_free(x);
    mem_free(out);
    return GRAFT_OK;
}

static enum graft_status write_text(const struct wish *w, const char *name, const struct strbuf *s,
                                    struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    path_join(&path, w->dir, name);
    st = file_write(strbuf_str(&path), strbuf_str(s), s->len, err);
    strbuf_release(&path);
    return st;
}

static enum graft_status write_json(const struct wish *w, const char *name, json_t *o,
                                    struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    enum graft_status st;

    json_write_pretty(&text, o);
    st = write_text(w, name, &text, err);
    strbuf_release(&text);
    json_decref(o);
    return st;
}

static enum graft_status write_weights(struct tensors *t)
{
    static const char *const meta[] = { "format", "pt", NULL };
    const int half = t->w->shards ? t->count / 2 : t->count;
    const char *name[] = { t->w->shards ? "model-00001-of-00002.safetensors" : "model.safetensors",
                           "model-00002-of-00002.safetensors" };
    json_t *map = json_object();

    for (int i = 0; i < 1 + t->w->shards; i++) {
        struct strbuf path = STRBUF_INIT;
        const int first = i ? half : 0, end = i ? t->count : half;

        path_join(&path, t->w->dir, name[i]);
        for (int k = first; k < end; k++)
            json_object_set_new(map, t->e[k].name, json_string(name[i]));
        GRAFT_TRY(safetensors_write(strbuf_str(&path), t->e + first, end - first, meta, fill,
                                    (void *)(uintptr_t)t->w, &t->err));
        strbuf_release(&path);
    }
    if (!t->w->shards) {
        json_decref(map);
        return GRAFT_OK;
    }
    return write_json(t->w, "model.safetensors.index.json",
                      json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 0, "weight_map", map),
                      &t->err);
}

/* The character that stands for a byte in byte-level BPE: printable ones for themselves, the others
 * in order from U+0100. */
static int byte_char(int byte)
{
    int next = 0x100;

    for (int b = 0; b <= byte; b++) {
        const bool shown = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

        if (b == byte)
            return shown ? b : next;
        next += !shown;
    }
    return 0;
}

static enum graft_status write_tokenizer(const struct wish *w, struct graft_err *err)
{
    json_t *vocab = json_object(), *o;

    for (int b = 0; b < 256; b++) {
        const int c = byte_char(b);
        const char s[] = { (char)(c < 0x80 ? c : 0xc0 | c >> 6), (char)(0x80 | (c & 0x3f)) };

        json_object_set_new(vocab, (char[]){ s[0], c < 0x80 ? '\0' : s[1], '\0' }, json_integer(b));
    }
    o = json_pack("{s:s, s:n, s:n, s:[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}], s:n, "
                  "s:{s:s, s:b, s:b, s:b}, s:n, s:{s:s, s:b, s:b, s:b}, "
                  "s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:o, s:[]}}",
                  "version", "1.0", "truncation", "padding", "added_tokens", "id", EOS, "content",
                  "<|end|>", "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special",
                  1, "normalizer", "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0,
                  "trim_offsets", 1, "use_regex", 1, "post_processor", "decoder", "type",
                  "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1, "model",
                  "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix",
                  "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "vocab", vocab,
                  "merges");
    GRAFT_TRY(write_json(w, "tokenizer.json", o, err));
    return write_json(w, "tokenizer_config.json",
                      json_pack("{s:s, s:s}", "tokenizer_class", "PreTrainedTokenizerFast",
                                "eos_token", "<|end|>"),
                      err);
}

static enum graft_status write_config(const struct wish *w, struct graft_err *err)
{
    const char *const type = w->dtype == QT_F32    ? "float32"
                             : w->dtype == QT_BF16 ? "bfloat16"
                                                   : "float16";

    return write_json(
        w, "config.json",
        json_pack(
            "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b, s:b, s:i, s:s, s:s}",
            "architectures", "LlamaForCausalLM", "model_type", "llama", "vocab_size", VOCAB,
            "hidden_size", HIDDEN, "intermediate_size", FFN, "num_hidden_layers", LAYERS,
            "num_attention_heads", HEADS, "num_key_value_heads", KV, "max_position_embeddings",
            POSITIONS, "rms_norm_eps", 1e-5, "rope_theta", 1e4, "tie_word_embeddings", 1,
            "attention_bias", w->biases, "eos_token_id", EOS, "torch_dtype", type, "hidden_act",
            "silu"),
        err);
}

static bool read_wish(struct wish *w, const char *arg)
{
    const char *v = strchr(arg, '=');
    char *colon;

    if (!v++)
        return false;
    if (!strncmp(arg, "seed=", 5))
        w->seed = strtoull(v, NULL, 10);
    else if (!strncmp(arg, "scale=", 6))
        w->scale = strtod(v, NULL);
    else if (!strncmp(arg, "drop=", 5))
        w->drop = v;
    else if (!strncmp(arg, "narrow=", 7))
        w->narrow = v;
    else if (!strncmp(arg, "extra=", 6))
        w->extra = v;
    else if (!strncmp(arg, "dtype=", 6))
        w->dtype = qtype_by_name(v);
    else if (!strncmp(arg, "shards=", 7))
        w->shards = true;
    else if (!strncmp(arg, "biases=", 7))
        w->biases = true;
    else if (!strncmp(arg, "put=", 4) && (colon = strchr(v, ':'))) {
        *colon = '\0';
        w->put = v;
        w->value = strtod(colon + 1, NULL);
    } else {
        return false;
    }
    return w->dtype == QT_F32 || w->dtype == QT_BF16 || w->dtype == QT_F16;
}

int main(int argc, char **argv)
{
    struct wish w = { .seed = 1, .scale = 1, .dtype = QT_F32 };
    struct tensors t = { .w = &w };
    enum graft_status st;

    for (int i = 2; i < argc; i++)
        if (!read_wish(&w, argv[i])) {
            fprintf(stderr, "make_base: what is %s?\n", argv[i]);
            return 2;
        }
    if (argc < 2)
        return 2;
    w.dir = argv[1];
    st = dir_make(w.dir, &t.err);
    list_tensors(&t);
    if (!st)
        st = write_weights(&t);
    if (!st)
        st = write_tokenizer(&w, &t.err);
    if (!st)
        st = write_config(&w, &t.err);
    if (st)
        fprintf(stderr, "make_base: %s\n", t.err.msg);
    arena_release(&t.mem);
    return st ? 1 : 0;
}
