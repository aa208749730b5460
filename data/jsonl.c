#include "data/jsonl.h"

#include <string.h>
#include <strings.h>

/* Kinds of files that people have instead, by their first bytes, else by the end of their name, and
 * one line that makes JSONL of them. % is the path. */
#define PANDAS(read)                                                                               \
    "python3 -c \"import pandas; pandas." read ".to_json('%.jsonl', orient='records', "            \
    "lines=True)\""
static const struct other_kind {
    const char *magic, *suffix;
    const char *what, *convert;
} other_kinds[] = {
    { "PAR1", NULL, "a Parquet file", PANDAS("read_parquet('%')") },
    { "ARROW1", NULL, "an Arrow file", PANDAS("read_feather('%')") },
    { "\x1f\x8b", NULL, "compressed by gzip", "gunzip -k '%'" },
    { "\x28\xb5\x2f\xfd", NULL, "compressed by zstd", "zstd -dk '%'" },
    { "BZh", NULL, "compressed by bzip2", "bunzip2 -k '%'" },
    { "\xfd\x37zXZ", NULL, "compressed by xz", "unxz -k '%'" },
    { "PK\x03\x04", NULL, "a ZIP archive", "unzip '%'" },
    { "\xff\xfe", NULL, "UTF-16", "iconv -f UTF-16 -t UTF-8 '%' > '%.utf8.jsonl'" },
    { "\xfe\xff", NULL, "UTF-16", "iconv -f UTF-16 -t UTF-8 '%' > '%.utf8.jsonl'" },
    { NULL, ".txt", "plain text", "jq -Rc '{text: .}' '%' > '%.jsonl'" },
    { NULL, ".csv", "CSV", PANDAS("read_csv('%')") },
    { NULL, ".tsv", "TSV", PANDAS("read_csv('%', sep='\\t')") },
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool has_suffix(const char *path, const char *suffix)
{
    const size_t n = strlen(path), m = strlen(suffix);

    return n >= m && strcasecmp(path + n - m, suffix) == 0;
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

static enum graft_status check_kind(const struct jsonl *j, struct graft_err *err)
{
    const size_t size = (size_t)(j->end - j->pos);

    for (size_t i = 0; i < sizeof other_kinds / sizeof *other_kinds; i++) {
        const struct other_kind *k = &other_kinds[i];
        const size_t n = k->magic ? strlen(k->magic) : 0;

        if (k->magic ? size >= n && memcmp(j->pos, k->magic, n) == 0
                     : has_suffix(j->path, k->suffix) && size && *j->pos != '{')
            return fail_kind(j->path, k->what, k->convert, err);
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
    if (p == j->end)
        return graft_fail(err, GRAFT_EFORMAT, "%s: no records", j->path);
    if (*p == '[')
        return fail_kind(j->path, "a JSON array", "jq -c '.[]' '%' > '%.jsonl'", err);
    for (len = 1; p + len < j->end && p[len] != '\n'; len++)
        if (!is_blank(p[len]))
            return GRAFT_OK;
    if (*p == '{' && p + len < j->end)
        return fail_kind(j->path, "JSON over several lines", "jq -c . '%' > '%.jsonl'", err);
    return GRAFT_OK;
}

enum graft_status jsonl_open(const char *path, struct jsonl *out, struct graft_err *err)
{
    struct jsonl j = { .path = path };
    enum graft_status st;

    GRAFT_TRY(file_map(path, &j.map, err));
    j.pos = j.map.data ? j.map.data : "";
    j.end = j.pos + j.map.size;
    st = check_kind(&j, err);
    if (j.map.size >= 3 && memcmp(j.pos, "\xef\xbb\xbf", 3) == 0)
        j.pos += 3;
    while (j.end > j.pos && is_blank(j.end[-1]))
        j.end--;
    if (!st)
        st = check_json(&j, err);
    if (st)
        file_unmap(&j.map);
    else
        *out = j;
    return st;
}

void jsonl_close(struct jsonl *j)
{
    file_unmap(&j->map);
    j->pos = j->end = NULL;
}

bool jsonl_next(struct jsonl *j, const char **line, size_t *len)
{
    const char *lf;

    if (j->pos == j->end)
        return false;
    lf = memchr(j->pos, '\n', (size_t)(j->end - j->pos));
    *line = j->pos;
    *len = (size_t)((lf ? lf : j->end) - j->pos);
    if (*len && (*line)[*len - 1] == '\r')
        --*len;
    j->pos = lf ? lf + 1 : j->end;
    j->line++;
    return true;
}

enum graft_status jsonl_check(const char *path, int64_t number, const char *line, size_t len,
                              struct graft_err *err)
{
    bool blank = true;
    uint32_t cp;

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
