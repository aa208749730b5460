#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static graft_note_fn *note_fn;
static void *note_user;

const char *graft_status_text(enum graft_status st)
{
    switch (st) {
#define X(name, value, text)                                                                       \
    case GRAFT_##name:                                                                             \
        return text;
        GRAFT_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

const char *graft_version(void)
{
    return GRAFT_VERSION;
}

enum graft_status graft_fail(struct graft_err *err, enum graft_status code, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return code;
    err->code = code;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    return code;
}

enum graft_status graft_fail_in(struct graft_err *err, enum graft_status code, const char *fmt, ...)
{
    char old[GRAFT_ERR_MAX];
    va_list ap;
    int n;

    if (!err)
        return code;
    memcpy(old, err->msg, sizeof old);
    va_start(ap, fmt);
    n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n + 3 < sizeof err->msg) {
        old[sizeof err->msg - (size_t)n - 3] = '\0'; /* the message is cut, the prefix is not */
        memcpy(err->msg + n, ": ", 2);
        memcpy(err->msg + n + 2, old, strlen(old) + 1);
    }
    err->code = code;
    return code;
}

enum graft_status graft_fail_also(struct graft_err *err, enum graft_status before,
                                  enum graft_status st, const struct graft_err *one)
{
    if (!st)
        return before;
    if (!before)
        return graft_fail(err, st, "%s", one->msg);
    if (err && strlen(err->msg) + strlen(one->msg) + 2 <= sizeof err->msg) {
        strcat(err->msg, "\n");
        strcat(err->msg, one->msg);
    }
    return before;
}

enum graft_status graft_fail_nomem(struct graft_err *err, const char *what, size_t bytes)
{
    return graft_fail(err, GRAFT_ENOMEM, "out of memory: %s needs %.1f MiB", what,
                      (double)bytes / (1024.0 * 1024.0));
}

void graft_note_sink(graft_note_fn *fn, void *user)
{
    note_fn = fn;
    note_user = user;
}

void graft_note(const char *fmt, ...)
{
    char msg[GRAFT_ERR_MAX];
    va_list ap;

    if (!note_fn)
        return;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    note_fn(note_user, msg);
}
