#include "peft/slot.h"

#include <string.h>

#include "backend/backend.h"
#include "core/file.h"

enum { PARTS = 64 }; /* of a sum over rows; fixed, so that threads do not show in the bits */

void slot_decode_rows(const struct slot *s, int64_t first, int64_t n, float *out)
{
    qmat_decode(s->w, first * s->in, n * s->in, out);
}

void slot_source_rows(const struct slot *s, int64_t first, int64_t n, float *out)
{
    if (!s->source) {
        slot_decode_rows(s, first, n, out);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t row =
            s->source_head_dim ? slot_stored_row(first + i, s->source_head_dim) : first + i;

        qmat_decode(s->source, row * s->in, s->in, out + i * s->in);
    }
}

bool slot_changeable(const struct slot *s)
{
    return s->own != NULL;
}

/* The codes keep their place and size: the same shape, quantised the same way. */
enum graft_status slot_change(const struct slot *s, const float *w, struct graft_err *err)
{
    const struct qmat from = { .type = QT_F32, .rows = s->out, .cols = s->in, .data = w };
    const struct quant_spec spec = { s->own->type, s->own->block, s->own->absmax8 != NULL };
    const int64_t blocks = (s->out * s->in + spec.block - 1) / spec.block;
    struct arena mem = ARENA_INIT;
    struct qmat q;
    enum graft_status st = qmat_quantize(&from, &spec, &mem, &q, err);

    /* memory of the model's own, which nothing else writes */
    if (!st) {
        memcpy((void *)(uintptr_t)s->own->data, q.data, qmat_data_bytes(&q));
        if (spec.nested) {
            memcpy((void *)(uintptr_t)s->own->absmax8, q.absmax8, (size_t)blocks);
            memcpy((void *)(uintptr_t)s->own->absmax2, q.absmax2,
                   (size_t)((blocks + q.block2 - 1) / q.block2) * sizeof(float));
            s->own->offset = q.offset;
        } else {
            memcpy((void *)(uintptr_t)s->own->absmax, q.absmax, (size_t)blocks * sizeof(float));
        }
    } else if (st == GRAFT_ERUN) {
        graft_fail_in(err, st, "%s without what the adapter takes", s->name);
    }
    arena_release(&mem);
    file_forget(s->source->data, qmat_data_bytes(s->source));
    return st;
}

void slot_bias(const struct slot *s, float *out)
{
    memcpy(out, s->bias, (size_t)s->out * sizeof *out);
}

void slot_vector(const struct slot *s, float *out)
{
    memcpy(out, s->vector, (size_t)s->out * sizeof *out);
}

struct tensor *slot_weight(const struct slot *s, struct graph *g)
{
    return graph_weight(g, s->w, s->name);
}

struct tensor *slot_bias_leaf(const struct slot *s, struct graph *g)
{
    return s->bias ? graph_vector(g, s->bias, s->out, s->name) : NULL;
}

/* What part p of the rows adds: to `sum` (in) by columns, or to row_sum (out) by rows. */
static void add_squares(const struct slot *s, int p, float *row, double *sum, float *row_sum)
{
    for (int64_t i = s->out * p / PARTS; i < s->out * (p + 1) / PARTS; i++) {
        double all = 0;

        slot_decode_rows(s, i, 1, row);
        for (int64_t k = 0; k < s->in; k++) {
            const double square = (double)row[k] * (double)row[k];

            all += square;
            if (sum)
                sum[k] += square;
        }
        if (row_sum)
            row_sum[i] = (float)all;
    }
}

enum graft_status slot_squares(const struct slot *s, float *out, struct graft_err *err)
{
    const bool columns = s->site == SITE_EMBED;
    float *row = mem_array((size_t)(PARTS * s->in), sizeof *row);
    double *sum = columns ? mem_array((size_t)(PARTS * s->in), sizeof *sum) : NULL;

    if (!row || (columns && !sum)) {
        mem_free(row);
        return graft_fail_nomem(err, s->name, (size_t)(PARTS * s->in) * 12);
    }
#pragma omp parallel for schedule(static)
    for (int p = 0; p < PARTS; p++)
        add_squares(s, p, row + p * s->in, columns ? sum + p * s->in : NULL, columns ? NULL : out);
    for (int64_t k = 0; columns && k < s->in; k++) {
        for (int p = 1; p < PARTS; p++)
            sum[k] += sum[p * s->in + k];
        out[k] = (float)sum[k];
    }
    mem_free(sum);
    mem_free(row);
    return GRAFT_OK;
}

enum graft_status slot_changed_norms(const struct slot *s, int64_t R, float scale, const float *a,
                                     const float *b, const float *square, float *norm,
                                     struct graft_err *err)
{
    const struct backend *dev = backend_cpu();
    const bool columns = s->site == SITE_EMBED;
    const size_t bytes = columns ? dev->row_norms_scratch(R, s->out, s->in)
                                 : dev->row_norms_scratch(R, s->in, s->out);
    void *scratch = mem_alloc(bytes);

    if (!scratch)
        return graft_fail_nomem(err, s->name, bytes);
    dev->row_norms(R, scale, a, s->w, columns, b, square, norm, scratch);
    mem_free(scratch);
    return GRAFT_OK;
}

bool slot_is_float(const struct slot *s)
{
    return qtypes[s->w->type].is_float;
}
