#include "cli/chat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/common.h"

/* One conversation under way. */
struct talk {
    const struct chat_options *o;
    struct session *s;
    struct generator *g;
    volatile sig_atomic_t *asked;
    json_t *messages; /* the system message, then turns */
    int task;
    uint64_t turn;
    bool quit;
};

static volatile sig_atomic_t *asked_at;

static void on_interrupt(int number)
{
    *asked_at = number;
}

/* Without SA_RESTART: a read that waits for the next line ends. */
static void catch_interrupts(volatile sig_atomic_t *asked)
{
    struct sigaction a;

    asked_at = asked;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_interrupt;
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
}

static enum graft_status add_message(struct talk *t, const char *role, const char *text, size_t len,
                                     struct graft_err *err)
{
    json_t *content = json_stringn(text, len);

    if (!content)
        return graft_fail(err, GRAFT_EARG, "the text is not UTF-8");
    if (json_array_append_new(t->messages,
                              json_pack("{s:s, s:o}", "role", role, "content", content)))
        return graft_fail_nomem(err, "messages", len);
    return GRAFT_OK;
}

static bool has_role(const json_t *messages, size_t i, const char *role)
{
    const char *r = json_string_value(json_object_get(json_array_get(messages, i), "role"));

    return r && !strcmp(r, role);
}

static size_t first_turn(const struct talk *t)
{
    return has_role(t->messages, 0, "system") ? 1 : 0;
}

/* Start over; the system message stays. */
static void forget_turns(struct talk *t)
{
    while (json_array_size(t->messages) > first_turn(t))
        json_array_remove(t->messages, json_array_size(t->messages) - 1);
}

static enum graft_status set_system(struct talk *t, const char *text, struct graft_err *err)
{
    json_t *message = NULL, *content;

    if (first_turn(t))
        json_array_remove(t->messages, 0);
    if (!*text)
        return GRAFT_OK;
    content = json_string(text);
    if (!content)
        return graft_fail(err, GRAFT_EARG, "the text is not UTF-8");
    message = json_pack("{s:s, s:o}", "role", "system", "content", content);
    return json_array_insert_new(t->messages, 0, message) ? graft_fail_nomem(err, "messages", 64)
                                                          : GRAFT_OK;
}

/* Take away the oldest question and its answers; false when only the last question is left. */
static bool drop_oldest(struct talk *t)
{
    const size_t first = first_turn(t);
    size_t next = first + 1;

    while (next < json_array_size(t->messages) && !has_role(t->messages, next, "user"))
        next++;
    if (next >= json_array_size(t->messages))
        return false;
    for (; next > first; next--)
        json_array_remove(t->messages, first);
    return true;
}

static void note_left_out(size_t messages, int64_t context)
{
    graft_note("the conversation is longer than the context of %lld tokens; its %zu oldest %s left "
               "out from now on",
               (long long)context, messages, messages == 1 ? "message is" : "messages are");
}

/* The conversation as the prompt, its oldest turns left out until there is room for an answer. */
static enum graft_status make_prompt(struct talk *t, struct id_list *out, struct graft_err *err)
{
    const struct chat_turns turns = { .messages = t->messages };
    const struct virtual_tokens v = tasks_virtual(&t->s->tasks, t->task);
    const int64_t context = t->s->base.ck.config.max_positions - v.front - v.before;
    const int64_t room = t->o->max_new < context / 4 ? t->o->max_new : context / 4;
    const size_t before = json_array_size(t->messages);

    for (;;) {
        out->count = 0;
        GRAFT_TRY(text_encode_turns(session_text(t->s, t->task), &turns, out, err));
        if (out->count + room <= context || !drop_oldest(t))
            break;
    }
    GRAFT_TRY(generator_check(t->g, t->task, out->id, out->count, err));
    if (json_array_size(t->messages) < before)
        note_left_out(before - json_array_size(t->messages), context);
    return GRAFT_OK;
}

static void stream_piece(void *user, int i, const char *text, size_t len)
{
    (void)user;
    (void)i;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
}

static enum graft_status answer(struct talk *t, struct graft_err *err)
{
    struct id_list id = { NULL, 0, 0 };
    struct generate_answer a;
    enum graft_status st;

    memset(&a, 0, sizeof a);
    st = make_prompt(t, &id, err);
    if (!st) {
        const struct generate_request req = { id.id, id.count, t->task,
                                              (uint64_t)t->o->seed + t->turn++ };

        st = generator_run(t->g, &req, 1, &a, t->o->json ? NULL : stream_piece, NULL, err);
    }
    if (!st && t->o->json)
        st = print_json(answer_json(t->s, t->task, &a), err);
    else if (!st)
        putchar('\n');
    fflush(stdout);
    if (!st)
        st = add_message(t, "assistant", strbuf_str(&a.text), a.text.len, err);
    id_list_release(&id);
    generate_answer_release(&a);
    return st;
}

static enum graft_status ask(struct talk *t, const char *text, size_t len, struct graft_err *err)
{
    json_t *before = json_copy(t->messages);
    enum graft_status st =
        before ? add_message(t, "user", text, len, err) : graft_fail_nomem(err, "messages", len);

    if (!st)
        st = answer(t, err);
    if (st && before) { /* a question that could not be asked changes nothing */
        json_decref(t->messages);
        t->messages = json_incref(before);
    }
    json_decref(before);
    return st;
}

/* Commands --------------------------------------------------------------------------------------
 */

static enum graft_status do_reset(struct talk *t, const char *rest, struct graft_err *err)
{
    (void)rest;
    (void)err;
    forget_turns(t);
    return GRAFT_OK;
}

static enum graft_status do_system(struct talk *t, const char *rest, struct graft_err *err)
{
    return set_system(t, rest, err);
}

static enum graft_status do_task(struct talk *t, const char *rest, struct graft_err *err)
{
    if (*rest)
        return tasks_find(&t->s->tasks, rest, &t->task, err);
    t->task = TASK_BASE;
    return GRAFT_OK;
}

static enum graft_status do_quit(struct talk *t, const char *rest, struct graft_err *err)
{
    (void)rest;
    (void)err;
    t->quit = true;
    return GRAFT_OK;
}

static enum graft_status do_help(struct talk *t, const char *rest, struct graft_err *err);

static const struct command {
    const char *name, *arg, *help;
    enum graft_status (*run)(struct talk *t, const char *rest, struct graft_err *err);
} commands[] = {
    { "reset", "", "start over; the system message stays", do_reset },
    { "system", " TEXT", "the system message from now on; without TEXT none", do_system },
    { "task", " NAME", "the adapter from now on; without NAME the base alone", do_task },
    { "quit", "", "end", do_quit },
    { "help", "", "these commands; //TEXT sends a text that begins with /", do_help },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static enum graft_status do_help(struct talk *t, const char *rest, struct graft_err *err)
{
    (void)t;
    (void)rest;
    (void)err;
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stderr, "  /%s%-*s %s\n", commands[i].name, 14 - (int)strlen(commands[i].name),
                commands[i].arg, commands[i].help);
    return GRAFT_OK;
}

static enum graft_status run_command(struct talk *t, const char *line, struct graft_err *err)
{
    const size_t n = strcspn(line, " \t");
    const char *rest = line + n + strspn(line + n, " \t"), *near, *names[COMMANDS];
    char word[32];

    for (int i = 0; i < COMMANDS; i++) {
        if (strlen(commands[i].name) == n && !strncmp(commands[i].name, line, n))
            return *rest && !*commands[i].arg
                       ? graft_fail(err, GRAFT_EARG, "/%s stands alone, found \"%.40s\" behind it",
                                    commands[i].name, rest)
                       : commands[i].run(t, rest, err);
        names[i] = commands[i].name;
    }
    snprintf(word, sizeof word, "%.*s", (int)n, line);
    near = nearest_name(word, names, COMMANDS);
    return graft_fail(err, GRAFT_EARG, "there is no command /%s%s%s; /help shows all", word,
                      near ? ", did you mean /" : "", near ? near : "");
}

/* The loop --------------------------------------------------------------------------------------
 */

/* A line that cannot be answered is told, and the conversation goes on. */
static enum graft_status tell(enum graft_status st, const struct graft_err *err)
{
    if (!st || st == GRAFT_ENOMEM || st == GRAFT_ERUN)
        return st;
    fflush(stdout);
    fprintf(stderr, "graft: %s\n", err->msg);
    return GRAFT_OK;
}

static enum graft_status one_line(struct talk *t, char *line, size_t len, struct graft_err *err)
{
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        line[--len] = '\0';
    if (len == 0)
        return GRAFT_OK;
    if (line[0] == '/' && line[1] != '/')
        return tell(run_command(t, line + 1, err), err);
    if (line[0] == '/')
        line++, len--;
    return tell(ask(t, line, len, err), err);
}

static enum graft_status read_turns(struct talk *t, struct graft_err *err)
{
    const bool live = is_terminal(stdin) && is_terminal(stderr);
    char *line = NULL;
    size_t room = 0;
    enum graft_status st = GRAFT_OK;

    if (live)
        fputs("/help shows the commands, /quit ends\n", stderr);
    while (!st && !t->quit) {
        ssize_t n;

        if (live)
            fputs("> ", stderr);
        *t->asked = 0;
        n = getline(&line, &room, stdin);
        if (n < 0 && *t->asked) {
            stop_signal = *t->asked;
            st = graft_fail(err, GRAFT_ESTOPPED, "stopped");
        } else if (n < 0) {
            break;
        } else {
            st = one_line(t, line, (size_t)n, err);
        }
    }
    if (live && !t->quit)
        fputc('\n', stderr);
    free(line);
    return st;
}

enum graft_status chat_run(const struct chat_options *o, struct session *s, struct generator *g,
                           volatile sig_atomic_t *asked, struct graft_err *err)
{
    struct talk t = { .o = o, .s = s, .g = g, .asked = asked, .messages = json_array() };
    const struct text *words;
    enum graft_status st =
        t.messages ? tasks_find(&s->tasks, o->task, &t.task, err) : graft_fail_nomem(err, "", 0);

    if (!st) {
        words = session_text(s, t.task);
        if (!words->tokenizer || !words->chat)
            st = graft_fail(err, GRAFT_EARG, "--chat: %s",
                            words->tokenizer ? words->chat_problem : "the base has no tokenizer");
    }
    if (!st && o->system)
        st = set_system(&t, o->system, err);
    if (!st && o->prompt) {
        st = ask(&t, o->prompt, strlen(o->prompt), err);
    } else if (!st) {
        catch_interrupts(asked);
        st = read_turns(&t, err);
    }
    json_decref(t.messages);
    return st;
}
