/* core/schema.h - tables of keys, and the parser that fills a struct from them.
 *
 * One table row is a key's name, type, default, range, help and the names other tools give it. The
 * same row makes the parser, the error messages, --help-config and the docs. Values arrive as JSON
 * (a YAML file is turned into it first); `where` tells the place a value stood at. */
#ifndef CORE_SCHEMA_H
#define CORE_SCHEMA_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/json.h"
#include "core/mem.h"
#include "core/status.h"

enum key_type {
    KEY_BOOL,  /* bool */
    KEY_INT,   /* int64_t */
    KEY_FLOAT, /* double; whole numbers are taken too */
    KEY_STR,   /* const char *, NULL for null */
    KEY_ENUM,  /* int: index into `choices` */
    KEY_JSON,  /* const json_t * borrowed from the parsed tree, NULL when left out or null: forms a
                  plain type cannot say; `form` says them */
    KEY_MAP,   /* the struct at `offset`, filled by `table` */
};

/* The bounds of a key that has no upper one. */
#define KEY_AT_LEAST(x) .min = (x), .max = DBL_MAX

struct key_table;

struct key_def {
    const char *name; /* "lr"; the section stands in the table's own name */
    enum key_type type;
    size_t offset;    /* of the field in the struct that is filled */
    const char *dflt; /* the default as text: a word (KEY_STR, KEY_ENUM) or JSON (KEY_JSON,
                         KEY_MAP: shown in help only); "null": no value, which is NULL, 0
                         (KEY_INT), NaN (KEY_FLOAT) or -1 (KEY_ENUM); NULL: must be given */
    double min, max;  /* KEY_INT, KEY_FLOAT: inclusive; both 0 = no bounds */
    const char *const *choices; /* KEY_ENUM: NULL-terminated */
    const char *help;           /* one line: its effect */
    const char *others;         /* "learning_rate, lr0": the same key in other tools; NULL: none */
    bool nullable;              /* null is accepted and means the default */
    const char *only;  /* JSON text of the sole value that works in this version, else NULL; where
                          it asks for nothing (schema_is_off), so may the value given */
    const char *later; /* "int8, fp8": known values that do not work in this version */
    const char *form;  /* KEY_JSON, KEY_STR: what may stand there, in words */
    const struct key_table *table; /* KEY_MAP; KEY_JSON: for help, or NULL */
    const char *users; /* "lora, dora": kinds of the section that read it; NULL: all of them */
};

struct key_table {
    const char *section; /* "optim"; "" for the top level */
    const struct key_def *keys;
    size_t count;
    const struct key_table *top; /* the table that holds all sections, for hints; NULL: none */
    bool lenient; /* an unknown key that is null, false or empty is a note, not an error */
};

/* The place of the value at dotted `path` ("optim.lr"), as "config.yaml:12"; into `out`. */
struct schema_source {
    void (*where)(const struct schema_source *src, const char *path, struct strbuf *out);
    void *data;
};

/* Fill `target` from `map` (NULL: nothing given) by `table`: defaults for keys left out. A key no
 * row knows, a wrong type, a value out of range or not among the choices: EARG, with place, what
 * was found, what is allowed and the nearest known name, a line for each such key. Strings live in
 * `mem`, KEY_JSON values as long as `map`. */
enum graft_status schema_fill(const struct key_table *table, const json_t *map,
                              const struct schema_source *src, void *target, struct arena *mem,
                              struct graft_err *err);

/* EARG "PLACE: PATH: MESSAGE": for checks beyond the table. */
enum graft_status schema_fail(const struct schema_source *src, const char *path,
                              struct graft_err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* EARG "PLACE: PATH: found VALUE, want WANT". */
enum graft_status schema_found(const struct schema_source *src, const char *path,
                               const json_t *value, const char *want, struct graft_err *err);

/* EARG for the key `name` that no row of `table` knows: the name it has here, or the nearest. */
enum graft_status schema_unknown(const struct key_table *table, const char *name,
                                 const struct schema_source *src, struct graft_err *err);

/* Row of the dotted `path` from `table` down; NULL: none. A path into a KEY_JSON value ends there.
 */
const struct key_def *schema_key(const struct key_table *table, const char *path);

/* Whether `name` is a key of `table` or a section below it, or another tool's name of one. */
bool schema_names_key(const struct key_table *table, const char *name);

/* null, false, "", [] or {}: a value that asks for nothing. */
bool schema_is_off(const json_t *value);

/* Whether `v` is what `text` says, JSON or a word: numbers by value, off values all alike. */
bool schema_is(const char *text, const json_t *v);

/* Whether `word` is one of the names in "a, b, c"; not in NULL. */
bool schema_lists(const char *list, const char *word);

/* The rows of `all` that the kind `user` reads, into `mem`. ENOMEM only. */
enum graft_status schema_for(const struct key_table *all, const char *user, struct arena *mem,
                             struct key_table *out, struct graft_err *err);

/* Append what the key takes, in words: "a whole number, 1 or more". */
void schema_want(const struct key_def *key, struct strbuf *out);

/* Append the table as YAML with the defaults, each key under comments that say its effect, what it
 * takes and what other tools call it. */
void schema_help(const struct key_table *table, struct strbuf *out);

#endif
