/* train/config.h - the configuration of a run: a YAML file, -s overrides, and the struct they fill.
 *
 * train/config_keys.c holds the tables: every key with its type, default, range, help and the names
 * other tools give it. */
#ifndef TRAIN_CONFIG_H
#define TRAIN_CONFIG_H

#include "core/schema.h"
#include "data/dataset.h"
#include "peft/config.h"
#include "quant/quant.h"

/* What becomes of the base's linears. */
enum quant_mode {
    QUANT_AUTO, /* train, quantize: double NF4 of a float base, else as it is; others: as the
                   adapter says */
    QUANT_NONE, /* floats */
    QUANT_TYPE  /* converted to `spec` */
};
struct quant_config {
    enum quant_mode mode;
    struct quant_spec spec; /* QUANT_TYPE, and what auto quantises to */
};

enum compute_type { COMPUTE_AUTO, COMPUTE_F32, COMPUTE_BF16 };
enum optim_name { OPTIM_ADAMW, OPTIM_SGD };
enum schedule_name { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE };

struct data_config {
    const char **train;               /* train_count files */
    enum record_format *train_format; /* train_count */
    double *train_weight;             /* train_count: times a record is drawn an epoch */
    int train_count;
    const char *valid;    /* a file; NULL: none */
    double valid_share;   /* 0: none; this part of the training records is held out instead */
    int64_t valid_number; /* 0: none; or so many of them */
    enum record_format format;
    const char *template_name; /* "auto", a built-in template, or the absolute path of a file */
    const char *template_date; /* YYYY-MM-DD; NULL: today, where the template asks */
    bool mask_prompt, packing, shuffle;
    bool train_on_last; /* of a conversation's answers */
    int64_t max_length;
};

struct train_config {
    double epochs; /* 0: `steps` decides */
    int64_t steps; /* 0: `epochs` decides */
    int64_t batch_size, gradient_accumulation;
    int64_t seed;
    int64_t log_every;
    int64_t eval_every; /* 0: at the end only */
    int64_t save_every; /* 0: no checkpoints */
    int64_t keep_last;
    bool keep_best;
    int64_t memory; /* bytes the plan may take; 0: auto */
};

struct optim_config {
    int name; /* enum optim_name */
    double lr;
    double beta1, beta2, eps, weight_decay;
    int schedule;  /* enum schedule_name */
    double warmup; /* below 1: share of the steps; from 1: steps */
    double min_lr, max_grad_norm;
};

struct run_config {
    const char *base;      /* absolute path */
    const char *base_name; /* NULL: what the base calls itself */
    struct quant_config quant;
    int compute;        /* enum compute_type */
    const char *device; /* "auto", "cpu" */
    int64_t threads;    /* 0: all */
    struct adapter_config adapter;
    struct data_config data;
    struct train_config train;
    struct optim_config optim;
    const char *output; /* absolute path; NULL: not given */
    struct arena mem;   /* strings and lists of all of it */
};

/* Where a config comes from. */
struct config_input {
    const char *file;       /* YAML */
    const char *const *set; /* `set_count` texts KEY=VALUE, applied in order */
    int set_count;
    const char *output; /* -o; NULL: none. `set` and these go before the file */
    const char *device; /* --device; NULL */
    int64_t threads;    /* --threads; 0 */
    bool need_output;   /* EARG when nothing names the output folder */
};

/* Read, override, check. On success the caller owns *out (run_config_release); untouched on error.
 * EIO the file cannot be read, EARG anything in it is wrong ("FILE:LINE: ...", "-s KEY=VALUE:
 * ..."). */
enum graft_status config_load(const struct config_input *in, struct run_config *out,
                              struct graft_err *err);
void run_config_release(struct run_config *c);

/* The resolved config, every key, as JSON (caller owns it; NULL: no memory) and as YAML text that
 * config_load reads back to the same struct. */
json_t *config_to_json(const struct run_config *c);
enum graft_status config_to_yaml(const struct run_config *c, struct strbuf *out,
                                 struct graft_err *err);

/* Does the config ask for validation, in any of the three ways; and by holding records out? */
bool config_has_valid(const struct data_config *d);
bool config_splits(const struct data_config *d);

/* "6GiB", "512MB", or bytes. */
bool config_size_parse(const char *text, int64_t *out);

/* The text of --help-config. */
void config_help(struct strbuf *out);

/* The value of --quant: a word or the map form, as YAML text. EARG "--quant: ...". */
enum graft_status quant_config_parse(const char *text, struct quant_config *out,
                                     struct graft_err *err);
/* "auto", "none", "nf4", or the map form where block or double are not the usual ones. */
json_t *quant_config_json(const struct quant_config *q);
/* The value of --compute and --device, checked: EARG "--compute: ...". */
enum graft_status compute_parse(const char *text, enum compute_type *out, struct graft_err *err);
enum graft_status device_check(const char *place, const char *name, struct graft_err *err);

extern const char *const train_on_names[]; /* all, last */
extern const char *const compute_names[];  /* by enum compute_type, NULL-terminated */
extern const char *const optim_names[];    /* by enum optim_name */
extern const char *const schedule_names[]; /* by enum schedule_name */
extern const struct key_table config_keys; /* the top level; sections hang below it */

#endif
