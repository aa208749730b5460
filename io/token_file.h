/* io/token_file.h - what the reader and the writer of token caches share; nobody outside io/
 * includes it. */
#ifndef IO_TOKEN_FILE_H
#define IO_TOKEN_FILE_H

#include <stddef.h>
#include <stdint.h>

enum { TOKEN_FILE_VERSION = 1, SUM_BLOCK = 1 << 20 };

extern const char token_magic[9];

/* A checksum against damage, not against intent, as fast as memory. */
uint64_t block_sum(const void *bytes, size_t len);
size_t sum_count(uint64_t bytes); /* blocks, the last one not whole */

#endif
