/* train/output.h - an output folder: nobody else writes it, nothing in it is overwritten unasked.
 */
#ifndef TRAIN_OUTPUT_H
#define TRAIN_OUTPUT_H

#include <stdbool.h>

#include "core/json.h"

struct output {
    const char *dir;  /* borrowed */
    bool made;        /* the folder was not there before */
    const char *keep; /* a folder in it that output_begin leaves: of this run's first stage; NULL */
    int lock;         /* descriptor of the lock file */
    int metrics;      /* metrics.jsonl, appended line by line */
};

/* Make or take the folder (`whole`: for a run that ends in a checkpoint): EARG when it holds a run
 * (without `force`, which removes exactly the run's own files), when it holds no run but files that
 * a run would write over (with `force`, too), or when another process is training into it; EWRITE.
 */
enum graft_status output_open(const char *dir, bool force, bool whole, struct output *out,
                              struct graft_err *err);
/* The run begins: remove exactly the files of an old one, open metrics.jsonl. */
enum graft_status output_begin(struct output *o, struct graft_err *err);
/* A note where the folder's file system has less than `bytes` free: better told before the run. */
void output_note_room(const struct output *o, size_t bytes);
void output_close(struct output *o);
/* The same for a run that never began: nothing of it stays, nor a folder that was made for it. */
void output_discard(struct output *o);

/* One line of metrics.jsonl, on disk before the call returns. EWRITE. */
enum graft_status output_metric(struct output *o, const json_t *line, struct graft_err *err);
/* The same from its text, to which the line's end is added. */
enum graft_status output_metric_text(struct output *o, struct strbuf *line, struct graft_err *err);
enum graft_status output_json(const struct output *o, const char *name, const json_t *v,
                              struct graft_err *err);
enum graft_status output_text(const struct output *o, const char *name, const char *text,
                              size_t len, struct graft_err *err);

/* What --force replaces of an output that is there. */
enum output_kind {
    OUTPUT_FILE,  /* it (result_file) */
    OUTPUT_RUN,   /* files and folders of a run, of its first stage too (output_open,
                     adapter_folder) */
    OUTPUT_MODEL, /* files of a checkpoint (result_folder) */
};
/* EARG where that is, holds, or is part of `path`, a file or a folder that is read as `what`: "the
 * base". NULL is nothing. */
enum graft_status output_spares(enum output_kind kind, const char *output, const char *what,
                                const char *path, struct graft_err *err);

/* A file as a result: EARG when it is a folder, or exists and `force` is not given. */
enum graft_status result_file(const char *path, bool force, struct graft_err *err);
/* A folder for a result that is written once (merge): EARG when it exists and is not empty and
 * `force` is not given; with force the files that this kind of output has are removed. *made: the
 * folder was not there before. One of result_keep and result_discard has to follow. */
enum graft_status result_folder(const char *dir, bool force, bool *made, struct graft_err *err);
/* It is whole. */
void result_keep(void);
/* It failed half-way: what was written goes, and the folder when it was made for it. */
void result_discard(const char *dir, bool made);

/* The same for an adapter that is no run (combine, export): what EARG is for says output_open;
 * result_keep or adapter_folder_discard has to follow. */
enum graft_status adapter_folder(const char *dir, bool force, bool *made, struct graft_err *err);
void adapter_folder_discard(const char *dir, bool made);

/* Remove what an adapter consists of, with its tokenizer and templates: what saving one began. */
void adapter_files_remove(const char *dir);

/* Do two paths lead to the same file or folder? */
bool same_place(const char *a, const char *b);

#endif
