/* cuda_upconv.c - nearest-neighbour x2 upsampling and a 3x3 convolution as one transposed 4x4 convolution.
 *
 * The transposed convolution of a folded filter [cin, 4, 4, cout] (kernels/upconv_fold.h) is cuDNN's data gradient of
 * the convolution from the large image to the small one.
 * If CUDA_OPT_UPCONV is disabled, the two operations run one after the other; if CUDA_OPT_BETA is disabled, the bias is
 * added last. */
#include "backend/cuda/op/cuda_product.h"
#include "backend/cuda/op/cuda_problems.h"
#include "base/mem.h"
#include "upconv_fold.h"
#include "upsample.h"

typedef struct upconv_impl {
    primitive *conv;
    size_t workspace;
    size_t filter; /* offset of the folded filter's gradient */
    bool low;      /* unfolded, in bf16: a bf16 gradient at `filter` in step.partial */
    size_t image;  /* unfolded: the upsampled image or its gradient; folded: a gradient to add */
    target dw;     /* unfolded, in f32 */
    size_t sums;   /* offset in step.partial: partial sums of the bias gradient */
} upconv_impl;

static void upconv_release(step *s)
{
    mem_free(s->impl);
    s->impl = NULL;
}

int cuda_upconv_problem(const step *s, unsigned disabled, conv_problem *out)
{
    const bool plain = disabled & CUDA_OPT_UPCONV;
    const tensor *large = NULL, *small = NULL;
    conv_pass pass = CONV_PASS_FORWARD;
    switch ((int)s->op) {
    case OP_upconv: large = s->out[UPCONV_Y], small = s->in[UPCONV_X]; break;
    case OP_upconv_dx:
        large = s->in[UPCONV_DX_DY], small = s->out[UPCONV_DX_DX];
        pass = CONV_PASS_BACKWARD_DATA;
        break;
    case OP_upconv_dw:
        large = s->in[UPCONV_DW_DY], small = s->in[UPCONV_DW_X];
        pass = CONV_PASS_BACKWARD_WEIGHTS;
        break;
    default: return 0;
    }
    *out = (conv_problem){.shape =
                              plain ? conv_shape_of_upconv(pass, small, large) : conv_shape_of_fold(pass, small, large),
                          .io = large->dtype};
    out->accumulate = s->op == OP_upconv && !plain; /* added to the bias */
    if (plain && pass == CONV_PASS_BACKWARD_WEIGHTS)
        out->accumulate = out->io == DTYPE_F32 && step_adds(s, UPCONV_DW_DW);
    if (disabled & CUDA_OPT_BETA) out->accumulate = false;
    return 1;
}

static size_t bytes_of(const tensor *t) { return (size_t)tensor_count(t) * dtype_size(t->dtype); }

static ddpm_status prepare_conv(cuda_backend *be, const step *s, upconv_impl *impl, size_t *end, err *e)
{
    conv_problem q;
    (void)cuda_upconv_problem(s, be->disabled, &q);
    q.tf32 = be->tf32 && q.io == DTYPE_F32;
    TRY(cuda_primitive_conv(be, &q, &impl->conv, e));
    impl->workspace = cuda_piece(end, tuner_workspace(impl->conv));
    return DDPM_OK;
}

/* Lays out the scratch of any of the three passes: workspace, and a tensor of the size of `image` where needed. */
static ddpm_status prepare(cuda_backend *be, step *s, const tensor *image, size_t *end, err *e)
{
    upconv_impl *impl;
    TRY(mem_array(&impl, 1, sizeof *impl, "convolution", e));
    s->impl = impl;
    TRY(prepare_conv(be, s, impl, end, e));
    if (image) impl->image = cuda_piece(end, bytes_of(image) * (cuda_disabled(be, CUDA_OPT_UPCONV) ? 4 : 1));
    return DDPM_OK;
}

static ddpm_status conv(cuda_backend *be, const step *s, const void *x, const void *w, const void *y, err *e)
{
    const upconv_impl *impl = s->impl;
    void *const operands[PRIMITIVE_OPERANDS] = {[CUDNN_CONV_X] = (void *)(uintptr_t)x,
                                                [CUDNN_CONV_W] = (void *)(uintptr_t)w,
                                                [CUDNN_CONV_Y] = (void *)(uintptr_t)y};
    return cuda_primitive_run(be, impl->conv, operands, cuda_scratch(s, impl->workspace), e);
}

static upsample_args enlarge(const step *s, const tensor *small)
{
    const upconv_impl *impl = s->impl;
    return (upsample_args){.x = small->data,
                           .y = cuda_scratch(s, impl->image),
                           .type = cuda_storage(small),
                           .n = (int)small->n,
                           .h = (int)small->h,
                           .w = (int)small->w,
                           .c = (int)small->c};
}

/* ---- the folded filter ---- */

static ddpm_status upconv_fold_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *w = s->in[UPCONV_FOLD_W], *k = s->out[UPCONV_FOLD_K];
    const upconv_fold_args a = {
        .w = w->data, .k = k->data, .type = cuda_storage(k), .cout = (int)w->n, .cin = (int)w->c};
    return rt_launched(k_upconv_fold(be->stream, &a), e);
}

/* ---- forward ---- */

static ddpm_status upconv_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, cuda_disabled(be, CUDA_OPT_UPCONV) ? s->in[UPCONV_X] : NULL, scratch, e);
}

static ddpm_status upconv_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *x = s->in[UPCONV_X], *w = s->in[UPCONV_W], *bias = s->in[UPCONV_BIAS], *y = s->out[UPCONV_Y];
    if (cuda_disabled(be, CUDA_OPT_UPCONV)) {
        const upsample_args a = enlarge(s, x);
        TRY(rt_launched(k_upsample(be->stream, &a), e));
        TRY(conv(be, s, a.y, w->low, y->data, e));
        return cuda_fill_rows(be, y, bias, y->data, e);
    }
    const bool beta = !cuda_disabled(be, CUDA_OPT_BETA);
    if (beta) TRY(cuda_fill_rows(be, y, bias, NULL, e));
    TRY(conv(be, s, y->data, s->in[UPCONV_K]->data, x->data, e));
    return beta ? DDPM_OK : cuda_fill_rows(be, y, bias, y->data, e);
}

/* ---- gradient of the input ---- */

static ddpm_status upconv_dx_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *dx = s->out[UPCONV_DX_DX];
    const bool via_scratch = cuda_disabled(be, CUDA_OPT_UPCONV) || step_adds(s, UPCONV_DX_DX);
    return prepare(be, s, via_scratch ? dx : NULL, scratch, e);
}

static ddpm_status upconv_dx_run(cuda_backend *be, const step *s, err *e)
{
    const upconv_impl *impl = s->impl;
    const tensor *dy = s->in[UPCONV_DX_DY], *w = s->in[UPCONV_DX_W], *dx = s->out[UPCONV_DX_DX];
    const bool add = step_adds(s, UPCONV_DX_DX);
    if (cuda_disabled(be, CUDA_OPT_UPCONV)) {
        upsample_args a = enlarge(s, dx);
        a.x = a.y, a.y = dx->data, a.accumulate = add;
        TRY(conv(be, s, a.x, w->low, dy->data, e));
        return rt_launched(k_upsample_bwd(be->stream, &a), e);
    }
    void *to = add ? cuda_scratch(s, impl->image) : dx->data;
    TRY(conv(be, s, dy->data, s->in[UPCONV_DX_K]->data, to, e));
    return add ? cuda_copy_as(be, to, cuda_storage(dx), dx, true, e) : DDPM_OK;
}

/* ---- gradient of the weights ---- */

static ddpm_status upconv_dw_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *x = s->in[UPCONV_DW_X], *dy = s->in[UPCONV_DW_DY];
    s->side = !cuda_disabled(be, CUDA_OPT_SIDE);
    const bool plain = cuda_disabled(be, CUDA_OPT_UPCONV);
    TRY(prepare(be, s, plain ? x : NULL, scratch, e));
    upconv_impl *impl = s->impl;
    if (plain && x->dtype == DTYPE_F32)
        impl->dw = cuda_target(be, s->out[UPCONV_DW_DW], step_adds(s, UPCONV_DW_DW), scratch);
    impl->low = plain && x->dtype != DTYPE_F32;
    if (impl->low) impl->filter = cuda_piece(&s->partial_bytes, (size_t)(9 * x->c * dy->c) * dtype_size(x->dtype));
    if (!plain) impl->filter = cuda_piece(scratch, (size_t)(16 * x->c * dy->c) * dtype_size(be->base.act));
    if (s->out[UPCONV_DW_DBIAS]) impl->sums = cuda_piece(&s->partial_bytes, cuda_column_sum_bytes(dy));
    return DDPM_OK;
}

/* The gradient of the 3x3 filter, unfolded. */
static ddpm_status plain_dw(cuda_backend *be, const step *s, const void *dy, err *e)
{
    const upconv_impl *impl = s->impl;
    const tensor *x = s->in[UPCONV_DW_X], *dw = s->out[UPCONV_DW_DW];
    const upsample_args a = enlarge(s, x);
    void *gradient = impl->low ? cuda_partial(s, impl->filter) : cuda_target_data(s, &impl->dw, dw);
    TRY(rt_launched(k_upsample(be->stream, &a), e));
    TRY(conv(be, s, a.y, gradient, dy, e));
    return impl->low ? DDPM_OK : cuda_target_finish(be, s, &impl->dw, dw, e);
}

static ddpm_status upconv_dw_run(cuda_backend *be, const step *s, err *e)
{
    const upconv_impl *impl = s->impl;
    const tensor *x = s->in[UPCONV_DW_X], *dy = s->in[UPCONV_DW_DY], *dw = s->out[UPCONV_DW_DW];
    if (s->out[UPCONV_DW_DBIAS]) TRY(cuda_column_sums(be, dy, dy->data, cuda_partial(s, impl->sums), e));
    if (cuda_disabled(be, CUDA_OPT_UPCONV)) return plain_dw(be, s, dy->data, e);
    const upconv_unfold_args a = {.dk = cuda_scratch(s, impl->filter),
                                  .type = cuda_storage(x),
                                  .dw = dw->data,
                                  .accumulate = step_adds(s, UPCONV_DW_DW),
                                  .cout = (int)dw->n,
                                  .cin = (int)dw->c};
    TRY(conv(be, s, dy->data, cuda_scratch(s, impl->filter), x->data, e));
    return rt_launched(k_upconv_unfold(be->stream, &a), e);
}

static int upconv_dw_sums(const step *s, grad_sum *list)
{
    const upconv_impl *impl = s->impl;
    int n = 0;
    n += cuda_column_sum_list(&list[n], s, UPCONV_DW_DBIAS, s->in[UPCONV_DW_DY], cuda_partial(s, impl->sums));
    if (impl->low) n += cuda_sum(&list[n], s, UPCONV_DW_DW, cuda_partial(s, impl->filter), STORE_BF16, 1, 0);
    return n;
}

const cuda_op cuda_upconv_fold = {.run = upconv_fold_run};
const cuda_op cuda_upconv = {.prepare = upconv_prepare, .run = upconv_run, .release = upconv_release};
const cuda_op cuda_upconv_dx = {.prepare = upconv_dx_prepare, .run = upconv_dx_run, .release = upconv_release};
const cuda_op cuda_upconv_dw = {
    .prepare = upconv_dw_prepare, .run = upconv_dw_run, .release = upconv_release, .sums = upconv_dw_sums};
