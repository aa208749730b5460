/* train/facts.h - graft.json: what an adapter was trained over, which PEFT's config cannot hold. */
#ifndef TRAIN_FACTS_H
#define TRAIN_FACTS_H

#include "data/dataset.h"
#include "models/checkpoint.h"
#include "train/changed.h"
#include "train/config.h"

enum { FACTS_VERSION = 1 };

struct facts {
    bool known; /* there was a graft.json */
    char base_hash[17];
    const char *base_path;     /* where the base was */
    struct base_change change; /* the base had given up what an adapter started with */
    struct quant_config quant; /* mode AUTO: blocks of the base's own file */
    bool has_quant;
    int compute;        /* enum compute_type */
    int64_t max_length; /* 0: not said */
    bool mask_prompt;   /* what was learnt of a record; not said: the answers, all of them */
    bool train_on_last;
    const char *template_name; /* data.template; NULL: there was none */
    const char *template_hash; /* SHA-256 of what a rendering depends on */
    const char *template_date; /* what the template took for today; NULL: it does not ask */
    struct arena mem;
};

/* Write DIR/graft.json. `quant` is borrowed (base_quant_json). */
enum graft_status facts_write(const char *dir, const struct facts *f, json_t *quant,
                              struct graft_err *err);
/* What the adapter was trained over, for facts_write; the caller owns it. */
json_t *facts_quant_json(const struct quant_config *q);
/* Was it the same format? */
bool facts_same_quant(const struct quant_config *a, const struct quant_config *b);
/* Write DIR/graft.json with facts that were read elsewhere and say the format (has_quant). */
enum graft_status facts_copy(const struct facts *f, const char *dir, struct graft_err *err);
/* Read DIR/graft.json; a folder without one gives known = false. EFORMAT: malformed or too new. */
enum graft_status facts_read(const char *dir, struct facts *out, struct graft_err *err);
void facts_release(struct facts *f);

/* EARG when the adapter `who` was trained over a base that was changed for it and `ck` is not that
 * one: it would mean something else. */
enum graft_status facts_check(const char *who, const struct facts *f, const struct checkpoint *ck,
                              struct graft_err *err);
/* A note when the adapter `who` was made over another base than `ck`, as far as its hash or, where
 * it has none, the name `base_name` in its config (NULL: not said) can tell. */
void facts_compare(const char *who, const struct facts *f, const char *base_name,
                   const struct checkpoint *ck);
/* Records are cut and masked as they were for the adapter. */
void facts_data_opts(const struct facts *f, struct dataset_opts *o);

#endif
