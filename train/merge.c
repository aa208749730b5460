#include "train/merge.h"

#include <math.h>
#include <string.h>

#include "io/safetensors.h"
#include "peft/change.h"
#include "train/merge_impl.h"
#include "train/output.h"

enum { ROWS_BYTES = 16 << 20, FEW_BYTES = 1 << 20 };
static const int64_t SHARD_BYTES = 5000000000; /* 5 GB, as transformers cuts */

static const struct model_tensor *tensor_named(const struct merge *m, const char *name)
{
    for (int64_t i = 0; i < m->count; i++)
        if (!strcmp(m->tensor[i].name, name))
            return &m->tensor[i];
    return NULL;
}

const struct adapter_site *merge_site(const struct merge *m, const struct model_tensor *t)
{
    return t->slot ? adapter_at(m->adapter, t->slot) : NULL;
}

enum graft_status merge_rows(struct merge *m, const struct model_tensor *t, int64_t first,
                             int64_t n, struct graft_err *err)
{
    const int64_t cols = t->mat.cols;

    qmat_decode(&t->mat, first * cols, n * cols, m->rows);
    if (t->slot && m->opts->undo && t->is_bias)
        undo_bias(m->adapter, t->slot, m->rows, m->coded); /* which is free until they are coded */
    else if (t->slot && m->opts->undo)
        undo_rows(m->adapter, t->slot, first, n, m->rows, m->coded);
    else if (t->slot && t->is_bias)
        merged_bias(m->adapter, t->slot, m->rows);
    else if (t->slot)
        merged_rows(m->adapter, t->slot, first, n, m->rows);
    for (int64_t i = 0; i < n * cols; i++)
        if (!isfinite(m->rows[i]))
            return graft_fail(err, GRAFT_ERUN, "%s: %s value (%lld, %lld) is %g", t->name,
                              m->opts->undo ? "unmerged" : "merged", (long long)(first + i / cols),
                              (long long)(i % cols), (double)m->rows[i]);
    return GRAFT_OK;
}

enum graft_status merge_encode(struct merge *m, const char *name, enum qtype type, int64_t n,
                               struct graft_err *err)
{
    for (int64_t k = 0; type == QT_F16 && k < n; k++)
        if (fabsf(m->rows[k]) > 65504)
            return graft_fail(err, GRAFT_ERUN, "%s: %g does not fit f16; use --dtype bf16 or f32",
                              name, (double)m->rows[k]);
    qtypes[type].encode(m->coded, m->rows, n);
    return GRAFT_OK;
}

static enum graft_status write_tensor(void *user, const struct safetensors_entry *e,
                                      struct out_file *f, struct graft_err *err)
{
    struct merge *m = user;
    const struct model_tensor *t = tensor_named(m, e->name);
    const struct qtype_info *q = &qtypes[e->type];
    const struct stored_tensor *s = checkpoint_find(&m->base.ck, t->name);
    const int64_t cols = t->mat.cols, step = m->room / cols;

    for (int64_t i = 0; i < t->mat.rows; i += step) {
        const int64_t n = t->mat.rows - i < step ? t->mat.rows - i : step;

        GRAFT_TRY(merge_rows(m, t, i, n, err));
        GRAFT_TRY(merge_encode(m, t->name, e->type, n * cols, err));
        out_file_write(f, m->coded, (size_t)(n * cols) * (size_t)q->block_bytes);
        if (s && s->mat.data == t->mat.data) /* read once: the file's pages need not stay */
            file_forget(s->mat.data, s->bytes / (size_t)t->mat.rows * (size_t)(i + n));
    }
    return GRAFT_OK;
}

static int64_t tensor_bytes(const struct merge *m, const struct model_tensor *t)
{
    return qmat_elems(&t->mat) * qtypes[m->dtype].block_bytes;
}

/* First tensor behind the shard that begins at `first`. */
static int64_t shard_end(const struct merge *m, int64_t first)
{
    int64_t bytes = 0, i = first;

    while (i < m->count && (i == first || bytes + tensor_bytes(m, &m->tensor[i]) <= SHARD_BYTES))
        bytes += tensor_bytes(m, &m->tensor[i++]);
    return i;
}

static void shard_name(char out[64], int shard, int shards)
{
    if (shards == 1)
        strcpy(out, "model.safetensors");
    else
        snprintf(out, 64, "model-%05d-of-%05d.safetensors", shard + 1, shards);
}

static enum graft_status write_shard(struct merge *m, const char *name, int64_t first, int64_t end,
                                     struct graft_err *err)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    struct safetensors_entry *e = mem_array((size_t)(end - first), sizeof *e);
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    if (!e)
        return graft_fail_nomem(err, name, (size_t)(end - first) * sizeof *e);
    for (int64_t i = first; i < end; i++) {
        const struct model_tensor *t = &m->tensor[i];

        e[i - first] = (struct safetensors_entry){
            .name = t->name, .type = m->dtype, .ndim = t->ndim, .dim = { t->mat.rows, t->mat.cols }
        };
        if (t->ndim == 1)
            e[i - first].dim[0] = t->mat.cols;
        m->report.changed += merge_site(m, t) != NULL;
        m->report.bytes += (size_t)tensor_bytes(m, t);
    }
    path_join(&path, m->opts->output, name);
    st = safetensors_write(strbuf_str(&path), e, end - first, metadata, write_tensor, m, err);
    strbuf_release(&path);
    mem_free(e);
    return st;
}

static enum graft_status write_weights(struct merge *m, struct graft_err *err)
{
    struct output out = { .dir = m->opts->output, .lock = -1, .metrics = -1 };
    json_t *map = json_object(), *index;
    int shards = 0, k = 0;
    enum graft_status st = GRAFT_OK;

    for (int64_t i = 0; i < m->count; i = shard_end(m, i))
        shards++;
    for (int64_t i = 0, end; i < m->count && !st; i = end, k++) {
        char name[64];

        end = shard_end(m, i);
        shard_name(name, k, shards);
        st = write_shard(m, name, i, end, err);
        for (int64_t t = i; t < end; t++)
            json_object_set_new(map, m->tensor[t].name, json_string(name));
    }
    m->report.shards = shards;
    m->report.tensors = m->count;
    index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)m->report.bytes,
                      "weight_map", map);
    if (!st && shards > 1)
        st = output_json(&out, "model.safetensors.index.json", index, err);
    json_decref(index);
    json_decref(map);
    return st;
}

static const char *dtype_word(enum qtype t)
{
    return t == QT_F32 ? "float32" : t == QT_F16 ? "float16" : "bfloat16";
}

static enum graft_status write_config(struct merge *m, struct graft_err *err)
{
    struct output out = { .dir = m->opts->output, .lock = -1, .metrics = -1 };
    /* older readers know the former only */
    static const char *const key[] = { "torch_dtype", "dtype" };
    json_t *o = NULL;
    enum graft_status st = checkpoint_config_json(&m->base.ck, &o, err);
    bool none;

    if (st)
        return st;
    json_object_del(o, "quantization_config");
    none = !json_object_get(o, key[0]) && !json_object_get(o, key[1]);
    for (int i = 0; i < 2; i++) /* the key that the base uses, both where it uses none */
        if (none || json_object_get(o, key[i]))
            json_object_set_new(o, key[i], json_string(dtype_word(m->dtype)));
    if (m->untied)
        json_object_set_new(o, "tie_word_embeddings", json_false());
    st = output_json(&out, "config.json", o, err);
    json_decref(o);
    return st;
}

/* The base's generation_config with every end token there is. */
static enum graft_status write_generation(struct merge *m, struct graft_err *err)
{
    const struct text *t = m->text;
    struct output out = { .dir = m->opts->output, .lock = -1, .metrics = -1 };
    struct strbuf path = STRBUF_INIT;
    json_t *o = NULL, *list = json_array();
    enum graft_status st = GRAFT_OK;

    path_join(&path, m->opts->output, "generation_config.json");
    if (file_exists(strbuf_str(&path)))
        st = json_read_file(strbuf_str(&path), &o, err);
    else
        o = json_object();
    strbuf_release(&path);
    for (int i = 0; i < t->stops; i++)
        json_array_append_new(list, json_integer(t->stop[i]));
    if (!st && t->stops)
        json_object_set(o, "eos_token_id", t->stops == 1 ? json_array_get(list, 0) : list);
    if (!st && m->base.ck.config.bos >= 0 && !json_object_get(o, "bos_token_id"))
        json_object_set_new(o, "bos_token_id", json_integer(m->base.ck.config.bos));
    if (!st)
        st = output_json(&out, "generation_config.json", o, err);
    json_decref(list);
    json_decref(o);
    return st;
}

/* Which weights to merge onto, and why; `quant` is what the base is to be loaded as. */
static void choose_onto(struct merge *m, struct quant_config *quant)
{
    const struct facts *f = &m->tasks.task[0].facts;
    const bool quantised = f->has_quant && f->quant.mode != QUANT_NONE;

    m->report.onto = m->opts->onto;
    m->report.onto_why = "as asked";
    if (m->opts->onto == ONTO_AUTO) {
        m->report.onto = f->has_quant && quantised ? ONTO_QUANTIZED : ONTO_ORIGINAL;
        m->report.onto_why = f->has_quant ? "the weights the adapter was trained on"
                                          : "what it was trained on is not known";
    }
    *quant = (struct quant_config){ .mode = QUANT_AUTO };
    if (m->report.onto == ONTO_QUANTIZED && quantised)
        *quant = f->quant;
    else if (m->report.onto == ONTO_QUANTIZED)
        *quant = (struct quant_config){ QUANT_TYPE, { QT_NF4, 64, true } };
}

static enum qtype choose_dtype(const struct merge *m)
{
    const struct qmat *w = &m->base.ck.store->tensor[0].mat;

    if (m->opts->dtype != QT_COUNT)
        return m->opts->dtype;
    if (m->base.ck.config.dtype != QT_COUNT)
        return m->base.ck.config.dtype;
    return m->base.ck.kind == CHECKPOINT_FOLDER && qtypes[w->type].is_float ? w->type : QT_BF16;
}

bool merge_is_gguf(const char *output)
{
    const size_t len = strlen(output);

    return len > 5 && !strcmp(output + len - 5, ".gguf");
}

enum graft_status merge_dtype_parse(const char *place, const char *text, bool gguf, enum qtype *out,
                                    struct graft_err *err)
{
    static const enum qtype dtypes[] = { QT_F32, QT_BF16, QT_F16, QT_Q8_0 };

    for (int i = 0; i < 3 + gguf; i++)
        if (!strcmp(text, qtypes[dtypes[i]].name)) {
            *out = dtypes[i];
            return GRAFT_OK;
        }
    return graft_fail(err, GRAFT_EARG, "%s: found \"%s\", wanted f32, bf16%s", place, text,
                      gguf ? ", f16 or q8_0" : " or f16");
}

static enum qtype gguf_dtype(const struct merge_opts *o)
{
    return o->dtype == QT_COUNT ? QT_F16 : o->dtype;
}

static enum graft_status check_sites(const struct merge *m, struct graft_err *err)
{
    const struct adapter_ops *ops = m->adapter->ops;

    if (why_no_change(ops))
        return graft_fail(err, GRAFT_EARG, "a %s adapter cannot be %s: %s", ops->name,
                          m->opts->undo ? "taken out of a model" : "merged", why_no_change(ops));
    GRAFT_TRY(adapter_check_merge(m->adapter, err));
    for (int i = 0; m->opts->undo && i < m->adapter->site_count; i++) {
        const struct slot *s = m->adapter->site[i].slot;

        GRAFT_TRY(change_can_undo(m->adapter, s, err));
        if (s->w && !qtypes[s->w->type].is_float)
            return graft_fail(
                err, GRAFT_EARG,
                "%s: %s is %s, which rounded what was merged: it cannot be taken back",
                m->opts->base, s->name, qtypes[s->w->type].name);
    }
    return GRAFT_OK;
}

/* Weights that were given up cannot be merged onto. */
static enum graft_status check_original(struct merge *m, struct graft_err *err)
{
    const enum qtype t = m->base.model->layer[0].linear[LIN_Q].w.type;

    if (m->report.onto != ONTO_ORIGINAL || (t != QT_NF4 && t != QT_FP4))
        return GRAFT_OK;
    if (m->opts->onto != ONTO_ORIGINAL) {
        m->report.onto = ONTO_QUANTIZED;
        m->report.onto_why = "all that the base has";
        return GRAFT_OK;
    }
    return graft_fail(
        err, GRAFT_EARG,
        "%s: it holds %s and not the original weights: give the model it was made from",
        m->opts->base, qtypes[t].name);
}

/* `bytes` of f32 rows are worked on at once. */
static enum graft_status list_tensors(struct merge *m, int64_t bytes, struct graft_err *err)
{
    const struct model_linear *head = &m->base.model->head;
    int64_t widest = 1;

    /* a tied head that changed needs a tensor of its own */
    m->untied = m->base.ck.config.tied && !adapter_keeps_tie(m->adapter);
    GRAFT_TRY(model_tensors(m->base.model, &m->mem, &m->tensor, &m->count, err));
    if (m->untied) /* the list has room for the head */
        m->tensor[m->count++] =
            (struct model_tensor){ arena_printf(&m->mem, "%s.weight", head->name), 2, head->w,
                                   &m->base.model->slots.slot[head->slot], false };
    for (int64_t i = 0; i < m->count; i++)
        if (m->tensor[i].mat.cols > widest)
            widest = m->tensor[i].mat.cols;
    widest *= m->base.ck.config.head_dim; /* a GGUF's rows are put in order by heads */
    m->room = bytes / 4 > widest ? bytes / 4 : widest;
    m->rows = arena_array(&m->mem, (size_t)m->room, sizeof *m->rows);
    m->coded = arena_array(&m->mem, (size_t)m->room, sizeof *m->rows);
    return m->rows && m->coded ? GRAFT_OK
                               : graft_fail_nomem(err, "rows to merge", (size_t)m->room * 8);
}

static enum graft_status open_words(struct merge *m, struct graft_err *err)
{
    const struct task *k = &m->tasks.task[0];
    bool tokenizer, any;

    m->text = &m->base.text;
    GRAFT_TRY(text_is_in(k->dir, &tokenizer, &any, err));
    if (!any)
        return GRAFT_OK;
    GRAFT_TRY(
        text_open_over(k->dir, m->opts->base, &m->base.text, k->facts.template_date, &m->own, err));
    m->text = &m->own;
    return GRAFT_OK;
}

static enum graft_status write_files(struct merge *m, const char *words, struct graft_err *err)
{
    GRAFT_TRY(write_weights(m, err));
    GRAFT_TRY(text_copy(words, m->text, m->opts->output, err));
    GRAFT_TRY(write_generation(m, err));
    return write_config(m, err); /* last: a folder without it is no checkpoint */
}

static enum graft_status write_all(struct merge *m, struct graft_err *err)
{
    const char *words = tasks_text_path(&m->tasks, m->opts->base), *dir = m->opts->output;
    bool made;
    enum graft_status st;

    if (m->opts->gguf)
        return merge_write_gguf(m, err);
    GRAFT_TRY(result_folder(dir, m->opts->force, &made, err));
    st = write_files(m, words, err);
    if (st)
        result_discard(dir, made);
    else
        result_keep();
    return st;
}

enum graft_status merge_write(const struct base *base, const char *words, struct adapter *a,
                              enum qtype dtype, const char *dir, struct graft_err *err)
{
    const struct merge_opts opts = { .output = dir };
    struct merge m = {
        .opts = &opts, .base = *base, .text = &base->text, .adapter = a, .dtype = dtype
    };
    enum graft_status st = list_tensors(&m, FEW_BYTES, err); /* a run is in memory beside it */

    if (!st)
        st = write_files(&m, words, err);
    arena_release(&m.mem);
    return st;
}

static enum graft_status check_output(const struct merge_opts *o, struct graft_err *err)
{
    const enum output_kind kind = o->gguf ? OUTPUT_FILE : OUTPUT_MODEL;

    GRAFT_TRY(
        output_spares(kind, o->output, o->undo ? "the merged model" : "the base", o->base, err));
    GRAFT_TRY(output_spares(kind, o->output, "the adapter", o->adapter, err));
    GRAFT_TRY(output_spares(kind, o->output, "--audit", o->audit, err));
    return o->gguf ? merge_check_gguf(o, err) : GRAFT_OK;
}

/* A merged model is no base that the adapter was trained over: no notes. */
static enum graft_status load_quietly(struct merge *m, struct graft_err *err)
{
    struct task *k = &m->tasks.task[0];

    GRAFT_TRY(adapter_new(&k->config, &m->base.model->slots, false, &k->adapter, err));
    return adapter_load_values(k->adapter, k->dir, err);
}

void merge_close(struct merge *m)
{
    text_release(&m->own);
    tasks_release(&m->tasks);
    base_release(&m->base);
    arena_release(&m->mem);
    m->text = NULL;
    m->adapter = NULL;
}

enum graft_status merge_run(const struct merge_opts *opts, struct merge_report *out,
                            struct graft_err *err)
{
    struct merge m = { .opts = opts };
    struct quant_config quant = { .mode = QUANT_AUTO };
    enum graft_status st = check_output(opts, err);

    if (!st)
        st = tasks_open(&opts->adapter, 1, &m.tasks, err);
    if (!st) {
        if (!opts->undo)
            choose_onto(&m, &quant);
        st = base_open(opts->base, &quant, false, &m.base, err);
    }
    if (!st && !opts->undo)
        st = check_original(&m, err);
    if (!st)
        st = opts->undo ? load_quietly(&m, err) : tasks_load(&m.tasks, m.base.model, err);
    if (!st) {
        m.adapter = m.tasks.task[0].adapter;
        m.report.method = m.adapter->ops->name;
        m.report.dtype = m.dtype = opts->gguf ? gguf_dtype(opts) : choose_dtype(&m);
        snprintf(m.report.format, sizeof m.report.format, "%s",
                 qtypes[m.base.model->layer[0].linear[LIN_Q].w.type].name);
        st = check_sites(&m, err);
    }
    if (!st)
        st = open_words(&m, err);
    if (!st)
        st = merge_load_records(&m, err);
    if (!st)
        st = list_tensors(&m, ROWS_BYTES, err);
    if (!st)
        st = write_all(&m, err);
    if (!st && opts->audit)
        st = merge_audit(&m, &quant, err);
    *out = m.report;
    dataset_release(&m.data);
    merge_close(&m);
    return st;
}
