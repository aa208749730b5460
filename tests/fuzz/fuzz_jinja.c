/* Any bytes as a template; the text behind a NUL, when it is JSON, is what it is rendered with. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct chat_opts o = { .date = "2024-07-06" };

static void use(const struct chat_template *t, const json_t *messages)
{
    const struct tokenizer_text end = { "</s>", 4 };
    const struct chat_specials special = { &end, 1 };
    struct strbuf text = STRBUF_INIT;
    struct jinja_spans spans = { .count = 0 };
    struct chat_answers answers = { .count = 0 };

    if (!chat_template_render(t, messages, &o, &text, &spans, NULL)) {
        for (int64_t i = 0; i < spans.count; i++)
            if (spans.span[i].begin > text.len)
                abort();
        if (text.len < 100000 &&
            !chat_template_answers(t, messages, &o, &text, &special, NULL, false, &answers, NULL))
            for (int64_t i = 0; i < answers.count; i++)
                if (answers.at[i].message >= 0 &&
                    (answers.at[i].begin > answers.at[i].end || answers.at[i].end > text.len))
                    abort();
    }
    chat_answers_release(&answers);
    jinja_spans_release(&spans);
    strbuf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] =
        "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"h\xc3\xa9 \"},"
        "{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
        "\"arguments\":{\"x\":[1,2.5,null,true]}}}]},"
        "{\"role\":\"tool\",\"content\":[{\"type\":\"text\",\"text\":\"7\"}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"p\"},{\"type\":\"text\","
        "\"text\":\"q\"}]}]";
    const char *text = (const char *)data, *gap = size ? memchr(text, 0, size) : NULL;
    const size_t len = gap ? (size_t)(gap - text) : size;
    struct chat_template *t = NULL;
    json_t *messages = NULL, *fit = NULL;
    struct graft_err err = { GRAFT_OK, "" };

    if (chat_template_new("fuzz", text, len, &t, &err)) {
        if (!err.msg[0])
            abort();
        return 0;
    }
    if (!gap || json_read("fuzz", gap + 1, size - len - 1, &messages, NULL))
        json_read("fuzz", sample, sizeof sample - 1, &messages, NULL);
    use(t, messages);
    if (!chat_template_fit_parts(t, messages, &o, &fit, NULL))
        use(t, fit);
    json_decref(fit);
    json_decref(messages);
    chat_template_free(t);
    return 0;
}
