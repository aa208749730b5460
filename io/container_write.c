#include "io/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/build.h"
#include "io/h5.h"

enum { VERSION = 1, PAGE = 4096 };

/* libhdf5 lays the file out and writes what describes it, its structure, into one block before all
 * datasets; the bytes of the datasets are written here afterwards, at the places it chose, and pass
 * through no buffer. The user block in front vouches for the structure (h5.h). */
struct piece {
    uint64_t at;
    const void *data;
    size_t len;
};

struct writer {
    const char *path;
    struct h5_sink sink;
    hid_t file, link, set; /* property lists: of links, of datasets */
    struct piece *piece;
    int64_t count, cap;
    struct graft_err *err;
};

static enum graft_status cannot(const struct writer *w, const char *what)
{
    return h5_fail(w->err, GRAFT_EWRITE, w->path, what);
}

static enum graft_status check_name(const struct writer *w, hid_t group, const char *name)
{
    if (!name[0] || name[0] == '.' || strchr(name, '/'))
        return graft_fail(w->err, GRAFT_EARG, "%s: \"%s\" cannot be a name in a container", w->path,
                          SHOW(name));
    if (H5Lexists(group, name, H5P_DEFAULT) > 0)
        return graft_fail(w->err, GRAFT_EARG, "%s: \"%s\" is given twice", w->path, SHOW(name));
    return GRAFT_OK;
}

/* `count` values; 0 of them is an empty attribute, which the shape of a scalar needs. */
static enum graft_status put_attribute(const struct writer *w, hid_t loc, const char *name,
                                       hid_t type, int count, const void *data)
{
    const hsize_t dim = (hsize_t)count;
    const hid_t space = count ? H5Screate_simple(1, &dim, NULL) : H5Screate(H5S_NULL);
    const hid_t a = H5Acreate2(loc, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool good = a >= 0 && (count == 0 || H5Awrite(a, type, data) >= 0);

    if (a >= 0)
        H5Aclose(a);
    H5Sclose(space);
    return good ? GRAFT_OK : cannot(w, "cannot write an attribute");
}

static enum graft_status put_text(const struct writer *w, hid_t loc, const char *name,
                                  const char *text)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    enum graft_status st;

    H5Tset_size(type, strlen(text) + 1);
    st = put_attribute(w, loc, name, type, 1, text);
    H5Tclose(type);
    return st;
}

static enum graft_status put_int(const struct writer *w, hid_t loc, const char *name, int64_t v)
{
    return put_attribute(w, loc, name, H5T_STD_I64LE, 1, &v);
}

static enum graft_status add_piece(struct writer *w, hid_t set, const void *data, size_t len)
{
    const haddr_t at = len ? H5Dget_offset(set) : 0;

    if (at == HADDR_UNDEF)
        return cannot(w, "a dataset has no place");
    if (w->count == w->cap) {
        const int64_t cap = w->cap ? 2 * w->cap : 64;
        void *p =
            mem_resize(w->piece, (size_t)w->cap * sizeof *w->piece, (size_t)cap * sizeof *w->piece);

        if (!p)
            return graft_fail_nomem(w->err, w->path, (size_t)cap * sizeof *w->piece);
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
    const hsize_t dim = count;
    const hid_t space = H5Screate_simple(1, &dim, NULL);
    const hid_t set = H5Dcreate2(loc, name, type, space, w->link, w->set, H5P_DEFAULT);
    enum graft_status st;
    char hex[65];

    H5Sclose(space);
    if (set < 0)
        return cannot(w, "cannot make a dataset");
    st = add_piece(w, set, data, len);
    if (!st) {
        sha256_hex(data, len, hex);
        hex[16] = '\0';
        st = put_text(w, set, "sha256", hex);
    }
    H5Dclose(set);
    return st;
}

/* What nf4 and fp4 need beside their codes. */
static enum graft_status put_scales(struct writer *w, hid_t group, const struct qmat *m)
{
    const int64_t n = qmat_elems(m);
    const int64_t blocks = n / m->block + (n % m->block != 0);
    const hid_t f32 = H5T_IEEE_F32LE;

    GRAFT_TRY(put_int(w, group, "block", m->block));
    GRAFT_TRY(put_data(w, group, "lut", f32, m->lut, 16));
    if (m->absmax)
        return put_data(w, group, "absmax", f32, m->absmax, (size_t)blocks);
    GRAFT_TRY(put_int(w, group, "block2", m->block2));
    GRAFT_TRY(put_attribute(w, group, "offset", f32, 1, &m->offset));
    GRAFT_TRY(put_data(w, group, "absmax8", H5T_STD_U8LE, m->absmax8, (size_t)blocks));
    GRAFT_TRY(put_data(w, group, "absmax2", f32, m->absmax2,
                       (size_t)(blocks / m->block2 + (blocks % m->block2 != 0))));
    return put_data(w, group, "map8", f32, m->map8, 256);
}

static hid_t make_group(const struct writer *w, hid_t loc, const char *name)
{
    const hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
    hid_t group;

    H5Pset_obj_track_times(plist, false);
    group = H5Gcreate2(loc, name, w->link, plist, H5P_DEFAULT);
    H5Pclose(plist);
    return group;
}

static enum graft_status put_tensor(struct writer *w, hid_t tensors, const struct stored_tensor *t)
{
    const struct qmat *m = &t->mat;
    enum graft_status st;
    hid_t group;

    GRAFT_TRY(check_name(w, tensors, t->name));
    group = make_group(w, tensors, t->name);
    if (group < 0)
        return cannot(w, "cannot make the group of a tensor");
    st = put_text(w, group, "type", qtypes[m->type].name);
    if (!st)
        st = put_attribute(w, group, "shape", H5T_STD_I64LE, t->ndim, t->dim);
    if (!st)
        st = put_data(w, group, "data", H5T_STD_U8LE, m->data, t->bytes);
    if (!st && (m->type == QT_NF4 || m->type == QT_FP4))
        st = put_scales(w, group, m);
    H5Gclose(group);
    return st ? graft_fail_in(w->err, st, "tensor \"%s\"", SHOW(t->name)) : GRAFT_OK;
}

static enum graft_status put_tensors(struct writer *w, const struct stored_tensor *tensor,
                                     int64_t count)
{
    const hid_t group = make_group(w, w->file, "tensors");
    enum graft_status st = GRAFT_OK;

    if (group < 0)
        return cannot(w, "cannot make a group");
    for (int64_t i = 0; !st && i < count; i++)
        st = put_tensor(w, group, &tensor[i]);
    H5Gclose(group);
    return st;
}

static enum graft_status put_files(struct writer *w, const struct container_file *file, int count)
{
    const hid_t group = make_group(w, w->file, "files");
    enum graft_status st = GRAFT_OK;

    if (group < 0)
        return cannot(w, "cannot make a group");
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
    const hid_t group = make_group(w, w->file, "graft");
    enum graft_status st;

    if (group < 0)
        return cannot(w, "cannot make a group");
    st = put_int(w, group, "version", VERSION);
    if (!st && base_hash && base_hash[0])
        st = put_text(w, group, "base_hash", base_hash);
    H5Gclose(group);
    return st;
}

static enum graft_status make_file(struct writer *w, size_t structure)
{
    const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), fcpl = H5Pcreate(H5P_FILE_CREATE);
    const bool ready = h5_set_sink(fapl, &w->sink);

    /* Format 1.8 and later has a checksum on every piece of structure. */
    H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
    H5Pset_alignment(fapl, PAGE, PAGE);
    H5Pset_meta_block_size(fapl, structure);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    H5Pset_userblock(fcpl, H5_USER_BLOCK);
    H5Pset_obj_track_times(fcpl, false); /* of the root group */
    if (ready)
        w->file = H5Fcreate(w->path, H5F_ACC_TRUNC, fcpl, fapl);
    H5Pclose(fcpl);
    H5Pclose(fapl);
    if (w->file < 0)
        return cannot(w, "cannot write");
    w->link = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_char_encoding(w->link, H5T_CSET_UTF8);
    w->set = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(w->set, H5D_CONTIGUOUS);
    H5Pset_alloc_time(w->set, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(w->set, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(w->set, false);
    return GRAFT_OK;
}

/* Closing writes the structure out. */
static enum graft_status close_file(struct writer *w, enum graft_status st)
{
    if (w->link >= 0)
        H5Pclose(w->link);
    if (w->set >= 0)
        H5Pclose(w->set);
    if (w->file >= 0 && H5Fclose(w->file) < 0 && !st)
        st = cannot(w, "cannot write");
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
    w->sink.eoa = w->sink.eof = w->sink.written = 0;
    w->file = w->link = w->set = H5I_INVALID_HID;
    h5_quiet_begin(&quiet);
    st = make_file(w, room);
    if (!st)
        st = put_head(w, c->base_hash);
    if (!st)
        st = put_tensors(w, c->tensor, c->tensors);
    if (!st)
        st = put_files(w, c->file, c->files);
    st = close_file(w, st);
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

static enum graft_status write_seal(struct writer *w)
{
    const size_t len = (size_t)w->sink.written - H5_USER_BLOCK;
    struct h5_seal seal = { .size = w->sink.eof, .end = w->sink.written };
    char *copy = mem_alloc(len), hex[65];

    if (!copy)
        return graft_fail_nomem(w->err, w->path, len);
    h5_sink_read(&w->sink, H5_USER_BLOCK, copy, len);
    sha256_hex(copy, len, hex);
    mem_free(copy);
    memcpy(seal.magic, h5_magic, sizeof seal.magic);
    memcpy(seal.sum, hex, sizeof seal.sum);
    h5_sink_write(&w->sink, 0, &seal, sizeof seal);
    return GRAFT_OK;
}

/* The whole file into the sink. How much structure there will be is libhdf5's business: guess, and
 * do it again with more room when some of it came to lie between the datasets. */
static enum graft_status write_file(struct writer *w, const struct content *c)
{
    size_t room = 16384 + 4096 * (size_t)c->tensors + 1024 * (size_t)c->files;
    enum graft_status st;

    for (;; room *= 2) {
        st = write_structure(w, c, room);
        if (st || w->sink.fail || w->sink.written <= first_dataset(w))
            break;
    }
    if (!st)
        st = write_seal(w);
    for (int64_t i = 0; !st && i < w->count; i++)
        h5_sink_write(&w->sink, w->piece[i].at, w->piece[i].data, w->piece[i].len);
    if (w->sink.fail) /* also where libhdf5 stumbled over what it could not write */
        st = graft_fail(w->err, GRAFT_EWRITE, "%s: cannot write: %s", w->path,
                        strerror(w->sink.fail));
    return st;
}

enum graft_status container_write(const char *path, const struct stored_tensor *tensor,
                                  int64_t count, const struct container_file *file, int file_count,
                                  const char *base_hash, struct graft_err *err)
{
    const struct content c = { tensor, count, file, file_count, base_hash };
    struct writer w = { .path = path, .sink = { .fd = -1 }, .err = err };
    struct strbuf tmp = STRBUF_INIT;
    enum graft_status st;

    strbuf_printf(&tmp, "%s.tmp-%ld", path, (long)getpid());
    if (tmp.failed) {
        strbuf_release(&tmp);
        return graft_fail_nomem(err, path, strlen(path));
    }
    w.sink.fd = open(tmp.buf, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w.sink.fd < 0) {
        st = graft_fail(err, GRAFT_EWRITE, "%s: cannot write: %s", path, strerror(errno));
    } else {
        st = write_file(&w, &c);
        if (close(w.sink.fd) != 0 && !st)
            st = graft_fail(err, GRAFT_EWRITE, "%s: cannot write: %s", path, strerror(errno));
        if (!st)
            st = file_publish(tmp.buf, path, err);
        else
            unlink(tmp.buf);
    }
    mem_free(w.piece);
    strbuf_release(&tmp);
    return st;
}
