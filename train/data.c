#include "train/data.h"

#include <string.h>

#include "core/mem.h"
#include "train/virtual.h"

struct dataset_opts data_opts(const struct text *text, const struct model_config *base)
{
    return (struct dataset_opts){
        .mask_prompt = true,
        .max_positions = base->max_positions,
        .vocab_rows = base->vocab,
        .tokenizer = text->tokenizer,
        .eos = text->eos,
        .chat = text->chat,
        .chat_problem = text->chat_problem,
        .stop = text->stop,
        .stops = text->stops,
    };
}

struct dataset_opts run_data_opts(const struct run_config *c, const struct text *text,
                                  const struct model_config *base,
                                  const struct virtual_tokens *virt)
{
    const struct data_config *d = &c->data;
    struct dataset_opts o = data_opts(text, base);

    o.format = d->format;
    o.file_format = d->train_format;
    o.mask_prompt = d->mask_prompt;
    o.train_on_last = d->train_on_last;
    o.max_length = d->max_length;
    o.virt = virt;
    return o;
}

struct loader_opts run_loader_opts(const struct run_config *c, const struct virtual_tokens *virt)
{
    return (struct loader_opts){
        .batch_size = c->train.batch_size,
        .packing = c->data.packing,
        .row_length = c->data.max_length,
        .shuffle = c->data.shuffle,
        .seed = (uint64_t)c->train.seed,
        .weight = c->data.train_weight,
        .virtual_front = virt->front,
        .first_position = virt->before,
    };
}

enum graft_status run_hold_out(const struct run_config *c, const struct dataset *d, bool **out,
                               struct graft_err *err)
{
    const struct data_config *how = &c->data;
    enum graft_status st;
    bool *held;

    *out = NULL;
    if (!config_splits(how))
        return GRAFT_OK;
    held = mem_array((size_t)d->count, sizeof *held);
    if (!held)
        return graft_fail_nomem(err, "the split of the records", (size_t)d->count);
    st = dataset_choose(d, how->valid_share, how->valid_number, (uint64_t)c->train.seed, held, err);
    if (st) {
        mem_free(held);
        return graft_fail_in(err, st, "data.valid");
    }
    *out = held;
    return GRAFT_OK;
}

/* data.valid: a share or a number. */
static enum graft_status split(const struct run_config *c, struct run_data *r,
                               struct graft_err *err)
{
    GRAFT_TRY(run_hold_out(c, &r->all, &r->held, err));
    GRAFT_TRY(dataset_part(&r->all, r->held, true, &r->valid, err));
    r->has_valid = true;
    return dataset_count(&r->all, r->held, false, &r->train, err);
}

/* Both parts of what the cache gives are the run's. */
static enum graft_status take(const char *const *file, int64_t files,
                              const struct dataset_opts *opts, struct dataset *data,
                              struct token_cache *lies_in, char sha256[65], struct graft_err *err)
{
    struct cached_data c;

    GRAFT_TRY(cached_load(file, files, opts, &c, err));
    *data = c.data;
    *lies_in = c.file;
    memcpy(sha256, c.sha256, sizeof c.sha256);
    return GRAFT_OK;
}

static enum graft_status load(const struct run_config *c, struct dataset_opts opts,
                              struct run_data *r, struct graft_err *err)
{
    const struct data_config *d = &c->data;
    char valid_sha256[65];

    GRAFT_TRY(take((const char *const *)d->train, d->train_count, &opts, &r->all, &r->all_file,
                   r->sha256, err));
    r->train = r->all.stats;
    if (r->train.targets == 0)
        return graft_fail(err, GRAFT_EFORMAT, "%s: no record has a token to learn from",
                          d->train[0]);
    if (config_splits(d))
        return split(c, r, err);
    if (!d->valid)
        return GRAFT_OK;
    opts.file_format = NULL;
    GRAFT_TRY(take(&d->valid, 1, &opts, &r->valid, &r->valid_file, valid_sha256, err));
    r->has_valid = true;
    if (r->valid.stats.targets == 0)
        return graft_fail(err, GRAFT_EFORMAT, "%s: no record has a token to measure", d->valid);
    return GRAFT_OK;
}

enum graft_status run_data_open(const struct run_config *c, const struct text *text,
                                const struct model_config *base, struct run_data *out,
                                struct graft_err *err)
{
    struct loader_opts how;
    struct virtual_tokens virt;
    enum graft_status st;

    GRAFT_TRY(virtual_of(&c->adapter, text->tokenizer, &virt, err));
    how = run_loader_opts(c, &virt);
    *out = (struct run_data){ .has_valid = false };
    st = load(c, run_data_opts(c, text, base, &virt), out, err);
    how.skip = out->held;
    if (!st)
        st = loader_new(&out->all, &how, &out->loader, err);
    if (st)
        run_data_release(out);
    return st;
}

void run_data_release(struct run_data *d)
{
    loader_free(d->loader);
    dataset_release(&d->valid);
    dataset_release(&d->all);
    token_cache_release(&d->valid_file);
    token_cache_release(&d->all_file);
    mem_free(d->held);
    *d = (struct run_data){ .has_valid = false };
}

size_t run_data_bytes(const struct run_data *d)
{
    size_t bytes = dataset_bytes(&d->all) + dataset_bytes(&d->valid);

    if (d->held)
        bytes += (size_t)d->all.count * sizeof *d->held;
    return bytes + (d->loader ? loader_bytes(d->loader) : 0);
}
