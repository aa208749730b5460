/* core/input.h - the bytes of a file from front to back; those of a compressed one as they were
 * before, whatever its name. */
#ifndef CORE_INPUT_H
#define CORE_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct input;

/* Open `path`; NULL or "-": standard input. EIO with the path and the system's reason. */
enum graft_status input_open(const char *path, struct input **out, struct graft_err *err);
void input_close(struct input *in); /* NULL ok */

/* Up to `size` bytes, as many as are there without waiting for more; *got 0: the end. What is
 * compressed by gzip (one member or several) or zstd (one frame or several) comes decompressed.
 * EIO; EFORMAT "PATH: ..." for a stream that is damaged, cut short, in need of more than 128 MiB to
 * be decompressed, or blown up by more than INPUT_MAX_RATIO from its first GiB on. Memory: two
 * buffers and the decompressor's window, however long the stream. */
enum { INPUT_MAX_RATIO = 500 };
enum graft_status input_read(struct input *in, void *buf, size_t size, size_t *got,
                             struct graft_err *err);

/* "gzip", "zstd"; NULL: these bytes begin no compressed stream. */
const char *input_packing(const void *bytes, size_t size);

#endif
