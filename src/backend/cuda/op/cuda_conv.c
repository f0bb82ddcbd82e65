/* cuda_conv.c - 3x3 convolutions by cuDNN, 1x1 convolutions as matrix products by cuBLASLt.
 *
 * Bias and residual are added in the library's epilogue, accumulation uses beta = 1 (cuda_target).  In bf16 the library
 * computes a bf16 gradient of a 3x3 filter, which is converted with the other sums of gradients (cuda_op.sums). */
#include "backend/cuda/op/cuda_product.h"
#include "backend/cuda/op/cuda_problems.h"
#include "base/mem.h"

typedef struct conv_impl {
    primitive *conv;   /* 3x3 */
    product source[2]; /* 1x1: one product for each source */
    target to[2];      /* 1x1 forward: y, for the second source; backward: dx, dx2; dw */
    size_t workspace;  /* offset of cuDNN's workspace in the scratch */
    size_t low, sums;  /* offsets in step.partial: a bf16 filter gradient; partial sums of the bias gradient */
} conv_impl;

static bool is_product(const step *s) { return s->a.conv.kernel == 1; }

static void conv_release(step *s)
{
    mem_free(s->impl);
    s->impl = NULL;
}

static ddpm_status new_impl(step *s, conv_impl **out, err *e)
{
    TRY(mem_array(out, 1, sizeof **out, "convolution", e));
    s->impl = *out;
    return DDPM_OK;
}

/* The problem of a pass: the forward convolution maps x to y. */
static conv_problem problem_of(const step *s, conv_pass pass, const tensor *x, const tensor *y)
{
    return (conv_problem){.shape = conv_shape_of(pass, x, y, s->a.conv.kernel, s->a.conv.stride, s->a.conv.pad_end),
                          .io = x->dtype};
}

static conv_problem forward_problem(const step *s, unsigned disabled)
{
    conv_problem q = problem_of(s, CONV_PASS_FORWARD, s->in[CONV_X], s->out[CONV_Y]);
    q.bias = !(disabled & CUDA_OPT_EPILOGUE);
    q.residual = q.bias && s->in[CONV_RESIDUAL];
    return q;
}

static conv_problem data_problem(const step *s, unsigned disabled)
{
    conv_problem q = problem_of(s, CONV_PASS_BACKWARD_DATA, s->out[CONV_DX_DX], s->in[CONV_DX_DY]);
    q.accumulate = step_adds(s, CONV_DX_DX) && !(disabled & CUDA_OPT_BETA);
    return q;
}

static conv_problem filter_problem(const step *s, unsigned disabled)
{
    conv_problem q = problem_of(s, CONV_PASS_BACKWARD_WEIGHTS, s->in[CONV_DW_X], s->in[CONV_DW_DY]);
    q.accumulate = q.io == DTYPE_F32 && step_adds(s, CONV_DW_DW) && !(disabled & CUDA_OPT_BETA);
    return q;
}

int cuda_conv2d_problem(const step *s, unsigned disabled, conv_problem *out)
{
    switch ((int)s->op) {
    case OP_conv2d: *out = forward_problem(s, disabled); break;
    case OP_conv2d_dx: *out = data_problem(s, disabled); break;
    case OP_conv2d_dw: *out = filter_problem(s, disabled); break;
    default: return 0;
    }
    return is_product(s) ? 0 : 1;
}

static ddpm_status prepare_conv(cuda_backend *be, conv_impl *impl, conv_problem q, size_t *end, err *e)
{
    q.tf32 = be->tf32 && q.io == DTYPE_F32;
    TRY(cuda_primitive_conv(be, &q, &impl->conv, e));
    impl->workspace = cuda_piece(end, tuner_workspace(impl->conv));
    return DDPM_OK;
}

static int64_t rows_of(const tensor *t) { return t->n * tensor_hw(t); }

/* ---- forward ---- */

/* The first product adds bias and residual, the second source's product is added to the result. */
static ddpm_status prepare_forward_products(cuda_backend *be, const step *s, conv_impl *impl, size_t *end, err *e)
{
    const tensor *w = s->in[CONV_W], *y = s->out[CONV_Y];
    const bool epilogue = !cuda_disabled(be, CUDA_OPT_EPILOGUE);
    for (int i = 0; i < 2; i++) {
        const tensor *x = s->in[i == 0 ? CONV_X : CONV_X2];
        if (!x) break;
        if (i == 1) impl->to[1] = cuda_target(be, y, true, end);
        impl->source[i].q = (gemm_problem){.in = x->dtype,
                                           .out = y->dtype,
                                           .transpose_b = true,
                                           .m = rows_of(y),
                                           .n = y->c,
                                           .k = x->c,
                                           .lda = x->c,
                                           .ldb = w->c,
                                           .ldd = y->c,
                                           .bias = i == 0 && epilogue,
                                           .addend = i == 1 ? impl->to[1].add : epilogue && s->in[CONV_RESIDUAL]};
        const int64_t offset = i == 0 ? 0 : s->in[CONV_X]->c * (int64_t)dtype_size(x->dtype);
        TRY(cuda_product_prepare(be, &impl->source[i], offset, end, e));
    }
    return DDPM_OK;
}

static ddpm_status conv2d_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    conv_impl *impl;
    TRY(new_impl(s, &impl, e));
    if (is_product(s)) return prepare_forward_products(be, s, impl, scratch, e);
    return prepare_conv(be, impl, forward_problem(s, be->disabled), scratch, e);
}

static const void *column(const void *matrix, int64_t at, dtype type)
{
    return (const char *)matrix + at * (int64_t)dtype_size(type);
}

static ddpm_status run_forward_products(cuda_backend *be, const step *s, err *e)
{
    const conv_impl *impl = s->impl;
    const tensor *x = s->in[CONV_X], *x2 = s->in[CONV_X2], *w = s->in[CONV_W];
    product_data at = {.a = x->data, .b = w->low, .d = s->out[CONV_Y]->data};
    if (impl->source[0].q.bias) at.bias = s->in[CONV_BIAS]->low;
    if (impl->source[0].q.addend) at.c = s->in[CONV_RESIDUAL]->data;
    TRY(cuda_product_run(be, s, &impl->source[0], &at, e));
    if (!x2) return DDPM_OK;
    void *to = cuda_target_data(s, &impl->to[1], s->out[CONV_Y]);
    at = (product_data){.a = x2->data, .b = column(w->low, x->c, x->dtype), .c = to, .d = to};
    TRY(cuda_product_run(be, s, &impl->source[1], &at, e));
    return cuda_target_finish(be, s, &impl->to[1], s->out[CONV_Y], e);
}

static ddpm_status conv2d_run(cuda_backend *be, const step *s, err *e)
{
    const conv_impl *impl = s->impl;
    const tensor *y = s->out[CONV_Y], *bias = s->in[CONV_BIAS], *residual = s->in[CONV_RESIDUAL];
    const bool epilogue = !cuda_disabled(be, CUDA_OPT_EPILOGUE);
    if (is_product(s)) {
        TRY(run_forward_products(be, s, e));
    } else {
        void *const operands[PRIMITIVE_OPERANDS] = {[CUDNN_CONV_X] = s->in[CONV_X]->data,
                                                    [CUDNN_CONV_W] = s->in[CONV_W]->low,
                                                    [CUDNN_CONV_Y] = y->data,
                                                    [CUDNN_CONV_BIAS] = epilogue ? bias->low : NULL,
                                                    [CUDNN_CONV_RESIDUAL] = epilogue ? cuda_data(residual) : NULL};
        TRY(cuda_primitive_run(be, impl->conv, operands, cuda_scratch(s, impl->workspace), e));
    }
    if (epilogue) return DDPM_OK;
    TRY(cuda_fill_rows(be, y, bias, y->data, e));
    return residual ? cuda_copy_as(be, residual->data, cuda_storage(residual), y, true, e) : DDPM_OK;
}

/* ---- gradient of the input ---- */

static ddpm_status prepare_data_products(cuda_backend *be, const step *s, conv_impl *impl, size_t *end, err *e)
{
    const tensor *dy = s->in[CONV_DX_DY], *w = s->in[CONV_DX_W];
    for (int i = 0; i < 2; i++) {
        const tensor *dx = s->out[CONV_DX_DX + i];
        if (!dx) continue;
        impl->to[i] = cuda_target(be, dx, step_adds(s, CONV_DX_DX + i), end);
        impl->source[i].q = (gemm_problem){.in = dy->dtype,
                                           .out = dx->dtype,
                                           .m = rows_of(dy),
                                           .n = dx->c,
                                           .k = dy->c,
                                           .lda = dy->c,
                                           .ldb = w->c,
                                           .ldd = dx->c,
                                           .addend = impl->to[i].add};
        const int64_t offset = i == 0 ? 0 : (w->c - dx->c) * (int64_t)dtype_size(dy->dtype);
        TRY(cuda_product_prepare(be, &impl->source[i], offset, end, e));
    }
    return DDPM_OK;
}

static ddpm_status conv2d_dx_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    conv_impl *impl;
    TRY(new_impl(s, &impl, e));
    if (is_product(s)) return prepare_data_products(be, s, impl, scratch, e);
    impl->to[0] = cuda_target(be, s->out[CONV_DX_DX], step_adds(s, CONV_DX_DX), scratch);
    return prepare_conv(be, impl, data_problem(s, be->disabled), scratch, e);
}

static ddpm_status conv2d_dx_run(cuda_backend *be, const step *s, err *e)
{
    const conv_impl *impl = s->impl;
    const tensor *dy = s->in[CONV_DX_DY], *w = s->in[CONV_DX_W];
    if (!is_product(s)) {
        const tensor *dx = s->out[CONV_DX_DX];
        void *const operands[PRIMITIVE_OPERANDS] = {
            [CUDNN_CONV_X] = cuda_target_data(s, &impl->to[0], dx), [CUDNN_CONV_W] = w->low, [CUDNN_CONV_Y] = dy->data};
        TRY(cuda_primitive_run(be, impl->conv, operands, cuda_scratch(s, impl->workspace), e));
        return cuda_target_finish(be, s, &impl->to[0], dx, e);
    }
    for (int i = 0; i < 2; i++) {
        const tensor *dx = s->out[CONV_DX_DX + i];
        if (!dx) continue;
        const int64_t from = i == 0 ? 0 : w->c - dx->c;
        void *to = cuda_target_data(s, &impl->to[i], dx);
        const product_data at = {.a = dy->data, .b = column(w->low, from, dy->dtype), .c = to, .d = to};
        TRY(cuda_product_run(be, s, &impl->source[i], &at, e));
        TRY(cuda_target_finish(be, s, &impl->to[i], dx, e));
    }
    return DDPM_OK;
}

/* ---- gradient of the weights ---- */

static ddpm_status prepare_filter_products(cuda_backend *be, const step *s, conv_impl *impl, size_t *end, err *e)
{
    const tensor *dy = s->in[CONV_DW_DY], *dw = s->out[CONV_DW_DW];
    impl->to[0] = cuda_target(be, dw, step_adds(s, CONV_DW_DW), end);
    for (int i = 0; i < 2; i++) {
        const tensor *x = s->in[CONV_DW_X + i];
        if (!x) continue;
        impl->source[i].q = (gemm_problem){.in = dy->dtype,
                                           .out = DTYPE_F32,
                                           .transpose_a = true,
                                           .m = dy->c,
                                           .n = x->c,
                                           .k = rows_of(dy),
                                           .lda = dy->c,
                                           .ldb = x->c,
                                           .ldd = dw->c,
                                           .addend = impl->to[0].add};
        const int64_t offset = i == 0 ? 0 : s->in[CONV_DW_X]->c * (int64_t)sizeof(float);
        TRY(cuda_product_prepare(be, &impl->source[i], offset, end, e));
    }
    return DDPM_OK;
}

static ddpm_status conv2d_dw_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *dy = s->in[CONV_DW_DY], *dw = s->out[CONV_DW_DW];
    conv_impl *impl;
    TRY(new_impl(s, &impl, e));
    s->side = !cuda_disabled(be, CUDA_OPT_SIDE);
    if (s->out[CONV_DW_DBIAS]) impl->sums = cuda_piece(&s->partial_bytes, cuda_column_sum_bytes(dy));
    if (is_product(s)) return prepare_filter_products(be, s, impl, scratch, e);
    const conv_problem q = filter_problem(s, be->disabled);
    if (q.io != DTYPE_F32)
        impl->low = cuda_piece(&s->partial_bytes, (size_t)tensor_count(dw) * dtype_size(q.io));
    else
        impl->to[0] = cuda_target(be, dw, step_adds(s, CONV_DW_DW), scratch);
    return prepare_conv(be, impl, q, scratch, e);
}

static ddpm_status conv2d_dw_run(cuda_backend *be, const step *s, err *e)
{
    const conv_impl *impl = s->impl;
    const tensor *x = s->in[CONV_DW_X], *dy = s->in[CONV_DW_DY], *dw = s->out[CONV_DW_DW];
    if (s->out[CONV_DW_DBIAS]) TRY(cuda_column_sums(be, dy, dy->data, cuda_partial(s, impl->sums), e));
    if (is_product(s)) {
        for (int i = 0; i < 2; i++) {
            const tensor *from = s->in[CONV_DW_X + i];
            if (!from) continue;
            float *to = (float *)cuda_target_data(s, &impl->to[0], dw) + (i == 0 ? 0 : x->c);
            const product_data at = {.a = dy->data, .b = from->data, .c = to, .d = to};
            TRY(cuda_product_run(be, s, &impl->source[i], &at, e));
        }
        return cuda_target_finish(be, s, &impl->to[0], dw, e);
    }
    const bool low = dy->dtype != DTYPE_F32;
    void *to = low ? cuda_partial(s, impl->low) : cuda_target_data(s, &impl->to[0], dw);
    void *const operands[PRIMITIVE_OPERANDS] = {
        [CUDNN_CONV_X] = x->data, [CUDNN_CONV_W] = to, [CUDNN_CONV_Y] = dy->data};
    TRY(cuda_primitive_run(be, impl->conv, operands, cuda_scratch(s, impl->workspace), e));
    return low ? DDPM_OK : cuda_target_finish(be, s, &impl->to[0], dw, e);
}

static int conv2d_dw_sums(const step *s, grad_sum *list)
{
    const conv_impl *impl = s->impl;
    const tensor *dy = s->in[CONV_DW_DY];
    int n = 0;
    n += cuda_column_sum_list(&list[n], s, CONV_DW_DBIAS, dy, cuda_partial(s, impl->sums));
    if (!is_product(s) && dy->dtype != DTYPE_F32)
        n += cuda_sum(&list[n], s, CONV_DW_DW, cuda_partial(s, impl->low), STORE_BF16, 1, 0);
    return n;
}

const cuda_op cuda_conv2d = {.prepare = conv2d_prepare, .run = conv2d_run, .release = conv_release};
const cuda_op cuda_conv2d_dx = {.prepare = conv2d_dx_prepare, .run = conv2d_dx_run, .release = conv_release};
const cuda_op cuda_conv2d_dw = {
    .prepare = conv2d_dw_prepare, .run = conv2d_dw_run, .release = conv_release, .sums = conv2d_dw_sums};
