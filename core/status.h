/* core/status.h - how errors travel up: a status, and one message written by the lowest layer
 * that knows the cause. Library code never prints, exits or asserts on input. */
#ifndef CORE_STATUS_H
#define CORE_STATUS_H

#include "graft.h"

#define GRAFT_TRY(expr)                                                                            \
    do {                                                                                           \
        enum graft_status st_ = (expr);                                                            \
        if (st_)                                                                                   \
            return st_;                                                                            \
    } while (0)

/* Write code and message into `err` (may be NULL) and return `code`. */
enum graft_status graft_fail(struct graft_err *err, enum graft_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "PREFIX: " before the message that is there; returns err's code. For callers that know the
 * file or tensor which a lower layer did not. */
enum graft_status graft_fail_in(struct graft_err *err, enum graft_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Several things may be wrong at once, and are all told: add `st` and its message `one` to `err`
 * (may be NULL), which tells of the ones before, a line each as far as there is room. `before` is
 * their status; returns the first of the two that is not GRAFT_OK. */
enum graft_status graft_fail_also(struct graft_err *err, enum graft_status before,
                                  enum graft_status st, const struct graft_err *one);

/* The same words for every failed allocation; `what` names what the memory was for. */
enum graft_status graft_fail_nomem(struct graft_err *err, const char *what, size_t bytes);

/* Notes: things a user should know that are not errors ("base name differs ..."). They go to the
 * one sink of graft_note_sink, which cli sets; without a sink they are dropped. */
void graft_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
