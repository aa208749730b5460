/* LP-FT, Kumar et al. 2022, arXiv:2202.10054: linear probing, then fine-tuning. First the head
 * alone is trained over the frozen base; then everything, from there. Fine-tuning from an untrained
 * head would bend the features to fit it.
 *
 * Two runs under one command: the first one's adapter and metrics are in OUTPUT/probe, the second
 * starts from it as `method: full` with `init_from`. Over a tied base the head is one of its own
 * from the first step on: a probe that moved the embedding would be none. */
#include <math.h>

#include "core/file.h"
#include "train/setup.h"

const char lpft_folder[] = "probe";

struct run_config lpft_second(const struct run_config *config)
{
    struct run_config c = *config;

    c.adapter.method = "full";
    c.adapter.untie_head = true;
    return c;
}

static struct run_config first_stage(const struct run_config *config, const char *dir)
{
    struct run_config c = *config;

    c.adapter.method = "head";
    c.train.steps = config->adapter.probe_steps;
    c.train.epochs = 0;
    if (!isnan(config->adapter.probe_lr))
        c.optim.lr = config->adapter.probe_lr;
    if (c.optim.min_lr > c.optim.lr)
        c.optim.min_lr = c.optim.lr;
    if (c.quant.mode == QUANT_AUTO) /* the floats that the second stage trains */
        c.quant.mode = QUANT_NONE;
    c.output = dir;
    return c;
}

/* What the second stage would refuse must not cost the first. */
static enum graft_status check_base(const struct run_config *config, struct graft_err *err)
{
    struct checkpoint ck;
    enum graft_status st = checkpoint_open(config->base, true, &ck, err);

    if (st)
        return st;
    if (!checkpoint_is_float(&ck))
        st = graft_fail(err, GRAFT_EARG,
                        "adapter.method lpft trains every weight and needs a base of floats; %s is "
                        "%s: use the checkpoint it was made from",
                        config->base, checkpoint_format(&ck));
    checkpoint_release(&ck);
    return st;
}

enum graft_status lpft_probe(const struct run_config *config, bool force,
                             const struct run_hooks *hooks, struct run_config *second,
                             struct arena *mem, struct run_result *out, struct graft_err *err)
{
    struct strbuf path = STRBUF_INIT;
    const char *dir;
    struct run_config first;

    path_join(&path, config->output, lpft_folder);
    dir = path.failed ? NULL : arena_strdup(mem, strbuf_str(&path));
    strbuf_release(&path);
    if (!dir)
        return graft_fail_nomem(err, lpft_folder, 64);
    GRAFT_TRY(check_base(config, err));
    GRAFT_TRY(train_plan(config, NULL, err));
    first = first_stage(config, dir);
    GRAFT_TRY(train_run(&first, force, hooks, out, err));
    *second = lpft_second(config);
    second->adapter.init_from = dir;
    return GRAFT_OK;
}
