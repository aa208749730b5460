/* Chat templates of our own, written anew: what they render is what the models of these families
 * were taught. Where a family has changed its form, the newest that needs no date and no tools. */
#include <string.h>

#include "data/chat.h"

/* Space and first word of an answer are one token in their tokenizers: learnt together. */
#define LEARNT(text) "{% generation %}" text "{% endgeneration %}"
#define PROMPT(text) "{% if add_generation_prompt %}" text "{% endif %}"
/* After an optional system message, questions and answers take turns. */
#define TAKE_TURNS                                                                                 \
    "{% if m.role != ('user' if loop.index0 % 2 == 0 else 'assistant') %}"                         \
    "{{ raise_exception('user and assistant messages must take turns, found role ' ~ m.role ~ "    \
    "' at the place of the other') }}"                                                             \
    "{% endif %}"
#define SYSTEM_APART                                                                               \
    "{% set ns = namespace(system='', rest=messages) %}"                                           \
    "{% if messages[0].role == 'system' %}"                                                        \
    "{% set ns.system = messages[0].content %}{% set ns.rest = messages[1:] %}"                    \
    "{% endif %}"                                                                                  \
    "{% if not ns.rest %}"                                                                         \
    "{{ raise_exception('the system text stands in a question, and there is none') }}"             \
    "{% endif %}"

/* OpenAI's markup of 2022, as Qwen, Yi, Hermes, SmolLM and many others have it. */
static const char chatml[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/* Llama 3 Instruct (Meta 2024), without the dates and tools of 3.1 and later. */
static const char llama3[] =
    "{{ bos_token }}"
    "{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}" PROMPT("<|start_header_id|>assistant<|end_header_id|>\n\n");

/* Llama 2 Chat (Meta 2023): the system text stands in the first question. */
static const char llama2[] =
    SYSTEM_APART "{% for m in ns.rest %}" TAKE_TURNS "{% if m.role == 'user' %}"
                 "{{ bos_token }}[INST] "
                 "{% if loop.first and ns.system %}"
                 "{{ ('<<SYS>>\n' ~ ns.system ~ '\n<</SYS>>\n\n' ~ m.content).strip() }}"
                 "{% else %}{{ m.content.strip() }}{% endif %}"
                 " [/INST]"
                 "{% else %}" LEARNT(" {{ m.content.strip() }} {{ eos_token }}") "{% endif %}"
                                                                                 "{% endfor %}";

/* Mistral Instruct, the tokenizer's third version: the system text stands before the last
 * question, behind which there is at most its answer. */
static const char mistral[] = SYSTEM_APART
    "{{ bos_token }}"
    "{% for m in ns.rest %}" TAKE_TURNS "{% if m.role == 'user' %}"
    "[INST] {% if loop.revindex <= 2 and ns.system %}{{ ns.system ~ '\n\n' }}{% endif %}"
    "{{ m.content }}[/INST]"
    "{% else %}" LEARNT(" {{ m.content }}{{ eos_token }}") "{% endif %}"
                                                           "{% endfor %}";

/* Zephyr (Hugging Face H4, 2023), TinyLlama Chat, StableLM 2 Zephyr. */
static const char zephyr[] =
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}" PROMPT(
        "<|assistant|>\n");

/* Gemma and Gemma 2 (Google 2024) know no system text. */
static const char gemma[] = "{{ bos_token }}"
                            "{% if messages[0].role == 'system' %}"
                            "{{ raise_exception('Gemma knows no system message') }}"
                            "{% endif %}"
                            "{% for m in messages %}" TAKE_TURNS
                            "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
                            "{{ m.content | trim }}<end_of_turn>\n"
                            "{% endfor %}" PROMPT("<start_of_turn>model\n");

/* Phi-3 and Phi-3.5 (Microsoft 2024). */
static const char phi3[] =
    "{% for m in messages %}"
    "{% if m.role != 'system' or m.content %}"
    "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}";

const struct chat_builtin chat_builtins[] = {
    { "chatml", chatml }, { "llama3", llama3 }, { "llama2", llama2 }, { "mistral", mistral },
    { "zephyr", zephyr }, { "gemma", gemma },   { "phi3", phi3 },     { NULL, NULL },
};

const struct chat_builtin *chat_builtin_find(const char *name)
{
    for (const struct chat_builtin *b = chat_builtins; b->name; b++)
        if (!strcmp(b->name, name))
            return b;
    return NULL;
}
