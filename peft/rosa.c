/* RoSA, Nikdan et al. 2024, arXiv:2401.04679: a low-rank and a sparse change of the weight; and the
 * sparse one alone (SpA). Names, start values and arithmetic as in the authors' fork of PEFT.
 *
 * y' = y + s B A dropout(x) + S x      s = alpha / r, or alpha / sqrt(r) with use_rslora
 * A: (R, I)   B: (O, R)   S: (O, I), nnz values at places chosen by peft/rosa_mask.c, without
 * scale and dropout
 * Merged: W' = W + s B A + S. */
#include <string.h>

#include "peft/rosa.h"

static enum graft_status build_low_rank(struct adapter_site *s, struct graft_err *err)
{
    const struct adapter_config *c = &s->adapter->config;
    const struct param_spec a = { .suffix = ".rosa_A.weight",
                                  .ndim = 2,
                                  .dim = { s->r, s->slot->in },
                                  .fixed = c->schedule == ROSA_SPARSE },
                            b = { .suffix = ".rosa_B.weight",
                                  .ndim = 2,
                                  .dim = { s->slot->out, s->r },
                                  .fixed = c->schedule == ROSA_SPARSE,
                                  .lr_ratio = c->loraplus_lr_ratio };

    s->param[LORA_A] = adapter_param(s, &a);
    s->param[LORA_B] = adapter_param(s, &b);
    if (!s->param[LORA_A] || !s->param[LORA_B])
        return graft_fail_nomem(err, s->slot->name,
                                (size_t)(s->r * (s->slot->in + s->slot->out)) * 4);
    return GRAFT_OK;
}

static enum graft_status build_sparse(struct adapter_site *s, int64_t nnz, struct graft_err *err)
{
    const struct param_spec values = { .suffix = ".rosa_spa.values",
                                       .ndim = 1,
                                       .dim = { nnz },
                                       .idle = true,
                                       .lr_ratio = s->adapter->config.spa_lr_ratio },
                            offs = { .suffix = ".rosa_spa.row_offs",
                                     .ndim = 1,
                                     .dim = { s->slot->out + 1 },
                                     .index = true },
                            cols = { .suffix = ".rosa_spa.col_idx",
                                     .ndim = 1,
                                     .dim = { nnz },
                                     .index = true };

    s->param[ROSA_VALUES] = adapter_param(s, &values);
    s->param[ROSA_ROW_OFFS] = adapter_param(s, &offs);
    s->param[ROSA_COL_IDX] = adapter_param(s, &cols);
    if (!s->param[ROSA_VALUES] || !s->param[ROSA_ROW_OFFS] || !s->param[ROSA_COL_IDX])
        return graft_fail_nomem(err, s->slot->name, (size_t)nnz * 12);
    return GRAFT_OK;
}

static enum graft_status rosa_build(struct adapter_site *s, struct graft_err *err)
{
    struct adapter *a = s->adapter;
    struct rosa_site *own = arena_alloc(&a->mem, sizeof *own);

    if (!a->state)
        a->state = arena_alloc(&a->mem, sizeof(struct rosa));
    if (!own || !a->state)
        return graft_fail_nomem(err, s->slot->name, sizeof *own);
    s->state = own;
    own->nnz = (int64_t)(s->density * (double)(s->slot->out * s->slot->in));
    own->sparse.rows = s->slot->out;
    own->sparse.cols = s->slot->in;
    if (own->nnz > INT32_MAX)
        return graft_fail(err, GRAFT_EARG,
                          "adapter.d: %g of %s would be %lld values, at most %d are supported",
                          s->density, s->slot->name, (long long)own->nnz, INT32_MAX);
    if (s->r)
        GRAFT_TRY(build_low_rank(s, err));
    return own->nnz ? build_sparse(s, own->nnz, err) : GRAFT_OK;
}

/* A and B as LoRA's; the values of S begin as zero. */
static enum graft_status rosa_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    return s->r ? lora_init(s, seed, err) : GRAFT_OK;
}

static struct tensor *rosa_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                   struct tensor *y)
{
    const struct rosa_site *own = s->state;

    if (own->nnz)
        y = op_sparse(g, x, graph_leaf(g, s->param[ROSA_VALUES]), y, &own->sparse);
    return s->r ? lora_change(s, g, lora_dropped(s, g, x), y) : y;
}

static void rosa_merge_rows(const struct adapter_site *s, int64_t first, int64_t n, float *w)
{
    const struct rosa_site *own = s->state;
    const int32_t *offs = own->sparse.row_offs, *cols = own->sparse.col_idx;
    const float *v = own->nnz ? s->param[ROSA_VALUES]->data : NULL;

    if (s->r)
        lora_merge_rows(s, first, n, w);
    for (int64_t i = 0; i < n && offs; i++)
        for (int64_t k = offs[first + i]; k < offs[first + i + 1]; k++)
            w[i * s->slot->in + cols[k]] += v[k];
}

enum graft_status rosa_check(const struct adapter_site *s, bool *chosen, struct graft_err *err)
{
    const struct rosa_site *own = s->state;
    const int32_t *offs = s->param[ROSA_ROW_OFFS]->data, *cols = s->param[ROSA_COL_IDX]->data;
    const char *name = s->param[ROSA_ROW_OFFS]->name;

    *chosen = offs[s->slot->out] != 0;
    for (int64_t o = 0; o <= s->slot->out; o++)
        if (o ? offs[o] < offs[o - 1] : offs[o] != 0)
            return graft_fail(err, GRAFT_EFORMAT, "%s[%lld] is %d, wanted %s", name, (long long)o,
                              offs[o], o ? "no less than the one before" : "0");
    if (*chosen && offs[s->slot->out] != own->nnz)
        return graft_fail(err, GRAFT_EFORMAT, "%s ends with %d, there are %lld values", name,
                          offs[s->slot->out], (long long)own->nnz);
    for (int64_t o = 0; o < s->slot->out; o++)
        for (int64_t k = offs[o]; k < offs[o + 1]; k++)
            if (cols[k] < 0 || cols[k] >= s->slot->in || (k > offs[o] && cols[k] <= cols[k - 1]))
                return graft_fail(
                    err, GRAFT_EFORMAT,
                    "%s[%lld] is %d, wanted columns of row %lld in rising order, below %lld",
                    s->param[ROSA_COL_IDX]->name, (long long)k, cols[k], (long long)o,
                    (long long)s->slot->in);
    return GRAFT_OK;
}

void rosa_wake(struct adapter_site *s)
{
    struct rosa_site *own = s->state;

    own->sparse.row_offs = s->param[ROSA_ROW_OFFS]->data;
    own->sparse.col_idx = s->param[ROSA_COL_IDX]->data;
    adapter_wake(s->adapter, s->param[ROSA_VALUES]);
}

/* An adapter saved before its places were chosen has none yet, and goes on as a fresh one. */
static enum graft_status rosa_loaded(struct adapter_site *s, struct graft_err *err)
{
    const struct rosa_site *own = s->state;
    bool chosen = false;

    if (!own->nnz)
        return GRAFT_OK;
    GRAFT_TRY(rosa_check(s, &chosen, err));
    if (chosen)
        rosa_wake(s);
    return GRAFT_OK;
}

/* What the fork keeps besides: an order of the rows, and the transpose. */
static const char *const spare[] = { ".rosa_spa.row_idx",     ".rosa_spa.tr_perm",
                                     ".rosa_spa.tr_row_offs", ".rosa_spa.tr_row_idx",
                                     ".rosa_spa.tr_col_idx",  NULL };

/* Both are one thing: the config says which halves a site has. */
#define EITHER                                                                                     \
    .paper = "arXiv:2401.04679", .sites = SITE_LINEAR, .build = rosa_build, .init = rosa_init,     \
    .forward = rosa_forward, .loaded = rosa_loaded, .spare = spare, .phases = &rosa_phases,        \
    .merge_rows = rosa_merge_rows, .merges = MERGE_ADDS

const struct adapter_ops rosa_ops = { .name = "rosa", .peft_type = "ROSA", EITHER };
const struct adapter_ops spa_ops = { .name = "spa", .peft_type = "SPA", EITHER };
