#include "train/session.h"

#include <string.h>

#include "core/file.h"

/* The tokenizer of an adapter's folder. Adapters of one base bring the same one, mostly, and it may
 * weigh more than they do: equal files share one. */
struct words {
    struct text text;
    char sha256[65]; /* of the files that make it */
    int users;
    struct words *next;
};

static enum graft_status add_file(void *user, const char *name, const char *text, size_t len,
                                  struct graft_err *err)
{
    (void)err;
    sha256_add(user, name, strlen(name) + 1);
    sha256_add(user, &len, sizeof len);
    sha256_add(user, text, len);
    return GRAFT_OK;
}

/* The hash of the words' files and the date they are told; that of the folder's name where a
 * config.json has a say too. */
static enum graft_status words_key(const struct task *k, char hex[65], struct graft_err *err)
{
    const struct text none = { .eos = -1 };
    const char *date = k->facts.template_date;
    struct sha256 sha;
    struct strbuf config = STRBUF_INIT;

    sha256_init(&sha);
    path_join(&config, k->dir, "config.json");
    if (config.failed || file_exists(strbuf_str(&config)))
        sha256_add(&sha, k->dir, strlen(k->dir));
    strbuf_release(&config);
    if (date)
        sha256_add(&sha, date, strlen(date));
    GRAFT_TRY(text_files(k->dir, &none, add_file, &sha, err));
    sha256_finish(&sha, hex);
    return GRAFT_OK;
}

static enum graft_status words_new(struct session *s, const struct task *k, const char key[65],
                                   struct words **out, struct graft_err *err)
{
    struct words *w = mem_alloc(sizeof *w);
    enum graft_status st;

    if (!w)
        return graft_fail_nomem(err, "tokenizer", sizeof *w);
    st = text_open_over(k->dir, s->base.ck.path, &s->base.text, k->facts.template_date, &w->text,
                        err);
    if (st) {
        mem_free(w);
        return st;
    }
    memcpy(w->sha256, key, sizeof w->sha256);
    w->next = s->words;
    s->words = w;
    *out = w;
    return GRAFT_OK;
}

static enum graft_status words_get(struct session *s, struct task *k, struct graft_err *err)
{
    char key[65];
    struct words *w = s->words;
    bool tokenizer, any;

    GRAFT_TRY(text_is_in(k->dir, &tokenizer, &any, err));
    if (!any)
        return GRAFT_OK;
    GRAFT_TRY(words_key(k, key, err));
    while (w && strcmp(w->sha256, key) != 0)
        w = w->next;
    if (!w)
        GRAFT_TRY(words_new(s, k, key, &w, err));
    w->users++;
    k->text = &w->text;
    return GRAFT_OK;
}

static void words_put(struct session *s, const struct text *t)
{
    struct words **at = &s->words, *w;

    while (*at && &(*at)->text != t)
        at = &(*at)->next;
    w = *at;
    if (!w || --w->users > 0)
        return;
    *at = w->next;
    text_release(&w->text);
    mem_free(w);
}

static void choose_text(struct session *s)
{
    s->text = &s->base.text;
    for (int i = s->tasks.count - 1; i >= 0; i--)
        if (s->tasks.task[i].name && s->tasks.task[i].text)
            s->text = s->tasks.task[i].text;
}

const struct text *session_text(const struct session *s, int task)
{
    if (task != TASK_BASE && s->tasks.task[task].text)
        return s->tasks.task[task].text;
    return s->base.text.tokenizer ? &s->base.text : s->text;
}

static enum graft_status find_virtual(struct session *s, int task, struct graft_err *err)
{
    struct task *k = &s->tasks.task[task];
    const struct text *text = k->text ? k->text : &s->base.text;

    return virtual_of(&k->config, text->tokenizer, &k->virt, err);
}

enum graft_status session_open(const char *base, const char *const *adapter, int adapters,
                               const struct quant_config *quant, struct session *out,
                               struct graft_err *err)
{
    struct quant_config q;
    enum graft_status st;

    memset(out, 0, sizeof *out);
    st = tasks_open(adapter, adapters, &out->tasks, err);
    if (!st)
        st = tasks_quant(&out->tasks, quant, &q, err);
    if (!st)
        st = base_open(base, &q, false, &out->base, err);
    if (!st)
        st = text_set_date(&out->base.text, NULL, err);
    for (int i = 0; i < out->tasks.count && !st; i++)
        st = words_get(out, &out->tasks.task[i], err);
    if (!st)
        st = tasks_load(&out->tasks, out->base.model, err);
    for (int i = 0; i < out->tasks.count && !st; i++)
        st = find_virtual(out, i, err);
    if (st)
        session_release(out);
    else
        choose_text(out);
    return st;
}

enum graft_status session_use_template(struct session *s, const char *choice, struct graft_err *err)
{
    if (!choice)
        return GRAFT_OK;
    GRAFT_TRY(text_use_template(&s->base.text, choice, err));
    GRAFT_TRY(text_set_date(&s->base.text, NULL, err));
    for (struct words *w = s->words; w; w = w->next) {
        GRAFT_TRY(text_use_template(&w->text, choice, err));
        GRAFT_TRY(text_set_date(&w->text, NULL, err));
    }
    return GRAFT_OK;
}

enum graft_status session_add(struct session *s, const char *name, const char *dir, int *task,
                              struct graft_err *err)
{
    int i = 0;
    enum graft_status st;

    GRAFT_TRY(tasks_add(&s->tasks, name, dir, &i, err));
    st = words_get(s, &s->tasks.task[i], err);
    if (!st)
        st = task_load(&s->tasks.task[i], s->base.model, err);
    if (!st)
        st = find_virtual(s, i, err);
    if (st) {
        session_remove(s, i);
        return st;
    }
    choose_text(s);
    *task = i;
    return GRAFT_OK;
}

void session_remove(struct session *s, int task)
{
    words_put(s, s->tasks.task[task].text);
    tasks_remove(&s->tasks, task);
    choose_text(s);
}

void session_release(struct session *s)
{
    for (int i = 0; i < s->tasks.count; i++)
        words_put(s, s->tasks.task[i].text);
    tasks_release(&s->tasks);
    base_release(&s->base);
}

const char *session_format(const struct session *s)
{
    return qtypes[s->base.model->layer[0].linear[LIN_Q].w.type].name;
}

int session_compute(const struct session *s, int compute)
{
    int all = COMPUTE_AUTO;

    for (int i = 0; compute == COMPUTE_AUTO && i < s->tasks.count; i++) {
        const struct task *k = &s->tasks.task[i];

        if (!k->name || !k->facts.known)
            continue;
        if (all != COMPUTE_AUTO && all != k->facts.compute)
            return COMPUTE_F32;
        all = k->facts.compute;
    }
    if (compute == COMPUTE_AUTO)
        compute = all;
    return compute == COMPUTE_AUTO ? COMPUTE_F32 : compute;
}
