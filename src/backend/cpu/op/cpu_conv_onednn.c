/* cpu_conv_onednn.c - convolutions with oneDNN, blocked or in NHWC.
 *
 * A second source is a second convolution, added to the first. */
#include "backend/cpu/op/cpu_conv.h"

onednn_conv_spec cpu_conv_onednn_spec(const step *s, const conv_operands *o, int i)
{
    return (onednn_conv_spec){
        .shape = conv_shape_of(o->pass, o->x[i], o->y, s->a.conv.kernel, s->a.conv.stride, s->a.conv.pad_end),
        .filter_ld = o->w->c,
        .blocked = conv_impl_of(s)->layout == LAYOUT_BLOCKED,
        .frozen = o->pass != CONV_PASS_BACKWARD_WEIGHTS && !o->w->grad};
}

static ddpm_status accepts(cpu_backend *be, const step *s, const conv_operands *o, bool *yes, err *e)
{
    *yes = true;
    return DDPM_OK;
}

static void set_sums(const step *s, const conv_operands *o, int i, onednn_conv_spec *spec)
{
    if (o->pass == CONV_PASS_FORWARD) {
        spec->bias = i == 0;
        spec->sum = spec->blocked && (i == 1 || o->residual);
        spec->residual = !spec->blocked && o->residual;
    }
    if (o->pass == CONV_PASS_BACKWARD_WEIGHTS) {
        spec->bias = i == 0 && o->bias;
        spec->add = step_adds(s, CONV_DW_DW);
        spec->add_bias = step_adds(s, CONV_DW_DBIAS);
    }
}

/* oneDNN's convolutions cannot accumulate: a gradient that must be is written to temporary memory first. */
static ddpm_status prepare(cpu_backend *be, const step *s, const conv_operands *o, size_t *scratch, err *e)
{
    conv_impl *impl = s->impl;
    cpu_conv_stage(s, o, true, scratch);
    impl->workspace = *scratch;
    for (int i = 0; i < 2; i++) {
        size_t bytes = 0;
        if (!o->x[i]) continue;
        onednn_conv_spec spec = cpu_conv_onednn_spec(s, o, i);
        set_sums(s, o, i, &spec);
        TRY(onednn_conv_create(be->onednn, &spec, &impl->conv[i], &bytes, e));
        if (*scratch < impl->workspace + bytes) *scratch = impl->workspace + bytes;
    }
    return DDPM_OK;
}

static void *workspace(const step *s)
{
    return s->scratch ? (char *)s->scratch->data + conv_impl_of(s)->workspace : NULL;
}

static ddpm_status forward(const step *s, const conv_operands *o, err *e)
{
    const conv_impl *impl = s->impl;
    const float *filter = o->w->data;
    float *y = stage_write(&impl->y, s);
    if (impl->layout == LAYOUT_BLOCKED && o->residual)
        cpu_relayout(o->residual, o->residual->data, o->residual->layout, y, LAYOUT_BLOCKED, false);
    for (int i = 0; i < 2 && o->x[i]; i++) {
        TRY(onednn_conv_run(impl->conv[i],
                            &(onednn_conv_args){.src = stage_read(&impl->x[i], s),
                                                .dst = y,
                                                .filter = filter,
                                                .bias = o->bias->data,
                                                .residual = stage_read(&impl->residual, s),
                                                .scratch = workspace(s),
                                                .version = cpu_version(o->w)},
                            e));
        filter += o->x[i]->c;
    }
    stage_done(&impl->y, s);
    return DDPM_OK;
}

static ddpm_status backward_data(const step *s, const conv_operands *o, err *e)
{
    const conv_impl *impl = s->impl;
    const float *dy = stage_read(&impl->y, s);
    for (int i = 0; i < 2; i++) {
        if (!o->x[i]) continue;
        const int64_t column = i == 0 ? 0 : o->w->c - o->x[i]->c;
        TRY(onednn_conv_run(impl->conv[i],
                            &(onednn_conv_args){.src = stage_write(&impl->x[i], s),
                                                .dst = dy,
                                                .filter = (const float *)o->w->data + column,
                                                .scratch = workspace(s),
                                                .version = cpu_version(o->w)},
                            e));
        stage_done(&impl->x[i], s);
    }
    return DDPM_OK;
}

static ddpm_status backward_weights(const step *s, const conv_operands *o, err *e)
{
    const conv_impl *impl = s->impl;
    const float *dy = stage_read(&impl->y, s);
    int64_t column = 0;
    for (int i = 0; i < 2 && o->x[i]; i++) {
        TRY(onednn_conv_run(impl->conv[i],
                            &(onednn_conv_args){.src = stage_read(&impl->x[i], s),
                                                .dst = dy,
                                                .filter = (float *)o->w->data + column,
                                                .bias = cpu_data(o->bias),
                                                .scratch = workspace(s)},
                            e));
        column += o->x[i]->c;
    }
    return DDPM_OK;
}

const conv_algo_row cpu_conv_onednn = {"onednn", accepts, prepare, {forward, backward_data, backward_weights}};
