/* cpu_linear.c - matrix products of the time embedding. */
#include "backend/cpu/cpu_backend.h"
#include "math/elementary.h"

static ddpm_status linear_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const tensor *x = s->in[LINEAR_X], *w = s->in[LINEAR_W], *y = s->out[LINEAR_Y], *pre = s->out[LINEAR_PRE];
    cpu_fill_rows(y->data, y->n, y->c, s->in[LINEAR_BIAS]->data, NULL);
    TRY(dnn_gemm(&(dnn_gemm_args){.transpose_b = true,
                                  .m = y->n,
                                  .n = y->c,
                                  .k = x->c,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = x->data,
                                  .b = w->data,
                                  .c = y->data,
                                  .lda = x->c,
                                  .ldb = w->c,
                                  .ldc = y->c},
                 e));
    if (!s->a.linear.silu) return DDPM_OK;
    float *to = y->data, *keep = cpu_data(pre);
    const int64_t count = tensor_count(y);
    for (int64_t i = 0; i < count; i++) {
        const float z = to[i];
        if (keep) keep[i] = z;
        to[i] = z / (1.0f + exp_f32(-z));
    }
    return DDPM_OK;
}

static ddpm_status linear_bwd_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    (void)be, (void)e;
    *scratch = s->a.linear.silu ? (size_t)tensor_count(s->in[LINEAR_BWD_DY]) * sizeof(float) : 0;
    return DDPM_OK;
}

static ddpm_status linear_bwd_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const tensor *x = s->in[LINEAR_BWD_X], *w = s->in[LINEAR_BWD_W], *dx = s->out[LINEAR_BWD_DX];
    const int64_t n = x->n, cout = w->n, cin = w->c;
    const float *dy = s->in[LINEAR_BWD_DY]->data;
    if (s->a.linear.silu) {
        const float *pre = s->in[LINEAR_BWD_PRE]->data;
        float *dz = s->scratch->data;
        for (int64_t i = 0; i < n * cout; i++) {
            const float sig = 1.0f / (1.0f + exp_f32(-pre[i]));
            dz[i] = dy[i] * sig * (1 + pre[i] * (1 - sig));
        }
        dy = dz;
    }
    cpu_column_sums(dy, n, cout, step_adds(s, LINEAR_BWD_DBIAS), s->out[LINEAR_BWD_DBIAS]->data);
    dnn_gemm_args g = {.transpose_a = true,
                       .m = cout,
                       .n = cin,
                       .k = n,
                       .alpha = 1,
                       .beta = step_adds(s, LINEAR_BWD_DW) ? 1 : 0,
                       .a = dy,
                       .b = x->data,
                       .c = s->out[LINEAR_BWD_DW]->data,
                       .lda = cout,
                       .ldb = cin,
                       .ldc = cin};
    TRY(dnn_gemm(&g, e));
    if (!dx) return DDPM_OK;
    g = (dnn_gemm_args){.m = n,
                        .n = cin,
                        .k = cout,
                        .alpha = 1,
                        .beta = step_adds(s, LINEAR_BWD_DX) ? 1 : 0,
                        .a = dy,
                        .b = w->data,
                        .c = dx->data,
                        .lda = cout,
                        .ldb = cin,
                        .ldc = cin};
    return dnn_gemm(&g, e);
}

const cpu_op cpu_linear = {NULL, linear_run, NULL};
const cpu_op cpu_linear_bwd = {linear_bwd_prepare, linear_bwd_run, NULL};
