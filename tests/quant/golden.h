/* tests/quant/golden.h - reads the sections of tests/golden/quant.bin, see make_quant.py there. */
#ifndef TESTS_QUANT_GOLDEN_H
#define TESTS_QUANT_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/mem.h"
#include "quant/quant.h"
#include "quant/simd.h"

static struct mapped_file golden_file;

static inline int golden_open(void **state)
{
    (void)state;
    return file_map(GRAFT_GOLDEN "/quant.bin", &golden_file, NULL) ? -1 : 0;
}

static inline int golden_close(void **state)
{
    (void)state;
    file_unmap(&golden_file);
    return 0;
}

/* The bytes of section `name` in memory of their own (freed by the caller), *count elements of
 * `size` bytes. */
static inline void *golden(const char *name, size_t size, int64_t *count)
{
    const uint8_t *p = golden_file.data, *end = p + golden_file.size;

    *count = 0;
    while (p + 20 <= end) {
        uint32_t len;

        memcpy(&len, p + 16, 4);
        if (strncmp((const char *)p, name, 16) == 0) {
            void *copy = mem_alloc(len);

            assert_non_null(copy);
            memcpy(copy, p + 20, len);
            *count = (int64_t)(len / size);
            return copy;
        }
        p += 20 + len;
    }
    fail_msg("tests/golden/quant.bin has no section \"%s\"", name);
    return NULL;
}

static inline float *golden_floats(const char *name, int64_t *count)
{
    return golden(name, sizeof(float), count);
}

/* Equal as bits, so that -0 and NaN count; -1, or the first element that differs. */
static inline int64_t first_difference(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            return i;
    return -1;
}

/* Run `check` with every instruction set this machine has. */
static inline void at_every_level(void (*check)(void))
{
    const int top = (int)simd_level();

    for (int level = 0; level <= top; level++) {
        simd_limit((enum simd_level)level);
        check();
    }
    simd_limit(SIMD_AVX512);
}

#endif
