/* update.h - computes the scalars of an optimizer step: skip or not, clipping factor, learning rate, bias
 * corrections, EMA decay.  One thread runs it between grad_norm and adamw. */
#ifndef DDPM_UPDATE_H
#define DDPM_UPDATE_H
#include "math/elementary.h"
#include "train_state.h"
#include <math.h>

/* Learning-rate schedules, by diffusers' names (diffusers.optimization.get_scheduler). */
enum lr_schedule { LR_CONSTANT, LR_CONSTANT_WITH_WARMUP, LR_LINEAR, LR_COSINE, LR_SCHEDULES };

typedef struct update_args {
    double lr, beta1, beta2;
    double max_grad_norm; /* 0: no clipping */
    double ema_decay;     /* in [0, 1) */
    int64_t warmup_steps; /* linear warm-up from 0; not for LR_CONSTANT */
    int64_t total_steps;  /* step at which LR_LINEAR and LR_COSINE reach 0 */
    int schedule;         /* enum lr_schedule */
    int ema_warmup;       /* decay grows with the number of updates, starting at 0 */
} update_args;

/* (1 + cos(pi p)) / 2 for p in [0, 1], by the Taylor series of the sine (error < 1e-15), without a library call: CPU
 * and GPU results are bitwise equal. */
HD double cosine_decay(double p)
{
    const double x = 3.14159265358979323846 * (p - 0.5);
    double s = 1.0;
    for (int k = 22; k > 0; k -= 2) s = 1.0 - s * (x * x) / ((double)k * (k + 1));
    return 0.5 - 0.5 * (x * s);
}

/* The learning rate of step `index`, counted from 0: torch's LambdaLR with diffusers' lambdas.  Constant from
 * total_steps on. */
HD double lr_at(const update_args *a, uint64_t index)
{
    const double at = (double)index, warmup = (double)a->warmup_steps, total = (double)a->total_steps;
    if (a->schedule == LR_CONSTANT) return a->lr;
    if (at < warmup) return a->lr * (at / warmup);
    if (a->schedule == LR_CONSTANT_WITH_WARMUP) return a->lr;
    if (at >= total) return 0.0;
    const double done = (at - warmup) / (total - warmup);
    return a->lr * (a->schedule == LR_LINEAR ? (total - at) / (total - warmup) : cosine_decay(done));
}

/* The EMA's decay at update number `updates`, counted from 1: diffusers' EMAModel.get_decay() with
 * use_ema_warmup = False (which does have a warm-up: 0, 2/11, 3/12, ...), or the constant. */
HD double ema_decay_at(const update_args *a, uint64_t updates)
{
    if (!a->ema_warmup) return a->ema_decay;
    if (updates <= 1) return 0.0;
    const double warm = (double)updates / ((double)updates + 9.0);
    return warm < a->ema_decay ? warm : a->ema_decay;
}

/* Adds a step to the sums since the last line of the log, unless it was skipped, and begins the next one. */
HD void train_state_count(train_state *s, int skipped)
{
    if (!skipped) s->interval_loss += (double)s->loss, s->interval_steps += 1;
    for (int k = 0; k < TRAIN_LEVELS; k++) {
        if (!skipped) s->level_error[k] += s->step_error[k], s->level_images[k] += s->step_images[k];
        s->step_error[k] = s->step_images[k] = 0.0;
    }
}

/* Ends a step with loss s->loss_sum and squared L2 norm sum_sq of the gradient.  Clipping is the same as in
 * torch.nn.utils.clip_grad_norm_(), the other scalars are those of torch.optim.AdamW. */
HD void train_state_update(train_state *s, double sum_sq, const update_args *a)
{
    s->step += 1;
    s->loss = (float)s->loss_sum;
    s->loss_sum = 0.0;
    s->grad_norm = (float)sqrt(sum_sq);
    s->lr = (float)lr_at(a, s->step - 1);
    const int skipped = !is_finite((double)s->loss) || !is_finite((double)s->grad_norm);
    train_state_count(s, skipped);
    if (skipped) {
        s->clip = 0.0f;
        s->skipped += 1;
        return;
    }
    s->updates += 1;
    s->beta1_pow *= a->beta1;
    s->beta2_pow *= a->beta2;
    const double clip = a->max_grad_norm > 0.0 ? a->max_grad_norm / ((double)s->grad_norm + 1e-6) : 1.0;
    s->clip = clip < 1.0 ? (float)clip : 1.0f;
    if (s->clip == 0.0f) s->clip = 0x1p-149f; /* because 0 marks a skipped update */
    s->step_size = (float)(lr_at(a, s->step - 1) / (1.0 - s->beta1_pow));
    s->denom_scale = (float)(1.0 / sqrt(1.0 - s->beta2_pow));
    s->ema_decay = (float)ema_decay_at(a, s->updates);
    s->ema_rate = (float)(1.0 - ema_decay_at(a, s->updates));
}

#endif
