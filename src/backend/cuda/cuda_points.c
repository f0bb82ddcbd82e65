/* cuda_points.c - ops that treat every value alone, the time embedding and the sampling loop's steps. */
#include "backend/cuda/cuda_backend.h"
#include "dropout.h"
#include "pointwise.h"
#include "sampler_next.h"
#include "time_embed.h"
#include "to_u8.h"

static pointwise_args unary(pointwise_kind kind, const step *s)
{
    const tensor *x = s->in[POINT_X], *y = s->out[POINT_Y];
    return (pointwise_args){.kind = kind,
                            .x = x->data,
                            .y = y->data,
                            .x_type = cuda_storage(x),
                            .y_type = cuda_storage(y),
                            .count = tensor_count(y),
                            .accumulate = step_adds(s, POINT_Y)};
}

static ddpm_status relu_run(cuda_backend *be, const step *s, err *e)
{
    const pointwise_args a = unary(POINT_KIND_RELU, s);
    return rt_launched(k_pointwise(be->stream, &a), e);
}

static ddpm_status relu_bwd_run(cuda_backend *be, const step *s, err *e)
{
    pointwise_args a = unary(POINT_KIND_RELU_BWD, s); /* dy stands where x does */
    a.other = s->in[RELU_BWD_Y]->data;
    a.other_type = cuda_storage(s->in[RELU_BWD_Y]);
    return rt_launched(k_pointwise(be->stream, &a), e);
}

static ddpm_status affine_run(cuda_backend *be, const step *s, err *e)
{
    pointwise_args a = unary(POINT_KIND_AFFINE, s);
    a.scale = s->a.affine.scale, a.shift = s->a.affine.shift;
    return rt_launched(k_pointwise(be->stream, &a), e);
}

static ddpm_status copy_run(cuda_backend *be, const step *s, err *e)
{
    const pointwise_args a = unary(POINT_KIND_COPY, s);
    return rt_launched(k_pointwise(be->stream, &a), e);
}

static ddpm_status dropout_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *x = s->in[POINT_X];
    const dropout_args a = {.x = x->data,
                            .y = s->out[POINT_Y]->data,
                            .type = cuda_storage(x),
                            .state = s->in[POINT_STATE]->data,
                            .n = (int)x->n,
                            .d = (int)(tensor_hw(x) * x->c),
                            .p = s->a.dropout.p,
                            .layer = s->a.dropout.layer,
                            .accumulate = step_adds(s, POINT_Y)};
    return rt_launched(k_dropout(be->stream, &a), e);
}

static ddpm_status time_embed_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *y = s->out[EMBED_Y];
    const time_embed_args a = {.t = s->in[EMBED_T]->data,
                               .freq = s->in[EMBED_FREQ]->data,
                               .y = y->data,
                               .y_type = cuda_storage(y),
                               .n = (int)y->n,
                               .dim = (int)y->c,
                               .flip_sin_to_cos = s->a.embed.flip_sin_to_cos};
    return rt_launched(k_time_embed(be->stream, &a), e);
}

static ddpm_status sampler_next_run(cuda_backend *be, const step *s, err *e)
{
    const sampler_next_args a = {.rows = s->in[SAMPLER_ROWS]->data,
                                 .state = s->out[SAMPLER_NEXT_STATE]->data,
                                 .t = s->out[SAMPLER_NEXT_T]->data,
                                 .n = (int)s->out[SAMPLER_NEXT_T]->n};
    return rt_launched(k_sampler_next(be->stream, &a), e);
}

static ddpm_status sampler_step_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *x = s->out[SAMPLER_STEP_X], *model = s->in[SAMPLER_STEP_MODEL];
    const sampler_step_args a = {.x = x->data,
                                 .model = model->data,
                                 .model_type = cuda_storage(model),
                                 .x0_prev = cuda_data(s->out[SAMPLER_STEP_X0_PREV]),
                                 .x_saved = cuda_data(s->out[SAMPLER_STEP_X_SAVED]),
                                 .rows = s->in[SAMPLER_STEP_ROWS]->data,
                                 .state = s->in[SAMPLER_STEP_STATE]->data,
                                 .ids = s->in[SAMPLER_STEP_IDS]->data,
                                 .n = (int)x->n,
                                 .d = (int)(tensor_hw(x) * x->c)};
    return rt_launched(k_sampler_step(be->stream, &a), e);
}

static ddpm_status to_u8_run(cuda_backend *be, const step *s, err *e)
{
    const to_u8_args a = {.x = s->in[POINT_X]->data, .y = s->out[POINT_Y]->data, .count = tensor_count(s->in[POINT_X])};
    return rt_launched(k_to_u8(be->stream, &a), e);
}

const cuda_op cuda_relu = {NULL, relu_run, NULL};
const cuda_op cuda_relu_bwd = {NULL, relu_bwd_run, NULL};
const cuda_op cuda_affine = {NULL, affine_run, NULL};
const cuda_op cuda_copy = {NULL, copy_run, NULL};
const cuda_op cuda_dropout = {NULL, dropout_run, NULL};
const cuda_op cuda_time_embed = {NULL, time_embed_run, NULL};
const cuda_op cuda_sampler_next = {NULL, sampler_next_run, NULL};
const cuda_op cuda_sampler_step = {NULL, sampler_step_run, NULL};
const cuda_op cuda_to_u8 = {NULL, to_u8_run, NULL};
