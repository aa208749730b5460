/* graft generate: answers to prompts, with adapters chosen per record. */
#include <string.h>

#include "cli/chat.h"
#include "cli/common.h"
#include "cli/lines.h"
#include "cli/verbs.h"
#include "data/conversation.h"
#include "train/generate.h"

struct options {
    struct common common;
    const char *base, *task, *prompt, *prompts, *system, *template_name, *quant, *compute;
    struct text_list adapter, stop;
    int64_t max_new, top_k, seed;
    double temperature, top_p;
    bool chat, json;
};

static const struct options defaults = {
    .quant = "auto", .compute = "auto", .max_new = 256, .top_p = 1.0
};

#define AT(field) .offset = offsetof(struct options, field)
static const struct option_def rows[] = {
    { .name = "base",
      .type = OPTION_STR,
      AT(base),
      .value = "B",
      .help = "Hugging Face folder, .gguf or .h5",
      .needed = true },
    { .name = "adapter",
      .type = OPTION_LIST,
      AT(adapter),
      .value = "[NAME=]DIR",
      .help = "an adapter and its task name; may repeat" },
    { .name = "task",
      .type = OPTION_STR,
      AT(task),
      .value = "NAME",
      .help = "adapter of prompts that name no task" },
    { .letter = 'p',
      .name = "prompt",
      .type = OPTION_STR,
      AT(prompt),
      .value = "TEXT",
      .help = "answer this text" },
    { .name = "prompts",
      .type = OPTION_STR,
      AT(prompts),
      .value = "F.jsonl",
      .help =
          "answer each line: prompt, messages or input_ids, and task, seed, id; - reads stdin" },
    { .name = "chat",
      .type = OPTION_FLAG,
      AT(chat),
      .help = "a conversation; with -p this one question, without turns from stdin" },
    { .name = "system",
      .type = OPTION_STR,
      AT(system),
      .value = "TEXT",
      .help = "the system message of --chat" },
    { .name = "template",
      .type = OPTION_STR,
      AT(template_name),
      .value = "T",
      .help = "chat template: auto, a built-in name, or a .jinja file" },
    { .letter = 'n',
      .name = "max-new",
      .type = OPTION_INT,
      AT(max_new),
      .value = "N",
      .min = 1,
      .max = 1 << 20,
      .help = "new tokens at most [256]" },
    { .name = "temperature",
      .type = OPTION_FLOAT,
      AT(temperature),
      .value = "T",
      .min = 0,
      .max = 100,
      .help = "0: the likeliest token [0]" },
    { .name = "top-k",
      .type = OPTION_INT,
      AT(top_k),
      .value = "K",
      .min = 0,
      .max = 1 << 30,
      .help = "of the K likeliest tokens; 0: of all [0]" },
    { .name = "top-p",
      .type = OPTION_FLOAT,
      AT(top_p),
      .value = "P",
      .min = 0,
      .max = 1,
      .help = "of the likeliest tokens that make up P [1]" },
    { .name = "seed",
      .type = OPTION_INT,
      AT(seed),
      .value = "S",
      .min = 0,
      .max = 9007199254740992.0,
      .help = "of the choice at a temperature [0]" },
    { .name = "stop",
      .type = OPTION_LIST,
      AT(stop),
      .value = "TEXT",
      .help = "end the answer before this text; may repeat" },
    { .name = "quant",
      .type = OPTION_STR,
      AT(quant),
      .value = "Q",
      .help = "auto, nf4, fp4, none or a map; auto: as the adapter was trained" },
    { .name = "compute",
      .type = OPTION_STR,
      AT(compute),
      .value = "C",
      .help = "auto, f32 or bf16; auto: as the adapter was trained, else f32" },
    { .name = "json", .type = OPTION_FLAG, AT(json), .help = "a JSON object a prompt" },
};
#undef AT

/* A line of the prompts that waits for its answer. */
struct pending {
    struct id_list id;
    int task;
    uint64_t seed;
    json_t *tag; /* its "id", echoed; NULL: none */
};

struct job {
    const struct options *o;
    struct session s;
    struct generator *g;
    const char *name; /* of the prompts, for messages */
    struct pending wait[GENERATE_BATCH];
    int waiting;
    bool each_line; /* answer as lines come, and go on after a bad one */
};

static volatile sig_atomic_t asked; /* SIGINT in a conversation ends its answer */

static enum graft_status encode_prompt(struct job *j, int task, const char *text, size_t len,
                                       struct id_list *out, struct graft_err *err)
{
    const struct tokenizer *t = session_text(&j->s, task)->tokenizer;

    if (!t)
        return graft_fail(err, GRAFT_EARG, "%s: the base has no tokenizer; give input_ids",
                          j->o->base);
    return tokenizer_encode(t, text, len, true, out, err);
}

static enum graft_status read_ids(const json_t *list, struct id_list *out, struct graft_err *err)
{
    size_t i;
    json_t *v;

    if (!json_is_array(list))
        return graft_fail(err, GRAFT_EFORMAT, "\"input_ids\" is not a list of token ids");
    json_array_foreach((json_t *)list, i, v)
    {
        const int64_t id = json_integer_value(v);

        if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
            return graft_fail(err, GRAFT_EFORMAT, "item %zu of \"input_ids\" is no token id", i);
        GRAFT_TRY(id_list_add(out, (int32_t)id, err));
    }
    return GRAFT_OK;
}

static enum graft_status read_task(const struct job *j, const json_t *v, int *out,
                                   struct graft_err *err)
{
    if (v && json_is_null(v)) {
        *out = TASK_BASE;
        return GRAFT_OK;
    }
    if (v && !json_is_string(v))
        return graft_fail(err, GRAFT_EFORMAT, "\"task\" is not a string or null");
    return tasks_find(&j->s.tasks, v ? json_string_value(v) : j->o->task, out, err);
}

static enum graft_status known_keys(const json_t *rec, struct graft_err *err)
{
    static const char *const known[] = { "prompt", "messages", "input_ids", "task", "seed", "id" };
    static const char *const of_messages[] = { "tools", "documents", "chat_template_kwargs" };
    const bool messages = json_object_get(rec, "messages") != NULL;
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)rec, key, v)
    {
        bool found = false;

        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found |= !strcmp(key, known[i]);
        for (size_t i = 0; i < sizeof of_messages / sizeof *of_messages; i++) {
            if (strcmp(key, of_messages[i]) != 0)
                continue;
            found = true;
            if (!messages)
                return graft_fail(err, GRAFT_EFORMAT, "\"%s\" needs \"messages\" beside it", key);
        }
        if (!found)
            graft_note("prompts: key \"%.40s\" is ignored", key);
    }
    return GRAFT_OK;
}

static enum graft_status encode_messages(struct job *j, const json_t *rec, int task,
                                         struct id_list *out, struct graft_err *err)
{
    struct conversation c = { .first = 0 };
    struct chat_turns turns;
    enum graft_status st = conversation_of_messages(rec, &c, err);

    turns = conversation_turns(&c);
    if (!st)
        st = text_encode_turns(session_text(&j->s, task), &turns, out, err);
    conversation_release(&c);
    return st;
}

/* Exactly one of the three ways to ask. */
static enum graft_status one_way(const json_t *rec, const char **out, struct graft_err *err)
{
    static const char *const ways[] = { "prompt", "messages", "input_ids" };
    int found = 0;

    for (int i = 0; i < 3; i++)
        if (json_object_get(rec, ways[i])) {
            *out = ways[i];
            found++;
        }
    return found == 1
               ? GRAFT_OK
               : graft_fail(err, GRAFT_EFORMAT,
                            "wanted one of \"prompt\", \"messages\" and \"input_ids\", found %s",
                            found ? "several" : "none");
}

static enum graft_status read_prompt(struct job *j, const json_t *rec, struct pending *p,
                                     struct graft_err *err)
{
    const json_t *seed = json_object_get(rec, "seed"), *v;
    const char *way = NULL;

    if (!json_is_object(rec))
        return graft_fail(err, GRAFT_EFORMAT, "wanted a JSON object");
    GRAFT_TRY(known_keys(rec, err));
    GRAFT_TRY(one_way(rec, &way, err));
    v = json_object_get(rec, way);
    if (!strcmp(way, "prompt") && !json_is_string(v))
        return graft_fail(err, GRAFT_EFORMAT, "\"prompt\" is not a string");
    if (seed && (!json_is_integer(seed) || json_integer_value(seed) < 0))
        return graft_fail(err, GRAFT_EFORMAT, "\"seed\" is not a whole number from 0");
    GRAFT_TRY(read_task(j, json_object_get(rec, "task"), &p->task, err));
    p->seed = (uint64_t)(seed ? json_integer_value(seed) : j->o->seed);
    if (!strcmp(way, "prompt"))
        GRAFT_TRY(
            encode_prompt(j, p->task, json_string_value(v), json_string_length(v), &p->id, err));
    else if (!strcmp(way, "messages"))
        GRAFT_TRY(encode_messages(j, rec, p->task, &p->id, err));
    else
        GRAFT_TRY(read_ids(v, &p->id, err));
    GRAFT_TRY(generator_check(j->g, p->task, p->id.id, p->id.count, err));
    p->tag = json_incref(json_object_get(rec, "id"));
    return GRAFT_OK;
}

json_t *answer_json(const struct session *s, int task, const struct generate_answer *a)
{
    const char *name = task == TASK_BASE ? NULL : s->tasks.task[task].name;
    json_t *ids = json_array();

    for (int64_t i = 0; i < a->id.count; i++)
        json_array_append_new(ids, json_integer(a->id.id[i]));
    return json_pack("{s:s?, s:o, s:o, s:s}", "task", name, "ids", ids, "text",
                     session_text(s, task)->tokenizer
                         ? json_stringn(strbuf_str(&a->text), a->text.len)
                         : json_null(),
                     "stop", stop_names[a->stop]);
}

static json_t *pending_json(const struct job *j, const struct pending *p,
                            const struct generate_answer *a)
{
    json_t *v = answer_json(&j->s, p->task, a);

    if (v && p->tag)
        json_object_set(v, "id", p->tag);
    return v;
}

static void release_pending(struct job *j)
{
    for (int i = 0; i < j->waiting; i++) {
        id_list_release(&j->wait[i].id);
        json_decref(j->wait[i].tag);
    }
    memset(j->wait, 0, sizeof j->wait);
    j->waiting = 0;
}

static void stream_piece(void *user, int i, const char *text, size_t len)
{
    (void)user;
    (void)i;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
}

/* Answer what waits, print in order. */
static enum graft_status answer_all(struct job *j, bool stream, struct graft_err *err)
{
    struct generate_request req[GENERATE_BATCH];
    struct generate_answer answer[GENERATE_BATCH];
    enum graft_status st;

    memset(answer, 0, sizeof answer);
    for (int i = 0; i < j->waiting; i++)
        req[i] = (struct generate_request){ j->wait[i].id.id, j->wait[i].id.count, j->wait[i].task,
                                            j->wait[i].seed };
    st = generator_run(j->g, req, j->waiting, answer, stream ? stream_piece : NULL, NULL, err);
    for (int i = 0; i < j->waiting; i++) {
        if (!st && j->o->json)
            st = print_json(pending_json(j, &j->wait[i], &answer[i]), err);
        else if (!st && !stream)
            fwrite(strbuf_str(&answer[i].text), 1, answer[i].text.len, stdout);
        if (!st && !j->o->json)
            putchar('\n');
        generate_answer_release(&answer[i]);
    }
    fflush(stdout);
    release_pending(j);
    return st;
}

/* With standard input a bad line is answered like any other, and the loop goes on. */
static enum graft_status bad_line(struct job *j, int64_t line, enum graft_status st,
                                  struct graft_err *err)
{
    char at[64];
    size_t name = strlen(j->name), said;

    snprintf(at, sizeof at, "%lld", (long long)line);
    said = name + strlen(at) + 3; /* "NAME:LINE: ", where the reader of lines said it already */
    if (strlen(err->msg) > said && !strncmp(err->msg, j->name, name) && err->msg[name] == ':' &&
        !strncmp(err->msg + name + 1, at, strlen(at)) && err->msg[said - 2] == ':')
        memmove(err->msg, err->msg + said, strlen(err->msg + said) + 1);
    if (!j->each_line)
        return graft_fail_in(err, st == GRAFT_EARG ? GRAFT_EARG : GRAFT_EFORMAT, "%s:%s", j->name,
                             at);
    if (st == GRAFT_ENOMEM || st == GRAFT_ERUN)
        return st;
    release_pending(j);
    for (char *c = err->msg; *c; c++) /* it may quote bytes that are no UTF-8 */
        if ((unsigned char)*c >= 0x7f)
            *c = '?';
    return print_json(json_pack("{s:s+++}", "error", "line ", at, ": ", err->msg), err);
}

static enum graft_status one_line(void *user, int64_t line, const char *text, size_t len,
                                  struct graft_err *err)
{
    struct job *j = user;
    json_t *rec = NULL;
    enum graft_status st;

    st = json_read_line(j->name, line, text, len, &rec, err);
    if (!st)
        st = read_prompt(j, rec, &j->wait[j->waiting++], err);
    json_decref(rec);
    if (st)
        return bad_line(j, line, st, err);
    if (!j->each_line && j->waiting < GENERATE_BATCH)
        return GRAFT_OK;
    st = answer_all(j, false, err);
    return st ? bad_line(j, line, st, err) : GRAFT_OK;
}

static enum graft_status answer_text(struct job *j, struct graft_err *err)
{
    struct pending *p = &j->wait[j->waiting++];

    p->seed = (uint64_t)j->o->seed;
    GRAFT_TRY(tasks_find(&j->s.tasks, j->o->task, &p->task, err));
    GRAFT_TRY(encode_prompt(j, p->task, j->o->prompt, strlen(j->o->prompt), &p->id, err));
    return answer_all(j, !j->o->json, err);
}

static enum graft_status answer_file(struct job *j, struct graft_err *err)
{
    j->each_line = !strcmp(j->o->prompts, "-");
    j->name = j->each_line ? "standard input" : j->o->prompts;
    GRAFT_TRY(lines_read(j->o->prompts, one_line, j, err));
    return j->waiting ? answer_all(j, false, err) : GRAFT_OK;
}

static enum graft_status converse(struct job *j, struct graft_err *err)
{
    const struct options *o = j->o;
    const struct chat_options c = { .task = o->task,
                                    .system = o->system,
                                    .prompt = o->prompt,
                                    .seed = o->seed,
                                    .max_new = o->max_new,
                                    .json = o->json };

    return chat_run(&c, &j->s, j->g, &asked, err);
}

static enum graft_status check(const struct options *o, struct graft_err *err)
{
    static const char see[] = "\nsee graft generate --help";

    if (o->chat && o->prompts)
        return graft_fail(err, GRAFT_EARG,
                          "generate: give --chat or --prompts, not both; a line of --prompts may "
                          "have \"messages\"%s",
                          see);
    if (o->system && !o->chat)
        return graft_fail(err, GRAFT_EARG, "generate: --system belongs to --chat%s", see);
    if (o->template_name && !o->chat && o->prompt)
        return graft_fail(err, GRAFT_EARG,
                          "generate: -p without --chat is raw text, which has no use for a "
                          "template%s",
                          see);
    if (!o->chat && !o->prompt == !o->prompts)
        return graft_fail(err, GRAFT_EARG, "generate: give -p, --prompts or --chat%s%s",
                          o->prompt ? ", not both" : "", see);
    for (int i = 0; i < o->stop.count; i++)
        if (!*o->stop.text[i])
            return graft_fail(err, GRAFT_EARG, "--stop: found \"\", wanted a text to stop at");
    return GRAFT_OK;
}

static enum graft_status run(const void *options, struct graft_err *err)
{
    const struct options *o = options;
    struct job j = { .o = o };
    struct quant_config quant;
    enum compute_type compute;
    enum graft_status st;

    GRAFT_TRY(check(o, err));
    GRAFT_TRY(quant_config_parse(o->quant, &quant, err));
    GRAFT_TRY(compute_parse(o->compute, &compute, err));
    struct generate_opts g = {
        .max_new = o->max_new,
        .temperature = o->temperature,
        .top_k = o->top_k,
        .top_p = o->top_p,
        .stop = o->stop.text,
        .stops = o->stop.count,
        .asked = o->chat ? &asked : NULL,
    };
    GRAFT_TRY(session_open(o->base, o->adapter.text, o->adapter.count, &quant, &j.s, err));
    g.act = session_compute(&j.s, compute) == COMPUTE_BF16 ? DT_BF16 : DT_F32;
    st = session_use_template(&j.s, o->template_name, err);
    if (!st)
        st = generator_new(&j.s.base, session_text(&j.s, TASK_BASE), &j.s.tasks, &g, &j.g, err);
    if (!st)
        st = o->chat ? converse(&j, err) : o->prompt ? answer_text(&j, err) : answer_file(&j, err);
    release_pending(&j);
    generator_free(j.g);
    session_release(&j.s);
    return st;
}

const struct verb generate_verb = {
    .name = "generate",
    .usage =
        "--base B [--adapter [NAME=]DIR]... (-p TEXT | --prompts F.jsonl | --chat) [-n N] [--json]",
    .summary = "Answer prompts, with an adapter chosen for each.",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .run = run,
};
