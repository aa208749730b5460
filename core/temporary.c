/* Files being written: their temporary names, what killed programs left of them, and how a signal
 * ends them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/file.h"

static const char mark[] = ".tmp-"; /* and a process number */

static const volatile sig_atomic_t *stop_flag;
static atomic_int writing;

void file_stop_at(const volatile sig_atomic_t *flag)
{
    stop_flag = flag;
}

bool file_stopped(void)
{
    return stop_flag && *stop_flag;
}

void file_begin(void)
{
    writing++;
}

void file_end(void)
{
    writing--;
}

bool file_writing(void)
{
    return writing > 0;
}

enum graft_status file_fail_write(const char *path, int error, struct graft_err *err)
{
    if (error == ECANCELED && file_stopped())
        return graft_fail(err, GRAFT_ESTOPPED, "stopped while %s was written; nothing of it stays",
                          path);
    return graft_fail(err, GRAFT_EWRITE, "%s: cannot write: %s", path, strerror(error));
}

/* Length of the name that a temporary is for; 0: it is none. */
static size_t final_length(const char *name)
{
    const char *at = NULL;

    for (const char *p = name; (p = strstr(p, mark)); p++)
        at = p;
    if (!at || at == name)
        return 0;
    for (const char *p = at + sizeof mark - 1; *p; p++)
        if (*p < '0' || *p > '9')
            return 0;
    return at[sizeof mark - 1] ? (size_t)(at - name) : 0;
}

/* Whoever writes a temporary holds a lock on it, which ends with the process: a number alone may
 * be another's by now, or count in another container. */
static bool is_dead(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool dead;

    if (fd < 0)
        return false;
    dead = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return dead;
}

void file_sweep(const char *dir, bool (*ours)(const void *user, const char *name), const void *user)
{
    DIR *d = opendir(dir);

    for (const struct dirent *e; d && (e = readdir(d));) {
        char name[sizeof e->d_name];
        struct strbuf path = STRBUF_INIT;
        const size_t len = final_length(e->d_name);

        memcpy(name, e->d_name, len);
        name[len] = '\0';
        if (len == 0 || !ours(user, name))
            continue;
        path_join(&path, dir, e->d_name);
        if (!path.failed && is_dead(strbuf_str(&path)))
            unlink(strbuf_str(&path));
        strbuf_release(&path);
    }
    if (d)
        closedir(d);
}

static bool same_name(const void *user, const char *name)
{
    return !strcmp(user, name);
}

enum graft_status file_temporary(const char *path, struct strbuf *tmp, int *fd,
                                 struct graft_err *err)
{
    const char *name = path_base(path);
    struct strbuf dir = STRBUF_INIT;

    if (name == path)
        strbuf_puts(&dir, ".");
    else
        strbuf_add(&dir, path, (size_t)(name - path));
    strbuf_printf(tmp, "%s%s%ld", path, mark, (long)getpid());
    if (tmp->failed || dir.failed) {
        strbuf_release(&dir);
        return graft_fail_nomem(err, path, strlen(path));
    }
    file_sweep(strbuf_str(&dir), same_name, name);
    strbuf_release(&dir);
    *fd = open(strbuf_str(tmp), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (*fd < 0)
        return file_fail_write(path, errno, err);
    flock(*fd, LOCK_EX | LOCK_NB); /* where there are no locks, nobody sweeps either */
    return GRAFT_OK;
}
