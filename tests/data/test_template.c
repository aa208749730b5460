/* Chat templates: the variables they see, and where the answers lie in the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/mem.h"
#include "data/template.h"

static struct graft_err err;

static json_t *parse(const char *text)
{
    json_t *v = NULL;

    if (json_read("test", text, strlen(text), &v, &err))
        fail_msg("%s", err.msg);
    return v;
}

static struct chat_template *make(const char *source)
{
    struct chat_template *t = NULL;

    if (chat_template_new("test", source, strlen(source), &t, &err))
        fail_msg("%s", err.msg);
    return t;
}

static const char *const specials[] = { "<|end|>", "<|end|>\n!", "</s>" };

/* The text with each answer in [brackets]; the error's message when there is one. */
static void marked(const char *source, const char *messages, struct strbuf *out)
{
    struct chat_template *t = make(source);
    json_t *m = parse(messages);
    struct tokenizer_text special[3];
    const struct chat_specials all = { special, 3 };
    struct chat_answers answers = { .count = 0 };
    const struct chat_opts o = { .date = "2024-07-06" };
    struct strbuf text = STRBUF_INIT;
    size_t at = 0;

    for (int i = 0; i < 3; i++)
        special[i] = (struct tokenizer_text){ specials[i], strlen(specials[i]) };
    strbuf_clear(out);
    if (chat_template_render(t, m, &o, &text, NULL, &err) ||
        chat_template_answers(t, m, &o, &text, &all, NULL, false, &answers, &err))
        strbuf_puts(out, err.msg);
    for (int64_t i = 0; i < answers.count; i++) {
        strbuf_add(out, text.buf + at, answers.at[i].begin - at);
        strbuf_putc(out, '[');
        strbuf_add(out, text.buf + answers.at[i].begin, answers.at[i].end - answers.at[i].begin);
        strbuf_putc(out, ']');
        at = answers.at[i].end;
    }
    if (answers.count)
        strbuf_add(out, text.buf + at, text.len - at);
    chat_answers_release(&answers);
    strbuf_release(&text);
    json_decref(m);
    chat_template_free(t);
}

#define CHATML                                                                                     \
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"           \
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
#define TWO_TURNS                                                                                  \
    "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"same\"},"        \
    "{\"role\":\"user\",\"content\":\"b\"},{\"role\":\"assistant\",\"content\":\"same\"}]"

static void answers_end_with_their_end_token(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    marked(CHATML, TWO_TURNS, &s);
    assert_string_equal(s.buf, "<|start|>user\na<|end|>\n<|start|>assistant\n[same<|end|>]\n"
                               "<|start|>user\nb<|end|>\n<|start|>assistant\n[same<|end|>]\n");
    marked("{% for m in messages %}{{ m.content|trim }} </s>{% endfor %}",
           "[{\"role\":\"assistant\",\"content\":\"x\"}]", &s);
    assert_string_equal(s.buf, "[x </s>]");
    marked("{% for m in messages %}{{ m.content }}.{% endfor %}",
           "[{\"role\":\"assistant\",\"content\":\"caf\\u00e9\"}]", &s);
    assert_string_equal(s.buf, "[caf\xc3\xa9].");
    strbuf_release(&s);
}

static void headers_that_the_model_writes_are_learnt(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    marked("{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}<think></think>"
           "{% endif %}{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant: "
           "{% endif %}",
           TWO_TURNS, &s);
    assert_string_equal(s.buf, "user: a</s>assistant: [<think></think>same</s>]"
                               "user: b</s>assistant: [<think></think>same</s>]");
    strbuf_release(&s);
}

static void thinking_that_comes_and_goes_is_found(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    /* earlier thinking is dropped, so renderings of prefixes do not nest */
    marked("{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' and not "
           "loop.last %}{% set c = c.split('</t>')|last %}{% endif %}{{ m.role }}:{{ c }}</s>"
           "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
           "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"p</t>q\"},"
           "{\"role\":\"user\",\"content\":\"b\"},{\"role\":\"assistant\",\"content\":\"r</t>s\"}]",
           &s);
    assert_string_equal(s.buf, "user:a</s>assistant:[q</s>]user:b</s>assistant:[r</t>s</s>]");
    marked("{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.content }};"
           "{% endfor %}",
           "[{\"role\":\"assistant\",\"content\":\"x\",\"reasoning\":\"y\"}]", &s);
    assert_string_equal(s.buf, "[y|y|x];");
    strbuf_release(&s);
}

static void an_answer_that_changes_nothing_is_an_error(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    marked("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
           TWO_TURNS, &s);
    assert_string_equal(s.buf, "messages[1]: the chat template leaves this answer out of the text");
    marked("{{ raise_exception('No system role') }}", TWO_TURNS, &s);
    assert_string_equal(s.buf, "test: template line 1: No system role");
    marked(CHATML, "[3]", &s);
    assert_string_equal(s.buf, "messages[0] is not an object");
    strbuf_release(&s);
}

static void generation_blocks_decide(void **state)
{
    struct strbuf s = STRBUF_INIT;

    (void)state;
    marked("{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
           "{% endgeneration %}{% else %}{{ m.content }}{% endif %}</s>{% endfor %}",
           TWO_TURNS, &s);
    assert_string_equal(s.buf, "a</s>[same]</s>b</s>[same]</s>");
    strbuf_release(&s);
}

static void the_template_sees_what_transformers_gives(void **state)
{
    struct chat_template *t = make("{{ bos_token }}{{ tools|tojson }}{{ documents }}{{ "
                                   "add_generation_prompt }}{{ mode }}{{ strftime_now('%d %b %Y') "
                                   "}}{{ nope is defined }}");
    json_t *m = parse("[{}]"), *tools = parse("[{\"b\":1,\"a\":2.5}]"),
           *special = parse("{\"bos_token\":\"<s>\"}"), *extra = parse("{\"mode\":\"x\"}");
    struct chat_opts o = { tools, NULL, special, extra, true, "2025-01-31" };
    struct strbuf out = STRBUF_INIT;

    (void)state;
    assert_int_equal(chat_template_render(t, m, &o, &out, NULL, &err), GRAFT_OK);
    assert_string_equal(out.buf, "<s>[{\"b\": 1, \"a\": 2.5}]NoneTruex31 Jan 2025False");
    o.date = NULL;
    assert_int_equal(chat_template_render(t, m, &o, &out, NULL, &err), GRAFT_EFORMAT);
    o.date = "2025-13-01";
    assert_int_equal(chat_template_render(t, m, &o, &out, NULL, &err), GRAFT_EARG);
    strbuf_release(&out);
    json_decref(m);
    json_decref(tools);
    json_decref(special);
    json_decref(extra);
    chat_template_free(t);
}

/* Real templates: the hash of the texts, and of the answers' bytes, of the conversations in
 * template_real.json; made by golden/make_template.py with transformers. */
static void real_templates_render_and_mask_as_transformers(void **state)
{
    const char *assets = getenv("GRAFT_ASSETS");
    json_t *all = NULL, *special, *conversations, *t;
    const char *name;

    (void)state;
    if (!assets)
        assets = GRAFT_SOURCE_DIR "/../shared/assets";
    if (json_read_file(GRAFT_GOLDEN "/template_real.json", &all, &err))
        fail_msg("%s", err.msg);
    special = json_object_get(all, "special");
    conversations = json_object_get(all, "conversations");
    json_object_foreach(json_object_get(all, "templates"), name, t)
    {
        struct strbuf path = STRBUF_INIT, source = STRBUF_INIT;
        struct chat_template *c = NULL;
        struct tokenizer_text tokens[256];
        json_t *list = json_object_get(t, "specials"), *want = json_object_get(t, "sha256");

        strbuf_printf(&path, "%s/tokenizers/chat_templates/%s.jinja", assets, name);
        if (file_read(path.buf, 1 << 20, &source, NULL)) {
            print_message("%s is absent\n", path.buf);
            strbuf_release(&path);
            json_decref(all);
            skip();
        }
        assert_int_equal(chat_template_new(name, source.buf, source.len, &c, &err), GRAFT_OK);
        for (size_t i = 0; i < json_array_size(list); i++)
            tokens[i] = (struct tokenizer_text){ json_string_value(json_array_get(list, i)),
                                                 json_string_length(json_array_get(list, i)) };
        for (size_t i = 0; i < json_array_size(conversations); i++) {
            const json_t *m = json_array_get(conversations, i);
            const char *hash = json_string_value(json_array_get(want, i));
            const struct chat_opts o = { .special = special, .date = "2024-07-06" };
            struct strbuf text = STRBUF_INIT, all_text = STRBUF_INIT;
            const struct chat_specials known = { tokens, (int64_t)json_array_size(list) };
            struct chat_answers a = { .count = 0 };
            char got[65];

            if (chat_template_render(c, m, &o, &text, NULL, &err)) {
                assert_null(hash);
                strbuf_release(&text);
                continue;
            }
            assert_non_null(hash);
            if (chat_template_answers(c, m, &o, &text, &known, NULL, false, &a, &err))
                fail_msg("%s", err.msg);
            strbuf_add(&all_text, text.buf, text.len);
            for (int64_t k = 0; k < a.count; k++) {
                strbuf_putc(&all_text, '\0');
                strbuf_add(&all_text, text.buf + a.at[k].begin, a.at[k].end - a.at[k].begin);
                strbuf_printf(&all_text, "@%zu", a.at[k].begin);
            }
            sha256_hex(all_text.buf, all_text.len, got);
            if (strncmp(got, hash, strlen(hash)))
                fail_msg("%s, conversation %zu:\n%s", name, i, text.buf);
            strbuf_release(&text);
            strbuf_release(&all_text);
            chat_answers_release(&a);
        }
        chat_template_free(c);
        strbuf_release(&path);
        strbuf_release(&source);
    }
    json_decref(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_end_with_their_end_token),
        cmocka_unit_test(headers_that_the_model_writes_are_learnt),
        cmocka_unit_test(thinking_that_comes_and_goes_is_found),
        cmocka_unit_test(an_answer_that_changes_nothing_is_an_error),
        cmocka_unit_test(generation_blocks_decide),
        cmocka_unit_test(the_template_sees_what_transformers_gives),
        cmocka_unit_test(real_templates_render_and_mask_as_transformers),
    };

    return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
