#include "peft/combine.h"

#include <math.h>
#include <string.h>

#include "backend/lapack.h"
#include "peft/prune.h"

const char *const combine_names[COMBINE_COUNT + 1] = {
    "linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune", NULL
};

/* One weight being combined. */
struct combining {
    const struct combine_opts *opts;
    const struct combine_input *in;
    int count;
    const struct slot *slot; /* of the first that changes it: name and sizes */
    int64_t r;
    float *left, *right;
    struct combine_loss *loss;
    struct graft_err *err;
    struct arena mem;
};

bool combine_prunes(enum combine_how how)
{
    return how >= COMBINE_TIES;
}

static const struct slot *first_slot(const struct combine_input *in, int count)
{
    for (int i = 0; i < count; i++)
        if (in[i].slot)
            return in[i].slot;
    return NULL;
}

/* Rank of the change where it is a product, 0 where it is not; `site` may be NULL. */
static int64_t product_rank(const struct adapter_site *s)
{
    int64_t r = 0;

    for (; s; s = s->next) {
        if (!s->ops->merge_rows)
            continue;
        if (!s->ops->factors)
            return 0;
        r += s->r;
    }
    return r;
}

static const char *changer(const struct adapter_site *s)
{
    while (s->next && (!s->ops->merge_rows || s->ops->factors))
        s = s->next;
    return s->ops->name;
}

/* Ranks in all, and the largest; *whole: the first that is no product. */
static void count_ranks(const struct combine_input *in, int count, int64_t *sum, int64_t *most,
                        const char **whole)
{
    *sum = *most = 0;
    *whole = NULL;
    for (int i = 0; i < count; i++) {
        const struct adapter_site *s = in[i].slot ? adapter_at(in[i].adapter, in[i].slot) : NULL;
        const int64_t r = product_rank(s);

        if (!s || !changes_weight(in[i].adapter, in[i].slot))
            continue;
        if (!r && !*whole)
            *whole = changer(s);
        *sum += r;
        *most = r > *most ? r : *most;
    }
}

enum graft_status combine_rank(const struct combine_opts *o, const struct combine_input *in,
                               int count, int64_t *out, struct graft_err *err)
{
    const struct slot *slot = first_slot(in, count);
    const int64_t side = slot->in < slot->out ? slot->in : slot->out;
    const bool keep = o->how == COMBINE_CAT || (o->how == COMBINE_LINEAR && !o->rank);
    const char *whole;
    int64_t sum, most, r;

    count_ranks(in, count, &sum, &most, &whole);
    if (whole && keep)
        return graft_fail(err, GRAFT_EARG,
                          "%s: the change of a %s adapter is no product of low rank: give a rank, "
                          "with --how linear or svd, for what is to be kept of it",
                          slot->name, whole);
    if (whole && !o->rank && !most)
        return graft_fail(err, GRAFT_EARG,
                          "%s: no adapter has a rank here to go by: give one with --rank",
                          slot->name);
    r = keep ? sum : o->rank ? o->rank : most;
    if (!whole && !combine_prunes(o->how) && r > sum)
        r = sum; /* there is no more to keep */
    *out = keep || r < side ? r : side;
    return *out > 0 ? GRAFT_OK : graft_fail(err, GRAFT_EARG, "%s: nothing to combine", slot->name);
}

static float *room(struct combining *c, int64_t rows, int64_t cols)
{
    float *p = arena_array(&c->mem, (size_t)(rows * cols), sizeof *p);

    if (!p)
        graft_fail_nomem(c->err, c->slot->name, (size_t)(rows * cols) * sizeof *p);
    return p;
}

/* left (O, sum) and right (sum, I): every factor of every input, its weight and scale in `left`. */
static enum graft_status gather(struct combining *c, int64_t sum, float *left, float *right)
{
    const int64_t out = c->slot->out, in = c->slot->in;
    int64_t at = 0;

    for (int i = 0; i < c->count; i++) {
        if (!c->in[i].slot)
            continue;
        for (const struct adapter_site *s = adapter_at(c->in[i].adapter, c->in[i].slot); s;
             s = s->next) {
            float *l;
            double f;

            if (!s->ops->factors)
                continue;
            l = room(c, out, s->r);
            if (!l)
                return GRAFT_ENOMEM;
            s->ops->factors(s, l, right + at * in);
            f = c->in[i].weight * (double)s->scale;
            for (int64_t y = 0; y < out; y++)
                for (int64_t t = 0; t < s->r; t++)
                    left[y * sum + at + t] = (float)(f * (double)l[y * s->r + t]);
            at += s->r;
        }
    }
    return GRAFT_OK;
}

static double square_sum(const float *x, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

/* u (O, r) and its singular values to left = u diag(s), as PEFT splits it. */
static void scale_columns(float *left, int64_t rows, int64_t r, const float *s)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t t = 0; t < r; t++)
            left[i * r + t] *= s[t];
}

/* The best of rank r of the change d (O, I), which is spent. */
static enum graft_status cut_values(struct combining *c, float *d)
{
    const int64_t out = c->slot->out, in = c->slot->in;
    float *s = room(c, 1, c->r);
    const double all = square_sum(d, out * in);

    if (!s)
        return GRAFT_ENOMEM;
    GRAFT_TRY(lapack_svd_top(out, in, d, c->r, c->left, s, c->right, c->err));
    scale_columns(c->left, out, c->r, s);
    lapack_product(out, in, c->r, -1, c->left, false, c->right, false, 1, d);
    c->loss->all += all;
    c->loss->lost += square_sum(d, out * in);
    return GRAFT_OK;
}

/* The same of the product l (O, sum) right (sum, I) without ever forming it: l = Q1 R1, right^T =
 * Q2 R2, and the small R1 R2^T has the singular values. */
static enum graft_status cut_product(struct combining *c, int64_t sum, float *l, const float *right)
{
    const int64_t out = c->slot->out, in = c->slot->in;
    float *rt = room(c, in, sum), *r1 = room(c, sum, sum), *r2 = room(c, sum, sum);
    float *mid = room(c, sum, sum), *u = room(c, sum, sum), *vt = room(c, sum, sum);
    float *s = room(c, 1, sum), *first = room(c, sum, c->r);

    if (!rt || !r1 || !r2 || !mid || !u || !vt || !s || !first)
        return GRAFT_ENOMEM;
    for (int64_t t = 0; t < sum; t++)
        for (int64_t k = 0; k < in; k++)
            rt[k * sum + t] = right[t * in + k];
    GRAFT_TRY(lapack_qr(out, sum, l, r1, c->err));
    GRAFT_TRY(lapack_qr(in, sum, rt, r2, c->err));
    lapack_product(sum, sum, sum, 1, r1, false, r2, true, 0, mid);
    GRAFT_TRY(lapack_svd(sum, sum, mid, u, s, vt, c->err));
    for (int64_t i = 0; i < sum; i++)
        memcpy(first + i * c->r, u + i * sum, (size_t)c->r * sizeof *first);
    lapack_product(out, c->r, sum, 1, l, false, first, false, 0, c->left);
    scale_columns(c->left, out, c->r, s);
    lapack_product(c->r, in, sum, 1, vt, false, rt, true, 0, c->right);
    c->loss->all += square_sum(s, sum);
    c->loss->lost += square_sum(s + c->r, sum - c->r);
    return GRAFT_OK;
}

/* |left right|^2 is the sum of (left^T left) * (right right^T), value by value. */
static enum graft_status add_size(struct combining *c)
{
    float *l = room(c, c->r, c->r), *r = room(c, c->r, c->r);

    if (!l || !r)
        return GRAFT_ENOMEM;
    lapack_product(c->r, c->r, c->slot->out, 1, c->left, true, c->left, false, 0, l);
    lapack_product(c->r, c->r, c->slot->in, 1, c->right, false, c->right, true, 0, r);
    for (int64_t i = 0; i < c->r * c->r; i++)
        c->loss->all += (double)l[i] * (double)r[i];
    return GRAFT_OK;
}

/* A sum of changes that are all products. */
static enum graft_status by_factors(struct combining *c, int64_t sum)
{
    const int64_t out = c->slot->out, in = c->slot->in;
    float *l, *right, *d;

    if (sum == c->r) {
        GRAFT_TRY(gather(c, sum, c->left, c->right));
        return add_size(c);
    }
    l = room(c, out, sum);
    right = room(c, sum, in);
    if (!l || !right)
        return GRAFT_ENOMEM;
    GRAFT_TRY(gather(c, sum, l, right));
    if (sum <= out && sum <= in)
        return cut_product(c, sum, l, right);
    d = room(c, out, in);
    if (!d)
        return GRAFT_ENOMEM;
    lapack_product(out, in, sum, 1, l, false, right, false, 0, d);
    return cut_values(c, d);
}

static bool prunes_at_random(const struct combine_opts *o)
{
    return o->how == COMBINE_DARE_LINEAR || o->how == COMBINE_DARE_TIES;
}

static bool elects_signs(const struct combine_opts *o)
{
    return o->how == COMBINE_TIES || o->how == COMBINE_DARE_TIES;
}

/* How each input is pruned: d (O, I) holds one of them at a time, work `step` rows. */
static void find_cuts(const struct combining *c, struct prune *p, float *d, float *work,
                      int64_t step)
{
    const struct combine_opts *o = c->opts;
    const int64_t out = c->slot->out, in = c->slot->in;

    for (int i = 0; i < c->count; i++) {
        p[i] = prune_nothing();
        if (!c->in[i].slot || !combine_prunes(o->how) || o->density >= 1)
            continue;
        if (prunes_at_random(o)) {
            p[i] = prune_random(o->density, o->seed, c->slot->name, i);
            continue;
        }
        for (int64_t y = 0; y < out; y += step)
            change_rows(c->in[i].adapter, c->in[i].slot, y, out - y < step ? out - y : step,
                        d + y * in, work);
        p[i] = prune_small(d, out * in, (int64_t)(o->density * (double)(out * in)));
    }
}

/* Values in pieces of whole rows: d (O, I) receives the combined change, piece (count, n, I). */
static void combine_values(const struct combining *c, struct prune *p, float *d, float *piece,
                           float *work, int64_t step)
{
    const int64_t out = c->slot->out, in = c->slot->in;

    for (int64_t y = 0; y < out; y += step) {
        const int64_t n = (out - y < step ? out - y : step) * in;

        memset(piece, 0, (size_t)c->count * (size_t)n * sizeof *piece);
        for (int i = 0; i < c->count; i++) {
            if (!c->in[i].slot)
                continue;
            change_rows(c->in[i].adapter, c->in[i].slot, y, n / in, piece + i * n, work);
            prune_values(&p[i], y * in, n, piece + i * n);
        }
        prune_merge(c->in, c->count, elects_signs(c->opts), c->opts->sign_by_count, n, piece,
                    d + y * in);
    }
}

static enum graft_status by_values(struct combining *c)
{
    const int64_t out = c->slot->out, in = c->slot->in;
    const int64_t step = in < 65536 ? 65536 / in : 1;
    float *d = room(c, out, in), *piece = room(c, (int64_t)c->count * step, in),
          *work = room(c, step, in);
    struct prune *p = arena_array(&c->mem, (size_t)c->count, sizeof *p);

    if (!d || !piece || !work || !p)
        return graft_fail_nomem(c->err, c->slot->name, (size_t)(out * in) * sizeof *d);
    find_cuts(c, p, d, work, step); /* d is free until then */
    combine_values(c, p, d, piece, work, step);
    return cut_values(c, d);
}

/* A sum where not every change is a product, or one of pruned values: whole matrices. Without
 * pruning it is the same with nothing cut off. */
static enum graft_status combine_weight(struct combining *c)
{
    const char *whole;
    int64_t sum, most;

    count_ranks(c->in, c->count, &sum, &most, &whole);
    return whole || combine_prunes(c->opts->how) ? by_values(c) : by_factors(c, sum);
}

/* A bias is a small matrix of its own: (1, O). */
static enum graft_status combine_bias(struct combining *c, float *bias)
{
    const struct combine_opts *o = c->opts;
    const int64_t out = c->slot->out;
    float *piece = room(c, c->count, out), *work = room(c, 1, out);

    if (!piece || !work)
        return GRAFT_ENOMEM;
    for (int i = 0; i < c->count; i++) {
        struct prune p = prune_nothing();
        float *x = piece + i * out;

        if (!c->in[i].slot)
            continue;
        change_bias(c->in[i].adapter, c->in[i].slot, x, work);
        if (combine_prunes(o->how) && o->density < 1)
            p = prunes_at_random(o)
                    /* numbers of its own: the weights have those of 0 .. count */
                    ? prune_random(o->density, o->seed, c->slot->name, c->count + i)
                    : prune_small(x, out, (int64_t)(o->density * (double)out));
        prune_values(&p, 0, out, x);
    }
    prune_merge(c->in, c->count, elects_signs(o), o->sign_by_count, out, piece, bias);
    return GRAFT_OK;
}

enum graft_status combine_slot(const struct combine_opts *o, const struct combine_input *in,
                               int count, int64_t r, float *left, float *right, float *bias,
                               struct combine_loss *loss, struct graft_err *err)
{
    struct combining c = { .opts = o,
                           .in = in,
                           .count = count,
                           .slot = first_slot(in, count),
                           .r = r,
                           .left = left,
                           .right = right,
                           .loss = loss,
                           .err = err };
    enum graft_status st = combine_weight(&c);

    if (!st && bias)
        st = combine_bias(&c, bias);
    arena_release(&c.mem);
    return st;
}
