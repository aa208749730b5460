#include "train/place.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

enum { SETTINGS_LIMIT = 64 << 20, LIST_MAX = 32 };

enum graft_status place_open(const char *path, struct place *out, struct graft_err *err)
{
    struct place p = { .path = path, .is_container = !dir_exists(path) };

    if (p.is_container)
        GRAFT_TRY(container_open(path, &p.container, err));
    *out = p;
    return GRAFT_OK;
}

void place_release(struct place *p)
{
    container_release(&p->container);
}

void place_container_name(const char *name, char out[PLACE_NAME_MAX])
{
    snprintf(out, PLACE_NAME_MAX, "%s", name);
    for (char *c = out; *c; c++)
        if (*c == '/')
            *c = ':';
}

static enum graft_status read_contained(const struct place *p, const char *name, struct strbuf *out,
                                        bool *found, struct graft_err *err)
{
    const struct container_file *f;
    char flat[PLACE_NAME_MAX];

    place_container_name(name, flat);
    f = container_find_file(&p->container, flat);
    *found = f != NULL;
    if (f)
        strbuf_add(out, f->data, f->len);
    return out->failed ? graft_fail_nomem(err, name, f ? f->len : 0) : GRAFT_OK;
}

enum graft_status place_read(const struct place *p, const char *name, struct strbuf *out,
                             bool *found, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    if (p->is_container)
        return read_contained(p, name, out, found, err);
    path_join(&path, p->path, name);
    *found = file_exists(strbuf_str(&path));
    if (path.failed)
        st = graft_fail_nomem(err, name, strlen(p->path));
    else if (*found)
        st = file_read(strbuf_str(&path), SETTINGS_LIMIT, out, err);
    strbuf_release(&path);
    return st;
}

enum graft_status place_json(const struct place *p, const char *name, json_t **out,
                             struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT, label = STRBUF_INIT;
    bool found = false;
    enum graft_status st = place_read(p, name, &text, &found, err);

    *out = NULL;
    path_join(&label, p->path, name);
    if (!st && found)
        st = json_read(strbuf_str(&label), strbuf_str(&text), text.len, out, err);
    strbuf_release(&label);
    strbuf_release(&text);
    return st;
}

static bool ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), k = strlen(suffix);

    return n > k && !strcmp(s + n - k, suffix);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

/* The names of such files, "DIR/NAME", sorted; in `mem`. */
static enum graft_status list_names(const struct place *p, const char *dir, const char *suffix,
                                    struct arena *mem, const char *name[LIST_MAX], int *count,
                                    struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    const size_t len = strlen(dir);
    const struct dirent *e;
    bool ok = true;
    DIR *d;

    *count = 0;
    for (int i = 0; i < p->container.file_count && ok && *count < LIST_MAX; i++) {
        const char *n = p->container.file[i].name;

        if (strncmp(n, dir, len) != 0 || n[len] != ':' || !ends_with(n, suffix))
            continue;
        name[*count] = arena_printf(mem, "%s/%s", dir, n + len + 1);
        ok = name[(*count)++] != NULL;
    }
    path_join(&path, p->path, dir);
    d = p->is_container ? NULL : opendir(strbuf_str(&path));
    while (d && ok && *count < LIST_MAX && (e = readdir(d))) {
        if (e->d_name[0] == '.' || !ends_with(e->d_name, suffix))
            continue;
        name[*count] = arena_printf(mem, "%s/%s", dir, e->d_name);
        ok = name[(*count)++] != NULL;
    }
    if (d)
        closedir(d);
    ok = ok && !path.failed;
    strbuf_release(&path);
    if (ok)
        qsort(name, (size_t)*count, sizeof *name, by_name);
    return ok ? GRAFT_OK : graft_fail_nomem(err, dir, LIST_MAX);
}

enum graft_status place_list(const struct place *p, const char *dir, const char *suffix,
                             place_each *each, void *user, struct graft_err *err)
{
    const char *name[LIST_MAX];
    struct arena mem = ARENA_INIT;
    int count = 0;
    enum graft_status st = list_names(p, dir, suffix, &mem, name, &count, err);

    for (int i = 0; i < count && !st; i++) {
        struct strbuf text = STRBUF_INIT;
        bool found = false;

        st = place_read(p, name[i], &text, &found, err);
        if (!st && found)
            st = each(user, name[i], strbuf_str(&text), text.len, err);
        strbuf_release(&text);
    }
    arena_release(&mem);
    return st;
}
