/* train/data.h - the records of a run: what the config's data section comes to. */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H

#include "models/config.h"
#include "train/cache.h"
#include "train/config.h"
#include "train/text.h"

/* How records are read for a base whose words are `text`, both borrowed: all answers are learnt,
 * nothing is cut. */
struct dataset_opts data_opts(const struct text *text, const struct model_config *base);
/* The same as a run's config wants it; `virt` (borrowed): virtual_of its adapter. The formats of
 * the files are the config's: data.train. */
struct dataset_opts run_data_opts(const struct run_config *c, const struct text *text,
                                  const struct model_config *base,
                                  const struct virtual_tokens *virt);

/* How a run with that config goes through its records; `skip` stays NULL. Borrows the weights. */
struct loader_opts run_loader_opts(const struct run_config *c, const struct virtual_tokens *virt);
/* Whether data.valid holds records of data.train out, and which of `d`: one flag a record,
 * mem_free'd by the caller; *out is NULL where it holds out none. EARG: it wants too many. */
enum graft_status run_hold_out(const struct run_config *c, const struct dataset *d, bool **out,
                               struct graft_err *err);

struct run_data {
    struct dataset all;         /* of data.train */
    bool *held;                 /* one a record of `all`: held out for validation; NULL: none */
    struct dataset_stats train; /* of the records that are trained on */
    struct dataset valid;       /* parts of `all`, or a file of its own */
    bool has_valid;
    struct token_cache all_file, valid_file; /* what they lie in, where that is not memory */
    struct loader *loader;
    char sha256[65]; /* of the files of data.train: of the one, or of the list of their hashes */
};

/* In place. EFORMAT, EIO: a file; EARG: the config asks for what the files cannot give. */
enum graft_status run_data_open(const struct run_config *c, const struct text *text,
                                const struct model_config *base, struct run_data *out,
                                struct graft_err *err);
void run_data_release(struct run_data *d);
/* Memory it takes. */
size_t run_data_bytes(const struct run_data *d);

#endif
