/* data/records.h - one JSON record to tokens. Inside data/ only. */
#ifndef DATA_RECORDS_H
#define DATA_RECORDS_H

#include "core/json.h"
#include "data/dataset.h"

/* What a format makes of a record, before truncation. */
struct record_tokens {
    struct id_list id;
    struct id_list label; /* as long as id; empty: id[t] is its own label for t >= masked */
    int64_t masked;
    bool straddles;
    struct strbuf text; /* with dataset_opts.take_text, of a conversation: as rendered */
    struct id_list at;  /* and where in it the tokens begin */
};
void record_tokens_release(struct record_tokens *r);

enum { FORMAT_KEYS = 5 };
struct format_key {
    const char *name;  /* NULL: no more keys */
    const char *alias; /* another name for it; NULL: none */
    bool required;
    bool chat; /* of use only where the first key of the format is a list of messages */
};
struct format_def {
    const char *name;
    struct format_key key[FORMAT_KEYS];
    enum graft_status (*encode)(const struct dataset_opts *o, const json_t *rec,
                                struct record_tokens *out, struct graft_err *err);
};
extern const struct format_def format_defs[RECORD_FORMAT_COUNT]; /* RECORD_AUTO has no keys */

/* data/records_chat.c */
enum graft_status encode_messages(const struct dataset_opts *o, const json_t *rec,
                                  struct record_tokens *out, struct graft_err *err);
enum graft_status encode_sharegpt(const struct dataset_opts *o, const json_t *rec,
                                  struct record_tokens *out, struct graft_err *err);
enum graft_status encode_message_pair(const struct dataset_opts *o, const json_t *rec,
                                      const json_t *prompt, const json_t *completion,
                                      struct record_tokens *out, struct graft_err *err);

/* Append the names, each with its NUL, of the keys of messages in `rec` that make no difference: in
 * sharegpt those that the format does not know, as "conversations[].KEY", else those that the chat
 * template does not name, as "messages[].KEY" (or prompt, completion); "documents[]" where it does
 * not name them. */
void unused_message_keys(const struct chat *chat, enum record_format f, const json_t *rec,
                         struct strbuf *out);

/* Errors carry no place: the caller puts FILE:LINE before them. *format says what `rec` was taken
 * for. */
enum graft_status record_encode(const struct dataset_opts *o, const json_t *rec,
                                struct record_tokens *out, enum record_format *format,
                                struct graft_err *err);
/* Whether `rec`, taken for `f`, has a use for `key`. */
bool format_uses(enum record_format f, const json_t *rec, const char *key);

/* The format that `rec`, an object, fits. EFORMAT when it is none or two. */
enum graft_status format_detect(const json_t *rec, enum record_format *out, struct graft_err *err);
/* EFORMAT: a required key of `f` is missing, with what is there instead. */
enum graft_status format_check(const json_t *rec, enum record_format f, struct graft_err *err);
/* The value of `key` or its alias, NULL when absent or null. */
json_t *format_get(const json_t *rec, const struct format_key *key);
const char *json_kind(const json_t *v);                /* "a string", "null", ... */
void quote_name(struct strbuf *out, const char *name); /* in quotes, printable, cut when long */

#endif
