/* cli/progress.h - how a run is shown: one refreshed line on a terminal, plain lines in a file. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "cli/options.h"
#include "train/run.h"

/* Zeroed memory and progress_init make one; it must outlive the run that uses its hooks. */
struct progress {
    bool live, quiet, verbose; /* live: standard error is a terminal */
    bool drawn;                /* a line stands there, to be wiped */
    int64_t log_every, first;  /* first: the step that `begun` was before */
    int64_t steps;             /* of the whole run */
    double begun, last;        /* seconds of a monotonic clock; last: of the line that stands */
};

void progress_init(struct progress *p, const struct common *common);
/* Hooks that draw on standard error. */
struct run_hooks progress_hooks(struct progress *p);
/* Wipe the refreshed line, before anything else is printed. */
void progress_wipe(struct progress *p);

/* What a run is about to do, a fact a line, each line after `lead`. */
void progress_plan(const struct run_info *info, const char *lead, struct strbuf *out);
/* The same for programs; the caller owns it. */
json_t *progress_plan_json(const struct run_info *info);
/* The end of a run: what was reached, what was written, the command that tries it and, where steps
 * are missing, the one that goes on. */
void progress_summary(const struct progress *p, const struct run_config *config,
                      const struct run_result *r, struct strbuf *out);

#endif
