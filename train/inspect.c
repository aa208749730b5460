#include "train/inspect.h"

#include <string.h>

#include "core/file.h"
#include "io/safetensors.h"
#include "models/arch.h"
#include "models/checkpoint.h"
#include "peft/adapter.h"
#include "train/facts.h"
#include "train/merge_note.h"

static bool folder_has(const char *dir, const char *name)
{
    struct strbuf path = STRBUF_INIT;
    bool there;

    path_join(&path, dir, name);
    there = file_exists(strbuf_str(&path));
    strbuf_release(&path);
    return there;
}

static json_t *shape_json(const struct stored_tensor *t)
{
    json_t *list = json_array();

    for (int i = 0; i < t->ndim; i++)
        json_array_append_new(list, json_integer(t->dim[i]));
    return list;
}

/* Tensors, their number by type, parameters and bytes, into `o`. */
static void add_tensors(json_t *o, const struct store *s)
{
    json_t *tensors = json_object(), *types = json_object();
    json_int_t elems = 0, bytes = 0;

    for (int64_t i = 0; i < s->count; i++) {
        const struct stored_tensor *t = &s->tensor[i];
        const char *type = qtypes[t->mat.type].name;

        json_object_set_new(tensors, t->name,
                            json_pack("{s:o, s:s, s:I}", "shape", shape_json(t), "dtype", type,
                                      "bytes", (json_int_t)t->bytes));
        json_object_set_new(types, type,
                            json_integer(json_integer_value(json_object_get(types, type)) + 1));
        elems += qmat_elems(&t->mat);
        bytes += (json_int_t)qmat_bytes(&t->mat);
    }
    json_object_set_new(o, "parameters", json_integer(elems));
    json_object_set_new(o, "bytes", json_integer(bytes));
    json_object_set_new(o, "dtypes", types);
    json_object_set_new(o, "tensors", tensors);
}

static void add_model(json_t *o, const struct model_config *c)
{
    json_object_set_new(o, "architecture", json_string(c->model_type));
    json_object_set_new(o, "layers", json_integer(c->layers));
    json_object_set_new(o, "hidden_size", json_integer(c->hidden));
    json_object_set_new(o, "vocab_size", json_integer(c->vocab));
    json_object_set_new(o, "context", json_integer(c->max_positions));
    json_object_set_new(o, "tied_head", json_boolean(c->tied));
    if (c->name)
        json_object_set_new(o, "name", json_string(c->name));
}

static enum graft_status inspect_base(const char *path, json_t *o, struct graft_err *err)
{
    struct checkpoint c;
    json_t *note = NULL;
    enum graft_status st;

    GRAFT_TRY(checkpoint_open(path, true, &c, err));
    json_object_set_new(o, "kind",
                        json_string(c.kind == CHECKPOINT_CONTAINER ? "container" : "checkpoint"));
    json_object_set_new(o, "format", json_string(c.store->format));
    json_object_set_new(o, "hash", json_string(c.hash));
    add_model(o, &c.config);
    st = merge_note_read(path, &note, err);
    if (note)
        json_object_set_new(o, "merge", note);
    add_tensors(o, c.store);
    if (!st && c.kind == CHECKPOINT_CONTAINER) {
        st = container_verify(&c.container, err);
        json_object_set_new(o, "checksums", json_string("verified"));
    }
    checkpoint_release(&c);
    return st;
}

static enum graft_status add_json_file(json_t *o, const char *key, const char *dir,
                                       const char *name, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    json_t *v = NULL;
    enum graft_status st = GRAFT_OK;

    path_join(&path, dir, name);
    if (file_exists(strbuf_str(&path)))
        st = json_read_file(strbuf_str(&path), &v, err);
    if (v)
        json_object_set_new(o, key, v);
    strbuf_release(&path);
    return st;
}

static enum graft_status inspect_adapter(const char *dir, json_t *o, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    struct store s = { 0 };
    enum graft_status st;

    json_object_set_new(o, "kind",
                        json_string(folder_has(dir, "metrics.jsonl") ? "run" : "adapter"));
    st = add_json_file(o, "config", dir, "adapter_config.json", err);
    if (!st)
        st = add_json_file(o, "graft", dir, "graft.json", err);
    if (!st)
        st = add_json_file(o, "result", dir, "result.json", err);
    path_join(&path, dir, "adapter_model.safetensors");
    if (!st && (file_exists(strbuf_str(&path)) || !folder_has(dir, "metrics.jsonl"))) {
        st = adapter_open(dir, &s, err);
        if (!st)
            add_tensors(o, &s);
        store_release(&s);
    }
    if (!st)
        json_object_set(o, "architecture",
                        json_object_get(json_object_get(o, "config"), "peft_type"));
    strbuf_release(&path);
    return st;
}

static enum graft_status inspect_file(const char *path, json_t *o, struct graft_err *err)
{
    struct store s = { 0 };

    GRAFT_TRY(safetensors_open(path, &s, err));
    json_object_set_new(o, "kind", json_string("checkpoint"));
    json_object_set_new(o, "format", json_string(s.format));
    json_object_set_new(o, "architecture", json_null());
    add_tensors(o, &s);
    store_release(&s);
    return GRAFT_OK;
}

/* A GGUF adapter is no base: its own keys and tensors. */
static enum graft_status inspect_gguf(const char *path, json_t *o, struct graft_err *err)
{
    static const char *const texts[] = { "general.architecture", "adapter.type" };
    static const char *const keys[] = { "architecture", "method" };
    struct gguf g = { 0 };
    const char *s = NULL, *type = NULL;
    double alpha = 0;
    enum graft_status st = gguf_open(path, &g, err);

    if (!st)
        st = gguf_str(&g, "general.type", "model", &type, err);
    if (!st && strcmp(type, "adapter") != 0) {
        gguf_release(&g);
        return inspect_base(path, o, err);
    }
    json_object_set_new(o, "kind", json_string("adapter"));
    json_object_set_new(o, "format", json_string("gguf"));
    for (int i = 0; i < 2 && !st; i++) {
        st = gguf_str(&g, texts[i], "", &s, err);
        if (!st)
            json_object_set_new(o, keys[i], json_string(s));
    }
    if (!st)
        st = gguf_float(&g, "adapter.lora.alpha", 0, &alpha, err);
    if (!st) {
        json_object_set_new(o, "alpha", json_number(alpha));
        add_tensors(o, &g.store);
    }
    gguf_release(&g);
    return st;
}

static bool may_be_base(const char *path)
{
    return dir_exists(path) ? folder_has(path, "config.json") : gguf_is(path) || container_is(path);
}

enum graft_status inspect_path(const char *path, json_t **out, struct graft_err *err)
{
    json_t *o = json_pack("{s:s}", "path", path);
    const char *dot = strrchr(path, '.');
    enum graft_status st;

    if (!o)
        return graft_fail(err, GRAFT_EARG, "the path is not UTF-8");
    if (dir_exists(path) &&
        (folder_has(path, "adapter_config.json") || folder_has(path, "metrics.jsonl")))
        st = inspect_adapter(path, o, err);
    else if (!dir_exists(path) && dot && !strcmp(dot, ".safetensors"))
        st = inspect_file(path, o, err);
    else if (gguf_is(path))
        st = inspect_gguf(path, o, err);
    else if (may_be_base(path) || !(dir_exists(path) || file_exists(path)))
        st = inspect_base(path, o, err);
    else
        st = graft_fail(err, GRAFT_EFORMAT,
                        "%s: nothing that graft knows: wanted a folder with config.json (a "
                        "checkpoint), with adapter_config.json (an adapter) or with metrics.jsonl "
                        "(a run), or a GGUF, .safetensors or .h5 file",
                        path);
    if (st)
        json_decref(o);
    else
        *out = o;
    return st;
}
