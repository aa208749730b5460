/* train/inspect.h - what lies at a path: checkpoint, adapter, container or run, as JSON. */
#ifndef TRAIN_INSPECT_H
#define TRAIN_INSPECT_H

#include "core/json.h"

/* {"kind": "checkpoint" | "adapter" | "container" | "run", "path", "architecture", "parameters",
 * "bytes", "dtypes": {type: tensors}, "tensors": {name: {"shape", "dtype", "bytes"}}, ...}; the
 * caller owns it. EIO, EFORMAT; EARG for a base that is not supported. */
enum graft_status inspect_path(const char *path, json_t **out, struct graft_err *err);

#endif
