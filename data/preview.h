/* data/preview.h - a record as it will be trained, for display. */
#ifndef DATA_PREVIEW_H
#define DATA_PREVIEW_H

#include "data/dataset.h"

/* The text of `id[0 .. n)`, appended to `text`, and in end[t] (n of them) how much of `text` stands
 * when token t is in: what token t adds is [end[t - 1], end[t]), and nothing while it is part of a
 * character. Special tokens show; a virtual token, which has no text, as "<virtual 1>". */
enum graft_status preview_text(const struct tokenizer *t, const int32_t *id, int64_t n,
                               struct strbuf *text, int64_t *end, struct graft_err *err);

/* Whether the last token of record `r` is `eos` and has loss. */
bool preview_eos_trained(const struct dataset *d, const struct record *r, int32_t eos);

#endif
