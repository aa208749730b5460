/* cli/options.h - verbs and options as tables, which also make the help.
 *
 * A verb's options fill one struct, whose first member is struct common. To add an option: one row.
 * To add a verb: one file, one row in cli/verbs.c, one golden help text. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mem.h"
#include "core/status.h"
#include "core/strbuf.h"

enum option_type {
    OPTION_FLAG,  /* bool */
    OPTION_STR,   /* const char * */
    OPTION_INT,   /* int64_t in min .. max */
    OPTION_FLOAT, /* double in min .. max */
    OPTION_LIST,  /* struct text_list: may repeat */
    OPTION_PRINT, /* prints and ends: `print` */
    OPTION_LATER, /* known, and refused in this version */
};

struct text_list {
    const char **text; /* borrowed from argv */
    int count;
};

struct option_def {
    char letter;      /* 0: none */
    const char *name; /* without dashes */
    enum option_type type;
    size_t offset;
    const char *value; /* what the help calls it: "DIR"; NULL for flags */
    double min, max;   /* OPTION_INT, OPTION_FLOAT */
    const char *help;
    void (*print)(struct strbuf *out);
    bool needed; /* OPTION_STR, OPTION_LIST: the verb does not run without */
};

/* What every verb takes. */
struct common {
    struct text_list args; /* what is no option */
    const char *device;    /* NULL: not given */
    int64_t threads;       /* 0: not given */
    bool quiet, verbose;
};

struct verb {
    const char *name;
    const char *usage; /* after the name: "CONFIG.yaml [-s KEY=VALUE]..." */
    const char *summary;
    const struct option_def *options;
    size_t option_count;
    size_t size;          /* of the struct that the options fill */
    const void *defaults; /* such a struct */
    const char *arg;      /* name of the argument that is no option; NULL: there is none */
    bool arg_optional, arg_many;
    bool writes;      /* one result, whole or not at all: see signals_take_back */
    const char *more; /* lines at the end of the help; NULL */
    enum graft_status (*run)(const void *options, struct graft_err *err);
};

extern const struct verb *const verbs[]; /* NULL-terminated */
const struct verb *verb_by_name(const char *name);
/* Names that are kept for verbs to come. */
extern const char *const later_verbs[]; /* NULL-terminated */

enum parsed { PARSED_RUN, PARSED_PRINTED };

/* Read argv after the verb into `target` (verb->size bytes). EARG "unknown option ...". When help
 * or a print option was asked for, its text is in `out` and *what says so. EARG "VERB: --base is
 * missing" for the first needed option that was not given. */
enum graft_status options_parse(const struct verb *v, int argc, char **argv, void *target,
                                struct arena *mem, enum parsed *what, struct strbuf *out,
                                struct graft_err *err);

/* The help of one verb, and of the program. */
void help_verb(const struct verb *v, struct strbuf *out);
void help_all(struct strbuf *out);
/* The whole as a man page (troff), and completion for bash. */
void help_man(struct strbuf *out);
void help_completion(struct strbuf *out);

#endif
