/* reverse_variance.h - the two variances between which that of a reverse step lies.
 *
 *   posterior  the variance of q(x_prev | x_t, x_0), "fixed_small": Ho et al. 2020, eq. 7
 *   beta       1 - abar_t / abar_prev, "fixed_large"
 *   Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 15
 *
 * The step to the image has a posterior of variance 0, whose logarithm is replaced by that of the step before, as in
 * their code. */
#ifndef DDPM_REVERSE_VARIANCE_H
#define DDPM_REVERSE_VARIANCE_H
#include "diffusion/schedule.h"

typedef struct reverse_variance {
    double x0_weight;    /* of x_0 in the posterior's mean */
    double log_variance; /* ln of the posterior's variance */
    double log_span;     /* ln beta - that; 0 if there is no step before that to the image */
    bool decoder;        /* the step leads to the image */
} reverse_variance;

/* Of the step from t to prev (< 0: the image).  above: the timestep from which t is reached, < 0 if t is the first. */
reverse_variance reverse_variance_at(const schedule *s, int t, int prev, int above);

#endif
