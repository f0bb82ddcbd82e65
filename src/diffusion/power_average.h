/* power_average.h - averages of the weights by a power function of training time, and their synthesis after training.
 *
 *   theta_gamma(t) = (gamma + 1) / t^(gamma + 1) * integral over [0, t] of tau^gamma theta(tau) dtau
 *   Karras et al. 2023, arXiv:2312.02696, section 3; the width sigma_rel of its profile is relative to t */
#ifndef DDPM_POWER_AVERAGE_H
#define DDPM_POWER_AVERAGE_H
#include "base/err.h"

/* The gamma >= 0 of a width in (0, 0.288], and back: (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = sigma_rel^2. */
double power_average_gamma(double sigma_rel);
double power_average_sigma(double gamma);

typedef struct power_average {
    double gamma; /* >= 0 */
    double t;     /* > 0: training time, in any unit */
} power_average;

/* The weights[n], of sum 1, with which averages from[n] approximate `to` best: the least-squares fit of its profile
 * (arXiv:2312.02696, algorithm 3).
 * DDPM_EINVAL: two of the averages are the same, or so similar that the system has no solution in double. */
DDPM_MUST_CHECK ddpm_status power_average_fit(const power_average *from, int n, power_average to, double *weights,
                                              err *e);

#endif
