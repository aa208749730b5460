#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"

enum graft_status file_map(const char *path, struct mapped_file *out, struct graft_err *err)
{
    struct stat st;
    void *p = NULL;
    /* a pipe is refused, not waited for */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return graft_fail(err, GRAFT_EIO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return graft_fail(err, GRAFT_EIO, "%s: not a regular file", path);
    }
    if (st.st_size > 0)
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return graft_fail(err, GRAFT_EIO, "%s: cannot map %lld bytes: %s", path,
                          (long long)st.st_size, strerror(errno));
    out->data = p;
    out->size = (size_t)st.st_size;
    return GRAFT_OK;
}

void file_unmap(struct mapped_file *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    m->data = NULL;
    m->size = 0;
}

void file_forget(const void *data, size_t size)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)data + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)data + size) / page * page;

    if (end > first)
        madvise((void *)first, end - first, MADV_DONTNEED);
}

static enum graft_status read_all(int fd, const char *path, size_t size, struct strbuf *out,
                                  struct graft_err *err)
{
    char *at = strbuf_more(out, size);

    if (!at)
        return graft_fail_nomem(err, path, size);
    while (size > 0) {
        const ssize_t n = read(fd, at, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return graft_fail(err, GRAFT_EIO, "%s: %s", path,
                              n < 0 ? strerror(errno) : "became shorter while it was read");
        at += n;
        size -= (size_t)n;
    }
    return GRAFT_OK;
}

/* Not by a mapping: the file's pages would count on top of the copy. */
enum graft_status file_read(const char *path, size_t limit, struct strbuf *out,
                            struct graft_err *err)
{
    struct stat st;
    enum graft_status s = GRAFT_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return graft_fail(err, GRAFT_EIO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        s = graft_fail(err, GRAFT_EIO, "%s: not a regular file", path);
    else if ((uint64_t)st.st_size > limit)
        s = graft_fail(err, GRAFT_EFORMAT, "%s: %lld bytes, at most %zu are allowed here", path,
                       (long long)st.st_size, limit);
    else
        s = read_all(fd, path, (size_t)st.st_size, out, err);
    close(fd);
    return s;
}

bool file_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

bool dir_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool file_begins(const char *path, const void *magic, size_t len)
{
    char head[16];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool same;

    if (fd < 0)
        return false;
    same = len <= sizeof head && read(fd, head, len) == (ssize_t)len && !memcmp(head, magic, len);
    close(fd);
    return same;
}

enum graft_status dir_make(const char *path, struct graft_err *err)
{
    struct strbuf part = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    for (const char *p = path; *p && !st;) {
        const char *slash = strchr(p + 1, '/');

        strbuf_clear(&part);
        strbuf_add(&part, path, slash ? (size_t)(slash - path) : strlen(path));
        p = slash ? slash : path + strlen(path);
        if (mkdir(strbuf_str(&part), 0777) != 0 && errno != EEXIST)
            st = graft_fail(err, GRAFT_EWRITE, "%s: cannot make the folder: %s", strbuf_str(&part),
                            strerror(errno));
    }
    strbuf_release(&part);
    if (!st && !dir_exists(path))
        st = graft_fail(err, GRAFT_EWRITE, "%s: exists and is not a folder", path);
    return st;
}

void path_join(struct strbuf *out, const char *dir, const char *name)
{
    strbuf_puts(out, dir);
    if (out->len && out->buf[out->len - 1] != '/')
        strbuf_putc(out, '/');
    strbuf_puts(out, name);
}

void path_absolute(struct strbuf *out, const char *path)
{
    char cwd[4096];

    while (path[0] == '.' && path[1] == '/')
        path += 2;
    if (path[0] != '/' && getcwd(cwd, sizeof cwd))
        path_join(out, cwd, strcmp(path, ".") ? path : "");
    else
        strbuf_puts(out, path);
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

struct out_file {
    int fd;
    int failed; /* errno of the first failure */
    struct strbuf path, tmp;
    uint64_t total;
    size_t used;
    unsigned char buf[1 << 16];
};

static void out_file_free(struct out_file *f)
{
    strbuf_release(&f->path);
    strbuf_release(&f->tmp);
    mem_free(f);
}

enum graft_status out_file_open(const char *path, struct out_file **out, struct graft_err *err)
{
    struct out_file *f = mem_alloc(sizeof *f);
    enum graft_status st;

    if (!f)
        return graft_fail_nomem(err, path, sizeof *f);
    f->fd = -1;
    strbuf_puts(&f->path, path);
    st = f->path.failed ? graft_fail_nomem(err, path, strlen(path))
                        : file_temporary(path, &f->tmp, &f->fd, err);
    if (st) {
        out_file_free(f);
        return st;
    }
    file_begin();
    *out = f;
    return GRAFT_OK;
}

static void write_all(struct out_file *f, const unsigned char *p, size_t len)
{
    while (len && !f->failed) {
        ssize_t n;

        if (file_stopped()) {
            f->failed = ECANCELED;
            return;
        }
        n = write(f->fd, p, len < FILE_WRITE_MOST ? len : FILE_WRITE_MOST);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            f->failed = errno ? errno : EIO;
            return;
        }
        p += n;
        len -= (size_t)n;
    }
}

static void flush(struct out_file *f)
{
    write_all(f, f->buf, f->used);
    f->used = 0;
}

void out_file_write(struct out_file *f, const void *bytes, size_t len)
{
    f->total += len;
    if (len > sizeof f->buf - f->used)
        flush(f);
    if (len > sizeof f->buf) {
        write_all(f, bytes, len);
        return;
    }
    if (len)
        memcpy(f->buf + f->used, bytes, len);
    f->used += len;
}

uint64_t out_file_bytes(const struct out_file *f)
{
    return f->total;
}

bool out_file_failed(const struct out_file *f)
{
    return f->failed != 0;
}

static void sync_folder(const char *path)
{
    struct strbuf dir = STRBUF_INIT;
    const char *slash = strrchr(path, '/');
    int fd;

    if (slash == path)
        strbuf_puts(&dir, "/");
    else if (slash)
        strbuf_add(&dir, path, (size_t)(slash - path));
    else
        strbuf_puts(&dir, ".");
    fd = open(strbuf_str(&dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    strbuf_release(&dir);
}

enum graft_status out_file_commit(struct out_file *f, struct graft_err *err)
{
    enum graft_status st = GRAFT_OK;

    flush(f);
    if (!f->failed && fsync(f->fd) != 0)
        f->failed = errno;
    if (close(f->fd) != 0 && !f->failed)
        f->failed = errno;
    if (!f->failed && rename(strbuf_str(&f->tmp), strbuf_str(&f->path)) != 0)
        f->failed = errno;
    if (f->failed) {
        unlink(strbuf_str(&f->tmp));
        st = file_fail_write(strbuf_str(&f->path), f->failed, err);
    } else {
        sync_folder(strbuf_str(&f->path));
    }
    file_end();
    out_file_free(f);
    return st;
}

void out_file_abort(struct out_file *f)
{
    if (!f)
        return;
    close(f->fd);
    unlink(strbuf_str(&f->tmp));
    file_end();
    out_file_free(f);
}

enum graft_status file_write(const char *path, const void *bytes, size_t len, struct graft_err *err)
{
    struct out_file *f = NULL;

    GRAFT_TRY(out_file_open(path, &f, err));
    out_file_write(f, bytes, len);
    return out_file_commit(f, err);
}

enum graft_status file_publish(const char *tmp, const char *path, struct graft_err *err)
{
    int fail = 0;
    const int fd = open(tmp, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) != 0)
        fail = errno;
    if (fd >= 0 && close(fd) != 0 && !fail)
        fail = errno;
    if (!fail && rename(tmp, path) != 0)
        fail = errno;
    if (fail) {
        unlink(tmp);
        return file_fail_write(path, fail, err);
    }
    sync_folder(path);
    return GRAFT_OK;
}

/* A file that only its descriptor holds; -1 with errno set. */
static int open_nameless(const char *dir)
{
    struct strbuf path = STRBUF_INIT;
    int fd;

    path_join(&path, dir, ".graft-scratch-XXXXXX");
    if (path.failed) {
        errno = ENOMEM;
        return -1;
    }
    fd = mkstemp(path.buf);
    if (fd >= 0)
        unlink(path.buf);
    strbuf_release(&path);
    return fd;
}

enum graft_status scratch_open(const char *dir, size_t size, struct scratch_file *out,
                               struct graft_err *err)
{
    const int fd = open_nameless(dir);
    void *p = MAP_FAILED;
    int code;

    if (fd < 0)
        return graft_fail(err, GRAFT_EWRITE, "%s: cannot make a temporary file in it: %s", dir,
                          strerror(errno));
    code = posix_fallocate(fd, 0, (off_t)size);
    if (!code) {
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        code = p == MAP_FAILED ? errno : 0;
    }
    close(fd);
    if (code)
        return graft_fail(err, GRAFT_EWRITE, "%s: cannot take %.1f MiB for a temporary file: %s",
                          dir, (double)size / 1048576, strerror(code));
    *out = (struct scratch_file){ p, size };
    return GRAFT_OK;
}

void scratch_close(struct scratch_file *f)
{
    if (f->data)
        munmap(f->data, f->size);
    *f = (struct scratch_file){ NULL, 0 };
}
