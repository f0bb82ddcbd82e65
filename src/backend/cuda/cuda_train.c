/* cuda_train.c - the ends of a training step: noising, loss, bookkeeping, update. */
#include "adamw.h"
#include "backend/cuda/cuda_backend.h"
#include "grad_norm.h"
#include "mse.h"
#include "q_sample.h"
#include "tally.h"

static ddpm_status q_sample_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *xt = s->out[Q_SAMPLE_XT];
    const q_sample_args a = {.images = s->in[Q_SAMPLE_IMAGES]->data,
                             .index = cuda_data(s->in[Q_SAMPLE_INDEX]),
                             .table = s->in[Q_SAMPLE_TABLE]->data,
                             .state = s->in[Q_SAMPLE_STATE]->data,
                             .xt = xt->data,
                             .xt_type = cuda_storage(xt),
                             .t = s->out[Q_SAMPLE_T]->data,
                             .n = (int)xt->n,
                             .h = (int)xt->h,
                             .w = (int)xt->w,
                             .c = (int)xt->c,
                             .T = s->a.noise.timesteps,
                             .flip = s->a.noise.flip};
    return rt_launched(k_q_sample(be->stream, &a), e);
}

static ddpm_status mse_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    (void)be, (void)e;
    const tensor *pred = s->in[MSE_PRED];
    *scratch = (size_t)(pred->n * mse_chunks((int)pred->h, (int)pred->w, (int)pred->c)) * sizeof(double);
    return DDPM_OK;
}

static ddpm_status mse_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *pred = s->in[MSE_PRED];
    const mse_args a = {.pred = pred->data,
                        .pred_type = cuda_storage(pred),
                        .images = s->in[MSE_IMAGES]->data,
                        .index = cuda_data(s->in[MSE_INDEX]),
                        .t = s->in[MSE_T]->data,
                        .table = s->in[MSE_TABLE]->data,
                        .state = s->in[MSE_STATE]->data,
                        .loss = s->out[MSE_LOSS]->data,
                        .dpred = cuda_data(s->out[MSE_DPRED]),
                        .partial = cuda_scratch(s, 0),
                        .n = (int)pred->n,
                        .h = (int)pred->h,
                        .w = (int)pred->w,
                        .c = (int)pred->c,
                        .flip = s->a.mse.flip,
                        .grad_scale = s->a.mse.grad_scale};
    return rt_launched(k_mse(be->stream, &a), e);
}

static ddpm_status tally_run(cuda_backend *be, const step *s, err *e)
{
    const int n = (int)s->in[TALLY_LOSS]->n;
    const tally_args a = {.loss = s->in[TALLY_LOSS]->data,
                          .state = s->out[TALLY_STATE_OUT]->data,
                          .n = n,
                          .scale = s->a.tally.scale,
                          .advance = (uint64_t)n};
    return rt_launched(k_tally(be->stream, &a), e);
}

static ddpm_status grad_norm_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    (void)be, (void)e;
    *scratch = (size_t)reduce_chunks(tensor_count(s->in[UPDATE_G])) * sizeof(double);
    return DDPM_OK;
}

static ddpm_status grad_norm_run(cuda_backend *be, const step *s, err *e)
{
    const grad_norm_args a = {.g = s->in[UPDATE_G]->data,
                              .partial = cuda_scratch(s, 0),
                              .state = s->in[UPDATE_STATE]->data,
                              .history = cuda_data(s->out[UPDATE_HISTORY]),
                              .count = tensor_count(s->in[UPDATE_G]),
                              .update = {.lr = s->a.update.lr,
                                         .beta1 = s->a.update.beta1,
                                         .beta2 = s->a.update.beta2,
                                         .max_grad_norm = s->a.update.max_grad_norm,
                                         .ema_decay = s->a.update.ema_decay,
                                         .warmup_steps = s->a.update.warmup_steps,
                                         .total_steps = s->a.update.total_steps,
                                         .schedule = s->a.update.schedule,
                                         .ema_warmup = s->a.update.ema_warmup}};
    return rt_launched(k_grad_norm(be->stream, &a), e);
}

static ddpm_status adamw_prepare_folds(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    (void)be, (void)scratch;
    const param_folds *folds = s->a.update.folds;
    if (!folds || folds->n <= ADAMW_FOLDS) return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "%d upsampling convolutions, and at most %d get their filters folded with the update: "
                   "cuda.without=upconv folds none",
                   folds->n, ADAMW_FOLDS);
}

static ddpm_status adamw_run(cuda_backend *be, const step *s, err *e)
{
    const param_folds *folds = s->out[UPDATE_FOLD] ? s->a.update.folds : NULL;
    adamw_args a = {.w = s->out[UPDATE_W]->data,
                    .g = s->in[UPDATE_G]->data,
                    .m = s->out[UPDATE_M]->data,
                    .v = s->out[UPDATE_V]->data,
                    .ema = cuda_data(s->out[UPDATE_EMA]),
                    .low = cuda_data(s->out[UPDATE_LOW]),
                    .low_type = be->base.act == DTYPE_BF16 ? STORE_BF16 : STORE_F32,
                    .folded = cuda_data(s->out[UPDATE_FOLD]),
                    .state = s->in[UPDATE_STATE]->data,
                    .count = tensor_count(s->in[UPDATE_G]),
                    .beta1 = s->a.update.beta1,
                    .beta2 = s->a.update.beta2,
                    .eps = s->a.update.eps,
                    .weight_decay = s->a.update.weight_decay,
                    .zero_grad = s->a.update.zero_grad};
    for (; folds && a.folds < folds->n; a.folds++) {
        const param_fold *f = &folds->list[a.folds];
        a.fold[a.folds] = (adamw_fold){.w = (int64_t)f->weight, .k = (int64_t)f->fold, .cout = f->cout, .cin = f->cin};
    }
    return rt_launched(k_adamw(be->stream, &a), e);
}

const cuda_op cuda_q_sample = {NULL, q_sample_run, NULL};
const cuda_op cuda_mse = {mse_prepare, mse_run, NULL};
const cuda_op cuda_tally = {NULL, tally_run, NULL};
const cuda_op cuda_grad_norm = {grad_norm_prepare, grad_norm_run, NULL};
const cuda_op cuda_adamw = {adamw_prepare_folds, adamw_run, NULL};
