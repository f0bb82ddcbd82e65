/* cpu_conv.c - convolutions, in blocks of channels or in NHWC.
 *
 * 3x3 of stride 1 goes through Winograd's algorithm (or as cpu_conv_autotune.h says), whatever the layouts.  In blocks the
 * others are oneDNN's; a second source is a second convolution, added to the first.  In NHWC a 1x1 convolution is one
 * matrix product over all pixels, whose leading dimensions and beta take care of a second source and of sums.  Those
 * between an image of few channels and one of many are our own (cpu_conv_thin.h). */
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/conv/cpu_conv_thin.h"
#include "backend/cpu/lib/cpu_layout.h"
#include "backend/cpu/conv/cpu_winograd.h"
#include "base/mem.h"

/* What is common to all, and what belongs to oneDNN and products alone. */
typedef struct conv_impl {
    enum { CONV_PLAIN, CONV_THIN, CONV_TILED } way;
    thin_conv thin;
    winograd_spec tiled;
    tensor_layout layout;
    onednn_conv *of[2];  /* a source each; NULL: there is none, or it is a product */
    staged x[2], y, add; /* add: the residual */
    size_t scratch;      /* oneDNN's, behind the copies */
} conv_impl;

static void conv_release(step *s)
{
    conv_impl *impl = s->impl;
    if (!impl) return;
    for (int i = 0; i < 2; i++) onednn_conv_destroy(impl->of[i]);
    mem_free(impl);
    s->impl = NULL;
}

/* The layout the kernel works in: that of the image the convolution makes, if every source allows it. */
static tensor_layout kernel_layout(const step *s, const tensor *x, const tensor *x2, const tensor *y)
{
    const bool full = x->c % CHANNEL_BLOCK == 0 && y->c % CHANNEL_BLOCK == 0 && (!x2 || x2->c % CHANNEL_BLOCK == 0);
    const bool any = x->layout == LAYOUT_BLOCKED || y->layout == LAYOUT_BLOCKED;
    if (!full || !any) return LAYOUT_NHWC;
    return s->a.conv.kernel == 1 ? y->layout : LAYOUT_BLOCKED;
}

static bool is_product(const step *s)
{
    return s->a.conv.kernel == 1 && ((const conv_impl *)s->impl)->layout == LAYOUT_NHWC;
}

/* src is the larger image, dst the one the convolution makes of it. */
static onednn_conv_spec conv_spec(const step *s, conv_pass pass, const tensor *src, const tensor *dst, const tensor *w)
{
    const int k = s->a.conv.kernel;
    return (onednn_conv_spec){.pass = pass,
                              .n = src->n,
                              .h = src->h,
                              .w = src->w,
                              .cin = src->c,
                              .oh = dst->h,
                              .ow = dst->w,
                              .cout = dst->c,
                              .filter_ld = w->c,
                              .kernel = k,
                              .stride = s->a.conv.stride,
                              .pad_begin = s->a.conv.pad_end ? 0 : k / 2,
                              .pad_end = k / 2,
                              .blocked = ((const conv_impl *)s->impl)->layout == LAYOUT_BLOCKED,
                              .frozen = pass != CONV_PASS_BACKWARD_WEIGHTS && !w->grad};
}

/* What a pass works on: sources (the first is absent where its gradient is not wanted), the result and the filter. */
typedef struct operands {
    const tensor *x, *x2, *y, *w;
} operands;

static ddpm_status choose_tiled(cpu_backend *be, step *s, conv_pass pass, const operands *o, err *e)
{
    conv_impl *impl = s->impl;
    const bool three = s->a.conv.kernel == 3 && s->a.conv.stride == 1 && !s->a.conv.pad_end;
    if (!three || !winograd_takes(o->x->c, o->y->c)) return DDPM_OK; /* only 1x1 may have a second source */
    const conv_candidates ways = {.direct = conv_spec(s, pass, o->x, o->y, o->w),
                                  .winograd = {.pass = pass,
                                               .n = o->y->n,
                                               .h = o->y->h,
                                               .w = o->y->w,
                                               .cin = o->x->c,
                                               .cout = o->y->c,
                                               .threads = be->threads}};
    bool tiled;
    TRY(conv_autotune_choose(be->choices, be->onednn, &ways, &tiled, e));
    impl->tiled = ways.winograd;
    if (tiled) impl->way = CONV_TILED;
    return DDPM_OK;
}

/* Unless the convolution is CONV_PLAIN, *scratch is all that is left to prepare. */
static ddpm_status new_impl(cpu_backend *be, step *s, conv_pass pass, const operands *o, conv_impl **out,
                            size_t *scratch, err *e)
{
    const bool residual = s->op == OP_conv2d && s->in[CONV_RESIDUAL];
    const tensor *x = o->x ? o->x : o->x2;
    TRY(mem_array(out, 1, sizeof **out, "convolution", e));
    conv_impl *impl = s->impl = *out;
    impl->layout = kernel_layout(s, x, o->x2, o->y);
    if (!residual && thin_takes(s, x, o->x2, o->y, &impl->thin)) {
        impl->way = CONV_THIN;
        *scratch = thin_scratch(&impl->thin);
        return DDPM_OK;
    }
    TRY(choose_tiled(be, s, pass, o, e));
    if (impl->way == CONV_TILED) *scratch = winograd_scratch(&impl->tiled);
    return DDPM_OK;
}

/* The convolution of source i; the scratch ends behind what it and the other one want. */
static ddpm_status create(cpu_backend *be, step *s, int i, const onednn_conv_spec *spec, size_t *scratch, err *e)
{
    conv_impl *impl = s->impl;
    size_t bytes = 0;
    TRY(onednn_conv_create(be->onednn, spec, &impl->of[i], &bytes, e));
    if (*scratch < impl->scratch + bytes) *scratch = impl->scratch + bytes;
    return DDPM_OK;
}

static void *own_scratch(const step *s)
{
    return s->scratch ? (char *)s->scratch->data + ((const conv_impl *)s->impl)->scratch : NULL;
}

/* ---- forward ---- */

static ddpm_status conv2d_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *x[2] = {s->in[CONV_X], s->in[CONV_X2]}, *y = s->out[CONV_Y], *residual = s->in[CONV_RESIDUAL];
    conv_impl *impl;
    TRY(new_impl(be, s, CONV_PASS_FORWARD, &(operands){x[0], x[1], y, s->in[CONV_W]}, &impl, scratch, e));
    if (impl->way != CONV_PLAIN) return DDPM_OK;
    for (int i = 0; i < 2; i++) impl->x[i] = stage(x[i], impl->layout, false, scratch);
    impl->y = stage(y, impl->layout, false, scratch);
    if (impl->layout == LAYOUT_NHWC) impl->add = stage(residual, LAYOUT_NHWC, false, scratch);
    impl->scratch = *scratch;
    for (int i = 0; i < 2 && x[i] && !is_product(s); i++) {
        onednn_conv_spec spec = conv_spec(s, CONV_PASS_FORWARD, x[i], y, s->in[CONV_W]);
        spec.bias = i == 0;
        spec.sum = spec.blocked && (i == 1 || residual);
        spec.residual = !spec.blocked && residual;
        TRY(create(be, s, i, &spec, scratch, e));
    }
    return DDPM_OK;
}

/* Rows of `to` += those of x times columns [from, from + k) of the weight, transposed. */
static ddpm_status add_product(const tensor *w, const float *x, int64_t rows, int64_t from, int64_t k, float *to,
                               err *e)
{
    if (k == 0) return DDPM_OK;
    return onednn_gemm(&(onednn_gemm_args){.transpose_b = true,
                                           .m = rows,
                                           .n = w->n,
                                           .k = k,
                                           .alpha = 1,
                                           .beta = 1,
                                           .a = x,
                                           .b = (const float *)w->data + from,
                                           .c = to,
                                           .lda = k,
                                           .ldb = w->c,
                                           .ldc = w->n},
                       e);
}

static ddpm_status forward_product(const step *s, float *y, err *e)
{
    const conv_impl *impl = s->impl;
    const tensor *w = s->in[CONV_W], *to = s->out[CONV_Y];
    const int64_t rows = to->n * tensor_hw(to);
    int64_t from = 0;
    cpu_fill_rows(y, rows, to->c, s->in[CONV_BIAS]->data, stage_read(&impl->add, s));
    for (int i = 0; i < 2 && impl->x[i].t; i++) {
        TRY(add_product(w, stage_read(&impl->x[i], s), rows, from, impl->x[i].t->c, y, e));
        from += impl->x[i].t->c;
    }
    return DDPM_OK;
}

static ddpm_status forward_convolutions(const step *s, float *y, err *e)
{
    const conv_impl *impl = s->impl;
    const tensor *w = s->in[CONV_W], *residual = s->in[CONV_RESIDUAL];
    const float *filter = w->data;
    if (impl->layout == LAYOUT_BLOCKED && residual)
        cpu_relayout(residual, residual->data, residual->layout, y, LAYOUT_BLOCKED, false);
    for (int i = 0; i < 2 && impl->of[i]; i++) {
        TRY(onednn_conv_run(impl->of[i],
                            &(onednn_conv_args){.src = stage_read(&impl->x[i], s),
                                                .dst = y,
                                                .filter = filter,
                                                .bias = s->in[CONV_BIAS]->data,
                                                .residual = stage_read(&impl->add, s),
                                                .scratch = own_scratch(s),
                                                .version = cpu_version(w)},
                            e));
        filter += impl->x[i].t->c;
    }
    return DDPM_OK;
}

static ddpm_status conv2d_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const conv_impl *impl = s->impl;
    if (impl->way == CONV_TILED) {
        winograd_run(&impl->tiled, &(winograd_args){.src = winograd_image_of(s->in[CONV_X]),
                                                    .dst = winograd_image_of(s->out[CONV_Y]),
                                                    .add = winograd_image_of(s->in[CONV_RESIDUAL]),
                                                    .filter = s->in[CONV_W]->data,
                                                    .bias = s->in[CONV_BIAS]->data,
                                                    .scratch = s->scratch->data});
        return DDPM_OK;
    }
    if (impl->way == CONV_THIN) {
        (impl->thin.from_thin ? thin_spread : thin_gather)(&impl->thin, s->in[CONV_W]->data, s->in[CONV_BIAS]->data,
                                                           false, s->scratch->data);
        return DDPM_OK;
    }
    float *y = stage_write(&impl->y, s);
    TRY(is_product(s) ? forward_product(s, y, e) : forward_convolutions(s, y, e));
    stage_done(&impl->y, s);
    return DDPM_OK;
}

/* ---- gradient of the input ---- */

/* oneDNN's convolutions only set; a gradient to be added to goes through memory of its own first. */
static ddpm_status conv2d_dx_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *dx[2] = {s->out[CONV_DX_DX], s->out[CONV_DX_DX2]}, *dy = s->in[CONV_DX_DY], *w = s->in[CONV_DX_W];
    conv_impl *impl;
    TRY(new_impl(be, s, CONV_PASS_BACKWARD_DATA, &(operands){dx[0], dx[1], dy, w}, &impl, scratch, e));
    if (impl->way != CONV_PLAIN) return DDPM_OK;
    impl->y = stage(dy, impl->layout, false, scratch);
    for (int i = 0; i < 2; i++) {
        const bool add = dx[i] && step_adds(s, i) && (!is_product(s) || dx[i]->layout != impl->layout);
        impl->x[i] = stage(dx[i], impl->layout, add, scratch);
    }
    impl->scratch = *scratch;
    for (int i = 0; i < 2 && !is_product(s); i++) {
        if (!dx[i]) continue;
        const onednn_conv_spec spec = conv_spec(s, CONV_PASS_BACKWARD_DATA, dx[i], dy, w);
        TRY(create(be, s, i, &spec, scratch, e));
    }
    return DDPM_OK;
}

/* dx of one source: columns [from, from + dx->c) of the weight. */
static ddpm_status dx_product(const step *s, const float *dy, int i, int64_t from, err *e)
{
    const tensor *w = s->in[CONV_DX_W], *dx = s->out[i];
    const staged *to = &((const conv_impl *)s->impl)->x[i];
    if (dx->c == 0 || w->n == 0) return DDPM_OK;
    return onednn_gemm(&(onednn_gemm_args){.m = dx->n * tensor_hw(dx),
                                           .n = dx->c,
                                           .k = w->n,
                                           .alpha = 1,
                                           .beta = step_adds(s, i) && !to->copied ? 1 : 0,
                                           .a = dy,
                                           .b = (const float *)w->data + from,
                                           .c = stage_write(to, s),
                                           .lda = w->n,
                                           .ldb = w->c,
                                           .ldc = dx->c},
                       e);
}

static void dx_tiled(const step *s)
{
    winograd_args a = {.src = winograd_image_of(s->out[CONV_DX_DX]),
                       .dst = winograd_image_of(s->in[CONV_DX_DY]),
                       .filter = s->in[CONV_DX_W]->data,
                       .scratch = s->scratch->data};
    if (step_adds(s, CONV_DX_DX)) a.add = a.src;
    winograd_run(&((const conv_impl *)s->impl)->tiled, &a);
}

static ddpm_status conv2d_dx_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const conv_impl *impl = s->impl;
    const tensor *w = s->in[CONV_DX_W];
    if (impl->way == CONV_TILED) {
        dx_tiled(s);
        return DDPM_OK;
    }
    if (impl->way == CONV_THIN) {
        (impl->thin.from_thin ? thin_gather : thin_spread)(&impl->thin, w->data, NULL, step_adds(s, CONV_DX_DX),
                                                           s->scratch->data);
        return DDPM_OK;
    }
    const float *dy = stage_read(&impl->y, s);
    for (int i = 0; i < 2; i++) {
        if (!s->out[i]) continue;
        const int64_t from = i == 0 ? 0 : w->c - s->out[i]->c;
        const onednn_conv_args a = {.src = stage_write(&impl->x[i], s),
                                    .dst = dy,
                                    .filter = (const float *)w->data + from,
                                    .scratch = own_scratch(s),
                                    .version = cpu_version(w)};
        TRY(is_product(s) ? dx_product(s, dy, i, from, e) : onednn_conv_run(impl->of[i], &a, e));
        stage_done(&impl->x[i], s);
    }
    return DDPM_OK;
}

/* ---- gradient of the weights ---- */

static ddpm_status conv2d_dw_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *x[2] = {s->in[CONV_DW_X], s->in[CONV_DW_X2]}, *dy = s->in[CONV_DW_DY];
    conv_impl *impl;
    TRY(new_impl(be, s, CONV_PASS_BACKWARD_WEIGHTS, &(operands){x[0], x[1], dy, s->out[CONV_DW_DW]}, &impl, scratch,
                 e));
    if (impl->way != CONV_PLAIN) return DDPM_OK;
    for (int i = 0; i < 2; i++) impl->x[i] = stage(x[i], impl->layout, false, scratch);
    impl->y = stage(dy, impl->layout, false, scratch);
    impl->scratch = *scratch;
    for (int i = 0; i < 2 && x[i] && !is_product(s); i++) {
        onednn_conv_spec spec = conv_spec(s, CONV_PASS_BACKWARD_WEIGHTS, x[i], dy, s->out[CONV_DW_DW]);
        spec.bias = i == 0 && s->out[CONV_DW_DBIAS];
        spec.add = step_adds(s, CONV_DW_DW);
        spec.add_bias = step_adds(s, CONV_DW_DBIAS);
        TRY(create(be, s, i, &spec, scratch, e));
    }
    return DDPM_OK;
}

static ddpm_status dw_product(const step *s, const tensor *x, const float *data, const float *dy, int64_t from, err *e)
{
    const tensor *dw = s->out[CONV_DW_DW];
    if (x->c == 0) return DDPM_OK;
    return onednn_gemm(&(onednn_gemm_args){.transpose_a = true,
                                           .m = dw->n,
                                           .n = x->c,
                                           .k = x->n * tensor_hw(x),
                                           .alpha = 1,
                                           .beta = step_adds(s, CONV_DW_DW) ? 1 : 0,
                                           .a = dy,
                                           .b = data,
                                           .c = (float *)dw->data + from,
                                           .lda = dw->n,
                                           .ldb = x->c,
                                           .ldc = dw->c},
                       e);
}

static ddpm_status conv2d_dw_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const conv_impl *impl = s->impl;
    const tensor *t = s->in[CONV_DW_DY], *dbias = s->out[CONV_DW_DBIAS];
    if (impl->way == CONV_TILED) {
        winograd_run(&impl->tiled, &(winograd_args){.src = winograd_image_of(s->in[CONV_DW_X]),
                                                    .dst = winograd_image_of(t),
                                                    .filter = s->out[CONV_DW_DW]->data,
                                                    .bias = cpu_data(dbias),
                                                    .adds = step_adds(s, CONV_DW_DW),
                                                    .adds_bias = step_adds(s, CONV_DW_DBIAS),
                                                    .scratch = s->scratch->data});
        return DDPM_OK;
    }
    if (impl->way == CONV_THIN) {
        const thin_gradients g = {.filter = s->out[CONV_DW_DW]->data,
                                  .bias = cpu_data(dbias),
                                  .add = step_adds(s, CONV_DW_DW),
                                  .add_bias = step_adds(s, CONV_DW_DBIAS)};
        thin_correlate(&impl->thin, &g, s->scratch->data);
        return DDPM_OK;
    }
    const float *dy = stage_read(&impl->y, s);
    int64_t from = 0;
    if (is_product(s) && dbias)
        cpu_column_sums(dy, t->n * tensor_hw(t), t->c, step_adds(s, CONV_DW_DBIAS), dbias->data);
    for (int i = 0; i < 2 && impl->x[i].t; i++) {
        const tensor *x = impl->x[i].t;
        const onednn_conv_args a = {.src = stage_read(&impl->x[i], s),
                                    .dst = dy,
                                    .filter = (float *)s->out[CONV_DW_DW]->data + from,
                                    .bias = cpu_data(dbias),
                                    .scratch = own_scratch(s)};
        TRY(is_product(s) ? dw_product(s, x, a.src, dy, from, e) : onednn_conv_run(impl->of[i], &a, e));
        from += x->c;
    }
    return DDPM_OK;
}

const cpu_op cpu_conv2d = {conv2d_prepare, conv2d_run, conv_release};
const cpu_op cpu_conv2d_dx = {conv2d_dx_prepare, conv2d_dx_run, conv_release};
const cpu_op cpu_conv2d_dw = {conv2d_dw_prepare, conv2d_dw_run, conv_release};
