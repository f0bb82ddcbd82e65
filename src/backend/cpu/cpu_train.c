/* cpu_train.c - the ends of a training step: noising, loss, bookkeeping, update, dropout.
 * The formulas are those of kernels/; here is only how they are spread over threads. */
#include "adamw.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_layout.h"
#include "dropout.h"
#include "grad_norm.h"
#include "mse.h"
#include "q_sample.h"
#include "tally.h"

static const int64_t *index_of(const tensor *t) { return t ? t->data : NULL; }

static ddpm_status q_sample_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const tensor *x = s->in[Q_SAMPLE_IMAGES];
    const q_sample_args a = {.images = x->data,
                             .table = s->in[Q_SAMPLE_TABLE]->data,
                             .state = s->in[Q_SAMPLE_STATE]->data,
                             .xt = s->out[Q_SAMPLE_XT]->data,
                             .t = s->out[Q_SAMPLE_T]->data,
                             .n = (int)s->out[Q_SAMPLE_XT]->n,
                             .h = (int)x->h,
                             .w = (int)x->w,
                             .c = (int)x->c,
                             .T = s->a.noise.timesteps,
                             .flip = s->a.noise.flip,
                             .index = index_of(s->in[Q_SAMPLE_INDEX])};
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.n; b++) q_sample_one(&a, b);
    return DDPM_OK;
}

static ddpm_status mse_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const tensor *x = s->in[MSE_IMAGES];
    const mse_args a = {.pred = s->in[MSE_PRED]->data,
                        .images = x->data,
                        .t = s->in[MSE_T]->data,
                        .table = s->in[MSE_TABLE]->data,
                        .state = s->in[MSE_STATE]->data,
                        .loss = s->out[MSE_LOSS]->data,
                        .dpred = cpu_data(s->out[MSE_DPRED]),
                        .n = (int)s->in[MSE_PRED]->n,
                        .h = (int)x->h,
                        .w = (int)x->w,
                        .c = (int)x->c,
                        .flip = s->a.mse.flip,
                        .grad_scale = s->a.mse.grad_scale,
                        .index = index_of(s->in[MSE_INDEX])};
#pragma omp parallel for schedule(static)
    for (int b = 0; b < a.n; b++) mse_one(&a, b);
    return DDPM_OK;
}

static ddpm_status tally_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const int n = (int)s->in[TALLY_LOSS]->n;
    tally_one(&(tally_args){.loss = s->in[TALLY_LOSS]->data,
                            .state = s->out[TALLY_STATE_OUT]->data,
                            .n = n,
                            .scale = s->a.tally.scale,
                            .advance = (uint64_t)n});
    return DDPM_OK;
}

static update_args update_of(const step *s)
{
    return (update_args){.lr = s->a.update.lr,
                         .beta1 = s->a.update.beta1,
                         .beta2 = s->a.update.beta2,
                         .max_grad_norm = s->a.update.max_grad_norm,
                         .ema_decay = s->a.update.ema_decay,
                         .warmup_steps = s->a.update.warmup_steps,
                         .total_steps = s->a.update.total_steps,
                         .schedule = s->a.update.schedule,
                         .ema_warmup = s->a.update.ema_warmup};
}

static ddpm_status grad_norm_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    (void)be, (void)e;
    *scratch = (size_t)reduce_chunks(tensor_count(s->in[UPDATE_G])) * sizeof(double);
    return DDPM_OK;
}

static ddpm_status grad_norm_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const grad_norm_args a = {.g = s->in[UPDATE_G]->data,
                              .partial = s->scratch->data,
                              .state = s->in[UPDATE_STATE]->data,
                              .history = s->out[UPDATE_HISTORY] ? s->out[UPDATE_HISTORY]->data : NULL,
                              .count = tensor_count(s->in[UPDATE_G]),
                              .update = update_of(s)};
    const int64_t chunks = reduce_chunks(a.count);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < chunks; i++) grad_norm_chunk(&a, i);
    grad_norm_finish(&a);
    return DDPM_OK;
}

static ddpm_status adamw_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    enum { CHUNK = 16384 };
    const adamw_args a = {.w = s->out[UPDATE_W]->data,
                          .g = s->in[UPDATE_G]->data,
                          .m = s->out[UPDATE_M]->data,
                          .v = s->out[UPDATE_V]->data,
                          .ema = cpu_data(s->out[UPDATE_EMA]),
                          .state = s->in[UPDATE_STATE]->data,
                          .count = tensor_count(s->in[UPDATE_G]),
                          .beta1 = s->a.update.beta1,
                          .beta2 = s->a.update.beta2,
                          .eps = s->a.update.eps,
                          .weight_decay = s->a.update.weight_decay,
                          .zero_grad = s->a.update.zero_grad};
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < a.count; from += CHUNK)
        adamw_range(&a, from, from + CHUNK < a.count ? from + CHUNK : a.count);
    if (s->out[UPDATE_W]->version) ++*s->out[UPDATE_W]->version;
    return DDPM_OK;
}

/* y (=, += with add) factor x */
static void scale(const float *x, const float *factor, float *y, int64_t count, bool add)
{
    for (int64_t i = 0; i < count; i++) y[i] = (add ? y[i] : 0.0f) + factor[i] * x[i];
}

/* Elements [from, from + count) of image b; the factors are drawn in the order of NHWC. */
static void drop(const dropout_args *a, const tensor *t, int b, int64_t from, int64_t count)
{
    enum { QUADS = 64 };
    float factor[4 * QUADS];
    const float *x = a->x;
    float *y = a->y;
    for (int64_t at = from; at < from + count; at += 4 * QUADS) {
        const int64_t n = from + count - at < 4 * QUADS ? from + count - at : 4 * QUADS;
        const int64_t run = t->layout == LAYOUT_BLOCKED ? CHANNEL_BLOCK : n; /* side by side in memory */
        dropout_factors(a, b, (int)(at / 4), (int)quads_of(n), factor);
        for (int64_t i = 0; i < n; i += run) {
            const int64_t place = cpu_element(t, b, at + i);
            scale(x + place, factor + i, y + place, run, a->accumulate);
        }
    }
}

static ddpm_status dropout_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    enum { SHARE = 4096 }; /* elements: a multiple of 16 */
    const tensor *x = s->in[POINT_X];
    const dropout_args a = {.x = x->data,
                            .y = s->out[POINT_Y]->data,
                            .state = s->in[POINT_STATE]->data,
                            .n = (int)x->n,
                            .d = (int)(tensor_hw(x) * x->c),
                            .p = s->a.dropout.p,
                            .layer = s->a.dropout.layer,
                            .accumulate = step_adds(s, POINT_Y)};
#pragma omp parallel for collapse(2) schedule(static)
    for (int b = 0; b < a.n; b++)
        for (int64_t from = 0; from < a.d; from += SHARE) drop(&a, x, b, from, a.d - from < SHARE ? a.d - from : SHARE);
    return DDPM_OK;
}

const cpu_op cpu_q_sample = {NULL, q_sample_run, NULL};
const cpu_op cpu_mse = {NULL, mse_run, NULL};
const cpu_op cpu_tally = {NULL, tally_run, NULL};
const cpu_op cpu_grad_norm = {grad_norm_prepare, grad_norm_run, NULL};
const cpu_op cpu_adamw = {NULL, adamw_run, NULL};
const cpu_op cpu_dropout = {NULL, dropout_run, NULL};
