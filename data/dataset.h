/* data/dataset.h - records to tokens: JSONL files, formats, masks, truncation, batches.
 *
 * A data set holds every record's tokens and labels, tokenised once. A loader walks it in file
 * order or shuffled by seed, and hands out batches: records end to end as one flat row, with
 * segment starts and positions, nothing padded. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"
#include "core/status.h"
#include "data/chat.h"

enum { NO_LABEL = -100 }; /* a label that carries no loss, as in transformers */

enum record_format {
    RECORD_AUTO,
    RECORD_TOKENS,
    RECORD_TEXT,
    RECORD_COMPLETION,
    RECORD_ALPACA,
    RECORD_MESSAGES,
    RECORD_SHAREGPT,
    RECORD_FORMAT_COUNT
};
/* The names of the formats, as in configs. Their rows are in data/records.c. */
extern const char *const record_format_names[RECORD_FORMAT_COUNT + 1]; /* NULL-terminated */
/* The format of that name; EARG lists the ones there are. */
enum graft_status record_format_parse(const char *name, enum record_format *out,
                                      struct graft_err *err);

/* What a record's `task` may name: an adapter, or null for the base alone. */
struct task_names {
    const char *const *name;
    int count;
    int other; /* of a record without the key: an index, TASK_OF_BASE or TASK_UNSAID */
};
enum { TASK_OF_BASE = -1, TASK_UNSAID = -2 /* such a record is an error */ };

struct dataset_opts {
    enum record_format format;
    const enum record_format *file_format; /* one a file, instead of `format`; NULL: none */
    bool mask_prompt;
    bool train_on_last;    /* of a conversation's answers learn the last one only */
    int64_t max_length;    /* tokens; 0: no truncation */
    int64_t max_positions; /* longer records (after truncation) are an error; 0: no limit */
    int64_t vocab_rows;    /* rows of the embedding: an id at or above is an error; 0: none */
    const struct tokenizer *tokenizer; /* NULL: only the format tokens works */
    int32_t eos;                       /* -1: none known (error for formats that append it) */
    const struct chat *chat;           /* NULL: a conversation is an error, EARG with: */
    const char *chat_problem;          /* why there is none; NULL: not said */
    int64_t first_line, limit;         /* read `limit` records from this line on; 0: all */
    const struct task_names *tasks; /* NULL: a record's "task" is an unknown key like any other */
};

struct record {
    const char *file; /* borrowed from the dataset */
    int64_t line;     /* from 1 */
    int64_t first;    /* into dataset.id and dataset.label */
    int64_t length;   /* tokens after truncation; 0: dropped */
    int64_t targets;  /* labels that count: label[1 ..] != NO_LABEL */
    bool truncated, straddles;
    int task; /* with dataset_opts.tasks: index or TASK_OF_BASE */
};

struct dataset_stats {
    int64_t records;         /* lines read */
    int64_t dropped;         /* no target left */
    int64_t truncated;       /* dropped ones too */
    int64_t straddling;      /* completion: a token straddles prompt and completion */
    int64_t tokens, targets; /* of the kept records */
    int64_t longest;
    int64_t p50, p95; /* lengths that half, and 95 %, of the kept records do not exceed */
};

struct dataset {
    struct record *record; /* every record in file order, dropped ones too (length 0); count */
    int64_t count;
    int32_t *id, *label; /* as given: label[t] belongs to id[t], predicted from position t - 1 */
    int64_t id_count;
    struct dataset_stats stats;
    char sha256[65];  /* of the files' bytes, in order */
    struct arena mem; /* the files' names */
};

/* Load files (JSONL, UTF-8, one object a line). Errors are EFORMAT as "FILE:LINE: reason", EIO. A
 * chat template that is not there or that has what is not supported is EARG. A file without records
 * is EFORMAT. Lines are tokenised by several threads; the result, and which error is told, do not
 * depend on them. Keys that no format uses are told in one note. The caller owns *out
 * (dataset_release), which is untouched on failure. */
enum graft_status dataset_load(const char *const *file, int64_t files,
                               const struct dataset_opts *opts, struct dataset *out,
                               struct graft_err *err);
void dataset_release(struct dataset *d);

/* One batch: what a forward pass takes. All arrays are the loader's, valid until the next call. */
struct batch {
    int64_t n;             /* tokens */
    const int32_t *id;     /* n */
    const int32_t *target; /* n: the id that position t must predict, or -1 */
    const int32_t *pos;    /* n: from first_position in each record */
    int64_t segments;
    const int64_t *start; /* segments + 1: record s is [start[s], start[s + 1]) */
    const int64_t *which; /* segments: index into dataset.record */
    int64_t targets;      /* how many target[] >= 0 */
};

struct loader_opts {
    int64_t batch_size; /* records, or packed rows */
    bool packing;
    int64_t row_length; /* packing: tokens a row holds at most (max_length) */
    bool shuffle;
    uint64_t seed;
    /* the ids -1 .. -virtual_front stand before every record, whose rows hold them beside
     * row_length; positions begin at first_position */
    int64_t virtual_front, first_position;
};

struct loader;
enum graft_status loader_new(const struct dataset *d, const struct loader_opts *opts,
                             struct loader **out, struct graft_err *err);
void loader_free(struct loader *l);
/* Forward passes per epoch, and the most tokens any pass of any epoch can have. */
int64_t loader_passes(const struct loader *l);
int64_t loader_max_tokens(const struct loader *l);
int64_t loader_max_segments(const struct loader *l);
int64_t loader_rows(const struct loader *l); /* units per epoch: records, or packed rows */
double
loader_fill(const struct loader *l); /* packing: share of the rows' room that is used; else 1 */
/* Batch `pass` of `epoch` (both from 0): a pure function of data, options and the two numbers. */
enum graft_status loader_batch(struct loader *l, int64_t epoch, int64_t pass, struct batch *out,
                               struct graft_err *err);

#endif
