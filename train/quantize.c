#include <string.h>
#include <sys/stat.h>

#include "train/merge.h"
#include "train/output.h"
#include "train/place.h"

enum { MAX_FILES = 64 };

struct file_list {
    struct container_file file[MAX_FILES];
    int count;
    struct arena mem;
};

static enum graft_status put_file(void *user, const char *name, const char *text, size_t len,
                                  struct graft_err *err)
{
    struct file_list *l = user;
    const char *copy = arena_strndup(&l->mem, text, len);
    char flat[PLACE_NAME_MAX];

    place_container_name(name, flat);
    name = arena_strdup(&l->mem, flat);
    if (!copy || !name)
        return graft_fail_nomem(err, flat, len);
    if (l->count == MAX_FILES)
        return graft_fail(err, GRAFT_EARG, "more than %d small files beside the weights",
                          MAX_FILES);
    l->file[l->count++] = (struct container_file){ name, copy, len };
    return GRAFT_OK;
}

static enum graft_status collect_files(const struct base *b, struct file_list *l,
                                       struct graft_err *err)
{
    struct strbuf text = STRBUF_INIT;
    json_t *config = NULL;
    enum graft_status st = checkpoint_config_json(&b->ck, &config, err);

    if (!st) {
        json_write_pretty(&text, config);
        st = put_file(l, "config.json", strbuf_str(&text), text.len, err);
    }
    if (!st)
        st = text_files(b->ck.path, &b->text, put_file, l, err);
    strbuf_release(&text);
    json_decref(config);
    return st;
}

static enum graft_status write_container(const struct base *b, const char *output,
                                         const struct file_list *files, struct quantize_report *out,
                                         struct graft_err *err)
{
    struct arena mem = ARENA_INIT;
    struct model_tensor *t = NULL;
    struct stored_tensor *s = NULL;
    double bytes = 0, weights = 0;
    enum graft_status st = model_tensors(b->model, &mem, &t, &out->tensors, err);

    if (!st) {
        s = arena_array(&mem, (size_t)out->tensors, sizeof *s);
        if (!s)
            st = graft_fail_nomem(err, "list of tensors", (size_t)out->tensors * sizeof *s);
    }
    for (int64_t i = 0; i < out->tensors && !st; i++) {
        s[i] = (struct stored_tensor){ .name = t[i].name,
                                       .ndim = t[i].ndim,
                                       .bytes = qmat_data_bytes(&t[i].mat),
                                       .mat = t[i].mat };
        s[i].dim[0] = t[i].ndim == 1 ? t[i].mat.cols : t[i].mat.rows;
        s[i].dim[1] = t[i].mat.cols;
        if (t[i].slot && t[i].slot->site == SITE_LINEAR && !t[i].is_bias && !t[i].slot->is_head) {
            bytes += (double)qmat_bytes(&t[i].mat);
            weights += (double)qmat_elems(&t[i].mat);
        }
    }
    out->bits = weights > 0 ? 8 * bytes / weights : 0;
    if (!st)
        st = container_write(output, s, out->tensors, files->file, files->count, b->ck.hash, err);
    arena_release(&mem);
    return st;
}

enum graft_status base_write(const struct base *b, const char *name, const char *text,
                             const char *output, struct quantize_report *out, struct graft_err *err)
{
    struct file_list files = { 0 };
    struct quantize_report report = { 0 };
    struct stat file;
    enum graft_status st = collect_files(b, &files, err);

    if (!st && name)
        st = put_file(&files, name, text, strlen(text), err);
    if (!st)
        st = write_container(b, output, &files, &report, err);
    if (!st) {
        report.bytes = stat(output, &file) == 0 ? (size_t)file.st_size : 0;
        snprintf(report.format, sizeof report.format, "%s",
                 qtypes[b->model->layer[0].linear[LIN_Q].w.type].name);
        *out = report;
    }
    arena_release(&files.mem);
    return st;
}

enum graft_status quantize_run(const char *base, const struct quant_config *quant,
                               const char *output, bool force, struct quantize_report *out,
                               struct graft_err *err)
{
    struct base b = { 0 };
    enum graft_status st;

    GRAFT_TRY(output_spares(OUTPUT_FILE, output, "the base", base, err));
    GRAFT_TRY(result_file(output, force, err));
    st = base_open(base, quant, true, &b, err);
    if (!st)
        st = base_write(&b, NULL, NULL, output, out, err);
    base_release(&b);
    return st;
}
