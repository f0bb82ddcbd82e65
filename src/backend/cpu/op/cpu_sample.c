/* cpu_sample.c - the embeddings of time and class, and the steps around the network in a sampling loop. */
#include "backend/cpu/cpu_backend.h"
#include "backend/step_args.h"
#include "to_u8.h"

static ddpm_status time_embed_run(cpu_backend *be, const step *s, err *e)
{
    const time_embed_args a = step_time_embed(s);
    for (int b = 0; b < a.n; b++)
        for (int i = 0; i < a.dim / 2; i++) time_embed_pair(&a, b, i);
    return DDPM_OK;
}

static ddpm_status class_embed_run(cpu_backend *be, const step *s, err *e)
{
    const class_embed_args a = step_class_embed(s);
    for (int b = 0; b < a.n; b++)
        for (int q = 0; q < quads_of(a.width); q++) class_embed_quad(&a, b, q, STORE_F32);
    return DDPM_OK;
}

/* A thread takes whole cache lines of columns. */
static ddpm_status class_embed_bwd_run(cpu_backend *be, const step *s, err *e)
{
    enum { COLUMNS = 16 };
    const class_embed_bwd_args a = step_class_embed_bwd(s);
#pragma omp parallel for schedule(static)
    for (int first = 0; first < a.width; first += COLUMNS) {
        const int end = first + COLUMNS < a.width ? first + COLUMNS : a.width;
        for (int column = first; column < end; column++) class_embed_clear(&a, column);
        for (int b = 0; b < a.n; b++)
            for (int column = first; column < end; column++) class_embed_bwd_one(&a, b, column);
    }
    return DDPM_OK;
}

static ddpm_status sampler_init_run(cpu_backend *be, const step *s, err *e)
{
    const sampler_init_args a = step_sampler_init(s);
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.n; b++) sampler_init_one(&a, b);
    return DDPM_OK;
}

static ddpm_status sampler_next_run(cpu_backend *be, const step *s, err *e)
{
    const sampler_next_args a = step_sampler_next(s);
    sampler_next_one(&a);
    return DDPM_OK;
}

static ddpm_status sampler_rescale_run(cpu_backend *be, const step *s, err *e)
{
    const sampler_rescale_args a = step_sampler_rescale(s);
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.model.n; b++) sampler_rescale_one(&a, b);
    return DDPM_OK;
}

static ddpm_status sampler_limit_run(cpu_backend *be, const step *s, err *e)
{
    const sampler_limit_args a = step_sampler_limit(s);
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.model.n; b++) sampler_limit_one(&a, b);
    return DDPM_OK;
}

static ddpm_status sampler_step_run(cpu_backend *be, const step *s, err *e)
{
    const sampler_step_args a = step_sampler_step(s);
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.model.n; b++) sampler_step_one(&a, b);
    return DDPM_OK;
}

static ddpm_status to_u8_run(cpu_backend *be, const step *s, err *e)
{
    const float *x = s->in[POINT_X]->data;
    uint8_t *y = s->out[POINT_Y]->data;
    const int64_t count = tensor_count(s->in[POINT_X]);
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) y[i] = to_u8(x[i]);
    return DDPM_OK;
}

const cpu_op cpu_time_embed = {NULL, time_embed_run, NULL};
const cpu_op cpu_class_embed = {NULL, class_embed_run, NULL};
const cpu_op cpu_class_embed_bwd = {NULL, class_embed_bwd_run, NULL};
const cpu_op cpu_sampler_init = {NULL, sampler_init_run, NULL};
const cpu_op cpu_sampler_next = {NULL, sampler_next_run, NULL};
const cpu_op cpu_sampler_rescale = {NULL, sampler_rescale_run, NULL};
const cpu_op cpu_sampler_limit = {NULL, sampler_limit_run, NULL};
const cpu_op cpu_sampler_step = {NULL, sampler_step_run, NULL};
const cpu_op cpu_to_u8 = {NULL, to_u8_run, NULL};
