#include "train/tasks.h"

#include <string.h>

#include "core/file.h"

static bool is_name(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = s[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '.' || c == '-'))
            return false;
    }
    return len > 0;
}

/* "[NAME=]DIR": *name is NULL when there is none, else in `mem`. */
static enum graft_status split(const char *arg, struct arena *mem, const char **name,
                               const char **dir, struct graft_err *err)
{
    const char *eq = strchr(arg, '=');

    *name = NULL;
    *dir = arg;
    if (dir_exists(arg) || !eq)
        return GRAFT_OK;
    *name = arena_strndup(mem, arg, (size_t)(eq - arg));
    *dir = eq + 1;
    return *name ? GRAFT_OK : graft_fail_nomem(err, "--adapter", strlen(arg));
}

static const char *name_of_folder(const char *dir, struct arena *mem)
{
    size_t len = strlen(dir);
    const char *copy;

    while (len > 1 && dir[len - 1] == '/')
        len--;
    copy = arena_strndup(mem, dir, len);
    return copy ? path_base(copy) : NULL;
}

static bool has_name(const struct task *k, const char *name)
{
    return k->name && !strcmp(k->name, name);
}

static enum graft_status task_read(const struct task_list *t, const char *name, const char *dir,
                                   struct task *k, struct graft_err *err)
{
    k->dir = arena_strdup(&k->mem, dir);
    k->name = name ? arena_strdup(&k->mem, name) : name_of_folder(dir, &k->mem);
    if (!k->name || !k->dir)
        return graft_fail_nomem(err, "adapter", strlen(dir));
    if (!is_name(k->name, strlen(k->name)))
        return graft_fail(err, GRAFT_EARG,
                          "'%s' is not a task name; wanted letters, digits, '_', '.' and '-'%s",
                          k->name, name ? "" : " (write NAME=DIR)");
    for (int i = 0; i < t->count; i++)
        if (has_name(&t->task[i], k->name))
            return graft_fail(err, GRAFT_EARG,
                              "two adapters are named '%s'; give each its own name (NAME=DIR)",
                              k->name);
    if (!dir_exists(dir))
        return graft_fail(err, GRAFT_EIO, "%s is not a folder", dir);
    GRAFT_TRY(adapter_config_read(dir, &k->config, &k->mem, err));
    return facts_read(dir, &k->facts, err);
}

static void task_release(struct task *k)
{
    adapter_free(k->adapter);
    facts_release(&k->facts);
    arena_release(&k->mem);
    memset(k, 0, sizeof *k);
}

/* The index of an empty place, made when there is none; -1: no memory. */
static int free_place(struct task_list *t)
{
    const int cap = t->cap ? 2 * t->cap : 4;
    struct task *grown;

    for (int i = 0; i < t->count; i++)
        if (!t->task[i].name)
            return i;
    if (t->count == t->cap) {
        grown = mem_resize(t->task, (size_t)t->cap * sizeof *grown, (size_t)cap * sizeof *grown);
        if (!grown)
            return -1;
        t->task = grown;
        t->cap = cap;
    }
    return t->count++;
}

enum graft_status tasks_add(struct task_list *t, const char *name, const char *dir, int *out,
                            struct graft_err *err)
{
    struct task k = { 0 };
    enum graft_status st = task_read(t, name, dir, &k, err);
    int i = 0;

    if (!st) {
        i = free_place(t);
        if (i < 0)
            st = graft_fail_nomem(err, "adapters", (size_t)t->cap * sizeof k);
    }
    if (st) {
        task_release(&k);
        return st;
    }
    t->task[i] = k;
    *out = i;
    return GRAFT_OK;
}

void tasks_remove(struct task_list *t, int index)
{
    task_release(&t->task[index]);
    while (t->count > 0 && !t->task[t->count - 1].name)
        t->count--;
}

enum graft_status tasks_open(const char *const *arg, int count, struct task_list *out,
                             struct graft_err *err)
{
    struct task_list list = { 0 };
    enum graft_status st = GRAFT_OK;

    for (int i = 0; i < count && !st; i++) {
        struct arena mem = ARENA_INIT;
        const char *name = NULL, *dir = NULL;
        const int before = list.count;
        int index;

        st = split(arg[i], &mem, &name, &dir, err);
        if (!st)
            st = tasks_add(&list, name, dir, &index, err);
        if (st == GRAFT_EARG && list.count == before)
            st = graft_fail_in(err, st, "--adapter %s", arg[i]);
        arena_release(&mem);
    }
    if (st)
        tasks_release(&list);
    else
        *out = list;
    return st;
}

void tasks_release(struct task_list *t)
{
    for (int i = 0; i < t->count; i++)
        task_release(&t->task[i]);
    mem_free(t->task);
    memset(t, 0, sizeof *t);
}

enum graft_status tasks_quant(const struct task_list *t, const struct quant_config *given,
                              struct quant_config *out, struct graft_err *err)
{
    const struct task *first = NULL;

    *out = *given;
    for (int i = 0; given->mode == QUANT_AUTO && i < t->count; i++) {
        const struct task *k = &t->task[i];

        if (!k->name || !k->facts.has_quant)
            continue;
        if (first && !facts_same_quant(&first->facts.quant, &k->facts.quant))
            return graft_fail(err, GRAFT_EARG,
                              "adapters %s and %s were trained over different formats of the base; "
                              "choose one with "
                              "--quant",
                              first->dir, k->dir);
        first = k;
        *out = k->facts.quant;
    }
    return GRAFT_OK;
}

/* A format the adapter was not trained over changes what it does, if only a little. */
static void note_format(const struct task *k, const struct model *m)
{
    const struct quant_config *q = &k->facts.quant;
    const enum qtype now = m->layer[0].linear[LIN_Q].w.type;

    if (!k->facts.has_quant || q->mode == QUANT_AUTO)
        return;
    if (q->mode == QUANT_NONE ? !qtypes[now].is_float : q->spec.type != now)
        graft_note("adapter %s was trained over %s weights, the base's are used as %s", k->dir,
                   q->mode == QUANT_NONE ? "float" : qtypes[q->spec.type].name, qtypes[now].name);
}

enum graft_status task_load(struct task *k, const struct model *m, struct graft_err *err)
{
    enum graft_status st;

    GRAFT_TRY(facts_check(k->dir, &k->facts, m->ck, err));
    if (k->facts.known && strcmp(k->facts.base_hash, m->ck->hash) != 0)
        graft_note("adapter %s was trained over another base (%s, hash %s; this one is %s); "
                   "shapes are checked, meaning cannot be",
                   k->dir, k->facts.base_path ? k->facts.base_path : "?", k->facts.base_hash,
                   m->ck->hash);
    note_format(k, m);
    st = adapter_new(&k->config, &m->slots, false, &k->adapter, err);
    if (st) /* what does not fit the base is the file's fault here */
        return graft_fail_in(err, st == GRAFT_EARG ? GRAFT_EFORMAT : st, "%s/adapter_config.json",
                             k->dir);
    return adapter_load_values(k->adapter, k->dir, err);
}

enum graft_status tasks_load(struct task_list *t, const struct model *m, struct graft_err *err)
{
    for (int i = 0; i < t->count; i++)
        GRAFT_TRY(task_load(&t->task[i], m, err));
    return GRAFT_OK;
}

enum graft_status tasks_find(const struct task_list *t, const char *name, int *out,
                             struct graft_err *err)
{
    struct strbuf names = STRBUF_INIT;
    enum graft_status st;
    int there = 0, only = TASK_BASE;

    for (int i = 0; i < t->count; i++) {
        if (!t->task[i].name)
            continue;
        only = name && !has_name(&t->task[i], name) ? only : i;
        strbuf_printf(&names, "%s%s", there++ ? ", " : "", t->task[i].name);
    }
    if (name ? only != TASK_BASE : there <= 1) {
        strbuf_release(&names);
        *out = only;
        return GRAFT_OK;
    }
    st = name ? graft_fail(err, GRAFT_EARG, "there is no adapter for task '%s'; loaded: %s", name,
                           there ? strbuf_str(&names) : "none")
              : graft_fail(err, GRAFT_EARG,
                           "several adapters are loaded (%s): say which with --task or \"task\"",
                           strbuf_str(&names));
    strbuf_release(&names);
    return st;
}

struct virtual_tokens tasks_virtual(const struct task_list *t, int task)
{
    const struct virtual_tokens none = { 0 };

    return task == TASK_BASE ? none : t->task[task].virt;
}

const char *tasks_text_path(const struct task_list *t, const char *base)
{
    for (int i = 0; i < t->count; i++) {
        struct strbuf path = STRBUF_INIT;
        bool there;

        if (!t->task[i].name)
            continue;
        path_join(&path, t->task[i].dir, "tokenizer.json");
        there = file_exists(strbuf_str(&path));
        strbuf_release(&path);
        if (there)
            return t->task[i].dir;
    }
    return base;
}
