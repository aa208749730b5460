/* tests/packing.h - gzip and zstd streams made by the libraries themselves, for tests of what reads
 * them. */
#ifndef TESTS_PACKING_H
#define TESTS_PACKING_H

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/strbuf.h"

/* Append `text` as one gzip member. */
static inline void add_gzip(struct strbuf *out, const void *text, size_t len)
{
    z_stream z;
    unsigned char buf[4096];
    int code = Z_OK;

    memset(&z, 0, sizeof z);
    deflateInit2(&z, 6, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY);
    z.next_in = (unsigned char *)(uintptr_t)text;
    z.avail_in = (unsigned)len;
    while (code == Z_OK) {
        z.next_out = buf;
        z.avail_out = sizeof buf;
        code = deflate(&z, Z_FINISH);
        strbuf_add(out, buf, sizeof buf - z.avail_out);
    }
    deflateEnd(&z);
}

/* Append `text` as one zstd frame, with a window of 2^window_log (0: the library's choice). */
static inline void add_zstd(struct strbuf *out, const void *text, size_t len, int window_log)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_inBuffer in = { text, len, 0 };
    char buf[4096];
    size_t left = 1;

    if (window_log) {
        ZSTD_CCtx_setParameter(c, ZSTD_c_enableLongDistanceMatching, 1);
        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
    }
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    while (left > 0) { /* a size that is told would make the window small */
        ZSTD_outBuffer piece = { buf, sizeof buf, 0 };
        const bool whole = !window_log || in.pos == in.size;

        left = ZSTD_compressStream2(c, &piece, &in, whole ? ZSTD_e_end : ZSTD_e_continue);
        left = whole ? left : 1;
        strbuf_add(out, buf, piece.pos);
    }
    ZSTD_freeCCtx(c);
}

#endif
