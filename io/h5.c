#include "io/h5.h"

#include <string.h>

#include "io/build.h"

const char h5_magic[9] = "graft-h5";

void h5_quiet_begin(struct h5_quiet *q)
{
    H5Eget_auto2(H5E_DEFAULT, &q->fn, &q->user);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void h5_quiet_end(const struct h5_quiet *q)
{
    H5Eclear2(H5E_DEFAULT);
    H5Eset_auto2(H5E_DEFAULT, q->fn, q->user);
}

/* Called from the outermost function inwards: the last one knows the cause. */
static herr_t keep_reason(unsigned n, const H5E_error2_t *e, void *user)
{
    (void)n;
    *(const char **)user = e->desc;
    return 0;
}

enum graft_status h5_fail(struct graft_err *err, enum graft_status code, const char *file,
                          const char *what)
{
    const char *reason = NULL;

    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_reason, &reason);
    graft_fail(err, code, "%s: %s%s%s", file, what, reason ? ": " : "", reason ? reason : "");
    H5Eclear2(H5E_DEFAULT);
    return code;
}

struct listing {
    const struct h5_file *file;
    const char *what;
    struct arena *mem;
    struct h5_names *names;
    enum graft_status st;
};

static enum graft_status add_name(struct listing *l, const char *name, bool hard)
{
    struct h5_names *n = l->names;

    if (!hard || !name[0] || name[0] == '.' || strchr(name, '/'))
        return graft_fail(l->file->err, GRAFT_EFORMAT,
                          "%s: %s \"%s\": wanted a hard link with a plain name", l->file->path,
                          l->what, SHOW(name));
    if (n->count == n->cap) {
        const int64_t cap = n->cap ? 2 * n->cap : 64;
        void *p =
            mem_resize(n->name, (size_t)n->cap * sizeof *n->name, (size_t)cap * sizeof *n->name);

        if (!p)
            return graft_fail_nomem(l->file->err, l->file->path, (size_t)cap * sizeof *n->name);
        n->name = p;
        n->cap = cap;
    }
    n->name[n->count] = arena_strdup(l->mem, name);
    if (!n->name[n->count])
        return graft_fail_nomem(l->file->err, l->file->path, strlen(name));
    n->count++;
    return GRAFT_OK;
}

static herr_t on_link(hid_t group, const char *name, const H5L_info_t *info, void *user)
{
    struct listing *l = user;

    (void)group;
    l->st = add_name(l, name, info->type == H5L_TYPE_HARD);
    return l->st ? 1 : 0; /* not below 0: the message is there already */
}

enum graft_status h5_list(const struct h5_file *f, hid_t group, const char *what, struct arena *mem,
                          struct h5_names *out)
{
    struct listing l = { f, what, mem, out, GRAFT_OK };

    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, on_link, &l) < 0)
        return h5_fail(f->err, GRAFT_EFORMAT, f->path, what);
    return l.st;
}

bool h5_has(hid_t loc, const char *name)
{
    H5L_info_t info;

    return H5Lexists(loc, name, H5P_DEFAULT) > 0 &&
           H5Lget_info(loc, name, &info, H5P_DEFAULT) >= 0 && info.type == H5L_TYPE_HARD;
}

static enum graft_status bad_attribute(const struct h5_file *f, const char *where, const char *name,
                                       const char *wanted)
{
    H5Eclear2(H5E_DEFAULT);
    return graft_fail(f->err, GRAFT_EFORMAT, "%s: %s: attribute \"%s\": wanted %s", f->path,
                      SHOW(where), name, wanted);
}

/* The attribute, its type and the number of its values; all closed by close_attribute. */
struct attribute {
    hid_t id, type;
    hssize_t count;
};

static bool open_attribute(hid_t loc, const char *name, struct attribute *a)
{
    hid_t space;

    a->type = H5I_INVALID_HID;
    a->count = -1;
    a->id = H5Aexists(loc, name) > 0 ? H5Aopen(loc, name, H5P_DEFAULT) : H5I_INVALID_HID;
    if (a->id < 0)
        return false;
    a->type = H5Aget_type(a->id);
    space = H5Aget_space(a->id);
    if (space >= 0) {
        a->count = H5Sget_simple_extent_npoints(space);
        H5Sclose(space);
    }
    return a->type >= 0 && a->count >= 0;
}

static void close_attribute(struct attribute *a)
{
    if (a->type >= 0)
        H5Tclose(a->type);
    if (a->id >= 0)
        H5Aclose(a->id);
}

enum graft_status h5_get_text(const struct h5_file *f, hid_t loc, const char *where,
                              const char *name, struct arena *mem, const char **out)
{
    struct attribute a;
    char *text = NULL;
    bool good = open_attribute(loc, name, &a) && a.count == 1 &&
                H5Tget_class(a.type) == H5T_STRING && H5Tis_variable_str(a.type) == 0;
    const size_t len = good ? H5Tget_size(a.type) : 0;

    good = good && len > 0 && len <= 4096;
    if (good) {
        text = arena_alloc(mem, len + 1); /* zeroed: terminated whatever the file pads with */
        good = text && H5Aread(a.id, a.type, text) >= 0;
    }
    close_attribute(&a);
    if (len > 0 && len <= 4096 && !text)
        return graft_fail_nomem(f->err, f->path, len);
    if (!good)
        return bad_attribute(f, where, name, "a string of at most 4096 bytes");
    *out = text;
    return GRAFT_OK;
}

enum graft_status h5_get_ints(const struct h5_file *f, hid_t loc, const char *where,
                              const char *name, int max, int64_t *out, int *count)
{
    struct attribute a;
    bool good = open_attribute(loc, name, &a) && a.count <= max &&
                H5Tget_class(a.type) == H5T_INTEGER && H5Tget_size(a.type) == sizeof *out;

    if (good && a.count > 0)
        good = H5Aread(a.id, H5T_NATIVE_INT64, out) >= 0;
    close_attribute(&a);
    if (!good)
        return bad_attribute(f, where, name, "64-bit integers, not too many");
    *count = (int)a.count;
    return GRAFT_OK;
}

enum graft_status h5_get_float(const struct h5_file *f, hid_t loc, const char *where,
                               const char *name, float *out)
{
    struct attribute a;
    bool good = open_attribute(loc, name, &a) && a.count == 1 &&
                H5Tget_class(a.type) == H5T_FLOAT && H5Tget_size(a.type) == sizeof *out;

    if (good)
        good = H5Aread(a.id, H5T_NATIVE_FLOAT, out) >= 0;
    close_attribute(&a);
    return good ? GRAFT_OK : bad_attribute(f, where, name, "a 32-bit float");
}

/* Whether the dataset is one run of bytes in this very file, of the wanted type. */
static bool is_plain(hid_t set, H5T_class_t cls, size_t size, hssize_t *count)
{
    const hid_t plist = H5Dget_create_plist(set), type = H5Dget_type(set),
                space = H5Dget_space(set);
    bool good = plist >= 0 && type >= 0 && space >= 0;

    good = good && H5Pget_layout(plist) == H5D_CONTIGUOUS && H5Pget_external_count(plist) == 0;
    good = good && H5Tget_class(type) == cls && H5Tget_size(type) == size &&
           H5Tget_order(type) != H5T_ORDER_BE;
    *count = good ? H5Sget_simple_extent_npoints(space) : -1;
    if (plist >= 0)
        H5Pclose(plist);
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    return good && *count >= 0;
}

static enum graft_status locate(const struct h5_file *f, hid_t set, const char *where,
                                const char *name, H5T_class_t cls, size_t size,
                                struct h5_bytes *out)
{
    hssize_t count;
    haddr_t at;
    size_t len;

    if (!is_plain(set, cls, size, &count)) {
        H5Eclear2(H5E_DEFAULT);
        return graft_fail(f->err, GRAFT_EFORMAT,
                          "%s: %s: dataset \"%s\": wanted a contiguous one of %zu-byte values",
                          f->path, SHOW(where), name, size);
    }
    at = H5Dget_offset(set);
    if (__builtin_mul_overflow((size_t)count, size, &len) ||
        (len > 0 && (at == HADDR_UNDEF || at > f->map.size || len > f->map.size - at ||
                     H5Dget_storage_size(set) != len)))
        return graft_fail(f->err, GRAFT_EFORMAT,
                          "%s: %s: dataset \"%s\" of %lld values does not lie within the file of "
                          "%zu bytes",
                          f->path, SHOW(where), name, (long long)count, f->map.size);
    out->data = (const char *)f->map.data + (len ? at : 0);
    out->len = len;
    return GRAFT_OK;
}

static enum graft_status open_set(const struct h5_file *f, hid_t loc, const char *where,
                                  const char *name, hid_t *out)
{
    *out = h5_has(loc, name) ? H5Dopen2(loc, name, H5P_DEFAULT) : H5I_INVALID_HID;
    if (*out >= 0)
        return GRAFT_OK;
    H5Eclear2(H5E_DEFAULT);
    return graft_fail(f->err, GRAFT_EFORMAT, "%s: %s: there is no dataset \"%s\"", f->path,
                      SHOW(where), name);
}

enum graft_status h5_get_place(const struct h5_file *f, hid_t loc, const char *where,
                               const char *name, H5T_class_t cls, size_t size, struct h5_bytes *out)
{
    enum graft_status st;
    hid_t set;

    GRAFT_TRY(open_set(f, loc, where, name, &set));
    st = locate(f, set, where, name, cls, size, out);
    out->sum[0] = '\0';
    H5Dclose(set);
    return st;
}

enum graft_status h5_get_bytes(const struct h5_file *f, hid_t loc, const char *where,
                               const char *name, H5T_class_t cls, size_t size, struct h5_bytes *out)
{
    struct arena mem = ARENA_INIT;
    const char *sum = "";
    enum graft_status st;
    hid_t set;

    GRAFT_TRY(open_set(f, loc, where, name, &set));
    st = locate(f, set, where, name, cls, size, out);
    if (!st)
        st = h5_get_text(f, set, where, "sha256", &mem, &sum);
    H5Dclose(set);
    if (!st && strlen(sum) != sizeof out->sum - 1)
        st = bad_attribute(f, where, "sha256", "16 hex digits");
    if (!st)
        memcpy(out->sum, sum, sizeof out->sum);
    arena_release(&mem);
    return st;
}

/* Only what the user block vouches for goes to libhdf5. */
static enum graft_status check_seal(const struct h5_file *f, const char *magic, const char *kind)
{
    struct h5_seal seal;
    char hex[65];

    if (f->map.size < H5_USER_BLOCK || memcmp(f->map.data, magic, sizeof seal.magic) != 0)
        return graft_fail(f->err, GRAFT_EFORMAT, "%s: not a %s", f->path, kind);
    memcpy(&seal, f->map.data, sizeof seal);
    if (seal.size != f->map.size)
        return graft_fail(f->err, GRAFT_EFORMAT, "%s: has %zu bytes, wanted %llu: %s", f->path,
                          f->map.size, (unsigned long long)seal.size,
                          f->map.size < seal.size ? "it is cut short" : "more than it should");
    if (seal.end < H5_USER_BLOCK || seal.end > seal.size)
        return graft_fail(f->err, GRAFT_EFORMAT, "%s: damaged: its structure ends at byte %llu",
                          f->path, (unsigned long long)seal.end);
    sha256_hex((const char *)f->map.data + H5_USER_BLOCK, (size_t)seal.end - H5_USER_BLOCK, hex);
    if (memcmp(hex, seal.sum, sizeof seal.sum) != 0)
        return graft_fail(
            f->err, GRAFT_EFORMAT,
            "%s: damaged, or changed by another program: the checksum of its structure "
            "is %.16s, the file says %s",
            f->path, hex, SHOW_BYTES(seal.sum, 16));
    return GRAFT_OK;
}

enum graft_status h5_open(struct h5_file *f, const char *magic, const char *kind)
{
    hid_t fapl;

    GRAFT_TRY(check_seal(f, magic, kind));
    fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(fapl, false, true);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    f->id = H5Fopen(f->path, H5F_ACC_RDONLY, fapl);
    H5Pclose(fapl);
    return f->id < 0 ? h5_fail(f->err, GRAFT_EFORMAT, f->path, "a damaged HDF5 file") : GRAFT_OK;
}
