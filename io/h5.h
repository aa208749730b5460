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
    haddr_t keep;    /* bytes that are there already: the file never becomes shorter */
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
enum { H5_USER_BLOCK = 4096, H5_PAGE = 4096 };
struct h5_seal {
    char magic[8]; /* of the kind of file: h5_magic for a base */
    uint64_t size; /* of the file */
    uint64_t end;  /* of the structure, which begins behind the user block */
    char sum[64];  /* hex SHA-256 of the structure */
};
extern const char h5_magic[9];

/* A file being written. Between h5_begin and h5_end libhdf5 lays out groups and datasets, its
 * structure, within `room` bytes behind the user block; the bytes of the datasets are the caller's
 * to write, where h5_make_set says that they belong. Names of links are checked by the caller. */
struct h5_writer {
    const char *path; /* for messages */
    struct h5_sink sink;
    hid_t file, link, set; /* property lists: of links, of datasets */
    struct graft_err *err;
};
enum graft_status h5_cannot(const struct h5_writer *w,
                            const char *what); /* EWRITE with the reason */
enum graft_status h5_begin(struct h5_writer *w, size_t room);
/* Closing writes the structure out. Returns `st` unless that fails. */
enum graft_status h5_end(struct h5_writer *w, enum graft_status st);
/* Fill in the user block, last of all. */
enum graft_status h5_write_seal(struct h5_writer *w, const char *magic);
hid_t h5_make_group(const struct h5_writer *w, hid_t loc, const char *name);
/* `count` values; 0 of them is an empty attribute, which the shape of a scalar needs. */
enum graft_status h5_put_attribute(const struct h5_writer *w, hid_t loc, const char *name,
                                   hid_t type, int count, const void *data);
enum graft_status h5_put_text(const struct h5_writer *w, hid_t loc, const char *name,
                              const char *text);
enum graft_status h5_put_int(const struct h5_writer *w, hid_t loc, const char *name, int64_t v);
/* A dataset of `count` values, and where in the file they go. `sum`: its attribute sha256; NULL:
 * none. */
enum graft_status h5_make_set(const struct h5_writer *w, hid_t loc, const char *name, hid_t type,
                              size_t count, const char *sum, uint64_t *at);

/* A file being read: the library tells where things are, the bytes come from the map. */
struct h5_file {
    const char *path;
    hid_t id;
    struct mapped_file map;
    struct graft_err *err;
};

/* Check the seal of the mapped file and open it for libhdf5, never locked: many processes share
 * one. `magic` and `kind` ("container of Graft (graft quantize makes them)") are the caller's. */
enum graft_status h5_open(struct h5_file *f, const char *magic, const char *kind);

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
/* The same of a dataset without that attribute; out->sum is empty. */
enum graft_status h5_get_place(const struct h5_file *f, hid_t loc, const char *where,
                               const char *name, H5T_class_t cls, size_t size,
                               struct h5_bytes *out);

#endif
