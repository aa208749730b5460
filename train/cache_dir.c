#include "train/cache_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "io/token_cache.h"
#include "train/config.h"

enum {
    HASHES_KEPT = 1000,
    HASH_FILE_LIMIT = 1 << 16,
    CHUNK = 4 << 20, /* of a file that is hashed: no more of it is in memory */
};
static const int64_t LIMIT = (int64_t)64 << 30;
static const int64_t RACY = 2000000000; /* ns within which a file may change twice unseen */
static const char TOKENS[] = ".tokens.h5", HASH[] = ".hash.json";

/* ---- the folder ---- */

static void find_dir(struct strbuf *out)
{
    const char *own = getenv("GRAFT_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");

    if (own && (!*own || !strcmp(own, "off")))
        return;
    if (own)
        path_absolute(out, own);
    else if (xdg && *xdg == '/') /* others are to be ignored, says the standard */
        path_join(out, xdg, "graft");
    else if (home && *home)
        path_join(out, home, ".cache/graft");
}

static enum graft_status find_limit(int64_t *out, struct graft_err *err)
{
    const char *size = getenv("GRAFT_CACHE_SIZE");

    *out = LIMIT;
    if (!size || !*size || config_size_parse(size, out))
        return GRAFT_OK;
    return graft_fail(
        err, GRAFT_EARG,
        "the environment's GRAFT_CACHE_SIZE: found \"%.40s\", want a size such as 20GiB", size);
}

enum graft_status cache_dir_open(struct cache_dir *out, struct graft_err *err)
{
    struct graft_err why = { GRAFT_OK, "" };

    *out = (struct cache_dir){ .limit = 0 };
    GRAFT_TRY(find_limit(&out->limit, err));
    find_dir(&out->path);
    if (out->path.failed) {
        cache_dir_release(out);
        return graft_fail_nomem(err, "the path of the cache", 4096);
    }
    if (out->path.len && dir_make(strbuf_str(&out->path), &why)) {
        graft_note("there is no cache for tokens: %s", why.msg);
        cache_dir_release(out);
    }
    return GRAFT_OK;
}

void cache_dir_release(struct cache_dir *d)
{
    strbuf_release(&d->path);
}

void cache_tokens_path(const struct cache_dir *d, const char *key, struct strbuf *out)
{
    strbuf_printf(out, "%s/%.32s%s", strbuf_str(&d->path), key, TOKENS);
}

void cache_touch(const char *path)
{
    utimensat(AT_FDCWD, path, NULL, 0);
}

/* ---- room ---- */

struct entry {
    char *name;
    int64_t size, used;
};

struct listing {
    struct entry *entry;
    int64_t count, cap, size;
    struct arena mem;
};

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

static int64_t time_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What cannot be listed for want of memory stays for another time. */
static void add_entry(struct listing *l, const char *path, const struct stat *s)
{
    if (l->count == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : 64;
        struct entry *p = mem_resize(l->entry, (size_t)l->cap * sizeof *p, (size_t)cap * sizeof *p);

        if (!p)
            return;
        l->entry = p;
        l->cap = cap;
    }
    l->entry[l->count].name = arena_strdup(&l->mem, path);
    l->entry[l->count].size = s->st_size;
    l->entry[l->count].used = time_ns(s->st_mtim);
    if (!l->entry[l->count].name)
        return;
    l->size += s->st_size;
    l->count++;
}

static void release_listing(struct listing *l)
{
    mem_free(l->entry);
    arena_release(&l->mem);
}

static int by_use(const void *a, const void *b)
{
    const int64_t x = ((const struct entry *)a)->used, y = ((const struct entry *)b)->used;

    return x < y ? -1 : x > y;
}

static void trim(struct listing *l, int64_t bytes, int64_t count, const char *keep)
{
    int64_t left = l->count;

    if (l->count)
        qsort(l->entry, (size_t)l->count, sizeof *l->entry, by_use);
    for (int64_t i = 0; i < l->count && (l->size > bytes || left > count); i++) {
        if (keep && !strcmp(l->entry[i].name, keep))
            continue;
        unlink(l->entry[i].name);
        l->size -= l->entry[i].size;
        left--;
    }
}

void cache_trim(const struct cache_dir *d, const char *keep)
{
    DIR *dir = opendir(strbuf_str(&d->path));
    struct listing tokens = { 0 }, hashes = { 0 };
    const struct dirent *e;

    while (dir && (e = readdir(dir))) {
        struct strbuf path = STRBUF_INIT;
        struct stat s;

        path_join(&path, strbuf_str(&d->path), e->d_name);
        if (!path.failed && lstat(path.buf, &s) == 0 && S_ISREG(s.st_mode)) {
            if (ends_with(e->d_name, TOKENS))
                add_entry(&tokens, path.buf, &s);
            else if (ends_with(e->d_name, HASH))
                add_entry(&hashes, path.buf, &s);
            else if ((strstr(e->d_name, TOKEN_WRITER_MARK) || strstr(e->d_name, ".json.tmp-")) &&
                     token_writer_is_dead(path.buf))
                unlink(path.buf);
        }
        strbuf_release(&path);
    }
    if (dir)
        closedir(dir);
    trim(&tokens, d->limit, INT64_MAX, keep);
    trim(&hashes, INT64_MAX, HASHES_KEPT, NULL);
    release_listing(&tokens);
    release_listing(&hashes);
}

/* ---- hashes of files ---- */

enum graft_status file_stamp_get(const char *path, struct file_stamp *out, struct graft_err *err)
{
    struct stat s;

    *out = (struct file_stamp){ 0 };
    if (stat(path, &s) != 0)
        return graft_fail(err, GRAFT_EIO, "%s: %s", path, strerror(errno));
    *out = (struct file_stamp){ s.st_size, time_ns(s.st_mtim), time_ns(s.st_ctim),
                                (uint64_t)s.st_ino, (uint64_t)s.st_dev };
    return GRAFT_OK;
}

bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b)
{
    return a->size == b->size && a->mtime == b->mtime && a->ctime == b->ctime &&
           a->inode == b->inode && a->device == b->device;
}

static void hash_path(const struct cache_dir *d, const char *path, struct strbuf *out)
{
    struct strbuf full = STRBUF_INIT;
    char hex[65];

    path_absolute(&full, path);
    sha256_hex(strbuf_str(&full), full.len, hex);
    strbuf_printf(out, "%s/%.32s%s", strbuf_str(&d->path), hex, HASH);
    out->failed |= full.failed;
    strbuf_release(&full);
}

static json_t *stamp_json(const struct file_stamp *s, const char *hex)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "size", (json_int_t)s->size, "mtime",
                     (json_int_t)s->mtime, "ctime", (json_int_t)s->ctime, "inode",
                     (json_int_t)s->inode, "device", (json_int_t)s->device, "sha256", hex);
}

/* The hash that was remembered for a file with this very stamp; anything odd is none. */
static bool recall(const char *file, const struct file_stamp *stamp, char hex[65])
{
    struct strbuf text = STRBUF_INIT;
    json_t *have = NULL, *want = NULL;
    const char *sum;
    bool known = false;

    if (!file_exists(file) || file_read(file, HASH_FILE_LIMIT, &text, NULL) ||
        json_read(file, strbuf_str(&text), text.len, &have, NULL))
        goto out;
    sum = json_string_value(json_object_get(have, "sha256"));
    if (!sum || strlen(sum) != 64 || strspn(sum, "0123456789abcdef") != 64)
        goto out;
    want = stamp_json(stamp, sum);
    known = want && json_equal(have, want);
    if (known)
        memcpy(hex, sum, 65);
out:
    json_decref(have);
    json_decref(want);
    strbuf_release(&text);
    return known;
}

static void remember(const char *file, const struct file_stamp *stamp, const char *hex)
{
    struct strbuf text = STRBUF_INIT;
    json_t *o = stamp_json(stamp, hex);

    if (o)
        json_write(&text, o);
    if (o && !text.failed)
        file_write(file, strbuf_str(&text), text.len, NULL); /* without it the file is read again */
    json_decref(o);
    strbuf_release(&text);
}

static enum graft_status hash_now(const char *path, char hex[65], struct graft_err *err)
{
    struct mapped_file m = { NULL, 0 };
    struct sha256 sha;

    GRAFT_TRY(file_map(path, &m, err));
    sha256_init(&sha);
    for (size_t at = 0; at < m.size; at += CHUNK) {
        const size_t n = m.size - at < CHUNK ? m.size - at : CHUNK;

        sha256_add(&sha, (const char *)m.data + at, n);
        file_forget((const char *)m.data + at, n);
    }
    sha256_finish(&sha, hex);
    file_unmap(&m);
    return GRAFT_OK;
}

enum graft_status cache_hash(const struct cache_dir *d, const char *path, char hex[65],
                             struct file_stamp *stamp, struct graft_err *err)
{
    struct strbuf file = STRBUF_INIT;
    struct file_stamp after = { 0 };
    struct timespec now;
    enum graft_status st = file_stamp_get(path, stamp, err);

    clock_gettime(CLOCK_REALTIME, &now);
    if (!st && d->path.len)
        hash_path(d, path, &file);
    if (!st && file.len && !file.failed && recall(file.buf, stamp, hex)) {
        cache_touch(file.buf);
        strbuf_release(&file);
        return GRAFT_OK;
    }
    if (!st)
        st = hash_now(path, hex, err);
    if (!st)
        st = file_stamp_get(path, &after, err);
    if (!st && !file_stamp_same(stamp, &after))
        st = graft_fail(err, GRAFT_EIO, "%s: changed while it was read", path);
    if (!st && file.len && !file.failed && time_ns(now) - stamp->mtime > RACY &&
        time_ns(now) - stamp->ctime > RACY)
        remember(file.buf, stamp, hex);
    strbuf_release(&file);
    return st;
}
