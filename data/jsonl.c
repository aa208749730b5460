#include "data/jsonl.h"

#include <string.h>
#include <strings.h>

#include "core/mem.h"

/* Kinds of files that people have instead, by their first bytes, else by the end of their name, and
 * one line that makes JSONL of them. % is the path. */
#define PANDAS(read)                                                                               \
    "python3 -c \"import pandas; pandas." read ".to_json('%.jsonl', orient='records', "            \
    "lines=True)\""
static const struct other_kind {
    const char *magic, *suffix;
    const char *what, *convert;
    size_t at; /* of the magic */
} other_kinds[] = {
    { "PAR1", NULL, "a Parquet file", PANDAS("read_parquet('%')"), 0 },
    { "ARROW1", NULL, "an Arrow file", PANDAS("read_feather('%')"), 0 },
    { "BZh", NULL, "compressed by bzip2", "bunzip2 -k '%'", 0 },
    { "\xfd\x37zXZ", NULL, "compressed by xz", "unxz -k '%'", 0 },
    { "ustar", NULL, "a tar archive", "tar xf '%'", 257 },
    { "PK\x03\x04", NULL, "a ZIP archive", "unzip '%'", 0 },
    { "\xff\xfe", NULL, "UTF-16", "iconv -f UTF-16 -t UTF-8 '%' > '%.utf8.jsonl'", 0 },
    { "\xfe\xff", NULL, "UTF-16", "iconv -f UTF-16 -t UTF-8 '%' > '%.utf8.jsonl'", 0 },
    { NULL, ".txt", "plain text", "jq -Rc '{text: .}' '%' > '%.jsonl'", 0 },
    { NULL, ".csv", "CSV", PANDAS("read_csv('%')"), 0 },
    { NULL, ".tsv", "TSV", PANDAS("read_csv('%', sep='\\t')"), 0 },
};

enum {
    BUFFER_BYTES = 4 << 20, /* of decompressed text, unless a line is longer */
    LINE_BYTES = 256 << 20, /* more than any record can be */
    HEAD_BYTES = 64 << 10   /* enough to tell what kind of file it is */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Do the first `n` bytes of `path` end so, in any case of letters? */
static bool has_suffix(const char *path, size_t n, const char *suffix)
{
    const size_t m = strlen(suffix);

    return n >= m && strncasecmp(path + n - m, suffix, m) == 0;
}

/* `convert` with the path put in for each %. */
static enum graft_status fail_kind(const char *path, const char *what, const char *convert,
                                   struct graft_err *err)
{
    struct strbuf cmd = STRBUF_INIT;
    enum graft_status st;

    for (const char *p = convert; *p; p++)
        if (*p == '%')
            strbuf_puts(&cmd, path);
        else
            strbuf_putc(&cmd, *p);
    st = cmd.failed ? graft_fail_nomem(err, path, cmd.len)
                    : graft_fail(err, GRAFT_EFORMAT,
                                 "%s: is %s, wanted JSONL (one JSON object a line); convert it: %s",
                                 path, what, strbuf_str(&cmd));
    strbuf_release(&cmd);
    return st;
}

/* What a compressed file holds is judged by the same signs; how to convert it begins with
 * decompressing it. */
static enum graft_status fail_packed(const struct jsonl *j, const char *what, struct graft_err *err)
{
    return graft_fail(err, GRAFT_EFORMAT,
                      "%s: what is compressed in it is %s, wanted JSONL (one JSON object a line)",
                      j->path, what);
}

static enum graft_status fail_content(const struct jsonl *j, const char *what, const char *convert,
                                      struct graft_err *err)
{
    return j->in ? fail_packed(j, what, err) : fail_kind(j->path, what, convert, err);
}

/* train.csv.gz has the suffix .csv too. */
static bool is_named(const struct jsonl *j, const char *suffix)
{
    static const char *const outer[] = { ".gz", ".zst", ".zstd" };
    size_t n = strlen(j->path);

    for (size_t i = 0; i < sizeof outer / sizeof *outer && j->in; i++)
        if (has_suffix(j->path, n, outer[i])) {
            n -= strlen(outer[i]);
            break;
        }
    return has_suffix(j->path, n, suffix);
}

static enum graft_status check_kind(const struct jsonl *j, struct graft_err *err)
{
    const size_t size = (size_t)(j->end - j->pos);

    if (input_packing(j->pos, size))
        return fail_packed(j, "compressed once more", err);
    for (size_t i = 0; i < sizeof other_kinds / sizeof *other_kinds; i++) {
        const struct other_kind *k = &other_kinds[i];
        const size_t n = k->magic ? strlen(k->magic) : 0;

        if (k->magic ? size >= k->at + n && memcmp(j->pos + k->at, k->magic, n) == 0
                     : is_named(j, k->suffix) && size && *j->pos != '{')
            return fail_content(j, k->what, k->convert, err);
    }
    return GRAFT_OK;
}

/* The first character decides between one object a line and a JSON document over many. */
static enum graft_status check_json(const struct jsonl *j, struct graft_err *err)
{
    const char *p = j->pos;
    size_t len;

    while (p < j->end && is_blank(*p))
        p++;
    if (p == j->end) /* or more blank space than anyone writes */
        return graft_fail(err, GRAFT_EFORMAT, "%s: no records", j->path);
    if (*p == '[')
        return fail_content(j, "a JSON array", "jq -c '.[]' '%' > '%.jsonl'", err);
    for (len = 1; p + len < j->end && p[len] != '\n'; len++)
        if (!is_blank(p[len]))
            return GRAFT_OK;
    if (*p == '{' && p + len < j->end)
        return fail_content(j, "JSON over several lines", "jq -c . '%' > '%.jsonl'", err);
    return GRAFT_OK;
}

/* Room for more behind `end`; what is left moves to the front of the buffer. */
static enum graft_status make_room(struct jsonl *j, struct graft_err *err)
{
    const size_t left = (size_t)(j->end - j->pos);

    if (left >= LINE_BYTES)
        return graft_fail(err, GRAFT_EFORMAT, "%s:%lld: the line is longer than %d MiB", j->path,
                          (long long)j->seen + 1, LINE_BYTES >> 20);
    if (left > j->cap / 2) {
        char *bigger = mem_alloc(2 * j->cap);

        if (!bigger)
            return graft_fail_nomem(err, j->path, 2 * j->cap);
        memcpy(bigger, j->pos, left);
        mem_free(j->buf);
        j->buf = bigger;
        j->cap *= 2;
    } else if (left) {
        memmove(j->buf, j->pos, left);
    }
    j->pos = j->buf;
    j->end = j->buf + left;
    return GRAFT_OK;
}

/* Bytes behind `end` until there are `want` of them, the buffer is full, or the stream ends. */
static enum graft_status fill(struct jsonl *j, size_t want, struct graft_err *err)
{
    while (!j->ended && (size_t)(j->end - j->pos) < want && j->end < j->buf + j->cap) {
        size_t got = 0;

        GRAFT_TRY(input_read(j->in, j->buf + (j->end - j->buf), (size_t)(j->buf + j->cap - j->end),
                             &got, err));
        j->end += got;
        j->ended = got == 0;
    }
    return GRAFT_OK;
}

enum graft_status jsonl_more(struct jsonl *j, struct graft_err *err)
{
    GRAFT_TRY(make_room(j, err));
    return fill(j, SIZE_MAX, err);
}

static enum graft_status open_packed(struct jsonl *j, struct graft_err *err)
{
    file_unmap(&j->map);
    j->pos = j->end = "";
    GRAFT_TRY(input_open(j->path, &j->in, err));
    j->buf = mem_alloc(BUFFER_BYTES);
    if (!j->buf)
        return graft_fail_nomem(err, j->path, BUFFER_BYTES);
    j->cap = BUFFER_BYTES;
    j->pos = j->end = j->buf;
    return fill(j, HEAD_BYTES, err);
}

enum graft_status jsonl_open(const char *path, struct jsonl *out, struct graft_err *err)
{
    struct jsonl j = { .path = path };
    enum graft_status st;

    GRAFT_TRY(file_map(path, &j.map, err));
    j.pos = j.kept = j.map.data ? j.map.data : "";
    j.end = j.pos + j.map.size;
    if (input_packing(j.pos, j.map.size))
        st = open_packed(&j, err);
    else
        st = (j.ended = true, GRAFT_OK);
    if (!st)
        st = check_kind(&j, err);
    if (j.end - j.pos >= 3 && memcmp(j.pos, "\xef\xbb\xbf", 3) == 0)
        j.pos += 3;
    if (!st)
        st = check_json(&j, err);
    if (st)
        jsonl_close(&j);
    else
        *out = j;
    return st;
}

void jsonl_close(struct jsonl *j)
{
    file_unmap(&j->map);
    input_close(j->in);
    mem_free(j->buf);
    *j = (struct jsonl){ .path = j->path, .line = j->line };
}

static bool all_blank(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_blank(s[i]))
            return false;
    return true;
}

/* Blank lines are held back until a line that is not blank shows that the file does not end with
 * them: `line` stays behind `seen` then, and they come first. */
enum jsonl_next jsonl_next(struct jsonl *j, const char **line, size_t *len)
{
    for (;;) {
        const size_t left = (size_t)(j->end - j->pos);
        const char *lf = left ? memchr(j->pos, '\n', left) : NULL;
        size_t n = lf ? (size_t)(lf - j->pos) : left;

        if (!lf && !j->ended)
            return JSONL_WAIT;
        if (!left)
            return JSONL_END;
        if (!all_blank(j->pos, n)) {
            *line = j->pos;
            if (j->line < j->seen) {
                *len = 0;
                j->line++;
                return JSONL_LINE;
            }
            *len = n - (j->pos[n - 1] == '\r');
            j->pos = lf ? lf + 1 : j->end;
            j->line = ++j->seen;
            return JSONL_LINE;
        }
        j->pos = lf ? lf + 1 : j->end;
        j->seen++;
    }
}

void jsonl_forget(struct jsonl *j)
{
    if (j->in || j->pos - j->kept < BUFFER_BYTES)
        return;
    file_forget(j->kept, (size_t)(j->pos - j->kept));
    j->kept = j->pos;
}

enum graft_status jsonl_check(const char *path, int64_t number, const char *line, size_t len,
                              struct graft_err *err)
{
    bool blank = true;
    uint32_t cp;

    if (len > LINE_BYTES)
        return graft_fail(err, GRAFT_EFORMAT, "%s:%lld: the line is longer than %d MiB", path,
                          (long long)number, LINE_BYTES >> 20);
    for (size_t i = 0; i < len;) {
        const int n = (unsigned char)line[i] < 0x80 ? 1 : utf8_next(line + i, len - i, &cp);

        if (n == 0)
            return graft_fail(err, GRAFT_EFORMAT, "%s:%lld: invalid UTF-8 at byte %zu (0x%02x)",
                              path, (long long)number, i + 1, (unsigned)(unsigned char)line[i]);
        blank = blank && is_blank(line[i]);
        i += (size_t)n;
    }
    if (blank)
        return graft_fail(err, GRAFT_EFORMAT, "%s:%lld: empty line, wanted a JSON object", path,
                          (long long)number);
    return GRAFT_OK;
}
