#include "quant/simd.h"

#include <stdatomic.h>

static _Atomic int limit = SIMD_AVX512, found = -1;

static int detect(void)
{
#if SIMD_X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return SIMD_PLAIN; /* every processor with AVX2 has F16C */
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return SIMD_AVX512;
    return SIMD_AVX2;
#else
    return SIMD_PLAIN;
#endif
}

enum simd_level simd_level(void)
{
    int level = atomic_load_explicit(&found, memory_order_relaxed);
    const int most = atomic_load_explicit(&limit, memory_order_relaxed);

    if (level < 0) {
        level = detect();
        atomic_store_explicit(&found, level, memory_order_relaxed);
    }
    return (enum simd_level)(level < most ? level : most);
}

void simd_limit(enum simd_level most)
{
    atomic_store_explicit(&limit, (int)most, memory_order_relaxed);
}
