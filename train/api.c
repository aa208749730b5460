/* The public interface: models, the adapters over them, tokens. */
#include "train/api.h"

#include <omp.h>
#include <string.h>

int threads_enter(int threads)
{
    const int before = omp_get_max_threads();

    if (threads > 0)
        omp_set_num_threads(threads);
    return before;
}

void threads_leave(int before)
{
    omp_set_num_threads(before);
}

/* What `quant` says; auto is what the adapter `like` was trained over, when one is given. */
static enum graft_status parse_quant(const char *quant, const char *like, struct quant_config *out,
                                     struct graft_err *err)
{
    struct task_list t = { 0 };
    struct quant_config given;
    enum graft_status st;

    GRAFT_TRY(quant_config_parse(quant ? quant : "auto", &given, err));
    st = tasks_open(&like, like ? 1 : 0, &t, err);
    if (!st)
        st = tasks_quant(&t, &given, out, err);
    tasks_release(&t);
    return st;
}

static enum graft_status open_parts(const char *path, const struct graft_model_opts *opts,
                                    struct graft_model *m, struct graft_err *err)
{
    struct generate_opts how = { .max_new = 256, .top_p = 1 };
    struct quant_config quant;
    enum compute_type compute;

    GRAFT_TRY(parse_quant(opts->quant, opts->for_adapter, &quant, err));
    GRAFT_TRY(compute_parse(opts->compute ? opts->compute : "auto", &compute, err));
    m->threads = opts->threads;
    GRAFT_TRY(session_open(path, NULL, 0, &quant, &m->session, err));
    m->compute = session_compute(&m->session, compute);
    how.act = m->compute == COMPUTE_BF16 ? DT_BF16 : DT_F32;
    return generator_new(&m->session.base, &m->session.base.text, &m->session.tasks, &how,
                         &m->generator, err);
}

enum graft_status graft_model_open(const char *path, const struct graft_model_opts *opts,
                                   struct graft_model **out, struct graft_err *err)
{
    static const struct graft_model_opts defaults = GRAFT_MODEL_DEFAULTS;
    struct graft_model *m;
    enum graft_status st;
    int before;

    if (!opts)
        opts = &defaults;
    if (opts->threads < 0)
        return graft_fail(err, GRAFT_EARG, "threads is %d, wanted 1 or more, or 0", opts->threads);
    m = mem_alloc(sizeof *m);
    if (!m)
        return graft_fail_nomem(err, "model", sizeof *m);
    before = threads_enter(opts->threads);
    st = open_parts(path, opts, m, err);
    threads_leave(before);
    if (st)
        graft_model_free(m);
    else
        *out = m;
    return st;
}

void graft_model_free(struct graft_model *m)
{
    if (!m)
        return;
    generator_free(m->generator);
    for (struct graft_adapter *a = m->adapters, *next; a; a = next) {
        next = a->next;
        mem_free(a);
    }
    session_release(&m->session);
    mem_free(m);
}

void graft_model_describe(const struct graft_model *m, struct graft_model_info *out)
{
    const struct base *b = &m->session.base;
    const struct model_config *c = &b->ck.config;

    *out = (struct graft_model_info){
        .path = b->ck.path,
        .architecture = c->model_type,
        .format = session_format(&m->session),
        .compute = compute_names[m->compute],
        .parameters = b->model->params,
        .vocab = c->vocab,
        .context = c->max_positions,
        .layers = c->layers,
        .hidden = c->hidden,
        .weight_bytes = b->model->weight_bytes,
        .has_tokenizer = b->text.tokenizer != NULL,
    };
}

enum graft_status graft_adapter_load(struct graft_model *m, const char *name, const char *path,
                                     struct graft_adapter **out, struct graft_err *err)
{
    struct graft_adapter *a = mem_alloc(sizeof *a);
    enum graft_status st;

    if (!a)
        return graft_fail_nomem(err, "adapter", sizeof *a);
    st = session_add(&m->session, name, path, &a->task, err);
    if (!st) {
        st = generator_prepare(m->generator, a->task, err);
        if (st)
            session_remove(&m->session, a->task);
    }
    if (st) {
        mem_free(a);
        return st;
    }
    a->model = m;
    a->next = m->adapters;
    m->adapters = a;
    if (out)
        *out = a;
    return GRAFT_OK;
}

void graft_adapter_free(struct graft_adapter *a)
{
    struct graft_adapter **at;

    if (!a)
        return;
    for (at = &a->model->adapters; *at != a;)
        at = &(*at)->next;
    *at = a->next;
    generator_forget(a->model->generator, a->task);
    session_remove(&a->model->session, a->task);
    mem_free(a);
}

static const struct task *task_at(const struct graft_adapter *a)
{
    return &a->model->session.tasks.task[a->task];
}

struct graft_adapter *graft_adapter_find(const struct graft_model *m, const char *name)
{
    struct graft_adapter *a = m->adapters;

    while (a && strcmp(task_at(a)->name, name) != 0)
        a = a->next;
    return a;
}

void graft_adapter_describe(const struct graft_adapter *a, struct graft_adapter_info *out)
{
    const struct task *t = task_at(a);

    *out = (struct graft_adapter_info){
        .name = t->name,
        .path = t->dir,
        .method = t->adapter->ops->name,
        .parameters = t->adapter->param_elems,
        .slots = t->adapter->site_count,
    };
}

enum graft_status task_of(const struct graft_model *m, const struct graft_adapter *a, int *out,
                          struct graft_err *err)
{
    if (a && a->model != m)
        return graft_fail(err, GRAFT_EARG, "adapter %s was loaded over another model",
                          task_at(a)->name);
    *out = a ? a->task : TASK_BASE;
    return GRAFT_OK;
}

enum graft_status tokenizer_of(const struct graft_model *m, int task, const struct tokenizer **out,
                               struct graft_err *err)
{
    const struct text *text = task == TASK_BASE ? NULL : m->session.tasks.task[task].text;

    *out = text ? text->tokenizer : m->session.base.text.tokenizer;
    return *out ? GRAFT_OK
                : graft_fail(err, GRAFT_EARG, "%s: the base has no tokenizer; give token ids",
                             m->session.base.ck.path);
}

enum graft_status graft_tokenize(const struct graft_model *m, const struct graft_adapter *a,
                                 const char *text, size_t len, bool special, int32_t **ids,
                                 int64_t *count, struct graft_err *err)
{
    const struct tokenizer *t;
    struct id_list list = { 0 };
    enum graft_status st;
    int task = TASK_BASE;

    GRAFT_TRY(task_of(m, a, &task, err));
    GRAFT_TRY(tokenizer_of(m, task, &t, err));
    st = tokenizer_encode(t, text, len, special, &list, err);
    if (st) {
        id_list_release(&list);
        return st;
    }
    *ids = list.id;
    *count = list.count;
    return GRAFT_OK;
}

enum graft_status graft_detokenize(const struct graft_model *m, const struct graft_adapter *a,
                                   const int32_t *ids, int64_t count, bool skip_special,
                                   char **text, size_t *len, struct graft_err *err)
{
    const struct tokenizer *t;
    struct strbuf s = STRBUF_INIT;
    enum graft_status st;
    int task = TASK_BASE;

    GRAFT_TRY(task_of(m, a, &task, err));
    GRAFT_TRY(tokenizer_of(m, task, &t, err));
    st = tokenizer_decode(t, ids, count, skip_special, &s, err);
    strbuf_puts(&s, ""); /* an empty text is a text too */
    if (!st && (s.failed || !s.buf))
        st = graft_fail_nomem(err, "text", s.len);
    if (st) {
        strbuf_release(&s);
        return st;
    }
    *text = s.buf;
    *len = s.len;
    return GRAFT_OK;
}

void graft_free(void *p)
{
    mem_free(p);
}
