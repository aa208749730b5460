/* io/h5.h - libhdf5 with Graft's manners: nothing on stderr, errors as graft_fail, and only what a
 * file may hold: hard links, contiguous datasets, plain attributes. Nobody outside io/ includes it.
 */
#ifndef IO_H5_H
#define IO_H5_H

#define H5_USE_110_API
#include <hdf5.h>

#if defined(H5_VERSION_GE)
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif
#endif

#include "core/file.h"
#include "core/mem.h"

/* Turns libhdf5's own printing off for the time of one call of ours. */
struct h5_quiet {
    H5E_auto2_t fn;
    void *user;
};
void h5_quiet_begin(struct h5_quiet *q);
void h5_quiet_end(const struct h5_quiet *q);

/* "FILE: WHAT: libhdf5's own reason"; clears its error stack. */
enum graft_status h5_fail(struct graft_err *err, enum graft_status code, const char *file,
                          const char *what);

/* Where a file that is written goes: the first failure sticks (errno), writing goes on in silence.
 */
struct h5_sink {
    H5FD_t pub; /* libhdf5's own part; has to be first */
    haddr_t eoa, eof;
    haddr_t written; /* the end of what libhdf5 itself wrote */
    int fd;
    int fail;
};
void h5_sink_write(struct h5_sink *s, uint64_t at, const void *bytes, size_t len);
/* Zeros behind the end of the file, or when it cannot be read. */
void h5_sink_read(const struct h5_sink *s, uint64_t at, void *bytes, size_t len);
/* Let a file made with `fapl` go to `s`, whatever name H5Fcreate is given; `s` (zeroed but for fd)
 * has to stay in its place until the file is closed. */
bool h5_set_sink(hid_t fapl, struct h5_sink *s);

/* What stands in the user block, the first 4096 bytes, which HDF5 leaves alone. All structure lies
 * before the datasets and is vouched for here, so that nothing damaged ever reaches libhdf5: that
 * of version 1.10 leaks, and says so on stderr, when a checksum of its own fails. */
enum { H5_USER_BLOCK = 4096 };
struct h5_seal {
    char magic[8]; /* h5_magic */
    uint64_t size; /* of the file */
    uint64_t end;  /* of the structure, which begins behind the user block */
    char sum[64];  /* hex SHA-256 of the structure */
};
extern const char h5_magic[9];

/* A file being read: the library tells where things are, the bytes come from the map. */
struct h5_file {
    const char *path;
    hid_t id;
    struct mapped_file map;
    struct graft_err *err;
};

/* Names of the hard links of a group, in libhdf5's order; `*list` (mem_alloc) points into `mem`.
 * EFORMAT for other kinds of links, and for names that are no plain file names. */
struct h5_names {
    const char **name;
    int64_t count, cap;
};
enum graft_status h5_list(const struct h5_file *f, hid_t group, const char *what, struct arena *mem,
                          struct h5_names *out);
/* True when `name` is a hard link of `loc`. */
bool h5_has(hid_t loc, const char *name);

/* Attributes. *found is false, and the rest untouched, when there is none of that name. */
enum graft_status h5_get_text(const struct h5_file *f, hid_t loc, const char *where,
                              const char *name, struct arena *mem, const char **out);
enum graft_status h5_get_ints(const struct h5_file *f, hid_t loc, const char *where,
                              const char *name, int max, int64_t *out, int *count);
enum graft_status h5_get_float(const struct h5_file *f, hid_t loc, const char *where,
                               const char *name, float *out);

/* Where a contiguous dataset lies in the map. `cls`, `size`: its element type. */
struct h5_bytes {
    const void *data;
    size_t len;
    char sum[17]; /* attribute sha256 */
};
enum graft_status h5_get_bytes(const struct h5_file *f, hid_t loc, const char *where,
                               const char *name, H5T_class_t cls, size_t size,
                               struct h5_bytes *out);

#endif
