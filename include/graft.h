/* graft.h - the public interface of libgraft.
 *
 * Graft fine-tunes language models by training a small adapter over a frozen, 4-bit base.
 *
 *     struct graft_model *model = NULL;
 *     struct graft_adapter *sql = NULL;
 *     struct graft_answer *answer = NULL;
 *     struct graft_err err;
 *
 *     if (graft_model_open("models/smollm2", NULL, &model, &err) ||
 *         graft_adapter_load(model, "sql", "runs/sql", &sql, &err) ||
 *         graft_generate(model, sql, "List all users:", NULL, &answer, &err))
 *         fprintf(stderr, "%s\n", err.msg);
 *     else
 *         puts(answer->text);
 *     graft_answer_free(answer);
 *     graft_model_free(model);
 *
 * Paths and texts are UTF-8. Options may be NULL; a member that is 0 or NULL means its default, and
 * NAME_DEFAULTS sets them all so, in C and in C++. `err` may be NULL and is untouched on success.
 * Outputs are untouched on failure. The library does not print or exit.
 *
 * Threads: calls that take the same model, or an adapter of it, must not overlap. Different models
 * may be used by different threads at once; opening, loading, training, merging and quantising may
 * not (the container library is not made for it). Inside a call OpenMP's threads do the work.
 *
 * Licence: Apache-2.0 */
#ifndef GRAFT_H
#define GRAFT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GRAFT_API __attribute__((visibility("default")))
#else
#define GRAFT_API
#endif

/* What a call ended with. The message in struct graft_err says it in words. */
#define GRAFT_STATUS_MAP(X)                                                                        \
    X(OK, 0, "success")                                                                            \
    X(ENOMEM, -1, "out of memory")                                                                 \
    X(EARG, -2, "wrong usage or config")                                                           \
    X(ESHAPE, -3, "shapes do not fit")                                                             \
    X(EIO, -4, "file cannot be read")                                                              \
    X(EFORMAT, -5, "file is malformed or too new")                                                 \
    X(EDEVICE, -6, "accelerator error")                                                            \
    X(EWRITE, -7, "file cannot be written")                                                        \
    X(ERUN, -8, "run failed")                                                                      \
    X(ESTOPPED, -9, "stopped by a signal")

enum graft_status {
#define X(name, value, text) GRAFT_##name = value,
    GRAFT_STATUS_MAP(X)
#undef X
};

enum { GRAFT_ERR_MAX = 2048 };

/* Untouched on success. `msg` is one or more lines, lower case, without a full stop. */
struct graft_err {
    enum graft_status code;
    char msg[GRAFT_ERR_MAX];
};

/** @return a few words for `st`; static storage */
GRAFT_API const char *graft_status_text(enum graft_status st);

/** @return the version of the library, "MAJOR.MINOR.PATCH"; static storage */
GRAFT_API const char *graft_version(void);

/* Models --------------------------------------------------------------------------------------- */

struct graft_model;   /* a base, open for use, and the adapters loaded over it */
struct graft_adapter; /* one adapter over a model */

struct graft_model_opts {
    const char *quant;   /* what the linears become: "auto", "none", "nf4", "fp4", or a map as in
                            configs: "{type: nf4, block: 128}"; auto: as the base lies on disk */
    const char *compute; /* "auto", "f32", "bf16" */
    const char *for_adapter; /* an adapter's folder: `quant` auto means as it was trained */
    int threads;             /* of this model's calls; 0: as OpenMP has it */
};
#define GRAFT_MODEL_DEFAULTS                                                                       \
    {                                                                                              \
        "auto", "auto", NULL, 0                                                                    \
    }

/**
 * Open a base: a Hugging Face folder, a GGUF file or a .h5 container of graft_quantize().
 *
 * @param path  folder or file
 * @param opts  may be NULL
 * @param out   owned by the caller, see graft_model_free()
 * @return GRAFT_OK, or GRAFT_EIO not readable, GRAFT_EFORMAT malformed or with tensors missing,
 *         GRAFT_EARG an option, GRAFT_ENOMEM
 *
 * Memory: weights are mapped from the file where they stay as they lie; converted to nf4 they take
 * 4.127 bits each. A token of context takes 8 * layers * KV heads * head size bytes in
 * graft_generate().
 */
GRAFT_API enum graft_status graft_model_open(const char *path, const struct graft_model_opts *opts,
                                             struct graft_model **out, struct graft_err *err);

/** Close a model and free what is loaded over it: its adapters' handles are invalid then.
 * @param model  may be NULL */
GRAFT_API void graft_model_free(struct graft_model *model);

struct graft_model_info {
    const char *path;         /* as opened; the texts live as long as the model */
    const char *architecture; /* "llama" */
    const char *format;       /* of the linears as they are used: "nf4" */
    const char *compute;      /* "f32" or "bf16" */
    int64_t parameters;       /* weights, a tied head once */
    int64_t vocab, context;   /* rows of the embedding; positions */
    int64_t layers, hidden;
    size_t weight_bytes; /* mapped and in memory */
    bool has_tokenizer;
};
GRAFT_API void graft_model_describe(const struct graft_model *model, struct graft_model_info *out);

/* Adapters ------------------------------------------------------------------------------------- */

/**
 * Load an adapter over an open model. Any number may be resident; each call says which one it uses,
 * and to change costs nothing but that.
 *
 * @param model  borrowed; must outlive the adapter
 * @param name   letters, digits, '_', '.', '-'; NULL: the folder's own name
 * @param path   folder with adapter_config.json and adapter_model.safetensors, as PEFT writes it
 * @param out    may be NULL (then found by its name); freed by graft_adapter_free() or with the
 *               model
 * @return GRAFT_OK, or GRAFT_EIO not readable, GRAFT_EFORMAT not an adapter, of a method that is
 *         not supported, or newer than this build, GRAFT_ESHAPE a tensor does not fit its slot
 *         (message names it), GRAFT_EARG the name is taken, or the adapter goes with another base,
 *         GRAFT_ENOMEM. Nothing stays of one that fails.
 *
 * LoRA's tensors: lora_A (R, I), lora_B (O, R); f32, f16 or bf16 on disk, f32 in memory.
 * Memory: 4 * R * (I + O) bytes a slot, and the description of its graph; a tokenizer in the folder
 * is shared with adapters that bring the same.
 * Source: Hu et al. 2021, arXiv:2106.09685
 */
GRAFT_API enum graft_status graft_adapter_load(struct graft_model *model, const char *name,
                                               const char *path, struct graft_adapter **out,
                                               struct graft_err *err);

/** Unload it and give its memory back; the model and other adapters stay as they are.
 * @param adapter  may be NULL */
GRAFT_API void graft_adapter_free(struct graft_adapter *adapter);

/** @return the adapter of that name, borrowed from the model; NULL when there is none */
GRAFT_API struct graft_adapter *graft_adapter_find(const struct graft_model *model,
                                                   const char *name);

struct graft_adapter_info {
    const char *name, *path; /* live as long as the adapter */
    const char *method;      /* "lora" */
    int64_t parameters;
    int64_t slots; /* modules it changes */
};
GRAFT_API void graft_adapter_describe(const struct graft_adapter *adapter,
                                      struct graft_adapter_info *out);

/* Tokens --------------------------------------------------------------------------------------- */

/**
 * Token ids of a text, as the tokenizer of the adapter's folder, else the model's, has them.
 *
 * @param adapter  NULL: the model alone
 * @param text     `len` bytes of UTF-8; special tokens written in it count
 * @param special  add what the tokenizer puts around a text (begin of sequence, ...)
 * @param ids      `count` ids; the caller frees them with graft_free()
 * @return GRAFT_OK, GRAFT_EARG there is no tokenizer, GRAFT_ENOMEM
 */
GRAFT_API enum graft_status graft_tokenize(const struct graft_model *model,
                                           const struct graft_adapter *adapter, const char *text,
                                           size_t len, bool special, int32_t **ids, int64_t *count,
                                           struct graft_err *err);

/**
 * The text of token ids.
 *
 * @param skip_special  leave special tokens out
 * @param text          `len` bytes of UTF-8 and a NUL; the caller frees it with graft_free()
 * @return GRAFT_OK, GRAFT_EFORMAT an id outside the vocabulary, GRAFT_EARG, GRAFT_ENOMEM
 */
GRAFT_API enum graft_status graft_detokenize(const struct graft_model *model,
                                             const struct graft_adapter *adapter,
                                             const int32_t *ids, int64_t count, bool skip_special,
                                             char **text, size_t *len, struct graft_err *err);

/** Free what graft_tokenize() and graft_detokenize() gave. @param p  may be NULL */
GRAFT_API void graft_free(void *p);

/* Generating ----------------------------------------------------------------------------------- */

/* Whole characters of the answer to request `index` as they come. */
typedef void graft_piece_fn(void *user, int64_t index, const char *text, size_t len);

struct graft_generate_opts {
    int64_t max_new;         /* tokens; 0: 256 */
    double temperature;      /* 0: the likeliest token */
    int64_t top_k;           /* of the K likeliest tokens; 0: of all */
    double top_p;            /* of the likeliest tokens that make up P; 0: of all */
    uint64_t seed;           /* of the choice at a temperature */
    const char *const *stop; /* `stops` texts; an answer ends before the first of them */
    int stops;
    graft_piece_fn *piece; /* NULL: no streaming */
    void *user;            /* handed to `piece` */
    /* Set it from `piece`, a signal handler or another thread to end all answers where they are;
     * NULL: never. */
    const volatile sig_atomic_t *stop_flag;
};
#define GRAFT_GENERATE_DEFAULTS                                                                    \
    {                                                                                              \
        256, 0.0, 0, 1.0, 0, NULL, 0, NULL, NULL, NULL                                             \
    }

enum graft_stop {
    GRAFT_STOP_LENGTH, /* max_new tokens, or the model's context is full */
    GRAFT_STOP_EOS,    /* the model ended it */
    GRAFT_STOP_TEXT,   /* a text of `stop` came */
    GRAFT_STOP_ASKED   /* stop_flag */
};

struct graft_answer {
    const char *text;   /* UTF-8 without the end token, NUL-terminated; NULL without a tokenizer */
    size_t text_len;    /* bytes */
    const int32_t *ids; /* count: the new tokens, the end token too */
    int64_t count;
    enum graft_stop stop;
};

/**
 * Answer a prompt.
 *
 * @param adapter  one of `model`; NULL: the base alone
 * @param prompt   text, tokenised as graft_tokenize() does with `special`
 * @param opts     may be NULL
 * @param out      owned by the caller, see graft_answer_free()
 * @return GRAFT_OK, or GRAFT_EARG no tokenizer, an empty prompt or one longer than the context, a
 *         wrong option, GRAFT_ERUN the logits are not numbers, GRAFT_ENOMEM
 *
 * An answer depends on the prompt, its adapter and the seed alone: not on what else is loaded, what
 * was asked before, or its neighbours in a batch.
 */
GRAFT_API enum graft_status graft_generate(struct graft_model *model,
                                           const struct graft_adapter *adapter, const char *prompt,
                                           const struct graft_generate_opts *opts,
                                           struct graft_answer **out, struct graft_err *err);

/* One prompt of a batch: `text`, or where that is NULL `count` ids. Zeroed members are fine. */
struct graft_request {
    const struct graft_adapter *adapter; /* NULL: the base alone */
    const char *text;
    const int32_t *ids; /* count */
    int64_t count;
    uint64_t seed; /* goes before that of the options */
};

/**
 * Answer prompts, any mix of adapters; those of one adapter share passes.
 *
 * @param requests  `count` of them, borrowed for the call
 * @param opts      may be NULL; its seed is not used
 * @param out       `count` answers, each owned by the caller; all of them or, on failure, none
 * @return as graft_generate(); the message names the prompt
 */
GRAFT_API enum graft_status graft_generate_batch(struct graft_model *model,
                                                 const struct graft_request *requests,
                                                 int64_t count,
                                                 const struct graft_generate_opts *opts,
                                                 struct graft_answer **out, struct graft_err *err);

/** @param answer  may be NULL */
GRAFT_API void graft_answer_free(struct graft_answer *answer);

/* Measuring ------------------------------------------------------------------------------------ */

struct graft_eval_opts {
    const char *format; /* of the records: "auto" or one of data.format's */
    bool whole_records; /* the loss counts prompts too */
    /* (optional) each record in file order: sum of its NLL (NAN: no target) and target tokens */
    void (*record)(void *user, int64_t index, double nll, int64_t tokens);
    void *user;
};
#define GRAFT_EVAL_DEFAULTS                                                                        \
    {                                                                                              \
        "auto", false, NULL, NULL                                                                  \
    }

struct graft_eval_result {
    double loss;              /* nll / tokens; natural logarithm */
    double nll;               /* sum of -log p over target tokens */
    int64_t tokens, examples; /* target tokens, records that have any */
    int64_t records, truncated,
        dropped; /* lines; cut at the adapter's max_length; without target */
};

/**
 * The loss of a file's records, each alone from position 0.
 *
 * @param adapter  answers all records; NULL: the base alone
 * @param data     JSONL, an object a line
 * @param opts     may be NULL
 * @return GRAFT_OK, or GRAFT_EIO, GRAFT_EFORMAT a bad record (FILE:LINE) or none to measure,
 *         GRAFT_EARG an option, GRAFT_ERUN a loss is not finite, GRAFT_ENOMEM
 */
GRAFT_API enum graft_status graft_eval(struct graft_model *model,
                                       const struct graft_adapter *adapter, const char *data,
                                       const struct graft_eval_opts *opts,
                                       struct graft_eval_result *out, struct graft_err *err);

/* Training ------------------------------------------------------------------------------------- */

/* Known once everything is set up; texts live for the call. */
struct graft_run_info {
    const char *architecture, *method;
    const char *base_format, *format;     /* of the linears: on disk, as trained over */
    int64_t parameters, trainable;        /* of the base, of the adapter */
    int64_t train_records, valid_records; /* kept ones */
    int64_t steps, steps_per_epoch;
    size_t planned_bytes;
};

struct graft_step_info {
    int64_t step, steps; /* from 1; of all */
    double epoch;
    double loss; /* before the update: mean NLL of the step's target tokens */
    double lr, grad_norm;
    int64_t tokens, input_tokens; /* target tokens; all */
    double seconds, tokens_per_second;
};

struct graft_train_opts {
    const char *const *set; /* `set_count` texts "KEY=VALUE" that go before the file */
    int set_count;
    const char *output; /* folder of the run; NULL: the config's */
    int threads;        /* 0: the config's */
    bool force;         /* replace a run that is in the folder */
    bool plan_only;     /* call `start` and stop: nothing is trained or written */
    void *user;         /* handed to the calls below; each may be NULL */
    void (*start)(void *user, const struct graft_run_info *info);
    void (*step)(void *user, const struct graft_step_info *step);
    void (*eval)(void *user, int64_t step, double valid_loss, bool best);
    /* Set it from a call above, a signal handler or another thread: the step is finished, the
     * adapter saved, and the call returns GRAFT_ESTOPPED; while things are loaded nothing is
     * written. */
    const volatile sig_atomic_t *stop_flag;
};
#define GRAFT_TRAIN_DEFAULTS                                                                       \
    {                                                                                              \
        NULL, 0, NULL, 0, false, false, NULL, NULL, NULL, NULL, NULL                               \
    }

struct graft_train_result {
    int64_t steps;     /* done */
    double loss;       /* of the last step; NAN without */
    double valid_loss; /* NAN without a valid set */
    int64_t best_step; /* whose adapter is in OUTPUT/best; 0: none */
    double best_loss;
    int64_t trainable;
    size_t adapter_bytes, planned_bytes, peak_bytes;
    double seconds, tokens_per_second;
};

/**
 * Train an adapter as a config file says: `graft train`. OUTPUT is then a folder for
 * graft_adapter_load() and PEFT.
 *
 * @param config  YAML file; relative paths in it are taken as the program takes them
 * @param opts    may be NULL
 * @param out     may be NULL; filled too when GRAFT_ESTOPPED is returned
 * @return GRAFT_OK, or GRAFT_EARG the config is wrong (FILE:LINE), GRAFT_EIO, GRAFT_EFORMAT an
 * input file, GRAFT_EWRITE, GRAFT_ENOMEM, GRAFT_ERUN loss or gradient is not finite, GRAFT_ESTOPPED
 *         after saving
 *
 * Memory: as planned, reported to `start` before it is taken.
 */
GRAFT_API enum graft_status graft_train(const char *config, const struct graft_train_opts *opts,
                                        struct graft_train_result *out, struct graft_err *err);

/* Files ---------------------------------------------------------------------------------------- */

/* Base and adapter, unmerged, against the merged model: over the weights that were merged onto,
 * then over the others where the base has both. Of target tokens, natural logarithms. */
struct graft_audit {
    int64_t records, tokens;
    double merged_perplexity;
    int sides;
    struct {
        bool quantized;      /* over the quantised weights; else over the original ones */
        bool trained_on;     /* the adapter was trained over these */
        double perplexity;   /* of base and adapter */
        double kl, kl_max;   /* KL(base and adapter || merged): mean, largest */
        double logit_change; /* the largest difference of two logits */
        double same_token;   /* share of tokens whose likeliest is the same */
    } side[2];
};

struct graft_merge_opts {
    const char *onto;  /* "auto": the weights it was trained on; "original"; "quantized" */
    const char *dtype; /* "auto": the base's, bf16 when unknown; "f32", "bf16", "f16". Of a GGUF's
                          changed tensors: "auto": f16; "q8_0" too */
    bool force;        /* replace a checkpoint, or a file, that is there */
    const char *audit; /* JSONL whose records judge the result; it is written into the model's
                          metadata too; NULL: no audit */
    struct graft_audit *found; /* (optional) receives what the audit found */
};
#define GRAFT_MERGE_DEFAULTS                                                                       \
    {                                                                                              \
        "auto", "auto", false, NULL, NULL                                                          \
    }

/**
 * Write base plus adapter as a Hugging Face checkpoint, tensor by tensor whatever the size; or,
 * where `output` ends in .gguf, as a GGUF model, whose base must be one: it keeps the base's keys,
 * and the bytes of what does not change.
 *
 * @param base, adapter, output  paths
 * @param opts                   may be NULL
 * @return GRAFT_OK, or GRAFT_EARG the method has no merge or `output` exists, GRAFT_EIO,
 *         GRAFT_EFORMAT, GRAFT_ESHAPE, GRAFT_EWRITE, GRAFT_ENOMEM, GRAFT_ERUN a merged value is not
 *         finite (tensor named)
 */
GRAFT_API enum graft_status graft_merge(const char *base, const char *adapter, const char *output,
                                        const struct graft_merge_opts *opts, struct graft_err *err);

/**
 * Take an adapter out of a model that graft_merge() wrote, up to rounding.
 *
 * @param merged, adapter, output  paths
 * @param opts                     may be NULL; its dtype and force count
 * @return as graft_merge(); GRAFT_EARG too where the change cannot be told without the base (method
 *         named), or the model was quantised after
 */
GRAFT_API enum graft_status graft_unmerge(const char *merged, const char *adapter,
                                          const char *output, const struct graft_merge_opts *opts,
                                          struct graft_err *err);

struct graft_verified {
    int64_t parameters;
    int slots;       /* modules it fills */
    int unchanged;   /* of these: it changes nothing there; all of them: it is untrained */
    double norm;     /* Frobenius norm of all changes of weights together */
    bool other_base; /* it says that it was trained over another base */
};

/**
 * Does an adapter fit a base, and does it change anything?
 *
 * @return GRAFT_OK, or as graft_adapter_load() where it does not fit (all of it listed);
 *         GRAFT_EFORMAT: it holds no tensor
 */
GRAFT_API enum graft_status graft_verify(const char *adapter, const char *base,
                                         struct graft_verified *out, struct graft_err *err);

struct graft_export_opts {
    const char *to;    /* "gguf": llama.cpp's LoRA file; "peft", "adapter-hub": folders */
    const char *dtype; /* of a gguf: "f32", "f16", "bf16", "q8_0" */
    bool force;        /* replace what is there */
};
#define GRAFT_EXPORT_DEFAULTS                                                                      \
    {                                                                                              \
        "gguf", NULL, false                                                                        \
    }

/**
 * Write an adapter in another program's format.
 *
 * @param base    path; for names and shapes
 * @param output  file (gguf) or folder
 * @param opts    may be NULL
 * @param lost    (optional) what the format could not hold, in words; NULL: nothing; static storage
 * @return GRAFT_OK, or GRAFT_EARG the format cannot hold it (module and method named), an option,
 *         `output` exists, GRAFT_EIO, GRAFT_EFORMAT, GRAFT_ESHAPE, GRAFT_EWRITE, GRAFT_ENOMEM,
 *         GRAFT_ERUN a value does not fit the type
 */
GRAFT_API enum graft_status graft_export(const char *adapter, const char *base, const char *output,
                                         const struct graft_export_opts *opts, const char **lost,
                                         struct graft_err *err);

struct graft_combine_opts {
    const char *how;  /* "linear", "cat", "svd", "ties", "dare_linear", "dare_ties",
                         "magnitude_prune" */
    int64_t rank;     /* of the result; 0: all ranks together (linear, cat), the largest (others) */
    double density;   /* share of values that the last four keep */
    const char *sign; /* that ties elects: "total", of the sum; "frequency", of the most */
    uint64_t seed;    /* of what dare leaves out */
    const char *base; /* path; needed where a change depends on it: all methods but LoRA */
    bool force;       /* replace an adapter that is there */
};
#define GRAFT_COMBINE_DEFAULTS                                                                     \
    {                                                                                              \
        "linear", 0, 0.0, "total", 42, NULL, false                                                 \
    }

/**
 * Write one adapter, a LoRA one, whose change of each weight is the combined change of several.
 *
 * @param adapters  `count` folders
 * @param weights   `count`; NULL: 1 each
 * @param output    folder
 * @param opts      may be NULL
 * @param lost      (optional) share of the change that the rank cannot hold, of its Frobenius norm
 * @return GRAFT_OK, or GRAFT_EARG a method that changes no weights, a wrong option, `output`
 * exists, GRAFT_EIO, GRAFT_EFORMAT, GRAFT_ESHAPE they belong to different bases, GRAFT_EWRITE,
 *         GRAFT_ENOMEM, GRAFT_ERUN
 */
GRAFT_API enum graft_status graft_combine(const char *const *adapters, const double *weights,
                                          int count, const char *output,
                                          const struct graft_combine_opts *opts, double *lost,
                                          struct graft_err *err);

struct graft_quantize_opts {
    const char *quant; /* as in graft_model_opts; auto: double NF4 of a float base, else as it is */
    bool force;        /* replace a file that is there */
};
#define GRAFT_QUANTIZE_DEFAULTS                                                                    \
    {                                                                                              \
        "auto", false                                                                              \
    }

/**
 * Write a base into a .h5 container that opens at once and is shared by processes.
 *
 * @param opts  may be NULL
 * @return GRAFT_OK, or GRAFT_EARG an option, or `output` exists, GRAFT_EIO, GRAFT_EFORMAT,
 *         GRAFT_EWRITE, GRAFT_ENOMEM
 *
 * Source of NF4: Dettmers et al. 2023, arXiv:2305.14314
 */
GRAFT_API enum graft_status graft_quantize(const char *base, const char *output,
                                           const struct graft_quantize_opts *opts,
                                           struct graft_err *err);

/* Notes ---------------------------------------------------------------------------------------- */

typedef void graft_note_fn(void *user, const char *msg);

/** Receive notes: what a user should know that is no error ("trained over another base ..."). There
 * is one sink in the process, and none at first; set it while no other call is running. It is
 * called on the threads that call the library, several at once if they do.
 * @param fn  NULL: notes are dropped */
GRAFT_API void graft_note_sink(graft_note_fn *fn, void *user);

#ifdef __cplusplus
}
#endif
#endif
