/* data/preview.h - a record as it will be trained, for display. */
#ifndef DATA_PREVIEW_H
#define DATA_PREVIEW_H

#include "data/dataset.h"

/* The text of `id[0 .. n)`, appended to `text`, and in end[t] (n of them) how much of `text` stands
 * when token t is in: what token t adds is [end[t - 1], end[t]), and nothing while it is part of a
 * character. Special tokens show; a virtual token, which has no text, as "<virtual 1>". */
enum graft_status preview_text(const struct tokenizer *t, const int32_t *id, int64_t n,
                               struct strbuf *text, int64_t *end, struct graft_err *err);

/* The texts that conversations were rendered to, record by record: what tokens are decoded to may
 * differ where a tokenizer normalises. Zeroed memory holds none. */
struct preview_texts {
    struct strbuf text; /* one behind the other */
    struct id_list at;  /* where in its text each token begins */
    struct preview_place {
        size_t text;
        int64_t at;
    } * begin; /* of record i, count of them */
    int64_t count, cap;
};
void preview_texts_release(struct preview_texts *p);
/* dataset_opts.take_text over a struct preview_texts. */
enum graft_status preview_take_text(void *user, const char *text, size_t len, const int32_t *at,
                                    int64_t n, struct graft_err *err);
/* What preview_text gives, for record `i` with the ids `id[0 .. n)`: of its rendered text as much
 * as the n tokens cover, all of it where n is 0 (a dropped record), or, where there is none or
 * virtual tokens stand in it, decoded. */
enum graft_status preview_rendered(const struct preview_texts *p, const struct tokenizer *t,
                                   int64_t i, const int32_t *id, int64_t n, struct strbuf *text,
                                   int64_t *end, struct graft_err *err);

/* Whether record `r` teaches to stop: the last token that is learnt, or the last one of `stop[0 ..
 * stops)` in the record where all is learnt, is an end token. */
bool preview_end_trained(const struct dataset *d, const struct record *r, const int32_t *stop,
                         int stops);

/* The whole data set, for people to judge it by. */
struct preview_summary {
    int64_t endless;    /* kept records without a trained end token */
    int64_t duplicates; /* kept records whose tokens and labels an earlier one has */
    int64_t
        length[6]; /* tokens that 1, 25, 50, 75, 95 and 99 % of the kept records do not exceed */
};
extern const int preview_percent[6];
enum graft_status preview_summarise(const struct dataset *d, const int32_t *stop, int stops,
                                    struct preview_summary *out, struct graft_err *err);

#endif
