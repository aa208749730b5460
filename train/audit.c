#include "train/audit.h"

#include <math.h>
#include <string.h>

enum { SEGMENTS = 256, HEAD_ROWS = 64 };

/* One of the two models: all but the head over whole records, the head over a few tokens at a time,
 * so that no (N, V) logits exist. */
struct half {
    struct net body, head;
    float *hidden; /* (HEAD_ROWS, C): what the head works on */
    int64_t width;
};

struct comparing {
    const struct dataset *data;
    struct half ref, merged;
    struct graph_input in; /* of the bodies */
    int32_t *id, *pos, *target;
    int64_t *start;
    int32_t *row; /* tokens of the pass that have a target */
    struct audit_side *side;
    struct row_sum {
        double kl, change, ref_nll, merged_nll;
        bool same;
    } * sum; /* HEAD_ROWS */
    struct arena mem;
};

static enum graft_status make_half(const struct model *m, struct adapter *a,
                                   const struct dataset *d, struct half *out, struct graft_err *err)
{
    const struct net_opts opts = { .max_tokens = eval_pass_tokens(d, 0), /* none are virtual */
                                   .max_segments = SEGMENTS,
                                   .act = DT_F32,
                                   .mode = NET_HIDDEN };

    out->width = m->config->hidden;
    out->hidden = mem_array((size_t)(HEAD_ROWS * out->width), sizeof *out->hidden);
    if (!out->hidden)
        return graft_fail_nomem(err, "the audit", (size_t)(HEAD_ROWS * out->width) * 4);
    GRAFT_TRY(net_make(m, a, &opts, &out->body, err));
    return net_make_head(m, a, out->hidden, HEAD_ROWS, &out->head, err);
}

static void release_half(struct half *h)
{
    net_release(&h->head);
    net_release(&h->body);
    mem_free(h->hidden);
}

/* The logits of these tokens of the body's last pass. */
static const float *head_of(struct half *h, const int32_t *row, int64_t n)
{
    int32_t id[HEAD_ROWS], pos[HEAD_ROWS] = { 0 };
    const int64_t start[2] = { 0, n };
    const struct graph_input in = { .n = n, .id = id, .pos = pos, .segments = 1, .start = start };

    for (int64_t i = 0; i < n; i++) {
        memcpy(h->hidden + i * h->width, (const float *)h->body.out->data + row[i] * h->width,
               (size_t)h->width * sizeof(float));
        id[i] = (int32_t)i;
    }
    graph_forward(h->head.g, &in);
    return h->head.out->data;
}

static enum graft_status make_room(struct comparing *c, struct graft_err *err)
{
    const size_t n = (size_t)c->ref.body.max_tokens;

    c->id = arena_array(&c->mem, n, sizeof *c->id);
    c->pos = arena_array(&c->mem, n, sizeof *c->pos);
    c->target = arena_array(&c->mem, n, sizeof *c->target);
    c->row = arena_array(&c->mem, n, sizeof *c->row);
    c->start = arena_array(&c->mem, SEGMENTS + 1, sizeof *c->start);
    c->sum = arena_array(&c->mem, HEAD_ROWS, sizeof *c->sum);
    if (!c->id || !c->pos || !c->target || !c->row || !c->start || !c->sum)
        return graft_fail_nomem(err, "the audit", n * 16);
    c->in = (struct graph_input){ .id = c->id, .pos = c->pos, .start = c->start };
    return GRAFT_OK;
}

/* log sum exp of z (n), and where the largest is. */
static double log_sum(const float *z, int64_t n, int64_t *top)
{
    double sum = 0;

    *top = 0;
    for (int64_t i = 1; i < n; i++)
        if (z[i] > z[*top])
            *top = i;
    for (int64_t i = 0; i < n; i++)
        sum += i == *top ? 0 : exp((double)z[i] - (double)z[*top]);
    return (double)z[*top] + log1p(sum);
}

/* KL(p || q) = sum p (log p - log q), p the reference's distribution. */
static struct row_sum compare_row(const float *ref, const float *merged, int64_t vocab,
                                  int32_t target)
{
    int64_t top_ref, top_merged;
    const double lp = log_sum(ref, vocab, &top_ref), lq = log_sum(merged, vocab, &top_merged);
    struct row_sum s = { .ref_nll = lp - (double)ref[target],
                         .merged_nll = lq - (double)merged[target],
                         .same = top_ref == top_merged };

    for (int64_t i = 0; i < vocab; i++) {
        const double a = (double)ref[i] - lp, b = (double)merged[i] - lq;

        s.kl += exp(a) * (a - b);
        s.change = fmax(s.change, fabs((double)ref[i] - (double)merged[i]));
    }
    return s;
}

/* Up to HEAD_ROWS tokens of the pass through both heads. */
static void compare_rows(struct comparing *c, const int32_t *row, int64_t n)
{
    const int64_t vocab = c->ref.head.out->dim[1];
    const float *ref = head_of(&c->ref, row, n), *merged = head_of(&c->merged, row, n);
    struct audit_side *s = c->side;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        c->sum[i] = compare_row(ref + i * vocab, merged + i * vocab, vocab, c->target[row[i]]);
    for (int64_t i = 0; i < n; i++) { /* in one order, whatever the threads */
        s->kl += c->sum[i].kl;
        s->kl_most = fmax(s->kl_most, c->sum[i].kl);
        s->logit_change = fmax(s->logit_change, c->sum[i].change);
        s->loss += c->sum[i].ref_nll;
        s->merged_loss += c->sum[i].merged_nll;
        s->same += c->sum[i].same;
    }
    s->tokens += n;
}

static enum graft_status run_pass(struct comparing *c, struct graft_err *err)
{
    int64_t n = 0;

    if (c->in.n == 0)
        return GRAFT_OK;
    graph_forward(c->ref.body.g, &c->in);
    graph_forward(c->merged.body.g, &c->in);
    for (int64_t t = 0; t < c->in.n; t++)
        if (c->target[t] >= 0)
            c->row[n++] = (int32_t)t;
    for (int64_t i = 0; i < n; i += HEAD_ROWS)
        compare_rows(c, c->row + i, n - i < HEAD_ROWS ? n - i : HEAD_ROWS);
    c->in.n = c->in.segments = 0;
    if (!isfinite(c->side->loss) || !isfinite(c->side->merged_loss) || !isfinite(c->side->kl))
        return graft_fail(err, GRAFT_ERUN, "the audit: a loss is not finite");
    return GRAFT_OK;
}

static void put_record(struct comparing *c, const struct record *r)
{
    struct graph_input *in = &c->in;

    dataset_copy(c->data, r, c->id + in->n, NULL);
    for (int64_t t = 0; t < r->length; t++) {
        const int32_t label = t + 1 < r->length ? dataset_label(c->data, r, t + 1) : NO_LABEL;

        c->pos[in->n + t] = (int32_t)t;
        c->target[in->n + t] = label != NO_LABEL ? label : -1;
    }
    in->n += r->length;
    c->start[++in->segments] = in->n;
}

static enum graft_status compare_all(struct comparing *c, struct graft_err *err)
{
    const struct dataset *d = c->data;

    c->start[0] = 0;
    for (int64_t i = 0; i < d->count; i++) {
        const struct record *r = &d->record[i];

        if (r->length == 0)
            continue;
        if (c->in.n + r->length > c->ref.body.max_tokens || c->in.segments == SEGMENTS)
            GRAFT_TRY(run_pass(c, err));
        put_record(c, r);
    }
    return run_pass(c, err);
}

static enum graft_status compare(const struct base *ref, struct adapter *a,
                                 const struct base *merged, const struct dataset *d,
                                 struct audit_side *out, struct graft_err *err)
{
    struct comparing c = { .data = d, .side = out };
    enum graft_status st = make_half(ref->model, a, d, &c.ref, err);

    if (!st)
        st = make_half(merged->model, NULL, d, &c.merged, err);
    if (!st)
        st = make_room(&c, err);
    if (!st)
        st = compare_all(&c, err);
    if (!st) {
        out->kl /= (double)out->tokens;
        out->loss /= (double)out->tokens;
        out->merged_loss /= (double)out->tokens;
    }
    release_half(&c.ref);
    release_half(&c.merged);
    arena_release(&c.mem);
    return st;
}

static enum graft_status audit_side(const struct audit_opts *o, int i, const struct base *merged,
                                    struct audit_side *out, struct graft_err *err)
{
    struct task_list tasks = { 0 };
    struct base base = { 0 };
    enum graft_status st = tasks_open(&o->adapter, 1, &tasks, err);

    *out = (struct audit_side){ .onto = o->onto[i], .trained_on = i == o->trained_on };
    if (!st)
        st = base_open(o->base, &o->quant[i], false, &base, err);
    if (!st)
        st = adapter_new(&tasks.task[0].config, &base.model->slots, false, &tasks.task[0].adapter,
                         err);
    if (!st)
        st = adapter_load_values(tasks.task[0].adapter, o->adapter, err);
    if (!st) {
        snprintf(out->weights, sizeof out->weights, "%s",
                 qtypes[base.model->layer[0].linear[LIN_Q].w.type].name);
        st = compare(&base, tasks.task[0].adapter, merged, o->data, out, err);
    }
    tasks_release(&tasks);
    base_release(&base);
    return st;
}

enum graft_status audit_run(const struct audit_opts *o, struct audit *out, struct graft_err *err)
{
    const struct quant_config as_it_is = { .mode = QUANT_AUTO };
    struct base merged = { 0 };
    enum graft_status st = base_open(o->merged, &as_it_is, false, &merged, err);

    for (int i = 0; i < o->sides && !st; i++)
        st = audit_side(o, i, &merged, &out->side[i], err);
    base_release(&merged);
    if (st)
        return st;
    out->sides = o->sides;
    out->tokens = out->side[0].tokens;
    out->records = o->data->stats.records - o->data->stats.dropped;
    return GRAFT_OK;
}

static json_t *side_json(const struct audit_side *s)
{
    return json_pack("{s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "onto",
                     s->onto == ONTO_QUANTIZED ? "quantized" : "original", "weights", s->weights,
                     "trained_on", s->trained_on, "loss", json_number(s->loss), "perplexity",
                     json_number(exp(s->loss)), "kl", json_number(s->kl), "kl_max",
                     json_number(s->kl_most), "logit_change", json_number(s->logit_change),
                     "same_token", json_number((double)s->same / (double)s->tokens));
}

json_t *audit_json(const struct audit *a)
{
    json_t *list = json_array();

    for (int i = 0; i < a->sides; i++)
        json_array_append_new(list, side_json(&a->side[i]));
    return json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "data", a->data, "records",
                     (json_int_t)a->records, "tokens", (json_int_t)a->tokens, "loss",
                     json_number(a->side[0].merged_loss), "perplexity",
                     json_number(exp(a->side[0].merged_loss)), "against", list, "missing",
                     a->missing ? json_string(a->missing) : json_null());
}
