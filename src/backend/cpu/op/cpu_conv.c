#include "backend/cpu/op/cpu_conv.h"
#include "base/mem.h"

static conv_operands operands_of(const step *s)
{
    switch (s->op) {
    case OP_conv2d_dx:
        return (conv_operands){.pass = CONV_PASS_BACKWARD_DATA,
                               .x = {s->out[CONV_DX_DX], s->out[CONV_DX_DX2]},
                               .y = s->in[CONV_DX_DY],
                               .w = s->in[CONV_DX_W]};
    case OP_conv2d_dw:
        return (conv_operands){.pass = CONV_PASS_BACKWARD_WEIGHTS,
                               .x = {s->in[CONV_DW_X], s->in[CONV_DW_X2]},
                               .y = s->in[CONV_DW_DY],
                               .w = s->out[CONV_DW_DW],
                               .bias = s->out[CONV_DW_DBIAS]};
    default:
        return (conv_operands){.pass = CONV_PASS_FORWARD,
                               .x = {s->in[CONV_X], s->in[CONV_X2]},
                               .y = s->out[CONV_Y],
                               .w = s->in[CONV_W],
                               .bias = s->in[CONV_BIAS],
                               .residual = s->in[CONV_RESIDUAL]};
    }
}

void cpu_conv_stage(const step *s, const conv_operands *o, bool only_sets, size_t *scratch)
{
    conv_impl *impl = s->impl;
    const bool gradients = o->pass == CONV_PASS_BACKWARD_DATA;
    if (gradients) impl->y = stage(o->y, impl->layout, false, scratch);
    for (int i = 0; i < 2; i++) {
        const tensor *x = o->x[i];
        const bool add = gradients && x && step_adds(s, i) && (only_sets || x->layout != impl->layout);
        impl->x[i] = stage(x, impl->layout, add, scratch);
    }
    if (!gradients) impl->y = stage(o->y, impl->layout, false, scratch);
    if (impl->layout == LAYOUT_NHWC) impl->residual = stage(o->residual, LAYOUT_NHWC, false, scratch);
}

/* ---- thin ----------------------------------------------------------------------------------------- */

static ddpm_status thin_accepts(cpu_backend *be, const step *s, const conv_operands *o, bool *yes, err *e)
{
    const tensor *x = o->x[0] ? o->x[0] : o->x[1];
    *yes = !o->residual && thin_takes(s, x, o->x[1], o->y, &conv_impl_of(s)->thin);
    return DDPM_OK;
}

static ddpm_status thin_prepare(cpu_backend *be, const step *s, const conv_operands *o, size_t *scratch, err *e)
{
    *scratch = thin_scratch(&conv_impl_of(s)->thin);
    return DDPM_OK;
}

static ddpm_status thin_forward(const step *s, const conv_operands *o, err *e)
{
    const thin_conv *c = &conv_impl_of(s)->thin;
    (c->from_thin ? thin_spread : thin_gather)(c, o->w->data, o->bias->data, false, s->scratch->data);
    return DDPM_OK;
}

static ddpm_status thin_backward_data(const step *s, const conv_operands *o, err *e)
{
    const thin_conv *c = &conv_impl_of(s)->thin;
    (c->from_thin ? thin_gather : thin_spread)(c, o->w->data, NULL, step_adds(s, CONV_DX_DX), s->scratch->data);
    return DDPM_OK;
}

static ddpm_status thin_backward_weights(const step *s, const conv_operands *o, err *e)
{
    const thin_gradients g = {.filter = o->w->data,
                              .bias = cpu_data(o->bias),
                              .add = step_adds(s, CONV_DW_DW),
                              .add_bias = step_adds(s, CONV_DW_DBIAS)};
    thin_correlate(&conv_impl_of(s)->thin, &g, s->scratch->data);
    return DDPM_OK;
}

/* ---- winograd ------------------------------------------------------------------------------------- */

static ddpm_status winograd_accepts(cpu_backend *be, const step *s, const conv_operands *o, bool *yes, err *e)
{
    const bool three = s->a.conv.kernel == 3 && s->a.conv.stride == 1 && !s->a.conv.pad_end;
    *yes = false;
    /* only 1x1 convolutions may have a second source */
    if (!three || !winograd_takes(o->x[0]->c, o->y->c)) return DDPM_OK;
    conv_candidates candidates = {.direct = cpu_conv_onednn_spec(s, o, 0), .winograd = {.threads = be->threads}};
    candidates.winograd.shape = candidates.direct.shape;
    conv_impl_of(s)->winograd = candidates.winograd;
    return conv_autotune_choose(be->autotune, be->onednn, &candidates, yes, e);
}

static ddpm_status winograd_prepare(cpu_backend *be, const step *s, const conv_operands *o, size_t *scratch, err *e)
{
    *scratch = winograd_scratch(&conv_impl_of(s)->winograd);
    return DDPM_OK;
}

static ddpm_status winograd_forward(const step *s, const conv_operands *o, err *e)
{
    winograd_run(&conv_impl_of(s)->winograd, &(winograd_args){.src = winograd_image_of(o->x[0]),
                                                              .dst = winograd_image_of(o->y),
                                                              .add = winograd_image_of(o->residual),
                                                              .filter = o->w->data,
                                                              .bias = o->bias->data,
                                                              .scratch = s->scratch->data});
    return DDPM_OK;
}

static ddpm_status winograd_backward_data(const step *s, const conv_operands *o, err *e)
{
    winograd_args a = {.src = winograd_image_of(o->x[0]),
                       .dst = winograd_image_of(o->y),
                       .filter = o->w->data,
                       .scratch = s->scratch->data};
    if (step_adds(s, CONV_DX_DX)) a.add = a.src;
    winograd_run(&conv_impl_of(s)->winograd, &a);
    return DDPM_OK;
}

static ddpm_status winograd_backward_weights(const step *s, const conv_operands *o, err *e)
{
    winograd_run(&conv_impl_of(s)->winograd, &(winograd_args){.src = winograd_image_of(o->x[0]),
                                                              .dst = winograd_image_of(o->y),
                                                              .filter = o->w->data,
                                                              .bias = cpu_data(o->bias),
                                                              .adds = step_adds(s, CONV_DW_DW),
                                                              .adds_bias = step_adds(s, CONV_DW_DBIAS),
                                                              .scratch = s->scratch->data});
    return DDPM_OK;
}

/* ---- table of algorithms, and the three ops ------------------------------------------------------ */

static const conv_algo_row thin = {
    "thin", thin_accepts, thin_prepare, {thin_forward, thin_backward_data, thin_backward_weights}};
static const conv_algo_row winograd = {"winograd",
                                       winograd_accepts,
                                       winograd_prepare,
                                       {winograd_forward, winograd_backward_data, winograd_backward_weights}};

/* The first algorithm that accepts a step computes it; the last accepts every step. */
static const conv_algo_row *const algos[] = {&thin, &winograd, &cpu_conv_gemm, &cpu_conv_onednn};

/* The layout for kernels whose operands must share one: NHWC if no image is blocked or some channels do not fill
 * blocks; otherwise that of y for 1x1 convolutions, and blocked for the others. */
static tensor_layout kernel_layout(const step *s, const conv_operands *o)
{
    const tensor *x = o->x[0] ? o->x[0] : o->x[1], *x2 = o->x[1], *y = o->y;
    const bool full = x->c % CHANNEL_BLOCK == 0 && y->c % CHANNEL_BLOCK == 0 && (!x2 || x2->c % CHANNEL_BLOCK == 0);
    const bool any = x->layout == LAYOUT_BLOCKED || y->layout == LAYOUT_BLOCKED;
    if (!full || !any) return LAYOUT_NHWC;
    return s->a.conv.kernel == 1 ? y->layout : LAYOUT_BLOCKED;
}

static ddpm_status conv_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    const conv_operands o = operands_of(s);
    conv_impl *impl = NULL;
    bool yes = false;
    TRY(mem_array(&impl, 1, sizeof *impl, "convolution", e));
    s->impl = impl;
    impl->layout = kernel_layout(s, &o);
    for (size_t i = 0; !yes && i < sizeof algos / sizeof *algos; i++) {
        TRY(algos[i]->accepts(be, s, &o, &yes, e));
        impl->algo = algos[i];
    }
    return impl->algo->prepare(be, s, &o, scratch, e);
}

static ddpm_status conv_run(cpu_backend *be, const step *s, err *e)
{
    const conv_operands o = operands_of(s);
    return conv_impl_of(s)->algo->run[o.pass](s, &o, e);
}

static void conv_release(step *s)
{
    conv_impl *impl = s->impl;
    if (!impl) return;
    for (int i = 0; i < 2; i++) onednn_conv_destroy(impl->conv[i]);
    mem_free(impl);
    s->impl = NULL;
}

const cpu_op cpu_conv2d = {conv_prepare, conv_run, conv_release};
const cpu_op cpu_conv2d_dx = {conv_prepare, conv_run, conv_release};
const cpu_op cpu_conv2d_dw = {conv_prepare, conv_run, conv_release};
