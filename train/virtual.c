#include "train/virtual.h"

#include <string.h>

#include "core/file.h"

enum graft_status virtual_of(const struct adapter_config *c, const struct tokenizer *t,
                             struct virtual_tokens *out, struct graft_err *err)
{
    const struct prompt_config *p = &c->prompt; /* no tokens: another method */

    *out = (struct virtual_tokens){ 0 };
    if (!strcmp(c->method, "prefix")) {
        out->before = p->tokens;
    } else if (!p->placeholder) {
        out->front = p->tokens;
    } else {
        out->placed = p->tokens;
        if (!t)
            return graft_fail(err, GRAFT_EARG,
                              "adapter.placeholder: \"%s\" is looked up in the base's tokenizer, "
                              "and it has none",
                              p->placeholder);
        out->placeholder = tokenizer_id(t, p->placeholder, strlen(p->placeholder));
        if (out->placeholder < 0)
            return graft_fail(err, GRAFT_EARG,
                              "adapter.placeholder: \"%s\" is no token of the base's tokenizer",
                              p->placeholder);
    }
    return GRAFT_OK;
}

static enum graft_status encode(const struct tokenizer *t, const char *text, struct id_list *out,
                                struct graft_err *err)
{
    if (!t)
        return graft_fail(err, GRAFT_EARG,
                          "adapter.prompt_tuning_init_text wants a tokenizer, and the base has "
                          "none; tokenizer_name_or_path may name the folder of one");
    return tokenizer_encode(t, text, strlen(text), true, out, err);
}

enum graft_status virtual_text(const struct adapter_config *c, const struct text *text,
                               struct id_list *out, struct graft_err *err)
{
    const struct prompt_config *p = &c->prompt;
    const char *name = p->tokenizer;
    struct text other = { 0 };
    enum graft_status st;

    if (p->init != PROMPT_TEXT || !p->text)
        return GRAFT_OK;
    if (!name || !dir_exists(name)) {
        if (name && (!c->base_model_name_or_path || strcmp(name, c->base_model_name_or_path) != 0))
            graft_note("adapter.tokenizer_name_or_path: \"%s\" is no folder here; the tokenizer of "
                       "the base makes the tokens of prompt_tuning_init_text",
                       name);
        return encode(text->tokenizer, p->text, out, err);
    }
    st = text_open(name, &other, err);
    if (!st && !other.tokenizer)
        st = graft_fail(err, GRAFT_EARG, "adapter.tokenizer_name_or_path: %s has no tokenizer.json",
                        name);
    if (!st)
        st = encode(other.tokenizer, p->text, out, err);
    text_release(&other);
    return st;
}
