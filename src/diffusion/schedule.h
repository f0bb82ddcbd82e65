/* schedule.h - the forward process: signal and noise level of each timestep.
 *
 *   q(x_t | x_0) = N(signal_t x_0, noise_t^2 I),  signal_t = sqrt(abar_t), noise_t = sqrt(1 - abar_t)
 *   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), eq. 4.  Everything in double. */
#ifndef DDPM_SCHEDULE_H
#define DDPM_SCHEDULE_H
#include "io/scheduler_config.h"
#include <math.h>

typedef struct schedule {
    scheduler_config config;
    int timesteps; /* T */
    double *beta;  /* [T] in (0, 1) */
    double *abar;  /* [T] cumulative product of 1 - beta, in [1e-60, 1), decreasing; 0 at the last with zero SNR */
} schedule;

/* DDPM_EINVAL: betas outside (0, 1) or too small to have an effect in double, an alpha-bar below 1e-60 (for which
 * coefficients of the reverse process are not finite as floats), T out of range, or epsilon with
 * rescale_betas_zero_snr, whose last alpha-bar is 0: eps says nothing of x_0 there. */
DDPM_MUST_CHECK ddpm_status schedule_create(const scheduler_config *c, schedule **out, err *e);
void schedule_destroy(schedule *s);

/* The processes that a network can be trained for. */
typedef enum diffusion_process {
    PROCESS_BETAS, /* x_t = signal x_0 + noise eps, from betas */
    PROCESS_VP,    /* x = (x_0 + sigma eps) / sqrt(1 + sigma^2): Song et al. 2021 (arXiv:2011.13456), as the next */
    PROCESS_VE,    /* x = x_0 + sigma eps, told ln(sigma / 2) */
    PROCESS_EDM,   /* x = x_0 + sigma eps: Karras et al. 2022 (arXiv:2206.00364) */
    PROCESS_CONSISTENCY, /* consistency models; they are only sampled */
    PROCESS_FLOW         /* x_t = (1 - t) x_0 + t eps: Liu et al. 2022 (arXiv:2209.03003) */
} diffusion_process;
diffusion_process process_of(const scheduler_config *c);

/* SD3's shift of a flow's time u in [0, 1]: Esser et al. 2024 (arXiv:2403.03206), eq. 23. */
static inline double flow_shifted(double u, double shift) { return shift * u / (1 + (shift - 1) * u); }

/* sigma of VP's time t in [0, 1], and its inverse: Karras et al. 2022 (arXiv:2206.00364), table 1, with beta_d = beta_max -
 * beta_min. */
static inline double vp_sigma(const scheduler_config *c, double t)
{
    return sqrt(expm1((0.5 * (c->beta_max - c->beta_min) * t + c->beta_min) * t));
}
static inline double vp_time(const scheduler_config *c, double sigma)
{
    const double grown = log1p(sigma * sigma), low = c->beta_min, rise = c->beta_max - low;
    return 2 * grown / (low + sqrt(low * low + 2 * rise * grown));
}

/* abar of timestep t; 1 for t < 0, the clean image. */
static inline double schedule_abar(const schedule *s, int t) { return t < 0 ? 1.0 : s->abar[t]; }

/* The posterior q(x_prev | x_t, x_0) = N(x0_weight x_0 + x_weight x_t, variance), eq. 7, from t to any earlier
 * timestep prev (prev < 0: the clean image). */
typedef struct posterior {
    double x0_weight, x_weight;
    double beta;     /* 1 - abar_t / abar_prev: the variance "fixed_large" */
    double variance; /* beta (1 - abar_prev) / (1 - abar_t), "fixed_small": the posterior's own */
} posterior;
posterior schedule_posterior(const schedule *s, int t, int prev);

/* The n timesteps of a shortened reverse process, decreasing, into t[n]; 1 <= n <= T.  They equal those of diffusers,
 * except that its trailing spacing yields n + 1 timesteps for some n, the last of them -1, which is omitted here.
 * DDPM_EINVAL: n out of range, or a steps_offset that leads beyond T. */
DDPM_MUST_CHECK ddpm_status schedule_respace(const schedule *s, int n, int *t, err *e);

#endif
