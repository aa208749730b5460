/* tests/train/golden_adapter.h - an adapter of the golden folders, trained over a tiny model. */
#ifndef TESTS_GOLDEN_ADAPTER_H
#define TESTS_GOLDEN_ADAPTER_H

#include "train/golden_train.h"

/* A base with one adapter, a graph that trains it, and all records. */
struct trained {
    struct opened base;
    struct adapter *adapter;
    struct tiny_net net;
    struct flat flat;
    struct arena mem;
};

/* `record`: GOLDEN_RECORDS. */
static inline void open_trained(const char *dir, const char *base,
                                const struct golden_record *record, enum weight_mode mode,
                                struct trained *t)
{
    struct graft_err err = { GRAFT_OK, "" };
    struct adapter_config c;

    memset(t, 0, sizeof *t);
    open_model(base, mode, &t->base);
    if (adapter_config_read(dir, &c, &t->mem, &err) ||
        adapter_new(&c, &t->base.m->slots, true, &t->adapter, &err) ||
        adapter_load_values(t->adapter, dir, &err))
        fail_msg("%s", err.msg);
    t->net = tiny_net(t->base.m, t->adapter, NET_LOSS, DT_F32, true);
    flatten(record, GOLDEN_RECORDS, &t->flat);
}

static inline void close_trained(struct trained *t)
{
    graph_free(t->net.g);
    adapter_free(t->adapter);
    close_model(&t->base);
    arena_release(&t->mem);
}

static inline double mean_loss(struct trained *t)
{
    const struct graph_input in = flat_input(&t->flat);
    double sum = 0;

    graph_forward(t->net.g, &in);
    for (int64_t i = 0; i < t->flat.n; i++)
        sum += (double)t->flat.nll[i];
    return sum / (double)t->flat.targets;
}

static inline void backward(struct trained *t)
{
    const struct graph_input in = flat_input(&t->flat);

    graph_forward(t->net.g, &in);
    graph_backward(t->net.g, (float)(1.0 / (double)t->flat.targets));
}

static inline int64_t elems_of(const struct tensor *p)
{
    return p->dim[0] * (p->ndim > 1 ? p->dim[1] : 1);
}

/* Loss and every gradient against what PyTorch computed: grads.safetensors of the folder, up to
 * `bound` of each tensor's norm. */
static inline void check_gradients(const char *dir, struct trained *t, double loss, double bound)
{
    struct store s = open_store(path_of("%s/grads.safetensors", dir));

    assert_near(dir, fabs(mean_loss(t) / loss - 1), 1e-6);
    backward(t);
    assert_int_equal(t->adapter->param_count, s.count);
    for (int i = 0; i < t->adapter->param_count; i++) {
        const struct tensor *p = t->adapter->param[i];
        int64_t n;
        const float *g = values_of(&s, p->name, &n);

        assert_int_equal(n, elems_of(p));
        assert_near(path_of("%s: %s", dir, p->name), distance(p->grad, g, n), bound);
    }
    store_release(&s);
}

/* Gradients against `slope`, the derivative of mean_loss by *v, an entry of `p`, from differences:
 * the steepest entry and one in the middle of every tensor. */
typedef double slope_of(struct trained *t, const struct tensor *p, float *v);

static inline void check_slopes(const char *who, struct trained *t, slope_of *slope)
{
    backward(t);
    for (int i = 0; i < t->adapter->param_count; i++) {
        const struct tensor *p = t->adapter->param[i];
        int64_t at[2] = { 0, elems_of(p) / 2 };

        for (int64_t e = 0; e < elems_of(p); e++)
            if (fabsf(p->grad[e]) > fabsf(p->grad[at[0]]))
                at[0] = e;
        for (int e = 0; e < 2; e++) {
            const double g = (double)p->grad[at[e]];

            assert_near(path_of("%s: %s", who, p->name),
                        fabs(slope(t, p, (float *)p->data + at[e]) - g) / (fabs(g) + 2e-2), 5e-3);
        }
    }
}

#endif
