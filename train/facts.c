#include "train/facts.h"

#include <string.h>

#include "core/file.h"

static json_t *template_json(const struct facts *f)
{
    return f->template_name ? json_pack("{s:s, s:s?, s:s?}", "name", f->template_name, "sha256",
                                        f->template_hash, "date", f->template_date)
                            : json_null();
}

enum graft_status facts_write(const char *dir, const struct facts *f, json_t *quant,
                              struct graft_err *err)
{
    json_t *o =
        json_pack("{s:i, s:{s:s, s:s}, s:O, s:s, s:I, s:b, s:s, s:o, s:s}", "format_version",
                  FACTS_VERSION, "base", "path", f->base_path, "hash", f->base_hash, "quant", quant,
                  "compute", compute_names[f->compute], "max_length", (json_int_t)f->max_length,
                  "mask_prompt", f->mask_prompt, "train_on", train_on_names[f->train_on_last],
                  "template", template_json(f), "graft_version", graft_version());
    struct strbuf text = STRBUF_INIT, path = STRBUF_INIT;
    enum graft_status st;

    if (!o)
        return graft_fail_nomem(err, "graft.json", 1024);
    if (f->change.by) {
        json_object_set_new(json_object_get(o, "base"), "changed_by", json_string(f->change.by));
        json_object_set_new(json_object_get(o, "base"), "changed_from",
                            json_string(f->change.from));
    }
    json_write_pretty(&text, o);
    path_join(&path, dir, "graft.json");
    st = file_write(strbuf_str(&path), strbuf_str(&text), text.len, err);
    strbuf_release(&path);
    strbuf_release(&text);
    json_decref(o);
    return st;
}

json_t *facts_quant_json(const struct quant_config *q)
{
    if (q->mode != QUANT_TYPE)
        return json_string(q->mode == QUANT_NONE ? "none" : "auto");
    return json_pack("{s:s, s:i, s:b}", "type", qtypes[q->spec.type].name, "block", q->spec.block,
                     "double", q->spec.nested);
}

bool facts_same_quant(const struct quant_config *a, const struct quant_config *b)
{
    return a->mode == b->mode && (a->mode != QUANT_TYPE ||
                                  (a->spec.type == b->spec.type && a->spec.block == b->spec.block &&
                                   a->spec.nested == b->spec.nested));
}

enum graft_status facts_copy(const struct facts *f, const char *dir, struct graft_err *err)
{
    json_t *quant = facts_quant_json(&f->quant);
    const enum graft_status st =
        quant ? facts_write(dir, f, quant, err) : graft_fail_nomem(err, "graft.json", 256);

    json_decref(quant);
    return st;
}

static enum graft_status parse_quant(const char *path, const json_t *v, struct facts *f,
                                     struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    enum graft_status st;

    if (!v)
        return GRAFT_OK;
    if (json_is_string(v))
        strbuf_puts(&text, json_string_value(v));
    else
        json_write(&text, v);
    st = quant_config_parse(strbuf_str(&text), &f->quant, err);
    f->has_quant = !st;
    strbuf_release(&text);
    return st ? graft_fail_in(err, GRAFT_EFORMAT, "%s", path) : GRAFT_OK;
}

static enum graft_status parse_template(const char *path, const json_t *v, struct facts *f,
                                        struct graft_err *err)
{
    const char *name = json_string_value(json_object_get(v, "name"));
    const char *hash = json_string_value(json_object_get(v, "sha256"));
    const char *date = json_string_value(json_object_get(v, "date"));

    f->template_name = name ? arena_strdup(&f->mem, name) : NULL;
    f->template_hash = hash ? arena_strdup(&f->mem, hash) : NULL;
    f->template_date = date ? arena_strdup(&f->mem, date) : NULL;
    return date && chat_date_check(date, err) ? graft_fail_in(err, GRAFT_EFORMAT, "%s", path)
                                              : GRAFT_OK;
}

static enum graft_status parse(const char *path, const json_t *o, struct facts *f,
                               struct graft_err *err)
{
    const json_t *base = json_object_get(o, "base");
    const char *hash = json_string_value(json_object_get(base, "hash"));
    const char *base_path = json_string_value(json_object_get(base, "path"));
    const char *compute = json_string_value(json_object_get(o, "compute"));
    const char *by = json_string_value(json_object_get(base, "changed_by"));
    const char *from = json_string_value(json_object_get(base, "changed_from"));
    const char *train_on = json_string_value(json_object_get(o, "train_on"));
    const json_int_t version = json_integer_value(json_object_get(o, "format_version"));

    if (version < 1 || version > FACTS_VERSION)
        return graft_fail(err, GRAFT_EFORMAT, "%s: format_version is %lld, this build reads %d",
                          path, (long long)version, FACTS_VERSION);
    f->known = true;
    if (hash)
        memcpy(f->base_hash, hash, strnlen(hash, 16));
    f->base_path = base_path ? arena_strdup(&f->mem, base_path) : NULL;
    f->change.by = by ? arena_strdup(&f->mem, by) : NULL;
    f->change.from = from ? arena_strdup(&f->mem, from) : NULL;
    for (int i = 0; compute && compute_names[i]; i++)
        if (!strcmp(compute, compute_names[i]))
            f->compute = i;
    f->max_length = json_integer_value(json_object_get(o, "max_length"));
    f->mask_prompt = !json_is_false(json_object_get(o, "mask_prompt"));
    f->train_on_last = train_on && !strcmp(train_on, train_on_names[1]);
    GRAFT_TRY(parse_template(path, json_object_get(o, "template"), f, err));
    return parse_quant(path, json_object_get(o, "quant"), f, err);
}

enum graft_status facts_read(const char *dir, struct facts *out, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    struct facts f = { .mask_prompt = true };
    json_t *o = NULL;
    enum graft_status st = GRAFT_OK;

    path_join(&path, dir, "graft.json");
    if (path.failed)
        st = graft_fail_nomem(err, "graft.json", strlen(dir));
    else if (file_exists(strbuf_str(&path))) {
        st = json_read_file(strbuf_str(&path), &o, err);
        if (!st)
            st = parse(strbuf_str(&path), o, &f, err);
        json_decref(o);
    }
    strbuf_release(&path);
    if (st)
        facts_release(&f);
    else
        *out = f;
    return st;
}

void facts_release(struct facts *f)
{
    arena_release(&f->mem);
    f->base_path = f->template_name = f->template_hash = f->template_date = NULL;
    f->change = (struct base_change){ NULL, NULL };
}

enum graft_status facts_check(const char *who, const struct facts *f, const struct checkpoint *ck,
                              struct graft_err *err)
{
    if (!f->change.by || !strcmp(f->base_hash, ck->hash))
        return GRAFT_OK;
    return graft_fail(
        err, GRAFT_EARG,
        "adapter %s goes with the base that %s changed for it, and with no other: use "
        "--base %s (hash %s; this one is %s, hash %s)",
        who, f->change.by, f->base_path ? f->base_path : "?", f->base_hash, ck->path, ck->hash);
}

void facts_compare(const char *who, const struct facts *f, const char *base_name,
                   const struct checkpoint *ck)
{
    const char *name = ck->config.name;

    if (f->known && strcmp(f->base_hash, ck->hash) != 0)
        graft_note("adapter %s was trained over another base (%s, hash %s; this one is %s); shapes "
                   "are checked, meaning cannot be",
                   who, f->base_path ? f->base_path : "?", f->base_hash, ck->hash);
    else if (!f->known && base_name && name && *name && strcmp(base_name, name) != 0)
        graft_note("adapter %s was trained over \"%s\", this base calls itself \"%s\"; shapes are "
                   "checked, meaning cannot be",
                   who, base_name, name);
}

void facts_data_opts(const struct facts *f, struct dataset_opts *o)
{
    o->max_length = f->max_length;
    o->mask_prompt = f->mask_prompt;
    o->train_on_last = f->train_on_last;
}
