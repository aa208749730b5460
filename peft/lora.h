/* peft/lora.h - what the low-rank methods share: two matrices at a linear or at the embedding.
 *
 *             names                                  A        B         W      change of W
 * linear      lora_A.weight, lora_B.weight           (R, I)   (O, R)    (O, I) s B A
 * embedding   lora_embedding_A, lora_embedding_B     (R, V)   (D, R)    (V, D) s (B A)^T */
#ifndef PEFT_LORA_H
#define PEFT_LORA_H

#include "peft/methods.h"

enum lora_param {
    LORA_A,
    LORA_B,
    LORA_BIAS,
    LORA_MAGNITUDE,
    /* of a start that the base keeps, where A and B are in no file: peft/lora_taken.c */
    LORA_A0,
    LORA_B0,
    LORA_FILE_A,
    LORA_FILE_B
};

enum graft_status lora_build(struct adapter_site *s, struct graft_err *err);
enum graft_status lora_init(struct adapter_site *s, uint64_t seed, struct graft_err *err);
/* acc + s (B A x + b), or A's columns of the pass's ids through B at the embedding (x NULL); acc
 * may be NULL */
struct tensor *lora_change(struct adapter_site *s, struct graph *g, struct tensor *x,
                           struct tensor *acc);
/* x with dropout, where the config has some; the embedding has none */
struct tensor *lora_dropped(struct adapter_site *s, struct graph *g, struct tensor *x);
/* peft/lora_taken.c: a start taken out of the base. The check comes first and decides what is done
 * with the base, EARG; build adds what a base that keeps it needs; init fills A and B, and the base
 * or A0 and B0. */
enum graft_status lora_taken_check(struct adapter_site *s, struct graft_err *err);
enum graft_status lora_taken_build(struct adapter_site *s, struct graft_err *err);
enum graft_status lora_taken_init(struct adapter_site *s, struct graft_err *err);
/* y - s B0 A0 x */
struct tensor *lora_taken_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                  struct tensor *y);
enum graft_status lora_taken_derive(struct adapter_site *s, struct graft_err *err);
void lora_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w);

#endif
