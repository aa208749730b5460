/* Start values of the low-rank methods, as PEFT's init_lora_weights names them. */
#include <math.h>
#include <string.h>

#include "backend/lapack.h"
#include "peft/lora.h"

static int64_t elems(const struct tensor *t)
{
    return t->dim[0] * (t->ndim > 1 ? t->dim[1] : 1);
}

static void fill_uniform(struct tensor *t, struct rng_key key, double bound)
{
    float *v = t->data;

    for (int64_t i = 0, n = elems(t); i < n; i++)
        v[i] = (float)(bound * (2.0 * rng_uniform(key, (uint64_t)i) - 1.0));
}

static void fill_normal(struct tensor *t, struct rng_key key, double deviation)
{
    float *v = t->data;

    for (int64_t i = 0, n = elems(t); i < n; i++)
        v[i] = (float)(deviation * (double)rng_normal(key, (uint64_t)i));
}

/* A zero, B normal; false: both normal. */
static void init_embedding(struct adapter_site *s, struct rng_key key)
{
    if (s->adapter->config.init == LORA_INIT_FALSE)
        fill_normal(s->param[LORA_A], key, 1.0);
    key.site++;
    fill_normal(s->param[LORA_B], key, 1.0);
}

/* Rows of an orthogonal matrix are dealt to A and B in turn, so that B A is zero but for rounding,
 * though neither is: B = X_b Q_even / 10, A = (X_a Q_odd)^T / 10, X normal (O, R/2) and (I, R/2).
 * R is even, lora_build sees to it. */
static enum graft_status init_orthogonal(struct adapter_site *s, struct rng_key key,
                                         struct graft_err *err)
{
    const int64_t R = s->r, half = R / 2, in = s->slot->in, out = s->slot->out;
    const int64_t most = in > out ? in : out;
    float *q = mem_array((size_t)(2 * R * R + R * half + most * half), sizeof *q);
    float *r = q ? q + R * R : NULL, *rows = q ? r + R * R : NULL, *x = q ? rows + R * half : NULL;
    enum graft_status st = q ? GRAFT_OK : graft_fail_nomem(err, s->slot->name, (size_t)R * 16);

    for (int64_t i = 0; !st && i < R * R; i++)
        q[i] = rng_normal(key, (uint64_t)i);
    if (!st)
        st = lapack_qr(R, R, q, r, err);
    for (int part = 0; !st && part < 2; part++) { /* A takes rows 0, 2, ..., B rows 1, 3, ... */
        const int64_t n = part ? out : in;

        key.site++;
        for (int64_t i = 0; i < half; i++)
            memcpy(rows + i * R, q + (2 * i + part) * R, (size_t)R * sizeof *q);
        for (int64_t i = 0; i < n * half; i++)
            x[i] = rng_normal(key, (uint64_t)i);
        if (part)
            lapack_product(n, R, half, 0.1f, x, false, rows, false, 0, s->param[LORA_B]->data);
        else
            lapack_product(R, n, half, 0.1f, rows, true, x, true, 0, s->param[LORA_A]->data);
    }
    mem_free(q);
    return st;
}

/* true: A uniform in +-1/sqrt(I) (Kaiming with a = sqrt 5), B zero. gaussian: A normal with
 * deviation 1/R, B zero. false: PyTorch's own start of both linears, so that the change is not
 * zero. */
enum graft_status lora_init(struct adapter_site *s, uint64_t seed, struct graft_err *err)
{
    const enum lora_init kind = s->adapter->config.init;
    struct rng_key key = { seed, RNG_INIT, 0, 4 * (uint32_t)s->slot->index };

    if (s->slot->site == SITE_EMBED) {
        init_embedding(s, key);
        return GRAFT_OK;
    }
    if (lora_init_takes(kind))
        return lora_taken_init(s, err);
    if (kind == LORA_INIT_ORTHOGONAL)
        return init_orthogonal(s, key, err);
    if (kind == LORA_INIT_GAUSSIAN) {
        fill_normal(s->param[LORA_A], key, 1.0 / (double)s->r);
        return GRAFT_OK;
    }
    fill_uniform(s->param[LORA_A], key, 1.0 / sqrt((double)s->slot->in));
    if (kind != LORA_INIT_FALSE)
        return GRAFT_OK;
    key.site++;
    fill_uniform(s->param[LORA_B], key, 1.0 / sqrt((double)s->r));
    key.site++;
    if (s->param[LORA_BIAS])
        fill_uniform(s->param[LORA_BIAS], key, 1.0 / sqrt((double)s->r));
    return GRAFT_OK;
}
