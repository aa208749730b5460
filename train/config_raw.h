/* train/config_raw.h - the keys of a config as they stand in the file, before they are given
 * meaning. */
#ifndef TRAIN_CONFIG_RAW_H
#define TRAIN_CONFIG_RAW_H

#include "train/config.h"

#define QUANT_FORM "auto, nf4, fp4, none or a map {type: nf4, block: 64, double: true}"
#define DATA_FORM  "a JSONL file, a list of files, or a list of maps {path, format, weight}"

struct raw_data {
    const json_t *train, *valid;
    const char *template_name, *template_date;
    int format, train_on;
    bool mask_prompt, packing, shuffle;
    int64_t max_length;
};

struct raw_train {
    const json_t *epochs, *memory, *unused;
    int64_t steps, batch_size, gradient_accumulation, seed, log_every, eval_every;
    bool keep_best;
};

struct raw_optim {
    struct optim_config o;
    const json_t *betas, *unused;
    int state;
};

struct raw_config {
    const char *base, *base_name, *device, *output;
    const json_t *quant, *adapter;
    int compute;
    int64_t threads;
    struct raw_data data;
    struct raw_train train;
    struct raw_optim optim;
};

/* `quant` from JSON; NULL or null: auto. */
enum graft_status quant_config_read(const json_t *v, const struct schema_source *src,
                                    struct quant_config *out, struct graft_err *err);

#endif
