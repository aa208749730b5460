/* A Hugging Face folder: one model.safetensors, or shards and the index that lists them. */
#include "io/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "io/safetensors_header.h"

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);

    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* What is there instead, for the message. A pickle is a program; it is never read. */
static enum graft_status refuse_folder(const char *dir, struct graft_err *err)
{
    struct shown pickle = { { 0 } }, other = { { 0 } };
    DIR *d = opendir(dir);

    if (!d)
        return graft_fail(err, GRAFT_EIO, "%s: %s", dir, strerror(errno));
    for (const struct dirent *e; (e = readdir(d));) {
        const char *n = e->d_name;

        if (ends_with(n, ".safetensors"))
            show_bytes(&other, n, strlen(n));
        if (!ends_with(n, ".bin") && !ends_with(n, ".pt") && !ends_with(n, ".pth"))
            continue;
        if (!pickle.text[0] || strncmp(n, "pytorch_model", 13) == 0)
            show_bytes(&pickle, n, strlen(n));
    }
    closedir(d);
    if (other.text[0])
        return graft_fail(err, GRAFT_EIO, "%s: found %s, wanted %s or %s", dir, other.text,
                          single_name, index_name);
    if (pickle.text[0])
        return graft_fail(
            err, GRAFT_EFORMAT,
            "%s: holds its weights only as a pickle (%s), which is not read because it can run "
            "code; convert it to safetensors with transformers: "
            "AutoModelForCausalLM.from_pretrained(\"%s\").save_pretrained(\"NEW\", "
            "safe_serialization=True)",
            dir, pickle.text, dir);
    return graft_fail(err, GRAFT_EIO, "%s: neither %s nor %s is there", dir, single_name,
                      index_name);
}

/* A shard is a plain name in the folder itself: an index may not lead out of it. */
static enum graft_status check_shard(const char *index, const char *tensor, const json_t *v,
                                     struct graft_err *err)
{
    const char *s = json_string_value(v);
    const size_t len = s ? json_string_length(v) : 0;

    if (!s)
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: weight_map of tensor \"%s\": wanted the name of a shard", index,
                          SHOW(tensor));
    if (len != strlen(s) || strpbrk(s, "/\\") || s[0] == '.' || !ends_with(s, ".safetensors"))
        return graft_fail(err, GRAFT_EFORMAT,
                          "%s: weight_map of tensor \"%s\": found \"%s\", wanted the name of a "
                          ".safetensors file in the same folder",
                          index, SHOW(tensor), SHOW_BYTES(s, len));
    return GRAFT_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct shards of weight_map, sorted; *out is from mem_alloc. */
static enum graft_status list_shards(const char *index, json_t *weight_map, const char ***out,
                                     int64_t *count, struct graft_err *err)
{
    const size_t n = json_object_size(weight_map);
    const char **list = mem_array(n, sizeof *list);
    const char *tensor;
    json_t *v;
    int64_t k = 0;

    if (!list)
        return graft_fail_nomem(err, index, n * sizeof *list);
    json_object_foreach(weight_map, tensor, v)
    {
        const enum graft_status st = check_shard(index, tensor, v, err);

        if (st) {
            mem_free(list);
            return st;
        }
        list[k++] = json_string_value(v);
    }
    if (n)
        qsort(list, n, sizeof *list, by_text);
    k = n > 0;
    for (size_t i = 1; i < n; i++)
        if (strcmp(list[i], list[k - 1]) != 0)
            list[k++] = list[i];
    *out = list;
    *count = k;
    return GRAFT_OK;
}

/* Some tensor that the index puts into `shard`. */
static const char *tensor_of(json_t *weight_map, const char *shard)
{
    const char *tensor;
    json_t *v;

    json_object_foreach(weight_map, tensor, v)
    {
        if (strcmp(json_string_value(v), shard) == 0)
            return tensor;
    }
    return "";
}

static enum graft_status read_shard(struct store_build *b, const char *dir, json_t *weight_map,
                                    const char *shard, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    struct mapped_file m;
    char *kept = NULL;
    enum graft_status st;

    path_join(&path, dir, shard);
    if (!path.failed)
        kept = arena_strdup(&b->s.mem, strbuf_str(&path));
    strbuf_release(&path);
    if (!kept)
        return graft_fail_nomem(err, shard, strlen(dir) + strlen(shard));
    if (!file_exists(kept))
        return graft_fail(err, GRAFT_EIO,
                          "%s: this shard is missing; %s says that it holds tensor \"%s\"", kept,
                          index_name, SHOW(tensor_of(weight_map, shard)));
    st = build_map(b, kept, &m, err);
    return st ? st : st_file_read(b, kept, m.data, m.size, err);
}

/* Index and shards have to agree both ways. */
static enum graft_status check_index(const struct store *s, const char *index, json_t *weight_map,
                                     struct graft_err *err)
{
    const char *tensor;
    json_t *v;

    for (int64_t i = 0; i < s->count; i++) {
        const struct stored_tensor *t = &s->tensor[i];
        const char *said = json_string_value(json_object_get(weight_map, t->name));

        if (!said)
            return graft_fail(err, GRAFT_EFORMAT, "%s: tensor \"%s\" is not in %s", t->file,
                              SHOW(t->name), index_name);
        if (strcmp(said, path_base(t->file)) != 0)
            return graft_fail(err, GRAFT_EFORMAT, "%s: holds tensor \"%s\", which %s puts into %s",
                              t->file, SHOW(t->name), index_name, SHOW(said));
    }
    json_object_foreach(weight_map, tensor, v)
    {
        if (!store_find(s, tensor))
            return graft_fail(err, GRAFT_EFORMAT, "%s: tensor \"%s\" is not in %s", index,
                              SHOW(tensor), SHOW(json_string_value(v)));
    }
    return GRAFT_OK;
}

static enum graft_status read_shards(const char *dir, const char *index, json_t *weight_map,
                                     const char *const *shard, int64_t count, struct store *out,
                                     struct graft_err *err)
{
    struct store_build b;
    struct store s = { 0 };
    enum graft_status st;

    if (count > 100000)
        return graft_fail(err, GRAFT_EFORMAT, "%s: lists %lld shards, at most 100000 are allowed",
                          index, (long long)count);
    GRAFT_TRY(build_begin(&b, dir, "safetensors", (int)count, err));
    st = GRAFT_OK;
    for (int64_t i = 0; !st && i < count; i++)
        st = read_shard(&b, dir, weight_map, shard[i], err);
    if (st) {
        build_release(&b);
        return st;
    }
    GRAFT_TRY(build_finish(&b, &s, err));
    st = check_index(&s, index, weight_map, err);
    if (st)
        store_release(&s);
    else
        *out = s;
    return st;
}

static enum graft_status open_sharded(const char *dir, const char *index, struct store *out,
                                      struct graft_err *err)
{
    json_t *root = NULL, *weight_map;
    const char **shard = NULL;
    int64_t count = 0;
    enum graft_status st;

    GRAFT_TRY(json_read_file(index, &root, err));
    weight_map = json_object_get(root, "weight_map");
    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0)
        st = graft_fail(err, GRAFT_EFORMAT,
                        "%s: wanted an object \"weight_map\" from tensor names to shards", index);
    else
        st = list_shards(index, weight_map, &shard, &count, err);
    if (!st)
        st = read_shards(dir, index, weight_map, shard, count, out, err);
    mem_free(shard);
    json_decref(root);
    return st;
}

enum graft_status safetensors_open_folder(const char *dir, struct store *out, struct graft_err *err)
{
    struct strbuf single = STRBUF_INIT, index = STRBUF_INIT;
    enum graft_status st;

    path_join(&single, dir, single_name);
    path_join(&index, dir, index_name);
    if (single.failed || index.failed)
        st = graft_fail_nomem(err, dir, strlen(dir));
    else if (file_exists(single.buf))
        st = safetensors_open(single.buf, out, err);
    else if (file_exists(index.buf))
        st = open_sharded(dir, index.buf, out, err);
    else
        st = refuse_folder(dir, err);
    strbuf_release(&single);
    strbuf_release(&index);
    return st;
}
