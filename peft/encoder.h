/* peft/encoder.h - small networks that make virtual tokens, or keys and values: what ptuning and
 * prefix share. Inside peft/ only.
 *
 * Their values train and are kept in graft_state.safetensors; what they make is kept in PEFT's
 * file, which has no place for the network. They are computed in f32, whatever the activations are.
 */
#ifndef PEFT_ENCODER_H
#define PEFT_ENCODER_H

#include "peft/adapter.h"

/* A linear: w (out, in), b (out). */
struct dense {
    struct tensor *w, *b;
};

/* One parameter (rows, cols), a vector when cols is 0, saved as "prompt_encoder." + name. ENOMEM.
 */
enum graft_status encoder_param(struct adapter_site *s, const char *name, int64_t rows,
                                int64_t cols, struct tensor **out, struct graft_err *err);
/* NAME.weight and NAME.bias. ENOMEM. */
enum graft_status dense_build(struct adapter_site *s, const char *name, int64_t out, int64_t in,
                              struct dense *d, struct graft_err *err);
struct tensor *dense_record(struct graph *g, const struct dense *d, struct tensor *x);

/* PyTorch's start values. The stream of a tensor is its place among the adapter's tensors. */
void init_uniform(const struct adapter_site *s, struct tensor *t, uint64_t seed, double bound);
void init_normal(const struct adapter_site *s, struct tensor *t, uint64_t seed, double deviation);
/* Normal, but none beyond two deviations. */
void init_truncated(const struct adapter_site *s, struct tensor *t, uint64_t seed,
                    double deviation);
void dense_init(const struct adapter_site *s, const struct dense *d, uint64_t seed);
int64_t param_elems(const struct tensor *t);
/* For the hook `size`. */
void add_size(const float *x, int64_t n, double *squares, double *largest);

/* The tensor `prompt_embeddings` (n, width) of PEFT's file; `fixed`: an encoder makes it. ENOMEM.
 */
enum graft_status prompt_embeddings(struct adapter_site *s, int64_t n, int64_t width, bool fixed,
                                    struct tensor **out, struct graft_err *err);
/* Run what `record` records in a graph of its own, outside of training, and copy its output into
 * `out`. ENOMEM only. */
enum graft_status encoder_run(struct adapter_site *s,
                              struct tensor *(*record)(struct adapter_site *s, struct graph *g),
                              struct tensor *out, struct graft_err *err);

/* Fill the sizes of config.prompt that were left to the base, with `width` and `heads` as a virtual
 * token has them. EARG: one that was given is another. */
enum graft_status prompt_fill(struct adapter *a, int64_t width, int64_t heads,
                              struct graft_err *err);

#endif
