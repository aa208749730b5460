/* train/cache_dir.h - the user's cache folder: where it is, how large it may be, what goes first;
 * hashes of files that need not be read again.
 *
 * $GRAFT_CACHE, else $XDG_CACHE_HOME/graft, else $HOME/.cache/graft; "off" or an empty value: none.
 * $GRAFT_CACHE_SIZE bounds its token caches (64GiB when not given). All that lies there can be
 * removed at any time. */
#ifndef TRAIN_CACHE_DIR_H
#define TRAIN_CACHE_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "core/strbuf.h"

struct cache_dir {
    struct strbuf path; /* "": there is none */
    int64_t limit;      /* bytes */
};
/* The folder, made when it is not there. One that cannot be made is told in a note and counts as
 * none. EARG: $GRAFT_CACHE_SIZE is no size. */
enum graft_status cache_dir_open(struct cache_dir *out, struct graft_err *err);
void cache_dir_release(struct cache_dir *d);

/* Path of the token cache with this key. */
void cache_tokens_path(const struct cache_dir *d, const char *key, struct strbuf *out);
/* It was used just now: others go before it. */
void cache_touch(const char *path);
/* Remove token caches, the longest unused first, until the rest has at most `limit` bytes; `keep`
 * stays. Remembered hashes beyond a thousand go too, and parts of files that dead runs left. */
void cache_trim(const struct cache_dir *d, const char *keep);

/* What tells that a file is still the one it was. */
struct file_stamp {
    int64_t size, mtime, ctime; /* times in ns */
    uint64_t inode, device;
};
/* EIO. */
enum graft_status file_stamp_get(const char *path, struct file_stamp *out, struct graft_err *err);
bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b);

/* SHA-256 of a file's bytes as they lie there. A file that is what it was when it was hashed before
 * is not read again: size, times of change and inode are compared, and a file that changed within
 * the last seconds is not remembered, since its times could not tell another change. EIO. */
enum graft_status cache_hash(const struct cache_dir *d, const char *path, char hex[65],
                             struct file_stamp *stamp, struct graft_err *err);

#endif
