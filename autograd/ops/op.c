#include "autograd/ops/op.h"

#include <inttypes.h>
#include <stdio.h>

char *shape_text(const struct tensor *t, char buf[96])
{
    size_t at = 0;

    buf[at++] = '(';
    for (int i = 0; i < t->ndim; i++)
        at += (size_t)snprintf(buf + at, 96 - at, "%s%" PRId64, i ? ", " : "", t->dim[i]);
    snprintf(buf + at, 96 - at, ")");
    return buf;
}

enum graft_status expect_vector(const struct tensor *t, int64_t n, const char *what,
                                struct graft_err *err)
{
    char found[96];

    if (t->ndim == 1 && t->dim[0] == n && t->dtype == DT_F32 && !t->w && !t->from)
        return GRAFT_OK;
    return graft_fail(err, GRAFT_ESHAPE, "%s: wants a vector of %" PRId64 " f32 values, found %s%s",
                      what, n, t->w ? "a matrix " : "", shape_text(t, found));
}

enum graft_status expect_same_shape(const struct tensor *a, const struct tensor *b,
                                    const char *what, struct graft_err *err)
{
    char ta[96], tb[96];
    bool same = a->ndim == b->ndim;

    for (int i = 0; same && i < a->ndim; i++)
        same = a->dim[i] == b->dim[i];
    if (same)
        return GRAFT_OK;
    return graft_fail(err, GRAFT_ESHAPE, "%s: inputs have shapes %s and %s", what,
                      shape_text(a, ta), shape_text(b, tb));
}

enum graft_status expect_rows(const struct tensor *x, const char *what, struct graft_err *err)
{
    if (x->ndim >= 1 && !x->w)
        return GRAFT_OK;
    return graft_fail(err, GRAFT_ESHAPE, "%s: wants rows of activations, found %s", what,
                      x->w ? "a frozen weight" : "a scalar");
}
