#include "backend/lapack.h"

#include <cblas.h>
#include <limits.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"

/* Fortran: column-major, every argument by address, 32-bit integers. A row-major (m, n) matrix is
 * the column-major (n, m) of its transpose, so each call below works on that. */
void sgesdd_(const char *jobz, const int *m, const int *n, float *a, const int *lda, float *s,
             float *u, const int *ldu, float *vt, const int *ldvt, float *work, const int *lwork,
             int *iwork, int *info);
void sgelqf_(const int *m, const int *n, float *a, const int *lda, float *tau, float *work,
             const int *lwork, int *info);
void sorglq_(const int *m, const int *n, const int *k, float *a, const int *lda, const float *tau,
             float *work, const int *lwork, int *info);

enum { EXACT_UP_TO = 2048, OVERSAMPLE = 16, MOST_ROUNDS = 30 };

static enum graft_status check_sides(int64_t m, int64_t n, struct graft_err *err)
{
    if (m > INT_MAX || n > INT_MAX)
        return graft_fail(err, GRAFT_ESHAPE, "a matrix of %lld by %lld is too large for LAPACK",
                          (long long)m, (long long)n);
    return GRAFT_OK;
}

/* LAPACK tells the room it wants as a float, which may be a little less than it meant. */
static int room_wanted(float told)
{
    return (int)((double)told * (1 + 1e-6)) + 1;
}

static enum graft_status no_convergence(const char *what, int info, struct graft_err *err)
{
    return graft_fail(err, GRAFT_ERUN, "the %s did not converge (LAPACK's info %d)", what, info);
}

/* The transpose (n, m) = v diag(s) u^T; LAPACK's u is then our vt, its vt our u. */
enum graft_status lapack_svd(int64_t m, int64_t n, float *a, float *u, float *s, float *vt,
                             struct graft_err *err)
{
    const int rows = (int)n, cols = (int)m, k = rows < cols ? rows : cols;
    int *iwork, ask = -1, lwork, info = 0;
    float best = 0, *work;

    GRAFT_TRY(check_sides(m, n, err));
    if (k == 0)
        return GRAFT_OK;
    iwork = mem_array((size_t)k * 8, sizeof *iwork);
    if (!iwork)
        return graft_fail_nomem(err, "a singular value decomposition", (size_t)k * 32);
    sgesdd_("S", &rows, &cols, a, &rows, s, vt, &rows, u, &k, &best, &ask, iwork, &info);
    lwork = room_wanted(best);
    work = mem_array((size_t)lwork, sizeof *work);
    if (!work) {
        mem_free(iwork);
        return graft_fail_nomem(err, "a singular value decomposition", (size_t)lwork * 4);
    }
    sgesdd_("S", &rows, &cols, a, &rows, s, vt, &rows, u, &k, work, &lwork, iwork, &info);
    mem_free(work);
    mem_free(iwork);
    return info ? no_convergence("singular value decomposition", info, err) : GRAFT_OK;
}

/* The transpose is lower triangular times orthonormal rows. */
enum graft_status lapack_qr(int64_t m, int64_t n, float *a, float *r, struct graft_err *err)
{
    const int rows = (int)n, cols = (int)m;
    int ask = -1, lwork, info = 0;
    float best[2] = { 0, 0 }, *work, *tau;

    GRAFT_TRY(check_sides(m, n, err));
    sgelqf_(&rows, &cols, a, &rows, best, &best[0], &ask, &info);
    sorglq_(&rows, &cols, &rows, a, &rows, best, &best[1], &ask, &info);
    lwork = room_wanted(best[0] > best[1] ? best[0] : best[1]);
    work = mem_array((size_t)lwork + (size_t)n, sizeof *work);
    if (!work)
        return graft_fail_nomem(err, "an orthogonal basis", (size_t)lwork * 4);
    tau = work + lwork;
    sgelqf_(&rows, &cols, a, &rows, tau, work, &lwork, &info);
    memset(r, 0, (size_t)(n * n) * sizeof *r);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            r[i * n + j] = a[i * n + j];
    if (!info)
        sorglq_(&rows, &cols, &rows, a, &rows, tau, work, &lwork, &info);
    mem_free(work);
    return info ? no_convergence("orthogonal basis", info, err) : GRAFT_OK;
}

void lapack_product(int64_t m, int64_t n, int64_t k, float alpha, const float *a, bool a_transposed,
                    const float *b, bool b_transposed, float beta, float *out)
{
    cblas_sgemm(CblasRowMajor, a_transposed ? CblasTrans : CblasNoTrans,
                b_transposed ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a,
                (int)(a_transposed ? m : k), b, (int)(b_transposed ? k : n), beta, out, (int)n);
}

static double square_sum(const float *x, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

/* All k triples of an (m, n) matrix. */
struct triples {
    float *u, *s, *vt;
};

static void keep_first(const struct triples *t, int64_t m, int64_t n, int64_t k, int64_t r,
                       float *u, float *s, float *vt)
{
    for (int64_t i = 0; i < m; i++)
        memcpy(u + i * r, t->u + i * k, (size_t)r * sizeof *u);
    memcpy(s, t->s, (size_t)r * sizeof *s);
    memcpy(vt, t->vt, (size_t)(r * n) * sizeof *vt);
}

static enum graft_status svd_exact(int64_t m, int64_t n, const float *a, int64_t r, float *u,
                                   float *s, float *vt, struct graft_err *err)
{
    const int64_t k = m < n ? m : n;
    struct arena mem = ARENA_INIT;
    float *copy = arena_array(&mem, (size_t)(m * n), sizeof *copy);
    const struct triples t = { arena_array(&mem, (size_t)(m * k), sizeof *t.u),
                               arena_array(&mem, (size_t)k, sizeof *t.s),
                               arena_array(&mem, (size_t)(k * n), sizeof *t.vt) };
    enum graft_status st;

    if (!copy || !t.u || !t.s || !t.vt) {
        arena_release(&mem);
        return graft_fail_nomem(err, "a singular value decomposition", (size_t)(m * n) * 12);
    }
    memcpy(copy, a, (size_t)(m * n) * sizeof *copy);
    st = lapack_svd(m, n, copy, t.u, t.s, t.vt, err);
    if (!st)
        keep_first(&t, m, n, k, r, u, s, vt);
    arena_release(&mem);
    return st;
}

/* q (m, l): a basis of nearly the largest part of the range of `a`, by `rounds`, or, where that is
 * negative, until nothing is gained; z (n, l), tri (l, l): room. */
static enum graft_status find_range(int64_t m, int64_t n, const float *a, int64_t l, int rounds,
                                    float *q, float *z, float *tri, struct graft_err *err)
{
    const struct rng_key key = { 0, RNG_INIT, 0, 0 }; /* any start will do, the same every time */
    double held = 0, before;

    for (int64_t i = 0; i < n * l; i++)
        z[i] = rng_normal(key, (uint64_t)i);
    for (int round = 0; round < (rounds < 0 ? MOST_ROUNDS : rounds + 1); round++) {
        lapack_product(m, l, n, 1, a, false, z, false, 0, q);
        GRAFT_TRY(lapack_qr(m, l, q, tri, err));
        lapack_product(n, l, m, 1, a, true, q, false, 0, z);
        before = held;
        held = square_sum(z, n * l); /* |Q^T A|^2 */
        if (rounds < 0 && held <= before * (1 + 1e-6))
            break;
        GRAFT_TRY(lapack_qr(n, l, z, tri, err));
    }
    return GRAFT_OK;
}

static enum graft_status svd_subspace(int64_t m, int64_t n, const float *a, int64_t r, int rounds,
                                      float *u, float *s, float *vt, struct graft_err *err)
{
    const int64_t small = m < n ? m : n, l = r + OVERSAMPLE < small ? r + OVERSAMPLE : small;
    struct arena mem = ARENA_INIT;
    float *q = arena_array(&mem, (size_t)(m * l), sizeof *q);
    float *z = arena_array(&mem, (size_t)(n * l), sizeof *z);
    float *tri = arena_array(&mem, (size_t)(l * l), sizeof *tri);
    const struct triples t = { arena_array(&mem, (size_t)(l * l), sizeof *t.u),
                               arena_array(&mem, (size_t)l, sizeof *t.s),
                               arena_array(&mem, (size_t)(l * n), sizeof *t.vt) };
    enum graft_status st;

    if (!q || !z || !tri || !t.u || !t.s || !t.vt) {
        arena_release(&mem);
        return graft_fail_nomem(err, "a singular value decomposition", (size_t)((m + n) * l) * 8);
    }
    st = find_range(m, n, a, l, rounds, q, z, tri, err);
    if (!st) { /* a is nearly q (q^T a); the small factor is taken apart exactly */
        lapack_product(l, n, m, 1, q, true, a, false, 0, z);
        st = lapack_svd(l, n, z, t.u, t.s, t.vt, err);
    }
    if (!st) {
        keep_first(&t, l, n, l, r, tri, s, vt);
        lapack_product(m, r, l, 1, q, false, tri, false, 0, u);
    }
    arena_release(&mem);
    return st;
}

enum graft_status lapack_svd_top(int64_t m, int64_t n, const float *a, int64_t r, float *u,
                                 float *s, float *vt, struct graft_err *err)
{
    GRAFT_TRY(check_sides(m, n, err));
    return (m < n ? m : n) <= EXACT_UP_TO ? svd_exact(m, n, a, r, u, s, vt, err)
                                          : svd_subspace(m, n, a, r, -1, u, s, vt, err);
}

enum graft_status lapack_svd_rounds(int64_t m, int64_t n, const float *a, int64_t r, int rounds,
                                    float *u, float *s, float *vt, struct graft_err *err)
{
    GRAFT_TRY(check_sides(m, n, err));
    return svd_subspace(m, n, a, r, rounds, u, s, vt, err);
}
