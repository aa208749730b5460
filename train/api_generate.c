/* The public interface: answers. */
#include <math.h>
#include <string.h>

#include "train/api.h"

/* What graft_answer_free gets back: `shown` comes first. */
struct answer_box {
    struct graft_answer shown;
    struct generate_answer own;
};

/* One call under way. */
struct call {
    struct graft_model *m;
    const struct graft_request *request;
    const struct graft_generate_opts *opts;
    int64_t first; /* request of the part that runs */
    struct answer_box **box;
};

static enum graft_status set_options(struct graft_model *m, const struct graft_generate_opts *o,
                                     struct graft_err *err)
{
    const struct generate_opts how = {
        .max_new = o->max_new ? o->max_new : 256,
        .temperature = o->temperature,
        .top_k = o->top_k,
        .top_p = o->top_p != 0 ? o->top_p : 1,
        .stop = o->stop,
        .stops = o->stops,
        .asked = o->stop_flag,
    };

    if (how.max_new < 0)
        return graft_fail(err, GRAFT_EARG, "max_new is %lld, wanted 1 or more, or 0",
                          (long long)how.max_new);
    if (!(how.temperature >= 0) || !isfinite(how.temperature))
        return graft_fail(err, GRAFT_EARG, "temperature is %g, wanted 0 or more", how.temperature);
    if (how.top_k < 0)
        return graft_fail(err, GRAFT_EARG, "top_k is %lld, wanted 0 or more", (long long)how.top_k);
    if (!(how.top_p > 0 && how.top_p <= 1))
        return graft_fail(err, GRAFT_EARG, "top_p is %g, wanted 0 to 1", how.top_p);
    return generator_options(m->generator, &how, err);
}

static void stream(void *user, int i, const char *text, size_t len)
{
    const struct call *c = user;

    c->opts->piece(c->opts->user, c->first + i, text, len);
}

/* The tokens of request i; `own` holds them when they come from a text. */
static enum graft_status read_request(const struct call *c, int64_t i, struct id_list *own,
                                      struct generate_request *out, struct graft_err *err)
{
    const struct graft_request *q = &c->request[i];
    const struct tokenizer *t = NULL;

    GRAFT_TRY(task_of(c->m, q->adapter, &out->task, err));
    out->seed = q->seed;
    out->id = q->ids;
    out->n = q->count;
    if (!q->text)
        return q->count >= 0 && (q->ids || !q->count)
                   ? GRAFT_OK
                   : graft_fail(err, GRAFT_EARG, "prompt %lld has neither text nor ids",
                                (long long)i + 1);
    GRAFT_TRY(tokenizer_of(c->m, out->task, &t, err));
    GRAFT_TRY(tokenizer_encode(t, q->text, strlen(q->text), true, own, err));
    out->id = own->id;
    out->n = own->count;
    return GRAFT_OK;
}

static enum graft_status make_box(struct answer_box **out, struct graft_err *err)
{
    *out = mem_alloc(sizeof **out);
    return *out ? GRAFT_OK : graft_fail_nomem(err, "answer", sizeof **out);
}

static void show(const struct call *c, int task, struct answer_box *b)
{
    static const enum graft_stop stops[] = {
        [STOP_LENGTH] = GRAFT_STOP_LENGTH,
        [STOP_EOS] = GRAFT_STOP_EOS,
        [STOP_TEXT] = GRAFT_STOP_TEXT,
        [STOP_ASKED] = GRAFT_STOP_ASKED,
    };
    const struct tokenizer *t;
    const bool has_text = tokenizer_of(c->m, task, &t, NULL) == GRAFT_OK;

    b->shown = (struct graft_answer){
        .text = has_text ? strbuf_str(&b->own.text) : NULL,
        .text_len = b->own.text.len,
        .ids = b->own.id.id,
        .count = b->own.id.count,
        .stop = stops[b->own.stop],
    };
}

/* Answer requests [first, first + n), as many as the generator takes at once. */
static enum graft_status run_part(struct call *c, int n, struct graft_err *err)
{
    struct generate_request req[GENERATE_BATCH];
    struct generate_answer answer[GENERATE_BATCH];
    struct id_list own[GENERATE_BATCH];
    enum graft_status st = GRAFT_OK;

    memset(answer, 0, sizeof answer);
    memset(own, 0, sizeof own);
    for (int i = 0; i < n && !st; i++)
        st = read_request(c, c->first + i, &own[i], &req[i], err);
    for (int i = 0; i < n && !st; i++)
        st = make_box(&c->box[c->first + i], err);
    if (!st)
        st = generator_run(c->m->generator, req, n, answer, c->opts->piece ? stream : NULL, c, err);
    for (int i = 0; i < n; i++) {
        if (st) {
            generate_answer_release(&answer[i]);
        } else {
            c->box[c->first + i]->own = answer[i];
            show(c, req[i].task, c->box[c->first + i]);
        }
        id_list_release(&own[i]);
    }
    return st;
}

static enum graft_status run_all(struct call *c, int64_t count, struct graft_err *err)
{
    enum graft_status st = set_options(c->m, c->opts, err);

    while (!st && c->first < count) {
        const int64_t left = count - c->first;

        st = run_part(c, left < GENERATE_BATCH ? (int)left : GENERATE_BATCH, err);
        c->first += GENERATE_BATCH;
    }
    return st;
}

enum graft_status graft_generate_batch(struct graft_model *m, const struct graft_request *requests,
                                       int64_t count, const struct graft_generate_opts *opts,
                                       struct graft_answer **out, struct graft_err *err)
{
    static const struct graft_generate_opts defaults = GRAFT_GENERATE_DEFAULTS;
    struct call c = { .m = m, .request = requests, .opts = opts ? opts : &defaults };
    const int before = threads_enter(m->threads);
    enum graft_status st;

    c.box = mem_array((size_t)count, sizeof *c.box);
    st = c.box ? run_all(&c, count, err)
               : graft_fail_nomem(err, "answers", (size_t)count * sizeof *c.box);
    for (int64_t i = 0; i < count && c.box; i++) {
        if (st)
            graft_answer_free((struct graft_answer *)c.box[i]);
        else
            out[i] = &c.box[i]->shown;
    }
    mem_free(c.box);
    threads_leave(before);
    return st;
}

enum graft_status graft_generate(struct graft_model *m, const struct graft_adapter *a,
                                 const char *prompt, const struct graft_generate_opts *opts,
                                 struct graft_answer **out, struct graft_err *err)
{
    const struct graft_request q = { .adapter = a, .text = prompt, .seed = opts ? opts->seed : 0 };

    return graft_generate_batch(m, &q, 1, opts, out, err);
}

void graft_answer_free(struct graft_answer *answer)
{
    struct answer_box *b = (struct answer_box *)answer;

    if (!b)
        return;
    generate_answer_release(&b->own);
    mem_free(b);
}
