/* backend/cpu/sum.h - sums along a row. One fixed order each; double where the sum is kept. */
#ifndef BACKEND_CPU_SUM_H
#define BACKEND_CPU_SUM_H

#include <stdint.h>

/* *sum += sum_i x[i] and the like, in double */
void sum_add(int64_t n, const float *x, double *sum);
void sum_add_square(int64_t n, const float *x, double mean, double *sum); /* (x - mean)^2 */
void sum_add_dot(int64_t n, const float *x, const float *y, double *sum); /* x y */
void sum_add_dot3(int64_t n, const float *x, const float *y, const float *z, double *sum);
/* *most = max(*most, max_i x[i]); a NaN may be passed over */
void max_over(int64_t n, const float *x, float *most);
/* x[i] = exp(x[i] - shift), *sum += sum_i x[i] */
void exp_and_sum(int64_t n, float *x, float shift, double *sum);
/* x[i] = cap tanh(x[i] / cap) */
void soft_cap(int64_t n, float *x, float cap);

/* Sums over rows, for gradients of what all rows share: rows are cut into parts whose number
 * depends on n alone; each part is summed in f32, the parts in double, in order. */
enum { SUM_PARTS = 64 };
int64_t sum_part_rows(int64_t n);
/* y (C) += scale * sum of `parts` rows of p (parts, C) */
void sum_parts(int64_t parts, int64_t C, const float *p, float scale, float *y);

#endif
