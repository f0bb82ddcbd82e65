/* gemm_layout.h - a row-major matrix product as a column-major one for BLAS.
 *
 * A row-major matrix read column by column is its transpose, so d = op(a) op(b) is computed as
 *
 *   d^T = op(b)^T op(a)^T
 *
 * so the factors are swapped, every matrix stays in place with its row stride as leading dimension, and a row of d
 * (with the bias, of the same length) becomes a column. */
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
    gemm_matrix addend; /* equal to result if there is no addend */
} gemm_layout;

/* DDPM_EINVAL: sizes below 1, rows that overlap, a bias with a batch. */
DDPM_MUST_CHECK ddpm_status gemm_layout_of(const gemm_problem *q, gemm_layout *out, err *e);

/* Number of elements from the first of the first product to the last of the last one. */
int64_t gemm_matrix_extent(const gemm_matrix *x, int64_t batch);

#endif
