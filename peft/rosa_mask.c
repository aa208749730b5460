/* The places of RoSA's sparse values: gathered from gradients, or taken from a file.
 *
 * Of each weight matrix (O, I) the sum over passes of dY^T X, or of its entries' squares (an
 * estimate of the diagonal Fisher information), and of that the nnz entries that are largest by
 * magnitude; of equal ones those that stand first. The sums of all matrices lie in a mapped
 * temporary file. Nikdan et al. 2024, arXiv:2401.04679, algorithm 1. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "io/safetensors.h"
#include "peft/largest.h"
#include "peft/rosa.h"

enum {
    BINS = 1 << 16,
    LOW_BITS = 15,       /* of the 31 bits of a magnitude */
    NOT_FINITE = 0xff00, /* bin of infinity and NaN, and all above */
    PIECE = 1 << 20,     /* values looked at between two visits of the file's pages */
    PAGE = 4096,         /* a matrix begins on a page of its own */
};

/* NULL: the site has no sparse part, or is a copy beside the method's own. */
static struct rosa_site *sparse_part(const struct adapter_site *s)
{
    struct rosa_site *own = s->ops->phases == &rosa_phases ? s->state : NULL;

    return own && own->nnz ? own : NULL;
}

/* Bytes of one site's sums in the file. */
static size_t sums_bytes(const struct adapter_site *s)
{
    const size_t bytes = (size_t)(s->slot->out * s->slot->in) * sizeof(float);

    return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* ---- choosing */

/* What is looked for in a matrix of n values. */
struct choice {
    const float *x;
    int64_t n;
    uint32_t least;  /* magnitudes above it are all chosen */
    int64_t equal;   /* and of those that equal it, the first so many */
    int64_t *counts; /* lanes of BINS */
    int lanes;
};

/* counts[0 .. BINS) = how many magnitudes are in each bin: by their high bits, or, among those
 * whose high bits are `high`, by their low ones. */
static void count_bins(struct choice *c, int64_t high)
{
    memset(c->counts, 0, (size_t)c->lanes * BINS * sizeof *c->counts);
    for (int64_t first = 0; first < c->n; first += PIECE) {
        const int64_t end = first + PIECE < c->n ? first + PIECE : c->n;

#pragma omp parallel for schedule(static) num_threads(c->lanes)
        for (int64_t i = first; i < end; i++) {
            const uint32_t m = magnitude(c->x[i]);
            int64_t *bin = c->counts + (ptrdiff_t)omp_get_thread_num() * BINS;

            if (high < 0)
                bin[m >> LOW_BITS]++;
            else if (m >> LOW_BITS == (uint32_t)high)
                bin[m & ((1u << LOW_BITS) - 1)]++;
        }
        file_forget(c->x + first, (size_t)(end - first) * sizeof *c->x);
    }
    for (int l = 1; l < c->lanes; l++)
        for (int b = 0; b < BINS; b++)
            c->counts[b] += c->counts[(ptrdiff_t)l * BINS + b];
}

/* False: a value is not finite. */
static bool find_least(struct choice *c, int64_t k)
{
    uint32_t high, low;

    count_bins(c, -1);
    for (int b = NOT_FINITE; b < BINS; b++)
        if (c->counts[b])
            return false;
    high = bin_of(c->counts, BINS, &k);
    count_bins(c, high);
    low = bin_of(c->counts, BINS, &k);
    c->least = high << LOW_BITS | low;
    c->equal = k;
    return true;
}

/* The places, row by row. */
static void write_places(struct choice *c, struct adapter_site *s)
{
    const int64_t I = s->slot->in, O = s->slot->out;
    int32_t *offs = s->param[ROSA_ROW_OFFS]->data, *cols = s->param[ROSA_COL_IDX]->data, n = 0;
    int64_t seen = 0; /* values whose pages have been let go */

    for (int64_t o = 0; o < O; o++) {
        for (int64_t i = 0; i < I; i++) {
            const uint32_t m = magnitude(c->x[o * I + i]);

            if (m > c->least || (m == c->least && c->equal-- > 0))
                cols[n++] = (int32_t)i;
        }
        offs[o + 1] = n;
        if ((o + 1) * I - seen < PIECE)
            continue;
        file_forget(c->x + seen, (size_t)((o + 1) * I - seen) * sizeof *c->x);
        seen = (o + 1) * I;
    }
    file_forget(c->x + seen, sums_bytes(s) - (size_t)seen * sizeof *c->x);
}

static enum graft_status choose(struct adapter_site *s, const float *sums, int64_t *counts,
                                int lanes, struct graft_err *err)
{
    const struct rosa_site *own = s->state;
    struct choice c = {
        .x = sums, .n = s->slot->out * s->slot->in, .counts = counts, .lanes = lanes
    };

    if (!find_least(&c, own->nnz))
        return graft_fail(err, GRAFT_ERUN,
                          "the gradient of %s, from which the places of its sparse values are to "
                          "be chosen, is not finite",
                          s->slot->name);
    write_places(&c, s);
    return GRAFT_OK;
}

static enum graft_status choose_all(struct adapter *a, struct graft_err *err)
{
    const struct rosa *r = a->state;
    const int lanes = omp_get_max_threads();
    int64_t *counts = mem_array((size_t)lanes * BINS, sizeof *counts);
    const char *at = r->sums.data;
    enum graft_status st = GRAFT_OK;

    if (!counts)
        return graft_fail_nomem(err, "choosing sparse places", (size_t)lanes * BINS * 8);
    for (int i = 0; i < a->site_count && !st; i++) {
        if (!sparse_part(&a->site[i]))
            continue;
        st = choose(&a->site[i], (const float *)(const void *)at, counts, lanes, err);
        at += sums_bytes(&a->site[i]);
    }
    mem_free(counts);
    return st;
}

/* ---- mask files: the places alone, under the names they have in an adapter's file */

static enum graft_status write_entry(void *user, const struct safetensors_entry *e,
                                     struct out_file *f, struct graft_err *err)
{
    const struct adapter *a = user;

    (void)err;
    for (int i = 0; i < a->entry_count; i++)
        if (!strcmp(a->entry[i].tensor->name, e->name))
            out_file_write(f, a->entry[i].tensor->data, (size_t)e->dim[0] * sizeof(int32_t));
    return GRAFT_OK;
}

static enum graft_status save_mask(struct adapter *a, const char *path, struct graft_err *err)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    struct safetensors_entry *e = mem_array((size_t)a->entry_count, sizeof *e);
    enum graft_status st;
    int64_t n = 0;

    if (!e)
        return graft_fail_nomem(err, path, (size_t)a->entry_count * sizeof *e);
    for (int i = 0; i < a->entry_count; i++)
        if (a->entry[i].index)
            e[n++] = (struct safetensors_entry){ .name = a->entry[i].tensor->name,
                                                 .type = QT_I32,
                                                 .ndim = 1,
                                                 .dim = { a->entry[i].tensor->dim[0] } };
    st = safetensors_write(path, e, n, metadata, write_entry, a, err);
    mem_free(e);
    return st;
}

static enum graft_status load_entry(const struct adapter_entry *e, const struct store *s,
                                    struct graft_err *err)
{
    const struct stored_tensor *t = store_find(s, e->tensor->name);

    if (!t)
        return graft_fail(err, GRAFT_EFORMAT, "%s: there is no %s", s->path, e->tensor->name);
    if (t->mat.type != QT_I32 && t->mat.type != QT_I16)
        return graft_fail(err, GRAFT_EFORMAT, "%s: %s is of type %s, wanted i32", s->path, t->name,
                          qtypes[t->mat.type].name);
    if (t->ndim != 1 || t->dim[0] != e->tensor->dim[0])
        return graft_fail(err, GRAFT_ESHAPE,
                          "%s: %s has %lld entries, wanted %lld; is it of another base, or of "
                          "another adapter.d?",
                          s->path, t->name, (long long)qmat_elems(&t->mat),
                          (long long)e->tensor->dim[0]);
    adapter_read_index(t, e);
    return GRAFT_OK;
}

static enum graft_status read_mask(struct adapter *a, const char *path, struct graft_err *err)
{
    struct store s = { 0 };
    enum graft_status st = safetensors_open(path, &s, err);

    for (int i = 0; i < a->entry_count && !st; i++)
        if (a->entry[i].index)
            st = load_entry(&a->entry[i], &s, err);
    for (int i = 0; i < a->site_count && !st; i++) {
        bool chosen = true;

        if (sparse_part(&a->site[i]))
            st = rosa_check(&a->site[i], &chosen, err);
        if (!st && !chosen)
            st = graft_fail(err, GRAFT_EFORMAT, "%s: no places were chosen for %s yet", path,
                            a->site[i].slot->name);
    }
    store_release(&s);
    return st;
}

static enum graft_status load_mask(struct adapter *a, const char *path, struct graft_err *err)
{
    struct strbuf file = STRBUF_INIT;
    enum graft_status st;

    if (dir_exists(path))
        path_join(&file, path, "adapter_model.safetensors");
    else
        strbuf_puts(&file, path);
    st = file.failed ? graft_fail_nomem(err, path, strlen(path))
                     : read_mask(a, strbuf_str(&file), err);
    strbuf_release(&file);
    return st ? graft_fail_in(err, st, "adapter.mask_load_path") : GRAFT_OK;
}

/* ---- between the steps */

/* Whether an adapter that the run goes on from has its places; EFORMAT: some have, some not. */
static enum graft_status find_chosen(struct adapter *a, bool *chosen, struct graft_err *err)
{
    const struct adapter_site *with = NULL, *without = NULL;

    for (int i = 0; i < a->site_count; i++) {
        const struct rosa_site *own = sparse_part(&a->site[i]);

        if (own && own->sparse.row_offs)
            with = &a->site[i];
        else if (own)
            without = &a->site[i];
    }
    *chosen = with && !without;
    return with && without
               ? graft_fail(err, GRAFT_EFORMAT,
                            "adapter.init_from: places are chosen for %s, but not for %s",
                            with->slot->name, without->slot->name)
               : GRAFT_OK;
}

static int64_t count_sparse(const struct adapter *a)
{
    int64_t n = 0;

    for (int i = 0; i < a->site_count; i++) {
        const struct rosa_site *own = sparse_part(&a->site[i]);

        n += own ? own->nnz : 0;
    }
    return n;
}

static enum graft_status rosa_start(struct adapter *a, int64_t steps, struct graft_err *err)
{
    const struct adapter_config *c = &a->config;
    struct rosa *r = a->state;

    if (!count_sparse(a)) {
        if (c->schedule == ROSA_LOW_RANK || (c->d == 0 && !c->density_pattern_count))
            return GRAFT_OK;
        return graft_fail(err, GRAFT_EARG, "adapter.d: %g leaves no value in any of the weights",
                          c->d);
    }
    GRAFT_TRY(find_chosen(a, &r->chosen, err));
    if (r->chosen && (c->mask_load_path || c->mask_save_path))
        return graft_fail(err, GRAFT_EARG,
                          "adapter.mask_%s_path: the adapter of init_from has its places already",
                          c->mask_load_path ? "load" : "save");
    r->wakes = r->chosen ? 0 : c->warmup;
    if (r->wakes >= steps)
        return graft_fail(err, GRAFT_EARG,
                          "adapter.schedule wl%lld: the run has %lld step%s, so the sparse part "
                          "would never train; take a shorter warm-up, df, or more steps",
                          (long long)c->warmup, (long long)steps, steps == 1 ? "" : "s");
    if (!c->mask_load_path)
        return GRAFT_OK;
    r->chosen = true;
    return load_mask(a, c->mask_load_path, err);
}

static bool is_due(const struct adapter *a)
{
    const struct rosa *r = a->state;

    return !r->chosen && count_sparse(a);
}

static int64_t rosa_passes(const struct adapter *a, int64_t step)
{
    const struct rosa *r = a->state;

    return is_due(a) && step >= r->wakes ? a->config.spa_num_grads : 0;
}

static size_t rosa_disk(const struct adapter *a)
{
    size_t bytes = 0;

    for (int i = 0; i < a->site_count && is_due(a); i++)
        bytes += sparse_part(&a->site[i]) ? sums_bytes(&a->site[i]) : 0;
    return bytes;
}

static enum graft_status rosa_gather(struct adapter *a, const char *dir, struct graft_err *err)
{
    struct rosa *r = a->state;
    char *at;

    GRAFT_TRY(scratch_open(dir, rosa_disk(a), &r->sums, err));
    at = r->sums.data;
    for (int i = 0; i < a->site_count; i++) {
        struct rosa_site *own = sparse_part(&a->site[i]);

        if (!own)
            continue;
        own->sparse.dense = (float *)(void *)at;
        own->sparse.squared = a->config.mean_squared;
        own->sparse.mapped = true;
        at += sums_bytes(&a->site[i]);
    }
    return GRAFT_OK;
}

static enum graft_status rosa_gathered(struct adapter *a, bool whole, struct graft_err *err)
{
    struct rosa *r = a->state;
    enum graft_status st = GRAFT_OK;

    for (int i = 0; i < a->site_count; i++) {
        struct rosa_site *own = sparse_part(&a->site[i]);

        if (own)
            own->sparse.dense = NULL;
    }
    if (whole)
        st = choose_all(a, err);
    scratch_close(&r->sums);
    if (st || !whole)
        return st;
    r->chosen = true;
    graft_note("chose the places of %lld sparse values by the gradients of %lld pass%s",
               (long long)count_sparse(a), (long long)a->config.spa_num_grads,
               a->config.spa_num_grads == 1 ? "" : "es");
    return a->config.mask_save_path ? save_mask(a, a->config.mask_save_path, err) : GRAFT_OK;
}

static bool rosa_step(struct adapter *a, int64_t step)
{
    const struct rosa *r = a->state;

    if (r->chosen && a->config.terminate_after_mask_generation)
        return false;
    for (int i = 0; i < a->site_count && r->chosen && step >= r->wakes; i++) {
        const struct rosa_site *own = sparse_part(&a->site[i]);

        if (own && !own->sparse.row_offs)
            rosa_wake(&a->site[i]);
    }
    return true;
}

const struct adapter_phases rosa_phases = {
    .start = rosa_start,
    .passes = rosa_passes,
    .disk = rosa_disk,
    .gather = rosa_gather,
    .gathered = rosa_gathered,
    .step = rosa_step,
};
