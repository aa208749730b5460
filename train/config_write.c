/* The resolved config: every key with the value the run has. */
#include <string.h>

#include "data/dataset.h"
#include "train/config_raw.h"
#include "train/yaml.h"

static json_t *text(const char *s)
{
    return s ? json_string(s) : json_null();
}

/* 3, not 3.0, where the number is whole. */
static json_t *number(double x)
{
    return x == (double)(int64_t)x ? json_integer((int64_t)x) : json_real(x);
}

static json_t *train_map(const struct data_config *d, int i)
{
    json_t *o = json_object();

    json_object_set_new(o, "path", json_string(d->train[i]));
    json_object_set_new(o, "format", json_string(record_format_names[d->train_format[i]]));
    json_object_set_new(o, "weight", number(d->train_weight[i]));
    return o;
}

static json_t *train_files(const struct data_config *d)
{
    bool same = true;
    json_t *list;

    for (int i = 0; i < d->train_count; i++)
        same = same && d->train_format[i] == d->format && d->train_weight[i] == 1;
    if (d->train_count == 1 && same)
        return json_string(d->train[0]);
    list = json_array();
    for (int i = 0; i < d->train_count; i++)
        json_array_append_new(list, same ? json_string(d->train[i]) : train_map(d, i));
    return list;
}

static json_t *valid_json(const struct data_config *d)
{
    if (d->valid_number)
        return json_integer(d->valid_number);
    return d->valid_share > 0 ? json_real(d->valid_share) : text(d->valid);
}

static json_t *data_json(const struct data_config *d)
{
    json_t *o = json_object();

    json_object_set_new(o, "train", train_files(d));
    json_object_set_new(o, "valid", valid_json(d));
    json_object_set_new(o, "format", json_string(record_format_names[d->format]));
    json_object_set_new(o, "template", text(d->template_name));
    json_object_set_new(o, "template_date", text(d->template_date));
    json_object_set_new(o, "mask_prompt", json_boolean(d->mask_prompt));
    json_object_set_new(o, "train_on", json_string(train_on_names[d->train_on_last]));
    json_object_set_new(o, "max_length", json_integer(d->max_length));
    json_object_set_new(o, "packing", json_boolean(d->packing));
    json_object_set_new(o, "shuffle", json_boolean(d->shuffle));
    return o;
}

static json_t *train_json(const struct train_config *t)
{
    json_t *o = json_object();

    json_object_set_new(o, "epochs", t->steps ? json_null() : number(t->epochs));
    json_object_set_new(o, "steps", json_integer(t->steps));
    json_object_set_new(o, "batch_size", json_integer(t->batch_size));
    json_object_set_new(o, "gradient_accumulation", json_integer(t->gradient_accumulation));
    json_object_set_new(o, "seed", json_integer(t->seed));
    json_object_set_new(o, "log_every", json_integer(t->log_every));
    json_object_set_new(o, "eval_every", json_integer(t->eval_every));
    json_object_set_new(o, "save_every", json_integer(t->save_every));
    json_object_set_new(o, "keep_last", json_integer(t->keep_last));
    json_object_set_new(o, "keep_best", json_boolean(t->keep_best));
    json_object_set_new(o, "memory", t->memory ? json_integer(t->memory) : json_string("auto"));
    return o;
}

static json_t *optim_json(const struct optim_config *o)
{
    json_t *j = json_object(), *betas = json_array();

    json_array_append_new(betas, json_real(o->beta1));
    json_array_append_new(betas, json_real(o->beta2));
    json_object_set_new(j, "name", json_string(optim_names[o->name]));
    json_object_set_new(j, "lr", json_real(o->lr));
    json_object_set_new(j, "betas", betas);
    json_object_set_new(j, "eps", json_real(o->eps));
    json_object_set_new(j, "weight_decay", json_real(o->weight_decay));
    json_object_set_new(j, "schedule", json_string(schedule_names[o->schedule]));
    json_object_set_new(j, "warmup", number(o->warmup));
    json_object_set_new(j, "min_lr", json_real(o->min_lr));
    json_object_set_new(j, "max_grad_norm", json_real(o->max_grad_norm));
    json_object_set_new(j, "state", json_string("f32"));
    json_object_set_new(j, "paged", json_string("off"));
    return j;
}

json_t *config_to_json(const struct run_config *c)
{
    json_t *o = json_object();

    if (!o)
        return NULL;
    json_object_set_new(o, "base", text(c->base));
    json_object_set_new(o, "base_name", text(c->base_name));
    json_object_set_new(o, "quant", quant_config_json(&c->quant));
    json_object_set_new(o, "compute", json_string(compute_names[c->compute]));
    json_object_set_new(o, "device", text(c->device));
    json_object_set_new(o, "threads", json_integer(c->threads));
    json_object_set_new(o, "adapter", adapter_config_json(&c->adapter));
    json_object_set_new(o, "data", data_json(&c->data));
    json_object_set_new(o, "train", train_json(&c->train));
    json_object_set_new(o, "optim", optim_json(&c->optim));
    json_object_set_new(o, "output", text(c->output));
    return o;
}

enum graft_status config_to_yaml(const struct run_config *c, struct strbuf *out,
                                 struct graft_err *err)
{
    json_t *o = config_to_json(c);

    if (!o)
        return graft_fail_nomem(err, "the resolved config", 4096);
    yaml_write(o, out);
    json_decref(o);
    return out->failed ? graft_fail_nomem(err, "the resolved config", out->len) : GRAFT_OK;
}

void config_help(struct strbuf *out)
{
    strbuf_puts(out, "# Every key of a config, with its default. Relative paths start from the "
                     "working directory.\n"
                     "# -s KEY=VALUE sets one from the command line: -s optim.lr=1e-4\n\n");
    schema_help(&config_keys, out);
}
