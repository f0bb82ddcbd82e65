/* cpu_linear.c - linear layers and the time embedding's MLP. */
#include "backend/cpu/cpu_backend.h"
#include "pointwise.h"
#include "time_embed.h"

typedef struct layer {
    const float *x; /* [n, cin] */
    const tensor *w, *bias;
    float *y;   /* [n, cout] */
    float *pre; /* input of SiLU; NULL: not needed */
    int64_t n;
    bool silu;
} layer;

static ddpm_status run_layer(const layer *l, err *e)
{
    const int64_t cin = l->w->c, cout = l->w->n;
    cpu_fill_rows(l->y, l->n, cout, l->bias->data, NULL);
    TRY(onednn_gemm(&(onednn_gemm_args){.transpose_b = true,
                                        .m = l->n,
                                        .n = cout,
                                        .k = cin,
                                        .alpha = 1,
                                        .beta = 1,
                                        .a = l->x,
                                        .b = l->w->data,
                                        .c = l->y,
                                        .lda = cin,
                                        .ldb = cin,
                                        .ldc = cout},
                    e));
    if (!l->silu) return DDPM_OK;
    for (int64_t i = 0; i < l->n * cout; i++) {
        const float z = l->y[i];
        if (l->pre) l->pre[i] = z;
        l->y[i] = silu(z);
    }
    return DDPM_OK;
}

static ddpm_status linear_run(cpu_backend *be, const step *s, err *e)
{
    return run_layer(&(layer){.x = s->in[LINEAR_X]->data,
                              .w = s->in[LINEAR_W],
                              .bias = s->in[LINEAR_BIAS],
                              .y = s->out[LINEAR_Y]->data,
                              .pre = cpu_data(s->out[LINEAR_PRE]),
                              .n = s->in[LINEAR_X]->n,
                              .silu = s->a.linear.silu},
                     e);
}

static void embed(const step *s, float *h0)
{
    const time_embed_args a = {.t = s->in[TIME_MLP_T]->data,
                               .freq = s->in[TIME_MLP_FREQ]->data,
                               .y = h0,
                               .n = (int)s->in[TIME_MLP_T]->n,
                               .dim = (int)s->in[TIME_MLP_W1]->c,
                               .flip_sin_to_cos = s->a.embed.flip_sin_to_cos};
    for (int b = 0; b < a.n; b++)
        for (int i = 0; i < a.dim / 2; i++) time_embed_pair(&a, b, i);
}

/* Workspace for h0 and h1, if the plan does not keep them for a backward pass. */
static ddpm_status time_mlp_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *y = s->out[TIME_MLP_Y];
    *scratch = s->out[TIME_MLP_H0] ? 0 : (size_t)(y->n * (s->in[TIME_MLP_W1]->c + y->c)) * sizeof(float);
    return DDPM_OK;
}

static ddpm_status time_mlp_run(cpu_backend *be, const step *s, err *e)
{
    const tensor *y = s->out[TIME_MLP_Y], *w1 = s->in[TIME_MLP_W1], *kept = s->out[TIME_MLP_H0];
    float *h0 = kept ? kept->data : s->scratch->data;
    float *h1 = kept ? s->out[TIME_MLP_H1]->data : h0 + y->n * w1->c;
    embed(s, h0);
    layer l = {.x = h0,
               .w = w1,
               .bias = s->in[TIME_MLP_B1],
               .y = h1,
               .pre = cpu_data(s->out[TIME_MLP_PRE1]),
               .n = y->n,
               .silu = true};
    TRY(run_layer(&l, e));
    l.x = h1, l.w = s->in[TIME_MLP_W2], l.bias = s->in[TIME_MLP_B2];
    l.y = y->data, l.pre = cpu_data(s->out[TIME_MLP_PRE2]);
    return run_layer(&l, e);
}

static ddpm_status linear_bwd_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    *scratch = s->a.linear.silu ? (size_t)tensor_count(s->in[LINEAR_BWD_DY]) * sizeof(float) : 0;
    return DDPM_OK;
}

static ddpm_status linear_bwd_run(cpu_backend *be, const step *s, err *e)
{
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
    onednn_gemm_args g = {.transpose_a = true,
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
    TRY(onednn_gemm(&g, e));
    if (!dx) return DDPM_OK;
    g = (onednn_gemm_args){.m = n,
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
    return onednn_gemm(&g, e);
}

const cpu_op cpu_time_mlp = {time_mlp_prepare, time_mlp_run, NULL};
const cpu_op cpu_linear = {NULL, linear_run, NULL};
const cpu_op cpu_linear_bwd = {linear_bwd_prepare, linear_bwd_run, NULL};
