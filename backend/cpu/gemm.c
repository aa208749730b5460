/* C (m, n) (+)= alpha A (m, k) B (k, n), the form that all three products become.
 *
 * Source of the scheme: Goto, van de Geijn 2008, "Anatomy of high-performance matrix
 * multiplication"; Van Zee, van de Geijn 2015, "BLIS". For each k-block, ascending: B's panels are
 * packed (weights: decoded) once by all threads; then tasks of rows x columns run, whose panels
 * stay in the level-2 cache while tile after tile of A, kept in the level-1 cache, passes along
 * them. With few rows (`narrow`) each thread packs for itself and there is nothing to wait for.
 *
 * C(i, j) = c0 + alpha s_0 + alpha s_1 + ..., s_b the chain of multiply-adds over k-block b. Blocks
 * depend on k alone, so neither rows, threads nor the way taken show in the bits. */
#include "backend/cpu/gemm_product.h"

#include <omp.h>
#include <string.h>

enum {
    FEW_ROWS = GEMM_MC,  /* up to here panels are not worth sharing with any number of threads */
    NARROW_COLS = 256,   /* most columns of one task there */
    SHARED_COLS = 2048,  /* columns of B packed at a time */
    L2_FLOATS = 1 << 18, /* part of a core's level-2 cache for the panels of one task */
    TASKS = 16,          /* tasks wanted for each thread: the last ones end together */
    PACK_K = 64,         /* one piece of packing: GEMM_COLS columns of so many rows of B */
    PARALLEL_WORK = 1 << 15, /* vector steps that pay for waking the other threads */
};

/* What one thread needs for itself, floats. */
enum {
    OWN_B = GEMM_NR_MAX * GEMM_KC,
    OWN_C = FEW_ROWS * NARROW_COLS,
    OWN_FLOATS = GEMM_A_FLOATS + GEMM_TMP_FLOATS + OWN_B + OWN_C,
};
struct own {
    float *a, *tmp, *b, *c;
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t round_up(int64_t a, int64_t b)
{
    return ceil_div(a, b) * b;
}

const struct gemm_kernel *gemm_kernel(void)
{
#if SIMD_X86
    switch (simd_level()) {
    case SIMD_AVX512:
        return &gemm_avx512;
    case SIMD_AVX2:
        return &gemm_avx2;
    case SIMD_PLAIN:
        break;
    }
#endif
    return &gemm_portable;
}

const char *gemm_kernel_name(void)
{
    return gemm_kernel()->name;
}

/* Length of the k-blocks: equal ones, as far as they can be. */
static int64_t block_length(int64_t k, int64_t align)
{
    const int64_t longest = GEMM_KC / align * align;

    if (k <= longest)
        return k;
    return round_up(ceil_div(k, ceil_div(k, longest)), align);
}

static int64_t alignment(const struct gemm_product *p)
{
    if (p->source == GEMM_B_WT && qtypes[p->w->type].block > GEMM_KALIGN)
        return qtypes[p->w->type].block;
    return GEMM_KALIGN;
}

static size_t shared_floats(int64_t n, int64_t k)
{
    return (size_t)(min64(k, GEMM_KC) * round_up(min64(n, SHARED_COLS), GEMM_NR_MAX));
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t gemm_scratch(int64_t n, int64_t in, int64_t out)
{
    const size_t own = (size_t)omp_get_max_threads() * OWN_FLOATS;
    const size_t forward = shared_floats(out, in), back = shared_floats(in, out);

    return (own + most(most(forward, back), shared_floats(in, n))) * sizeof(float);
}

static struct own own_buffers(float *scratch)
{
    float *mine = scratch + (int64_t)omp_get_thread_num() * OWN_FLOATS;
    struct own o;

    o.a = mine;
    o.tmp = o.a + GEMM_A_FLOATS;
    o.b = o.tmp + GEMM_TMP_FLOATS;
    o.c = o.b + OWN_B;
    return o;
}

/* Is there enough to do for a second thread? Decoding counts one step an element. */
static bool worth_threads(const struct gemm_product *p)
{
    const double work =
        (double)p->m * (double)p->n * (double)p->k / 16 + (p->w ? (double)p->n * (double)p->k : 0);

    return work >= PARALLEL_WORK;
}

/* rows x cols of C for one k-block, cols <= nr: every tile of `a` over one panel. */
static void column_of_tiles(const struct gemm_product *p, const struct gemm_rows *a, int64_t rows,
                            struct gemm_tile t)
{
    const int64_t tiles = ceil_div(rows, p->kern->mr);
    float *const c = t.c;

    t.rs = a->rs;
    for (int64_t i = 0; i < tiles; i++) {
        const int64_t r = gemm_tile_start(rows, tiles, i);

        t.rows = (int)(gemm_tile_start(rows, tiles, i + 1) - r);
        t.cs = a->by_tile ? t.rows : a->cs;
        t.a = a->p + r * a->tile_step;
        t.c = c + r * t.ldc;
        p->kern->tile(&t);
    }
}

/* ---- few rows: a task is a group of columns over all k ---- */

/* Up to GEMM_NR_MAX columns, one k-block. c: C(0, j0) */
static void narrow_block(const struct gemm_product *p, const struct gemm_rows *a, int64_t k0,
                         int64_t kc, int64_t j0, int64_t cols, float *c, int64_t ldc, bool add,
                         const struct own *own)
{
    const int64_t nr = p->kern->nr;
    struct gemm_tile t = { .kc = kc, .ldb = nr, .ldc = ldc, .alpha = p->alpha, .add = add };
    int64_t ldb = 0;
    const float *b = gemm_direct_b(p, k0, j0, cols, &ldb);

    if (!b)
        gemm_pack_b(p, k0, kc, j0, cols, own->b, kc * nr, own->tmp);
    for (int64_t j = 0; j < cols; j += nr) {
        t.cols = (int)min64(nr, cols - j);
        t.c = c + j;
        t.b = b ? b + j : own->b + j * kc;
        if (b)
            t.ldb = ldb;
        column_of_tiles(p, a, p->m, t);
    }
}

/* A group's share of C between where it lives, transposed, and rows of `ldc` floats. */
static void turn_in(const struct gemm_product *p, int64_t j0, int64_t cols, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < p->m; i++)
            c[i * ldc + j] = p->c[(j0 + j) * p->ldc + i];
}

static void turn_out(const struct gemm_product *p, int64_t j0, int64_t cols, const float *c,
                     int64_t ldc)
{
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < p->m; i++)
            p->c[(j0 + j) * p->ldc + i] = c[i * ldc + j];
}

static void narrow_group(const struct gemm_product *p, int64_t j0, int64_t cols,
                         const struct own *own)
{
    float *c = p->c_transposed ? own->c : p->c + j0;
    const int64_t ldc = p->c_transposed ? NARROW_COLS : p->ldc;

    if (p->c_transposed && p->add)
        turn_in(p, j0, cols, c, ldc);
    for (int64_t k0 = 0; k0 < p->k; k0 += p->kc) {
        const int64_t kc = min64(p->kc, p->k - k0);
        const struct gemm_rows a = gemm_rows(p, 0, p->m, k0, kc, own->a);

        for (int64_t j = 0; j < cols; j += GEMM_NR_MAX)
            narrow_block(p, &a, k0, kc, j0 + j, min64(GEMM_NR_MAX, cols - j), c + j, ldc,
                         p->add || k0 > 0, own);
    }
    if (p->c_transposed)
        turn_out(p, j0, cols, c, ldc);
}

static void run_narrow(const struct gemm_product *p, float *scratch)
{
    const bool parallel = worth_threads(p);
    const int64_t threads = parallel ? omp_get_max_threads() : 1;
    const int64_t rounds = ceil_div(p->n, threads * NARROW_COLS);
    const int64_t group = round_up(ceil_div(p->n, threads * rounds), GEMM_NR_MAX);

#pragma omp parallel if (parallel)
    {
        const struct own own = own_buffers(scratch);

#pragma omp for schedule(dynamic)
        for (int64_t j = 0; j < p->n; j += group)
            narrow_group(p, j, min64(group, p->n - j), &own);
    }
}

/* ---- many rows: panels shared by all threads ---- */

/* One k-block of columns [j0, j0 + n): its packed panels and how its work is cut. */
struct stage {
    int64_t k0, kc, j0, n;
    float *b;
    int64_t pack_cols, pack_k, packs_n, packs; /* pieces of packing */
    int64_t rows, cols, tasks_n, tasks;        /* tasks of rows x cols */
};

static struct stage stage_make(const struct gemm_product *p, int64_t k0, int64_t j0, float *b,
                               int threads)
{
    const int64_t nr = p->kern->nr, mr = p->kern->mr, wanted = (int64_t)threads * TASKS;
    struct stage s = { .k0 = k0, .j0 = j0, .b = b };

    s.kc = min64(p->kc, p->k - k0);
    s.n = min64(SHARED_COLS, p->n - j0);
    s.pack_cols = p->source == GEMM_B_WT ? GEMM_NR_MAX : GEMM_COLS;
    s.pack_k = p->source == GEMM_B_WT ? s.kc : PACK_K;
    s.packs_n = ceil_div(s.n, s.pack_cols);
    s.packs = s.packs_n * ceil_div(s.kc, s.pack_k);

    s.cols = ceil_div(s.n, ceil_div(s.n * s.kc, L2_FLOATS));
    s.cols = round_up(s.cols, GEMM_NR_MAX);
    s.rows = round_up(ceil_div(p->m * ceil_div(s.n, s.cols), wanted), mr);
    s.rows = min64(s.rows, GEMM_MC / mr * mr);
    while (s.cols > nr && ceil_div(p->m, s.rows) * ceil_div(s.n, s.cols) < 2 * threads)
        s.cols = round_up(s.cols / 2, nr);
    s.tasks_n = ceil_div(s.n, s.cols);
    s.tasks = s.tasks_n * ceil_div(p->m, s.rows);
    return s;
}

static void pack_piece(const struct gemm_product *p, const struct stage *s, int64_t piece,
                       float *tmp)
{
    const int64_t j = piece % s->packs_n * s->pack_cols, k = piece / s->packs_n * s->pack_k;
    const int64_t nr = p->kern->nr;

    gemm_pack_b(p, s->k0 + k, min64(s->pack_k, s->kc - k), s->j0 + j, min64(s->pack_cols, s->n - j),
                s->b + j * s->kc + k * nr, s->kc * nr, tmp);
}

/* Tile by tile of A along the panels: C is then touched row by row. */
static void run_task(const struct gemm_product *p, const struct stage *s, int64_t task, float *abuf)
{
    const int64_t rtasks = s->tasks / s->tasks_n, nr = p->kern->nr, mr = p->kern->mr;
    const int64_t i0 = task % rtasks * s->rows, j0 = task / rtasks * s->cols;
    const int64_t rows = min64(s->rows, p->m - i0), cols = min64(s->cols, s->n - j0);
    const struct gemm_rows a = gemm_rows(p, i0, rows, s->k0, s->kc, abuf);
    const int64_t tiles = ceil_div(rows, mr);
    struct gemm_tile t = { .kc = s->kc,
                           .rs = a.rs,
                           .ldb = nr,
                           .ldc = p->ldc,
                           .alpha = p->alpha,
                           .add = p->add || s->k0 > 0 };

    for (int64_t i = 0; i < tiles; i++) {
        const int64_t r = gemm_tile_start(rows, tiles, i);

        t.rows = (int)(gemm_tile_start(rows, tiles, i + 1) - r);
        t.cs = a.by_tile ? t.rows : a.cs;
        t.a = a.p + r * a.tile_step;
        for (int64_t j = j0; j < j0 + cols; j += nr) {
            t.cols = (int)min64(nr, j0 + cols - j);
            t.b = s->b + j * s->kc;
            t.c = p->c + (i0 + r) * p->ldc + s->j0 + j;
            p->kern->tile(&t);
        }
    }
}

static void run_shared(const struct gemm_product *p, float *scratch)
{
    float *b = scratch + (int64_t)omp_get_max_threads() * OWN_FLOATS;

#pragma omp parallel if (worth_threads(p))
    {
        const struct own own = own_buffers(scratch);

        for (int64_t j0 = 0; j0 < p->n; j0 += SHARED_COLS) {
            for (int64_t k0 = 0; k0 < p->k; k0 += p->kc) {
                const struct stage s = stage_make(p, k0, j0, b, omp_get_num_threads());

#pragma omp for schedule(dynamic)
                for (int64_t i = 0; i < s.packs; i++)
                    pack_piece(p, &s, i, own.tmp);
#pragma omp for schedule(dynamic)
                for (int64_t i = 0; i < s.tasks; i++)
                    run_task(p, &s, i, own.a);
            }
        }
    }
}

/* ---- the three products ---- */

static void clear(const struct gemm_product *p)
{
    const int64_t rows = p->c_transposed ? p->n : p->m, cols = p->c_transposed ? p->m : p->n;

    for (int64_t i = 0; i < rows; i++)
        memset(p->c + i * p->ldc, 0, (size_t)cols * sizeof *p->c);
}

/* Not worth sharing panels, and columns enough for all threads? Blocks longer than a panel cannot
 * be cut where the narrow way cuts them. */
static bool is_narrow(const struct gemm_product *p)
{
    const int64_t panels = p->n / GEMM_NR_MAX, threads = omp_get_max_threads();

    if (p->source == GEMM_B_W && qtypes[p->w->type].block > GEMM_NR_MAX)
        return false;
    return p->m <= FEW_ROWS || (p->m <= GEMM_NARROW && panels >= 4 * threads);
}

static void run(struct gemm_product *p, void *scratch)
{
    if (p->m <= 0 || p->n <= 0)
        return;
    if (p->k <= 0) {
        if (!p->add)
            clear(p);
        return;
    }
    p->kern = gemm_kernel();
    p->kc = block_length(p->k, alignment(p));
    if (is_narrow(p))
        run_narrow(p, scratch);
    else
        run_shared(p, scratch);
}

void gemm_xwt(enum gemm_type type, int64_t n, float alpha, struct gemm_mat x, const struct qmat *w,
              float beta, float *y, int64_t ldy, void *scratch)
{
    struct gemm_product p = { .type = type,
                              .m = n,
                              .n = w->rows,
                              .k = w->cols,
                              .a = x,
                              .source = GEMM_B_WT,
                              .w = w,
                              .c = y,
                              .ldc = ldy,
                              .alpha = alpha,
                              .add = beta != 0 };

    run(&p, scratch);
}

void gemm_xw(enum gemm_type type, int64_t n, float alpha, struct gemm_mat dy, const struct qmat *w,
             float beta, float *dx, int64_t lddx, void *scratch)
{
    struct gemm_product p = { .type = type,
                              .m = n,
                              .n = w->cols,
                              .k = w->rows,
                              .a = dy,
                              .source = GEMM_B_W,
                              .w = w,
                              .c = dx,
                              .ldc = lddx,
                              .alpha = alpha,
                              .add = beta != 0 };

    run(&p, scratch);
}

/* With few columns the product is turned around, dw^T = x^T dy: rows may be few, columns not. */
void gemm_tn(enum gemm_type type, int64_t n, int64_t out, int64_t in, float alpha,
             struct gemm_mat dy, struct gemm_mat x, float beta, float *dw, int64_t lddw,
             void *scratch)
{
    const bool turn = in < out && in <= FEW_ROWS;
    struct gemm_product p = { .type = type,
                              .m = turn ? in : out,
                              .n = turn ? out : in,
                              .k = n,
                              .a = turn ? x : dy,
                              .a_kmajor = true,
                              .source = GEMM_B_MAT,
                              .b = turn ? dy : x,
                              .c = dw,
                              .ldc = lddw,
                              .c_transposed = turn,
                              .alpha = alpha,
                              .add = beta != 0 };

    run(&p, scratch);
}
