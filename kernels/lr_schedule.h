/* lr_schedule.h - the learning rate of a step.
 *
 *   i: the step, from 0;  W, N: warmup_steps, total_steps;  p = (i - W) / (N - W).  The factor of the peak:
 *   constant, constant_with_warmup   1
 *   linear                           (N - i) / (N - W)
 *   cosine                           (1 + cos(pi p)) / 2
 *   cosine_with_restarts             (1 + cos(pi frac(num_cycles p))) / 2
 *   polynomial                       (1 - end / peak) (1 - p)^power + end / peak;  end / peak from N on
 *   piecewise_constant               factor[k] while i < until[k]
 *   i / W below W, except for constant and piecewise_constant;  0 from N on where nothing else is said
 *   diffusers.optimization.get_scheduler; its cosine rises again after N, and this one stays at 0 */
#ifndef DDPM_LR_SCHEDULE_H
#define DDPM_LR_SCHEDULE_H
#include "math/power.h"
#include "rates.h"

/* (1 + cos(pi p)) / 2 for p in [0, 1], by the Taylor series of the sine (error < 1e-15), without a library call: CPU
 * and GPU results are bitwise equal. */
HD double cosine_decay(double p)
{
    const double x = 3.14159265358979323846 * (p - 0.5);
    double s = 1.0;
    for (int k = 22; k > 0; k -= 2) s = 1.0 - s * (x * x) / ((double)k * (k + 1));
    return 0.5 - 0.5 * (x * s);
}

/* No subscript depends on the rule, so that a kernel's copy of it needs no stack. */
HD double lr_piece(const lr_rule *a, double at)
{
    double factor = a->factor[LR_PIECES];
    for (int k = LR_PIECES - 1; k >= 0; k--)
        if (k == a->pieces || (k < a->pieces && at < (double)a->until[k])) factor = a->factor[k];
    return factor;
}

/* The learning rate of step `index`, counted from 0: torch's LambdaLR with diffusers' lambdas.  Constant from
 * total_steps on, but for pieces that end later. */
HD double lr_at(const lr_rule *a, uint64_t index)
{
    const double at = (double)index, warmup = (double)a->warmup_steps, total = (double)a->total_steps;
    if (a->schedule == LR_CONSTANT) return a->peak;
    if (a->schedule == LR_PIECEWISE_CONSTANT) return a->peak * lr_piece(a, at);
    if (at < warmup) return a->peak * (at / warmup);
    if (a->schedule == LR_CONSTANT_WITH_WARMUP) return a->peak;
    if (at >= total) return a->schedule == LR_POLYNOMIAL ? a->end : 0.0;
    const double done = (at - warmup) / (total - warmup);
    if (a->schedule == LR_POLYNOMIAL) return (a->peak - a->end) * pow_f64(1.0 - done, a->power) + a->end;
    if (a->schedule == LR_LINEAR) return a->peak * ((total - at) / (total - warmup));
    const double turns = a->schedule == LR_COSINE_WITH_RESTARTS ? done * a->num_cycles : done;
    return a->peak * cosine_decay(turns - (double)(int64_t)turns);
}

#endif
