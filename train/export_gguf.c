/* llama.cpp's LoRA file: NAME.lora_a (r, in) and NAME.lora_b (out, r) beside each weight's name,
 * and one alpha for all; it multiplies by alpha / r. Layout: formats of ggml-org/llama.cpp,
 * convert_lora_to_gguf.py and src/llama-adapter.cpp. */
#include <math.h>
#include <string.h>

#include "io/gguf_write.h"
#include "peft/change.h"
#include "train/export.h"

#define USE_MERGE "merge it into a GGUF model instead: graft merge --base B --adapter A -o F.gguf"

struct writing {
    const struct exporting *x;
    const struct adapter_site **site; /* by pair of entries */
    struct gguf_entry *entry;         /* 2 a site: a, b */
    int64_t sites;
    float alpha;
    struct arena mem;
};

static bool changes_a_bias(const struct adapter_site *s, float *work)
{
    memset(work, 0, (size_t)s->slot->out * sizeof *work);
    return s->ops->merge_bias && s->ops->merge_bias(s, work);
}

/* What keeps the site out of such a file; NULL: nothing. */
static const char *obstacle(const struct base *b, const struct adapter_site *s, float *work)
{
    const bool tied = b->ck.config.tied;

    for (const struct adapter_site *k = s; k; k = k->next)
        if (k->ops->merges == MERGE_REPLACES && changes_a_bias(k, work))
            return "it has a bias of its own, which a GGUF adapter has no place for";
    if (!s->ops->factors || s->next)
        return "its change is no product of two factors, which is all that a GGUF adapter holds";
    if (changes_a_bias(s, work))
        return "it changes a bias too, which a GGUF adapter has no place for";
    if (s->slot->is_head && tied)
        return "the head is the embedding, and a GGUF adapter cannot change one without the other";
    if (s->slot->site == SITE_EMBED && tied)
        return "the embedding is the head, and a GGUF adapter cannot change one without the other";
    return NULL;
}

static enum graft_status check_sites(const struct exporting *x, struct graft_err *err)
{
    const struct adapter *a = x->task->adapter;

    for (int i = 0; i < a->site_count; i++) {
        const struct adapter_site *s = &a->site[i];
        float *work = mem_array((size_t)s->slot->out, sizeof *work);
        const char *why;

        if (!work)
            return graft_fail_nomem(err, s->slot->name, (size_t)s->slot->out * sizeof *work);
        why = obstacle(x->base, s, work);
        mem_free(work);
        if (why && why_no_change(s->ops))
            return graft_fail(err, GRAFT_EARG, "a GGUF adapter cannot hold a %s adapter: %s",
                              s->ops->name, why_no_change(s->ops));
        if (why)
            return graft_fail(err, GRAFT_EARG, "%s (%s): %s; " USE_MERGE, s->slot->name,
                              s->ops->name, why);
    }
    return GRAFT_OK;
}

/* q8_0 where whole blocks make a row; f16 where not, as llama.cpp's own converter does. */
static enum qtype type_for(const struct writing *w, int64_t cols)
{
    const enum qtype t = w->x->opts->dtype;

    if (cols % qtypes[t].block == 0)
        return t;
    w->x->report->in_f16++;
    return QT_F16;
}

static enum graft_status add_site(struct writing *w, const struct adapter_site *s,
                                  struct graft_err *err)
{
    struct gguf_entry *e = &w->entry[2 * w->sites];
    const bool embed = s->slot->site == SITE_EMBED;
    const char *name = arena_printf(&w->mem, "%s.weight", s->slot->name);
    char gguf[128];

    if (!name)
        return graft_fail_nomem(err, s->slot->name, 128);
    if (!gguf_name(w->x->base->ck.config.arch, name, gguf))
        return graft_fail(err, GRAFT_EARG, "%s: GGUF has no name for this weight", s->slot->name);
    for (int i = 0; i < 2; i++) {
        e[i].name = arena_printf(&w->mem, "%s.lora_%c", gguf, "ab"[i]);
        if (!e[i].name)
            return graft_fail_nomem(err, gguf, 128);
        e[i].ndim = 2;
    }
    /* llama.cpp looks rows of the embedding's A up by token: (V, r), and its B is (C, r) */
    e[0].dim[0] = embed ? s->slot->out : s->r;
    e[0].dim[1] = embed ? s->r : s->slot->in;
    e[1].dim[0] = embed ? s->slot->in : s->slot->out;
    e[1].dim[1] = s->r;
    e[0].type = type_for(w, e[0].dim[1]);
    e[1].type = type_for(w, e[1].dim[1]);
    w->site[w->sites++] = s;
    return GRAFT_OK;
}

/* One alpha for all: the first site's where that is one; others are put into their B. 0 would mean
 * "no alpha" to llama.cpp. */
static void choose_alpha(struct writing *w)
{
    w->alpha = 0;
    for (int64_t i = 0; i < w->sites && w->alpha == 0; i++)
        w->alpha = (float)((double)w->site[i]->scale * (double)w->site[i]->r);
    if (w->alpha == 0)
        w->alpha = 1;
}

static double share_of(const struct writing *w, const struct adapter_site *s)
{
    const double alpha = (double)s->scale * (double)s->r;

    return fabs(alpha - (double)w->alpha) <= 1e-6 * fabs((double)w->alpha)
               ? 1
               : alpha / (double)w->alpha;
}

/* b (out, r) times `share`, its rows where llama.cpp keeps them. */
static void place_b(const struct writing *w, const struct adapter_site *s, const float *b,
                    float *out)
{
    const double share = share_of(w, s);
    char name[256];
    int64_t head;

    snprintf(name, sizeof name, "%s.weight", s->slot->name);
    head = gguf_permutes(&w->x->base->ck.config, name);
    for (int64_t y = 0; y < s->slot->out; y++) {
        float *row = out + (head ? slot_stored_row(y, head) : y) * s->r;

        for (int64_t t = 0; t < s->r; t++)
            row[t] = (float)(share * (double)b[y * s->r + t]);
    }
}

static void transpose(const float *x, int64_t rows, int64_t cols, double f, float *out)
{
    for (int64_t y = 0; y < rows; y++)
        for (int64_t k = 0; k < cols; k++)
            out[k * rows + y] = (float)(f * (double)x[y * cols + k]);
}

/* Both factors of a site are made for each of its two entries; `out` gets the one wanted. */
static void make_values(const struct writing *w, const struct adapter_site *s, bool b, float *left,
                        float *right, float *out)
{
    s->ops->factors(s, left, right);
    if (s->slot->site == SITE_EMBED && b)
        transpose(right, s->r, s->slot->in, share_of(w, s), out);
    else if (b)
        place_b(w, s, left, out);
    else
        memcpy(out, s->slot->site == SITE_EMBED ? left : right,
               (size_t)(s->r * (s->slot->site == SITE_EMBED ? s->slot->out : s->slot->in)) *
                   sizeof *out);
}

static enum graft_status write_values(const struct gguf_entry *e, const float *x, void *coded,
                                      struct out_file *f, struct graft_err *err)
{
    const int64_t n = e->dim[0] * e->dim[1];
    const struct qtype_info *q = &qtypes[e->type];

    for (int64_t i = 0; (e->type == QT_F16 || e->type == QT_Q8_0) && i < n; i++)
        if (!(fabsf(x[i]) <= 65504))
            return graft_fail(err, GRAFT_ERUN, "%s: %g does not fit %s; use --dtype f32 or bf16",
                              e->name, (double)x[i], q->name);
    q->encode(coded, x, n);
    out_file_write(f, coded, (size_t)(n / q->block) * (size_t)q->block_bytes);
    return GRAFT_OK;
}

static enum graft_status fill(void *user, const struct gguf_entry *e, struct out_file *f,
                              struct graft_err *err)
{
    const struct writing *w = user;
    const int64_t at = e - w->entry, n = e->dim[0] * e->dim[1];
    const struct adapter_site *s = w->site[at / 2];
    struct arena mem = ARENA_INIT;
    float *left = arena_array(&mem, (size_t)(s->slot->out * s->r), sizeof *left);
    float *right = arena_array(&mem, (size_t)(s->r * s->slot->in), sizeof *right);
    float *x = arena_array(&mem, (size_t)n, sizeof *x), *coded = arena_array(&mem, (size_t)n, 4);
    enum graft_status st;

    if (!left || !right || !x || !coded) {
        arena_release(&mem);
        return graft_fail_nomem(err, e->name, (size_t)n * 12);
    }
    make_values(w, s, at % 2 == 1, left, right, x);
    st = write_values(e, x, coded, f, err);
    w->x->report->bytes += (size_t)(n / qtypes[e->type].block * qtypes[e->type].block_bytes);
    arena_release(&mem);
    return st;
}

/* general.file_type: llama.cpp's numbers. */
static uint32_t file_type(enum qtype t)
{
    return t == QT_F32 ? 0 : t == QT_F16 ? 1 : t == QT_Q8_0 ? 7 : 32;
}

static enum graft_status write_file(struct writing *w, struct graft_err *err)
{
    const struct export_opts *o = w->x->opts;
    struct gguf_keys k = { STRBUF_INIT, 0 };
    enum graft_status st;

    gguf_put_str(&k, "general.architecture", gguf_architecture(&w->x->base->ck.config));
    gguf_put_str(&k, "general.type", "adapter");
    gguf_put_str(&k, "adapter.type", "lora");
    gguf_put_str(&k, "general.name", path_base(o->adapter));
    gguf_put_u32(&k, "general.file_type", file_type(o->dtype));
    gguf_put_f32(&k, "adapter.lora.alpha", w->alpha);
    gguf_put_u32(&k, "general.quantization_version", 2);
    st = gguf_write(o->output, &k, w->entry, 2 * w->sites, 32, fill, w, err);
    gguf_keys_release(&k);
    return st;
}

enum graft_status export_gguf(const struct exporting *x, struct graft_err *err)
{
    const struct adapter *a = x->task->adapter;
    const size_t n = (size_t)a->site_count;
    struct writing w = { .x = x };
    enum graft_status st = check_sites(x, err);

    w.site = arena_array(&w.mem, n, sizeof(struct adapter_site *));
    w.entry = arena_array(&w.mem, 2 * n, sizeof *w.entry);
    if (!st && (!w.site || !w.entry))
        st = graft_fail_nomem(err, "list of tensors", n * 2 * sizeof *w.entry);
    for (int i = 0; i < a->site_count && !st; i++)
        st = add_site(&w, &a->site[i], err);
    if (!st) {
        choose_alpha(&w);
        st = write_file(&w, err);
    }
    x->report->tensors = 2 * w.sites;
    arena_release(&w.mem);
    return st;
}
