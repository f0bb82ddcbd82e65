/* cublas_gemm.h - matrix products by cuBLASLt.
 *
 *   d = alpha op(a) op(b) + bias + c        row-major, accumulated in f32
 *
 * op(a) is [m, k], op(b) [k, n], d and c [m, n]; a is stored as [m, k] or transposed as [k, m], b likewise; lda, ldb,
 * ldd and ldc are the elements from one stored row to the next.  `batch` independent products lie stride_a, stride_b
 * and stride_d elements apart. */
#ifndef DDPM_CUBLAS_GEMM_H
#define DDPM_CUBLAS_GEMM_H
#include "backend/cuda/lib/primitive.h"

typedef struct cublas_context cublas_context;

DDPM_MUST_CHECK ddpm_status cublas_context_create(cublas_context **out, err *e);
void cublas_context_destroy(cublas_context *c);                       /* takes NULL */
void cublas_context_describe(const cublas_context *c, char text[80]); /* "cuBLASLt 13.0.0" */

typedef struct gemm_problem {
    dtype in, out; /* in: type of a and b; out: type of c, d and bias; f32 or bf16 */
    bool tf32;     /* f32 only: TF32 is allowed (factors rounded to 11 bits) */
    bool transpose_a, transpose_b;
    int64_t m, n, k, lda, ldb, ldd, ldc;
    int64_t batch, stride_a, stride_b, stride_d; /* strides are ignored if batch is 1 */
    float alpha;
    bool bias;   /* [n] of type out, added to every row; not with batch > 1 */
    bool addend; /* add c: d itself (accumulation) or another matrix (a residual); its rows are ldc apart, its batches
                        stride_d */
    int align;   /* alignment of all addresses in bytes: 2, 4, 8 or 16 */
} gemm_problem;

enum { GEMM_A, GEMM_B, GEMM_D, GEMM_BIAS, GEMM_C };

DDPM_MUST_CHECK ddpm_status cublas_gemm_create(cublas_context *c, const gemm_problem *q, const primitive_search *how,
                                               primitive **out, err *e);

#endif
