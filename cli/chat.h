/* cli/chat.h - conversations at the terminal: generate --chat. */
#ifndef CLI_CHAT_H
#define CLI_CHAT_H

#include "core/json.h"
#include "train/generate.h"

struct chat_options {
    const char *task;   /* --task; NULL: not said */
    const char *system; /* --system; NULL: none */
    const char *prompt; /* -p: this one turn; NULL: turns from standard input */
    int64_t seed, max_new;
    bool json;
};

/* Until the end of the input, /quit or SIGINT; ends an answer, not the conversation, where SIGINT
 * comes in the midst of one. `asked` is what the generator looks at. */
enum graft_status chat_run(const struct chat_options *o, struct session *s, struct generator *g,
                           volatile sig_atomic_t *asked, struct graft_err *err);

/* cli/generate.c: an answer as --json has it. NULL: no memory. */
json_t *answer_json(const struct session *s, int task, const struct generate_answer *a);

#endif
