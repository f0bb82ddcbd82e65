/* cpu_conv_gemm.c - 1x1 convolutions in NHWC: a matrix product over all pixels.
 *
 * Leading dimensions select the weights of a second source; beta accumulates. */
#include "backend/cpu/op/cpu_conv.h"

static ddpm_status accepts(cpu_backend *be, const step *s, const conv_operands *o, bool *yes, err *e)
{
    *yes = s->a.conv.kernel == 1 && conv_impl_of(s)->layout == LAYOUT_NHWC;
    return DDPM_OK;
}

static ddpm_status prepare(cpu_backend *be, const step *s, const conv_operands *o, size_t *scratch, err *e)
{
    cpu_conv_stage(s, o, false, scratch);
    return DDPM_OK;
}

/* y = bias + residual, then for each source y += x w^T with the source's columns of the weight. */
static ddpm_status forward(const step *s, const conv_operands *o, err *e)
{
    const conv_impl *impl = s->impl;
    const int64_t rows = o->y->n * tensor_hw(o->y);
    int64_t column = 0;
    float *y = stage_write(&impl->y, s);
    cpu_fill_rows(y, rows, o->y->c, o->bias->data, stage_read(&impl->residual, s));
    for (int i = 0; i < 2 && o->x[i]; i++) {
        const int64_t c = o->x[i]->c;
        if (c > 0)
            TRY(onednn_gemm(&(onednn_gemm_args){.transpose_b = true,
                                                .m = rows,
                                                .n = o->w->n,
                                                .k = c,
                                                .alpha = 1,
                                                .beta = 1,
                                                .a = stage_read(&impl->x[i], s),
                                                .b = (const float *)o->w->data + column,
                                                .c = y,
                                                .lda = c,
                                                .ldb = o->w->c,
                                                .ldc = o->w->n},
                            e));
        column += c;
    }
    stage_done(&impl->y, s);
    return DDPM_OK;
}

static ddpm_status backward_data(const step *s, const conv_operands *o, err *e)
{
    const conv_impl *impl = s->impl;
    const float *dy = stage_read(&impl->y, s);
    for (int i = 0; i < 2; i++) {
        const tensor *dx = o->x[i];
        if (!dx) continue;
        const int64_t column = i == 0 ? 0 : o->w->c - dx->c;
        if (dx->c > 0 && o->w->n > 0)
            TRY(onednn_gemm(&(onednn_gemm_args){.m = dx->n * tensor_hw(dx),
                                                .n = dx->c,
                                                .k = o->w->n,
                                                .alpha = 1,
                                                .beta = step_adds(s, i) && !impl->x[i].copied ? 1 : 0,
                                                .a = dy,
                                                .b = (const float *)o->w->data + column,
                                                .c = stage_write(&impl->x[i], s),
                                                .lda = o->w->n,
                                                .ldb = o->w->c,
                                                .ldc = dx->c},
                            e));
        stage_done(&impl->x[i], s);
    }
    return DDPM_OK;
}

static ddpm_status backward_weights(const step *s, const conv_operands *o, err *e)
{
    const conv_impl *impl = s->impl;
    const float *dy = stage_read(&impl->y, s);
    const int64_t rows = o->y->n * tensor_hw(o->y);
    int64_t column = 0;
    if (o->bias) cpu_column_sums(dy, rows, o->y->c, step_adds(s, CONV_DW_DBIAS), o->bias->data);
    for (int i = 0; i < 2 && o->x[i]; i++) {
        const int64_t c = o->x[i]->c;
        if (c > 0)
            TRY(onednn_gemm(&(onednn_gemm_args){.transpose_a = true,
                                                .m = o->w->n,
                                                .n = c,
                                                .k = rows,
                                                .alpha = 1,
                                                .beta = step_adds(s, CONV_DW_DW) ? 1 : 0,
                                                .a = dy,
                                                .b = stage_read(&impl->x[i], s),
                                                .c = (float *)o->w->data + column,
                                                .lda = o->w->n,
                                                .ldb = c,
                                                .ldc = o->w->c},
                            e));
        column += c;
    }
    return DDPM_OK;
}

const conv_algo_row cpu_conv_gemm = {"gemm", accepts, prepare, {forward, backward_data, backward_weights}};
