/* backend/lapack.h - LAPACK's factorisations over row-major f32 matrices (OpenBLAS brings them).
 *
 * Only where a weight is taken apart once (an adapter's start, a combination): never inside a step.
 * All of them: ENOMEM; ERUN when LAPACK does not converge, which values that are not finite do. */
#ifndef BACKEND_LAPACK_H
#define BACKEND_LAPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

/* a (m, n) = u diag(s) vt with k = min(m, n): u (m, k), s (k) descending, vt (k, n). Destroys `a`.
 */
enum graft_status lapack_svd(int64_t m, int64_t n, float *a, float *u, float *s, float *vt,
                             struct graft_err *err);

/* a (m, n), m >= n, becomes q (m, n) with orthonormal columns; r (n, n) is upper triangular, a =
 * q r. */
enum graft_status lapack_qr(int64_t m, int64_t n, float *a, float *r, struct graft_err *err);

/* The first r <= min(m, n) singular triples: u (m, r), s (r), vt (r, n); `a` stays. Exact (all of
 * lapack_svd) where the smaller side has at most 2048; above, subspace iteration (Halko, Martinsson
 * & Tropp 2011, algorithm 4.4) until what it holds of the matrix grows by less than a millionth. */
enum graft_status lapack_svd_top(int64_t m, int64_t n, const float *a, int64_t r, float *u,
                                 float *s, float *vt, struct graft_err *err);

/* The same by exactly `rounds` >= 0 rounds after the first, whatever they gain: cheap, and near
 * enough where the values fall fast. */
enum graft_status lapack_svd_rounds(int64_t m, int64_t n, const float *a, int64_t r, int rounds,
                                    float *u, float *s, float *vt, struct graft_err *err);

/* out (m, n) = alpha a b + beta out, a (m, k) or, transposed, (k, m); b (k, n) or (n, k). */
void lapack_product(int64_t m, int64_t n, int64_t k, float alpha, const float *a, bool a_transposed,
                    const float *b, bool b_transposed, float beta, float *out);

#endif
