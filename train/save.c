/* What a run leaves in a folder: an adapter, or the checkpoint of a method that trains every
 * weight. */
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "train/facts.h"
#include "train/merge.h"
#include "train/output.h"
#include "train/setup.h"

/* The template's hash goes to `hash`, which f borrows. */
static void note_template(const struct run *r, char hash[65], struct facts *f)
{
    const struct chat *chat = r->base.text.chat;
    struct sha256 sha;

    if (!chat)
        return;
    sha256_init(&sha);
    chat_hash(chat, &sha);
    sha256_finish(&sha, hash);
    f->template_name = r->config->data.template_name;
    f->template_hash = hash;
    f->template_date = chat_date(chat);
}

/* An adapter that does not say what it was trained over would be used over anything, and graft.json
 * without a model is the half of one: where the disk was full before `last`, the file that makes it
 * whole, what was written goes, and the folder if it was its. */
static void take_back(const char *dir, const char *last)
{
    struct strbuf path = STRBUF_INIT;

    path_join(&path, dir, last);
    if (!path.failed && !file_exists(strbuf_str(&path))) {
        adapter_files_remove(dir);
        rmdir(dir); /* stays when a run has more in it */
    }
    strbuf_release(&path);
}

enum graft_status run_save(struct run *r, const char *dir, struct graft_err *err)
{
    const struct run_config *c = r->config;
    const bool whole = adapter_is_whole(&c->adapter);
    struct facts f = { .base_path = r->base_path,
                       .change = r->change,
                       .compute = c->compute == COMPUTE_AUTO ? COMPUTE_F32 : c->compute,
                       .max_length = c->data.max_length,
                       .mask_prompt = c->data.mask_prompt,
                       .train_on_last = c->data.train_on_last };
    json_t *quant = base_quant_json(&r->base);
    enum graft_status st = dir_make(dir, err);
    char hash[65];

    memcpy(f.base_hash, r->base.ck.hash, sizeof f.base_hash);
    note_template(r, hash, &f);
    /* The tokenizer, which may be large, before the adapter: where the disk is full, a former
     * adapter stays. A folder with graft.json and no adapter is taken for a checkpoint of ours
     * (train/output.c). */
    if (!st && !whole)
        st = text_copy(c->base, &r->base.text, dir, err);
    if (!st && !whole)
        st = adapter_save(r->adapter, dir, err);
    if (!st)
        st = facts_write(dir, &f, quant, err);
    if (!st && whole)
        st = merge_write(&r->base, c->base, r->adapter, c->adapter.save_bf16 ? QT_BF16 : QT_F32,
                         dir, err);
    if (st)
        take_back(dir, whole ? "config.json" : "graft.json");
    json_decref(quant);
    return st;
}
