#include "cli/progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "cli/common.h"
#include "core/file.h"
#include "data/dataset.h"
#include "train/changed.h"

enum { FEW_STEPS = 50 };
static const double REDRAW = 0.1; /* seconds between two drawings of the line */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* "134.5 M" */
static const char *format_count(char out[32], double n)
{
    static const char *const unit[] = { "", " k", " M", " G" };
    int u = 0;

    while (n >= 10000 && u < 3) {
        n /= 1000;
        u++;
    }
    snprintf(out, 32, u ? "%.1f%s" : "%.0f%s", n, unit[u]);
    return out;
}

void progress_init(struct progress *p, const struct common *common)
{
    memset(p, 0, sizeof *p);
    p->quiet = common->quiet;
    p->verbose = common->verbose;
    p->live = is_terminal(stderr);
}

void progress_wipe(struct progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

static void put_data(const char *name, const struct dataset_stats *s, const char *lead,
                     struct strbuf *out)
{
    strbuf_printf(
        out, "%s%-10s%" PRId64 " records, %" PRId64 " tokens, %.1f %% trained, longest %" PRId64,
        lead, name, s->records - s->dropped, s->tokens,
        s->tokens ? 100.0 * (double)s->targets / (double)s->tokens : 0.0, s->longest);
    if (s->truncated)
        strbuf_printf(out, ", %" PRId64 " truncated", s->truncated);
    if (s->dropped)
        strbuf_printf(out, ", %" PRId64 " dropped without a token to learn", s->dropped);
    if (s->straddling)
        strbuf_printf(out, ", %" PRId64 " with a token across prompt and completion",
                      s->straddling);
    if (s->endless)
        strbuf_printf(out, ", %" PRId64 " that do not teach where an answer ends", s->endless);
    strbuf_putc(out, '\n');
}

static bool is_weighted(const struct data_config *d)
{
    bool weighted = false;

    for (int i = 0; i < d->train_count; i++)
        weighted |= d->train_weight[i] != 1;
    return weighted;
}

/* What an epoch takes of each file, where that is not what the file holds. */
static void put_weights(const struct run_info *info, const char *lead, struct strbuf *out)
{
    const struct data_config *d = &info->config->data;

    for (int i = 0; i < d->train_count; i++) {
        int64_t records, draws;

        loader_source(info->loader, i, &records, &draws);
        strbuf_printf(out, "%s          %s: %" PRId64 " records, weight %g: %" PRId64 " an epoch\n",
                      lead, d->train[i], records, d->train_weight[i], draws);
    }
    strbuf_printf(out, "%s          %" PRId64 " records an epoch\n", lead,
                  loader_draws(info->loader));
}

static void put_memory(const struct memory_plan *m, const char *lead, struct strbuf *out)
{
    char total[32], weights[32], adapter[32], optimizer[32], activations[32], scratch[32], data[32];
    char program[32];
    const bool loading = m->total == m->loading; /* more than its parts, which are the run */

    strbuf_printf(
        out,
        "%smemory    %s%s: weights %s, adapter %s, optimiser %s, activations %s, scratch "
        "%s, data %s, program %s\n",
        lead, format_bytes(total, (double)m->total), loading ? " for loading, then less" : "",
        format_bytes(weights, (double)m->weights), format_bytes(adapter, (double)m->adapter),
        format_bytes(optimizer, (double)m->optimizer),
        format_bytes(activations, (double)m->activations),
        format_bytes(scratch, (double)m->scratch), format_bytes(data, (double)m->data),
        format_bytes(program, (double)m->program));
    if (m->disk)
        strbuf_printf(out,
                      "%sdisk      a temporary file of %s in the output folder, while gradients of "
                      "the weights are gathered\n",
                      lead, format_bytes(total, (double)m->disk));
    if (m->recomputed)
        strbuf_printf(out,
                      "%s          %d of %d blocks are computed a second time to save memory\n",
                      lead, m->recomputed, m->blocks);
}

void progress_plan(const struct run_info *info, const char *lead, struct strbuf *out)
{
    const struct run_config *c = info->config;
    const int64_t g = c->train.gradient_accumulation, b = c->train.batch_size;
    char base[32], trained[32];

    strbuf_printf(out, "%sbase      %s: %s, %s parameters, %s\n", lead, c->base, info->architecture,
                  format_count(base, (double)info->base_params), info->format);
    strbuf_printf(out, "%sadapter   %s on %" PRId64 " modules, %s parameters trained (%.2f %%)\n",
                  lead, c->adapter.method, info->sites,
                  format_count(trained, (double)info->trainable),
                  100.0 * (double)info->trainable / (double)info->base_params);
    put_data("data", info->train, lead, out);
    if (is_weighted(&c->data))
        put_weights(info, lead, out);
    if (info->valid)
        put_data(config_splits(&c->data) ? "held out" : "valid", info->valid, lead, out);
    if (c->data.packing)
        strbuf_printf(out, "%spacked    %" PRId64 " rows of %" PRId64 " tokens, %.1f %% full\n",
                      lead, loader_rows(info->loader), c->data.max_length,
                      100 * loader_fill(info->loader));
    strbuf_printf(out,
                  "%ssteps     %" PRId64 " of %" PRId64 " %s (%s%" PRId64
                  " an epoch), at most %" PRId64 " tokens a pass\n",
                  lead, info->steps, b * g, c->data.packing ? "rows" : "records",
                  loader_passes_vary(info->loader) ? "about " : "", info->steps_per_epoch,
                  info->max_tokens);
    put_memory(&info->memory, lead, out);
}

static json_t *stats_json(const struct dataset_stats *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "records", s->records - s->dropped,
                     "dropped", s->dropped, "truncated", s->truncated, "straddling", s->straddling,
                     "endless", s->endless, "tokens", s->tokens, "targets", s->targets, "longest",
                     s->longest);
}

static json_t *sources_json(const struct run_info *info)
{
    const struct data_config *d = &info->config->data;
    json_t *list = json_array();

    for (int i = 0; i < d->train_count; i++) {
        int64_t records, draws;

        loader_source(info->loader, i, &records, &draws);
        json_array_append_new(list, json_pack("{s:s, s:f, s:I, s:I}", "path", d->train[i], "weight",
                                              d->train_weight[i], "records", (json_int_t)records,
                                              "draws", (json_int_t)draws));
    }
    return list;
}

static json_t *memory_json(const struct memory_plan *m)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i}", "weights",
                     (json_int_t)m->weights, "adapter", (json_int_t)m->adapter, "optimizer",
                     (json_int_t)m->optimizer, "activations", (json_int_t)m->activations, "scratch",
                     (json_int_t)m->scratch, "data", (json_int_t)m->data, "program",
                     (json_int_t)m->program, "loading", (json_int_t)m->loading, "total",
                     (json_int_t)m->total, "disk", (json_int_t)m->disk, "blocks", m->blocks,
                     "recomputed", m->recomputed);
}

json_t *progress_plan_json(const struct run_info *info)
{
    json_t *o = json_object();

    json_object_set_new(o, "config", config_to_json(info->config));
    json_object_set_new(o, "architecture", json_string(info->architecture));
    json_object_set_new(o, "base_format", json_string(info->base_format));
    json_object_set_new(o, "format", json_string(info->format));
    json_object_set_new(o, "base_parameters", json_integer(info->base_params));
    json_object_set_new(o, "trainable_parameters", json_integer(info->trainable));
    json_object_set_new(o, "modules", json_integer(info->sites));
    json_object_set_new(o, "data", stats_json(info->train));
    json_object_set_new(o, "valid", info->valid ? stats_json(info->valid) : json_null());
    json_object_set_new(o, "sources", sources_json(info));
    json_object_set_new(o, "draws", json_integer(loader_draws(info->loader)));
    json_object_set_new(o, "rows", json_integer(loader_rows(info->loader)));
    json_object_set_new(o, "fill", json_real(loader_fill(info->loader)));
    json_object_set_new(o, "trained_share",
                        json_number((double)info->train->targets / (double)info->train->tokens));
    json_object_set_new(o, "steps_per_epoch", json_integer(info->steps_per_epoch));
    json_object_set_new(o, "steps", json_integer(info->steps));
    json_object_set_new(o, "max_tokens", json_integer(info->max_tokens));
    json_object_set_new(o, "memory", memory_json(&info->memory));
    return o;
}

static void put_step(const struct progress *p, const struct step_info *s, double t,
                     struct strbuf *out)
{
    const int64_t done = s->step - p->first;
    char left[32], memory[32];

    strbuf_printf(out, "step %" PRId64 "/%" PRId64 "  loss %.4f  lr %.2e  %.0f tokens/s", s->step,
                  s->steps, s->loss, s->lr, s->tokens_per_second);
    if (p->verbose)
        strbuf_printf(out, "  grad norm %.3g  epoch %.2f  %" PRId64 " tokens", s->grad_norm,
                      s->epoch, s->input_tokens);
    if (done > 0 && s->step < s->steps)
        strbuf_printf(
            out, "  %s left",
            format_seconds(left, (t - p->begun) / (double)done * (double)(s->steps - s->step)));
    strbuf_printf(out, "  %s", format_bytes(memory, (double)peak_memory()));
}

/* A line that wraps cannot be wiped, so it is cut where the terminal ends. */
static void draw(struct progress *p, struct strbuf *line)
{
    struct winsize size = { 0 };
    size_t len = line->len;

    if (ioctl(fileno(stderr), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 && len >= size.ws_col)
        len = size.ws_col - 1;
    progress_wipe(p);
    fwrite(strbuf_str(line), 1, len, stderr);
    fflush(stderr);
    p->drawn = true;
}

/* The adapter moves once a step, however many records the step is the mean of. */
static void note_few_steps(const struct run_info *info)
{
    const struct train_config *t = &info->config->train;
    const bool passes = t->gradient_accumulation > 1, batch = t->batch_size > 1;
    struct strbuf less = STRBUF_INIT;

    if (passes)
        strbuf_printf(&less, "a smaller train.gradient_accumulation (%" PRId64 " now)",
                      t->gradient_accumulation);
    if (batch)
        strbuf_printf(&less, "%s train.batch_size (%" PRId64 " now)", passes ? " or" : "a smaller",
                      t->batch_size);
    if (!t->steps)
        graft_note("only %" PRId64 " steps: %s%smore epochs make more of them%s", info->steps,
                   strbuf_str(&less),
                   passes && batch   ? ", or "
                   : passes || batch ? " or "
                                     : "",
                   passes ? "" : "; train.gradient_accumulation is 1 already");
    else if (passes || batch)
        graft_note("only %" PRId64 " steps, as train.steps says: more of them take no longer with "
                   "%s%s",
                   info->steps, strbuf_str(&less),
                   passes ? "" : "; train.gradient_accumulation is 1 already");
    else
        graft_note("only %" PRId64 " steps, as train.steps says; train.gradient_accumulation is 1 "
                   "already",
                   info->steps);
    strbuf_release(&less);
}

static void on_start(void *user, const struct run_info *info)
{
    struct progress *p = user;
    struct strbuf text = STRBUF_INIT;

    p->log_every = info->config->train.log_every;
    p->begun = now();
    if (!p->quiet) {
        progress_plan(info, "", &text);
        fputs(strbuf_str(&text), stderr);
    }
    strbuf_clear(&text);
    if (info->steps < FEW_STEPS)
        note_few_steps(info);
    p->steps = info->steps;
    if (p->live && !p->quiet) { /* the first step of a large model takes its time */
        strbuf_printf(&text, "step 0/%" PRId64, info->steps);
        draw(p, &text);
    }
    strbuf_release(&text);
}

static void on_step(void *user, const struct step_info *s)
{
    struct progress *p = user;
    struct strbuf line = STRBUF_INIT;
    const double t = now();
    const bool end = s->step == s->steps;

    if (p->quiet || (s->step % p->log_every && !end))
        return;
    if (p->live && t - p->last < REDRAW && !end)
        return;
    p->last = t;
    put_step(p, s, t, &line);
    if (p->live && !end) {
        draw(p, &line);
    } else { /* the last one stays */
        progress_wipe(p);
        fprintf(stderr, "%s\n", strbuf_str(&line));
    }
    strbuf_release(&line);
}

static void on_eval(void *user, int64_t step, double loss, int64_t tokens, bool best)
{
    struct progress *p = user;

    if (p->quiet)
        return;
    progress_wipe(p);
    fprintf(stderr, "step %" PRId64 ": validation loss %.4f over %" PRId64 " tokens%s\n", step,
            loss, tokens, best ? ", the best so far" : "");
}

struct run_hooks progress_hooks(struct progress *p)
{
    return (struct run_hooks){
        .user = p, .start = on_start, .step = on_step, .eval = on_eval, .stop = &stop_signal
    };
}

/* A path as a shell takes it. */
static void put_shell(const char *path, struct strbuf *out)
{
    if (path[strcspn(path, " \t\"'\\$&|;<>()*?[]#~`!{}")] == '\0') {
        strbuf_puts(out, path);
        return;
    }
    strbuf_putc(out, '\'');
    for (; *path; path++)
        strbuf_puts(out, *path == '\'' ? "'\\''" : (char[]){ *path, '\0' });
    strbuf_putc(out, '\'');
}

/* " -s KEY=DIR/TAIL" */
static void put_set(const char *key, const char *dir, const char *tail, struct strbuf *out)
{
    struct strbuf word = STRBUF_INIT;

    strbuf_printf(&word, "%s=%s%s%s", key, dir, *tail ? "/" : "", tail);
    strbuf_puts(out, " -s ");
    put_shell(strbuf_str(&word), out);
    strbuf_release(&word);
}

/* Where an adapter begins that goes on from this run's. */
static void put_from_adapter(const struct run_config *c, const struct run_result *r,
                             struct strbuf *out)
{
    put_set("adapter.init_from", c->output, "", out);
    if (lora_init_takes(c->adapter.init)) /* what was taken is taken; its form is the adapter's */
        strbuf_puts(out, " -s adapter.init_lora_weights=null -s adapter.loftq_config=null"
                         " -s adapter.r=null -s adapter.lora_alpha=null"
                         " -s adapter.rank_pattern=null -s adapter.alpha_pattern=null");
    if (r->changed_base) {
        put_set("base", c->output, CHANGED_BASE_FILE, out);
        strbuf_puts(out, " -s quant=null");
    }
    if (c->adapter.schedule == ROSA_BOTH && c->adapter.warmup > r->steps)
        strbuf_printf(out, " -s adapter.schedule=wl%" PRId64, c->adapter.warmup - r->steps);
}

/* Where a checkpoint goes on: it holds what it started from. */
static void put_from_checkpoint(const struct run_config *c, struct strbuf *out)
{
    put_set("base", c->output, "", out);
    if (c->adapter.init_from)
        strbuf_puts(out, " -s adapter.init_from=null");
    if (!strcmp(c->adapter.method, "lpft"))
        strbuf_puts(out, " -s adapter.method=full -s adapter.probe_steps=null"
                         " -s adapter.probe_lr=null");
}

/* How to train the steps that are missing, by the run's own config: what -s set is in it. */
static void put_go_on(const struct progress *p, const struct run_config *c,
                      const struct run_result *r, struct strbuf *out)
{
    const int64_t left = p->steps - r->steps;
    struct strbuf word = STRBUF_INIT;

    strbuf_puts(out, "go on:  graft train ");
    path_join(&word, c->output, "config.yaml");
    put_shell(strbuf_str(&word), out);
    if (r->first_stage) {
        put_set("adapter.init_from", c->output, "probe", out);
        strbuf_printf(out, " -s adapter.probe_steps=%" PRId64, left > 0 ? left : 1);
    } else {
        if (adapter_is_whole(&c->adapter))
            put_from_checkpoint(c, out);
        else
            put_from_adapter(c, r, out);
        strbuf_printf(out, " -s train.epochs=null -s train.steps=%" PRId64, left);
    }
    strbuf_clear(&word);
    strbuf_printf(&word, "%s-2", c->output);
    strbuf_puts(out, " -o ");
    put_shell(strbuf_str(&word), out);
    strbuf_puts(out, "   # optimiser and schedule start anew\n");
    strbuf_release(&word);
}

/* The adapter as --adapter takes it: with a name where the folder's is none. */
static void put_adapter(const char *dir, struct strbuf *out)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    const char *name = path_base(dir);
    struct strbuf word = STRBUF_INIT;

    if (name[strspn(name, allowed)] != '\0')
        strbuf_puts(&word, "mine=");
    strbuf_puts(&word, dir);
    put_shell(strbuf_str(&word), out);
    strbuf_release(&word);
}

void progress_summary(const struct progress *p, const struct run_config *c,
                      const struct run_result *r, struct strbuf *out)
{
    const bool whole = adapter_is_whole(&c->adapter) && !r->first_stage;
    char time[32], adapter[32], peak[32], planned[32];
    struct strbuf dir = STRBUF_INIT;

    strbuf_printf(out, "%s after %" PRId64 " step%s in %s", r->status, r->steps,
                  r->steps == 1 ? "" : "s", format_seconds(time, r->seconds));
    if (!isnan(r->loss))
        strbuf_printf(out, ": loss %.4f", r->loss);
    if (!isnan(r->valid_loss))
        strbuf_printf(out, ", validation loss %.4f", r->valid_loss);
    if (r->best_step)
        strbuf_printf(out, " (best %.4f at step %" PRId64 ")", r->best_loss, r->best_step);
    strbuf_printf(out, "\n%.0f tokens/s, peak memory %s (planned %s)\n", r->tokens_per_second,
                  format_bytes(peak, (double)r->peak), format_bytes(planned, (double)r->planned));
    strbuf_printf(out, "wrote %s%s: %s of %s%s\n", c->output, r->first_stage ? "/probe" : "",
                  whole ? "checkpoint" : "adapter", format_bytes(adapter, (double)r->adapter_bytes),
                  r->best_step && c->train.keep_best ? ", the best one in best/" : "");
    if (r->changed_base)
        strbuf_puts(out, "base.h5 in it is the base without what the adapter took out of it: the "
                         "two go together\n");
    strbuf_puts(out, "try it: graft generate --base ");
    put_shell(whole || r->changed_base ? c->output : c->base, out);
    strbuf_puts(out, r->changed_base ? "/base.h5" : "");
    if (!whole) {
        strbuf_clear(&dir);
        strbuf_printf(&dir, "%s%s", c->output, r->first_stage ? "/probe" : "");
        strbuf_puts(out, " --adapter ");
        put_adapter(strbuf_str(&dir), out);
        strbuf_release(&dir);
    }
    strbuf_printf(out, " -p %s\n",
                  c->adapter.prompt.placeholder ? "TEXT   # with the placeholders in it" : "TEXT");
    if ((r->steps < p->steps || r->first_stage) && strcmp(r->status, "finished") != 0)
        put_go_on(p, c, r, out);
}
