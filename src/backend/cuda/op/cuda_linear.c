/* cuda_linear.c - the layers of the time embedding: in one kernel, or each as a matrix product. */
#include "backend/cuda/op/cuda_product.h"
#include "base/mem.h"
#include "fill_rows.h"
#include "pointwise.h"
#include "time_mlp.h"

typedef struct linear_impl {
    product y, dx, dw;
    target to_dx, to_dw;
    size_t pre, dz; /* offsets in the scratch */
    size_t sums;    /* offset in step.partial: partial sums of the bias gradient */
} linear_impl;

static void linear_release(step *s)
{
    mem_free(s->impl);
    s->impl = NULL;
}

static ddpm_status new_impl(step *s, linear_impl **out, err *e)
{
    TRY(mem_array(out, 1, sizeof **out, "matrix product", e));
    s->impl = *out;
    return DDPM_OK;
}

static ddpm_status linear_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *x = s->in[LINEAR_X], *y = s->out[LINEAR_Y];
    linear_impl *impl;
    TRY(new_impl(s, &impl, e));
    if (s->a.linear.silu && !s->out[LINEAR_PRE])
        impl->pre = cuda_piece(scratch, (size_t)tensor_count(y) * sizeof(float));
    impl->y.q = (gemm_problem){.in = x->dtype,
                               .out = s->a.linear.silu ? DTYPE_F32 : y->dtype, /* SiLU reads it unrounded */
                               .transpose_b = true,
                               .m = x->n,
                               .n = y->c,
                               .k = x->c,
                               .lda = x->c,
                               .ldb = x->c,
                               .ldd = y->c,
                               .bias = !cuda_disabled(be, CUDA_OPT_EPILOGUE)};
    return cuda_product_prepare(be, &impl->y, 0, scratch, e);
}

static ddpm_status linear_run(cuda_backend *be, const step *s, err *e)
{
    const linear_impl *impl = s->impl;
    const bool silu = s->a.linear.silu;
    const tensor *y = s->out[LINEAR_Y], *bias = s->in[LINEAR_BIAS], *pre = s->out[LINEAR_PRE];
    void *to = !silu ? y->data : pre ? pre->data : cuda_scratch(s, impl->pre);
    const product_data at = {.a = s->in[LINEAR_X]->data,
                             .b = s->in[LINEAR_W]->low,
                             .bias = !impl->y.q.bias ? NULL
                                     : silu          ? bias->data
                                                     : bias->low,
                             .d = to};
    TRY(cuda_product_run(be, s, &impl->y, &at, e));
    if (!impl->y.q.bias) {
        const fill_rows_args f = {.y = to,
                                  .type = silu ? STORE_F32 : cuda_storage(y),
                                  .bias = bias->data,
                                  .residual = to,
                                  .rows = y->n,
                                  .c = y->c};
        TRY(rt_launched(k_fill_rows(be->stream, &f), e));
    }
    if (!silu) return DDPM_OK;
    const pointwise_args a = {.kind = POINT_KIND_SILU,
                              .x = to,
                              .y = y->data,
                              .x_type = STORE_F32,
                              .y_type = cuda_storage(y),
                              .count = tensor_count(y)};
    return rt_launched(k_pointwise(be->stream, &a), e);
}

static ddpm_status linear_bwd_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *dy = s->in[LINEAR_BWD_DY], *x = s->in[LINEAR_BWD_X], *dx = s->out[LINEAR_BWD_DX];
    linear_impl *impl;
    TRY(new_impl(s, &impl, e));
    if (s->a.linear.silu) impl->dz = cuda_piece(scratch, (size_t)tensor_count(dy) * dtype_size(dy->dtype));
    impl->sums = cuda_piece(&s->partial_bytes, cuda_column_sum_bytes(dy));
    impl->to_dw = cuda_target(be, s->out[LINEAR_BWD_DW], step_adds(s, LINEAR_BWD_DW), scratch);
    impl->dw.q = (gemm_problem){.in = dy->dtype,
                                .out = DTYPE_F32,
                                .transpose_a = true,
                                .m = dy->c,
                                .n = x->c,
                                .k = x->n,
                                .lda = dy->c,
                                .ldb = x->c,
                                .ldd = x->c,
                                .addend = impl->to_dw.add};
    TRY(cuda_product_prepare(be, &impl->dw, 0, scratch, e));
    if (!dx) return DDPM_OK;
    impl->to_dx = cuda_target(be, dx, step_adds(s, LINEAR_BWD_DX), scratch);
    impl->dx.q = (gemm_problem){.in = dy->dtype,
                                .out = dx->dtype,
                                .m = x->n,
                                .n = x->c,
                                .k = dy->c,
                                .lda = dy->c,
                                .ldb = x->c,
                                .ldd = x->c,
                                .addend = impl->to_dx.add};
    return cuda_product_prepare(be, &impl->dx, 0, scratch, e);
}

static ddpm_status linear_bwd_run(cuda_backend *be, const step *s, err *e)
{
    const linear_impl *impl = s->impl;
    const tensor *dy = s->in[LINEAR_BWD_DY], *x = s->in[LINEAR_BWD_X], *dx = s->out[LINEAR_BWD_DX];
    const void *dz = dy->data;
    if (s->a.linear.silu) {
        const pointwise_args a = {.kind = POINT_KIND_SILU_BWD,
                                  .x = dy->data,
                                  .other = s->in[LINEAR_BWD_PRE]->data,
                                  .y = cuda_scratch(s, impl->dz),
                                  .x_type = cuda_storage(dy),
                                  .other_type = cuda_storage(s->in[LINEAR_BWD_PRE]),
                                  .y_type = cuda_storage(dy),
                                  .count = tensor_count(dy)};
        TRY(rt_launched(k_pointwise(be->stream, &a), e));
        dz = a.y;
    }
    TRY(cuda_column_sums(be, dy, dz, cuda_partial(s, impl->sums), e));
    const tensor *dw = s->out[LINEAR_BWD_DW];
    void *to = cuda_target_data(s, &impl->to_dw, dw);
    TRY(cuda_product_run(be, s, &impl->dw, &(product_data){.a = dz, .b = x->data, .c = to, .d = to}, e));
    TRY(cuda_target_finish(be, s, &impl->to_dw, dw, e));
    if (!dx) return DDPM_OK;
    to = cuda_target_data(s, &impl->to_dx, dx);
    const product_data at = {.a = dz, .b = s->in[LINEAR_BWD_W]->low, .c = to, .d = to};
    TRY(cuda_product_run(be, s, &impl->dx, &at, e));
    return cuda_target_finish(be, s, &impl->to_dx, dx, e);
}

static int linear_bwd_sums(const step *s, grad_sum *list)
{
    const linear_impl *impl = s->impl;
    return cuda_column_sum_list(list, s, LINEAR_BWD_DBIAS, s->in[LINEAR_BWD_DY], cuda_partial(s, impl->sums));
}

static ddpm_status time_mlp_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *y = s->out[TIME_MLP_Y], *w1 = s->in[TIME_MLP_W1];
    const time_mlp_args a = {.t = s->in[TIME_MLP_T]->data,
                             .freq = s->in[TIME_MLP_FREQ]->data,
                             .w1 = w1->low,
                             .w2 = s->in[TIME_MLP_W2]->low,
                             .b1 = s->in[TIME_MLP_B1]->data,
                             .b2 = s->in[TIME_MLP_B2]->data,
                             .y = y->data,
                             .h0 = cuda_data(s->out[TIME_MLP_H0]),
                             .h1 = cuda_data(s->out[TIME_MLP_H1]),
                             .pre1 = cuda_data(s->out[TIME_MLP_PRE1]),
                             .pre2 = cuda_data(s->out[TIME_MLP_PRE2]),
                             .n = (int)y->n,
                             .dim = (int)w1->c,
                             .width = (int)y->c,
                             .flip_sin_to_cos = s->a.embed.flip_sin_to_cos,
                             .type = cuda_storage(y)};
    return rt_launched(k_time_mlp(be->stream, &a), e);
}

const cuda_op cuda_time_mlp = {.run = time_mlp_run};
const cuda_op cuda_linear = {.prepare = linear_prepare, .run = linear_run, .release = linear_release};
const cuda_op cuda_linear_bwd = {
    .prepare = linear_bwd_prepare, .run = linear_bwd_run, .release = linear_release, .sums = linear_bwd_sums};
