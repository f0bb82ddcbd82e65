/* cuda_pointwise.c - element-wise ops, the time embedding and the steps of the sampling loop. */
#include "backend/cuda/cuda_op.h"
#include "backend/step_args.h"
#include "pointwise.h"
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
    pointwise_args a = unary(POINT_KIND_RELU_BWD, s); /* dy is in the position of x */
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

static ddpm_status time_embed_run(cuda_backend *be, const step *s, err *e)
{
    const time_embed_args a = step_time_embed(s);
    return rt_launched(k_time_embed(be->stream, &a), e);
}

static ddpm_status class_embed_run(cuda_backend *be, const step *s, err *e)
{
    const class_embed_args a = step_class_embed(s);
    return rt_launched(k_class_embed(be->stream, &a), e);
}

static ddpm_status class_embed_bwd_run(cuda_backend *be, const step *s, err *e)
{
    const class_embed_bwd_args a = step_class_embed_bwd(s);
    return rt_launched(k_class_embed_bwd(be->stream, &a), e);
}

static ddpm_status sampler_init_run(cuda_backend *be, const step *s, err *e)
{
    const sampler_init_args a = step_sampler_init(s);
    return rt_launched(k_sampler_init(be->stream, &a), e);
}

static ddpm_status sampler_next_run(cuda_backend *be, const step *s, err *e)
{
    const sampler_next_args a = step_sampler_next(s);
    return rt_launched(k_sampler_next(be->stream, &a), e);
}

static ddpm_status sampler_rescale_run(cuda_backend *be, const step *s, err *e)
{
    const sampler_rescale_args a = step_sampler_rescale(s);
    return rt_launched(k_sampler_rescale(be->stream, &a), e);
}

static ddpm_status sampler_limit_run(cuda_backend *be, const step *s, err *e)
{
    const sampler_limit_args a = step_sampler_limit(s);
    return rt_launched(k_sampler_limit(be->stream, &a), e);
}

static ddpm_status sampler_step_run(cuda_backend *be, const step *s, err *e)
{
    const sampler_step_args a = step_sampler_step(s);
    return rt_launched(k_sampler_step(be->stream, &a), e);
}

static ddpm_status to_u8_run(cuda_backend *be, const step *s, err *e)
{
    const to_u8_args a = {.x = s->in[POINT_X]->data, .y = s->out[POINT_Y]->data, .count = tensor_count(s->in[POINT_X])};
    return rt_launched(k_to_u8(be->stream, &a), e);
}

const cuda_op cuda_relu = {.run = relu_run};
const cuda_op cuda_relu_bwd = {.run = relu_bwd_run};
const cuda_op cuda_affine = {.run = affine_run};
const cuda_op cuda_copy = {.run = copy_run};
const cuda_op cuda_time_embed = {.run = time_embed_run};
const cuda_op cuda_class_embed = {.run = class_embed_run};
const cuda_op cuda_class_embed_bwd = {.run = class_embed_bwd_run};
const cuda_op cuda_sampler_init = {.run = sampler_init_run};
const cuda_op cuda_sampler_next = {.run = sampler_next_run};
const cuda_op cuda_sampler_rescale = {.run = sampler_rescale_run};
const cuda_op cuda_sampler_limit = {.run = sampler_limit_run};
const cuda_op cuda_sampler_step = {.run = sampler_step_run};
const cuda_op cuda_to_u8 = {.run = to_u8_run};
