/* cpu_sample.c - time embedding and the steps around the network in a sampling loop. */
#include "backend/cpu/cpu_backend.h"
#include "sampler_next.h"
#include "time_embed.h"
#include "to_u8.h"

static ddpm_status time_embed_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const tensor *y = s->out[EMBED_Y];
    const time_embed_args a = {.t = s->in[EMBED_T]->data,
                               .freq = s->in[EMBED_FREQ]->data,
                               .y = y->data,
                               .n = (int)y->n,
                               .dim = (int)y->c,
                               .flip_sin_to_cos = s->a.embed.flip_sin_to_cos};
    for (int b = 0; b < a.n; b++)
        for (int i = 0; i < a.dim / 2; i++) time_embed_pair(&a, b, i);
    return DDPM_OK;
}

static ddpm_status sampler_next_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    sampler_next_one(&(sampler_next_args){.rows = s->in[SAMPLER_ROWS]->data,
                                          .state = s->out[SAMPLER_NEXT_STATE]->data,
                                          .t = s->out[SAMPLER_NEXT_T]->data,
                                          .n = (int)s->out[SAMPLER_NEXT_T]->n});
    return DDPM_OK;
}

static ddpm_status sampler_step_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const tensor *x = s->out[SAMPLER_STEP_X];
    const sampler_step_args a = {.x = x->data,
                                 .model = s->in[SAMPLER_STEP_MODEL]->data,
                                 .x0_prev = cpu_data(s->out[SAMPLER_STEP_X0_PREV]),
                                 .x_saved = cpu_data(s->out[SAMPLER_STEP_X_SAVED]),
                                 .rows = s->in[SAMPLER_STEP_ROWS]->data,
                                 .state = s->in[SAMPLER_STEP_STATE]->data,
                                 .ids = s->in[SAMPLER_STEP_IDS]->data,
                                 .n = (int)x->n,
                                 .d = (int)(tensor_hw(x) * x->c)};
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.n; b++) sampler_step_one(&a, b);
    return DDPM_OK;
}

static ddpm_status to_u8_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const float *x = s->in[POINT_X]->data;
    uint8_t *y = s->out[POINT_Y]->data;
    const int64_t count = tensor_count(s->in[POINT_X]);
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) y[i] = to_u8(x[i]);
    return DDPM_OK;
}

const cpu_op cpu_time_embed = {NULL, time_embed_run, NULL};
const cpu_op cpu_sampler_next = {NULL, sampler_next_run, NULL};
const cpu_op cpu_sampler_step = {NULL, sampler_step_run, NULL};
const cpu_op cpu_to_u8 = {NULL, to_u8_run, NULL};
