/* train/merge_note.h - how a merged model came about, in its own metadata: what it was merged onto
 * and what its audit found. Key "graft_merge" of a safetensors file's or a shards' index' metadata,
 * "graft.merge" of a GGUF file; the value is JSON text. */
#ifndef TRAIN_MERGE_NOTE_H
#define TRAIN_MERGE_NOTE_H

#include "core/json.h"

/* Put it into the model at `path`, a folder or GGUF file that merge wrote. */
enum graft_status merge_note_write(const char *path, const json_t *note, struct graft_err *err);
/* *out NULL: there is none. The caller owns it. */
enum graft_status merge_note_read(const char *path, json_t **out, struct graft_err *err);

#endif
