#include "train/phase.h"

#include <math.h>
#include <string.h>

#include "core/file.h"

enum graft_status phase_check(const struct run_config *c, bool force, struct graft_err *err)
{
    const char *path = c->adapter.mask_save_path;
    struct strbuf dir = STRBUF_INIT;
    enum graft_status st = GRAFT_OK;

    if (!path)
        return GRAFT_OK;
    if (file_exists(path) && !force)
        return graft_fail(err, GRAFT_EARG,
                          "adapter.mask_save_path: %s is there already; use --force to write over "
                          "it, or mask_load_path to take it",
                          path);
    strbuf_add(&dir, path, (size_t)(path_base(path) - path));
    if (dir_exists(path) || !dir_exists(strbuf_str(&dir)))
        st = graft_fail(err, GRAFT_EARG, "adapter.mask_save_path: %s%s", strbuf_str(&dir),
                        dir_exists(path) ? " holds a folder of that name" : " is not a folder");
    strbuf_release(&dir);
    return st;
}

/* The k-th pass from the first of step i on, through the epochs. */
static enum graft_status batch_after(struct run *r, int64_t i, int64_t k, struct batch *out,
                                     struct graft_err *err)
{
    struct run_place at;
    int64_t all = 0;

    GRAFT_TRY(run_step(r, i, &at, err));
    GRAFT_TRY(loader_passes(r->data.loader, at.epoch, &all, err));
    for (k += at.first; k >= all;) { /* an epoch has one at least */
        k -= all;
        GRAFT_TRY(loader_passes(r->data.loader, ++at.epoch, &all, err));
    }
    return loader_batch(r->data.loader, at.epoch, k, out, err);
}

/* One forward and backward pass: the mean loss of its own target tokens, as if it were a step. */
static enum graft_status one_pass(struct run *r, int64_t i, int64_t k, struct graft_err *err)
{
    struct batch b;
    struct graph_input in;

    GRAFT_TRY(batch_after(r, i, k, &b, err));
    in = (struct graph_input){
        .n = b.n,
        .id = b.id,
        .target = b.target,
        .pos = b.pos,
        .segments = b.segments,
        .start = b.start,
        .training = true,
        .rng = { (uint64_t)r->config->train.seed, RNG_GATHER, (uint32_t)k, 0 },
    };
    graph_forward(r->net.g, &in);
    if (!isfinite(*(const float *)r->net.out->data))
        return graft_fail(err, GRAFT_ERUN,
                          "before step %lld: the loss of the pass that the places of the sparse "
                          "values are to be chosen from is not finite",
                          (long long)i + 1);
    graph_backward(r->net.g, b.targets ? (float)(1.0 / (double)b.targets) : 0.0f);
    return GRAFT_OK;
}

static bool stop_wanted(const struct run *r)
{
    return r->hooks && r->hooks->stop && *r->hooks->stop;
}

static enum graft_status gather(struct run *r, int64_t i, int64_t passes, const char *dir,
                                struct graft_err *err)
{
    const struct adapter_phases *p = r->adapter->ops->phases;
    enum graft_status st = p->gather(r->adapter, dir, err), ended;
    bool stopped = false;

    if (st)
        return st;
    for (int64_t k = 0; k < passes && !st && !stopped; k++) {
        st = one_pass(r, i, k, err);
        stopped = stop_wanted(r);
    }
    /* what the passes left in the gradients of the adapter itself goes with the next step's start
     */
    ended = p->gathered(r->adapter, !st && !stopped, st ? NULL : err);
    return st ? st : ended;
}

enum graft_status phase_before_step(struct run *r, int64_t i, const char *dir, bool *go_on,
                                    struct graft_err *err)
{
    struct adapter *a = r->adapter;
    const struct adapter_phases *p = a->ops->phases;
    const int64_t passes = p ? p->passes(a, i) : 0;

    *go_on = true;
    if (!p)
        return GRAFT_OK;
    if (passes)
        GRAFT_TRY(gather(r, i, passes, dir, err));
    *go_on = p->step(a, i) && !stop_wanted(r);
    for (int k = 0; k < a->param_count; k++) {
        if (r->idle[k] && !a->idle[k])
            optim_begin(r->optim, k);
        r->idle[k] = a->idle[k];
    }
    return GRAFT_OK;
}
