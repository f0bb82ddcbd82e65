/* ema_decay.h - the decay of an average of the weights at an update.
 *
 *   n: the update, from 1;  k = n - update_after_step - 1;  B: images of a step
 *   constant       decay
 *   warmup         min(decay, (1 + k) / (10 + k)), at least min_decay;  0 while k <= 0
 *   power_warmup   min(decay, 1 - (1 + k / inv_gamma)^-power), at least min_decay;  0 while k <= 0
 *                  (both: diffusers.training_utils.EMAModel, without and with use_ema_warmup)
 *   halflife       2^(-B / min(halflife, rampup_ratio nimg)), nimg: images before the step
 *                  (training loop of Karras et al. 2022, arXiv:2206.00364)
 *   power          (1 - B / nimg)^(gamma + 1), nimg: images after the step
 *                  (Karras et al. 2023, arXiv:2312.02696, eq. 127) */
#ifndef DDPM_EMA_DECAY_H
#define DDPM_EMA_DECAY_H
#include "math/power.h"
#include "rates.h"

/* What a decay depends on at a step. */
typedef struct ema_time {
    uint64_t updates; /* with this one: from 1 */
    double images;    /* that the run has seen, with those of this step; > 0 */
    double step;      /* images of a step; > 0 */
} ema_time;

HD double ema_bounded(const ema_rule *r, double decay)
{
    const double most = decay < r->decay ? decay : r->decay;
    return most > r->min_decay ? most : r->min_decay;
}

/* Computes at most one power, so that the kernel stays small. */
HD double ema_decay_at(const ema_rule *r, const ema_time *now)
{
    const double k = (double)now->updates - (double)r->update_after_step - 1.0;
    double base = 1.0, exponent = 0.0;
    if (r->kind == EMA_CONSTANT) return k < 0.0 ? 0.0 : r->decay;
    if (r->kind == EMA_HALFLIFE) {
        const double ramp = r->rampup_ratio * (now->images - now->step);
        const double halflife = r->rampup_ratio > 0.0 && ramp < r->halflife ? ramp : r->halflife;
        if (halflife <= 0.0) return 0.0; /* the first step */
        base = 2.0, exponent = -(now->step / halflife);
    } else if (r->kind == EMA_POWER) {
        if (now->images <= now->step) return 0.0; /* the first step */
        base = 1.0 - now->step / now->images, exponent = r->gamma + 1.0;
    } else {
        if (k <= 0.0) return 0.0;
        if (r->kind != EMA_POWER_WARMUP) return ema_bounded(r, (1.0 + k) / (10.0 + k));
        base = 1.0 + k / r->inv_gamma, exponent = -r->power;
    }
    const double power = pow_f64(base, exponent);
    return r->kind == EMA_POWER_WARMUP ? ema_bounded(r, 1.0 - power) : power;
}

#endif
