/* update.h - computes the scalars of an optimizer step: skip or not, clipping factor, learning rate, bias
 * corrections, decays of the averages.  One thread runs it between grad_norm and adamw. */
#ifndef DDPM_UPDATE_H
#define DDPM_UPDATE_H
#include "ema_decay.h"
#include "lr_schedule.h"
#include "math/elementary.h"
#include "train_state.h"
#include <math.h>

typedef struct update_args {
    lr_rule lr;
    double beta1, beta2;
    double max_grad_norm;   /* 0: no clipping */
    ema_rule ema[EMA_MOST]; /* without gaps */
    int64_t images;         /* of a step; read by the averages that count images */
} update_args;

/* The decays of this update. */
HD void update_averages(train_state *s, const update_args *a)
{
    const ema_time now = {s->updates, (double)s->sample, (double)a->images};
    UNROLL(1)
    for (int k = 0; k < EMA_MOST; k++) {
        const double decay = ema_decay_at(&a->ema[k], &now);
        if (k > 0) {
            s->more_ema_rate[k - 1] = (float)(1.0 - decay);
        } else {
            s->ema_decay = (float)decay;
            s->ema_rate = (float)(1.0 - decay);
        }
    }
}

/* Adds a step to the sums since the last line of the log, unless it was skipped, and begins the next one. */
HD void train_state_count(train_state *s, int skipped)
{
    if (!skipped) s->interval_loss += (double)s->loss, s->interval_steps += 1;
    for (int k = 0; k < TRAIN_LEVELS; k++) {
        if (!skipped) s->level_error[k] += s->step_error[k], s->level_images[k] += s->step_images[k];
        s->step_error[k] = s->step_images[k] = 0.0;
    }
    if (!skipped) s->interval_vb += s->step_vb, s->interval_vb_images += s->step_vb_images;
    s->step_vb = s->step_vb_images = 0.0;
}

/* Ends a step with loss s->loss_sum and squared L2 norm sum_sq of the gradient.  Clipping is the same as in
 * torch.nn.utils.clip_grad_norm_(), the other scalars are those of torch.optim.AdamW. */
HD void train_state_update(train_state *s, double sum_sq, const update_args *a)
{
    s->step += 1;
    s->loss = (float)s->loss_sum;
    s->loss_sum = 0.0;
    s->grad_norm = (float)sqrt(sum_sq);
    const double lr = lr_at(&a->lr, s->step - 1);
    s->lr = (float)lr;
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
    s->step_size = (float)(lr / (1.0 - s->beta1_pow));
    s->denom_scale = (float)(1.0 / sqrt(1.0 - s->beta2_pow));
    update_averages(s, a);
}

#endif
