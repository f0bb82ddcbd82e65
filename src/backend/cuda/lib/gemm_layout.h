/* gemm_layout.h - a row-major matrix product as the column-major one that BLAS knows.
 *
 * A row-major matrix read column by column is its transpose, so d = op(a) op(b) is computed as
 *
 *   d^T = op(b)^T op(a)^T
 *
 * the factors change places, every matrix stays where it is and keeps the distance between its rows,
 * and a row of d (with the bias, which is as long as one) becomes a column. */
#ifndef DDPM_GEMM_LAYOUT_H
#define DDPM_GEMM_LAYOUT_H
#include "backend/cuda/lib/cublas_gemm.h"

/* A column-major matrix in memory, before op(): element (i, j) of product p lies at p stride + j ld + i. */
typedef struct gemm_matrix {
    int operand; /* GEMM_A ... */
    bool transpose;
    int64_t rows, cols, ld, stride;
} gemm_matrix;

/* result [m, n] = alpha op(left) op(right) + addend (+ bias [m], to every column) */
typedef struct gemm_layout {
    int64_t m, n, k;
    gemm_matrix left, right, result;
    gemm_matrix addend; /* the result itself where there is none */
} gemm_layout;

/* DDPM_EINVAL: sizes below 1, rows that overlap, a bias with a batch. */
DDPM_MUST_CHECK ddpm_status gemm_layout_of(const gemm_problem *q, gemm_layout *out, err *e);

/* Elements from the first to the last of all products. */
int64_t gemm_matrix_extent(const gemm_matrix *x, int64_t batch);

#endif
