/* The post-processor: the ids that are put around one sequence. */
#include <string.h>

#include "data/tokenizer_impl.h"
#include "data/tokenizer_part.h"

static enum graft_status add_id(const struct tokenizer *t, struct id_list *l, const json_t *v,
                                const char *part, struct graft_err *err)
{
    const json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;

    if (id < 0 || id >= t->vocab.size)
        return graft_fail(err, GRAFT_EFORMAT,
                          "post-processor %s: an id that is not in the vocabulary", part);
    return id_list_add(l, (int32_t)id, err);
}

/* Put the new ids outside of those that inner post-processors have put. */
static enum graft_status wrap(struct tokenizer *t, struct id_list *before, struct id_list *after,
                              struct graft_err *err)
{
    struct id_list inner = t->before;
    enum graft_status st = GRAFT_OK;

    for (int64_t i = 0; i < inner.count && !st; i++)
        st = id_list_add(before, inner.id[i], err);
    for (int64_t i = 0; i < after->count && !st; i++)
        st = id_list_add(&t->after, after->id[i], err);
    if (st)
        return st;
    t->before = *before;
    *before = inner;
    return GRAFT_OK;
}

static enum graft_status template_piece(const struct tokenizer *t, const json_t *piece,
                                        const json_t *specials, struct id_list *to, bool *sequence,
                                        struct graft_err *err)
{
    const char *part = "TemplateProcessing";
    const json_t *special = json_object_get(piece, "SpecialToken");
    const json_t *seq = json_object_get(piece, "Sequence");
    const char *id = json_string_value(json_object_get(special ? special : seq, "id"));
    const json_t *ids;

    *sequence = false;
    if (!id)
        return graft_fail(err, GRAFT_EFORMAT,
                          "post-processor %s: a piece is neither SpecialToken nor Sequence", part);
    if (seq && !special) {
        *sequence = true;
        return strcmp(id, "A") == 0
                   ? GRAFT_OK
                   : graft_fail(err, GRAFT_EFORMAT,
                                "post-processor %s: \"single\" names the sequence \"%.20s\"", part,
                                id);
    }
    ids = json_object_get(json_object_get(specials, id), "ids");
    if (!json_is_array(ids))
        return graft_fail(err, GRAFT_EFORMAT,
                          "post-processor %s: \"%.40s\" is not among the special_tokens", part, id);
    for (size_t i = 0; i < json_array_size(ids); i++)
        GRAFT_TRY(add_id(t, to, json_array_get(ids, i), part, err));
    return GRAFT_OK;
}

static enum graft_status read_template(const struct tokenizer *t, const json_t *o,
                                       struct id_list *before, struct id_list *after,
                                       struct graft_err *err)
{
    const json_t *single = json_object_get(o, "single");
    const json_t *specials = json_object_get(o, "special_tokens");
    int sequences = 0;

    for (size_t i = 0; i < json_array_size(single); i++) {
        bool sequence;

        GRAFT_TRY(template_piece(t, json_array_get(single, i), specials, sequences ? after : before,
                                 &sequence, err));
        sequences += sequence;
    }
    if (sequences != 1)
        return graft_fail(
            err, GRAFT_EFORMAT,
            "post-processor TemplateProcessing: \"single\" must hold the sequence once, "
            "not %d times",
            sequences);
    return GRAFT_OK;
}

/* {"cls": ["<s>", 0], "sep": ["</s>", 2]} */
static enum graft_status read_pair(const struct tokenizer *t, const json_t *o, const char *type,
                                   struct id_list *before, struct id_list *after,
                                   struct graft_err *err)
{
    GRAFT_TRY(add_id(t, before, json_array_get(json_object_get(o, "cls"), 1), type, err));
    return add_id(t, after, json_array_get(json_object_get(o, "sep"), 1), type, err);
}

static enum graft_status add_post(void *user, const json_t *o, const char *type,
                                  struct graft_err *err)
{
    struct tokenizer *t = user;
    struct id_list before = { 0 }, after = { 0 };
    enum graft_status st = GRAFT_OK;

    if (strcmp(type, "TemplateProcessing") == 0)
        st = read_template(t, o, &before, &after, err);
    else if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0)
        st = read_pair(t, o, type, &before, &after, err);
    else if (strcmp(type, "ByteLevel") != 0) /* ByteLevel changes offsets only */
        st = graft_fail(err, GRAFT_EFORMAT, "post-processor \"%.60s\" is not supported", type);
    if (!st)
        st = wrap(t, &before, &after, err);
    id_list_release(&before);
    id_list_release(&after);
    return st;
}

enum graft_status post_init(struct tokenizer *t, const json_t *o, struct graft_err *err)
{
    return part_walk(o, "post_processor", "processors", add_post, t, err);
}
