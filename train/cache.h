/* train/cache.h - data sets that are tokenised once: looked up in the user's cache, else made. */
#ifndef TRAIN_CACHE_H
#define TRAIN_CACHE_H

#include "data/dataset.h"
#include "io/token_cache.h"

struct cached_data {
    struct dataset data;
    struct token_cache file; /* what it lies in; empty: in memory */
    char sha256[65];         /* of the file's bytes; of several: of the list of theirs */
};

/* dataset_load, by way of the cache: under a key made of the files' content, the tokenizer, the
 * chat template with its date and all else in `opts` that decides the tokens, they are read from a
 * mapped file when a run before has left them there. Otherwise records stream into that file while
 * they are tokenised. One that is damaged, of another version or of other records is told in a note
 * and made anew; where none can be written, a note says so and the data set is held in memory. */
enum graft_status cached_load(const char *const *file, int64_t files,
                              const struct dataset_opts *opts, struct cached_data *out,
                              struct graft_err *err);
void cached_release(struct cached_data *c);

#endif
