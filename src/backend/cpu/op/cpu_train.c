/* cpu_train.c - beginning and end of a training step: noising, loss, state, update.
 *
 * The formulas are in kernels/; this file distributes the work over threads. */
#include "backend/cpu/cpu_backend.h"
#include "backend/step_args.h"

static ddpm_status importance_run(cpu_backend *be, const step *s, err *e)
{
    const importance_args a = step_importance(s);
    importance_one(&a);
    return DDPM_OK;
}

static ddpm_status draw_run(cpu_backend *be, const step *s, err *e)
{
    const draw_args a = step_draw(s);
    for (int b = 0; b < a.n; b++) draw_one(&a, b);
    return DDPM_OK;
}

static ddpm_status q_sample_run(cpu_backend *be, const step *s, err *e)
{
    const q_sample_args a = step_q_sample(s);
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.n; b++) q_sample_one(&a, b);
    return DDPM_OK;
}

static ddpm_status loss_run(cpu_backend *be, const step *s, err *e)
{
    const loss_args a = step_loss(s);
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.n; b++) loss_one(&a, b);
    return DDPM_OK;
}

static ddpm_status bound_run(cpu_backend *be, const step *s, err *e)
{
    const bound_args a = step_bound(s);
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.n; b++) bound_one(&a, b);
    return DDPM_OK;
}

static ddpm_status tally_run(cpu_backend *be, const step *s, err *e)
{
    const tally_args a = step_tally(s);
    tally_one(&a);
    return DDPM_OK;
}

static ddpm_status grad_norm_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    *scratch = (size_t)reduce_chunks(tensor_count(s->in[UPDATE_G])) * sizeof(double);
    return DDPM_OK;
}

static ddpm_status grad_norm_run(cpu_backend *be, const step *s, err *e)
{
    grad_norm_args a = step_grad_norm(s);
    a.partial = s->scratch->data;
    const int64_t chunks = reduce_chunks(a.count);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < chunks; i++) grad_norm_chunk(&a, i);
    grad_norm_finish(&a);
    return DDPM_OK;
}

static ddpm_status adamw_run(cpu_backend *be, const step *s, err *e)
{
    enum { CHUNK = 16384 };
    adamw_more more;
    const adamw_args a = step_adamw(s, &more);
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < a.count; from += CHUNK)
        adamw_range(&a, from, from + CHUNK < a.count ? from + CHUNK : a.count);
    if (s->out[UPDATE_W]->version) ++*s->out[UPDATE_W]->version;
    return DDPM_OK;
}

static ddpm_status remember_run(cpu_backend *be, const step *s, err *e)
{
    const remember_args a = step_remember(s);
    remember_lane(&a, 0, 1);
    return DDPM_OK;
}

const cpu_op cpu_importance = {NULL, importance_run, NULL};
const cpu_op cpu_remember = {NULL, remember_run, NULL};
const cpu_op cpu_draw = {NULL, draw_run, NULL};
const cpu_op cpu_q_sample = {NULL, q_sample_run, NULL};
const cpu_op cpu_loss = {NULL, loss_run, NULL};
const cpu_op cpu_bound = {NULL, bound_run, NULL};
const cpu_op cpu_tally = {NULL, tally_run, NULL};
const cpu_op cpu_grad_norm = {grad_norm_prepare, grad_norm_run, NULL};
const cpu_op cpu_adamw = {NULL, adamw_run, NULL};
