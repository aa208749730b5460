#include "models/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "models/arch.h"

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), t = strlen(tail);

    return n >= t && !strcmp(s + n - t, tail);
}

/* A folder without config.json: what it may be instead. */
static enum graft_status no_config(const char *dir, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    bool adapter;

    path_join(&path, dir, "adapter_config.json");
    adapter = file_exists(strbuf_str(&path));
    strbuf_release(&path);
    return graft_fail(err, GRAFT_EIO, "%s: %s", dir,
                      adapter ? "an adapter, not a base: there is no config.json in it"
                              : "no Hugging Face checkpoint: there is no config.json in it");
}

static enum graft_status open_folder(struct checkpoint *c, bool weights, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    json_t *json = NULL;
    enum graft_status st;

    path_join(&path, c->path, "config.json");
    st = path.failed || file_exists(strbuf_str(&path))
             ? json_read_file(strbuf_str(&path), &json, err)
             : no_config(c->path, err);
    if (!st)
        st = model_config_from_json(strbuf_str(&path), json, &c->mem, &c->config, err);
    json_decref(json);
    strbuf_release(&path);
    if (!st && weights)
        st = safetensors_open_folder(c->path, &c->folder, err);
    c->store = &c->folder;
    return st;
}

static enum graft_status open_gguf(struct checkpoint *c, struct graft_err *err)
{
    GRAFT_TRY(gguf_open(c->path, &c->gguf, err));
    c->store = &c->gguf.store;
    return model_config_from_gguf(&c->gguf, &c->mem, &c->config, err);
}

static enum graft_status open_container(struct checkpoint *c, struct graft_err *err)
{
    const struct container_file *f;
    json_t *json = NULL;
    enum graft_status st;

    GRAFT_TRY(container_open(c->path, &c->container, err));
    c->store = &c->container.store;
    f = container_find_file(&c->container, "config.json");
    if (!f)
        return graft_fail(err, GRAFT_EFORMAT, "%s: the container holds no config.json", c->path);
    st = json_read(c->path, f->data, f->len, &json, err);
    if (!st)
        st = model_config_from_json(c->path, json, &c->mem, &c->config, err);
    json_decref(json);
    return st;
}

/* A fingerprint, not a proof: names, types, shapes and the first and last 4 KiB of every tensor. It
 * tells bases apart in milliseconds, whatever their size. */
static enum graft_status fingerprint(struct checkpoint *c, struct graft_err *err)
{
    enum { EDGE = 4096 };
    struct strbuf text = STRBUF_INIT;
    char hex[65];

    for (int64_t i = 0; i < c->store->count; i++) {
        const struct stored_tensor *t = &c->store->tensor[i];
        const size_t edge = t->bytes < EDGE ? t->bytes : EDGE;
        char head[65], tail[65];

        sha256_hex(t->mat.data, edge, head);
        sha256_hex((const char *)t->mat.data + t->bytes - edge, edge, tail);
        strbuf_printf(&text, "%s %s %lld %lld %s %s\n", t->name, qtypes[t->mat.type].name,
                      (long long)t->mat.rows, (long long)t->mat.cols, head, tail);
    }
    sha256_hex(strbuf_str(&text), text.len, hex);
    memcpy(c->hash, hex, 16);
    c->hash[16] = '\0';
    if (text.failed) {
        strbuf_release(&text);
        return graft_fail_nomem(err, c->path, 0);
    }
    strbuf_release(&text);
    return GRAFT_OK;
}

enum graft_status checkpoint_open(const char *path, bool weights, struct checkpoint *out,
                                  struct graft_err *err)
{
    struct checkpoint *c = out;
    enum graft_status st;

    memset(c, 0, sizeof *c);
    c->path = arena_strdup(&c->mem, path);
    if (!c->path)
        return graft_fail_nomem(err, path, strlen(path));
    if (dir_exists(path)) {
        c->kind = CHECKPOINT_FOLDER;
        st = open_folder(c, weights, err);
    } else if (gguf_is(path)) {
        c->kind = CHECKPOINT_GGUF;
        st = open_gguf(c, err);
    } else if (container_is(path)) {
        c->kind = CHECKPOINT_CONTAINER;
        st = open_container(c, err);
    } else if (!file_exists(path)) {
        st = graft_fail(err, GRAFT_EIO, "%s: no such file or folder", path);
    } else {
        st = graft_fail(
            err, GRAFT_EFORMAT,
            "%s: not a base: wanted a Hugging Face folder, a GGUF file or a .h5 container%s", path,
            ends_with(path, ".safetensors") ? " (name the folder it is in)" : "");
    }
    if (!st && weights)
        st = fingerprint(c, err);
    if (!st && c->kind == CHECKPOINT_CONTAINER && c->container.base_hash)
        memcpy(c->hash, c->container.base_hash,
               strnlen(c->container.base_hash, sizeof c->hash - 1) + 1);
    if (st)
        checkpoint_release(c);
    return st;
}

void checkpoint_release(struct checkpoint *c)
{
    store_release(&c->folder);
    gguf_release(&c->gguf);
    container_release(&c->container);
    arena_release(&c->mem);
}

bool gguf_name(const struct arch *a, const char *name, char out[128])
{
    const char *dot = strrchr(name, '.');
    const size_t prefix = strlen(a->layer_prefix);
    char module[128];
    char *end;
    long layer;

    if (!dot || (size_t)(dot - name) >= sizeof module)
        return false;
    memcpy(module, name, (size_t)(dot - name));
    module[dot - name] = '\0';
    if (!strcmp(module, a->embed))
        return snprintf(out, 128, "token_embd%s", dot) > 0;
    if (!strcmp(module, a->final_norm))
        return snprintf(out, 128, "output_norm%s", dot) > 0;
    if (!strcmp(module, a->head))
        return snprintf(out, 128, "output%s", dot) > 0;
    if (strncmp(module, a->layer_prefix, prefix) != 0 || module[prefix] != '.')
        return false;
    layer = strtol(module + prefix + 1, &end, 10);
    if (*end++ != '.')
        return false;
    for (int i = 0; i < LIN_COUNT; i++)
        if (!strcmp(end, a->linear[i]))
            return snprintf(out, 128, "blk.%ld.%s%s", layer, gguf_linear_names[i], dot) > 0;
    if (!strcmp(end, a->attn_norm))
        return snprintf(out, 128, "blk.%ld.attn_norm%s", layer, dot) > 0;
    if (!strcmp(end, a->ffn_norm))
        return snprintf(out, 128, "blk.%ld.ffn_norm%s", layer, dot) > 0;
    if (a->q_norm && !strcmp(end, a->q_norm))
        return snprintf(out, 128, "blk.%ld.attn_q_norm%s", layer, dot) > 0;
    if (a->k_norm && !strcmp(end, a->k_norm))
        return snprintf(out, 128, "blk.%ld.attn_k_norm%s", layer, dot) > 0;
    return false;
}

const struct stored_tensor *checkpoint_find(const struct checkpoint *c, const char *name)
{
    char other[128];

    if (c->kind != CHECKPOINT_GGUF)
        return store_find(c->store, name);
    return gguf_name(c->config.arch, name, other) ? store_find(c->store, other) : NULL;
}

int64_t gguf_permutes(const struct model_config *c, const char *name)
{
    const struct arch *a = c->arch;

    if (!a->gguf_permutes_qk)
        return 0;
    return strstr(name, a->linear[LIN_Q]) || strstr(name, a->linear[LIN_K]) ? c->head_dim : 0;
}

int64_t checkpoint_rows_permuted(const struct checkpoint *c, const char *name)
{
    return c->kind == CHECKPOINT_GGUF ? gguf_permutes(&c->config, name) : 0;
}

const char *gguf_architecture(const struct model_config *c)
{
    return c->arch->gguf_as ? c->arch->gguf_as : c->arch->gguf;
}

/* Left over from training or from older writers; they carry nothing a model needs. */
static bool harmless(const char *name)
{
    return ends_with(name, ".rotary_emb.inv_freq") || !strcmp(name, "rope_freqs.weight");
}

enum graft_status checkpoint_check_names(const struct checkpoint *c, const char *const *known,
                                         int64_t count, struct graft_err *err)
{
    const char **file_name = mem_array((size_t)count, sizeof *file_name);
    struct strbuf list = STRBUF_INIT;
    int64_t extra = 0;

    if (!file_name)
        return graft_fail_nomem(err, "tensor names", (size_t)count * sizeof *file_name);
    for (int64_t i = 0; i < count; i++) {
        const struct stored_tensor *t = checkpoint_find(c, known[i]);

        file_name[i] = t ? t->name : "";
    }
    for (int64_t i = 0; i < c->store->count; i++) {
        const char *name = c->store->tensor[i].name;
        bool found = harmless(name);

        for (int64_t k = 0; k < count && !found; k++)
            found = file_name[k] == name;
        if (!found && extra++ < 8)
            strbuf_printf(&list, "\n  %s", name);
    }
    mem_free(file_name);
    if (extra)
        graft_fail(err, GRAFT_EFORMAT,
                   "%s: %lld tensors have no place in a %s model as its config says:%s%s", c->path,
                   (long long)extra, c->config.model_type, strbuf_str(&list),
                   extra > 8 ? "\n  ..." : "");
    strbuf_release(&list);
    return extra ? GRAFT_EFORMAT : GRAFT_OK;
}

enum graft_status checkpoint_config_json(const struct checkpoint *c, json_t **out,
                                         struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    const struct container_file *f;
    enum graft_status st = GRAFT_OK;

    switch (c->kind) {
    case CHECKPOINT_FOLDER:
        path_join(&path, c->path, "config.json");
        st = json_read_file(strbuf_str(&path), out, err);
        strbuf_release(&path);
        break;
    case CHECKPOINT_CONTAINER:
        f = container_find_file(&c->container, "config.json");
        st = json_read(c->path, f->data, f->len, out, err);
        break;
    case CHECKPOINT_GGUF:
        *out = model_config_to_json(&c->config);
        st = *out ? GRAFT_OK : graft_fail_nomem(err, "config.json", 4096);
        break;
    }
    return st;
}
