/* gemm_layout.c - see gemm_layout.h */
#include "backend/cuda/lib/gemm_layout.h"

/* Row-major [rows, cols], rows ld apart, seen as its column-major transpose; op() is unchanged. */
static gemm_matrix read_by_columns(int operand, bool transpose, int64_t rows, int64_t cols, int64_t ld, int64_t stride)
{
    return (gemm_matrix){operand, transpose, .rows = cols, .cols = rows, .ld = ld, .stride = stride};
}

static ddpm_status check(const gemm_problem *q, const gemm_layout *l, err *e)
{
    const gemm_matrix *const matrix[] = {&l->left, &l->right, &l->result, &l->addend};
    if (q->m < 1 || q->n < 1 || q->k < 1 || q->batch < 1)
        return err_set(e, DDPM_EINVAL,
                       "matrix product [%lld, %lld] by [%lld, %lld], batch %lld: sizes must be at least 1",
                       (long long)q->m, (long long)q->k, (long long)q->k, (long long)q->n, (long long)q->batch);
    for (int i = 0; i < 4; i++)
        if (matrix[i]->ld < matrix[i]->rows)
            return err_set(e, DDPM_EINVAL, "matrix product: the leading dimension must be at least %lld, not %lld",
                           (long long)matrix[i]->rows, (long long)matrix[i]->ld);
    if (q->bias && q->batch > 1)
        return err_set(e, DDPM_EINVAL, "matrix product: a bias is not supported with batch %lld", (long long)q->batch);
    return DDPM_OK;
}

ddpm_status gemm_layout_of(const gemm_problem *q, gemm_layout *out, err *e)
{
    const bool ta = q->transpose_a, tb = q->transpose_b, many = q->batch > 1;
    const int64_t stride_d = many ? q->stride_d : 0;
    *out = (gemm_layout){
        .m = q->n,
        .n = q->m,
        .k = q->k,
        .left = read_by_columns(GEMM_B, tb, tb ? q->n : q->k, tb ? q->k : q->n, q->ldb, many ? q->stride_b : 0),
        .right = read_by_columns(GEMM_A, ta, ta ? q->k : q->m, ta ? q->m : q->k, q->lda, many ? q->stride_a : 0),
        .result = read_by_columns(GEMM_D, false, q->m, q->n, q->ldd, stride_d),
    };
    out->addend = q->addend ? read_by_columns(GEMM_C, false, q->m, q->n, q->ldc, stride_d) : out->result;
    return check(q, out, e);
}

int64_t gemm_matrix_extent(const gemm_matrix *x, int64_t batch)
{
    return (batch - 1) * x->stride + (x->cols - 1) * x->ld + x->rows;
}
