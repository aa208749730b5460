/* cli/common.h - what all verbs share: signals, colour, output. */
#ifndef CLI_COMMON_H
#define CLI_COMMON_H

#include <signal.h>
#include <stdio.h>

#include "cli/options.h"
#include "core/json.h"

/* The signal that asked the program to stop, 0: none. Set after signals_catch. */
extern volatile sig_atomic_t stop_signal;
/* SIGINT, SIGTERM and SIGHUP (unless nohup ignores it) set stop_signal from now on and say so; a
 * second one ends the program at once. For what ends in steps and has something to save, which goes
 * on when nobody reads its output any more. */
void signals_catch(void);
/* They end the program at once; while it writes a result, as soon as what is half written has been
 * taken away. For verbs whose output is of use as a whole only; others keep the system's way. */
void signals_take_back(void);

/* Rows of verbs that write a result, for members of those names in their struct options. */
#define ROW_OUT(what, text)                                                                        \
    {                                                                                              \
        .letter = 'o', .name = "out", .type = OPTION_STR,                                          \
        .offset = offsetof(struct options, output), .value = what, .help = text, .needed = true    \
    }
#define ROW_ADAPTER                                                                                \
    {                                                                                              \
        .name = "adapter", .type = OPTION_STR, .offset = offsetof(struct options, adapter),        \
        .value = "DIR", .help = "the adapter", .needed = true                                      \
    }
#define ROW_DTYPE(text)                                                                            \
    {                                                                                              \
        .name = "dtype", .type = OPTION_STR, .offset = offsetof(struct options, dtype),            \
        .value = "T", .help = text                                                                 \
    }
#define ROW_FORCE(text)                                                                            \
    {                                                                                              \
        .name = "force", .type = OPTION_FLAG, .offset = offsetof(struct options, force),           \
        .help = text                                                                               \
    }
#define ROW_JSON                                                                                   \
    {                                                                                              \
        .name = "json", .type = OPTION_FLAG, .offset = offsetof(struct options, json),             \
        .help = "report as one JSON object"                                                        \
    }

/* Whether `f` is a terminal, and one that colour may be sent to (NO_COLOR is obeyed). */
bool is_terminal(FILE *f);
bool has_colour(FILE *f);

/* One JSON object as a line of stdout, flushed; takes the reference. ENOMEM. */
enum graft_status print_json(json_t *v, struct graft_err *err);

/* How long threads wait awake for each other, where the user has not said it: starts the program
 * again with the environment that libgomp reads when it is loaded. Returns when there is nothing to
 * do, or it cannot be done. */
void threads_settle(char **argv);

/* Exit code of a status. */
int exit_code(enum graft_status st);

#endif
