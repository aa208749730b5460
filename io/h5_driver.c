/* A file driver for libhdf5 that never fails. When a write of the library's own driver fails (a
 * full disk), version 1.10 cannot close the file any more and crashes when the program ends. This
 * one keeps the first failure for the caller and goes on as if all were well; the caller throws
 * the file away. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "io/h5.h"

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr)
{
    struct h5_sink *const *sink = H5Pget_driver_info(fapl);

    (void)name, (void)flags, (void)maxaddr;
    return sink ? &(*sink)->pub : NULL;
}

static herr_t driver_close(H5FD_t *f)
{
    (void)f; /* the sink is its owner's */
    return 0;
}

static struct h5_sink *self(H5FD_t *f)
{
    return (struct h5_sink *)f;
}

static herr_t driver_query(const H5FD_t *f, unsigned long *flags)
{
    (void)f;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *f, H5FD_mem_t type)
{
    (void)type;
    return ((const struct h5_sink *)f)->eoa;
}

static herr_t driver_set_eoa(H5FD_t *f, H5FD_mem_t type, haddr_t addr)
{
    (void)type;
    self(f)->eoa = addr;
    return 0;
}

static haddr_t driver_get_eof(const H5FD_t *f, H5FD_mem_t type)
{
    (void)type;
    return ((const struct h5_sink *)f)->eof;
}

void h5_sink_read(const struct h5_sink *s, uint64_t at, void *bytes, size_t len)
{
    char *p = bytes;

    while (len) {
        const ssize_t n = pread(s->fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            memset(p, 0, len);
            return;
        }
        p += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
}

static herr_t driver_read(H5FD_t *f, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size,
                          void *buf)
{
    (void)type, (void)dxpl;
    h5_sink_read(self(f), addr, buf, size);
    return 0;
}

void h5_sink_write(struct h5_sink *s, uint64_t at, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len && !s->fail) {
        ssize_t n;

        if (file_stopped()) {
            s->fail = ECANCELED;
            return;
        }
        n = pwrite(s->fd, p, len < FILE_WRITE_MOST ? len : FILE_WRITE_MOST, (off_t)at);
        if (n > 0) {
            p += n;
            at += (uint64_t)n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            s->fail = n == 0 ? EIO : errno;
        }
    }
}

static herr_t driver_write(H5FD_t *f, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size,
                           const void *buf)
{
    (void)type, (void)dxpl;
    h5_sink_write(self(f), addr, buf, size);
    if (addr + size > self(f)->eof)
        self(f)->eof = addr + size;
    if (addr + size > self(f)->written)
        self(f)->written = addr + size;
    return 0;
}

static herr_t driver_truncate(H5FD_t *f, hid_t dxpl, hbool_t closing)
{
    struct h5_sink *s = self(f);

    (void)dxpl, (void)closing;
    if (!s->fail && ftruncate(s->fd, (off_t)(s->eoa > s->keep ? s->eoa : s->keep)) != 0)
        s->fail = errno;
    s->eof = s->eoa;
    return 0;
}

static const H5FD_class_t driver = {
#ifdef H5FD_CLASS_VERSION /* from 1.14 on */
    .version = H5FD_CLASS_VERSION,
    .value = 511,
#endif
    .name = "graft",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(struct h5_sink *),
    .open = driver_open,
    .close = driver_close,
    .query = driver_query,
    .get_eoa = driver_get_eoa,
    .set_eoa = driver_set_eoa,
    .get_eof = driver_get_eof,
    .read = driver_read,
    .write = driver_write,
    .truncate = driver_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

bool h5_set_sink(hid_t fapl, struct h5_sink *s)
{
    static hid_t id = H5I_INVALID_HID;

    if (id < 0 || H5Iis_valid(id) <= 0)
        id = H5FDregister(&driver);
    return id >= 0 && H5Pset_driver(fapl, id, &s) >= 0;
}
