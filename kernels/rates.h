/* rates.h - the rules by which the learning rate and the decays of the averages change from step to step: parameters of
 * lr_schedule.h and ema_decay.h, stored in the attributes of the optimizer's steps. */
#ifndef DDPM_RATES_H
#define DDPM_RATES_H
#include <stdint.h>

/* Learning-rate schedules, by diffusers' names (diffusers.optimization.get_scheduler). */
enum lr_schedule {
    LR_CONSTANT,
    LR_CONSTANT_WITH_WARMUP,
    LR_LINEAR,
    LR_COSINE,
    LR_COSINE_WITH_RESTARTS,
    LR_POLYNOMIAL,
    LR_PIECEWISE_CONSTANT,
    LR_SCHEDULES
};

enum { LR_PIECES = 8 }; /* most pieces of LR_PIECEWISE_CONSTANT before the last */

typedef struct lr_rule {
    double peak;                  /* the learning rate that the schedules scale */
    int schedule;                 /* enum lr_schedule */
    int num_cycles;               /* >= 1; of LR_COSINE_WITH_RESTARTS */
    int64_t warmup_steps;         /* linear warm-up from 0; not for LR_CONSTANT and LR_PIECEWISE_CONSTANT */
    int64_t total_steps;          /* step at which LR_LINEAR, LR_COSINE* and LR_POLYNOMIAL end */
    double end, power;            /* LR_POLYNOMIAL: final learning rate; exponent > 0 */
    int pieces;                   /* LR_PIECEWISE_CONSTANT: 0 .. LR_PIECES */
    int64_t until[LR_PIECES];     /* step at which piece k ends, ascending */
    double factor[LR_PIECES + 1]; /* of the peak in piece k; factor[pieces]: after the last one */
} lr_rule;

/* How the decay of an average of the weights changes. */
enum ema_kind {
    EMA_NONE,         /* no average */
    EMA_CONSTANT,     /* decay */
    EMA_WARMUP,       /* diffusers' EMAModel: min(decay, (1 + k) / (10 + k)) */
    EMA_POWER_WARMUP, /* diffusers' EMAModel with use_ema_warmup: min(decay, 1 - (1 + k / inv_gamma)^-power) */
    EMA_HALFLIFE,     /* EDM: a half-life in images, with a ramp */
    EMA_POWER,        /* EDM2: a power function of the images */
};

enum { EMA_MOST = 4, EMA_MORE = EMA_MOST - 1 }; /* most averages of a run, and those beside the first */

typedef struct ema_rule {
    int kind;                  /* enum ema_kind */
    double decay, min_decay;   /* in [0, 1); bounds of the first three kinds, min_decay of the middle two */
    double inv_gamma, power;   /* > 0; of EMA_POWER_WARMUP */
    int64_t update_after_step; /* the average is the weights themselves for so many updates; not of the last two */
    double halflife;           /* > 0; of EMA_HALFLIFE, in images */
    double rampup_ratio;       /* of EMA_HALFLIFE: the half-life is at most this share of the images; 0: no ramp */
    double gamma;              /* > 0; of EMA_POWER: the average weights step t by t^gamma */
} ema_rule;

/* Averages are stored without gaps: the number of those in rules[EMA_MOST]. */
static inline int ema_count(const ema_rule *rules)
{
    int n = 0;
    while (n < EMA_MOST && rules[n].kind != EMA_NONE) n++;
    return n;
}

#endif
