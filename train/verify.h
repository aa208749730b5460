/* train/verify.h - does an adapter fit a base, and does it do anything? `graft verify`. */
#ifndef TRAIN_VERIFY_H
#define TRAIN_VERIFY_H

#include "peft/adapter.h"

/* What an adapter does at one slot. Norms are Frobenius norms. */
struct verified_slot {
    const char *name;   /* module */
    const char *method; /* of the first site there; static */
    int64_t r;          /* 0: no rank */
    double scale;
    bool weight, bias;   /* it changes the weight, the bias */
    const char *changes; /* that, or what else, in words; static */
    double norm;         /* of the change of the weight; of the values where it changes none */
    double relative;     /* norm over that of the weight; NAN where there is none */
    double largest;      /* magnitude */
    double bias_norm;
    bool idle; /* it changes nothing here */
};

struct verify_report {
    const char *method; /* static */
    char format[16];    /* of the base's linears as they were used: "nf4" */
    struct verified_slot *slot;
    int slots, linears; /* filled slots; linears of the base */
    int idle;           /* slots where nothing changes; all of them: the adapter is untrained */
    int64_t parameters, values; /* trainable; finite ones that were read */
    bool adds_input;            /* it lends virtual tokens, or keys and values */
    bool other_base;            /* it says that it was trained over another one */
    struct arena mem;
};
void verify_report_release(struct verify_report *r);

/* EARG, EIO, EFORMAT, ESHAPE: what does not fit, all of it, by name; EFORMAT: it holds no tensor.
 * The base is brought into the format the adapter was trained over. */
enum graft_status verify_run(const char *adapter, const char *base, struct verify_report *out,
                             struct graft_err *err);

#endif
