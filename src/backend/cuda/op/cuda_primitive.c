/* cuda_primitive.c - library primitives: created once for each problem and shared by the problem's steps. */
#include "backend/cuda/op/cuda_primitive.h"

#include <stdio.h>

static ddpm_status make_conv(void *context, const void *q, const primitive_search *how, primitive **out, err *e)
{
    return cudnn_convolution_create(context, q, how, out, e);
}

static ddpm_status make_gemm(void *context, const void *q, const primitive_search *how, primitive **out, err *e)
{
    return cublas_gemm_create(context, q, how, out, e);
}

static ddpm_status make_sdpa(void *context, const void *q, const primitive_search *how, primitive **out, err *e)
{
    return cudnn_attention_create(context, q, how, out, e);
}

static const char *type_name(dtype d, bool tf32) { return d == DTYPE_F32 && tf32 ? "tf32" : dtype_name(d); }

ddpm_status cuda_primitive_conv(cuda_backend *be, const conv_problem *q, primitive **out, err *e)
{
    static const char *const pass[] = {"forward", "data", "filter"};
    const conv_shape *s = &q->shape;
    char text[PRIMITIVE_KEY];
    (void)snprintf(text, sizeof text, "conv:%s:%s:%lldx%lldx%lldx%lld:%lldx%lldx%lld:f%ds%dp%d,%d%s%s%s", pass[s->pass],
                   type_name(q->io, q->tf32), (long long)s->n, (long long)s->h, (long long)s->w, (long long)s->cin,
                   (long long)s->oh, (long long)s->ow, (long long)s->cout, s->kernel, s->stride, s->pad_begin,
                   s->pad_end, q->bias ? ":bias" : "", q->residual ? ":residual" : "", q->accumulate ? ":add" : "");
    return tuner_get(be->tuner, text, make_conv, be->cudnn, q, out, e);
}

ddpm_status cuda_primitive_gemm(cuda_backend *be, const gemm_problem *q, primitive **out, err *e)
{
    char text[PRIMITIVE_KEY];
    (void)snprintf(
        text, sizeof text, "gemm:%s-%s:%c%c:%lldx%lldx%lld:ld%lld,%lld,%lld,%lld:b%lld,%lld,%lld,%lld:a%.9g:al%d%s%s",
        type_name(q->in, q->tf32), dtype_name(q->out), q->transpose_a ? 't' : 'n', q->transpose_b ? 't' : 'n',
        (long long)q->m, (long long)q->n, (long long)q->k, (long long)q->lda, (long long)q->ldb, (long long)q->ldd,
        (long long)q->ldc, (long long)q->batch, (long long)q->stride_a, (long long)q->stride_b, (long long)q->stride_d,
        (double)q->alpha, q->align, q->bias ? ":bias" : "", q->addend ? ":addend" : "");
    return tuner_get(be->tuner, text, make_gemm, be->cublas, q, out, e);
}

ddpm_status cuda_primitive_sdpa(cuda_backend *be, const attention_problem *q, primitive **out, err *e)
{
    char text[PRIMITIVE_KEY];
    *out = NULL;
    if (cuda_disabled(be, CUDA_OPT_SDPA)) return DDPM_OK;
    (void)snprintf(text, sizeof text, "sdpa:%s:%s:%lldx%lld:%dx%d", q->backward ? "backward" : "forward",
                   dtype_name(q->io), (long long)q->n, (long long)q->s, q->heads, q->d);
    return tuner_get(be->tuner, text, make_sdpa, be->cudnn, q, out, e);
}

ddpm_status cuda_primitive_run(cuda_backend *be, primitive *p, void *const operands[PRIMITIVE_OPERANDS],
                               void *workspace, err *e)
{
    return p->fn->run(p, 0, operands, workspace, be->stream, e);
}

int cuda_alignment(const int64_t *bytes, int n)
{
    int64_t all = 16;
    for (int i = 0; i < n; i++) all |= bytes[i];
    return (int)(all & -all);
}
