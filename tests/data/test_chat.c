/* Conversations to tokens and masks: every form of record, what is learnt of it, and what is
 * refused; templates of our own, closing tokens, tools. */
#include "tests/data/data_testing.h"

#include "data/preview.h"
#include "data/records.h"

static struct graft_err err;
static struct tokenizer *toy;

/* "role:content" and <eos>, a line each; an answer is asked for by "assistant:". */
#define LINES                                                                                      \
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ eos_token }}\n{% endfor %}"          \
    "{% if add_generation_prompt %}a:{% endif %}"

static struct chat *make_chat(const char *source, const char *tool_use)
{
    json_t *templates = json_pack("{s:s, s:s*}", "default", source, "tool_use", tool_use);
    json_t *special = json_pack("{s:s, s:s}", "eos_token", "<eos>", "bos_token", "<bos>");
    const struct chat_parts p = { "toy", templates, special, toy };
    struct chat *c = NULL;

    if (chat_new(&p, &c, &err))
        fail_msg("%s", err.msg);
    json_decref(templates);
    json_decref(special);
    return c;
}

static struct dataset_opts opts_with(const struct chat *c)
{
    return (struct dataset_opts){
        .mask_prompt = true, .eos = EOS, .vocab_rows = TOY_VOCAB, .tokenizer = toy, .chat = c
    };
}

/* The first record as text with what is learnt in [brackets]; the message when it is refused. */
static char *shown(const char *record, const struct dataset_opts *o)
{
    static const char *const path = "d.jsonl";
    static char out[2048];
    struct dataset d = { .count = 0 };
    struct strbuf s = STRBUF_INIT;
    bool on = false;

    put_file(path, record);
    err = (struct graft_err){ GRAFT_OK, "" };
    if (dataset_load(&path, 1, o, &d, &err)) {
        snprintf(out, sizeof out, "%s", err.msg);
        return out;
    }
    for (int64_t i = 0; i < d.record[0].length; i++) {
        const int32_t id = dataset_id(&d, &d.record[0], i);
        const int32_t label = dataset_label(&d, &d.record[0], i);

        if ((label != NO_LABEL) != on)
            strbuf_putc(&s, (on = !on) ? '[' : ']');
        assert_true(label == NO_LABEL || label == id);
        tokenizer_decode(toy, &id, 1, false, &s, NULL);
    }
    snprintf(out, sizeof out, "%s%s", strbuf_str(&s), on ? "]" : "");
    strbuf_release(&s);
    dataset_release(&d);
    return out;
}

#define U(text)    "{\"role\": \"user\", \"content\": \"" text "\"}"
#define A(text)    "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define MSGS(list) "{\"messages\": [" list "]}"

static void answers_and_their_end_tokens_are_learnt(void **state)
{
    struct chat *c = make_chat(LINES, NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown(MSGS(U("x") ", " A("ab") ", " U("y") ", " A("z")), &o),
                        "u:x<eos>\na:[ab<eos>]\nu:y<eos>\na:[z<eos>]\n");
    o.train_on_last = true;
    assert_string_equal(shown(MSGS(U("x") ", " A("ab") ", " U("y") ", " A("z")), &o),
                        "u:x<eos>\na:ab<eos>\nu:y<eos>\na:[z<eos>]\n");
    assert_string_equal(shown(MSGS(U("x") ", " A("ab") ", " U("y")), &o),
                        "u:x<eos>\na:[ab<eos>]\nu:y<eos>\n");
    o.train_on_last = false;
    o.mask_prompt = false;
    assert_string_equal(shown(MSGS(U("x") ", " A("z")), &o), "[u:x<eos>\na:z<eos>\n]");
    chat_free(c);
}

static void a_message_can_be_left_out_of_the_loss(void **state)
{
    static const char weight[] =
        MSGS(U("x") ", {\"role\": \"assistant\", \"content\": \"ab\", \"weight\": 0}, " U(
            "y") ", {\"role\": \"assistant\", \"content\": \"z\", \"weight\": 1}");
    static const char train[] =
        MSGS(U("x") ", {\"role\": \"assistant\", \"content\": \"ab\", \"train\": true}, " U(
            "y") ", {\"role\": \"assistant\", \"content\": \"z\", \"train\": false}");
    struct chat *c = make_chat(LINES, NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown(weight, &o), "u:x<eos>\na:ab<eos>\nu:y<eos>\na:[z<eos>]\n");
    assert_string_equal(shown(train, &o), "u:x<eos>\na:[ab<eos>]\nu:y<eos>\na:z<eos>\n");
    o.mask_prompt = false;
    assert_string_equal(shown(weight, &o), "[u:x<eos>\na:]ab<eos>[\nu:y<eos>\na:z<eos>\n]");
    o.mask_prompt = true;
    o.train_on_last = true; /* the last one must not be learnt: nothing is, the record is dropped */
    assert_string_equal(shown(train, &o), "");
    chat_free(c);
}

#define NEVER(role, text)                                                                          \
    "{\"role\": \"" role "\", \"content\": \"" text "\", \"name\": \"n\", \"weight\": 0}"

static void any_message_can_be_left_out_where_all_is_learnt(void **state)
{
    static const char record[] =
        MSGS(NEVER("system", "be") ", " NEVER("user", "x") ", " A("z") ", " U("y"));
    struct chat *c = make_chat(LINES, NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown(record, &o), "s:be<eos>\nu:x<eos>\na:[z<eos>]\nu:y<eos>\n");
    o.mask_prompt = false;
    assert_string_equal(shown(record, &o), "[s:]be<eos>[\nu:]x<eos>[\na:z<eos>\nu:y<eos>\n]");
    chat_free(c);
    c = make_chat(
        "{% for m in messages %}{{ m.name }}:{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<eos>\n"
        "{% endfor %}",
        NULL);
    o.chat = c; /* blocks say what answers are, and nothing of other messages */
    assert_string_equal(
        shown(MSGS(NEVER("user", "x") ", " NEVER("assistant", "z") ", " U("y")), &o),
        "[n:]x<eos>[\n]n:z<eos>[\n:y<eos>\n]");
    chat_free(c);
    c = make_chat("{{ messages[0].content }}|{% for m in messages %}{{ m.content }}<eos>"
                  "{% endfor %}",
                  NULL);
    o.chat = c; /* what lies between the two is not the message's */
    assert_string_equal(shown(MSGS(NEVER("user", "x") ", " A("z")), &o),
                        "d.jsonl:1: messages[0]: another message in its stead changes more of the "
                        "text than its own "
                        "words, so where it lies cannot be told");
    chat_free(c);
    c = make_chat("{% for m in messages if m.role != 'system' %}{{ m.content }}<eos>{% endfor %}",
                  NULL);
    o.chat = c;
    assert_string_equal(
        shown(record, &o),
        "d.jsonl:1: messages[0]: the chat template leaves this message out of the text");
    chat_free(c);
    c = make_chat("{% for m in messages %}{% if m.role == 'user' and m.content | length > 1 %}"
                  "{{ raise_exception('too long') }}{% endif %}{{ m.content }}<eos>{% endfor %}",
                  NULL);
    o.chat = c;
    assert_string_equal(
        shown(record, &o),
        "d.jsonl:1: messages[1]: this message's place in the text is found by another one in its "
        "stead, and that the template refuses: toy: template line 1: too long");
    chat_free(c);
}

static void prompt_and_completion_may_be_messages(void **state)
{
    struct chat *c = make_chat(LINES, NULL);
    const struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown("{\"prompt\": [" U("x") ", " A("p") ", " U(
                                  "y") "], \"completion\": [" A("z") ", " U("v") ", " A("w") "]}",
                              &o),
                        "u:x<eos>\na:p<eos>\nu:y<eos>\na:[z<eos>]\nu:v<eos>\na:[w<eos>]\n");
    assert_string_equal(
        shown("{\"prompt\": [" U("x") "], \"completion\": \"y\"}", &o),
        "d.jsonl:1: prompt is a list and completion a string, wanted two strings or "
        "two lists of messages");
    assert_string_equal(shown("{\"prompt\": [], \"completion\": [" A("z") "]}", &o),
                        "d.jsonl:1: \"prompt\" has no messages");
    assert_string_equal(shown("{\"prompt\": \"x\", \"completion\": \"y\", \"tools\": [{}]}", &o),
                        "d.jsonl:1: has \"tools\", which texts have no use for; only messages can "
                        "have them");
    chat_free(c);
}

#define PAIR "{\"prompt\": [" U("x") "], \"completion\": [" A("z") "]"

static void what_the_template_gets_besides_is_the_same_for_every_form(void **state)
{
    struct chat *c = make_chat("{{ mode }}{% for d in documents or [] %}{{ d.text }}{% endfor "
                               "%}" LINES,
                               NULL);
    const struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown(PAIR ", \"documents\": [{\"text\": \"d\"}], "
                                   "\"chat_template_kwargs\": {\"mode\": \"m\"}}",
                              &o),
                        "mdu:x<eos>\na:[z<eos>]\n");
    assert_string_equal(shown(PAIR ", \"documents\": 3}", &o),
                        "d.jsonl:1: \"documents\" is an integer, wanted a list");
    assert_string_equal(
        shown("{\"messages\": [" U("x") "], \"chat_template_kwargs\": {\"tools\": []}}", &o),
        "d.jsonl:1: chat_template_kwargs.tools: the template gets it from elsewhere");
    chat_free(c);
}

static void catch_note(void *user, const char *msg)
{
    strbuf_printf(user, "%s\n", msg);
}

static void keys_that_make_no_difference_are_named(void **state)
{
    struct strbuf notes = STRBUF_INIT;
    struct chat *c = make_chat(LINES "{# reasoning_content, not unnamed #}", NULL);
    const struct dataset_opts o = opts_with(c);

    (void)state;
    graft_note_sink(catch_note, &notes);
    shown("{\"id\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"x\", \"name\": "
          "\"Ann\"}, {\"role\": \"assistant\", \"content\": \"z\", \"function_call\": {}, "
          "\"name\": \"Bob\", \"thinking\": \"y\", \"weight\": 1, \"audio\": null}]}",
          &o);
    assert_string_equal(strbuf_str(&notes),
                        "d.jsonl: keys that the format has no use for are ignored: \"id\"\n"
                        "d.jsonl: keys that the chat template does not name: \"messages[].name\", "
                        "\"messages[].function_call\"\n");
    strbuf_clear(&notes);
    shown("{\"conversations\": [{\"from\": \"human\", \"value\": \"x\", \"role\": \"u\"}, "
          "{\"from\": \"gpt\", \"value\": \"z\", \"train\": true}]}",
          &o);
    assert_string_equal(strbuf_str(&notes), "d.jsonl: keys that the format has no use for are "
                                            "ignored: \"conversations[].role\"\n");
    strbuf_clear(&notes);
    shown("{\"messages\": [" U("x") "], \"documents\": [{}]}", &o);
    shown(PAIR ", \"documents\": [{}]}", &o);
    shown(PAIR ", \"documents\": []}", &o);
    assert_string_equal(strbuf_str(&notes),
                        "d.jsonl: keys that the chat template does not name: \"documents[]\"\n"
                        "d.jsonl: keys that the chat template does not name: \"documents[]\"\n");
    strbuf_clear(&notes);
    shown("{\"prompt\": \"x\", \"completion\": \"z\", \"documents\": []}", &o);
    assert_string_equal(strbuf_str(&notes), "d.jsonl: keys that the format has no use for are "
                                            "ignored: \"documents\"\n");
    graft_note_sink(NULL, NULL);
    strbuf_release(&notes);
    chat_free(c);
}

static void sharegpt_is_the_same_by_other_names(void **state)
{
    struct chat *c = make_chat(LINES, NULL);
    const struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(
        shown("{\"system\": \"be\", \"conversations\": [{\"from\": \"human\", \"value\": \"x\"}, "
              "{\"from\": \"function_call\", \"value\": \"f()\"}, {\"from\": \"observation\", "
              "\"value\": \"1\"}, {\"from\": \"tool\", \"value\": \"2\"}, {\"from\": \"gpt\", "
              "\"value\": \"y\", \"weight\": 1}]}",
              &o),
        "s:be<eos>\nu:x<eos>\na:[f()<eos>]\nt:1<eos>\nt:2<eos>\na:[y<eos>]\n");
    assert_string_equal(shown("{\"conversations\": [{\"from\": \"humn\", \"value\": \"x\"}]}", &o),
                        "d.jsonl:1: conversations[0].from is \"humn\", wanted human, gpt, system, "
                        "tool, observation or function_call");
    assert_string_equal(
        shown("{\"conversations\": [" U("x") "]}", &o),
        "d.jsonl:1: conversations[0] has \"role\", wanted \"from\" and \"value\"; to "
        "make messages of them: jq -c '{messages: .conversations}'");
    chat_free(c);
}

static void text_parts_are_given_as_a_list_or_joined(void **state)
{
    static const char record[] =
        MSGS("{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"x\"}, {\"type\": "
             "\"text\", \"text\": \"y\"}]}, " A("z"));
    struct chat *c = make_chat("{% for m in messages %}{% if m.content is string %}{{ m.content }}"
                               "{% else %}{% for p in m.content %}({{ p.text }}){% endfor %}"
                               "{% endif %}<eos>{% endfor %}",
                               NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown(record, &o), "(x)(y)<eos>[z<eos>]");
    chat_free(c);
    c = make_chat("{% for m in messages %}{{ m.content }}<eos>{% endfor %}", NULL);
    o = opts_with(c);
    assert_string_equal(shown(record, &o), "xy<eos>[z<eos>]"); /* Python's list is no text */
    chat_free(c);
    c = make_chat("{% for m in messages %}{{ 'v' + m.content }}<eos>{% endfor %}", NULL);
    o = opts_with(c);
    assert_string_equal(shown(record, &o), "vxy<eos>v[z<eos>]");
    chat_free(c);
}

/* A message of text parts. */
#define P(role, parts) "{\"role\": \"" role "\", \"content\": [" parts "]}"
#define T(text)        "{\"type\": \"text\", \"text\": \"" text "\"}"

static void parts_are_judged_by_their_form_message_by_message(void **state)
{
    static const char record[] = MSGS(P("user", T("x") ", " T("y")) ", " A("[{'type': 'text'}]"));
    static const struct {
        const char *what, *source, *record, *want;
    } cases[] = {
        { "what a text says is no sign",
          "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
          "{% for p in m.content %}({{ p.text }}){% endfor %}{% endif %}<eos>{% endfor %}",
          record, "(x)(y)<eos>[[{'type': 'text'}]<eos>]" },
        { "a template that shows no parts",
          "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% endif %}<eos>"
          "{% endfor %}",
          record, "xy<eos>[[{'type': 'text'}]<eos>]" },
        { "a template that shows the first part only",
          "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
          "{{ m.content[0].text }}{% endif %}<eos>{% endfor %}",
          record, "xy<eos>[[{'type': 'text'}]<eos>]" },
        { "a list as JSON",
          "{% for m in messages %}{{ m.content if m.content is string else m.content | tojson }}"
          "<eos>{% endfor %}",
          record, "xy<eos>[[{'type': 'text'}]<eos>]" },
        { "a template that refuses what is no part",
          "{% for m in messages %}{{ m.content if m.role == 'assistant' and m.content is string "
          "else '-' + m.content[0].text }}<eos>{% endfor %}",
          MSGS(P("user", T("x")) ", " P("assistant", T("z"))), "-x<eos>[-z<eos>]" },
        { "parts of answers only",
          "{% for m in messages %}{% if m.role == 'user' %}{{ 'u' + m.content }}{% else %}"
          "{% for p in m.content %}({{ p.text }}){% endfor %}{% endif %}<eos>{% endfor %}",
          MSGS(P("user", T("x")) ", " P("assistant", T("z"))), "ux<eos>([z])<eos>" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct chat *c = make_chat(cases[i].source, NULL);
        const struct dataset_opts o = opts_with(c);
        const char *got = shown(cases[i].record, &o);

        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: %s", cases[i].what, got);
        chat_free(c);
    }
}

static void what_a_tool_answers_is_left_alone_unless_it_is_text_parts(void **state)
{
    static const char *const cases[][2] = {
        { T("7"), "7" },
        { "{\"type\": \"file\", \"name\": \"x\"}", "[{'type': 'file', 'name': 'x'}]" },
        { "{\"text\": \"A\", \"score\": 3}", "[{'text': 'A', 'score': 3}]" },
        { "{\"text\": \"A\"}", "[{'text': 'A'}]" },
        { T("7") ", {\"id\": 1}", "[{'type': 'text', 'text': '7'}, {'id': 1}]" },
        { "1, 2", "[1, 2]" },
    };
    struct chat *c = make_chat("{% for m in messages %}{{ m.content }}<eos>{% endfor %}", NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char record[512], want[512];

        snprintf(record, sizeof record,
                 "{\"messages\": [%s, {\"role\": \"tool\", \"content\": [%s]}, %s]}",
                 P("user", T("x")), cases[i][0], A("z"));
        snprintf(want, sizeof want, "x<eos>%s<eos>[z<eos>]", cases[i][1]);
        assert_string_equal(shown(record, &o), want);
    }
    chat_free(c);
    /* JSON is a form of an answer that a template may choose for a tool's, and for no one else's */
    c = make_chat("{% for m in messages %}{{ m.content | tojson }}<eos>{% endfor %}", NULL);
    o = opts_with(c);
    assert_string_equal(shown(MSGS(P("user", T("x")) ", " P("tool", T("7")) ", " A("z")), &o),
                        "\"x\"<eos>[{\"type\": \"text\", \"text\": \"7\"}]<eos>\"[z]\"<eos>");
    chat_free(c);
}

#define CALL                                                                                       \
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"type\": \"function\", "      \
    "\"function\": {\"name\": \"f\", \"arguments\": {\"k\": 1}}}]}"

static void tools_and_calls_are_rendered_or_refused(void **state)
{
    static const char with_tools[] = "{\"messages\": [" U("x") ", " A(
        "z") "], \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]}";
    static const char as_text[] = "{\"messages\": [" U("x") ", " A(
        "z") "], \"tools\": \"[{\\\"function\\\": {\\\"name\\\": \\\"g\\\"}}]\"}";
    struct chat *c =
        make_chat(LINES, "{% for t in tools %}T:{{ t.function.name }}\n{% endfor %}" LINES);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown(with_tools, &o), "T:f\nu:x<eos>\na:[z<eos>]\n");
    assert_string_equal(shown(as_text, &o), "T:g\nu:x<eos>\na:[z<eos>]\n");
    assert_string_equal(shown(MSGS(U("x") ", " A("z")), &o), "u:x<eos>\na:[z<eos>]\n");
    assert_string_equal(shown("{\"messages\": [" U("x") "], \"tools\": 3}", &o),
                        "d.jsonl:1: \"tools\" is an integer, wanted a list");
    assert_string_equal(shown("{\"messages\": [" U("x") "], \"tools\": [3]}", &o),
                        "d.jsonl:1: tools[0] is an integer, wanted an object");
    assert_string_equal(shown("{\"messages\": [" U("x") "], \"tools\": \"[\"}", &o),
                        "d.jsonl:1: \"tools\" is a string that is no JSON (tools:1: column 1: ']' "
                        "expected near end of file)");
    chat_free(c);
    c = make_chat(LINES, NULL);
    o = opts_with(c);
    assert_string_equal(shown(with_tools, &o),
                        "d.jsonl:1: the chat template leaves the record's tools out of the text");
    assert_string_equal(shown(MSGS(U("x") ", " CALL), &o),
                        "d.jsonl:1: messages[1]: the chat template leaves tool_calls[0] out of the "
                        "text");
    chat_free(c);
    c = make_chat("{% for m in messages %}{{ m.tool_calls[0].function.name if m.tool_calls else "
                  "m.content }}<eos>{% endfor %}",
                  NULL);
    o = opts_with(c);
    assert_string_equal(
        shown(MSGS(U("x") ", {\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": ["
                          "{\"function\": {\"name\": \"f\"}}, {\"function\": {\"name\": \"g\"}}]}"),
              &o),
        "d.jsonl:1: messages[1]: the chat template leaves tool_calls[1] out of the text");
    chat_free(c);
    c = make_chat("{% for m in messages %}{% for t in m.tool_calls %}{{ t.function.name }}("
                  "{{ t.function.arguments | tojson }}){% endfor %}{{ m.content }}<eos>\n"
                  "{% endfor %}",
                  NULL);
    o = opts_with(c);
    assert_string_equal(shown(MSGS(U("x") ", " CALL), &o), "x<eos>\n[f({\"k\": 1})<eos>]\n");
    chat_free(c);
}

#define RESULT "{\"role\": \"tool\", \"content\": \"7\"}"
/* Results stand behind calls only, as the templates of Mistral, MiniMax and gpt-oss have it. */
#define CALLS_FIRST                                                                                \
    "{% for m in messages %}"                                                                      \
    "{% if m.role == 'tool' and not messages[loop.index0 - 1].tool_calls %}"                       \
    "{{ raise_exception('no call') }}{% endif %}{{ m.role[0] }}:"                                  \
    "{% for t in m.tool_calls %}{{ t.function.name }}(){% endfor %}{{ m.content }}<eos>\n"         \
    "{% endfor %}{% if add_generation_prompt %}a:{% endif %}"

static void a_call_is_found_where_results_forbid_another_answer(void **state)
{
    static const char one[] = MSGS(U("x") ", " CALL ", " RESULT ", " A("z"));
    static const char two[] =
        MSGS(U("x") ", " CALL ", " RESULT ", " A("z") ", " U("y") ", " A("w"));
    struct chat *c = make_chat(CALLS_FIRST, NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown(one, &o), "u:x<eos>\na:[f()<eos>]\nt:7<eos>\na:[z<eos>]\n");
    chat_free(c);
    /* the conversation up to the call begins otherwise, the one without results does not */
    c = make_chat(
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}" CALLS_FIRST, NULL);
    o = opts_with(c);
    assert_string_equal(shown(two, &o), "2u:x<eos>\na:[f()<eos>]\nt:7<eos>\na:[z<eos>]\n"
                                        "u:y<eos>\na:[w<eos>]\n");
    chat_free(c);
    /* neither does, and answers that follow each other are refused */
    c = make_chat(
        "{% set ns = namespace(last=0, of='') %}{% for m in messages %}"
        "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
        "{% if m.role == 'assistant' and ns.of == 'assistant' %}"
        "{{ raise_exception('two answers') }}{% endif %}{% set ns.of = m.role %}"
        "{% endfor %}{{ '' if messages[ns.last].content == 'x' else 'late ' }}" CALLS_FIRST,
        NULL);
    o = opts_with(c);
    assert_string_equal(shown(two, &o), "late u:x<eos>\na:[f()<eos>]\nt:7<eos>\na:[z<eos>]\n"
                                        "u:y<eos>\na:[w<eos>]\n");
    chat_free(c);
    c = make_chat("{{ messages | length }}" CALLS_FIRST, NULL);
    o = opts_with(c);
    assert_string_equal(shown(one, &o),
                        "d.jsonl:1: messages[1]: this answer's place in the text is found by "
                        "another one in its stead, and that the template refuses (\"train\": false "
                        "on the message leaves it unlearnt): toy: template line 1: no call");
    chat_free(c);
}

static void generation_blocks_are_those_of_their_answers(void **state)
{
    static const char source[] =
        "{% for m in messages %}{{ m.role[0] }}:{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}<eos>\n{% endgeneration %}{% else %}{{ m.content }}\n{% endif %}{% endfor "
        "%}";
    static const char twice[] =
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "{% endgeneration %}-{% generation %}<eos>{% endgeneration %}{% endif %}{% endfor %}";
    struct chat *c = make_chat(source, NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_int_equal(chat_end_token(c), EOS);
    assert_string_equal(shown(MSGS(U("x") ", " A("ab") ", " U("y") ", " A("z")), &o),
                        "u:x\na:[ab<eos>\n]u:y\na:[z<eos>\n]");
    o.train_on_last = true;
    assert_string_equal(shown(MSGS(U("x") ", " A("ab") ", " U("y") ", " A("z")), &o),
                        "u:x\na:ab<eos>\nu:y\na:[z<eos>\n]");
    chat_free(c);
    c = make_chat("{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
                  "{% if loop.last %}{{ m.content }}{% endif %}<eos>{% endgeneration %}{% endif %}"
                  "{% endfor %}",
                  NULL);
    o = opts_with(c);
    assert_string_equal(
        shown(MSGS(U("x") ", " A("ab") ", " U("y") ", " A("z")), &o),
        "d.jsonl:1: messages[1]: the chat template leaves this answer out of the text");
    chat_free(c);
    c = make_chat(twice, NULL);
    o = opts_with(c);
    assert_string_equal(shown(MSGS(A("ab") ", " A("z")), &o), "[ab]-[<eos>z]-[<eos>]");
    o.train_on_last = true;
    assert_string_equal(shown(MSGS(A("ab") ", " A("z")), &o), "ab-<eos>[z]-[<eos>]");
    o.train_on_last = false;
    assert_string_equal(
        shown(MSGS(NEVER("assistant", "ab") ", " A("y") ", " NEVER("assistant", "z")), &o),
        "ab-<eos>[y]-[<eos>]z-<eos>");
    chat_free(c);
}

static void bad_conversations_are_refused_with_line_and_place(void **state)
{
    static const struct {
        const char *record, *msg;
    } cases[] = {
        { "{\"messages\": []}", "\"messages\" has no messages" },
        { "{\"messages\": {}}", "\"messages\" is an object, wanted a list of messages" },
        { MSGS("3"), "messages[0] is an integer, wanted an object" },
        { MSGS("{\"content\": \"x\"}"), "messages[0].role is missing, wanted a string" },
        { MSGS("{\"from\": \"human\", \"value\": \"x\"}"),
          "messages[0].role is missing, wanted a string (\"from\" and \"value\" are of the format "
          "sharegpt)" },
        { MSGS("{\"role\": \"user\", \"content\": 3}"),
          "messages[0].content is an integer, wanted a string or a list of text parts" },
        { MSGS(U(
              "x") ", {\"role\": \"user\", \"content\": [{\"type\": \"image\", \"url\": \"u\"}]}"),
          "messages[1].content[0] is a part of type \"image\", only text is supported" },
        { MSGS("{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}"),
          "messages[0].content[0] has no \"text\"" },
        { MSGS("{\"role\": \"user\", \"content\": [\"x\"]}"),
          "messages[0].content[0] is a string, wanted a text part" },
        { MSGS("{\"role\": \"assistant\", \"content\": \"x\", \"weight\": 0.5}"),
          "messages[0].weight is another number, wanted 0 or 1" },
        { MSGS("{\"role\": \"assistant\", \"content\": \"x\", \"train\": 1}"),
          "messages[0].train is an integer, wanted true or false" },
        { MSGS("{\"role\": \"user\", \"content\": \"x\", \"train\": true}"),
          "messages[0] asks to be learnt and its role is \"user\"; only answers, role assistant, "
          "can "
          "be" },
        { MSGS(U("x") ", {\"role\": \"assistant\", \"content\": \"\", \"weight\": 1}, " U("raise")),
          "toy: template line 1: not so" },
    };
    struct chat *c = make_chat("{% for m in messages %}{% if m.content == 'raise' %}"
                               "{{ raise_exception('not so') }}{% endif %}{{ m.content }}<eos>"
                               "{% endfor %}",
                               NULL);
    const struct dataset_opts o = opts_with(c);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char want[256];

        snprintf(want, sizeof want, "d.jsonl:1: %s", cases[i].msg);
        assert_string_equal(shown(cases[i].record, &o), want);
        assert_int_equal(err.code, GRAFT_EFORMAT);
    }
    chat_free(c);
}

static void an_answer_that_the_template_drops_is_an_error_when_it_is_learnt(void **state)
{
    struct chat *c =
        make_chat("{% for m in messages[-2:] %}{{ m.content }}<eos>{% endfor %}", NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_string_equal(shown(MSGS(U("x") ", " A("ab") ", " U("y") ", " A("z")), &o),
                        "d.jsonl:1: messages[1]: the chat template leaves this answer out of the "
                        "text");
    o.train_on_last = true;
    assert_string_equal(shown(MSGS(U("x") ", " A("ab") ", " U("y") ", " A("z")), &o),
                        "y<eos>[z<eos>]");
    chat_free(c);
}

static void the_date_is_the_one_that_was_set(void **state)
{
    struct chat *c = make_chat("{{ strftime_now('%d %B %Y') }} " LINES, NULL);
    struct dataset_opts o = opts_with(c);

    (void)state;
    assert_true(chat_asks_date(c));
    assert_null(chat_date(c));
    assert_int_equal(chat_set_date(c, "today", &err), GRAFT_EARG);
    assert_int_equal(chat_set_date(c, "2026-02-03", &err), GRAFT_OK);
    assert_string_equal(shown(MSGS(U("x") ", " A("z")), &o),
                        "03 February 2026 u:x<eos>\na:[z<eos>]\n");
    chat_free(c);
}

static void several_templates_need_a_default(void **state)
{
    json_t *templates = json_pack("{s:s, s:s}", "rag", "x", "tool_use", "y");
    const struct chat_parts p = { "toy", templates, NULL, toy };
    struct chat *c = NULL;

    (void)state;
    assert_int_equal(chat_new(&p, &c, &err), GRAFT_EFORMAT);
    assert_string_equal(err.msg,
                        "toy: several chat templates (rag, tool_use) and none is named "
                        "default; put the one that is meant into a .jinja file and name it "
                        "as data.template");
    json_decref(templates);
}

static void templates_of_our_own_render_what_their_families_were_taught(void **state)
{
    static const char turns[] =
        "[{\"role\": \"system\", \"content\": \"be\"}, " U(" x ") ", " A(" y ") ", " U("z") "]";
    static const struct {
        const char *name, *text; /* with the system message where the family knows one */
        bool system;
    } want[] = {
        { "chatml",
          "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\n x <|im_end|>\n"
          "<|im_start|>assistant\n y <|im_end|>\n<|im_start|>user\nz<|im_end|>\n"
          "<|im_start|>assistant\n",
          true },
        { "llama3",
          "<bos><|start_header_id|>system<|end_header_id|>\n\nbe<|eot_id|>"
          "<|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|><|start_header_id|>"
          "assistant<|end_header_id|>\n\ny<|eot_id|><|start_header_id|>user"
          "<|end_header_id|>\n\nz<|eot_id|><|start_header_id|>assistant"
          "<|end_header_id|>\n\n",
          true },
        { "llama2", "<bos>[INST] <<SYS>>\nbe\n<</SYS>>\n\n x [/INST] y <eos><bos>[INST] z [/INST]",
          true },
        { "mistral", "<bos>[INST]  x [/INST]  y <eos>[INST] be\n\nz[/INST]", true },
        { "zephyr",
          "<|system|>\nbe<eos>\n<|user|>\n x <eos>\n<|assistant|>\n y <eos>\n<|user|>\n"
          "z<eos>\n<|assistant|>\n",
          true },
        { "gemma",
          "<bos><start_of_turn>user\nx<end_of_turn>\n<start_of_turn>model\ny<end_of_turn>\n"
          "<start_of_turn>user\nz<end_of_turn>\n<start_of_turn>model\n",
          false },
        { "phi3",
          "<|system|>\nbe<|end|>\n<|user|>\n x <|end|>\n<|assistant|>\n y <|end|>\n"
          "<|user|>\nz<|end|>\n<|assistant|>\n",
          true },
    };
    json_t *messages = NULL;
    size_t n = 0;

    (void)state;
    for (const struct chat_builtin *b = chat_builtins; b->name; b++)
        n++;
    assert_int_equal(n, sizeof want / sizeof *want);
    assert_null(chat_builtin_find("none"));
    assert_int_equal(json_read("turns", turns, sizeof turns - 1, &messages, &err), GRAFT_OK);
    for (size_t i = 0; i < n; i++) {
        struct chat *c = make_chat(chat_builtin_find(want[i].name)->source, NULL);
        struct chat_turns all = { .messages = messages };
        struct strbuf text = STRBUF_INIT;

        if (!want[i].system) {
            assert_int_equal(chat_render(c, &all, true, &text, &err), GRAFT_EFORMAT);
            all.messages = json_copy(messages);
            json_array_remove((json_t *)all.messages, 0);
        }
        if (chat_render(c, &all, true, &text, &err))
            fail_msg("%s: %s", want[i].name, err.msg);
        assert_string_equal(text.buf, want[i].text);
        if (!want[i].system)
            json_decref((json_t *)all.messages);
        strbuf_release(&text);
        chat_free(c);
    }
    json_decref(messages);
}

static void templates_of_our_own_keep_the_system_text_in_training(void **state)
{
    static const char talk[] = MSGS(
        "{\"role\": \"system\", \"content\": \"be\"}, " U("q") ", " A("a") ", " U("q") ", " A("b"));
    static const char *const name[] = { "chatml", "llama3", "llama2", "mistral", "zephyr", "phi3" };

    (void)state;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        struct chat *c = make_chat(chat_builtin_find(name[i])->source, NULL);
        const struct dataset_opts o = opts_with(c);
        const char *text = shown(talk, &o), *at = strstr(text, "be");

        if (!at || strstr(at + 1, "be"))
            fail_msg("%s: %s", name[i], text);
        if (!strcmp(name[i], "mistral"))
            assert_string_equal(text,
                                "<bos>[INST] q[/INST][ a<eos>][INST] be\n\nq[/INST][ b<eos>]");
        chat_free(c);
    }
}

static void templates_of_our_own_refuse_what_they_have_no_place_for(void **state)
{
    static const char *const name[] = { "llama2", "mistral", "gemma" };

    (void)state;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        struct chat *c = make_chat(chat_builtin_find(name[i])->source, NULL);
        const struct dataset_opts o = opts_with(c);

        assert_non_null(strstr(shown(MSGS(U("q") ", {\"role\": \"tool\", \"content\": \"7\"}"), &o),
                               "must take turns, found role tool"));
        assert_non_null(strstr(shown(MSGS("{\"role\": \"system\", \"content\": \"be\"}"), &o),
                               i < 2 ? "stands in a question" : "knows no system message"));
        chat_free(c);
    }
}

static void the_token_that_closes_an_answer_is_known(void **state)
{
    static const struct {
        const char *source;
        int32_t id;
    } cases[] = {
        { LINES, EOS },
        { "{% for m in messages %}{{ m.content }} \n<eos><bos>{% endfor %}", EOS },
        { "{% for m in messages %}{{ m.content }}.{% endfor %}", -1 },
        { "{{ raise_exception('no') }}", -1 },
        { "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %} <eos>"
          "{% endfor %}",
          EOS },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct chat *c = make_chat(cases[i].source, NULL);

        assert_int_equal(chat_end_token(c), cases[i].id);
        chat_free(c);
    }
}

/* Record `i` as preview has it, a | behind each token. */
static char *previewed(const struct dataset *d, const struct preview_texts *p, int64_t i)
{
    const struct record *r = &d->record[i];
    static char out[256];
    struct strbuf text = STRBUF_INIT, s = STRBUF_INIT;
    int64_t end[64], from = 0;
    int32_t id[64];

    dataset_copy(d, r, id, NULL);
    assert_int_equal(preview_rendered(p, toy, i, id, r->length, &text, end, &err), GRAFT_OK);
    for (int64_t k = 0; k < r->length; from = end[k++])
        strbuf_printf(&s, "%.*s|", (int)(end[k] - from), text.buf + from);
    assert_int_equal(from, text.len);
    snprintf(out, sizeof out, "%s", strbuf_str(&s));
    strbuf_release(&text);
    strbuf_release(&s);
    return out;
}

static void preview_shows_the_text_as_rendered_and_cut(void **state)
{
    static const char *const path = "d.jsonl";
    struct preview_texts p = { .count = 0 };
    struct chat *c = make_chat(LINES, NULL);
    struct dataset_opts o = opts_with(c);
    struct dataset d = { .count = 0 };

    (void)state;
    o.take_text = preview_take_text;
    o.take_user = &p;
    o.max_length = 9;
    put_file(path, MSGS(A("\303\251")) "\n{\"text\": \"ab\"}\n" MSGS(
                       U("x") ", " A("z") ", " U("y")) "\n");
    assert_int_equal(dataset_load(&path, 1, &o, &d, &err), GRAFT_OK);
    assert_int_equal(p.count, 3);
    /* the tokenizer has no e acute, so that no token would show it */
    assert_string_equal(previewed(&d, &p, 0), "a|:\303\251|<eos>|\n|");
    assert_string_equal(previewed(&d, &p, 1), "ab|<eos>|"); /* no conversation: decoded */
    assert_string_equal(previewed(&d, &p, 2), "u|:|x|<eos>|\n|a|:|z|<eos>|");
    dataset_release(&d);
    preview_texts_release(&p);
    chat_free(c);
}

static int setup(void **state)
{
    toy = toy_tokenizer(false);
    return enter_folder(state);
}

static int teardown(void **state)
{
    tokenizer_free(toy);
    return leave_folder(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_and_their_end_tokens_are_learnt),
        cmocka_unit_test(a_message_can_be_left_out_of_the_loss),
        cmocka_unit_test(any_message_can_be_left_out_where_all_is_learnt),
        cmocka_unit_test(prompt_and_completion_may_be_messages),
        cmocka_unit_test(what_the_template_gets_besides_is_the_same_for_every_form),
        cmocka_unit_test(keys_that_make_no_difference_are_named),
        cmocka_unit_test(sharegpt_is_the_same_by_other_names),
        cmocka_unit_test(text_parts_are_given_as_a_list_or_joined),
        cmocka_unit_test(parts_are_judged_by_their_form_message_by_message),
        cmocka_unit_test(what_a_tool_answers_is_left_alone_unless_it_is_text_parts),
        cmocka_unit_test(tools_and_calls_are_rendered_or_refused),
        cmocka_unit_test(a_call_is_found_where_results_forbid_another_answer),
        cmocka_unit_test(generation_blocks_are_those_of_their_answers),
        cmocka_unit_test(bad_conversations_are_refused_with_line_and_place),
        cmocka_unit_test(an_answer_that_the_template_drops_is_an_error_when_it_is_learnt),
        cmocka_unit_test(the_date_is_the_one_that_was_set),
        cmocka_unit_test(several_templates_need_a_default),
        cmocka_unit_test(templates_of_our_own_render_what_their_families_were_taught),
        cmocka_unit_test(templates_of_our_own_keep_the_system_text_in_training),
        cmocka_unit_test(templates_of_our_own_refuse_what_they_have_no_place_for),
        cmocka_unit_test(preview_shows_the_text_as_rendered_and_cut),
        cmocka_unit_test(the_token_that_closes_an_answer_is_known),
    };

    return cmocka_run_group_tests_name("chat", tests, setup, teardown);
}
