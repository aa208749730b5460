#include "train/merge_note.h"

#include <string.h>

#include "core/file.h"
#include "io/gguf_write.h"
#include "io/safetensors.h"

static const char key[] = "graft_merge", gguf_key[] = "graft.merge";
static const char single[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

static void file_in(const char *dir, const char *name, struct strbuf *out)
{
    strbuf_clear(out);
    path_join(out, dir, name);
}

/* Into the index, which knows of all shards; it is small. */
static enum graft_status write_index(const char *path, const char *text, struct graft_err *err)
{
    struct strbuf out = STRBUF_INIT;
    json_t *o = NULL, *meta;
    enum graft_status st = json_read_file(path, &o, err);

    if (!st) {
        meta = json_object_get(o, "metadata");
        if (!meta || json_object_set_new(meta, key, json_string(text)))
            st = graft_fail(err, GRAFT_EFORMAT, "%s: there is no metadata", path);
    }
    if (!st) {
        json_write_pretty(&out, o);
        st = file_write(path, strbuf_str(&out), out.len, err);
    }
    strbuf_release(&out);
    json_decref(o);
    return st;
}

enum graft_status merge_note_write(const char *path, const json_t *note, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT, file = STRBUF_INIT;
    enum graft_status st;

    json_write(&text, note);
    if (text.failed) {
        strbuf_release(&text);
        return graft_fail_nomem(err, "metadata", 1024);
    }
    if (!dir_exists(path)) {
        st = gguf_annotate(path, gguf_key, strbuf_str(&text), err);
    } else {
        file_in(path, index_name, &file);
        if (file_exists(strbuf_str(&file))) {
            st = write_index(strbuf_str(&file), strbuf_str(&text), err);
        } else {
            file_in(path, single, &file);
            st = safetensors_annotate(strbuf_str(&file), key, strbuf_str(&text), err);
        }
    }
    strbuf_release(&file);
    strbuf_release(&text);
    return st;
}

static enum graft_status read_gguf(const char *path, struct strbuf *out, struct graft_err *err)
{
    struct gguf g = { 0 };
    const char *text = NULL;
    enum graft_status st = gguf_open(path, &g, err);

    if (!st)
        st = gguf_str(&g, gguf_key, NULL, &text, err);
    if (text)
        strbuf_puts(out, text);
    gguf_release(&g);
    return st;
}

static enum graft_status read_index(const char *path, struct strbuf *out, struct graft_err *err)
{
    json_t *o = NULL;
    const char *text;
    enum graft_status st = json_read_file(path, &o, err);

    text = json_string_value(json_object_get(json_object_get(o, "metadata"), key));
    if (text)
        strbuf_puts(out, text);
    json_decref(o);
    return st;
}

enum graft_status merge_note_read(const char *path, json_t **out, struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT, file = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    *out = NULL;
    if (!dir_exists(path)) {
        if (gguf_is(path))
            st = read_gguf(path, &text, err);
    } else {
        file_in(path, index_name, &file);
        if (file_exists(strbuf_str(&file))) {
            st = read_index(strbuf_str(&file), &text, err);
        } else {
            file_in(path, single, &file);
            if (file_exists(strbuf_str(&file)))
                st = safetensors_metadata(strbuf_str(&file), key, &text, err);
        }
    }
    if (!st && text.len)
        st = json_read(path, strbuf_str(&text), text.len, out, err);
    strbuf_release(&file);
    strbuf_release(&text);
    return st;
}
