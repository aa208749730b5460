/* quant/simd.h - one loop compiled for several instruction sets, chosen at run time.
 *
 * No -march flag is needed: the build runs on any machine of its family and uses what the one at
 * hand has. All versions of a function give the same bits. */
#ifndef QUANT_SIMD_H
#define QUANT_SIMD_H

#include <stdint.h>

enum simd_level { SIMD_PLAIN, SIMD_AVX2, SIMD_AVX512 };

/* The best level this machine has, no higher than the limit. */
enum simd_level simd_level(void);
/* Tests and benchmarks: use nothing above `most`. SIMD_AVX512 = no limit. */
void simd_limit(enum simd_level most);

#define SIMD_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__)
#define SIMD_X86         1
#define SIMD_AVX2_TARGET __attribute__((target("avx2,fma,f16c")))
#define SIMD_AVX512_TARGET                                                                         \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))

/* name(P) { body(A) } for every level, P the parameters in brackets, A the same as arguments;
 * body is SIMD_INLINE. */
#define SIMD_FUNCTION(scope, name, body, P, A)                                                     \
    SIMD_AVX512_TARGET static void name##_avx512 P                                                 \
    {                                                                                              \
        body A;                                                                                    \
    }                                                                                              \
    SIMD_AVX2_TARGET static void name##_avx2 P                                                     \
    {                                                                                              \
        body A;                                                                                    \
    }                                                                                              \
    scope void name P                                                                              \
    {                                                                                              \
        switch (simd_level()) {                                                                    \
        case SIMD_AVX512:                                                                          \
            name##_avx512 A;                                                                       \
            return;                                                                                \
        case SIMD_AVX2:                                                                            \
            name##_avx2 A;                                                                         \
            return;                                                                                \
        case SIMD_PLAIN:                                                                           \
            break;                                                                                 \
        }                                                                                          \
        body A;                                                                                    \
    }
#else
#define SIMD_X86 0
#define SIMD_FUNCTION(scope, name, body, P, A)                                                     \
    scope void name P                                                                              \
    {                                                                                              \
        body A;                                                                                    \
    }
#endif

#endif
