/* Starts that are taken out of the base, which must be the smaller by them: PiSSA (Meng et al.
 * 2024, arXiv:2404.02948), OLoRA (Bueyuekakyuez 2024, arXiv:2406.01775), LoftQ (Li et al. 2023,
 * arXiv:2310.08659).
 *
 * s B0 A0 of W: pissa the largest singular triples, U sqrt(S / s) and sqrt(S / s) V^T; olora Q[:,
 * :R] and R[:R] of a QR decomposition; loftq the largest triples of what quantisation loses.
 *
 * A base that was quantised on loading is changed: its floats less s B0 A0, quantised again. Any
 * other stays as it is, and the start is subtracted beside it:
 *     y' = y + s B A dropout(x) - s B0 A0 x
 * which is saved as plain LoRA of twice the rank over the unchanged base, as PEFT converts its own:
 *     A' = [A; A0]   B' = [B | -B0] */
#include <math.h>
#include <string.h>

#include "backend/lapack.h"
#include "peft/lora.h"

static enum graft_status refuse(const struct adapter_site *s, const char *why,
                                struct graft_err *err)
{
    return graft_fail(err, GRAFT_EARG, "adapter.init_lora_weights at %s: %s", s->slot->name, why);
}

enum graft_status lora_taken_check(struct adapter_site *s, struct graft_err *err)
{
    const struct slot *slot = s->slot;
    const bool first = s == s->adapter->site;

    if (slot->site == SITE_EMBED)
        return refuse(s, "an embedding has no such start; leave it out of target_modules", err);
    if (s->r > (slot->in < slot->out ? slot->in : slot->out))
        return refuse(s, "the rank is larger than the weight's smaller side", err);
    if (!(s->scale > 0))
        return refuse(s, "such a start wants lora_alpha above 0", err);
    if (first)
        s->adapter->changes_base = slot_changeable(slot);
    if (s->adapter->changes_base != slot_changeable(slot))
        return refuse(s,
                      "the base's linears are quantised, this one is not, and both cannot give up "
                      "the start in one way; leave it out of target_modules",
                      err);
    if (s->adapter->config.init == LORA_INIT_LOFTQ && !s->adapter->changes_base)
        return refuse(s,
                      "loftq makes up for what quantisation loses: it wants a base in floats and "
                      "quant nf4 or fp4",
                      err);
    return GRAFT_OK;
}

enum graft_status lora_taken_build(struct adapter_site *s, struct graft_err *err)
{
    const int64_t R = s->r, in = s->slot->in, out = s->slot->out;
    const struct param_spec spec[] = {
        [LORA_A0] = { .suffix = ".lora_A.start",
                      .ndim = 2,
                      .dim = { R, in },
                      .file = FILE_NONE,
                      .fixed = true },
        [LORA_B0] = { .suffix = ".lora_B.start",
                      .ndim = 2,
                      .dim = { out, R },
                      .file = FILE_NONE,
                      .fixed = true },
        [LORA_FILE_A] = { .suffix = ".lora_A.weight",
                          .ndim = 2,
                          .dim = { 2 * R, in },
                          .file = FILE_ADAPTER,
                          .fixed = true },
        [LORA_FILE_B] = { .suffix = ".lora_B.weight",
                          .ndim = 2,
                          .dim = { out, 2 * R },
                          .file = FILE_ADAPTER,
                          .fixed = true },
    };

    for (int i = LORA_A0; i <= LORA_FILE_B; i++) {
        s->param[i] = adapter_param(s, &spec[i]);
        if (!s->param[i])
            return graft_fail_nomem(err, s->slot->name, (size_t)(2 * R * (in + out)) * 4);
    }
    return GRAFT_OK;
}

/* ---- decompositions: W (out, in) into b (out, R) and a (R, in), W nearly s b a */

struct parts {
    float *u, *sigma, *vt;
    struct arena mem;
};

static void from_triples(const struct adapter_site *s, const struct parts *p, float *a, float *b)
{
    const int64_t R = s->r, in = s->slot->in, out = s->slot->out;

    for (int64_t r = 0; r < R; r++) {
        const float root = sqrtf(p->sigma[r] / s->scale);

        for (int64_t k = 0; k < in; k++)
            a[r * in + k] = root * p->vt[r * in + k];
        for (int64_t i = 0; i < out; i++)
            b[i * R + r] = root * p->u[i * R + r];
    }
}

/* rounds < 0: as exactly as lapack_svd_top */
static enum graft_status by_svd(const struct adapter_site *s, const float *w, int rounds, float *a,
                                float *b, struct graft_err *err)
{
    const int64_t R = s->r, in = s->slot->in, out = s->slot->out;
    struct parts p = { .mem = ARENA_INIT };
    enum graft_status st = GRAFT_OK;

    p.u = arena_array(&p.mem, (size_t)(out * R), sizeof *p.u);
    p.sigma = arena_array(&p.mem, (size_t)R, sizeof *p.sigma);
    p.vt = arena_array(&p.mem, (size_t)(R * in), sizeof *p.vt);
    if (!p.u || !p.sigma || !p.vt)
        st = graft_fail_nomem(err, s->slot->name, (size_t)(R * (in + out)) * 4);
    else if (rounds < 0)
        st = lapack_svd_top(out, in, w, R, p.u, p.sigma, p.vt, err);
    else
        st = lapack_svd_rounds(out, in, w, R, rounds, p.u, p.sigma, p.vt, err);
    if (!st)
        from_triples(s, &p, a, b);
    arena_release(&p.mem);
    return st;
}

/* The first R columns of Q depend on those of W alone; the first R rows of R are Q^T W. */
static enum graft_status by_qr(const struct adapter_site *s, const float *w, float *a, float *b,
                               struct graft_err *err)
{
    const int64_t R = s->r, in = s->slot->in, out = s->slot->out;
    float *tri = mem_array((size_t)(R * R), sizeof *tri);
    enum graft_status st;

    if (!tri)
        return graft_fail_nomem(err, s->slot->name, (size_t)(R * R) * 4);
    for (int64_t i = 0; i < out; i++)
        memcpy(b + i * R, w + i * in, (size_t)R * sizeof *b);
    st = lapack_qr(out, R, b, tri, err);
    if (!st)
        lapack_product(R, in, out, 1.0f, b, true, w, false, 0, a);
    mem_free(tri);
    return st;
}

/* w -= s b a */
static void take(const struct adapter_site *s, const float *a, const float *b, float *w)
{
    lapack_product(s->slot->out, s->slot->in, s->r, -s->scale, b, false, a, false, 1.0f, w);
}

/* Quantise what A and B leave, let them catch what that loses, and again. The scale of the adapter
 * counts, so that base and adapter together are nearest to W whatever lora_alpha is; `w` and `left`
 * (out, in). */
static enum graft_status by_loftq(struct adapter_site *s, const float *w, float *left, float *a,
                                  float *b, struct graft_err *err)
{
    const int64_t n = s->slot->out * s->slot->in;

    memcpy(left, w, (size_t)n * sizeof *left);
    for (int i = 0; i < s->adapter->config.loftq_iter; i++) {
        if (i > 0) {
            memcpy(left, w, (size_t)n * sizeof *left);
            take(s, a, b, left);
        }
        GRAFT_TRY(slot_change(s->slot, left, err));
        slot_decode_rows(s->slot, 0, s->slot->out, left);
        for (int64_t k = 0; k < n; k++)
            left[k] = w[k] - left[k];
        GRAFT_TRY(by_svd(s, left, -1, a, b, err));
    }
    return GRAFT_OK;
}

static enum graft_status decompose(struct adapter_site *s, float *w, float *left, float *a,
                                   float *b, struct graft_err *err)
{
    const struct adapter_config *c = &s->adapter->config;

    if (c->init == LORA_INIT_LOFTQ)
        return by_loftq(s, w, left, a, b, err);
    if (c->init == LORA_INIT_OLORA)
        GRAFT_TRY(by_qr(s, w, a, b, err));
    else
        GRAFT_TRY(by_svd(s, w, c->pissa_niter ? c->pissa_niter : -1, a, b, err));
    if (!s->adapter->changes_base)
        return GRAFT_OK;
    take(s, a, b, w);
    return slot_change(s->slot, w, err);
}

enum graft_status lora_taken_init(struct adapter_site *s, struct graft_err *err)
{
    const int64_t n = s->slot->out * s->slot->in, R = s->r;
    const bool loftq = s->adapter->config.init == LORA_INIT_LOFTQ;
    float *a = s->param[LORA_A]->data, *b = s->param[LORA_B]->data;
    float *w = mem_array((size_t)n, sizeof *w), *left = NULL;
    enum graft_status st = GRAFT_OK;

    if (loftq)
        left = mem_array((size_t)n, sizeof *left);
    if (!w || (loftq && !left)) {
        st = graft_fail_nomem(err, s->slot->name, (size_t)n * 8);
    } else {
        slot_source_rows(s->slot, 0, s->slot->out, w);
        st = decompose(s, w, left, a, b, err);
    }
    if (st && st != GRAFT_ENOMEM)
        graft_fail_in(err, st, "%s", s->slot->name);
    if (!st && s->param[LORA_A0]) {
        memcpy(s->param[LORA_A0]->data, a, (size_t)(R * s->slot->in) * sizeof *a);
        memcpy(s->param[LORA_B0]->data, b, (size_t)(s->slot->out * R) * sizeof *b);
    }
    mem_free(w);
    mem_free(left);
    return st;
}

struct tensor *lora_taken_forward(struct adapter_site *s, struct graph *g, struct tensor *x,
                                  struct tensor *y)
{
    struct tensor *low = op_linear(g, x, graph_leaf(g, s->param[LORA_A0]), NULL, NULL, 1.0f);

    return op_linear(g, low, graph_leaf(g, s->param[LORA_B0]), NULL, y, -s->scale);
}

enum graft_status lora_taken_derive(struct adapter_site *s, struct graft_err *err)
{
    const int64_t R = s->r, in = s->slot->in, out = s->slot->out;
    float *a, *b;

    (void)err;
    if (!s->param[LORA_FILE_A])
        return GRAFT_OK;
    a = s->param[LORA_FILE_A]->data;
    b = s->param[LORA_FILE_B]->data;
    memcpy(a, s->param[LORA_A]->data, (size_t)(R * in) * sizeof *a);
    memcpy(a + R * in, s->param[LORA_A0]->data, (size_t)(R * in) * sizeof *a);
    for (int64_t i = 0; i < out; i++)
        for (int64_t r = 0; r < R; r++) {
            b[i * 2 * R + r] = ((const float *)s->param[LORA_B]->data)[i * R + r];
            b[i * 2 * R + R + r] = -((const float *)s->param[LORA_B0]->data)[i * R + r];
        }
    return GRAFT_OK;
}
