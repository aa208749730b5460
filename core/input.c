#include "core/input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/mem.h"

enum {
    RAW_BYTES = 256 << 10,
    MAGIC_BYTES = 4,
    GZIP_WINDOW = 16 + 15, /* for inflateInit2: a gzip header, windows of up to 32 KiB */
    ZSTD_WINDOW_LOG = 27,  /* what the zstd program takes without --long: 128 MiB */
};
static const uint64_t RATIO_FROM = (uint64_t)1 << 30; /* bytes out before the ratio is judged */

/* One way of compression. `step` moves on: it takes bytes of in->raw and gives bytes to `out`,
 * sets in->whole when it stands between two streams or at the end of the last. */
struct packing {
    const char *name;
    unsigned char magic[MAGIC_BYTES];
    size_t magic_len;
    enum graft_status (*begin)(struct input *in, struct graft_err *err);
    enum graft_status (*step)(struct input *in, void *out, size_t size, size_t *got,
                              struct graft_err *err);
    void (*end)(struct input *in);
};

struct input {
    char *name;
    int fd;
    bool known;                    /* whether it is compressed has been decided */
    bool ended;                    /* the file has no more bytes than raw holds */
    bool begun;                    /* `packing` needs its end() */
    bool whole;                    /* no stream is open: the file may end here */
    bool own;                      /* the descriptor is to be closed */
    bool passed;                   /* a whole stream has been read */
    const struct packing *packing; /* NULL: plain */
    uint64_t taken, given;         /* bytes of the file, bytes handed out */
    size_t at, have;               /* raw[at .. have) is not used yet */
    z_stream z;
    ZSTD_DStream *zstd;
    struct arena mem;
    unsigned char raw[RAW_BYTES];
};

static enum graft_status fail_stream(const struct input *in, struct graft_err *err, const char *why)
{
    return graft_fail(err, GRAFT_EFORMAT, "%s: damaged %s data at byte %llu: %s", in->name,
                      in->packing->name, (unsigned long long)in->taken - (in->have - in->at), why);
}

/* ---- gzip ---- */

static void *zlib_alloc(void *user, unsigned count, unsigned size)
{
    (void)user;
    return mem_array(count, size);
}

static void zlib_free(void *user, void *p)
{
    (void)user;
    mem_free(p);
}

static enum graft_status gzip_begin(struct input *in, struct graft_err *err)
{
    in->z.zalloc = zlib_alloc;
    in->z.zfree = zlib_free;
    return inflateInit2(&in->z, GZIP_WINDOW) == Z_OK
               ? GRAFT_OK
               : graft_fail_nomem(err, "decompression", RAW_BYTES);
}

/* Between members: the next one begins, or zeros fill the file up, which the gzip program passes
 * over too. True when there is something to inflate. */
static bool gzip_next(struct input *in)
{
    while (in->passed && in->at < in->have && in->raw[in->at] == 0)
        in->at++;
    if (in->at == in->have)
        return false;
    inflateReset(&in->z);
    in->whole = false;
    return true;
}

static enum graft_status gzip_step(struct input *in, void *out, size_t size, size_t *got,
                                   struct graft_err *err)
{
    int code;

    *got = 0;
    if (in->whole && !gzip_next(in))
        return GRAFT_OK;
    in->z.next_in = in->raw + in->at;
    in->z.avail_in = (unsigned)(in->have - in->at);
    in->z.next_out = out;
    in->z.avail_out = size < UINT32_MAX ? (unsigned)size : UINT32_MAX;
    code = inflate(&in->z, Z_NO_FLUSH);
    in->at = in->have - in->z.avail_in;
    *got = (size_t)(in->z.next_out - (unsigned char *)out);
    in->whole = code == Z_STREAM_END;
    in->passed = in->passed || in->whole;
    if (code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR)
        return GRAFT_OK;
    if (code == Z_MEM_ERROR)
        return graft_fail_nomem(err, "decompression", RAW_BYTES);
    return fail_stream(in, err, in->z.msg ? in->z.msg : "no gzip stream");
}

static void gzip_end(struct input *in)
{
    inflateEnd(&in->z);
}

/* ---- zstd ---- */

static enum graft_status zstd_begin(struct input *in, struct graft_err *err)
{
    in->zstd = ZSTD_createDStream();
    if (!in->zstd || ZSTD_isError(ZSTD_initDStream(in->zstd)) ||
        ZSTD_isError(ZSTD_DCtx_setParameter(in->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)))
        return graft_fail_nomem(err, "decompression", RAW_BYTES);
    return GRAFT_OK;
}

static enum graft_status zstd_step(struct input *in, void *out, size_t size, size_t *got,
                                   struct graft_err *err)
{
    ZSTD_inBuffer from = { in->raw + in->at, in->have - in->at, 0 };
    ZSTD_outBuffer to = { out, size, 0 };
    size_t code;

    *got = 0;
    if (in->whole && from.size == 0)
        return GRAFT_OK; /* it would wait for another frame */
    code = ZSTD_decompressStream(in->zstd, &to, &from);
    in->at += from.pos;
    *got = to.pos;
    in->whole = code == 0;
    if (!ZSTD_isError(code))
        return GRAFT_OK;
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation:
        return graft_fail_nomem(err, "decompression", (size_t)1 << ZSTD_WINDOW_LOG);
    case ZSTD_error_frameParameter_windowTooLarge:
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: needs a window of more than 128 MiB; compress it again without "
                          "--long or --ultra",
                          in->name);
    default:
        return fail_stream(in, err, ZSTD_getErrorName(code));
    }
}

static void zstd_end(struct input *in)
{
    ZSTD_freeDStream(in->zstd);
}

static const struct packing packings[] = {
    { "gzip", { 0x1f, 0x8b, 0x08 }, 3, gzip_begin, gzip_step, gzip_end },
    { "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, zstd_begin, zstd_step, zstd_end },
};
enum { PACKINGS = sizeof packings / sizeof *packings };

static const struct packing *find_packing(const unsigned char *bytes, size_t size)
{
    for (int i = 0; i < PACKINGS; i++)
        if (size >= packings[i].magic_len &&
            !memcmp(bytes, packings[i].magic, packings[i].magic_len))
            return &packings[i];
    return NULL;
}

const char *input_packing(const void *bytes, size_t size)
{
    const struct packing *p = find_packing(bytes, size);

    return p ? p->name : NULL;
}

/* ---- the file ---- */

enum graft_status input_open(const char *path, struct input **out, struct graft_err *err)
{
    const bool std_in = !path || !strcmp(path, "-");
    struct input *in = mem_alloc(sizeof *in);

    if (!in)
        return graft_fail_nomem(err, "reading", sizeof *in);
    in->fd = -1;
    in->name = arena_strdup(&in->mem, std_in ? "standard input" : path);
    if (!in->name) {
        input_close(in);
        return graft_fail_nomem(err, "reading", strlen(path ? path : "-"));
    }
    in->fd = std_in ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0) {
        graft_fail(err, GRAFT_EIO, "%s: %s", in->name, strerror(errno));
        input_close(in);
        return GRAFT_EIO;
    }
    in->own = !std_in;
    in->whole = true;
    *out = in;
    return GRAFT_OK;
}

void input_close(struct input *in)
{
    if (!in)
        return;
    if (in->begun)
        in->packing->end(in);
    if (in->own)
        close(in->fd);
    arena_release(&in->mem);
    mem_free(in);
}

/* At least one more byte behind raw[have), unless the file ends. */
static enum graft_status fill(struct input *in, struct graft_err *err)
{
    ssize_t n;

    if (in->at == in->have)
        in->at = in->have = 0;
    do
        n = read(in->fd, in->raw + in->have, RAW_BYTES - in->have);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return graft_fail(err, GRAFT_EIO, "%s: %s", in->name, strerror(errno));
    in->ended = n == 0;
    in->have += (size_t)n;
    in->taken += (uint64_t)n;
    return GRAFT_OK;
}

/* Could these first bytes go on as those of a compressed stream? */
static bool may_be_packed(const struct input *in)
{
    for (int i = 0; i < PACKINGS; i++)
        if (in->have < packings[i].magic_len && !memcmp(in->raw, packings[i].magic, in->have))
            return true;
    return false;
}

/* No more is read than it takes to decide: on a terminal the rest comes later. */
static enum graft_status find_kind(struct input *in, struct graft_err *err)
{
    while (!in->ended && may_be_packed(in))
        GRAFT_TRY(fill(in, err));
    in->packing = find_packing(in->raw, in->have);
    in->known = true;
    if (!in->packing)
        return GRAFT_OK;
    in->begun = true;
    return in->packing->begin(in, err);
}

static enum graft_status read_plain(struct input *in, void *buf, size_t size, size_t *got,
                                    struct graft_err *err)
{
    if (in->at == in->have && !in->ended)
        GRAFT_TRY(fill(in, err));
    *got = in->have - in->at < size ? in->have - in->at : size;
    if (*got)
        memcpy(buf, in->raw + in->at, *got);
    in->at += *got;
    return GRAFT_OK;
}

static enum graft_status read_packed(struct input *in, void *buf, size_t size, size_t *got,
                                     struct graft_err *err)
{
    *got = 0;
    while (*got == 0) {
        const size_t before = in->at;

        if (in->at == in->have && !in->ended)
            GRAFT_TRY(fill(in, err));
        GRAFT_TRY(in->packing->step(in, buf, size, got, err));
        if (*got == 0 && in->ended && in->at == before)
            break;
    }
    if (*got == 0 && !in->whole)
        return graft_fail(
            err, GRAFT_EFORMAT,
            "%s: cut short: the %s stream does not end before the file's %llu bytes do", in->name,
            in->packing->name, (unsigned long long)in->taken);
    return GRAFT_OK;
}

enum graft_status input_read(struct input *in, void *buf, size_t size, size_t *got,
                             struct graft_err *err)
{
    *got = 0;
    if (size == 0)
        return GRAFT_OK;
    if (!in->known)
        GRAFT_TRY(find_kind(in, err));
    if (!in->packing)
        return read_plain(in, buf, size, got, err);
    GRAFT_TRY(read_packed(in, buf, size, got, err));
    in->given += *got;
    if (in->given > RATIO_FROM && in->given / INPUT_MAX_RATIO > in->taken)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: %llu bytes of %s data have become %llu, more than %d times as many: "
                          "no data set is like that; decompress it yourself if it is one",
                          in->name, (unsigned long long)in->taken, in->packing->name,
                          (unsigned long long)in->given, INPUT_MAX_RATIO);
    return GRAFT_OK;
}
