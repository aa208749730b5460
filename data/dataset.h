/* data/dataset.h - records to tokens: JSONL files, formats, masks, truncation, batches.
 *
 * Files are read line by line and tokenised once; what comes out goes to a sink in file order: into
 * memory (dataset_load), or wherever the caller has room. A data set is a table of records over one
 * array of tokens, its own or somebody's mapped file. A loader walks it in file order or shuffled
 * by seed, each file as often as its weight says, and hands out batches: records end to end as one
 * flat row, with segment starts and positions, nothing padded. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"
#include "core/status.h"
#include "core/strbuf.h"
#include "data/chat.h"
#include "data/virtual.h"

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

/* Takes the text that a conversation was rendered to, borrowed, and the bytes at which its n tokens
 * begin, of which truncation keeps the first; text NULL for other records. */
typedef enum graft_status dataset_take_text(void *user, const char *text, size_t len,
                                            const int32_t *at, int64_t n, struct graft_err *err);

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
    const int32_t *stop;               /* stops end tokens, to see who teaches none */
    int stops;
    int64_t first_line, limit;      /* read `limit` records from this line on; 0: all */
    const struct task_names *tasks; /* NULL: a record's "task" is an unknown key like any other */
    /* one a task, or one without tasks: what stands before a record or in it; NULL: nothing. A
     * virtual token is no target, and neither is a record's first token, also where virtual ones
     * stand before it. */
    const struct virtual_tokens *virt;
    dataset_take_text *take_text; /* called for every record, in order; NULL: nobody asks */
    void *take_user;
};

/* One line of a file. 32 bytes, without pointers: a table of them can lie in a mapped file. */
struct record {
    int64_t first;   /* into dataset.token */
    int64_t line;    /* of its file, from 1 */
    int32_t length;  /* tokens after truncation; 0: dropped */
    int32_t targets; /* labels that count: those of tokens 1 .. length - 1 that are not NO_LABEL */
    int32_t file;    /* index into dataset.file */
    int16_t task;    /* with dataset_opts.tasks: index or TASK_OF_BASE */
    bool truncated : 1;
    bool straddles : 1;
    bool labelled : 1; /* labels of its own: token[first + length ..] */
    bool endless : 1;  /* a conversation, not truncated, that teaches none of the end tokens */
};
_Static_assert(sizeof(struct record) == 32, "the table of records has grown");

struct dataset_stats {
    int64_t records;         /* lines read */
    int64_t dropped;         /* no target left */
    int64_t truncated;       /* dropped ones too */
    int64_t straddling;      /* completion: a token straddles prompt and completion */
    int64_t endless;         /* conversations, not truncated, that teach no end token */
    int64_t tokens, targets; /* of the kept records */
    int64_t longest;
    int64_t p50, p95; /* lengths that half, and 95 %, of the kept records do not exceed */
};

struct dataset {
    const struct record *record; /* every record in file order, dropped ones too; count */
    int64_t count;
    const int32_t *token; /* as dataset_id and dataset_label read them; token_count */
    int64_t token_count;
    const char **file; /* names; files of them */
    int files;
    struct dataset_stats stats;
    struct arena mem;             /* the files' names */
    bool owns_record, owns_token; /* mem_free them at the end */
    bool mapped;                  /* both arrays lie in a mapped file */
};

/* How a token is kept: as its id where its own label counts, as ~id where it does not. The virtual
 * token -1 - i has no label and is INT32_MIN + i, which is ~id of no id below DATASET_IDS. */
enum { DATASET_IDS = INT32_MAX - VIRTUAL_MAX + 1 };
static inline int32_t token_virtual(int32_t id)
{
    return ~id | INT32_MIN;
}

static inline int32_t token_id(int32_t x)
{
    return x >= 0 ? x : ~x < DATASET_IDS ? ~x : ~(x & INT32_MAX);
}

/* Token t of a record, below 0 a virtual one, and its label as given: predicted from position
 * t - 1. */
static inline int32_t dataset_id(const struct dataset *d, const struct record *r, int64_t t)
{
    return token_id(d->token[r->first + t]);
}

static inline int32_t dataset_label(const struct dataset *d, const struct record *r, int64_t t)
{
    const int32_t x = d->token[r->first + t];

    if (r->labelled)
        return d->token[r->first + r->length + t];
    return x < 0 ? NO_LABEL : x;
}

/* All of a record's, length each; either may be NULL. */
void dataset_copy(const struct dataset *d, const struct record *r, int32_t *id, int32_t *label);

static inline const char *dataset_file(const struct dataset *d, const struct record *r)
{
    return d->file[r->file];
}

/* Takes records as they become known, in file order, from one thread: `count` of them, whose tokens
 * follow those of the call before. `first` counts from the first of all. */
typedef enum graft_status dataset_put(void *user, const struct record *record, int64_t count,
                                      const int32_t *token, int64_t tokens, struct graft_err *err);

/* Read files (JSONL, UTF-8, one object a line; compressed by gzip or zstd too) into `put`. Errors
 * are EFORMAT as "FILE:LINE: reason", EIO, and what `put` returns. A chat template that is not
 * there or that has what is not supported is EARG. A file without records is EFORMAT. Lines are
 * tokenised by several threads; the result, and which error is told, do not depend on them. Memory:
 * one block of lines. The names of keys that make no difference, because no format uses them or
 * the chat template does not name them, are appended to `ignored`, each with its NUL. */
enum graft_status dataset_read(const char *const *file, int64_t files,
                               const struct dataset_opts *opts, dataset_put *put, void *user,
                               struct strbuf *ignored, struct graft_err *err);
/* Tell the user of such keys in one note. */
void dataset_note_ignored(const char *const *file, int64_t files, const struct strbuf *ignored);

/* Read files into memory: 4 bytes a token and 32 a record. The caller owns *out (dataset_release),
 * which is untouched on failure. */
enum graft_status dataset_load(const char *const *file, int64_t files,
                               const struct dataset_opts *opts, struct dataset *out,
                               struct graft_err *err);
/* A data set over arrays that somebody else keeps until it is released. They are looked through
 * first: EFORMAT when they cannot be the records of these files under these options. */
struct dataset_arrays {
    const struct record *record; /* count */
    const int32_t *token;        /* token_count */
    int64_t count, token_count;
    bool mapped; /* both lie in a mapped file */
};
enum graft_status dataset_over(const struct dataset_arrays *a, const char *const *file,
                               int64_t files, const struct dataset_opts *opts, struct dataset *out,
                               struct graft_err *err);
void dataset_release(struct dataset *d);
/* Whoever goes through the tokens of a data set says how many bytes of them: those of a mapped one
 * leave memory when DATASET_RESIDENT bytes may have come in. `*touched` starts at 0. */
enum { DATASET_RESIDENT = 64 << 20 };
void dataset_touch(const struct dataset *d, int64_t *touched, size_t bytes);
/* The same for whoever goes through the table of records, at record i. */
static inline void dataset_touch_table(const struct dataset *d, int64_t *touched, int64_t i)
{
    enum { CHUNK = 1 << 14 };

    if (i % CHUNK == 0)
        dataset_touch(d, touched, CHUNK * sizeof(struct record));
}
/* What of it memory must hold: all, or of a mapped one a part. */
size_t dataset_bytes(const struct dataset *d);

/* A part of a data set is told by one flag a record. */

/* out[i] for a seeded choice among the kept records: `number` of them, or when that is 0 so many as
 * `share` of them comes to, rounded up. EARG when none would be left out of the choice. */
enum graft_status dataset_choose(const struct dataset *d, double share, int64_t number,
                                 uint64_t seed, bool *out, struct graft_err *err);
/* The records with in[i] == want, over the tokens of `d`, which has to outlive it. */
enum graft_status dataset_part(const struct dataset *d, const bool *in, bool want,
                               struct dataset *out, struct graft_err *err);
/* Their statistics alone. */
enum graft_status dataset_count(const struct dataset *d, const bool *in, bool want,
                                struct dataset_stats *out, struct graft_err *err);
/* Write the lines of the records with in[i] to `path`, as they stand in their files, atomically. */
enum graft_status dataset_write_lines(const struct dataset *d, const bool *in, const char *path,
                                      struct graft_err *err);

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
    const double *weight; /* one a file: how often its records are drawn an epoch; NULL: once */
    const bool *skip;     /* one a record: never drawn; NULL: none */
    /* the ids -1 .. -virtual_front stand before every record, whose rows hold them beside
     * row_length; positions begin at first_position */
    int64_t virtual_front, first_position;
};

struct loader;
/* Both arrays of `opts` are borrowed, like the data set, until loader_free. Memory: 4 bytes for
 * each record drawn in an epoch, packing 4 more for each row; 4 more a record of a file whose
 * weight has a fraction; packing takes 24 bytes a record more while the rows are decided: only at
 * the start, unless a weight has a fraction. */
enum graft_status loader_new(const struct dataset *d, const struct loader_opts *opts,
                             struct loader **out, struct graft_err *err);
void loader_free(struct loader *l);

/* Records drawn an epoch. */
int64_t loader_draws(const struct loader *l);
/* Of one file: its records that can be drawn, and how many are drawn an epoch. */
void loader_source(const struct loader *l, int file, int64_t *records, int64_t *draws);
/* Forward passes of an epoch. All epochs have as many, unless packed rows of a file with a weight
 * that has a fraction are decided anew every epoch. */
enum graft_status loader_passes(struct loader *l, int64_t epoch, int64_t *out,
                                struct graft_err *err);
bool loader_passes_vary(const struct loader *l);
/* The most tokens, and records, that any pass of any epoch can have. */
int64_t loader_max_tokens(const struct loader *l);
int64_t loader_max_segments(const struct loader *l);
/* Of the epoch at hand, the first to begin with: units (records, or packed rows), and the share of
 * the rows' room that is used (1 without packing). */
int64_t loader_rows(const struct loader *l);
double loader_fill(const struct loader *l);
size_t loader_bytes(const struct loader *l);
/* Batch `pass` of `epoch` (both from 0): a pure function of data, options and the two numbers. */
enum graft_status loader_batch(struct loader *l, int64_t epoch, int64_t pass, struct batch *out,
                               struct graft_err *err);

#endif
