/* peft/largest.h - the k largest magnitudes by counting: the k-th is found without sorting. */
#ifndef PEFT_LARGEST_H
#define PEFT_LARGEST_H

#include <stdint.h>
#include <string.h>

/* Magnitudes order as their 31 bits do; what is not finite stands above all numbers. */
static inline uint32_t magnitude(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
}

/* Of counts by bin, down from the last: the bin in which the *k-th lies; *k: which of that bin's it
 * is, from 1. */
static inline uint32_t bin_of(const int64_t *count, uint32_t bins, int64_t *k)
{
    uint32_t b = bins;

    while (b > 1 && *k > count[b - 1])
        *k -= count[--b];
    return b - 1;
}

#endif
