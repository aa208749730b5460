#include "train/changed.h"

#include <string.h>

#include "train/merge.h"

static const char note_name[] = "graft_base.json";

/* Every linear's codes and scales, behind the hash of the base they came from. */
void changed_base_rehash(struct base *b)
{
    struct sha256 sha;
    char hex[65];

    sha256_init(&sha);
    sha256_add(&sha, b->ck.hash, strlen(b->ck.hash));
    for (int i = 0; i < b->model->slots.count; i++) {
        const struct slot *s = &b->model->slots.slot[i];

        if (!s->own)
            continue;
        sha256_add(&sha, s->own->data, qmat_data_bytes(s->own));
        if (s->own->absmax8)
            sha256_add(&sha, s->own->absmax8,
                       (size_t)((qmat_elems(s->own) + s->own->block - 1) / s->own->block));
    }
    sha256_finish(&sha, hex);
    memcpy(b->ck.hash, hex, 16);
}

enum graft_status changed_base_write(const struct base *b, const struct base_change *c,
                                     const char *path, struct graft_err *err)
{
    json_t *o = json_pack("{s:s, s:s}", "changed_by", c->by, "changed_from", c->from);
    struct strbuf text = STRBUF_INIT;
    struct quantize_report report;
    enum graft_status st;

    if (!o)
        return graft_fail_nomem(err, note_name, 256);
    json_write_pretty(&text, o);
    st = base_write(b, note_name, strbuf_str(&text), path, &report, err);
    strbuf_release(&text);
    json_decref(o);
    return st;
}

enum graft_status changed_base_read(const struct checkpoint *ck, struct arena *mem,
                                    struct base_change *out, struct graft_err *err)
{
    const struct container_file *f =
        ck->kind == CHECKPOINT_CONTAINER ? container_find_file(&ck->container, note_name) : NULL;
    const char *by, *from;
    json_t *o = NULL;

    *out = (struct base_change){ NULL, NULL };
    if (!f)
        return GRAFT_OK;
    GRAFT_TRY(json_read(note_name, f->data, f->len, &o, err));
    by = json_string_value(json_object_get(o, "changed_by"));
    from = json_string_value(json_object_get(o, "changed_from"));
    out->by = arena_strdup(mem, by ? by : "?");
    out->from = arena_strdup(mem, from ? from : "?");
    json_decref(o);
    return out->by && out->from ? GRAFT_OK : graft_fail_nomem(err, note_name, 256);
}
