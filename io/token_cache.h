/* io/token_cache.h - a tokenised data set in one HDF5 file: made once, mapped by every later run.
 *
 * /cache has the attributes version, key (what the file was made from), row_size and counts, and
 * the datasets tokens (32-bit integers), records (row_size bytes each, whose meaning is the
 * caller's), meta (a text) and sums: a checksum of each MiB of tokens and of records. Datasets are
 * contiguous and page-aligned. The structure before them is sealed as that of a container (h5.h).
 */
#ifndef IO_TOKEN_CACHE_H
#define IO_TOKEN_CACHE_H

#include "core/file.h"
#include "core/mem.h"

struct token_cache {
    struct mapped_file map;
    const void *record; /* rows of row_size bytes, 4096-aligned */
    const int32_t *token;
    int64_t records, tokens;
    const char *meta; /* meta_len bytes */
    size_t meta_len;
};

/* Map `path`, which must have been made under `key` with rows of that size, and verify every
 * checksum, by all threads; what has been looked through leaves memory again. EIO; EFORMAT for
 * anything that is not so. */
enum graft_status token_cache_open(const char *path, const char *key, size_t row_size,
                                   struct token_cache *out, struct graft_err *err);
void token_cache_release(struct token_cache *c);

/* A cache on its way to `path`: everything goes to a temporary file beside it, of a name that no
 * other run has, and is renamed at the end, so that no reader sees half of it. The file is locked
 * (flock) while it is written. Memory: two MiB, 8 bytes a MiB written. EWRITE. */
struct token_writer;
enum graft_status token_writer_new(const char *path, size_t row_size, struct token_writer **out,
                                   struct graft_err *err);
enum graft_status token_writer_add(struct token_writer *w, const void *record, int64_t records,
                                   const int32_t *token, int64_t tokens, struct graft_err *err);
/* Both free `w`. */
enum graft_status token_writer_commit(struct token_writer *w, const char *key, const char *meta,
                                      size_t meta_len, struct graft_err *err);
void token_writer_abort(struct token_writer *w); /* NULL ok */

/* Part of the name of a temporary file of a writer; whether one of those, by its path, belongs to a
 * run that is no more. */
#define TOKEN_WRITER_MARK ".part-"
bool token_writer_is_dead(const char *path);

#endif
