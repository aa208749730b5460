#include "io/token_cache.h"

#include <string.h>

#include "io/build.h"
#include "io/h5.h"
#include "io/token_file.h"

const char token_magic[9] = "graft-tk";

uint64_t block_sum(const void *bytes, size_t len)
{
    /* Four lanes of 8 bytes, each step a bijection of the lane and of the bytes, so that a change
     * of one word is always seen. Odd constants with bits set all over, from the digits of pi. */
    const uint64_t a = 0x243f6a8885a308d3u | 1, b = 0x13198a2e03707345u | 1;
    uint64_t lane[4] = { a, b, a ^ b, len };
    const unsigned char *p = bytes;
    unsigned char tail[32] = { 0 };

    for (; len > 0; p += 32) {
        uint64_t w[4];

        if (len < 32) {
            memcpy(tail, p, len);
            p = tail;
        }
        memcpy(w, p, sizeof w);
        for (int i = 0; i < 4; i++) {
            lane[i] = (lane[i] ^ w[i] * a) * b;
            lane[i] ^= lane[i] >> 29;
        }
        len = len < 32 ? 0 : len - 32;
        if (p == tail)
            break;
    }
    for (int i = 1; i < 4; i++) {
        lane[0] = (lane[0] ^ lane[i] * a) * b;
        lane[0] ^= lane[0] >> 32;
    }
    return lane[0];
}

size_t sum_count(uint64_t bytes)
{
    return (size_t)((bytes + SUM_BLOCK - 1) / SUM_BLOCK);
}

/* What one open works on. */
struct reader {
    struct h5_file f;
    struct token_cache c;
    struct h5_bytes token, record, sums, meta;
    uint64_t token_bytes, record_bytes;
};

/* The small datasets have a SHA-256 of their own. */
static enum graft_status check_sha256(const struct reader *r, const struct h5_bytes *b,
                                      const char *name)
{
    char hex[65];

    sha256_hex(b->data, b->len, hex);
    if (memcmp(hex, b->sum, sizeof b->sum - 1) == 0)
        return GRAFT_OK;
    return graft_fail(r->f.err, GRAFT_EFORMAT, "%s: damaged: the checksum of \"%s\" is not %s",
                      r->f.path, name, SHOW(b->sum));
}

static enum graft_status read_int(const struct reader *r, hid_t group, const char *name,
                                  int64_t *out)
{
    int count = 0;

    GRAFT_TRY(h5_get_ints(&r->f, group, "cache", name, 1, out, &count));
    if (count == 1 && *out >= 0)
        return GRAFT_OK;
    return graft_fail(r->f.err, GRAFT_EFORMAT, "%s: attribute \"%s\": wanted one number from 0",
                      r->f.path, name);
}

static enum graft_status check_head(struct reader *r, hid_t group, const char *key, size_t row_size)
{
    struct arena mem = ARENA_INIT;
    const char *have = "";
    int64_t version = 0, size = 0;
    enum graft_status st;

    GRAFT_TRY(read_int(r, group, "version", &version));
    if (version != TOKEN_FILE_VERSION)
        return graft_fail(r->f.err, GRAFT_EFORMAT, "%s: of version %lld, wanted %d", r->f.path,
                          (long long)version, TOKEN_FILE_VERSION);
    GRAFT_TRY(read_int(r, group, "row_size", &size));
    st = h5_get_text(&r->f, group, "cache", "key", &mem, &have);
    if (!st && (strcmp(have, key) != 0 || (uint64_t)size != row_size))
        st = graft_fail(r->f.err, GRAFT_EFORMAT, "%s: made from something else", r->f.path);
    arena_release(&mem);
    return st;
}

/* Do the datasets hold what the counts say, where it can be used as it lies there? */
static enum graft_status check_extent(struct reader *r, size_t row_size)
{
    const bool fits =
        !__builtin_mul_overflow((uint64_t)r->c.tokens, sizeof(int32_t), &r->token_bytes) &&
        !__builtin_mul_overflow((uint64_t)r->c.records, row_size, &r->record_bytes) &&
        r->token_bytes <= r->token.len && r->record_bytes <= r->record.len &&
        r->sums.len == 8 * (sum_count(r->token_bytes) + sum_count(r->record_bytes)) &&
        (uintptr_t)r->token.data % H5_PAGE == 0 && (uintptr_t)r->record.data % H5_PAGE == 0;

    return fits ? GRAFT_OK
                : graft_fail(r->f.err, GRAFT_EFORMAT,
                             "%s: %lld tokens and %lld records do not fit what it holds", r->f.path,
                             (long long)r->c.tokens, (long long)r->c.records);
}

static enum graft_status read_group(struct reader *r, hid_t group, const char *key, size_t row_size)
{
    GRAFT_TRY(check_head(r, group, key, row_size));
    GRAFT_TRY(read_int(r, group, "tokens_count", &r->c.tokens));
    GRAFT_TRY(read_int(r, group, "records_count", &r->c.records));
    GRAFT_TRY(h5_get_place(&r->f, group, "cache", "tokens", H5T_INTEGER, 4, &r->token));
    GRAFT_TRY(h5_get_place(&r->f, group, "cache", "records", H5T_INTEGER, 1, &r->record));
    GRAFT_TRY(h5_get_bytes(&r->f, group, "cache", "sums", H5T_INTEGER, 8, &r->sums));
    GRAFT_TRY(h5_get_bytes(&r->f, group, "cache", "meta", H5T_INTEGER, 1, &r->meta));
    GRAFT_TRY(check_extent(r, row_size));
    GRAFT_TRY(check_sha256(r, &r->sums, "sums"));
    GRAFT_TRY(check_sha256(r, &r->meta, "meta"));
    r->c.token = r->token.data;
    r->c.record = r->record.data;
    r->c.meta = r->meta.data;
    r->c.meta_len = r->meta.len;
    return GRAFT_OK;
}

static enum graft_status read_structure(struct reader *r, const char *key, size_t row_size)
{
    struct h5_quiet quiet;
    enum graft_status st;
    hid_t group;

    h5_quiet_begin(&quiet);
    r->f.id = H5I_INVALID_HID;
    st = h5_open(&r->f, token_magic, "token cache of Graft");
    if (!st) {
        group =
            h5_has(r->f.id, "cache") ? H5Gopen2(r->f.id, "cache", H5P_DEFAULT) : H5I_INVALID_HID;
        st = group >= 0 ? read_group(r, group, key, row_size)
                        : graft_fail(r->f.err, GRAFT_EFORMAT, "%s: there is no group \"cache\"",
                                     r->f.path);
        if (group >= 0)
            H5Gclose(group);
    }
    if (r->f.id >= 0)
        H5Fclose(r->f.id);
    h5_quiet_end(&quiet);
    return st;
}

/* Are the bytes what their checksums, from sums[0] on, say? */
static bool verify(const void *bytes, uint64_t len, const void *sums)
{
    enum { AT_ONCE = 16 }; /* blocks that are in memory together */
    const int64_t blocks = (int64_t)sum_count(len);
    bool good = true;

    for (int64_t i = 0; i < blocks && good; i += AT_ONCE) {
        const int64_t end = blocks - i < AT_ONCE ? blocks : i + AT_ONCE;

#pragma omp parallel for schedule(dynamic) reduction(&& : good)
        for (int64_t k = i; k < end; k++) {
            const uint64_t at = (uint64_t)k * SUM_BLOCK, left = len - at;
            uint64_t want;

            memcpy(&want, (const char *)sums + k * 8, sizeof want);
            good = good && block_sum((const char *)bytes + at,
                                     left < SUM_BLOCK ? (size_t)left : SUM_BLOCK) == want;
        }
        if (blocks > AT_ONCE) /* a small file is wanted at once */
            file_forget((const char *)bytes + i * SUM_BLOCK,
                        (size_t)(end < blocks ? AT_ONCE * (uint64_t)SUM_BLOCK
                                              : len - (uint64_t)i * SUM_BLOCK));
    }
    return good;
}

enum graft_status token_cache_open(const char *path, const char *key, size_t row_size,
                                   struct token_cache *out, struct graft_err *err)
{
    struct reader r = { .f = { path, H5I_INVALID_HID, { NULL, 0 }, err } };
    enum graft_status st = file_map(path, &r.f.map, err);

    if (st)
        return st;
    st = read_structure(&r, key, row_size);
    if (!st && (!verify(r.c.token, r.token_bytes, r.sums.data) ||
                !verify(r.c.record, r.record_bytes,
                        (const char *)r.sums.data + 8 * sum_count(r.token_bytes))))
        st = graft_fail(err, GRAFT_EFORMAT, "%s: damaged: a checksum is not what it should be",
                        path);
    if (st) {
        file_unmap(&r.f.map);
        return st;
    }
    r.c.map = r.f.map;
    *out = r.c;
    return GRAFT_OK;
}

void token_cache_release(struct token_cache *c)
{
    file_unmap(&c->map);
    *c = (struct token_cache){ .records = 0 };
}
