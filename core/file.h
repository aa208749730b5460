/* core/file.h - files: mapped for reading, written under a temporary name and renamed. */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/strbuf.h"

/* A whole file mapped read-only. An empty file has data NULL and size 0. */
struct mapped_file {
    const void *data;
    size_t size;
};
/* EIO with the path and the system's reason. */
enum graft_status file_map(const char *path, struct mapped_file *out, struct graft_err *err);
void file_unmap(struct mapped_file *m);
/* These bytes of a mapped file will not be needed soon: their whole pages leave the resident set
 * (and come back from the file when touched, with what was written to a scratch file). */
void file_forget(const void *data, size_t size);

/* The whole file appended to `out`; EFORMAT when larger than `limit` bytes. */
enum graft_status file_read(const char *path, size_t limit, struct strbuf *out,
                            struct graft_err *err);
bool file_exists(const char *path); /* anything by that name */
bool dir_exists(const char *path);
/* Does the regular file `path` begin with these bytes? */
bool file_begins(const char *path, const void *magic, size_t len);
/* mkdir -p; EWRITE on failure. */
enum graft_status dir_make(const char *path, struct graft_err *err);
/* "dir/name" appended; no doubled slash. */
void path_join(struct strbuf *out, const char *dir, const char *name);
/* Absolute form of `path` against the working directory ("." and ".." kept simple, links not
 * followed). */
void path_absolute(struct strbuf *out, const char *path);
const char *path_base(const char *path); /* after the last '/', trailing slashes not counted away */

/* An output file: bytes go to PATH.tmp-PID; commit does fsync, rename over PATH, fsync of the
 * folder; abort removes the temporary. A kill at any moment leaves the previous PATH. Failures of
 * write stick and are reported by commit (EWRITE with the system's reason). */
struct out_file;
enum graft_status out_file_open(const char *path, struct out_file **out, struct graft_err *err);
void out_file_write(struct out_file *f, const void *bytes, size_t len);
uint64_t out_file_bytes(const struct out_file *f); /* given to out_file_write so far */
bool out_file_failed(const struct out_file *f);    /* commit will refuse: no use going on */
enum graft_status out_file_commit(struct out_file *f, struct graft_err *err); /* frees f */
void out_file_abort(struct out_file *f);                                      /* frees f; NULL ok */
/* The three in one. */
enum graft_status file_write(const char *path, const void *bytes, size_t len,
                             struct graft_err *err);

/* A temporary for the file that is to be `path`: `tmp` gets the name PATH.tmp-PID, *fd a descriptor
 * to read and write. Its lock says that it is being written; what killed programs left of the same
 * file is removed. EWRITE, ENOMEM. */
enum graft_status file_temporary(const char *path, struct strbuf *tmp, int *fd,
                                 struct graft_err *err);
/* Remove from `dir` the temporaries of files that are `ours` and that nobody is writing any more.
 */
void file_sweep(const char *dir, bool (*ours)(const void *user, const char *name),
                const void *user);
/* What a failed write of `path` is: EWRITE with the system's reason; ESTOPPED after file_stop_at.
 */
enum graft_status file_fail_write(const char *path, int error, struct graft_err *err);

/* From now on a file being written fails with ESTOPPED once *flag is not 0, so that what is half
 * done is taken away by who was doing it. For programs that have nothing to save when stopped. */
enum { FILE_WRITE_MOST = 16 << 20 }; /* bytes between two looks whether to stop */
void file_stop_at(const volatile sig_atomic_t *flag);
bool file_stopped(void);
/* A result is under way, of one file or of several; file_writing may be asked in a signal handler.
 * Files that are open count by themselves. */
void file_begin(void);
void file_end(void);
bool file_writing(void);

/* For files that a library wrote under the name `tmp`: fsync, rename over `path`, fsync of the
 * folder. On failure (EWRITE) `tmp` is removed. */
enum graft_status file_publish(const char *tmp, const char *path, struct graft_err *err);

/* Room on disk in place of memory: a file of `size` zero bytes in `dir`, mapped for reading and
 * writing. It has no name, so nothing of it is left however the process ends. */
struct scratch_file {
    void *data;
    size_t size;
};
/* All of its space is taken at once, so that a full disk shows here and not at some write: EWRITE.
 */
enum graft_status scratch_open(const char *dir, size_t size, struct scratch_file *out,
                               struct graft_err *err);
void scratch_close(struct scratch_file *f); /* zeroed memory is closed */

/* SHA-256 (FIPS 180-4) of a byte range: 64 hex digits and NUL into `hex`. */
void sha256_hex(const void *bytes, size_t len, char hex[65]);
/* The same for bytes that come in parts. */
struct sha256 {
    uint32_t h[8];
    uint64_t len;           /* bytes so far */
    unsigned char tail[64]; /* the len % 64 that no block holds yet */
};
void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *bytes, size_t len);
void sha256_finish(struct sha256 *s, char hex[65]);

#endif
