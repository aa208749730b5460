/* tiny_model DIR: a base of random numbers with a tokenizer, two adapters over it and one that does
 * not fit, records, and a config; what the tests of the public interface work on. */
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "io/safetensors.h"

enum { LAYERS = 2, HIDDEN = 32, FFN = 48, HEADS = 4, KV = 2, VOCAB = 324, RANK = 4, MOST = 64 };

struct tensors {
    struct safetensors_entry e[MOST];
    char name[MOST][128];
    int count;
    uint64_t seed;
    float deviation;
};

static void add(struct tensors *t, const char *name, int64_t rows, int64_t cols)
{
    struct safetensors_entry *e = &t->e[t->count];

    snprintf(t->name[t->count], sizeof t->name[0], "%s", name);
    *e = (struct safetensors_entry){ t->name[t->count], QT_F32, cols ? 2 : 1, { rows, cols } };
    t->count++;
}

/* Norms are ones; everything else is normal, from the seed and the name. */
static enum graft_status fill(void *user, const struct safetensors_entry *e, struct out_file *f,
                              struct graft_err *err)
{
    const struct tensors *t = user;
    const int64_t n = e->dim[0] * (e->ndim == 2 ? e->dim[1] : 1);
    struct rng_key key = { t->seed, RNG_TEST, 0, 0 };

    (void)err;
    for (const char *c = e->name; *c; c++)
        key.site = key.site * 31 + (unsigned char)*c;
    for (int64_t i = 0; i < n; i++) {
        const float v = e->ndim == 1 ? 1.0f : t->deviation * rng_normal(key, (uint64_t)i);

        out_file_write(f, &v, sizeof v);
    }
    return GRAFT_OK;
}

static enum graft_status put(const char *root, const char *dir, const char *name, const char *text,
                             struct graft_err *err)
{
    char path[1024];

    snprintf(path, sizeof path, "%s/%s", root, dir);
    GRAFT_TRY(dir_make(path, err));
    snprintf(path, sizeof path, "%s/%s/%s", root, dir, name);
    return file_write(path, text, strlen(text), err);
}

static enum graft_status put_tensors(const char *root, const char *file, struct tensors *t,
                                     struct graft_err *err)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    char path[1024];

    snprintf(path, sizeof path, "%s/%s", root, file);
    return safetensors_write(path, t->e, t->count, metadata, fill, t, err);
}

static enum graft_status put_tokenizer(const char *root, const char *dir, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    enum graft_status st = file_read(GRAFT_GOLDEN "/tokenizer_bytes.json", 1 << 20, &text, err);

    if (!st)
        st = put(root, dir, "tokenizer.json", strbuf_str(&text), err);
    if (!st)
        st = put(root, dir, "tokenizer_config.json", "{\"eos_token\": \"</s>\"}\n", err);
    strbuf_release(&text);
    return st;
}

static enum graft_status put_base(const char *root, struct graft_err *err)
{
    static const struct {
        const char *name;
        int64_t rows, cols;
    } part[] = { { "self_attn.q_proj", HIDDEN, HIDDEN },
                 { "self_attn.k_proj", HIDDEN / HEADS * KV, HIDDEN },
                 { "self_attn.v_proj", HIDDEN / HEADS * KV, HIDDEN },
                 { "self_attn.o_proj", HIDDEN, HIDDEN },
                 { "mlp.gate_proj", FFN, HIDDEN },
                 { "mlp.up_proj", FFN, HIDDEN },
                 { "mlp.down_proj", HIDDEN, FFN },
                 { "input_layernorm", HIDDEN, 0 },
                 { "post_attention_layernorm", HIDDEN, 0 } };
    struct tensors t = { .seed = 1, .deviation = 0.3f };
    char name[128];

    add(&t, "model.embed_tokens.weight", VOCAB, HIDDEN);
    add(&t, "model.norm.weight", HIDDEN, 0);
    for (int i = 0; i < LAYERS; i++)
        for (size_t k = 0; k < sizeof part / sizeof *part; k++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", i, part[k].name);
            add(&t, name, part[k].rows, part[k].cols);
        }
    GRAFT_TRY(put(root, "base", "config.json",
                  "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
                  "\"vocab_size\": 324, \"hidden_size\": 32, \"intermediate_size\": 48, "
                  "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
                  "\"num_key_value_heads\": 2, \"max_position_embeddings\": 128, "
                  "\"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", "
                  "\"tie_word_embeddings\": true, \"eos_token_id\": 320, \"bos_token_id\": 319, "
                  "\"torch_dtype\": \"float32\"}\n",
                  err));
    GRAFT_TRY(put_tokenizer(root, "base", err));
    return put_tensors(root, "base/model.safetensors", &t, err);
}

static enum graft_status put_adapter(const char *root, const char *dir, uint64_t seed, int64_t in,
                                     struct graft_err *err)
{
    struct tensors t = { .seed = seed, .deviation = 0.5f };
    char name[128], file[128];

    for (int i = 0; i < LAYERS; i++)
        for (int k = 0; k < 2; k++) {
            const int64_t out = k ? HIDDEN / HEADS * KV : HIDDEN;
            const char *proj = k ? "v_proj" : "q_proj";

            snprintf(name, sizeof name,
                     "base_model.model.model.layers.%d.self_attn.%s.lora_A.weight", i, proj);
            add(&t, name, RANK, in);
            snprintf(name, sizeof name,
                     "base_model.model.model.layers.%d.self_attn.%s.lora_B.weight", i, proj);
            add(&t, name, out, RANK);
        }
    GRAFT_TRY(put(root, dir, "adapter_config.json",
                  "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"r\": 4, "
                  "\"lora_alpha\": 8, \"lora_dropout\": 0.0, \"bias\": \"none\", "
                  "\"target_modules\": [\"q_proj\", \"v_proj\"], "
                  "\"base_model_name_or_path\": \"tiny\"}\n",
                  err));
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", dir);
    return put_tensors(root, file, &t, err);
}

static enum graft_status put_all(const char *root, struct graft_err *err)
{
    GRAFT_TRY(dir_make(root, err));
    GRAFT_TRY(put_base(root, err));
    GRAFT_TRY(put_adapter(root, "one", 11, HIDDEN, err));
    GRAFT_TRY(put_adapter(root, "two", 22, HIDDEN, err));
    GRAFT_TRY(put_tokenizer(root, "two", err)); /* an adapter with words of its own */
    GRAFT_TRY(put_adapter(root, "misfit", 33, HIDDEN + 1, err));
    GRAFT_TRY(put_tokenizer(root, "misfit", err));
    GRAFT_TRY(put(root, ".", "records.jsonl",
                  "{\"prompt\": \"the cat\", \"completion\": \" sat\"}\n"
                  "{\"prompt\": \"the\", \"completion\": \" dog ran\"}\n"
                  "{\"prompt\": \"a\", \"completion\": \" b c d e\"}\n",
                  err));
    return put(root, ".", "train.yaml",
               "base: base\nquant: nf4\nadapter: {method: lora, r: 4, target_modules: all-linear}\n"
               "data: {train: records.jsonl, valid: records.jsonl, max_length: 64}\n"
               "train: {steps: 4, batch_size: 2, gradient_accumulation: 1, eval_every: 2}\n"
               "optim: {lr: 1.0e-2}\noutput: run\n",
               err);
}

int main(int argc, char **argv)
{
    struct graft_err err = { 0 };

    if (argc != 2)
        return 2;
    if (!put_all(argv[1], &err))
        return 0;
    fprintf(stderr, "tiny_model: %s\n", err.msg);
    return 1;
}
