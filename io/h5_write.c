/* Files of our own being written: their structure through libhdf5, their seal. */
#include <string.h>

#include "io/build.h"
#include "io/h5.h"

enum { PAGE = H5_PAGE };

enum graft_status h5_cannot(const struct h5_writer *w, const char *what)
{
    return h5_fail(w->err, GRAFT_EWRITE, w->path, what);
}

/* `count` values; 0 of them is an empty attribute, which the shape of a scalar needs. */
enum graft_status h5_put_attribute(const struct h5_writer *w, hid_t loc, const char *name,
                                   hid_t type, int count, const void *data)
{
    const hsize_t dim = (hsize_t)count;
    const hid_t space = count ? H5Screate_simple(1, &dim, NULL) : H5Screate(H5S_NULL);
    const hid_t a = H5Acreate2(loc, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool good = a >= 0 && (count == 0 || H5Awrite(a, type, data) >= 0);

    if (a >= 0)
        H5Aclose(a);
    H5Sclose(space);
    return good ? GRAFT_OK : h5_cannot(w, "cannot write an attribute");
}

enum graft_status h5_put_text(const struct h5_writer *w, hid_t loc, const char *name,
                              const char *text)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    enum graft_status st;

    H5Tset_size(type, strlen(text) + 1);
    st = h5_put_attribute(w, loc, name, type, 1, text);
    H5Tclose(type);
    return st;
}

enum graft_status h5_put_int(const struct h5_writer *w, hid_t loc, const char *name, int64_t v)
{
    return h5_put_attribute(w, loc, name, H5T_STD_I64LE, 1, &v);
}

hid_t h5_make_group(const struct h5_writer *w, hid_t loc, const char *name)
{
    const hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
    hid_t group;

    H5Pset_obj_track_times(plist, false);
    group = H5Gcreate2(loc, name, w->link, plist, H5P_DEFAULT);
    H5Pclose(plist);
    return group;
}

enum graft_status h5_begin(struct h5_writer *w, size_t room)
{
    const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), fcpl = H5Pcreate(H5P_FILE_CREATE);
    const bool ready = h5_set_sink(fapl, &w->sink);

    w->sink.eoa = w->sink.eof = w->sink.written = 0;
    w->file = w->link = w->set = H5I_INVALID_HID;
    /* Format 1.8 and later has a checksum on every piece of structure. */
    H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
    H5Pset_alignment(fapl, PAGE, PAGE);
    H5Pset_meta_block_size(fapl, room);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    H5Pset_userblock(fcpl, H5_USER_BLOCK);
    H5Pset_obj_track_times(fcpl, false); /* of the root group */
    if (ready)
        w->file = H5Fcreate(w->path, H5F_ACC_TRUNC, fcpl, fapl);
    H5Pclose(fcpl);
    H5Pclose(fapl);
    if (w->file < 0)
        return h5_cannot(w, "cannot write");
    w->link = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_char_encoding(w->link, H5T_CSET_UTF8);
    w->set = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(w->set, H5D_CONTIGUOUS);
    H5Pset_alloc_time(w->set, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(w->set, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(w->set, false);
    return GRAFT_OK;
}

enum graft_status h5_end(struct h5_writer *w, enum graft_status st)
{
    if (w->link >= 0)
        H5Pclose(w->link);
    if (w->set >= 0)
        H5Pclose(w->set);
    if (w->file >= 0 && H5Fclose(w->file) < 0 && !st)
        st = h5_cannot(w, "cannot write");
    return st;
}

enum graft_status h5_write_seal(struct h5_writer *w, const char *magic)
{
    const size_t len = (size_t)w->sink.written - H5_USER_BLOCK;
    struct h5_seal seal = { .size = w->sink.eof, .end = w->sink.written };
    char *copy = mem_alloc(len), hex[65];

    if (!copy)
        return graft_fail_nomem(w->err, w->path, len);
    h5_sink_read(&w->sink, H5_USER_BLOCK, copy, len);
    sha256_hex(copy, len, hex);
    mem_free(copy);
    memcpy(seal.magic, magic, sizeof seal.magic);
    memcpy(seal.sum, hex, sizeof seal.sum);
    h5_sink_write(&w->sink, 0, &seal, sizeof seal);
    return GRAFT_OK;
}

enum graft_status h5_make_set(const struct h5_writer *w, hid_t loc, const char *name, hid_t type,
                              size_t count, const char *sum, uint64_t *at)
{
    const hsize_t dim = count;
    const hid_t space = H5Screate_simple(1, &dim, NULL);
    const hid_t set = H5Dcreate2(loc, name, type, space, w->link, w->set, H5P_DEFAULT);
    enum graft_status st = GRAFT_OK;

    H5Sclose(space);
    if (set < 0)
        return h5_cannot(w, "cannot make a dataset");
    *at = 0;
    if (count) {
        const haddr_t place = H5Dget_offset(set);

        *at = place;
        if (place == HADDR_UNDEF)
            st = h5_cannot(w, "a dataset has no place");
    }
    if (!st && sum)
        st = h5_put_text(w, set, "sha256", sum);
    H5Dclose(set);
    return st;
}
