/* train/session.h - a base with its adapters, opened for use: what eval and generate start from. */
#ifndef TRAIN_SESSION_H
#define TRAIN_SESSION_H

#include "train/tasks.h"

struct words;

struct session {
    struct base base;
    struct task_list tasks;
    struct words *words;     /* of the adapters' folders; equal ones are there once */
    const struct text *text; /* for all tasks together: the first adapter's own, else the base's */
};

/* In place (parts point at each other). `quant` auto: as the adapters were trained, else as the
 * base is. */
enum graft_status session_open(const char *base, const char *const *adapter, int adapters,
                               const struct quant_config *quant, struct session *out,
                               struct graft_err *err);
void session_release(struct session *s);

/* For the base and all adapters that are there this chat template (text_use_template) instead of
 * their own, with today's date; NULL: no change. Before a generator is made. */
enum graft_status session_use_template(struct session *s, const char *choice,
                                       struct graft_err *err);

/* One more adapter over the open base (tasks_add, loaded); nothing stays of one that fails. */
enum graft_status session_add(struct session *s, const char *name, const char *dir, int *task,
                              struct graft_err *err);
/* Take one away and give its memory back. Graphs over it must be gone: generator_forget. */
void session_remove(struct session *s, int task);

/* The words of one task: its folder's, else the base's; of a base without any, an adapter's. A
 * record's tokens depend on its own adapter, not on what else is loaded. */
const struct text *session_text(const struct session *s, int task);
/* "nf4": the format of the base's linears as they are used. */
const char *session_format(const struct session *s);

/* What `compute` (enum compute_type) comes to: auto is what all adapters that say so were trained
 * with, else f32. */
int session_compute(const struct session *s, int compute);

#endif
