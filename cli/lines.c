#include "cli/lines.h"

#include <string.h>

#include "core/input.h"
#include "core/mem.h"

enum { BUFFER_BYTES = 64 << 10, LINE_BYTES = 256 << 20 };

/* text[at .. have) has not been handed out; no line ends before `seen`. */
struct lines {
    const char *name;
    char *text;
    size_t cap, at, seen, have;
    int64_t line;
    line_fn *take;
    void *user;
};

static enum graft_status hand_out(struct lines *l, size_t end, struct graft_err *err)
{
    size_t len = end - l->at;

    while (len && (l->text[l->at + len - 1] == '\n' || l->text[l->at + len - 1] == '\r'))
        len--;
    return l->take(l->user, ++l->line, l->text + l->at, len, err);
}

/* All whole lines that are there. */
static enum graft_status take_lines(struct lines *l, struct graft_err *err)
{
    const char *lf;

    while ((lf = memchr(l->text + l->seen, '\n', l->have - l->seen))) {
        const size_t end = (size_t)(lf - l->text) + 1;

        GRAFT_TRY(hand_out(l, end, err));
        l->at = l->seen = end;
    }
    l->seen = l->have;
    return GRAFT_OK;
}

static enum graft_status make_room(struct lines *l, struct graft_err *err)
{
    const size_t left = l->have - l->at;

    if (left > LINE_BYTES)
        return graft_fail(err, GRAFT_EFORMAT, "%s:%lld: the line is longer than %d MiB", l->name,
                          (long long)l->line + 1, LINE_BYTES >> 20);
    if (left > l->cap / 2) {
        char *bigger = mem_resize(l->text, l->cap, 2 * l->cap);

        if (!bigger)
            return graft_fail_nomem(err, l->name, 2 * l->cap);
        l->text = bigger;
        l->cap *= 2;
    }
    if (l->at && left)
        memmove(l->text, l->text + l->at, left);
    l->seen -= l->at;
    l->have -= l->at;
    l->at = 0;
    return GRAFT_OK;
}

static enum graft_status read_all(struct lines *l, struct input *in, struct graft_err *err)
{
    for (;;) {
        size_t got = 0;

        GRAFT_TRY(make_room(l, err));
        GRAFT_TRY(input_read(in, l->text + l->have, l->cap - l->have, &got, err));
        if (!got)
            break;
        l->have += got;
        GRAFT_TRY(take_lines(l, err));
    }
    return l->have > l->at ? hand_out(l, l->have, err) : GRAFT_OK;
}

enum graft_status lines_read(const char *path, line_fn *take, void *user, struct graft_err *err)
{
    struct lines l = { .name = !path || !strcmp(path, "-") ? "standard input" : path,
                       .cap = BUFFER_BYTES,
                       .take = take,
                       .user = user };
    struct input *in = NULL;
    enum graft_status st = input_open(path, &in, err);

    if (st)
        return st;
    l.text = mem_alloc(BUFFER_BYTES);
    st = l.text ? read_all(&l, in, err) : graft_fail_nomem(err, l.name, BUFFER_BYTES);
    mem_free(l.text);
    input_close(in);
    return st;
}
