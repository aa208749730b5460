#include "io/container.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "io/build.h"
#include "io/h5.h"

enum { VERSION = 1 };

/* libhdf5 lays the file out and writes what describes it, its structure, into one block before all
 * datasets; the bytes of the datasets are written here afterwards, at the places it chose, and pass
 * through no buffer. The user block in front vouches for the structure (h5.h). */
struct piece {
    uint64_t at;
    const void *data;
    size_t len;
};

struct writer {
    struct h5_writer h;
    struct piece *piece;
    int64_t count, cap;
};

static enum graft_status check_name(const struct writer *w, hid_t group, const char *name)
{
    if (!name[0] || name[0] == '.' || strchr(name, '/'))
        return graft_fail(w->h.err, GRAFT_EARG, "%s: \"%s\" cannot be a name in a container",
                          w->h.path, SHOW(name));
    if (H5Lexists(group, name, H5P_DEFAULT) > 0)
        return graft_fail(w->h.err, GRAFT_EARG, "%s: \"%s\" is given twice", w->h.path, SHOW(name));
    return GRAFT_OK;
}

static enum graft_status add_piece(struct writer *w, uint64_t at, const void *data, size_t len)
{
    if (w->count == w->cap) {
        const int64_t cap = w->cap ? 2 * w->cap : 64;
        void *p =
            mem_resize(w->piece, (size_t)w->cap * sizeof *w->piece, (size_t)cap * sizeof *w->piece);

        if (!p)
            return graft_fail_nomem(w->h.err, w->h.path, (size_t)cap * sizeof *w->piece);
        w->piece = p;
        w->cap = cap;
    }
    w->piece[w->count++] = (struct piece){ at, data, len };
    return GRAFT_OK;
}

/* A dataset of `count` values of `type`, with its place and its checksum. */
static enum graft_status put_data(struct writer *w, hid_t loc, const char *name, hid_t type,
                                  const void *data, size_t count)
{
    const size_t len = count * H5Tget_size(type);
    uint64_t at = 0;
    char hex[65];

    sha256_hex(data, len, hex);
    hex[16] = '\0';
    GRAFT_TRY(h5_make_set(&w->h, loc, name, type, count, hex, &at));
    return add_piece(w, at, data, len);
}

/* What nf4 and fp4 need beside their codes. */
static enum graft_status put_scales(struct writer *w, hid_t group, const struct qmat *m)
{
    const int64_t n = qmat_elems(m);
    const int64_t blocks = n / m->block + (n % m->block != 0);
    const hid_t f32 = H5T_IEEE_F32LE;

    GRAFT_TRY(h5_put_int(&w->h, group, "block", m->block));
    GRAFT_TRY(put_data(w, group, "lut", f32, m->lut, 16));
    if (m->absmax)
        return put_data(w, group, "absmax", f32, m->absmax, (size_t)blocks);
    GRAFT_TRY(h5_put_int(&w->h, group, "block2", m->block2));
    GRAFT_TRY(h5_put_attribute(&w->h, group, "offset", f32, 1, &m->offset));
    GRAFT_TRY(put_data(w, group, "absmax8", H5T_STD_U8LE, m->absmax8, (size_t)blocks));
    GRAFT_TRY(put_data(w, group, "absmax2", f32, m->absmax2,
                       (size_t)(blocks / m->block2 + (blocks % m->block2 != 0))));
    return put_data(w, group, "map8", f32, m->map8, 256);
}

static enum graft_status put_tensor(struct writer *w, hid_t tensors, const struct stored_tensor *t)
{
    const struct qmat *m = &t->mat;
    enum graft_status st;
    hid_t group;

    GRAFT_TRY(check_name(w, tensors, t->name));
    group = h5_make_group(&w->h, tensors, t->name);
    if (group < 0)
        return h5_cannot(&w->h, "cannot make the group of a tensor");
    st = h5_put_text(&w->h, group, "type", qtypes[m->type].name);
    if (!st)
        st = h5_put_attribute(&w->h, group, "shape", H5T_STD_I64LE, t->ndim, t->dim);
    if (!st)
        st = put_data(w, group, "data", H5T_STD_U8LE, m->data, t->bytes);
    if (!st && (m->type == QT_NF4 || m->type == QT_FP4))
        st = put_scales(w, group, m);
    H5Gclose(group);
    return st ? graft_fail_in(w->h.err, st, "tensor \"%s\"", SHOW(t->name)) : GRAFT_OK;
}

static enum graft_status put_tensors(struct writer *w, const struct stored_tensor *tensor,
                                     int64_t count)
{
    const hid_t group = h5_make_group(&w->h, w->h.file, "tensors");
    enum graft_status st = GRAFT_OK;

    if (group < 0)
        return h5_cannot(&w->h, "cannot make a group");
    for (int64_t i = 0; !st && i < count; i++)
        st = put_tensor(w, group, &tensor[i]);
    H5Gclose(group);
    return st;
}

static enum graft_status put_files(struct writer *w, const struct container_file *file, int count)
{
    const hid_t group = h5_make_group(&w->h, w->h.file, "files");
    enum graft_status st = GRAFT_OK;

    if (group < 0)
        return h5_cannot(&w->h, "cannot make a group");
    for (int i = 0; !st && i < count; i++) {
        st = check_name(w, group, file[i].name);
        if (!st)
            st = put_data(w, group, file[i].name, H5T_STD_U8LE, file[i].data, file[i].len);
    }
    H5Gclose(group);
    return st;
}

static enum graft_status put_head(struct writer *w, const char *base_hash)
{
    const hid_t group = h5_make_group(&w->h, w->h.file, "graft");
    enum graft_status st;

    if (group < 0)
        return h5_cannot(&w->h, "cannot make a group");
    st = h5_put_int(&w->h, group, "version", VERSION);
    if (!st && base_hash && base_hash[0])
        st = h5_put_text(&w->h, group, "base_hash", base_hash);
    H5Gclose(group);
    return st;
}

struct content {
    const struct stored_tensor *tensor;
    int64_t tensors;
    const struct container_file *file;
    int files;
    const char *base_hash;
};

/* The structure, with room for `room` bytes of it before the first dataset. */
static enum graft_status write_structure(struct writer *w, const struct content *c, size_t room)
{
    struct h5_quiet quiet;
    enum graft_status st;

    w->count = 0;
    h5_quiet_begin(&quiet);
    st = h5_begin(&w->h, room);
    if (!st)
        st = put_head(w, c->base_hash);
    if (!st)
        st = put_tensors(w, c->tensor, c->tensors);
    if (!st)
        st = put_files(w, c->file, c->files);
    st = h5_end(&w->h, st);
    h5_quiet_end(&quiet);
    return st;
}

static uint64_t first_dataset(const struct writer *w)
{
    uint64_t at = UINT64_MAX;

    for (int64_t i = 0; i < w->count; i++)
        if (w->piece[i].len && w->piece[i].at < at)
            at = w->piece[i].at;
    return at;
}

/* The whole file into the sink. How much structure there will be is libhdf5's business: guess, and
 * do it again with more room when some of it came to lie between the datasets. */
static enum graft_status write_file(struct writer *w, const struct content *c)
{
    size_t room = 16384 + 4096 * (size_t)c->tensors + 1024 * (size_t)c->files;
    enum graft_status st;

    for (;; room *= 2) {
        st = write_structure(w, c, room);
        if (st || w->h.sink.fail || w->h.sink.written <= first_dataset(w))
            break;
    }
    if (!st)
        st = h5_write_seal(&w->h, h5_magic);
    for (int64_t i = 0; !st && i < w->count; i++)
        h5_sink_write(&w->h.sink, w->piece[i].at, w->piece[i].data, w->piece[i].len);
    if (w->h.sink.fail) /* also where libhdf5 stumbled over what it could not write */
        st = file_fail_write(w->h.path, w->h.sink.fail, w->h.err);
    return st;
}

enum graft_status container_write(const char *path, const struct stored_tensor *tensor,
                                  int64_t count, const struct container_file *file, int file_count,
                                  const char *base_hash, struct graft_err *err)
{
    const struct content c = { tensor, count, file, file_count, base_hash };
    struct writer w = { .h = { .path = path, .sink = { .fd = -1 }, .err = err } };
    struct strbuf tmp = STRBUF_INIT;
    enum graft_status st;

    file_begin();
    st = file_temporary(path, &tmp, &w.h.sink.fd, err);
    if (!st) {
        st = write_file(&w, &c);
        if (close(w.h.sink.fd) != 0 && !st)
            st = file_fail_write(path, errno, err);
        if (!st)
            st = file_publish(tmp.buf, path, err);
        else
            unlink(tmp.buf);
    }
    file_end();
    mem_free(w.piece);
    strbuf_release(&tmp);
    return st;
}
