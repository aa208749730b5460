/* Token caches being written. Tokens go straight to their place in the file, which is known before
 * their number is: libhdf5 puts the first dataset behind the room that its structure is given.
 * Records wait in a nameless file until it is known where the tokens end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/build.h"
#include "io/h5.h"
#include "io/token_cache.h"
#include "io/token_file.h"

enum {
    ROOM = 32 << 10, /* of the structure: four datasets need a fifth of it */
    FIRST = H5_USER_BLOCK + ROOM,
    DEAD_AFTER = 3600, /* seconds without a change before an unlocked file counts as left behind */
};
_Static_assert(FIRST % H5_PAGE == 0, "the first dataset lies on a page");

/* Bytes in a row, summed block by block. */
struct column {
    struct h5_sink sink;
    uint64_t first; /* where in the file byte 0 goes */
    uint64_t bytes; /* given so far; those of the last block are in `block` */
    uint64_t *sum;
    int64_t sums, cap;
    unsigned char *block; /* SUM_BLOCK */
};

struct token_writer {
    struct column token, record;
    size_t row_size;
    int64_t tokens, records;
    char *path, *tmp;
    struct arena mem;
};

static enum graft_status fail_write(const struct token_writer *w, int reason, struct graft_err *err)
{
    return graft_fail(err, GRAFT_EWRITE, "%s: cannot write: %s", w->path, strerror(reason));
}

/* ---- a column ---- */

static enum graft_status add_sum(struct column *c, uint64_t sum, struct graft_err *err)
{
    if (c->sums == c->cap) {
        const int64_t cap = c->cap ? 2 * c->cap : 64;
        uint64_t *p = mem_resize(c->sum, (size_t)c->cap * sizeof *p, (size_t)cap * sizeof *p);

        if (!p)
            return graft_fail_nomem(err, "checksums", (size_t)cap * sizeof *p);
        c->sum = p;
        c->cap = cap;
    }
    c->sum[c->sums++] = sum;
    return GRAFT_OK;
}

static enum graft_status column_add(struct column *c, const void *bytes, size_t len,
                                    struct graft_err *err)
{
    const unsigned char *p = bytes;

    while (len) {
        const size_t held = (size_t)(c->bytes % SUM_BLOCK);
        const size_t n = len < SUM_BLOCK - held ? len : SUM_BLOCK - held;

        memcpy(c->block + held, p, n);
        c->bytes += n;
        p += n;
        len -= n;
        if (c->bytes % SUM_BLOCK == 0) {
            h5_sink_write(&c->sink, c->first + c->bytes - SUM_BLOCK, c->block, SUM_BLOCK);
            GRAFT_TRY(add_sum(c, block_sum(c->block, SUM_BLOCK), err));
        }
    }
    return GRAFT_OK;
}

static enum graft_status column_end(struct column *c, struct graft_err *err)
{
    const size_t held = (size_t)(c->bytes % SUM_BLOCK);

    return held ? add_sum(c, block_sum(c->block, held), err) : GRAFT_OK;
}

/* The part that is still in memory. */
static void column_flush(struct column *c)
{
    const size_t held = (size_t)(c->bytes % SUM_BLOCK);

    if (held)
        h5_sink_write(&c->sink, c->first + c->bytes - held, c->block, held);
}

/* ---- the file ---- */

/* A name of our own, even among machines that share the folder. */
static int open_part(struct token_writer *w)
{
    struct timespec t;
    int fd = -1;

    for (int k = 0; k < 100 && fd < 0; k++) {
        clock_gettime(CLOCK_REALTIME, &t);
        w->tmp = arena_printf(&w->mem, "%s" TOKEN_WRITER_MARK "%ld-%lx", w->path, (long)getpid(),
                              (unsigned long)t.tv_nsec + ((unsigned long)t.tv_sec << 30));
        if (!w->tmp)
            return -1;
        fd = open(w->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            return -1;
    }
    if (fd >= 0)
        flock(fd, LOCK_EX | LOCK_NB); /* where there are no locks, age decides */
    return fd;
}

/* A file without a name, beside the other. */
static int open_nameless(struct token_writer *w)
{
    char *name = arena_printf(&w->mem, "%s-r", w->tmp);
    const int fd = name ? open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666) : -1;

    if (fd >= 0)
        unlink(name);
    return fd;
}

enum graft_status token_writer_new(const char *path, size_t row_size, struct token_writer **out,
                                   struct graft_err *err)
{
    struct token_writer *w = mem_alloc(sizeof *w);

    if (!w)
        return graft_fail_nomem(err, path, sizeof *w);
    *w = (struct token_writer){ .row_size = row_size };
    w->token.sink.fd = w->record.sink.fd = -1;
    w->token.first = FIRST;
    w->path = arena_strdup(&w->mem, path);
    w->token.block = mem_alloc(SUM_BLOCK);
    w->record.block = mem_alloc(SUM_BLOCK);
    if (!w->path || !w->token.block || !w->record.block) {
        token_writer_abort(w);
        return graft_fail_nomem(err, path, 2 * (size_t)SUM_BLOCK);
    }
    w->token.sink.fd = open_part(w);
    w->record.sink.fd = w->token.sink.fd >= 0 ? open_nameless(w) : -1;
    if (w->record.sink.fd < 0) {
        fail_write(w, errno, err);
        token_writer_abort(w);
        return GRAFT_EWRITE;
    }
    *out = w;
    return GRAFT_OK;
}

static void release(struct token_writer *w)
{
    if (w->token.sink.fd >= 0)
        close(w->token.sink.fd);
    if (w->record.sink.fd >= 0)
        close(w->record.sink.fd);
    mem_free(w->token.block);
    mem_free(w->record.block);
    mem_free(w->token.sum);
    mem_free(w->record.sum);
    arena_release(&w->mem);
    mem_free(w);
}

void token_writer_abort(struct token_writer *w)
{
    if (!w)
        return;
    if (w->token.sink.fd >= 0)
        unlink(w->tmp);
    release(w);
}

enum graft_status token_writer_add(struct token_writer *w, const void *record, int64_t records,
                                   const int32_t *token, int64_t tokens, struct graft_err *err)
{
    GRAFT_TRY(column_add(&w->record, record, (size_t)records * w->row_size, err));
    GRAFT_TRY(column_add(&w->token, token, (size_t)tokens * sizeof *token, err));
    w->records += records;
    w->tokens += tokens;
    if (w->token.sink.fail || w->record.sink.fail)
        return fail_write(w, w->token.sink.fail ? w->token.sink.fail : w->record.sink.fail, err);
    return GRAFT_OK;
}

/* Where the datasets' bytes go. */
struct layout {
    uint64_t token, record, sums, meta;
};

/* At least a page, so that libhdf5 puts it on one. */
static size_t room_for(uint64_t bytes)
{
    return bytes < H5_PAGE ? H5_PAGE : (size_t)bytes;
}

static enum graft_status put_group(const struct token_writer *w, struct h5_writer *h,
                                   const char *key, const uint64_t *sums, size_t count,
                                   const char *meta, size_t meta_len, struct layout *at)
{
    const hid_t group = h5_make_group(h, h->file, "cache");
    enum graft_status st;
    char hex[65];

    if (group < 0)
        return h5_cannot(h, "cannot make a group");
    st = h5_put_int(h, group, "version", TOKEN_FILE_VERSION);
    if (!st)
        st = h5_put_int(h, group, "row_size", (int64_t)w->row_size);
    if (!st)
        st = h5_put_int(h, group, "tokens_count", w->tokens);
    if (!st)
        st = h5_put_int(h, group, "records_count", w->records);
    if (!st)
        st = h5_put_text(h, group, "key", key);
    if (!st)
        st = h5_make_set(h, group, "tokens", H5T_STD_I32LE, room_for(w->token.bytes) / 4, NULL,
                         &at->token);
    if (!st)
        st = h5_make_set(h, group, "records", H5T_STD_U8LE, room_for(w->record.bytes), NULL,
                         &at->record);
    sha256_hex(sums, count * sizeof *sums, hex);
    hex[16] = '\0';
    if (!st)
        st = h5_make_set(h, group, "sums", H5T_STD_U64LE, count, hex, &at->sums);
    sha256_hex(meta, meta_len, hex);
    hex[16] = '\0';
    if (!st)
        st = h5_make_set(h, group, "meta", H5T_STD_U8LE, meta_len, hex, &at->meta);
    H5Gclose(group);
    return st;
}

/* The records from their nameless file to their place. */
static void move_records(struct token_writer *w, struct h5_sink *to, uint64_t at)
{
    const uint64_t written = w->record.bytes / SUM_BLOCK * SUM_BLOCK;

    h5_sink_write(to, at + written, w->record.block, (size_t)(w->record.bytes - written));
    for (uint64_t done = 0; done < written && !to->fail; done += SUM_BLOCK) {
        h5_sink_read(&w->record.sink, done, w->record.block, SUM_BLOCK);
        if (block_sum(w->record.block, SUM_BLOCK) != w->record.sum[done / SUM_BLOCK])
            to->fail = EIO; /* what the disk gave back is not what it was given */
        h5_sink_write(to, at + done, w->record.block, SUM_BLOCK);
    }
}

static enum graft_status write_structure(struct token_writer *w, struct h5_writer *h,
                                         const char *key, const uint64_t *sums, size_t count,
                                         const char *meta, size_t meta_len, struct layout *at)
{
    struct h5_quiet quiet;
    enum graft_status st;

    h5_quiet_begin(&quiet);
    st = h5_begin(h, ROOM);
    if (!st)
        st = put_group(w, h, key, sums, count, meta, meta_len, at);
    st = h5_end(h, st);
    h5_quiet_end(&quiet);
    if (h->sink.fail)
        return fail_write(w, h->sink.fail, h->err);
    if (!st && (at->token != FIRST || h->sink.written > FIRST))
        st = graft_fail(h->err, GRAFT_EWRITE, "%s: libhdf5 laid the file out otherwise", w->path);
    return st;
}

static enum graft_status finish(struct token_writer *w, const char *key, const char *meta,
                                size_t meta_len, struct graft_err *err)
{
    struct h5_writer h = { .path = w->path, .sink = { .fd = w->token.sink.fd }, .err = err };
    struct layout at = { 0 };
    uint64_t *sums;
    size_t count;
    enum graft_status st;

    GRAFT_TRY(column_end(&w->token, err));
    GRAFT_TRY(column_end(&w->record, err));
    column_flush(&w->token);
    count = (size_t)(w->token.sums + w->record.sums);
    sums = mem_array(count, sizeof *sums);
    if (!sums)
        return graft_fail_nomem(err, "checksums", count * sizeof *sums);
    if (w->token.sums)
        memcpy(sums, w->token.sum, (size_t)w->token.sums * sizeof *sums);
    if (w->record.sums)
        memcpy(sums + w->token.sums, w->record.sum, (size_t)w->record.sums * sizeof *sums);
    h.sink.fail = w->token.sink.fail ? w->token.sink.fail : w->record.sink.fail;
    h.sink.keep = FIRST + w->token.bytes;
    st = write_structure(w, &h, key, sums, count, meta, meta_len, &at);
    if (!st) {
        move_records(w, &h.sink, at.record);
        h5_sink_write(&h.sink, at.sums, sums, count * sizeof *sums);
        h5_sink_write(&h.sink, at.meta, meta, meta_len);
        if (!h.sink.fail && ftruncate(h.sink.fd, (off_t)h.sink.eof) != 0)
            h.sink.fail = errno;
        st = h5_write_seal(&h, token_magic);
    }
    mem_free(sums);
    return !st && h.sink.fail ? fail_write(w, h.sink.fail, err) : st;
}

enum graft_status token_writer_commit(struct token_writer *w, const char *key, const char *meta,
                                      size_t meta_len, struct graft_err *err)
{
    enum graft_status st = finish(w, key, meta, meta_len, err);

    if (st) {
        token_writer_abort(w);
        return st;
    }
    st = file_publish(w->tmp, w->path, err); /* removes the temporary when it fails */
    release(w);
    return st;
}

bool token_writer_is_dead(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat s;
    bool dead;

    if (fd < 0)
        return false;
    dead = fstat(fd, &s) == 0 && time(NULL) - s.st_mtime > DEAD_AFTER &&
           flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return dead;
}
