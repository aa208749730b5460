/* peft/lora.h - what the low-rank methods share: two matrices at a linear or at the embedding.
 *
 *             names                                  A        B         W      change of W
 * linear      lora_A.weight, lora_B.weight           (R, I)   (O, R)    (O, I) s B A
 * embedding   lora_embedding_A, lora_embedding_B     (R, V)   (D, R)    (V, D) s (B A)^T */
#ifndef PEFT_LORA_H
#define PEFT_LORA_H

#include "peft/methods.h"

enum lora_param { LORA_A, LORA_B, LORA_BIAS, LORA_MAGNITUDE };

enum graft_status lora_build(struct adapter_site *s, struct graft_err *err);
enum graft_status lora_init(struct adapter_site *s, uint64_t seed, struct graft_err *err);
/* acc + s (B A x + b), or A's columns of the pass's ids through B at the embedding (x NULL); acc
 * may be NULL */
struct tensor *lora_change(struct adapter_site *s, struct graph *g, struct tensor *x,
                           struct tensor *acc);
/* x with dropout, where the config has some; the embedding has none */
struct tensor *lora_dropped(struct adapter_site *s, struct graph *g, struct tensor *x);
void lora_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w);

#endif
