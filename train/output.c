#include "train/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/file.h"
#include "io/container.h"
#include "io/gguf.h"
#include "train/changed.h"

/* What a run writes into its folder; --force removes these and nothing else. */
static const char *const run_files[] = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter.safetensors", /* adapter-hub's */
    "graft.json",
    "graft_state.safetensors",
    "config.yaml",
    "metrics.jsonl",
    "result.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "valid.jsonl",
    CHANGED_BASE_FILE,
};
static const char *const run_folders[] = { "best", "checkpoints", "last_good" };
/* Further chat templates of a base that has several, in a folder of their own. */
static const char templates_folder[] = "additional_chat_templates";
/* A run of two stages has the first one here. It is a run of its own, so no sign of an occupied
 * folder. */
static const char *const stage_folders[] = { "probe" };
/* Where it trained every weight: some of what a merged checkpoint consists of. */
static const char *const model_files[] = { "config.json", "model.safetensors",
                                           "model.safetensors.index.json" };
/* One of these makes a folder one that --force may clear: other files of a run have names that
 * checkpoints and people's own work have too. */
static const char *const run_marks[] = { "metrics.jsonl", "adapter_config.json", "graft.json",
                                         "result.json", "probe/metrics.jsonl" };

#define COUNT(a) (sizeof(a) / sizeof *(a))

static bool holds(const char *dir, const char *name)
{
    struct strbuf path = STRBUF_INIT;
    bool there;

    path_join(&path, dir, name);
    there = file_exists(strbuf_str(&path));
    strbuf_release(&path);
    return there;
}

static void remove_named(const char *dir, const char *name)
{
    struct strbuf path = STRBUF_INIT;

    path_join(&path, dir, name);
    unlink(strbuf_str(&path));
    strbuf_release(&path);
}

/* The walk over what --force removes, which also tells beforehand whether any of it is read. */
struct cover {
    const char *read; /* a file or folder to look for, and remove nothing; NULL: remove */
    bool found;
};

/* Is `path` what is read, or a file in the folder that is read? A container or a GGUF model in a
 * folder is no part of the checkpoint or adapter there. */
static bool is_read(const char *read, const char *path)
{
    struct strbuf member = STRBUF_INIT;
    const struct dirent *e;
    bool found = same_place(read, path);
    DIR *d = !found && file_exists(path) && !dir_exists(path) ? opendir(read) : NULL;

    while (d && !found && (e = readdir(d))) {
        strbuf_clear(&member);
        path_join(&member, read, e->d_name);
        found = same_place(strbuf_str(&member), path) && !container_is(path) && !gguf_is(path);
    }
    if (d)
        closedir(d);
    strbuf_release(&member);
    return found;
}

static void cover_file(struct cover *c, const char *dir, const char *name)
{
    struct strbuf path = STRBUF_INIT;

    path_join(&path, dir, name);
    if (c->read)
        c->found = c->found || is_read(c->read, strbuf_str(&path));
    else
        unlink(strbuf_str(&path));
    strbuf_release(&path);
}

/* The folder itself, after what is covered in it. */
static void cover_folder(struct cover *c, const char *dir)
{
    if (c->read)
        c->found = c->found || is_read(c->read, dir);
    else
        rmdir(dir); /* stays when somebody put other files into it */
}

static void cover_templates(struct cover *c, const char *dir)
{
    struct strbuf path = STRBUF_INIT;
    const struct dirent *e;
    DIR *d;

    path_join(&path, dir, templates_folder);
    d = opendir(strbuf_str(&path));
    while (d && (e = readdir(d)))
        if (strstr(e->d_name, ".jinja"))
            cover_file(c, strbuf_str(&path), e->d_name);
    if (d) {
        closedir(d);
        cover_folder(c, strbuf_str(&path));
    }
    strbuf_release(&path);
}

void adapter_files_remove(const char *dir)
{
    static const char *const name[] = { "adapter_config.json",     "adapter_model.safetensors",
                                        "graft_state.safetensors", "graft.json",
                                        "tokenizer.json",          "tokenizer_config.json",
                                        "special_tokens_map.json", "chat_template.jinja",
                                        "generation_config.json" };
    struct cover c = { NULL, false };

    cover_templates(&c, dir);
    for (size_t i = 0; i < COUNT(name); i++)
        remove_named(dir, name[i]);
}

static bool is_run_file(const void *user, const char *name)
{
    (void)user;
    for (size_t i = 0; i < COUNT(run_files); i++)
        if (!strcmp(name, run_files[i]))
            return true;
    return false;
}

/* Files a merged checkpoint consists of. */
static bool is_result_file(const void *user, const char *name)
{
    static const char *const own[] = { "config.json",
                                       "generation_config.json",
                                       "tokenizer.json",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "chat_template.jinja",
                                       "model.safetensors.index.json" };

    (void)user;
    for (size_t i = 0; i < COUNT(own); i++)
        if (!strcmp(name, own[i]))
            return true;
    return !strncmp(name, "model", 5) && strstr(name, ".safetensors") != NULL;
}

static void cover_result(struct cover *c, const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;

    cover_templates(c, dir);
    while (d && (e = readdir(d)))
        if (is_result_file(NULL, e->d_name))
            cover_file(c, dir, e->d_name);
    if (d)
        closedir(d);
}

static void remove_result(const char *dir)
{
    struct cover c = { NULL, false };

    cover_result(&c, dir);
}

/* Does the folder hold the checkpoint of a run that trained every weight? What somebody else made
 * has no graft.json, or an adapter beside it. */
static bool is_whole(const char *dir)
{
    return holds(dir, "graft.json") && !holds(dir, "adapter_config.json");
}

static void cover_files(struct cover *c, const char *dir)
{
    if (is_whole(dir))
        cover_result(c, dir);
    cover_templates(c, dir);
    if (!c->read)
        file_sweep(dir, is_run_file, NULL);
    for (size_t k = 0; k < COUNT(run_files); k++)
        cover_file(c, dir, run_files[k]);
}

static void cover_folder_of(struct cover *c, const char *dir, const char *name)
{
    struct strbuf path = STRBUF_INIT;

    path_join(&path, dir, name);
    cover_files(c, strbuf_str(&path));
    cover_folder(c, strbuf_str(&path));
    strbuf_release(&path);
}

static void cover_run(struct cover *c, const char *dir, const char *keep)
{
    for (size_t i = 0; i < COUNT(stage_folders); i++) {
        struct strbuf path = STRBUF_INIT;

        if (keep && !strcmp(keep, stage_folders[i]))
            continue;
        path_join(&path, dir, stage_folders[i]);
        for (size_t k = 0; k < COUNT(run_folders); k++)
            cover_folder_of(c, strbuf_str(&path), run_folders[k]);
        strbuf_release(&path);
        cover_folder_of(c, dir, stage_folders[i]);
    }
    for (size_t i = 0; i < COUNT(run_folders); i++)
        cover_folder_of(c, dir, run_folders[i]);
    cover_files(c, dir);
}

static void remove_run(const char *dir, const char *keep)
{
    struct cover c = { NULL, false };

    cover_run(&c, dir, keep);
}

enum graft_status output_spares(enum output_kind kind, const char *output, const char *what,
                                const char *path, struct graft_err *err)
{
    struct cover c = { path, false };

    if (!path)
        return GRAFT_OK;
    if (same_place(output, path))
        return graft_fail(err, GRAFT_EARG, "output %s is %s, which is read; use another output",
                          output, what);
    if (kind == OUTPUT_FILE)
        c.found = is_read(path, output);
    else if (kind == OUTPUT_MODEL)
        cover_result(&c, output);
    else
        cover_run(&c, output, NULL);
    return c.found ? graft_fail(err, GRAFT_EARG,
                                "output %s would replace %s (%s), which is read; use another "
                                "output",
                                output, path, what)
                   : GRAFT_OK;
}

/* (optional result) The first of the names that the folder holds. */
static const char *first_held(const char *dir, const char *const *name, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (holds(dir, name[i]))
            return name[i];
    return NULL;
}

static enum graft_status refuse_occupied(const char *dir, bool force, bool whole,
                                         struct graft_err *err)
{
    const char *file = first_held(dir, run_files, COUNT(run_files));
    const char *own = first_held(dir, run_marks, COUNT(run_marks));
    const char *model = first_held(dir, model_files, COUNT(model_files));

    if (!file)
        file = first_held(dir, run_folders, COUNT(run_folders));
    if (!file && whole)
        file = model;
    if (own && model && !is_whole(dir))
        own = NULL; /* a checkpoint that somebody put an adapter beside */
    if (file && !own)
        return graft_fail(err, GRAFT_EARG,
                          "output %s is no run of graft and holds %s, which a run would write; use "
                          "another folder with -o DIR",
                          dir, file);
    if (file && !force)
        return graft_fail(err, GRAFT_EARG,
                          "output %s holds a run already (%s); use another folder with -o DIR, or "
                          "--force to replace it",
                          dir, own);
    return GRAFT_OK;
}

static enum graft_status take_lock(struct output *o, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;

    path_join(&path, o->dir, ".graft.lock");
    o->lock = open(strbuf_str(&path), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    strbuf_release(&path);
    if (o->lock < 0)
        return graft_fail(err, GRAFT_EWRITE, "%s: cannot write in the folder: %s", o->dir,
                          strerror(errno));
    if (flock(o->lock, LOCK_EX | LOCK_NB) != 0)
        return graft_fail(err, GRAFT_EARG, "output %s is in use by another run of graft", o->dir);
    return GRAFT_OK;
}

/* A file in the way of an output folder is a slip of the command, no failed write. */
static enum graft_status make_folder(const char *dir, struct graft_err *err)
{
    struct stat s;
    const bool blocked = stat(dir, &s) == 0 ? !S_ISDIR(s.st_mode) : errno == ENOTDIR;
    enum graft_status st = dir_make(dir, err);

    return st == GRAFT_EWRITE && blocked ? graft_fail_in(err, GRAFT_EARG, "output") : st;
}

enum graft_status output_open(const char *dir, bool force, bool whole, struct output *out,
                              struct graft_err *err)
{
    struct output o = { .dir = dir, .made = !dir_exists(dir), .lock = -1, .metrics = -1 };
    enum graft_status st = make_folder(dir, err);

    if (!st)
        st = take_lock(&o, err);
    if (!st)
        st = refuse_occupied(dir, force, whole, err);
    if (st)
        output_close(&o);
    else
        *out = o;
    return st;
}

enum graft_status output_begin(struct output *o, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    remove_run(o->dir, o->keep);
    path_join(&path, o->dir, "metrics.jsonl");
    o->metrics = open(strbuf_str(&path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (o->metrics < 0)
        st = graft_fail(err, GRAFT_EWRITE, "%s: %s", strbuf_str(&path), strerror(errno));
    strbuf_release(&path);
    return st;
}

void output_note_room(const struct output *o, size_t bytes)
{
    enum { MIB = 1 << 20 };
    struct statvfs fs;
    double room;

    if (statvfs(o->dir, &fs) != 0 || fs.f_blocks == 0) /* some network file systems do not say */
        return;
    room = (double)fs.f_bavail * (double)fs.f_frsize;
    if (room < (double)bytes)
        graft_note("%.1f MiB are free for %s, the run will write %.1f MiB", room / MIB, o->dir,
                   (double)bytes / MIB);
}

void output_close(struct output *o)
{
    if (o->metrics >= 0)
        close(o->metrics);
    if (o->lock >= 0) {
        if (flock(o->lock, LOCK_EX | LOCK_NB) == 0)
            remove_named(o->dir, ".graft.lock");
        close(o->lock);
    }
    o->metrics = o->lock = -1;
}

void output_discard(struct output *o)
{
    output_close(o);
    if (o->made)
        rmdir(o->dir);
}

enum graft_status output_metric_text(struct output *o, struct strbuf *line, struct graft_err *err)
{
    enum graft_status st = GRAFT_OK;
    size_t done = 0;

    strbuf_putc(line, '\n');
    if (line->failed)
        return graft_fail_nomem(err, "metrics.jsonl", 512);
    while (done < line->len && !st) {
        const ssize_t n = write(o->metrics, line->buf + done, line->len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            st = graft_fail(err, GRAFT_EWRITE, "%s/metrics.jsonl: %s", o->dir, strerror(errno));
        else
            done += (size_t)n;
    }
    return st;
}

enum graft_status output_metric(struct output *o, const json_t *line, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    enum graft_status st;

    json_write(&text, line);
    st = output_metric_text(o, &text, err);
    strbuf_release(&text);
    return st;
}

enum graft_status output_text(const struct output *o, const char *name, const char *text,
                              size_t len, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st;

    path_join(&path, o->dir, name);
    st = file_write(strbuf_str(&path), text, len, err);
    strbuf_release(&path);
    return st;
}

enum graft_status output_json(const struct output *o, const char *name, const json_t *v,
                              struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    enum graft_status st;

    json_write_pretty(&text, v);
    st = output_text(o, name, strbuf_str(&text), text.len, err);
    strbuf_release(&text);
    return st;
}

enum graft_status result_file(const char *path, bool force, struct graft_err *err)
{
    if (dir_exists(path))
        return graft_fail(err, GRAFT_EARG, "output %s is a folder, wanted the name of a file",
                          path);
    if (file_exists(path) && !force)
        return graft_fail(err, GRAFT_EARG,
                          "%s exists; use another name with -o, or --force to replace it", path);
    return GRAFT_OK;
}

static enum graft_status refuse_not_empty(const char *dir, struct graft_err *err)
{
    const struct dirent *e;
    DIR *d = opendir(dir);
    enum graft_status st = GRAFT_OK;

    if (!d)
        return graft_fail(err, GRAFT_EWRITE, "%s: %s", dir, strerror(errno));
    while (!st && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            st = graft_fail(err, GRAFT_EARG,
                            "output %s is not empty (%s); use another folder with -o DIR, or "
                            "--force to replace what it holds of a checkpoint",
                            dir, e->d_name);
    closedir(d);
    return st;
}

/* A run that goes on in the folder holds its lock. */
static enum graft_status refuse_in_use(const char *dir, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    bool used;
    int lock;

    path_join(&path, dir, ".graft.lock");
    lock = open(strbuf_str(&path), O_RDWR | O_CLOEXEC);
    strbuf_release(&path);
    used = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0;
    if (lock >= 0)
        close(lock);
    return used ? graft_fail(err, GRAFT_EARG, "output %s is in use by another run of graft", dir)
                : GRAFT_OK;
}

enum graft_status result_folder(const char *dir, bool force, bool *made, struct graft_err *err)
{
    enum graft_status st;

    file_begin();
    *made = !dir_exists(dir);
    st = make_folder(dir, err);
    if (!st)
        st = refuse_in_use(dir, err);
    if (!st)
        file_sweep(dir, is_result_file, NULL);
    if (!st && !force)
        st = refuse_not_empty(dir, err);
    if (st)
        file_end();
    else
        remove_result(dir);
    return st;
}

void result_keep(void)
{
    file_end();
}

void result_discard(const char *dir, bool made)
{
    remove_result(dir);
    if (made)
        rmdir(dir);
    file_end();
}

enum graft_status adapter_folder(const char *dir, bool force, bool *made, struct graft_err *err)
{
    enum graft_status st;

    file_begin();
    *made = !dir_exists(dir);
    st = make_folder(dir, err);
    if (!st)
        st = refuse_in_use(dir, err);
    if (!st)
        st = refuse_occupied(dir, force, false, err);
    if (st)
        file_end();
    else
        remove_run(dir, NULL);
    return st;
}

void adapter_folder_discard(const char *dir, bool made)
{
    remove_run(dir, NULL);
    if (made)
        rmdir(dir);
    file_end();
}

bool same_place(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
