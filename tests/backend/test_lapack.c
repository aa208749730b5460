/* The factorisations give their matrix back, and the truncated one is the best of its rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "backend/lapack.h"
#include "core/mem.h"
#include "core/rng.h"

static struct arena mem;

static float *matrix(int64_t m, int64_t n, uint32_t site)
{
    const struct rng_key key = { 7, RNG_TEST, 0, site };
    float *a = arena_array(&mem, (size_t)(m * n + 1), sizeof *a);

    assert_non_null(a);
    for (int64_t i = 0; i < m * n; i++)
        a[i] = rng_normal(key, (uint64_t)i);
    return a;
}

static int forget(void **state)
{
    (void)state;
    arena_release(&mem);
    return 0;
}

static float *copy_of(const float *a, int64_t n)
{
    float *b = arena_array(&mem, (size_t)n, sizeof *b);

    assert_non_null(b);
    return memcpy(b, a, (size_t)n * sizeof *b);
}

/* |a - u diag(s) vt| / |a|, u (m, k), vt (k, n) */
static double apart(int64_t m, int64_t n, int64_t k, const float *a, const float *u, const float *s,
                    const float *vt)
{
    double diff = 0, size = 0;

    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double x = 0;

            for (int64_t t = 0; t < k; t++)
                x += (double)u[i * k + t] * (s ? (double)s[t] : 1) * vt[t * n + j];
            diff += (a[i * n + j] - x) * (a[i * n + j] - x);
            size += (double)a[i * n + j] * a[i * n + j];
        }
    return sqrt(diff / size);
}

/* How far the columns of q (m, k) are from orthonormal. */
static double skew(int64_t m, int64_t k, const float *q)
{
    double worst = 0;

    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j <= i; j++) {
            double x = 0;

            for (int64_t t = 0; t < m; t++)
                x += (double)q[t * k + i] * q[t * k + j];
            worst = fmax(worst, fabs(x - (i == j)));
        }
    return worst;
}

static void the_singular_values_give_the_matrix_back(void **state)
{
    static const int64_t sides[][2] = { { 7, 5 }, { 5, 7 }, { 1, 4 }, { 33, 33 }, { 0, 3 } };

    (void)state;
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        const int64_t m = sides[i][0], n = sides[i][1], k = m < n ? m : n;
        const float *a = matrix(m, n, (uint32_t)i);
        float *u = matrix(m, k, 50), *s = matrix(1, k, 51), *vt = matrix(k, n, 52);

        assert_int_equal(lapack_svd(m, n, copy_of(a, m * n), u, s, vt, NULL), GRAFT_OK);
        if (k == 0)
            continue;
        assert_true(apart(m, n, k, a, u, s, vt) < 2e-6);
        assert_true(skew(m, k, u) < 4e-6);
        for (int64_t t = 1; t < k; t++)
            assert_true(s[t] <= s[t - 1] && s[t] >= 0);
    }
}

static void a_basis_and_a_triangle_give_the_matrix_back(void **state)
{
    static const int64_t sides[][2] = { { 9, 4 }, { 4, 4 }, { 5, 1 }, { 200, 24 } };

    (void)state;
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        const int64_t m = sides[i][0], n = sides[i][1];
        const float *a = matrix(m, n, 10 + (uint32_t)i);
        float *q = copy_of(a, m * n), *r = matrix(n, n, 60);

        assert_int_equal(lapack_qr(m, n, q, r, NULL), GRAFT_OK);
        assert_true(apart(m, n, n, a, q, NULL, r) < 2e-6);
        assert_true(skew(m, n, q) < 4e-6);
        for (int64_t y = 0; y < n; y++)
            for (int64_t x = 0; x < y; x++)
                assert_true(r[y * n + x] == 0);
    }
}

/* Both ways of the truncated one; the large matrix has known singular values: 1 / (1 + t). */
static void the_first_triples_are_the_best_of_their_rank(void **state)
{
    enum { M = 2100, N = 2060, K = 40, R = 8 };
    float *q = matrix(M, K, 70), *p = matrix(N, K, 71), *r = matrix(K, K, 72);
    float *a = matrix(M, N, 73), *u = matrix(M, R, 74), *s = matrix(1, R, 75),
          *vt = matrix(R, N, 76);
    double tail = 0, all = 0;

    (void)state;
    assert_int_equal(lapack_qr(M, K, q, r, NULL), GRAFT_OK);
    assert_int_equal(lapack_qr(N, K, p, r, NULL), GRAFT_OK);
    for (int64_t t = 0; t < K; t++) {
        const double v = 1.0 / (1 + (double)t);

        for (int64_t i = 0; i < M; i++)
            q[i * K + t] *= (float)v;
        all += v * v;
        tail += t < R ? 0 : v * v;
    }
    lapack_product(M, N, K, 1, q, false, p, true, 0, a);
    assert_int_equal(lapack_svd_top(M, N, a, R, u, s, vt, NULL), GRAFT_OK);
    for (int64_t t = 0; t < R; t++)
        assert_true(fabs((double)s[t] * (1 + (double)t) - 1) < 1e-4);
    assert_true(fabs(apart(M, N, R, a, u, s, vt) / sqrt(tail / all) - 1) < 1e-4);
    /* each round brings it nearer */
    for (int rounds = 0; rounds < 5; rounds += 4) {
        assert_int_equal(lapack_svd_rounds(M, N, a, R, rounds, u, s, vt, NULL), GRAFT_OK);
        assert_true(fabs(apart(M, N, R, a, u, s, vt) / sqrt(tail / all) - 1) <
                    (rounds ? 1e-4 : 0.2));
    }
    assert_int_equal(lapack_svd_top(300, N, a, R, u, s, vt, NULL), GRAFT_OK);
    assert_true(skew(300, R, u) < 1e-5);
}

static void values_that_are_no_numbers_are_an_error(void **state)
{
    float *a = matrix(6, 5, 80), *u = matrix(6, 5, 81), *s = matrix(1, 5, 82),
          *vt = matrix(5, 5, 83);
    struct graft_err err;

    (void)state;
    a[7] = NAN;
    assert_int_equal(lapack_svd(6, 5, a, u, s, vt, &err), GRAFT_ERUN);
    assert_non_null(strstr(err.msg, "did not converge"));
}

static void memory_that_fails_is_told(void **state)
{
    const float *a = matrix(12, 9, 90);
    float *u = matrix(12, 4, 91), *s = matrix(1, 4, 92), *vt = matrix(4, 9, 93);
    int64_t k = 1;

    (void)state;
    for (;; k++) {
        enum graft_status st;

        mem_fail_at(k);
        st = lapack_svd_top(12, 9, a, 4, u, s, vt, NULL);
        mem_fail_at(0);
        if (st == GRAFT_OK)
            break;
        assert_int_equal(st, GRAFT_ENOMEM);
    }
    assert_true(k > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_singular_values_give_the_matrix_back, forget),
        cmocka_unit_test_teardown(a_basis_and_a_triangle_give_the_matrix_back, forget),
        cmocka_unit_test_teardown(the_first_triples_are_the_best_of_their_rank, forget),
        cmocka_unit_test_teardown(values_that_are_no_numbers_are_an_error, forget),
        cmocka_unit_test_teardown(memory_that_fails_is_told, forget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
