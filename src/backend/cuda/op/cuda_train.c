/* cuda_train.c - the parts of a training step around the network: noising, loss, bookkeeping, update. */
#include "backend/cuda/cuda_op.h"
#include "backend/step_args.h"

static ddpm_status importance_run(cuda_backend *be, const step *s, err *e)
{
    const importance_args a = step_importance(s);
    return rt_launched(k_importance(be->stream, &a), e);
}

static ddpm_status draw_run(cuda_backend *be, const step *s, err *e)
{
    const draw_args a = step_draw(s);
    return rt_launched(k_draw(be->stream, &a), e);
}

static ddpm_status q_sample_run(cuda_backend *be, const step *s, err *e)
{
    const q_sample_args a = step_q_sample(s);
    return rt_launched(k_q_sample(be->stream, &a), e);
}

static ddpm_status loss_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *pred = s->in[LOSS_PRED];
    const int c = (int)s->in[LOSS_IMAGES]->c;
    *scratch = (size_t)(pred->n * loss_chunks((int)pred->h, (int)pred->w, c)) * LOSS_SUMS * sizeof(double);
    return DDPM_OK;
}

static ddpm_status loss_run(cuda_backend *be, const step *s, err *e)
{
    loss_args a = step_loss(s);
    a.partial = cuda_scratch(s, 0);
    return rt_launched(k_loss(be->stream, &a), e);
}

static ddpm_status bound_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const tensor *images = s->in[BOUND_IMAGES];
    const int chunks = loss_chunks((int)images->h, (int)images->w, (int)images->c);
    *scratch = (size_t)(s->in[BOUND_PRED]->n * chunks) * BOUND_SUMS * sizeof(double);
    return DDPM_OK;
}

static ddpm_status bound_run(cuda_backend *be, const step *s, err *e)
{
    bound_args a = step_bound(s);
    a.partial = cuda_scratch(s, 0);
    return rt_launched(k_bound(be->stream, &a), e);
}

static ddpm_status tally_run(cuda_backend *be, const step *s, err *e)
{
    const tally_args a = step_tally(s);
    return rt_launched(k_tally(be->stream, &a), e);
}

static ddpm_status grad_norm_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    *scratch = (size_t)reduce_chunks(tensor_count(s->in[UPDATE_G])) * sizeof(double);
    return DDPM_OK;
}

static ddpm_status grad_norm_run(cuda_backend *be, const step *s, err *e)
{
    grad_norm_args a = step_grad_norm(s);
    a.partial = cuda_scratch(s, 0);
    return rt_launched(k_grad_norm(be->stream, &a), e);
}

static ddpm_status adamw_run(cuda_backend *be, const step *s, err *e)
{
    adamw_more more;
    adamw_args a = step_adamw(s, &more);
    a.low_type = be->base.act == DTYPE_BF16 ? STORE_BF16 : STORE_F32;
    return rt_launched(k_adamw(be->stream, &a), e);
}

static ddpm_status remember_run(cuda_backend *be, const step *s, err *e)
{
    const remember_args a = step_remember(s);
    return rt_launched(k_remember(be->stream, &a), e);
}

const cuda_op cuda_importance = {.run = importance_run};
const cuda_op cuda_remember = {.run = remember_run};
const cuda_op cuda_draw = {.run = draw_run};
const cuda_op cuda_q_sample = {.run = q_sample_run};
const cuda_op cuda_loss = {.prepare = loss_prepare, .run = loss_run};
const cuda_op cuda_bound = {.prepare = bound_prepare, .run = bound_run};
const cuda_op cuda_tally = {.run = tally_run};
const cuda_op cuda_grad_norm = {.prepare = grad_norm_prepare, .run = grad_norm_run};
const cuda_op cuda_adamw = {.run = adamw_run};
