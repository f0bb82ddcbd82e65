/* cuda_product.c - matrix products and the small launches that several ops share. */
#include "backend/cuda/op/cuda_product.h"
#include "column_sum.h"
#include "fill_rows.h"
#include "pointwise.h"

ddpm_status cuda_product_prepare(cuda_backend *be, product *g, int64_t offset_bytes, size_t *end, err *e)
{
    gemm_problem *q = &g->q;
    const int64_t in = (int64_t)dtype_size(q->in), out = (int64_t)dtype_size(q->out);
    if (!q->batch) q->batch = 1;
    if (q->alpha == 0) q->alpha = 1;
    if (!q->ldc) q->ldc = q->ldd;
    q->tf32 = be->tf32 && q->in == DTYPE_F32;
    const int64_t bytes[] = {q->lda * in,      q->ldb * in,      q->ldd * out,      q->ldc * out,
                             q->stride_a * in, q->stride_b * in, q->stride_d * out, offset_bytes};
    q->align = cuda_alignment(bytes, (int)(sizeof bytes / sizeof *bytes));
    TRY(cuda_primitive_gemm(be, q, &g->p, e));
    g->workspace = cuda_piece(end, tuner_workspace(g->p));
    return DDPM_OK;
}

ddpm_status cuda_product_run(cuda_backend *be, const step *s, const product *g, const product_data *at, err *e)
{
    /* the library's interface takes non-const operands; only D is written */
    void *const operands[PRIMITIVE_OPERANDS] = {[GEMM_A] = (void *)(uintptr_t)at->a,
                                                [GEMM_B] = (void *)(uintptr_t)at->b,
                                                [GEMM_D] = at->d,
                                                [GEMM_BIAS] = (void *)(uintptr_t)at->bias,
                                                [GEMM_C] = (void *)(uintptr_t)at->c};
    return cuda_primitive_run(be, g->p, operands, cuda_scratch(s, g->workspace), e);
}

static int64_t rows_of(const tensor *t) { return t->n * tensor_hw(t); }

size_t cuda_column_sum_bytes(const tensor *dy) { return column_sum_bytes(rows_of(dy), dy->c); }

ddpm_status cuda_column_sums(cuda_backend *be, const tensor *dy, const void *data, void *partial, err *e)
{
    const column_sum_args a = {
        .x = data, .type = cuda_storage(dy), .rows = rows_of(dy), .c = dy->c, .partial = partial};
    return rt_launched(k_column_sum(be->stream, &a), e);
}

bool cuda_column_sum_list(grad_sum *to, const step *s, int output, const tensor *dy, const void *partial)
{
    return cuda_sum(to, s, output, partial, STORE_F32, column_sum_panel(rows_of(dy), dy->c).down, dy->c);
}

ddpm_status cuda_copy_as(cuda_backend *be, const void *from, storage from_type, const tensor *to, bool add, err *e)
{
    const pointwise_args a = {.kind = POINT_KIND_COPY,
                              .x = from,
                              .y = to->data,
                              .x_type = from_type,
                              .y_type = cuda_storage(to),
                              .count = tensor_count(to),
                              .accumulate = add};
    return rt_launched(k_pointwise(be->stream, &a), e);
}

target cuda_target(const cuda_backend *be, const tensor *to, bool add, size_t *end)
{
    const bool via_scratch = add && cuda_disabled(be, CUDA_OPT_BETA);
    const size_t bytes = (size_t)tensor_count(to) * dtype_size(to->dtype);
    return (target){
        .add = add && !via_scratch, .via_scratch = via_scratch, .at = via_scratch ? cuda_piece(end, bytes) : 0};
}

void *cuda_target_data(const step *s, const target *t, const tensor *to)
{
    return t->via_scratch ? cuda_scratch(s, t->at) : to->data;
}

ddpm_status cuda_target_finish(cuda_backend *be, const step *s, const target *t, const tensor *to, err *e)
{
    return t->via_scratch ? cuda_copy_as(be, cuda_scratch(s, t->at), cuda_storage(to), to, true, e) : DDPM_OK;
}

ddpm_status cuda_fill_rows(cuda_backend *be, const tensor *to, const tensor *bias, const void *residual, err *e)
{
    const fill_rows_args a = {.y = to->data,
                              .type = cuda_storage(to),
                              .bias = cuda_data(bias),
                              .residual = residual,
                              .rows = rows_of(to),
                              .c = to->c};
    return rt_launched(k_fill_rows(be->stream, &a), e);
}
